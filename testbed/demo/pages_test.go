package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/drydock/drydock/testbed/await"
	"github.com/drydock/drydock/testbed/browser"
	"github.com/drydock/drydock/testbed/fault"
)

// guest looks at the running demo in Chromium, as a person on call would: the real server with its Postgres, real control planes.
type guest struct {
	*stage
	t      *testing.T
	chrome context.Context
}

// startDemo runs the demo beside the test. The guest is there when the alerts were sent; leave lets the demo end, and returns its error.
func startDemo(t *testing.T, binary string) (g *guest, leave func() error) {
	t.Helper()
	var out bytes.Buffer
	stages, left, ran := make(chan *stage, 1), make(chan struct{}), make(chan error, 1)
	visit := func(ctx context.Context, s *stage) error {
		stages <- s
		select {
		case <-left:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	go func() { ran <- Run(t.Context(), Options{Drydock: binary, Once: true, Out: &out, visit: visit}) }()
	ended := false
	leave = func() error {
		if ended {
			return nil
		}
		ended = true
		close(left)
		if err := <-ran; err != nil {
			return fmt.Errorf("%w\n%s", err, out.String())
		}
		return nil
	}
	t.Cleanup(func() {
		if err := leave(); err != nil {
			t.Error(err)
		}
	})
	select {
	case s := <-stages:
		return &guest{s, t, browser.Start(t)}, leave
	case err := <-ran:
		ran <- err
		t.Fatal(leave())
		return nil, nil
	}
}

// verdict waits until the demo has judged the four repairs.
func (g *guest) verdict() {
	g.t.Helper()
	select {
	case <-g.judged:
	case <-g.t.Context().Done():
	case <-time.After(repairPatience):
		g.t.Fatal("the demo gave no verdict")
	}
}

// tab opens a tab and logs in with a token.
func (g *guest) tab(token, next string) *browser.Tab {
	g.t.Helper()
	b := browser.NewTab(g.t, g.chrome, g.drydock.url)
	b.Allow("ERR_", "status of 4", "status of 5") // the server is stopped under it
	b.Login(token, next)
	return b
}

// runOf finds the newest run of an incident.
func (g *guest) runOf(incident string) (id string) {
	g.t.Helper()
	err := await.Until(g.t.Context(), "a run of incident "+incident, func(ctx context.Context) error {
		all, err := g.api.runs(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(r run) bool { return r.about(incident) })
		if i < 0 {
			return fmt.Errorf("there is none among %d", len(all))
		}
		id = all[i].ID
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return id
}

const (
	// marked proves that a page was not loaded again since mark.
	mark   = `window.mark = true`
	marked = `window.mark === true`
)

// becomes waits until a run's page, as it stands open, shows a state.
func becomes(b *browser.Tab, state string) {
	b.Await(repairPatience, `document.querySelector(".heading .state")?.textContent.includes("`+state+`")`, "the run's page shows "+state)
}

// order opens one of a run's orders, gives its reason, and presses its button.
func order(b *browser.Tab, name, reason string) {
	b.Click("#order-" + name + " summary")
	if reason != "" {
		b.Write("#order-"+name+" input[name=reason]", reason)
	}
	b.Click("#order-" + name + " button")
}

// repairs follows the four repairs on the pages, with the address that serve printed.
func (g *guest) repairs() *browser.Tab {
	g.t.Helper()
	t := g.t
	b := browser.NewTab(t, g.chrome, g.drydock.url)
	b.Open(g.drydock.dashboard()[len(g.drydock.url):])
	b.Until(`location.pathname === "/" && document.querySelector("#preferences select")`, "the printed address logs in")
	browser.Eval[bool](b, mark)
	drained := slices.IndexFunc(g.watch.watched, func(w *watched) bool { return w.alert.title == drainAlert.title })
	id := g.runOf(g.watch.watched[drained].incident)
	b.Until(`document.querySelectorAll("a.row[href^='/runs/']").length >= 4`, "the four runs come to the overview by themselves")
	if !browser.Eval[bool](b, marked) {
		t.Error("the overview was loaded again")
	}
	b.Open("/runs/" + id)
	b.Until(`document.querySelectorAll(".timeline li").length > 0`, "a first look")
	before := browser.Eval[int](b, mark+`, document.querySelectorAll(".timeline li").length`)
	becomes(b, "resolved")
	b.Until(`document.getElementById("live").textContent === ""`, "it is known that nothing more comes")
	after := browser.Eval[int](b, `document.querySelectorAll(".timeline li").length`)
	if !browser.Eval[bool](b, marked) || after <= before {
		t.Errorf("the run's page was loaded again, or did not grow: %d entries, then %d", before, after)
	}
	for what, expression := range map[string]string{
		"the machine's end":   `document.querySelector("svg.machine .now.good text").textContent === "resolved"`,
		"the way":             `[...document.querySelectorAll(".steps .state")].some((s) => s.textContent.includes("draining"))`,
		"both node maps":      `document.querySelectorAll("svg.nodes").length === 2`,
		"the full node":       `document.querySelector("svg.nodes").ariaLabel.includes("1 node full")`,
		"every node ready":    `/^(\d+) of \1 expected nodes have a ready pod\./.test(document.querySelector("#nodes").nextElementSibling.textContent)`,
		"the note":            `document.querySelector(".note pre").textContent.includes("node-exporter")`,
		"what was done":       `document.querySelectorAll("#intents ~ .scroll tbody tr").length >= 4`,
		"the incident's link": `document.querySelector(".incidents a").href.startsWith("` + g.remote.pagerURL + `")`,
	} {
		if !browser.Eval[bool](b, expression) {
			t.Errorf("the run's page does not show %s", what)
		}
	}
	b.Accessible("a repaired run")
	b.Shoot("demo-run", true)
	return b
}

// history filters the runs, and opens deep links.
func (g *guest) history(b *browser.Tab) {
	g.t.Helper()
	b.Open("/runs")
	b.Write("select[name=carrier]", carrier2)
	b.Click(".filters button")
	b.Until(`location.search === "?carrier=`+carrier2+`"`, "the filter alone is in the address")
	b.Until(`document.querySelectorAll("a.row").length === 1`, "the one run of the carrier")
	b.Click("a.row")
	b.Until(`location.pathname.startsWith("/runs/")`, "the run")
	run := browser.Eval[string](b, `location.pathname`)
	b.Click(".timeline li.tick:not(.shown) .look")
	b.Until(`location.search.startsWith("?tick=") && document.body.innerText.includes("You see look")`, "an earlier look has an address")
	b.Open("/runs?outcome=resolved&carrier=" + carrier2)
	b.Until(`document.querySelector("a.row")?.pathname === "`+run+`"`, "the deep link into the history")
	b.Open("/runs?outcome=escalated")
	b.UntilText("No run is like this")
	// A resolved incident is not opened again: the refusal stands beside its button.
	b.Allow("409")
	b.Open(run)
	order(b, "retrigger", "once more")
	b.Until(`document.querySelector("#order-retrigger .refused")?.textContent.includes("incident")`, "the refusal beside its button")
}

// figures are told, not judged: the machine is as busy as it is.
func (g *guest) figures(b *browser.Tab, run string) {
	g.t.Helper()
	for _, path := range []string{"/", "/runs", run} {
		b.Open(path)
		b.Until(`document.querySelector("#preferences select") && performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd`, "the scripts have run")
		got := browser.Eval[[]float64](b, `(() => { const n = performance.getEntriesByType("navigation")[0]; return [n.responseEnd, n.domContentLoadedEventEnd]; })()`)
		g.t.Logf("%s of the running demo: answered after %.0f ms, interactive after %.0f ms", path, got[0], got[1])
	}
}

// tokens are people's, by role. The first is the token that Drydock made for itself: it stays good.
func (g *guest) tokens() []configToken {
	var all []configToken
	for role, token := range map[string]string{"admin": g.api.token, "viewer": "tok-viewer", "operator": "tok-operator", "approver": "tok-approver"} {
		sum := sha256.Sum256([]byte(token))
		env := "TOKEN_OF_" + role
		g.remote.env[env] = hex.EncodeToString(sum[:])
		all = append(all, configToken{Name: role, Role: role, Env: env})
	}
	return all
}

// death kills the server under an open page, and starts it again with other tokens and a carrier in mode approve.
func (g *guest) death(b *browser.Tab) {
	g.t.Helper()
	b.Allow("ERR_", "status of 4", "status of 5")
	b.Open("/")
	b.Until(`document.getElementById("live").textContent === "live"`, "it is live")
	browser.Eval[bool](b, mark)
	if err := g.drydock.process.Kill(); err != nil {
		g.t.Fatal(err)
	}
	<-g.drydock.exited
	b.Until(`document.getElementById("trouble").textContent.includes("does not answer") && document.getElementById("live").textContent === "reconnecting…"`,
		"the page says that the server does not answer")
	g.config.Tokens = g.tokens()
	g.config.Carriers[1].Mode = "approve"
	if err := g.serve(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	b.Until(`document.getElementById("trouble").hidden && document.getElementById("live").textContent === "live" && `+marked, "the same page goes on")
}

// breakAgain fills a node of the carrier that is in mode approve now.
func (g *guest) breakAgain() (incident string) {
	g.t.Helper()
	_, err := fault.FillNode(g.t.Context(), g.clusters[carrier2].Client(), fault.Full{
		Node: worker(carrier2, 5), Displace: []types.NamespacedName{{Namespace: "ibm-system", Name: fluentd}}, With: customerMaster(""),
	})
	if err != nil {
		g.t.Fatal(err)
	}
	title := "#3799999: blumemix.containers-kubernetes." + carrier2 + ".not_running_all_" + fluentd + "_demonsets.us-south"
	in, err := g.remote.pager.TriggerIncident(title, serviceID, map[string]any{})
	if err != nil {
		g.t.Fatal(err)
	}
	return in.ID
}

// orders cancels a run, starts another, and lets a second person approve its plan.
func (g *guest) orders(admin *browser.Tab) *browser.Tab {
	g.t.Helper()
	t := g.t
	in := g.breakAgain()
	admin.Await(repairPatience, `document.querySelector(".card.ask a.row")`, "the overview tells that a run waits for a person")
	admin.Click(".card.ask a.row")
	admin.Until(`location.pathname === "/runs/`+g.runOf(in)+`" && document.querySelector("#preferences select")`, "the run")
	first := browser.Eval[string](admin, mark+`, location.pathname`)

	viewer := g.tab("tok-viewer", first)
	viewer.UntilText("To approve it takes the role approver")
	if n := browser.Eval[int](viewer, `document.querySelectorAll(".order").length`); n != 0 {
		t.Errorf("a viewer sees %d orders", n)
	}
	operator := g.tab("tok-operator", first)
	operator.Until(`document.querySelector(".plan") && !document.getElementById("order-approve")`, "an operator sees the plan, and no button to approve it")
	order(operator, "cancel", "the customer is on the phone")
	for _, b := range []*browser.Tab{operator, admin, viewer} {
		becomes(b, "stood down")
		b.UntilText("the customer is on the phone")
	}
	if !browser.Eval[bool](admin, marked) {
		t.Error("the page was loaded again")
	}
	order(operator, "retrigger", "the customer agrees")
	operator.Until(`location.pathname !== "`+first+`" && document.body.innerText.includes("the customer agrees")`, "the new run")
	second := browser.Eval[string](operator, `location.pathname`)
	becomes(operator, "awaiting approval")

	approver := g.tab("tok-approver", second)
	becomes(approver, "awaiting approval")
	browser.Eval[bool](approver, mark)
	approver.Until(`[...document.querySelectorAll(".plan li")].some((li) => li.textContent.includes("evict pod"))`, "the plan says what it evicts")
	order(approver, "approve", "")
	becomes(approver, "resolved")
	approver.UntilText("run.approve")
	if !browser.Eval[bool](approver, marked) {
		t.Error("the page was loaded again")
	}
	resolved, err := g.remote.pager.Incident(in)
	if err != nil || resolved.Status != "resolved" {
		t.Errorf("the incident is %q (%v)", resolved.Status, err)
	}
	operator.Click(`form[action="/logout"] button`)
	operator.Until(`location.pathname === "/login"`, "logged out")
	operator.Open(second)
	operator.Until(`location.pathname === "/login" && location.search.includes("next=")`, "still logged out")
	return approver
}

// expiry takes a person's token out of the configuration under their open page.
func (g *guest) expiry(b *browser.Tab) {
	g.t.Helper()
	b.Allow("ERR_", "status of 4", "status of 5")
	b.Open("/runs?carrier=" + carrier2)
	b.Until(`document.getElementById("live").textContent === "live"`, "it is live")
	if err := g.drydock.stop(); err != nil {
		g.t.Fatal(err)
	}
	g.config.Tokens = slices.DeleteFunc(g.config.Tokens, func(t configToken) bool { return t.Role == "approver" })
	if err := g.serve(g.t.Context()); err != nil {
		g.t.Fatal(err)
	}
	b.Until(`document.getElementById("trouble").textContent.includes("session has ended")`, "it says that the session has ended")
	b.Click("#trouble a")
	b.Until(`location.pathname === "/login"`, "the login")
	b.Write("#token", "tok-approver")
	b.Click(`form[action="/login"] button`)
	b.UntilText("No such token")
	b.Write("#token", "tok-viewer")
	b.Click(`form[action="/login"] button`)
	b.Until(`location.pathname + location.search === "/runs?carrier=`+carrier2+`"`, "back where it was")
	response, err := http.Get(g.drydock.url + "/runs")
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.Request.URL.Path != "/login" {
		g.t.Errorf("without a session /runs leads to %s", response.Request.URL)
	}
}
