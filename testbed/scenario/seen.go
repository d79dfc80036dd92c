package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/playbook/playbooktest/scenariofile"
)

// seen reports how the scenario ended.
func (p *play) seen(ctx context.Context) (scenariofile.Seen, error) {
	seen := scenariofile.Seen{Runs: map[string]scenariofile.Run{}}
	for _, a := range p.runs {
		r, err := p.server.store.Run(ctx, a.id)
		if err != nil {
			return seen, err
		}
		ticks := make([]playbook.Tick, 0, len(r.Ticks))
		for _, t := range r.Ticks {
			ticks = append(ticks, t.Tick)
		}
		out := scenariofile.RunOf(r.Run, ticks)
		for _, i := range r.Incidents {
			in, err := p.incident(i.ID)
			if err != nil {
				return seen, err
			}
			in.End = i.End
			out.Incidents = append(out.Incidents, in)
		}
		seen.Runs[a.name] = out
	}
	var err error
	seen.Left, err = p.left(ctx)
	return seen, err
}

func (p *play) incident(id string) (scenariofile.Incident, error) {
	in, err := p.server.pager.Incident(id)
	if err != nil {
		return scenariofile.Incident{}, fmt.Errorf("read incident %s: %w", id, err)
	}
	out := scenariofile.Incident{ID: id, Status: playbook.IncidentStatus(in.Status)}
	if in.PolicyID != defaultPolicy {
		out.Escalated = []string{in.PolicyID}
	}
	var notes []string
	for _, n := range in.Notes {
		if n.UserID != p.server.person && n.UserID != p.server.approver {
			notes = append(notes, n.Content)
		}
	}
	out.Notes, out.Count = strings.Join(notes, "\n"), len(notes)
	return out, nil
}

func (p *play) left(ctx context.Context) (scenariofile.Left, error) {
	l := scenariofile.Left{DaemonSet: scenariofile.Unchanged}
	nodes, err := p.carrier.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: scenarioLabel + "=" + p.File})
	if err != nil {
		return l, fmt.Errorf("list nodes: %w", err)
	}
	for _, n := range nodes.Items {
		name := strings.TrimPrefix(n.Name, p.File+"-")
		if n.Spec.Unschedulable {
			l.Cordoned = append(l.Cordoned, name)
		}
		if n.Annotations[kube.CordonOwner] != "" {
			l.Marked = append(l.Marked, name)
		}
	}
	pods, err := p.carrier.client.CoreV1().Pods(p.carrier.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return l, fmt.Errorf("list pods: %w", err)
	}
	alive := map[string]bool{}
	for _, pod := range pods.Items {
		alive[string(pod.UID)] = true
	}
	for _, w := range p.carrier.workers() {
		if uid := p.pods[w]; uid != "" && !alive[uid] {
			l.Lost = append(l.Lost, w)
		}
	}
	there, err := p.customersPods(ctx)
	if err != nil {
		return l, err
	}
	for _, uid := range p.customers {
		if !there[uid] {
			l.Moved++
		}
	}
	set, err := p.carrier.daemonSet(ctx, p.carrier.DaemonSets[0].Name)
	if err != nil {
		return l, err
	}
	l.Recreated = set != nil && p.set != "" && string(set.UID) != p.set
	after, err := p.manifest(ctx)
	switch {
	case err != nil:
		return l, err
	case after == "":
		l.DaemonSet = scenariofile.Absent
	case after != p.before && p.before != "":
		l.DaemonSet = scenariofile.Changed
	}
	return l, nil
}

// manifest is what people and tools own of the first DaemonSet, as text; empty when it is not there.
func (p *play) manifest(ctx context.Context) (string, error) {
	set, err := p.carrier.daemonSet(ctx, p.carrier.DaemonSets[0].Name)
	if err != nil || set == nil {
		return "", err
	}
	annotations := map[string]string{}
	for k, v := range set.Annotations {
		if !strings.HasPrefix(k, ourMarks) {
			annotations[k] = v
		}
	}
	text, err := json.Marshal(map[string]any{"spec": set.Spec, "labels": set.Labels, "annotations": annotations})
	if err != nil {
		return "", fmt.Errorf("encode DaemonSet %s: %w", set.Name, err)
	}
	return string(text), nil
}

// checkWatched says what the carrier in mode observe did that it must not: anything but notes on its incident.
func (p *play) checkWatched(ctx context.Context) (problems []string, err error) {
	r, err := p.server.store.Run(ctx, p.watched.id)
	if err != nil {
		return nil, err
	}
	if r.Outcome != playbook.OutcomeStoodDown {
		problems = append(problems, fmt.Sprintf("mode observe: ended as %s: %s", r.Outcome, r.Why))
	}
	for _, i := range r.Intents {
		if i.Action.Kind() != playbook.KindAnnotate {
			problems = append(problems, fmt.Sprintf("mode observe: promised to %s %s", i.Action.Kind(), i.Action.Target()))
		}
	}
	in, err := p.incident(p.watched.incident)
	if err != nil {
		return nil, err
	}
	if in.Status != playbook.Triggered || in.Escalated != nil || in.Notes == "" {
		problems = append(problems, fmt.Sprintf("mode observe: its incident is %s, escalated to %v, with the notes %q", in.Status, in.Escalated, in.Notes))
	}
	reads, _, refused := p.carrier.watch.seen()
	if reads == 0 {
		problems = append(problems, "mode observe: it read nothing of the carrier")
	}
	for _, call := range refused {
		problems = append(problems, "mode observe: write to the carrier: "+call)
	}
	for _, a := range p.carrier.jenkins.AttemptsOn(component, p.carrier.watch.name) {
		problems = append(problems, fmt.Sprintf("mode observe: promotion %+v", a))
	}
	for _, call := range p.carrier.jenkins.Requests() {
		if call.Method != http.MethodGet && strings.Contains(call.Path+call.Query+call.Body, p.carrier.watch.name) {
			problems = append(problems, "mode observe: call to Jenkins: "+call.Method+" "+call.Path)
		}
	}
	return problems, nil
}

// story tells what happened, as far as it can still be read.
func (p *play) story(ctx context.Context) string {
	var b strings.Builder
	for _, a := range p.runs {
		r, err := p.detail(ctx, a)
		if err != nil {
			fmt.Fprintf(&b, "run of %s: %v\n", a.daemonSet, err)
			continue
		}
		fmt.Fprintf(&b, "run %s of %s: %s %s\n", r.ID, a.daemonSet, r.State, r.Why)
		for _, t := range r.Ticks {
			fmt.Fprintf(&b, "  %s %s -> %s: %s: %s\n", t.At.Format(time.TimeOnly), t.From, t.To, t.Finding, t.Why)
		}
		for _, i := range r.Intents {
			fmt.Fprintf(&b, "  %s %s %s promised %s settled %s: %s\n", i.Lane, i.Kind, i.Target.Name,
				i.PromisedAt.Format(time.TimeOnly), i.SettledAt.Format(time.TimeOnly), i.Result)
		}
	}
	return b.String()
}
