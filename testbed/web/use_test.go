package web

import (
	"context"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/testbed/browser"
)

// reachable are the elements of a page that do something, as far as they are seen.
const reachable = `[...document.querySelectorAll("a[href], button, summary, select, input:not([type=hidden]), [tabindex='0']")].filter((e) => e.checkVisibility())`

// TestKeyboard: with the Tab key alone every link, button and field of a page is reached, and it is seen where one is.
func TestKeyboard(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "approver", "/")
	for _, path := range []string{"/", "/runs", "/runs/run-02", "/runs/run-06", "/carriers/" + carrierC} {
		b.Open(path)
		b.Until(`document.querySelector("#preferences select")`, "the scripts have run")
		n := browser.Eval[int](b, `window.met = new Set(), window.unseen = [], document.addEventListener("focusin", (event) => {
			met.add(event.target);
			if (getComputedStyle(event.target).outlineStyle === "none") unseen.push(event.target.outerHTML.slice(0, 120));
		}), `+reachable+`.length`)
		for range n + 5 { // a page may show something more meanwhile
			b.Do(chromedp.KeyEvent("\t"))
		}
		if missed := browser.Eval[[]string](b, reachable+`.filter((e) => !met.has(e)).map((e) => e.outerHTML.slice(0, 120))`); len(missed) > 0 {
			t.Errorf("%s: not reached with Tab: %q", path, missed)
		}
		if unseen := browser.Eval[[]string](b, `unseen`); len(unseen) > 0 {
			t.Errorf("%s: focused, and not seen to be: %q", path, unseen)
		}
	}
}

// TestSigns: no state is told by its colour alone: each has a sign and a word, and each cell of the map that is not well a letter.
func TestSigns(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "approver", "/")
	for _, path := range []string{"/", "/runs", "/runs/run-02", "/runs/run-06", "/carriers"} {
		b.Open(path)
		if !browser.Eval[bool](b, `(() => { const all = [...document.querySelectorAll(".state")];
			return all.length > 0 && all.every((s) => s.querySelector(".sign") && s.textContent.trim().length > 2); })()`) {
			t.Errorf("%s has a state without a sign or a word", path)
		}
	}
	b.Open("/runs/run-06")
	if !browser.Eval[bool](b, `[...document.querySelectorAll("svg.nodes text")].some((x) => x.textContent === "F")`) {
		t.Error("the full node has no letter on the map")
	}
}

// TestWithoutScripts: lists, filters, a run with its picture, and orders work where scripts are off.
func TestWithoutScripts(t *testing.T) {
	h := newHall(t)
	b := browser.NewTab(t, h.chrome, h.server.URL)
	b.Do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
	b.Login("tok-approver", "/runs/run-06")
	if browser.Eval[bool](b, `document.querySelector("#preferences select") !== null`) {
		t.Fatal("a script has run")
	}
	for _, part := range []string{"svg.machine .now", "svg.nodes", ".timeline li", ".note pre", ".plan li", "#order-approve"} {
		if !browser.Eval[bool](b, `document.querySelector("`+part+`") !== null`) {
			t.Errorf("without scripts a run has no %s", part)
		}
	}
	b.UntilText("UTC") // a time without a script says its zone
	b.Click("#order-approve button")
	b.UntilText("the plan was approved by approver")
	b.Open("/runs")
	b.Write("select[name=finding]", "healthy")
	b.Click(".filters button")
	b.Until(`location.search === "?finding=healthy" && document.querySelectorAll("a.row").length === 2`, "the filter")
}

// TestTimes: ages, the whole time in UTC where the pointer is, and a switch between the reader's zone and UTC, which is kept.
func TestTimes(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "viewer", "/runs/run-01")
	b.Until(`document.querySelector("#preferences select")`, "the scripts have run")
	const began = `document.querySelector(".facts time")`
	if !browser.Eval[bool](b, `(() => { const t = `+began+`, d = new Date(t.dateTime); const two = (n) => String(n).padStart(2, "0");
		return t.title.startsWith(d.toISOString().slice(0, 19).replace("T", " ") + " UTC (shown in ") &&
			t.textContent.includes(two((d.getUTCHours() + 1) % 24) + ":" + two(d.getUTCMinutes())); })()`) { // Berlin, in winter
		t.Errorf("a time reads %q", browser.Eval[string](b, began+`.textContent + " / " + `+began+`.title`))
	}
	utc := `(() => { const t = ` + began + `; return t.textContent.includes(t.dateTime.slice(11, 16)) && !t.title.includes("shown in"); })()`
	browser.Eval[bool](b, `(() => { const s = [...document.querySelectorAll("#preferences label")].find((l) => l.textContent.includes("Times")).querySelector("select");
		s.value = "utc"; s.dispatchEvent(new Event("change")); return true; })()`)
	b.Until(utc, "times in UTC")
	b.Open("/runs/run-01")
	b.Until(`document.querySelector("#preferences select") && `+utc, "still in UTC")
	b.Open("/runs")
	b.Until(`[...document.querySelectorAll("a.row")].every((a) => / ago$/.test(a.closest("tr").querySelector("time").textContent))`, "ages in the list")
}

// TestPause: a page that is paused stands still, says so, and catches up.
func TestPause(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "viewer", "/runs/run-05")
	b.Until(`document.getElementById("live").textContent === "live"`, "it is live")
	b.Click("#pause")
	b.Until(`document.getElementById("live").textContent === "paused"`, "it is paused")
	h.goOn("run-05", playbook.Verifying, "while nobody looked")
	other := h.visit(t, "viewer", "/runs/run-05")
	other.UntilText("while nobody looked")
	if browser.Eval[bool](b, `document.body.innerText.includes("while nobody looked")`) {
		t.Error("a paused page went on")
	}
	b.Click("#pause")
	b.UntilText("while nobody looked")
}

// TestKillSwitch: one press, with a reason, and every page of everybody says so until it is released.
func TestKillSwitch(t *testing.T) {
	h := newHall(t)
	viewer := h.visit(t, "viewer", "/runs")
	b := h.visit(t, "operator", "/")
	b.Click("details.order summary")
	b.Write(`form[action="/kill-switch"] input[name=reason]`, "the network is being rebuilt")
	b.Click(`form[action="/kill-switch"] button`)
	b.Until(`document.querySelector("p.banner strong")?.textContent.includes("kill switch is engaged")`, "the banner")
	viewer.UntilText("the network is being rebuilt") // without a reload
	b.Open("/audit")
	b.UntilText("the network is being rebuilt")
	b.Open("/")
	b.Click("details.order summary")
	b.Write(`form[action="/kill-switch"] input[name=reason]`, "it is done")
	b.Click(`form[action="/kill-switch"] button`)
	b.Until(`![...document.querySelectorAll("body > p.banner")].some((p) => p.checkVisibility())`, "no banner")
	viewer.Until(`![...document.querySelectorAll("body > p.banner")].some((p) => p.checkVisibility())`, "none on the open page")
}

// TestCopy: ids and ready command lines are copied by a button.
func TestCopy(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "viewer", "/runs/run-01")
	b.Until(`document.querySelector("#preferences select") && [...document.querySelectorAll("button.copy")].every((c) => !c.hidden)`, "the buttons")
	copied := browser.Eval[[]string](b, `(async () => { const said = []; navigator.clipboard.writeText = async (text) => { said.push(text); };
		for (const c of document.querySelectorAll("button.copy")) c.click(); await new Promise((done) => setTimeout(done)); return said; })()`)
	want := []string{"run-01", "drydock diagnose " + carrierA + " " + exporter + " -n monitoring", "drydock runs get run-01", h.server.URL + "/api/v1/runs/run-01"}
	for i, text := range want {
		if i >= len(copied) || copied[i] != text {
			t.Errorf("copied %q, want %q", copied, want)
			break
		}
	}
}
