package controlplane

import (
	"context"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// kwokAPI is where the API server serves kwok's own kinds.
const kwokAPI = "/apis/kwok.x-k8s.io/v1alpha1"

// logs is kwok's Logs (of one pod, by its name) or ClusterLogs (of all pods).
type logs struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              logsSpec `json:"spec"`
}

type logsSpec struct {
	Selector *struct{} `json:"selector,omitempty"`
	Logs     []logFile `json:"logs"`
}

type logFile struct {
	LogsFile         string `json:"logsFile"`
	PreviousLogsFile string `json:"previousLogsFile,omitempty"`
	Follow           bool   `json:"follow"`
}

// SetPodLog sets what the API server answers for the pod's log, and for its
// previous container's log. A pod without a log of its own has a short standard one.
// It can be set once for each name of a pod.
func (c *Cluster) SetPodLog(ctx context.Context, namespace, pod string, current, previous []string) error {
	file := logFile{
		LogsFile:         c.file(fileName("pod-"+namespace+"."+pod) + ".log"),
		PreviousLogsFile: c.file(fileName("pod-"+namespace+"."+pod) + ".previous.log"),
	}
	if err := writeLog(file.LogsFile, current); err != nil {
		return err
	}
	if err := writeLog(file.PreviousLogsFile, previous); err != nil {
		return err
	}
	return c.createLogs(ctx, namespace, pod, file)
}

func (c *Cluster) createLogs(ctx context.Context, namespace, pod string, file logFile) error {
	object := logs{
		TypeMeta:   metav1.TypeMeta{APIVersion: "kwok.x-k8s.io/v1alpha1", Kind: "Logs"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod},
		Spec:       logsSpec{Logs: []logFile{file}},
	}
	if err := c.post(ctx, object, kwokAPI, "namespaces", namespace, "logs"); err != nil {
		return fmt.Errorf("create log of pod %s/%s: %w", namespace, pod, err)
	}
	return nil
}

func writeLog(path string, lines []string) error {
	var content []byte
	for _, line := range lines {
		content = append(content, logLine(time.Now(), "stdout", line)...)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("write pod log: %w", err)
	}
	return nil
}

// createPodLogs gives every pod a log, and the controller manager its own one.
func (c *Cluster) createPodLogs(ctx context.Context) error {
	standard := c.file("pod.log")
	if err := writeLog(standard, []string{"starting", "listening on :9100"}); err != nil {
		return err
	}
	object := logs{
		TypeMeta:   metav1.TypeMeta{APIVersion: "kwok.x-k8s.io/v1alpha1", Kind: "ClusterLogs"},
		ObjectMeta: metav1.ObjectMeta{Name: "standard"},
		Spec:       logsSpec{Logs: []logFile{{LogsFile: standard, PreviousLogsFile: standard}}},
	}
	if err := c.post(ctx, object, kwokAPI, "clusterlogs"); err != nil {
		return fmt.Errorf("create standard pod log: %w", err)
	}
	if c.options.Masters == 0 {
		return nil
	}
	return c.createMirrorPod(ctx)
}

func (c *Cluster) controllerManagerPodLog() string {
	return c.file("pod-" + ControllerManager + ".log")
}

// createMirrorPod shows the controller manager as what it is on carriers: a static
// pod of its kubelet, named after its node, whose log the API server serves.
// Deleting the pod restarts nothing, as on a carrier; unlike there, nobody
// writes it again.
func (c *Cluster) createMirrorPod(ctx context.Context) error {
	node := c.masterName(0)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceSystem,
			Name:      ControllerManager + "-" + node,
			Labels:    map[string]string{"component": ControllerManager, "tier": "control-plane"},
			Annotations: map[string]string{
				corev1.MirrorPodAnnotationKey: "static",
				"kubernetes.io/config.source": "file",
			},
		},
		Spec: corev1.PodSpec{
			NodeName:          node,
			HostNetwork:       true,
			PriorityClassName: "system-node-critical",
			Containers:        []corev1.Container{{Name: ControllerManager, Image: "registry.k8s.io/kube-controller-manager:" + Version}},
			Tolerations:       []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}},
		},
	}
	if err := c.createLogs(ctx, pod.Namespace, pod.Name, logFile{LogsFile: c.controllerManagerPodLog()}); err != nil {
		return err
	}
	if _, err := c.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create mirror pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}
