package api

import (
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/playbook"
)

type auditPage struct {
	page
	Filter      map[string]string
	Entries     []AuditRecord
	Next, First string
}

// audit shows who did what, when, and why.
func (p *pages) audit(c *gin.Context, base page) error {
	if address, ok := withoutEmpty(c.Request.URL); ok {
		c.Redirect(http.StatusSeeOther, address)
		return nil
	}
	q := newQuery(c, "run", "carrier", "cursor")
	f := AuditFilter{Run: q.text("run"), Carrier: q.text("carrier"), Limit: defaultLimit, Cursor: q.text("cursor")}
	if err := q.err(); err != nil {
		return err
	}
	var err error
	if f.Carriers, err = narrowed(c, f.Carrier); err != nil {
		return err
	}
	found, err := p.server.History.Audit(c.Request.Context(), f)
	if err != nil {
		return cursorField(err)
	}
	base.Here = "audit"
	data := auditPage{page: base, Filter: map[string]string{"run": f.Run, "carrier": f.Carrier}, Entries: found.Entries}
	data.Next, data.First = p.turn(c, q, found.Next)
	if f.Cursor == "" {
		data.Poll = listPoll
	}
	p.render(c, http.StatusOK, "audit", data)
	return nil
}

type eventsPage struct {
	page
	Events      []playbook.EventRecord
	Next, First string
}

// events shows what PagerDuty sent, and what became of it.
func (p *pages) events(c *gin.Context, base page) error {
	q := newQuery(c, "cursor")
	cursor := q.text("cursor")
	if err := q.err(); err != nil {
		return err
	}
	found, err := p.server.History.Events(c.Request.Context(), tokenOf(c).Carriers, defaultLimit, cursor)
	if err != nil {
		return cursorField(err)
	}
	base.Here = "events"
	data := eventsPage{page: base, Events: found.Events}
	data.Next, data.First = p.turn(c, q, found.Next)
	if cursor == "" {
		data.Poll = listPoll
	}
	p.render(c, http.StatusOK, "events", data)
	return nil
}

// turn are the addresses of the next page of a list, and of its first; empty where there is none, or this is it.
func (p *pages) turn(c *gin.Context, q *query, cursor string) (next, first string) {
	values := url.Values{}
	for k, v := range q.values {
		if k != "cursor" {
			values[k] = v
		}
	}
	address := func() string {
		if len(values) == 0 {
			return c.Request.URL.Path
		}
		return c.Request.URL.Path + "?" + values.Encode()
	}
	if q.values.Get("cursor") != "" {
		first = address()
	}
	if cursor != "" {
		values.Set("cursor", cursor)
		next = address()
	}
	return next, first
}
