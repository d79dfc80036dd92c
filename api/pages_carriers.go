package api

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
)

type carriersPage struct {
	page
	Carriers []carrierView
}

// carrierList shows all carriers.
func (p *pages) carrierList(c *gin.Context, base page) error {
	if err := newQuery(c).err(); err != nil {
		return err
	}
	recent, err := p.server.History.Runs(c.Request.Context(), playbook.RunFilter{Since: p.server.Now().Add(-day), Carriers: tokenOf(c).Carriers, Limit: maxLimit, Memory: true})
	if err != nil {
		return err
	}
	base.Here, base.Poll = "carriers", listPoll
	p.render(c, http.StatusOK, "carriers", carriersPage{base, p.carrierViews(c, recent.Runs)})
	return nil
}

type targetView struct {
	Namespace, Name  string
	Runs             int
	Last             *runView
	Breaker          time.Time
	Tries            []string
	EscalationPolicy string
	Team             string
	Reapply          string
}

type budgetView struct {
	Name        string
	Used, Limit int // a limit of 0 goes by the carrier's size
	Left        int
}

type carrierPage struct {
	page
	Carrier carrierView
	Targets []targetView
	Budgets []budgetView
	Claim   string // the run that holds the carrier's claim
	Runs    []runView
	More    string
	Days    figures
	Policy  playbook.Policy
}

// carrier shows one carrier: its DaemonSets, what is left of its budgets, and its past.
func (p *pages) carrier(c *gin.Context, base page) error {
	if err := newQuery(c).err(); err != nil {
		return err
	}
	name, ctx, now := c.Param("carrier"), c.Request.Context(), p.server.Now()
	if err := p.mayLook(c, name); err != nil {
		return err
	}
	found, err := p.server.History.Runs(ctx, playbook.RunFilter{Carrier: name, Limit: defaultLimit, Memory: true})
	if err != nil {
		return err
	}
	stats, err := p.server.History.RunStats(ctx, playbook.StatsFilter{Since: now.Add(-statsSpan), Until: now, Carriers: []string{name}})
	if err != nil {
		return err
	}
	base.Here, base.Poll = "carriers", listPoll
	data := carrierPage{page: base, Days: newFigures(stats), Policy: p.server.Policy(playbook.Target{Carrier: name})}
	for _, v := range p.carrierViews(c, found.Runs) {
		if v.Name == name {
			data.Carrier = v
		}
	}
	data.Runs = newRunViews(found.Runs, now)
	const shown = 15
	if len(data.Runs) > shown {
		data.Runs = data.Runs[:shown]
	}
	data.More = "/runs?" + url.Values{"carrier": {name}}.Encode()
	data.Targets = p.targets(name, found.Runs, now)
	spent, err := p.server.History.Spent(ctx, name)
	if err != nil {
		return err
	}
	data.budgets(name, spent)
	for i := range data.Targets {
		t := &data.Targets[i]
		if t.Breaker, t.Tries, err = p.server.History.Breaker(ctx, playbook.Target{Carrier: name, Namespace: t.Namespace, DaemonSet: t.Name}); err != nil {
			return err
		}
	}
	p.render(c, http.StatusOK, "carrier", data)
	return nil
}

// targets are the DaemonSets that are looked after on a carrier: those of the configuration, and those of past runs.
func (p *pages) targets(carrier string, runs []playbook.Run, now time.Time) []targetView {
	var views []targetView
	add := func(namespace, name string) *targetView {
		for i := range views {
			if views[i].Namespace == namespace && views[i].Name == name {
				return &views[i]
			}
		}
		policy := p.server.Policy(playbook.Target{Carrier: carrier, Namespace: namespace, DaemonSet: name}).DaemonSet
		views = append(views, targetView{Namespace: namespace, Name: name, EscalationPolicy: policy.EscalationPolicy, Team: policy.Team, Reapply: string(policy.Reapply)})
		return &views[len(views)-1]
	}
	for _, t := range p.server.DaemonSets {
		add(t.Namespace, t.DaemonSet)
	}
	for _, r := range runs {
		v := add(r.Target.Namespace, r.Target.DaemonSet)
		v.Runs++
		if v.Last == nil {
			last := newRunView(r, now)
			v.Last = &last
		}
	}
	slices.SortFunc(views, func(a, b targetView) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return views
}

// budgets shows what is left of the carrier's budgets.
func (d *carrierPage) budgets(carrier string, spent Spent) {
	d.Claim = spent.ClaimHolder
	limits := d.Policy.Limits
	for _, b := range []struct {
		name  string
		scope playbook.Scope
		key   string
		limit int
	}{
		{"nodes cordoned by us now", playbook.ScopeCordonedNodes, carrier, limits.CordonedNodes},
		{"evictions within an hour", playbook.ScopeEvictionsHour, carrier, limits.EvictionsPerHour},
		{"evictions within an hour, all carriers", playbook.ScopeEvictionsHourAll, "*", limits.EvictionsPerHourAll},
		{"controller-manager restarts within a day", playbook.ScopeControllerRestart, carrier, limits.RestartsPerDay},
	} {
		used := spent.Used[playbook.Reservation{Scope: b.scope, Key: b.key}.Budget()]
		d.Budgets = append(d.Budgets, budgetView{Name: b.name, Used: used, Limit: b.limit, Left: max(0, b.limit-used)})
	}
}

// mayLook refuses carriers that do not exist, or that the reader's token is not for.
func (p *pages) mayLook(c *gin.Context, carrier string) error {
	if err := inScope(c, carrier); err != nil {
		return err
	}
	if !p.server.knows(carrier) {
		return ErrNoCarrier
	}
	return nil
}

type diagnosisPage struct {
	page
	Diagnosis
	Took         string
	State        stateView
	Map          *nodeMap
	Troubled     []playbook.Verdict
	MoreTroubled int
	Steps        []string
	Unknown      []Reading
}

// diagnosis looks at a DaemonSet once, and changes nothing.
func (p *pages) diagnosis(c *gin.Context, base page) error {
	if err := newQuery(c).err(); err != nil {
		return err
	}
	t := playbook.Target{Carrier: c.Param("carrier"), Namespace: c.Param("namespace"), DaemonSet: c.Param("name")}
	if err := p.mayLook(c, t.Carrier); err != nil {
		return err
	}
	if !incident.ValidLabel(t.Namespace) || !incident.ValidName(t.DaemonSet) {
		return fieldErrors{{"address", "does not name a namespace and a DaemonSet"}}
	}
	began := p.server.Now()
	found, err := p.server.Carriers.Diagnose(c.Request.Context(), t)
	if err != nil {
		return err
	}
	base.Here = "carriers"
	data := diagnosisPage{page: base, Diagnosis: found, Took: brief(p.server.Now().Sub(began)), State: stateView{"bad", "▲", plainWords(string(found.Finding))}}
	if found.Finding == playbook.FindingHealthy {
		data.State = stateView{"good", "✓", "healthy"}
	} else if found.Finding == playbook.FindingUnknown {
		data.State = stateView{"warn", "?", "unknown"}
	}
	if len(found.Nodes) > 0 {
		verdicts, cordons := nodesOf(playbook.StoredTick{Tick: playbook.Tick{Diagnosis: playbook.Diagnosis{Verdicts: found.Nodes}}}, "")
		m := newNodeMap("Now", sortedNodes(found.Nodes), verdicts, cordons)
		data.Map = &m
	}
	data.Troubled, _ = splitNodes(found.Nodes)
	if len(data.Troubled) > troubledShown {
		data.MoreTroubled, data.Troubled = len(data.Troubled)-troubledShown, data.Troubled[:troubledShown]
	}
	for _, a := range found.Plan {
		data.Steps = append(data.Steps, plainWords(a.String()))
	}
	for _, r := range found.Readings {
		if !r.Known {
			data.Unknown = append(data.Unknown, r)
		}
	}
	p.render(c, http.StatusOK, "diagnosis", data)
	return nil
}
