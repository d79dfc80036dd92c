package incident

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// fields reads a webhook's JSON object key by key, so that one value of an unexpected shape costs that value and not the
// event. Seen in the field: number as a string, agent and client null or absent, ids that are numbers. It is not
// used for answers of the REST API: there an unreadable value must be an error, never an empty one.
type fields map[string]json.RawMessage

func object(raw json.RawMessage) (fields, bool) {
	var f fields
	if err := json.Unmarshal(raw, &f); err != nil || f == nil {
		return nil, false
	}
	for k, v := range f {
		if bytes.Equal(bytes.TrimSpace(v), []byte("null")) {
			delete(f, k)
		}
	}
	return f, true
}

func (f fields) object(key string) fields {
	o, _ := object(f[key])
	return o
}

// list returns the objects of an array; other elements are left out.
func (f fields) list(key string) []fields {
	var raws []json.RawMessage
	if json.Unmarshal(f[key], &raws) != nil {
		return nil
	}
	out := make([]fields, 0, len(raws))
	for _, raw := range raws {
		if o, ok := object(raw); ok {
			out = append(out, o)
		}
	}
	return out
}

// text returns a string, or a number as it is written. NUL is taken out: Postgres' text can not hold it.
func (f fields) text(key string) string {
	raw := f[key]
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return strings.ReplaceAll(s, "\x00", "")
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil {
		return n.String()
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
	var b bool
	return json.Unmarshal(f[key], &b) == nil && b
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
