package pagerduty

import (
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/PagerDuty/go-pagerduty/webhookv3"
	"github.com/google/go-cmp/cmp"
)

// receiver answers webhooks with the statuses it was given, then with 202.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	answers []int
	got     []*http.Request
	bodies  []string
}

func newReceiver(t *testing.T, answers ...int) *receiver {
	r := &receiver{answers: answers}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got = append(r.got, req)
		r.bodies = append(r.bodies, string(body))
		status := http.StatusAccepted
		if len(r.answers) > 0 {
			status, r.answers = r.answers[0], r.answers[1:]
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.got)
}

func (w *town) subscribe(sub Subscription) Subscription {
	w.Helper()
	added, err := w.Subscribe(sub)
	w.check(err)
	return added
}

// in reports whether all deliveries so far, n of them, are in a state.
func (w *town) in(n int, state DeliveryState) func() bool {
	return func() bool {
		list := w.Deliveries()
		for _, d := range list {
			if d.State != state {
				return false
			}
		}
		return len(list) == n
	}
}

func TestAWebhookIsSigned(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	r := newReceiver(t)
	sub := w.subscribe(Subscription{URL: r.URL, Secret: "one", CustomHeaders: map[string]string{"X-Env": "prod"}})
	w.check(w.SetSecondSecret(sub.ID, "two"))
	i, err := w.TriggerIncident("größe 節点 ☂", w.svc.ID)
	w.check(err)
	w.until("the first webhook", w.in(1, Delivered))
	w.Behave(Behaviour{Signatures: CommaSpaceJoined})
	w.check(w.Acknowledge(i.ID, w.ada.ID))
	w.until("the second webhook", w.in(2, Delivered))
	w.Behave(Behaviour{Signatures: SeparateLines})
	w.check(w.Resolve(i.ID, w.ada.ID, ""))
	w.until("the third webhook", w.in(3, Delivered))

	for n, want := range [][]string{
		{Sign("one", []byte(r.bodies[0])) + "," + Sign("two", []byte(r.bodies[0]))},
		{Sign("one", []byte(r.bodies[1])) + ", " + Sign("two", []byte(r.bodies[1]))},
		{Sign("one", []byte(r.bodies[2])), Sign("two", []byte(r.bodies[2]))},
	} {
		if diff := cmp.Diff(want, r.got[n].Header.Values("X-PagerDuty-Signature")); diff != "" {
			t.Errorf("signatures of webhook %d (-want +got):\n%s", n, diff)
		}
	}
	// The public library must agree with our idea of a signature.
	again := r.got[0].Clone(t.Context())
	again.Body = io.NopCloser(strings.NewReader(r.bodies[0]))
	w.check(webhookv3.VerifySignature(again, "two"))

	h := r.got[0].Header
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "PagerDuty-Webhook/V3.0",
		"X-Webhook-Subscription": sub.ID, "X-Webhook-Id": w.Deliveries()[0].WebhookID, "X-Env": "prod",
	} {
		if h.Get(name) != want {
			t.Errorf("header %s is %q, want %q", name, h.Get(name), want)
		}
	}
	if !strings.Contains(r.bodies[0], `"title":"größe 節点 ☂"`) || strings.Contains(r.bodies[0], "alerts") {
		t.Errorf("the body: %s", r.bodies[0])
	}
}

func TestRetriesKeepTheOrder(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	r := newReceiver(t, 503, 429)
	w.subscribe(Subscription{URL: r.URL, Events: []string{"incident.triggered", "incident.acknowledged"}})
	i := w.incident()
	w.check(w.Acknowledge(i.ID, w.ada.ID))
	state := func(n, attempts int, state DeliveryState) func() bool {
		return func() bool { d := w.Deliveries(); return d[n].State == state && len(d[n].Attempts) == attempts }
	}
	w.until("the first attempt", state(0, 1, Retrying))
	w.clock.Advance(4 * time.Second)
	if n := r.count(); n != 1 {
		t.Fatalf("%d attempts before the pause was over", n)
	}
	w.clock.Advance(time.Second)
	w.until("the second attempt", state(0, 2, Retrying))
	w.clock.Advance(15 * time.Second)
	w.until("the third attempt", state(0, 3, Delivered))
	w.until("the one behind it", state(1, 1, Delivered))
	var ids []string
	for _, req := range r.got {
		ids = append(ids, req.Header.Get("X-Webhook-Id"))
	}
	d := w.Deliveries()
	want := []string{d[0].WebhookID, d[0].WebhookID, d[0].WebhookID, d[1].WebhookID}
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Errorf("webhook ids (-want +got):\n%s", diff)
	}
}

func TestThreeDropsDisable(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	r := newReceiver(t, 401, 401, 401)
	sub := w.subscribe(Subscription{URL: r.URL, Events: []string{"incident.triggered", "incident.annotated"}})
	i := w.incident()
	for range 4 {
		_, err := w.AddNote(i.ID, w.ada.ID, "a note")
		w.check(err)
	}
	w.until("the purge", func() bool { d := w.Deliveries(); return d[4].State == Purged })
	if n := r.count(); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
	shown := w.expect(w.do(http.MethodGet, "/webhook_subscriptions/"+sub.ID, nil), 200)
	if shown.at("webhook_subscription", "delivery_method", "temporarily_disabled") != true {
		t.Errorf("a disabled subscription: %s", shown.raw)
	}
	before := len(w.Deliveries())
	w.incident()
	if n := len(w.Deliveries()); n != before {
		t.Errorf("%d webhooks for a disabled subscription", n-before)
	}
	w.expect(w.do(http.MethodPost, "/webhook_subscriptions/"+sub.ID+"/enable", nil), 200)
	w.incident()
	w.until("the webhook after enable", func() bool { d := w.Deliveries(); return d[len(d)-1].State == Delivered })
}

func TestADisabledSubscriptionComesBackAfterADay(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	r := newReceiver(t, 400, 404, 410)
	w.subscribe(Subscription{URL: r.URL, Events: []string{"incident.triggered"}})
	for n := range 3 {
		w.incident()
		w.until("a drop", w.in(n+1, Dropped))
	}
	w.clock.Advance(24*time.Hour - time.Second)
	w.incident()
	w.clock.Advance(time.Second)
	w.incident()
	w.until("a webhook", func() bool { d := w.Deliveries(); return len(d) == 4 && d[3].State == Delivered })
}

func TestDuplicatesUnknownTypesAndSizes(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	r := newReceiver(t)
	w.subscribe(Subscription{URL: r.URL, Events: []string{"incident.triggered"}})
	w.Behave(Behaviour{DuplicateDeliveries: true})
	i := w.incident()
	w.until("the duplicate", func() bool { return len(w.Deliveries()[0].Attempts) == 2 })
	if r.got[0].Header.Get("X-Webhook-Id") != r.got[1].Header.Get("X-Webhook-Id") || r.bodies[0] != r.bodies[1] {
		t.Error("the duplicate differs from the original")
	}
	w.Behave(Behaviour{})
	w.check(w.SendEvent(i.ID, "", "incident.teleported", map[string]any{"type": "incident_teleport", "pad": strings.Repeat("x", 60<<10)}))
	w.until("the large one", func() bool { return w.Deliveries()[1].State == Delivered })
	w.check(w.SendEvent(i.ID, "", "incident.triggered", map[string]any{"type": "incident", "pad": strings.Repeat("x", 257<<10)}))
	if d := w.Deliveries()[2]; d.State != Dropped || len(d.Attempts) != 0 {
		t.Errorf("a payload over 256 KB: %s after %d attempts", d.State, len(d.Attempts))
	}
	_, err := w.AddNote(i.ID, w.ada.ID, "a note")
	w.check(err)
	if n := len(w.Deliveries()); n != 3 {
		t.Errorf("%d webhooks, want none for a type that was not asked for", n-3)
	}
}

func TestAReceiverThatIsSlowOrGone(t *testing.T) {
	t.Parallel()
	w := newTown(t, func(o *Options) { o.DeliveryTimeout = 50 * time.Millisecond })
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(func() { close(release); slow.Close() })
	gone := newReceiver(t)
	gone.Close()
	w.subscribe(Subscription{URL: slow.URL})
	w.subscribe(Subscription{URL: gone.URL})
	w.incident()
	w.until("both to be tried again", w.in(2, Retrying))
	for _, d := range w.Deliveries() {
		if d.Attempts[0].Status != 0 || d.Attempts[0].Err == "" {
			t.Errorf("the attempt: %+v", d.Attempts[0])
		}
	}
}

func TestARetryingWebhookIsDroppedAfterTwoDays(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	r := newReceiver(t, 500, 500)
	w.subscribe(Subscription{URL: r.URL, Events: []string{"incident.triggered"}})
	w.incident()
	w.until("the first attempt", w.in(1, Retrying))
	w.clock.Advance(48 * time.Hour)
	w.until("the drop", w.in(1, Dropped))
	if n := r.count(); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(untrusted.Close)
	_, tlsErr := http.Get(untrusted.URL)
	tests := map[string]struct {
		status int
		err    error
		want   bool
	}{
		"500":                {500, nil, true},
		"429":                {429, nil, true},
		"400":                {400, nil, false},
		"408":                {408, nil, false},
		"redirect":           {302, nil, false},
		"unknown authority":  {0, tlsErr, false},
		"expired":            {0, x509.CertificateInvalidError{Reason: x509.Expired}, true},
		"for another use":    {0, x509.CertificateInvalidError{Reason: x509.IncompatibleUsage}, false},
		"connection refused": {0, syscall.ECONNREFUSED, true},
	}
	for name, test := range tests {
		if got := isRetried(test.status, test.err); got != test.want {
			t.Errorf("%s (%v): %t, want %t", name, test.err, got, test.want)
		}
	}
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	r := newReceiver(t)
	wish := func(filter map[string]any, events ...string) map[string]any {
		return map[string]any{"webhook_subscription": map[string]any{
			"type": "webhook_subscription", "events": events, "filter": filter, "description": "drydock",
			"delivery_method": map[string]any{"type": "http_delivery_method", "url": r.URL, "custom_headers": []any{map[string]any{"name": "X-A", "value": "secret"}}},
		}}
	}
	service := map[string]any{"type": "service_reference", "id": w.svc.ID}
	made := w.expect(w.do(http.MethodPost, "/webhook_subscriptions", wish(service, "incident.triggered"), "From", ""), 201)
	id, _ := made.at("webhook_subscription", "id").(string)
	secret, _ := made.at("webhook_subscription", "delivery_method", "secret").(string)
	if len(secret) < 32 {
		t.Errorf("the secret of a new subscription: %s", made.raw)
	}
	got := w.expect(w.do(http.MethodGet, "/webhook_subscriptions/"+id, nil), 200)
	if got.at("webhook_subscription", "delivery_method", "secret") != nil || strings.Contains(string(got.raw), `"secret"}`) {
		t.Errorf("a secret is shown again: %s", got.raw)
	}
	listed := w.expect(w.do(http.MethodGet, "/webhook_subscriptions?filter_type=service&filter_id="+w.svc.ID, nil), 200)
	if listed.at("webhook_subscriptions", 0, "id") != id {
		t.Errorf("listed: %s", listed.raw)
	}
	w.expect(w.do(http.MethodPost, "/webhook_subscriptions/"+id+"/ping", nil), 202)
	w.until("the ping", w.in(1, Delivered))
	if !strings.Contains(r.bodies[0], `"event_type":"pagey.ping"`) || !strings.Contains(r.bodies[0], `"resource_type":"pagey"`) {
		t.Errorf("the ping: %s", r.bodies[0])
	}
	other, err := w.AddService(Service{Name: "other", PolicyID: w.single.ID})
	w.check(err)
	_, err = w.TriggerIncident(title, other.ID)
	w.check(err)
	w.incident()
	w.until("the webhook of its service", w.in(2, Delivered))
	w.expect(w.do(http.MethodPut, "/webhook_subscriptions/"+id, map[string]any{"webhook_subscription": map[string]any{"active": false}}), 200)
	w.incident()
	if n := len(w.Deliveries()); n != 2 {
		t.Errorf("an inactive subscription got %d webhooks", n-2)
	}
	w.expect(w.do(http.MethodDelete, "/webhook_subscriptions/"+id, nil), 204)
	w.expect(w.do(http.MethodGet, "/webhook_subscriptions/"+id, nil), 404)
	for name, bad := range map[string]map[string]any{
		"no event":      wish(service),
		"unknown event": wish(service, "alert.triggered"),
		"no service id": wish(map[string]any{"type": "service_reference"}, "incident.triggered"),
		"no filter":     wish(nil, "incident.triggered"),
	} {
		if r := w.do(http.MethodPost, "/webhook_subscriptions", bad); r.status != 400 {
			t.Errorf("%s: status %d, want 400", name, r.status)
		}
	}
	account := map[string]any{"type": "account_reference"}
	for range 10 {
		w.expect(w.do(http.MethodPost, "/webhook_subscriptions", wish(account, "incident.triggered")), 201)
	}
	full := w.expect(w.do(http.MethodPost, "/webhook_subscriptions", wish(account, "incident.triggered")), 400)
	if full.at("error", "code") != 2019.0 {
		t.Errorf("the eleventh: %s", full.raw)
	}
}

func TestTheTimelinePage(t *testing.T) {
	t.Parallel()
	w := newTown(t, nil)
	i := w.incident()
	w.expect(w.do(http.MethodPost, "/incidents/"+i.ID+"/notes", map[string]any{"note": map[string]any{"content": "Drained <one> node.\nProof: 49 of 49."}}), 201)
	w.check(w.Acknowledge(i.ID, w.ada.ID))
	text := string(w.do(http.MethodGet, "/", nil).raw)
	for _, want := range []string{
		fmt.Sprintf("#%d  ACKNOWLEDGED", i.Number), "monitoring  Monitoring triggered", "bot         Drydock noted: Drained <one> node.",
		"person      Ada acknowledged", "    Proof: 49 of 49.", "pagerduty   PagerDuty notified: Drydock",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the text view:\n%s", want, text)
		}
	}
	page := string(w.do(http.MethodGet, "/", nil, "Accept", "text/html").raw)
	for _, want := range []string{`id="` + i.ID + `"`, `class="who bot"`, `class="who person"`, "Drained &lt;one&gt; node."} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not in the page:\n%s", want, page)
		}
	}
}
