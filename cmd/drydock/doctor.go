package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/drydock/drydock/deploy/carrier"
	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/migrations"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/playbook/promotion"
	"github.com/drydock/drydock/store"
	"github.com/drydock/drydock/store/privatepg"
)

// doctor examines an installation from the outside. Its clients change nothing.
type doctor struct {
	app *app
	cfg *Config
	now func() time.Time

	promoter  *promotion.Promoter
	pagerDuty *incident.Client // nil: no token is configured
}

type examination struct {
	name  string
	check func(context.Context) checkResult
}

// secrets reads what serve would; one error names all that are missing.
func (d *doctor) secrets() error {
	if err := d.cfg.checkServing(); err != nil {
		return err
	}
	s := &secrets{getenv: d.app.getenv, path: d.cfg.path}
	s.get("database_url", d.cfg.DatabaseURL)
	s.get("backup_key", d.cfg.BackupKey)
	token := s.get("pagerduty.token", d.cfg.PagerDuty.Token)
	for i := range d.cfg.PagerDuty.WebhookSecrets {
		s.get(fmt.Sprintf("pagerduty.webhook_secrets[%d]", i), &d.cfg.PagerDuty.WebhookSecrets[i])
	}
	if d.cfg.SelfAlert != nil {
		s.get("self_alert.routing_key", d.cfg.SelfAlert.RoutingKey)
	}
	s.get("deadman_url", d.cfg.DeadManURL)
	for i, t := range d.cfg.APITokens {
		s.get(fmt.Sprintf("api_tokens[%d].sha256", i), t.SHA256)
	}
	var err error
	if d.promoter, err = newPromoter(d.cfg, s); err != nil {
		return err
	}
	if err := s.err(); err != nil {
		return missingSecrets(err)
	}
	if token == "" {
		return nil
	}
	d.pagerDuty, err = incident.New(incident.Config{APIURL: d.cfg.PagerDuty.APIURL, Token: token, From: d.cfg.PagerDuty.From})
	if err != nil {
		return usagef("pagerduty: %w", err)
	}
	return nil
}

// checks lists every check, in the order of the report.
func (d *doctor) checks() []examination {
	checks := []examination{
		{"database", d.database}, {"river", d.river}, {"runs", d.runs}, {"last webhook", d.lastWebhook},
		{"pagerduty token", d.token}, {"pagerduty from", d.from}, {"pagerduty subscriptions", d.subscriptions},
	}
	seen := map[string]bool{}
	for _, ds := range d.cfg.DaemonSets {
		if p := ds.EscalationPolicy; p != "" && !seen[p] {
			seen[p] = true
			checks = append(checks, examination{"escalation policy " + p, func(ctx context.Context) checkResult { return d.escalation(ctx, p) }})
		}
	}
	registry, err := d.cfg.registry(kube.Options{Version: version, ReadOnly: true})
	if err != nil {
		return append(checks, examination{"carriers", func(context.Context) checkResult { return no("mend the configuration", "%v", err) }})
	}
	names, err := registry.Names()
	if err != nil {
		checks = append(checks, examination{"carrier_dir", func(context.Context) checkResult { return no("mend it: what is wrong is left out", "%v", err) }})
	}
	if len(names) == 0 {
		checks = append(checks, examination{"carriers", func(context.Context) checkResult {
			return no("list them under carriers, or name a carrier_dir", "no carriers are configured")
		}})
	}
	for _, name := range names {
		checks = append(checks,
			examination{"carrier " + name, func(ctx context.Context) checkResult { return d.reach(ctx, registry, name) }},
			examination{"rights on " + name, func(ctx context.Context) checkResult { return d.rights(ctx, registry, name) }},
			examination{"clock of " + name, func(ctx context.Context) checkResult { return d.clock(ctx, registry, name) }})
	}
	for _, ds := range d.cfg.DaemonSets {
		if p := ds.Promotion; p != "" && !seen["promotion "+p] && len(names) > 0 {
			seen["promotion "+p] = true
			checks = append(checks, examination{"promotion " + p, func(ctx context.Context) checkResult { return d.promotions(ctx, names, p) }})
		}
	}
	return checks
}

// withHistory opens the database to read; what is wrong with it is a result already.
func (d *doctor) withHistory(ctx context.Context, use func(context.Context, string) checkResult) checkResult {
	url := ""
	if d.cfg.DatabaseURL == nil {
		dir := d.cfg.path(d.cfg.DataDir)
		running, err := privatepg.Running(ctx, dir)
		switch {
		case errors.Is(err, privatepg.ErrNoCluster):
			return skipped("no private Postgres yet: the first \"drydock serve\" makes it in %s", dir)
		case errors.Is(err, privatepg.ErrNotRunning):
			return no("start \"drydock serve\"", "the private Postgres in %s does not run", dir)
		case err != nil:
			return failed("look at "+dir, err)
		}
		url = running
	} else {
		url = (&secrets{getenv: d.app.getenv, path: d.cfg.path}).get("database_url", d.cfg.DatabaseURL)
	}
	return use(ctx, url)
}

func (d *doctor) database(ctx context.Context) checkResult {
	return d.withHistory(ctx, func(ctx context.Context, url string) checkResult {
		state, err := migrations.Status(ctx, url)
		switch {
		case err != nil:
			return failed("is it running, and is database_url right?", err)
		case state.Dirty:
			return no("see \"drydock migrate status\"", "a migration broke off at version %d", state.Version)
		case len(state.Pending) > 0:
			return no("run \"drydock migrate up\"", "%d migrations are pending (version %d of %d)", len(state.Pending), state.Version, state.Latest)
		}
		return ok("it answers, and its schema is up to date (version %d)", state.Version)
	})
}

// history opens the store to read.
func (d *doctor) history(ctx context.Context, use func(*store.Store) checkResult) checkResult {
	return d.withHistory(ctx, func(ctx context.Context, url string) checkResult {
		st, err := store.Open(ctx, store.Options{DatabaseURL: url, ReadOnly: true, MaxConns: 2})
		if err != nil {
			return failed("is it running, and is database_url right?", err)
		}
		defer st.Close()
		return use(st)
	})
}

// river: a server works the jobs. Of those that do, River elects one to look after the others' lost jobs.
func (d *doctor) river(ctx context.Context) checkResult {
	return d.history(ctx, func(st *store.Store) checkResult {
		s, err := st.Stats(ctx)
		switch {
		case err != nil:
			return failed("run \"drydock migrate status\"", err)
		case s.Leader == "":
			return no("start \"drydock serve\" with role all or worker", "nobody works the jobs: River has no leader")
		}
		return ok("its leader is %s", s.Leader)
	})
}

// runs: River wakes every run, and nothing is late or owed for long.
func (d *doctor) runs(ctx context.Context) checkResult {
	return d.history(ctx, func(st *store.Store) checkResult {
		s, err := st.Stats(ctx)
		switch {
		case err != nil:
			return failed("run \"drydock migrate status\"", err)
		case s.Overdue > 0:
			return no("is a server with role worker or all running? See /readyz", "River does not wake %d runs whose tick is late", s.Overdue)
		case s.OldestOwed > playbook.CordonLimit:
			return no("see the runs in state unwinding", "an undo has been owed for %s", s.OldestOwed.Round(time.Minute))
		}
		open := 0
		for _, n := range s.Open {
			open += n
		}
		return ok("%d runs are open, none is late", open)
	})
}

func (d *doctor) lastWebhook(ctx context.Context) checkResult {
	return d.history(ctx, func(st *store.Store) checkResult {
		page, err := st.Events(ctx, nil, 1, "")
		switch {
		case err != nil:
			return failed("run \"drydock migrate status\"", err)
		case len(page.Events) == 0:
			return no("make the subscription with \"drydock pagerduty connect\"; a ping from PagerDuty's page counts", "no webhook was ever received")
		}
		last := page.Events[0]
		return ok("%s, %s ago", last.Type, d.now().Sub(last.ReceivedAt).Round(time.Second))
	})
}

const noPagerDutyToken = "pagerduty.token is not configured"

// pagerDutyTrouble gives an error of PagerDuty its status.
func pagerDutyTrouble(err error, mend string) checkResult {
	if errors.Is(err, incident.ErrUnauthorized) {
		return no("make a token that is valid and may do this, and set pagerduty.token", "%v", err)
	}
	if errors.Is(err, incident.ErrNotFound) || errors.Is(err, incident.ErrInvalid) {
		return no(mend, "%v", err)
	}
	return failed("is pagerduty.api_url right, and is PagerDuty reachable from here?", err)
}

func (d *doctor) token(ctx context.Context) checkResult {
	if d.pagerDuty == nil {
		return skipped(noPagerDutyToken)
	}
	if _, err := d.pagerDuty.OpenIncidents(ctx, d.cfg.PagerDuty.ServiceIDs); err != nil {
		return pagerDutyTrouble(err, "check pagerduty.service_ids")
	}
	return ok("it is valid and reads incidents")
}

// watchedDays is how far ahead the bot's user must be on no schedule.
const watchedDays = 30

func (d *doctor) from(ctx context.Context) checkResult {
	if d.pagerDuty == nil {
		return skipped(noPagerDutyToken)
	}
	user, err := d.pagerDuty.BotUser(ctx)
	if err != nil {
		return pagerDutyTrouble(err, "make a user of its own for Drydock, and set pagerduty.from to its e-mail")
	}
	if !strings.EqualFold(user.Email, d.cfg.PagerDuty.From) {
		return no("set pagerduty.from to the e-mail of the token's user", "the token is %s's, and pagerduty.from is %s", user.Email, d.cfg.PagerDuty.From)
	}
	duties, err := d.pagerDuty.OnCalls(ctx, user.ID, d.now(), d.now().AddDate(0, 0, watchedDays))
	if err != nil {
		return pagerDutyTrouble(err, "the token must be allowed to read on-calls")
	}
	if len(duties) > 0 {
		return no("take it off: what Drydock does must be told from what a person does", "%s is on %s", user.Email, strings.Join(duties, ", "))
	}
	return ok("%s is on no schedule for %d days", user.Email, watchedDays)
}

// webhookURL is where our subscription sends; empty when public_url is not configured.
func (c *Config) webhookURL() string {
	if c.PublicURL == "" {
		return ""
	}
	return strings.TrimRight(c.PublicURL, "/") + "/webhooks/pagerduty"
}

func (d *doctor) subscriptions(ctx context.Context) checkResult {
	if d.pagerDuty == nil {
		return skipped(noPagerDutyToken)
	}
	ours := d.cfg.webhookURL()
	if ours == "" {
		return no("set it to the address at which PagerDuty reaches this server", "public_url is not configured, so our subscription can not be told")
	}
	all, err := d.pagerDuty.Subscriptions(ctx)
	if err != nil {
		return pagerDutyTrouble(err, "the token must be allowed to read webhook subscriptions")
	}
	found := 0
	for _, s := range all {
		switch {
		case s.URL != ours:
			continue
		case s.Disabled:
			return no("check pagerduty.webhook_secrets, then enable it on PagerDuty's page", "PagerDuty has disabled subscription %s for a day: it was answered 4xx", s.ID)
		case !s.Active:
			return no("switch it on on PagerDuty's page", "subscription %s is switched off", s.ID)
		case len(d.cfg.PagerDuty.WebhookSecrets) == 0:
			return no("set them: every webhook is 401", "pagerduty.webhook_secrets is empty, and subscription %s sends to us", s.ID)
		}
		found++
	}
	if found == 0 {
		return no("make it with \"drydock pagerduty connect\"", "no webhook subscription sends to %s", ours)
	}
	return ok("%d enabled", found)
}

func (d *doctor) escalation(ctx context.Context, id string) checkResult {
	if d.pagerDuty == nil {
		return skipped(noPagerDutyToken)
	}
	policy, err := d.pagerDuty.EscalationPolicy(ctx, id)
	if err != nil {
		return pagerDutyTrouble(err, "set daemonsets[].escalation_policy to the id of one that exists")
	}
	if len(policy.Levels) < 2 {
		return no("add a level: with one, an escalation wakes nobody new", "it has %d level", len(policy.Levels))
	}
	return ok("it has %d levels", len(policy.Levels))
}

func (d *doctor) reach(ctx context.Context, registry *kube.Registry, name string) checkResult {
	if _, err := registry.Carrier(name); err != nil {
		return no("mend the kubeconfig", "%v", err)
	}
	v, err := registry.Reachable(ctx, name)
	if err != nil {
		return failed("is the API server reachable from here, and is the credential valid?", err)
	}
	return ok("Kubernetes %s", v)
}

// onCarrier opens a carrier whose check has a line of its own.
func onCarrier(registry *kube.Registry, name string, use func(*kube.Carrier) checkResult) checkResult {
	c, err := registry.Carrier(name)
	if err != nil {
		return skipped("its kubeconfig can not be used")
	}
	return use(c)
}

// needed are the rights that Drydock needs on a carrier in its mode.
func (d *doctor) needed(name string) ([]kube.Right, playbook.Mode) {
	needs := kube.Needs{}
	for _, ds := range d.cfg.DaemonSets {
		needs.Targets = append(needs.Targets, playbook.Target{Carrier: name, Namespace: ds.Namespace, DaemonSet: ds.Name})
	}
	policy := d.cfg.policies("")(playbook.Target{Carrier: name})
	needs.Drain = policy.DrainFrom
	for _, e := range d.cfg.entries() {
		if e.Name == name {
			needs.Restart = e.ControllerManager
		}
	}
	for _, p := range d.cfg.Promotions {
		if p.Version.Source == "featureflagset" {
			needs.FlagSets = append(needs.FlagSets, kube.FlagSet{Namespace: p.Version.Namespace, Name: p.Version.Name})
		}
	}
	rights := kube.Rights(needs)
	if policy.Mode == playbook.ModeObserve {
		rights = slices.DeleteFunc(rights, func(r kube.Right) bool { return r.Acts })
	}
	return rights, policy.Mode
}

// grants prints the manifests that a carrier must have. A carrier of carrier_dir need not have its kubeconfig yet.
func (d *doctor) grants(name string) error {
	listed := slices.ContainsFunc(d.cfg.Carriers, func(c Carrier) bool { return c.Name == name })
	if !listed && d.cfg.CarrierDir == "" {
		return usagef("carrier %q is not in the configuration", name)
	}
	rights, mode := d.needed(name)
	fmt.Fprintf(d.app.stdout, "# What carrier %s grants to Drydock in mode %s: kubectl apply takes it.\n"+
		"# Written by \"drydock doctor --grants %s\"; other DaemonSets, namespaces or modes need other rights.\n", name, mode, name)
	if err := carrier.WriteRights(d.app.stdout, carrier.Usual(), rights); err != nil {
		return err
	}
	if mode != playbook.ModeObserve {
		fmt.Fprintf(d.app.stdout, "---\n%s", carrier.Policy)
	}
	return nil
}

func (d *doctor) rights(ctx context.Context, registry *kube.Registry, name string) checkResult {
	return onCarrier(registry, name, func(c *kube.Carrier) checkResult {
		rights, mode := d.needed(name)
		denied, err := c.Denied(ctx, rights)
		if err != nil {
			return failed("see the carrier's own line", err)
		}
		if len(denied) == 0 {
			return ok("all %d that mode %s needs", len(rights), mode)
		}
		list := make([]string, len(denied))
		for i, r := range denied {
			list[i] = r.String() + " (to " + r.For + ")"
		}
		return no(fmt.Sprintf("grant them to the kubeconfig's identity: \"drydock doctor --grants %s\" prints what to apply", name), "it may not %s", strings.Join(list, ", "))
	})
}

// mostSkew is how far a carrier's clock may be from ours: leases and soaks are measured in seconds.
const mostSkew = 5 * time.Second

func (d *doctor) clock(ctx context.Context, registry *kube.Registry, name string) checkResult {
	return onCarrier(registry, name, func(c *kube.Carrier) checkResult {
		before := d.now()
		theirs, err := c.Clock(ctx)
		after := d.now()
		if err != nil {
			return failed("see the carrier's own line", err)
		}
		// Theirs has whole seconds, and was taken somewhere between before and after.
		skew := max(before.Add(-time.Second).Sub(theirs), theirs.Sub(after), 0)
		if skew > mostSkew {
			return no("set both machines' clocks by NTP", "it differs from this machine's by %s", skew.Round(time.Second))
		}
		return ok("within %s of this machine's", max(skew.Round(time.Second), time.Second))
	})
}

// promotions looks at a component for every carrier: its version may come from the carrier itself, and its address, flag and Jenkins
// process are made with the carrier's name.
func (d *doctor) promotions(ctx context.Context, carriers []string, component string) checkResult {
	results := make([]checkResult, len(carriers))
	slots := make(chan struct{}, examinations)
	var all sync.WaitGroup
	for i, carrier := range carriers {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			results[i] = d.promotion(ctx, carrier, component)
		})
	}
	all.Wait()
	return worst(carriers, results)
}

// mostNamed is how many carriers a line names.
const mostNamed = 5

// worst is the worst of the carriers' results, and the others of its kind: what did not answer comes before what is not as it must be.
func worst(carriers []string, results []checkResult) checkResult {
	for _, status := range []string{checkFailed, checkNo} {
		i := slices.IndexFunc(results, func(r checkResult) bool { return r.Status == status })
		if i < 0 {
			continue
		}
		var named []string
		more := 0
		for j, r := range results {
			switch {
			case r.Status == checkOK:
			case len(named) == mostNamed:
				more++
			default:
				named = append(named, carriers[j]+": "+r.Saw)
			}
		}
		if more > 0 {
			named = append(named, fmt.Sprintf("and %d more carriers", more))
		}
		return checkResult{Status: status, Saw: strings.Join(named, "; "), Mend: results[i].Mend}
	}
	if len(results) == 1 {
		return results[0]
	}
	return ok("for each of %d carriers, as: %s", len(carriers), results[0].Saw)
}

func (d *doctor) promotion(ctx context.Context, carrier, component string) checkResult {
	p, err := d.promoter.Read(ctx, carrier, component)
	answered, isStatus := errors.AsType[*promotion.StatusError](err)
	switch {
	case isStatus && (answered.Code == http.StatusUnauthorized || answered.Code == http.StatusForbidden):
		return no(fmt.Sprintf("make a token that may read there, and set it as the token of promotions.%s.version or .jenkins", component), "refused: %v", err)
	case err != nil:
		return failed("is the flag service, and is Jenkins, reachable from here?", err)
	case p.Version == "":
		return no("is the address right?", "%s names no version for %s", p.Source, carrier)
	case p.Build == 0:
		return no("is the job right?", "Jenkins has no build of the deployed version %s", p.Version)
	}
	return ok("%s says %s for %s, which is build %d", p.Source, p.Version, carrier, p.Build)
}
