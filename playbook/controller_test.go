package playbook

import (
	"testing"
	"time"
)

func TestForbiddenLine(t *testing.T) {
	t.Parallel()
	target := Target{"prod-dal10-carrier3", "monitoring", "node-exporter"}
	const user = `User \"system:serviceaccount:kube-system:daemon-set-controller\"`
	tests := []struct {
		name, text string
		age        time.Duration
		verb       string
	}{
		{"today's line", `"Unhandled Error" err="monitoring/node-exporter failed with : failed to construct revisions of DaemonSet: controllerrevisions.apps is forbidden: ` + user + ` cannot create resource \"controllerrevisions\" in API group \"apps\""`, time.Minute, "create"},
		{"the runbook's line", `monitoring/node-exporter failed with : failed to construct revisions of DaemonSet: controllerrevisions.apps “node-exporter-b5dbf585b” is forbidden: User “system:serviceaccount:kube-system:daemon-set-controller” cannot get controllerrevisions.apps in the namespace “monitoring”`, time.Minute, "get"},
		{"with the revision's name", `monitoring/node-exporter failed with : failed to construct revisions of DaemonSet: controllerrevisions.apps \"node-exporter-579488d679\" is forbidden: ` + user + ` cannot get resource \"controllerrevisions\"`, time.Minute, "get"},
		{"too old", `monitoring/node-exporter failed with : failed to construct revisions of DaemonSet: controllerrevisions.apps is forbidden: ` + user + ` cannot create resource`, time.Hour, ""},
		{"a normal conflict after a reapply", `monitoring/node-exporter failed with : failed to construct revisions of DaemonSet: Operation cannot be fulfilled on controllerrevisions.apps \"x\": the object has been modified`, time.Minute, ""},
		{"a quota", `monitoring/node-exporter failed with : pods \"node-exporter-\" is forbidden: exceeded quota`, time.Minute, ""},
		{"another DaemonSet", `monitoring/other failed with : failed to construct revisions of DaemonSet: controllerrevisions.apps is forbidden: ` + user + ` cannot create resource`, time.Minute, ""},
		{"a longer namespace", `pre-monitoring/node-exporter failed with : failed to construct revisions of DaemonSet: controllerrevisions.apps is forbidden: ` + user + ` cannot create resource`, time.Minute, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, who, verb, found := ForbiddenLine([]LogLine{{At: t0.Add(-tt.age), Text: tt.text}}, target, t0)
			if verb != tt.verb || found != (tt.verb != "") {
				t.Errorf("found %v, verb %q, want %q", found, verb, tt.verb)
			}
			if found && who != "system:serviceaccount:kube-system:daemon-set-controller" {
				t.Errorf("user %q", who)
			}
		})
	}
}

// The nudge comes first; a restart needs the proof, a driver and a budget.
func TestRestartNeedsProof(t *testing.T) {
	t.Parallel()
	stuck := func() *scene { return healthy(12).ds(func(d *DaemonSet) { d.Generation = 2 }) }
	forbidden := func() *scene {
		s := stuck()
		s.o.Target = testRun(Triage).Target
		s.o.ManagerLog = Known(ManagerLog{Source: "pod x", Lines: []LogLine{{At: t0, Text: `monitoring/node-exporter failed with : failed to construct revisions of DaemonSet: controllerrevisions.apps is forbidden: User "system:serviceaccount:kube-system:daemon-set-controller" cannot create resource`}}})
		return s
	}
	nudge := Intent{Seq: 1, Lane: CarrierLane("prod-dal10-carrier3"), Action: Nudge{Namespace: "monitoring", Name: "node-exporter"}, PromisedAt: t0, SentAt: t0, SettledAt: t0, Result: Happened}
	tests := []struct {
		name   string
		scene  *scene
		driver string
		nudged bool
		to     State
		kind   Kind
	}{
		{"lag: nudge", stuck(), "deployment", false, RestartingController, KindNudge},
		{"lag after a nudge: hand over", stuck(), "deployment", true, Unwinding, ""},
		{"forbidden: nudge first", forbidden(), "deployment", false, RestartingController, KindNudge},
		{"forbidden after a nudge: restart", forbidden(), "deployment", true, RestartingController, KindRestart},
		{"forbidden, no driver: hand over", forbidden(), "none", true, Unwinding, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, r := testPolicy(), testRun(Triage)
			p.RestartDriver = tt.driver
			if tt.nudged {
				r.Intents = []Intent{nudge}
			}
			_, d := watch(p, r, tt.scene, 2*time.Minute)
			if d.To != tt.to {
				t.Fatalf("to %s: %s", d.To, d.Why)
			}
			var kind Kind
			for _, pr := range d.Promises {
				if IsChange(pr.Action) {
					kind = pr.Action.Kind()
				}
			}
			if kind != tt.kind {
				t.Errorf("promised %q, want %q", kind, tt.kind)
			}
		})
	}
}

// A controller-manager is taken for alive no longer than its own lease lasts, and never for more than half a minute: with a
// dead one a deleted DaemonSet hangs.
func TestAControllerIsAliveAsLongAsItsLease(t *testing.T) {
	t.Parallel()
	for lasts, want := range map[time.Duration]time.Duration{0: 30 * time.Second, 4 * time.Second: 4 * time.Second, time.Hour: 30 * time.Second} {
		if got := (Controller{Duration: lasts}).freshFor(); got != want {
			t.Errorf("a lease of %s: fresh for %s, want %s", lasts, got, want)
		}
	}
}
