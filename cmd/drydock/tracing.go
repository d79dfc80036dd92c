package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/store"
)

// Traces go to an OpenTelemetry collector, where the environment names one (OTEL_EXPORTER_OTLP_ENDPOINT and its companions): as OTLP
// over HTTP in its JSON form, which is a POST of one document. docs/adr/0015 says why not by OpenTelemetry's own library.
//
// A run is a trace, and its id is the run's: so each tick, on whichever replica and after whatever crash, finds its trace without
// anybody having to remember it. The root span is the run itself; it is sent when the run ends, and has the id that all others
// name as their parent from the beginning.

const (
	traceEvery = time.Second
	traceTime  = 5 * time.Second
	// traceRoom is how many spans wait; what does not fit is dropped: a collector that is away must cost a run nothing.
	traceRoom  = 4096
	traceBatch = 512
)

// span is a part of a trace, with OTLP's own names.
type span struct {
	TraceID    string      `json:"traceId"`
	SpanID     string      `json:"spanId"`
	Parent     string      `json:"parentSpanId,omitempty"`
	Name       string      `json:"name"`
	Kind       int         `json:"kind"`
	Start      string      `json:"startTimeUnixNano"`
	End        string      `json:"endTimeUnixNano"`
	Attributes []attribute `json:"attributes,omitempty"`
	Status     *spanStatus `json:"status,omitempty"`
}

// Kinds of spans.
const (
	spanInternal = 1
	spanServer   = 2
	spanClient   = 3
)

type attribute struct {
	Key   string         `json:"key"`
	Value map[string]any `json:"value"`
}

type spanStatus struct {
	Code    int    `json:"code"`
	Message string `json:"message,omitempty"`
}

const statusError = 2

func text(key, value string) attribute {
	return attribute{key, map[string]any{"stringValue": value}}
}

// tracer sends spans. A nil one is off.
type tracer struct {
	url     string
	headers http.Header
	service string
	spans   chan span
	client  *http.Client
	log     *slog.Logger
}

// newTracer reads OpenTelemetry's own environment variables; nil where they name no collector.
func newTracer(getenv func(string) string, log *slog.Logger) (*tracer, error) {
	address := getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if base := getenv("OTEL_EXPORTER_OTLP_ENDPOINT"); address == "" && base != "" {
		address = strings.TrimSuffix(base, "/") + "/v1/traces"
	}
	if address == "" || strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return nil, nil //nolint:nilnil // tracing is off
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usagef("OTEL_EXPORTER_OTLP_ENDPOINT is not an http or https address")
	}
	t := &tracer{url: address, headers: http.Header{}, service: cmp.Or(getenv("OTEL_SERVICE_NAME"), "drydock"),
		spans: make(chan span, traceRoom), client: &http.Client{Timeout: traceTime}, log: log}
	for pair := range strings.SplitSeq(cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS"), getenv("OTEL_EXPORTER_OTLP_HEADERS")), ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if decoded, err := url.PathUnescape(value); ok && err == nil {
			t.headers.Set(key, decoded)
		}
	}
	log.Info("traces are sent", "to", u.Redacted())
	return t, nil
}

// traceIDs are a run's trace and root span.
func traceIDs(run string) (trace, root string) {
	trace = strings.ReplaceAll(run, "-", "")
	if _, err := hex.DecodeString(trace); err != nil || len(trace) != 32 {
		sum := sha256.Sum256([]byte(run)) // an id that is no UUID
		trace = hex.EncodeToString(sum[:16])
	}
	return trace, trace[16:]
}

// spanID is 8 random bytes in hex.
func spanID() string {
	b := make([]byte, 8)
	_, _ = rand.Read(b) // it never fails; Go ends the program instead
	return hex.EncodeToString(b)
}

func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// send queues a span of a run.
func (t *tracer) send(run string, s span, began, ended time.Time, err error) {
	if t == nil || run == "" {
		return
	}
	s.TraceID, _ = traceIDs(run)
	s.Start, s.End = nanos(began), nanos(ended)
	s.Attributes = append(s.Attributes, text("drydock.run", run))
	if err != nil {
		s.Status = &spanStatus{Code: statusError, Message: err.Error()}
	}
	select {
	case t.spans <- s:
	default:
	}
}

// fromOutside queues a span of what began or joined a run: it lies below the root.
func (t *tracer) fromOutside(run, name string, began time.Time, attributes ...attribute) {
	_, root := traceIDs(run)
	t.send(run, span{SpanID: spanID(), Parent: root, Name: name, Kind: spanServer, Attributes: attributes}, began, time.Now(), nil)
}

type spanKey struct{}

// watch makes the spans of a tick and its steps.
func (t *tracer) watch(ctx context.Context, s playbook.Step) (context.Context, func(string, error)) {
	_, parent := traceIDs(s.Run)
	if within, ok := ctx.Value(spanKey{}).(string); ok {
		parent = within
	}
	out := span{SpanID: spanID(), Parent: parent, Name: string(s.Name), Kind: spanInternal}
	if s.Name == playbook.StepCall {
		out.Name, out.Kind = string(s.Name)+" "+string(s.Kind), spanClient
		out.Attributes = []attribute{text("drydock.object", s.Object), text("drydock.intent", strconv.Itoa(s.Seq))}
	}
	began := time.Now()
	return context.WithValue(ctx, spanKey{}, out.SpanID), func(came string, err error) {
		if came != "" {
			out.Attributes = append(out.Attributes, text("drydock.came", came))
		}
		t.send(s.Run, out, began, time.Now(), err)
	}
}

// ended sends the root span of a run that has ended.
func (t *tracer) ended(before, after playbook.Run) {
	if t == nil || before.State.Ended() || !after.State.Ended() {
		return
	}
	_, root := traceIDs(after.ID)
	t.send(after.ID, span{SpanID: root, Name: "run", Kind: spanInternal, Attributes: []attribute{
		text("drydock.carrier", after.Target.Carrier), text("drydock.namespace", after.Target.Namespace),
		text("drydock.daemonset", after.Target.DaemonSet), text("drydock.trigger", string(after.Trigger)),
		text("drydock.finding", string(after.Finding)), text("drydock.outcome", string(after.Outcome)),
	}}, after.StartedAt, after.FinishedAt, nil)
}

// tracedIntake makes the span of a webhook, once it is known which run it belongs to.
type tracedIntake struct {
	api.Intake
	tracer *tracer
}

// Accept implements api.Intake.
func (i tracedIntake) Accept(ctx context.Context, a playbook.Arrival) (playbook.EventRecord, error) {
	began := time.Now()
	record, err := i.Intake.Accept(ctx, a)
	if err == nil && record.Run != "" && !record.Duplicate {
		i.tracer.fromOutside(record.Run, "webhook", began, text("drydock.event", record.ID), text("drydock.event_type", record.Type),
			text("drydock.incident", record.Incident), text("drydock.outcome", string(record.Outcome)))
	}
	return record, err
}

// placed makes the span of an event whose incident had to be read first.
func (t *tracer) placed(_ context.Context, w store.Waiting, run string, since time.Time) {
	t.fromOutside(run, "look_up", since, text("drydock.event_type", w.Type), text("drydock.incident", w.IncidentID))
}

// run sends what is queued until ctx ends, then what is left.
func (t *tracer) run(ctx context.Context) {
	if t == nil {
		return
	}
	failing := false
	flush := func(ctx context.Context) {
		for {
			batch := t.take()
			if len(batch) == 0 {
				return
			}
			err := t.post(ctx, batch)
			if err != nil && !failing {
				t.log.WarnContext(ctx, "traces could not be sent", "error", err)
			}
			if failing = err != nil; failing {
				return
			}
		}
	}
	every(ctx, traceEvery, func() { flush(ctx) })
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), traceTime)
	defer cancel()
	flush(last)
}

func (t *tracer) take() []span {
	var batch []span
	for len(batch) < traceBatch {
		select {
		case s := <-t.spans:
			batch = append(batch, s)
		default:
			return batch
		}
	}
	return batch
}

// post sends one document of OTLP. What a collector does not take is lost: traces are told once.
func (t *tracer) post(ctx context.Context, batch []span) error {
	type resource struct {
		Attributes []attribute `json:"attributes"`
	}
	type scope struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	type scopeSpans struct {
		Scope scope  `json:"scope"`
		Spans []span `json:"spans"`
	}
	type resourceSpans struct {
		Resource   resource     `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	body, err := json.Marshal(map[string]any{"resourceSpans": []resourceSpans{{
		Resource:   resource{[]attribute{text("service.name", t.service), text("service.version", version), text("service.instance.id", hostname())}},
		ScopeSpans: []scopeSpans{{Scope: scope{"github.com/drydock/drydock", version}, Spans: batch}},
	}}})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("send spans: %w", err)
	}
	req.Header = t.headers.Clone()
	req.Header.Set("Content-Type", "application/json")
	resp, err := t.client.Do(req)
	if err != nil {
		return fmt.Errorf("send spans: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("send spans: the collector answered %s", resp.Status)
	}
	return nil
}

// watchAll tells several of each step.
func watchAll(all ...playbook.Watch) playbook.Watch {
	return func(ctx context.Context, s playbook.Step) (context.Context, func(string, error)) {
		ends := make([]func(string, error), len(all))
		for i, w := range all {
			ctx, ends[i] = w(ctx, s)
		}
		return ctx, func(came string, err error) {
			for _, end := range ends {
				end(came, err)
			}
		}
	}
}
