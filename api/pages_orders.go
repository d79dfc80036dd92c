package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"
)

// The pages' orders go through the API itself, as a request in the name of the reader: a button can do nothing that its reader's
// token could not do, and the audit log tells the same. The form's key is the Idempotency-Key: a form that is sent twice orders once.

// refusal is why an order was not carried out: it is shown beside the order's button, under the API's status.
type refusal struct {
	Order, Title, Detail string
	Status               int
}

// answer is what the API answered to an order.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
func (a *answer) WriteHeader(status int)      { a.status = status }

// order sends an order to the API: the answer when it was carried out, the refusal when it was not.
func (p *pages) order(c *gin.Context, method, path, name string, body map[string]any) (*answer, *refusal, error) {
	if !sameSite(c.Request) {
		return nil, &refusal{name, "Not sent", "The form came from another site.", http.StatusForbidden}, nil
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, nil, fmt.Errorf("encode order: %w", err)
	}
	r, err := http.NewRequestWithContext(c.Request.Context(), method, path, bytes.NewReader(text))
	if err != nil {
		return nil, nil, fmt.Errorf("make order: %w", err)
	}
	r.RemoteAddr = c.Request.RemoteAddr
	r.Header.Set("Authorization", "Bearer "+secretOf(c))
	r.Header.Set("Content-Type", gin.MIMEJSON)
	r.Header.Set(requestIDHeader, c.GetString(requestIDKey))
	if key := c.PostForm("key"); key != "" && method == http.MethodPost {
		r.Header.Set("Idempotency-Key", key)
	}
	a := &answer{header: http.Header{}, status: http.StatusOK}
	p.server.engine.ServeHTTP(a, r)
	if a.status < http.StatusBadRequest {
		return a, nil, nil
	}
	var told problem
	if err := json.Unmarshal(a.body.Bytes(), &told); err != nil || told.Title == "" {
		told.Title = fmt.Sprintf("The answer was %d", a.status)
	}
	return nil, &refusal{name, told.Title, told.Detail, a.status}, nil
}

// orderRun gives an order about a run, and goes to where it shows: onward, when that names a page, or the run.
func (p *pages) orderRun(c *gin.Context, base page, name string, body map[string]any, onward func(*answer) string) error {
	id := c.Param("id")
	a, refused, err := p.order(c, http.MethodPost, "/api/v1/runs/"+url.PathEscape(id)+"/"+name, name, body)
	if err != nil {
		return err
	}
	if refused != nil {
		return p.showRun(c, base, refused.Status, refused)
	}
	c.Redirect(http.StatusSeeOther, onward(a))
	return nil
}

func (p *pages) cancelRun(c *gin.Context, base page) error {
	return p.orderRun(c, base, "cancel", map[string]any{"reason": c.PostForm("reason")}, thisRun(c))
}

func (p *pages) approveRun(c *gin.Context, base page) error {
	return p.orderRun(c, base, "approve", map[string]any{"plan_hash": c.PostForm("plan_hash")}, thisRun(c))
}

func thisRun(c *gin.Context) func(*answer) string {
	return func(*answer) string { return "/runs/" + url.PathEscape(c.Param("id")) }
}

// retriggerRun goes on to the new run.
func (p *pages) retriggerRun(c *gin.Context, base page) error {
	return p.orderRun(c, base, "retrigger", map[string]any{"reason": c.PostForm("reason")}, func(a *answer) string {
		var run runJSON
		if err := json.Unmarshal(a.body.Bytes(), &run); err != nil || run.ID == "" {
			return "/runs"
		}
		return "/runs/" + url.PathEscape(run.ID)
	})
}

// setKillSwitch turns the switch of all carriers, or of one, on or off.
func (p *pages) setKillSwitch(c *gin.Context, base page) error {
	carrier := c.PostForm("carrier")
	body := map[string]any{"engaged": c.PostForm("engaged") == "true", "reason": c.PostForm("reason")}
	if carrier != "" {
		body["carrier"] = carrier
	}
	_, refused, err := p.order(c, http.MethodPut, "/api/v1/kill-switch", "kill-switch", body)
	if err != nil {
		return err
	}
	if refused != nil {
		p.message(c, refused.Status, base, refused.Title, refused.Detail)
		return nil
	}
	if carrier != "" {
		c.Redirect(http.StatusSeeOther, "/carriers/"+url.PathEscape(carrier))
		return nil
	}
	c.Redirect(http.StatusSeeOther, "/")
	return nil
}
