package jenkins

import (
	"fmt"
	"strconv"
	"strings"
)

// Jenkins' "tree" parameter selects what an answer holds:
//
//	tree=builds[number,actions[parameters[name,value]]]{0,20}
//
// A name without brackets selects the whole member, "*" all members.

// selection is what to keep of an object, by member.
type selection map[string]*member

type member struct {
	inner    selection // Nil keeps everything.
	from, to int       // Of a list; to is -1 for no end.
}

// parseTree reads a tree expression.
func parseTree(s string) (selection, error) {
	p := treeParser{rest: s}
	sel, err := p.list(0)
	if err != nil {
		return nil, fmt.Errorf("tree %q: %w", s, err)
	}
	if p.rest != "" {
		return nil, fmt.Errorf("tree %q: unexpected %q", s, p.rest)
	}
	return sel, nil
}

// maxTreeDepth bounds the nesting: the parser calls itself.
const maxTreeDepth = 32

type treeParser struct{ rest string }

func (p *treeParser) list(depth int) (selection, error) {
	if depth > maxTreeDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxTreeDepth)
	}
	sel := selection{}
	for {
		end := strings.IndexAny(p.rest, ",[]{}")
		if end < 0 {
			end = len(p.rest)
		}
		name := strings.TrimSpace(p.rest[:end])
		if name == "" {
			return nil, fmt.Errorf("a name is missing before %q", p.rest[end:])
		}
		p.rest = p.rest[end:]
		m := &member{to: -1}
		var err error
		// The range may stand before or after the brackets.
		if err = p.span(m); err == nil && p.take("[") {
			if m.inner, err = p.list(depth + 1); err == nil && !p.take("]") {
				err = fmt.Errorf("] is missing before %q", p.rest)
			}
			if err == nil {
				err = p.span(m)
			}
		}
		if err != nil {
			return nil, err
		}
		sel[name] = m
		if !p.take(",") {
			return sel, nil
		}
	}
}

func (p *treeParser) take(s string) bool {
	rest, ok := strings.CutPrefix(p.rest, s)
	p.rest = rest
	return ok
}

// span reads {from,to}, {from,}, {,to} or {one}.
func (p *treeParser) span(m *member) error {
	if !p.take("{") {
		return nil
	}
	text, rest, ok := strings.Cut(p.rest, "}")
	if !ok {
		return fmt.Errorf("} is missing")
	}
	p.rest = rest
	from, to, two := strings.Cut(text, ",")
	number := func(s string, empty int) (int, error) {
		if s = strings.TrimSpace(s); s == "" {
			return empty, nil
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("{%s} is no range", text)
		}
		return n, nil
	}
	var err error
	if m.from, err = number(from, 0); err != nil {
		return err
	}
	if !two {
		m.to = m.from + 1
		return nil
	}
	m.to, err = number(to, -1)
	return err
}

// pick keeps of v what the selection names. "_class" always stays, and an object
// of which nothing is named stays as an almost empty one, as in Jenkins.
func (sel selection) pick(v any) any {
	if sel == nil {
		return v
	}
	switch v := v.(type) {
	case object:
		kept := object{}
		for name, value := range v {
			m := sel[name]
			if m == nil {
				m = sel["*"]
			}
			switch {
			case name == "_class":
				kept[name] = value
			case m != nil:
				kept[name] = m.pick(value)
			}
		}
		return kept
	case []object:
		kept := make([]any, len(v))
		for n, o := range v {
			kept[n] = sel.pick(o)
		}
		return kept
	default:
		return v
	}
}

func (m *member) pick(v any) any {
	if list, ok := v.([]object); ok {
		to := len(list)
		if m.to >= 0 {
			to = min(to, m.to)
		}
		v = list[min(m.from, to):to]
	}
	return m.inner.pick(v)
}
