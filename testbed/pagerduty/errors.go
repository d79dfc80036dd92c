package pagerduty

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Error is a refusal as the REST API words it. The methods that play people
// return it too.
type Error struct {
	Status  int // HTTP.
	Code    int // PagerDuty's.
	Message string
	Errors  []string
}

func (e *Error) Error() string {
	return fmt.Sprintf("pagerduty stand-in: %d %s (code %d) %v", e.Status, e.Message, e.Code, e.Errors)
}

// PagerDuty's error codes as far as they are documented or were observed.
const (
	codeRequesterUnknown = 1008
	codeUnauthorized     = 2006 // The stand-in's choice from the documented list.
	codeForbidden        = 2010 // Likewise.
	codeInvalid          = 2001
	codeBadRange         = 2004
	codeRequesterMissing = 2016
	codeSubscriptions    = 2019
	codeRateLimit        = 2020
	codeNotFound         = 2100
)

func invalid(format string, args ...any) *Error {
	return &Error{http.StatusBadRequest, codeInvalid, "Invalid Input Provided", []string{fmt.Sprintf(format, args...)}}
}

// alreadyResolved has the wording that clients in the field match on.
func alreadyResolved() *Error { return invalid("Incident Already Resolved") }

func notFound() *Error {
	return &Error{Status: http.StatusNotFound, Code: codeNotFound, Message: "Not Found"}
}

func tooLarge(format string, args ...any) *Error {
	return &Error{http.StatusRequestEntityTooLarge, codeInvalid, "Request Entity Too Large", []string{fmt.Sprintf(format, args...)}}
}

// ErrorShape is one of the forms in which PagerDuty was seen to word errors.
type ErrorShape int

// The shapes: the documented object first; errors as one string, error as an
// array and a flat object without "error" were each reported by users of
// go-pagerduty; text is what a proxy in between says.
const (
	ShapeObject ErrorShape = iota
	ShapeErrorsString
	ShapeArray
	ShapeFlat
	ShapeText
)

// body renders the error and names its content type.
func (e *Error) body(shape ErrorShape) ([]byte, string) {
	object := map[string]any{"message": e.Message, "code": e.Code}
	if len(e.Errors) > 0 {
		object["errors"] = e.Errors
	}
	var v any
	switch shape {
	case ShapeErrorsString:
		if len(e.Errors) > 0 {
			object["errors"] = e.Errors[0]
		} else {
			object["errors"] = e.Message
		}
		v = map[string]any{"error": object}
	case ShapeArray:
		v = map[string]any{"error": append([]string{e.Message}, e.Errors...)}
	case ShapeFlat:
		v = object
	case ShapeText:
		text := e.Message
		for _, s := range e.Errors {
			text += ": " + s
		}
		return []byte(text + "\n"), "text/plain; charset=utf-8"
	case ShapeObject:
		v = map[string]any{"error": object}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return []byte(err.Error()), "text/plain; charset=utf-8"
	}
	return b, "application/json; charset=utf-8"
}
