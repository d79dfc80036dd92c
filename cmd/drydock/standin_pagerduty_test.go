package main

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
)

// standInPagerDuty answers for the calls of doctor and pagerduty connect.
type standInPagerDuty struct {
	mu            sync.Mutex
	onCall        bool
	levels        int    // of every escalation policy; negative: there is none
	email         string // of the token's user; empty: drydock@example.com
	subscriptions []map[string]any
}

func (p *standInPagerDuty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	send := func(code int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	switch {
	case r.Header.Get("Authorization") != "Token token=good":
		send(401, map[string]any{"error": map[string]any{"message": "Unauthorized", "code": 2006}})
	case r.URL.Path == "/users/me":
		send(200, map[string]any{"user": map[string]string{"id": "PBOTUSER", "name": "Drydock", "email": cmp.Or(p.email, "drydock@example.com")}})
	case r.URL.Path == "/incidents":
		send(200, map[string]any{"incidents": []any{}, "more": false})
	case r.URL.Path == "/oncalls":
		list := []any{}
		if p.onCall {
			list = append(list, map[string]any{"escalation_policy": map[string]string{"id": "PPOLICY1"}, "schedule": map[string]string{"id": "PSCHED01", "summary": "Nights"}})
		}
		send(200, map[string]any{"oncalls": list, "more": false})
	case strings.HasPrefix(r.URL.Path, "/escalation_policies/") && p.levels >= 0:
		rules := make([]any, p.levels)
		for i := range rules {
			rules[i] = map[string]any{"targets": []any{map[string]string{"id": "PUSER001", "type": "user_reference"}}}
		}
		send(200, map[string]any{"escalation_policy": map[string]any{"id": strings.TrimPrefix(r.URL.Path, "/escalation_policies/"), "escalation_rules": rules}})
	case r.URL.Path == "/webhook_subscriptions" && r.Method == http.MethodGet:
		send(200, map[string]any{"webhook_subscriptions": p.subscriptions, "more": false})
	case r.URL.Path == "/webhook_subscriptions" && r.Method == http.MethodPost:
		var body struct {
			Subscription map[string]any `json:"webhook_subscription"`
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		s := body.Subscription
		s["id"], s["active"] = "PSUBSCR1", true
		p.subscriptions = append(p.subscriptions, s)
		method, _ := s["delivery_method"].(map[string]any)
		shown := map[string]any{"id": "PSUBSCR1", "delivery_method": map[string]any{"url": method["url"], "secret": "s3cret"}}
		send(201, map[string]any{"webhook_subscription": shown})
	default:
		send(404, map[string]any{"error": map[string]any{"message": "Not Found", "code": 2100}})
	}
}
