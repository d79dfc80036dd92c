package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/flowcontrol"
)

// What one carrier's client may cost its API server, and how long one call may take. client-go's own 5 per second would
// spend a tick waiting for itself; 20 with bursts of 40 read a node's neighbours at once (kubernetes.md 1.7).
const (
	qps         = 20
	burst       = 40
	callTimeout = 10 * time.Second
)

// PluginError says that a kubeconfig wants a program or a built-in plugin to be run for its credentials. That would let
// whoever writes the file run code here, so it is refused.
type PluginError struct {
	Kubeconfig string
	User       string
	Plugin     string // the exec command, or the auth provider's name
}

func (e *PluginError) Error() string {
	return fmt.Sprintf("kubeconfig %s: user %q gets its credentials from the plugin %q, which is refused: use a token, tokenFile or "+
		"client certificate instead", e.Kubeconfig, e.User, e.Plugin)
}

// ReadOnlyError says that a mutating request was stopped because the registry is read-only.
type ReadOnlyError struct{ Method, Path string }

func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("%s %s is refused: this carrier is read-only here", e.Method, e.Path)
}

func connect(e Entry, opts Options) (*Carrier, error) {
	reader, err := loadConfig(e.Kubeconfig, e.Context)
	if err != nil {
		return nil, err
	}
	actor := reader
	if e.ActorKubeconfig != "" {
		// The actor's own current context: it is a file of its own, made for one purpose.
		if actor, err = loadConfig(e.ActorKubeconfig, ""); err != nil {
			return nil, err
		}
		if actor.Host != reader.Host {
			return nil, fmt.Errorf("kubeconfig %s is for %s and %s is for %s: both identities must be of one carrier",
				e.Kubeconfig, reader.Host, e.ActorKubeconfig, actor.Host)
		}
	}
	return newCarrier(e, reader, actor, opts)
}

// loadConfig reads one kubeconfig; paths in it are relative to its file.
func loadConfig(path, contextName string) (*rest.Config, error) {
	file, err := (&clientcmd.ClientConfigLoadingRules{ExplicitPath: path}).Load()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	if contextName == "" {
		contextName = file.CurrentContext
	}
	chosen, ok := file.Contexts[contextName]
	if !ok {
		return nil, fmt.Errorf("kubeconfig %s has no context %q: it has %s", path, contextName, contextNames(file))
	}
	if user, ok := file.AuthInfos[chosen.AuthInfo]; ok {
		if user.Exec != nil {
			return nil, &PluginError{Kubeconfig: path, User: chosen.AuthInfo, Plugin: user.Exec.Command}
		}
		if user.AuthProvider != nil {
			return nil, &PluginError{Kubeconfig: path, User: chosen.AuthInfo, Plugin: user.AuthProvider.Name}
		}
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*file, contextName, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return config, nil
}

func contextNames(file *api.Config) string {
	names := make([]string, 0, len(file.Contexts))
	for name := range file.Contexts {
		names = append(names, fmt.Sprintf("%q", name))
	}
	slices.Sort(names)
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// clientFor sets what all our clients have in common.
func clientFor(config *rest.Config, opts Options) (*clients, error) {
	c := rest.CopyConfig(config)
	c.RateLimiter, c.Timeout = flowcontrol.NewTokenBucketRateLimiter(qps, burst), callTimeout
	c.UserAgent = userAgent(opts.Version)
	// Protobuf makes a list of 5,000 nodes cheap; what we send stays JSON, so that it can be read in an audit log.
	c.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	c.ContentType = "application/json"
	// Deprecation warnings would be printed to stderr once per call.
	c.WarningHandler = rest.NoWarnings{}
	if opts.ReadOnly {
		c.Wrap(func(next http.RoundTripper) http.RoundTripper { return readOnly{next} })
	}
	set, err := newClients(c)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return set, nil
}

func userAgent(version string) string {
	if version == "" {
		version = "dev"
	}
	return "drydock/" + version
}

// readOnly stops every request that could change something, before it is sent.
type readOnly struct{ next http.RoundTripper }

func (t readOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	harmless, err := changesNothing(req)
	if err != nil {
		return nil, err
	}
	if !harmless {
		return nil, &ReadOnlyError{Method: req.Method, Path: req.URL.Path}
	}
	return t.next.RoundTrip(req)
}

// WrappedRoundTripper lets client-go reach the transport below, for its own clean-up.
func (t readOnly) WrappedRoundTripper() http.RoundTripper { return t.next }

// changesNothing allows reads, access reviews and server-side dry runs. It reads a dry run where the API server does:
// in the query of a POST or PATCH, but in the body of a DELETE that has one.
func changesNothing(req *http.Request) (bool, error) {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return true, nil
	case http.MethodPost:
		switch req.URL.Path {
		case "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "/apis/authorization.k8s.io/v1/subjectaccessreviews":
			return true, nil // questions
		}
		// An eviction is a POST that deletes.
		return dryRunQuery(req) && !strings.HasSuffix(req.URL.Path, "/eviction"), nil
	case http.MethodPatch, http.MethodPut:
		return dryRunQuery(req), nil
	case http.MethodDelete:
		return dryRunBody(req)
	}
	return false, nil
}

func dryRunQuery(req *http.Request) bool {
	return slices.Equal(req.URL.Query()["dryRun"], []string{"All"})
}

func dryRunBody(req *http.Request) (bool, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return dryRunQuery(req), nil
	}
	body, err := io.ReadAll(req.Body)
	if err = errors.Join(err, req.Body.Close()); err != nil {
		return false, fmt.Errorf("read body of %s %s: %w", req.Method, req.URL.Path, err)
	}
	req.Body = io.NopCloser(bytes.NewReader(body))
	if len(body) == 0 {
		return dryRunQuery(req), nil
	}
	var options struct {
		DryRun []string `json:"dryRun"`
	}
	// What can not be read as JSON is not known to be a dry run.
	return json.Unmarshal(body, &options) == nil && slices.Equal(options.DryRun, []string{"All"}), nil
}
