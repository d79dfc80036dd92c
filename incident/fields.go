package incident

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// fields reads a webhook's JSON object key by key, so that one value of an unexpected shape costs that value and not the
// event. Seen in the field: number as a string, agent and client null or absent, ids that are numbers. It is not
// used for answers of the REST API: there an unreadable value must be an error, never an empty one.
type fields map[string]any

// decode parses a body once, whole; numbers keep the form in which they are written.
func decode(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, ErrNotJSON
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, ErrNotJSON // something follows the value
	}
	return v, nil
}

// asObject is nil for what is no object.
func asObject(v any) fields {
	o, _ := v.(map[string]any)
	return o
}

func (f fields) object(key string) fields { return asObject(f[key]) }

// list returns the objects of an array; other elements are left out.
func (f fields) list(key string) []fields {
	elements, _ := f[key].([]any)
	out := make([]fields, 0, len(elements))
	for _, element := range elements {
		if o := asObject(element); o != nil {
			out = append(out, o)
		}
	}
	return out
}

// text returns a string, or a number as it is written. NUL is taken out: Postgres' text can not hold it.
func (f fields) text(key string) string {
	switch v := f[key].(type) {
	case string:
		return strings.ReplaceAll(v, "\x00", "")
	case json.Number:
		return v.String()
	}
	return ""
}

func (f fields) number(key string) int {
	n, err := strconv.Atoi(strings.TrimSpace(f.text(key)))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (f fields) flag(key string) bool {
	b, _ := f[key].(bool)
	return b
}

func (f fields) time(key string) time.Time {
	t, err := time.Parse(time.RFC3339, f.text(key))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

func (f fields) ref(key string) *Ref {
	o := f.object(key)
	if o == nil {
		return nil
	}
	r := o.asRef()
	return &r
}

func (f fields) asRef() Ref {
	return Ref{ID: f.text("id"), Type: f.text("type"), Summary: f.text("summary"), URL: f.text("html_url")}
}

// tooDeep counts open brackets outside strings, before the decoder walks the body. On a body that is not JSON its answer
// does not matter.
func tooDeep(body []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxEventDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
