package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// What an APIError can be; ask with errors.Is. One error may be two of them: a write that was lost and, when sent again,
// rate limited is ErrAmbiguous and ErrRateLimited.
var (
	// ErrAmbiguous: a write was sent and its answer lost, or PagerDuty answered 408 or 5xx. It may have happened.
	ErrAmbiguous = errors.New("it is not known whether the write happened")

	// ErrUnavailable: PagerDuty could not be reached, failed (408, 5xx), or gave an answer that can not be read.
	ErrUnavailable = errors.New("PagerDuty is not available")

	// ErrRateLimited: 429 until our patience ended. APIError.RetryAfter says when to come again, where PagerDuty said it.
	ErrRateLimited = errors.New("PagerDuty's rate limit is reached")

	// ErrUnauthorized: 401 or 403. The token is wrong, has expired, or lacks a right.
	ErrUnauthorized = errors.New("PagerDuty refused the token")

	ErrNotFound            = errors.New("not found in PagerDuty")
	ErrAlreadyResolved     = errors.New("the incident is already resolved")
	errAlreadyAcknowledged = errors.New("the incident is already acknowledged")

	// ErrNotEditable: a note can not be changed in place (404 or 405 on the request, which is new and perhaps not everywhere).
	ErrNotEditable = errors.New("the note can not be edited")

	// ErrInvalid: PagerDuty, or our own check, refused the request as it is. Sending it again does not help.
	ErrInvalid = errors.New("PagerDuty refused the request")
)

// APIError is a request to PagerDuty that did not work out.
type APIError struct {
	Op         string // what was asked, for example "resolve incident QTEST0000001"
	Status     int    // HTTP status of the last answer; 0 when there was none
	Code       int    // PagerDuty's own code; 0 when absent
	Message    string // PagerDuty's words, or ours when it gave none; one line, no control characters
	RetryAfter time.Duration

	is []error // the sentinels that match, and the cause
}

func (e *APIError) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": status %d", e.Status)
	}
	if e.Code != 0 {
		fmt.Fprintf(&b, " (code %d)", e.Code)
	}
	b.WriteString(": " + e.Message)
	if errors.Is(e, ErrAmbiguous) {
		b.WriteString("; " + ErrAmbiguous.Error())
	}
	return b.String()
}

// Unwrap lets errors.Is and errors.As see the sentinels and the cause.
func (e *APIError) Unwrap() []error { return e.is }

// refused makes an APIError of an answer that is not 2xx.
func refused(op string, a answer) *APIError {
	e := &APIError{Op: op, Status: a.status}
	e.Code, e.Message = readErrorBody(a)
	switch {
	case a.status == http.StatusTooManyRequests:
		e.is = []error{ErrRateLimited}
		e.RetryAfter = waitAsked(a.header)
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		e.is = []error{ErrUnauthorized}
	case a.status == http.StatusNotFound:
		e.is = []error{ErrNotFound}
	case a.status == http.StatusRequestTimeout || a.status >= http.StatusInternalServerError:
		e.is = []error{ErrUnavailable}
	case a.status < http.StatusBadRequest:
		e.Message = "redirects are refused: check api_url (" + e.Message + ")"
		e.is = []error{ErrInvalid}
	// PagerDuty says it by code on one page (1001, 1002), and as 2001 with these words in the field (openshift CAD).
	case e.Code == 1001 || strings.Contains(strings.ToLower(e.Message), "already resolved"):
		e.is = []error{ErrAlreadyResolved}
	case e.Code == 1002 || strings.Contains(strings.ToLower(e.Message), "already acknowledged"):
		e.is = []error{errAlreadyAcknowledged, ErrInvalid}
	default:
		e.is = []error{ErrInvalid}
	}
	return e
}

// invalid is our own refusal to send a request.
func invalid(op, format string, args ...any) *APIError {
	return &APIError{Op: op, Message: fmt.Sprintf(format, args...), is: []error{ErrInvalid}}
}

// unreadable is a 2xx answer that is not what was asked for: not ours to fix, and never an empty answer.
func unreadable(op string, cause error) *APIError {
	return &APIError{Op: op, Status: http.StatusOK, Message: "the answer can not be read: " + oneLine(cause.Error()), is: []error{ErrUnavailable, cause}}
}

// readErrorBody reads the shapes seen: {"error":{message,code,errors}}, errors as one string, error as an array, the object
// without "error" around it, a bare string, and bodies that are not JSON (a proxy's page).
func readErrorBody(a answer) (code int, message string) {
	var body any
	if json.Unmarshal(a.body, &body) != nil {
		return 0, statusText(a.status) + " (the answer is not JSON)"
	}
	if top, ok := body.(map[string]any); ok {
		if inner, ok := top["error"]; ok {
			body = inner
		}
	}
	if o, ok := body.(map[string]any); ok {
		switch c := o["code"].(type) {
		case float64:
			code = int(c)
		case string:
			code, _ = strconv.Atoi(c) // words instead of a number: 0, as if absent
		}
	}
	if message = oneLine(strings.Join(words(body, 0), ": ")); message == "" {
		message = statusText(a.status)
	}
	return code, message
}

// words collects the texts of an error body, message first.
func words(v any, depth int) []string {
	if depth > 4 {
		return nil
	}
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, inner := range v {
			out = append(out, words(inner, depth+1)...)
		}
		return out
	case map[string]any:
		return append(words(v["message"], depth+1), words(v["errors"], depth+1)...)
	}
	return nil
}

func statusText(status int) string {
	if t := http.StatusText(status); t != "" {
		return t
	}
	return "unexpected status"
}

// oneLine makes a remote's words fit for a log line and a note.
func oneLine(s string) string {
	const most = 300
	return cutBytes(strings.Join(strings.Fields(SanitizeNote(s)), " "), most)
}
