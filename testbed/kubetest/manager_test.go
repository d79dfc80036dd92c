package kubetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
	"github.com/drydock/drydock/testbed/fault"
)

// watcher looks at one DaemonSet again and again, as the ticks of a run do.
type watcher struct {
	carrier   *kube.Carrier
	target    playbook.Target
	sightings playbook.Sightings
	last      playbook.Observation
}

// look reads what a tick reads, and what its diagnosis wants.
func (w *watcher) look(ctx context.Context) playbook.Diagnosis {
	policy := playbook.Policy{Timing: playbook.DefaultTiming()}
	w.last = observe(ctx, w.carrier, playbook.Look{Target: w.target, Policy: policy})
	d := playbook.Diagnose(policy, w.last, w.sightings)
	if len(d.Wants) > 0 {
		w.carrier.Observe(ctx, playbook.Look{Target: w.target, Policy: policy, Wants: d.Wants}, &w.last)
		d = playbook.Diagnose(policy, w.last, w.sightings)
	}
	w.sightings = d.Sightings
	return d
}

// created makes a DaemonSet, for the length of the test, that may never get pods.
func created(t *testing.T, ctx context.Context, a fault.Agent) *appsv1.DaemonSet {
	t.Helper()
	ds, err := fault.CreateDaemonSet(ctx, cluster.Client(), a)
	if err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, func(ctx context.Context) error {
		return fault.DeleteDaemonSet(ctx, cluster.Client(), a.Namespace, a.Name, metav1.DeletePropagationBackground)
	})
	return ds
}

// The runbook's failure: the controller has lost its rights on ControllerRevisions. The log proves it, the access review
// names every verb, and once the rights are back a nudge heals what waits in a back-off.
func TestForbiddenRevisions(t *testing.T) {
	ctx, client, c := setup(t)
	restore, err := fault.ForbidControllerRevisions(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, restore)
	ds := created(t, ctx, fault.Agent{Namespace: "forbidden", Name: "node-exporter"})
	// Its key ends like the other's; what is logged about it is no proof.
	created(t, ctx, fault.Agent{Namespace: "forbidden", Name: "node-exporter-2"})
	w := &watcher{carrier: c, target: target(ds)}
	eventually(t, ctx, "the finding", func(ctx context.Context) error {
		if d := w.look(ctx); d.Finding != playbook.FindingControllerStuck || !d.Confirmed || !strings.Contains(d.Why, "forbidden") && !strings.Contains(d.Why, "may not") {
			return fmt.Errorf("finding %s, confirmed %t: %s; log %s", d.Finding, d.Confirmed, d.Why, w.last.ManagerLog.Why())
		}
		return nil
	})
	log := known(t, "log", w.last.ManagerLog)
	line, user, verb, found := playbook.ForbiddenLine(log.Lines, w.target, w.last.At)
	if !found || user != "system:serviceaccount:kube-system:daemon-set-controller" || verb == "" || time.Since(line.At) > time.Minute {
		t.Errorf("found %t: user %q, verb %q, %+v", found, user, verb, line)
	}
	if log.Source != "pod kube-system/kube-controller-manager-"+carrierName+"-master-01" {
		t.Errorf("source = %q", log.Source)
	}
	for _, l := range log.Lines {
		if !strings.Contains(l.Text, "forbidden/node-exporter failed with") {
			t.Errorf("line of another: %+v", l)
		}
	}
	want := []string{"get controllerrevisions.apps", "create controllerrevisions.apps", "patch controllerrevisions.apps",
		"update controllerrevisions.apps", "delete controllerrevisions.apps"}
	if missing := known(t, "missing rights", w.last.MissingRights); !slices.Equal(missing, want) {
		t.Errorf("missing rights = %v", missing)
	}

	if err := restore(ctx); err != nil {
		t.Fatal(err)
	}
	fresh := get(t, ctx, ds)
	do(t, ctx, c, playbook.Nudge{Namespace: ds.Namespace, Name: ds.Name, UID: string(fresh.UID), ResourceVersion: fresh.ResourceVersion, Run: "run-1"}, playbook.Happened)
	nudged := time.Now()
	eventually(t, ctx, "the nudged DaemonSet to run everywhere", func(ctx context.Context) error {
		if d := w.look(ctx); d.Finding != playbook.FindingHealthy {
			return fmt.Errorf("finding %s: %s", d.Finding, d.Why)
		}
		return nil
	})
	t.Logf("healthy %s after the nudge", time.Since(nudged).Round(100*time.Millisecond))
	missing := known(t, "missing rights", observe(ctx, c, playbook.Look{Target: w.target, Wants: []playbook.Want{{Kind: playbook.WantManagerLog}}}).MissingRights)
	if len(missing) != 0 {
		t.Errorf("missing rights = %v, though they are back", missing)
	}
}

// A quota's "is forbidden" is about pods: it is in the log, it is about this DaemonSet, and it is no reason to restart anything.
func TestAQuotaIsNoForbiddenRevision(t *testing.T) {
	ctx, client, c := setup(t)
	restore, err := fault.RefusePods(ctx, client, "quota")
	if err != nil {
		t.Fatal(err)
	}
	clustertest.Cleanup(t, restore)
	ds := created(t, ctx, fault.Agent{Namespace: "quota", Name: "node-exporter"})
	w := &watcher{carrier: c, target: target(ds)}
	eventually(t, ctx, "the finding", func(ctx context.Context) error {
		if d := w.look(ctx); d.Finding != playbook.FindingRefused {
			return fmt.Errorf("finding %s: %s", d.Finding, d.Why)
		}
		return nil
	})
	isNotForbidden(t, logged(t, ctx, c, ds, "is forbidden: exceeded quota"))
}

// logged waits until the controller-manager has logged something about a DaemonSet.
func logged(t *testing.T, ctx context.Context, c *kube.Carrier, ds *appsv1.DaemonSet, text string) playbook.Observation {
	t.Helper()
	var o playbook.Observation
	eventually(t, ctx, "the log to say "+text, func(ctx context.Context) error {
		o = observe(ctx, c, playbook.Look{Target: target(ds), Wants: []playbook.Want{{Kind: playbook.WantManagerLog}}})
		log := known(t, "log", o.ManagerLog)
		if !slices.ContainsFunc(log.Lines, func(l playbook.LogLine) bool { return strings.Contains(l.Text, text) }) {
			return fmt.Errorf("%d other lines", len(log.Lines))
		}
		return nil
	})
	return o
}

// Whatever the controller logs about a normal reapply (conflicts were seen, with objects that have been modified) is not
// taken for the forbidden line.
func TestAReapplyIsNoForbiddenRevision(t *testing.T) {
	ctx, _, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "conflict", Name: "node-exporter"})
	for range 3 {
		check := reapplyCheck(t, ctx, c, ds)
		del := deleteOf(ds, check)
		do(t, ctx, c, del, playbook.Happened)
		create, _ := del.Undo().(playbook.Create)
		eventually(t, ctx, "the create", func(ctx context.Context) error {
			s, err := c.Do(ctx, playbook.Call{Run: "run-1", Action: create, Manifest: check.Manifest})
			if err == nil && s.Result != playbook.Happened {
				err = errors.New(s.Detail)
			}
			return err
		})
		if _, err := fault.WaitDaemonSetReady(ctx, cluster.Client(), ds.Namespace, ds.Name); err != nil {
			t.Fatal(err)
		}
		ds = get(t, ctx, ds)
	}
	o := observe(ctx, c, playbook.Look{Target: target(ds), Wants: []playbook.Want{{Kind: playbook.WantManagerLog}}})
	isNotForbidden(t, o)
}

func isNotForbidden(t *testing.T, o playbook.Observation) {
	t.Helper()
	log := known(t, "log", o.ManagerLog)
	if line, _, _, found := playbook.ForbiddenLine(log.Lines, o.Target, o.At); found {
		t.Errorf("taken for the forbidden line: %+v", line)
	}
	if missing := known(t, "missing rights", o.MissingRights); len(missing) != 0 {
		t.Errorf("missing rights = %v", missing)
	}
}

// managed is the carrier with a way to restart its controller-manager.
func managed(t *testing.T, m kube.ControllerManager) *kube.Carrier {
	t.Helper()
	registry, err := kube.NewRegistry([]kube.Entry{{Name: carrierName, Kubeconfig: cluster.Kubeconfig(), ControllerManager: m}}, "", kube.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := registry.Check(); err != nil {
		t.Fatal(err)
	}
	c, err := registry.Carrier(carrierName)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// holder is who leads now.
func holder(t *testing.T, ctx context.Context, c *kube.Carrier) string {
	t.Helper()
	o := observe(ctx, c, playbook.Look{Target: playbook.Target{Carrier: carrierName, Namespace: "default", DaemonSet: "none"}})
	return known(t, "controller", o.Controller).Holder
}

func TestRestartByDeployment(t *testing.T) {
	ctx, client, _ := setup(t)
	const name = "kube-controller-manager"
	before := workload(t, ctx, fault.Workload{Namespace: "kube-system", Name: name, Replicas: 2})
	c := managed(t, kube.ControllerManager{Restart: kube.DriverDeployment})
	restart := playbook.RestartControllerManager{Driver: kube.DriverDeployment, Holder: holder(t, ctx, c)}
	wrong := restart
	wrong.Holder = "master-99_x"
	do(t, ctx, c, wrong, playbook.Superseded)
	do(t, ctx, c, restart, playbook.Happened)
	read := func() *appsv1.Deployment {
		d, err := client.AppsV1().Deployments("kube-system").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	first := read()
	if first.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"] != "drydock run run-1" || first.Generation != 2 {
		t.Errorf("generation %d, template annotations %v", first.Generation, first.Spec.Template.Annotations)
	}
	eventually(t, ctx, "new pods in place of the old ones", func(ctx context.Context) error {
		now := podsOf(t, ctx, "kube-system", name)
		for _, p := range now {
			if slices.ContainsFunc(before, func(b corev1.Pod) bool { return b.UID == p.UID }) {
				return fmt.Errorf("pod %s is still there", p.Name)
			}
		}
		if len(now) != 2 {
			return fmt.Errorf("%d pods", len(now))
		}
		return nil
	})
	do(t, ctx, c, restart, playbook.Happened) // the same call again changes nothing
	if again := read(); again.Generation != first.Generation {
		t.Errorf("generation %d, then %d", first.Generation, again.Generation)
	}
}
