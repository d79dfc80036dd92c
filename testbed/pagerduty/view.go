package pagerduty

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The timeline at "/": who did what, people told apart from bots and machines.

// viewEntry is one line of the timeline.
type viewEntry struct {
	At     string
	Who    string // The class: person, bot, monitoring or pagerduty.
	Name   string
	Verb   string
	Detail string
}

// First is the first line of the detail; a note stands in full elsewhere.
func (v viewEntry) First() string {
	first, _, _ := strings.Cut(v.Detail, "\n")
	return first
}

type viewIncident struct {
	Incident
	Service  string
	Policy   string
	Assigned string
	Notes    []viewEntry
	Entries  []viewEntry
}

//go:embed view.html
var viewSource string

var viewPage = template.Must(template.New("view").Parse(viewSource))

// view answers a browser with a page and anything else with text.
func (s *Server) view(w http.ResponseWriter, r *http.Request) {
	incidents := s.viewIncidents()
	if r.URL.Query().Get("format") == "text" || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		writeText(w, incidents)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// A failure here is a viewer who closed the page.
	_ = viewPage.Execute(w, incidents)
}

func (s *Server) viewIncidents() []viewIncident {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []viewIncident
	for _, i := range slices.Backward(s.acct.incidents) {
		v := viewIncident{Incident: i.snapshot(), Service: i.ServiceID, Policy: i.PolicyID}
		if svc := s.acct.service(i.ServiceID); svc != nil {
			v.Service = svc.Name
		}
		if p := s.acct.policy(i.PolicyID); p != nil {
			v.Policy = p.Name
		}
		var names []string
		for _, as := range i.Assignees {
			if u := s.acct.user(as.UserID); u != nil {
				names = append(names, u.Name)
			}
		}
		v.Assigned = strings.Join(names, ", ")
		for _, e := range i.Log {
			v.Entries = append(v.Entries, s.viewEntry(e))
		}
		for _, n := range v.Incident.Notes {
			by := Agent{}
			if u := s.acct.user(n.UserID); u != nil {
				by = byUser(u)
			}
			v.Notes = append(v.Notes, s.viewEntry(LogEntry{Type: "annotate_log_entry", At: n.CreatedAt, By: by, Detail: n.Content}))
		}
		list = append(list, v)
	}
	return list
}

func (s *Server) viewEntry(e LogEntry) viewEntry {
	v := viewEntry{At: e.At.Format(time.TimeOnly), Name: e.By.Summary, Verb: verbOf(e), Detail: e.Detail}
	switch e.By.Type {
	case "user_reference":
		v.Who = "person"
		if u := s.acct.user(e.By.ID); u != nil && u.Bot {
			v.Who = "bot"
		}
	case "":
		v.Who, v.Name = "pagerduty", "PagerDuty"
	default:
		v.Who, v.Name = "monitoring", "Monitoring"
	}
	return v
}

func writeText(w io.Writer, incidents []viewIncident) {
	for _, i := range incidents {
		fmt.Fprintf(w, "#%d  %-12s  %s\n", i.Number, strings.ToUpper(i.Status), i.Title)
		fmt.Fprintf(w, "  %s, %s level %d, assigned to %s\n", i.Service, i.Policy, i.Level, orNobody(i.Assigned))
		for _, e := range i.Entries {
			fmt.Fprintf(w, "  %s  %-10s  %s %s", e.At, e.Who, e.Name, e.Verb)
			if first := e.First(); first != "" {
				fmt.Fprintf(w, ": %s", first)
			}
			fmt.Fprintln(w)
		}
		for _, n := range i.Notes {
			fmt.Fprintf(w, "\n  Note of %s (%s), %s\n%s\n", n.Name, n.Who, n.At, indent(strings.TrimRight(n.Detail, "\n"), 4))
		}
		fmt.Fprintln(w)
	}
}

func orNobody(names string) string {
	if names == "" {
		return "nobody"
	}
	return names
}

func indent(text string, by int) string {
	pad := strings.Repeat(" ", by)
	return pad + strings.ReplaceAll(text, "\n", "\n"+pad)
}
