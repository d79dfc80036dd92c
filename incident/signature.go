package incident

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

const (
	signatureHeader    = "X-PagerDuty-Signature"
	subscriptionHeader = "X-Webhook-Subscription"

	// maxSignatures bounds the work one request can ask for. PagerDuty sends one value, two while it rotates a secret.
	maxSignatures = 8

	// alarmAfter is PagerDuty's own number: three dropped deliveries in a row switch a subscription off for a day.
	alarmAfter = 3

	// maxSubscriptions bounds the memory that forged subscription headers can take.
	maxSubscriptions = 64
)

// Errors of Verifier.Verify. All of them mean: answer 401 and read nothing of the body.
var (
	ErrNoSecret          = errors.New("no webhook secret is configured")
	ErrNoSignature       = errors.New("no v1 signature in " + signatureHeader)
	ErrTooManySignatures = fmt.Errorf("more than %d v1 signatures in %s", maxSignatures, signatureHeader)
	ErrBadSignature      = errors.New("no signature matches a configured webhook secret")
)

// Verifier checks webhook signatures and notices when PagerDuty is about to switch a subscription off because we
// refuse its deliveries. It is safe for concurrent use.
type Verifier struct {
	secrets [][]byte
	alarm   func(subscription string, raised bool)

	mu  sync.Mutex
	bad map[string]int // refusals in a row, by subscription id; "" collects those without a usable id
}

// NewVerifier returns a Verifier that accepts a body signed with any of secrets (several while rotating). An empty secret is
// an error, since anybody can sign with it. No secrets at all are allowed and refuse every webhook.
//
// The alarm, when not nil, is called with raised true at the third refusal in a row of one subscription, and with false at
// the first accepted delivery after that. The subscription id is not authenticated and may be empty. The call is
// made on the request's goroutine, so it should only hand the news on.
func NewVerifier(secrets []string, alarm func(subscription string, raised bool)) (*Verifier, error) {
	v := &Verifier{alarm: alarm, bad: map[string]int{}}
	for i, s := range secrets {
		if s == "" {
			return nil, fmt.Errorf("webhook_secrets[%d] is empty: set it, or remove the entry", i)
		}
		v.secrets = append(v.secrets, []byte(s))
	}
	return v, nil
}

// Verify reports whether one of the request's v1 signatures is the HMAC-SHA256 of body under one of the secrets.
// body must be the bytes as received.
func (v *Verifier) Verify(header http.Header, body []byte) error {
	err := v.check(header, body)
	v.count(header.Get(subscriptionHeader), err == nil)
	return err
}

func (v *Verifier) check(header http.Header, body []byte) error {
	if len(v.secrets) == 0 {
		return ErrNoSecret
	}
	given, err := signatures(header)
	if err != nil {
		return err
	}
	for _, secret := range v.secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write(body)
		want := mac.Sum(nil)
		for _, g := range given {
			if hmac.Equal(g, want) {
				return nil
			}
		}
	}
	return ErrBadSignature
}

// signatures collects the v1 values of all header lines. PagerDuty's own page shows several values with white space
// between them, which go-pagerduty's check refuses; a value that is not hex can not match and is left out.
func signatures(header http.Header) ([][]byte, error) {
	var out [][]byte
	seen := 0
	for _, line := range header.Values(signatureHeader) {
		for value := range strings.SplitSeq(line, ",") {
			digest, ok := strings.CutPrefix(strings.TrimSpace(value), "v1=")
			if !ok {
				continue
			}
			if seen++; seen > maxSignatures {
				return nil, ErrTooManySignatures
			}
			if b, err := hex.DecodeString(digest); err == nil {
				out = append(out, b)
			}
		}
	}
	if seen == 0 {
		return nil, ErrNoSignature
	}
	return out, nil
}

// count keeps the refusals in a row per subscription: while secrets rotate there are two subscriptions, and the good
// deliveries of one must not hide that the other is being refused.
func (v *Verifier) count(subscription string, good bool) {
	v.mu.Lock()
	if _, known := v.bad[subscription]; !known && (!ValidID(subscription) || len(v.bad) >= maxSubscriptions) {
		subscription = ""
	}
	var call, raised bool
	if good {
		call, raised = v.bad[subscription] >= alarmAfter, false
		delete(v.bad, subscription)
	} else {
		v.bad[subscription]++
		call, raised = v.bad[subscription] == alarmAfter, true
	}
	v.mu.Unlock()
	if call && v.alarm != nil {
		v.alarm(subscription, raised)
	}
}
