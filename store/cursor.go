package store

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// cursor is where a page ended: its last row's key, which stays in place whatever is added. It bears a hash of the filters,
// so that it can not be used with others, which would skip rows without a word.
type cursor struct {
	At     time.Time `json:"t"`
	ID     string    `json:"i"`
	Filter string    `json:"f"`
}

func (c cursor) String() string {
	b, _ := json.Marshal(c) // never fails: strings and a time that came from the database
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseCursor reads a cursor that String made for the same filters; empty is the first page.
func parseCursor(s, filter string) (cursor, error) {
	if s == "" {
		return cursor{}, nil
	}
	var c cursor
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || json.Unmarshal(b, &c) != nil || c.At.IsZero() || c.ID == "" || c.ID != storable(c.ID) {
		return cursor{}, &BadCursorError{Why: "is malformed"}
	}
	if c.Filter != filter {
		return cursor{}, &BadCursorError{Why: "belongs to other filters"}
	}
	return c, nil
}

// filterHash tells sets of filters apart.
func filterHash(parts ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", parts))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}
