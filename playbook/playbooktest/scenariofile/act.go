package scenariofile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Act is something that happens: a verb and its words, in a file "free-disk worker-3".
type Act struct {
	Verb Verb
	// On is the verb's own word: a worker, a DaemonSet's annotation, a reason. Empty for a verb that takes none.
	On string
}

// Verb names an act.
type Verb string

// The verbs. Each runner plays all of them but LoseSight.
const (
	PressDisk      Verb = "press-disk"      // a worker's disk fills up, and its daemon pod fails
	FreeDisk       Verb = "free-disk"       // the disk team has freed it
	CrashPod       Verb = "crash-pod"       // a worker's daemon pod goes into a crash loop
	HealPod        Verb = "heal-pod"        // and out of it
	DeletePod      Verb = "delete-pod"      // a person deletes a worker's daemon pod
	TakeDown       Verb = "take-down"       // a worker is NotReady
	BringUp        Verb = "bring-up"        // and Ready again
	Cordon         Verb = "cordon"          // a person cordons a worker
	Uncordon       Verb = "uncordon"        // and uncordons it
	KeepCordoned   Verb = "keep-cordoned"   // a person wants a worker that Drydock cordoned to stay so
	RefusePods     Verb = "refuse-pods"     // a quota refuses new pods in the DaemonSets' namespace
	AdmitPods      Verb = "admit-pods"      // and no more
	LoosenBudgets  Verb = "loosen-budgets"  // the disruption budgets of the customers' masters allow one pod to go
	AddBudgets     Verb = "add-budgets"     // a second disruption budget for each of the customers' masters: the API then refuses evictions
	StickSet       Verb = "stick-set"       // a person deletes a DaemonSet that somebody's finalizer holds
	FreeSet        Verb = "free-set"        // and that finalizer is taken away
	EndNamespace   Verb = "end-namespace"   // a person deletes the DaemonSets' namespace, and something in it holds it
	LoseSight      Verb = "lose-sight"      // the DaemonSet controller forgets a worker; only the simulator's can
	DeleteSet      Verb = "delete-set"      // a person deletes a DaemonSet with its pods
	CreateSet      Verb = "create-set"      // and creates it again
	UpdateSet      Verb = "update-set"      // a person changes a DaemonSet's image
	AnnotateSet    Verb = "annotate-set"    // a person annotates the first DaemonSet
	ForbidRevision Verb = "forbid-revision" // the DaemonSet controller loses its right to ControllerRevisions
	AllowRevision  Verb = "allow-revision"  // and has it again
	StopController Verb = "stop-controller" // the controller-manager dies
	StartControl   Verb = "start-controller"
	Acknowledge    Verb = "acknowledge" // a person, on the first incident; so are the next ones
	Resolve        Verb = "resolve"
	Reassign       Verb = "reassign"
	HandsOff       Verb = "hands-off"
	Merge          Verb = "merge"
	Snooze         Verb = "snooze"
	SayOnPurpose   Verb = "say-on-purpose" // a person notes that the DaemonSet was deleted on purpose
	ApproverNote   Verb = "approver-note"  // a listed approver notes "drydock approve <hash>"
	StrangerNote   Verb = "stranger-note"  // somebody who is not listed does
	Recover        Verb = "recover"        // monitoring resolves the first incident
	OpenDisk       Verb = "open-disk"      // a disk-space incident of the carrier opens
	CloseDisk      Verb = "close-disk"     // and is resolved
	Join           Verb = "join"           // a second incident of the first target
	LosePager      Verb = "lose-pager"     // PagerDuty answers 503
	RegainPager    Verb = "regain-pager"   // and answers again
	LoseCarrier    Verb = "lose-carrier"   // the carrier's API server can not be reached
	RegainCarrier  Verb = "regain-carrier"
	LoseCI         Verb = "lose-ci" // version source and CI answer 503
	RegainCI       Verb = "regain-ci"
	KillSwitch     Verb = "kill-switch" // engaged for the carrier, for this reason
	ReleaseSwitch  Verb = "release-switch"
	CancelRun      Verb = "cancel-run" // a person, through the API
	Approve        Verb = "approve"    // a person, through the API: the first run's plan as it is now
)

// words says what follows a verb.
type words int

const (
	none words = iota
	worker
	daemonSet
	text
)

var vocabulary = map[Verb]words{
	PressDisk: worker, FreeDisk: worker, CrashPod: worker, HealPod: worker, DeletePod: worker, TakeDown: worker, BringUp: worker,
	Cordon: worker, Uncordon: worker, KeepCordoned: worker, RefusePods: none, AdmitPods: none, LoosenBudgets: none,
	AddBudgets: none, StickSet: daemonSet, FreeSet: daemonSet, EndNamespace: none, LoseSight: worker,
	Snooze: none, SayOnPurpose: none, ApproverNote: none, StrangerNote: none,
	DeleteSet: daemonSet, CreateSet: daemonSet, UpdateSet: daemonSet, AnnotateSet: text,
	ForbidRevision: none, AllowRevision: none, StopController: none, StartControl: none,
	Acknowledge: none, Resolve: none, Reassign: none, HandsOff: none, Merge: none, Recover: none, OpenDisk: none, CloseDisk: none, Join: none,
	LosePager: none, RegainPager: none, LoseCarrier: none, RegainCarrier: none, LoseCI: none, RegainCI: none,
	KillSwitch: text, ReleaseSwitch: none, CancelRun: none, Approve: none,
}

// Verbs lists all verbs by name.
func Verbs() []Verb { return slices.Sorted(maps.Keys(vocabulary)) }

// UnmarshalYAML reads an act from its words.
func (a *Act) UnmarshalYAML(unmarshal func(any) error) error {
	var s string
	if err := unmarshal(&s); err != nil {
		return err
	}
	verb, on, _ := strings.Cut(strings.TrimSpace(s), " ")
	a.Verb, a.On = Verb(verb), strings.TrimSpace(on)
	return nil
}

func (a Act) String() string { return strings.TrimSpace(string(a.Verb) + " " + a.On) }

func (a Act) check(s *Scenario) error {
	wants, ok := vocabulary[a.Verb]
	if !ok {
		return fmt.Errorf("%q is no verb: use one of %v", a.Verb, Verbs())
	}
	switch wants {
	case none:
		if a.On != "" {
			return fmt.Errorf("%s takes no word, and %q follows", a.Verb, a.On)
		}
	case worker:
		return s.checkWorker(a.On)
	case daemonSet:
		return s.checkDaemonSet(a.On)
	case text:
		if a.On == "" {
			return fmt.Errorf("%s needs words", a.Verb)
		}
	}
	return nil
}

// Disrupts reports whether the act is felt by every DaemonSet of a control plane, so that the scenario needs one for itself.
func (a Act) Disrupts() bool {
	switch a.Verb { //nolint:exhaustive // the others are a node's, a namespace's or a remote's
	case ForbidRevision, AllowRevision, StopController, StartControl:
		return true
	}
	return false
}

// Sight is something that can be seen: in a file "cordoned worker-1".
type Sight struct {
	Seen SightKind
	On   string
}

// SightKind names a sight.
type SightKind string

// What can be waited for.
const (
	Cordoned SightKind = "cordoned" // Drydock's mark is on a worker
	Gone     SightKind = "gone"     // a DaemonSet is not there
	InState  SightKind = "state"    // the first run is in a state
	Evicted  SightKind = "evicted"  // a customer's pod has left a full worker
	Restarts SightKind = "restarts" // the restart of the controller-manager was ordered
)

// UnmarshalYAML reads a sight from its words.
func (w *Sight) UnmarshalYAML(unmarshal func(any) error) error {
	var s string
	if err := unmarshal(&s); err != nil {
		return err
	}
	kind, on, _ := strings.Cut(strings.TrimSpace(s), " ")
	w.Seen, w.On = SightKind(kind), strings.TrimSpace(on)
	return nil
}

func (w Sight) String() string { return strings.TrimSpace(string(w.Seen) + " " + w.On) }

func (w Sight) check(s *Scenario) error {
	switch w.Seen {
	case Cordoned, Evicted:
		return s.checkWorker(w.On)
	case Gone:
		return s.checkDaemonSet(w.On)
	case InState:
		return checkState(w.On)
	case Restarts:
		return nil
	}
	return fmt.Errorf("%q can not be waited for: use %s, %s, %s, %s or %s", w.Seen, Cordoned, Evicted, Gone, InState, Restarts)
}
