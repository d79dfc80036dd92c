package jenkins

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxForm bounds the forms that the stand-in reads, in bytes.
const maxForm = 1 << 20

const manualCondition = "hudson.plugins.promoted_builds.conditions.ManualCondition"

func (s *Server) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
		if err != nil {
			http.Error(w, "form too large", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		name, _, _ := r.BasicAuth()
		s.mu.Lock()
		s.requests = append(s.requests, Request{r.Method, r.URL.Path, r.URL.RawQuery, name, string(body)})
		s.mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// serve finds the job in the path and hands the rest to it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Jenkins", "2.479")
	u, status := s.user(r)
	if status != 0 {
		page(w, status, http.StatusText(status))
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path, rest := splitPath(r.URL.Path)
	j := s.job(path)
	switch {
	case j != nil:
		s.serveJob(w, r, u, j, rest)
	case isAPI(rest) && (path == "" || s.isFolder(path)):
		writeJSON(w, r, s.folderJSON(path))
	default:
		// /crumbIssuer among others: with an API token no crumb is needed, and the
		// issuer is switched off.
		page(w, http.StatusNotFound, "Not Found")
	}
}

// user authenticates by user name and API token. Anonymous may read nothing.
func (s *Server) user(r *http.Request) (User, int) {
	name, token, ok := r.BasicAuth()
	if !ok {
		return User{}, http.StatusForbidden
	}
	for _, u := range s.opts.Users {
		if u.Name == name && u.Token == token && token != "" {
			return u, 0
		}
	}
	return User{}, http.StatusUnauthorized
}

// splitPath takes "job/A/job/B" and any "view/X" off the front of a path and
// returns "A/B" and what follows.
func splitPath(p string) (job string, rest []string) {
	segments := strings.Split(strings.Trim(p, "/"), "/")
	var names []string
	for len(segments) >= 2 && (segments[0] == "job" || segments[0] == "view") {
		if segments[0] == "job" {
			names = append(names, segments[1])
		}
		segments = segments[2:]
	}
	return strings.Join(names, "/"), segments
}

func isAPI(rest []string) bool { return slices.Equal(rest, []string{"api", "json"}) }

func isPage(rest []string) bool { return len(rest) == 0 || len(rest) == 1 && rest[0] == "" }

func (s *Server) serveJob(w http.ResponseWriter, r *http.Request, u User, j *job, rest []string) {
	switch {
	case isPage(rest):
		page(w, http.StatusOK, j.path)
	case isAPI(rest):
		writeJSON(w, r, s.jobJSON(j, r.URL.Query().Get("tree") != ""))
	case rest[0] == "promotion":
		s.serveProcesses(w, r, j, rest[1:])
	default:
		b := j.find(rest[0])
		if b == nil {
			page(w, http.StatusNotFound, "Not Found")
			return
		}
		s.serveBuild(w, r, u, j, b, rest[1:])
	}
}

// find takes a build's number or one of Jenkins' permanent names.
func (j *job) find(name string) *build {
	if n, err := strconv.Atoi(name); err == nil {
		return j.build(n)
	}
	for _, b := range slices.Backward(j.builds) {
		ok := b.Result == Success
		switch name {
		case "lastBuild", "lastCompletedBuild":
			return b
		case "lastSuccessfulBuild", "lastStableBuild":
			if ok {
				return b
			}
		case "lastUnsuccessfulBuild", "lastFailedBuild":
			if !ok {
				return b
			}
		default:
			return nil
		}
	}
	return nil
}

// serveProcesses is the job's list of processes and each one's attempts.
func (s *Server) serveProcesses(w http.ResponseWriter, r *http.Request, j *job, rest []string) {
	if isAPI(rest) {
		writeJSON(w, r, s.processesJSON(j))
		return
	}
	if len(rest) < 2 || rest[0] != "process" || j.process(rest[1]) == nil {
		page(w, http.StatusNotFound, "Not Found")
		return
	}
	p := j.process(rest[1])
	rest = rest[2:]
	switch {
	case isPage(rest):
		page(w, http.StatusOK, p.Name)
	case isAPI(rest):
		writeJSON(w, r, s.processJSON(j, p))
	default:
		s.serveAttempt(w, r, j, p, rest)
	}
}

func (s *Server) serveBuild(w http.ResponseWriter, r *http.Request, u User, j *job, b *build, rest []string) {
	switch {
	case isPage(rest):
		page(w, http.StatusOK, b.DisplayName)
	case isAPI(rest):
		writeJSON(w, r, s.buildJSON(j, b))
	case rest[0] == "promotion":
		s.servePromotion(w, r, u, j, b, rest[1:])
	default:
		page(w, http.StatusNotFound, "Not Found")
	}
}

// servePromotion is a build's promotion status. It has a page and no API.
func (s *Server) servePromotion(w http.ResponseWriter, r *http.Request, u User, j *job, b *build, rest []string) {
	switch {
	case isPage(rest):
		page(w, http.StatusOK, "Promotion Status")
	case rest[0] == "forcePromotion" && len(rest) == 1:
		s.force(w, r, u, j, b)
	case len(rest) == 5 && rest[0] == "promotionProcess" && rest[2] == "promotionCondition" && rest[3] == manualCondition && rest[4] == "approve":
		s.approve(w, r, u, j, b, j.process(rest[1]))
	default:
		// "promotion/<process>/…" exists only for processes that the build has
		// qualified for.
		p := j.process(rest[0])
		if p == nil || b.of(p) == nil {
			page(w, http.StatusNotFound, "Not Found")
			return
		}
		rest = rest[1:]
		switch {
		case isPage(rest):
			page(w, http.StatusOK, p.Name)
		case len(rest) == 1 && rest[0] == "build":
			s.reexecute(w, r, u, j, b, p)
		case len(rest) > 1 && rest[0] == "promotionBuild":
			s.serveAttempt(w, r, j, p, rest[1:])
		default:
			page(w, http.StatusNotFound, "Not Found")
		}
	}
}

func (s *Server) serveAttempt(w http.ResponseWriter, r *http.Request, j *job, p *process, rest []string) {
	number, err := strconv.Atoi(rest[0])
	for _, b := range j.builds {
		pr := b.of(p)
		if err != nil || pr == nil {
			continue
		}
		for _, a := range pr.attempts {
			if a.Number != number {
				continue
			}
			if isAPI(rest[1:]) {
				writeJSON(w, r, s.attemptJSON(j, b, a))
			} else {
				page(w, http.StatusOK, fmt.Sprintf("%s #%d", p.Name, number))
			}
			return
		}
	}
	page(w, http.StatusNotFound, "Not Found")
}

// force schedules a promotion, each time anew, and redirects to the page of the
// build's promotions.
func (s *Server) force(w http.ResponseWriter, r *http.Request, u User, j *job, b *build) {
	if !isPost(w, r) {
		return
	}
	name := r.FormValue("name")
	p := j.process(name)
	if p == nil {
		// Jenkins throws an exception and shows it.
		page(w, http.StatusInternalServerError, "java.lang.IllegalStateException: no promotion process "+name)
		return
	}
	if !p.mayPromote(u) {
		page(w, http.StatusForbidden, u.Name+" is missing the Promotion/Promote permission")
		return
	}
	s.schedule(j, b, p, "forced", u.Name)
	w.Header().Set("Location", s.base+buildPath(j, b)+"promotion/")
	w.WriteHeader(http.StatusFound)
}

// reexecute schedules a promotion again and redirects. Without the right it
// answers 200 with nothing in it, and nothing happens.
func (s *Server) reexecute(w http.ResponseWriter, r *http.Request, u User, j *job, b *build, p *process) {
	if !isPost(w, r) || !hasForm(w, r) {
		return
	}
	if !p.mayPromote(u) {
		return
	}
	s.schedule(j, b, p, "re-executed", u.Name)
	w.Header().Set("Location", s.base+buildPath(j, b)+"promotion/"+url.PathEscape(p.Name)+"/")
	w.WriteHeader(http.StatusFound)
}

// approve fulfils the manual condition, once for each build. A second time, and
// without the right, it does nothing and redirects all the same.
func (s *Server) approve(w http.ResponseWriter, r *http.Request, u User, j *job, b *build, p *process) {
	if p == nil || !p.Manual {
		page(w, http.StatusNotFound, "Not Found")
		return
	}
	if !isPost(w, r) || !hasForm(w, r) {
		return
	}
	if p.mayPromote(u) && !slices.Contains(b.approved, p.Name) {
		b.approved = append(b.approved, p.Name)
		// A build that already qualified is not promoted again by an approval.
		if b.of(p) == nil {
			s.schedule(j, b, p, "approved", u.Name)
		}
	}
	w.Header().Set("Location", s.base+buildPath(j, b)+"promotion/")
	w.WriteHeader(http.StatusFound)
}

func isPost(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodPost {
		return true
	}
	w.Header().Set("Allow", http.MethodPost)
	page(w, http.StatusMethodNotAllowed, "Method Not Allowed")
	return false
}

// hasForm checks the "json" field that Jenkins' forms carry; without it Jenkins
// answers 400.
func hasForm(w http.ResponseWriter, r *http.Request) bool {
	var form struct {
		Parameter json.RawMessage `json:"parameter"`
	}
	err := json.Unmarshal([]byte(r.PostFormValue("json")), &form)
	if err == nil && len(form.Parameter) > 0 && form.Parameter[0] != '[' && form.Parameter[0] != '{' {
		err = errors.New("parameter is neither a list nor an object")
	}
	if err != nil {
		page(w, http.StatusBadRequest, "This page expects a form submission")
		return false
	}
	return true
}

func page(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/html;charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<html><head><title>Jenkins</title></head><body>%s</body></html>\n", html.EscapeString(text))
}

// writeJSON answers with what the tree parameter selects.
func writeJSON(w http.ResponseWriter, r *http.Request, v object) {
	var kept any = v
	if tree := r.URL.Query().Get("tree"); tree != "" {
		sel, err := parseTree(tree)
		if err != nil {
			page(w, http.StatusBadRequest, err.Error())
			return
		}
		kept = sel.pick(v)
	}
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	// A failure here is a client who went away.
	_ = json.NewEncoder(w).Encode(kept)
}

func jobPath(path string) string {
	var b strings.Builder
	for name := range strings.SplitSeq(path, "/") {
		b.WriteString("/job/" + url.PathEscape(name))
	}
	return b.String() + "/"
}

func buildPath(j *job, b *build) string { return jobPath(j.path) + strconv.Itoa(b.Number) + "/" }
