package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// spec is the document as the server serves it, and the way from a request to its operation.
type spec struct {
	doc    *openapi3.T
	router routers.Router
}

var readSpec = sync.OnceValues(func() (*spec, error) {
	s, err := served()
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(s)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	router, err := legacy.NewRouter(doc)
	return &spec{doc: doc, router: router}, err
})

func served() ([]byte, error) {
	w := httptest.NewRecorder()
	newServerFor(nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	if w.Code != http.StatusOK {
		return nil, fmt.Errorf("GET /openapi.json: %d %s", w.Code, w.Body)
	}
	return w.Body.Bytes(), nil
}

func theSpec(t *testing.T) *spec {
	t.Helper()
	s, err := readSpec()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// conforms holds a request and its answer against the specification: every test of this package goes through here. What is answered
// must be written there, to the last member; and what is carried out must have been a request as it is written there.
func (s *server) conforms(r request, w *httptest.ResponseRecorder) {
	s.t.Helper()
	problems, known := theSpec(s.t).check(r, w)
	if !known && w.Code != http.StatusNotFound && w.Code != http.StatusMethodNotAllowed && w.Code != http.StatusUnauthorized && w.Code != http.StatusTooManyRequests {
		problems = append(problems, "the address is not specified and not refused")
	}
	for _, p := range problems {
		s.t.Errorf("%s %s: %d: %s", r.method, r.path, w.Code, p)
	}
}

// check lists what is not as specified; known is false for an address that the specification does not have.
func (s *spec) check(r request, w *httptest.ResponseRecorder) (problems []string, known bool) {
	req := httptest.NewRequest(r.method, r.path, strings.NewReader(r.body))
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	if r.body != "" && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if req.URL.Path == "/webhooks/pagerduty/" { // taken as if without the slash
		req.URL.Path = "/webhooks/pagerduty"
	}
	if req.URL.Path != "/" && strings.HasSuffix(req.URL.Path, "/") { // which the router does not look at
		return nil, false
	}
	route, params, err := s.router.FindRoute(req)
	if err != nil {
		return nil, false
	}
	input := &openapi3filter.RequestValidationInput{
		Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true},
	}
	if err := openapi3filter.ValidateRequest(req.Context(), input); err != nil && w.Code < 300 {
		problems = append(problems, "carried out, though the request is not as specified: "+err.Error())
	}
	body := w.Body.Bytes()
	answer := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(body)), Options: input.Options,
	}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/") || route.Path == "/static/{version}/{file}" || len(body) == 0 {
		input.Options.ExcludeResponseBody = true
	}
	if err := openapi3filter.ValidateResponse(context.Background(), answer); err != nil {
		problems = append(problems, err.Error())
	}
	problems = append(problems, s.closed(route, w, body)...)
	return problems, true
}

// closed finds members of a JSON answer that the specification does not have, and problems of a type that it does not name. (A
// client must bear new members, so the schemas themselves are open.)
func (s *spec) closed(route *routers.Route, w *httptest.ResponseRecorder, body []byte) []string {
	response := route.Operation.Responses.Status(w.Code)
	if response == nil || response.Value == nil {
		return nil // said already
	}
	contentType, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
	media := response.Value.Content.Get(contentType)
	if media == nil {
		redirected := w.Code/100 == 3 // a browser's link, which nobody reads
		if len(body) > 0 && !redirected && route.Method != http.MethodHead && route.Path != "/static/{version}/{file}" {
			return []string{"answers with " + contentType + ", which is not specified"}
		}
		return nil
	}
	if !strings.HasSuffix(contentType, "json") {
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return []string{"the body is not JSON: " + err.Error()}
	}
	problems := undocumented(media.Schema, value, "")
	if contentType == "application/problem+json" {
		name := strings.TrimPrefix(fmt.Sprint(value.(map[string]any)["type"]), "/problems/")
		if !slices.Contains(problemsOfResponse(response.Value), name) {
			problems = append(problems, "the problem "+name+" is not specified here")
		}
	}
	return problems
}

// problemsOfResponse is x-problems.
func problemsOfResponse(r *openapi3.Response) []string {
	var names []string
	list, _ := r.Extensions["x-problems"].([]any)
	for _, name := range list {
		names = append(names, fmt.Sprint(name))
	}
	return names
}

func undocumented(schema *openapi3.SchemaRef, value any, at string) []string {
	switch value := value.(type) {
	case []any:
		var problems []string
		if items := schema.Value.Items; items != nil {
			for i, v := range value {
				problems = append(problems, undocumented(items, v, fmt.Sprintf("%s[%d]", at, i))...)
			}
		}
		return problems
	case map[string]any:
		members, open := membersOf(schema)
		if open {
			return nil
		}
		var problems []string
		for name, v := range value {
			if member := members[name]; member != nil {
				problems = append(problems, undocumented(member, v, at+"."+name)...)
			} else {
				problems = append(problems, "member "+at+"."+name+" is not specified")
			}
		}
		return problems
	}
	return nil
}

// membersOf are the members that an object may have; open when it may have any.
func membersOf(schema *openapi3.SchemaRef) (members map[string]*openapi3.SchemaRef, open bool) {
	members = map[string]*openapi3.SchemaRef{}
	var add func(*openapi3.SchemaRef)
	add = func(s *openapi3.SchemaRef) {
		for name, member := range s.Value.Properties {
			members[name] = member
		}
		for _, list := range []openapi3.SchemaRefs{s.Value.AllOf, s.Value.AnyOf} {
			for _, part := range list {
				add(part)
			}
		}
	}
	add(schema)
	return members, len(members) == 0
}
