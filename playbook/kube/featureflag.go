package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
)

// Razee's FeatureFlagSetLD: its controller evaluates LaunchDarkly's flags with the cluster's identity and writes all their
// values into the object's top-level data.
const (
	flagSetGroup  = "deploy.razee.io"
	flagSetPath   = "/apis/" + flagSetGroup + "/v1alpha2/namespaces/"
	flagSetPlural = "featureflagsetsld"
)

// errNotEvaluated: the controller has not written any value yet, so what a flag will be is not known.
var errNotEvaluated = errors.New("it holds no values yet: its controller has not evaluated it")

// FeatureFlag reads a flag's value out of the carrier's own FeatureFlagSetLD, as JSON: nil when the set was evaluated and holds
// no such flag. A set that does not exist or was never evaluated is an error, for it says nothing.
func (c *Carrier) FeatureFlag(ctx context.Context, namespace, name, flag string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	path := flagSetPath + url.PathEscape(namespace) + "/" + flagSetPlural + "/" + url.PathEscape(name)
	// A custom resource has no protobuf.
	body, err := result(c.reader.CoreV1().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").Do(ctx))
	if err != nil {
		return nil, fmt.Errorf("read FeatureFlagSetLD %s/%s of carrier %s: %w", namespace, name, c.name, err)
	}
	var set struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	if err = json.Unmarshal(body, &set); err == nil && set.Data == nil {
		err = errNotEvaluated
	}
	if err != nil {
		return nil, fmt.Errorf("read FeatureFlagSetLD %s/%s of carrier %s: %w", namespace, name, c.name, err)
	}
	return set.Data[flag], nil
}
