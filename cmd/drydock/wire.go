package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/store"
)

// wiring is a server whose parts have met.
type wiring struct {
	handler http.Handler
	// loginPath is what the printed address ends with.
	loginPath string
	work      func(ctx context.Context)
	// endStreams ends what would hold up the shutdown of the HTTP server.
	endStreams func()
	close      func()
	// stopping is set when the process was told to end, before anything of it does: /readyz says so first.
	stopping atomic.Bool
}

func (w *wiring) checkStopping(context.Context) error {
	if w.stopping.Load() {
		return errors.New("this replica is stopping")
	}
	return nil
}

// wire builds everything between the database and the HTTP server. It is the one place that knows all packages.
func wire(ctx context.Context, cfg *Config, s *resolved, db *database, traces *tracer, log *slog.Logger) (*wiring, error) {
	rules, err := incident.NewRules(cfg.ruleConfig())
	if err != nil {
		return nil, usagef("%w", err)
	}
	alert, err := newSelfAlert(cfg, s, log)
	if err != nil {
		return nil, err
	}
	signatures, err := incident.NewVerifier(s.webhookSecrets, alert.signatures)
	if err != nil {
		return nil, usagef("%w", err)
	}
	if len(s.webhookSecrets) == 0 {
		log.Warn("pagerduty.webhook_secrets is empty: every webhook is refused with 401")
	}
	mine := installation(s.backupKey)
	policy := cfg.policies(mine)
	registry, err := cfg.registry(kube.Options{Version: version, Log: log})
	if err != nil {
		return nil, usagef("%w", err)
	}
	readers, err := cfg.registry(kube.Options{Version: version, ReadOnly: true, Log: log})
	if err != nil {
		return nil, usagef("%w", err)
	}
	if err := registry.Check(); err != nil {
		// One carrier's mistake must not keep the others from being repaired; its runs hand over with this reason.
		log.Error("carriers are misconfigured", "error", err)
	}
	known := &carriers{registry: readers, policy: policy, now: time.Now, log: log}

	fileSwitch := killSwitchFile(cfg.path(cfg.DataDir))
	st, err := openStore(ctx, cfg, s, db, fileSwitch, log)
	if err != nil {
		return nil, err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(storeMetrics{store: st, carriers: known.Names,
		limits: func(carrier string) playbook.Limits { return policy(playbook.Target{Carrier: carrier}).Limits }})

	find := &lookup{rules: rules, carriers: known.Names, policy: policy}
	share := newQuota(st, cfg.Role, log)
	var pages playbook.Pager = noPager{}
	if s.pagerDutyToken != "" {
		client, err := incident.New(incident.Config{APIURL: cfg.PagerDuty.APIURL, Token: s.pagerDutyToken, From: cfg.PagerDuty.From,
			Limiter: share.limiter})
		if err != nil {
			st.Close()
			return nil, usagef("pagerduty: %w", err)
		}
		metrics.MustRegister(measureRate(client))
		find.client = client
		pages = &pager{client: client, rules: rules, approvers: cfg.Approvers, page: alert.page, now: time.Now, log: log,
			listing: make(chan struct{}, 1)}
	} else {
		log.Warn("pagerduty.token is not configured: no incident can be read, so nothing is changed")
	}
	count := countRuns(metrics)
	watches := []playbook.Watch{nameRun, measureSteps(metrics)}
	if traces != nil {
		watches = append(watches, traces.watch)
	}
	engine := &playbook.Engine{
		Ledger: st, Pager: pages, Promoter: s.promoter, Policy: policy, Clock: time.Now, Log: log, Reads: 8, Watch: watchAll(watches...),
		Ticked: func(before, after playbook.Run, d playbook.Decision) {
			count(before, after, d)
			traces.ended(before, after)
		},
		Carrier:     func(name string) (playbook.Carrier, error) { return registry.Carrier(name) },
		Quarantined: alert.quarantined,
	}
	files := &switchFiles{dir: cfg.path(cfg.DataDir), node: st.Node(), record: st.Record, log: log}
	w := &wiring{close: st.Close}
	var works *worker
	parts := []api.Part{{Name: "database", Check: st.Ping}, {Name: "stopping", Check: w.checkStopping}}
	if cfg.Role != roleIngest {
		works = &worker{store: st, engine: engine, find: find, cfg: cfg, alert: alert, traces: traces, log: log}
		works.janitor = newJanitor(&janitor{ledger: st, engine: engine, carriers: changed{registry, known.Names, policy}, installation: mine,
			alert: alert, now: time.Now, log: log})
		parts = append(parts, api.Part{Name: "worker", Check: works.check})
	}
	dead := &deadMan{url: s.deadMan, store: st, parts: parts, client: &http.Client{}, log: log}
	w.work = together(share.run, files.run, dead.run)
	if works != nil {
		w.work = together(share.run, files.run, dead.run, works.run)
	}
	var in api.Intake = intake{st}
	if traces != nil {
		in = tracedIntake{in, traces}
	}
	options := api.Options{
		Intake: in, History: history{st}, Orders: orders{st, fileSwitch, registry, policy, mine, log}, Keys: keys{st}, Incidents: find, Carriers: known,
		Signatures: signatures, Rules: rules, Policy: policy, DaemonSets: cfg.watched(), Tokens: s.tokens, OIDC: cfg.identifier(s.oidcSecret), Metrics: metrics, Log: log, Now: time.Now,
		Parts: parts, Witness: witness{st},
		NewID: func() string { return uuid.Must(uuid.NewV7()).String() }, Version: version,
		SecureCookies: s.madeToken == "" && strings.HasPrefix(cfg.PublicURL, "https://"),
	}
	if s.madeToken != "" {
		options.OneTimeCode, options.LoginToken = randomCode(), s.madeToken
		w.loginPath = "/login?code=" + options.OneTimeCode
	}
	server := api.New(options)
	w.handler, w.endStreams = server, server.Stop
	if err := st.Record(ctx, startDeed(cfg, st.Node())); err != nil {
		st.Close()
		return nil, remotef("%w", err)
	}
	return w, nil
}

// together runs all until each has returned.
func together(all ...func(context.Context)) func(context.Context) {
	return func(ctx context.Context) {
		var running sync.WaitGroup
		for _, run := range all {
			running.Go(func() { run(ctx) })
		}
		running.Wait()
	}
}

// startDeed records under which configuration a server works. The hash covers the defaults, and where secrets come from, not them.
func startDeed(cfg *Config, node string) store.Deed {
	text, err := yaml.Marshal(cfg)
	if err != nil { // it was read from YAML
		text = nil
	}
	return store.Deed{Who: store.Drydock, What: "serve.start", Why: "the server was started", After: struct {
		Node         string `json:"node"`
		Version      string `json:"version"`
		Role         string `json:"role"`
		ConfigSHA256 string `json:"config_sha256"`
	}{node, version, cfg.Role, fmt.Sprintf("%x", sha256.Sum256(text))}}
}

func openStore(ctx context.Context, cfg *Config, s *resolved, db *database, fileSwitch func(string) string, log *slog.Logger) (*store.Store, error) {
	identity := hostname()
	if db.private != nil {
		identity = "private"
	}
	node := identity + "/" + randomCode()
	log.InfoContext(ctx, "leases bear this name", "node", node)
	st, err := store.Open(ctx, store.Options{
		DatabaseURL: db.url, Node: node, BackupKey: s.backupKey, LeaseTTL: cfg.Timing.Lease.std(),
		FileSwitch: fileSwitch, IneffectiveRuns: cfg.Limits.IneffectiveRuns, Log: log,
	})
	if err != nil {
		return nil, remotef("%w", err)
	}
	if db.private != nil {
		// The private Postgres serves one replica, and its data directory is locked: an earlier process is surely dead.
		if err := st.TakeOver(ctx, identity); err != nil {
			st.Close()
			return nil, remotef("%w", err)
		}
	}
	return st, nil
}

// randomCode is 16 random bytes in hex.
func randomCode() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // it never fails; Go ends the program instead
	return hex.EncodeToString(b)
}

// worker is what a replica does besides answering HTTP.
type worker struct {
	store   *store.Store
	engine  *playbook.Engine
	find    *lookup
	cfg     *Config
	alert   *selfAlert
	janitor *janitor
	traces  *tracer // nil: off
	log     *slog.Logger

	working atomic.Bool
}

func (w *worker) run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { w.workJobs(ctx) })
	all.Go(func() { w.janitor.run(ctx) })
	all.Go(func() { w.forget(ctx) })
	if w.find.client != nil {
		r := newReconciler(w.store, w.find, w.cfg, w.alert, w.log)
		all.Go(func() { r.run(ctx) })
	}
	all.Wait()
}

const workAgain = 2 * time.Second

// workJobs begins again when it could not go on: a database that is away for a while must not end the process, which
// tells PagerDuty to come again.
func (w *worker) workJobs(ctx context.Context) {
	for ctx.Err() == nil {
		w.working.Store(true)
		err := w.store.Work(ctx, store.Worker{Advance: w.engine.Advance, LookUp: w.find.start, Placed: w.traces.placed})
		w.working.Store(false)
		if err == nil || ctx.Err() != nil {
			return
		}
		w.log.ErrorContext(ctx, "runs are not worked; trying again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(workAgain):
		}
	}
}

// check says whether runs are worked, for /readyz.
func (w *worker) check(context.Context) error {
	if !w.working.Load() {
		return errors.New("runs are not worked")
	}
	return nil
}

const forgetEvery = time.Hour

// forget deletes what has been kept for long enough. One replica does it for all.
func (w *worker) forget(ctx context.Context) {
	every(ctx, forgetEvery/6, func() {
		ours, err := w.store.Turn(ctx, "retention", forgetEvery)
		if err == nil && ours {
			var gone store.Forgotten
			gone, err = w.store.Forget(ctx, store.Retention{Runs: w.cfg.Retention.Runs.std(), Events: w.cfg.Retention.Events.std()})
			if gone != (store.Forgotten{}) {
				w.log.InfoContext(ctx, "what was kept for long enough was deleted", "runs", gone.Runs, "observations", gone.Observations,
					"events", gone.Events, "keys", gone.Keys, "looks", gone.Looks)
			}
		}
		if err != nil && ctx.Err() == nil {
			w.log.WarnContext(ctx, "retention was not applied to the end", "error", err)
		}
	})
}

// every calls do once per period until ctx ends.
func every(ctx context.Context, period time.Duration, do func()) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}
