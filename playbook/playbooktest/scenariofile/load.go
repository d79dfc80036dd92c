package scenariofile

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/drydock/drydock/playbook"
)

// Duration is a time.Duration in a file: "5s".
type Duration time.Duration

// UnmarshalYAML reads a duration from its text.
func (d *Duration) UnmarshalYAML(unmarshal func(any) error) error {
	var s string
	if err := unmarshal(&s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < 0 {
		return fmt.Errorf("%q is not a duration: write it like 5s", s)
	}
	*d = Duration(v)
	return nil
}

// Load reads every *.yaml file of a directory, by name. An error names the file and the field.
func Load(dir fs.FS) ([]Scenario, error) {
	files, err := fs.Glob(dir, "*.yaml")
	if err != nil {
		return nil, fmt.Errorf("list scenarios: %w", err)
	}
	if len(files) == 0 {
		return nil, errors.New("there are no scenarios")
	}
	var all []Scenario
	var errs []error
	names := map[string]string{}
	for _, file := range files {
		content, err := fs.ReadFile(dir, file)
		if err != nil {
			return nil, fmt.Errorf("read scenario %s: %w", file, err)
		}
		s, err := Parse(strings.TrimSuffix(path.Base(file), ".yaml"), content)
		if err == nil && names[s.Name] != "" {
			err = fmt.Errorf("scenario %s: name: %s has it too", file, names[s.Name])
		}
		names[s.Name] = file
		errs = append(errs, err)
		all = append(all, s)
	}
	return all, errors.Join(errs...)
}

// Parse reads one scenario. file is the name of its file without the ending.
func Parse(file string, content []byte) (Scenario, error) {
	var s Scenario
	if err := yaml.UnmarshalWithOptions(content, &s, yaml.DisallowUnknownField()); err != nil {
		return s, fmt.Errorf("scenario %s: %w", file, err)
	}
	s.File = file
	s.complete()
	if err := s.check(); err != nil {
		return s, fmt.Errorf("scenario %s: %w", file, err)
	}
	return s, nil
}

// complete fills in the defaults.
func (s *Scenario) complete() {
	c := &s.Carrier
	if c.Workers == 0 {
		c.Workers = 4
	}
	if c.PodLimit == 0 {
		c.PodLimit = 6
	}
	if c.Customers.Kind == "" {
		c.Customers.Kind = "Deployment"
	}
	if c.Customers.Replicas == 0 {
		c.Customers.Replicas = 2
	}
	switch c.Deployed {
	case "":
		c.Deployed = "2.41.0"
	case "none":
		c.Deployed = ""
	}
	if len(s.DaemonSets) == 0 {
		s.DaemonSets = []DaemonSet{{Name: NodeExporter}}
	}
	if len(s.Alerts) == 0 {
		s.Alerts = []string{s.DaemonSets[0].Name}
	}
	if s.Settings.Mode == "" {
		s.Settings.Mode = playbook.ModeAct
	}
	if s.Settings.Reapply == "" {
		s.Settings.Reapply = playbook.ReapplyIfNeeded
	}
	if s.Settings.DrainNamespaces == nil {
		s.Settings.DrainNamespaces = &[]string{CustomersNamespace}
	}
	if s.Settings.OnAcknowledge == "" {
		s.Settings.OnAcknowledge = "stop"
	}
	if s.Settings.Restart == "" {
		s.Settings.Restart = "none"
	}
	if s.Leaves.DaemonSet == "" {
		s.Leaves.DaemonSet = Unchanged
	}
	if s.By == "" {
		s.By = ByTitle
	}
	s.Expect.complete()
	for i := range s.Again {
		s.Again[i].Expect.complete()
	}
	for name, e := range s.ExpectOthers {
		e.complete()
		s.ExpectOthers[name] = e
	}
}

func (e *Expect) complete() {
	if e.Status == "" {
		e.Status = playbook.Triggered
		if e.Outcome == playbook.OutcomeResolved {
			e.Status = playbook.Resolved
		}
	}
	if e.End == "" {
		e.End = e.Outcome
	}
	if e.Joined != nil {
		e.Joined.complete()
	}
}

// Names are the names of all runs: the alerts, then those of Again.
func (s *Scenario) Names() []string {
	names := slices.Clone(s.Alerts)
	for i := range s.Again {
		names = append(names, s.RoundName(i))
	}
	return names
}

// RoundName is the name of the run that a round of Again begins, by its index.
func (s *Scenario) RoundName(i int) string { return fmt.Sprintf("%s again %d", s.Alerts[0], i+1) }

// Expected is what is expected of a run, by its name.
func (s *Scenario) Expected(name string) Expect {
	if name == s.Alerts[0] {
		return s.Expect
	}
	for i := range s.Again {
		if name == s.RoundName(i) {
			return s.Again[i].Expect
		}
	}
	return s.ExpectOthers[name]
}

// AlertOf splits an alert's name into the DaemonSet and the number of its carrier, from 1.
func AlertOf(name string) (daemonSet string, carrier int) {
	daemonSet, number, found := strings.Cut(name, "@")
	if !found {
		return daemonSet, 1
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 2 {
		return name, 1
	}
	return daemonSet, n
}

// Carriers is how many carriers the alerts are about.
func (s *Scenario) Carriers() int {
	most := 1
	for _, a := range s.Alerts {
		_, n := AlertOf(a)
		most = max(most, n)
	}
	return most
}

// acts lists every act of the scenario.
func (s *Scenario) acts() []Act {
	all := slices.Clone(s.Fault)
	steps := slices.Clone(s.Then)
	for _, r := range s.Again {
		all = append(all, r.Do...)
		steps = append(steps, r.Then...)
	}
	for _, t := range steps {
		all = append(all, t.Do)
	}
	return all
}

// Disrupts reports whether the scenario needs a control plane for itself.
func (s *Scenario) Disrupts() bool {
	return s.Settings.Restart != "none" || slices.ContainsFunc(s.acts(), Act.Disrupts)
}

// Kinds of Customers beside Kubernetes' own.
const (
	Bare   = "Bare"
	Mirror = "Mirror"
)

// Worker is the name of the n-th worker, from 1.
func Worker(n int) string { return fmt.Sprintf("worker-%d", n) }

// check finds what can not be meant. An error names the field.
func (s *Scenario) check() error {
	var errs []error
	field := func(name string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if s.Name == "" || s.Says == "" {
		errs = append(errs, errors.New("name and says are needed"))
	}
	for _, w := range s.Carrier.Full {
		field("carrier.full", s.checkWorker(w))
	}
	for w := range s.Carrier.Labels {
		field("carrier.labels", s.checkWorker(w))
	}
	if k := s.Carrier.Customers.Kind; !slices.Contains([]string{"Deployment", "StatefulSet", Bare, Mirror}, k) {
		field("carrier.customers.kind", fmt.Errorf("%q is none of Deployment, StatefulSet, %s, %s", k, Bare, Mirror))
	}
	for _, w := range slices.Concat(s.Carrier.Cramped, slices.Collect(maps.Keys(s.Carrier.Short))) {
		field("carrier.short or cramped", s.checkWorker(w))
	}
	field("only", s.checkOnly())
	for i, a := range s.Fault {
		field(fmt.Sprintf("fault[%d]", i), a.check(s))
	}
	steps := func(of string, steps []Step) {
		for i, t := range steps {
			field(fmt.Sprintf("%s[%d].do", of, i), t.Do.check(s))
			if t.When != nil {
				field(fmt.Sprintf("%s[%d].when", of, i), t.When.check(s))
			}
		}
	}
	steps("then", s.Then)
	for i, r := range s.Again {
		of := fmt.Sprintf("again[%d]", i)
		for _, a := range r.Do {
			field(of+".do", a.check(s))
		}
		steps(of+".then", r.Then)
		field(of+".expect", r.Expect.check())
	}
	for i, name := range s.Alerts {
		daemonSet, _ := AlertOf(name)
		field(fmt.Sprintf("alerts[%d]", i), s.checkDaemonSet(daemonSet))
		if _, ok := s.ExpectOthers[name]; ok == (i == 0) {
			field("expect_others", fmt.Errorf("wants one entry for each alert but the first; see %s", name))
		}
		field("expect of "+name, s.Expected(name).check())
	}
	for _, w := range s.Leaves.Replaced {
		field("leaves.replaced", s.checkWorker(w))
	}
	if d := s.Leaves.DaemonSet; d != Unchanged && d != Changed && d != Absent {
		field("leaves.daemonset", fmt.Errorf("%q is none of %s, %s, %s", d, Unchanged, Changed, Absent))
	}
	return errors.Join(errs...)
}

// checkOnly finds a scenario that only one runner can play and that does not say so, and one that says so without a reason.
func (s *Scenario) checkOnly() error {
	switch {
	case s.Only != nil && (s.Only.Because == "" || (s.Only.On != Simulator && s.Only.On != ControlPlane)):
		return fmt.Errorf("on must be %s or %s, and because is needed", Simulator, ControlPlane)
	case s.PlayedOn(ControlPlane) && (s.Carrier.SlowCollector != 0 || slices.ContainsFunc(s.acts(), func(a Act) bool { return a.Verb == LoseSight })):
		return fmt.Errorf("slow_collector and %s are the %s's", LoseSight, Simulator)
	case s.PlayedOn(Simulator) && s.By != ByTitle:
		return fmt.Errorf("by %s needs the server: on %s", s.By, ControlPlane)
	}
	return nil
}

func (e Expect) check() error {
	var errs []error
	if !e.Outcome.State().Ended() {
		errs = append(errs, fmt.Errorf("outcome %q is none of resolved, escalated, stood_down", e.Outcome))
	}
	if (e.EscalatedTo != "") != (e.Outcome == playbook.OutcomeEscalated) {
		errs = append(errs, errors.New("escalated_to belongs to the outcome escalated, and only to it"))
	}
	for _, f := range e.Findings {
		if !slices.Contains(playbook.Findings(), f) {
			errs = append(errs, fmt.Errorf("%q is no finding", f))
		}
	}
	for _, st := range e.Through {
		errs = append(errs, checkState(string(st)))
	}
	if e.Joined != nil {
		errs = append(errs, e.Joined.check())
	}
	return errors.Join(errs...)
}

func checkState(name string) error {
	if !slices.Contains(playbook.States(), playbook.State(name)) {
		return fmt.Errorf("%q is no state", name)
	}
	return nil
}

func (s *Scenario) checkWorker(name string) error {
	for n := range s.Carrier.Workers {
		if name == Worker(n+1) {
			return nil
		}
	}
	return fmt.Errorf("%q is no worker: there are worker-1 to worker-%d", name, s.Carrier.Workers)
}

func (s *Scenario) checkDaemonSet(name string) error {
	for _, d := range s.DaemonSets {
		if name == d.Name {
			return nil
		}
	}
	return fmt.Errorf("%q is not listed under daemonsets", name)
}
