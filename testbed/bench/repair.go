package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"
	"time"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/drydock/drydock/store/privatepg"
	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/fault"
	"github.com/drydock/drydock/testbed/flags"
	"github.com/drydock/drydock/testbed/jenkins"
	"github.com/drydock/drydock/testbed/pagerduty"
)

// repairResult is one kind of trouble, from its alert until the carrier is whole again: by Drydock, and in turns with it by a
// script that knows the answer and makes the bare calls, waiting for nothing but the control plane.
type repairResult struct {
	Trouble string          `json:"trouble"`
	Drydock []time.Duration `json:"drydock_ns"`
	// Confirmed is the part of it from the run's begin until it promised its first change: one look proves nothing.
	Confirmed []time.Duration `json:"confirmed_ns"`
	Script    []time.Duration `json:"script_ns"`
}

// The account of the stand-ins, and what runs on the carrier.
const (
	repairCarrier = "prod-dal10-carrier1"
	repairService = "PCARRIERS"
	repairToken   = "bench"
	repairVersion = "2.41.0"
	repairBuild   = 412
	plainAgent    = "node-exporter"
	reapplyAgent  = "docker-metrics-endpoint" // its DaemonSet is reapplied after each drain
	mastersSpace  = "kubx-masters"
	// whole is how long a carrier may take to be whole again.
	whole = 5 * time.Minute
)

// repairConfig has Drydock's defaults but for the times that confirmations take, which the goal leaves out, the soak (and the cool-down, 15 of it), which
// comes after the repair, and the limits of a day, in which a carrier breaks less often than here.
var repairConfig = template.Must(template.New("drydock.yaml").Option("missingkey=error").Parse(`listen: {{.Listen}}
database_url: {env: DATABASE_URL}
backup_key: {env: BACKUP_KEY}
mode: act
pagerduty:
  api_url: {{.Pager}}
  token: {env: PAGERDUTY_TOKEN}
  from: drydock@example.com
  webhook_secrets: [{env: WEBHOOK_SECRET}]
  service_ids: [` + repairService + `]
self_alert: {routing_key: {env: SELF_KEY}, events_url: {{.Pager}}}
carriers:
  - {name: ` + repairCarrier + `, kubeconfig: {{.Kubeconfig}}, drain_namespaces: [` + mastersSpace + `]}
daemonsets:
  - {name: ` + plainAgent + `, namespace: ` + namespace + `, escalation_policy: PDEFAULT, team: bench, promotion: bench}
  - {name: ` + reapplyAgent + `, namespace: ` + namespace + `, escalation_policy: PDEFAULT, team: bench, reapply: always}
promotions:
  bench:
    version: {source: http, url: "{{.Flags}}/flags/{carrier}/bench", json_path: "$.version", token: {env: FLAGS_TOKEN}}
    jenkins: {url: {{.Jenkins}}, job: bench, promotion: "{carrier}", user: drydock, token: {env: JENKINS_TOKEN}}
timing: {absent_confirm: 0s, full_confirm: 0s, uncovered_confirm: 0s, quiet_after_new_pod: 0s, soak: 100ms}
limits: {evictions_per_hour: 100000, evictions_per_hour_all: 100000, reapplies_per_6h: 100000, promotions_per_6h: 100000, ineffective_runs: 100000}
`))

func measureRepair(ctx context.Context, b *bench) ([]row, any, error) {
	results, err := repairAll(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	var rows []row
	for _, r := range results {
		ours, confirmed, script := median(r.Drydock), median(r.Confirmed), median(r.Script)
		rows = append(rows, row{
			what: "Alert to carrier repaired, " + r.Trouble, drydock: short(ours) + ", " + short(confirmed) + " of it to confirm",
			limit: "a script: " + short(script), ratio: ratio(ours-confirmed, script), goal: "<= 1.3 without confirming",
		})
	}
	return rows, results, nil
}

// repairStage is a carrier with the systems around it and Drydock.
type repairStage struct {
	cluster *controlplane.Cluster
	client  kubernetes.Interface
	pager   *pagerduty.Server
	bot     string
	jenkins string // its address
	dsn     string
	stops   []func() error
}

func (s *repairStage) stop() error {
	var errs []error
	for i := len(s.stops) - 1; i >= 0; i-- {
		errs = append(errs, s.stops[i]())
	}
	return errors.Join(errs...)
}

func repairAll(ctx context.Context, b *bench) (results []repairResult, err error) {
	s := &repairStage{}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, b); err != nil {
		return nil, err
	}
	for _, kind := range []struct {
		name, agent, title string
		full               bool
		script             func(*repairStage, context.Context, string) error
	}{
		{"full node", plainAgent, "not_running_all_%s_demonsets", true, (*repairStage).scriptDrain},
		{"full node and reapply", reapplyAgent, "not_running_all_%s_demonsets", true, (*repairStage).scriptReapply},
		{"absent", plainAgent, "%s_daemonset_absent", false, (*repairStage).scriptPromote},
	} {
		r := repairResult{Trouble: kind.name}
		title := fmt.Sprintf("blumemix.containers-kubernetes.%s."+kind.title+".us-south", repairCarrier, kind.agent)
		for round := range b.rounds + 1 {
			b.log.Info("repairing", "trouble", kind.name, "round", round, "of", b.rounds)
			script, err := s.round(ctx, kind.agent, kind.full, func(ctx context.Context) error { return kind.script(s, ctx, kind.agent) })
			if err != nil {
				return nil, fmt.Errorf("%s, by the script: %w", kind.name, err)
			}
			var incident string
			ours, err := s.round(ctx, kind.agent, kind.full, func(context.Context) error {
				in, err := s.pager.TriggerIncident(title, repairService, map[string]any{"carrier": repairCarrier})
				incident = in.ID
				return err
			})
			var confirmed time.Duration
			if err == nil {
				err = s.resolved(ctx, incident)
			}
			if err == nil {
				confirmed, err = s.forget(ctx, incident)
			}
			if err != nil {
				return nil, fmt.Errorf("%s, by Drydock: %w", kind.name, err)
			}
			if round > 0 {
				r.Script, r.Drydock, r.Confirmed = append(r.Script, script), append(r.Drydock, ours), append(r.Confirmed, confirmed)
			}
		}
		results = append(results, r)
	}
	return results, nil
}

// round breaks the carrier, has it repaired, and tells how long that took.
func (s *repairStage) round(ctx context.Context, agent string, full bool, repair func(context.Context) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, whole)
	defer cancel()
	over, err := s.breakIt(ctx, agent, full)
	if err != nil {
		return 0, err
	}
	before, err := s.client.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("look at the DaemonSets: %w", err)
	}
	var old types.UID
	for _, set := range before.Items {
		if set.Name == agent && agent == reapplyAgent {
			old = set.UID
		}
	}
	began := time.Now()
	if err := repair(ctx); err != nil {
		return 0, err
	}
	if err := await.Until(ctx, "the carrier to be whole", func(ctx context.Context) error { return s.whole(ctx, agent, old) }); err != nil {
		return 0, err
	}
	took := time.Since(began)
	return took, over(ctx)
}

// breakIt fills a node so that the agent's pod finds no room, or deletes the agent's DaemonSet. over takes away what filled it.
func (s *repairStage) breakIt(ctx context.Context, agent string, full bool) (over func(context.Context) error, err error) {
	if !full {
		err := fault.DeleteDaemonSet(ctx, s.client, namespace, agent, metav1.DeletePropagationForeground)
		return func(context.Context) error { return nil }, err
	}
	names, err := fault.FillNode(ctx, s.client, fault.Full{
		Node: s.fullNode(), Displace: []types.NamespacedName{{Namespace: namespace, Name: agent}},
		With: fault.Workload{Namespace: mastersSpace, Name: "master", Replicas: 3, MinAvailable: new(2)},
	})
	return func(ctx context.Context) error {
		for _, name := range names {
			if err := fault.DeleteWorkload(ctx, s.client, mastersSpace, name); err != nil {
				return err
			}
		}
		return nil
	}, err
}

func (*repairStage) fullNode() string { return "bench-worker-01" }

// whole tells what is missing: the agent has to be ready on all nodes, as a new object where old is given, and no node cordoned.
func (s *repairStage) whole(ctx context.Context, agent string, old types.UID) error {
	set, err := s.client.AppsV1().DaemonSets(namespace).Get(ctx, agent, metav1.GetOptions{})
	if err != nil {
		return err
	}
	nodes, err := s.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range nodes.Items {
		if node.Spec.Unschedulable {
			return fmt.Errorf("node %s is cordoned", node.Name)
		}
	}
	if set.UID == old || set.DeletionTimestamp != nil || set.Status.ObservedGeneration != set.Generation || int(set.Status.NumberReady) != len(nodes.Items) {
		return fmt.Errorf("%d of %d pods are ready, uid %s", set.Status.NumberReady, len(nodes.Items), set.UID)
	}
	return nil
}

// resolved waits until Drydock has resolved an incident: only then the next one is another run.
func (s *repairStage) resolved(ctx context.Context, incident string) error {
	ctx, cancel := context.WithTimeout(ctx, whole)
	defer cancel()
	return await.Until(ctx, "incident "+incident+" to be resolved", func(context.Context) error {
		in, err := s.pager.Incident(incident)
		if err == nil && in.Status != "resolved" {
			err = fmt.Errorf("it is %s", in.Status)
		}
		return err
	})
}

// forget makes all runs two days old: a target that was repaired three times in a day is left to people. It tells how long the
// incident's run took until it promised its first change.
func (s *repairStage) forget(ctx context.Context, incident string) (confirmed time.Duration, err error) {
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return 0, fmt.Errorf("read the run of incident %s: %w", incident, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	err = conn.QueryRow(ctx, `SELECT min(i.promised_at) - min(r.started_at) FROM runs r JOIN run_incidents x ON x.run = r.id
		JOIN intents i ON i.run = r.id AND i.change WHERE x.incident = $1`, incident).Scan(&confirmed)
	if err != nil {
		return 0, fmt.Errorf("read the run of incident %s: %w", incident, err)
	}
	_, err = conn.Exec(ctx, `UPDATE runs SET started_at = started_at - interval '2 days', finished_at = finished_at - interval '2 days' WHERE finished_at IS NOT NULL`)
	if err != nil {
		return 0, fmt.Errorf("make runs older: %w", err)
	}
	return confirmed, nil
}

func (s *repairStage) start(ctx context.Context, b *bench) (err error) {
	binary, err := b.program("drydock")
	if err != nil {
		return err
	}
	bin, err := findPgbench(ctx)
	if err != nil {
		return err
	}
	b.log.Info("starting a carrier", "nodes", 12)
	s.cluster, err = controlplane.Start(ctx, controlplane.Options{Name: "bench", Nodes: 12, PodsPerNode: 12})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, s.cluster.Stop)
	s.client = s.cluster.Client()
	for _, agent := range []string{plainAgent, reapplyAgent} {
		if _, err := fault.RunDaemonSet(ctx, s.client, fault.Agent{Namespace: namespace, Name: agent}); err != nil {
			return err
		}
	}
	server, stopPostgres, err := startPostgres(ctx, bin, b)
	if err != nil {
		return err
	}
	s.stops = append(s.stops, stopPostgres)
	s.dsn = server.DSN()
	return s.startDrydock(ctx, b, binary, server)
}

func (s *repairStage) startDrydock(ctx context.Context, b *bench, binary string, server *privatepg.Server) error {
	port, err := controlplane.FreePort()
	if err != nil {
		return err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	s.pager = pagerduty.New(pagerduty.Options{})
	pagerURL, err := s.pager.Start(ctx)
	if err != nil {
		return err
	}
	s.stops = append(s.stops, func() error { s.pager.Close(); return nil })
	s.bot = s.pager.AddUser(pagerduty.User{Name: "Drydock", Email: "drydock@example.com", Bot: true}).ID
	if _, err := s.pager.AddPolicy(pagerduty.EscalationPolicy{ID: "PDEFAULT", Name: "bench", Levels: []pagerduty.Level{{Users: []string{s.bot}}}}); err != nil {
		return fmt.Errorf("add escalation policy: %w", err)
	}
	if _, err := s.pager.AddService(pagerduty.Service{ID: repairService, Name: "bench", PolicyID: "PDEFAULT"}); err != nil {
		return fmt.Errorf("add service: %w", err)
	}
	self, err := s.pager.AddService(pagerduty.Service{ID: "PDRYDOCK1", Name: "drydock itself", PolicyID: "PDEFAULT"})
	if err != nil {
		return fmt.Errorf("add service: %w", err)
	}
	subscription, err := s.pager.Subscribe(pagerduty.Subscription{
		URL: "http://" + address + "/webhooks/pagerduty", Events: pagerduty.EventTypes(), FilterType: "service_reference", FilterID: repairService,
	})
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	promoter := jenkins.New(jenkins.Options{Users: []jenkins.User{{Name: "drydock", Token: repairToken, MayPromote: true}}, Apply: s.deploy})
	s.stops = append(s.stops, func() error { promoter.Close(); return nil })
	promoter.AddJob("bench", jenkins.Process{Name: repairCarrier})
	if _, err := promoter.AddBuild("bench", jenkins.Build{Number: repairBuild, DisplayName: repairVersion, Parameters: map[string]string{"VERSION": repairVersion}}); err != nil {
		return err
	}
	if s.jenkins, err = promoter.Start(ctx); err != nil {
		return err
	}
	versions := flags.New(flags.Options{Token: repairToken})
	s.stops = append(s.stops, func() error { versions.Close(); return nil })
	versions.Set(repairCarrier, "bench", repairVersion)
	flagsURL, err := versions.Start(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.dir, "drydock-bench-")
	if err != nil {
		return fmt.Errorf("make Drydock's directory: %w", err)
	}
	s.stops = append(s.stops, func() error { return os.RemoveAll(dir) })
	config, err := os.Create(filepath.Join(dir, "drydock.yaml"))
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	err = repairConfig.Execute(config, map[string]string{
		"Listen": address, "Pager": pagerURL, "Kubeconfig": s.cluster.Kubeconfig(), "Flags": flagsURL, "Jenkins": s.jenkins,
	})
	if err := errors.Join(err, config.Close()); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	output, err := os.Create(filepath.Join(dir, "drydock.log"))
	if err != nil {
		return fmt.Errorf("make Drydock's log: %w", err)
	}
	defer output.Close()
	cmd := exec.CommandContext(ctx, binary, "serve", "--config", config.Name())
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, output, output
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DATABASE_URL=" + server.DSN(), "WEBHOOK_SECRET=" + subscription.Secret,
		"BACKUP_KEY=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "FLAGS_TOKEN=" + repairToken, "JENKINS_TOKEN=" + repairToken,
		"SELF_KEY=" + self.RoutingKey, "PAGERDUTY_TOKEN=" + s.pager.AddKey(pagerduty.Key{Kind: pagerduty.AccountKey})}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start Drydock: %w", err)
	}
	p := &product{cmd: cmd, address: address}
	s.stops = append(s.stops, p.stop)
	if err := awaitReady(ctx, "http://"+address+"/readyz"); err != nil {
		said, _ := os.ReadFile(output.Name())
		return fmt.Errorf("start Drydock: %w: it said: %s", err, said)
	}
	return nil
}

// deploy is what a promotion does.
func (s *repairStage) deploy(ctx context.Context, _, _ string, _ jenkins.Build) error {
	_, err := fault.CreateDaemonSet(ctx, s.client, fault.Agent{Namespace: namespace, Name: plainAgent})
	return err
}

// podReady reports whether a pod is ready.
func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
