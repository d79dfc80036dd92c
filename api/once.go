package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

const maxKey = 255 // characters

// repeat is what the Idempotency-Key of a request says.
type repeat struct {
	// runID is the id of the run to start: it is made from the key and the request, so that repeated, on any replica and after
	// any crash, the request finds the run that was started then. Empty without a key.
	runID string
	done  bool // the same request was carried out before: answer it again, and do nothing
}

// once lets a POST be repeated safely under an Idempotency-Key. Another request under the same key is refused before
// anything else is looked at. A request that could not be understood does not use its key up.
func (s *Server) once(h func(*gin.Context, repeat) error) handler {
	return func(c *gin.Context) error {
		key, err := keyOf(c.Request)
		if err != nil {
			return err
		}
		if key == "" {
			return h(c, repeat{})
		}
		body, err := readBody(c)
		if err != nil {
			return err
		}
		c.Request.Body = io.NopCloser(bytes.NewReader(body))
		ctx, client, request := c.Request.Context(), caller(c), requestHash(c.Request, body)
		done, err := s.Keys.ClaimKey(ctx, client, key, request)
		if err != nil {
			return err
		}
		err = h(c, repeat{runID: runIDOf(client, key, request), done: done})
		switch {
		case done:
		case err == nil:
			s.note(ctx, "keep", s.Keys.KeepKey(ctx, client, key))
		case errors.Is(err, errBadParameters), errors.Is(err, errNotJSON):
			s.note(ctx, "free", s.Keys.FreeKey(ctx, client, key))
		}
		return err
	}
}

// keyOf reads the header; absent, it is empty. One that stands there empty is a mistake, most likely of a script, which
// believes that it may repeat itself.
func keyOf(r *http.Request) (string, error) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	wrong := func(message string) (string, error) { return "", fieldErrors{{"Idempotency-Key", message}} }
	switch key := values[0]; {
	case len(values) > 1:
		return wrong(fmt.Sprintf("stands %d times: write it once", len(values)))
	case key == "":
		return wrong("is empty: give it a value, or leave it out")
	case !validText(key):
		return wrong("is not text")
	case utf8.RuneCountInString(key) > maxKey:
		return wrong(fmt.Sprintf("is longer than %d characters", maxKey))
	default:
		return key, nil
	}
}

// note logs what could not be noted about a key. The answer stands: a repeated order changes nothing either way.
func (s *Server) note(ctx context.Context, what string, err error) {
	if err != nil {
		s.log.WarnContext(ctx, "Idempotency-Key was not noted", slog.String("what", what), slog.Any("error", err))
	}
}

// requestHash tells requests apart; white space and the order of keys in a JSON body do not count.
func requestHash(r *http.Request, body []byte) []byte {
	var value any
	if json.Unmarshal(body, &value) == nil {
		if canonical, err := json.Marshal(value); err == nil {
			body = canonical
		}
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s\n%s", r.Method, r.URL.EscapedPath(), body))
	return sum[:]
}

// runIDOf is a UUID of version 8 (a hash of our own choosing). One client's keys can not meet another's.
func runIDOf(client, key string, request []byte) string {
	return uuid.NewHash(sha256.New(), uuid.Nil, fmt.Appendf(nil, "%q %q %x", client, key, request), 8).String()
}
