package kubetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/testbed/fault"
)

// reapplyCheck reads what a reapply needs and requires that nothing is against it.
func reapplyCheck(t *testing.T, ctx context.Context, c *kube.Carrier, ds *appsv1.DaemonSet) playbook.ReapplyCheck {
	t.Helper()
	o := observe(ctx, c, playbook.Look{Target: target(ds), Wants: []playbook.Want{{Kind: playbook.WantReapply}}})
	check := known(t, "reapply", o.Reapply)
	if !check.MayCreate || !check.MayDelete || check.DryRun != "" || len(check.Manifest) == 0 || check.UID != string(ds.UID) {
		t.Fatalf("reapply check = %+v", check)
	}
	return check
}

func deleteOf(ds *appsv1.DaemonSet, check playbook.ReapplyCheck) playbook.OrphanDelete {
	return playbook.OrphanDelete{Namespace: ds.Namespace, Name: ds.Name, UID: check.UID, ResourceVersion: check.ResourceVersion,
		BackupSHA256: check.SHA256, PodUIDs: check.PodUIDs}
}

// quiet waits until the garbage collector and the DaemonSet controller have seen every pod: a delete too soon loses some
// (kubernetes.md, fact 5). A watch shows when the pods are old; a few seconds are more than any cache here needs.
func quiet(t *testing.T, ctx context.Context, ds *appsv1.DaemonSet) {
	t.Helper()
	eventually(t, ctx, "the pods to be older than the caches", func(context.Context) error {
		for _, p := range podsOf(t, ctx, ds.Namespace, ds.Name) {
			if age := time.Since(p.CreationTimestamp.Time); age < 5*time.Second {
				return fmt.Errorf("pod %s is %s old", p.Name, age)
			}
		}
		return nil
	})
}

func adoption(t *testing.T, ctx context.Context, c *kube.Carrier, ds *appsv1.DaemonSet, uids []string) playbook.Adoption {
	t.Helper()
	o := observe(ctx, c, playbook.Look{Target: target(ds), Wants: []playbook.Want{{Kind: playbook.WantAdoption, UIDs: uids}}})
	return known(t, "adoption", o.Adoption)
}

// reapply deletes and creates again, by the book.
func reapply(t *testing.T, ctx context.Context, c *kube.Carrier, ds *appsv1.DaemonSet) (playbook.ReapplyCheck, *appsv1.DaemonSet) {
	t.Helper()
	quiet(t, ctx, ds)
	check := reapplyCheck(t, ctx, c, ds)
	del := deleteOf(ds, check)
	do(t, ctx, c, del, playbook.Happened)
	orphaned(t, ctx, c, ds, check.PodUIDs)
	create, _ := del.Undo().(playbook.Create)
	doCall(t, ctx, c, playbook.Call{Run: "run-1", Action: create, Manifest: check.Manifest}, playbook.Happened)
	eventually(t, ctx, "the new object to adopt every pod", func(ctx context.Context) error {
		if a := adoption(t, ctx, c, ds, check.PodUIDs); a.Kept != len(check.PodUIDs) || len(a.Lost)+len(a.Orphans) > 0 {
			return fmt.Errorf("adoption = %+v", a)
		}
		return nil
	})
	return check, get(t, ctx, ds)
}

// orphaned waits until the object is gone and nobody controls its pods.
func orphaned(t *testing.T, ctx context.Context, c *kube.Carrier, ds *appsv1.DaemonSet, uids []string) {
	t.Helper()
	eventually(t, ctx, "every pod to be an orphan", func(ctx context.Context) error {
		st, err := c.State(ctx, playbook.Ref{Kind: "DaemonSet", Namespace: ds.Namespace, Name: ds.Name})
		if err == nil && st.Exists {
			err = errors.New("the old object is still there")
		}
		if err != nil {
			return err
		}
		if a := adoption(t, ctx, c, ds, uids); len(a.Orphans) != len(uids) {
			return fmt.Errorf("adoption = %+v", a)
		}
		return nil
	})
}

func TestReapplyKeepsEveryPodAndAllThatOthersOwn(t *testing.T) {
	ctx, client, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "reapply", Name: "node-exporter", Annotations: map[string]string{
		"kubectl.kubernetes.io/last-applied-configuration": "{}", "example.com/owner": "armada-ops"}, Edit: annotateTemplate})
	// A nudge leaves its annotation; it must not come back with the new object.
	do(t, ctx, c, playbook.Nudge{Namespace: ds.Namespace, Name: ds.Name, UID: string(ds.UID), ResourceVersion: ds.ResourceVersion, Run: "run-1"}, playbook.Happened)
	ds = get(t, ctx, ds)
	if ds.Annotations[kube.NudgedByRun] != "run-1" {
		t.Fatalf("annotations = %v", ds.Annotations)
	}
	before := known(t, "DaemonSet", observe(ctx, c, playbook.Look{Target: target(ds)}).DaemonSet)
	check, again := reapply(t, ctx, c, ds)
	if len(check.PodUIDs) != 12 {
		t.Errorf("%d pods were backed up", len(check.PodUIDs))
	}
	if again.UID == ds.UID {
		t.Error("the object is the old one")
	}
	want := map[string]string{}
	for key, value := range ds.Annotations {
		if !strings.HasPrefix(key, "drydock.dev/") {
			want[key] = value
		}
	}
	if diff := cmp.Diff(want, again.Annotations); diff != "" {
		t.Errorf("annotations:\n%s", diff)
	}
	if diff := cmp.Diff(ds.Labels, again.Labels); diff != "" {
		t.Errorf("labels:\n%s", diff)
	}
	if diff := cmp.Diff(ds.Spec, again.Spec); diff != "" {
		t.Errorf("spec:\n%s", diff)
	}
	eventually(t, ctx, "the new object to be ready everywhere", func(ctx context.Context) error {
		after := known(t, "DaemonSet", observe(ctx, c, playbook.Look{Target: target(ds)}).DaemonSet)
		if after.SpecHash != before.SpecHash || after.Ready != 12 || after.Updated != 12 || after.ObservedGeneration != after.Generation {
			return fmt.Errorf("DaemonSet = %+v", after)
		}
		return nil
	})
	revisions, err := client.AppsV1().ControllerRevisions(ds.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil || len(revisions.Items) != 1 || !metav1.IsControlledBy(&revisions.Items[0], again) {
		t.Errorf("revisions = %d, %v; want the old one, adopted", len(revisions.Items), err)
	}
	st, err := c.State(ctx, playbook.Ref{Kind: "DaemonSet", Namespace: ds.Namespace, Name: ds.Name})
	if err != nil || st.BackupSHA256 != check.SHA256 {
		t.Errorf("the new object's manifest is not the backup's: %+v, %v", st, err)
	}
	// The create, sent again, finds that it is done.
	s := doCall(t, ctx, c, playbook.Call{Run: "run-1", Action: playbook.Create{Namespace: ds.Namespace, Name: ds.Name, OldUID: string(ds.UID),
		BackupSHA256: check.SHA256}, Manifest: check.Manifest}, playbook.Superseded)
	if !strings.Contains(s.Detail, "as it was") {
		t.Errorf("detail = %q", s.Detail)
	}
}

func annotateTemplate(ds *appsv1.DaemonSet) {
	ds.Spec.Template.Annotations = map[string]string{"prometheus.io/scrape": "true"}
}

// The trap of the runbook's "strip annotations": after a reapply of a DaemonSet at template generation 2, a rollout must
// reach every pod. With deprecated.daemonset.template.generation stripped the new object would count 1, 2 again, and the
// old pods, which are labelled 2, as updated.
func TestReapplyDoesNotFreezeTheNextRollout(t *testing.T) {
	ctx, _, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "rollout", Name: "node-exporter"})
	rollOut(t, ctx, ds, "registry.example.com/node-exporter:2.0")
	ds = get(t, ctx, ds)
	if ds.Annotations[templateGeneration] != "2" {
		t.Fatalf("annotations = %v", ds.Annotations)
	}
	_, again := reapply(t, ctx, c, ds)
	if again.Annotations[templateGeneration] != "2" || again.Generation != 1 {
		t.Errorf("generation %d, annotations %v", again.Generation, again.Annotations)
	}
	rollOut(t, ctx, ds, "registry.example.com/node-exporter:3.0")
}

const templateGeneration = "deprecated.daemonset.template.generation"

// That the trap is real: the same steps with the annotations stripped, as the runbook has it.
func TestNaiveStripFreezesTheNextRollout(t *testing.T) {
	ctx, client, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "naive-strip", Name: "node-exporter"})
	rollOut(t, ctx, ds, "registry.example.com/node-exporter:2.0")
	naiveReapply(t, ctx, c, ds, func(again *appsv1.DaemonSet) { again.Annotations = nil })
	setImage(t, ctx, ds, "registry.example.com/node-exporter:3.0")
	_, err := fault.WaitDaemonSet(ctx, client, ds.Namespace, ds.Name, "to call every pod updated", func(d *appsv1.DaemonSet) error {
		if d.Status.ObservedGeneration != d.Generation || d.Generation != 2 || d.Status.UpdatedNumberScheduled != 12 {
			return fmt.Errorf("generation %d, status %+v", d.Generation, d.Status)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if have := images(t, ctx, ds); have["registry.example.com/node-exporter:2.0"] != 12 {
		t.Errorf("images = %v: the trap is gone, so sanitize keeps annotations for one reason less", have)
	}
}

// The other trap: a strip that reaches the template's annotations makes another template, and no pod survives. (While the
// pods' template generation happens to be the new object's, 1, they count as updated, and the trap shuts later.)
func TestNaiveRecursiveStripRestartsPods(t *testing.T) {
	ctx, _, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "naive-recursive", Name: "node-exporter", Edit: annotateTemplate})
	image := "registry.example.com/node-exporter:2.0"
	rollOut(t, ctx, ds, image)
	uids := reapplyCheck(t, ctx, c, ds).PodUIDs
	naiveReapply(t, ctx, c, ds, func(again *appsv1.DaemonSet) {
		again.Annotations, again.Spec.Template.Annotations = nil, nil
	})
	eventually(t, ctx, "every pod to be lost", func(ctx context.Context) error {
		if a := adoption(t, ctx, c, ds, uids); len(a.Lost) != 12 {
			return fmt.Errorf("%d pods are kept, %d lost", a.Kept, len(a.Lost))
		}
		return nil
	})
}

// naiveReapply deletes, orphaning the pods, and creates what the edit leaves.
func naiveReapply(t *testing.T, ctx context.Context, c *kube.Carrier, ds *appsv1.DaemonSet, edit func(*appsv1.DaemonSet)) {
	t.Helper()
	quiet(t, ctx, ds)
	check := reapplyCheck(t, ctx, c, ds)
	do(t, ctx, c, deleteOf(ds, check), playbook.Happened)
	orphaned(t, ctx, c, ds, check.PodUIDs)
	var again appsv1.DaemonSet
	if err := json.Unmarshal(check.Manifest, &again); err != nil {
		t.Fatal(err)
	}
	edit(&again)
	if _, err := cluster.Client().AppsV1().DaemonSets(ds.Namespace).Create(ctx, &again, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// rollOut changes the image and waits until every node's pod has it.
func rollOut(t *testing.T, ctx context.Context, ds *appsv1.DaemonSet, image string) {
	t.Helper()
	setImage(t, ctx, ds, image)
	eventually(t, ctx, "all pods to run "+image, func(ctx context.Context) error {
		if have := images(t, ctx, ds); len(have) != 1 || have[image] != 12 {
			return fmt.Errorf("images = %v", have)
		}
		return nil
	})
}

func setImage(t *testing.T, ctx context.Context, ds *appsv1.DaemonSet, image string) {
	t.Helper()
	_, err := cluster.Client().AppsV1().DaemonSets(ds.Namespace).Patch(ctx, ds.Name, types.StrategicMergePatchType,
		[]byte(`{"spec":{"template":{"spec":{"containers":[{"name":"`+ds.Name+`","image":"`+image+`"}]}}}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// images counts the running pods by image.
func images(t *testing.T, ctx context.Context, ds *appsv1.DaemonSet) map[string]int {
	t.Helper()
	have := map[string]int{}
	for _, p := range podsOf(t, ctx, ds.Namespace, ds.Name) {
		if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
			have[p.Spec.Containers[0].Image]++
		}
	}
	return have
}

func TestOrphanDeleteReliesOnWhatWasBackedUp(t *testing.T) {
	ctx, client, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "edited", Name: "node-exporter"})
	check := reapplyCheck(t, ctx, c, ds)
	del := deleteOf(ds, check)
	for _, broken := range []func(*playbook.OrphanDelete){
		func(d *playbook.OrphanDelete) { d.UID = "" },
		func(d *playbook.OrphanDelete) { d.ResourceVersion = "" },
	} {
		d := del
		broken(&d)
		do(t, ctx, c, d, playbook.Refused)
	}
	wrong := del
	wrong.UID = "00000000-0000-0000-0000-000000000000"
	do(t, ctx, c, wrong, playbook.NotHappened)
	// Somebody edits the object between backup and delete.
	if _, err := client.AppsV1().DaemonSets(ds.Namespace).Patch(ctx, ds.Name, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"edited":"true"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	do(t, ctx, c, del, playbook.NotHappened)
	if after := get(t, ctx, ds); after.UID != ds.UID || after.DeletionTimestamp != nil || after.Labels["edited"] != "true" {
		t.Errorf("the edited object was touched: %+v", after.ObjectMeta)
	}
	// A takeover touches the object, and the paused worker's delete dies on its resourceVersion.
	del = deleteOf(ds, reapplyCheck(t, ctx, c, ds))
	if ok, err := c.Touch(ctx, del.Target(), "run-1", 2); err != nil || !ok {
		t.Fatalf("touch: %t, %v", ok, err)
	}
	do(t, ctx, c, del, playbook.NotHappened)
	// A touch is not an edit: the manifest is the same.
	if again := reapplyCheck(t, ctx, c, ds); again.SHA256 != del.BackupSHA256 {
		t.Error("the touch changed the manifest")
	}
	gone := del
	gone.Name = "no-such"
	do(t, ctx, c, gone, playbook.Superseded)
}

func TestCreateNeverOverwrites(t *testing.T) {
	ctx, client, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "create", Name: "node-exporter"})
	check := reapplyCheck(t, ctx, c, ds)
	create := playbook.Call{Run: "run-1", Manifest: check.Manifest,
		Action: playbook.Create{Namespace: ds.Namespace, Name: ds.Name, OldUID: string(ds.UID), BackupSHA256: check.SHA256}}
	doCall(t, ctx, c, create, playbook.Superseded) // the old object was never deleted

	tampered := create
	tampered.Manifest = append(slices.Clone(check.Manifest), ' ')
	doCall(t, ctx, c, tampered, playbook.Refused)

	// A finalizer holds the deletion up: the create has to come again later.
	if _, err := client.AppsV1().DaemonSets(ds.Namespace).Patch(ctx, ds.Name, types.MergePatchType,
		[]byte(`{"metadata":{"finalizers":["example.com/hold"]}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	check = reapplyCheck(t, ctx, c, ds)
	do(t, ctx, c, deleteOf(ds, check), playbook.Happened)
	if seen := known(t, "DaemonSet", observe(ctx, c, playbook.Look{Target: target(ds)}).DaemonSet); seen.DeletedAt == nil || !slices.Contains(seen.Finalizers, "example.com/hold") {
		t.Errorf("DaemonSet = %+v, want it deleting and held", seen)
	}
	doCall(t, ctx, c, create, playbook.NotHappened)
	if _, err := client.AppsV1().DaemonSets(ds.Namespace).Patch(ctx, ds.Name, types.MergePatchType,
		[]byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	// Somebody else creates it, differently, before we do.
	eventually(t, ctx, "the old object to go", func(ctx context.Context) error {
		st, err := c.State(ctx, create.Action.Target())
		if err == nil && st.Exists {
			err = errors.New("it is still there")
		}
		return err
	})
	theirs, err := fault.CreateDaemonSet(ctx, client, fault.Agent{Namespace: ds.Namespace, Name: ds.Name, Image: "registry.example.com/theirs:1.0"})
	if err != nil {
		t.Fatal(err)
	}
	s := doCall(t, ctx, c, create, playbook.Superseded)
	if !strings.Contains(s.Detail, "differently") || get(t, ctx, ds).UID != theirs.UID {
		t.Errorf("detail = %q", s.Detail)
	}
	// Theirs came at once after the delete: were it deleted before it has adopted the old pods, these would stay for ever.
	if _, err := fault.WaitDaemonSetReady(ctx, client, ds.Namespace, ds.Name); err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, "theirs to control every pod", func(ctx context.Context) error {
		for _, p := range podsOf(t, ctx, ds.Namespace, ds.Name) {
			if !metav1.IsControlledBy(&p, theirs) {
				return fmt.Errorf("pod %s is not controlled by it", p.Name)
			}
		}
		return nil
	})
}

// The dry run goes out under the real name, so that a policy on names is asked the real question; and what a policy has
// against the create is found before anything is deleted.
func TestReapplyCheckFindsARefusalBeforeTheDelete(t *testing.T) {
	ctx, client, c := setup(t)
	ds := agent(t, ctx, fault.Agent{Namespace: "policy", Name: "node-exporter"})
	reapplyCheck(t, ctx, c, ds)
	refuseCreates(t, ctx, client, "policy")
	look := playbook.Look{Target: target(ds), Wants: []playbook.Want{{Kind: playbook.WantReapply}}}
	eventually(t, ctx, "the policy to be enforced", func(ctx context.Context) error {
		check, ok := observe(ctx, c, look).Reapply.Get()
		if !ok || !strings.Contains(check.DryRun, "no DaemonSet may be created today") {
			return fmt.Errorf("dry run = %q", check.DryRun)
		}
		return nil
	})
	if get(t, ctx, ds).UID != ds.UID {
		t.Error("the check changed the DaemonSet")
	}
}
