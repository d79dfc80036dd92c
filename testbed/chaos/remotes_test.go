package chaos

import (
	"context"
	"flag"
	"net/http"
	"testing"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/testbed/pagerduty"
	"github.com/drydock/drydock/testbed/standin"
)

var (
	pagerAway = flag.Duration("pager-away", 20*time.Second, "how long PagerDuty is away")
	latency   = flag.Duration("latency", 300*time.Millisecond, "of each request to the API server in its bad hour, 5 s at most")
	badFor    = flag.Duration("bad-for", 20*time.Second, "how long targets break before an API server that answers badly")
)

// lostWrites is how many changes of incidents lose their answers once PagerDuty is back.
const lostWrites = 2

// TestPagerAway takes PagerDuty's API away while runs are under way, webhooks still come, and new alerts are raised. Before it
// goes, notes take effect and only lose their answers; when it is back, the first resolves and escalations do. Every note
// arrives, in order and once.
func TestPagerAway(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		deadline time.Duration
	}{
		{"the deadline is later", *pagerAway + 8*time.Minute},
		{"the deadline passes meanwhile", *pagerAway / 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// A lost answer holds up its incident until the call's own deadline, also that of a run which began when all was well again.
			n := newNight(t, options{seed: drawn(t), replicas: 2, carriers: 2, mode: playbook.ModeAct, deadline: tt.deadline, outage: *pagerAway,
				slack: handOverTime})
			enough, stop := context.WithCancel(t.Context())
			failed := make(chan int, 1) // before PagerDuty was back
			go func() {
				defer stop()
				pause(t.Context(), 4*time.Second)
				n.away.begin()
				defer n.away.end()
				n.pager.Faults.Inject(pagerduty.ConnectionReset(http.MethodPost, "/incidents/*/notes", 2))
				n.pager.Faults.Inject(standin.Fault{Status: http.StatusServiceUnavailable, Body: "away"})
				pause(t.Context(), *pagerAway)
				n.pager.Faults.Clear()
				failed <- n.pager.Faults.Hits()
				n.pager.Faults.Inject(pagerduty.ConnectionReset(http.MethodPut, "/incidents", lostWrites)) // all at once
			}()
			if err := n.breakAll(t.Context(), enough); err != nil {
				t.Error(err)
			}
			if err := n.judgeAll(t.Context()); err != nil {
				t.Error(err)
			}
			n.report(t)
			before := <-failed
			if lost := n.pager.Faults.Hits() - before; lost != lostWrites {
				t.Errorf("%d resolves and escalations lost their answers, want %d", lost, lostWrites)
			}
			t.Logf("%d requests failed", before+lostWrites)
		})
	}
}

// TestBadAPIServer lets 30 in 100 requests to the carriers fail, half of them after their effect, and all of them wait. It
// stays so until every run has ended and was judged.
func TestBadAPIServer(t *testing.T) {
	t.Parallel()
	n := newNight(t, options{seed: drawn(t), replicas: 2, carriers: 2, mode: playbook.ModeAct, deadline: 8 * time.Minute})
	for _, c := range n.carriers {
		c.api.set(weather{share: 0.3, latency: *latency})
	}
	enough, stop := context.WithTimeout(t.Context(), *badFor)
	defer stop()
	if err := n.breakAll(t.Context(), enough); err != nil {
		t.Error(err)
	}
	if err := n.judgeAll(t.Context()); err != nil {
		t.Error(err)
	}
	n.report(t)
	faults, changes := 0, 0
	for _, c := range n.carriers {
		faults, changes = faults+c.api.faults, changes+len(c.api.changes)
	}
	t.Logf("%d requests failed, each waited %v; %d changes were recorded", faults, *latency, changes)
}
