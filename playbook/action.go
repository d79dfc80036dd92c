package playbook

import (
	"encoding/json"
	"fmt"
)

// Action is sealed data: exactly one mutating call on a remote. What must be taken back has an Undo.
//
// The set is closed on purpose. An action that an adapter does not know is an error, never silence.
type Action interface {
	// Kind is the contract's name of the action.
	Kind() Kind
	// Target is the object that the call changes, with the uid and resourceVersion that it relies on.
	Target() Ref
	// Undo is the action that takes this one back, nil when there is nothing to take back.
	Undo() Action
	sealed()
}

// Kind names an action in the history, in SQL and in JSON.
type Kind string

// The kinds of the contract.
const (
	KindCordon       Kind = "cordon"
	KindUncordon     Kind = "uncordon"
	KindEvict        Kind = "evict"
	KindOrphanDelete Kind = "orphan_delete"
	KindCreate       Kind = "create"
	KindNudge        Kind = "nudge"
	KindRestart      Kind = "restart_controller_manager"
	KindPromote      Kind = "promote"
	KindAnnotate     Kind = "annotate"
	KindAcknowledge  Kind = "acknowledge"
	KindEscalate     Kind = "escalate"
	KindResolve      Kind = "resolve"
)

// Ref names an object of a remote system.
type Ref struct {
	Kind            string `json:"kind"` // Node, Pod, DaemonSet, Lease, Promotion, Incident
	Namespace       string `json:"namespace"`
	Name            string `json:"name"`
	UID             string `json:"uid"`
	ResourceVersion string `json:"resource_version,omitempty"`
}

// String is "Kind namespace/name".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// Cordon marks a node unschedulable and writes our ownership mark, in one compare-and-swap on its resourceVersion.
// It is for a full node: a private taint would keep the daemon pod out as well (kubernetes.md 1.6).
type Cordon struct {
	Node            string `json:"node"`
	UID             string `json:"uid"`
	ResourceVersion string `json:"resource_version"`
	Mark            Mark   `json:"mark"`
}

// Uncordon removes the cordon and the mark together, and only while the mark is Run's.
type Uncordon struct {
	Node string `json:"node"`
	UID  string `json:"uid"`
	Run  string `json:"run"`
}

// Evict asks the Eviction API to move one pod, identified by uid: a StatefulSet's names repeat.
type Evict struct {
	Node      string `json:"node"`
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	UID       string `json:"uid"`
	Owner     string `json:"owner,omitempty"`
}

// OrphanDelete deletes the DaemonSet and leaves its pods running, with uid and resourceVersion as preconditions, so
// that an edit by someone else stops it.
type OrphanDelete struct {
	Namespace       string   `json:"namespace"`
	Name            string   `json:"name"`
	UID             string   `json:"uid"`
	ResourceVersion string   `json:"resource_version"`
	BackupSHA256    string   `json:"backup_sha256"`
	PodUIDs         []string `json:"pod_uids"`
}

// Create creates the DaemonSet again from the backup that was committed with the delete's promise. It is a plain
// create: it fails when somebody else was first, and never overwrites.
type Create struct {
	Namespace    string `json:"namespace"`
	Name         string `json:"name"`
	OldUID       string `json:"old_uid"`
	BackupSHA256 string `json:"backup_sha256"`
}

// Nudge writes our annotation on the DaemonSet, which queues it at once: 0.9 s instead of a back-off of up to 1,000 s.
type Nudge struct {
	Namespace       string `json:"namespace"`
	Name            string `json:"name"`
	UID             string `json:"uid"`
	ResourceVersion string `json:"resource_version"`
	Run             string `json:"run"`
}

// DriverDeployment restarts a controller-manager that is a Deployment. It is the one driver whose object can be touched, and
// that leaves something to look for: what another one did is never known for sure (docs/adr/0013).
const DriverDeployment = "deployment"

// RestartControllerManager restarts the leading controller-manager by the carrier's configured driver.
type RestartControllerManager struct {
	Driver string `json:"driver"`
	Holder string `json:"holder"`
}

// Promote promotes the deployed build again to the carrier. Before is the number of the newest attempt seen before the
// call: only a larger number proves that the call happened, because the CI returns no id (libraries.md 7).
type Promote struct {
	Component string `json:"component"`
	Carrier   string `json:"carrier"`
	Version   string `json:"version"`
	Build     int    `json:"build"`
	Before    int    `json:"before"`
}

// Annotate writes the run's rolling note on an incident. Note is the id of the note to rewrite; empty: a new one.
type Annotate struct {
	Incident string `json:"incident"`
	Note     string `json:"note,omitempty"`
	Marker   string `json:"marker"` // unique per intent: how an ambiguous write is looked up
	Text     string `json:"text"`
	Final    bool   `json:"final,omitempty"`
}

// Acknowledge acknowledges an incident; only where the configuration asks for it.
type Acknowledge struct {
	Incident string `json:"incident"`
}

// Escalate hands an incident over: to a policy, or to the next level of its own policy when Policy is empty.
type Escalate struct {
	Incident string `json:"incident"`
	Policy   string `json:"policy,omitempty"`
	Team     string `json:"team,omitempty"`
}

// Resolve resolves an incident.
type Resolve struct {
	Incident string `json:"incident"`
}

func (Cordon) Kind() Kind                   { return KindCordon }
func (Uncordon) Kind() Kind                 { return KindUncordon }
func (Evict) Kind() Kind                    { return KindEvict }
func (OrphanDelete) Kind() Kind             { return KindOrphanDelete }
func (Create) Kind() Kind                   { return KindCreate }
func (Nudge) Kind() Kind                    { return KindNudge }
func (RestartControllerManager) Kind() Kind { return KindRestart }
func (Promote) Kind() Kind                  { return KindPromote }
func (Annotate) Kind() Kind                 { return KindAnnotate }
func (Acknowledge) Kind() Kind              { return KindAcknowledge }
func (Escalate) Kind() Kind                 { return KindEscalate }
func (Resolve) Kind() Kind                  { return KindResolve }

func (Cordon) sealed()                   {}
func (Uncordon) sealed()                 {}
func (Evict) sealed()                    {}
func (OrphanDelete) sealed()             {}
func (Create) sealed()                   {}
func (Nudge) sealed()                    {}
func (RestartControllerManager) sealed() {}
func (Promote) sealed()                  {}
func (Annotate) sealed()                 {}
func (Acknowledge) sealed()              {}
func (Escalate) sealed()                 {}
func (Resolve) sealed()                  {}

// Undo of a cordon is the uncordon of that node, for that run's mark only.
func (a Cordon) Undo() Action { return Uncordon{Node: a.Node, UID: a.UID, Run: a.Mark.Run} }

// Undo of an orphan delete is the create from its backup.
func (a OrphanDelete) Undo() Action {
	return Create{Namespace: a.Namespace, Name: a.Name, OldUID: a.UID, BackupSHA256: a.BackupSHA256}
}

func (Uncordon) Undo() Action                 { return nil }
func (Evict) Undo() Action                    { return nil }
func (Create) Undo() Action                   { return nil }
func (Nudge) Undo() Action                    { return nil }
func (RestartControllerManager) Undo() Action { return nil }
func (Promote) Undo() Action                  { return nil }
func (Annotate) Undo() Action                 { return nil }
func (Acknowledge) Undo() Action              { return nil }
func (Escalate) Undo() Action                 { return nil }
func (Resolve) Undo() Action                  { return nil }

func (a Cordon) Target() Ref {
	return Ref{Kind: "Node", Name: a.Node, UID: a.UID, ResourceVersion: a.ResourceVersion}
}
func (a Uncordon) Target() Ref { return Ref{Kind: "Node", Name: a.Node, UID: a.UID} }
func (a Evict) Target() Ref {
	return Ref{Kind: "Pod", Namespace: a.Namespace, Name: a.Pod, UID: a.UID}
}
func (a OrphanDelete) Target() Ref {
	return Ref{Kind: "DaemonSet", Namespace: a.Namespace, Name: a.Name, UID: a.UID, ResourceVersion: a.ResourceVersion}
}
func (a Create) Target() Ref {
	return Ref{Kind: "DaemonSet", Namespace: a.Namespace, Name: a.Name, UID: a.OldUID}
}
func (a Nudge) Target() Ref {
	return Ref{Kind: "DaemonSet", Namespace: a.Namespace, Name: a.Name, UID: a.UID, ResourceVersion: a.ResourceVersion}
}
func (a RestartControllerManager) Target() Ref {
	return Ref{Kind: "Lease", Namespace: "kube-system", Name: "kube-controller-manager", UID: a.Holder}
}
func (a Promote) Target() Ref     { return Ref{Kind: "Promotion", Namespace: a.Carrier, Name: a.Component} }
func (a Annotate) Target() Ref    { return Ref{Kind: "Incident", Name: a.Incident} }
func (a Acknowledge) Target() Ref { return Ref{Kind: "Incident", Name: a.Incident} }
func (a Escalate) Target() Ref    { return Ref{Kind: "Incident", Name: a.Incident} }
func (a Resolve) Target() Ref     { return Ref{Kind: "Incident", Name: a.Incident} }

// EncodeAction writes an action as {"kind":...,"args":{...}}, the form in which the ledger keeps it.
func EncodeAction(a Action) ([]byte, error) {
	args, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encode action %s: %w", a.Kind(), err)
	}
	return json.Marshal(actionJSON{Kind: a.Kind(), Args: args})
}

type actionJSON struct {
	Kind Kind            `json:"kind"`
	Args json.RawMessage `json:"args"`
}

// UnknownKindError says that an action's kind is not one that this version knows.
type UnknownKindError struct{ Kind Kind }

func (e UnknownKindError) Error() string { return fmt.Sprintf("action kind %q is not known", e.Kind) }

// DecodeAction reads what EncodeAction wrote.
func DecodeAction(b []byte) (Action, error) {
	var j actionJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("decode action: %w", err)
	}
	switch j.Kind {
	case KindCordon:
		return decodeArgs[Cordon](j)
	case KindUncordon:
		return decodeArgs[Uncordon](j)
	case KindEvict:
		return decodeArgs[Evict](j)
	case KindOrphanDelete:
		return decodeArgs[OrphanDelete](j)
	case KindCreate:
		return decodeArgs[Create](j)
	case KindNudge:
		return decodeArgs[Nudge](j)
	case KindRestart:
		return decodeArgs[RestartControllerManager](j)
	case KindPromote:
		return decodeArgs[Promote](j)
	case KindAnnotate:
		return decodeArgs[Annotate](j)
	case KindAcknowledge:
		return decodeArgs[Acknowledge](j)
	case KindEscalate:
		return decodeArgs[Escalate](j)
	case KindResolve:
		return decodeArgs[Resolve](j)
	}
	return nil, UnknownKindError{Kind: j.Kind}
}

func decodeArgs[A Action](j actionJSON) (Action, error) {
	var a A
	if err := json.Unmarshal(j.Args, &a); err != nil {
		return nil, fmt.Errorf("decode action %s: %w", j.Kind, err)
	}
	return a, nil
}
