package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/PagerDuty/go-pagerduty"
)

// Config says how to reach the REST API.
type Config struct {
	APIURL    string // default https://api.pagerduty.com
	Token     string // required
	OAuth     bool   // the token is an OAuth bearer token, not an API key
	From      string // e-mail of the bot's user, required: account keys need it for every write
	Patience  Patience
	Transport http.RoundTripper // nil: http.DefaultTransport
	Limiter   *Limiter          // nil: only PagerDuty's own refusals hold this client back
}

// Client reads and writes incidents. It is safe for concurrent use and sends one request at a time.
type Client struct {
	base   string
	from   string
	sender *sender
}

// New checks cfg and returns a Client. It does not talk to PagerDuty.
func New(cfg Config) (*Client, error) {
	base, err := baseURL("api_url", cfg.APIURL, "https://api.pagerduty.com")
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.Token == "":
		return nil, errors.New("pagerduty token is empty")
	case strings.ContainsAny(cfg.Token, "\r\n \t"):
		return nil, errors.New("pagerduty token has white space in it")
	case !strings.Contains(cfg.From, "@") || strings.ContainsAny(cfg.From, "\r\n \t"):
		return nil, fmt.Errorf("pagerduty from %q is not an e-mail address", cfg.From)
	}
	// Not NewOAuthClient: v1.8.0 drops its options.
	options := []pagerduty.ClientOptions{pagerduty.WithAPIEndpoint(base)}
	if cfg.OAuth {
		options = append(options, pagerduty.WithOAuth())
	}
	pd := pagerduty.NewClient(cfg.Token, options...)
	pd.HTTPClient = newHTTPClient(cfg.Transport)
	do := func(r *http.Request) (*http.Response, error) { return pd.Do(r, true) }
	c := &Client{base: base, from: cfg.From, sender: newSender(do, cfg.Patience)}
	c.sender.limiter = cfg.Limiter
	return c, nil
}

// RateRemaining returns how many requests PagerDuty's last answer left us in its window; ok is false before it said so.
func (c *Client) RateRemaining() (n int64, ok bool) {
	n = c.sender.remaining.Load()
	return n, n >= 0
}

// get reads path into out.
func (c *Client) get(ctx context.Context, op, path string, query url.Values, out any) error {
	address := c.base + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	body, err := c.sender.send(ctx, request{op: op, method: http.MethodGet, url: address})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return unreadable(op, err)
	}
	return nil
}

// write sends payload to path and returns the answer's body.
func (c *Client) write(ctx context.Context, r request, path string, payload any) ([]byte, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return nil, fmt.Errorf("%s: encode request: %w", r.op, err)
	}
	r.url, r.body, r.from = c.base+path, body, c.from
	return c.sender.send(ctx, r)
}

const (
	pageSize = 100

	// maxOffset is PagerDuty's own limit: offset+limit over 10,000 is a 400.
	maxOffset = 10_000
)

// list reads all pages of a list and calls each with every row. Pages advance by the rows that came, not by those asked for.
func (c *Client) list(ctx context.Context, op, path, key string, query url.Values, each func(json.RawMessage) error) error {
	query.Set("limit", strconv.Itoa(pageSize))
	for offset := 0; ; {
		if offset+pageSize > maxOffset {
			return invalid(op, "more than %d rows, which is as far as PagerDuty pages", offset)
		}
		query.Set("offset", strconv.Itoa(offset))
		var page map[string]json.RawMessage
		if err := c.get(ctx, op, path, query, &page); err != nil {
			return err
		}
		var rows []json.RawMessage
		if err := json.Unmarshal(page[key], &rows); err != nil {
			return unreadable(op, fmt.Errorf("read %q: %w", key, err))
		}
		for _, row := range rows {
			if err := each(row); err != nil {
				return unreadable(op, err)
			}
		}
		var more bool
		if raw, ok := page["more"]; ok {
			if err := json.Unmarshal(raw, &more); err != nil {
				return unreadable(op, fmt.Errorf("read %q: %w", "more", err))
			}
		}
		if !more {
			return nil
		}
		if len(rows) == 0 {
			return unreadable(op, errors.New("an empty page says that there is more"))
		}
		offset += len(rows)
	}
}

func checkID(op, what, id string) error {
	if !ValidID(id) {
		return invalid(op, "%s id %s does not have the form of a PagerDuty id", what, quoteShort(id))
	}
	return nil
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
