package web

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

// axe looks for what keeps people with a screen reader or a keyboard out. It is Deque's, under the Mozilla Public License 2.0, unchanged.
//
//go:embed testdata/axe/axe.min.js
var axe string

// hall is the gallery, served, with one browser for all tests of a file.
type hall struct {
	*gallery
	server *httptest.Server
	chrome context.Context
}

func newHall(t *testing.T) *hall {
	t.Helper()
	g, err := newGallery(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	handler, err := g.handler()
	if err != nil {
		t.Fatal(err)
	}
	h := &hall{gallery: g, server: httptest.NewServer(handler), chrome: chromium(t)}
	t.Cleanup(func() { h.server.Close() })
	return h
}

// visit logs in as a role and goes to a page.
func (h *hall) visit(t *testing.T, role, path string) *tab {
	t.Helper()
	b := newTab(t, h.chrome, h.server.URL)
	// The nights end a little later than now; ages are told from their end.
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: fmt.Sprintf("{ const real = Date.now, past = real() - %d; Date.now = () => real() - past; }", h.clock().UnixMilli()),
		})
		return err
	}))
	b.login("tok-"+role, path)
	return b
}

// TestPages opens every page in light, dark and on a phone: nothing serious for axe, nothing wider than the screen, a picture of each.
func TestPages(t *testing.T) {
	h := newHall(t)
	h.addBig(5000)
	b := h.visit(t, "approver", "/")
	for name, path := range map[string]string{
		"overview": "/", "runs": "/runs?carrier=" + carrierA, "carriers": "/carriers", "carrier": "/carriers/" + carrierC, "audit": "/audit", "events": "/events",
		"diagnosis": "/carriers/" + carrierA + "/monitoring/" + exporter, "resolved": "/runs/run-01", "escalated": "/runs/run-02",
		"draining": "/runs/run-05", "approval": "/runs/run-06", "look": "/runs/run-01?tick=3", "big": "/runs/run-big", "none": "/runs/none", "docs": "/docs",
	} {
		if name == "none" {
			b.allow("404")
		}
		for _, scheme := range []string{"light", "dark"} {
			b.theme(scheme)
			b.do(chromedp.EmulateViewport(1440, 900))
			b.open(path)
			b.until(`document.querySelector("#preferences select")`, "the scripts have run")
			b.accessible(name + ", " + scheme)
			b.shoot(name+"-"+scheme, true)
		}
		b.theme("light")
		b.do(chromedp.EmulateViewport(360, 780, chromedp.EmulateScale(2)))
		b.open(path)
		b.until(`document.querySelector("#preferences select")`, "the scripts have run")
		if wide := eval[int](b, `document.documentElement.scrollWidth`); wide > 360 {
			t.Errorf("%s: %d pixels wide on a screen of 360", name, wide)
		}
		b.shoot(name+"-phone", name == "overview")
	}
}

// accessible runs axe on the page.
func (b *tab) accessible(what string) {
	b.t.Helper()
	eval[bool](b, axe+"; true")
	found := eval[string](b, `axe.run({resultTypes: ["violations"]}).then((r) => JSON.stringify(r.violations.map((v) =>
		({id: v.id, impact: v.impact, nodes: v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160) + " " + n.failureSummary.slice(0, 200))}))))`)
	var violations []struct {
		ID, Impact string
		Nodes      []string
	}
	if err := json.Unmarshal([]byte(found), &violations); err != nil {
		b.t.Fatal(err)
	}
	for _, v := range violations {
		if v.Impact != "serious" && v.Impact != "critical" {
			b.t.Logf("%s: axe finds %s (%s)", what, v.ID, v.Impact)
			continue
		}
		b.t.Errorf("%s: axe finds %s (%s): %s", what, v.ID, v.Impact, strings.Join(v.Nodes, "\n"))
	}
}

// TestHostileTexts: what comes from outside is shown as text, and never wider than the page.
func TestHostileTexts(t *testing.T) {
	h := newHall(t)
	if err := h.makeHostile(); err != nil {
		t.Fatal(err)
	}
	b := h.visit(t, "approver", "/runs/run-hostile")
	b.untilText("<script>alert(1)</script>")
	for _, expression := range []string{
		`document.querySelectorAll("main script, main img, main iframe").length === 0`,
		`[...document.querySelectorAll("main a")].every((a) => a.protocol === "http:" || a.protocol === "https:")`,
		`document.documentElement.scrollWidth <= innerWidth`,
	} {
		if !eval[bool](b, expression) {
			t.Errorf("not so: %s", expression)
		}
	}
	b.open("/runs")
	b.untilText("<script>alert(1)</script>")
}

// TestLive: a run goes on, and its page with it, without a reload; what the reader has opened stays open.
func TestLive(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "viewer", "/runs/run-05")
	b.until(`document.getElementById("live").textContent === "live"`, "it is live")
	eval[bool](b, `window.mark = true; document.querySelector("#readings ~ details summary, details summary").click(); true`)
	h.goOn("run-05", playbook.Verifying, "every expected node has a ready daemon pod again")
	b.until(`document.querySelector(".heading .state").textContent.includes("verifying")`, "the new state")
	b.untilText("every expected node has a ready daemon pod again")
	h.goOn("run-05", playbook.StateResolved, "it soaked")
	b.until(`document.querySelector(".heading .state").textContent.includes("resolved")`, "the end")
	if !eval[bool](b, `window.mark === true && document.querySelector("details[open]") !== null`) {
		t.Error("the page was loaded again, or closed what was open")
	}
	// A finished run reads the same when it is opened from the history.
	told := eval[string](b, `document.querySelector(".lead").textContent`)
	b.open("/runs/run-05")
	if again := eval[string](b, `document.querySelector(".lead").textContent`); again != told {
		t.Errorf("live %q, from the history %q", told, again)
	}
}

// TestOrders: each is asked once, done once, recorded, and shown; a refusal stands beside its button.
func TestOrders(t *testing.T) {
	h := newHall(t)
	viewer := h.visit(t, "viewer", "/runs/run-06")
	viewer.untilText("it takes the role approver")
	if n := eval[int](viewer, `document.querySelectorAll(".order").length`); n != 0 {
		t.Errorf("a viewer sees %d orders", n)
	}
	b := h.visit(t, "approver", "/runs/run-06")
	eval[bool](b, `window.mark = true`)
	b.click("#order-approve summary")
	b.click("#order-approve button")
	b.untilText("the plan was approved by approver")
	b.click("#order-cancel summary")
	b.write("#order-cancel input[name=reason]", "wrong carrier")
	b.click("#order-cancel button")
	b.until(`document.querySelector(".heading .state").textContent.includes("unwinding")`, "it unwinds")
	b.untilText("wrong carrier")
	if !eval[bool](b, `window.mark === true`) {
		t.Error("the page was loaded again")
	}
	b.open("/runs/run-02")
	b.click("#order-retrigger summary")
	b.write("#order-retrigger input[name=reason]", "the image is mended")
	b.click("#order-retrigger button")
	b.until(`location.pathname === "/runs/run-02" ? false : true`, "the new run")
	b.untilText("the image is mended")
	h.setOrderError(api.RunActive("run-05"))
	b.allow("409")
	b.open("/runs/run-01")
	b.click("#order-retrigger summary")
	b.write("#order-retrigger input[name=reason]", "again")
	b.click("#order-retrigger button")
	b.until(`document.querySelector("#order-retrigger .refused")?.textContent.includes("active")`, "the refusal beside its button")
	want := []string{"run.approve run-06 by approver", "run.cancel run-06 by approver"}
	if got := h.given(); len(got) != 3 || got[0] != want[0] || got[1] != want[1] || !strings.HasPrefix(got[2], "run.retrigger") {
		t.Errorf("orders %v", got)
	}
}

// TestFilters: they are in the address, a deep link has them, and going back takes them away.
func TestFilters(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "viewer", "/runs")
	b.write("select[name=finding]", "healthy")
	b.click(".filters button")
	b.until(`location.search === "?finding=healthy"`, "the filter alone is in the address")
	b.until(`document.querySelectorAll("a.row").length === 2`, "two runs")
	b.do(chromedp.NavigateBack())
	b.until(`location.search === "" && document.querySelectorAll("a.row").length > 2`, "all runs")
	b.open("/runs?outcome=escalated&carrier=" + carrierC)
	b.until(`document.querySelectorAll("a.row").length === 1`, "the deep link")
	// With keys alone.
	b.do(chromedp.KeyEvent("j"))
	b.until(`document.activeElement.matches("a.row")`, "j goes to a run")
	b.do(chromedp.KeyEvent("\r"))
	b.until(`location.pathname === "/runs/run-02"`, "Enter opens it")
	b.until(`document.querySelector("#preferences select")`, "the scripts have run")
	b.do(chromedp.KeyEvent("?"))
	b.until(`document.getElementById("keys")?.open`, "the keys' help")
}

// TestSession: logging out, a token that expires under an open page, and the way back to where one was.
func TestSession(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "viewer", "/runs/run-05?tick=2")
	b.until(`location.search === "?tick=2"`, "the deep link is kept through the login")
	b.open("/runs/run-05")
	b.allow("401")
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.ClearBrowserCookies, cdp.Empty{})
		return err
	}))
	h.goOn("run-05", playbook.Draining, "it goes on")
	b.until(`!document.getElementById("trouble").hidden && document.getElementById("trouble").textContent.includes("session has ended")`, "it says that the session has ended")
	b.click("#trouble a")
	b.until(`location.pathname === "/login"`, "the login")
	b.write("#token", "tok-viewer")
	b.click(`form[action="/login"] button`)
	b.until(`location.pathname === "/runs/run-05"`, "back where it was")
	b.click(`form[action="/logout"] button`)
	b.until(`location.pathname === "/login"`, "logged out")
	b.open("/runs")
	b.until(`location.pathname === "/login"`, "still logged out")
}

// TestDeadServer: a page whose server is away says so, and goes on when it is back.
func TestDeadServer(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "viewer", "/runs/run-05")
	b.until(`document.getElementById("live").textContent === "live"`, "it is live")
	b.allow("ERR_", "status of 4", "status of 5")
	address := h.server.Listener.Addr().String()
	h.server.CloseClientConnections()
	h.server.Listener.Close()
	h.server.CloseClientConnections()
	b.until(`document.getElementById("trouble").textContent.includes("does not answer")`, "it says that the server does not answer")
	h.goOn("run-05", playbook.Verifying, "done while nobody listened")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := h.handler()
	if err != nil {
		t.Fatal(err)
	}
	again := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
	again.Start()
	t.Cleanup(again.Close)
	b.untilText("done while nobody listened")
	b.until(`document.getElementById("trouble").hidden`, "the trouble is over")
}

// TestFigures measures what a page costs. They are printed; only their own sizes are judged, which do not hang on the machine.
func TestFigures(t *testing.T) {
	h := newHall(t)
	h.addBig(5000)
	b := h.visit(t, "approver", "/")
	for _, path := range []string{"/", "/runs/run-01", "/runs/run-big"} {
		b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, network.ClearBrowserCache, cdp.Empty{})
			return err
		}))
		b.takeBytes()
		b.open(path)
		b.until(`document.querySelector("#preferences select")`, "the scripts have run")
		const timing = `(() => { const n = performance.getEntriesByType("navigation")[0]; return [n.responseEnd, n.domInteractive, n.domContentLoadedEventEnd,
			performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0].map((x) => Math.round(x)); })()`
		got := eval[[]int](b, timing)
		draw := eval[float64](b, `(() => { const m = document.querySelector("svg.nodes"); if (!m) return 0; const t = performance.now(); const c = m.cloneNode(true);
			m.replaceWith(c); c.getBoundingClientRect(); return performance.now() - t; })()`)
		size := b.takeBytes()
		t.Logf("%s: %.1f KiB over the network, answered after %d ms, interactive after %d ms, scripts done after %d ms, first paint after %d ms, node map %.1f ms",
			path, size/1024, got[0], got[1], got[2], got[3], draw)
		if path == "/" && size > 100*1024 {
			t.Errorf("the first page has %.1f KiB", size/1024)
		}
	}
}
