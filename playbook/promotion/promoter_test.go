package promotion

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/playbook"
)

// fixed is a version source with one answer.
type fixed struct {
	version string
	err     error
}

func (f fixed) Version(context.Context, string, string) (string, error) { return f.version, f.err }
func (f fixed) Name() string                                            { return "the flags" }

// ci is a scripted Jenkins: what it answers to each path, and what it was asked.
type ci struct {
	mu     sync.Mutex
	posts  []string
	force  func(http.ResponseWriter, *http.Request)
	builds string // JSON list
	build  string // JSON of one build
}

const (
	jobPath  = "/job/Armada-Microservices/job/armada-ops"
	building = `{"actions":[{},{"promotions":[{"name":"prod-dal10-carrier3","promotionBuilds":[
		{"number":8,"result":null,"building":true,"timestamp":2000,"url":"u8"},{"number":5,"result":"SUCCESS","building":false,"timestamp":1000,"url":"u5"}]},
		{"name":"other-carrier","promotionBuilds":[{"number":99}]}]}]}`
)

func (c *ci) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if user, token, _ := r.BasicAuth(); user != "drydock" || token != "jenkins-token" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	switch {
	case r.Method == http.MethodPost:
		c.mu.Lock()
		c.posts = append(c.posts, r.URL.String())
		c.mu.Unlock()
		c.force(w, r)
	case r.URL.Path == jobPath+"/api/json":
		if strings.Contains(r.URL.Query().Get("tree"), "{0,100}") {
			_, _ = fmt.Fprintf(w, `{"allBuilds":%s}`, c.builds)
		} else {
			_, _ = fmt.Fprint(w, `{"allBuilds":[]}`)
		}
	case r.URL.Path == jobPath+"/promotion/api/json":
		_, _ = fmt.Fprint(w, `{"processes":[{"name":"prod-dal10-carrier3"}]}`)
	case r.URL.Path == jobPath+"/41/api/json" && c.build != "":
		_, _ = fmt.Fprint(w, c.build)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// asked lists the POSTs so far.
func (c *ci) asked() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.posts)
}

func (c *ci) start(t *testing.T, source VersionSource, token string) *Promoter {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	j, err := NewJenkins(JenkinsConfig{URL: server.URL + "/", Job: "Armada-Microservices/armada-ops", User: "drydock", Token: token}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return New(map[string]Component{"armada-ops": {Source: source, Jenkins: j}})
}

const oneBuild = `[{"number":42,"displayName":"#42"},{"number":41,"displayName":"2.41.0"}]`

func TestPromotionReading(t *testing.T) {
	t.Parallel()
	c := &ci{builds: oneBuild, build: building}
	p := c.start(t, fixed{version: "2.41.0"}, "jenkins-token")
	got, ok := p.Promotion(t.Context(), "prod-dal10-carrier3", "armada-ops").Get()
	want := playbook.Promotion{Component: "armada-ops", Version: "2.41.0", Source: "the flags", Build: 41, Attempts: []playbook.Attempt{
		{Number: 5, Result: "SUCCESS", At: time.UnixMilli(1000).UTC(), URL: "u5"}, {Number: 8, Building: true, At: time.UnixMilli(2000).UTC(), URL: "u8"}}}
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("reading known %t:\n%s", ok, diff)
	}
}

func TestPromotionUnknownAndEmpty(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		source    VersionSource
		token     string
		builds    string
		carrier   string
		component string
		known     bool
		why       string
	}{
		"no version any more":  {source: fixed{}, known: true},
		"no such build":        {source: fixed{version: "9.9"}, builds: oneBuild, known: true},
		"version not known":    {source: fixed{err: errors.New("flags are down")}, why: "flags are down"},
		"bad token":            {source: fixed{version: "2.41.0"}, token: "wrong", builds: oneBuild, why: "the token is not accepted"},
		"component":            {source: fixed{version: "1"}, component: "other", why: `"other" is not configured`},
		"no such process":      {source: fixed{version: "2.41.0"}, builds: oneBuild, carrier: "prod-x", why: `no promotion process "prod-x"`},
		"several builds":       {source: fixed{version: "7"}, builds: `[{"number":2,"displayName":"7"},{"number":1,"displayName":"#7"}]`, why: "[1 2]"},
		"builds are no answer": {source: fixed{version: "7"}, builds: `"x"`, why: "not the JSON"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &ci{builds: tt.builds, build: building}
			p := c.start(t, tt.source, or(tt.token, "jenkins-token"))
			r := p.Promotion(t.Context(), or(tt.carrier, "prod-dal10-carrier3"), or(tt.component, "armada-ops"))
			if r.IsKnown() != tt.known || !strings.Contains(r.Why(), tt.why) {
				t.Errorf("known %t, why %q; want %t, %q", r.IsKnown(), r.Why(), tt.known, tt.why)
			}
			if got, ok := r.Get(); ok && (got.Build != 0 || len(got.Attempts) != 0) {
				t.Errorf("reading = %+v", got)
			}
		})
	}
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func TestBuildNames(t *testing.T) {
	t.Parallel()
	parameters := func(value any) build {
		b := build{Number: 3}
		b.Actions = append(b.Actions, struct {
			Parameters []struct {
				Name  string `json:"name"`
				Value any    `json:"value"`
			} `json:"parameters"`
		}{})
		b.Actions[0].Parameters = append(b.Actions[0].Parameters, struct {
			Name  string `json:"name"`
			Value any    `json:"value"`
		}{"VERSION", value})
		return b
	}
	tests := map[string]struct {
		build build
		want  int
	}{
		"display name":            {build{DisplayName: "2.41.0"}, 4},
		"display name with #":     {build{DisplayName: "#2.41.0"}, 4},
		"parameter":               {parameters("2.41.0"), 3},
		"parameter no text":       {parameters(true), 0},
		"word of the description": {build{Description: "release 2.41.0, by hand"}, 2},
		"word of the name":        {build{DisplayName: "armada-ops 2.41.0"}, 2},
		"part of a word":          {build{Description: "2.41.01 and 12.41.0"}, 0},
		"another":                 {build{Number: 241, DisplayName: "2.41.1"}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tt.build.names("2.41.0"); got != tt.want {
				t.Errorf("rank %d, want %d", got, tt.want)
			}
		})
	}
	if got := (build{Number: 41}).names("41"); got != 1 {
		t.Errorf("rank of the number is %d, want 1", got)
	}
}

func promote(before int) playbook.Call {
	return playbook.Call{Run: "run-1", Action: playbook.Promote{Component: "armada-ops", Carrier: "prod-dal10-carrier3", Version: "2.41.0",
		Build: 41, Before: before}}
}

func TestForceIsSentOnce(t *testing.T) {
	t.Parallel()
	answer := func(code int, location string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			if location != "" {
				w.Header().Set("Location", location)
			}
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(code)
		}
	}
	lost := func(w http.ResponseWriter, _ *http.Request) {
		if hijacker, ok := w.(http.Hijacker); ok {
			if conn, _, err := hijacker.Hijack(); err == nil {
				_ = conn.Close()
			}
		}
	}
	tests := map[string]struct {
		force func(http.ResponseWriter, *http.Request)
		want  playbook.Result // empty: the outcome is not known
	}{
		"taken":           {answer(302, jobPath+"/41/promotion/"), playbook.Happened},
		"to the login":    {answer(302, "/securityRealm/commenceLogin?from=x"), playbook.Refused},
		"forbidden":       {answer(403, ""), playbook.Refused},
		"no such build":   {answer(404, ""), playbook.Refused},
		"elsewhere":       {answer(302, "/"), ""},
		"a page":          {answer(200, ""), ""},
		"server error":    {answer(500, ""), ""},
		"busy":            {answer(503, ""), ""},
		"answer was lost": {lost, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &ci{build: building, force: tt.force}
			p := c.start(t, fixed{}, "jenkins-token")
			s, err := p.Do(t.Context(), promote(8))
			if s.Result != tt.want || (err != nil) != (tt.want == "") {
				t.Errorf("result %q (%s), error %v; want %q", s.Result, s.Detail, err, tt.want)
			}
			if want := []string{jobPath + "/41/promotion/forcePromotion?name=prod-dal10-carrier3"}; !cmp.Equal(c.asked(), want) {
				t.Errorf("posts = %v", c.asked())
			}
		})
	}
}

func TestForceIsNotSent(t *testing.T) {
	t.Parallel()
	c := &ci{build: building, force: func(http.ResponseWriter, *http.Request) {}}
	p := c.start(t, fixed{}, "jenkins-token")
	// A newer attempt than the one that was known is there already.
	if s, err := p.Do(t.Context(), promote(5)); err != nil || s.Result != playbook.Superseded || s.Receipt != "u8" {
		t.Errorf("settlement = %+v, %v", s, err)
	}
	noBuild := promote(8)
	noBuild.Action = playbook.Promote{Component: "armada-ops", Carrier: "prod-dal10-carrier3"}
	if s, err := p.Do(t.Context(), noBuild); err != nil || s.Result != playbook.Refused {
		t.Errorf("settlement = %+v, %v", s, err)
	}
	unknown := promote(8)
	unknown.Action = playbook.Promote{Component: "other", Build: 1}
	if s, err := p.Do(t.Context(), unknown); err != nil || s.Result != playbook.Refused {
		t.Errorf("settlement = %+v, %v", s, err)
	}
	c.build = ""
	if s, err := p.Do(t.Context(), promote(8)); err != nil || s.Result != playbook.NotHappened {
		t.Errorf("settlement = %+v, %v", s, err)
	}
	if _, err := p.Do(t.Context(), playbook.Call{Action: playbook.Resolve{}}); err == nil {
		t.Error("a resolve was taken for a promotion")
	}
	if len(c.asked()) != 0 {
		t.Errorf("posts = %v", c.asked())
	}
}

func TestRecoverByANewerAttemptOnly(t *testing.T) {
	t.Parallel()
	c := &ci{build: building}
	p := c.start(t, fixed{}, "jenkins-token")
	for before, want := range map[int]playbook.Settlement{
		5: {Result: playbook.Happened, Detail: "found attempt 8", Receipt: "u8"},
		0: {Result: playbook.Happened, Detail: "found attempt 5", Receipt: "u5"},
		8: {Result: playbook.NotHappened, Detail: "no attempt newer than 8 is seen"},
	} {
		got, err := p.Recover(t.Context(), playbook.Intent{Action: promote(before).Action})
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("before %d: %v\n%s", before, err, diff)
		}
	}
	// A build that was deleted can not be found again, and the promotion is not sent again either.
	c.build = ""
	if got, err := p.Recover(t.Context(), playbook.Intent{Action: promote(8).Action}); err != nil || got.Result != playbook.NotHappened {
		t.Errorf("a deleted build: %+v, %v", got, err)
	}
	c.build = "{"
	if _, err := p.Recover(t.Context(), playbook.Intent{Action: promote(8).Action}); err == nil {
		t.Error("an unreadable build is no answer, and was taken for one")
	}
}

func TestNewJenkinsRefuses(t *testing.T) {
	t.Parallel()
	for _, config := range []JenkinsConfig{{URL: "jenkins", Job: "a"}, {URL: "ftp://h", Job: "a"}, {URL: "https://u:p@h", Job: "a"}, {URL: "https://h", Job: "/"}} {
		if _, err := NewJenkins(config, nil); err == nil {
			t.Errorf("%+v was accepted", config)
		}
	}
}
