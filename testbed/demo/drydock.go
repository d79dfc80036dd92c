package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/drydock/drydock/testbed/await"
)

const (
	// readyPatience bounds the start of Drydock, whose private Postgres is made on
	// the way; that takes three to five seconds on two idle cores.
	readyPatience = 2 * time.Minute
	// stopPatience is how long Drydock may take to end what it is doing.
	stopPatience = 20 * time.Second
)

// drydock is the product, as a child process. It dies with this process.
type drydock struct {
	url, log, tokenFile string
	process             *os.Process
	exited              chan struct{} // Closed when the process has ended, with err set.
	err                 error
}

// startDrydock runs "drydock serve" and waits until it is ready.
func startDrydock(ctx context.Context, binary, configFile string, c config, env map[string]string) (*drydock, error) {
	dir := filepath.Dir(configFile)
	d := &drydock{
		url: "http://" + c.Listen, log: filepath.Join(dir, "drydock.log"),
		tokenFile: filepath.Join(c.DataDir, "token"), exited: make(chan struct{}),
	}
	output, err := os.Create(d.log)
	if err != nil {
		return nil, fmt.Errorf("start drydock: %w", err)
	}
	cmd := exec.Command(binary, "serve", "--config", configFile)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = append(cleanEnv(os.Environ()), environ(env)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// A Ctrl-C on the terminal reaches us alone: we stop it in order.
		Setpgid: true,
		// If we are killed it must still end in order, and put back what it changed.
		Pdeathsig: syscall.SIGTERM,
	}
	started := make(chan error, 1)
	go func() {
		// Pdeathsig is sent when the parent thread ends, so the thread that starts
		// the process must live as long as it.
		runtime.LockOSThread()
		defer close(d.exited)
		defer output.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			d.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start drydock: %w", err)
	}
	d.process = cmd.Process
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	if err := await.Until(ctx, "Drydock to be ready", d.ready); err != nil {
		return d, err
	}
	return d, nil
}

// cleanEnv leaves out what would configure Drydock behind the file's back.
func cleanEnv(env []string) []string {
	var kept []string
	for _, e := range env {
		if !strings.HasPrefix(e, "DRYDOCK_") && !strings.HasPrefix(e, "DATABASE_URL=") && !strings.HasPrefix(e, "PG") ||
			strings.HasPrefix(e, "PG_BIN=") {
			kept = append(kept, e)
		}
	}
	return kept
}

func environ(env map[string]string) []string {
	var list []string
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

func (d *drydock) ready(ctx context.Context) error {
	select {
	case <-d.exited:
		return await.Never(fmt.Errorf("drydock serve ended (%w), its log ends with:\n%s", d.exit(), d.logTail()))
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url+"/readyz", nil)
	if err != nil {
		return await.Never(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %d", response.StatusCode)
	}
	return nil
}

// dashboard is the address that Drydock printed, which logs its first user in.
func (d *drydock) dashboard() string {
	content, err := os.ReadFile(d.log)
	if err != nil {
		return d.url
	}
	_, after, _ := strings.Cut(string(content), "drydock is ready: dashboard ")
	address, _, _ := strings.Cut(after, "\n")
	return cmp.Or(address, d.url)
}

// exit is why the process ended; call it after that.
func (d *drydock) exit() error {
	if d.err == nil {
		return errors.New("exit status 0")
	}
	return d.err
}

// logTail is the end of Drydock's log, for an error message.
func (d *drydock) logTail() string {
	const length = 3000
	content, err := os.ReadFile(d.log)
	if err != nil {
		return fmt.Sprintf("(no log: %v)", err)
	}
	return string(content[max(0, len(content)-length):])
}

// stop ends Drydock in order, and kills it when it takes too long, which is an
// error.
func (d *drydock) stop() error {
	if d.process == nil {
		return nil
	}
	select {
	case <-d.exited:
		return fmt.Errorf("stop drydock: it had ended by itself: %w", d.exit())
	default:
	}
	// An error means that it has just ended, which is what we want.
	_ = d.process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
	case <-time.After(stopPatience):
		_ = d.process.Kill()
		<-d.exited
		return fmt.Errorf("stop drydock: it was still there %v after SIGTERM", stopPatience)
	}
	if d.err != nil {
		return fmt.Errorf("stop drydock: %w", d.err)
	}
	return nil
}

// freeAddress is an address on loopback that nobody listens on at the moment.
// PagerDuty must know it before Drydock runs, so Drydock can not choose it.
func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return address, nil
}
