package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// TestBadParameters sends what the specification's schemas forbid, for every parameter of every operation: 400 with the field named.
func TestBadParameters(t *testing.T) {
	t.Parallel()
	s := newContractServer(t)
	n := 0
	for id, c := range calls {
		op := operations(t)[id]
		for _, p := range append(slices.Clone(op.shared), op.Parameters...) {
			for _, value := range badValues(p.Value) {
				n++
				r := request{method: op.method, path: c.path, body: c.body, token: "all-4"}
				switch p.Value.In {
				case "query":
					path, rest, _ := strings.Cut(c.path, "?")
					query, _ := url.ParseQuery(rest)
					query.Set(p.Value.Name, value)
					r.path = path + "?" + query.Encode()
				case "header":
					r.header = map[string]string{p.Value.Name: value}
				default:
					continue // an id of a path is opaque: what it does not name is 404
				}
				s.wantRefused(t, r, p.Value.Name)
			}
		}
		for field, bodies := range badBodies(op, c.body) {
			for _, body := range bodies {
				n++
				s.wantRefused(t, request{method: op.method, path: c.path, body: body, token: "all-4"}, field)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d mistakes were tried", n)
	}
}

func (s *server) wantRefused(t *testing.T, r request, field string) {
	t.Helper()
	fresh := newContractServer(t) // no rate is used up
	w := fresh.do(r)
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"field":"`+field+`"`) {
		t.Errorf("%s %s %s %v: %d %s, want 400 naming %s", r.method, r.path, r.body, r.header, w.Code, w.Body, field)
	}
}

// badValues are values that a parameter's schema forbids.
func badValues(p *openapi3.Parameter) []string {
	schema := p.Schema.Value
	if p.In == "header" {
		switch p.Name {
		case "Idempotency-Key":
			return []string{strings.Repeat("k", 256), "\xff", ""}
		case "Last-Event-ID":
			return []string{"x", "-1", "1.5", "99999999999999999999", "1 or 1=1"}
		}
		return nil // If-None-Match takes anything
	}
	bad := []string{"", "\x00", "\xff"}
	switch {
	case len(schema.Enum) > 0:
		return append(bad, "none", "RESOLVED", "resolved ")
	case schema.Type.Is("integer"):
		return append(bad, "0", "-1", "+5", " 5", "1e2", "0x10", "100000", "ten", "9999999999999999999999")
	case schema.Format == "date-time":
		return append(bad, "yesterday", "2026-11-22", "2026-11-22T03:04:05", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+23:00",
			"2026-11-22T3:04:05Z", "2026-11-22T03:04:05,5Z", "2026-11-22 03:04:05Z", "2026-02-30T03:04:05Z", "1969-12-31T23:59:59Z")
	}
	return append(bad, strings.Repeat("x", 1025))
}

// badBodies are bodies that a request's schema forbids, by the field that is wrong.
func badBodies(op operation, good string) map[string][]string {
	bad := map[string][]string{}
	if op.RequestBody == nil {
		return bad
	}
	schema := op.RequestBody.Value.Content.Get("application/json").Schema.Value
	bad["colour"] = []string{strings.Replace(good, "{", `{"colour":"red",`, 1)}
	for name := range schema.Properties {
		// Go's JSON would take the first, and of the second whichever comes last.
		bad[strings.ToUpper(name)] = []string{strings.Replace(good, `"`+name+`"`, `"`+strings.ToUpper(name)+`"`, 1)}
		if strings.Contains(good, `"`+name+`"`) {
			bad[name] = append(bad[name], strings.TrimSuffix(good, "}")+","+strings.TrimPrefix(good, "{"))
		} else {
			delete(bad, strings.ToUpper(name))
		}
	}
	for _, name := range schema.Required {
		var members map[string]any
		_ = json.Unmarshal([]byte(good), &members)
		delete(members, name)
		without, _ := json.Marshal(members)
		bad[name] = append(bad[name], string(without))
	}
	for name, property := range schema.Properties {
		if name == "reason" && slices.Contains(schema.Required, name) {
			bad[name] = append(bad[name], strings.Replace(good, `"x"`, `" \t\n"`, 1), strings.Replace(good, `"x"`, "null", 1))
		}
		for _, value := range []string{"[]", "{}", "7.5"} {
			bad[name] = append(bad[name], `{"`+name+`":`+value+`}`)
		}
		if most := property.Value.MaxLength; most != nil {
			bad[name] = append(bad[name], fmt.Sprintf(`{"engaged":true,"%s":"%s"}`, name, strings.Repeat("x", int(*most)+1)))
			if _, ok := schema.Properties["engaged"]; !ok {
				bad[name][len(bad[name])-1] = fmt.Sprintf(`{"%s":"%s"}`, name, strings.Repeat("x", int(*most)+1))
			}
		}
	}
	return bad
}
