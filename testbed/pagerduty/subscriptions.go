package pagerduty

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// The filters of a subscription.
const (
	serviceFilter = "service_reference"
	teamFilter    = "team_reference"
	accountFilter = "account_reference"
)

// maxSubscriptions is how many may have the same filter.
const maxSubscriptions = 10

// eventTypes are the event types that a subscription can ask for, all of those
// documented for incidents and services.
var eventTypes = []string{
	"incident.acknowledged", "incident.action_invocation.created", "incident.action_invocation.terminated",
	"incident.action_invocation.updated", "incident.annotated", "incident.conference_bridge.updated",
	"incident.custom_field_values.updated", "incident.delegated", "incident.escalated", "incident.incident_type.changed",
	"incident.priority_updated", "incident.reassigned", "incident.reopened", "incident.resolved", "incident.responder.added",
	"incident.responder.replied", "incident.role.assigned", "incident.service_updated", "incident.status_update_published",
	"incident.task.completed", "incident.task.created", "incident.task.updated", "incident.triggered", "incident.unacknowledged",
	"incident.workflow.completed", "incident.workflow.started",
	"service.created", "service.custom_field_values.updated", "service.deleted", "service.updated",
}

// EventTypes returns the event types that a subscription can ask for.
func EventTypes() []string { return slices.Clone(eventTypes) }

// Subscription is a webhook subscription.
type Subscription struct {
	ID, Description string
	URL             string
	// Events it asks for; empty in Subscribe means all of them.
	Events []string
	// FilterType is "service_reference", "team_reference" or
	// "account_reference" (also when empty in Subscribe).
	FilterType, FilterID string
	// Secret signs the webhooks; made by Subscribe when empty.
	Secret string
	// SecondSecret, when set, signs too, as while a secret is rotated.
	SecondSecret  string
	CustomHeaders map[string]string
	Active        bool
	// DisabledUntil is set after three dropped webhooks in a row.
	DisabledUntil time.Time
}

type subscription struct {
	Subscription
	lanes map[string]*lane
	drops int // In a row.
}

func (s *Server) subscribe(sub Subscription) (*subscription, *Error) {
	sub.FilterType = cmp.Or(sub.FilterType, accountFilter)
	same := 0
	for _, other := range s.subs {
		if other.FilterType == sub.FilterType && other.FilterID == sub.FilterID {
			same++
		}
	}
	if same >= maxSubscriptions {
		return nil, &Error{http.StatusBadRequest, codeSubscriptions, "Too Many Subscriptions", []string{"at most 10 for one filter"}}
	}
	if u, err := url.Parse(sub.URL); err != nil || u.Host == "" {
		return nil, invalid("delivery_method.url is not a URL")
	}
	for _, kind := range sub.Events {
		if !slices.Contains(eventTypes, kind) {
			return nil, invalid("event %q is not known", kind)
		}
	}
	switch sub.FilterType {
	case accountFilter:
	case serviceFilter, teamFilter:
		if sub.FilterID == "" {
			return nil, invalid("filter.id can't be blank")
		}
	default:
		return nil, invalid("filter.type %q is not known", sub.FilterType)
	}
	sub.ID = cmp.Or(sub.ID, newID("P", 7))
	sub.Secret = cmp.Or(sub.Secret, newHex(32))
	sub.Active = true
	added := &subscription{Subscription: sub, lanes: map[string]*lane{}}
	s.subs = append(s.subs, added)
	return added, nil
}

func (s *Server) subscription(id string) (*subscription, *Error) {
	for _, sub := range s.subs {
		if sub.ID == id {
			return sub, nil
		}
	}
	return nil, notFound()
}

// subscriptionJSON shows the secret only in the answer to the create, and never
// the values of custom headers.
func (s *Server) subscriptionJSON(sub *subscription, withSecret bool) object {
	headers := []object{}
	for name := range sub.CustomHeaders {
		headers = append(headers, object{"name": name, "value": "<redacted>"})
	}
	method := object{
		"id": "PDM" + sub.ID, "type": "http_delivery_method", "url": sub.URL, "custom_headers": headers,
		"temporarily_disabled": s.acct.now().Before(sub.DisabledUntil), "secret": nil,
	}
	if withSecret {
		method["secret"] = sub.Secret
	}
	return object{
		"id": sub.ID, "type": "webhook_subscription", "active": sub.Active, "description": sub.Description,
		"delivery_method": method, "events": sub.Events, "filter": object{"type": sub.FilterType, "id": orNil(sub.FilterID)},
	}
}

type subscriptionWish struct {
	Active         *bool      `json:"active"`
	Description    *string    `json:"description"`
	Events         *[]string  `json:"events"`
	Filter         *reference `json:"filter"`
	DeliveryMethod *struct {
		Type          string `json:"type"`
		URL           string `json:"url"`
		CustomHeaders []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"custom_headers"`
	} `json:"delivery_method"`
}

func (s *Server) createSubscription(c *call) (int, any, *Error) {
	w, err := decode[subscriptionWish](c, "webhook_subscription")
	if err != nil {
		return 0, nil, err
	}
	switch {
	case w.DeliveryMethod == nil || w.DeliveryMethod.Type != "http_delivery_method":
		return 0, nil, invalid("delivery_method of type http_delivery_method is missing")
	case w.Filter == nil:
		return 0, nil, invalid("filter is missing")
	case w.Events == nil || len(*w.Events) == 0:
		return 0, nil, invalid("events can't be empty")
	}
	sub := Subscription{URL: w.DeliveryMethod.URL, Events: *w.Events, FilterType: w.Filter.Type, FilterID: w.Filter.ID, CustomHeaders: map[string]string{}}
	for _, h := range w.DeliveryMethod.CustomHeaders {
		sub.CustomHeaders[h.Name] = h.Value
	}
	if w.Description != nil {
		sub.Description = *w.Description
	}
	added, err := s.subscribe(sub)
	if err != nil {
		return 0, nil, err
	}
	if w.Active != nil {
		added.Active = *w.Active
	}
	return http.StatusCreated, object{"webhook_subscription": s.subscriptionJSON(added, true)}, nil
}

func (s *Server) listSubscriptions(c *call) (int, any, *Error) {
	var found []*subscription
	kind, id := c.query.Get("filter_type"), c.query.Get("filter_id")
	for _, sub := range s.subs {
		if (kind == "" || sub.FilterType == kind+"_reference") && (id == "" || sub.FilterID == id) {
			found = append(found, sub)
		}
	}
	answer, rows, err := page(c, "webhook_subscriptions", found)
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, sub := range rows {
		list = append(list, s.subscriptionJSON(sub, false))
	}
	answer["webhook_subscriptions"] = list
	return http.StatusOK, answer, nil
}

func (s *Server) getSubscription(c *call) (int, any, *Error) {
	sub, err := s.subscription(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"webhook_subscription": s.subscriptionJSON(sub, false)}, nil
}

// updateSubscription can not change where or how a webhook is delivered.
func (s *Server) updateSubscription(c *call) (int, any, *Error) {
	sub, err := s.subscription(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	w, err := decode[subscriptionWish](c, "webhook_subscription")
	if err != nil {
		return 0, nil, err
	}
	if w.Events != nil {
		for _, kind := range *w.Events {
			if !slices.Contains(eventTypes, kind) {
				return 0, nil, invalid("event %q is not known", kind)
			}
		}
		if len(*w.Events) == 0 {
			return 0, nil, invalid("events can't be empty")
		}
		sub.Events = *w.Events
	}
	if w.Active != nil {
		sub.Active = *w.Active
	}
	if w.Description != nil {
		sub.Description = *w.Description
	}
	if w.Filter != nil {
		sub.FilterType, sub.FilterID = w.Filter.Type, w.Filter.ID
	}
	return http.StatusOK, object{"webhook_subscription": s.subscriptionJSON(sub, false)}, nil
}

func (s *Server) deleteSubscription(c *call) (int, any, *Error) {
	sub, err := s.subscription(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	s.purge(sub)
	s.subs = slices.DeleteFunc(s.subs, func(o *subscription) bool { return o == sub })
	return http.StatusNoContent, nil, nil
}

func (s *Server) enableSubscription(c *call) (int, any, *Error) {
	sub, err := s.subscription(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	sub.DisabledUntil, sub.drops = time.Time{}, 0
	return http.StatusOK, object{"webhook_subscription": s.subscriptionJSON(sub, false)}, nil
}

// pingSubscription sends the test event, which is about no incident.
func (s *Server) pingSubscription(c *call) (int, any, *Error) {
	sub, err := s.subscription(c.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	e := s.envelope(nil, happening{kind: "pagey.ping", data: object{"type": "ping", "message": "Hello from your friend Pagey!"}})
	s.events = append(s.events, e)
	s.queue(sub, e)
	return http.StatusAccepted, nil, nil
}
