package scenario

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"github.com/drydock/drydock/playbook/playbooktest/scenariofile"
	"github.com/drydock/drydock/store"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/pagerduty"
	"github.com/drydock/drydock/testbed/standin"
)

// The account of the PagerDuty stand-in.
const (
	serviceID = "PCARRIERS"
	// quietServiceID is a service without a webhook subscription: only an Event Orchestration tells of its incidents.
	quietServiceID = "PQUIET"
	selfServiceID  = "PDRYDOCK1"
	defaultPolicy  = "PDEFAULT"
	botEmail       = "drydock@example.com"
)

const (
	readyPatience = 2 * time.Minute
	stopPatience  = 20 * time.Second
	callPatience  = 10 * time.Second
)

// server is Drydock as a child process, with its own PagerDuty and database.
type server struct {
	url, token, log, dsn string
	process              *os.Process
	exited               chan struct{}
	pager                *pagerduty.Server
	gate                 *gate
	person, approver     string              // users of PagerDuty
	store                *store.Store        // the database, to read the history from
	carriers             map[string]*carrier // by the scenario's file
}

//go:embed drydock.yaml.tmpl
var configText string

var configTemplate = template.Must(template.New("drydock.yaml").Option("missingkey=error").Funcs(template.FuncMap{
	"json": func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
}).Parse(configText))

// startServer starts Drydock for all scenarios that have these settings in common, with what the carriers' owners run.
func (st *stage) startServer(name string, with common) (*server, error) {
	binary, err := st.binary()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(st.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	// The port is held until Drydock takes it: what starts in between would get it.
	var lc net.ListenConfig
	hold, err := lc.Listen(st.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("find a free port: %w", err)
	}
	defer func() { _ = hold.Close() }() // closed already, when all went well
	address := hold.Addr().String()
	s := &server{url: "http://" + address, log: filepath.Join(dir, "drydock.log"), exited: make(chan struct{}), carriers: map[string]*carrier{}}
	env := map[string]string{"FLAGS_TOKEN": flagsToken, "JENKINS_TOKEN": jenkinsToken}
	s.dsn = st.databases[with]
	env["DATABASE_URL"] = s.dsn
	// All servers have one key, and so are one installation: a control plane's Lease lets no second one act on it.
	key := st.key[:]
	env["BACKUP_KEY"] = base64.StdEncoding.EncodeToString(key)
	if err := s.startPager(st, env); err != nil {
		return nil, err
	}
	for i := range st.all {
		if commonOf(&st.all[i]) != with {
			continue
		}
		c, err := st.newCarrier(&st.all[i])
		if err != nil {
			return nil, err
		}
		s.carriers[st.all[i].File] = c
	}
	file := filepath.Join(dir, "drydock.yaml")
	if err := s.writeConfig(file, address, with); err != nil {
		return nil, err
	}
	if err := hold.Close(); err != nil {
		return nil, fmt.Errorf("free the port: %w", err)
	}
	if err := s.start(st.ctx, binary, file, env); err != nil {
		return nil, err
	}
	st.atStop(s.stop)
	if s.store, err = store.Open(st.ctx, store.Options{DatabaseURL: s.dsn, Node: "scenarios", BackupKey: key, MaxConns: 2}); err != nil {
		return nil, err
	}
	st.atStop(func() error { s.store.Close(); return nil })
	token, err := os.ReadFile(filepath.Join(dir, "data", "token"))
	if err != nil {
		return nil, fmt.Errorf("read Drydock's token: %w", err)
	}
	s.token = strings.TrimSpace(string(token))
	return s, nil
}

func (s *server) writeConfig(file, address string, with common) error {
	var text bytes.Buffer
	err := configTemplate.Execute(&text, map[string]any{
		"Listen": address, "Pager": s.gate.url, "From": botEmail, "Services": []string{serviceID, quietServiceID}, "Approver": s.approver, "With": with, "Carriers": s.carriers,
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func (s *server) startPager(st *stage, env map[string]string) error {
	s.pager = pagerduty.New(pagerduty.Options{})
	base, err := s.pager.Start(st.ctx)
	if err != nil {
		return err
	}
	st.atStop(func() error { s.pager.Close(); return nil })
	if s.gate, err = newGate(st.ctx, base); err != nil {
		return err
	}
	s.pager.AddUser(pagerduty.User{Name: "Drydock", Email: botEmail, Bot: true})
	s.person = s.pager.AddUser(pagerduty.User{Name: "Ada", Email: "ada@example.com"}).ID
	s.approver = s.pager.AddUser(pagerduty.User{Name: "Grace", Email: "grace@example.com"}).ID
	for _, policy := range []string{defaultPolicy, scenariofile.OpsPolicy, scenariofile.APIPolicy} {
		onCall := s.pager.AddUser(pagerduty.User{Name: policy + " on call", Email: policy + "@example.com"})
		_, err := s.pager.AddPolicy(pagerduty.EscalationPolicy{ID: policy, Name: policy, Levels: []pagerduty.Level{{Users: []string{onCall.ID}}}})
		if err != nil {
			return fmt.Errorf("add escalation policy %s: %w", policy, err)
		}
	}
	for _, id := range []string{serviceID, quietServiceID} {
		if _, err := s.pager.AddService(pagerduty.Service{ID: id, Name: "containers-kubernetes " + id, PolicyID: defaultPolicy}); err != nil {
			return fmt.Errorf("add service: %w", err)
		}
	}
	self, err := s.pager.AddService(pagerduty.Service{ID: selfServiceID, Name: "drydock itself", PolicyID: defaultPolicy})
	if err != nil {
		return fmt.Errorf("add service: %w", err)
	}
	sub, err := s.pager.Subscribe(pagerduty.Subscription{URL: s.url + "/webhooks/pagerduty", Events: pagerduty.EventTypes(), FilterType: "service_reference", FilterID: serviceID})
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	env["PAGERDUTY_SELF_KEY"] = self.RoutingKey
	env["PAGERDUTY_TOKEN"] = s.pager.AddKey(pagerduty.Key{Kind: pagerduty.AccountKey})
	env["PAGERDUTY_WEBHOOK_SECRET"] = sub.Secret
	return nil
}

// start runs "drydock serve" and waits until it is ready.
func (s *server) start(ctx context.Context, binary, file string, env map[string]string) error {
	output, err := os.Create(s.log)
	if err != nil {
		return fmt.Errorf("start drydock: %w", err)
	}
	cmd := exec.Command(binary, "serve", "--config", file) // without a context: stop ends it in order
	cmd.Dir, cmd.Stdout, cmd.Stderr = filepath.Dir(file), output, output
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	// A test that is killed takes Drydock with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() {
		// The signal is sent when the thread that started the process ends, so that thread must live as long as it.
		runtime.LockOSThread()
		defer close(s.exited)
		defer output.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start drydock: %w", err)
	}
	s.process = cmd.Process
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	return await.Until(ctx, "Drydock to be ready", func(ctx context.Context) error {
		select {
		case <-s.exited:
			content, _ := os.ReadFile(s.log)
			return await.Never(fmt.Errorf("drydock serve ended, its log is:\n%s", content))
		default:
			return s.call(ctx, http.MethodGet, "/readyz", nil, nil)
		}
	})
}

func (s *server) stop() error {
	select {
	case <-s.exited:
		content, _ := os.ReadFile(s.log)
		return fmt.Errorf("stop drydock: it had ended by itself, its log ends with:\n%s", content[max(0, len(content)-4000):])
	default:
	}
	_ = s.process.Signal(syscall.SIGTERM) // an error means that it has just ended
	select {
	case <-s.exited:
		return nil
	case <-time.After(stopPatience):
		_ = s.process.Kill()
		<-s.exited
		return fmt.Errorf("stop drydock: it was still there %v after SIGTERM", stopPatience)
	}
}

// call calls Drydock's API. A nil body sends none; a nil answer reads none.
func (s *server) call(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Authorization", "Bearer "+s.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer response.Body.Close()
	content, err = io.ReadAll(response.Body)
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", method, path, err)
	case response.StatusCode >= http.StatusBadRequest:
		return fmt.Errorf("%s %s: status %d: %s", method, path, response.StatusCode, content)
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(content, answer); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

// gate stands before PagerDuty and answers 503 about single incidents, so that PagerDuty can be away for one scenario.
type gate struct {
	url string

	mu   sync.Mutex
	lost map[string]bool
}

func newGate(ctx context.Context, to string) (*gate, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, fmt.Errorf("make the gate of PagerDuty: %w", err)
	}
	g := &gate{lost: map[string]bool{}}
	proxy := httputil.NewSingleHostReverseProxy(target)
	l, err := standin.Listen(ctx, "", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.isLost(r.URL.Path) {
			http.Error(w, "503", http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	if err != nil {
		return nil, err
	}
	g.url = l.URL
	return g, nil
}

func (g *gate) isLost(path string) bool {
	rest, _ := strings.CutPrefix(path, "/incidents/")
	id, _, _ := strings.Cut(rest, "/")
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost[id]
}

func (g *gate) set(incident string, lost bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lost[incident] = lost
}
