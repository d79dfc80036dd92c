package playbook

import "encoding/json"

// Reading is one thing that a tick may have read: a value, unknown (and why), or not asked for.
// The zero value is "not asked". An error while reading becomes unknown, never an empty value:
// "the list failed" and "the list is empty" lead to very different nights.
type Reading[T any] struct {
	state readingState
	value T
	why   string
}

type readingState uint8

const (
	notAsked readingState = iota
	known
	unknown
)

// Known is a reading that has a value.
func Known[T any](v T) Reading[T] { return Reading[T]{state: known, value: v} }

// Unknown is a reading that was tried and failed; why is shown to people.
func Unknown[T any](why string) Reading[T] { return Reading[T]{state: unknown, why: why} }

// Get returns the value, and whether there is one.
func (r Reading[T]) Get() (T, bool) { return r.value, r.state == known }

// IsKnown reports whether the reading has a value.
func (r Reading[T]) IsKnown() bool { return r.state == known }

// IsUnknown reports whether the reading was tried and failed.
func (r Reading[T]) IsUnknown() bool { return r.state == unknown }

// Asked reports whether the reading was tried at all.
func (r Reading[T]) Asked() bool { return r.state != notAsked }

// Why says why the reading is unknown; it is empty otherwise.
func (r Reading[T]) Why() string { return r.why }

// readingJSON keeps the value raw: a known nil list is written as {"known":null}, which is not the same as no value.
type readingJSON struct {
	Known   json.RawMessage `json:"known,omitempty"`
	Unknown string          `json:"unknown,omitempty"`
}

// MarshalJSON writes {"known":...}, {"unknown":"why"} or null for what was not asked.
func (r Reading[T]) MarshalJSON() ([]byte, error) {
	switch r.state {
	case known:
		v, err := json.Marshal(r.value)
		if err != nil {
			return nil, err
		}
		return json.Marshal(readingJSON{Known: v})
	case unknown:
		return json.Marshal(readingJSON{Unknown: orElse(r.why, "no reason given")})
	case notAsked:
	}
	return []byte("null"), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Reading[T]) UnmarshalJSON(b []byte) error {
	*r = Reading[T]{}
	if string(b) == "null" {
		return nil
	}
	var j readingJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	if len(j.Known) == 0 {
		*r = Unknown[T](j.Unknown)
		return nil
	}
	var v T
	if err := json.Unmarshal(j.Known, &v); err != nil {
		return err
	}
	*r = Known(v)
	return nil
}
