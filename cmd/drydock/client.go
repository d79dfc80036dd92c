package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/drydock/drydock/api/client"
)

const (
	clientTimeout = 30 * time.Second
	// mostAnswer bounds what is read of an answer.
	mostAnswer = 64 << 20
)

// errNoToken: the CLI can not find a token for the server.
var errNoToken = errors.New("no API token: give --token or DRYDOCK_TOKEN")

// client finds the server and the token: flags, then the environment, then the configuration's listen and the token that a
// server on a loopback address made for itself.
func (a *app) client() (*client.Client, error) {
	return a.clientWith(&http.Client{Timeout: clientTimeout})
}

func (a *app) clientWith(transport *http.Client) (*client.Client, error) {
	server := a.server
	token := cmp.Or(a.token, a.getenv("DRYDOCK_TOKEN"))
	if server == "" || token == "" {
		cfg, err := a.config()
		if err != nil {
			return nil, err
		}
		if server == "" {
			server = "http://" + cfg.Listen
		}
		if token == "" {
			b, err := os.ReadFile(filepath.Join(cfg.path(cfg.DataDir), tokenFile))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, usagef("read the server's token: %w", err)
			}
			token = strings.TrimSpace(string(b))
		}
	}
	if token == "" {
		return nil, usagef("%w", errNoToken)
	}
	if strings.ContainsAny(token, "\r\n \t") {
		return nil, usagef("the API token has white space in it")
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usagef("--server %q is not an http or https address", server)
	}
	// A redirect would take the token to whoever it points to.
	transport.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c, err := client.NewClient(server, client.WithHTTPClient(transport), client.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("User-Agent", "drydock/"+version)
		return nil
	}))
	if err != nil {
		return nil, usagef("%w", err)
	}
	return c, nil
}

// read takes what a call to the server gave: the answer, and its own text for -o json. An answer that is not 2xx becomes an
// error with the contract's exit code.
func read[T any](resp *http.Response, err error) (answer T, raw json.RawMessage, _ error) {
	if err != nil {
		return answer, nil, unanswered(err)
	}
	defer resp.Body.Close()
	if raw, err = io.ReadAll(io.LimitReader(resp.Body, mostAnswer)); err != nil {
		return answer, nil, remotef("read the server's answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return answer, nil, refusal(resp.StatusCode, raw)
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return answer, nil, remotef("the server's answer can not be read (is --server a Drydock?): %w", err)
	}
	return answer, raw, nil
}

func unanswered(err error) error {
	return remotef("the server does not answer: %w; is it running, and is --server right?", err)
}

// refusal says what the server said.
func refusal(status int, body []byte) error {
	var p struct{ Title, Detail string }
	text := http.StatusText(status)
	if json.Unmarshal(body, &p) == nil && p.Title != "" {
		text = p.Title
		if p.Detail != "" {
			text += ": " + p.Detail
		}
	}
	code := exitRemote
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound, status == http.StatusConflict:
		code = exitNo
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout: // come again
	case status >= 400 && status < 500:
		code = exitUsage
	}
	err := fmt.Errorf("the server answers %d: %s", status, one(text))
	switch status {
	case http.StatusUnauthorized:
		err = fmt.Errorf("%w; is the token (--token, DRYDOCK_TOKEN) one of api_tokens?", err)
	case http.StatusForbidden:
		err = fmt.Errorf("%w; the token's role or carriers do not allow it", err)
	}
	return &exitError{code, err}
}
