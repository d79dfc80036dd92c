package api

import (
	"fmt"
	"html/template"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// words are the templates' functions.
var words = template.FuncMap{
	"rfc3339": func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) },
	"date":    func(t time.Time) string { return t.UTC().Format("2 Jan 15:04:05") + " UTC" },
	"clock":   func(t time.Time) string { return t.UTC().Format("15:04:05") + " UTC" },
	"span":    span,
	"plain":   func(s any) string { return plainWords(fmt.Sprint(s)) },
	"state":   newStateView,
	"verdict": newVerdictView,
	"short":   shortID,
	"many":    many,
}

// timeless is the modification time of what has none.
var timeless time.Time

// plainWords writes a name of the contract for people: waiting_for_disk becomes waiting for disk.
func plainWords(name string) string { return strings.ReplaceAll(name, "_", " ") }

// shortID is the end of an id, where ids that were made one after the other differ.
func shortID(id string) string { return id[max(0, len(id)-8):] }

// many counts things: 1 node, 2 nodes.
func many(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// span writes a duration in its two largest units.
func span(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/day, d%day/time.Hour)
}

// stateView is how a state looks: never by colour alone.
type stateView struct{ Class, Sign, Text string }

func newStateView(s playbook.State) stateView {
	v := stateView{"busy", "◐", plainWords(string(s))}
	switch s {
	case playbook.StateResolved:
		v.Class, v.Sign = "good", "✓"
	case playbook.StateEscalated:
		v.Class, v.Sign = "bad", "▲"
	case playbook.StateStoodDown:
		v.Class, v.Sign = "idle", "■"
	case playbook.AwaitingApproval:
		v.Class, v.Sign = "ask", "?"
	case playbook.Unwinding:
		v.Class, v.Sign = "warn", "↶"
	case playbook.Queued, playbook.WaitingForDisk:
		v.Class, v.Sign = "idle", "○"
	case playbook.Triage, playbook.Redeploying, playbook.RestartingController, playbook.Draining, playbook.Reapplying, playbook.Verifying:
	}
	return v
}

// resultView is how an intent's result looks.
func resultView(i playbook.Intent) stateView {
	switch i.Result {
	case playbook.Happened:
		return stateView{"good", "✓", "happened"}
	case playbook.NotHappened:
		return stateView{"idle", "–", "not happened"}
	case playbook.Superseded:
		return stateView{"idle", "↷", "superseded"}
	case playbook.Refused:
		return stateView{"bad", "✕", "refused"}
	}
	return stateView{"busy", "◐", "promised"}
}

// answerView is how the answer to a question looks.
func answerView(a playbook.Answer) stateView {
	switch a {
	case playbook.Yes:
		return stateView{"yes", "●", "yes"}
	case playbook.No:
		return stateView{"idle", "○", "no"}
	case playbook.AnswerUnknown:
	}
	return stateView{"warn", "?", "unknown"}
}

// summary says in one sentence how the run stands.
func summary(r playbook.Run, now time.Time) string {
	what := r.Target.DaemonSet + " on " + r.Target.Carrier
	took, done := span(endOf(r, now).Sub(r.StartedAt)), deeds(r)
	changed := done
	if changed == "" {
		changed = "changed nothing"
	}
	switch r.Outcome {
	case playbook.OutcomeResolved:
		if done == "" {
			return fmt.Sprintf("Drydock found %s healthy again without changing anything, watched it, and resolved the incident after %s.", what, took)
		}
		return fmt.Sprintf("Drydock repaired %s in %s and resolved the incident: it %s.", what, took, done)
	case playbook.OutcomeEscalated:
		return fmt.Sprintf("Drydock could not repair %s and handed the incident over after %s: it %s. A person must look.", what, took, changed)
	case playbook.OutcomeStoodDown:
		return fmt.Sprintf("Drydock stood down from %s after %s: it %s, and did not end the incident.", what, took, changed)
	}
	verb := map[playbook.State]string{
		playbook.Queued: "is about to look at", playbook.Triage: "is finding out what is wrong with", playbook.WaitingForDisk: "waits for disk space, for",
		playbook.Redeploying: "is deploying again", playbook.RestartingController: "is restarting the controller-manager, for",
		playbook.Draining: "is making room on a full node, for", playbook.Reapplying: "is creating again", playbook.Verifying: "is watching whether the repair holds, for",
		playbook.AwaitingApproval: "waits for a person's approval, for", playbook.Unwinding: "is putting back what it changed, for",
	}[r.State]
	if verb == "" {
		verb = "works on"
	}
	return fmt.Sprintf("Drydock %s %s, for %s now.", verb, what, took)
}

// deeds counts what the run changed on the carrier, in words; empty for nothing.
func deeds(r playbook.Run) string {
	count := map[playbook.Kind]int{}
	for _, i := range r.Intents {
		if i.Result == playbook.Happened {
			count[i.Action.Kind()]++
		}
	}
	var done []string
	for _, d := range []struct {
		kind      playbook.Kind
		one, many string
	}{
		{playbook.KindPromote, "promoted the deployed build again", "promoted the deployed build %d times"},
		{playbook.KindNudge, "nudged the controller", "nudged the controller %d times"},
		{playbook.KindRestart, "restarted the controller-manager", "restarted the controller-manager %d times"},
		{playbook.KindCordon, "cordoned a node", "cordoned %d nodes"},
		{playbook.KindEvict, "moved one pod away", "moved %d pods away"},
		{playbook.KindOrphanDelete, "deleted the DaemonSet without its pods", "deleted the DaemonSet without its pods %d times"},
		{playbook.KindCreate, "created it again", "created it again %d times"},
		{playbook.KindUncordon, "uncordoned the node", "uncordoned %d nodes"},
	} {
		switch n := count[d.kind]; n {
		case 0:
		case 1:
			done = append(done, d.one)
		default:
			done = append(done, fmt.Sprintf(d.many, n))
		}
	}
	return strings.Join(done, ", ")
}

// actionWords says what an action does.
func actionWords(a playbook.Action) string {
	ref := a.Target()
	name := ref.Name
	if ref.Namespace != "" {
		name = ref.Namespace + "/" + ref.Name
	}
	switch a := a.(type) {
	case playbook.Cordon:
		return "cordon node " + a.Node
	case playbook.Uncordon:
		return "uncordon node " + a.Node
	case playbook.Evict:
		return "evict pod " + name + " from " + a.Node
	case playbook.OrphanDelete:
		return "delete DaemonSet " + name + ", and keep its pods"
	case playbook.Create:
		return "create DaemonSet " + name + " again, from its backup"
	case playbook.Nudge:
		return "nudge DaemonSet " + name
	case playbook.RestartControllerManager:
		return "restart the controller-manager on " + a.Holder
	case playbook.Promote:
		return fmt.Sprintf("promote build %d (version %s) of %s to %s", a.Build, a.Version, a.Component, a.Carrier)
	case playbook.Annotate:
		if a.Note != "" {
			return "rewrite the note on incident " + a.Incident
		}
		return "write a note on incident " + a.Incident
	case playbook.Acknowledge:
		return "acknowledge incident " + a.Incident
	case playbook.Escalate:
		to := a.Team
		if to == "" {
			to = a.Policy
		}
		if to == "" {
			to = "the next level"
		}
		return "escalate incident " + a.Incident + " to " + to
	case playbook.Resolve:
		return "resolve incident " + a.Incident
	}
	return string(a.Kind()) + " " + ref.String()
}
