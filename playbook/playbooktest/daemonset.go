package playbooktest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/drydock/drydock/playbook"
)

const (
	templateGenerationKey = "deprecated.daemonset.template.generation"
	ourAnnotations        = "drydock."
	nudgedKey             = ourAnnotations + "nudged"
	touchedKey            = ourAnnotations + "touched"
	helmKey               = "meta.helm.sh/release-name"
	argoKey               = "argocd.argoproj.io/tracking-id"
	fluxKey               = "kustomize.toolkit.fluxcd.io/name"
	orphanFinalizer       = "orphan"
)

// DaemonSet is one of the carrier's DaemonSets. Its JSON form, without what Kubernetes owns, is the manifest.
type DaemonSet struct {
	Namespace   string            `json:"namespace"`
	Name        string            `json:"name"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Owners      []string          `json:"owners,omitempty"`
	Spec        DaemonSetSpec     `json:"spec"`

	uid                string
	version            int
	generation         int64
	observedGeneration int64
	createdAt          time.Time
	deletedAt          *time.Time
	finalizers         []string
	status             daemonStatus
	// forgotten are nodes that the controller has lost sight of, until the DaemonSet is created again.
	forgotten map[string]bool
}

// DaemonSetSpec is what matters of a DaemonSet's spec here.
type DaemonSetSpec struct {
	OnDelete     bool              `json:"on_delete,omitempty"`
	NodeSelector map[string]string `json:"node_selector,omitempty"`
	OnMasters    bool              `json:"on_masters,omitempty"` // tolerates the masters' taint
	Image        string            `json:"image"`
	Priority     int32             `json:"priority,omitempty"`
	// Crash makes every pod of this template crash with this exit code.
	Crash string `json:"crash,omitempty"`
}

type daemonStatus struct {
	desired, current, ready, updated, available, misscheduled int
}

// UID is the DaemonSet's identity; a re-created one has another.
func (s *DaemonSet) UID() string { return s.uid }

// AddSet creates a DaemonSet, as a deployment does. The controller then makes its pods.
func (c *Carrier) AddSet(s DaemonSet) *DaemonSet {
	s.uid, _ = c.id("daemonset")
	s.Annotations = clone(s.Annotations)
	if s.Annotations[templateGenerationKey] == "" {
		s.Annotations[templateGenerationKey] = "1"
	}
	s.Spec.Image = cmp.Or(s.Spec.Image, s.Name+":1")
	s.version, s.generation, s.createdAt = c.bump(), 1, c.clock.Now()
	s.forgotten = map[string]bool{}
	delete(c.removed, s.Namespace+"/"+s.Name)
	c.sets = append(c.sets, &s)
	slices.SortFunc(c.sets, func(a, b *DaemonSet) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	c.namespace(s.Namespace)
	c.wake()
	return &s
}

// HumanCreate creates a DaemonSet, as a person or a GitOps tool does: what was edited on an earlier one is theirs to lose.
func (c *Carrier) HumanCreate(s DaemonSet) *DaemonSet {
	delete(c.edits, s.Namespace+"/"+s.Name)
	c.recreated = true
	return c.AddSet(s)
}

// HumanEdit changes an annotation of a DaemonSet. What is written on an object that is being deleted is lost with it,
// whoever deletes it, so people do not.
func (c *Carrier) HumanEdit(namespace, name, key, value string) {
	if s := c.Set(namespace, name); s != nil && s.deletedAt == nil {
		s.Annotations[key] = value
		s.version = c.bump()
		c.edited(s, key, value)
	}
}

// edited remembers what a person changed: Drydock must never lose it.
func (c *Carrier) edited(s *DaemonSet, key, value string) {
	of := s.Namespace + "/" + s.Name
	if c.edits[of] == nil {
		c.edits[of] = map[string]string{}
	}
	c.edits[of][key] = value
}

// edited reads what a person may have changed: the image, or an annotation.
func (s *DaemonSet) edited(key string) string {
	if key == imageEdit {
		return s.Spec.Image
	}
	return s.Annotations[key]
}

const imageEdit = "the image"

// HumanUpdate changes the image: a new template, which a RollingUpdate DaemonSet rolls out node by node.
func (c *Carrier) HumanUpdate(namespace, name, image string) {
	s := c.Set(namespace, name)
	if s == nil || s.deletedAt != nil {
		return
	}
	s.Spec.Image = image
	generation, err := strconv.Atoi(s.Annotations[templateGenerationKey])
	if err != nil {
		generation = 0
	}
	s.Annotations[templateGenerationKey] = strconv.Itoa(generation + 1)
	s.generation++
	s.version = c.bump()
	c.edited(s, imageEdit, image)
	c.wake()
}

// HumanDelete deletes a DaemonSet with its pods (kubectl's default).
func (c *Carrier) HumanDelete(namespace, name string) {
	if s := c.Set(namespace, name); s != nil {
		c.removed[namespace+"/"+name] = true
		delete(c.edits, namespace+"/"+name)
		c.outdated = append(c.outdated, c.podsOf(s)...)
		c.remove(s)
	}
}

// HumanStick deletes a DaemonSet that somebody's finalizer holds: it stays, deleting, with its pods.
func (c *Carrier) HumanStick(namespace, name, finalizer string) {
	if s := c.Set(namespace, name); s != nil && s.deletedAt == nil {
		now := c.clock.Now()
		s.deletedAt, s.finalizers, s.version = &now, append(s.finalizers, finalizer), c.bump()
		c.removed[namespace+"/"+name] = true
		delete(c.edits, namespace+"/"+name)
		c.wake()
	}
}

// HumanFree takes a finalizer away; the last one lets the object go, and the garbage collector its pods.
func (c *Carrier) HumanFree(namespace, name, finalizer string) {
	if s := c.Set(namespace, name); s != nil {
		s.finalizers, s.version = slices.DeleteFunc(s.finalizers, func(f string) bool { return f == finalizer }), c.bump()
		if s.deletedAt != nil && len(s.finalizers) == 0 {
			c.outdated = append(c.outdated, c.podsOf(s)...)
			c.remove(s)
		}
	}
}

// HumanEndNamespace deletes a namespace with all that is in it; something that is not shown here keeps it terminating.
func (c *Carrier) HumanEndNamespace(namespace string) {
	c.namespaces[namespace].Terminating = true
	for _, s := range slices.Clone(c.sets) {
		if s.Namespace == namespace {
			c.HumanDelete(namespace, s.Name)
		}
	}
}

// Forget makes the controller lose sight of a node: its pod is gone and no other is made until the DaemonSet is created
// again. It stands for the controller faults that the runbook's reapply was written for.
func (c *Carrier) Forget(namespace, name, node string) {
	s := c.Set(namespace, name)
	s.forgotten[node] = true
	for _, p := range c.pods {
		if p.ownerUID == s.uid && p.Pinned == node {
			c.terminate(p)
		}
	}
}

// excludes says why the DaemonSet does not want a node, whatever the node's condition is; empty when it does.
func (s *DaemonSet) excludes(n *Node) string {
	for k, v := range s.Spec.NodeSelector {
		if n.Labels[k] != v {
			return fmt.Sprintf("node selector %s=%s", k, v)
		}
	}
	if n.Master && !s.Spec.OnMasters {
		return "taint node-role.kubernetes.io/control-plane:NoSchedule"
	}
	return ""
}

// shouldRun is the controller's own idea, which a NotReady node changes: its NoSchedule taint is not tolerated.
func (s *DaemonSet) shouldRun(n *Node) bool { return s.excludes(n) == "" && n.NotReady == "" }

func (s *DaemonSet) hash() string { return digest(s.Spec)[:10] }

// updated is Kubernetes' rule, trap included: the hash or the template generation is enough (kubernetes.md fact 2).
func (s *DaemonSet) updated(p *Pod) bool {
	return p.hash == s.hash() || p.templateGeneration == s.Annotations[templateGenerationKey]
}

// manifest is what is needed to create the DaemonSet again: everything that users and tools own.
func (s *DaemonSet) manifest() playbook.Manifest {
	bare := DaemonSet{Namespace: s.Namespace, Name: s.Name, Labels: s.Labels, Owners: s.Owners, Spec: s.Spec, Annotations: clone(s.Annotations)}
	for k := range bare.Annotations {
		if strings.HasPrefix(k, ourAnnotations) {
			delete(bare.Annotations, k)
		}
	}
	return encode(bare)
}

// Checksum is the hexadecimal SHA-256 of a manifest.
func Checksum(m playbook.Manifest) string {
	sum := sha256.Sum256(m)
	return hex.EncodeToString(sum[:])
}

func digest(v any) string { return Checksum(encode(v)) }

// encode writes a value of this package, which always can be written.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", v, err))
	}
	return b
}

func clone(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func (c *Carrier) event(s *DaemonSet, reason, message string) {
	for i, e := range c.events {
		if e.namespace == s.Namespace && e.name == s.Name && e.Reason == reason && e.Message == message {
			c.events[i].Count++
			c.events[i].At = c.clock.Now()
			return
		}
	}
	c.events = append(c.events, daemonEvent{s.Namespace, s.Name,
		playbook.Event{Reason: reason, Message: message, Count: 1, At: c.clock.Now()}})
}

// logForbidden is the line that the controller-manager logs each time it may not store a revision.
func (c *Carrier) logForbidden(s *DaemonSet) {
	const line = `"Unhandled Error" err="%s/%s failed with : failed to construct revisions of DaemonSet: ` +
		`controllerrevisions.apps is forbidden: User \"system:serviceaccount:kube-system:daemon-set-controller\" ` +
		`cannot create resource \"controllerrevisions\" in API group \"apps\" in the namespace \"%s\""`
	key := s.Namespace + "/" + s.Name
	c.managerLog[key] = append(c.managerLog[key], playbook.LogLine{At: c.clock.Now(), Text: fmt.Sprintf(line, s.Namespace, s.Name, s.Namespace)})
}
