package web

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
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// patience bounds how long a page may take to become as it should.
const patience = 20 * time.Second

// chromium starts a browser, which lives as long as the test.
func chromium(t *testing.T) context.Context {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("lang", "en-GB"), chromedp.Flag("force-color-profile", "srgb"), chromedp.Env("TZ=Europe/Berlin"))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start Chromium: %v (make test installs it)", err)
	}
	return ctx
}

// tab is a page of the browser, with cookies of its own. What no page may do fails the test: an exception, a violation of the content
// security policy, a request to anywhere but its server.
type tab struct {
	t      *testing.T
	ctx    context.Context
	origin string

	mu      sync.Mutex
	wrong   []string
	allowed []string // parts of messages that this test provokes
	bytes   float64  // what came over the network
}

func newTab(t *testing.T, browser context.Context, origin string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	b := &tab{t: t, ctx: ctx, origin: origin}
	t.Cleanup(func() {
		b.clean()
		cancel()
	})
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.EmulateViewport(1440, 900))
	return b
}

// hear collects what went wrong on the page.
func (b *tab) hear(event any) {
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
func (b *tab) clean() {
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

// takeBytes is what came over the network since it was asked last.
func (b *tab) takeBytes() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.bytes
	b.bytes = 0
	return n
}

// allow names what this test provokes.
func (b *tab) allow(parts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = append(b.allowed, parts...)
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatalf("%v\nthe page: %s", err, b.words())
	}
}

// words is the page's text, for messages.
func (b *tab) words() string {
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`location.href + "\n" + (document.body ? document.body.innerText.slice(0, 1500) : "")`))
	if err != nil {
		return err.Error()
	}
	return text
}

func (b *tab) open(path string) { b.t.Helper(); b.do(chromedp.Navigate(b.origin + path)) }

// login logs in by the form.
func (b *tab) login(token, next string) {
	b.t.Helper()
	b.open("/login?next=" + url.QueryEscape(next))
	b.write("#token", token)
	b.click(`form[action="/login"] button`)
	b.until(`location.pathname !== "/login"`, "logged in")
}

// click clicks an element, as the page has it at that moment: a live page may put another in its place at any time.
func (b *tab) click(selector string) {
	b.t.Helper()
	// Before a page is complete, where a click leads to would take its place in the history.
	b.until("document.readyState === 'complete' && document.querySelector("+quote(selector)+")", selector+" is there")
	eval[bool](b, "document.querySelector("+quote(selector)+").click(), true")
}

// write fills in a field.
func (b *tab) write(selector, text string) {
	b.t.Helper()
	b.until("document.querySelector("+quote(selector)+")", selector+" is there")
	eval[bool](b, "((field) => { field.focus(); field.value = "+quote(text)+"; return true; })(document.querySelector("+quote(selector)+"))")
}

// until waits for a condition on the page.
func (b *tab) until(expression, what string) {
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

// untilText waits for a text anywhere on the page.
func (b *tab) untilText(text string) {
	b.t.Helper()
	b.until("document.body.innerText.includes("+quote(text)+")", "the page says "+text)
}

func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string
	}
	return string(text)
}

func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// theme makes the page light or dark.
func (b *tab) theme(scheme string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	}))
}

// shots is where the pictures go: the test's own directory, or WEB_SHOTS.
func shots(t *testing.T) string {
	if dir := os.Getenv("WEB_SHOTS"); dir != "" {
		return dir
	}
	return t.ArtifactDir()
}

// shoot makes a picture of the whole page, or of what is seen of it.
func (b *tab) shoot(name string, whole bool) {
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
