package main

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages are all Markdown files, by their path from the root.
func pages(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "deploy/*.md", "deploy/*/*.md", "testbed/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, filepath.ToSlash(rel))
		}
	}
	if len(list) < 20 {
		t.Fatalf("only %d pages", len(list))
	}
	return list
}

var (
	codeBlock = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	link      = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"`)
	heading   = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	notAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names of a page's headings, as GitHub makes them.
func anchors(page string) []string {
	var list []string
	for _, m := range heading.FindAllStringSubmatch(codeBlock.ReplaceAllString(page, ""), -1) {
		list = append(list, strings.ReplaceAll(notAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return list
}

// Every link inside the repository leads to a file, and to a heading that it has.
func TestLinks(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, page := range pages(t) {
		text := codeBlock.ReplaceAllString(read(t, page), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := m[1] + m[2]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			checked++
			file, anchor, _ := strings.Cut(target, "#")
			at := path.Join(path.Dir(page), file)
			if file == "" {
				at = page
			}
			info, err := os.Stat(filepath.Join(root, at))
			if err != nil {
				t.Errorf("%s: %s leads nowhere", page, target)
				continue
			}
			if anchor != "" && !info.IsDir() && !slices.Contains(anchors(read(t, at)), anchor) {
				t.Errorf("%s: %s has no heading #%s", page, at, anchor)
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d links were checked", checked)
	}
}

// runBy names, for each kind of command in the docs, the test that runs it. Whether commands of ours have the flags that the docs
// give them is checked in cmd/drydock, TestCommandsOfTheDocs.
var runBy = map[string]string{
	"make demo":                    "testbed/demo/demo_test.go:TestDemo",
	"make build":                   ".ci/run", // every other target that needs the binary makes it so
	"make test":                    ".ci/run",
	"drydock parse":                "cmd/drydock/testdata/script/output.txtar",
	"drydock diagnose":             "cmd/drydock/testdata/script/diagnose.txtar",
	"drydock plan":                 "cmd/drydock/testdata/script/plan.txtar",
	"drydock config check":         "cmd/drydock/cli_test.go:TestCommands",
	"drydock serve":                "cmd/drydock/serve_test.go:TestServe",
	"drydock migrate status":       "cmd/drydock/backup_test.go:TestBackupAndRestore",
	"drydock migrate up":           "cmd/drydock/backup_test.go:TestBackupAndRestore",
	"drydock pagerduty connect":    "cmd/drydock/testdata/script/doctor.txtar",
	"drydock doctor":               "cmd/drydock/testdata/script/doctor.txtar",
	"drydock token new":            "cmd/drydock/cli_test.go:TestTokenNew",
	"drydock runs list":            "cmd/drydock/cli_test.go:TestRunsList",
	"drydock runs get":             "cmd/drydock/cmd_replay_test.go:TestCLIOnAServer",
	"drydock runs approve":         "cmd/drydock/cmd_replay_test.go:TestCLIOnAServer",
	"drydock replay":               "cmd/drydock/cmd_replay_test.go:TestReplay",
	"drydock kill-switch on":       "cmd/drydock/testdata/script/killswitch.txtar",
	"drydock kill-switch off":      "cmd/drydock/testdata/script/killswitch.txtar",
	"kubectl drydock diagnose":     "cmd/drydock/testdata/script/kubectl.txtar",
	"kubectl drydock plan":         "cmd/drydock/testdata/script/kubectl.txtar",
	"kubectl get nodes":            "testbed/kubetest/do_test.go:TestCordonIsOursAndUndone", // the marks; kubectl itself is Kubernetes'
	"kubectl apply -f":             "testbed/kubetest/rights_test.go:TestTwoIdentitiesWithLeastRights",
	"kubectl create token":         carriersPage,
	"kubectl config view":          carriersPage,
	"kubectl --kubeconfig":         carriersPage,
	"kubectl --namespace":          carriersPage,
	"sed":                          carriersPage,
	"pg_dump --format=custom":      "cmd/drydock/backup_test.go:TestBackupAndRestore",
	"pg_restore --no-owner":        "cmd/drydock/backup_test.go:TestBackupAndRestore",
	"curl GET /api/v1/runs":        "api/runs_test.go:TestRunFilters",
	"curl POST /retrigger":         "api/orders_test.go:TestRetrigger",
	"curl POST /confirm":           "api/orders_test.go:TestConfirmCarrier",
	"docker compose":               "docs/gen/compose_test.go:TestCompose",
	"go test ./examples/filespace": "examples/filespace/filespace_test.go:TestNight",
}

// carriersPage runs all of docs/carriers.md, from its first block to its last.
const carriersPage = "testbed/deploytest/carriers_test.go:TestCarriersPage"

var shells = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```")

// commandOf is a line's entry in runBy; empty for what only prepares (mkdir, printf, ln, cp).
func commandOf(line string) string {
	line = strings.TrimSpace(line)
	for _, quiet := range []string{"mkdir ", "printf ", "ln ", "cp ", "#"} {
		if strings.HasPrefix(line, quiet) {
			return ""
		}
	}
	words := strings.Fields(strings.ReplaceAll(line, "bin/drydock", "drydock"))
	for len(words) > 0 && strings.Contains(words[0], "=") {
		words = words[1:] // the environment
	}
	if len(words) == 0 {
		return ""
	}
	line = strings.Join(words, " ")
	if words[0] == "curl" {
		verb, route := "GET", regexp.MustCompile(`\$DRYDOCK_URL([^"?\s]*)`).FindStringSubmatch(line)
		if strings.Contains(line, "-X POST") {
			verb = "POST"
		}
		if route == nil {
			return line
		}
		at := route[1]
		if verb == "POST" {
			at = "/" + path.Base(at)
		}
		return "curl " + verb + " " + at
	}
	best := ""
	for command := range runBy {
		if strings.HasPrefix(line+" ", command+" ") && len(command) > len(best) {
			best = command
		}
	}
	if best == "" {
		return line
	}
	return best
}

// Every command of the docs is run by a test that exists, and no entry is left over.
func TestEveryCommandIsRunByATest(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, page := range pages(t) {
		for _, block := range shells.FindAllStringSubmatch(read(t, page), -1) {
			for line := range strings.SplitSeq(strings.ReplaceAll(block[1], "\\\n", " "), "\n") {
				command := commandOf(line)
				if command == "" {
					continue
				}
				if runBy[command] == "" {
					t.Errorf("%s: no test runs %q", page, strings.TrimSpace(line))
				}
				used[command] = true
			}
		}
		if strings.Contains(codeBlock.ReplaceAllString(read(t, page), ""), "\n    bin/drydock ") {
			t.Errorf("%s has commands outside of a sh block, where nobody checks them", page)
		}
	}
	for command, by := range runBy {
		if !used[command] {
			t.Errorf("%q is in no page any more", command)
		}
		checkTest(t, command, by)
	}
}

// checkTest checks "file" or "file:TestName".
func checkTest(t *testing.T, what, named string) {
	t.Helper()
	file, name, isTest := strings.Cut(named, ":")
	b, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if isTest && !strings.Contains(string(b), "\nfunc "+name+"(") {
		t.Errorf("%s: %s has no %s", what, file, name)
	}
}

// Every threat has a control, every promise of the dashboard a place, and both a test that exists.
func TestEveryThreatHasItsTest(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"security.md", "dashboard.md"} {
		t.Run(page, func(t *testing.T) { t.Parallel(); everyRowHasItsTest(t, page) })
	}
}

func everyRowHasItsTest(t *testing.T, page string) {
	t.Helper()
	rows := 0
	for line := range strings.SplitSeq(read(t, "docs", page), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || strings.HasPrefix(line, "|---") || strings.Contains(line, "| shown by |") {
			continue
		}
		rows++
		tests := quoted.FindAllStringSubmatch(cells[3], -1)
		if len(tests) == 0 {
			t.Errorf("%s: no test shows it", strings.TrimSpace(cells[1]))
		}
		for _, m := range tests {
			checkTest(t, strings.TrimSpace(cells[1]), m[1])
		}
	}
	if rows < 15 {
		t.Errorf("only %d rows were read", rows)
	}
}

// Each direct dependency of go.mod has its reason in the decision record, and each reason its dependency.
func TestDirectDependenciesHaveReasons(t *testing.T) {
	t.Parallel()
	var direct []string
	for line := range strings.SplitSeq(read(t, "go.mod"), "\n") {
		if m := regexp.MustCompile(`^\t(\S+) v\S+$`).FindStringSubmatch(line); m != nil {
			direct = append(direct, m[1])
		}
	}
	reasons := found("(?m)^\\| `([^`]+)` \\|", read(t, "docs", "adr", "0016-each-direct-dependency-has-a-reason.md"))
	slices.Sort(direct)
	slices.Sort(reasons)
	if len(direct) < 10 || !slices.Equal(direct, reasons) {
		t.Errorf("go.mod requires %v\nreasons are for %v", direct, reasons)
	}
}
