package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/drydock/drydock/playbook"
)

// Our names on a carrier. They are removed from what a re-creation restores.
const (
	ownPrefix = "drydock.dev/"
	// CordonOwner holds a playbook.Mark as JSON on a node that we cordoned.
	CordonOwner = ownPrefix + "cordon-owner"
	// KeepCordoned is a person's wish, "true" on a node: our uncordon then takes our mark away and leaves the cordon.
	KeepCordoned = ownPrefix + "keep-cordoned"
	// Generation is what a touch writes.
	Generation = ownPrefix + "generation"
	// NudgedByRun is what a nudge writes on a DaemonSet.
	NudgedByRun = ownPrefix + "nudged-by-run"
	// RestartedByRun is what a restart writes on the controller-manager's Deployment.
	RestartedByRun = ownPrefix + "restarted-by-run"
	// fieldManager is who we are in managedFields, but for a re-creation, which is done in the name of the original manager.
	fieldManager = "drydock"
)

// Carrier is one cluster. It is safe for concurrent use.
type Carrier struct {
	name     string
	version  string
	readOnly bool
	manager  ControllerManager
	reader   *clients
	actor    *clients
	granted  grantedRights
}

var _ playbook.Carrier = (*Carrier)(nil)

func newCarrier(e Entry, reader, actor *rest.Config, opts Options) (*Carrier, error) {
	reads, err := clientFor(reader, opts)
	if err != nil {
		return nil, err
	}
	acts := reads
	if actor != reader {
		if acts, err = clientFor(actor, opts); err != nil {
			return nil, err
		}
	}
	return &Carrier{name: e.Name, version: opts.Version, readOnly: opts.ReadOnly, manager: e.ControllerManager,
		reader: reads, actor: acts}, nil
}

// Name is the carrier's in the configuration.
func (c *Carrier) Name() string { return c.name }

// Version asks the API server for its version, e.g. "v1.37.2".
func (c *Carrier) Version(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := result(c.reader.CoreV1().RESTClient().Get().AbsPath("/version").Do(ctx))
	if err != nil {
		return "", fmt.Errorf("read version of carrier %s: %w", c.name, err)
	}
	var version struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.Unmarshal(body, &version); err != nil || version.GitVersion == "" {
		return "", fmt.Errorf("read version of carrier %s: the answer is not an API server's", c.name)
	}
	return version.GitVersion, nil
}

// result is a response's body. The error is the API server's own Status when it sent one; Result.Raw alone would drop it.
func result(r rest.Result) ([]byte, error) {
	if err := r.Error(); err != nil {
		return nil, err
	}
	return r.Raw()
}

// statusOf is the API server's own answer in an error. client-go makes a Status of any bad answer, also of a load balancer's
// page; those bear the cause UnexpectedServerResponse and are nobody's word.
func statusOf(err error) (metav1.Status, bool) {
	status, ok := errors.AsType[*apierrors.StatusError](err)
	if !ok || apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) {
		return metav1.Status{}, false
	}
	return status.ErrStatus, true
}

// saidNotFound reports whether the API server itself said that this very object does not exist. A 404 for an API group
// that is not served names no object.
func saidNotFound(err error, resource, name string) bool {
	status, ok := statusOf(err)
	return ok && apierrors.IsNotFound(err) && status.Details != nil && status.Details.Name == name && status.Details.Kind == resource
}

// pageSize bounds one answer of a list; the API server stays quick and our memory small on 5,000 nodes.
const pageSize = 500

// listAll reads a list page by page, each page with a timeout of its own. It leaves resourceVersion unset, which makes
// it a consistent read, and starts again when the snapshot that the pages come from has expired.
func listAll[T any](ctx context.Context, opts metav1.ListOptions,
	page func(context.Context, metav1.ListOptions) ([]T, string, error)) ([]T, error) {
	const tries = 3
	var all []T
	opts.Limit, opts.Continue = pageSize, ""
	for try := 1; ; {
		items, next, err := onePage(ctx, opts, page)
		switch {
		case apierrors.IsResourceExpired(err) && try < tries:
			try++
			all, opts.Continue = nil, ""
			continue
		case err != nil:
			return nil, err
		}
		all = append(all, items...)
		if next == "" {
			return slices.Clip(all), nil
		}
		opts.Continue = next
	}
}

func onePage[T any](ctx context.Context, opts metav1.ListOptions,
	page func(context.Context, metav1.ListOptions) ([]T, string, error)) ([]T, string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return page(ctx, opts)
}
