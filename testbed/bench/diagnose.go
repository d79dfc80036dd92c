package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/fault"
)

// diagnoseResult is "drydock diagnose" on a carrier of one size, in turns with the least that one has to read for it.
type diagnoseResult struct {
	Nodes   int            `json:"nodes"`
	Pods    int            `json:"pods"`
	Drydock []processUsage `json:"drydock"`    // a healthy DaemonSet
	Bare    []processUsage `json:"bare_lists"` // of the same
	Full    []processUsage `json:"drydock_one_node_full"`
	Runbook []processUsage `json:"runbook,omitempty"`
	Careful []processUsage `json:"careful,omitempty"`
}

// processUsage is what a process took, and what went over its connections.
type processUsage struct {
	Took   time.Duration `json:"took_ns"`
	CPU    time.Duration `json:"cpu_ns"`
	Memory int64         `json:"peak_bytes"`
	Bytes  int64         `json:"wire_bytes"`
}

const (
	agentName = "node-exporter"
	// otherPods is how many pods a node has besides its daemon pod.
	otherPods = 6
	// kubectlNodes is the size up to which the runbook's own commands are run: beyond it they take minutes.
	kubectlNodes = 1000
)

func measureDiagnose(ctx context.Context, b *bench) ([]row, any, error) {
	var rows []row
	var results []diagnoseResult
	for _, n := range b.nodes {
		r, err := diagnoseAt(ctx, b, n)
		if err != nil {
			return nil, nil, fmt.Errorf("at %d nodes: %w", n, err)
		}
		results, rows = append(results, r), append(rows, r.rows()...)
	}
	return rows, results, nil
}

func (r diagnoseResult) rows() []row {
	at := fmt.Sprintf(", %d nodes, %d pods", r.Nodes, r.Pods)
	ours, bare := middleUse(r.Drydock), middleUse(r.Bare)
	rows := []row{
		{what: "Diagnose" + at, drydock: short(ours.Took), limit: "bare LISTs: " + short(bare.Took), ratio: ratio(ours.Took, bare.Took), goal: "<= 1.2"},
		{
			what: "Diagnose, bytes on the wire" + at, drydock: kilobytes(ours.Bytes), limit: "bare LISTs: " + kilobytes(bare.Bytes),
			ratio: ratio(float64(ours.Bytes), float64(bare.Bytes)), goal: "<= 1.2",
		},
		{
			what: "Diagnose, memory" + at, drydock: mebibytes(ours.Memory), limit: "bare LISTs: " + mebibytes(bare.Memory),
			ratio: ratio(float64(ours.Memory), float64(bare.Memory)), goal: "< 150 MiB at 5,000",
		},
	}
	full := middleUse(r.Full)
	if len(r.Runbook) > 0 {
		for _, other := range []struct {
			what, goal string
			use        processUsage
		}{{"the runbook's commands", "<= 0.01", middleUse(r.Runbook)}, {"the careful way", "<= 0.2", middleUse(r.Careful)}} {
			rows = append(rows, row{
				what: "Diagnose a full node" + at, drydock: short(full.Took), limit: other.what + ": " + short(other.use.Took),
				ratio: fmt.Sprintf("%.4f", float64(full.Took)/float64(other.use.Took)), goal: other.goal,
			})
		}
		return rows
	}
	return append(rows, row{what: "Diagnose a full node" + at, drydock: short(full.Took) + ", " + mebibytes(full.Memory)})
}

func kilobytes(bytes int64) string { return fmt.Sprintf("%d kB", bytes/1000) }

func middleUse(all []processUsage) (m processUsage) {
	var took, cpu []time.Duration
	var memory, bytes []int64
	for _, u := range all {
		took, cpu, memory, bytes = append(took, u.Took), append(cpu, u.CPU), append(memory, u.Memory), append(bytes, u.Bytes)
	}
	return processUsage{median(took), median(cpu), median(memory), median(bytes)}
}

func diagnoseAt(ctx context.Context, b *bench, nodes int) (r diagnoseResult, err error) {
	r.Nodes = nodes
	drydock, err := b.program("drydock")
	if err != nil {
		return r, err
	}
	kubebox, err := b.program("kubebox")
	if err != nil {
		return r, err
	}
	b.log.Info("starting a carrier", "nodes", nodes)
	// A lease is renewed four times in its length: 5,000 nodes with the default would keep the machine busy.
	lease := max(8, time.Duration(nodes)/25) * time.Second
	cluster, err := controlplane.Start(ctx, controlplane.Options{Name: "bench", Nodes: nodes, Lease: lease})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	client := cluster.Client()
	if err := populate(ctx, client); err != nil {
		return r, err
	}
	wire, kubeconfig, err := relayTo(ctx, cluster.Kubeconfig())
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, wire.listener.Close(), os.Remove(kubeconfig)) }()
	self, err := os.Executable()
	if err != nil {
		return r, fmt.Errorf("find this program: %w", err)
	}
	diagnose := []string{drydock, "diagnose", "--kubeconfig", kubeconfig, agentName, "-n", namespace, "-o", "json"}
	lists := []string{self, bareLists, kubeconfig, namespace, agentName}
	for round := range b.rounds + 1 {
		b.log.Info("diagnosing", "nodes", nodes, "round", round, "of", b.rounds)
		ours, err := wire.measure(ctx, 0, diagnose)
		if err != nil {
			return r, err
		}
		bare, err := wire.measure(ctx, 0, lists)
		if err != nil {
			return r, err
		}
		if round > 0 {
			r.Drydock, r.Bare = append(r.Drydock, ours), append(r.Bare, bare)
		}
	}
	full := "bench-worker-01"
	b.log.Info("filling a node", "node", full)
	if _, err := fault.FillNode(ctx, client, fault.Full{Node: full, Displace: []types.NamespacedName{{Namespace: namespace, Name: agentName}}}); err != nil {
		return r, err
	}
	all, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return r, fmt.Errorf("count pods: %w", err)
	}
	r.Pods = len(all.Items)
	if more := all.RemainingItemCount; more != nil {
		r.Pods += int(*more)
	}
	kubectl := func(args ...string) []string {
		return append([]string{kubebox, "kubectl", "--kubeconfig", kubeconfig}, args...)
	}
	careful := [][]string{
		kubectl("get", "ds", "-n", namespace), kubectl("get", "nodes"),
		kubectl("get", "pods", "-n", namespace, "-l", "app="+agentName, "-o", "json"), kubectl("get", "nodes", "-o", "json"),
		kubectl("describe", "node", full),
	}
	for round := range b.rounds {
		b.log.Info("diagnosing a full node", "nodes", nodes, "round", round+1, "of", b.rounds)
		ours, err := wire.measure(ctx, 1, diagnose)
		if err != nil {
			return r, err
		}
		r.Full = append(r.Full, ours)
		if nodes > kubectlNodes {
			continue
		}
		way, err := wire.measure(ctx, 0, careful...)
		if err != nil {
			return r, err
		}
		r.Careful = append(r.Careful, way)
		if round > 0 {
			continue // once is enough: it takes most of a minute
		}
		book, err := wire.measure(ctx, 0, kubectl("get", "ds", "-n", namespace), kubectl("get", "nodes"), kubectl("describe", "nodes"))
		if err != nil {
			return r, err
		}
		r.Runbook = append(r.Runbook, book)
	}
	return r, nil
}

// populate runs the DaemonSet and gives each node some pods besides.
func populate(ctx context.Context, client kubernetes.Interface) error {
	if err := fault.Namespace(ctx, client, "customers"); err != nil {
		return err
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	work := make(chan corev1.Pod)
	failed := make(chan error, 16)
	var all sync.WaitGroup
	for range cap(failed) {
		all.Go(func() {
			for pod := range work {
				if _, err := client.CoreV1().Pods(pod.Namespace).Create(ctx, &pod, metav1.CreateOptions{}); err != nil {
					select {
					case failed <- fmt.Errorf("create pod %s: %w", pod.Name, err):
					default:
					}
				}
			}
		})
	}
	for _, node := range nodes.Items {
		for n := range otherPods {
			pod := corev1.Pod{Spec: corev1.PodSpec{NodeName: node.Name, Containers: []corev1.Container{{Name: "app", Image: "registry.example.com/app:1.0"}}}}
			pod.Namespace, pod.Name = "customers", fmt.Sprintf("app-%s-%d", node.Name, n)
			work <- pod
		}
	}
	close(work)
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	if _, err := fault.RunDaemonSet(ctx, client, fault.Agent{Namespace: namespace, Name: agentName}); err != nil {
		return err
	}
	return nil
}

// wire passes connections on to an API server and counts the bytes.
type wire struct {
	listener net.Listener
	server   string
	bytes    atomic.Int64
}

// relayTo puts a relay before the API server of a kubeconfig and returns a kubeconfig that leads to it. It passes TLS on as it
// is: the certificate is for the loopback address, whichever the port.
func relayTo(ctx context.Context, kubeconfig string) (*wire, string, error) {
	config, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, "", fmt.Errorf("read kubeconfig: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", fmt.Errorf("listen on loopback: %w", err)
	}
	w := &wire{listener: listener}
	for _, c := range config.Clusters {
		address, err := url.Parse(c.Server)
		if err != nil {
			return nil, "", errors.Join(fmt.Errorf("read kubeconfig: %w", err), listener.Close())
		}
		w.server = address.Host
		address.Host = listener.Addr().String()
		c.Server = address.String()
	}
	path := filepath.Join(filepath.Dir(kubeconfig), "relayed.kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return nil, "", errors.Join(fmt.Errorf("write kubeconfig: %w", err), listener.Close())
	}
	go w.accept(ctx)
	return w, path, nil
}

func (w *wire) accept(ctx context.Context) {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return // closed
		}
		var d net.Dialer
		server, err := d.DialContext(ctx, "tcp", w.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		pass := func(to, from net.Conn) {
			n, _ := io.Copy(to, from) // an error is the end of the connection
			w.bytes.Add(n)
			_ = to.Close()
		}
		go pass(server, client)
		go pass(client, server)
	}
}

// measure runs commands one after the other; each must exit with that code.
func (w *wire) measure(ctx context.Context, code int, commands ...[]string) (use processUsage, err error) {
	w.bytes.Store(0)
	began := time.Now()
	for _, c := range commands {
		cmd := exec.CommandContext(ctx, c[0], c[1:]...)
		cmd.Stdout = io.Discard
		var said limitedText
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			return use, fmt.Errorf("run %s: %w", c[0], err)
		}
		peak := watchPeak(cmd.Process)
		err := cmd.Wait()
		use.Memory = max(use.Memory, peak())
		var ended *exec.ExitError
		if err != nil && !errors.As(err, &ended) {
			return use, fmt.Errorf("run %s: %w", c[0], err)
		}
		if got := cmd.ProcessState.ExitCode(); got != code {
			return use, fmt.Errorf("run %v: exit code %d, want %d: %s", c, got, code, said)
		}
		use.CPU += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	use.Took = time.Since(began)
	use.Bytes = w.bytes.Load()
	return use, nil
}

// watchPeak reads how much memory a process has had at most, until its end. What the kernel tells of an ended process counts
// its parent's memory at the time of the start as well.
func watchPeak(process *os.Process) (peak func() int64) {
	stop := make(chan struct{})
	result := make(chan int64, 1)
	go func() {
		most := int64(0)
		pause := time.NewTicker(2 * time.Millisecond)
		defer pause.Stop()
		for {
			if now, err := memory(process, "VmHWM"); err == nil {
				most = now
			}
			select {
			case <-pause.C:
			case <-stop:
				result <- most
				return
			}
		}
	}()
	return func() int64 { close(stop); return <-result }
}

// limitedText keeps the beginning of what is written to it.
type limitedText []byte

func (t *limitedText) Write(p []byte) (int, error) {
	*t = append(*t, p[:min(len(p), 2000-min(2000, len(*t)))]...)
	return len(p), nil
}

// bareLists is the argument that makes this program the least that one has to read: the DaemonSet, the nodes and its pods.
const bareLists = "bare-lists"

func readBare(ctx context.Context, kubeconfig, namespace, name string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	var all sync.WaitGroup
	failed := make(chan error, 2)
	all.Go(func() {
		_, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		failed <- err
	})
	all.Go(func() {
		ds, err := client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			selector := labels.SelectorFromSet(ds.Spec.Selector.MatchLabels).String()
			_, err = client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		}
		failed <- err
	})
	all.Wait()
	return errors.Join(<-failed, <-failed)
}
