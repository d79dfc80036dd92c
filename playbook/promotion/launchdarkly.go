package promotion

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// DefaultLaunchDarkly is where LaunchDarkly is, but for its accounts in the EU and of the US government.
const DefaultLaunchDarkly = "https://app.launchdarkly.com"

// LaunchDarklyConfig names a flag and whose value of it is asked for. In the flag, the key and the attributes {carrier} and
// {component} stand for their names.
type LaunchDarklyConfig struct {
	URL         string // empty: DefaultLaunchDarkly
	Project     string
	Environment string
	Flag        string
	// Key and Attributes are the context, of the kind user: what Razee's FeatureFlagSetLD gives for a cluster, so that the flag
	// is evaluated as the cluster sees it. An empty Key is {carrier}.
	Key        string
	Attributes map[string]string
	JSONPath   string // where in the flag's value the version stands; empty: the value is the version
	Token      string // of the REST API, with the right to read
}

// LaunchDarkly is the version source "launchdarkly": one call of its REST API that evaluates a flag. LaunchDarkly does not
// mean that call for use at scale; here it is made only while a DaemonSet is absent.
type LaunchDarkly struct {
	config LaunchDarklyConfig
	url    *url.URL
	path   []step
	client *http.Client
	now    func() time.Time

	mu    sync.Mutex
	quiet time.Time // asked too often: nothing is asked before
}

// NewLaunchDarkly makes one. transport may be nil.
func NewLaunchDarkly(config LaunchDarklyConfig, now func() time.Time, transport http.RoundTripper) (*LaunchDarkly, error) {
	config.URL, config.Key = cmp.Or(config.URL, DefaultLaunchDarkly), cmp.Or(config.Key, "{carrier}")
	base, err := url.Parse(config.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.User != nil {
		return nil, fmt.Errorf("LaunchDarkly url %q is not one of http or https without a user: write %s", config.URL, DefaultLaunchDarkly)
	}
	if config.Project == "" || config.Environment == "" || config.Flag == "" {
		return nil, errors.New("LaunchDarkly needs project, environment and flag: their keys")
	}
	path, err := optionalPath(config.JSONPath)
	if err != nil {
		return nil, err
	}
	base = base.JoinPath("api", "v2", "projects", url.PathEscape(config.Project), "environments", url.PathEscape(config.Environment), "flags", "evaluate")
	return &LaunchDarkly{config: config, url: base, path: path, client: newClient(transport), now: now}, nil
}

// Name is the source in words.
func (l *LaunchDarkly) Name() string { return "LaunchDarkly" }

// Version evaluates the flag. A flag that is not there (deleted or archived), and a value that is null or empty, are answers: the
// source names no version. A flag that LaunchDarkly itself could not evaluate is an error.
func (l *LaunchDarkly) Version(ctx context.Context, carrier, component string) (string, error) {
	version, err := l.evaluate(ctx, carrier, component)
	if err != nil {
		return "", fmt.Errorf("ask LaunchDarkly for the deployed version: %w", err)
	}
	return version, nil
}

func (l *LaunchDarkly) evaluate(ctx context.Context, carrier, component string) (string, error) {
	named := func(template string) string {
		return fill(template, carrier, component, func(name string) string { return name })
	}
	who := map[string]string{}
	for name, value := range l.config.Attributes {
		who[name] = named(value)
	}
	who["kind"], who["key"] = "user", named(l.config.Key)
	flag := named(l.config.Flag)
	var answer struct {
		Items []struct {
			Key    string `json:"key"`
			Value  any    `json:"_value"`
			Reason struct {
				Kind      string `json:"kind"`
				ErrorKind string `json:"errorKind"`
			} `json:"reason"`
		} `json:"items"`
		TotalCount int `json:"totalCount"`
	}
	if err := l.ask(ctx, flag, who, &answer); err != nil {
		return "", err
	}
	if answer.Items == nil {
		return "", errors.New("the answer has no list of flags")
	}
	for _, item := range answer.Items {
		if item.Key != flag {
			continue // the filter also finds flags whose keys or names only contain ours
		}
		if item.Reason.Kind == "ERROR" {
			return "", fmt.Errorf("flag %s could not be evaluated: %s", flag, item.Reason.ErrorKind)
		}
		return find(item.Value, l.path, carrier, component)
	}
	if answer.TotalCount > len(answer.Items) {
		return "", fmt.Errorf("flag %s is not among the %d of %d flags in the answer", flag, len(answer.Items), answer.TotalCount)
	}
	return "", nil
}

// ask sends the one request, unless LaunchDarkly has said that it was asked too often.
func (l *LaunchDarkly) ask(ctx context.Context, flag string, who map[string]string, answer any) error {
	l.mu.Lock()
	quiet := l.quiet
	l.mu.Unlock()
	if wait := quiet.Sub(l.now()); wait > 0 {
		return fmt.Errorf("it was asked too often and wants quiet for %s more", wait.Round(time.Second))
	}
	body, err := json.Marshal(who)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	address := *l.url
	address.RawQuery = url.Values{"filter": {"query equals " + flag}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", l.config.Token) // as it is: LaunchDarkly wants no scheme
	err = askJSON(l.client, req, answer)
	if status, ok := errors.AsType[*StatusError](err); ok && status.Code == http.StatusTooManyRequests {
		l.mu.Lock()
		l.quiet = l.now().Add(max(status.RetryAfter, 10*time.Second))
		l.mu.Unlock()
	}
	return err
}
