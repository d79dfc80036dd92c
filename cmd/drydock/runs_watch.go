package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/tmaxmax/go-sse"

	"github.com/drydock/drydock/api/client"
)

func newRunsWatch(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "watch RUN", Short: "Follow a run to its end, one line per change", Args: exactArgs(1), ValidArgsFunction: a.runArg(true),
		Long: `Follow a run to its end: first everything that happened, then what happens, one line for each tick that changed something
and for each action that was promised or settled. With -o json or yaml each is a document of its own.

It goes on after a server was restarted, from where it was. Exit 0 when the run resolved its incidents, else 1; 3 when the
server stays away.`,
		Example: `  drydock runs watch 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d
  drydock runs watch 0198c5d2-7f4e-7a61-9d0e-0d5c2a3b4c5d -o json | jq -r .data.why`,
		RunE: func(cmd *cobra.Command, args []string) error {
			// No timeout of the whole: a run takes as long as it takes. What is silent for too long is found out by watcher.
			c, err := a.clientWith(&http.Client{})
			if err != nil {
				return err
			}
			return (&watcher{app: a, client: c, run: args[0]}).follow(cmd.Context())
		},
	}
}

const (
	// streamSilence is how long a stream may say nothing: the server writes a comment each 15 seconds.
	streamSilence = 50 * time.Second
	// streamAway is how long a server may stay away before the watch gives up, and streamPause how often it is asked.
	streamAway  = 5 * time.Minute
	streamPause = time.Second
)

// watcher follows one run.
type watcher struct {
	app    *app
	client *client.Client
	run    string

	last string // the id of the last event that was seen
	seen bool   // something was
	end  *client.Run
}

func (w *watcher) follow(ctx context.Context) error {
	var lost time.Time
	for {
		err := w.stream(ctx)
		switch {
		case w.end != nil && err == nil:
			return w.outcome()
		case ctx.Err() != nil:
			return &exitError{exitRemote, fmt.Errorf("the watch was interrupted; the run goes on")}
		case errors.Is(err, errStreamEnded):
			lost = time.Time{} // the server may end a stream at any time
		case err != nil:
			var exit *exitError
			if !w.seen || errors.As(err, &exit) && exit.code != exitRemote {
				return err
			}
			if lost.IsZero() {
				lost = time.Now()
				fmt.Fprintf(w.app.stderr, "drydock: %v; trying again\n", err)
			}
			if time.Since(lost) > streamAway {
				return err
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(streamPause):
		}
	}
}

func (w *watcher) outcome() error {
	if w.end.Outcome == nil || *w.end.Outcome != client.OutcomeResolved {
		return answerNo()
	}
	return nil
}

// errStreamEnded: the server closed a stream before the run's end, as it may.
var errStreamEnded = errors.New("the server closed the stream")

// stream reads one connection's events. It returns nil when the run's end was seen.
func (w *watcher) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(streamSilence, func() { cancel(errors.New("the server has been silent for too long")) })
	defer silent.Stop()

	params := &client.StreamRunParams{}
	if w.last != "" {
		params.LastEventID = &w.last
	}
	resp, err := w.client.StreamRun(ctx, w.run, params)
	if err != nil {
		return unanswered(errors.Join(context.Cause(ctx), err))
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return w.ended(ctx)
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // what was read of it makes the message better
		return refusal(resp.StatusCode, body)
	}
	for event, err := range sse.Read(alive{resp.Body, silent}, &sse.ReadConfig{MaxEventSize: 16 << 20}) {
		if err != nil {
			return remotef("read the stream: %w", errors.Join(context.Cause(ctx), err))
		}
		w.seen = true
		if err := w.show(event); err != nil {
			return err
		}
		w.last = event.LastEventID
		if w.end != nil {
			return nil
		}
	}
	return errStreamEnded
}

// ended: everything was seen before, so only the run itself can say how it ended.
func (w *watcher) ended(ctx context.Context) error {
	run, _, err := read[client.Run](w.client.GetRun(ctx, w.run, &client.GetRunParams{}))
	w.end = &run
	return err
}

// alive puts the end of the silence off with everything that comes, comments too.
type alive struct {
	io.Reader
	silent *time.Timer
}

func (r alive) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if n > 0 {
		r.silent.Reset(streamSilence)
	}
	return n, err
}

func (w *watcher) show(event sse.Event) error {
	data := []byte(event.Data)
	line := ""
	var err error
	switch event.Type {
	case "tick":
		var t client.Tick
		err = json.Unmarshal(data, &t)
		line = fmt.Sprintf("%s  %-21s %-16s %s", t.At.UTC().Format(time.TimeOnly), one(string(t.To)), dash(one(string(t.Finding))), one(t.Why))
	case "intent":
		var i client.Intent
		err = json.Unmarshal(data, &i)
		at, what := i.PromisedAt, "promised"
		if i.SettledAt != nil {
			at, what = *i.SettledAt, intentResult(i)
		}
		line = fmt.Sprintf("%s    %d. %s %s: %s", at.UTC().Format(time.TimeOnly), i.Seq, one(string(i.Kind)), objectName(i.Target), what)
	case "end":
		w.end = &client.Run{}
		err = json.Unmarshal(data, w.end)
		line = "ended: "
		if w.end.Outcome != nil {
			line += string(*w.end.Outcome) + ": "
		}
		line += one(w.end.Why)
	default:
		return nil // of a newer server
	}
	if err != nil {
		return remotef("the server's %s event can not be read: %w", event.Type, err)
	}
	if w.app.output == outputTable {
		_, err = fmt.Fprintln(w.app.stdout, w.app.terminal().clip(line))
	} else {
		err = w.app.document(map[string]any{"event": event.Type, "id": event.LastEventID, "data": json.RawMessage(data)})
	}
	if err != nil {
		return &exitError{exitUsage, fmt.Errorf("write the answer: %w", err)}
	}
	return nil
}

// document writes one of a sequence of answers: a line of JSON, or a YAML document.
func (a *app) document(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	if a.output == outputYAML {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		_, err = fmt.Fprintf(a.stdout, "---\n%s", b)
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s\n", b)
	return err
}

// listEvery is how often a watched list is read.
const listEvery = 2 * time.Second

// watchRuns prints the list, then each run again that is new or has moved.
func (a *app) watchRuns(ctx context.Context, c *client.Client, params *client.ListRunsParams) error {
	shown := map[string]string{}
	ticker := time.NewTicker(listEvery)
	defer ticker.Stop()
	lost := false
	for first := true; ; first = false {
		page, _, err := read[client.RunPage](c.ListRuns(ctx, params))
		var exit *exitError
		switch {
		case ctx.Err() != nil:
			return nil // it was interrupted, which is how a watched list ends
		case err != nil && (first || errors.As(err, &exit) && exit.code != exitRemote):
			return err
		case err != nil && !lost:
			fmt.Fprintf(a.stderr, "drydock: %v; trying again\n", err)
		}
		lost = err != nil
		var moved []client.Run
		for _, r := range page.Items {
			is := strings.Join([]string{string(r.State), string(r.Finding)}, " ")
			if shown[r.ID] != is {
				shown[r.ID] = is
				moved = append(moved, r)
			}
		}
		if !first {
			slices.Reverse(moved) // the newest last, as they happen
		}
		if err := a.listed(moved, first); err != nil {
			return remotef("write the answer: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (a *app) listed(runs []client.Run, first bool) error {
	if a.output == outputTable {
		if len(runs) == 0 && !first {
			return nil
		}
		return a.terminal().tabulate(a.stdout, func(w io.Writer) { runRows(w, runs, first) })
	}
	for _, r := range runs {
		if err := a.document(r); err != nil {
			return err
		}
	}
	return nil
}
