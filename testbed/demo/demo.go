package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"

	"github.com/drydock/drydock/testbed/controlplane"
)

// Options of a demo.
type Options struct {
	// Drydock is the path of the binary.
	Drydock string
	// Once ends the demo after the verdict. Without it all stays up until ctx ends.
	Once bool
	// Keep is a directory for all files, which stay there. Empty: a temporary one,
	// which stays only when something failed.
	Keep string
	// Out gets the demo; a terminal gets it in colours.
	Out io.Writer

	// visit, where it is set, looks around beside the repairs, and ends before all is stopped.
	visit func(context.Context, *stage) error
}

// Why a demo was no success.
var (
	// ErrVerdict: what is wrong was printed.
	ErrVerdict     = errors.New("the repairs did not end as they should")
	ErrInterrupted = errors.New("interrupted before the verdict")
)

// stage is all that the demo runs.
type stage struct {
	options  Options
	view     *view
	dir      string
	clusters map[string]*controlplane.Cluster
	remote   *standIns
	drydock  *drydock
	config   config
	api      api
	watch    *watch
	judged   chan struct{} // closed when the verdict is there
}

// Run runs the demo. It is nil when all four incidents ended as they should, also
// when ctx ended after that.
func Run(ctx context.Context, o Options) (err error) {
	began := time.Now()
	s := &stage{options: o, view: newView(o.Out), remote: &standIns{}, judged: make(chan struct{})}
	defer s.view.close()
	s.view.line("%s", s.view.paint(bold, "Drydock demo: the runbook's four example alerts, on two real Kubernetes control planes"))

	if err := s.prepare(ctx); err != nil {
		return err
	}
	err = s.play(ctx, began)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ErrVerdict) {
		err = ErrInterrupted
	}
	s.view.line("")
	err = errors.Join(err, s.view.step("stopping everything", s.stop))
	if o.Keep != "" || err != nil && !errors.Is(err, ErrInterrupted) {
		s.view.line("  logs and configuration: %s", s.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// prepare finds the binaries and makes the directory.
func (s *stage) prepare(ctx context.Context) error {
	if _, err := os.Stat(s.options.Drydock); err != nil {
		return fmt.Errorf("find drydock: %w (make build makes it)", err)
	}
	if _, err := controlplane.Kubebox(ctx, s.options.Out); err != nil {
		return err
	}
	var err error
	if s.dir, err = makeDirectory(s.options.Keep); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	return nil
}

// makeDirectory makes the named directory, or a temporary one when none is named.
func makeDirectory(name string) (string, error) {
	if name == "" {
		return os.MkdirTemp("", "drydock-demo-")
	}
	if err := os.MkdirAll(name, 0o700); err != nil {
		return "", err
	}
	files, err := os.ReadDir(name)
	if err != nil {
		return "", err
	}
	if len(files) > 0 {
		return "", fmt.Errorf("%s is not empty: name another, the clusters begin from nothing", name)
	}
	return filepath.Abs(name)
}

// play starts everything, breaks the carriers, follows the repairs and gives the
// verdict.
func (s *stage) play(ctx context.Context, began time.Time) error {
	if err := s.raise(ctx); err != nil {
		return err
	}
	s.view.heading("Breaking the carriers")
	if err := breakCarriers(ctx, s.view, s.clusters); err != nil {
		return err
	}
	before, err := s.count(ctx)
	if err != nil {
		return err
	}
	if err := s.sendAlerts(); err != nil {
		return err
	}
	visited := make(chan error, 1)
	go func() {
		if s.options.visit == nil {
			visited <- nil
			return
		}
		visited <- s.options.visit(ctx, s)
	}()
	if err := s.follow(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		s.view.line("  %s %v", s.view.paint(red, "✗"), err) // The verdict tells the rest.
	}
	failures, err := s.judge(ctx, before)
	if err != nil {
		return err
	}
	s.view.line("")
	s.view.line("  %s after %s", s.view.paint(bold, "Done"), seconds(time.Since(began)))
	close(s.judged)
	if err := <-visited; err != nil {
		return err
	}
	if !s.options.Once {
		s.stay(ctx)
	}
	if len(failures) > 0 {
		return ErrVerdict
	}
	return nil
}

// raise starts the carriers, what runs on them, the stand-ins and Drydock.
func (s *stage) raise(ctx context.Context) error {
	s.view.heading("Starting")
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	s.clusters, err = startCarriers(ctx, s.view, s.dir, carrier3, carrier2)
	if err != nil {
		return err
	}
	configs := map[string]*rest.Config{}
	var carriers []configCarrier
	for _, name := range []string{carrier3, carrier2} {
		configs[name] = s.clusters[name].RESTConfig()
		carriers = append(carriers, configCarrier{Name: name, Kubeconfig: s.clusters[name].Kubeconfig()})
	}
	if s.remote, err = startStandIns(ctx, configs, "http://"+address+"/webhooks/pagerduty"); err != nil {
		return err
	}
	s.config = newConfig(address, filepath.Join(s.dir, "data"), s.remote, carriers)

	work := []func(context.Context) error{func(ctx context.Context) error {
		return s.view.step("drydock serve, with a private Postgres", func() (err error) {
			if err := s.serve(ctx); err != nil {
				return err
			}
			s.api, err = newAPI(s.drydock)
			return err
		})
	}}
	for name, cluster := range s.clusters {
		work = append(work, func(ctx context.Context) error {
			return s.view.step(fmt.Sprintf("agents and customers' masters on %s", name), func() error {
				return populate(ctx, name, configs[name], cluster.Client())
			})
		})
	}
	if err := together(ctx, work...); err != nil {
		return err
	}
	s.view.line("")
	s.view.line("  dashboard        %s", s.view.paint(bold, s.drydock.dashboard()))
	s.view.line("  API token        %s", s.drydock.tokenFile)
	s.view.line("  PagerDuty        %s (a stand-in)", s.remote.pagerURL)
	s.view.line("  configuration    %s (its timing is shorter than on a real carrier)", s.configFile())
	for _, c := range carriers {
		s.view.line("  look yourself    bin/kubebox kubectl --kubeconfig %s get ds -A", c.Kubeconfig)
	}
	return nil
}

func (s *stage) configFile() string { return filepath.Join(s.dir, "drydock.yaml") }

// serve writes the configuration, and starts Drydock with it.
func (s *stage) serve(ctx context.Context) (err error) {
	if err := s.config.write(s.configFile()); err != nil {
		return err
	}
	s.drydock, err = startDrydock(ctx, s.options.Drydock, s.configFile(), s.config, s.remote.env)
	return err
}

// sendAlerts lets monitoring raise the four alerts: PagerDuty sends the webhooks.
func (s *stage) sendAlerts() error {
	s.view.heading("Four alerts, as signed webhooks from PagerDuty")
	s.watch = &watch{view: s.view, api: s.api, clusters: s.clusters, states: map[string]string{}}
	for _, a := range alerts() {
		details := map[string]any{"carrier": a.carrier, "daemonset": a.daemonset, "namespace": a.namespace}
		in, err := s.remote.pager.TriggerIncident(a.title, serviceID, details)
		if err != nil {
			return fmt.Errorf("trigger %q: %w", a.title, err)
		}
		s.watch.watched = append(s.watch.watched, &watched{alert: a, incident: in.ID, intents: map[int]string{}})
		s.view.line("  %s", a.title)
		s.view.line("    %s", s.view.paint(faint, fmt.Sprintf("incident %s: %s", in.ID, a.broken)))
	}
	return nil
}

// diskTeamTakes is how long the disk team needs once Drydock waits for it.
const diskTeamTakes = 6 * time.Second

// follow prints the repairs until they have ended. Meanwhile the disk team works.
func (s *stage) follow(ctx context.Context) error {
	s.view.heading("Repairs, as Drydock and the carriers tell them")
	over := s.view.during("repairing")
	defer over()
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	team := make(chan error, 1)
	go func() { team <- s.diskTeam(working) }()
	err := s.watch.finished(ctx, s.drydock.exited)
	cancel()
	if teamErr := <-team; err != nil {
		return errors.Join(err, teamErr)
	}
	return nil
}

// diskTeam frees the disk some seconds after Drydock began to wait for that.
func (s *stage) diskTeam(ctx context.Context) error {
	for _, w := range s.watch.watched {
		if !w.alert.disk {
			continue
		}
		if err := s.watch.state(ctx, w.incident, "waiting_for_disk"); err != nil {
			return fmt.Errorf("disk team: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("disk team: %w", context.Cause(ctx))
		case <-time.After(diskTeamTakes):
		}
		if err := freeDisk(ctx, s.clusters[w.alert.carrier].Client(), w.alert); err != nil {
			return fmt.Errorf("disk team: %w", err)
		}
		s.view.event(time.Now(), w.alert.carrier, w.alert.daemonset, "(disk team)", "freed the disk of "+w.alert.node)
	}
	return nil
}

func (s *stage) stay(ctx context.Context) {
	s.view.line("")
	s.view.line("  All stays up for you to look around: %s", s.drydock.url)
	s.view.line("  Ctrl-C ends it.")
	<-ctx.Done()
}

// count takes a census of all carriers.
func (s *stage) count(ctx context.Context) (map[string]census, error) {
	all := map[string]census{}
	for name, cluster := range s.clusters {
		c, err := count(ctx, cluster.Client())
		if err != nil {
			return nil, fmt.Errorf("take a census of %s: %w", name, err)
		}
		all[name] = c
	}
	return all, nil
}

// judge collects the evidence and prints the table and the verdict.
func (s *stage) judge(ctx context.Context, before map[string]census) ([]failure, error) {
	e := evidence{bot: s.remote.bot.ID, before: before, attempts: s.remote.jenkins.Attempts()}
	var err error
	if e.after, err = s.count(ctx); err != nil {
		return nil, err
	}
	if e.events, err = s.api.events(ctx); err != nil {
		return nil, err
	}
	for _, in := range s.remote.pager.Incidents() {
		if in.ServiceID == selfServiceID {
			e.selfPages = append(e.selfPages, in)
		}
	}
	for _, w := range s.watch.watched {
		r, err := s.result(ctx, w)
		if err != nil {
			return nil, err
		}
		e.results = append(e.results, r)
	}
	return s.view.closing(e), nil
}

func (s *stage) result(ctx context.Context, w *watched) (result, error) {
	r := result{alert: w.alert}
	var err error
	if r.incident, err = s.remote.pager.Incident(w.incident); err != nil {
		return r, fmt.Errorf("read incident %s: %w", w.incident, err)
	}
	all, err := s.api.runs(ctx)
	if err != nil {
		return r, err
	}
	for _, short := range all {
		if !short.about(w.incident) {
			continue
		}
		full, err := s.api.run(ctx, short.ID)
		if err != nil {
			return r, err
		}
		r.runs = append(r.runs, full)
	}
	return r, nil
}

// stop ends everything, Drydock first: it may still have to put something back.
func (s *stage) stop() error {
	var errs []error
	if s.drydock != nil {
		errs = append(errs, s.drydock.stop())
	}
	s.remote.stop()
	stopped := make(chan error)
	for _, cluster := range s.clusters {
		go func() { stopped <- cluster.Stop() }()
	}
	for range s.clusters {
		errs = append(errs, <-stopped)
	}
	return errors.Join(errs...)
}
