package store

import (
	"testing"
	"time"
)

// FuzzCursor: no text makes a cursor for filters that it was not made for, and what is taken is fit for a query.
func FuzzCursor(f *testing.F) {
	good := cursor{At: time.Date(2026, 11, 22, 3, 4, 5, 6000, time.UTC), ID: "r1", Filter: "f"}.String()
	for _, text := range []string{good, "", "x", good + "=", good[:20], "eyJ0IjoiMDAwMS0wMS0wMVQwMDowMDowMFoiLCJpIjoiIiwiZiI6ImYifQ", "bnVsbA", "e30"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text, "f")
		if err != nil || text == "" {
			return
		}
		if c.Filter != "f" || c.ID == "" || c.ID != storable(c.ID) || c.At.IsZero() {
			t.Errorf("%q was taken as %+v", text, c)
		}
		again, err := parseCursor(c.String(), "f")
		if err != nil || !again.At.Equal(c.At) || again.ID != c.ID {
			t.Errorf("%q was taken as %+v, which is read again as %+v, %v", text, c, again, err)
		}
		if _, err := parseCursor(text, "g"); err == nil {
			t.Errorf("%q was taken for other filters", text)
		}
	})
}
