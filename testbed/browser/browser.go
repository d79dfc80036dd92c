// Package browser drives a real, headless Chromium, for tests of the dashboard's pages. What no page may do fails the test that
// opened it: an exception, a violation of the content security policy, a request to anywhere but its server.
package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds how long a page may take to become as it should.
const patience = 20 * time.Second

// Options are how Chromium is started: alike on every machine.
func Options() []chromedp.ExecAllocatorOption {
	return append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("lang", "en-GB"), chromedp.Flag("force-color-profile", "srgb"), chromedp.Env("TZ=Europe/Berlin"))
}

// Start starts a browser, which lives as long as the test.
func Start(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), Options()...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v (make test installs it)", err)
	}
	return ctx
}

// Tab is a page of the browser, with cookies of its own. What no page may do fails the test: an exception, a violation of the content
// security policy, a request to anywhere but its server.
type Tab struct {
	t      testing.TB
	ctx    context.Context
	origin string

	mu      sync.Mutex
	wrong   []string
	allowed []string // parts of messages that this test provokes
	bytes   float64  // what came over the network
}

// NewTab opens a tab for the pages of one server, at its origin.
func NewTab(t testing.TB, browser context.Context, origin string) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	b := &Tab{t: t, ctx: ctx, origin: origin}
	t.Cleanup(func() {
		b.clean()
		cancel()
	})
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	b.Do(chromedp.EmulateViewport(1440, 900))
	return b
}

// hear collects what went wrong on the page.
func (b *Tab) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.wrong = append(b.wrong, "exception: "+e.ExceptionDetails.Text+" "+describe(e.ExceptionDetails))
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Source == log.EntrySourceSecurity {
			b.wrong = append(b.wrong, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.origin+"/") && !strings.HasPrefix(e.Request.URL, "data:") {
			b.wrong = append(b.wrong, "a request left the origin: "+e.Request.URL)
		}
	case *network.EventLoadingFinished:
		b.bytes += e.EncodedDataLength
	}
}

func describe(d *runtime.ExceptionDetails) string {
	if d.Exception != nil && d.Exception.Description != "" {
		return d.Exception.Description
	}
	return ""
}

// clean fails the test for what went wrong.
func (b *Tab) clean() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.wrong {
		meant := false
		for _, part := range b.allowed {
			meant = meant || strings.Contains(w, part)
		}
		if !meant {
			b.t.Errorf("on the page: %s", w)
		}
	}
	b.wrong = nil
}

// TakeBytes is what came over the network since it was asked last.
func (b *Tab) TakeBytes() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.bytes
	b.bytes = 0
	return n
}

// Allow names what this test provokes.
func (b *Tab) Allow(parts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = append(b.allowed, parts...)
}

// Do carries out steps of chromedp.
func (b *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%v\nthe page: %s", err, b.words())
	}
}

// words is the page's text, for messages.
func (b *Tab) words() string {
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`location.href + "\n" + (document.body ? document.body.innerText.slice(0, 1500) : "")`))
	if err != nil {
		return err.Error()
	}
	return text
}

// Open goes to a page of the server.
func (b *Tab) Open(path string) { b.t.Helper(); b.Do(chromedp.Navigate(b.origin + path)) }

// Login logs in by the form.
func (b *Tab) Login(token, next string) {
	b.t.Helper()
	b.Open("/login?next=" + url.QueryEscape(next))
	b.Write("#token", token)
	b.Click(`form[action="/login"] button`)
	b.Until(`location.pathname !== "/login"`, "logged in")
}

// Click clicks an element, as the page has it at that moment: a live page may put another in its place at any time.
func (b *Tab) Click(selector string) {
	b.t.Helper()
	// Before a page is complete, where a click leads to would take its place in the history.
	b.Until("document.readyState === 'complete' && document.querySelector("+quote(selector)+")", selector+" is there")
	Eval[bool](b, "document.querySelector("+quote(selector)+").click(), true")
}

// Write fills in a field.
func (b *Tab) Write(selector, text string) {
	b.t.Helper()
	b.Until("document.querySelector("+quote(selector)+")", selector+" is there")
	Eval[bool](b, "((field) => { field.focus(); field.value = "+quote(text)+"; return true; })(document.querySelector("+quote(selector)+"))")
}

// Until waits for a condition on the page.
func (b *Tab) Until(expression, what string) { b.t.Helper(); b.Await(patience, expression, what) }

// Await waits for a condition that may take as long as what the page tells about.
func (b *Tab) Await(patience time.Duration, expression, what string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			b.t.Fatalf("not in %v: %s (%s): %v\nthe page: %s", patience, what, expression, err, b.words())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// UntilText waits for a text anywhere on the page.
func (b *Tab) UntilText(text string) {
	b.t.Helper()
	b.Until("document.body.innerText.includes("+quote(text)+")", "the page says "+text)
}

func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string
	}
	return string(text)
}

// Eval is the value of an expression on the page; a promise is waited for.
func Eval[T any](b *Tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Theme makes the page light or dark.
func (b *Tab) Theme(scheme string) { b.t.Helper(); b.emulate("", scheme) }

// Paper shows the page as it is printed.
func (b *Tab) Paper() { b.t.Helper(); b.emulate("print", "light") }

func (b *Tab) emulate(media, scheme string) {
	b.t.Helper()
	b.Do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Media: media, Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	}))
}

// Print prints the page on A4, keeps the document beside the pictures, and returns it.
func (b *Tab) Print(name string) []byte {
	b.t.Helper()
	var document []byte
	b.Do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		printed, err := cdp.Call(ctx, target, page.PrintToPDF, page.PrintToPDFParams{PaperWidth: 8.27, PaperHeight: 11.69, PreferCSSPageSize: new(true)})
		if err != nil {
			return err
		}
		document = printed.Data
		return os.WriteFile(filepath.Join(shots(b.t), name+".pdf"), document, 0o600)
	}))
	return document
}

// shots is where the pictures go: the test's own directory, or WEB_SHOTS.
func shots(t testing.TB) string {
	if dir := os.Getenv("WEB_SHOTS"); dir != "" {
		return dir
	}
	return t.ArtifactDir()
}

// Shoot makes a picture of the whole page, or of what is seen of it.
func (b *Tab) Shoot(name string, whole bool) {
	b.t.Helper()
	action := chromedp.CaptureScreenshot()
	if whole {
		action = chromedp.FullScreenshot(100)
	}
	picture, err := chromedp.Run(b.ctx, action)
	if err == nil {
		err = os.WriteFile(filepath.Join(shots(b.t), name+".png"), picture, 0o600)
	}
	if err != nil {
		b.t.Fatalf("make picture %s: %v", name, err)
	}
}
