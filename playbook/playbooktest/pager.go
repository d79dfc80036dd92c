package playbooktest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

// Pager is a simulated PagerDuty. It implements playbook.Pager.
type Pager struct {
	// Unreachable says why every call fails; empty: PagerDuty answers.
	Unreachable string
	// Unreadable says why one incident can not be read, by its id.
	Unreadable map[string]string
	// NoEdit makes PagerDuty refuse to rewrite a note.
	NoEdit bool
	// Echo is called after each of Drydock's writes, as the webhook about it would be.
	Echo func(incident string)
	// Writes is what Drydock's calls changed, in order.
	Writes []RemoteWrite

	clock     *Clock
	incidents map[string]*Incident
	disks     map[string][]playbook.IncidentRef
	ids       int
}

// RemoteWrite is a change that one of Drydock's calls made on an incident.
type RemoteWrite struct {
	At       time.Time
	Run      string
	Seq      int
	Incident string
	Action   playbook.Action
}

// Incident is one incident of the simulated PagerDuty.
type Incident struct {
	playbook.Incident
	// Escalations are the policies (or "level N") to which it was escalated by Drydock.
	Escalations []string
	Notes       []Note
}

// Note is one note of an incident.
type Note struct {
	ID, Marker, Text string
	Edits            int
}

// NewPager makes a PagerDuty without incidents.
func NewPager(clock *Clock) *Pager {
	return &Pager{clock: clock, Unreadable: map[string]string{}, incidents: map[string]*Incident{},
		disks: map[string][]playbook.IncidentRef{}, Echo: func(string) {}}
}

// Trigger opens an incident.
func (p *Pager) Trigger(id, title string) *Incident {
	p.ids++
	in := &Incident{Incident: playbook.Incident{ID: id, Number: p.ids, Title: title, URL: "https://pagerduty.example/" + id,
		Status: playbook.Triggered, TriggeredAt: p.clock.Now(), Alerts: 1, Policy: "PDEFAULT", Level: 1, Levels: 2}}
	p.incidents[id] = in
	return in
}

// OpenDisk opens a disk-space incident of a carrier.
func (p *Pager) OpenDisk(carrier string) {
	p.ids++
	p.disks[carrier] = append(p.disks[carrier], playbook.IncidentRef{ID: "PDISK" + strconv.Itoa(p.ids), Number: p.ids, Title: carrier + " disk full"})
}

// CloseDisks resolves the disk-space incidents of a carrier.
func (p *Pager) CloseDisks(carrier string) { delete(p.disks, carrier) }

// Get finds an incident, nil when there is none.
func (p *Pager) Get(id string) *Incident { return p.incidents[id] }

// Human does what a person does on an incident.
func (p *Pager) Human(id string, kind playbook.ActKind, who string) {
	in := p.incidents[id]
	switch kind {
	case playbook.ActAcknowledged:
		in.Status, in.Owner = playbook.Acknowledged, who
	case playbook.ActReassigned:
		in.Owner = who
	case playbook.ActResolved:
		in.Status, in.ResolvedBy = playbook.Resolved, who
	case playbook.ActMerged:
		in.Status, in.ResolvedBy, in.MergedInto = playbook.Resolved, who, "PMERGED"
	case playbook.ActSnoozed, playbook.ActHandsOff, playbook.ActApproved, playbook.ActOnPurpose:
	}
	in.Acts = append(in.Acts, playbook.Act{Kind: kind, Who: who, At: p.clock.Now()})
}

// HumanApproves is a listed approver's note with the hash of a plan.
func (p *Pager) HumanApproves(id, planHash, who string) {
	in := p.incidents[id]
	in.Acts = append(in.Acts, playbook.Act{Kind: playbook.ActApproved, Who: who, At: p.clock.Now(), PlanHash: planHash})
}

// MonitoringResolves resolves an incident because its alert recovered.
func (p *Pager) MonitoringResolves(id string) {
	in := p.incidents[id]
	in.Status, in.ResolvedBy = playbook.Resolved, "monitoring"
}

// Incident reads one incident. Only what people did since the run began is an act.
func (p *Pager) Incident(_ context.Context, id string, _ playbook.Target, since time.Time) playbook.Reading[playbook.Incident] {
	if why := cmp.Or(p.Unreachable, p.Unreadable[id]); why != "" {
		return playbook.Unknown[playbook.Incident](why)
	}
	in := p.incidents[id]
	if in == nil {
		return playbook.Unknown[playbook.Incident]("404: incident " + id + " not found")
	}
	seen := in.Incident
	seen.Acts = slices.DeleteFunc(slices.Clone(in.Acts), func(a playbook.Act) bool { return a.At.Before(since) })
	return playbook.Known(seen)
}

// DiskIncidents lists a carrier's open disk-space incidents.
func (p *Pager) DiskIncidents(_ context.Context, carrier string) playbook.Reading[[]playbook.IncidentRef] {
	if p.Unreachable != "" {
		return playbook.Unknown[[]playbook.IncidentRef](p.Unreachable)
	}
	return playbook.Known(slices.Clone(p.disks[carrier]))
}

// Do makes the one call of an action, by PagerDuty's rules. Notes can be written on any incident.
func (p *Pager) Do(_ context.Context, call playbook.Call) (playbook.Settlement, error) {
	id := call.Action.Target().Name
	in := p.incidents[id]
	if p.Unreachable != "" || in == nil {
		return playbook.Settlement{}, fmt.Errorf("%s on incident %s: %s", call.Action.Kind(), id, cmp.Or(p.Unreachable, "404"))
	}
	settled := playbook.Settlement{Result: playbook.Happened}
	switch a := call.Action.(type) {
	case playbook.Annotate:
		note, err := p.annotate(in, a)
		if err != nil {
			return playbook.Settlement{Result: playbook.Refused, Detail: err.Error()}, nil
		}
		settled.Receipt = note
	case playbook.Acknowledge, playbook.Escalate, playbook.Resolve:
		if why := in.taken(); why != "" {
			return superseded("%s", why), nil
		}
		if err := in.change(a); err != nil {
			return playbook.Settlement{Result: playbook.Refused, Detail: err.Error()}, nil
		}
	default:
		return playbook.Settlement{}, fmt.Errorf("%s is not an action on an incident", call.Action.Kind())
	}
	p.Writes = append(p.Writes, RemoteWrite{At: p.clock.Now(), Run: call.Run, Seq: call.Seq, Incident: id, Action: call.Action})
	p.Echo(id)
	return settled, nil
}

// taken says why the incident's state is not Drydock's to change any more.
func (in *Incident) taken() string {
	switch {
	case in.Status == playbook.Resolved:
		return "it is resolved already, by " + in.ResolvedBy
	case in.Owner != "":
		return in.Owner + " owns it"
	}
	return ""
}

func (in *Incident) change(a playbook.Action) error {
	switch a := a.(type) {
	case playbook.Acknowledge:
		in.Status = playbook.Acknowledged
	case playbook.Resolve:
		in.Status, in.ResolvedBy = playbook.Resolved, "drydock"
	case playbook.Escalate:
		switch {
		case a.Policy != "":
			in.Policy, in.Level = a.Policy, 1
			in.Escalations = append(in.Escalations, a.Policy)
		case in.Level >= in.Levels:
			return errors.New("400: the incident is at its policy's top level")
		default:
			in.Level++
			in.Escalations = append(in.Escalations, "level "+strconv.Itoa(in.Level))
		}
	}
	return nil
}

func (p *Pager) annotate(in *Incident, a playbook.Annotate) (id string, err error) {
	if a.Note != "" {
		i := slices.IndexFunc(in.Notes, func(n Note) bool { return n.ID == a.Note })
		if i < 0 || p.NoEdit {
			return "", fmt.Errorf("note %s can not be edited", a.Note)
		}
		n := &in.Notes[i]
		n.Marker, n.Text, n.Edits = a.Marker, a.Text, n.Edits+1
		return n.ID, nil
	}
	p.ids++
	n := Note{ID: "PNOTE" + strconv.Itoa(p.ids), Marker: a.Marker, Text: a.Text}
	in.Notes = append(in.Notes, n)
	return n.ID, nil
}

// Recover finds out whether a call happened: a note by its marker, a change by the incident's log.
func (p *Pager) Recover(_ context.Context, i playbook.Intent, run string) (playbook.Settlement, error) {
	id := i.Action.Target().Name
	in := p.incidents[id]
	if p.Unreachable != "" || in == nil {
		return playbook.Settlement{}, fmt.Errorf("look for %s on incident %s: %s", i.Action.Kind(), id, cmp.Or(p.Unreachable, "404"))
	}
	if a, ok := i.Action.(playbook.Annotate); ok {
		for _, n := range in.Notes {
			if n.Marker == a.Marker {
				return playbook.Settlement{Result: playbook.Happened, Receipt: n.ID}, nil
			}
		}
		return playbook.Settlement{Result: playbook.NotHappened}, nil
	}
	for _, w := range p.Writes {
		// The log says who, what and when; only our own entries since the promise count.
		if w.Incident == id && w.Action.Kind() == i.Action.Kind() && !w.At.Before(i.PromisedAt) {
			return playbook.Settlement{Result: playbook.Happened}, nil
		}
	}
	return playbook.Settlement{Result: playbook.NotHappened}, nil
}

// said joins every text that Drydock wrote on an incident, those that a later edit replaced included.
func (p *Pager) said(incident string) string {
	var texts []string
	for _, w := range p.Writes {
		if a, ok := w.Action.(playbook.Annotate); ok && w.Incident == incident {
			texts = append(texts, a.Text)
		}
	}
	return strings.Join(texts, "\n")
}
