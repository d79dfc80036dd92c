package migrations

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

var update = flag.Bool("update", false, "write the River versions that are missing here")

// TestRiverVersions keeps the vendored files equal to the River module that
// go.mod names. It starts at version 002: 001 only creates the table in which
// rivermigrate would keep its books.
func TestRiverVersions(t *testing.T) {
	migrator, err := rivermigrate.New(riverpgxv5.New(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range migrator.AllVersions()[1:] {
		for direction, sql := range map[string]string{"up": version.SQLUp, "down": version.SQLDown} {
			t.Run(fmt.Sprintf("%03d/%s", version.Version, direction), func(t *testing.T) {
				want := vendored(version.Version, sql)
				name := fileOf(t, version.Version, direction)
				if name == "" {
					if !*update {
						t.Fatalf("River version %03d is not in this package: run go test ./migrations -update", version.Version)
					}
					write(t, version.Version, direction, want)
					return
				}
				got, err := files.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, string(got)); diff != "" {
					t.Errorf("%s differs from the River module (-module +file):\n%s", name, diff)
				}
			})
		}
	}
}

// vendored is the text of a file for one of River's versions: its licence
// asks for the notice. River marks where a schema's name may go by a comment;
// inside version 005's string literal that comment is an error.
func vendored(version int, sql string) string {
	sql = strings.ReplaceAll(sql, "/* TEMPLATE: schema */", "")
	return fmt.Sprintf("-- Version %03d of the schema of River (https://riverqueue.com), which is licensed\n"+
		"-- under the Mozilla Public License 2.0 (https://mozilla.org/MPL/2.0/).\n\n", version) +
		strings.TrimSpace(sql) + "\n"
}

func fileOf(t *testing.T, version int, direction string) string {
	t.Helper()
	names, err := fs.Glob(files, fmt.Sprintf("*_river_%03d.%s.sql", version, direction))
	if err != nil {
		t.Fatal(err)
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0]
	}
	t.Fatalf("River version %03d is here more than once: %v", version, names)
	return ""
}

// write gives a new River version the number above the highest.
func write(t *testing.T, version int, direction, sql string) {
	t.Helper()
	all, err := versions()
	if err != nil {
		t.Fatal(err)
	}
	number := all[len(all)-1] + uint(version) - newestRiver(t)
	name := fmt.Sprintf("%06d_river_%03d.%s.sql", number, version, direction)
	if err := os.WriteFile(name, []byte(sql), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("wrote %s", name)
}

// newestRiver is the newest River version that is embedded.
func newestRiver(t *testing.T) uint {
	t.Helper()
	names, err := fs.Glob(files, "*_river_*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	var newest uint
	for _, name := range names {
		var number, version uint
		if _, err := fmt.Sscanf(name, "%06d_river_%03d.up.sql", &number, &version); err != nil {
			t.Fatalf("name of %s: %v", name, err)
		}
		newest = max(newest, version)
	}
	return newest
}
