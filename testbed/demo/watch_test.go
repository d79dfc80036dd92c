package demo

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNews(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return start.Add(time.Duration(second) * time.Second) }
	made := func(seq, second int, kind, name, result string) intent {
		i := intent{Seq: seq, Kind: kind, Result: result, SettledAt: at(second)}
		i.Target.Name = name
		return i
	}
	a := &watched{alert: drainAlert, intents: map[int]string{}}
	names := map[string]string{"01a2": dockerMetrics}

	r := run{State: "triage", Ticks: []tick{
		{Seq: 1, At: at(0), To: "triage", Finding: "node_full", Why: "node 7: full"},
		{Seq: 2, At: at(1), To: "triage", Finding: "node_full", Why: "node 7: full"},
		{Seq: 3, At: at(2), To: "triage", Finding: "node_full", Why: "node 7: full; waiting: run 01a2 is changing this carrier"},
		{Seq: 4, At: at(3), To: "triage", Finding: "node_full", Why: "node 7: full; waiting: run 01a2 is changing this carrier"},
	}, Intents: []intent{made(1, 2, "annotate", "Q1", "happened")}}
	want := []string{
		"0s triage node_full: node 7: full",
		"2s triage waiting: the run of docker-metrics-endpoint is changing this carrier",
		"2s triage → began a note on incident Q1",
	}
	if diff := cmp.Diff(want, told(a.news(r, names))); diff != "" {
		t.Error(diff)
	}

	// An open intent is no news yet, a note is news once, and nothing is told twice.
	r.State = "draining"
	r.Ticks = append(r.Ticks, tick{Seq: 5, At: at(9), From: "triage", To: "draining", Finding: "node_full", Why: "node 7: full"})
	r.Intents = append(r.Intents, made(2, 10, "cordon", "node-7", "happened"), made(3, 11, "annotate", "Q1", "happened"),
		made(4, 12, "evict", "pod", "refused"), made(5, 0, "uncordon", "node-7", ""))
	want = []string{"9s draining node_full: node 7: full", "10s draining → cordoned node node-7", "12s draining → evicted pod pod: refused"}
	if diff := cmp.Diff(want, told(a.news(r, names))); diff != "" {
		t.Error(diff)
	}
	if again := told(a.news(r, names)); again != nil {
		t.Errorf("told again: %q", again)
	}
}

func told(lines []newsLine) []string {
	var all []string
	for _, l := range lines {
		all = append(all, l.at.Sub(start).String()+" "+l.state+" "+l.text)
	}
	return all
}
