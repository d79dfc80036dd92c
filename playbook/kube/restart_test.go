package kube

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/drydock/drydock/playbook"
)

const managerDeployment = "/apis/apps/v1/namespaces/kube-system/deployments/kube-controller-manager"

func restartBy(driver string) playbook.Call {
	return playbook.Call{Run: "run-1", Action: playbook.RestartControllerManager{Driver: driver, Holder: leader}}
}

// startWith is start, with a way to restart the controller-manager.
func (s *scripted) startWith(t *testing.T, m ControllerManager, opts Options) *Carrier {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL}
	c, err := newCarrier(Entry{Name: "test", ControllerManager: m}, config, config, opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRestartOfADeployment(t *testing.T) {
	t.Parallel()
	deployment := func(edit func(*appsv1.Deployment)) http.HandlerFunc {
		d := appsv1.Deployment{TypeMeta: metav1.TypeMeta{Kind: "Deployment", APIVersion: "apps/v1"},
			ObjectMeta: metav1.ObjectMeta{Name: "kube-controller-manager", UID: "u", ResourceVersion: "7"}}
		if edit != nil {
			edit(&d)
		}
		return answer(d)
	}
	plain, lease := deployment(nil), leaseOf(leader)
	for name, tt := range map[string]struct {
		lease, get, patch http.HandlerFunc
		want              playbook.Result // empty: the outcome is not known
		detail            string
		sent              int
	}{
		"restarted": {lease, plain, plain, playbook.Happened, "", 1},
		"the same again": {lease, deployment(func(d *appsv1.Deployment) { d.Annotations = map[string]string{RestartedByRun: "run-1"} }), nil,
			playbook.Happened, "already", 0},
		"the same again, by an older version": {lease, deployment(func(d *appsv1.Deployment) {
			d.Spec.Template.Annotations = map[string]string{restartedAt: "drydock run run-1"}
		}), nil, playbook.Happened, "already", 0},
		"after another run's": {lease, deployment(func(d *appsv1.Deployment) { d.Annotations = map[string]string{RestartedByRun: "run-0"} }), plain,
			playbook.Happened, "", 1},
		"paused":            {lease, deployment(func(d *appsv1.Deployment) { d.Spec.Paused = true }), nil, playbook.Refused, "paused", 0},
		"no such":           {lease, notFound("deployments", "kube-controller-manager"), nil, playbook.Refused, "controller_manager.name", 0},
		"not to be read":    {lease, status(503, metav1.StatusReasonServiceUnavailable, "down", nil), nil, playbook.NotHappened, "down", 0},
		"edited meanwhile":  {lease, plain, status(409, metav1.StatusReasonConflict, "modified", nil), playbook.NotHappened, "changed", 1},
		"forbidden":         {lease, plain, status(403, metav1.StatusReasonForbidden, "may not", nil), playbook.Refused, "may not", 1},
		"no answer":         {lease, plain, reset, "", "", 1},
		"another leads":     {leaseOf("master-01_x"), plain, plain, playbook.Superseded, "another", 0},
		"nobody leads":      {leaseOf(""), plain, plain, playbook.NotHappened, "nobody", 0},
		"lease is not read": {status(403, metav1.StatusReasonForbidden, "no lease", nil), plain, plain, playbook.NotHappened, "no lease", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: map[string]http.HandlerFunc{theLease: tt.lease, "GET " + managerDeployment: tt.get}}
			if tt.patch != nil {
				s.answers["PATCH "+managerDeployment] = tt.patch
			}
			c := s.startWith(t, ControllerManager{Restart: DriverDeployment}, Options{})
			got, err := c.Do(t.Context(), restartBy(DriverDeployment))
			if got.Result != tt.want || (err != nil) != (tt.want == "") || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("result %q (%s), error %v; want %q (%s)", got.Result, got.Detail, err, tt.want, tt.detail)
			}
			if n := s.count("PATCH " + managerDeployment); n != tt.sent {
				t.Errorf("it was sent %d times", n)
			}
			const body = `{"metadata":{"annotations":{"drydock.dev/restarted-by-run":"run-1"},"resourceVersion":"7","uid":"u"},"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"drydock run run-1"}}}}}`
			for _, r := range s.asked {
				if strings.HasPrefix(r.line, "PATCH") && r.body != body {
					t.Errorf("body = %s", r.body)
				}
			}
		})
	}
}

// deploymentServer keeps a Deployment, and patches it as an API server does: under its resourceVersion.
type deploymentServer struct {
	mu      sync.Mutex
	object  appsv1.Deployment
	version int
	// before is called before a patch is looked at.
	before func()
}

func (s *deploymentServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPatch && s.before != nil {
		before := s.before
		s.before = nil
		before()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/leases/"+managerName):
		leaseOf(leader)(w, r)
		return
	case r.Method == http.MethodPatch:
		var patch appsv1.Deployment
		if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if patch.ResourceVersion != s.object.ResourceVersion {
			status(http.StatusConflict, metav1.StatusReasonConflict, "modified", nil)(w, r)
			return
		}
		s.version++
		s.object.ResourceVersion = strconv.Itoa(s.version)
		maps.Copy(s.object.Annotations, patch.Annotations)
		maps.Copy(s.object.Spec.Template.Annotations, patch.Spec.Template.Annotations)
	}
	answer(s.object)(w, r)
}

// A worker is paused between its read of the Deployment and its patch. Another one takes over, touches and looks: nothing has
// happened. When the first one wakes, its patch is stale, whatever the second one decided.
func TestRestartOfAPausedWorkerIsStale(t *testing.T) {
	t.Parallel()
	s := &deploymentServer{version: 7, object: appsv1.Deployment{TypeMeta: metav1.TypeMeta{Kind: "Deployment", APIVersion: "apps/v1"},
		ObjectMeta: metav1.ObjectMeta{Name: managerName, UID: "u", ResourceVersion: "7", Annotations: map[string]string{}}}}
	s.object.Spec.Template.Annotations = map[string]string{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL}
	c, err := newCarrier(Entry{Name: "test", ControllerManager: ControllerManager{Restart: DriverDeployment}}, config, config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	call := restartBy(DriverDeployment)
	ref := call.Action.Target()
	intent := playbook.Intent{Action: call.Action}
	s.before = func() {
		touched, err := c.Touch(t.Context(), ref, "run-1", 2)
		if err != nil || !touched {
			t.Errorf("touch: %t, %v", touched, err)
		}
		state, err := c.State(t.Context(), ref)
		if got := playbook.Classify(intent, "run-1", state); err != nil || got.Result != playbook.NotHappened {
			t.Errorf("before it happened: %+v, %v", got, err)
		}
	}
	if got, err := c.Do(t.Context(), call); err != nil || got.Result != playbook.NotHappened {
		t.Errorf("the paused worker's restart: %+v, %v", got, err)
	}
	if got, err := c.Do(t.Context(), call); err != nil || got.Result != playbook.Happened {
		t.Errorf("the second worker's restart: %+v, %v", got, err)
	}
	// A person restarts it too: ours is found all the same.
	s.object.Spec.Template.Annotations[restartedAt] = "2026-11-23T00:00:00Z"
	state, err := c.State(t.Context(), ref)
	if got := playbook.Classify(intent, "run-1", state); err != nil || got.Result != playbook.Happened {
		t.Errorf("after it happened: %+v, %v", got, err)
	}
	if got := playbook.Classify(intent, "run-2", state); got.Result != playbook.NotHappened {
		t.Errorf("another run's: %+v", got)
	}
	if got, err := c.Do(t.Context(), call); err != nil || got.Result != playbook.Happened || s.version != 9 {
		t.Errorf("the same again: %+v, %v, version %d", got, err, s.version)
	}
}

// What ssh has restarted can neither be touched nor be looked up: it counts as done, and is not done again.
func TestRestartOverSSHIsNotLookedUp(t *testing.T) {
	t.Parallel()
	s := &scripted{answers: map[string]http.HandlerFunc{theLease: leaseOf(leader)}}
	c := s.startWith(t, ControllerManager{Restart: DriverSSH, SSH: &SSH{}}, Options{})
	call := restartBy(DriverSSH)
	if touched, err := c.Touch(t.Context(), call.Action.Target(), "run-1", 2); touched || err != nil {
		t.Errorf("touch: %t, %v", touched, err)
	}
	state, err := c.State(t.Context(), call.Action.Target())
	if got := playbook.Classify(playbook.Intent{Action: call.Action}, "run-1", state); err != nil || got.Result != playbook.Happened {
		t.Errorf("settled as %+v, %v", got, err)
	}
}

func TestRestartIsAsConfigured(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		has    ControllerManager
		asked  string
		opts   Options
		want   playbook.Result
		detail string
	}{
		"none is configured":    {ControllerManager{Restart: "none"}, "none", Options{}, playbook.Refused, "no driver"},
		"nothing is configured": {ControllerManager{}, "", Options{}, playbook.Refused, "no driver"},
		"another is configured": {ControllerManager{Restart: DriverDeployment}, DriverSSH, Options{}, playbook.Refused, "no driver"},
		"read-only, deployment": {ControllerManager{Restart: DriverDeployment}, DriverDeployment, Options{ReadOnly: true}, playbook.NotHappened, "read-only"},
		"read-only, ssh":        {ControllerManager{Restart: DriverSSH, SSH: &SSH{}}, DriverSSH, Options{ReadOnly: true}, playbook.NotHappened, "read-only"},
		"ssh, no key":           {ControllerManager{Restart: DriverSSH, SSH: &SSH{Runtime: RuntimeDocker, KeyFile: "no-such-file"}}, DriverSSH, Options{}, playbook.Refused, "read ssh key"},
		"ssh, no runtime":       {ControllerManager{Restart: DriverSSH, SSH: &SSH{Runtime: "podman"}}, DriverSSH, Options{}, playbook.Refused, "podman"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scripted{answers: map[string]http.HandlerFunc{theLease: leaseOf(leader), "GET " + managerDeployment: answer(appsv1.Deployment{
				TypeMeta: metav1.TypeMeta{Kind: "Deployment", APIVersion: "apps/v1"}, ObjectMeta: metav1.ObjectMeta{Name: "kube-controller-manager"}})}}
			got, err := s.startWith(t, tt.has, tt.opts).Do(t.Context(), restartBy(tt.asked))
			if err != nil || got.Result != tt.want || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("settlement = %+v, %v", got, err)
			}
		})
	}
}

// A name that comes from a carrier is never more than a host's name.
func TestHoldersThatNameNoHost(t *testing.T) {
	t.Parallel()
	for _, holder := range []string{"", "master-01", "_uuid", "-oProxyCommand=x_uuid", "a b_uuid", "$(x)_uuid", "a/b_uuid", "a:22_uuid", "user@host_uuid", "a;b_uuid"} {
		_, err := (&SSH{Runtime: RuntimeDocker}).logOn(t.Context(), holder)
		if err == nil || !strings.Contains(err.Error(), "names no host") {
			t.Errorf("%q: %v", holder, err)
		}
	}
}

func TestContainersOfTheRuntimes(t *testing.T) {
	t.Parallel()
	const id = "0123456789abcdef"
	for line, want := range map[string]bool{
		id + " kube-controller-manager": true,
		id + " k8s_kube-controller-manager_kube-controller-manager-master-01_kube-system_uid_3": true,
		id + " k8s_POD_kube-controller-manager-master-01_kube-system_uid_3":                     false,
		id + " my-kube-controller-manager":                                                      false,
		id + " kube-controller-manager-old":                                                     false,
		id:                                                                                      false,
	} {
		if got, ok := runtimes[RuntimeDocker].id(line); ok != want || ok && got != id {
			t.Errorf("%q: %q, %t", line, got, ok)
		}
	}
	for text, want := range map[string]bool{id: true, "0123456789ab": true, "0123456789a": false, id + ";reboot": false, "$(reboot)abcdef": false, "": false,
		strings.Repeat("a", 65): false, "ABCDEF0123456789": false, id + "\nreboot": false} {
		if containerID.MatchString(text) != want {
			t.Errorf("%q is an id: %t", text, !want)
		}
	}
}

func TestCheckReadsWhatSSHNeeds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte("{current-context: a, contexts: [{name: a, context: {cluster: a}}], clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]}"), 0o600); err != nil {
		t.Fatal(err)
	}
	entry := Entry{Name: "c", Kubeconfig: kubeconfig, ControllerManager: ControllerManager{Restart: DriverSSH, SSH: &SSH{KeyFile: filepath.Join(dir, "key")}}}
	r, err := NewRegistry([]Entry{entry}, "", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); err == nil || !strings.Contains(err.Error(), `carrier "c": read ssh key`) {
		t.Errorf("check: %v", err)
	}
}
