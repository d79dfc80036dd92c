package incident

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/PagerDuty/go-pagerduty"
)

const (
	maxSummary      = 1024 // a longer one is refused, and the page is lost
	maxDedupKey     = 255
	maxEventPayload = 500_000 // PagerDuty takes 512 KB
)

// SelfAlert is a page about Drydock itself.
type SelfAlert struct {
	DedupKey string // one per condition, at most 255 bytes; the same key resolves it
	Summary  string // cut to 1,024 bytes
	Source   string // which replica; "drydock" when empty
	Severity string // "critical" (default), "error", "warning" or "info"
	Details  map[string]any
}

// SelfAlerterConfig says where to page about Drydock. The routing key is of a service that Drydock does not watch: else the page
// would be an incident for Drydock.
type SelfAlerterConfig struct {
	EventsURL  string // default https://events.pagerduty.com
	RoutingKey string
	Patience   Patience
	Transport  http.RoundTripper // nil: http.DefaultTransport
}

// SelfAlerter pages about Drydock through the Events API v2. It is safe for concurrent use.
type SelfAlerter struct {
	base   string
	key    string
	sender *sender
}

// NewSelfAlerter checks cfg. It does not talk to PagerDuty.
func NewSelfAlerter(cfg SelfAlerterConfig) (*SelfAlerter, error) {
	base, err := baseURL("events_url", cfg.EventsURL, "https://events.pagerduty.com")
	if err != nil {
		return nil, err
	}
	if cfg.RoutingKey == "" {
		return nil, errors.New("self_alert routing_key is empty")
	}
	pd := pagerduty.NewClient("", pagerduty.WithV2EventsAPIEndpoint(base))
	pd.HTTPClient = newHTTPClient(cfg.Transport)
	do := func(r *http.Request) (*http.Response, error) { return pd.Do(r, false) }
	return &SelfAlerter{base: base, key: cfg.RoutingKey, sender: newSender(do, cfg.Patience)}, nil
}

// Trigger pages. Sending the same dedup key again while the page is open pages nobody twice.
func (s *SelfAlerter) Trigger(ctx context.Context, a SelfAlert) error {
	op := fmt.Sprintf("trigger self-alert %s", quoteShort(a.DedupKey))
	ev := pagerduty.V2Event{
		Action: "trigger", Client: "Drydock",
		Payload: &pagerduty.V2Payload{
			Summary:  cutBytes(cmp.Or(strings.Join(strings.Fields(SanitizeNote(a.Summary)), " "), a.DedupKey), maxSummary),
			Source:   cmp.Or(a.Source, "drydock"),
			Severity: cmp.Or(a.Severity, "critical"),
			Details:  a.Details,
		},
	}
	if size, err := json.Marshal(a.Details); err != nil || len(size) > maxEventPayload {
		// The page matters more than what comes with it.
		ev.Payload.Details = map[string]any{"details": "left out: too large or not JSON"}
	}
	return s.enqueue(ctx, op, a.DedupKey, ev)
}

// Resolve takes the page back. A key that is not open is fine.
func (s *SelfAlerter) Resolve(ctx context.Context, dedupKey string) error {
	return s.enqueue(ctx, fmt.Sprintf("resolve self-alert %s", quoteShort(dedupKey)), dedupKey, pagerduty.V2Event{Action: "resolve"})
}

// enqueue may send an event again after a lost answer: the dedup key makes it one alert.
func (s *SelfAlerter) enqueue(ctx context.Context, op, dedupKey string, ev pagerduty.V2Event) error {
	if dedupKey == "" || len(dedupKey) > maxDedupKey {
		return invalid(op, "the dedup key must have 1 to %d bytes", maxDedupKey)
	}
	ev.RoutingKey, ev.DedupKey = s.key, dedupKey
	body, err := json.Marshal(ev)
	if err != nil {
		return fmt.Errorf("%s: encode event: %w", op, err)
	}
	_, err = s.sender.send(ctx, request{op: op, method: http.MethodPost, url: s.base + "/v2/enqueue", body: body, blind: true})
	return err
}
