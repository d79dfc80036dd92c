// Command gen writes docs/runbook.md from the playbook's state table, and the table's picture into README.md. `go generate
// ./playbook` runs it.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/drydock/drydock/playbook"
)

func main() {
	if err := write("../docs/runbook.md", "../README.md", playbook.RenderMachine()); err != nil {
		fmt.Fprintln(os.Stderr, "write the machine:", err)
		os.Exit(1)
	}
}

// Between these two lines of the README stands the picture.
const (
	pictureBegins = "<!-- The machine, by make generate. -->\n"
	pictureEnds   = "<!-- The end of the machine. -->\n"
)

func write(page, readme, machine string) error {
	if err := os.WriteFile(page, []byte(machine), 0o644); err != nil { //nolint:gosec // a document for everybody
		return err
	}
	_, picture, drawn := strings.Cut(machine, "```mermaid\n")
	picture, _, ended := strings.Cut(picture, "```\n")
	text, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(text), pictureBegins)
	_, after, ends := strings.Cut(rest, pictureEnds)
	if !drawn || !ended || !begins || !ends {
		return fmt.Errorf("%s has no place for the picture, or %s has none", readme, page)
	}
	text = []byte(before + pictureBegins + "\n```mermaid\n" + picture + "```\n\n" + pictureEnds + after)
	return os.WriteFile(readme, text, 0o644) //nolint:gosec // a document for everybody
}
