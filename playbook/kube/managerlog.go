package kube

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/playbook"
)

// What is read of the controller-manager's log, and what is kept of it. The controller backs off to 1,000 s between two
// tries (kubernetes.md part two B), so the last twenty minutes hold at least one line of a DaemonSet that is stuck.
const (
	managerLogSince = 20 * time.Minute
	managerLogTail  = 20_000   // lines from the end
	managerLogBytes = 16 << 20 // more than so many long lines should be
	managerLogKept  = 50       // lines that name the DaemonSet, the newest
	managerLogLine  = 2048     // bytes of one of them
	managerPods     = 5        // more control plane nodes than any carrier has
)

// managerName is the controller-manager's: of its static pod's label and container, and the beginning of its pod's name.
const managerName = "kube-controller-manager"

// managerLog reads what the controller-manager has logged about the DaemonSet: through the API, and where that has no such
// log, over ssh if the configuration says how.
func (l *looking) managerLog(ctx context.Context) (playbook.ManagerLog, error) {
	holder := ""
	lease, leaseErr := l.c.controller(ctx)
	if leaseErr == nil {
		holder = lease.Holder
	}
	about := failedLine(l.look.Target)
	log, err := l.c.managerPodLog(ctx, holder, about)
	if err == nil || l.c.manager.SSH == nil {
		return log, err
	}
	if leaseErr != nil {
		return log, fmt.Errorf("%w; over ssh: on which host is not known: %w", err, leaseErr)
	}
	log, sshErr := l.c.managerHostLog(ctx, holder, about)
	if sshErr != nil {
		return log, fmt.Errorf("%w; over ssh: %w", err, sshErr)
	}
	return log, nil
}

// failedLine matches the controller's word about this DaemonSet, and not that about one whose longer name ends alike.
func failedLine(t playbook.Target) *regexp.Regexp {
	return regexp.MustCompile(`(^|[^a-z0-9.-])` + regexp.QuoteMeta(t.Namespace+"/"+t.DaemonSet) + ` failed with`)
}

func (c *Carrier) managerPodLog(ctx context.Context, holder string, about *regexp.Regexp) (playbook.ManagerLog, error) {
	pods, err := c.managerPodsOf(ctx, holder)
	if err != nil {
		return playbook.ManagerLog{}, err
	}
	log := playbook.ManagerLog{Source: "pod "}
	for i, pod := range pods {
		lines, err := c.linesOfPod(ctx, pod, about)
		if err != nil {
			return playbook.ManagerLog{}, fmt.Errorf("read log of pod %s/%s: %w", pod.Namespace, pod.Name, err)
		}
		if i > 0 {
			log.Source += ", "
		}
		log.Source += pod.Namespace + "/" + pod.Name
		log.Lines = append(log.Lines, lines...)
	}
	log.Lines = newestLines(log.Lines)
	return log, nil
}

// managerPodsOf are the pods of the controller-manager: the leader's alone where it can be told from the others, else all.
// One that only stands by logs nothing about DaemonSets.
func (c *Carrier) managerPodsOf(ctx context.Context, holder string) ([]*corev1.Pod, error) {
	list, err := c.listPods(ctx, controllerNamespace, metav1.ListOptions{LabelSelector: "component=" + managerName})
	if err == nil && len(list) == 0 {
		// Not every way to set up a control plane labels its static pods.
		list, err = c.listPods(ctx, controllerNamespace, metav1.ListOptions{})
		list = slices.DeleteFunc(list, func(p corev1.Pod) bool { return !strings.HasPrefix(p.Name, managerName+"-") })
	}
	if err != nil {
		return nil, fmt.Errorf("look for the controller-manager's pod: %w", err)
	}
	var all, leads []*corev1.Pod
	host := hostOf(holder)
	for i := range list {
		pod := &list[i]
		if !takesSlot(pod) {
			continue
		}
		all = append(all, pod)
		// A static pod runs under its node's host name, an ordinary one under its own.
		if host != "" && slices.Contains([]string{pod.Spec.NodeName, pod.Spec.Hostname, pod.Name}, host) {
			leads = append(leads, pod)
		}
	}
	switch {
	case len(leads) == 1:
		return leads, nil
	case len(all) == 0:
		return nil, errors.New("the API server shows no pod of the controller-manager in " + controllerNamespace)
	case len(all) > managerPods:
		return nil, fmt.Errorf("%d pods could be the leading controller-manager %q", len(all), holder)
	}
	return all, nil
}

// hostOf is the host of a lease's holder: the controller-manager calls itself <host name>_<uuid>.
func hostOf(holder string) string {
	host, _, found := strings.Cut(holder, "_") // no host name has one
	if !found {
		return ""
	}
	return host
}

func (c *Carrier) linesOfPod(ctx context.Context, pod *corev1.Pod, about *regexp.Regexp) ([]playbook.LogLine, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	seconds, tail := int64(managerLogSince/time.Second), int64(managerLogTail)
	// No limitBytes: it would cut off the end, which is what we want.
	options := &corev1.PodLogOptions{Timestamps: true, SinceSeconds: &seconds, TailLines: &tail}
	if len(pod.Spec.Containers) > 1 {
		options.Container = managerName
	}
	stream, err := c.reader.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return linesAbout(stream, about)
}

// linesAbout keeps the newest lines of a log that match, with the time that stands before each. A log that can not be read
// to its end is an error: what is missing is the newest.
func linesAbout(log io.Reader, about *regexp.Regexp) ([]playbook.LogLine, error) {
	bounded := &io.LimitedReader{R: log, N: managerLogBytes}
	in := bufio.NewReaderSize(bounded, 64<<10)
	var lines []playbook.LogLine
	for {
		line, longer, err := in.ReadLine()
		if err == nil && about.Match(line) {
			stamp, text, _ := bytes.Cut(line, []byte(" "))
			// A line without a time says nothing about now.
			if at, wrong := time.Parse(time.RFC3339Nano, string(stamp)); wrong == nil {
				lines = append(lines, playbook.LogLine{At: at.UTC(), Text: clip(redact(string(text)), managerLogLine)})
			}
			if len(lines) > managerLogKept {
				lines = slices.Delete(lines, 0, 1)
			}
		}
		for longer && err == nil { // the rest of a line that is longer than any of ours
			_, longer, err = in.ReadLine()
		}
		switch {
		case errors.Is(err, io.EOF) && bounded.N > 0:
			return lines, nil
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("the log of %s is longer than %d MiB", managerLogSince, managerLogBytes>>20)
		case err != nil:
			return nil, err
		}
	}
}

// newestLines puts lines of several logs in order.
func newestLines(lines []playbook.LogLine) []playbook.LogLine {
	slices.SortStableFunc(lines, func(a, b playbook.LogLine) int { return a.At.Compare(b.At) })
	return lines[max(0, len(lines)-managerLogKept):]
}

// The DaemonSet controller as the API server knows it, where the controller-manager gives each controller an identity.
const daemonSetController = "system:serviceaccount:kube-system:daemon-set-controller"

// revisionVerbs are what the DaemonSet controller does to ControllerRevisions as itself. It lists and watches them through
// the controller-manager's own identity (kubernetes.md part two B).
var revisionVerbs = []string{"get", "create", "patch", "update", "delete"}

// missingRights asks the API server which rights on ControllerRevisions the DaemonSet controller lacks: the cause, named
// without reading a log.
func (l *looking) missingRights(ctx context.Context) ([]string, error) {
	missing := []string{}
	for _, verb := range revisionVerbs {
		allowed, err := l.c.mayController(ctx, verb, l.look.Target.Namespace)
		if err != nil {
			return nil, fmt.Errorf("ask whether the DaemonSet controller may %s controllerrevisions: %w", verb, err)
		}
		if !allowed {
			missing = append(missing, verb+" controllerrevisions.apps")
		}
	}
	return missing, nil
}

func (c *Carrier) mayController(ctx context.Context, verb, namespace string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	review, err := c.reader.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               daemonSetController,
			Groups:             []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: verb, Group: "apps", Resource: "controllerrevisions"},
		},
	}, metav1.CreateOptions{})
	switch {
	case err != nil:
		return false, err
	case !review.Status.Allowed && review.Status.EvaluationError != "":
		// An authorizer that could not decide has denied nothing.
		return false, errors.New(cmp.Or(review.Status.Reason, review.Status.EvaluationError))
	}
	return review.Status.Allowed, nil
}
