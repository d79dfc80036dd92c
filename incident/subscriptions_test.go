package incident

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	s := newStandIn(t, answerWith(200, `{"webhook_subscriptions":[
		{"id":"PSUB001","type":"webhook_subscription","active":true,"description":"ours","events":["incident.triggered"],
			"delivery_method":{"type":"http_delivery_method","url":"https://d.test/webhooks/pagerduty","temporarily_disabled":true,"secret":null},
			"filter":{"type":"service_reference","id":"PSVC001"}},
		{"id":"PSUB002","active":false,"description":null,"events":[],"delivery_method":{"url":"https://e.test/"},"filter":{"type":"account_reference","id":null}}
		],"more":false}`), answerWith(200, `{"webhook_subscription":{"id":"PSUB001"}}`), answerWith(403, `{"error":{"message":"Forbidden"}}`))
	c, _ := newTestClient(t, s.server.URL)
	got, err := c.Subscriptions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Subscription{
		{ID: "PSUB001", Description: "ours", URL: "https://d.test/webhooks/pagerduty", Events: []string{"incident.triggered"},
			FilterType: "service_reference", FilterID: "PSVC001", Active: true, Disabled: true},
		{ID: "PSUB002", URL: "https://e.test/", Events: []string{}, FilterType: "account_reference"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("subscriptions (-want +got):\n%s", diff)
	}
	if err := c.EnableSubscription(t.Context(), "PSUB001"); err != nil {
		t.Errorf("enable: %v", err)
	}
	if last := s.seen()[1]; last.Method != "POST" || last.Path != "/webhook_subscriptions/PSUB001/enable" || last.Body != "" {
		t.Errorf("enable asked %+v", last)
	}
	if err := c.EnableSubscription(t.Context(), "PSUB002"); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("without the right: %v, want ErrUnauthorized", err)
	}
	if err := c.EnableSubscription(t.Context(), "../users"); !errors.Is(err, ErrInvalid) || len(s.seen()) != 3 {
		t.Errorf("a bad id: %v, %d requests", err, len(s.seen()))
	}
}
