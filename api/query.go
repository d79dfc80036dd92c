package api

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	defaultLimit = 50
	maxLimit     = 200
)

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
	if len(v[0]) > 1024 {
		q.add(name, "is longer than 1024 bytes")
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
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		q.add("limit", "%q is not a number from 1 to %d", text, maxLimit)
		return defaultLimit
	}
	return n
}

func (q *query) time(name string) time.Time {
	text := q.text(name)
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Year() < 1 {
		q.add(name, "%q is not a time: write it like 2026-11-22T03:04:05Z (RFC 3339)", text)
		return time.Time{}
	}
	return t.UTC()
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
