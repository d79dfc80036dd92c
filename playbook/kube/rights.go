package kube

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/drydock/drydock/playbook"
)

// Right is something that Drydock does on a carrier and that RBAC must allow.
type Right struct {
	Verb, Group, Resource, Subresource, Namespace, Name string
	// Acts: it is the acting identity's, and only needed where the carrier's mode lets Drydock change something.
	Acts bool
	// For says what can not be done without it.
	For string
}

// String names the right as kubectl auth can-i does: "patch nodes", "create pods/eviction in kubx-masters".
func (r Right) String() string {
	s := r.Verb + " " + r.Resource
	if r.Group != "" {
		s += "." + r.Group
	}
	if r.Subresource != "" {
		s += "/" + r.Subresource
	}
	if r.Name != "" {
		s += " " + r.Name
	}
	if r.Namespace != "" {
		s += " in " + r.Namespace
	}
	return s
}

// Needs says what rights depend on.
type Needs struct {
	Targets []playbook.Target // the DaemonSets that are looked after
	Drain   []string          // drain_namespaces
	// Restart is the driver that restarts the controller-manager, with the Deployment's place.
	Restart ControllerManager
	// FlagSets are the FeatureFlagSetLDs that name the deployed version.
	FlagSets []FlagSet
}

// FlagSet names a FeatureFlagSetLD.
type FlagSet struct{ Namespace, Name string }

const leaseGroup = "coordination.k8s.io"

// The rights of the single calls of Do, which names them when the API server denies one.
var (
	getNodes        = Right{Verb: "get", Resource: "nodes", For: forDraining}
	patchNodes      = Right{Verb: "patch", Resource: "nodes", Acts: true, For: forDraining}
	getManagerLease = Right{Verb: "get", Group: leaseGroup, Resource: "leases", Namespace: controllerNamespace, Name: controllerLease, For: forLooking}
)

const (
	forLooking   = "diagnose"
	forDraining  = "drain a full node"
	forReapplies = "reapply a DaemonSet"
)

func evictPods(namespace string) Right {
	return Right{Verb: "create", Resource: "pods", Subresource: "eviction", Namespace: namespace, Acts: true, For: forDraining}
}

func patchDaemonSets(namespace, name string) Right {
	return Right{Verb: "patch", Group: "apps", Resource: "daemonsets", Namespace: namespace, Name: name, Acts: true, For: "nudge the DaemonSet controller"}
}

func deleteDaemonSets(namespace, name string) Right {
	return Right{Verb: "delete", Group: "apps", Resource: "daemonsets", Namespace: namespace, Name: name, Acts: true, For: forReapplies}
}

// createDaemonSets has no name: RBAC can not limit a create by it.
func createDaemonSets(namespace string) Right {
	return Right{Verb: "create", Group: "apps", Resource: "daemonsets", Namespace: namespace, Acts: true, For: forReapplies}
}

func writeLease(verb string) Right {
	r := Right{Verb: verb, Group: leaseGroup, Resource: "leases", Namespace: playbook.LeaseNamespace, Acts: true, For: "say which installation may act"}
	if verb != "create" {
		r.Name = playbook.LeaseName
	}
	return r
}

func onDeployment(verb, namespace, name string) Right {
	return Right{Verb: verb, Group: "apps", Resource: "deployments", Namespace: namespace, Name: name, Acts: verb != "get", For: "restart the controller-manager"}
}

// Rights lists every right that Drydock needs on a carrier: the one place that says so. Each is asked for once. What every
// identity may do on any cluster, to ask for its own rights and for the server's version, is not among them.
//
// What is asked about a namespace that may be gone is not granted in it: a Role ends with its namespace, and then "forbidden"
// would stand where "not found" has to be read.
func Rights(n Needs) []Right {
	const look, evidence, drain = forLooking, "show evidence", forDraining
	rights := []Right{
		{Verb: "list", Resource: "nodes", For: look},
		getNodes,
		{Verb: "list", Resource: "pods", For: look}, // of all namespaces: what takes a full node's slots
		{Verb: "create", Group: "authorization.k8s.io", Resource: "subjectaccessreviews", For: "name the right that the DaemonSet controller lacks"},
		{Verb: "get", Resource: "pods", Subresource: "log", Namespace: controllerNamespace, For: "read the controller-manager's log"},
		getManagerLease,
		{Verb: "get", Group: leaseGroup, Resource: "leases", Namespace: playbook.LeaseNamespace, Name: playbook.LeaseName, For: "know which installation may act"},
		writeLease("create"),
		writeLease("update"),
		patchNodes,
	}
	for _, t := range n.Targets {
		rights = append(rights,
			Right{Verb: "get", Resource: "namespaces", Name: t.Namespace, For: look},
			Right{Verb: "get", Group: "apps", Resource: "daemonsets", Name: t.DaemonSet, For: look},
			Right{Verb: "list", Resource: "events", Namespace: t.Namespace, For: evidence},
			Right{Verb: "get", Resource: "pods", Subresource: "log", Namespace: t.Namespace, For: evidence},
			patchDaemonSets(t.Namespace, t.DaemonSet),
			deleteDaemonSets(t.Namespace, t.DaemonSet),
			createDaemonSets(t.Namespace))
	}
	for _, ns := range n.Drain {
		rights = append(rights,
			Right{Verb: "list", Group: "policy", Resource: "poddisruptionbudgets", Namespace: ns, For: drain},
			Right{Verb: "list", Group: "apps", Resource: "replicasets", Namespace: ns, For: drain},
			Right{Verb: "list", Group: "apps", Resource: "statefulsets", Namespace: ns, For: drain},
			evictPods(ns))
	}
	if n.Restart.Restart == DriverDeployment {
		for _, verb := range []string{"get", "patch"} {
			rights = append(rights, onDeployment(verb, cmp.Or(n.Restart.Namespace, controllerNamespace), cmp.Or(n.Restart.Name, managerName)))
		}
	}
	for _, f := range n.FlagSets {
		rights = append(rights, Right{Verb: "get", Group: flagSetGroup, Resource: flagSetPlural, Namespace: f.Namespace, Name: f.Name, For: "know which version is deployed"})
	}
	var once []Right
	for _, r := range rights {
		if !slices.Contains(once, r) {
			once = append(once, r)
		}
	}
	return once
}

// reviewsAtOnce bounds how many access reviews are asked at one time.
const reviewsAtOnce = 8

// Denied asks the API server about each right, and returns those that it denies, in their order.
func (c *Carrier) Denied(ctx context.Context, rights []Right) ([]Right, error) {
	denied := make([]bool, len(rights))
	errs := make([]error, len(rights))
	next := make(chan int)
	var all sync.WaitGroup
	for range reviewsAtOnce {
		all.Go(func() {
			for i := range next {
				denied[i], errs[i] = c.denied(ctx, rights[i])
			}
		})
	}
	for i := range rights {
		next <- i
	}
	close(next)
	all.Wait()
	var list []Right
	for i, r := range rights {
		if errs[i] != nil {
			return nil, errs[i] // one is enough: they have one cause
		}
		if denied[i] {
			list = append(list, r)
		}
	}
	return slices.Clip(list), nil
}

func (c *Carrier) denied(ctx context.Context, r Right) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client := c.reader
	if r.Acts {
		client = c.actor
	}
	review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: r.Verb, Group: r.Group, Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name}},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("ask whether we may %s: %w", r, err)
	}
	return !review.Status.Allowed, nil
}

// grantedRights remembers what the API server has allowed, so that it is not asked in every tick. What it denies in a call all the
// same is forgotten.
type grantedRights struct {
	mu  sync.Mutex
	has map[Right]bool
}

func (g *grantedRights) note(r Right) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.has == nil {
		g.has = map[Right]bool{}
	}
	g.has[r] = true
}

func (g *grantedRights) forget(r Right) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.has, r)
}

func (g *grantedRights) includes(r Right) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.has[r]
}

// lacks asks the API server whether it denies a right, until it has once said that it does not.
func (c *Carrier) lacks(ctx context.Context, r Right) (bool, error) {
	if c.granted.includes(r) {
		return false, nil
	}
	denied, err := c.denied(ctx, r)
	if err == nil && !denied {
		c.granted.note(r)
	}
	return denied, err
}

// lacking names, for people, the right that the call which failed so needed, if the API server denies it. A 403 alone does not say
// that: quotas and webhooks answer with it too.
func (c *Carrier) lacking(ctx context.Context, err error, right Right) (string, bool) {
	if !saidForbidden(err) {
		return "", false
	}
	if denied, err := c.denied(ctx, right); err != nil || !denied {
		return "", false // then the API server's first words have to do
	}
	c.granted.forget(right)
	return playbook.NotGranted(c.name, right.String()), true
}

// Clock asks the API server for its time, which it sends in whole seconds.
func (c *Carrier) Clock(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client, ok := c.reader.CoreV1().RESTClient().(*rest.RESTClient)
	if !ok {
		return time.Time{}, fmt.Errorf("read clock of carrier %s: the client shows no headers", c.name)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, client.Get().AbsPath("/version").URL().String(), nil)
	if err != nil {
		return time.Time{}, fmt.Errorf("read clock of carrier %s: %w", c.name, err)
	}
	resp, err := client.Client.Do(req)
	if err != nil {
		return time.Time{}, fmt.Errorf("read clock of carrier %s: %w", c.name, err)
	}
	_ = resp.Body.Close()
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return time.Time{}, fmt.Errorf("read clock of carrier %s: %w", c.name, err)
	}
	return at.UTC(), nil
}
