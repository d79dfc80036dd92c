// Command gen writes docs/runbook.md from the playbook's state table. `go generate ./playbook` runs it.
package main

import (
	"fmt"
	"os"

	"github.com/drydock/drydock/playbook"
)

func main() {
	if err := os.WriteFile("../docs/runbook.md", []byte(playbook.RenderMachine()), 0o644); err != nil { //nolint:gosec // a document for everybody
		fmt.Fprintln(os.Stderr, "write docs/runbook.md:", err)
		os.Exit(1)
	}
}
