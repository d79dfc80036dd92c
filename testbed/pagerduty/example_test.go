package pagerduty_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/drydock/drydock/testbed/pagerduty"
)

// Monitoring opens an incident, its webhook arrives, and a person takes over.
func Example() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Println("signed:", err == nil && r.Header.Get("X-PagerDuty-Signature") == pagerduty.Sign("secret", body))
	}))
	defer receiver.Close()

	pd := pagerduty.New(pagerduty.Options{})
	if _, err := pd.Start(ctx); err != nil {
		fmt.Println(err)
		return
	}
	defer pd.Close()
	ada := pd.AddUser(pagerduty.User{Name: "Ada", Email: "ada@example.com"})
	policy, _ := pd.AddPolicy(pagerduty.EscalationPolicy{Name: "armada-ops", Levels: []pagerduty.Level{{Users: []string{ada.ID}}}})
	service, _ := pd.AddService(pagerduty.Service{Name: "carriers", PolicyID: policy.ID})
	_, _ = pd.Subscribe(pagerduty.Subscription{URL: receiver.URL, Secret: "secret", Events: []string{"incident.triggered"}})

	incident, err := pd.TriggerIncident("node-exporter_daemonset_absent", service.ID)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = pd.WaitFor(ctx, func() bool { return pd.Deliveries()[0].State == pagerduty.Delivered })
	_ = pd.Acknowledge(incident.ID, ada.ID)
	for _, e := range pd.Timeline(incident.ID) {
		fmt.Printf("%s by %q\n", e.Type, e.By.Summary)
	}
	// Output:
	// signed: true
	// trigger_log_entry by "Events API V2"
	// assign_log_entry by ""
	// notify_log_entry by ""
	// acknowledge_log_entry by "Ada"
}
