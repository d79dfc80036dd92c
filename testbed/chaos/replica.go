package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/drydock/drydock/testbed/await"
)

// stopPatience is how long a replica may take to stop in order.
const stopPatience = 30 * time.Second

// replica is one "drydock serve", which may be started again after its end.
type replica struct {
	name, binary, dir, address string
	env                        []string

	mu      sync.Mutex
	starts  int
	process *os.Process
	exited  chan struct{} // closed when the process has ended
	ended   *os.ProcessState
	killed  bool // by us
	frozen  bool
	gaveUp  int // how often it ended because its database was away
}

func (r *replica) url() string        { return "http://" + r.address }
func (r *replica) configFile() string { return filepath.Join(r.dir, "drydock.yaml") }
func (r *replica) logFile() string {
	return filepath.Join(r.dir, fmt.Sprintf("drydock-%d.log", r.starts))
}

// start runs the process and returns at once.
func (r *replica) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running() {
		return fmt.Errorf("start %s: it is running", r.name)
	}
	r.starts++
	output, err := os.Create(r.logFile())
	if err != nil {
		return fmt.Errorf("start %s: %w", r.name, err)
	}
	cmd := exec.Command(r.binary, "serve", "--config", r.configFile()) // without a context: it is ended by name
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = r.dir, output, output, r.env
	// A test that is killed leaves nobody behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	exited, started := make(chan struct{}), make(chan error, 1)
	go func() {
		// The signal is sent when the thread that started the process ends, so that thread must live as long as it.
		runtime.LockOSThread()
		defer close(exited)
		defer output.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its state
			r.mu.Lock()
			r.ended = cmd.ProcessState
			r.mu.Unlock()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", r.name, err)
	}
	r.process, r.exited, r.killed, r.frozen, r.ended = cmd.Process, exited, false, false, nil
	return nil
}

// running reports whether the process is there, frozen or not. The lock is held.
func (r *replica) running() bool {
	if r.process == nil {
		return false
	}
	select {
	case <-r.exited:
		return false
	default:
		return true
	}
}

// awake reports whether the process is there and not frozen.
func (r *replica) awake() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running() && !r.frozen
}

// kill ends the process without a word, and returns when it is gone.
func (r *replica) kill() {
	r.mu.Lock()
	process, exited := r.process, r.exited
	r.killed = true
	r.mu.Unlock()
	_ = process.Kill() // an error means that it is gone
	<-exited
}

// freeze stops the process where it is, as a paused virtual machine does.
func (r *replica) freeze() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze %s: %w", r.name, err)
	}
	r.frozen = true
	return nil
}

// thaw lets a frozen process go on; one that was killed meanwhile stays dead.
func (r *replica) thaw() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = false
	if err := r.process.Signal(syscall.SIGCONT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("thaw %s: %w", r.name, err)
	}
	return nil
}

// stop ends the process in order.
func (r *replica) stop() error {
	r.mu.Lock()
	if !r.running() {
		r.mu.Unlock()
		return r.crashed()
	}
	process, exited := r.process, r.exited
	_ = process.Signal(syscall.SIGCONT)
	_ = process.Signal(syscall.SIGTERM)
	r.mu.Unlock()
	select {
	case <-exited:
		return nil
	case <-time.After(stopPatience):
		r.kill()
		return fmt.Errorf("stop %s: it was still there %v after SIGTERM", r.name, stopPatience)
	}
}

// remoteFailed is Drydock's exit status when it can not begin because its database is away.
const remoteFailed = 3

// supervise starts the process again when it gave up because its database was away, as a kubelet does, until ctx ends.
func (r *replica) supervise(ctx context.Context) {
	for pause(ctx, 500*time.Millisecond) {
		r.mu.Lock()
		again := !r.killed && r.ended != nil && r.ended.ExitCode() == remoteFailed
		if again {
			r.gaveUp++
			r.ended = nil
		}
		r.mu.Unlock()
		if again {
			_ = r.start() // it is running already: then somebody else was quicker
		}
	}
}

// crashed says how the process ended when that was not our doing.
func (r *replica) crashed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed || r.ended == nil || r.ended.ExitCode() == remoteFailed {
		return nil
	}
	content, _ := os.ReadFile(r.logFile())
	return fmt.Errorf("%s ended by itself, %s: %s", r.name, r.ended, content[max(0, len(content)-2000):])
}

// awaitReady waits until the process takes requests and works runs.
func (r *replica) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return await.Until(ctx, r.name+" to be ready", func(ctx context.Context) error {
		if err := r.crashed(); err != nil {
			return await.Never(err)
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url()+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz answers %s", response.Status)
		}
		return nil
	})
}

var nodeInLog = regexp.MustCompile(`msg="leases bear this name" node=(\S+)`)

// node is the name that the process's leases bear, empty while it has not said it.
func (r *replica) node() string {
	r.mu.Lock()
	file := r.logFile()
	r.mu.Unlock()
	content, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	if found := nodeInLog.FindSubmatch(content); found != nil {
		return string(found[1])
	}
	return ""
}

// resident is the process's resident memory in bytes, and its peak, from the kernel.
func (r *replica) resident() (now, peak int64, err error) {
	r.mu.Lock()
	pid := r.process.Pid
	r.mu.Unlock()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory of %s: %w", r.name, err)
	}
	for line := range bytes.Lines(content) {
		name, value, _ := strings.Cut(string(line), ":")
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch {
		case err != nil:
		case name == "VmRSS":
			now = kib << 10
		case name == "VmHWM":
			peak = kib << 10
		}
	}
	return now, peak, nil
}
