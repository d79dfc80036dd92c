package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// restartPause is how long a component that exited stays down. A kubelet would
	// back off; here a component exits when it lost its leadership or by a test.
	restartPause = time.Second
	// stopPatience is how long a component may take to stop before it is killed.
	stopPatience = 5 * time.Second
)

// process keeps one component running: what exits is started again, as a kubelet
// does with static pods.
type process struct {
	name    string
	path    string
	args    []string
	dir     string
	logPath string
	// lineLog, if set, also gets the output, as a container runtime writes it.
	lineLog string
	log     *slog.Logger

	exits atomic.Int64

	mu   sync.Mutex
	quit chan syscall.Signal // nil: not running.
	done chan struct{}
}

// exit is the end of a component; err is nil if it ended with success.
type exit struct{ err error }

// start starts the component; it does nothing if it is running.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quit != nil {
		return nil
	}
	quit, done, started := make(chan syscall.Signal, 1), make(chan struct{}), make(chan error, 1)
	go p.supervise(quit, done, started)
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.quit, p.done = quit, done
	return nil
}

// stop ends the component by sig, keeps it down, and returns when it is gone.
func (p *process) stop(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quit == nil {
		return
	}
	p.quit <- sig
	<-p.done
	p.quit, p.done = nil, nil
}

func (p *process) supervise(quit <-chan syscall.Signal, done chan<- struct{}, started chan<- error) {
	// Pdeathsig is sent when the parent THREAD ends, so the thread that starts the
	// component must live as long as it: this goroutine keeps it for itself.
	runtime.LockOSThread()
	defer close(done)
	for first := true; ; first = false {
		exited, child, err := p.run()
		if first {
			started <- err
			if err != nil {
				return
			}
		}
		if err == nil {
			select {
			case sig := <-quit:
				end(child, exited, sig)
				return
			case exit := <-exited:
				err = exit.err
			}
		}
		p.exits.Add(1)
		p.log.Warn("component exited, will be started again", "component", p.name, "exit", err)
		select {
		case <-quit:
			return
		case <-time.After(restartPause):
		}
	}
}

// end signals the child, and kills it when it has not ended after stopPatience.
func end(child *os.Process, exited <-chan exit, sig syscall.Signal) {
	// An error means that it has just exited, which is what we want.
	_ = child.Signal(sig)
	select {
	case <-exited:
	case <-time.After(stopPatience):
		_ = child.Kill()
		<-exited
	}
}

// run starts the component once. Its exit is sent on the channel.
func (p *process) run() (<-chan exit, *os.Process, error) {
	output, err := p.openLogs()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(p.path, p.args...)
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = output, output
	// kwok would read a configuration out of the user's home directory.
	cmd.Env = []string{"HOME=" + p.dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// A Ctrl-C on the terminal must reach us alone: we stop them in order.
		Setpgid: true,
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, errors.Join(err, output.Close())
	}
	exited := make(chan exit, 1)
	go func() {
		err := cmd.Wait()
		exited <- exit{errors.Join(err, output.Close())}
	}()
	return exited, cmd.Process, nil
}

func (p *process) openLogs() (io.WriteCloser, error) {
	plain, err := openAppend(p.logPath)
	if err != nil {
		return nil, err
	}
	if p.lineLog == "" {
		return plain, nil
	}
	lines, err := openAppend(p.lineLog)
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	return &teeLog{plain: plain, lines: lines}, nil
}

func openAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

// teeLog writes a component's output as it is, and line by line in the container
// runtime interface's format, the only one that kwok serves as a pod's log.
type teeLog struct {
	plain, lines *os.File
	rest         []byte // The beginning of a line whose end has not come yet.
}

func (t *teeLog) Write(b []byte) (int, error) {
	if n, err := t.plain.Write(b); err != nil {
		return n, err
	}
	t.rest = append(t.rest, b...)
	for {
		line, rest, found := bytes.Cut(t.rest, []byte("\n"))
		if !found {
			return len(b), nil
		}
		if _, err := t.lines.Write(logLine(time.Now(), "stderr", string(line))); err != nil {
			return len(b), err
		}
		t.rest = rest
	}
}

func (t *teeLog) Close() error { return errors.Join(t.plain.Close(), t.lines.Close()) }

// logLine is one whole line ("F") in the container runtime interface's format.
func logLine(at time.Time, stream, text string) []byte {
	return fmt.Appendf(nil, "%s %s F %s\n", at.Format(time.RFC3339Nano), stream, text)
}

// logTail returns the end of the component's log, for an error message.
func (p *process) logTail() string {
	const length = 2000
	content, err := os.ReadFile(p.logPath)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	return string(content[max(0, len(content)-length):])
}
