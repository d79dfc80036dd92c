package api_test

import (
	"regexp"
	"strings"
	"testing"
)

// The page works offline: it shows every operation and every schema, loads nothing from elsewhere, and no link in it leads nowhere.
func TestDocs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := s.do(request{method: "GET", path: "/docs"})
	if w.Code != 200 {
		t.Fatalf("GET /docs: %d %s", w.Code, w.Body)
	}
	html := w.Body.String()
	doc := theSpec(t).doc
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if !strings.Contains(html, `<section id="`+op.OperationID+`"`) || !strings.Contains(html, method+" "+path) {
				t.Errorf("%s %s is not on the page", method, path)
			}
		}
	}
	for name := range doc.Components.Schemas {
		if !strings.Contains(html, `<section id="schema-`+name+`"`) {
			t.Errorf("schema %s is not on the page", name)
		}
	}
	for _, match := range regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllStringSubmatch(html, -1) {
		link := match[1]
		if anchor, ok := strings.CutPrefix(link, "#"); ok {
			if !strings.Contains(html, `id="`+anchor+`"`) {
				t.Errorf("link %s leads nowhere", link)
			}
			continue
		}
		if !strings.HasPrefix(link, "/") || strings.HasPrefix(link, "//") {
			t.Errorf("link %s leads away", link)
		} else if w := s.do(request{method: "GET", path: link}); w.Code != 200 && w.Code != 303 {
			t.Errorf("link %s: %d", link, w.Code)
		}
	}
	for _, want := range []string{"list of <a href=\"#schema-Tick\">Tick</a>", "integer, 1 to 200, 50 unless given", "run-active", "Role: approver."} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}
