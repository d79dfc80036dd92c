package store

import (
	"errors"
	"testing"
)

func TestIdempotencyKeys(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	claim := func(client, key, request string) (done, reused bool) {
		t.Helper()
		done, err := f.ClaimKey(t.Context(), client, key, []byte(request))
		if err != nil && !errors.Is(err, ErrKeyReused) {
			t.Fatal(err)
		}
		return done, err != nil
	}
	for _, step := range []struct {
		what         string
		before       func() error
		request      string
		done, reused bool
	}{
		{what: "new", request: "a"},
		{what: "repeated before it was carried out", request: "a"},
		{what: "another request", request: "b", reused: true},
		{what: "carried out", before: func() error { return f.KeepKey(t.Context(), "ops", "k") }, request: "a", done: true},
		{what: "another after that", request: "b", reused: true},
		{what: "freed after that", before: func() error { return f.FreeKey(t.Context(), "ops", "k") }, request: "b", reused: true},
	} {
		if step.before != nil {
			f.must(step.before())
		}
		if done, reused := claim("ops", "k", step.request); reused != step.reused || !reused && done != step.done {
			t.Errorf("%s: done %t, reused %t", step.what, done, reused)
		}
	}
	if done, reused := claim("other", "k", "b"); done || reused {
		t.Error("another client's key is the same key")
	}
	f.must(f.FreeKey(t.Context(), "other", "k"))
	if done, reused := claim("other", "k", "c"); done || reused {
		t.Error("a freed key is still bound")
	}
	f.exec(`UPDATE idempotency_keys SET at = at - interval '8 days'`)
	if done, reused := claim("ops", "k", "z"); done || reused {
		t.Error("a key of last week is still bound")
	}
}
