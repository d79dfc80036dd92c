package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/fault"
)

// What a script does that is written for the one trouble at hand: the runbook's calls, one after the other, with no look at
// anything else and no promise to undo what it did.

func (s *repairStage) scriptDrain(ctx context.Context, agent string) error {
	return errors.Join(s.makeRoom(ctx, agent), s.cordon(ctx, false))
}

func (s *repairStage) scriptReapply(ctx context.Context, agent string) error {
	if err := s.makeRoom(ctx, agent); err != nil {
		return err
	}
	sets := s.client.AppsV1().DaemonSets(namespace)
	set, err := sets.Get(ctx, agent, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get DaemonSet: %w", err)
	}
	if err := sets.Delete(ctx, agent, metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationOrphan)}); err != nil {
		return fmt.Errorf("delete DaemonSet: %w", err)
	}
	err = await.Until(ctx, "the DaemonSet to be gone", func(ctx context.Context) error {
		_, err := sets.Get(ctx, agent, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(errors.New("it is still there"), err)
	})
	if err != nil {
		return err
	}
	again := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: agent, Namespace: namespace, Labels: set.Labels}, Spec: set.Spec}
	if _, err := sets.Create(ctx, again, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create DaemonSet: %w", err)
	}
	return s.cordon(ctx, false)
}

func (s *repairStage) scriptPromote(ctx context.Context, _ string) error {
	url := fmt.Sprintf("%s/job/bench/%d/promotion/forcePromotion?name=%s", s.jenkins, repairBuild, repairCarrier)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	request.SetBasicAuth("drydock", repairToken)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if err := answer.Body.Close(); err != nil || answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("promote: the answer was %d: %w", answer.StatusCode, err)
	}
	return nil
}

func (s *repairStage) cordon(ctx context.Context, on bool) error {
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%v}}`, on)
	if _, err := s.client.CoreV1().Nodes().Patch(ctx, s.fullNode(), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("cordon or uncordon: %w", err)
	}
	return nil
}

// makeRoom cordons the full node, evicts a pod, and waits until the agent's is ready there.
func (s *repairStage) makeRoom(ctx context.Context, agent string) error {
	if err := s.cordon(ctx, true); err != nil {
		return err
	}
	pods, err := s.client.CoreV1().Pods(mastersSpace).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + s.fullNode(), Limit: 1})
	if err != nil || len(pods.Items) == 0 {
		return fmt.Errorf("list the node's pods: %d of them: %w", len(pods.Items), err)
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pods.Items[0].Name, Namespace: mastersSpace}}
	if err := s.client.PolicyV1().Evictions(mastersSpace).Evict(ctx, eviction); err != nil {
		return fmt.Errorf("evict: %w", err)
	}
	return await.Until(ctx, "the agent's pod", func(ctx context.Context) error {
		pod, err := fault.DaemonPod(ctx, s.client, namespace, agent, s.fullNode())
		if err == nil && (pod == nil || !podReady(pod)) {
			err = errors.New("it is not ready")
		}
		return err
	})
}
