package kube

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/drydock/drydock/playbook"
)

// SSH is how the host of a controller-manager that no API restarts is reached: one that runs as a static pod or a plain
// container on a master. Only hosts whose key is known are ever logged on to.
type SSH struct {
	User       string
	KeyFile    string // private key, without a passphrase
	KnownHosts string // file as OpenSSH writes it
	Port       int    // 0: 22
	Runtime    string // "docker" or "crictl": which program knows the container
	// Hosts maps the host names in the lease to names or addresses that can be reached; others are used as they are.
	Hosts map[string]string
}

// The runtimes whose programs are known.
const (
	RuntimeDocker = "docker"
	RuntimeCrictl = "crictl"
)

// runtimeCommands are all that is ever run on a host. Nothing of another origin gets into a command, but a container's id,
// which is hexadecimal.
//
// A container gets 3 s to stop before it is killed: with the default of 10 s, a controller-manager that hangs would outlast
// the call. Stopping is restarting where crictl is: the kubelet starts a static pod's container again.
type runtimeCommands struct {
	list, restart, logs string
	// name reports whether a line of the list is the controller-manager's container, and its id.
	id func(line string) (string, bool)
}

var runtimes = map[string]runtimeCommands{
	RuntimeDocker: {
		list:    "docker ps --no-trunc --format '{{.ID}} {{.Names}}'",
		restart: "docker restart -t 3 ",
		logs:    fmt.Sprintf("docker logs --timestamps --since %.0fm --tail %d ", managerLogSince.Minutes(), managerLogTail),
		id: func(line string) (string, bool) {
			id, name, _ := strings.Cut(line, " ")
			// k8s_<container>_<pod>_... is how the kubelet names docker's containers; k8s_POD_... is its sandbox.
			return id, name == managerName || strings.HasPrefix(name, "k8s_"+managerName+"_")
		},
	},
	RuntimeCrictl: {
		list:    "crictl ps --no-trunc --quiet --name '^" + managerName + "$'",
		restart: "crictl stop --timeout 3 ",
		logs:    fmt.Sprintf("crictl logs --timestamps --since %.0fm --tail %d ", managerLogSince.Minutes(), managerLogTail),
		id:      func(line string) (string, bool) { return line, line != "" },
	},
}

var (
	containerID = regexp.MustCompile(`^[a-f0-9]{12,64}$`)
	hostName    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
)

// hostRefusedError is a host that is not logged on to, now or later: nothing was run there, and trying again does not help.
type hostRefusedError struct{ why string }

func (e *hostRefusedError) Error() string { return e.why }

// restartOnHost restarts the container of the controller-manager that leads.
func (c *Carrier) restartOnHost(ctx context.Context, holder string) (playbook.Settlement, error) {
	if c.readOnly {
		return notSent(&ReadOnlyError{Method: "restart", Path: holder}), nil
	}
	on, err := c.manager.SSH.logOn(ctx, holder)
	if err != nil {
		return beforeRestart(err), nil
	}
	defer on.close()
	id, err := on.container()
	if err != nil {
		return beforeRestart(err), nil
	}
	session, err := on.client.NewSession()
	if err != nil {
		return notSent(err), nil
	}
	defer func() { _ = session.Close() }() // it has ended, or the connection ends with it
	// From here on it may happen, whatever we hear of it.
	command := on.runtime.restart + id
	output := &boundedBuffer{left: shortText}
	session.Stdout, session.Stderr = output, output
	err = session.Run(command)
	if exit, ok := errors.AsType[*ssh.ExitError](err); ok && (exit.ExitStatus() == 126 || exit.ExitStatus() == 127) {
		return refused(fmt.Sprintf("%s can not be run on %s: %s", on.ssh.Runtime, on.host, short(output.String()))), nil // the shell's own word
	}
	if err != nil {
		return playbook.Settlement{}, fmt.Errorf("run %q on host %s: %w: %s", command, on.host, err, short(output.String()))
	}
	return happened(fmt.Sprintf("%q on host %s", command, on.host)), nil
}

// beforeRestart settles a restart that was never sent.
func beforeRestart(err error) playbook.Settlement {
	if refusal, ok := errors.AsType[*hostRefusedError](err); ok {
		return refused(short(refusal.why))
	}
	return notSent(err)
}

// managerHostLog reads the log of the leading controller-manager's container.
func (c *Carrier) managerHostLog(ctx context.Context, holder string, about *regexp.Regexp) (playbook.ManagerLog, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	on, err := c.manager.SSH.logOn(ctx, holder)
	if err != nil {
		return playbook.ManagerLog{}, err
	}
	defer on.close()
	id, err := on.container()
	if err != nil {
		return playbook.ManagerLog{}, err
	}
	stdout, stderr, err := on.run(on.runtime.logs+id, managerLogBytes)
	if err != nil {
		return playbook.ManagerLog{}, err
	}
	log := playbook.ManagerLog{Source: "ssh " + on.host + ", " + on.ssh.Runtime}
	// Kubernetes' components log to stderr; one that was told otherwise, to stdout.
	for _, output := range [][]byte{stdout, stderr} {
		lines, err := linesAbout(bytes.NewReader(output), about)
		if err != nil {
			return playbook.ManagerLog{}, err
		}
		log.Lines = append(log.Lines, lines...)
	}
	log.Lines = newestLines(log.Lines)
	return log, nil
}

// login is a connection to the controller-manager's host.
type login struct {
	ssh     *SSH
	runtime runtimeCommands
	host    string
	client  *ssh.Client
	stop    func() bool
}

func (l *login) close() {
	l.stop()
	_ = l.client.Close() // whatever was run has ended
}

// logOn connects to the host of the lease's holder, which must answer with a key that is known for it. The connection ends
// with the context.
func (s *SSH) logOn(ctx context.Context, holder string) (*login, error) {
	on := &login{ssh: s, host: hostOf(holder)}
	if mapped, ok := s.Hosts[on.host]; ok {
		on.host = mapped
	}
	var ok bool
	if on.runtime, ok = runtimes[s.Runtime]; !ok {
		return nil, &hostRefusedError{fmt.Sprintf("ssh: runtime %q is not known", s.Runtime)}
	}
	if !hostName.MatchString(on.host) && net.ParseIP(on.host) == nil {
		return nil, &hostRefusedError{fmt.Sprintf("ssh: the lease's holder %q names no host", holder)}
	}
	port := s.Port
	if port == 0 {
		port = 22
	}
	address := net.JoinHostPort(on.host, strconv.Itoa(port))
	config, err := s.config(address)
	if err != nil {
		return nil, &hostRefusedError{err.Error()}
	}
	conn, err := (&net.Dialer{Timeout: callTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to host %s: %w", on.host, err)
	}
	// Without it a host that never answers would hold the call up for ever: the library knows no context.
	on.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	session, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		on.stop()
		_ = conn.Close() // the library has
		err = fmt.Errorf("log on to host %s: %w", on.host, err)
		if _, network := errors.AsType[net.Error](err); network || errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil, err
		}
		return nil, &hostRefusedError{err.Error()}
	}
	on.client = ssh.NewClient(session, channels, requests)
	return on, nil
}

// files reads the two files: at each use, so that a rotated key needs no restart.
func (s *SSH) files() (ssh.Signer, ssh.HostKeyCallback, error) {
	pem, err := os.ReadFile(s.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("read ssh key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return nil, nil, fmt.Errorf("read ssh key %s: %w", s.KeyFile, err) // the error shows no part of the key
	}
	known, err := knownhosts.New(s.KnownHosts)
	if err != nil {
		return nil, nil, fmt.Errorf("read known hosts: %w", err)
	}
	return key, known, nil
}

func (s *SSH) config(address string) (*ssh.ClientConfig, error) {
	key, known, err := s.files()
	if err != nil {
		return nil, err
	}
	algorithms, err := knownAlgorithms(known, address)
	if err != nil {
		return nil, fmt.Errorf("%w in %s", err, s.KnownHosts)
	}
	return &ssh.ClientConfig{User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: known,
		HostKeyAlgorithms: algorithms}, nil
}

// knownAlgorithms are those of the host's known keys. A host has a key of each kind, and unless it is asked for the kind
// that we know it may show another, which looks like a stranger's.
func knownAlgorithms(known ssh.HostKeyCallback, address string) ([]string, error) {
	nobody, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil, err
	}
	mismatch, ok := errors.AsType[*knownhosts.KeyError](known(address, &net.TCPAddr{}, nobody))
	if !ok || len(mismatch.Want) == 0 {
		return nil, fmt.Errorf("no host key of %s is known", address)
	}
	var algorithms []string
	for _, k := range mismatch.Want {
		kind := k.Key.Type()
		if kind == ssh.KeyAlgoRSA { // the key's kind; its signatures with SHA-1 are not accepted any more
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			continue
		}
		algorithms = append(algorithms, kind)
	}
	slices.Sort(algorithms)
	return slices.Compact(algorithms), nil
}

// container finds the controller-manager's running container. None and several are refused: there is no telling which.
func (l *login) container() (string, error) {
	stdout, _, err := l.run(l.runtime.list, 1<<20)
	if err != nil {
		return "", err
	}
	var ids []string
	for line := range strings.Lines(string(stdout)) {
		if id, ok := l.runtime.id(strings.TrimSpace(line)); ok {
			ids = append(ids, id)
		}
	}
	if len(ids) != 1 {
		return "", &hostRefusedError{fmt.Sprintf("%s on host %s shows %d running containers of the controller-manager, not one", l.ssh.Runtime, l.host, len(ids))}
	}
	if !containerID.MatchString(ids[0]) {
		return "", &hostRefusedError{fmt.Sprintf("%s on host %s shows %q, which is no container's id", l.ssh.Runtime, l.host, short(ids[0]))}
	}
	return ids[0], nil
}

// run runs a command that only reads.
func (l *login) run(command string, limit int) (stdout, stderr []byte, err error) {
	session, err := l.client.NewSession()
	if err != nil {
		return nil, nil, fmt.Errorf("open session on host %s: %w", l.host, err)
	}
	defer func() { _ = session.Close() }() // it has ended, or the connection ends with it
	out, errs := &boundedBuffer{left: limit}, &boundedBuffer{left: limit}
	session.Stdout, session.Stderr = out, errs
	if err := session.Run(command); err != nil {
		return nil, nil, fmt.Errorf("run %q on host %s: %w: %s", command, l.host, err, short(errs.String()))
	}
	return out.Bytes(), errs.Bytes(), nil
}

// boundedBuffer keeps the first bytes of an output and drops the rest.
type boundedBuffer struct {
	bytes.Buffer
	left int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	keep := min(len(p), b.left)
	b.left -= keep
	_, _ = b.Buffer.Write(p[:keep]) // it never fails
	return len(p), nil
}

var _ io.Writer = (*boundedBuffer)(nil)
