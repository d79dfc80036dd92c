package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/playbook"
)

// Bounds of a hand-over's evidence.
const (
	evidenceBytes = 256 << 10 // in all
	pieceBytes    = 16 << 10  // one piece
	evidencePods  = 8         // pods that are not ready, oldest trouble first
	logLines      = 100       // of one container
	evidenceNodes = 20        // nodes that are not ready or cordoned
)

// evidence gathers what a person would look at first: the DaemonSet's status and events, the pods that are not ready with
// their events, last terminations and logs, and the nodes that are not ready. A piece that can not be read says so in its
// place; nothing of it is decided upon.
func (l *looking) evidence(ctx context.Context) ([]playbook.Evidence, error) {
	live, err := l.live(ctx)
	if err != nil {
		return nil, err
	}
	e := &evidence{left: evidenceBytes}
	if live.typed == nil {
		e.add("DaemonSet", "it does not exist")
		return e.pieces, nil
	}
	ds := live.typed
	name := ds.Namespace + "/" + ds.Name
	e.add("DaemonSet "+name, fmt.Sprintf("desired %d, current %d, ready %d, updated %d, available %d, misscheduled %d; generation %d, observed %d",
		ds.Status.DesiredNumberScheduled, ds.Status.CurrentNumberScheduled, ds.Status.NumberReady, ds.Status.UpdatedNumberScheduled,
		ds.Status.NumberAvailable, ds.Status.NumberMisscheduled, ds.Generation, ds.Status.ObservedGeneration))
	e.add("events of DaemonSet "+name, l.eventLines(ctx, ds.Namespace, "DaemonSet", ds.Name))
	pods, err := l.daemonPods(ctx, ds)
	if err != nil {
		e.add("pods", "not read: "+err.Error())
	}
	shown := 0
	for i := range pods {
		pod := &pods[i]
		if podReady(pod) && pod.DeletionTimestamp == nil || !metav1.IsControlledBy(pod, ds) {
			continue
		}
		if shown++; shown > evidencePods {
			e.add("more pods", fmt.Sprintf("only %d pods that are not ready are shown", evidencePods))
			break
		}
		e.add("pod "+pod.Namespace+"/"+pod.Name, podLines(pod))
		e.add("events of pod "+pod.Namespace+"/"+pod.Name, l.eventLines(ctx, pod.Namespace, "Pod", pod.Name))
		l.logs(ctx, e, pod)
	}
	if nodes, err := l.allNodes(ctx); err != nil {
		e.add("nodes", "not read: "+err.Error())
	} else {
		e.add("nodes not ready or cordoned", nodeLines(nodes))
	}
	return e.pieces, nil
}

// evidence is what was gathered so far, and how many bytes of it may still come.
type evidence struct {
	pieces []playbook.Evidence
	left   int
}

// add keeps the end of a text, which is where a log says what went wrong. Empty texts are left out.
func (e *evidence) add(source, text string) {
	if e.left <= 0 {
		return
	}
	text = keepEnd(redact(text), min(pieceBytes, e.left))
	if text == "" {
		return
	}
	e.left -= len(text)
	e.pieces = append(e.pieces, playbook.Evidence{Source: source, Text: text})
}

// keepEnd keeps whole lines at the end, n bytes at most.
func keepEnd(text string, n int) string {
	const cut = "[earlier lines left out]\n"
	if len(text) <= n {
		return text
	}
	if n <= len(cut) {
		return ""
	}
	text = text[len(text)-(n-len(cut)):]
	if _, whole, ok := strings.Cut(text, "\n"); ok {
		text = whole
	}
	return cut + strings.ToValidUTF8(text, "")
}

func (l *looking) eventLines(ctx context.Context, namespace, kind, name string) string {
	events, err := l.c.listEvents(ctx, namespace, kind, name)
	if err != nil {
		return "not read: " + err.Error()
	}
	var b strings.Builder
	for _, e := range events[:min(len(events), maxEvents)] {
		f := eventFacts(e)
		fmt.Fprintf(&b, "%s %s x%d: %s\n", f.At.Format("2006-01-02T15:04:05Z07:00"), f.Reason, f.Count, f.Message)
	}
	return b.String()
}

func podLines(pod *corev1.Pod) string {
	var b strings.Builder
	fmt.Fprintf(&b, "node %s, phase %s", pinnedTo(pod), pod.Status.Phase)
	if pod.Status.Reason != "" {
		fmt.Fprintf(&b, ", %s: %s", pod.Status.Reason, pod.Status.Message)
	}
	if pod.DeletionTimestamp != nil {
		fmt.Fprintf(&b, ", terminating since %s", pod.DeletionTimestamp.UTC().Format("2006-01-02T15:04:05Z07:00"))
	}
	b.WriteByte('\n')
	for _, condition := range pod.Status.Conditions {
		if condition.Status != corev1.ConditionTrue {
			fmt.Fprintf(&b, "%s is %s: %s %s\n", condition.Type, condition.Status, condition.Reason, condition.Message)
		}
	}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		fmt.Fprintf(&b, "container %s: image %s, ready %t, restarts %d", status.Name, status.Image, status.Ready, status.RestartCount)
		if w := status.State.Waiting; w != nil {
			fmt.Fprintf(&b, ", waiting: %s %s", w.Reason, w.Message)
		}
		if exit := lastExit(status); exit != "" {
			fmt.Fprintf(&b, ", last exit: %s", exit)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// logs adds the end of each container's log that is not ready, and of the log before its last restart.
func (l *looking) logs(ctx context.Context, e *evidence, pod *corev1.Pod) {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if status.Ready || status.State.Terminated != nil && status.State.Terminated.ExitCode == 0 {
			continue
		}
		where := pod.Namespace + "/" + pod.Name + " " + status.Name
		e.add("log "+where, l.log(ctx, pod, status.Name, false))
		if status.RestartCount > 0 {
			e.add("previous log "+where, l.log(ctx, pod, status.Name, true))
		}
	}
}

func (l *looking) log(ctx context.Context, pod *corev1.Pod, container string, previous bool) string {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	lines, bytes := int64(logLines), int64(4*pieceBytes)
	text, err := l.c.reader.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container,
		Previous: previous, TailLines: &lines, LimitBytes: &bytes}).DoRaw(ctx)
	if err != nil {
		return "not read: " + err.Error()
	}
	return string(text)
}

func nodeLines(nodes []corev1.Node) string {
	var b strings.Builder
	shown := 0
	for i := range nodes {
		n := nodeFacts(&nodes[i], 0)
		if n.Ready && !n.Unschedulable && !n.DiskPressure {
			continue
		}
		if shown++; shown > evidenceNodes {
			fmt.Fprintf(&b, "only %d nodes are shown\n", evidenceNodes)
			break
		}
		fmt.Fprintf(&b, "%s: ready %t, cordoned %t, disk pressure %t %s\n", n.Name, n.Ready, n.Unschedulable, n.DiskPressure, n.NotReadyWhy)
	}
	return b.String()
}
