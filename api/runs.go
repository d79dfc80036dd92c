package api

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/playbook"
)

// runJSON is a run as lists show it; runDetailJSON adds what happened in it. The contract fixes both.
type runJSON struct {
	ID              string            `json:"id"`
	Carrier         string            `json:"carrier"`
	Namespace       string            `json:"namespace"`
	DaemonSet       string            `json:"daemonset"`
	Incidents       []runIncidentJSON `json:"incidents"`
	Trigger         playbook.Trigger  `json:"trigger"`
	RetriggeredFrom *string           `json:"retriggered_from"`
	Mode            playbook.Mode     `json:"mode"`
	State           playbook.State    `json:"state"`
	Finding         playbook.Finding  `json:"finding"`
	Confirmed       bool              `json:"confirmed"`
	Why             string            `json:"why"`
	Outcome         *playbook.Outcome `json:"outcome"`
	StartedAt       time.Time         `json:"started_at"`
	FinishedAt      *time.Time        `json:"finished_at"`
	Deadline        *time.Time        `json:"deadline"`
	PlanHash        *string           `json:"plan_hash"`
}

type runDetailJSON struct {
	runJSON
	Ticks    []tickJSON   `json:"ticks"`
	Intents  []intentJSON `json:"intents"`
	Notes    []noteJSON   `json:"notes"`
	Readings []Reading    `json:"readings"`
}

type runIncidentJSON struct {
	ID     string            `json:"id"`
	Number int               `json:"number"`
	Title  string            `json:"title"`
	URL    string            `json:"url"`
	End    *playbook.Outcome `json:"end"`
}

type tickJSON struct {
	Seq     int              `json:"seq"`
	At      time.Time        `json:"at"`
	From    playbook.State   `json:"from"`
	To      playbook.State   `json:"to"`
	Finding playbook.Finding `json:"finding"`
	Why     string           `json:"why"`
}

type intentJSON struct {
	Seq        int              `json:"seq"`
	Lane       playbook.Lane    `json:"lane"`
	Kind       playbook.Kind    `json:"kind"`
	Target     objectJSON       `json:"target"`
	PromisedAt time.Time        `json:"promised_at"`
	SettledAt  *time.Time       `json:"settled_at"`
	Undoes     *int             `json:"undoes"`
	Result     *playbook.Result `json:"result"`
}

type objectJSON struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// noteJSON is a note that Drydock wrote on an incident, or was about to: Result is its intent's.
type noteJSON struct {
	Incident string           `json:"incident"`
	At       time.Time        `json:"at"`
	Text     string           `json:"text"`
	Result   *playbook.Result `json:"result"`
}

// Reading is one thing that a look read, or could not read.
type Reading struct {
	Name  string          `json:"name"`
	Known bool            `json:"known"`
	Why   string          `json:"why,omitempty"` // why it is not known
	Value json.RawMessage `json:"value,omitempty"`
}

// notLookedYet stands for the finding of a run that has not had a tick: nothing was read, so nothing is known.
const notLookedYet = "no look was taken yet"

func findingOf(f playbook.Finding) playbook.Finding {
	if f == "" {
		return playbook.FindingUnknown
	}
	return f
}

func newRunJSON(r playbook.Run) runJSON {
	j := runJSON{
		ID: r.ID, Carrier: r.Target.Carrier, Namespace: r.Target.Namespace, DaemonSet: r.Target.DaemonSet,
		Incidents: make([]runIncidentJSON, 0, len(r.Incidents)), Trigger: r.Trigger, RetriggeredFrom: orNull(r.RetriggeredFrom),
		Mode: r.Mode, State: r.State, Finding: findingOf(r.Finding), Confirmed: r.Confirmed, Why: r.Why, Outcome: orNull(r.Outcome),
		StartedAt: stamp(r.StartedAt), FinishedAt: stampOrNull(r.FinishedAt), Deadline: stampOrNull(r.Deadline),
		PlanHash: orNull(r.PlanHash),
	}
	if r.Finding == "" && r.Why == "" {
		j.Why = notLookedYet
	}
	for _, i := range r.Incidents {
		j.Incidents = append(j.Incidents, runIncidentJSON{ID: i.ID, Number: i.Number, Title: i.Title, URL: i.URL, End: orNull(i.End)})
	}
	return j
}

func newRunDetailJSON(r playbook.StoredRun) runDetailJSON {
	j := runDetailJSON{
		runJSON: newRunJSON(r.Run), Ticks: make([]tickJSON, 0, len(r.Ticks)), Intents: make([]intentJSON, 0, len(r.Intents)),
		Notes: []noteJSON{}, Readings: []Reading{},
	}
	for _, t := range r.Ticks {
		j.Ticks = append(j.Ticks, newTickJSON(t))
	}
	for _, i := range r.Intents {
		j.Intents = append(j.Intents, newIntentJSON(i))
		if note, ok := i.Action.(playbook.Annotate); ok {
			j.Notes = append(j.Notes, noteJSON{Incident: note.Incident, At: stamp(i.PromisedAt), Text: note.Text, Result: orNull(i.Result)})
		}
	}
	if n := len(r.Ticks); n > 0 {
		j.Readings = Readings(r.Ticks[n-1].Observation)
	}
	return j
}

func newTickJSON(t playbook.StoredTick) tickJSON {
	return tickJSON{Seq: t.Seq, At: stamp(t.At), From: t.From, To: t.To, Finding: findingOf(t.Finding), Why: t.Why}
}

func newIntentJSON(i playbook.Intent) intentJSON {
	target := i.Action.Target()
	j := intentJSON{
		Seq: i.Seq, Lane: i.Lane, Kind: i.Action.Kind(),
		Target:     objectJSON{Kind: target.Kind, Namespace: target.Namespace, Name: target.Name, UID: target.UID},
		PromisedAt: stamp(i.PromisedAt), SettledAt: stampOrNull(i.SettledAt), Result: orNull(i.Result),
	}
	if i.Undoes != 0 {
		j.Undoes = &i.Undoes
	}
	return j
}

// Readings lists what a look read, in the order of the observation's own fields; what was not asked for is left out.
func Readings(o playbook.Observation) []Reading {
	out := []Reading{}
	add := func(name string, r interface {
		Asked() bool
		IsKnown() bool
		Why() string
	}, value any,
	) {
		if !r.Asked() {
			return
		}
		reading := Reading{Name: name, Known: r.IsKnown(), Why: r.Why()}
		if reading.Known {
			b, err := json.Marshal(value)
			if err != nil {
				reading.Known, reading.Why = false, "it can not be shown"
			} else {
				reading.Value = b
			}
		}
		out = append(out, reading)
	}
	add("daemonset", o.DaemonSet, value(o.DaemonSet))
	add("namespace", o.Namespace, value(o.Namespace))
	add("nodes", o.Nodes, value(o.Nodes))
	if o.Nodes.IsKnown() {
		// A stored look names the healthy nodes only; without them "nodes" would read as if there were no others.
		add("healthy_nodes", o.Nodes, append([]string{}, o.Covered...))
	}
	add("controller", o.Controller, newControllerJSON(value(o.Controller)))
	for _, node := range sorted(o.NodePods) {
		add("node_pods/"+node, o.NodePods[node], value(o.NodePods[node]))
	}
	add("events", o.Events, value(o.Events))
	add("reapply", o.Reapply, value(o.Reapply))
	add("adoption", o.Adoption, value(o.Adoption))
	add("evidence", o.Evidence, value(o.Evidence))
	for _, id := range sorted(o.Incidents) {
		add("incident/"+id, o.Incidents[id], value(o.Incidents[id]))
	}
	add("disk_incidents", o.DiskIncidents, value(o.DiskIncidents))
	add("promotion", o.Promotion, value(o.Promotion))
	return out
}

// controllerJSON is playbook.Controller with a duration that says its unit.
type controllerJSON struct {
	Holder    string    `json:"holder"`
	RenewedAt time.Time `json:"renewed_at"`
	Duration  string    `json:"duration"`
}

func newControllerJSON(c playbook.Controller) controllerJSON {
	return controllerJSON{Holder: c.Holder, RenewedAt: stamp(c.RenewedAt), Duration: c.Duration.String()}
}

func value[T any](r playbook.Reading[T]) T {
	v, _ := r.Get()
	return v
}

// runs lists runs, newest first.
func (s *Server) runs(c *gin.Context) error {
	q := newQuery(c, "carrier", "daemonset", "namespace", "state", "finding", "outcome", "incident", "trigger", "since", "until",
		"limit", "cursor")
	f := playbook.RunFilter{
		Carrier: q.text("carrier"), DaemonSet: q.text("daemonset"), Namespace: q.text("namespace"),
		State: oneOf(q, "state", playbook.States()), Finding: oneOf(q, "finding", playbook.Findings()),
		Outcome:  oneOf(q, "outcome", []playbook.Outcome{playbook.OutcomeResolved, playbook.OutcomeEscalated, playbook.OutcomeStoodDown}),
		Incident: q.text("incident"),
		Trigger:  oneOf(q, "trigger", []playbook.Trigger{playbook.TriggerWebhook, playbook.TriggerReconcile, playbook.TriggerRetrigger}),
		Since:    q.time("since"), Until: q.time("until"), Limit: q.limit(), Cursor: q.text("cursor"),
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && f.Until.Before(f.Since) {
		q.add("until", "lies before since")
	}
	if err := q.err(); err != nil {
		return err
	}
	var err error
	if f.Carriers, err = narrowed(c, f.Carrier); err != nil {
		return err
	}
	page, err := s.History.Runs(c.Request.Context(), f)
	if err != nil {
		return cursorField(err)
	}
	items := make([]runJSON, 0, len(page.Runs))
	for _, r := range page.Runs {
		items = append(items, newRunJSON(r))
	}
	c.JSON(http.StatusOK, gin.H{"items": items, "next_cursor": orNull(page.Next)})
	return nil
}

// run shows one run, unless it is as the caller knows it.
func (s *Server) run(c *gin.Context) error {
	if err := newQuery(c).err(); err != nil {
		return err
	}
	r, err := s.readRun(c, c.Param("id"))
	if err != nil {
		return err
	}
	body, err := json.Marshal(newRunDetailJSON(r))
	if err != nil {
		return fmt.Errorf("encode run %s: %w", r.ID, err)
	}
	// Of the answer itself: nothing that it shows can change without it.
	etag := fmt.Sprintf(`W/"%x"`, sha256.Sum256(body))
	c.Header("ETag", etag)
	if matches(c.Request.Header.Values("If-None-Match"), etag) {
		c.Status(http.StatusNotModified)
		return nil
	}
	c.Data(http.StatusOK, gin.MIMEJSON, body)
	return nil
}

// matches reports whether an If-None-Match names a tag; weak and strong are compared alike (RFC 9110, 13.1.2).
func matches(headers []string, etag string) bool {
	etag = strings.TrimPrefix(etag, "W/")
	for tag := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}

// explain shows the questions of a run's newest tick, in their order, and what would turn each answer.
func (s *Server) explain(c *gin.Context) error {
	if err := newQuery(c).err(); err != nil {
		return err
	}
	r, err := s.readRun(c, c.Param("id"))
	if err != nil {
		return err
	}
	questions := []playbook.Question{}
	if n := len(r.Ticks); n > 0 {
		questions = append(questions, playbook.ExplainTick(r, n-1)...)
	}
	c.JSON(http.StatusOK, gin.H{"items": questions})
	return nil
}
