package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/playbook"
)

type noteView struct {
	At                     time.Time
	Incident, Text, Result string
	Final                  bool
}

type incidentNotes struct {
	Incident string
	Newest   noteView
	Earlier  []noteView
}

type questionView struct {
	Finding, Saw, Flip string
	Answer             stateView
	Decides            bool // this answer is the finding
}

type readingView struct {
	Name, Why, Text string
	Known           bool
}

type difference struct {
	Field, Before, After string
	Changed              bool
}

type manifestView struct {
	Lines   []difference
	Adopted string
	Waiting bool // the new object was not seen yet
}

// planView is what waits for an approval.
type planView struct {
	Hash  string
	Steps []string
	Own   bool // the reader asked for the run, so that another has to approve
}

type runPage struct {
	page
	Run                 runView
	Summary             string
	Progress, Limit     int // seconds since the start, and from there to the deadline
	Left                string
	Look                *playbook.StoredTick // whose nodes, questions and readings are shown
	LookView            tickView
	Latest              bool // that is the newest
	NodesLine           string
	Before, After       *nodeMap
	Troubled            []playbook.Verdict
	MoreTroubled        int
	Others              []playbook.Verdict
	OtherNodes          int
	Machine             machineView
	Chart               []chartLane
	Intents             []intentView
	Owed                []string
	Timeline            []timelineEntry
	Notes               []incidentNotes
	Questions           []questionView
	Flips               bool   // it is shown what would turn each answer around
	FlipsAt             string // the address that shows it
	Evidence            []playbook.Evidence
	NoEvidence          string
	Readings            []readingView
	Manifest            *manifestView
	Plan                *planView
	Acts                []AuditRecord
	Refusal             *refusal
	MayCancel, MayRetry bool
	CLI                 []string
}

// run shows one run, the summary first.
func (p *pages) run(c *gin.Context, base page) error { return p.showRun(c, base, http.StatusOK, nil) }

// showRun shows a run, with why an order about it was refused.
func (p *pages) showRun(c *gin.Context, base page, status int, refused *refusal) error {
	q := newQuery(c, "tick", "flips")
	tick, flips := q.text("tick"), q.text("flips") != ""
	if err := q.err(); err != nil {
		return err
	}
	r, err := p.server.readRun(c, c.Param("id"))
	if err != nil {
		return err
	}
	at, err := lookOf(r, tick)
	if err != nil {
		return err
	}
	now := p.server.Now()
	base.Here = "runs"
	if !r.State.Ended() {
		base.Stream = "/runs/" + url.PathEscape(r.ID) + streamSuffix
	}
	data := runPage{page: base, Run: newRunView(r.Run, now), Summary: summary(r.Run, now), Refusal: refused, Latest: at == len(r.Ticks)-1}
	data.Machine = newMachineView(r, now)
	data.Intents = newIntentViews(r.Run)
	data.Chart = newChart(r, data.Intents, now)
	data.Timeline = newTimeline(r, data.Intents, at)
	data.Notes = notesOf(r.Run)
	data.Manifest = manifestOf(r)
	data.deadline(r.Run, now)
	data.look(r, at, flips)
	for _, o := range r.Owed() {
		data.Owed = append(data.Owed, actionWords(o.Action))
	}
	data.orders(r)
	if acts, err := p.server.History.Audit(c.Request.Context(), AuditFilter{Run: r.ID, Limit: maxLimit}); err == nil {
		for _, e := range acts.Entries {
			if e.Who != drydockItself {
				data.Acts = append(data.Acts, e)
			}
		}
	}
	p.render(c, status, "run", data)
	return nil
}

// drydockItself is who the audit log names for what no person ordered.
const drydockItself = "drydock"

// lookOf is the index of the tick that the page is about: the newest, unless another is asked for.
func lookOf(r playbook.StoredRun, tick string) (int, error) {
	if tick == "" {
		return len(r.Ticks) - 1, nil
	}
	seq, err := strconv.Atoi(tick)
	at := slices.IndexFunc(r.Ticks, func(t playbook.StoredTick) bool { return t.Seq == seq })
	if err != nil || at < 0 {
		return 0, fieldErrors{{"tick", "is not the number of a look that is kept of this run"}}
	}
	return at, nil
}

func (d *runPage) deadline(r playbook.Run, now time.Time) {
	if r.State.Ended() || !r.Deadline.After(r.StartedAt) {
		return
	}
	d.Limit = int(r.Deadline.Sub(r.StartedAt) / time.Second)
	d.Progress = min(d.Limit, int(now.Sub(r.StartedAt)/time.Second))
	d.Left = span(r.Deadline.Sub(now))
}

// orders says what the reader may ask for.
func (d *runPage) orders(r playbook.StoredRun) {
	d.MayCancel = d.Operator() && !r.State.Ended()
	d.MayRetry = d.Operator() && r.State.Ended() && len(r.Incidents) > 0
	d.CLI = []string{"drydock diagnose " + r.Target.Carrier + " " + r.Target.DaemonSet + " -n " + r.Target.Namespace, "drydock runs get " + r.ID}
	if !r.State.Ended() {
		d.CLI = append(d.CLI, "drydock runs watch "+r.ID)
	}
	if r.State != playbook.AwaitingApproval || len(r.Ticks) == 0 {
		return
	}
	d.Plan = &planView{Hash: r.PlanHash, Own: r.RequestedBy != "" && r.RequestedBy == d.User}
	for _, a := range r.Ticks[len(r.Ticks)-1].Plan {
		d.Plan.Steps = append(d.Plan.Steps, actionWords(a))
	}
	if len(d.Plan.Steps) == 0 {
		d.Plan = nil
	}
}

// othersShown is how many nodes with nothing the matter are listed by name; the map has all of them.
const othersShown, troubledShown = 200, 200

// look fills in what is seen at a tick. What would turn the answers around takes a few dozen diagnoses, so it is found when it is asked
// for, and not each time that the page is fetched anew.
func (d *runPage) look(r playbook.StoredRun, at int, flips bool) {
	if at < 0 {
		return
	}
	t := &r.Ticks[at]
	d.Look, d.LookView = t, tickView{Seq: t.Seq, To: newStateView(t.To), Finding: plainWords(string(findingOf(t.Finding))), Why: t.Why}
	diagnosis := t.Diagnosis
	if len(diagnosis.Verdicts) > 0 || diagnosis.Expected > 0 {
		d.NodesLine = fmt.Sprintf("%d of %d expected nodes have a ready pod.", diagnosis.Expected-diagnosis.Missing, diagnosis.Expected)
	}
	d.maps(r, at)
	troubled, others := splitNodes(diagnosis.Verdicts)
	if len(troubled) > troubledShown {
		d.MoreTroubled, troubled = len(troubled)-troubledShown, troubled[:troubledShown]
	}
	d.Troubled, d.OtherNodes = troubled, len(others)
	if len(others) <= othersShown {
		d.Others = others
	}
	questions := diagnosis.Questions
	if d.Flips = flips; flips {
		questions = playbook.ExplainTick(r, at)
	}
	d.FlipsAt = fmt.Sprintf("/runs/%s?flips=1", url.PathEscape(r.ID))
	if !d.Latest {
		d.FlipsAt += fmt.Sprintf("&tick=%d", t.Seq)
	}
	found := false
	for _, q := range questions {
		v := questionView{Finding: plainWords(string(q.Finding)), Saw: q.Saw, Flip: q.Flip, Answer: answerView(q.Answer)}
		if q.Finding == t.Finding && !found {
			v.Decides, found = true, true
		}
		d.Questions = append(d.Questions, v)
	}
	for _, reading := range Readings(t.Observation) {
		if reading.Name == "evidence" || reading.Name == "healthy_nodes" && d.OtherNodes > othersShown {
			continue
		}
		v := readingView{Name: reading.Name, Known: reading.Known, Why: reading.Why}
		var b bytes.Buffer
		if json.Indent(&b, reading.Value, "", "  ") == nil {
			v.Text = b.String()
		}
		if len(v.Text) > readingShown {
			v.Text = clipText(v.Text, readingShown) + "\n… the rest is in the API's answer"
		}
		d.Readings = append(d.Readings, v)
	}
	d.evidence(r, at)
}

// readingShown bounds a reading on the page, in bytes.
const readingShown = 12 << 10

// clipText cuts a text without cutting a character.
func clipText(s string, n int) string {
	for n > 0 && n < len(s) && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:min(n, len(s))]
}

// maps draws the nodes as they were found first, and as they are at the tick.
func (d *runPage) maps(r playbook.StoredRun, at int) {
	first := slices.IndexFunc(r.Ticks, func(t playbook.StoredTick) bool { return len(t.Diagnosis.Verdicts) > 0 })
	if first < 0 || len(r.Ticks[at].Diagnosis.Verdicts) == 0 {
		return
	}
	first = min(first, at)
	was, wasCordoned := nodesOf(r.Ticks[first], r.ID)
	is, isCordoned := nodesOf(r.Ticks[at], r.ID)
	names := sortedNodes(r.Ticks[first].Diagnosis.Verdicts, r.Ticks[at].Diagnosis.Verdicts)
	after := newNodeMap(d.titleOf(r), names, is, isCordoned)
	d.After = &after
	if first != at {
		before := newNodeMap("As it was found", names, was, wasCordoned)
		d.Before = &before
	}
}

func (d *runPage) titleOf(r playbook.StoredRun) string {
	switch {
	case !d.Latest:
		return "At look " + strconv.Itoa(d.LookView.Seq)
	case r.State.Ended():
		return "At the end"
	}
	return "Now"
}

// evidence is what was collected at the tick, or last before it.
func (d *runPage) evidence(r playbook.StoredRun, at int) {
	for i := at; i >= 0; i-- {
		reading := r.Ticks[i].Observation.Evidence
		if pieces, ok := reading.Get(); ok {
			d.Evidence = pieces
			return
		}
		if reading.IsUnknown() && d.NoEvidence == "" {
			d.NoEvidence = reading.Why()
		}
	}
}

// splitNodes puts first the nodes with something the matter.
func splitNodes(all []playbook.Verdict) (troubled, others []playbook.Verdict) {
	for _, v := range all {
		if v.Verdict == playbook.VerdictCovered || v.Verdict == playbook.VerdictExcluded {
			others = append(others, v)
		} else {
			troubled = append(troubled, v)
		}
	}
	return troubled, others
}

// notesOf lists the notes by incident, as PagerDuty shows them: of one that is rewritten, the newest text.
func notesOf(r playbook.Run) []incidentNotes {
	var all []incidentNotes
	for _, i := range r.Intents {
		a, ok := i.Action.(playbook.Annotate)
		if !ok {
			continue
		}
		note := noteView{At: i.PromisedAt, Incident: a.Incident, Text: a.Text, Result: resultView(i).Text, Final: a.Final}
		at := slices.IndexFunc(all, func(n incidentNotes) bool { return n.Incident == a.Incident })
		if at < 0 {
			all = append(all, incidentNotes{Incident: a.Incident, Newest: note})
			continue
		}
		all[at].Earlier = append([]noteView{all[at].Newest}, all[at].Earlier...)
		all[at].Newest = note
	}
	return all
}

// manifestOf compares a DaemonSet before and after it was deleted and created again: what was read of both. The manifests themselves
// may hold secrets and are not shown; that nothing of them changed is what the hash of spec, labels and annotations says.
func manifestOf(r playbook.StoredRun) *manifestView {
	at := slices.IndexFunc(r.Intents, func(i playbook.Intent) bool { return i.Action.Kind() == playbook.KindOrphanDelete })
	if at < 0 {
		return nil
	}
	gone, ok := r.Intents[at].Action.(playbook.OrphanDelete)
	if !ok {
		return nil
	}
	var before, after playbook.DaemonSet
	for _, t := range r.Ticks {
		ds, ok := t.Observation.DaemonSet.Get()
		switch {
		case !ok || !ds.Exists:
		case ds.UID == gone.UID:
			before = ds
		case before.UID != "":
			after = ds
		}
	}
	v := &manifestView{Adopted: r.Memory.Adopted, Waiting: after.UID == ""}
	time3339 := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339)
	}
	add := func(field, was, is string) {
		if v.Waiting {
			is = ""
		}
		if was != "" || is != "" {
			v.Lines = append(v.Lines, difference{field, was, is, !v.Waiting && was != is})
		}
	}
	add("metadata.uid", before.UID, after.UID)
	add("metadata.creationTimestamp", time3339(before.CreatedAt), time3339(after.CreatedAt))
	add("metadata.generation", fmt.Sprint(before.Generation), fmt.Sprint(after.Generation))
	add("spec, labels and annotations (hash)", before.SpecHash, after.SpecHash)
	add("nodes it is for", before.SelectorSummary, after.SelectorSummary)
	add("priority class", before.PriorityClass, after.PriorityClass)
	add("status.desiredNumberScheduled", fmt.Sprint(before.Desired), fmt.Sprint(after.Desired))
	add("status.numberReady", fmt.Sprint(before.Ready), fmt.Sprint(after.Ready))
	return v
}
