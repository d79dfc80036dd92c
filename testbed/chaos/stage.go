package chaos

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/flags"
	"github.com/drydock/drydock/testbed/jenkins"
	"github.com/drydock/drydock/testbed/pagerduty"
)

// The account of the stand-ins.
const (
	serviceID     = "PCARRIERS"
	selfServiceID = "PDRYDOCK1"
	defaultPolicy = "PDEFAULT"
	opsPolicy     = "PARMOPS"
	botEmail      = "drydock@example.com"
	flagsToken    = "flags-token"
	jenkinsToken  = "jenkins-token"
)

// options size a stage.
type options struct {
	binary   string // Drydock
	seed     uint64
	replicas int
	carriers int // each of two targets; none: no control plane either
	absent   int // further carriers, which are in the configuration and do not answer
	mode     playbook.Mode
	deadline time.Duration
	outage   time.Duration // how long no run can end, because a remote is away
	slack    time.Duration // how long after its deadline a run may have handed over, because a remote is slow
	log      *slog.Logger
}

// stage is all that runs: the replicas and everything around them.
type stage struct {
	options
	ctx context.Context // the life of all that is no call
	dir string

	postgres             *postgres
	pager                *pagerduty.Server
	pagerURL             string
	away                 spans  // when it was
	secret               string // of its webhooks
	person               string // a user
	bot                  string // Drydock's user
	door                 string
	jenkins              *jenkins.Server
	flags                *flags.Server
	flagsURL, jenkinsURL string
	cluster              *controlplane.Cluster
	carriers             []*carrier
	replicas             []*replica

	env   []string
	stops []func() error
}

//go:embed drydock.yaml.tmpl
var configText string

var configTemplate = template.Must(template.New("drydock.yaml").Option("missingkey=error").Parse(configText))

// newStage starts everything, and returns when the replicas are ready. What was started is stopped by stop, also after an
// error.
func newStage(ctx context.Context, o options) (*stage, error) {
	s := &stage{options: o, ctx: ctx}
	var err error
	// Not the test's directory: a socket's path may have 107 characters, and the logs of a failed test must stay.
	if s.dir, err = os.MkdirTemp("", "chaos-"); err != nil {
		return s, fmt.Errorf("make directory: %w", err)
	}
	for _, step := range []func() error{s.startPostgres, s.startPager, s.startCarriers, s.startReplicas} {
		if err := step(); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *stage) atStop(f func() error) { s.stops = append(s.stops, f) }

// stop ends everything, what was started last first.
func (s *stage) stop() error {
	var errs []error
	for i := len(s.stops) - 1; i >= 0; i-- {
		errs = append(errs, s.stops[i]())
	}
	return errors.Join(errs...)
}

func (s *stage) startPostgres() (err error) {
	dir := filepath.Join(s.dir, "db")
	quiet := slog.New(slog.DiscardHandler)
	if s.postgres, err = startPostgres(s.ctx, dir, quiet); err != nil {
		return err
	}
	s.atStop(func() error { return s.postgres.stop(s.ctx) })
	return nil
}

// startPager starts PagerDuty with a subscription that leads to the door. It asks for a door of its own: which replicas
// stand behind it is not known yet.
func (s *stage) startPager() (err error) {
	port, err := controlplane.FreePort()
	if err != nil {
		return err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	s.door = "http://" + address
	for n := range s.options.replicas {
		if err := s.addReplica(fmt.Sprintf("replica-%d", n+1)); err != nil {
			return err
		}
	}
	door, err := newDoor(s.ctx, address, s.replicas)
	if err != nil {
		return err
	}
	s.atStop(door.Close)
	s.pager = pagerduty.New(pagerduty.Options{RetryAfter: []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}})
	if s.pagerURL, err = s.pager.Start(s.ctx); err != nil {
		return err
	}
	s.atStop(func() error { s.pager.Close(); return nil })
	s.bot = s.pager.AddUser(pagerduty.User{Name: "Drydock", Email: botEmail, Bot: true}).ID
	s.person = s.pager.AddUser(pagerduty.User{Name: "Ada", Email: "ada@example.com"}).ID
	for _, policy := range []string{defaultPolicy, opsPolicy} {
		level := pagerduty.Level{Users: []string{s.person}}
		if _, err := s.pager.AddPolicy(pagerduty.EscalationPolicy{ID: policy, Name: policy, Levels: []pagerduty.Level{level}}); err != nil {
			return fmt.Errorf("add escalation policy %s: %w", policy, err)
		}
	}
	if _, err := s.pager.AddService(pagerduty.Service{ID: serviceID, Name: "containers-kubernetes", PolicyID: defaultPolicy}); err != nil {
		return fmt.Errorf("add service: %w", err)
	}
	self, err := s.pager.AddService(pagerduty.Service{ID: selfServiceID, Name: "drydock itself", PolicyID: defaultPolicy})
	if err != nil {
		return fmt.Errorf("add service: %w", err)
	}
	subscription, err := s.pager.Subscribe(pagerduty.Subscription{
		URL: s.door + "/webhooks/pagerduty", Events: pagerduty.EventTypes(), FilterType: "service_reference", FilterID: serviceID,
	})
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	s.secret = subscription.Secret
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	s.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir,
		"DATABASE_URL=" + s.postgres.dsn(), "BACKUP_KEY=" + base64.StdEncoding.EncodeToString(key),
		"PAGERDUTY_TOKEN=" + s.pager.AddKey(pagerduty.Key{Kind: pagerduty.AccountKey}),
		"PAGERDUTY_SELF_KEY=" + self.RoutingKey, "PAGERDUTY_WEBHOOK_SECRET=" + subscription.Secret,
		"FLAGS_TOKEN=" + flagsToken, "JENKINS_TOKEN=" + jenkinsToken,
	}
	return nil
}

// startCarriers starts the control plane, the systems beside it, and what runs on the carriers.
func (s *stage) startCarriers() (err error) {
	if s.options.carriers == 0 {
		return s.addAbsent()
	}
	s.cluster, err = controlplane.Start(s.ctx, controlplane.Options{
		Name: "chaos", Dir: filepath.Join(s.dir, "cluster"), Nodes: -1, Masters: 1, PodsPerNode: podsPerNode, Log: s.log,
	})
	if err != nil {
		return err
	}
	s.atStop(s.cluster.Stop)
	s.flags = flags.New(flags.Options{Token: flagsToken})
	s.atStop(func() error { s.flags.Close(); return nil })
	s.jenkins = jenkins.New(jenkins.Options{
		Users: []jenkins.User{{Name: "drydock", Token: jenkinsToken, MayPromote: true}},
		Apply: s.deploy, QueueDelay: 200 * time.Millisecond, RunDuration: time.Second,
	})
	s.atStop(func() error { s.jenkins.Close(); return nil })
	for n := range s.options.carriers {
		c, err := s.newCarrier(n + 1)
		if err != nil {
			return err
		}
		s.carriers = append(s.carriers, c)
	}
	return s.populate()
}

// addAbsent configures carriers whose API servers refuse connections, with the runbook's DaemonSets.
func (s *stage) addAbsent() error {
	port, err := controlplane.FreePort()
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, "absent.kubeconfig")
	nobody := &apiServer{url: fmt.Sprintf("http://127.0.0.1:%d", port)}
	if err := nobody.kubeconfig(file); err != nil {
		return err
	}
	for n := range s.options.absent {
		c := &carrier{Name: fmt.Sprintf("prod-dal10-carrier%d", n+1), Kubeconfig: file}
		if n == 0 {
			c.targets = []*target{
				{DaemonSet: "node-exporter", Namespace: "monitoring", Reapply: "if_needed"},
				{DaemonSet: "docker-metrics-endpoint", Namespace: "monitoring", Reapply: "if_needed"},
				{DaemonSet: "ibm-kube-fluentd", Namespace: "ibm-system", Reapply: "if_needed"},
			}
		}
		s.carriers = append(s.carriers, c)
	}
	return nil
}

func (s *stage) addReplica(name string) error {
	r, err := s.newReplica(name)
	if err != nil {
		return err
	}
	s.replicas = append(s.replicas, r)
	return nil
}

// newReplica makes a place for a process, with a port and a directory of its own.
func (s *stage) newReplica(name string) (*replica, error) {
	port, err := controlplane.FreePort()
	if err != nil {
		return nil, err
	}
	r := &replica{name: name, dir: filepath.Join(s.dir, name), address: fmt.Sprintf("127.0.0.1:%d", port)}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	return r, nil
}

// startReplicas starts the replicas, the first one alone: it makes the schema.
func (s *stage) startReplicas() error {
	if s.flags != nil {
		var err error
		if s.flagsURL, err = s.flags.Start(s.ctx); err != nil {
			return err
		}
		if s.jenkinsURL, err = s.jenkins.Start(s.ctx); err != nil {
			return err
		}
	}
	for _, r := range s.replicas {
		if err := s.configure(r, s.door, serviceID, s.carriers); err != nil {
			return err
		}
		r.binary, r.env = s.binary, s.env
		if err := r.start(); err != nil {
			return err
		}
		s.atStop(r.stop)
		if err := r.awaitReady(s.ctx); err != nil {
			return err
		}
	}
	supervised, cancel := context.WithCancel(s.ctx)
	s.atStop(func() error { cancel(); return nil })
	for _, r := range s.replicas {
		go r.supervise(supervised)
	}
	return nil
}

// configure writes a replica's configuration.
func (s *stage) configure(r *replica, door, service string, carriers []*carrier) error {
	var text bytes.Buffer
	err := configTemplate.Execute(&text, map[string]any{
		"Listen": r.address, "Door": door, "Pager": s.pagerURL, "From": botEmail, "Service": service, "Policy": opsPolicy,
		"Carriers": carriers, "Targets": s.targets(), "Flags": s.flagsURL, "Jenkins": s.jenkinsURL, "Deadline": s.deadline, "Mode": s.mode,
	})
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := os.WriteFile(r.configFile(), text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

func (s *stage) targets() []*target {
	var all []*target
	for _, c := range s.carriers {
		all = append(all, c.targets...)
	}
	return all
}
