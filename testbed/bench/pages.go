package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/drydock/drydock/testbed/browser"
	"github.com/drydock/drydock/testbed/web"
)

// pagesResult is what Chromium measures of the dashboard's pages on loopback, with the server in this process and without a database, in
// turns with a page that is empty. A page is interactive when its scripts have run.
type pagesResult struct {
	FirstBytes  float64                    `json:"first_page_bytes"` // with an empty cache, over the network
	Interactive map[string][]time.Duration `json:"interactive_ns"`
	Map         []time.Duration            `json:"map_drawn_ns"`
}

const (
	emptyPage = "/empty"
	bigRun    = "/runs/run-big"
	mapNodes  = 5000
)

// pagesMeasured are in the order of the table.
var pagesMeasured = []struct{ what, path string }{
	{"Overview interactive", "/"}, {"Runs interactive", "/runs"}, {"Run interactive", "/runs/run-01"}, {"Run with 5,000 nodes interactive", bigRun},
}

func measurePages(ctx context.Context, b *bench) ([]row, any, error) {
	r, err := openPages(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	rows := []row{{what: "Dashboard's first page, over the network", drydock: fmt.Sprintf("%.1f KiB", r.FirstBytes/1024), goal: "< 100 KiB"}}
	empty := median(r.Interactive[emptyPage])
	for _, m := range pagesMeasured {
		took := median(r.Interactive[m.path])
		rows = append(rows, row{what: m.what, drydock: short(took), limit: "an empty page: " + short(empty), ratio: ratio(took, empty), goal: "< 300 ms"})
	}
	return append(rows, row{what: "Map of 5,000 nodes drawn", drydock: short(median(r.Map)), goal: "< 200 ms"}), r, nil
}

func openPages(ctx context.Context, b *bench) (r pagesResult, err error) {
	gallery, err := web.NewGallery(ctx)
	if err != nil {
		return r, err
	}
	gallery.AddBig(mapNodes)
	pages, err := gallery.Handler(nil)
	if err != nil {
		return r, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.HandleFunc(emptyPage, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(w, "<!doctype html><title>empty</title><link rel=icon href=data:,>")
	})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return r, fmt.Errorf("listen on loopback: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		err = errors.Join(err, server.Close())
		if e := <-served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}()
	ctx, cancel := chromedp.NewExecAllocator(ctx, browser.Options()...)
	defer cancel()
	ctx, cancel = chromedp.NewContext(ctx)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		return r, &missingError{fmt.Errorf("start Chromium: %w: apt-get install chromium", err)}
	}
	return r, r.look(ctx, b, "http://"+listener.Addr().String())
}

// look opens each page in turns.
func (r *pagesResult) look(ctx context.Context, b *bench, origin string) error {
	var bytes atomic.Int64
	hear := func(event any) {
		if e, ok := event.(*network.EventLoadingFinished); ok {
			bytes.Add(int64(e.EncodedDataLength))
		}
	}
	if err := chromedp.Listen(ctx, hear); err != nil {
		return fmt.Errorf("listen to Chromium: %w", err)
	}
	err := chromedp.Do(ctx, chromedp.EmulateViewport(1440, 900), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{"Authorization": "Bearer tok-viewer"}})
		return err
	}))
	if err != nil {
		return fmt.Errorf("prepare Chromium: %w", err)
	}
	r.Interactive = map[string][]time.Duration{}
	for round := range b.rounds + 1 {
		b.log.Info("opening the pages", "round", round, "of", b.rounds)
		for _, path := range []string{"/", emptyPage, "/runs", "/runs/run-01", bigRun} {
			took, err := open(ctx, origin+path)
			if err != nil {
				return fmt.Errorf("open %s: %w", path, err)
			}
			switch {
			case round > 0: // Chromium itself warms up in the first
				r.Interactive[path] = append(r.Interactive[path], took)
			case path == "/":
				r.FirstBytes = float64(bytes.Load())
			}
		}
		drawn, err := draw(ctx)
		if err != nil {
			return fmt.Errorf("draw the map: %w", err)
		}
		r.Map = append(r.Map, drawn)
	}
	return nil
}

// open opens a page and returns when its scripts had run, from the start of the navigation.
func open(ctx context.Context, address string) (time.Duration, error) {
	if err := chromedp.Do(ctx, chromedp.Navigate(address)); err != nil {
		return 0, err
	}
	took, err := chromedp.Run(ctx, chromedp.Evaluate[float64](`performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd`))
	if err == nil && took == 0 {
		err = errors.New("its scripts have not run")
	}
	return time.Duration(took * float64(time.Millisecond)), err
}

// draw puts the map, which the open page has, into the page anew, and returns when it was painted.
func draw(ctx context.Context) (time.Duration, error) {
	took, err := chromedp.Run(ctx, chromedp.Evaluate[float64](`new Promise((done) => {
		const map = [...document.querySelectorAll("svg.nodes")].at(-1), place = map.parentNode, after = map.nextSibling, html = map.outerHTML;
		map.remove();
		requestAnimationFrame(() => setTimeout(() => {
			const began = performance.now();
			const box = document.createElement("template");
			box.innerHTML = html;
			place.insertBefore(box.content, after);
			requestAnimationFrame(() => setTimeout(() => done(performance.now() - began)));
		}));
	})`, chromedp.EvalAwaitPromise))
	return time.Duration(took * float64(time.Millisecond)), err
}
