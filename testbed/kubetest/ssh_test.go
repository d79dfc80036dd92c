package kubetest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
)

const containerID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// master is a machine with an sshd and stand-ins for docker and crictl that note how they were called.
type master struct {
	dir  string
	port int
	key  string // of the user that may log on
}

// startMaster starts OpenSSH's own server on loopback, with a configuration, keys and programs of the test's.
func startMaster(t *testing.T) *master {
	t.Helper()
	const sshd = "/usr/sbin/sshd"
	if _, err := os.Stat(sshd); err != nil {
		t.Fatalf("%v: install openssh-server, or let make test do it", err)
	}
	m := &master{dir: t.TempDir()}
	if os.Geteuid() == 0 {
		// Where root's sshd locks itself in before a login; Debian's service makes it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.port = listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"ed25519", "rsa", "ecdsa"} {
		m.keygen(t, kind, "host_"+kind)
	}
	m.key = m.keygen(t, "ed25519", "user")
	m.write(t, "authorized_keys", m.read(t, "user.pub"))
	m.program(t, "docker", `case "$1" in
ps) cat "$dir/docker.containers" ;;
logs) echo "2026-11-22T10:00:00.5Z on stdout"; echo "$(date -u +%Y-%m-%dT%H:%M:%S.000000000Z) `+forbiddenLine+`" >&2 ;;
esac`)
	m.program(t, "crictl", `case "$1" in
ps) cat "$dir/crictl.containers" ;;
logs) echo "$(date -u +%Y-%m-%dT%H:%M:%S.000000000Z) `+forbiddenLine+`" >&2 ;;
esac`)
	m.write(t, "docker.containers", strings.Repeat("f", 64)+" k8s_POD_kube-controller-manager-master-01_kube-system_uid_0\n"+
		containerID+" k8s_kube-controller-manager_kube-controller-manager-master-01_kube-system_uid_3\n")
	m.write(t, "crictl.containers", containerID+"\n")
	m.write(t, "sshd_config", fmt.Sprintf(`ListenAddress 127.0.0.1:%d
HostKey %[2]s/host_ed25519
HostKey %[2]s/host_rsa
HostKey %[2]s/host_ecdsa
AuthorizedKeysFile %[2]s/authorized_keys
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
PermitRootLogin prohibit-password
SetEnv PATH=%[2]s/bin:/usr/bin:/bin
`, m.port, m.dir))
	server := exec.CommandContext(t.Context(), sshd, "-D", "-e", "-f", m.file("sshd_config"))
	log, err := os.Create(m.file("sshd.log"))
	if err != nil {
		t.Fatal(err)
	}
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill() // it may have ended by itself
		_ = server.Wait()         // it was killed
		_ = log.Close()
		if t.Failed() {
			t.Logf("sshd:\n%s", m.read(t, "sshd.log"))
		}
	})
	eventually(t, t.Context(), "sshd", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", m.port))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return m
}

const forbiddenLine = `E1122 daemon_controller.go:411] \"Unhandled Error\" err=\"monitoring/node-exporter failed with : ` +
	`failed to construct revisions of DaemonSet: controllerrevisions.apps is forbidden: User \\\"system:serviceaccount:kube-system:daemon-set-controller\\\" cannot create resource\"`

func (m *master) file(name string) string { return filepath.Join(m.dir, name) }

func (m *master) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(m.file(name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m *master) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(m.file(name))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// program writes a stand-in that notes its arguments.
func (m *master) program(t *testing.T, name, script string) {
	t.Helper()
	if err := os.MkdirAll(m.file("bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := "#!/bin/sh\ndir=" + m.dir + "\necho \"" + name + " $*\" >>\"$dir/calls\"\n" + script + "\n"
	if err := os.WriteFile(m.file("bin/"+name), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// bits of the quickest keys that are still accepted; an ed25519 key has one length.
var bits = map[string]string{"rsa": "2048", "ecdsa": "256", "ed25519": "256"}

func (m *master) keygen(t *testing.T, kind, name string) string {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", kind, "-b", bits[kind], "-N", "", "-f", m.file(name)).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	return m.file(name)
}

// knownHosts writes a file that knows one key for the address.
func (m *master) knownHosts(t *testing.T, address, publicKey string) string {
	t.Helper()
	name := "known_hosts." + filepath.Base(publicKey)
	m.write(t, name, address+" "+m.read(t, publicKey))
	return m.file(name)
}

// calls are what the stand-ins were called with since the last time.
func (m *master) calls(t *testing.T) []string {
	t.Helper()
	calls := strings.FieldsFunc(m.read(t, "calls"), func(r rune) bool { return r == '\n' })
	m.write(t, "calls", "")
	return calls
}

// reach says how the carrier's controller-manager is reached: its lease names this machine.
func (m *master) reach(t *testing.T, leader, runtime string) *kube.SSH {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	host, _, _ := strings.Cut(leader, "_")
	return &kube.SSH{User: me.Username, KeyFile: m.key, Port: m.port, Runtime: runtime, Hosts: map[string]string{host: "127.0.0.1"},
		KnownHosts: m.knownHosts(t, fmt.Sprintf("[127.0.0.1]:%d", m.port), "host_rsa.pub")}
}

func TestRestartOverSSH(t *testing.T) {
	ctx, _, c := setup(t)
	leader := holder(t, ctx, c)
	m := startMaster(t)
	restart := playbook.RestartControllerManager{Driver: kube.DriverSSH, Holder: leader}
	over := func(reach *kube.SSH) *kube.Carrier {
		return managed(t, kube.ControllerManager{Restart: kube.DriverSSH, SSH: reach})
	}
	for runtime, want := range map[string][]string{
		kube.RuntimeDocker: {"docker ps --no-trunc --format {{.ID}} {{.Names}}", "docker restart -t 3 " + containerID},
		kube.RuntimeCrictl: {"crictl ps --no-trunc --quiet --name ^kube-controller-manager$", "crictl stop --timeout 3 " + containerID},
	} {
		s := do(t, ctx, over(m.reach(t, leader, runtime)), restart, playbook.Happened)
		if !strings.Contains(s.Detail, containerID) || !strings.Contains(s.Detail, "127.0.0.1") {
			t.Errorf("detail = %q", s.Detail)
		}
		if diff := cmp.Diff(want, m.calls(t)); diff != "" {
			t.Errorf("%s was called otherwise:\n%s", runtime, diff)
		}
	}

	// Whoever leads by now is not the one that was found stuck.
	wrong := restart
	wrong.Holder = "master-99_x"
	do(t, ctx, over(m.reach(t, leader, kube.RuntimeDocker)), wrong, playbook.Superseded)

	m.keygen(t, "rsa", "stranger")
	address := fmt.Sprintf("[127.0.0.1]:%d", m.port)
	for name, tt := range map[string]struct {
		edit   func(*kube.SSH)
		detail string
		want   playbook.Result
	}{
		"no key of the host is known":   {func(s *kube.SSH) { s.KnownHosts = m.knownHosts(t, "[10.9.9.9]:22", "host_ed25519.pub") }, "no host key", playbook.Refused},
		"another host answers":          {func(s *kube.SSH) { s.KnownHosts = m.knownHosts(t, address, "stranger.pub") }, "key mismatch", playbook.Refused},
		"the lease's name is not known": {func(s *kube.SSH) { s.Hosts = nil }, "no host key", playbook.Refused},
		"the user's key is not":         {func(s *kube.SSH) { s.KeyFile = m.file("stranger") }, "unable to authenticate", playbook.Refused},
		"nobody listens":                {deadPort(t, m), "connection refused", playbook.NotHappened},
	} {
		reach := m.reach(t, leader, kube.RuntimeDocker)
		tt.edit(reach)
		s := do(t, ctx, over(reach), restart, tt.want)
		if !strings.Contains(s.Detail, tt.detail) {
			t.Errorf("%s: detail = %q", name, s.Detail)
		}
	}
	if calls := m.calls(t); len(calls) != 0 {
		t.Errorf("something was run: %q", calls)
	}
}

// deadPort points at a port on which nobody listens, and whose host key is known nevertheless.
func deadPort(t *testing.T, m *master) func(*kube.SSH) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return func(s *kube.SSH) {
		s.Port, s.KnownHosts = port, m.knownHosts(t, fmt.Sprintf("[127.0.0.1]:%d", port), "host_ecdsa.pub")
	}
}

// What the host shows is no more trusted than the carrier: only one container with a real id is restarted.
func TestContainersThatAreNotRestarted(t *testing.T) {
	ctx, _, c := setup(t)
	leader := holder(t, ctx, c)
	m := startMaster(t)
	on := managed(t, kube.ControllerManager{Restart: kube.DriverSSH, SSH: m.reach(t, leader, kube.RuntimeDocker)})
	restart := playbook.RestartControllerManager{Driver: kube.DriverSSH, Holder: leader}
	for name, tt := range map[string]struct{ shown, detail string }{
		"none":      {containerID + " k8s_POD_kube-controller-manager-x\n", "0 running containers"},
		"several":   {containerID + " kube-controller-manager\n" + strings.Repeat("f", 64) + " kube-controller-manager\n", "2 running containers"},
		"injection": {"$(touch${IFS}" + m.file("owned") + ") kube-controller-manager\n", "no container's id"},
	} {
		m.write(t, "docker.containers", tt.shown)
		if s := do(t, ctx, on, restart, playbook.Refused); !strings.Contains(s.Detail, tt.detail) {
			t.Errorf("%s: detail = %q", name, s.Detail)
		}
		if calls := m.calls(t); len(calls) != 1 || !strings.HasPrefix(calls[0], "docker ps") {
			t.Errorf("%s: calls = %q", name, calls)
		}
	}
	if _, err := os.Stat(m.file("owned")); err == nil {
		t.Error("what the host showed was run")
	}

	// A lookup that fails has restarted nothing; a restart that fails may have.
	m.program(t, "docker", `echo "permission denied" >&2; exit 1`)
	if s := do(t, ctx, on, restart, playbook.NotHappened); !strings.Contains(s.Detail, "permission denied") {
		t.Errorf("detail = %q", s.Detail)
	}
	m.calls(t)
	for name, script := range map[string]string{
		"it fails":              `if [ "$1" = restart ]; then echo "cannot start" >&2; exit 1; fi`,
		"the connection breaks": `if [ "$1" = restart ]; then kill -9 "$PPID"; fi`,
		"it hangs":              `if [ "$1" = restart ]; then exec sleep 60; fi`,
	} {
		m.write(t, "docker.containers", containerID+" kube-controller-manager\n")
		m.program(t, "docker", script+"\n"+`[ "$1" = ps ] && cat "$dir/docker.containers"`)
		s, err := on.Do(ctx, playbook.Call{Run: "run-1", Action: restart}) // bounds itself: what hangs is given up after 10 s
		if calls := m.calls(t); len(calls) != 2 || !strings.HasPrefix(calls[1], "docker restart") {
			t.Errorf("%s: calls = %q", name, calls)
		}
		if err == nil {
			t.Errorf("%s: settled as %+v, though nobody knows", name, s)
		}
	}
}

// Where the API shows no log of the controller-manager, its host does.
func TestManagerLogOverSSH(t *testing.T) {
	ctx, _, _ := setup(t)
	m := startMaster(t)
	config, err := cluster.IssueKubeconfig("drydock-no-logs")
	if err != nil {
		t.Fatal(err)
	}
	role(t, ctx, "kube-system", "drydock-no-logs", named(rule("coordination.k8s.io", "leases", "get"), "kube-controller-manager"))
	look := playbook.Look{Target: playbook.Target{Carrier: carrierName, Namespace: "monitoring", DaemonSet: "node-exporter"},
		Wants: []playbook.Want{{Kind: playbook.WantManagerLog}}}
	leader := holder(t, ctx, carrier(t, kube.Options{}))
	for _, runtime := range []string{kube.RuntimeDocker, kube.RuntimeCrictl} {
		reach := m.reach(t, leader, runtime)
		entry := kube.Entry{Name: carrierName, Kubeconfig: config, ControllerManager: kube.ControllerManager{Restart: kube.DriverSSH, SSH: reach}}
		registry, err := kube.NewRegistry([]kube.Entry{entry}, "", kube.Options{ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		c, err := registry.Carrier(carrierName)
		if err != nil {
			t.Fatal(err)
		}
		var o playbook.Observation
		eventually(t, ctx, "the log", func(ctx context.Context) error {
			o = observe(ctx, c, look)
			return why(o.ManagerLog)
		})
		log := known(t, "log", o.ManagerLog)
		if _, _, verb, found := playbook.ForbiddenLine(log.Lines, o.Target, o.At); !found || verb != "create" || log.Source != "ssh 127.0.0.1, "+runtime {
			t.Errorf("%s: found %t, verb %q, log %+v", runtime, found, verb, log)
		}
		if calls := m.calls(t); len(calls) == 0 || !strings.HasPrefix(calls[len(calls)-1], runtime+" logs --timestamps --since 20m --tail 20000 "+containerID) {
			t.Errorf("calls = %q", calls)
		}
		if o.MissingRights.IsKnown() || !strings.Contains(o.MissingRights.Why(), "forbidden") {
			t.Errorf("missing rights: %q, though we may not ask", o.MissingRights.Why())
		}
		// Both ways shut: unknown, with both reasons.
		reach.KeyFile = m.file("none")
		o = observe(ctx, c, look)
		if w := o.ManagerLog.Why(); o.ManagerLog.IsKnown() || !strings.Contains(w, "forbidden") || !strings.Contains(w, "read ssh key") {
			t.Errorf("log: %q", w)
		}
		m.calls(t)
	}
}
