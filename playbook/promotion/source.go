package promotion

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// HTTPSource is the version source "http": a GET of a URL, and a path into its JSON answer.
type HTTPSource struct {
	url    string
	path   []step
	token  string
	client *http.Client
}

// NewHTTPSource makes one. {carrier} and {component} in address and path stand for their names. token is sent as a bearer
// token; empty: none. transport may be nil.
func NewHTTPSource(address, jsonPath, token string, transport http.RoundTripper) (*HTTPSource, error) {
	u, err := url.Parse(fill(address, "carrier", "component", url.PathEscape))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return nil, fmt.Errorf("version url %q is not one of http or https without a user: write https://host/path", address)
	}
	if strings.Contains(strings.SplitN(address+"/", "/", 4)[2], "{") {
		return nil, fmt.Errorf("version url %q has a placeholder in its host: put it into the path or the query", address)
	}
	path, err := parsePath(jsonPath)
	if err != nil {
		return nil, fmt.Errorf("json_path %q: %w", jsonPath, err)
	}
	return &HTTPSource{url: address, path: path, token: token, client: newClient(transport)}, nil
}

// Name is the host that is asked.
func (s *HTTPSource) Name() string {
	if u, err := url.Parse(s.url); err == nil {
		return u.Host
	}
	return "the flag service"
}

// Version asks for the deployed version. A 404, and a value that is null, empty or missing, are answers: the source names
// none. Every other failure is an error.
func (s *HTTPSource) Version(ctx context.Context, carrier, component string) (string, error) {
	path, query, hasQuery := strings.Cut(s.url, "?")
	address := fill(path, carrier, component, url.PathEscape)
	if hasQuery {
		address += "?" + fill(query, carrier, component, url.QueryEscape)
	}
	var answer any
	err := getJSON(ctx, s.client, address, func(req *http.Request) {
		if s.token != "" {
			req.Header.Set("Authorization", "Bearer "+s.token)
		}
	}, &answer)
	if status, ok := errors.AsType[*StatusError](err); ok && status.Code == http.StatusNotFound {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask for the deployed version: %w", err)
	}
	version, err := find(answer, s.path, carrier, component)
	if err != nil {
		return "", fmt.Errorf("ask for the deployed version: %w", err)
	}
	return version, nil
}

// step is one member of a path: a key, or an index.
type step struct {
	key     string
	index   int
	isIndex bool
}

// parsePath reads "$.a.b", "a.b", "a['b.c'].d", "items[0].version". The leading $ may be left out.
func parsePath(text string) ([]step, error) {
	rest := strings.TrimPrefix(strings.TrimSpace(text), "$")
	var path []step
	for first := true; rest != ""; first = false {
		var s step
		var err error
		switch {
		case rest[0] == '[':
			s, rest, err = bracket(rest)
		case rest[0] == '.' || first:
			rest = strings.TrimPrefix(rest, ".")
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			s.key, rest = rest[:end], rest[end:]
			if s.key == "" {
				err = errors.New("a name is missing after a dot")
			}
		default:
			err = fmt.Errorf("%q begins neither with a dot nor with a bracket", rest)
		}
		if err != nil {
			return nil, err
		}
		path = append(path, s)
	}
	if len(path) == 0 {
		return nil, errors.New("it is empty: say where in the answer the version stands, for example $.version")
	}
	return path, nil
}

// optionalPath reads a path into a flag's value; empty: the value itself.
func optionalPath(text string) ([]step, error) {
	if text == "" {
		return nil, nil
	}
	path, err := parsePath(text)
	if err != nil {
		return nil, fmt.Errorf("json_path %q: %w", text, err)
	}
	return path, nil
}

// bracket reads ['name'], ["name"] or [3].
func bracket(text string) (s step, rest string, err error) {
	inside := text[1:]
	if inside != "" && (inside[0] == '\'' || inside[0] == '"') {
		key, after, ok := strings.Cut(inside[1:], inside[:1]+"]")
		if !ok {
			return s, "", errors.New("a quoted name in brackets does not end")
		}
		return step{key: key}, after, nil
	}
	number, after, ok := strings.Cut(inside, "]")
	if !ok || number == "" || len(number) > 6 || strings.Trim(number, "0123456789") != "" {
		return s, "", errors.New("in brackets stands an index or a quoted name")
	}
	_, err = fmt.Sscan(number, &s.index)
	s.isIndex = true
	return s, after, err
}

// find follows the path. What is missing or null is "", anything that is no text or number is an error.
func find(at any, path []step, carrier, component string) (string, error) {
	for _, s := range path {
		switch in := at.(type) {
		case nil:
			return "", nil
		case map[string]any:
			if s.isIndex {
				return "", fmt.Errorf("json_path: [%d] stands where the answer has an object", s.index)
			}
			at = in[fill(s.key, carrier, component, func(name string) string { return name })]
		case []any:
			if !s.isIndex {
				return "", fmt.Errorf("json_path: %q stands where the answer has a list", s.key)
			}
			at = nil
			if s.index < len(in) {
				at = in[s.index]
			}
		default:
			return "", errors.New("json_path goes on where the answer has a plain value")
		}
	}
	switch version := at.(type) {
	case nil:
		return "", nil
	case string:
		return strings.TrimSpace(version), nil
	case json.Number:
		return version.String(), nil
	}
	return "", errors.New("json_path leads to something that is no text and no number")
}
