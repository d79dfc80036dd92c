package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/playbook"
)

// errAbsent is why a reading about a DaemonSet that does not exist is unknown.
var errAbsent = errors.New("the DaemonSet does not exist")

// maxEvents bounds a reading of events; the newest are kept.
const maxEvents = 50

func (l *looking) events(ctx context.Context) ([]playbook.Event, error) {
	live, err := l.live(ctx)
	if err != nil {
		return nil, err
	}
	if live.typed == nil {
		return nil, errAbsent
	}
	list, err := l.c.listEvents(ctx, live.typed.Namespace, "DaemonSet", live.typed.Name)
	if err != nil {
		return nil, err
	}
	events := []playbook.Event{}
	for _, e := range list {
		// An earlier object of the same name may have failed for a reason that is gone.
		if e.InvolvedObject.UID == live.typed.UID || e.InvolvedObject.UID == "" {
			events = append(events, eventFacts(e))
		}
	}
	return events[:min(len(events), maxEvents)], nil
}

// listEvents reads the events about one object, newest first.
func (c *Carrier) listEvents(ctx context.Context, namespace, kind, name string) ([]corev1.Event, error) {
	selector := fields.Set{"involvedObject.kind": kind, "involvedObject.name": name}.String()
	events, err := listAll(ctx, metav1.ListOptions{FieldSelector: selector},
		func(ctx context.Context, opts metav1.ListOptions) ([]corev1.Event, string, error) {
			list, err := c.reader.CoreV1().Events(namespace).List(ctx, opts)
			if err != nil {
				return nil, "", err
			}
			return list.Items, list.Continue, nil
		})
	if err != nil {
		return nil, fmt.Errorf("list events of %s %s/%s: %w", kind, namespace, name, err)
	}
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return lastSeen(b).Compare(lastSeen(a)) })
	return events, nil
}

// lastSeen of an event, in the newest of the three forms that the API has had.
func lastSeen(e corev1.Event) time.Time {
	switch {
	case e.Series != nil && !e.Series.LastObservedTime.IsZero():
		return e.Series.LastObservedTime.UTC()
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.UTC()
	case !e.EventTime.IsZero():
		return e.EventTime.UTC()
	}
	return e.CreationTimestamp.UTC()
}

func eventFacts(e corev1.Event) playbook.Event {
	count := max(1, int(e.Count))
	if e.Series != nil {
		count = max(count, int(e.Series.Count))
	}
	return playbook.Event{Reason: e.Reason, Message: short(e.Message), Count: count, At: lastSeen(e)}
}

// reapply reads what must be known before an orphan delete. It asks as the identity that would act, and changes nothing.
func (l *looking) reapply(ctx context.Context) (playbook.ReapplyCheck, error) {
	// Afresh, not the object that the other readings share: uid, resourceVersion and manifest must be of one moment.
	target := l.look.Target
	live, err := l.c.liveDaemonSet(ctx, target.Namespace, target.DaemonSet)
	if err != nil {
		return playbook.ReapplyCheck{}, err
	}
	ds := live.typed
	if ds == nil {
		return playbook.ReapplyCheck{}, errAbsent
	}
	check := playbook.ReapplyCheck{UID: string(ds.UID), ResourceVersion: ds.ResourceVersion}
	if check.Manifest, check.SHA256, err = sanitize(live.raw); err != nil {
		return playbook.ReapplyCheck{}, err
	}
	noCreate, err := l.c.denied(ctx, createDaemonSets(ds.Namespace))
	if err != nil {
		return playbook.ReapplyCheck{}, err
	}
	noDelete, err := l.c.denied(ctx, deleteDaemonSets(ds.Namespace, ds.Name))
	if err != nil {
		return playbook.ReapplyCheck{}, err
	}
	check.MayCreate, check.MayDelete = !noCreate, !noDelete
	if check.DryRun, err = l.c.dryRunReapply(ctx, ds.Namespace, ds.Name, check); err != nil {
		return playbook.ReapplyCheck{}, err
	}
	pods, err := l.daemonPods(ctx, ds)
	if err != nil {
		return playbook.ReapplyCheck{}, err
	}
	check.PodUIDs = []string{}
	for i := range pods {
		if metav1.IsControlledBy(&pods[i], ds) && pods[i].DeletionTimestamp == nil && takesSlot(&pods[i]) {
			check.PodUIDs = append(check.PodUIDs, string(pods[i].UID))
		}
	}
	slices.Sort(check.PodUIDs)
	return check, nil
}

// dryRunReapply sends the two calls of a reapply as server-side dry runs. It returns what the API server has against them,
// or "".
//
// The create goes out under the real name, while the object still exists: the API server runs admission and validation
// before it looks whether the name is taken, so AlreadyExists proves that all else was accepted. Another name would be
// refused wherever a policy lists the DaemonSets that we may create (security.md 4.1).
func (c *Carrier) dryRunReapply(ctx context.Context, namespace, name string, check playbook.ReapplyCheck) (string, error) {
	body, manager, err := creatable(check.Manifest)
	if err != nil {
		return "", err
	}
	err = c.createDaemonSet(ctx, "", namespace, body, manager, true)
	if refusal, unknown := refusalOf(err); unknown != nil {
		return "", fmt.Errorf("dry-run create of DaemonSet %s/%s: %w", namespace, name, unknown)
	} else if refusal != "" && !saidAlreadyExists(err, name) {
		return short("create: " + refusal), nil
	}
	err = c.orphanDelete(ctx, "", namespace, name, check.UID, check.ResourceVersion, true)
	if refusal, unknown := refusalOf(err); unknown != nil {
		return "", fmt.Errorf("dry-run delete of DaemonSet %s/%s: %w", namespace, name, unknown)
	} else if refusal != "" {
		return short("delete: " + refusal), nil
	}
	return "", nil
}

// refusalOf splits an error of a dry run in what the API server has against the call and what says nothing about it.
func refusalOf(err error) (refusal string, unknown error) {
	status, answered := statusOf(err)
	switch {
	case err == nil:
		return "", nil
	case answered && status.Code < 500 && status.Code != 429:
		return cmp.Or(status.Message, err.Error()), nil
	}
	return "", err
}

// adoption compares pods by uid, wherever they are in the namespace and whoever controls them: it is also asked while
// the DaemonSet is gone.
func (l *looking) adoption(ctx context.Context, uids []string) (playbook.Adoption, error) {
	live, err := l.live(ctx)
	if err != nil {
		return playbook.Adoption{}, err
	}
	pods, err := l.c.listPods(ctx, l.look.Target.Namespace, metav1.ListOptions{})
	if err != nil {
		return playbook.Adoption{}, err
	}
	byUID := make(map[types.UID]*corev1.Pod, len(pods))
	for i := range pods {
		byUID[pods[i].UID] = &pods[i]
	}
	var found playbook.Adoption
	for _, uid := range uids {
		pod := byUID[types.UID(uid)]
		switch {
		case pod == nil || pod.DeletionTimestamp != nil: // a pod that terminates does not come back
			found.Lost = append(found.Lost, uid)
		case metav1.GetControllerOf(pod) == nil:
			found.Orphans = append(found.Orphans, uid)
		case live.typed != nil && metav1.IsControlledBy(pod, live.typed):
			found.Kept++
		}
	}
	return found, nil
}

// createDaemonSet is the one place that creates a DaemonSet.
func (c *Carrier) createDaemonSet(ctx context.Context, run, namespace string, body []byte, manager string, dryRun bool) error {
	req := c.actor.AppsV1().RESTClient().Post().Namespace(namespace).Resource("daemonsets").
		Param("fieldManager", manager).SetHeader("Content-Type", "application/json").Body(body)
	if dryRun {
		req = req.Param("dryRun", metav1.DryRunAll)
	}
	return c.send(ctx, run, req)
}

// orphanDelete is the one place that deletes a DaemonSet. Without the policy Orphan the delete would take every pod with
// it (0 of 5 survived), and without the preconditions it would delete what somebody has edited since (kubernetes.md 1.5).
func (c *Carrier) orphanDelete(ctx context.Context, run, namespace, name, uid, resourceVersion string, dryRun bool) error {
	orphan, id := metav1.DeletePropagationOrphan, types.UID(uid)
	options := metav1.DeleteOptions{
		TypeMeta:          metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		PropagationPolicy: &orphan,
		Preconditions:     &metav1.Preconditions{UID: &id, ResourceVersion: &resourceVersion},
	}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	body, err := json.Marshal(options)
	if err != nil {
		return fmt.Errorf("encode delete options: %w", err)
	}
	return c.send(ctx, run, c.actor.AppsV1().RESTClient().Delete().Namespace(namespace).Resource("daemonsets").Name(name).
		SetHeader("Content-Type", "application/json").Body(body))
}
