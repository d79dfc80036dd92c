package store

import (
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/drydock/drydock/playbook"
)

// desk is where a batch of events is sorted: what the database knows about their incidents and targets, what is decided, and
// what is to be written. It is worked through in order, so that two events of one batch meet as if they had come apart.
type desk struct {
	now time.Time // the database's clock

	stored map[string]playbook.EventRecord // events that came before, by stored's keys
	links  map[string]link                 // the newest run of each incident
	open   map[string]*openRun             // by run
	active map[string]*openRun             // the running run of a target
	queued map[string]*openRun             // the one that waits behind it

	events    []newEvent
	runs      []playbook.Start
	incidents []newIncident
	lookUps   []string
	quiet     bool // a known incident wakes nothing: it was only listed, nothing happened to it
}

// link is an incident's newest run.
type link struct {
	incident string
	run      string
	ended    bool // the run has, or the incident in it
	endedAt  time.Time
}

// openRun is a run that has not ended.
type openRun struct {
	id, target    string
	state         playbook.State
	tickSeq       int64
	fresh         bool // made on this desk
	joined, woken bool
}

type newEvent struct {
	arrival
	outcome playbook.EventOutcome
	reason  string
	run     string
	lookUp  bool
}

type newIncident struct {
	run string
	playbook.RunIncident
}

func newDesk() *desk {
	return &desk{stored: map[string]playbook.EventRecord{}, links: map[string]link{}, open: map[string]*openRun{},
		active: map[string]*openRun{}, queued: map[string]*openRun{}}
}

func webhookKey(id string) string { return "w" + id }
func eventKey(id string) string   { return "e" + id }

// receive decides on one event and notes what is to be written.
func (d *desk) receive(a arrival) playbook.EventRecord {
	for _, key := range a.keys() {
		if record, ok := d.stored[key]; ok {
			// Our own id: an earlier try of this very write, whose COMMIT was not answered.
			record.Duplicate = record.ID != a.id
			return record
		}
	}
	e := newEvent{arrival: a}
	e.outcome, e.reason, e.run, e.lookUp = d.place(a.Arrival)
	d.events = append(d.events, e)
	if e.lookUp {
		d.lookUps = append(d.lookUps, a.id)
	}
	record := playbook.EventRecord{ID: a.id, Type: a.Type, Incident: a.IncidentID, ReceivedAt: d.now, Outcome: e.outcome,
		Reason: e.reason, Run: e.run}
	for _, key := range a.keys() {
		d.stored[key] = record
	}
	return record
}

func (a arrival) keys() []string {
	var keys []string
	if a.WebhookID != "" {
		keys = append(keys, webhookKey(a.WebhookID))
	}
	if a.EventID != "" {
		keys = append(keys, eventKey(a.EventID))
	}
	return keys
}

// place decides where an event goes. An incident that has a run already is followed there; only when that run is over, and
// the event asks for a run and happened after its end, does a new one start.
func (d *desk) place(a playbook.Arrival) (outcome playbook.EventOutcome, reason, run string, lookUp bool) {
	incident := a.IncidentID
	if a.Start != nil {
		incident = a.Start.Incident.ID
	}
	if l, ok := d.links[incident]; ok && incident != "" {
		asks := a.Start != nil || a.LookUp
		again := asks && (a.OccurredAt.IsZero() || a.OccurredAt.After(l.endedAt))
		if !l.ended || !again {
			if r := d.open[l.run]; r != nil && !d.quiet {
				r.woken = true
			}
			return playbook.EventFollowed, "", l.run, false
		}
	}
	switch {
	case a.Start != nil:
		outcome, reason, run = d.start(*a.Start)
		return outcome, reason, run, false
	case a.LookUp:
		return playbook.EventIgnored, "the event does not name the target: the incident is being read", "", true
	}
	return playbook.EventIgnored, a.Reason, "", false
}

// start joins the incident to the target's run, or starts one. Every run begins as queued, and its first tick takes it on when
// the target is free. A run that is unwinding takes nobody in: it only waits for its own end, so the incident gets a run that
// stays queued behind it.
func (d *desk) start(st playbook.Start) (outcome playbook.EventOutcome, reason, run string) {
	target := st.Target.String()
	running, queued := d.active[target], d.queued[target]
	switch {
	case running != nil && running.state != playbook.Unwinding:
		d.join(running, st.Incident)
		return playbook.EventJoined, "", running.id
	case queued != nil:
		d.join(queued, st.Incident)
		return playbook.EventJoined, "", queued.id
	}
	if running != nil {
		reason = "waits for run " + running.id + ", which is unwinding"
	}
	r := &openRun{id: st.RunID, target: target, state: playbook.Queued, tickSeq: 1, fresh: true}
	d.addOpen(r)
	d.runs = append(d.runs, st)
	d.link(r, st.Incident)
	return playbook.EventStarted, reason, r.id
}

func (d *desk) join(r *openRun, in playbook.RunIncident) {
	r.joined = true
	d.link(r, in)
}

func (d *desk) link(r *openRun, in playbook.RunIncident) {
	if in.ID == "" {
		return
	}
	d.incidents = append(d.incidents, newIncident{r.id, in})
	d.links[in.ID] = link{incident: in.ID, run: r.id}
}

func (d *desk) addOpen(r *openRun) {
	d.open[r.id] = r
	if r.state == playbook.Queued {
		d.queued[r.target] = r
	} else {
		d.active[r.target] = r
	}
}

func (d *desk) scanOpenRuns(rows pgx.Rows) error {
	var r openRun
	_, err := pgx.ForEachRow(rows, []any{&r.id, &r.target, &r.state, &r.tickSeq}, func() error {
		found := r
		d.addOpen(&found)
		return nil
	})
	return err
}

func (d *desk) scanLinks(rows pgx.Rows) error {
	var l link
	var endedAt *time.Time
	_, err := pgx.ForEachRow(rows, []any{&l.incident, &l.run, &l.ended, &endedAt}, func() error {
		l.endedAt = timeOf(endedAt)
		d.links[l.incident] = l
		return nil
	})
	return err
}

func (d *desk) scanStored(rows pgx.Rows) error {
	var r playbook.EventRecord
	var webhook, event *string
	_, err := pgx.ForEachRow(rows, append(eventFields(&r), &webhook, &event), func() error {
		r.ReceivedAt = r.ReceivedAt.UTC()
		if webhook != nil {
			d.stored[webhookKey(*webhook)] = r
		}
		if event != nil {
			d.stored[eventKey(*event)] = r
		}
		return nil
	})
	return err
}

// The three writes send columns as arrays: one statement per table, however large the batch.

func (d *desk) queueRuns(queries *pgx.Batch) {
	if len(d.runs) == 0 {
		return
	}
	var ids, carriers, namespaces, daemonsets, triggers, froms, bys, reasons, modes []string
	var deadlines []time.Time
	for _, r := range d.runs {
		ids, carriers, namespaces = append(ids, r.RunID), append(carriers, r.Target.Carrier), append(namespaces, r.Target.Namespace)
		daemonsets, triggers = append(daemonsets, r.Target.DaemonSet), append(triggers, string(r.Trigger))
		froms, bys = append(froms, r.RetriggeredFrom), append(bys, storable(r.RequestedBy))
		reasons, modes = append(reasons, storable(r.Reason)), append(modes, string(r.Mode))
		deadlines = append(deadlines, d.now.Add(r.Deadline))
	}
	queries.Queue(`INSERT INTO runs (id, carrier, namespace, daemonset, trigger, retriggered_from, requested_by, reason, mode, deadline,
			table_version, started_at, wake_at, state, memory)
		SELECT *, $11::int, $12::timestamptz, $12::timestamptz, 'queued', '{}'
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
			$10::timestamptz[])`,
		ids, carriers, namespaces, daemonsets, triggers, froms, bys, reasons, modes, deadlines, playbook.TableVersion, d.now)
}

func (d *desk) queueIncidents(queries *pgx.Batch) {
	if len(d.incidents) == 0 {
		return
	}
	var runs, ids, titles, urls []string
	var numbers []int32
	for _, i := range d.incidents {
		runs, ids, numbers = append(runs, i.run), append(ids, i.ID), append(numbers, int32(i.Number))
		titles, urls = append(titles, storable(i.Title)), append(urls, storable(i.URL))
	}
	// An incident that was over within a run may be opened again while the run goes on.
	queries.Queue(`INSERT INTO run_incidents (run, incident, number, title, url, joined_at)
		SELECT *, $6::timestamptz FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[])
		ON CONFLICT (run, incident) DO UPDATE SET joined_at = excluded.joined_at, outcome = '', ended_at = NULL`,
		runs, ids, numbers, titles, urls, d.now)
}

func (d *desk) queueEvents(queries *pgx.Batch) {
	if len(d.events) == 0 {
		return
	}
	var ids, types, incidents, outcomes, reasons, runs []string
	var webhooks, events []*string
	var occurred []*time.Time
	var payloads [][]byte
	var lookUps []bool
	for _, e := range d.events {
		ids, types, incidents = append(ids, e.id), append(types, e.Type), append(incidents, e.IncidentID)
		webhooks, events = append(webhooks, orNil(e.WebhookID)), append(events, orNil(e.EventID))
		occurred, payloads = append(occurred, orNull(e.OccurredAt)), append(payloads, append([]byte{}, e.Payload...))
		outcomes, reasons = append(outcomes, string(e.outcome)), append(reasons, storable(e.reason))
		runs, lookUps = append(runs, e.run), append(lookUps, e.lookUp)
	}
	queries.Queue(`INSERT INTO events (id, webhook_id, event_id, type, incident, occurred_at, payload, outcome, reason, run, look_up, received_at)
		SELECT *, $12::timestamptz FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
			$7::bytea[], $8::text[], $9::text[], $10::text[], $11::bool[])`,
		ids, webhooks, events, types, incidents, occurred, payloads, outcomes, reasons, runs, lookUps, d.now)
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
