package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptrace"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/drydock/drydock/playbook"
)

// UnsupportedActionError says that an action is not one for a carrier. Nothing was sent.
type UnsupportedActionError struct{ Kind playbook.Kind }

func (e *UnsupportedActionError) Error() string {
	return fmt.Sprintf("action %q is not one for a carrier", e.Kind)
}

// Do makes the one call of the action, see playbook.Carrier. What is proven about a failure becomes a Settlement; an error
// means that the call may have happened.
func (c *Carrier) Do(ctx context.Context, call playbook.Call) (playbook.Settlement, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	switch a := call.Action.(type) {
	case playbook.Cordon:
		return c.cordon(ctx, call.Run, a)
	case playbook.Uncordon:
		return c.uncordon(ctx, call.Run, call.Generation, a)
	case playbook.Evict:
		return c.evict(ctx, call.Run, a)
	case playbook.OrphanDelete:
		return c.deleteOrphaning(ctx, call.Run, a)
	case playbook.Create:
		return c.create(ctx, call.Run, a, call.Manifest)
	case playbook.Nudge:
		return c.nudge(ctx, call.Run, a)
	case playbook.RestartControllerManager:
		return c.restart(ctx, call.Run, a)
	case playbook.Promote, playbook.Annotate, playbook.Acknowledge, playbook.Escalate, playbook.Resolve:
	}
	return playbook.Settlement{}, &UnsupportedActionError{Kind: call.Action.Kind()}
}

func (c *Carrier) cordon(ctx context.Context, run string, a playbook.Cordon) (playbook.Settlement, error) {
	node, err := c.node(ctx, a.Node)
	switch {
	case err != nil:
		return c.unread(ctx, err, getNodes), nil
	case node == nil || string(node.UID) != a.UID:
		return superseded("the node is gone"), nil
	}
	if mark := markOf(node); mark != nil && mark.Run == a.Mark.Run && node.Spec.Unschedulable {
		return happened("it was cordoned by this run already"), nil
	} else if mark != nil && mark.Installation != a.Mark.Installation {
		return refused("the node bears the mark of another installation"), nil
	}
	// A cordon that is not ours belongs to somebody. Whoever adopted it would also take it away.
	if node.Spec.Unschedulable {
		return refused("the node is cordoned by somebody else"), nil
	}
	if a.ResourceVersion == "" || node.ResourceVersion != a.ResourceVersion {
		return notHappened("the node has changed since it was looked at"), nil
	}
	mark, err := json.Marshal(a.Mark)
	if err != nil {
		return playbook.Settlement{}, fmt.Errorf("encode cordon mark: %w", err)
	}
	err = c.patchNode(ctx, run, a.Node, a.ResourceVersion, map[string]any{CordonOwner: string(mark)}, map[string]any{"unschedulable": true})
	return c.settled(ctx, err, patchNodes, a.Node)
}

func (c *Carrier) uncordon(ctx context.Context, run string, generation int64, a playbook.Uncordon) (playbook.Settlement, error) {
	node, err := c.node(ctx, a.Node)
	switch {
	case err != nil:
		return c.unread(ctx, err, getNodes), nil
	case node == nil || string(node.UID) != a.UID:
		return superseded("the node is gone, and the cordon with it"), nil
	}
	mark := markOf(node)
	switch {
	case mark == nil || mark.Run != a.Run:
		return superseded("the cordon is not this run's"), nil
	case generation > 0 && mark.Generation > generation:
		return notHappened("a later worker of this run has taken the cordon over"), nil
	}
	annotations := map[string]any{CordonOwner: nil, Generation: nil}
	if node.Annotations[KeepCordoned] == "true" {
		s, err := c.settled(ctx, c.patchNode(ctx, run, a.Node, node.ResourceVersion, annotations, nil), patchNodes, a.Node)
		if s.Result == playbook.Happened {
			s.Detail = "left cordoned, as its annotation " + KeepCordoned + " asks; our mark is off"
		}
		return s, err
	}
	err = c.patchNode(ctx, run, a.Node, node.ResourceVersion, annotations, map[string]any{"unschedulable": nil})
	return c.settled(ctx, err, patchNodes, a.Node)
}

func (c *Carrier) evict(ctx context.Context, run string, a playbook.Evict) (playbook.Settlement, error) {
	if a.UID == "" {
		return refused("an eviction without the pod's uid is never sent: names repeat"), nil
	}
	uid := types.UID(a.UID)
	body, err := json.Marshal(policyv1.Eviction{
		TypeMeta:      metav1.TypeMeta{APIVersion: "policy/v1", Kind: "Eviction"},
		ObjectMeta:    metav1.ObjectMeta{Namespace: a.Namespace, Name: a.Pod},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}},
	})
	if err != nil {
		return playbook.Settlement{}, fmt.Errorf("encode eviction: %w", err)
	}
	err = c.send(ctx, run, c.actor.CoreV1().RESTClient().Post().Namespace(a.Namespace).Resource("pods").Name(a.Pod).
		SubResource("eviction").SetHeader("Content-Type", "application/json").Body(body))
	switch {
	case apierrors.IsTooManyRequests(err) && apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause):
		return refused("budget: " + messageOf(err)), nil
	case saidTwoBudgets(err):
		return refused("permanent: " + messageOf(err)), nil
	case apierrors.IsConflict(err):
		return superseded("another pod has that name now"), nil
	}
	return c.settled(ctx, err, evictPods(a.Namespace), a.Pod)
}

// saidTwoBudgets recognises the Eviction API's answer to a pod that two budgets select. It is a bare Status with code 500
// and no reason or cause (kubernetes/pkg/registry/core/pod/storage/eviction.go), so its text is all there is to tell it from
// a real failure, after which the pod might be gone.
func saidTwoBudgets(err error) bool {
	status, ok := statusOf(err)
	return ok && status.Code == 500 && strings.Contains(status.Message, "more than one PodDisruptionBudget")
}

func (c *Carrier) deleteOrphaning(ctx context.Context, run string, a playbook.OrphanDelete) (playbook.Settlement, error) {
	if a.UID == "" || a.ResourceVersion == "" {
		return refused("a DaemonSet is never deleted without its uid and resourceVersion"), nil
	}
	err := c.orphanDelete(ctx, run, a.Namespace, a.Name, a.UID, a.ResourceVersion, false)
	return c.settled(ctx, err, deleteDaemonSets(a.Namespace, a.Name), a.Name)
}

func (c *Carrier) create(ctx context.Context, run string, a playbook.Create, manifest playbook.Manifest) (playbook.Settlement, error) {
	if hexSHA256(manifest) != a.BackupSHA256 {
		return refused("the backup is not the one that was committed with the delete"), nil
	}
	body, manager, err := creatable(manifest)
	if err != nil {
		return refused(err.Error()), nil
	}
	err = c.createDaemonSet(ctx, run, a.Namespace, body, manager, false)
	if !saidAlreadyExists(err, a.Name) {
		return c.settled(ctx, err, createDaemonSets(a.Namespace), a.Name)
	}
	live, err := c.liveDaemonSet(ctx, a.Namespace, a.Name)
	switch {
	case err != nil:
		return notHappened("it exists already, and looking at it failed: " + short(err.Error())), nil
	case live.typed == nil || live.typed.DeletionTimestamp != nil:
		return notHappened("the old object is still being deleted"), nil
	case string(live.typed.UID) == a.OldUID:
		return superseded("the old object was not deleted"), nil
	}
	if _, hash, err := sanitize(live.raw); err == nil && hash == a.BackupSHA256 {
		return superseded("it was created again already, as it was"), nil
	}
	return superseded("somebody created it again, differently: theirs stays"), nil
}

func (c *Carrier) nudge(ctx context.Context, run string, a playbook.Nudge) (playbook.Settlement, error) {
	if a.UID == "" || a.ResourceVersion == "" {
		return refused("a DaemonSet is never nudged without its uid and resourceVersion"), nil
	}
	err := c.patchDaemonSet(ctx, run, a.Namespace, a.Name, a.UID, a.ResourceVersion, map[string]any{NudgedByRun: a.Run})
	return c.settled(ctx, err, patchDaemonSets(a.Namespace, a.Name), a.Name)
}

// node reads a node afresh; nil when the API server said that there is none.
func (c *Carrier) node(ctx context.Context, name string) (*corev1.Node, error) {
	node, err := c.reader.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if saidNotFound(err, "nodes", name) {
		return nil, nil //nolint:nilnil // a node that does not exist is an answer, not an error
	}
	if err != nil {
		return nil, fmt.Errorf("get node %s: %w", name, err)
	}
	return node, nil
}

// patchNode changes annotations (nil removes one) and spec in one compare-and-swap.
func (c *Carrier) patchNode(ctx context.Context, run, name, resourceVersion string, annotations, spec map[string]any) error {
	patch := map[string]any{"metadata": map[string]any{"resourceVersion": resourceVersion, "annotations": annotations}}
	if spec != nil {
		patch["spec"] = spec
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	return c.send(ctx, run, c.actor.CoreV1().RESTClient().Patch(types.MergePatchType).Resource("nodes").Name(name).
		Param("fieldManager", fieldManager).Body(body))
}

// patchDaemonSet changes annotations in one compare-and-swap.
func (c *Carrier) patchDaemonSet(ctx context.Context, run, namespace, name, uid, resourceVersion string, annotations map[string]any) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": uid, "resourceVersion": resourceVersion, "annotations": annotations}})
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	return c.send(ctx, run, c.actor.AppsV1().RESTClient().Patch(types.MergePatchType).Namespace(namespace).Resource("daemonsets").
		Name(name).Param("fieldManager", fieldManager).Body(body))
}

// unsentError is an error of a request that never got a connection, so the API server can not have seen it.
type unsentError struct{ error }

func (e unsentError) Unwrap() error { return e.error }

// send makes a mutating request: once, in the run's name. It notes whether there was ever a connection to send it on,
// which no error of net/http tells reliably.
func (c *Carrier) send(ctx context.Context, run string, req *rest.Request) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	agent := userAgent(c.version)
	if run != "" {
		agent += " run/" + run
	}
	// client-go would send it up to ten times when an answer bears Retry-After (kubernetes.md 1.6).
	err := req.MaxRetries(0).SetHeader("User-Agent", agent).Do(ctx).Error()
	if err != nil && !connected.Load() {
		return unsentError{err}
	}
	return err
}

// settled is what an error of a mutating request proves. Only an answer of the API server itself, or a request that never
// had a connection, proves anything; a timeout, a reset or a 5xx leaves the outcome open and stays an error. The right is the one
// that the request needs, and the name its object's.
func (c *Carrier) settled(ctx context.Context, err error, right Right, name string) (playbook.Settlement, error) {
	if err == nil {
		return happened(""), nil
	}
	if _, unsent := errors.AsType[unsentError](err); unsent {
		return notHappened("not sent: " + short(err.Error())), nil
	}
	status, answered := statusOf(err)
	if !answered {
		return playbook.Settlement{}, err
	}
	if lacking, ok := c.lacking(ctx, err, right); ok {
		return refused(lacking), nil
	}
	code := status.Code
	switch {
	case saidNotFound(err, right.Resource, name):
		return superseded("it is gone"), nil
	case code == 409:
		return notHappened("it has changed since it was looked at"), nil
	case code == 429:
		return notHappened("the API server is busy: " + messageOf(err)), nil
	case code >= 400 && code < 500 && code != 408:
		return refused(messageOf(err)), nil
	}
	return playbook.Settlement{}, err
}

// unread settles an action whose preceding read, which needs the right, failed: the change itself was never sent.
func (c *Carrier) unread(ctx context.Context, err error, right Right) playbook.Settlement {
	if lacking, ok := c.lacking(ctx, err, right); ok {
		return refused(lacking)
	}
	return notSent(err)
}

func notSent(err error) playbook.Settlement {
	return notHappened("not sent: " + short(err.Error()))
}

// saidAlreadyExists reports whether the API server itself said that a DaemonSet of this name exists.
func saidAlreadyExists(err error, name string) bool {
	status, ok := statusOf(err)
	return ok && apierrors.IsAlreadyExists(err) && status.Details != nil && status.Details.Name == name
}

func messageOf(err error) string {
	if status, ok := statusOf(err); ok {
		return short(status.Message)
	}
	return short(err.Error())
}

func happened(detail string) playbook.Settlement {
	return playbook.Settlement{Result: playbook.Happened, Detail: detail}
}

func notHappened(detail string) playbook.Settlement {
	return playbook.Settlement{Result: playbook.NotHappened, Detail: detail}
}

func superseded(detail string) playbook.Settlement {
	return playbook.Settlement{Result: playbook.Superseded, Detail: detail}
}

func refused(detail string) playbook.Settlement {
	return playbook.Settlement{Result: playbook.Refused, Detail: detail}
}
