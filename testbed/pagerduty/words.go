package pagerduty

import (
	"strconv"
	"strings"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// verbs are the words of the timeline for the kinds of log entries.
var verbs = map[string]string{
	"trigger":         "triggered",
	"acknowledge":     "acknowledged",
	"unacknowledge":   "returned to triggered",
	"resolve":         "resolved",
	"reopen":          "reopened",
	"escalate":        "escalated",
	"delegate":        "delegated",
	"assign":          "assigned",
	"annotate":        "noted",
	"notify":          "notified",
	"snooze":          "snoozed",
	"merge":           "merged",
	"status_update":   "published",
	"urgency_change":  "changed the urgency",
	"priority_change": "changed the priority",
	"service_change":  "changed the service",
}

// kindOf is the kind of a log entry: "escalate" of "escalate_log_entry".
func kindOf(e LogEntry) string { return strings.TrimSuffix(e.Type, "_log_entry") }

func verbOf(e LogEntry) string {
	if v, ok := verbs[kindOf(e)]; ok {
		return v
	}
	return kindOf(e)
}

func summaryOf(e LogEntry) string {
	who := e.By.Summary
	if who == "" {
		who = "PagerDuty"
	}
	s := who + " " + verbOf(e)
	if e.Detail != "" && len(e.Detail) < 200 {
		s += ": " + e.Detail
	}
	return s
}
