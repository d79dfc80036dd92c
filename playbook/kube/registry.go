package kube

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Entry is one carrier of the configuration.
type Entry struct {
	Name       string
	Kubeconfig string // path
	Context    string // empty: the kubeconfig's current context
	// ActorKubeconfig is the path of a second identity that makes the changes (and asks whether it may); empty: the first does.
	ActorKubeconfig string
	// ControllerManager says how it is restarted; the zero value: not at all.
	ControllerManager ControllerManager
}

// Options are the same for every carrier of a registry.
type Options struct {
	// Version goes into the User-Agent.
	Version string
	// ReadOnly makes every mutating request an error on this side of the wire, server-side dry runs and access reviews
	// excepted: for diagnose, plan and dry runs.
	ReadOnly bool
	// Log takes what is wrong with a carrier's files, once each time that it changes. The errors then name no file of this machine: they
	// are shown to whoever may read a run. Without it they say all.
	Log *slog.Logger
}

// Registry holds the carriers. It connects lazily, and again when a kubeconfig's file has changed.
type Registry struct {
	opts    Options
	entries map[string]Entry
	dir     string

	mu        sync.Mutex
	connected map[string]connection
	told      map[string]string // what was last logged, by carrier
}

type connection struct {
	carrier *Carrier
	files   [2]stamp
}

// stamp tells one version of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

// NotFoundError says that no carrier has this name.
type NotFoundError struct{ Name string }

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("carrier %q is not in the registry", e.Name)
}

// NewRegistry makes a registry of the entries and of dir, in which every kubeconfig is a carrier named after its file;
// dir may be empty. An entry wins over a file of the same name. Nothing is connected or read yet, see Check.
func NewRegistry(entries []Entry, dir string, opts Options) (*Registry, error) {
	r := &Registry{opts: opts, dir: dir, entries: map[string]Entry{}, connected: map[string]connection{}, told: map[string]string{}}
	for _, e := range entries {
		if e.Name == "" {
			return nil, errors.New("carrier without a name: set carriers[].name")
		}
		if e.Kubeconfig == "" {
			return nil, fmt.Errorf("carrier %q has no kubeconfig: set carriers[].kubeconfig to the file's path", e.Name)
		}
		if _, twice := r.entries[e.Name]; twice {
			return nil, fmt.Errorf("carrier %q is listed twice: names are unique", e.Name)
		}
		r.entries[e.Name] = e
	}
	return r, nil
}

// Names lists the carriers in order. The directory is read each time, so a new kubeconfig needs no restart. The names are
// those that can be told also when there is an error, which says what of the directory they leave out.
func (r *Registry) Names() ([]string, error) {
	seen := map[string]bool{}
	for name := range r.entries {
		seen[name] = true
	}
	files, err := r.files()
	for name := range files {
		seen[name] = true
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, err
}

// files maps the names of the directory's carriers to their paths. An entry that can not be told apart hides itself alone:
// the error names it, and the map holds all the others.
func (r *Registry) files() (map[string]string, error) {
	if r.dir == "" {
		return nil, nil
	}
	found, err := os.ReadDir(r.dir) // what was read before an error is still returned
	var wrong []error
	if err != nil {
		wrong = append(wrong, fmt.Errorf("read carrier_dir: %w", err))
	}
	byName := map[string][]string{}
	for _, f := range found {
		// A mounted secret shows its keys as links to files in a hidden directory.
		if strings.HasPrefix(f.Name(), ".") {
			continue
		}
		path := filepath.Join(r.dir, f.Name())
		info, err := os.Stat(path) // of the file that a link leads to
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Errorf("carrier_dir: %w: mend or remove it", err))
		case !info.IsDir():
			name := strings.ToLower(carrierName(f.Name()))
			byName[name] = append(byName[name], path)
		}
	}
	files := make(map[string]string, len(byName))
	for name, paths := range byName {
		if len(paths) > 1 {
			slices.Sort(paths)
			wrong = append(wrong, fmt.Errorf("carrier_dir: %s and %s are both carrier %q: remove one", filepath.Base(paths[0]),
				filepath.Base(paths[1]), name))
			continue
		}
		files[name] = paths[0]
	}
	slices.SortFunc(wrong, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return files, errors.Join(wrong...)
}

// carrierName is a file's name without the endings that kubeconfigs have. Other dots belong to the name.
func carrierName(file string) string {
	for _, ending := range []string{".yaml", ".yml", ".kubeconfig", ".conf", ".json"} {
		if name, ok := strings.CutSuffix(file, ending); ok {
			return name
		}
	}
	return file
}

func (r *Registry) entry(name string) (Entry, error) {
	if e, ok := r.entries[name]; ok {
		return e, nil
	}
	files, err := r.files()
	if path, ok := files[name]; ok {
		return Entry{Name: name, Kubeconfig: path}, nil
	}
	// With an error it may be the very entry that can not be told.
	return Entry{}, errors.Join(&NotFoundError{Name: name}, err)
}

// ErrKubeconfig stands for all that can be wrong with a carrier's kubeconfig, where Options.Log has taken it.
var ErrKubeconfig = errors.New("its kubeconfig can not be used: the log of the server that looked says why, and so does \"drydock doctor\" there")

// Carrier returns the carrier of that name. It reads the kubeconfig when it has not yet or when the file has changed, and
// makes no call. It answers *NotFoundError for a name that is not known. With Options.Log every other error is ErrKubeconfig; without it
// one is *PluginError for a kubeconfig that would run a program.
func (r *Registry) Carrier(name string) (*Carrier, error) {
	c, err := r.open(name)
	if r.opts.Log == nil {
		return c, err
	}
	if r.tell(name, err); err == nil {
		return c, nil
	}
	var unknown *NotFoundError
	if errors.As(err, &unknown) {
		return nil, unknown
	}
	return nil, fmt.Errorf("carrier %q: %w", name, ErrKubeconfig)
}

// tell logs what is wrong with a carrier, when it has changed.
func (r *Registry) tell(name string, err error) {
	wrong := ""
	if err != nil {
		wrong = err.Error()
	}
	r.mu.Lock()
	changed := r.told[name] != wrong
	if r.told[name] = wrong; wrong == "" {
		delete(r.told, name)
	}
	r.mu.Unlock()
	switch {
	case changed && err != nil:
		r.opts.Log.Error("carrier can not be used", "carrier", name, "error", err)
	case changed:
		r.opts.Log.Info("carrier can be used again", "carrier", name)
	}
}

func (r *Registry) open(name string) (*Carrier, error) {
	e, err := r.entry(name)
	if err != nil {
		return nil, err
	}
	files, err := stamps(e)
	if err != nil {
		return nil, fmt.Errorf("carrier %q: %w", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.connected[name]; ok && c.files == files {
		return c.carrier, nil
	}
	c, err := connect(e, r.opts)
	if err != nil {
		return nil, fmt.Errorf("carrier %q: %w", name, err)
	}
	r.connected[name] = connection{carrier: c, files: files}
	return c, nil
}

// stamps of the two kubeconfigs.
func stamps(e Entry) ([2]stamp, error) {
	var files [2]stamp
	for i, path := range []string{e.Kubeconfig, e.ActorKubeconfig} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return files, fmt.Errorf("kubeconfig %s does not exist: name a file that does", path)
		}
		if err != nil {
			return files, fmt.Errorf("read kubeconfig: %w", err)
		}
		files[i] = stamp{modified: info.ModTime(), size: info.Size()}
	}
	return files, nil
}

// Check reads every kubeconfig, and every file that ssh needs, without connecting, and returns all that is wrong with them.
func (r *Registry) Check() error {
	names, err := r.Names()
	wrong := []error{err}
	for _, name := range names {
		_, err := r.Carrier(name)
		wrong = append(wrong, err)
		if over := r.entries[name].ControllerManager.SSH; over != nil {
			if _, _, err := over.files(); err != nil {
				wrong = append(wrong, fmt.Errorf("carrier %q: %w", name, err))
			}
		}
	}
	return errors.Join(wrong...)
}

// Reachable asks a carrier for its version, e.g. "v1.37.2".
func (r *Registry) Reachable(ctx context.Context, name string) (string, error) {
	c, err := r.Carrier(name)
	if err != nil {
		return "", err
	}
	return c.Version(ctx)
}
