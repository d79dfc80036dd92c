package api

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/api/web"
)

// The dashboard. Its pages are made here, whole, and work without a script; the scripts under web/static keep them fresh, show times
// in the reader's zone and add keys. They show what the API shows, and give orders through it (see pages_orders.go).
type pages struct {
	server    *Server
	templates map[string]*template.Template
	assets    string // names this version of the static files, in their addresses and as their ETag
	reached   reached
}

func (s *Server) pages() {
	p := &pages{server: s}
	var err error
	if p.assets, err = assetsTag(); err == nil {
		p.templates, err = web.Pages(words, assetsPath+p.assets+"/")
	}
	if err != nil { // a mistake in an embedded template: no page works, all else does
		s.log.Error("dashboard is off", "error", err)
		return
	}
	e := s.engine
	e.Match([]string{http.MethodGet, http.MethodHead}, assetsPath+":version/:file", p.static)
	e.Match([]string{http.MethodGet, http.MethodHead}, "/", p.viewer(p.overview))
	e.GET("/runs", p.viewer(p.list))
	e.GET("/runs/:id", p.viewer(p.run))
	e.GET("/runs/:id"+streamSuffix, p.follow)
	e.POST("/runs/:id/retrigger", limitBody, p.viewer(p.retriggerRun))
	e.POST("/runs/:id/cancel", limitBody, p.viewer(p.cancelRun))
	e.POST("/runs/:id/approve", limitBody, p.viewer(p.approveRun))
	e.GET("/carriers", p.viewer(p.carrierList))
	e.GET("/carriers/:carrier", p.viewer(p.carrier))
	e.GET("/carriers/:carrier/:namespace/:name", p.viewer(p.diagnosis))
	e.POST("/kill-switch", limitBody, p.viewer(p.setKillSwitch))
	e.GET("/audit", p.viewer(p.audit))
	e.GET("/events", p.viewer(p.events))
	e.GET("/login", p.login)
	e.POST("/login", limitBody, p.enter)
	e.GET("/login/oidc", p.loginOIDC)
	e.GET("/login/oidc/callback", p.callbackOIDC)
	e.POST("/logout", p.leave)
	e.GET("/problems/:name", p.problem)
	e.GET("/docs", p.docs)
}

// assetsTag is a hash of all static files: they are embedded together, so they change together.
func assetsTag() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(web.Static(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(web.Static(), path)
		fmt.Fprintf(h, "%s %d %s", path, len(body), body)
		return err
	})
	return hex.EncodeToString(h.Sum(nil)[:8]), err
}

// assetsPath is where style, scripts and icon are, below the name of their version.
const assetsPath = "/static/"

// static serves style, scripts and icon. A browser never asks for a version again: when something changes the version is another. A page
// of another version, as while replicas are being replaced, gets what is here, for the moment.
func (p *pages) static(c *gin.Context) {
	name, keep := c.Param("file"), "no-cache"
	if c.Param("version") == p.assets {
		keep = "public, max-age=31536000, immutable"
	}
	body, err := fs.ReadFile(web.Static(), name)
	if err != nil {
		p.server.fail(c, errNoRoute)
		return
	}
	c.Header("Cache-Control", keep)
	c.Header("ETag", `"`+p.assets+`"`)
	http.ServeContent(c.Writer, c.Request, name, timeless, bytes.NewReader(body))
}

// page is what the layout shows; the parts of each page are fields of the struct that embeds it.
type page struct {
	User, Version string
	Role          Role
	Here          string // the part of the navigation that is current
	// Stream is the address of the page's events; Poll says to look again every so many seconds. With neither the page stands still.
	Stream     string
	Poll       int
	KillSwitch string // why all carriers are left alone, when they are
	Key        string // of the page's orders: each is carried out once
}

// Operator and Approver say which buttons the reader may use: others are not shown.
func (p page) Operator() bool { return p.Role >= Operator }

// Approver says whether the reader may approve plans.
func (p page) Approver() bool { return p.Role >= Approver }

func (p *pages) render(c *gin.Context, status int, name string, data any) {
	var b bytes.Buffer
	if err := p.templates[name].Execute(&b, data); err != nil {
		p.server.log.LogAttrs(c.Request.Context(), slog.LevelError, "page failed", slog.String("page", name), slog.Any("error", err))
		c.String(http.StatusInternalServerError, "This page could not be made; the server's log says why.")
		return
	}
	c.Data(status, "text/html; charset=utf-8", b.Bytes())
}

// secretOf is the token of a page's request: the Authorization header's, or the cookie's.
func secretOf(c *gin.Context) string {
	if secret := bearer(c.Request); secret != "" {
		return secret
	}
	cookie, err := c.Cookie(sessionCookie)
	if err != nil {
		return ""
	}
	return cookie
}

// viewer lets a request through whose cookie or Authorization header holds a token, and sends others to the login.
func (p *pages) viewer(h func(c *gin.Context, base page) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		token, err := p.server.authorize(c.Request, secretOf(c), Viewer)
		switch {
		case errors.Is(err, errTooManyRequests):
			p.tooMany(c)
			return
		case err != nil:
			c.Redirect(http.StatusSeeOther, "/login?next="+url.QueryEscape(c.Request.URL.RequestURI()))
			return
		}
		c.Set(tokenKey, token)
		base := page{User: token.Name, Role: token.Role, Version: p.server.Version, Key: randomID() + randomID()}
		if k, err := p.server.Orders.KillSwitch(c.Request.Context(), ""); err == nil && k.Engaged {
			base.KillSwitch = cmp.Or(k.Reason, "No reason was given.")
		}
		if err := h(c, base); err != nil {
			p.fail(c, base, err)
		}
	}
}

// fail shows an error in words.
func (p *pages) fail(c *gin.Context, base page, err error) {
	problem, ours := problemOf(err)
	if ours {
		p.server.log.LogAttrs(c.Request.Context(), slog.LevelError, "page failed", slog.Any("error", err))
	}
	p.message(c, problem.Status, base, problem.Title, cmp.Or(problem.Detail, "Error "+fmt.Sprint(problem.Status)+"."))
}

type messagePage struct {
	page
	Heading, Text string
	Onward        string // where the browser goes on by itself, at once
}

func (p *pages) message(c *gin.Context, status int, base page, heading, text string) {
	p.render(c, status, "message", messagePage{page: base, Heading: heading, Text: text})
}

// tooMany answers who asks too often, or tries too many tokens.
func (p *pages) tooMany(c *gin.Context) {
	c.Header("Retry-After", "1")
	p.message(c, http.StatusTooManyRequests, page{Version: p.server.Version}, "Too many requests", "Wait a moment, then load the page again.")
}

// follow is a run's stream for its page, whose cookie the API would not take.
func (p *pages) follow(c *gin.Context) {
	token, err := p.server.authorize(c.Request, secretOf(c), Viewer)
	if err != nil {
		p.server.fail(c, err)
		return
	}
	c.Set(tokenKey, token)
	p.server.do(p.server.stream)(c)
}

// problem explains a type of error: the types of problem+json are the addresses of these pages.
func (p *pages) problem(c *gin.Context) {
	heading, text, status := "No such problem", "Drydock has no error of this type.", http.StatusNotFound
	name := c.Param("name")
	for _, entry := range problems {
		if entry.name == name {
			heading, text, status = entry.err.Error(), fmt.Sprintf("Status %d. %s", entry.status, entry.mend), http.StatusOK
		}
	}
	switch name {
	case refusedName:
		heading, text, status = "Drydock's limits refuse this", "Status 409. A breaker, a budget or the kill switch is in the way; the answer says which.", http.StatusOK
	case internalName:
		heading, text, status = "Something went wrong in Drydock", "Status 500. The server's log has the reason, under the answer's request_id.", http.StatusOK
	}
	p.message(c, status, page{Version: p.server.Version}, heading, text)
}
