package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
)

// pagerDuty is the part of incident.Client that the pager needs.
type pagerDuty interface {
	GetIncident(ctx context.Context, id string) (incident.Incident, error)
	ListAlerts(ctx context.Context, incidentID string) ([]incident.Alert, error)
	LogEntries(ctx context.Context, incidentID string, since time.Time) ([]incident.LogEntry, error)
	ListNotes(ctx context.Context, incidentID string) ([]incident.Note, error)
	OpenIncidents(ctx context.Context, serviceIDs []string) ([]incident.Incident, error)
	BotUser(ctx context.Context) (incident.User, error)
	CreateNote(ctx context.Context, incidentID, content string) (incident.Note, error)
	Subscriptions(ctx context.Context) ([]incident.Subscription, error)
	EnableSubscription(ctx context.Context, id string) error
	UpdateNote(ctx context.Context, incidentID, noteID, content string) (incident.Note, error)
	Acknowledge(ctx context.Context, incidentID string) error
	Resolve(ctx context.Context, incidentID string) error
	EscalateToLevel(ctx context.Context, incidentID string, level int) error
	EscalateToPolicy(ctx context.Context, incidentID, policyID string) error
}

// pager introduces PagerDuty to the core: it implements playbook.Pager on top of incident.Client.
type pager struct {
	client    pagerDuty
	rules     *incident.Rules
	approvers []string
	// page tells people, through another service, that a hand-over was refused.
	page func(ctx context.Context, key, summary string)
	now  func() time.Time
	log  *slog.Logger

	mu      sync.Mutex
	bot     string // our own user's id; empty while it is not known
	askedAt time.Time

	listing chan struct{} // room for one: who lists the account's open incidents
	listed  []incident.Incident
	listAt  time.Time
}

var _ playbook.Pager = (*pager)(nil)

// clockSkew is how far PagerDuty's clock and the database's may be apart.
const clockSkew = 30 * time.Second

// askAgain is how long a definite "there is no such user" is believed.
const askAgain = 10 * time.Minute

// botUser is our own user's id. It is empty, without an error, where PagerDuty says that it can not be told: then only notes can be
// recognised as ours, by their marker. When PagerDuty does not answer it is an error, because our own acts would pass for a
// person's.
func (p *pager) botUser(ctx context.Context) (string, error) {
	p.mu.Lock()
	bot, asked := p.bot, p.askedAt
	p.mu.Unlock()
	if bot != "" || p.now().Sub(asked) < askAgain {
		return bot, nil
	}
	user, err := p.client.BotUser(ctx)
	if errors.Is(err, incident.ErrUnavailable) || errors.Is(err, incident.ErrRateLimited) || ctx.Err() != nil {
		return "", fmt.Errorf("find our own PagerDuty user: %w", err)
	}
	if err != nil {
		p.log.WarnContext(ctx, "own PagerDuty user is not known: acts of Drydock may pass for a person's; check pagerduty.from", "error", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bot, p.askedAt = user.ID, p.now()
	return p.bot, nil
}

func (p *pager) Incident(ctx context.Context, id string, target playbook.Target, since time.Time) playbook.Reading[playbook.Incident] {
	in, err := p.read(ctx, id, target, since)
	if errors.Is(err, incident.ErrNotFound) {
		return playbook.Known(playbook.Incident{ID: id, Gone: true})
	}
	if err != nil {
		return playbook.Unknown[playbook.Incident](err.Error())
	}
	return playbook.Known(in)
}

func (p *pager) read(ctx context.Context, id string, target playbook.Target, since time.Time) (playbook.Incident, error) {
	bot, err := p.botUser(ctx)
	if err != nil {
		return playbook.Incident{}, err
	}
	in, err := p.client.GetIncident(ctx, id)
	if err != nil {
		return playbook.Incident{}, err
	}
	alerts, err := p.client.ListAlerts(ctx, id)
	if err != nil {
		return playbook.Incident{}, err
	}
	logged := since
	if since.IsZero() {
		logged = in.CreatedAt
	}
	entries, err := p.client.LogEntries(ctx, id, logged)
	if err != nil {
		return playbook.Incident{}, err
	}
	triggered := incident.TriggeredAt(in, entries)
	if since.IsZero() {
		since = triggered
	}
	notes, err := p.client.ListNotes(ctx, id)
	if err != nil {
		return playbook.Incident{}, err
	}
	people := incident.People{BotUserID: bot, Approvers: p.approvers}
	facts := playbook.Incident{
		ID: in.ID, Number: in.Number, Title: in.Title, URL: in.URL, Status: playbook.IncidentStatus(in.Status), MergedInto: in.MergedInto,
		ResolvedBy: resolvedBy(in, bot), Acts: acts(incident.HumanActs(in, entries, notes, people, since)),
		Unexplained: p.unexplained(in, alerts, target), Alerts: len(alerts), NodesInDetails: nodesInDetails(alerts),
		TriggeredAt: triggered, LowUrgency: in.Urgency == "low", Policy: in.EscalationPolicy.ID, Levels: len(in.EscalationPolicy.Levels),
	}
	if owner, owned := incident.HumanOwner(in, bot); owned && in.Open() {
		facts.Owner = nameOf(owner)
	}
	if level, known := incident.EscalationLevel(in); known {
		facts.Level = level
	}
	return facts, nil
}

func resolvedBy(in incident.Incident, bot string) string {
	switch by := in.LastStatusChangeBy; {
	case in.Open():
		return ""
	case bot != "" && by.ID == bot:
		return "drydock"
	case by.IsUser():
		return nameOf(by)
	}
	return "monitoring"
}

func nameOf(r incident.Ref) string {
	switch {
	case r.Summary != "":
		return r.Summary
	case r.ID != "":
		return r.ID
	}
	return "a person"
}

var actKinds = map[incident.ActKind]playbook.ActKind{
	incident.ActAcknowledged: playbook.ActAcknowledged,
	incident.ActResolved:     playbook.ActResolved,
	incident.ActReassigned:   playbook.ActReassigned,
	incident.ActEscalated:    playbook.ActReassigned, // a person who escalates by hand gives it to somebody else
	incident.ActSnoozed:      playbook.ActSnoozed,
	incident.ActMerged:       playbook.ActMerged,
	incident.ActHandsOff:     playbook.ActHandsOff,
	incident.ActApproved:     playbook.ActApproved,
	incident.ActOnPurpose:    playbook.ActOnPurpose,
}

func acts(list []incident.Act) []playbook.Act {
	var out []playbook.Act
	for _, a := range list {
		kind, known := actKinds[a.Kind]
		if !known {
			kind = playbook.ActHandsOff // an act that we can not name stops us too
		}
		out = append(out, playbook.Act{Kind: kind, Who: nameOf(a.Who), At: a.At, PlanHash: a.PlanHash})
	}
	return out
}

// unexplained lists the open alerts that are about something else than the target. The oldest alert gave the incident its
// title, so that the title explains it, unless the alert itself names another target; any other alert must name the target.
func (p *pager) unexplained(in incident.Incident, alerts []incident.Alert, target playbook.Target) []string {
	var other []string
	for i, a := range alerts {
		if a.Status == incident.StatusResolved || a.Suppressed {
			continue
		}
		title := a.Summary
		if title == "" {
			title = in.Title
		}
		m := p.rules.SubjectFromAlert(title, a.Details)
		about := m.Matched && m.Carrier == target.Carrier && m.DaemonSet == target.DaemonSet &&
			(m.Namespace == "" || m.Namespace == target.Namespace)
		if !about && (m.Matched || i > 0) {
			other = append(other, title)
		}
	}
	return other
}

func nodesInDetails(alerts []incident.Alert) []string {
	var nodes []string
	for _, a := range alerts {
		if a.Status != incident.StatusResolved {
			nodes = append(nodes, incident.NodesInDetails(a.Details)...)
		}
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// listAge is how long a list of the account's open incidents serves every carrier: a disk is not freed within seconds, and
// each list is several pages of one rate limit.
const listAge = 10 * time.Second

// openIncidents lists the account's open incidents. One list at a time is read for all carriers; who waits takes what the
// other one got.
func (p *pager) openIncidents(ctx context.Context) ([]incident.Incident, error) {
	select {
	case p.listing <- struct{}{}:
		defer func() { <-p.listing }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the list of open incidents: %w", context.Cause(ctx))
	}
	if !p.listAt.IsZero() && p.now().Sub(p.listAt) < listAge {
		return p.listed, nil
	}
	at := p.now()
	open, err := p.client.OpenIncidents(ctx, nil)
	if err != nil {
		return nil, err
	}
	p.listed, p.listAt = open, at
	return open, nil
}

// DiskIncidents looks in all services: disks are most likely watched by another one than the DaemonSets.
func (p *pager) DiskIncidents(ctx context.Context, carrier string) playbook.Reading[[]playbook.IncidentRef] {
	open, err := p.openIncidents(ctx)
	if err != nil {
		return playbook.Unknown[[]playbook.IncidentRef](err.Error())
	}
	refs := []playbook.IncidentRef{}
	for _, in := range p.rules.DiskIncidents(open, carrier) {
		refs = append(refs, playbook.IncidentRef{ID: in.ID, Number: in.Number, Title: in.Title, URL: in.URL})
	}
	return playbook.Known(refs)
}

func settled(r playbook.Result, format string, args ...any) playbook.Settlement {
	return playbook.Settlement{Result: r, Detail: fmt.Sprintf(format, args...)}
}

// Do reads the incident again and then makes the action's one write. An error means that it is not known whether it took
// effect, or that it did not and is worth another try: Recover tells the two apart.
func (p *pager) Do(ctx context.Context, call playbook.Call) (playbook.Settlement, error) {
	id := call.Action.Target().Name
	in, err := p.client.GetIncident(ctx, id)
	if errors.Is(err, incident.ErrNotFound) {
		return settled(playbook.Superseded, "PagerDuty knows no incident %s any more", id), nil
	}
	if err != nil {
		return playbook.Settlement{}, err
	}
	if a, ok := call.Action.(playbook.Annotate); ok {
		return p.annotate(ctx, a) // a note is welcome whoever owns the incident, and after its end
	}
	bot, err := p.botUser(ctx)
	if err != nil {
		return playbook.Settlement{}, err
	}
	if !in.Open() {
		return settled(playbook.Superseded, "resolved already, by %s", resolvedBy(in, bot)), nil
	}
	if owner, owned := incident.HumanOwner(in, bot); owned {
		return settled(playbook.Superseded, "%s owns the incident", nameOf(owner)), nil
	}
	switch a := call.Action.(type) {
	case playbook.Acknowledge:
		return p.acknowledge(ctx, in)
	case playbook.Resolve:
		return p.outcome(p.client.Resolve(ctx, id), "")
	case playbook.Escalate:
		return p.escalate(ctx, in, a)
	default:
		return settled(playbook.Refused, "%s is nothing that PagerDuty does", call.Action.Kind()), nil
	}
}

// outcome settles a write by its error. A refused token is not final: the token may be mended while the run keeps trying.
func (p *pager) outcome(err error, done string) (playbook.Settlement, error) {
	switch {
	case err == nil:
		return settled(playbook.Happened, "%s", done), nil
	case errors.Is(err, incident.ErrAmbiguous):
		return playbook.Settlement{}, err
	case errors.Is(err, incident.ErrAlreadyResolved):
		return settled(playbook.Superseded, "resolved by others meanwhile"), nil
	case errors.Is(err, incident.ErrInvalid), errors.Is(err, incident.ErrNotFound):
		return settled(playbook.Refused, "%v", err), nil
	}
	return playbook.Settlement{}, err
}

func (p *pager) annotate(ctx context.Context, a playbook.Annotate) (playbook.Settlement, error) {
	if a.Note != "" {
		note, err := p.client.UpdateNote(ctx, a.Incident, a.Note, a.Text)
		if !errors.Is(err, incident.ErrNotEditable) {
			s, err := p.outcome(err, "rewrote the note")
			s.Receipt = note.ID
			return s, err
		}
	}
	note, err := p.client.CreateNote(ctx, a.Incident, a.Text)
	s, err := p.outcome(err, "wrote a note")
	s.Receipt = note.ID
	return s, err
}

// acknowledge keeps the dead-man's switch: an acknowledge that never runs out would silence the page for good if we died.
func (p *pager) acknowledge(ctx context.Context, in incident.Incident) (playbook.Settlement, error) {
	switch {
	case in.Status != incident.StatusTriggered:
		return settled(playbook.Superseded, "it is %s already", in.Status), nil
	case in.Service.AcknowledgementTimeout <= 0:
		return settled(playbook.Refused, "the service's acknowledgement timeout is off, so that an acknowledge would silence the page for good"), nil
	}
	return p.outcome(p.client.Acknowledge(ctx, in.ID), "")
}

// escalate hands over to the action's policy. Where PagerDuty refuses that, or none is named, it goes to the next level of the
// incident's own policy, and from its top to that policy's beginning: what is refused changed nothing, and somebody must
// be paged.
func (p *pager) escalate(ctx context.Context, in incident.Incident, a playbook.Escalate) (playbook.Settlement, error) {
	type way struct {
		done string
		call func() error
	}
	var ways []way
	policy := func(id, done string) {
		if id != "" {
			ways = append(ways, way{done, func() error { return p.client.EscalateToPolicy(ctx, in.ID, id) }})
		}
	}
	policy(a.Policy, "handed over to escalation policy "+a.Policy)
	if next := nextLevel(in); next > 0 {
		ways = append(ways, way{fmt.Sprintf("escalated to level %d", next), func() error { return p.client.EscalateToLevel(ctx, in.ID, next) }})
	}
	policy(in.EscalationPolicy.ID, "paged its own escalation policy again")
	var refusals []string
	for _, w := range ways {
		s, err := p.outcome(w.call(), w.done)
		if err != nil || s.Result != playbook.Refused {
			if refusals != nil {
				s.Detail += "; refused before: " + strings.Join(refusals, "; ")
			}
			return s, err
		}
		refusals = append(refusals, s.Detail)
	}
	detail := "PagerDuty refuses every way to hand this over: " + strings.Join(refusals, "; ")
	p.page(ctx, "drydock-hand-over-"+in.ID, "Drydock could not escalate incident "+in.ID+": look at it. "+detail)
	return settled(playbook.Refused, "%s", detail), nil
}

// nextLevel is the level above the present one, or 0 when there is none, it can not be told, or the urgency forbids it.
func nextLevel(in incident.Incident) int {
	level, known := incident.EscalationLevel(in)
	levels := len(in.EscalationPolicy.Levels)
	switch {
	case in.Urgency == "low":
		return 0
	case !known && levels > 1:
		return 2 // schedules hide who is on which level; two is above where a page begins
	case known && level < levels:
		return level + 1
	}
	return 0
}

// Recover finds out whether a write whose answer was lost took effect. The engine asks when the call's deadline has passed.
func (p *pager) Recover(ctx context.Context, i playbook.Intent, _ string) (playbook.Settlement, error) {
	id := i.Action.Target().Name
	if a, ok := i.Action.(playbook.Annotate); ok {
		notes, err := p.client.ListNotes(ctx, id)
		if errors.Is(err, incident.ErrNotFound) {
			return settled(playbook.Superseded, "PagerDuty knows no incident %s any more", id), nil
		}
		if err != nil {
			return playbook.Settlement{}, err
		}
		if note, found := incident.FindNoteByMarker(notes, a.Marker); found {
			s := settled(playbook.Happened, "found the note")
			s.Receipt = note.ID
			return s, nil
		}
		return settled(playbook.NotHappened, "no note bears the marker"), nil
	}
	bot, err := p.botUser(ctx)
	if err != nil {
		return playbook.Settlement{}, err
	}
	in, err := p.client.GetIncident(ctx, id)
	if errors.Is(err, incident.ErrNotFound) {
		return settled(playbook.Superseded, "PagerDuty knows no incident %s any more", id), nil
	}
	if err != nil {
		return playbook.Settlement{}, err
	}
	// The log's times are PagerDuty's, the call's the database's.
	entries, err := p.client.LogEntries(ctx, id, i.SentAt.Add(-clockSkew))
	if err != nil {
		return playbook.Settlement{}, err
	}
	ours := func(types ...string) bool {
		return slices.ContainsFunc(entries, func(e incident.LogEntry) bool {
			// Without a known user of ours nobody else's act can be told from it; having sent the call decides then. Not for a page:
			// a person's assign must not make us believe that somebody was paged.
			unknown := bot == "" && i.Action.Kind() != playbook.KindEscalate
			return slices.Contains(types, e.Type) && e.Agent.IsUser() && (unknown || bot != "" && e.Agent.ID == bot)
		})
	}
	happened := false
	switch i.Action.(type) {
	case playbook.Acknowledge:
		happened = ours("acknowledge_log_entry")
	case playbook.Resolve:
		happened = ours(incident.LogResolved)
	case playbook.Escalate:
		happened = ours("escalate_log_entry", "delegate_log_entry", "assign_log_entry")
	}
	switch {
	case happened:
		return settled(playbook.Happened, "found it in the incident's log"), nil
	case !in.Open():
		return settled(playbook.Superseded, "resolved already, by %s", resolvedBy(in, bot)), nil
	}
	return settled(playbook.NotHappened, "the incident's log does not have it"), nil
}

// noPager stands in where no PagerDuty token is configured: nothing is known, so nothing is changed.
type noPager struct{}

const noToken = "pagerduty.token is not configured"

func (noPager) Incident(context.Context, string, playbook.Target, time.Time) playbook.Reading[playbook.Incident] {
	return playbook.Unknown[playbook.Incident](noToken)
}

func (noPager) DiskIncidents(context.Context, string) playbook.Reading[[]playbook.IncidentRef] {
	return playbook.Unknown[[]playbook.IncidentRef](noToken)
}

func (noPager) Do(context.Context, playbook.Call) (playbook.Settlement, error) {
	return playbook.Settlement{}, errors.New(noToken)
}

func (noPager) Recover(context.Context, playbook.Intent, string) (playbook.Settlement, error) {
	return playbook.Settlement{}, errors.New(noToken)
}
