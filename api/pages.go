package api

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/api/web"
	"github.com/drydock/drydock/playbook"
)

const (
	// sessionCookie holds the token itself: the pages check it as /api checks the header, so every replica knows it and
	// it ends when the token is taken out of the configuration. It is HttpOnly and SameSite=Strict, and /api ignores it.
	sessionCookie = "drydock_session"
	sessionLength = 12 * time.Hour
)

// oneTimeCode logs one browser in: the address that serve prints carries it.
type oneTimeCode struct {
	mu   sync.Mutex
	code string
}

func (o *oneTimeCode) spend(code string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.code == "" || code != o.code {
		return false
	}
	o.code = ""
	return true
}

type pages struct {
	server    *Server
	templates map[string]*template.Template
}

func (s *Server) pages() {
	p := &pages{server: s}
	var err error
	p.templates, err = web.Pages(template.FuncMap{
		"rfc3339": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"date":    func(t time.Time) string { return t.UTC().Format("2 Jan 15:04:05") + " UTC" },
		"clock":   func(t time.Time) string { return t.UTC().Format("15:04:05") },
	})
	if err != nil { // a mistake in an embedded template: no page works, all else does
		s.log.Error("dashboard is off", "error", err)
		return
	}
	e := s.engine
	e.StaticFS("/static", noListing{http.FS(web.Static())})
	e.Match([]string{http.MethodGet, http.MethodHead}, "/", p.viewer(p.list))
	e.GET("/runs/:id", p.viewer(p.run))
	e.GET("/login", p.login)
	e.POST("/login", limitBody, p.enter)
	e.POST("/logout", p.leave)
	e.GET("/problems/:name", p.problem)
	e.GET("/docs", p.docs)
}

// noListing hides the list of files that http.FileServer would make of a folder.
type noListing struct{ http.FileSystem }

func (n noListing) Open(name string) (http.File, error) {
	f, err := n.FileSystem.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || info.IsDir() {
		_ = f.Close()
		return nil, http.ErrMissingFile
	}
	return f, nil
}

// page is what the layout shows; the parts of each page are fields of the struct that embeds it.
type page struct {
	User    string
	Live    bool
	Version string
}

func (p *pages) render(c *gin.Context, status int, name string, data any) {
	var b bytes.Buffer
	if err := p.templates[name].Execute(&b, data); err != nil {
		p.server.log.LogAttrs(c.Request.Context(), slog.LevelError, "page failed", slog.String("page", name), slog.Any("error", err))
		c.String(http.StatusInternalServerError, "This page could not be made; the server's log says why.")
		return
	}
	c.Data(status, "text/html; charset=utf-8", b.Bytes())
}

// viewer lets a request through whose cookie or Authorization header holds a token, and sends others to the login.
func (p *pages) viewer(h func(c *gin.Context, base page) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		secret := bearer(c.Request)
		if cookie, err := c.Cookie(sessionCookie); secret == "" && err == nil {
			secret = cookie
		}
		token, err := p.server.authorize(c.Request, secret, Viewer)
		switch {
		case errors.Is(err, errTooManyRequests):
			p.tooMany(c)
			return
		case err != nil:
			c.Redirect(http.StatusSeeOther, "/login?next="+url.QueryEscape(c.Request.URL.RequestURI()))
			return
		}
		c.Set(tokenKey, token)
		base := page{User: token.Name, Version: p.server.Version}
		err = h(c, base)
		if err == nil {
			return
		}
		problem, ours := problemOf(err)
		if ours {
			p.server.log.LogAttrs(c.Request.Context(), slog.LevelError, "page failed", slog.Any("error", err))
		}
		p.render(c, problem.Status, "message", struct {
			page
			Heading, Text string
		}{base, problem.Title, cmp.Or(problem.Detail, "Error "+fmt.Sprint(problem.Status)+".")})
	}
}

// tooMany answers who asks too often, or tries too many tokens.
func (p *pages) tooMany(c *gin.Context) {
	c.Header("Retry-After", "1")
	p.render(c, http.StatusTooManyRequests, "message", struct {
		page
		Heading, Text string
	}{page{Version: p.server.Version}, "Too many requests", "Wait a moment, then load the page again."})
}

type stateView struct{ Class, Sign, Text string }

func newStateView(s playbook.State) stateView {
	v := stateView{"busy", "◐", strings.ReplaceAll(string(s), "_", " ")}
	switch s {
	case playbook.StateResolved:
		v.Class, v.Sign = "good", "✓"
	case playbook.StateEscalated:
		v.Class, v.Sign = "bad", "▲"
	case playbook.StateStoodDown:
		v.Class, v.Sign = "idle", "■"
	case playbook.Queued, playbook.AwaitingApproval, playbook.WaitingForDisk:
		v.Class, v.Sign = "idle", "○"
	case playbook.Triage, playbook.Redeploying, playbook.RestartingController, playbook.Draining, playbook.Reapplying,
		playbook.Verifying, playbook.Unwinding:
	}
	return v
}

type runView struct {
	ID, Carrier, Namespace, DaemonSet string
	State                             stateView
	Finding, Why, Mode, Trigger, From string
	// Wrong is what was found to be the matter, which is more telling than how it stands now.
	Wrong                    string
	Confirmed, Ended         bool
	Began, EndedAt, Deadline time.Time
	Ago, Took                string
}

func newRunView(r playbook.Run, now time.Time) runView {
	v := runView{
		ID: r.ID, Carrier: r.Target.Carrier, Namespace: r.Target.Namespace, DaemonSet: r.Target.DaemonSet, State: newStateView(r.State),
		Finding: string(findingOf(r.Finding)), Confirmed: r.Confirmed, Why: r.Why, Mode: string(r.Mode), Trigger: string(r.Trigger),
		From: r.RetriggeredFrom, Ended: r.State.Ended(), Began: r.StartedAt, EndedAt: r.FinishedAt, Deadline: r.Deadline,
		Ago: span(now.Sub(r.StartedAt)) + " ago",
	}
	v.Took = span(endOf(r, now).Sub(r.StartedAt))
	for i, f := range r.Memory.Found {
		if i > 0 {
			v.Wrong += ", then "
		}
		v.Wrong += string(f.Finding)
	}
	if v.Wrong == "" {
		v.Wrong = v.Finding
	}
	return v
}

func endOf(r playbook.Run, now time.Time) time.Time {
	if r.FinishedAt.IsZero() {
		return now
	}
	return r.FinishedAt
}

// span writes a duration in its two largest units.
func span(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/day, d%day/time.Hour)
}

type link struct {
	Text, Href string
	Current    bool
}

// list shows the runs, newest first, and says so when nothing is changed because of the kill switch.
func (p *pages) list(c *gin.Context, base page) error {
	q := newQuery(c, "outcome", "cursor")
	outcomes := []playbook.Outcome{playbook.OutcomeResolved, playbook.OutcomeEscalated, playbook.OutcomeStoodDown}
	f := playbook.RunFilter{Outcome: oneOf(q, "outcome", outcomes), Limit: defaultLimit, Cursor: q.text("cursor"), Carriers: tokenOf(c).Carriers}
	if err := q.err(); err != nil {
		return err
	}
	found, err := p.server.History.Runs(c.Request.Context(), f)
	if err != nil {
		return cursorField(err)
	}
	base.Live = f.Cursor == ""
	data := struct {
		page
		KillSwitch, Next, Empty string
		Filters                 []link
		Runs                    []runView
	}{page: base, Empty: "No runs yet. A run begins when PagerDuty sends an incident about a DaemonSet of a configured carrier."}
	if f.Outcome != "" {
		data.Empty = "No run ended like this."
	}
	if k, err := p.server.Orders.KillSwitch(c.Request.Context(), ""); err == nil && k.Engaged {
		data.KillSwitch = cmp.Or(k.Reason, "No reason was given.")
	}
	data.Filters = append(data.Filters, link{"all", "/", f.Outcome == ""})
	for _, o := range outcomes {
		data.Filters = append(data.Filters, link{strings.ReplaceAll(string(o), "_", " "), "/?outcome=" + string(o), f.Outcome == o})
	}
	for _, r := range found.Runs {
		data.Runs = append(data.Runs, newRunView(r, p.server.Now()))
	}
	if found.Next != "" {
		values := url.Values{"cursor": {found.Next}}
		if f.Outcome != "" {
			values.Set("outcome", string(f.Outcome))
		}
		data.Next = "/?" + values.Encode()
	}
	p.render(c, http.StatusOK, "runs", data)
	return nil
}

type tickView struct {
	At               time.Time
	To, Finding, Why string
	Moved            bool
}

type intentView struct {
	Seq, Undoes                  int
	Kind, Target, Result, Detail string
	At                           time.Time
}

type noteView struct {
	At                     time.Time
	Incident, Text, Result string
}

type incidentView struct {
	Number          int
	Title, URL, End string
}

// run shows one run, the summary first.
func (p *pages) run(c *gin.Context, base page) error {
	r, err := p.server.readRun(c, c.Param("id"))
	if err != nil {
		return err
	}
	now := p.server.Now()
	base.Live = !r.State.Ended()
	data := struct {
		page
		Run                runView
		Summary, NodesLine string
		Incidents          []incidentView
		Nodes, OtherNodes  []playbook.Verdict
		Intents            []intentView
		Ticks              []tickView
		Notes              []noteView
		Questions          []playbook.Question
	}{page: base, Run: newRunView(r.Run, now), Summary: summary(r.Run, now)}
	for _, i := range r.Incidents {
		v := incidentView{Number: i.Number, Title: i.Title, End: string(i.End)}
		// Only a web address becomes a link: it came from outside.
		if u, err := url.Parse(i.URL); err == nil && (u.Scheme == "https" || u.Scheme == "http") {
			v.URL = i.URL
		}
		data.Incidents = append(data.Incidents, v)
	}
	for _, i := range r.Intents {
		if a, ok := i.Action.(playbook.Annotate); ok {
			data.Notes = append(data.Notes, noteView{i.PromisedAt, a.Incident, a.Text, string(i.Result)})
		}
		data.Intents = append(data.Intents, intentView{
			i.Seq, i.Undoes, strings.ReplaceAll(string(i.Action.Kind()), "_", " "), i.Action.Target().String(),
			cmp.Or(strings.ReplaceAll(string(i.Result), "_", " "), "open"), i.Detail, i.PromisedAt,
		})
	}
	for _, t := range slices.Backward(r.Ticks) {
		data.Ticks = append(data.Ticks, tickView{t.At, strings.ReplaceAll(string(t.To), "_", " "), string(t.Finding), t.Why, t.From != t.To})
	}
	if n := len(r.Ticks); n > 0 {
		d := r.Ticks[n-1].Diagnosis
		data.Questions = playbook.ExplainTick(r, n-1)
		data.Nodes, data.OtherNodes = splitNodes(d.Verdicts)
		data.NodesLine = fmt.Sprintf("%d of %d expected nodes have a ready pod.", d.Expected-d.Missing, d.Expected)
	}
	p.render(c, http.StatusOK, "run", data)
	return nil
}

// splitNodes puts first the nodes with something the matter.
func splitNodes(all []playbook.Verdict) (troubled, others []playbook.Verdict) {
	for _, v := range all {
		if v.Verdict == playbook.VerdictCovered || v.Verdict == playbook.VerdictExcluded {
			others = append(others, v)
		} else {
			troubled = append(troubled, v)
		}
	}
	return troubled, others
}

// summary says in one sentence how the run stands.
func summary(r playbook.Run, now time.Time) string {
	what := r.Target.DaemonSet + " on " + r.Target.Carrier
	took, done := span(endOf(r, now).Sub(r.StartedAt)), deeds(r)
	switch r.Outcome {
	case playbook.OutcomeResolved:
		if done == "" {
			return fmt.Sprintf("Drydock found %s healthy again without changing anything, watched it, and resolved the incident after %s.", what, took)
		}
		return fmt.Sprintf("Drydock repaired %s in %s and resolved the incident: it %s.", what, took, done)
	case playbook.OutcomeEscalated:
		return fmt.Sprintf("Drydock could not repair %s and handed the incident over after %s: it %s. A person must look.", what, took,
			cmp.Or(done, "changed nothing"))
	case playbook.OutcomeStoodDown:
		return fmt.Sprintf("Drydock stood down from %s after %s: it %s, and did not end the incident.", what, took, cmp.Or(done, "changed nothing"))
	}
	verb := map[playbook.State]string{
		playbook.Queued: "is about to look at", playbook.Triage: "is finding out what is wrong with", playbook.WaitingForDisk: "waits for disk space, for",
		playbook.Redeploying: "is deploying again", playbook.RestartingController: "is restarting the controller-manager, for",
		playbook.Draining: "is making room on a full node, for", playbook.Reapplying: "is creating again", playbook.Verifying: "is watching whether the repair holds, for",
		playbook.AwaitingApproval: "waits for a person's approval, for", playbook.Unwinding: "is putting back what it changed, for",
	}[r.State]
	return fmt.Sprintf("Drydock %s %s, for %s now.", cmp.Or(verb, "works on"), what, took)
}

// deeds counts what the run changed on the carrier, in words; empty for nothing.
func deeds(r playbook.Run) string {
	count := map[playbook.Kind]int{}
	for _, i := range r.Intents {
		if i.Result == playbook.Happened {
			count[i.Action.Kind()]++
		}
	}
	var done []string
	for _, d := range []struct {
		kind      playbook.Kind
		one, many string
	}{
		{playbook.KindPromote, "promoted the deployed build again", "promoted the deployed build %d times"},
		{playbook.KindNudge, "nudged the controller", "nudged the controller %d times"},
		{playbook.KindRestart, "restarted the controller-manager", "restarted the controller-manager %d times"},
		{playbook.KindCordon, "cordoned a node", "cordoned %d nodes"},
		{playbook.KindEvict, "moved one pod away", "moved %d pods away"},
		{playbook.KindOrphanDelete, "deleted the DaemonSet without its pods", "deleted the DaemonSet without its pods %d times"},
		{playbook.KindCreate, "created it again", "created it again %d times"},
		{playbook.KindUncordon, "uncordoned the node", "uncordoned %d nodes"},
	} {
		switch n := count[d.kind]; n {
		case 0:
		case 1:
			done = append(done, d.one)
		default:
			done = append(done, fmt.Sprintf(d.many, n))
		}
	}
	return strings.Join(done, ", ")
}

type loginPage struct {
	page
	Wrong, Next, Hint string
}

func (p *pages) loginPage(c *gin.Context, status int, wrong string) {
	hint := `Tokens are listed in the configuration as api_tokens; "drydock token new" makes one.`
	if p.server.LoginToken != "" {
		hint = "The token is in the file token of the data directory. The address that the server printed at its start logs in once, without it."
	}
	p.render(c, status, "login", loginPage{page{Version: p.server.Version}, wrong, localPath(cmp.Or(c.Query("next"), c.PostForm("next"))), hint})
}

// login shows the form, or takes the one-time code.
func (p *pages) login(c *gin.Context) {
	if code := c.Query("code"); code != "" {
		if p.server.login.spend(code) {
			p.setSession(c, p.server.LoginToken)
			c.Redirect(http.StatusSeeOther, "/")
			return
		}
		p.loginPage(c, http.StatusUnauthorized, "This address was used before. Log in with the token.")
		return
	}
	p.loginPage(c, http.StatusOK, "")
}

// enter takes the form.
func (p *pages) enter(c *gin.Context) {
	if err := sameSite(c.Request); err != nil {
		p.loginPage(c, http.StatusForbidden, "The form came from another site.")
		return
	}
	secret := strings.TrimSpace(c.PostForm("token"))
	switch _, err := p.server.authorize(c.Request, secret, Viewer); {
	case errors.Is(err, errTooManyRequests):
		p.tooMany(c)
		return
	case err != nil:
		p.loginPage(c, http.StatusUnauthorized, "No such token.")
		return
	}
	p.setSession(c, secret)
	c.Redirect(http.StatusSeeOther, localPath(c.PostForm("next")))
}

func (p *pages) leave(c *gin.Context) {
	if err := sameSite(c.Request); err != nil {
		p.loginPage(c, http.StatusForbidden, "The form came from another site.")
		return
	}
	p.setSession(c, "")
	c.Redirect(http.StatusSeeOther, "/login")
}

func (p *pages) setSession(c *gin.Context, secret string) {
	p.server.recordSession(c, secret)
	cookie := &http.Cookie{ //nolint:gosec // Secure wherever people come through https; on loopback there is none.
		Name: sessionCookie, Value: secret, Path: "/", HttpOnly: true, Secure: p.server.SecureCookies, SameSite: http.SameSiteStrictMode,
		MaxAge: int(sessionLength / time.Second),
	}
	if secret == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(c.Writer, cookie)
}

// sameSite refuses a form that another site's page sent.
func sameSite(r *http.Request) error {
	var protection http.CrossOriginProtection
	return protection.Check(r)
}

// localPath keeps a redirect on this server.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.Contains(next, `\`) {
		return "/"
	}
	return next
}

// problem explains a type of error: the types of problem+json are the addresses of these pages.
func (p *pages) problem(c *gin.Context) {
	base := page{Version: p.server.Version}
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
	p.render(c, status, "message", struct {
		page
		Heading, Text string
	}{base, heading, text})
}
