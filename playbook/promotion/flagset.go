package promotion

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// FlagReader reads the value of a flag out of a carrier's own FeatureFlagSetLD, as JSON: nil when the set holds no such flag. A set
// that can not be read, or has no values yet, is an error.
type FlagReader func(ctx context.Context, carrier, namespace, name, flag string) (json.RawMessage, error)

// FlagSetConfig names a flag of the FeatureFlagSetLD that each carrier holds. In it {carrier} and {component} stand for their
// names.
type FlagSetConfig struct {
	Namespace string
	Name      string
	Flag      string
	JSONPath  string // where in the flag's value the version stands; empty: the value is the version
}

// FlagSet is the version source "featureflagset": what the flag service says, already evaluated by Razee on the carrier itself. It
// needs no credential but the carrier's.
type FlagSet struct {
	config FlagSetConfig
	path   []step
	read   FlagReader
}

// NewFlagSet makes one.
func NewFlagSet(config FlagSetConfig, read FlagReader) (*FlagSet, error) {
	if config.Namespace == "" || config.Name == "" || config.Flag == "" {
		return nil, errors.New("a FeatureFlagSetLD needs namespace, name and flag")
	}
	path, err := optionalPath(config.JSONPath)
	if err != nil {
		return nil, err
	}
	return &FlagSet{config: config, path: path, read: read}, nil
}

// Name is the source in words.
func (s *FlagSet) Name() string {
	return "the carrier's FeatureFlagSetLD " + s.config.Namespace + "/" + s.config.Name
}

// Version reads the flag. A flag that the set does not hold, and a value that is null or empty, are answers: the source names no
// version. A set that does not exist says nothing, so it is an error.
func (s *FlagSet) Version(ctx context.Context, carrier, component string) (string, error) {
	named := func(template string) string {
		return fill(template, carrier, component, func(name string) string { return name })
	}
	raw, err := s.read(ctx, carrier, s.config.Namespace, named(s.config.Name), named(s.config.Flag))
	if err != nil {
		return "", err
	}
	if raw == nil {
		return "", nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // a version such as 1.10 must not become 1.1
	var value any
	if err := d.Decode(&value); err != nil {
		return "", fmt.Errorf("read flag %s: %w", named(s.config.Flag), err)
	}
	version, err := find(value, s.path, carrier, component)
	if err != nil {
		return "", fmt.Errorf("read flag %s: %w", named(s.config.Flag), err)
	}
	return version, nil
}
