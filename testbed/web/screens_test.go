package web

import (
	"bytes"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/drydock/drydock/testbed/browser"
)

// screens are sizes in CSS pixels. At a zoom of 400 % a screen of 1280 by 1024 has 320 by 256 left (WCAG 2.2, 1.4.10).
var screens = []struct {
	name          string
	width, height int64
	scale         float64
}{
	{"zoom", 320, 256, 4},
	{"phone", 360, 780, 2},
	{"laptop", 1440, 900, 1},
	{"4k", 3840, 2160, 1},
}

// TestScreens: from a zoom of 400 % to 4K nothing is wider than the screen, and the page says the same on each.
func TestScreens(t *testing.T) {
	h := newHall(t)
	h.AddBig(5000)
	b := h.visit(t, "approver", "/")
	said := map[string]string{}
	for _, screen := range screens {
		b.Do(chromedp.EmulateViewport(screen.width, screen.height, chromedp.EmulateScale(screen.scale)))
		for name, path := range map[string]string{
			"overview": "/", "runs": "/runs", "run": "/runs/run-01", "approval": "/runs/run-06", "big": "/runs/run-big", "carrier": "/carriers/" + carrierC, "audit": "/audit", "docs": "/docs",
		} {
			b.Open(path)
			b.Until(`document.querySelector("#preferences select")`, "the scripts have run")
			if wide := browser.Eval[int64](b, `document.documentElement.scrollWidth`); wide > screen.width {
				t.Errorf("%s: %d pixels wide on a screen of %d", name, wide, screen.width)
			}
			if screen.name == "4k" || screen.name == "zoom" || screen.name == "phone" && name == "run" {
				b.Shoot(name+"-"+screen.name, screen.name == "phone")
			}
			if name != "run" && name != "docs" {
				continue // ages and durations go on
			}
			text := browser.Eval[string](b, `document.querySelector("main").innerText.replace(/\s+/g, " ")`)
			if before, ok := said[name]; ok && text != before {
				t.Errorf("%s says something else on a screen of %d pixels:\n%s\nand before:\n%s", name, screen.width, text, before)
			}
			said[name] = text
		}
	}
	// On the largest screen letters are larger too, and most of its width is used.
	b.Open("/runs/run-01")
	if got := browser.Eval[[]float64](b, `[parseFloat(getComputedStyle(document.body).fontSize), document.querySelector("main").offsetWidth]`); got[0] < 20 || got[1] < 2200 {
		t.Errorf("on 4K letters are %v pixels, and the page %v wide", got[0], got[1])
	}
}

// TestPaper: a printed run is a report: nothing on it can be pressed, nothing is cut or folded.
func TestPaper(t *testing.T) {
	h := newHall(t)
	b := h.visit(t, "approver", "/runs/run-02")
	for _, run := range []string{"run-01", "run-02", "run-06"} {
		b.Open("/runs/" + run)
		b.Until(`document.querySelector("#preferences select")`, "the scripts have run")
		b.Paper()
		for what, expression := range map[string]string{
			"nothing to press":          `![...document.querySelectorAll("button, form, nav, select, summary.primary")].some((e) => e.checkVisibility())`,
			"the summary":               `document.querySelector(".lead").checkVisibility()`,
			"the machine":               `document.querySelector("svg.machine").checkVisibility()`,
			"the whole timeline":        `(() => { const t = document.querySelector(".timeline"); return t.checkVisibility() && t.scrollHeight <= t.clientHeight + 2; })()`,
			"the note":                  `document.querySelector(".note pre").checkVisibility()`,
			"nothing beyond the margin": `[...document.querySelectorAll("main .scroll")].every((e) => e.scrollWidth <= e.clientWidth + 1)`,
			"dark letters":              `getComputedStyle(document.body).color === "rgb(20, 32, 43)"`,
		} {
			if !browser.Eval[bool](b, expression) {
				t.Errorf("%s on paper: not so: %s", run, what)
			}
		}
		document := b.Print("paper-" + run)
		pages := bytes.Count(document, []byte("/Type /Page\n")) + bytes.Count(document, []byte("/Type /Page ")) + bytes.Count(document, []byte("/Type/Page/"))
		if !bytes.HasPrefix(document, []byte("%PDF")) || pages > 8 {
			t.Errorf("%s: %d bytes on %d pages", run, len(document), pages)
		}
		b.Theme("light")
	}
}
