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
	pagerAway = flag.Duration("pager-away", 30*time.Second, "how long PagerDuty is away")
	latency   = flag.Duration("latency", 300*time.Millisecond, "of each request to the API server in its bad hour, 5 s at most")
	badFor    = flag.Duration("bad-for", 30*time.Second, "how long targets break before an API server that answers badly")
)

// TestPagerAway takes PagerDuty's API away while runs are under way, webhooks still come, and new alerts are raised. Some
// writes take effect at first and only lose their answers. Once it is back every note arrives, in order and once.
func TestPagerAway(t *testing.T) {
	for _, tt := range []struct {
		name     string
		deadline time.Duration
	}{
		{"the deadline is later", 8 * time.Minute},
		{"the deadline passes meanwhile", *pagerAway / 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNight(t, options{seed: drawn(t), replicas: 2, carriers: 2, mode: playbook.ModeAct, deadline: tt.deadline})
			enough, stop := context.WithCancel(t.Context())
			go func() {
				defer stop()
				pause(t.Context(), 4*time.Second)
				n.away.begin()
				defer n.away.end()
				n.pager.Faults.Inject(pagerduty.ConnectionReset(http.MethodPost, "/incidents/*/notes", 2))
				n.pager.Faults.Inject(pagerduty.ConnectionReset(http.MethodPut, "/incidents/*", 1))
				n.pager.Faults.Inject(standin.Fault{Status: http.StatusServiceUnavailable, Body: "away"})
				pause(t.Context(), *pagerAway)
				n.pager.Faults.Clear()
			}()
			if err := n.breakAll(t.Context(), enough); err != nil {
				t.Error(err)
			}
			if err := n.judgeAll(t.Context()); err != nil {
				t.Error(err)
			}
			n.report(t)
			t.Logf("%d requests failed", n.pager.Faults.Hits())
		})
	}
}

// TestBadAPIServer lets 30 in 100 requests to the carriers fail, half of them after their effect, and all of them wait. It
// stays so until every run has ended and was judged.
func TestBadAPIServer(t *testing.T) {
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
