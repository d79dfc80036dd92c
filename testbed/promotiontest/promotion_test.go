package promotiontest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/promotion"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/flags"
	"github.com/drydock/drydock/testbed/jenkins"
	"github.com/drydock/drydock/testbed/standin"
)

const (
	carrier   = "prod-dal10-carrier3"
	component = "armada-ops"
	job       = "Armada-Microservices/armada-ops"
)

type world struct {
	flags    *flags.Server
	jenkins  *jenkins.Server
	promoter *promotion.Promoter
	deployed chan jenkins.Build
}

func start(t *testing.T, user jenkins.User) *world {
	t.Helper()
	w := &world{flags: flags.New(flags.Options{Token: "flags-token"}), deployed: make(chan jenkins.Build, 10)}
	w.jenkins = jenkins.New(jenkins.Options{Users: []jenkins.User{user}, QueueDelay: 100 * time.Millisecond,
		Apply: func(_ context.Context, _, _ string, b jenkins.Build) error { w.deployed <- b; return nil }})
	flagsURL, err := w.flags.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.flags.Close)
	jenkinsURL, err := w.jenkins.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.jenkins.Close)
	w.jenkins.AddJob(job, jenkins.Process{Name: carrier}, jenkins.Process{Name: "prod-dal12-carrier2"})
	for _, version := range []string{"2.40.0", "2.41.0", "2.42.0"} {
		if _, err := w.jenkins.AddBuild(job, jenkins.Build{DisplayName: version}); err != nil {
			t.Fatal(err)
		}
	}
	w.flags.Set(carrier, component, "2.41.0")
	source, err := promotion.NewHTTPSource(flagsURL+"/flags/{carrier}/{component}", "$.variations['{carrier}'].version", "flags-token", nil)
	if err != nil {
		t.Fatal(err)
	}
	ci, err := promotion.NewJenkins(promotion.JenkinsConfig{URL: jenkinsURL, Job: job, User: "drydock", Token: "jenkins-token"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.promoter = promotion.New(map[string]promotion.Component{component: {Source: source, Jenkins: ci}})
	return w
}

func drydock() jenkins.User {
	return jenkins.User{Name: "drydock", Token: "jenkins-token", MayPromote: true}
}

func (w *world) read(t *testing.T) playbook.Promotion {
	t.Helper()
	r := w.promoter.Promotion(t.Context(), carrier, component)
	p, ok := r.Get()
	if !ok {
		t.Fatalf("the promotion is not known: %s", r.Why())
	}
	return p
}

func ask(p playbook.Promotion) playbook.Promote {
	a := playbook.Promote{Component: component, Carrier: carrier, Version: p.Version, Build: p.Build}
	for _, attempt := range p.Attempts {
		a.Before = attempt.Number
	}
	return a
}

func (w *world) waitForAttempt(t *testing.T, result string) playbook.Attempt {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var last playbook.Attempt
	err := await.Until(ctx, "an attempt that ended as "+result, func(context.Context) error {
		attempts := w.read(t).Attempts
		if len(attempts) == 0 || attempts[len(attempts)-1].Result != result {
			return errors.New("not yet")
		}
		last = attempts[len(attempts)-1]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return last
}

func TestDeployedVersionIsPromotedAgain(t *testing.T) {
	t.Parallel()
	w := start(t, drydock())
	p := w.read(t)
	if p.Version != "2.41.0" || p.Build != 2 || len(p.Attempts) != 0 {
		t.Fatalf("promotion = %+v", p)
	}
	a := ask(p)
	s, err := w.promoter.Do(t.Context(), playbook.Call{Run: "run-1", Action: a})
	if err != nil || s.Result != playbook.Happened {
		t.Fatalf("settlement = %+v, %v", s, err)
	}
	if last := w.waitForAttempt(t, "SUCCESS"); last.Number != 1 || last.URL == "" || last.Building {
		t.Errorf("attempt = %+v", last)
	}
	if b := <-w.deployed; b.DisplayName != "2.41.0" {
		t.Errorf("build %s was deployed", b.DisplayName)
	}
	// The same call again, by a worker that knows no better: an attempt is there already.
	if s, err = w.promoter.Do(t.Context(), playbook.Call{Run: "run-1", Action: a}); err != nil || s.Result != playbook.Superseded {
		t.Errorf("settlement = %+v, %v", s, err)
	}
	if got := len(w.jenkins.Attempts()); got != 1 {
		t.Errorf("%d attempts, want 1", got)
	}
}

func TestLostAnswerIsRecoveredByTheNewAttempt(t *testing.T) {
	t.Parallel()
	w := start(t, drydock())
	a := ask(w.read(t))
	w.jenkins.Faults.Inject(standin.Fault{Method: "POST", AfterEffect: true, Reset: true, Times: 1})
	if s, err := w.promoter.Do(t.Context(), playbook.Call{Run: "run-1", Action: a}); err == nil {
		t.Fatalf("a lost answer was taken for %+v", s)
	}
	w.waitForAttempt(t, "SUCCESS")
	s, err := w.promoter.Recover(t.Context(), playbook.Intent{Action: a})
	if err != nil || s.Result != playbook.Happened || s.Receipt == "" {
		t.Errorf("settlement = %+v, %v", s, err)
	}
	if got := len(w.jenkins.Attempts()); got != 1 {
		t.Errorf("%d attempts, want 1", got)
	}
}

func TestNothingStartedIsNotHappened(t *testing.T) {
	t.Parallel()
	w := start(t, drydock())
	a := ask(w.read(t))
	w.jenkins.Faults.Inject(jenkins.ServerError("POST", "", 1))
	if s, err := w.promoter.Do(t.Context(), playbook.Call{Run: "run-1", Action: a}); err == nil {
		t.Fatalf("a server error was taken for %+v", s)
	}
	s, err := w.promoter.Recover(t.Context(), playbook.Intent{Action: a})
	if err != nil || s.Result != playbook.NotHappened {
		t.Errorf("settlement = %+v, %v", s, err)
	}
	if got := len(w.jenkins.Attempts()); got != 0 {
		t.Errorf("%d attempts, want none", got)
	}
}

func TestWithoutTheRightItIsRefused(t *testing.T) {
	t.Parallel()
	w := start(t, jenkins.User{Name: "drydock", Token: "jenkins-token"})
	s, err := w.promoter.Do(t.Context(), playbook.Call{Run: "run-1", Action: ask(w.read(t))})
	if err != nil || s.Result != playbook.Refused {
		t.Errorf("settlement = %+v, %v", s, err)
	}
}

func TestNoVersionIsAnAnswerAndAFailureIsNot(t *testing.T) {
	t.Parallel()
	w := start(t, drydock())
	w.flags.Set(carrier, component, "")
	if p := w.read(t); p.Version != "" {
		t.Errorf("promotion = %+v", p)
	}
	w.flags.Delete(carrier, component)
	if p := w.read(t); p.Version != "" {
		t.Errorf("promotion = %+v", p)
	}
	w.flags.Faults.Inject(standin.Fault{Status: 500, Times: 1})
	if r := w.promoter.Promotion(t.Context(), carrier, component); !r.IsUnknown() || !strings.Contains(r.Why(), "HTTP 500") {
		t.Errorf("a server error: known %t, %q", r.IsKnown(), r.Why())
	}
	w.flags.Set(carrier, component, "2.41.0")
	w.jenkins.Faults.Inject(standin.Fault{Status: 503, Times: 1})
	if r := w.promoter.Promotion(t.Context(), carrier, component); !r.IsUnknown() {
		t.Errorf("Jenkins is down: known %t", r.IsKnown())
	}
}
