package web

import (
	"context"
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
	"github.com/drydock/drydock/testbed/browser"
)

// hall is the gallery, served, with one browser for all tests of a file.
type hall struct {
	*Gallery
	server *httptest.Server
	chrome context.Context
}

func newHall(t *testing.T) *hall {
	t.Helper()
	g, err := NewGallery(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	handler, err := g.Handler(nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &hall{Gallery: g, server: httptest.NewServer(handler), chrome: browser.Start(t)}
	t.Cleanup(func() { h.server.Close() })
	return h
}

// visit logs in as a role and goes to a page.
func (h *hall) visit(t *testing.T, role, path string) *browser.Tab {
	t.Helper()
	b := browser.NewTab(t, h.chrome, h.server.URL)
	// The nights end a little later than now; ages are told from their end.
	b.Do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: fmt.Sprintf("{ const real = Date.now, past = real() - %d; Date.now = () => real() - past; }", h.clock().UnixMilli()),
		})
		return err
	}))
	b.Login("tok-"+role, path)
	return b
}

// TestPages opens every page in light, dark and on a phone: nothing serious for axe, nothing wider than the screen, a picture of each.
func TestPages(t *testing.T) {
	h := newHall(t)
	h.AddBig(5000)
	b := h.visit(t, "approver", "/")
	for name, path := range map[string]string{
		"overview": "/", "runs": "/runs?carrier=" + carrierA, "carriers": "/carriers", "carrier": "/carriers/" + carrierC, "audit": "/audit", "events": "/events",
		"diagnosis": "/carriers/" + carrierA + "/monitoring/" + exporter, "resolved": "/runs/run-01", "escalated": "/runs/run-02",
		"draining": "/runs/run-05", "approval": "/runs/run-06", "look": "/runs/run-01?tick=3", "big": "/runs/run-big", "none": "/runs/none", "docs": "/docs",
	} {
		if name == "none" {
			b.Allow("404")
		}
		for _, scheme := range []string{"light", "dark"} {
			b.Theme(scheme)
			b.Do(chromedp.EmulateViewport(1440, 900))
			b.Open(path)
			b.Until(`document.querySelector("#preferences select")`, "the scripts have run")
			b.Accessible(name + ", " + scheme)
			b.Shoot(name+"-"+scheme, true)
		}
		b.Theme("light")
		b.Do(chromedp.EmulateViewport(360, 780, chromedp.EmulateScale(2)))
		b.Open(path)
		b.Until(`document.querySelector("#preferences select")`, "the scripts have run")
		if wide := browser.Eval[int](b, `document.documentElement.scrollWidth`); wide > 360 {
			t.Errorf("%s: %d pixels wide on a screen of 360", name, wide)
		}
		b.Shoot(name+"-phone", name == "overview")
	}
}

// TestHostileTexts: what comes from outside is shown as text, and never wider than the page.
func TestHostileTexts(t *testing.T) {
	h := newHall(t)
	if err := h.makeHostile(); err != nil {
		t.Fatal(err)
	}
	b := h.visit(t, "approver", "/runs/run-hostile")
	b.UntilText("<script>alert(1)</script>")
	for _, expression := range []string{
		`document.querySelectorAll("main script, main img, main iframe").length === 0`,
		`[...document.querySelectorAll("main a")].every((a) => a.protocol === "http:" || a.protocol === "https:")`,
		`document.documentElement.scrollWidth <= innerWidth`,
	} {
		if !browser.Eval[bool](b, expression) {
			t.Errorf("not so: %s", expression)
		}
	}
	b.Open("/runs")
	b.UntilText("<script>alert(1)</script>")
}

// TestLive: a run goes on, and its page with it, without a reload; what the reader has opened stays open.
func TestLive(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "viewer", "/runs/run-05")
	b.Until(`document.getElementById("live").textContent === "live"`, "it is live")
	browser.Eval[bool](b, `window.mark = true; document.querySelector("#readings ~ details summary, details summary").click(); true`)
	h.goOn("run-05", playbook.Verifying, "every expected node has a ready daemon pod again")
	b.Until(`document.querySelector(".heading .state").textContent.includes("verifying")`, "the new state")
	b.UntilText("every expected node has a ready daemon pod again")
	h.goOn("run-05", playbook.StateResolved, "it soaked")
	b.Until(`document.querySelector(".heading .state").textContent.includes("resolved")`, "the end")
	if !browser.Eval[bool](b, `window.mark === true && document.querySelector("details[open]") !== null`) {
		t.Error("the page was loaded again, or closed what was open")
	}
	// A finished run reads the same when it is opened from the history.
	told := browser.Eval[string](b, `document.querySelector(".lead").textContent`)
	b.Open("/runs/run-05")
	if again := browser.Eval[string](b, `document.querySelector(".lead").textContent`); again != told {
		t.Errorf("live %q, from the history %q", told, again)
	}
}

// TestOrders: each is asked once, done once, recorded, and shown; a refusal stands beside its button.
func TestOrders(t *testing.T) {
	h := newHall(t)
	viewer := h.visit(t, "viewer", "/runs/run-06")
	viewer.UntilText("it takes the role approver")
	if n := browser.Eval[int](viewer, `document.querySelectorAll(".order").length`); n != 0 {
		t.Errorf("a viewer sees %d orders", n)
	}
	b := h.visit(t, "approver", "/runs/run-06")
	browser.Eval[bool](b, `window.mark = true`)
	b.Click("#order-approve summary")
	b.Click("#order-approve button")
	b.UntilText("the plan was approved by approver")
	b.Click("#order-cancel summary")
	b.Write("#order-cancel input[name=reason]", "wrong carrier")
	b.Click("#order-cancel button")
	b.Until(`document.querySelector(".heading .state").textContent.includes("unwinding")`, "it unwinds")
	b.UntilText("wrong carrier")
	if !browser.Eval[bool](b, `window.mark === true`) {
		t.Error("the page was loaded again")
	}
	b.Open("/runs/run-02")
	b.Click("#order-retrigger summary")
	b.Write("#order-retrigger input[name=reason]", "the image is mended")
	b.Click("#order-retrigger button")
	b.Until(`location.pathname === "/runs/run-02" ? false : true`, "the new run")
	b.UntilText("the image is mended")
	h.setOrderError(api.RunActive("run-05"))
	b.Allow("409")
	b.Open("/runs/run-01")
	b.Click("#order-retrigger summary")
	b.Write("#order-retrigger input[name=reason]", "again")
	b.Click("#order-retrigger button")
	b.Until(`document.querySelector("#order-retrigger .refused")?.textContent.includes("active")`, "the refusal beside its button")
	want := []string{"run.approve run-06 by approver", "run.cancel run-06 by approver"}
	if got := h.given(); len(got) != 3 || got[0] != want[0] || got[1] != want[1] || !strings.HasPrefix(got[2], "run.retrigger") {
		t.Errorf("orders %v", got)
	}
}

// TestFilters: they are in the address, a deep link has them, and going back takes them away.
func TestFilters(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "viewer", "/runs")
	b.Write("select[name=finding]", "healthy")
	b.Click(".filters button")
	b.Until(`location.search === "?finding=healthy"`, "the filter alone is in the address")
	b.Until(`document.querySelectorAll("a.row").length === 2`, "two runs")
	b.Do(chromedp.NavigateBack())
	b.Until(`location.search === "" && document.querySelectorAll("a.row").length > 2`, "all runs")
	b.Open("/runs?outcome=escalated&carrier=" + carrierC)
	b.Until(`document.querySelectorAll("a.row").length === 1`, "the deep link")
	// With keys alone.
	b.Do(chromedp.KeyEvent("j"))
	b.Until(`document.activeElement.matches("a.row")`, "j goes to a run")
	b.Do(chromedp.KeyEvent("\r"))
	b.Until(`location.pathname === "/runs/run-02"`, "Enter opens it")
	b.Until(`document.querySelector("#preferences select")`, "the scripts have run")
	b.Do(chromedp.KeyEvent("?"))
	b.Until(`document.getElementById("keys")?.open`, "the keys' help")
}

// TestSession: logging out, a token that expires under an open page, and the way back to where one was.
func TestSession(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "viewer", "/runs/run-05?tick=2")
	b.Until(`location.search === "?tick=2"`, "the deep link is kept through the login")
	b.Open("/runs/run-05")
	b.Allow("401")
	b.Do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.ClearBrowserCookies, cdp.Empty{})
		return err
	}))
	h.goOn("run-05", playbook.Draining, "it goes on")
	b.Until(`!document.getElementById("trouble").hidden && document.getElementById("trouble").textContent.includes("session has ended")`, "it says that the session has ended")
	b.Click("#trouble a")
	b.Until(`location.pathname === "/login"`, "the login")
	b.Write("#token", "tok-viewer")
	b.Click(`form[action="/login"] button`)
	b.Until(`location.pathname === "/runs/run-05"`, "back where it was")
	b.Click(`form[action="/logout"] button`)
	b.Until(`location.pathname === "/login"`, "logged out")
	b.Open("/runs")
	b.Until(`location.pathname === "/login"`, "still logged out")
}

// TestDeadServer: a page whose server is away says so, and goes on when it is back.
func TestDeadServer(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "viewer", "/runs/run-05")
	b.Until(`document.getElementById("live").textContent === "live"`, "it is live")
	b.Allow("ERR_", "status of 4", "status of 5")
	address := h.server.Listener.Addr().String()
	h.server.CloseClientConnections()
	h.server.Listener.Close()
	h.server.CloseClientConnections()
	b.Until(`document.getElementById("trouble").textContent.includes("does not answer")`, "it says that the server does not answer")
	h.goOn("run-05", playbook.Verifying, "done while nobody listened")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := h.Handler(nil)
	if err != nil {
		t.Fatal(err)
	}
	again := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
	again.Start()
	t.Cleanup(again.Close)
	b.UntilText("done while nobody listened")
	b.Until(`document.getElementById("trouble").hidden`, "the trouble is over")
}

// TestFigures measures what a page costs. They are printed; only their own sizes are judged, which do not hang on the machine.
func TestFigures(t *testing.T) {
	h := newHall(t)
	h.AddBig(5000)
	b := h.visit(t, "approver", "/")
	for _, path := range []string{"/", "/runs/run-01", "/runs/run-big"} {
		b.Do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
			_, err := cdp.Call(ctx, target, network.ClearBrowserCache, cdp.Empty{})
			return err
		}))
		b.TakeBytes()
		b.Open(path)
		b.Until(`document.querySelector("#preferences select")`, "the scripts have run")
		const timing = `(() => { const n = performance.getEntriesByType("navigation")[0]; return [n.responseEnd, n.domInteractive, n.domContentLoadedEventEnd,
			performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0].map((x) => Math.round(x)); })()`
		got := browser.Eval[[]int](b, timing)
		draw := browser.Eval[float64](b, `(() => { const m = document.querySelector("svg.nodes"); if (!m) return 0; const t = performance.now(); const c = m.cloneNode(true);
			m.replaceWith(c); c.getBoundingClientRect(); return performance.now() - t; })()`)
		size := b.TakeBytes()
		t.Logf("%s: %.1f KiB over the network, answered after %d ms, interactive after %d ms, scripts done after %d ms, first paint after %d ms, node map %.1f ms",
			path, size/1024, got[0], got[1], got[2], got[3], draw)
		if path == "/" && size > 100*1024 {
			t.Errorf("the first page has %.1f KiB", size/1024)
		}
	}
}
