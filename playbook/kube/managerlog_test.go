package kube

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drydock/drydock/playbook"
)

const (
	theLease    = "GET /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager"
	systemPods  = "GET /api/v1/namespaces/kube-system/pods"
	askRights   = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"
	leader      = "master-02_6f1f2f5e-0000-4000-8000-000000000000"
	forbidden02 = `2026-11-22T10:00:00.5Z E1122 daemon_controller.go:263] monitoring/node-exporter failed with : failed to construct revisions of DaemonSet: controllerrevisions.apps "node-exporter-1" is forbidden: User "system:serviceaccount:kube-system:daemon-set-controller" cannot get resource "controllerrevisions"`
)

func leaseOf(holder string) http.HandlerFunc {
	renewed := metav1.NowMicro()
	return answer(coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: controllerLease, ResourceVersion: "1"},
		Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: new(int32(15)), RenewTime: &renewed}})
}

func managerPod(node string) corev1.Pod {
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kube-controller-manager-" + node},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "kube-controller-manager"}}}}
}

// podList answers as the API server does when it is asked by label.
func podList(labelled bool, pods ...corev1.Pod) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("labelSelector") != "" && !labelled {
			answer(corev1.PodList{})(w, r)
			return
		}
		answer(corev1.PodList{Items: pods})(w, r)
	}
}

func text(lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = fmt.Fprint(w, strings.Join(lines, "\n"))
	}
}

func logPath(node string) string {
	return "GET /api/v1/namespaces/kube-system/pods/kube-controller-manager-" + node + "/log"
}

func TestManagerLogIsTheLeaders(t *testing.T) {
	t.Parallel()
	other := managerPod("coredns")
	other.Name = "coredns-1"
	three := []corev1.Pod{managerPod("master-01"), managerPod("master-02"), managerPod("master-03")}
	noLog := status(400, metav1.StatusReasonBadRequest, "no logs found", nil)
	for name, tt := range map[string]struct {
		lease, pods   http.HandlerFunc
		logs          map[string]http.HandlerFunc // by node
		source, fails string
		lines         int
	}{
		"the leader's alone": {leaseOf(leader), podList(true, three...), map[string]http.HandlerFunc{"master-01": noLog, "master-02": text(forbidden02)},
			"pod kube-system/kube-controller-manager-master-02", "", 1},
		"no label": {leaseOf(leader), podList(false, append(three, other)...), map[string]http.HandlerFunc{"master-02": text(forbidden02)},
			"pod kube-system/kube-controller-manager-master-02", "", 1},
		"nobody is known to lead": {status(403, metav1.StatusReasonForbidden, "may not", nil), podList(true, three[0], three[1]),
			map[string]http.HandlerFunc{"master-01": text(""), "master-02": text(forbidden02)},
			"pod kube-system/kube-controller-manager-master-01, kube-system/kube-controller-manager-master-02", "", 1},
		"one of several fails": {leaseOf("elsewhere_1"), podList(true, three[0], three[1]),
			map[string]http.HandlerFunc{"master-01": noLog, "master-02": text(forbidden02)}, "", "master-01: no logs found", 0},
		"no pod":         {leaseOf(leader), podList(true), nil, "", "no pod of the controller-manager", 0},
		"may not list":   {leaseOf(leader), status(403, metav1.StatusReasonForbidden, "may not", nil), nil, "", "may not", 0},
		"may not read":   {leaseOf(leader), podList(true, three...), map[string]http.HandlerFunc{"master-02": status(403, metav1.StatusReasonForbidden, "may not read", nil)}, "", "may not read", 0},
		"nothing logged": {leaseOf(leader), podList(true, three...), map[string]http.HandlerFunc{"master-02": text("")}, "pod kube-system/kube-controller-manager-master-02", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: map[string]http.HandlerFunc{theLease: tt.lease, systemPods: tt.pods, askRights: reviews(t)}}
			for node, log := range tt.logs {
				s.answers[logPath(node)] = func(w http.ResponseWriter, r *http.Request) {
					q := r.URL.Query()
					if q.Get("sinceSeconds") != "1200" || q.Get("timestamps") != "true" || q.Get("tailLines") == "" || q.Get("limitBytes") != "" {
						t.Errorf("asked for %s", r.URL.RawQuery)
					}
					log(w, r)
				}
			}
			wants := look
			wants.Wants = []playbook.Want{{Kind: playbook.WantManagerLog}}
			var o playbook.Observation
			s.start(t, Options{ReadOnly: true}).Observe(t.Context(), wants, &o)
			log, known := o.ManagerLog.Get()
			if known != (tt.fails == "") || log.Source != tt.source || len(log.Lines) != tt.lines || !strings.Contains(o.ManagerLog.Why(), tt.fails) {
				t.Errorf("log = %+v, known %t, %q", log, known, o.ManagerLog.Why())
			}
			if tt.lines > 0 && !log.Lines[0].At.Equal(time.Date(2026, 11, 22, 10, 0, 0, 5e8, time.UTC)) {
				t.Errorf("time = %s", log.Lines[0].At)
			}
			if rights, ok := o.MissingRights.Get(); !ok || rights == nil || len(rights) != 0 {
				t.Errorf("missing rights = %v, %s", rights, o.MissingRights.Why())
			}
		})
	}
}

// Only what the controller says about this DaemonSet is kept, the newest, in bounds and without secrets.
func TestLinesAbout(t *testing.T) {
	t.Parallel()
	about := failedLine(look.Target)
	var log strings.Builder
	log.WriteString(forbidden02 + "\n")
	for i := range 60 {
		fmt.Fprintf(&log, "2026-11-22T10:01:%02dZ err=\"monitoring/node-exporter failed with : try %d token=hunter2\"\n", i, i)
	}
	log.WriteString("2026-11-22T10:02:00Z other-monitoring/node-exporter failed with : another's\n")
	log.WriteString("2026-11-22T10:02:00Z monitoring/node-exporter-2 failed with : another's\n")
	log.WriteString("monitoring/node-exporter failed with : no time\n")
	log.WriteString("2026-11-22T10:02:01Z " + strings.Repeat("x", 200_000) + " monitoring/node-exporter failed with : far out\n")
	log.WriteString("2026-11-22T10:02:02Z monitoring/node-exporter failed with : " + strings.Repeat("y", 5000))
	lines, err := linesAbout(strings.NewReader(log.String()), about)
	if err != nil || len(lines) != managerLogKept {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	last := lines[len(lines)-1]
	if !strings.HasSuffix(last.Text, "yyy…") || len(last.Text) != managerLogLine || !last.At.Equal(time.Date(2026, 11, 22, 10, 2, 2, 0, time.UTC)) {
		t.Errorf("last = %+v", last)
	}
	if first := lines[0]; !strings.Contains(first.Text, "try 11 ") {
		t.Errorf("first = %+v", first)
	}
	if slices.ContainsFunc(lines, func(l playbook.LogLine) bool {
		return strings.Contains(l.Text, "another's") || strings.Contains(l.Text, "hunter2") || l.At.IsZero()
	}) {
		t.Errorf("lines = %+v", lines)
	}
	endless := strings.NewReader(strings.Repeat("2026-11-22T10:00:00Z nothing\n", managerLogBytes/20))
	if _, err := linesAbout(endless, about); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a log that was not read to its end: %v", err)
	}
}

// The redacted line is still the proof.
func TestTheForbiddenLineIsRecognised(t *testing.T) {
	t.Parallel()
	lines, err := linesAbout(strings.NewReader(forbidden02+"\n"), failedLine(look.Target))
	if err != nil {
		t.Fatal(err)
	}
	_, user, verb, found := playbook.ForbiddenLine(lines, look.Target, time.Date(2026, 11, 22, 10, 5, 0, 0, time.UTC))
	if !found || verb != "get" || user != daemonSetController {
		t.Errorf("found %t, verb %q, user %q", found, verb, user)
	}
}

// reviews answers access reviews; the verbs that it is given are denied.
func reviews(t *testing.T, denied ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var review authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			t.Error(err)
		}
		a := review.Spec.ResourceAttributes
		if review.Spec.User != daemonSetController || len(review.Spec.Groups) != 3 || a.Namespace != "monitoring" || a.Resource != "controllerrevisions" || a.Group != "apps" {
			t.Errorf("review = %+v", review.Spec)
		}
		review.Status.Allowed = !slices.Contains(denied, a.Verb)
		answer(review)(w, r)
	}
}

func TestMissingRights(t *testing.T) {
	t.Parallel()
	undecided := answer(authorizationv1.SubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{EvaluationError: "webhook timed out"}})
	for name, tt := range map[string]struct {
		answer  http.HandlerFunc
		missing []string
		why     string
	}{
		"all there":          {reviews(t), []string{}, ""},
		"two missing":        {reviews(t, "get", "patch", "list"), []string{"get controllerrevisions.apps", "patch controllerrevisions.apps"}, ""},
		"not allowed to ask": {status(403, metav1.StatusReasonForbidden, "you may not ask", nil), nil, "you may not ask"},
		"no decision":        {undecided, nil, "webhook timed out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: map[string]http.HandlerFunc{askRights: tt.answer}}
			wants := look
			wants.Wants = []playbook.Want{{Kind: playbook.WantManagerLog}}
			var o playbook.Observation
			s.start(t, Options{}).Observe(t.Context(), wants, &o)
			missing, known := o.MissingRights.Get()
			if known != (tt.why == "") || !slices.Equal(missing, tt.missing) || !strings.Contains(o.MissingRights.Why(), tt.why) {
				t.Errorf("missing = %v, known %t, %q", missing, known, o.MissingRights.Why())
			}
		})
	}
}

// checkLinesAbout: a log of any bytes gives few, short and valid lines, each with its time.
func checkLinesAbout(t *testing.T, log string) {
	t.Helper()
	lines, err := linesAbout(strings.NewReader(log), failedLine(playbook.Target{Namespace: "monitoring", DaemonSet: "node-exporter"}))
	if err != nil {
		t.Fatalf("a log that can be read to its end is an error: %v", err)
	}
	if len(lines) > managerLogKept || len(lines) > strings.Count(log, "monitoring/node-exporter failed with") {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		if line.At.IsZero() || len(line.Text) > managerLogLine || !utf8.ValidString(line.Text) {
			t.Errorf("line %v %q", line.At, line.Text)
		}
	}
	if newest := newestLines(append(lines, lines...)); len(newest) > managerLogKept {
		t.Errorf("%d newest lines", len(newest))
	}
}

// Not a seed of the fuzzing: each change of 70 kB takes ten times as long as one of a line.
func TestLinesAboutALongLine(t *testing.T) {
	t.Parallel()
	checkLinesAbout(t, "2026-11-22T10:00:00Z monitoring/node-exporter failed with : "+strings.Repeat("x", 70_000)+"\n"+forbidden02)
}

func FuzzLinesAbout(f *testing.F) {
	f.Add(forbidden02)
	f.Add(forbidden02 + "\r\n" + forbidden02 + "\n")
	f.Add("monitoring/node-exporter failed with a line that has no time\n")
	f.Add("2026-11-22T10:00:00Z pre-monitoring/node-exporter failed with : x\n2026-11-22T10:00:00Z monitoring/node-exporter failed with\xff : x")
	f.Add(strings.Repeat("2026-11-22T10:00:00Z monitoring/node-exporter failed with : x\n", managerLogKept+2))
	f.Fuzz(checkLinesAbout)
}
