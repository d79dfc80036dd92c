package incident

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
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
