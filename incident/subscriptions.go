package incident

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Subscription is a webhook subscription.
type Subscription struct {
	ID          string
	Description string
	URL         string // where the webhooks go
	Events      []string
	FilterType  string // "service_reference", "team_reference" or "account_reference"
	FilterID    string
	// Active is off when a person has switched the subscription off.
	Active bool
	// Disabled is on when PagerDuty has, for a day, after three webhooks in a row that were answered with a 4xx: it throws away
	// what waited, and everything that happens until it is enabled again.
	Disabled bool
}

// Subscriptions lists the webhook subscriptions that the token may see.
func (c *Client) Subscriptions(ctx context.Context) ([]Subscription, error) {
	const op = "list webhook subscriptions"
	var out []Subscription
	err := c.list(ctx, op, "/webhook_subscriptions", "webhook_subscriptions", url.Values{}, func(raw json.RawMessage) error {
		var w struct {
			ID             string   `json:"id"`
			Description    string   `json:"description"`
			Active         bool     `json:"active"`
			Events         []string `json:"events"`
			DeliveryMethod struct {
				URL                 string `json:"url"`
				TemporarilyDisabled bool   `json:"temporarily_disabled"`
			} `json:"delivery_method"`
			Filter Ref `json:"filter"`
		}
		if err := json.Unmarshal(raw, &w); err != nil {
			return fmt.Errorf("read webhook subscription: %w", err)
		}
		if !ValidID(w.ID) {
			return fmt.Errorf("webhook subscription id %s does not have the form of a PagerDuty id", quoteShort(w.ID))
		}
		out = append(out, Subscription{
			ID: w.ID, Description: w.Description, URL: w.DeliveryMethod.URL, Events: w.Events, FilterType: w.Filter.Type, FilterID: w.Filter.ID,
			Active: w.Active, Disabled: w.DeliveryMethod.TemporarilyDisabled,
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// EnableSubscription makes PagerDuty send a subscription's webhooks again that it had disabled. What it threw away meanwhile does
// not come back. ErrUnauthorized: the token lacks the right.
func (c *Client) EnableSubscription(ctx context.Context, id string) error {
	op := "enable webhook subscription " + id
	if err := checkID("enable webhook subscription", "subscription", id); err != nil {
		return err
	}
	_, err := c.sender.send(ctx, request{
		op: op, method: http.MethodPost, url: c.base + "/webhook_subscriptions/" + id + "/enable", from: c.from, blind: true,
	})
	return err
}

// Wish is a webhook subscription to be made.
type Wish struct {
	URL         string
	Description string
	Events      []string
	// ServiceID is the service whose incidents are sent; empty: those of the whole account.
	ServiceID string
}

// CreateSubscription makes a webhook subscription and returns its id and its secret, which PagerDuty shows this once. A call whose
// answer got lost is ErrAmbiguous: the subscription may exist, with a secret that nobody knows.
func (c *Client) CreateSubscription(ctx context.Context, w Wish) (id, secret string, err error) {
	const op = "create webhook subscription"
	filter := map[string]string{"type": "account_reference"}
	if w.ServiceID != "" {
		if err := checkID(op, "service", w.ServiceID); err != nil {
			return "", "", err
		}
		filter = map[string]string{"type": "service_reference", "id": w.ServiceID}
	}
	answer, err := c.write(ctx, request{op: op, method: http.MethodPost}, "/webhook_subscriptions", map[string]any{
		"webhook_subscription": map[string]any{
			"type": "webhook_subscription", "description": w.Description, "events": w.Events, "filter": filter,
			"delivery_method": map[string]string{"type": "http_delivery_method", "url": w.URL},
		},
	})
	if err != nil {
		return "", "", err
	}
	var body struct {
		Subscription struct {
			ID             string `json:"id"`
			DeliveryMethod struct {
				Secret string `json:"secret"`
			} `json:"delivery_method"`
		} `json:"webhook_subscription"`
	}
	if err := json.Unmarshal(answer, &body); err != nil {
		return "", "", unreadable(op, err)
	}
	if body.Subscription.ID == "" || body.Subscription.DeliveryMethod.Secret == "" {
		return "", "", unreadable(op, errors.New("it has no id or no secret"))
	}
	return body.Subscription.ID, body.Subscription.DeliveryMethod.Secret, nil
}

// OnCalls names the schedules and escalation policies on which a user is on call between two times.
func (c *Client) OnCalls(ctx context.Context, userID string, from, to time.Time) ([]string, error) {
	op := "read on-calls of user " + userID
	if err := checkID("read on-calls", "user", userID); err != nil {
		return nil, err
	}
	query := url.Values{"user_ids[]": {userID}, "since": {from.UTC().Format(time.RFC3339)}, "until": {to.UTC().Format(time.RFC3339)}}
	var names []string
	err := c.list(ctx, op, "/oncalls", "oncalls", query, func(raw json.RawMessage) error {
		var w struct {
			Policy   Ref  `json:"escalation_policy"`
			Schedule *Ref `json:"schedule"`
		}
		if err := json.Unmarshal(raw, &w); err != nil {
			return fmt.Errorf("read on-call: %w", err)
		}
		name := "escalation policy " + cmp.Or(w.Policy.Summary, w.Policy.ID)
		if w.Schedule != nil {
			name = "schedule " + cmp.Or(w.Schedule.Summary, w.Schedule.ID)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}
