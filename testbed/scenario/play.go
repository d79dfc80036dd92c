package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/playbook/playbooktest/scenariofile"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/fault"
)

// ourMarks begins every mark that Drydock leaves on objects of a carrier.
const ourMarks = "drydock.dev/"

// play is one scenario while it is played.
type play struct {
	*scenariofile.Scenario
	stage   *stage
	life    context.Context // of what must outlive a call: the stage's
	server  *server
	carrier *carrier
	runs    []alerted
	current alerted // whose run and incident people act on: the first one, or that of the latest round
	watched alerted
	disk    string // the disk-space incident
	admit   func(context.Context) error
	allow   func(context.Context) error
	stopped bool // the controller-manager
	before  string
	// What must be there at the end, by uid: the daemon pods at the alert, by worker, the first DaemonSet, customers' pods.
	pods      map[string]string
	set       string
	customers []string
}

// alerted is an alert that was raised: the name of its run, and its incident. The run's id is known when the run has ended, or
// at once for one that a person ordered.
type alerted struct{ name, daemonSet, key, incident, id string }

// Play plays a scenario on its control plane. The story tells what happened, for the message of a test that failed.
func (st *stage) play(ctx context.Context, s *scenariofile.Scenario) (seen scenariofile.Seen, story string, err error) {
	server, err := st.server(s)
	if err != nil {
		return seen, "", err
	}
	if s.Disrupts() && st.together == nil {
		st.turn.Lock()
		defer st.turn.Unlock()
	}
	p := &play{Scenario: s, stage: st, life: st.ctx, server: server, carrier: server.carriers[s.File], pods: map[string]string{}}
	all := ctx
	ctx, cancel := context.WithTimeout(all, patience) // its turn has come only now
	defer cancel()
	defer func() { err = errors.Join(err, p.restore(all)) }()
	if err := p.begin(ctx); err != nil {
		return seen, "", fmt.Errorf("set the scene: %w", err)
	}
	if err := p.follow(ctx); err != nil {
		return seen, p.story(all), err
	}
	if seen, err = p.seen(ctx); err != nil {
		return seen, p.story(ctx), err
	}
	story = p.story(ctx)
	watched, err := p.checkWatched(ctx)
	if err != nil {
		return seen, story, err
	}
	denied, err := p.denied(ctx)
	if err != nil {
		return seen, story, err
	}
	seen.Broken = append(append(seen.Broken, watched...), denied...)
	if err := p.restore(ctx); err != nil {
		return seen, story, err
	}
	return seen, story, p.carrier.clear(ctx)
}

// patience bounds one scenario, the start of what it shares with others included.
const patience = 4 * time.Minute

// restore gives back to the control plane what every scenario needs.
func (p *play) restore(ctx context.Context) error {
	if p.stopped {
		if err := p.carrier.cluster.StartComponent(controlplane.ControllerManager); err != nil {
			return err
		}
		p.stopped = false
	}
	if p.allow == nil {
		return nil
	}
	allow := p.allow
	p.allow = nil
	return allow(ctx)
}

// scenePatience bounds what comes before the alert. It takes some seconds, many times as long beside seven others.
const scenePatience = 90 * time.Second

// begin deploys, breaks, and raises the alerts.
func (p *play) begin(ctx context.Context) error {
	patience := scenePatience
	if p.stage.together != nil {
		patience *= 2 // the last to come sets the pace of all
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := p.carrier.deploy(ctx); err != nil {
		return err
	}
	var err error
	if p.before, err = p.manifest(ctx); err != nil {
		return err
	}
	for _, a := range p.Fault {
		if err := p.do(ctx, a); err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
	}
	if err := p.remember(ctx); err != nil {
		return err
	}
	// It comes first, and sees the carrier as it is before Drydock's first change.
	if p.watched, err = p.raise(p.carrier.watch.name, p.carrier.DaemonSets[0].Name, "watched"); err != nil {
		return err
	}
	// So does a diagnosis with its plan, which is a dry run, by the same way that lets no write pass.
	dryRun := "/api/v1/carriers/" + p.carrier.watch.name + "/daemonsets/" + p.carrier.Namespace + "/" + p.carrier.DaemonSets[0].Name + "/diagnosis"
	if err := p.server.call(ctx, http.MethodGet, dryRun, nil, nil); err != nil {
		return err
	}
	for _, name := range p.Alerts {
		a, err := p.alert(name, "first")
		if err != nil {
			return err
		}
		p.runs = append(p.runs, a)
	}
	p.current = p.runs[0]
	return nil
}

// remember keeps the uids of what must be there at the end.
func (p *play) remember(ctx context.Context) (err error) {
	for _, w := range p.carrier.workers() {
		if p.pods[w], err = p.podUID(ctx, w); err != nil {
			return err
		}
	}
	set, err := p.carrier.daemonSet(ctx, p.carrier.DaemonSets[0].Name)
	if err != nil {
		return err
	}
	if set != nil {
		p.set = string(set.UID)
	}
	pods, err := p.customersPods(ctx)
	for uid := range pods {
		p.customers = append(p.customers, uid)
	}
	return err
}

// customersPods are the uids of the customers' pods that are there.
func (p *play) customersPods(ctx context.Context) (map[string]bool, error) {
	list, err := p.carrier.client.CoreV1().Pods(scenariofile.CustomersNamespace).List(ctx, metav1.ListOptions{LabelSelector: scenarioLabel + "=" + p.File})
	if err != nil {
		return nil, fmt.Errorf("list customers' pods: %w", err)
	}
	uids := map[string]bool{}
	for _, pod := range list.Items {
		uids[string(pod.UID)] = true
	}
	return uids, nil
}

// podUID is the uid of the first DaemonSet's pod of a worker, empty when there is none.
func (p *play) podUID(ctx context.Context, worker string) (string, error) {
	set, err := p.carrier.daemonSet(ctx, p.carrier.DaemonSets[0].Name)
	if err != nil || set == nil {
		return "", err
	}
	pod, err := fault.DaemonPod(ctx, p.carrier.client, p.carrier.Namespace, set.Name, p.carrier.node(worker))
	if err != nil || pod == nil {
		return "", err
	}
	return string(pod.UID), nil
}

// follow plays the steps until all runs have ended, then the further rounds.
func (p *play) follow(ctx context.Context) error {
	if err := p.until(ctx, p.Then, p.runs); err != nil {
		return err
	}
	for i, round := range p.Again {
		for _, a := range round.Do {
			if err := p.do(ctx, a); err != nil {
				return fmt.Errorf("%s: %w", a, err)
			}
		}
		if err := p.again(ctx, i, round.Retrigger); err != nil {
			return err
		}
		p.runs = append(p.runs, p.current)
		if err := p.until(ctx, round.Then, p.runs[len(p.runs)-1:]); err != nil {
			return err
		}
	}
	watched := []alerted{p.watched}
	err := p.until(ctx, nil, watched)
	p.watched = watched[0]
	return err
}

// again begins the run of a round, by its index.
func (p *play) again(ctx context.Context, i int, retrigger bool) (err error) {
	if !retrigger {
		p.current, err = p.alert(p.Alerts[0], fmt.Sprintf("again-%d", i+1))
		p.current.name = p.RoundName(i)
		return err
	}
	var started run
	err = p.server.call(ctx, http.MethodPost, "/api/v1/runs/"+p.runs[len(p.runs)-1].id+"/retrigger", map[string]any{"reason": "a person wants it"}, &started)
	p.current.name, p.current.id = p.RoundName(i), started.ID
	return err
}

// until plays steps and waits until runs have ended, whose ids it keeps.
func (p *play) until(ctx context.Context, then []scenariofile.Step, runs []alerted) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	steps := make(chan error, len(then))
	for _, t := range then {
		go func() {
			if err := p.step(ctx, t); err != nil {
				steps <- fmt.Errorf("%s: %w", t.Do, err)
				return
			}
			steps <- nil
		}()
	}
	for range then {
		if err := <-steps; err != nil {
			return err
		}
	}
	for i := range runs {
		err := await.Until(ctx, "the run of "+runs[i].key+" to end", func(ctx context.Context) error {
			r, err := p.run(ctx, runs[i])
			if err == nil && r.Outcome == "" {
				err = fmt.Errorf("it is %s: %s", r.State, r.Why)
			}
			runs[i].id = r.ID
			return slowly(ctx, err)
		})
		if err != nil {
			return err
		}
		if runs[i].key == p.current.key {
			p.current.id = runs[i].id
		}
	}
	return nil
}

// slowly makes a check that asks Drydock rarer than await's: many scenarios ask at the same time.
func slowly(ctx context.Context, err error) error {
	if err != nil {
		timer := time.NewTimer(200 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return err
}

func (p *play) step(ctx context.Context, t scenariofile.Step) error {
	if t.When != nil {
		if err := await.Until(ctx, t.When.String(), func(ctx context.Context) error { return p.see(ctx, *t.When) }); err != nil {
			return err
		}
	}
	timer := time.NewTimer(time.Duration(t.After))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return p.do(ctx, t.Do)
}

var errNotYet = errors.New("not yet")

func (p *play) see(ctx context.Context, w scenariofile.Sight) error {
	switch w.Seen {
	case scenariofile.Cordoned:
		node, err := p.carrier.client.CoreV1().Nodes().Get(ctx, p.carrier.node(w.On), metav1.GetOptions{})
		if err == nil && node.Annotations[kube.CordonOwner] == "" {
			err = errNotYet
		}
		return err
	case scenariofile.Gone:
		set, err := p.carrier.daemonSet(ctx, w.On)
		if err == nil && set != nil {
			err = errNotYet
		}
		return err
	case scenariofile.InState:
		r, err := p.run(ctx, p.current)
		if err == nil && r.State != playbook.State(w.On) {
			err = errNotYet
			if r.Outcome != "" {
				err = await.Never(fmt.Errorf("the run has ended as %s: %s", r.Outcome, r.Why))
			}
		}
		return slowly(ctx, err)
	case scenariofile.Evicted:
		pods, err := fault.PodsOn(ctx, p.carrier.client, p.carrier.node(w.On))
		staying := 0
		for _, pod := range pods {
			if pod.Namespace == scenariofile.CustomersNamespace && pod.DeletionTimestamp == nil {
				staying++
			}
		}
		if err == nil && staying >= p.Carrier.PodLimit {
			err = errNotYet
		}
		return err
	case scenariofile.Restarts:
		return p.carrier.restarted(ctx)
	}
	return fmt.Errorf("%q can not be seen", w.Seen)
}

// run is a run as the API shows it.
type run struct {
	ID        string
	State     playbook.State
	Why       string
	Outcome   playbook.Outcome
	PlanHash  string `json:"plan_hash"`
	Incidents []struct{ ID string }
	Ticks     []struct {
		At      time.Time
		From    playbook.State
		To      playbook.State
		Finding playbook.Finding
		Why     string
	}
	Intents []struct {
		Lane       playbook.Lane
		Kind       playbook.Kind
		Target     struct{ Name string }
		Result     playbook.Result
		PromisedAt time.Time `json:"promised_at"`
		SettledAt  time.Time `json:"settled_at"`
	}
}

// run reads an alert's run, without its ticks.
func (p *play) run(ctx context.Context, a alerted) (run, error) {
	if a.id != "" {
		var r run
		return r, p.server.call(ctx, http.MethodGet, "/api/v1/runs/"+a.id, nil, &r)
	}
	var page struct{ Items []run }
	if err := p.server.call(ctx, http.MethodGet, "/api/v1/runs?limit=1&incident="+url.QueryEscape(a.incident), nil, &page); err != nil {
		return run{}, err
	}
	if len(page.Items) == 0 {
		return run{}, errors.New("there is no run of incident " + a.incident)
	}
	return page.Items[0], nil
}

// detail reads a run with what happened in it.
func (p *play) detail(ctx context.Context, a alerted) (run, error) {
	r, err := p.run(ctx, a)
	if err != nil {
		return r, err
	}
	return r, p.server.call(ctx, http.MethodGet, "/api/v1/runs/"+r.ID, nil, &r)
}
