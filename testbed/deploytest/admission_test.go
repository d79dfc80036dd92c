package deploytest

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	deploy "github.com/drydock/drydock/deploy/carrier"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/controlplane/clustertest"
	"github.com/drydock/drydock/testbed/fault"
	"github.com/drydock/drydock/testbed/grant"
)

// cluster is the API server that all tests here share.
var cluster *controlplane.Cluster

func TestMain(m *testing.M) {
	os.Exit(clustertest.Run(context.Background(), m, controlplane.Options{Name: "prod-dal10-carrier3", Bare: true}, &cluster))
}

func setup(t *testing.T) (context.Context, kubernetes.Interface) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx, cluster.Client()
}

// namespace makes a namespace with its default ServiceAccount, which no controller-manager makes here.
func namespace(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	client := cluster.Client()
	if _, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := client.CoreV1().ServiceAccounts(name).Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

// policy puts the admission policy in force, once for all tests.
var policy = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	image := func(name string) string { return "image registry.example.com/" + name + "\n" }
	return grant.Policy(ctx, cluster.RESTConfig(), map[string]string{
		"admission.node-exporter": image("node-exporter"),
		"admission.new":           image("node-exporter") + "  hostPath /proc\n",
		"unlisted.node-exporter":  image("node-exporter") + "hostPID\n",
	})
})

// granted gives two identities of the test's own exactly the rights for what is needed, under the policy.
func granted(t *testing.T, ctx context.Context, needs kube.Needs) deploy.Accounts {
	t.Helper()
	if err := policy(); err != nil {
		t.Fatal(err)
	}
	name := strings.ToLower(t.Name())
	accounts := deploy.Accounts{Reader: name + "-reader", Actor: name + "-actor"}
	if err := grant.Rights(ctx, cluster.RESTConfig(), accounts, kube.Rights(needs)); err != nil {
		t.Fatal(err)
	}
	return accounts
}

// as is a client with a ServiceAccount's rights.
func as(t *testing.T, account string, groups ...string) kubernetes.Interface {
	t.Helper()
	config := cluster.RESTConfig()
	config.Impersonate = rest.ImpersonationConfig{UserName: grant.Account(account), Groups: groups}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

var dryRun = []string{metav1.DryRunAll}

// act is something that an identity sends, always as a dry run: the API server checks it as if it were meant.
type act func(ctx context.Context, as kubernetes.Interface) error

func patchNode(name, body string, sub ...string) act {
	return func(ctx context.Context, as kubernetes.Interface) error {
		_, err := as.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, []byte(body), metav1.PatchOptions{DryRun: dryRun}, sub...)
		return err
	}
}

func patchSet(namespace, name, body string) act {
	return func(ctx context.Context, as kubernetes.Interface) error {
		_, err := as.AppsV1().DaemonSets(namespace).Patch(ctx, name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{DryRun: dryRun})
		return err
	}
}

func patchDeployment(name, body string) act {
	return func(ctx context.Context, as kubernetes.Interface) error {
		_, err := as.AppsV1().Deployments("admission").Patch(ctx, name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{DryRun: dryRun})
		return err
	}
}

func evict(namespace, pod string, options *metav1.DeleteOptions) act {
	return func(ctx context.Context, as kubernetes.Interface) error {
		return as.PolicyV1().Evictions(namespace).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod}, DeleteOptions: options})
	}
}

// The API server refuses what Drydock's identities must not do: RBAC, what they have no right to, and the admission policy, what
// no right can tell from the allowed. Beside each forbidden act stands its allowed neighbour, which must pass.
func TestForbiddenActs(t *testing.T) {
	ctx, client := setup(t)
	const ns, masters = "admission", "kubx-admission"
	for _, name := range []string{ns, masters, "admission-other"} {
		namespace(t, ctx, name)
	}
	ds, err := fault.CreateDaemonSet(ctx, client, fault.Agent{Namespace: ns, Name: "node-exporter", Annotations: map[string]string{"team": "ops"},
		Edit: func(set *appsv1.DaemonSet) {
			set.Spec.Template.Spec.NodeSelector = map[string]string{"sim/nowhere": "1"}
		}})
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range [][2]string{{ns, "stranger"}, {"admission-other", "node-exporter"}} {
		if _, err := fault.CreateDaemonSet(ctx, client, fault.Agent{Namespace: of[0], Name: of[1],
			Edit: func(set *appsv1.DaemonSet) {
				set.Spec.Template.Spec.NodeSelector = map[string]string{"sim/nowhere": "1"}
			}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := fault.CreateWorkload(ctx, client, fault.Workload{Namespace: ns, Name: "kube-controller-manager", Replicas: 1}); err != nil {
		t.Fatal(err)
	}
	pod, err := client.CoreV1().Pods(masters).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "master"}, Spec: *ds.Spec.Template.Spec.DeepCopy()}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	plain, cordoned, marked, kept := "admission-plain", "admission-cordoned", "admission-marked", "admission-kept"
	for name, annotations := range map[string]map[string]string{cordoned: nil, marked: {kube.CordonOwner: "{}"}, kept: {kube.CordonOwner: "{}", kube.KeepCordoned: "true"}, plain: nil} {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}, Spec: corev1.NodeSpec{Unschedulable: name != plain}}
		if _, err := client.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		clustertest.Cleanup(t, func(ctx context.Context) error {
			return client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
		})
	}

	accounts := granted(t, ctx, kube.Needs{Targets: []playbook.Target{{Namespace: ns, DaemonSet: "node-exporter"}, {Namespace: ns, DaemonSet: "new"}},
		Drain: []string{masters}, Restart: kube.ControllerManager{Restart: kube.DriverDeployment, Namespace: ns}})
	reader, actor := as(t, accounts.Reader), as(t, accounts.Actor)
	// Somebody gives the actor everything by mistake: what is left is the policy.
	almighty := as(t, accounts.Actor, "system:masters")

	// fresh is a new DaemonSet that the actor may create, but for an edit.
	fresh := func(edit func(*appsv1.DaemonSet, *corev1.PodSpec)) act {
		return func(ctx context.Context, as kubernetes.Interface) error {
			set := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "new", Annotations: map[string]string{"team": "ops"}}, Spec: *ds.Spec.DeepCopy()}
			if edit != nil {
				edit(set, &set.Spec.Template.Spec)
			}
			_, err := as.AppsV1().DaemonSets(set.Namespace).Create(ctx, set, metav1.CreateOptions{DryRun: dryRun})
			return err
		}
	}
	spec := func(edit func(*corev1.PodSpec)) act {
		return fresh(func(_ *appsv1.DaemonSet, p *corev1.PodSpec) { edit(p) })
	}
	container := func(edit func(*corev1.Container)) act {
		return spec(func(p *corev1.PodSpec) { edit(&p.Containers[0]) })
	}
	secure := func(s corev1.SecurityContext) act {
		return container(func(c *corev1.Container) { c.SecurityContext = &s })
	}
	volume := func(v corev1.VolumeSource) act {
		return spec(func(p *corev1.PodSpec) { p.Volumes = []corev1.Volume{{Name: "v", VolumeSource: v}} })
	}
	remove := func(namespace, name string, o metav1.DeleteOptions) act {
		return func(ctx context.Context, as kubernetes.Interface) error {
			o.DryRun = dryRun
			return as.AppsV1().DaemonSets(namespace).Delete(ctx, name, o)
		}
	}
	orphan, background := metav1.DeletePropagationOrphan, metav1.DeletePropagationBackground
	seen := &metav1.Preconditions{UID: &ds.UID, ResourceVersion: new(ds.ResourceVersion)}
	byUID := func(uid types.UID) *metav1.DeleteOptions {
		return &metav1.DeleteOptions{DryRun: dryRun, Preconditions: &metav1.Preconditions{UID: &uid}}
	}
	lease := func(namespace, name string) act {
		return func(ctx context.Context, as kubernetes.Interface) error {
			_, err := as.CoordinationV1().Leases(namespace).Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{DryRun: dryRun})
			return err
		}
	}
	secret := func(ctx context.Context, as kubernetes.Interface) error {
		_, err := as.CoreV1().Secrets(ns).Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}}, metav1.CreateOptions{DryRun: dryRun})
		return err
	}
	const mark = `"drydock.dev/cordon-owner":"{}"`
	const byRBAC = "cannot" // the API server's word: User "..." cannot patch resource "nodes"

	for name, tt := range map[string]struct {
		who   kubernetes.Interface
		do    act
		words string // of the refusal; empty: allowed
	}{
		// What the reader may not, and the actor neither.
		"the reader cordons": {reader, patchNode(plain, `{"metadata":{"annotations":{`+mark+`}},"spec":{"unschedulable":true}}`), byRBAC},
		"the reader nudges":  {reader, patchSet(ns, "node-exporter", `{"metadata":{"annotations":{"drydock.dev/nudged-by-run":"r"}}}`), byRBAC},
		"the reader evicts":  {reader, evict(masters, pod.Name, byUID(pod.UID)), byRBAC},
		"read a secret": {reader, func(ctx context.Context, as kubernetes.Interface) error {
			_, err := as.CoreV1().Secrets(ns).Get(ctx, "s", metav1.GetOptions{})
			return err
		}, byRBAC},
		"list secrets": {actor, func(ctx context.Context, as kubernetes.Interface) error {
			_, err := as.CoreV1().Secrets("").List(ctx, metav1.ListOptions{})
			return err
		}, byRBAC},
		"write a secret": {actor, secret, byRBAC},
		"exec": {actor, func(ctx context.Context, as kubernetes.Interface) error {
			return as.CoreV1().RESTClient().Post().Namespace(masters).Resource("pods").Name(pod.Name).SubResource("exec").Param("command", "id").Do(ctx).Error()
		}, byRBAC},
		"the kubelet's API": {reader, func(ctx context.Context, as kubernetes.Interface) error {
			return as.CoreV1().RESTClient().Get().Resource("nodes").Name(plain).SubResource("proxy").Do(ctx).Error()
		}, byRBAC},
		"log of a customer's pod": {reader, func(ctx context.Context, as kubernetes.Interface) error {
			return as.CoreV1().Pods(masters).GetLogs(pod.Name, &corev1.PodLogOptions{}).Do(ctx).Error()
		}, byRBAC},
		"delete a pod": {actor, func(ctx context.Context, as kubernetes.Interface) error {
			return as.CoreV1().Pods(masters).Delete(ctx, pod.Name, metav1.DeleteOptions{DryRun: dryRun})
		}, byRBAC},
		"create a pod": {actor, func(ctx context.Context, as kubernetes.Interface) error {
			_, err := as.CoreV1().Pods(ns).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: *ds.Spec.Template.Spec.DeepCopy()}, metav1.CreateOptions{DryRun: dryRun})
			return err
		}, byRBAC},
		"give itself a role": {actor, func(ctx context.Context, as kubernetes.Interface) error {
			_, err := as.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "b"},
				RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}}, metav1.CreateOptions{DryRun: dryRun})
			return err
		}, byRBAC},
		"widen its list of powers": {actor, func(ctx context.Context, as kubernetes.Interface) error {
			_, err := as.CoreV1().ConfigMaps(deploy.Namespace).Patch(ctx, "drydock-daemonsets", types.MergePatchType, []byte(`{"data":{"a.b":""}}`), metav1.PatchOptions{DryRun: dryRun})
			return err
		}, byRBAC},
		"take the policy away": {actor, func(ctx context.Context, as kubernetes.Interface) error {
			return as.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(ctx, "drydock-acts", metav1.DeleteOptions{DryRun: dryRun})
		}, byRBAC},
		"evict of another namespace":        {actor, evict("kube-system", "any", byUID("u")), byRBAC},
		"delete another's DaemonSet":        {actor, remove(ns, "stranger", metav1.DeleteOptions{PropagationPolicy: &orphan}), byRBAC},
		"delete elsewhere":                  {actor, remove("admission-other", "node-exporter", metav1.DeleteOptions{PropagationPolicy: &orphan}), byRBAC},
		"patch another's DaemonSet":         {actor, patchSet(ns, "stranger", `{"metadata":{"annotations":{"drydock.dev/generation":"r"}}}`), byRBAC},
		"a node's status":                   {actor, patchNode(plain, `{"status":{"allocatable":{"pods":"500"}}}`, "status"), byRBAC},
		"another Deployment":                {actor, patchDeployment("other", `{}`), byRBAC},
		"a Lease of another namespace":      {actor, lease(masters, "drydock"), byRBAC},
		"given everything: write a secret":  {almighty, secret, "never does this: CREATE secrets"},
		"given everything: a node's status": {almighty, patchNode(plain, `{"status":{"allocatable":{"pods":"500"}}}`, "status"), "never does this: UPDATE nodes/status"},
		"given everything: delete a pod": {almighty, func(ctx context.Context, as kubernetes.Interface) error {
			return as.CoreV1().Pods(masters).Delete(ctx, pod.Name, metav1.DeleteOptions{DryRun: dryRun})
		}, "never does this: DELETE pods"},
		"given everything: exec": {almighty, func(ctx context.Context, as kubernetes.Interface) error {
			return as.CoreV1().RESTClient().Post().Namespace(masters).Resource("pods").Name(pod.Name).SubResource("exec").Param("command", "id").Do(ctx).Error()
		}, "never does this: CONNECT pods/exec"},
		"given everything: delete a node": {almighty, func(ctx context.Context, as kubernetes.Interface) error {
			return as.CoreV1().Nodes().Delete(ctx, plain, metav1.DeleteOptions{DryRun: dryRun})
		}, "never does this: DELETE nodes"},

		"cordon":                         {actor, patchNode(plain, `{"metadata":{"annotations":{`+mark+`}},"spec":{"unschedulable":true}}`), ""},
		"cordon without a mark":          {actor, patchNode(plain, `{"spec":{"unschedulable":true}}`), "only with its mark"},
		"adopt a cordon":                 {actor, patchNode(cordoned, `{"metadata":{"annotations":{`+mark+`}}}`), "somebody else's"},
		"lift another's cordon":          {actor, patchNode(cordoned, `{"spec":{"unschedulable":null}}`), "bears its mark"},
		"uncordon":                       {actor, patchNode(marked, `{"metadata":{"annotations":{"drydock.dev/cordon-owner":null}},"spec":{"unschedulable":null}}`), ""},
		"uncordon and keep the mark":     {actor, patchNode(marked, `{"spec":{"unschedulable":null}}`), "takes the mark off"},
		"uncordon what a person keeps":   {actor, patchNode(kept, `{"metadata":{"annotations":{"drydock.dev/cordon-owner":null}},"spec":{"unschedulable":null}}`), "stay cordoned"},
		"unmark what a person keeps":     {actor, patchNode(kept, `{"metadata":{"annotations":{"drydock.dev/cordon-owner":null}}}`), ""},
		"a person's wish":                {actor, patchNode(kept, `{"metadata":{"annotations":{"drydock.dev/keep-cordoned":null}}}`), "its own alone"},
		"touch a node":                   {actor, patchNode(plain, `{"metadata":{"annotations":{"drydock.dev/generation":"r/1"}}}`), ""},
		"a node's other annotation":      {actor, patchNode(plain, `{"metadata":{"annotations":{"cluster-autoscaler.kubernetes.io/scale-down-disabled":"true"}}}`), "its own alone"},
		"a node's label":                 {actor, patchNode(plain, `{"metadata":{"labels":{"pool":"x"}}}`), "its own annotations alone"},
		"a node's taint":                 {actor, patchNode(plain, `{"spec":{"taints":[{"key":"k","effect":"NoExecute"}]}}`), "its own annotations alone"},
		"a node's finalizer":             {actor, patchNode(plain, `{"metadata":{"finalizers":["example.com/f"]}}`), "its own annotations alone"},
		"evict by uid":                   {actor, evict(masters, pod.Name, byUID(pod.UID)), ""},
		"evict by name":                  {actor, evict(masters, pod.Name, nil), "by its uid"},
		"evict at once":                  {actor, evict(masters, pod.Name, &metav1.DeleteOptions{Preconditions: byUID(pod.UID).Preconditions, GracePeriodSeconds: new(int64(0))}), "time to end"},
		"its Lease":                      {actor, lease("kube-system", "drydock"), ""},
		"another Lease":                  {actor, lease("kube-system", "kube-scheduler-2"), "no Lease but"},
		"restart the controller-manager": {actor, patchDeployment("kube-controller-manager", `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"r"}}}}}`), ""},
		"scale it":                       {actor, patchDeployment("kube-controller-manager", `{"spec":{"replicas":0}}`), "restartedAt"},
		"change its image":               {actor, patchDeployment("kube-controller-manager", `{"spec":{"template":{"spec":{"containers":[{"name":"kube-controller-manager","image":"evil"}]}}}}`), "restartedAt"},
		"annotate its pods":              {actor, patchDeployment("kube-controller-manager", `{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}`), "restartedAt"},

		"nudge":                        {actor, patchSet(ns, "node-exporter", `{"metadata":{"annotations":{"drydock.dev/nudged-by-run":"r"}}}`), ""},
		"another's annotation":         {actor, patchSet(ns, "node-exporter", `{"metadata":{"annotations":{"team":null}}}`), "its own annotations alone"},
		"a label":                      {actor, patchSet(ns, "node-exporter", `{"metadata":{"labels":{"a":"b"}}}`), "its own annotations alone"},
		"an image":                     {actor, patchSet(ns, "node-exporter", `{"spec":{"template":{"spec":{"containers":[{"name":"node-exporter","image":"registry.example.com/node-exporter:9"}]}}}}`), "its own annotations alone"},
		"delete, pods stay":            {actor, remove(ns, "node-exporter", metav1.DeleteOptions{PropagationPolicy: &orphan, Preconditions: seen}), ""},
		"delete with the pods":         {actor, remove(ns, "node-exporter", metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: seen}), "propagationPolicy Orphan"},
		"delete, nothing said":         {actor, remove(ns, "node-exporter", metav1.DeleteOptions{Preconditions: seen}), "propagationPolicy Orphan"},
		"delete, whatever it is now":   {actor, remove(ns, "node-exporter", metav1.DeleteOptions{PropagationPolicy: &orphan}), "that it has backed up"},
		"delete, but no version":       {actor, remove(ns, "node-exporter", metav1.DeleteOptions{PropagationPolicy: &orphan, Preconditions: &metav1.Preconditions{UID: &ds.UID}}), "that it has backed up"},
		"create":                       {actor, fresh(nil), ""},
		"create one that is not known": {actor, fresh(func(s *appsv1.DaemonSet, _ *corev1.PodSpec) { s.Name = "mine" }), "has no such key"},
		"another image": {actor, container(func(c *corev1.Container) { c.Image = "evil.example.com/node-exporter:1.0" }),
			"one of these: image evil.example.com/node-exporter:1.0"},
		"an image of a longer name": {actor, container(func(c *corev1.Container) { c.Image = "registry.example.com/node-exporter-evil" }), "image registry.example.com/node-exporter-evil"},
		"an image by digest":        {actor, container(func(c *corev1.Container) { c.Image += "@sha256:" + strings.Repeat("0", 64) }), ""},
		"another init container":    {actor, spec(func(p *corev1.PodSpec) { p.InitContainers = []corev1.Container{{Name: "i", Image: "evil"}} }), "image evil"},
		"privileged":                {actor, secure(corev1.SecurityContext{Privileged: new(true)}), "admission.new: privileged"},
		"not root":                  {actor, secure(corev1.SecurityContext{RunAsNonRoot: new(true), ReadOnlyRootFilesystem: new(true)}), ""},
		"a capability":              {actor, secure(corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}}}), "capability SYS_ADMIN"},
		"an SELinux type":           {actor, secure(corev1.SecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Type: "spc_t"}}), "securityContext seLinuxOptions"},
		"sysctls": {actor, spec(func(p *corev1.PodSpec) {
			p.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "kernel.shm_rmid_forced", Value: "1"}}}
		}), "securityContext sysctls"},
		"the host's network":        {actor, spec(func(p *corev1.PodSpec) { p.HostNetwork = true }), "hostNetwork"},
		"the host's processes":      {actor, spec(func(p *corev1.PodSpec) { p.HostPID = true }), "hostPID"},
		"the host's memory":         {actor, spec(func(p *corev1.PodSpec) { p.HostIPC = true }), "hostIPC"},
		"another account":           {actor, spec(func(p *corev1.PodSpec) { p.ServiceAccountName = "admin" }), "serviceAccount admin"},
		"a higher priority":         {actor, spec(func(p *corev1.PodSpec) { p.PriorityClassName = "system-node-critical" }), "priorityClass system-node-critical"},
		"a listed path of the host": {actor, volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/proc"}}), ""},
		"another path of the host":  {actor, volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}), "hostPath /"},
		"a path below a listed one": {actor, volume(corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/proc/1/root"}}), "hostPath /proc/1/root"},
		"a secret's files":          {actor, volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}), "secret s"},
		"a projected token":         {actor, volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}), "volume projected"},
		"a secret in the environment": {actor, container(func(c *corev1.Container) {
			c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "k"}}}}
		}), "secret s"},
		"a secret as the environment": {actor, container(func(c *corev1.Container) {
			c.EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}}}
		}), "secret s"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.do(ctx, tt.who)
			switch {
			case tt.words == "" && err != nil:
				t.Errorf("it is refused: %v", err)
			case tt.words != "" && err == nil:
				t.Errorf("it is allowed, want a refusal with %q", tt.words)
			case tt.words != "" && !(apierrors.IsForbidden(err) || apierrors.IsInvalid(err)):
				t.Errorf("it failed otherwise: %v", err)
			case tt.words != "" && !strings.Contains(err.Error(), tt.words):
				t.Errorf("the refusal is %v, want %q", err, tt.words)
			}
		})
	}
}

// A DaemonSet with a power that the list does not give it is not deleted, because it could not be created again: the dry run
// before a reapply says so.
func TestUnlistedPowerIsSeenBeforeTheDelete(t *testing.T) {
	ctx, client := setup(t)
	const ns = "unlisted"
	namespace(t, ctx, ns)
	ds, err := fault.CreateDaemonSet(ctx, client, fault.Agent{Namespace: ns, Name: "node-exporter",
		Edit: func(set *appsv1.DaemonSet) { set.Spec.Template.Spec.HostNetwork = true }})
	if err != nil {
		t.Fatal(err)
	}
	target := playbook.Target{Carrier: "c", Namespace: ns, DaemonSet: ds.Name}
	accounts := granted(t, ctx, kube.Needs{Targets: []playbook.Target{target}})
	readerConfig, err := cluster.ServiceAccountKubeconfig(ctx, deploy.Namespace, accounts.Reader)
	if err != nil {
		t.Fatal(err)
	}
	actorConfig, err := cluster.ServiceAccountKubeconfig(ctx, deploy.Namespace, accounts.Actor)
	if err != nil {
		t.Fatal(err)
	}
	registry, err := kube.NewRegistry([]kube.Entry{{Name: "c", Kubeconfig: readerConfig, ActorKubeconfig: actorConfig}}, "", kube.Options{Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := registry.Carrier("c")
	if err != nil {
		t.Fatal(err)
	}
	o := playbook.Observation{Target: target}
	c.Observe(ctx, playbook.Look{Target: target, Wants: []playbook.Want{{Kind: playbook.WantReapply}}}, &o)
	check, ok := o.Reapply.Get()
	if !ok || !strings.Contains(check.DryRun, "does not give DaemonSet unlisted.node-exporter: hostNetwork") {
		t.Errorf("dry run = %q, %s", check.DryRun, o.Reapply.Why())
	}
	// And if it were sent all the same, the delete itself is refused.
	s, err := c.Do(ctx, playbook.Call{Run: "r", Action: playbook.OrphanDelete{Namespace: ns, Name: ds.Name, UID: string(ds.UID), ResourceVersion: ds.ResourceVersion}})
	if err != nil || s.Result != playbook.Refused || !strings.Contains(s.Detail, "hostNetwork") {
		t.Errorf("the delete is %s: %s, %v", s.Result, s.Detail, err)
	}
}
