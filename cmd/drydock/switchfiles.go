package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/store"
)

const switchFileName = "kill-switch"

// switchFilesEvery is how soon it stands in the audit log that a file was put there; it stops changes at once.
const switchFilesEvery = 2 * time.Second

// switchFiles writes down when the files that stop changes come, change and go, for nobody gives that order through Drydock. What
// is there when a replica starts is written down then; that a file went while no replica ran is not seen.
type switchFiles struct {
	dir, node string
	record    func(context.Context, store.Deed) error
	log       *slog.Logger

	known map[string]string // reasons, by file, as they were written down
}

func (s *switchFiles) run(ctx context.Context) {
	s.look(ctx)
	every(ctx, switchFilesEvery, func() { s.look(ctx) })
}

// look compares the files with what was written down. What could not be is tried again with the next look.
func (s *switchFiles) look(ctx context.Context) {
	found, err := s.list()
	if err != nil {
		s.log.WarnContext(ctx, "data_dir was not searched for kill-switch files", "error", err)
		return
	}
	names := slices.Sorted(maps.Keys(found))
	for name := range s.known {
		if _, ok := found[name]; !ok {
			names = append(names, name)
		}
	}
	for _, name := range names {
		before, was := s.known[name]
		reason, is := found[name]
		if was == is && before == reason {
			continue
		}
		how := "was changed"
		switch {
		case !was:
			how = "is there"
		case !is:
			how = "is gone"
		}
		_, carrier, _ := strings.Cut(name, ".")
		s.log.WarnContext(ctx, "kill-switch file", "file", name, "how", how, "reason", reason)
		err := s.record(ctx, store.Deed{Who: store.Drydock, What: "kill_switch.file", Why: "file " + name + " of replica " + s.node + " " + how,
			Carrier: carrier, Before: switchFileDeed{was, before}, After: switchFileDeed{is, reason}})
		switch {
		case err != nil:
			s.log.WarnContext(ctx, "audit entry was not written; trying again", "what", "kill_switch.file", "error", err)
		case is:
			s.known[name] = reason
		default:
			delete(s.known, name)
		}
	}
}

type switchFileDeed struct {
	Engaged bool   `json:"engaged"`
	Reason  string `json:"reason,omitempty"`
}

// list reads the files that there are now. One that can not be read stops as well.
func (s *switchFiles) list() (map[string]string, error) {
	if s.known == nil {
		s.known = map[string]string{}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	found := map[string]string{}
	for _, e := range entries {
		if name := e.Name(); name == switchFileName || strings.HasPrefix(name, switchFileName+".") {
			text, err := os.ReadFile(filepath.Join(s.dir, name))
			reason, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
			if err != nil {
				reason = "the file can not be read"
			}
			found[name] = reason
		}
	}
	return found, nil
}
