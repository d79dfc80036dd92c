package playbook

import (
	"strings"
	"testing"
	"time"
)

// FuzzSchedulerMessage: the scheduler tells why a pod waits in words alone. Whatever they are, a node is only ever called full
// when it was counted and is full, and no other shortage is named beside it.
func FuzzSchedulerMessage(f *testing.F) {
	f.Add("0/5 nodes are available: 1 Too many pods, 4 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption: 0/5 nodes are available: 1 No preemption victims found for incoming pod.", 0, true)
	f.Add("0/5 nodes are available: 1 Insufficient cpu, 1 Too many pods.", 0, true)
	f.Add("Too many pods", 3, true)
	f.Add("0/5 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }.", 0, false)
	f.Add("", 0, true)
	f.Add("Too many pods\x00\xff", -1, true)
	f.Fuzz(func(t *testing.T, message string, room int, counted bool) {
		s := healthy(5).full(0, 3).node(0, func(n *Node) { n.Pods[0].Unschedulable = message })
		nodes, _ := s.o.Nodes.Get()
		held := nodes[0].Allocatable - room
		s.o.NodePods["node-00"] = Known(NodePods{Count: held, PendingDaemon: 1})
		if !counted {
			s.o.NodePods["node-00"] = Unknown[NodePods]("timeout")
		}
		d := Diagnose(testPolicy(), s.o, nil)
		v := d.Verdicts[0].Verdict
		said := strings.Contains(message, "Too many pods") && !strings.Contains(message, "Insufficient")
		if v == VerdictNodeFull && (!said || !counted || room > 0) {
			t.Errorf("full by %q with room for %d, counted: %v", message, room, counted)
		}
		if v == VerdictCovered || v == VerdictExcluded {
			t.Errorf("a node whose pod waits (%q) is %s", message, v)
		}
		if d.Why == "" {
			t.Errorf("a diagnosis without a why for %q", message)
		}
	})
}

// FuzzForbiddenLine: a line of the controller-manager's log is a proof only when it is about this DaemonSet and says that its
// revisions are forbidden, to whom, and what.
func FuzzForbiddenLine(f *testing.F) {
	const user = `User "system:serviceaccount:kube-system:daemon-set-controller"`
	const key = "monitoring/node-exporter failed with"
	for _, line := range []string{
		key + ` : failed to construct revisions of DaemonSet: controllerrevisions.apps is forbidden: ` + user + ` cannot create resource "controllerrevisions"`,
		"pre-" + key + ` : failed to construct revisions of DaemonSet: controllerrevisions.apps is forbidden: ` + user + ` cannot create resource`,
		key + ` : failed to construct revisions of DaemonSet: Operation cannot be fulfilled on controllerrevisions.apps "x"`,
		"pre-" + key + " " + key + ` failed to construct revisions of DaemonSet: controllerrevisions.apps “x” is forbidden: User “y” cannot get controllerrevisions`,
		key + "\x00\xff",
		"",
	} {
		f.Add(line)
	}
	target := Target{Carrier: "prod-dal10-carrier3", Namespace: "monitoring", DaemonSet: "node-exporter"}
	f.Fuzz(func(t *testing.T, text string) {
		line, user, verb, found := ForbiddenLine([]LogLine{{At: t0, Text: text}}, target, t0.Add(time.Minute))
		if !found {
			if line.Text != "" || user != "" || verb != "" {
				t.Errorf("not found, and yet %q, %q, %q", line.Text, user, verb)
			}
			return
		}
		at := strings.Index(text, key)
		if at < 0 || user == "" || !strings.Contains(text, "cannot "+verb+" ") || !strings.Contains(text, "controllerrevisions.apps") ||
			!strings.Contains(text, "is forbidden: User ") {
			t.Errorf("%q proves that %q may not %q", text, user, verb)
		}
	})
}
