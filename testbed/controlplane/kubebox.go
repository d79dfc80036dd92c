package controlplane

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// KubeboxEnv is the environment variable that may name a kubebox binary.
const KubeboxEnv = "DRYDOCK_KUBEBOX"

// kubeboxSource is where kubebox's module lies in the repository.
var kubeboxSource = filepath.Join("testbed", "kubebox")

// Kubebox returns the path of the control plane's binary, and builds it when there
// is none. It looks at $DRYDOCK_KUBEBOX, then at bin/kubebox of the repository
// around the working directory or this executable, then in the user's cache, under
// a name made from kubebox's sources: so a fresh clone builds nothing again. A
// build takes about ten minutes of processor time; progress gets lines about it.
func Kubebox(ctx context.Context, progress io.Writer) (string, error) {
	if path := os.Getenv(KubeboxEnv); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("find kubebox named by $%s: %w", KubeboxEnv, err)
		}
		return filepath.Abs(path)
	}
	root, err := repository()
	if err != nil {
		return "", fmt.Errorf("find kubebox: %w (name a binary by $%s, or run inside the repository)", err, KubeboxEnv)
	}
	cached, err := cachePath(root)
	if err != nil {
		return "", err
	}
	linked := filepath.Join(root, "bin", "kubebox")
	// A link into the cache may be one of earlier sources; any other file is what
	// somebody put there, such as the cache of a build server.
	if target, err := filepath.EvalSymlinks(linked); err == nil && (target == linked || target == cached || !isLink(linked)) {
		return target, nil
	}
	if _, err := os.Stat(cached); err == nil {
		return cached, nil
	}
	return Build(ctx, progress)
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}

// Build builds kubebox of this repository into the user's cache, unless it is
// there already, links bin/kubebox to it, and returns its path. Of several
// processes that build at the same time one does the work.
func Build(ctx context.Context, progress io.Writer) (string, error) {
	root, err := repository()
	if err != nil {
		return "", fmt.Errorf("build kubebox: %w", err)
	}
	cached, err := cachePath(root)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(cached), 0o755); err != nil {
		return "", fmt.Errorf("build kubebox: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(filepath.Dir(cached), "kubebox.lock"), progress)
	if err != nil {
		return "", fmt.Errorf("build kubebox: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(cached); err != nil {
		if err := compile(ctx, filepath.Join(root, kubeboxSource), cached, progress); err != nil {
			return "", fmt.Errorf("build kubebox: %w", err)
		}
	}
	if err := link(cached, filepath.Join(root, "bin", "kubebox")); err != nil {
		return "", fmt.Errorf("link kubebox: %w", err)
	}
	return cached, nil
}

// link replaces whatever is at path by a link to target.
func link(target, path string) error {
	if present, err := os.Readlink(path); err == nil && present == target {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.Symlink(target, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// lock takes the file lock at path, saying so if it must wait for another process.
func lock(ctx context.Context, path string, progress io.Writer) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for told := false; ; told = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // Closing unlocks.
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		if !told {
			fmt.Fprintln(progress, "kubebox: another process is building it, waiting")
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, context.Cause(ctx)), file.Close())
		case <-time.After(time.Second):
		}
	}
}

// repository finds the repository around the working directory (which for a test
// is its package's) or else around this executable.
func repository() (string, error) {
	var starts []string
	if dir, err := os.Getwd(); err == nil {
		starts = append(starts, dir)
	}
	if path, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(path))
	}
	for _, dir := range starts {
		for {
			if _, err := os.Stat(filepath.Join(dir, kubeboxSource, "go.mod")); err == nil {
				return dir, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", fmt.Errorf("no directory with %s around %s", kubeboxSource, strings.Join(starts, " or "))
}

// cachePath names the binary in the user's cache after all that it is built from.
func cachePath(root string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		// A service account may have no home directory at all.
		cache = filepath.Join(root, "bin", ".cache")
	}
	sources, err := filepath.Glob(filepath.Join(root, kubeboxSource, "*.go"))
	if err != nil {
		return "", fmt.Errorf("find kubebox's sources: %w", err)
	}
	sum := sha256.New()
	for _, source := range append(sources, filepath.Join(root, kubeboxSource, "go.mod"), filepath.Join(root, kubeboxSource, "go.sum")) {
		content, err := os.ReadFile(source)
		if err != nil {
			return "", fmt.Errorf("read kubebox's sources: %w", err)
		}
		fmt.Fprintf(sum, "%s %d\n%s", filepath.Base(source), len(content), content)
	}
	fmt.Fprint(sum, Version)
	return filepath.Join(cache, "drydock", "kubebox-"+hex.EncodeToString(sum.Sum(nil))[:16]), nil
}

// compile builds the module at source into the file at output.
func compile(ctx context.Context, source, output string, progress io.Writer) error {
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("%w: install Go, or build elsewhere and name the binary by $%s", err, KubeboxEnv)
	}
	report := newReport(progress)
	defer report.close()

	report.begin("kubebox: finding packages and fetching modules", 0)
	// Stale are the packages that Go's cache has not: "go build -v" will print the
	// name of each as it compiles it.
	stale, err := runGo(ctx, source, report, "list", "-deps", "-buildvcs=false", "-f={{if .Stale}}{{.ImportPath}}{{end}}", ".")
	if err != nil {
		return err
	}
	todo := len(strings.Fields(string(stale)))
	report.begin(fmt.Sprintf("kubebox: compiling %d packages of Kubernetes %s; from nothing that is about 10 minutes of processor time", todo, Version), todo)
	temporary := fmt.Sprintf("%s.%d", output, os.Getpid())
	// After a success there is nothing of that name.
	defer func() { _ = os.Remove(temporary) }()
	ldflags := fmt.Sprintf("-s -w -X k8s.io/component-base/version.gitVersion=%s -X k8s.io/client-go/pkg/version.gitVersion=%s", Version, Version)
	if _, err := runGo(ctx, source, report, "build", "-v", "-buildvcs=false", "-ldflags="+ldflags, "-o", temporary, "."); err != nil {
		return err
	}
	if err := os.Rename(temporary, output); err != nil {
		return err
	}
	report.end("kubebox: built " + output)
	return nil
}

// runGo runs the go command in dir. Each line that it writes to stderr is a step
// of the report; the last ones are the error's text when it fails.
func runGo(ctx context.Context, dir string, report *report, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	// The caller's build flags (-race, -mod, a workspace) are not for this module.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var last []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		report.step()
		last = append(last, lines.Text())
		last = last[max(0, len(last)-20):]
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("go %s: %w:\n%s", args[0], err, strings.Join(last, "\n"))
	}
	return stdout.Bytes(), nil
}

// report tells a person how far a long build is: one line that is rewritten on a
// terminal, else a line every ten seconds.
type report struct {
	out      io.Writer
	terminal bool
	start    time.Time
	stop     chan struct{}
	stopped  chan struct{}

	mu          sync.Mutex
	what        string
	steps, todo int
}

func newReport(out io.Writer) *report {
	r := &report{out: out, start: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{})}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		r.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	every := 10 * time.Second
	if r.terminal {
		every = time.Second
	}
	go func() {
		defer close(r.stopped)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-r.stop:
				return
			case <-ticker.C:
				r.print()
			}
		}
	}()
	return r
}

// begin names the part of the work that follows; todo is its number of steps, or 0
// if it is unknown.
func (r *report) begin(what string, todo int) {
	r.mu.Lock()
	r.what, r.steps, r.todo = what, 0, todo
	r.mu.Unlock()
	fmt.Fprintln(r.out, what)
}

func (r *report) step() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps++
}

func (r *report) print() {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := fmt.Sprintf("kubebox: %d modules", r.steps)
	if r.todo > 0 {
		// 100 % is for the end: linking follows the last package.
		line = fmt.Sprintf("kubebox: %2d %%, %d of %d packages", min(99, r.steps*100/r.todo), r.steps, r.todo)
	}
	line += fmt.Sprintf(", %v", time.Since(r.start).Round(time.Second))
	if r.terminal {
		fmt.Fprintf(r.out, "\r\033[K%s", line)
		return
	}
	fmt.Fprintln(r.out, line)
}

func (r *report) end(text string) {
	r.close()
	fmt.Fprintf(r.out, "%s in %v\n", text, time.Since(r.start).Round(time.Second))
}

// close stops the printing; it may be called again.
func (r *report) close() {
	select {
	case <-r.stop:
		return
	default:
	}
	close(r.stop)
	<-r.stopped
	if r.terminal {
		fmt.Fprint(r.out, "\r\033[K")
	}
}
