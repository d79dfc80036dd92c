package pagerduty

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/drydock/drydock/testbed/standin"
)

// The rules of delivery.
const (
	dropsToDisable  = 3
	disabledFor     = 24 * time.Hour
	retriedFor      = 48 * time.Hour
	maxPayloadBytes = 256 << 10
)

// SignatureStyle is how several signatures are written; PagerDuty's own pages do
// not agree on it.
type SignatureStyle int

// One header with a comma, with comma and space, or one header line each.
const (
	CommaJoined SignatureStyle = iota
	CommaSpaceJoined
	SeparateLines
)

// DeliveryState is where a webhook stands.
type DeliveryState string

// A queued webhook was not tried yet, a retrying one failed and waits; delivered,
// dropped (refused, expired or too large) and purged (its subscription was
// disabled or deleted) are ends.
const (
	Queued    DeliveryState = "queued"
	Retrying  DeliveryState = "retrying"
	Delivered DeliveryState = "delivered"
	Dropped   DeliveryState = "dropped"
	Purged    DeliveryState = "purged"
)

// Attempt is one POST of a webhook. Status 0 means that no answer came, and Err
// says why.
type Attempt struct {
	At     time.Time
	Status int
	Err    string
}

// Delivery is one webhook: one event for one subscription.
type Delivery struct {
	WebhookID      string
	SubscriptionID string
	Event          Event
	State          DeliveryState
	Attempts       []Attempt
}

type delivery struct {
	Delivery
	sub *subscription
}

// lane keeps the order of the webhooks of one incident for one subscription:
// while the first is being tried again, the others queue behind it.
type lane struct {
	queue []*delivery
	busy  bool // Due, being sent, or waiting for the next attempt.
	retry standin.Timer
}

// queue plans an event for a subscription.
func (s *Server) queue(sub *subscription, e Event) {
	d := &delivery{Delivery{WebhookID: newUUID(), SubscriptionID: sub.ID, Event: e, State: Queued}, sub}
	s.sent = append(s.sent, d)
	if len(e.Body) > maxPayloadBytes {
		d.State = Dropped
		return
	}
	l := sub.lanes[e.IncidentID]
	if l == nil {
		l = &lane{}
		sub.lanes[e.IncidentID] = l
	}
	l.queue = append(l.queue, d)
	if !l.busy {
		s.makeDue(l)
	}
}

// makeDue sends the first webhook of a lane at once.
func (s *Server) makeDue(l *lane) {
	l.busy = true
	s.background.Go(func(ctx context.Context) { s.send(ctx, l) })
}

// send makes one attempt for the first webhook of a lane and plans what follows.
func (s *Server) send(ctx context.Context, l *lane) {
	s.mu.Lock()
	if len(l.queue) == 0 {
		l.busy = false
		s.mu.Unlock()
		return
	}
	d := l.queue[0]
	sub := d.sub.Subscription
	style, twice := s.acct.behaviour.Signatures, s.acct.behaviour.DuplicateDeliveries
	s.mu.Unlock()

	at := s.acct.now()
	status, err := s.post(ctx, sub, style, d)
	if ctx.Err() != nil {
		return
	}
	s.write(func() { s.settle(l, d, Attempt{at, status, text(err)}, err) })
	if twice && status/100 == 2 {
		status, err = s.post(ctx, sub, style, d)
		s.write(func() { d.Attempts = append(d.Attempts, Attempt{s.acct.now(), status, text(err)}) })
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// settle files an attempt and decides between the next webhook and another try.
func (s *Server) settle(l *lane, d *delivery, a Attempt, err error) {
	d.Attempts = append(d.Attempts, a)
	if d.State == Purged {
		return // Its subscription went while the request was under way.
	}
	switch {
	case a.Status/100 == 2:
		d.State = Delivered
		d.sub.drops = 0
	case isRetried(a.Status, err) && s.acct.now().Sub(d.Event.At) < retriedFor:
		d.State = Retrying
		n := min(len(d.Attempts), len(s.opts.RetryAfter)) - 1
		l.retry = s.opts.Clock.AfterFunc(s.opts.RetryAfter[n], func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.makeDue(l)
		})
		return
	default:
		d.State = Dropped
		if s.drop(d.sub) {
			return
		}
	}
	l.queue = l.queue[1:]
	l.busy = false
	if len(l.queue) > 0 {
		s.makeDue(l)
	}
}

// drop counts a dropped webhook; the third in a row disables the subscription
// for a day and empties its queue.
func (s *Server) drop(sub *subscription) (disabled bool) {
	sub.drops++
	if sub.drops < dropsToDisable {
		return false
	}
	sub.drops = 0
	sub.DisabledUntil = s.acct.now().Add(disabledFor)
	s.purge(sub)
	return true
}

func (s *Server) purge(sub *subscription) {
	for _, l := range sub.lanes {
		for _, d := range l.queue {
			if d.State == Queued || d.State == Retrying {
				d.State = Purged
			}
		}
		if l.retry != nil {
			l.retry.Stop()
		}
		l.queue = nil
	}
	sub.lanes = map[string]*lane{}
}

// isRetried tells a failure that PagerDuty tries again from one that it drops.
// Of TLS failures only an expired certificate is tried again. What it does with
// a redirect is not documented; here it is dropped.
func isRetried(status int, err error) bool {
	if err == nil {
		return status >= 500 || status == http.StatusTooManyRequests
	}
	var invalidCert x509.CertificateInvalidError
	if errors.As(err, &invalidCert) {
		return invalidCert.Reason == x509.Expired
	}
	var verify *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	return !errors.As(err, &verify) && !errors.As(err, &record) && !errors.As(err, &alert)
}

func (s *Server) post(ctx context.Context, sub Subscription, style SignatureStyle, d *delivery) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, sub.URL, bytes.NewReader(d.Event.Body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "PagerDuty-Webhook/V3.0")
	r.Header.Set("X-Webhook-Id", d.WebhookID)
	r.Header.Set("X-Webhook-Subscription", sub.ID)
	signatures := []string{Sign(sub.Secret, d.Event.Body)}
	if sub.SecondSecret != "" {
		signatures = append(signatures, Sign(sub.SecondSecret, d.Event.Body))
	}
	switch style {
	case CommaJoined:
		r.Header.Set(signatureHeader, strings.Join(signatures, ","))
	case CommaSpaceJoined:
		r.Header.Set(signatureHeader, strings.Join(signatures, ", "))
	case SeparateLines:
		for _, v := range signatures {
			r.Header.Add(signatureHeader, v)
		}
	}
	for name, value := range sub.CustomHeaders {
		r.Header.Set(name, value)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, nil
}

const signatureHeader = "X-PagerDuty-Signature"

// Sign returns one value of the signature header for a body: "v1=" and the
// lower-case hex HMAC-SHA256 under the secret as it is written.
func Sign(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "v1=" + hex.EncodeToString(mac.Sum(nil))
}

// Deliveries returns all webhooks in the order in which their events happened.
func (s *Server) Deliveries() []Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Delivery, len(s.sent))
	for n, d := range s.sent {
		list[n] = d.Delivery
		list[n].Attempts = slices.Clone(d.Attempts)
	}
	return list
}
