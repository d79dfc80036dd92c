package api_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

func (s *server) form(path string, values url.Values, header map[string]string) *httptest.ResponseRecorder {
	h := map[string]string{"Content-Type": "application/x-www-form-urlencoded"}
	for k, v := range header {
		h[k] = v
	}
	return s.do(request{method: "POST", path: path, body: values.Encode(), header: h})
}

func session(t *testing.T, w *httptest.ResponseRecorder) *http.Cookie {
	t.Helper()
	for _, c := range w.Result().Cookies() {
		if c.Name == "drydock_session" {
			if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" {
				t.Errorf("cookie is too open: %+v", c)
			}
			return c
		}
	}
	t.Fatalf("no session cookie: %d %s", w.Code, w.Body)
	return nil
}

func TestLogin(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := s.do(request{method: "GET", path: "/runs/r1?x=1"})
	if w.Code != 303 || w.Header().Get("Location") != "/login?next=%2Fruns%2Fr1%3Fx%3D1" {
		t.Fatalf("%d %s", w.Code, w.Header().Get("Location"))
	}
	if w := s.do(request{method: "GET", path: "/login?next=/runs/r1"}); w.Code != 200 || !strings.Contains(w.Body.String(), `value="/runs/r1"`) {
		t.Errorf("form: %d %s", w.Code, w.Body)
	}
	if w := s.form("/login", url.Values{"token": {"nope"}}, nil); w.Code != 401 || len(w.Result().Cookies()) != 0 {
		t.Errorf("wrong token: %d", w.Code)
	}
	if w := s.form("/login", url.Values{"token": {"tok-viewer"}}, map[string]string{"Sec-Fetch-Site": "cross-site"}); w.Code != 403 {
		t.Errorf("form of another site: %d", w.Code)
	}
	w = s.form("/login", url.Values{"token": {" tok-viewer "}, "next": {"/runs/r1"}}, nil)
	if w.Code != 303 || w.Header().Get("Location") != "/runs/r1" {
		t.Errorf("login: %d %s", w.Code, w.Header().Get("Location"))
	}
	cookie := session(t, w)
	if w := s.do(request{method: "GET", path: "/", header: map[string]string{"Cookie": cookie.String()}}); w.Code != 200 || !strings.Contains(w.Body.String(), "Nothing is being repaired") {
		t.Errorf("with the cookie: %d %s", w.Code, w.Body)
	}
	if c := session(t, s.form("/logout", nil, nil)); c.MaxAge >= 0 || c.Value != "" {
		t.Errorf("logout leaves %+v", c)
	}
	for _, next := range []string{"https://evil.example", "//evil.example", `/\evil.example`, "javascript:alert(1)", ""} {
		if w := s.form("/login", url.Values{"token": {"tok-viewer"}, "next": {next}}, nil); w.Header().Get("Location") != "/" {
			t.Errorf("next %q leads to %s", next, w.Header().Get("Location"))
		}
	}
}

func TestOneTimeCode(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *api.Options) { o.OneTimeCode, o.LoginToken = "c0de", "tok-admin" })
	if w := s.do(request{method: "GET", path: "/login?code=other"}); w.Code != 401 {
		t.Errorf("wrong code: %d", w.Code)
	}
	w := s.do(request{method: "GET", path: "/login?code=c0de"})
	if w.Code != 303 || session(t, w).Value != "tok-admin" {
		t.Errorf("code: %d", w.Code)
	}
	if w := s.do(request{method: "GET", path: "/login?code=c0de"}); w.Code != 401 {
		t.Errorf("the code worked twice: %d", w.Code)
	}
	none := newServer(t)
	if w := none.do(request{method: "GET", path: "/login?code="}); w.Code != 200 || len(w.Result().Cookies()) != 0 {
		t.Errorf("an empty code: %d", w.Code)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := storedRun()
	s.runs["r1"] = r
	s.page = playbook.RunPage{Runs: []playbook.Run{r.Run}, Next: "c2"}
	s.switches[""] = api.KillSwitch{Engaged: true, Reason: "maintenance <b>"}
	list := s.do(request{method: "GET", path: "/runs?outcome=resolved", token: "viewer"})
	for _, want := range []string{"node-exporter", knownCarrier, "resolved", "/runs/" + r.ID, "4 min 10 s", "maintenance &lt;b&gt;", "/runs?cursor=c2&amp;outcome=resolved"} {
		if !strings.Contains(list.Body.String(), want) {
			t.Errorf("list lacks %q", want)
		}
	}
	page := s.do(request{method: "GET", path: "/runs/r1", token: "viewer"})
	if page.Code != 200 {
		t.Fatalf("%d %s", page.Code, page.Body)
	}
	for _, want := range []string{
		"Drydock repaired node-exporter on prod-dal10-carrier3 in 4 min 10 s and resolved the incident: it cordoned a node.", "31 of 31 pods", "kubx-masters/master-1",
		"takes back 2", "Drydock is on it &lt;b&gt;", "&lt;script&gt;", "39 of 40 expected nodes have a ready pod.", "a disruption budget",
	} {
		if !strings.Contains(page.Body.String(), want) {
			t.Errorf("page lacks %q", want)
		}
	}
	for _, bad := range []string{"<script>alert", `href="javascript:`, "ZgotmplZ"} {
		if strings.Contains(page.Body.String(), bad) {
			t.Errorf("page holds %q", bad)
		}
	}
	if w := s.do(request{method: "GET", path: "/runs/none", token: "viewer"}); w.Code != 404 || !strings.Contains(w.Body.String(), "run does not exist") {
		t.Errorf("no such run: %d %s", w.Code, w.Body)
	}
	if w := s.do(request{method: "GET", path: "/runs?outcome=odd", token: "viewer"}); w.Code != 400 {
		t.Errorf("odd filter: %d", w.Code)
	}
	for _, path := range []string{"/static/now/drydock.css", "/static/now/drydock.js", "/static/now/live.js", "/static/now/icon.svg"} {
		if w := s.do(request{method: "GET", path: path}); w.Code != 200 || w.Body.Len() == 0 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	if w := s.do(request{method: "GET", path: "/static/now/"}); w.Code != 404 {
		t.Errorf("the folder is listed: %d", w.Code)
	}
}

// Each state says in words how it stands.
func TestEveryStateHasASummary(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, state := range playbook.States() {
		run := playbook.Run{ID: "r", Target: target, State: state, StartedAt: t0}
		if state.Ended() {
			run.Outcome, run.FinishedAt = playbook.Outcome(state), t0
		}
		s.runs["r"] = playbook.StoredRun{Run: run}
		w := s.do(request{method: "GET", path: "/runs/r", token: "viewer"})
		if w.Code != 200 || !strings.Contains(w.Body.String(), "Drydock ") || strings.Contains(w.Body.String(), "works on") {
			t.Errorf("%s: %d", state, w.Code)
		}
	}
}
