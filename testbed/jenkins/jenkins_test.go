package jenkins

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/drydock/drydock/testbed/standin"
)

const (
	armadaOps = "Armada-Microservices/armada-ops"
	carrier   = "prod-dal12-carrier2"
	jobURL    = "/job/Armada-Microservices/job/armada-ops"
)

type shop struct {
	*testing.T
	*Server
	clock    *standin.Manual
	url      string
	applied  atomic.Int64
	applyErr error
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{T: t, clock: standin.NewManual(time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC))}
	s.Server = New(Options{
		Clock: s.clock, QueueDelay: 5 * time.Second, RunDuration: 20 * time.Second,
		Users: []User{{"drydock", "secret", true}, {"guest", "guest", false}},
		Apply: func(_ context.Context, on, job string, b Build) error {
			if on != carrier || job != armadaOps || b.Parameters["VERSION"] != "2.41.0" {
				t.Errorf("applied %s build %d on %s", job, b.Number, on)
			}
			s.applied.Add(1)
			return s.applyErr
		},
	})
	base, err := s.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.url = base
	s.AddJob(armadaOps, Process{Name: carrier}, Process{Name: "manual", Manual: true}, Process{Name: "few", Approvers: []string{"guest"}})
	for n, version := range []string{"2.40.7", "2.41.0", "2.42.0"} {
		if _, err := s.AddBuild(armadaOps, Build{Number: 110 + n, DisplayName: version, Description: "armada-ops " + version, Parameters: map[string]string{"VERSION": version}}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

type reply struct {
	status   int
	location string
	body     string
}

// do sends a request as a user whose token is known; redirects are shown, not
// followed.
func (s *shop) do(ctx context.Context, method, path, user string, form url.Values) (reply, error) {
	s.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if name, token, ok := strings.Cut(user, ":"); ok {
		r.SetBasicAuth(name, token)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, strings.TrimPrefix(resp.Header.Get("Location"), s.url), strings.TrimSpace(string(body))}, err
}

func (s *shop) must(method, path string, form url.Values, status int) reply {
	s.Helper()
	r, err := s.do(s.Context(), method, path, "drydock:secret", form)
	if err != nil || r.status != status {
		s.Fatalf("%s %s: %d %v, want %d: %s", method, path, r.status, err, status, r.body)
	}
	return r
}

func (s *shop) until(what string, cond func() bool) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	if err := s.WaitFor(ctx, cond); err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

const promotionsTree = "/api/json?tree=actions[promotions[name,promotionBuilds[number,result,building,timestamp,url]]]"

// promotions reads a build's promotions as a client would.
func (s *shop) promotions(build string) string {
	s.Helper()
	var v struct {
		Actions []struct {
			Promotions json.RawMessage `json:"promotions"`
		} `json:"actions"`
	}
	if err := json.Unmarshal([]byte(s.must(http.MethodGet, jobURL+"/"+build+promotionsTree, nil, 200).body), &v); err != nil {
		s.Fatal(err)
	}
	for _, a := range v.Actions {
		if a.Promotions != nil {
			return strings.ReplaceAll(string(a.Promotions), s.url, "")
		}
	}
	return ""
}

const force = jobURL + "/111/promotion/forcePromotion?name=" + carrier

func TestFindTheBuildOfAVersion(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	got := s.must(http.MethodGet, jobURL+"/api/json?tree=builds[number,displayName,result]{0,2}", nil, 200)
	want := `{"_class":"hudson.model.FreeStyleProject","builds":[{"_class":"hudson.model.FreeStyleBuild","displayName":"2.42.0","number":112,"result":"SUCCESS"},{"_class":"hudson.model.FreeStyleBuild","displayName":"2.41.0","number":111,"result":"SUCCESS"}]}`
	if got.body != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
	deep := s.must(http.MethodGet, "/view/Alchemy"+jobURL+"/api/json?tree=allBuilds[number,actions[parameters[name,value]]]", nil, 200)
	if !strings.Contains(deep.body, `"parameters":[{"_class":"hudson.model.StringParameterValue","name":"VERSION","value":"2.41.0"}]`) {
		t.Errorf("parameters: %s", deep.body)
	}
	shallow := s.must(http.MethodGet, jobURL+"/api/json", nil, 200)
	if strings.Contains(shallow.body, "2.41.0") || strings.Contains(shallow.body, "allBuilds") || !strings.Contains(shallow.body, `"number":111`) {
		t.Errorf("without a tree: %s", shallow.body)
	}
	for path, want := range map[string]string{
		jobURL + "/lastSuccessfulBuild/api/json?tree=number": `"number":112`,
		jobURL + "/111/api/json?tree=*":                      `"description":"armada-ops 2.41.0"`,
		"/job/Armada-Microservices/api/json?tree=jobs[name]": `"name":"armada-ops"`,
		"/api/json": `"name":"Armada-Microservices"`,
		jobURL + "/promotion/api/json?tree=processes[name]": `"name":"` + carrier + `"`,
	} {
		if r := s.must(http.MethodGet, path, nil, 200); !strings.Contains(r.body, want) {
			t.Errorf("%s: %s, want %s", path, r.body, want)
		}
	}
	for _, path := range []string{"/crumbIssuer/api/json", jobURL + "/111/promotion/api/json", jobURL + "/99/api/json", "/job/none/api/json", jobURL + "/111/promotion/" + carrier + "/promotionBuild/1/api/json"} {
		s.must(http.MethodGet, path, nil, 404)
	}
	s.must(http.MethodGet, jobURL+"/api/json?tree=builds[number", nil, 400)
}

func TestForcedPromotion(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	if got := s.promotions("111"); got != "" {
		t.Fatalf("before: %s", got)
	}
	r := s.must(http.MethodPost, force, nil, 302)
	if r.location != jobURL+"/111/promotion/" {
		t.Errorf("redirected to %s", r.location)
	}
	s.must(http.MethodGet, r.location, nil, 200)
	if got, want := s.promotions("111"), `[{"name":"`+carrier+`","promotionBuilds":[]}]`; got != want {
		t.Errorf("in the queue: %s", got)
	}
	s.clock.Advance(5 * time.Second)
	running := `{"_class":"hudson.plugins.promoted_builds.Promotion","building":true,"number":1,"result":null,"timestamp":1795316405000,"url":"` + jobURL + `/promotion/process/` + carrier + `/1/"}`
	if got, want := s.promotions("111"), `[{"name":"`+carrier+`","promotionBuilds":[`+running+`]}]`; got != want {
		t.Errorf("running: %s\nwant %s", got, want)
	}
	s.until("the deployment", func() bool { return s.applied.Load() == 1 && s.clock.Waiting() == 1 })
	s.clock.Advance(20 * time.Second)
	done := strings.NewReplacer(`"building":true`, `"building":false`, "null", `"SUCCESS"`).Replace(running)
	if got, want := s.promotions("111"), `[{"name":"`+carrier+`","promotionBuilds":[`+done+`]}]`; got != want {
		t.Errorf("done: %s\nwant %s", got, want)
	}
	want := []Attempt{{
		Job: armadaOps, Build: 111, Process: carrier, Number: 1, Cause: "forced", By: "drydock", Result: Success,
		QueuedAt: s.clock.Now().Add(-25 * time.Second), StartedAt: s.clock.Now().Add(-20 * time.Second), FinishedAt: s.clock.Now(),
	}}
	if diff := cmp.Diff(want, s.AttemptsOn(armadaOps, carrier)); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	for _, path := range []string{"/111/promotion/" + carrier + "/promotionBuild/1/api/json", "/promotion/process/" + carrier + "/1/api/json"} {
		if r := s.must(http.MethodGet, jobURL+path+"?tree=result,target[number]", nil, 200); !strings.Contains(r.body, `"result":"SUCCESS"`) || !strings.Contains(r.body, `"number":111`) {
			t.Errorf("%s: %s", path, r.body)
		}
	}
	if r := s.must(http.MethodGet, jobURL+"/promotion/process/"+carrier+"/api/json?tree=builds[number]", nil, 200); !strings.Contains(r.body, `"number":1`) {
		t.Errorf("the process: %s", r.body)
	}
}

func TestForcingAgainPromotesAgain(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.must(http.MethodPost, force, nil, 302)
	s.must(http.MethodPost, force, nil, 302)
	s.clock.Advance(5 * time.Second)
	s.until("the first", func() bool { return s.applied.Load() == 1 && s.clock.Waiting() == 1 })
	if a := s.Attempts(); a[0].Number != 1 || a[1].Number != 0 {
		t.Errorf("both run at once: %+v", a)
	}
	s.clock.Advance(20 * time.Second)
	s.until("the second", func() bool { return s.applied.Load() == 2 && s.clock.Waiting() == 1 })
	s.clock.Advance(20 * time.Second)
	if got := s.promotions("111"); strings.Count(got, "SUCCESS") != 2 || strings.Index(got, `"number":2`) > strings.Index(got, `"number":1`) {
		t.Errorf("promotions, newest first: %s", got)
	}
}

func TestReexecuteAndApprove(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.Behave(Behaviour{SkipApply: true})
	form := url.Values{"json": {"{}"}}
	again := jobURL + "/111/promotion/" + carrier + "/build"
	s.must(http.MethodPost, again, form, 404) // Not qualified yet.
	s.must(http.MethodPost, force, nil, 302)
	s.must(http.MethodPost, again, nil, 400)
	s.must(http.MethodPost, again, form, 302)
	if r, err := s.do(t.Context(), http.MethodPost, again, "guest:guest", form); err != nil || r.status != 200 || r.body != "" {
		t.Errorf("without the right: %+v %v", r, err)
	}
	approve := jobURL + "/111/promotion/promotionProcess/manual/promotionCondition/" + manualCondition + "/approve"
	values := url.Values{"json": {`{"parameter":[{"name":"REASON","value":"drydock"}]}`}}
	if r, err := s.do(t.Context(), http.MethodPost, approve, "guest:guest", values); err != nil || r.status != 302 {
		t.Errorf("approve without the right: %+v %v", r, err)
	}
	s.must(http.MethodPost, approve, values, 302)
	s.must(http.MethodPost, approve, values, 302) // Once is enough.
	s.must(http.MethodPost, strings.Replace(approve, "manual", carrier, 1), values, 404)
	var got []string
	for _, a := range s.Attempts() {
		got = append(got, a.Process+" "+a.Cause+" by "+a.By)
	}
	want := []string{carrier + " forced by drydock", carrier + " re-executed by drydock", "manual approved by drydock"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

func TestWhoMayPromote(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	few := jobURL + "/111/promotion/forcePromotion?name=few"
	tests := map[string]struct {
		method, path, user string
		status             int
	}{
		"anonymous":           {"GET", jobURL + "/api/json", "", 403},
		"wrong token":         {"GET", jobURL + "/api/json", "drydock:wrong", 401},
		"may read":            {"GET", jobURL + "/api/json", "guest:guest", 200},
		"may not promote":     {"POST", force, "guest:guest", 403},
		"not an approver":     {"POST", few, "drydock:secret", 403},
		"an approver":         {"POST", few, "guest:guest", 302},
		"by GET":              {"GET", force, "drydock:secret", 405},
		"no such process":     {"POST", jobURL + "/111/promotion/forcePromotion?name=none", "drydock:secret", 500},
		"no such build":       {"POST", jobURL + "/1/promotion/forcePromotion?name=" + carrier, "drydock:secret", 404},
		"promotion of no job": {"POST", "/job/none/1/promotion/forcePromotion?name=" + carrier, "drydock:secret", 404},
	}
	for name, test := range tests {
		r, err := s.do(t.Context(), test.method, test.path, test.user, nil)
		if err != nil || r.status != test.status {
			t.Errorf("%s: %d %v, want %d", name, r.status, err, test.status)
		}
	}
	if a := s.Attempts(); len(a) != 1 || a[0].By != "guest" {
		t.Errorf("attempts: %+v", a)
	}
	if i := slices.IndexFunc(s.Requests(), func(r Request) bool { return r.User == "guest" && r.Method == "POST" }); i < 0 {
		t.Error("no request of the guest on record")
	}
}

func TestWhatGoesWrong(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.applyErr = errors.New("no such cluster")
	s.must(http.MethodPost, force, nil, 302)
	s.clock.Advance(5 * time.Second)
	s.until("the deployment", func() bool { return s.clock.Waiting() == 1 })
	s.clock.Advance(20 * time.Second)
	if a := s.Attempts()[0]; a.Result != Failure || a.Err != "no such cluster" {
		t.Errorf("a deployment that failed: %+v", a)
	}
	s.Behave(Behaviour{Result: Aborted, SkipApply: true})
	s.must(http.MethodPost, force, nil, 302)
	s.clock.Advance(5 * time.Second)
	s.until("the second attempt", func() bool { return s.clock.Waiting() == 1 })
	s.clock.Advance(20 * time.Second)
	if a := s.Attempts()[1]; a.Result != Aborted || s.applied.Load() != 1 {
		t.Errorf("an aborted attempt: %+v", a)
	}
	s.Behave(Behaviour{Stuck: true})
	s.must(http.MethodPost, force, nil, 302)
	s.clock.Advance(time.Hour)
	if a := s.Attempts()[2]; a.Number != 0 {
		t.Errorf("a stuck attempt: %+v", a)
	}
	s.Behave(Behaviour{QuietDown: true})
	s.must(http.MethodPost, force, nil, 302)
	if n := len(s.Attempts()); n != 3 {
		t.Errorf("%d attempts while quieting down", n)
	}
	s.Behave(Behaviour{})
	s.Faults.Inject(ServerError("POST", "", 1))
	s.must(http.MethodPost, force, nil, 500)
	s.Faults.Inject(Forbidden("POST", "", 1))
	s.must(http.MethodPost, force, nil, 403)
	s.Faults.Inject(LostAnswer("POST", "/job/*/job/*/*/promotion/forcePromotion", 1, time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.do(ctx, http.MethodPost, force, "drydock:secret", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a lost answer: %v", err)
	}
	if n := len(s.Attempts()); n != 4 {
		t.Errorf("%d attempts, want the one whose answer was lost", n)
	}
}

func TestAddBuild(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	s.AddJob("a")
	first, err := s.AddBuild("a", Build{})
	if err != nil || first.Number != 1 || first.DisplayName != "#1" || first.Result != Success {
		t.Errorf("first: %+v %v", first, err)
	}
	for name, path := range map[string]string{"an old number": "a", "no job": "b"} {
		if _, err := s.AddBuild(path, Build{Number: 1}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
