package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/playbook/playbooktest/scenariofile"
	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/fault"
	"github.com/drydock/drydock/testbed/jenkins"
	"github.com/drydock/drydock/testbed/pagerduty"
	"github.com/drydock/drydock/testbed/standin"
)

// exitNoSpace is the exit code of an agent that can not write to its disk, or that crashes for any other reason.
const exitNoSpace = 1

// do makes an act happen, and returns when it is there as Kubernetes or PagerDuty sees it.
func (p *play) do(ctx context.Context, a scenariofile.Act) error {
	c, client, node := p.carrier, p.carrier.client, p.carrier.node(a.On)
	switch a.Verb { //nolint:exhaustive // doRemote has the others
	case scenariofile.PressDisk:
		// A kubelet under pressure evicts the agent, or the agent crashes on the full disk: the effect is the same.
		if err := fault.SetDiskPressure(ctx, client, node, true); err != nil {
			return err
		}
		return p.onPod(ctx, node, p.crash)
	case scenariofile.FreeDisk:
		if err := p.onPod(ctx, node, p.heal); err != nil {
			return err
		}
		return fault.SetDiskPressure(ctx, client, node, false)
	case scenariofile.CrashPod:
		return p.onPod(ctx, node, p.crash)
	case scenariofile.HealPod:
		return p.onPod(ctx, node, p.heal)
	case scenariofile.DeletePod:
		return p.onPod(ctx, node, func(ctx context.Context, pod string) error {
			return client.CoreV1().Pods(c.Namespace).Delete(ctx, pod, metav1.DeleteOptions{})
		})
	case scenariofile.TakeDown:
		return fault.SetNotReady(ctx, client, node, true)
	case scenariofile.BringUp:
		return fault.SetNotReady(ctx, client, node, false)
	case scenariofile.Cordon:
		return fault.Cordon(ctx, client, node, true)
	case scenariofile.Uncordon:
		return fault.Cordon(ctx, client, node, false)
	case scenariofile.KeepCordoned:
		body := fmt.Sprintf(`{"metadata":{"annotations":{%q:"true"}}}`, kube.KeepCordoned)
		_, err := client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, []byte(body), metav1.PatchOptions{})
		return err
	case scenariofile.RefusePods:
		restore, err := fault.RefusePods(ctx, client, c.Namespace)
		p.admit = restore
		return err
	case scenariofile.AdmitPods:
		return p.admit(ctx)
	case scenariofile.LoosenBudgets:
		return p.loosenBudgets(ctx)
	case scenariofile.AddBudgets:
		return c.addBudgets(ctx)
	case scenariofile.StickSet:
		return c.stickSet(ctx, a.On)
	case scenariofile.FreeSet:
		return c.patchFinalizers(ctx, a.On, nil)
	case scenariofile.EndNamespace:
		return c.endNamespace(ctx)
	case scenariofile.DeleteSet:
		return fault.DeleteDaemonSet(ctx, client, c.Namespace, a.On, metav1.DeletePropagationBackground)
	case scenariofile.CreateSet:
		return c.create(ctx, c.declared(a.On))
	case scenariofile.UpdateSet:
		return p.patchSet(ctx, a.On, map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{
			"containers": []any{map[string]any{"name": a.On, "image": "registry.example.com/" + a.On + ":2.0"}},
		}}}})
	case scenariofile.AnnotateSet:
		key, value, _ := strings.Cut(a.On, "=")
		return p.patchSet(ctx, c.DaemonSets[0].Name, map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: value}}})
	case scenariofile.ForbidRevision:
		restore, err := p.stage.forbidRevisions(ctx, client)
		p.allow = restore
		return err
	case scenariofile.AllowRevision:
		restore := p.allow
		p.allow = nil
		return restore(ctx)
	case scenariofile.StopController:
		p.stopped = true
		return c.cluster.KillComponent(controlplane.ControllerManager)
	case scenariofile.StartControl:
		p.stopped = false
		return c.cluster.StartComponent(controlplane.ControllerManager)
	}
	return p.doRemote(ctx, a)
}

// doRemote makes an act happen that is not the carrier's.
func (p *play) doRemote(ctx context.Context, a scenariofile.Act) error {
	pager, incident, person := p.server.pager, p.current.incident, p.server.person
	switch a.Verb { //nolint:exhaustive // do has the carrier's
	case scenariofile.Acknowledge:
		return pager.Acknowledge(incident, person)
	case scenariofile.Resolve:
		return pager.Resolve(incident, person, "")
	case scenariofile.Reassign:
		return pager.Reassign(incident, person, person)
	case scenariofile.HandsOff:
		_, err := pager.AddNote(incident, person, "drydock hands off")
		return err
	case scenariofile.Snooze:
		if err := pager.Acknowledge(incident, person); err != nil { // only what is acknowledged can be snoozed
			return err
		}
		return pager.Snooze(incident, person, time.Hour)
	case scenariofile.SayOnPurpose:
		_, err := pager.AddNote(incident, person, "drydock: deleted on purpose")
		return err
	case scenariofile.ApproverNote:
		return p.approveByNote(ctx, p.server.approver)
	case scenariofile.StrangerNote:
		return p.approveByNote(ctx, person)
	case scenariofile.Merge:
		into, err := pager.TriggerIncident("a larger trouble", serviceID)
		if err != nil {
			return err
		}
		return pager.Merge(into.ID, person, incident)
	case scenariofile.Recover:
		return pager.ClearAlert(serviceID, p.current.key)
	case scenariofile.OpenDisk:
		in, err := pager.TriggerIncident("filesystem full on "+p.carrier.Name, serviceID)
		p.disk = in.ID
		return err
	case scenariofile.CloseDisk:
		return pager.Resolve(p.disk, person, "")
	case scenariofile.Join:
		_, err := p.raise(p.carrier.Name, p.Alerts[0], "joins")
		return err
	case scenariofile.LosePager, scenariofile.RegainPager:
		p.server.gate.set(incident, a.Verb == scenariofile.LosePager)
		return nil
	case scenariofile.LoseCarrier:
		p.carrier.door.shut()
		return nil
	case scenariofile.RegainCarrier:
		return p.carrier.door.open(p.life)
	case scenariofile.LoseCI:
		p.carrier.jenkins.Faults.Inject(jenkins.ServerError("", "", 0))
		p.carrier.flags.Faults.Inject(standin.Fault{Status: http.StatusServiceUnavailable})
		return nil
	case scenariofile.RegainCI:
		p.carrier.jenkins.Faults.Clear()
		p.carrier.flags.Faults.Clear()
		return nil
	case scenariofile.KillSwitch:
		return p.killSwitch(ctx, true, a.On)
	case scenariofile.ReleaseSwitch:
		return p.killSwitch(ctx, false, "over")
	case scenariofile.CancelRun:
		r, err := p.run(ctx, p.current)
		if err != nil {
			return err
		}
		return p.server.call(ctx, http.MethodPost, "/api/v1/runs/"+r.ID+"/cancel", map[string]any{"reason": "a person wants it"}, nil)
	case scenariofile.Approve:
		r, err := p.detail(ctx, p.current)
		if err != nil {
			return err
		}
		return p.server.call(ctx, http.MethodPost, "/api/v1/runs/"+r.ID+"/approve", map[string]any{"plan_hash": r.PlanHash}, nil)
	}
	return fmt.Errorf("the real carrier can not play %s", a)
}

// onPod does something with the first DaemonSet's pod on a node.
func (p *play) onPod(ctx context.Context, node string, do func(ctx context.Context, pod string) error) error {
	name := p.carrier.DaemonSets[0].Name
	pod, err := fault.DaemonPod(ctx, p.carrier.client, p.carrier.Namespace, name, node)
	if err != nil {
		return err
	}
	if pod == nil {
		return fmt.Errorf("there is no pod of DaemonSet %s on node %s", name, node)
	}
	return do(ctx, pod.Name)
}

func (p *play) crash(ctx context.Context, pod string) error {
	return fault.CrashPod(ctx, p.carrier.client, p.carrier.Namespace, pod, exitNoSpace)
}

func (p *play) heal(ctx context.Context, pod string) error {
	return fault.HealPod(ctx, p.carrier.client, p.carrier.Namespace, pod)
}

func (p *play) loosenBudgets(ctx context.Context) error {
	budgets := p.carrier.client.PolicyV1().PodDisruptionBudgets(scenariofile.CustomersNamespace)
	list, err := budgets.List(ctx, metav1.ListOptions{LabelSelector: scenarioLabel + "=" + p.File})
	if err != nil {
		return fmt.Errorf("list disruption budgets: %w", err)
	}
	body := fmt.Appendf(nil, `{"spec":{"minAvailable":%d}}`, p.Carrier.Customers.Replicas-1)
	for _, b := range list.Items {
		if _, err := budgets.Patch(ctx, b.Name, types.MergePatchType, body, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("loosen disruption budget %s: %w", b.Name, err)
		}
	}
	return nil
}

func (p *play) patchSet(ctx context.Context, name string, change any) error {
	body, err := json.Marshal(change)
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	_, err = p.carrier.client.AppsV1().DaemonSets(p.carrier.Namespace).Patch(ctx, name, types.StrategicMergePatchType, body, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("patch DaemonSet %s: %w", name, err)
	}
	return nil
}

func (p *play) killSwitch(ctx context.Context, engaged bool, reason string) error {
	body := map[string]any{"engaged": engaged, "carrier": p.carrier.Name, "reason": reason}
	return p.server.call(ctx, http.MethodPut, "/api/v1/kill-switch", body, nil)
}

// approveByNote lets a user write the note that approves the run's plan as it is now.
func (p *play) approveByNote(ctx context.Context, user string) error {
	r, err := p.detail(ctx, p.current)
	if err != nil {
		return err
	}
	_, err = p.server.pager.AddNote(p.current.incident, user, "drydock approve "+r.PlanHash)
	return err
}

// alert lets monitoring raise the alert of a run's name.
func (p *play) alert(name, key string) (alerted, error) {
	daemonSet, n := scenariofile.AlertOf(name)
	a, err := p.raise(p.carrier.entryName(n), daemonSet, key)
	a.name = name
	return a, err
}

// raise opens an incident about a DaemonSet of one of the scenario's carriers.
func (p *play) raise(carrier, daemonSet, key string) (alerted, error) {
	a := alerted{daemonSet: daemonSet, key: carrier + "/" + daemonSet + "/" + key}
	title, service := fmt.Sprintf("blumemix.containers-kubernetes.%s.not_running_all_%s_demonsets.us-south", carrier, daemonSet), serviceID
	switch p.By {
	case scenariofile.ByTitle:
	case scenariofile.ByOwnTitle:
		title = daemonSet + " is not everywhere on " + carrier
	case scenariofile.ByOrchestration:
		service = quietServiceID
	}
	in, err := p.server.pager.Trigger(service, pagerduty.Alert{
		Key: a.key, Summary: title,
		Details: map[string]any{"carrier": carrier, "daemonset": daemonSet, "namespace": p.carrier.Namespace},
	})
	a.incident = in.ID
	if err == nil && in.ID == "" {
		err = errors.New("no incident was opened")
	}
	if err == nil && p.By == scenariofile.ByOrchestration {
		body := map[string]any{"text": "the fleet's own alert", "__pd_metadata": map[string]any{"incident": map[string]any{"id": in.ID}}}
		err = p.server.call(p.life, http.MethodPost, "/webhooks/pagerduty", body, nil)
	}
	if err != nil {
		return a, fmt.Errorf("alert about %s: %w", daemonSet, err)
	}
	return a, nil
}

// daemonSet reads a DaemonSet; nil and no error: there is none.
func (c *carrier) daemonSet(ctx context.Context, name string) (*appsv1.DaemonSet, error) {
	set, err := c.client.AppsV1().DaemonSets(c.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // said above
	}
	if err != nil {
		return nil, fmt.Errorf("read DaemonSet %s/%s: %w", c.Namespace, name, err)
	}
	return set, nil
}
