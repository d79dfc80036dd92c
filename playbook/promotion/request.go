package promotion

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds an answer. A job with thousands of builds is read in pages far below it.
const maxBody = 4 << 20

// StatusError is an HTTP status that was not expected.
type StatusError struct {
	Op         string // "get https://host/path"
	Code       int
	RetryAfter time.Duration // when the remote said when to come again, else 0
}

func (e *StatusError) Error() string {
	why := ""
	switch e.Code {
	case http.StatusUnauthorized:
		why = ": the token is not accepted"
	case http.StatusForbidden:
		why = ": the token's user may not do that"
	case http.StatusTooManyRequests:
		why = ": asked too often"
	}
	return fmt.Sprintf("%s: HTTP %d %s%s", e.Op, e.Code, http.StatusText(e.Code), why)
}

// retryAfter reads the header in its form of seconds; the other form is a date, which would need an agreed clock.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, int(time.Hour/time.Second))) * time.Second
}

// newClient makes a client that follows no redirect: one could take a token to another host, or a POST to a page.
func newClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     transport,
		Timeout:       callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// getJSON decodes a 200 into v. The address in an error bears no query and no user.
func getJSON(ctx context.Context, client *http.Client, address string, authorize func(*http.Request), v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	authorize(req)
	return askJSON(client, req, v)
}

// askJSON sends a request that changes nothing, see getJSON.
func askJSON(client *http.Client, req *http.Request, v any) error {
	req.Header.Set("Accept", "application/json")
	op := strings.ToLower(req.Method) + " " + plain(req.URL)
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", op, cause(err))
	}
	defer func() { _ = resp.Body.Close() }() // nothing was written, so closing can lose nothing
	if resp.StatusCode != http.StatusOK {
		return &StatusError{Op: op, Code: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return fmt.Errorf("%s: read answer: %w", op, err)
	}
	if len(body) > maxBody {
		return fmt.Errorf("%s: the answer is larger than %d bytes", op, maxBody)
	}
	d := json.NewDecoder(strings.NewReader(string(body)))
	d.UseNumber() // a version such as 1.10 must not become 1.1
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%s: the answer is not the JSON that was expected: %w", op, err)
	}
	return nil
}

// plain is an address for messages.
func plain(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// cause takes the address off a *url.Error, which would show the query.
func cause(err error) error {
	if u, ok := err.(*url.Error); ok { //nolint:errorlint // http.Client.Do documents that it is always this very type
		return u.Err
	}
	return err
}
