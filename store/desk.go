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
	links  map[string]Link                 // the newest run of each incident
	open   map[string]*openRun             // by run
	active map[string]*openRun             // the running run of a target
	queued map[string]*openRun             // the one that waits behind it

	events    []newEvent
	runs      []playbook.Start
	incidents []newIncident
	lookUps   []string
	quiet     bool // a known incident wakes nothing: it was only listed, nothing happened to it
}

// Link is an incident's newest run.
type Link struct {
	Run   string
	Ended bool // the run has, or the incident in it
	// Outcome is the incident's own end in the run.
	Outcome playbook.Outcome
	// OpenedAt is playbook.RunIncident.OpenedAt, or when the incident joined the run where that was not noted.
	OpenedAt time.Time
}

// incidentsOf lists the incidents of a start.
func incidentsOf(st playbook.Start) []playbook.RunIncident {
	return append([]playbook.RunIncident{st.Incident}, st.Also...)
}

// openRun is a run that has not ended.
type openRun struct {
	id, target    string
	state         playbook.State
	version       int // of its state table
	tickSeq       int64
	fresh         bool // made on this desk
	joined, woken bool
}

type newEvent struct {
	arrival
	placement
}

// placement is what becomes of an event.
type placement struct {
	outcome playbook.EventOutcome
	reason  string
	run     string
	lookUp  bool // its incident is to be read first
}

type newIncident struct {
	run string
	playbook.RunIncident
}

func newDesk() *desk {
	return &desk{stored: map[string]playbook.EventRecord{}, links: map[string]Link{}, open: map[string]*openRun{},
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
	e := newEvent{arrival: a, placement: d.place(a)}
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

// place decides where an event goes. An incident that has a run already is followed there. When that run is over and the event
// says that the incident is triggered or open again, the event's time says nothing: it is PagerDuty's, the end's is ours, and
// it may be an old event that comes late. So the incident is read again, and only what was seen then starts a new run.
func (d *desk) place(a arrival) placement {
	incident := a.IncidentID
	if a.Start != nil {
		incident = a.Start.Incident.ID
	}
	if l, ok := d.links[incident]; ok && incident != "" {
		asks := a.Start != nil || a.LookUp
		switch {
		case !l.Ended:
			if r := d.open[l.Run]; r != nil && !d.quiet {
				r.woken = true
			}
			return placement{outcome: playbook.EventFollowed, run: l.Run}
		case asks && a.after == "":
			return placement{outcome: playbook.EventFollowed, reason: "run " + l.Run + " has ended: the incident is being read again", run: l.Run, lookUp: true}
		case !asks || a.after != l.Run: // nothing to start, or what was read is older than the end of a run that came meanwhile
			return placement{outcome: playbook.EventFollowed, reason: a.Reason, run: l.Run}
		}
	}
	switch {
	case a.Start != nil:
		return d.start(*a.Start)
	case a.LookUp:
		return placement{outcome: playbook.EventIgnored, reason: "the event does not name the target: the incident is being read", lookUp: true}
	}
	return placement{outcome: playbook.EventIgnored, reason: a.Reason}
}

// start joins the incident to the target's run, or starts one. Every run begins as queued, and its first tick takes it on when
// the target is free. A run that is unwinding takes nobody in: it only waits for its own end, so the incident gets a run that
// stays queued behind it.
func (d *desk) start(st playbook.Start) placement {
	target := st.Target.String()
	running, queued := d.active[target], d.queued[target]
	switch {
	case running != nil && running.state != playbook.Unwinding:
		d.join(running, st)
		return placement{outcome: playbook.EventJoined, run: running.id}
	case queued != nil:
		d.join(queued, st)
		return placement{outcome: playbook.EventJoined, run: queued.id}
	}
	p := placement{outcome: playbook.EventStarted, run: st.RunID}
	if running != nil {
		p.reason = "waits for run " + running.id + ", which is unwinding"
	}
	r := &openRun{id: st.RunID, target: target, state: playbook.Queued, version: playbook.TableVersion, tickSeq: 1, fresh: true}
	d.addOpen(r)
	d.runs = append(d.runs, st)
	d.link(r, st)
	return p
}

func (d *desk) join(r *openRun, st playbook.Start) {
	r.joined = true
	d.link(r, st)
}

func (d *desk) link(r *openRun, st playbook.Start) {
	for _, in := range incidentsOf(st) {
		if in.ID == "" {
			continue
		}
		d.incidents = append(d.incidents, newIncident{r.id, in})
		d.links[in.ID] = Link{Run: r.id, OpenedAt: in.OpenedAt}
	}
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
	_, err := pgx.ForEachRow(rows, []any{&r.id, &r.target, &r.state, &r.version, &r.tickSeq}, func() error {
		found := r
		d.addOpen(&found)
		return nil
	})
	return err
}

func scanLinks(rows pgx.Rows, into map[string]Link) error {
	var incident string
	var l Link
	_, err := pgx.ForEachRow(rows, []any{&incident, &l.Run, &l.Ended, &l.Outcome, &l.OpenedAt}, func() error {
		l.OpenedAt = l.OpenedAt.UTC()
		into[incident] = l
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

// queueWrites asks for what was decided to be written. Columns are sent as arrays: one statement per table, however large the
// batch.
func (d *desk) queueWrites(queries *pgx.Batch) {
	d.queueRuns(queries)
	d.queueIncidents(queries)
	d.queueEvents(queries)
	var jobs jobRows
	var joined, woken []string
	for _, r := range d.open {
		switch {
		case r.fresh:
		case r.joined:
			joined = append(joined, r.id)
		case r.woken:
			woken = append(woken, r.id)
		default:
			continue
		}
		jobs.add(Tick{RunID: r.id, Seq: r.tickSeq}, ticksQueue(r.version))
	}
	// A join raises the version, so that a tick which did not see the incident can not end the run.
	if len(joined) > 0 {
		queries.Queue(`UPDATE runs SET version = version + 1, woken_at = $2, wake_at = $2 WHERE id = ANY($1)`, joined, d.now)
	}
	if len(woken) > 0 {
		queries.Queue(`UPDATE runs SET woken_at = $2, wake_at = $2 WHERE id = ANY($1)`, woken, d.now)
	}
	for _, event := range d.lookUps {
		jobs.add(LookUp{EventID: event}, lookUpsQueue)
	}
	jobs.queue(queries)
}

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
	var opened []*time.Time
	for _, i := range d.incidents {
		opened = append(opened, orNull(i.OpenedAt))
		runs, ids, numbers = append(runs, i.run), append(ids, i.ID), append(numbers, int32(i.Number))
		titles, urls = append(titles, storable(i.Title)), append(urls, storable(i.URL))
	}
	// An incident that was over within a run may be opened again while the run goes on.
	queries.Queue(`INSERT INTO run_incidents (run, incident, number, title, url, opened_at, joined_at)
		SELECT *, $7::timestamptz FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::timestamptz[])
		ON CONFLICT (run, incident) DO UPDATE SET joined_at = excluded.joined_at, opened_at = excluded.opened_at, outcome = '', ended_at = NULL`,
		runs, ids, numbers, titles, urls, opened, d.now)
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
