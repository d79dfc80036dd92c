package main

import (
	"bytes"
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
)

// client talks to a Drydock server for the subcommands that need one.
type client struct {
	base  string
	token string
	http  *http.Client
}

const clientTimeout = 30 * time.Second

// client finds the server and the token: flags, then the environment, then the configuration's listen and the token that a
// server on a loopback address made for itself.
func (a *app) client() (*client, error) {
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
				return nil, usagef("read the server's token: %v", err)
			}
			token = strings.TrimSpace(string(b))
		}
	}
	if token == "" {
		return nil, usagef("no API token: give --token or DRYDOCK_TOKEN")
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, usagef("--server %q is not an http or https address", server)
	}
	return &client{base: strings.TrimRight(server, "/"), token: token, http: &http.Client{Timeout: clientTimeout}}, nil
}

// do sends a request and returns the answer's body. An answer that is not 2xx becomes an error with the contract's exit code.
func (c *client) do(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	var send io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		send = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, send)
	if err != nil {
		return nil, usagef("%v", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("User-Agent", "drydock/"+version)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, remotef("the server does not answer: %w; is it running, and is --server right?", err)
	}
	defer resp.Body.Close()
	const most = 64 << 20
	answer, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return nil, remotef("read the server's answer: %w", err)
	}
	if resp.StatusCode/100 == 2 {
		return answer, nil
	}
	return nil, refusal(resp.StatusCode, answer)
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
	case status >= 400 && status < 500:
		code = exitUsage
	}
	return &exitError{code, fmt.Errorf("the server answers %d: %s", status, text)}
}

// get reads a path into out and keeps the raw answer.
func (c *client) get(ctx context.Context, path string, out any) (json.RawMessage, error) {
	raw, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return nil, remotef("the server's answer can not be read: %w", err)
	}
	return raw, nil
}
