package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/playbook"
)

// listPoll is how often a list looks again, in seconds.
const listPoll = 3

type runView struct {
	ID, Carrier, Namespace, DaemonSet string
	State                             stateView
	Finding, Why, Mode, Trigger, From string
	RequestedBy, Reason               string
	// Wrong is what was found to be the matter, which is more telling than how it stands now.
	Wrong                    string
	Confirmed, Ended         bool
	Began, EndedAt, Deadline time.Time
	Took                     string
	Incidents                []incidentView
}

type incidentView struct {
	ID              string
	Number          int
	Title, URL, End string
}

func newIncidentView(i playbook.RunIncident) incidentView {
	v := incidentView{ID: i.ID, Number: i.Number, Title: i.Title, End: plainWords(string(i.End))}
	// Only a web address becomes a link: it came from outside.
	if u, err := url.Parse(i.URL); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
		v.URL = i.URL
	}
	return v
}

func newRunView(r playbook.Run, now time.Time) runView {
	v := runView{
		ID: r.ID, Carrier: r.Target.Carrier, Namespace: r.Target.Namespace, DaemonSet: r.Target.DaemonSet, State: newStateView(r.State),
		Finding: plainWords(string(findingOf(r.Finding))), Confirmed: r.Confirmed, Why: r.Why, Mode: string(r.Mode), Trigger: string(r.Trigger),
		From: r.RetriggeredFrom, RequestedBy: r.RequestedBy, Reason: r.Reason, Ended: r.State.Ended(), Began: r.StartedAt,
		EndedAt: r.FinishedAt, Deadline: r.Deadline, Took: span(endOf(r, now).Sub(r.StartedAt)),
	}
	var found []string
	for _, f := range r.Memory.Found {
		if name := plainWords(string(f.Finding)); !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	if v.Wrong = strings.Join(found, ", then "); v.Wrong == "" {
		v.Wrong = v.Finding
	}
	for _, i := range r.Incidents {
		v.Incidents = append(v.Incidents, newIncidentView(i))
	}
	return v
}

func newRunViews(runs []playbook.Run, now time.Time) []runView {
	views := make([]runView, 0, len(runs))
	for _, r := range runs {
		views = append(views, newRunView(r, now))
	}
	return views
}

func endOf(r playbook.Run, now time.Time) time.Time {
	if r.FinishedAt.IsZero() {
		return now
	}
	return r.FinishedAt
}

type link struct {
	Text, Href string
	Current    bool
}

// choice is a filter with a closed set of values.
type choice struct {
	Name, Label, Value string
	Values             []string
}

type runsPage struct {
	page
	Tabs            []link
	Choices         []choice
	Filter          map[string]string
	Filtered        bool
	Runs            []runView
	Next, First     string
	Empty, Advanced string
}

var runFilters = []string{"carrier", "daemonset", "namespace", "state", "finding", "outcome", "incident", "trigger", "since", "until"}

// list shows the runs, newest first, with the API's filters in the address.
func (p *pages) list(c *gin.Context, base page) error {
	if address, ok := withoutEmpty(c.Request.URL); ok { // a form sends all its fields
		c.Redirect(http.StatusSeeOther, address)
		return nil
	}
	q := newQuery(c, append([]string{"cursor"}, runFilters...)...)
	f := q.runFilter()
	f.Limit, f.Memory = defaultLimit, true // which says what was found, in order
	if err := q.err(); err != nil {
		return err
	}
	var err error
	if f.Carriers, err = narrowed(c, f.Carrier); err != nil {
		return err
	}
	found, err := p.server.History.Runs(c.Request.Context(), f)
	if err != nil {
		return cursorField(err)
	}
	base.Here = "runs"
	data := runsPage{page: base, Filter: map[string]string{}, Runs: newRunViews(found.Runs, p.server.Now())}
	values := url.Values{}
	for _, name := range runFilters {
		if v := q.values.Get(name); v != "" {
			data.Filter[name] = v
			values.Set(name, v)
		}
	}
	data.Filtered = len(values) > 0
	data.Empty = "No runs yet. A run begins when PagerDuty sends an incident about a DaemonSet of a configured carrier."
	if data.Filtered {
		data.Empty = "No run is like this. Take a filter away, or look at a longer time."
	}
	if f.Cursor == "" {
		data.Poll = listPoll
	} else {
		data.First = runsAddress(values, "", "")
	}
	if found.Next != "" {
		data.Next = runsAddress(values, "cursor", found.Next)
	}
	data.Tabs = outcomeTabs(values)
	data.Choices = p.runChoices(c, data.Filter)
	p.render(c, http.StatusOK, "runs", data)
	return nil
}

func (q *query) runFilter() playbook.RunFilter {
	f := playbook.RunFilter{
		Carrier: q.text("carrier"), DaemonSet: q.text("daemonset"), Namespace: q.text("namespace"),
		State: oneOf(q, "state", playbook.States()), Finding: oneOf(q, "finding", playbook.Findings()),
		Outcome: oneOf(q, "outcome", outcomes()), Incident: q.text("incident"), Trigger: oneOf(q, "trigger", triggers()),
		Since: q.time("since"), Until: q.time("until"), Cursor: q.text("cursor"),
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && f.Until.Before(f.Since) {
		q.add("until", "lies before since")
	}
	return f
}

func outcomes() []playbook.Outcome {
	return []playbook.Outcome{playbook.OutcomeResolved, playbook.OutcomeEscalated, playbook.OutcomeStoodDown}
}

func triggers() []playbook.Trigger {
	return []playbook.Trigger{playbook.TriggerWebhook, playbook.TriggerReconcile, playbook.TriggerRetrigger}
}

// runsAddress is the list with filters, and one more parameter where it is given.
func runsAddress(filters url.Values, name, value string) string {
	values := url.Values{}
	for k, v := range filters {
		values[k] = v
	}
	if name != "" {
		values.Set(name, value)
	}
	if len(values) == 0 {
		return "/runs"
	}
	return "/runs?" + values.Encode()
}

func outcomeTabs(filters url.Values) []link {
	others := url.Values{}
	for k, v := range filters {
		if k != "outcome" {
			others[k] = v
		}
	}
	now := filters.Get("outcome")
	tabs := []link{{"all", runsAddress(others, "", ""), now == ""}}
	for _, o := range outcomes() {
		tabs = append(tabs, link{plainWords(string(o)), runsAddress(others, "outcome", string(o)), now == string(o)})
	}
	return tabs
}

func (p *pages) runChoices(c *gin.Context, now map[string]string) []choice {
	return []choice{
		{"carrier", "Carrier", now["carrier"], p.carrierNames(c)},
		{"state", "State", now["state"], texts(playbook.States())},
		{"finding", "Finding", now["finding"], texts(playbook.Findings())},
		{"trigger", "Trigger", now["trigger"], texts(triggers())},
	}
}

func texts[S ~string](set []S) []string {
	list := make([]string, 0, len(set))
	for _, s := range set {
		list = append(list, string(s))
	}
	return list
}

// withoutEmpty is the address without parameters that have no value, when there are any. A time as a form gives it, without a zone,
// is taken for UTC.
func withoutEmpty(u *url.URL) (string, bool) {
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", false
	}
	changed := false
	for name, v := range values {
		if len(v) == 1 && v[0] == "" {
			delete(values, name)
			changed = true
			continue
		}
		if t, err := time.Parse("2006-01-02T15:04", v[0]); err == nil {
			values.Set(name, t.Format(time.RFC3339))
			changed = true
		}
	}
	if !changed {
		return "", false
	}
	if len(values) == 0 {
		return u.Path, true
	}
	return u.Path + "?" + values.Encode(), true
}
