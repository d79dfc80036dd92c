package api

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
)

const (
	defaultLimit = 50
	maxLimit     = 200
	maxText      = 1024 // characters
)

// firstYear is where times begin: Go's zero time, which would mean that there is none, lies before it.
const firstYear = 1970

// rfc3339 is narrower than time.Parse, which takes an hour of one digit, and a comma.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)

// query reads parameters and collects every mistake, so that one answer names them all.
type query struct {
	values url.Values
	wrong  fieldErrors
}

// newQuery refuses parameters that are not listed or stand twice: a filter with a typo would otherwise answer with
// everything.
func newQuery(c *gin.Context, known ...string) *query {
	values, err := url.ParseQuery(c.Request.URL.RawQuery)
	q := &query{values: values}
	if err != nil {
		q.add("query", "can not be read: escape it")
	}
	for name, v := range values {
		switch {
		case !slices.Contains(known, name):
			if len(known) == 0 {
				q.add(name, "is not known: there are no parameters here")
			} else {
				q.add(name, "is not known: the parameters are %s", strings.Join(known, ", "))
			}
		case len(v) > 1:
			q.add(name, "stands %d times: write it once", len(v))
		}
	}
	slices.SortFunc(q.wrong, func(a, b fieldError) int { return strings.Compare(a.Field, b.Field) })
	return q
}

func (q *query) add(field, format string, args ...any) {
	q.wrong = append(q.wrong, fieldError{field, fmt.Sprintf(format, args...)})
}

func (q *query) err() error {
	if len(q.wrong) == 0 {
		return nil
	}
	return q.wrong
}

// text is a parameter's value. A parameter that stands there empty is a mistake, most likely of a script.
func (q *query) text(name string) string {
	v, given := q.values[name]
	if !given {
		return ""
	}
	if v[0] == "" {
		q.add(name, "is empty: give it a value, or leave it out")
	}
	if utf8.RuneCountInString(v[0]) > maxText {
		q.add(name, "is longer than %d characters", maxText)
		return ""
	}
	if strings.ContainsRune(v[0], 0) || !validText(v[0]) {
		q.add(name, "is not text")
		return ""
	}
	return v[0]
}

func validText(s string) bool { return strings.ToValidUTF8(s, "") == s }

func (q *query) limit() int {
	text := q.text("limit")
	if text == "" {
		return defaultLimit
	}
	return q.number("limit", text, maxLimit)
}

// number reads digits, and no sign.
func (q *query) number(name, text string, most int) int {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n < 1 || int(n) > most {
		q.add(name, "%q is not a number from 1 to %d", text, most)
		return most
	}
	return int(n)
}

func (q *query) time(name string) time.Time {
	text := q.text(name)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || !rfc3339.MatchString(text) {
		q.add(name, "%q is not a time: write it like 2026-11-22T03:04:05Z (RFC 3339)", text)
		return time.Time{}
	}
	if t = t.UTC(); t.Year() < firstYear {
		q.add(name, "%q lies before %d", text, firstYear)
		return time.Time{}
	}
	return t
}

// oneOf is a parameter of a closed set.
func oneOf[S ~string](q *query, name string, set []S) S {
	text := q.text(name)
	if text == "" || slices.Contains(set, S(text)) {
		return S(text)
	}
	names := make([]string, len(set))
	for i, s := range set {
		names[i] = string(s)
	}
	q.add(name, "%q is not one of %s", text, strings.Join(names, ", "))
	return ""
}

// cursorField makes a bad cursor name its field.
func cursorField(err error) error {
	if errors.Is(err, ErrBadCursor) {
		return fieldErrors{{Field: "cursor", Message: "is not one of this list: use next_cursor of the page before, with the same filters"}}
	}
	return err
}
