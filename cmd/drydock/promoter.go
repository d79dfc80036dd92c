package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/kube"
	"github.com/drydock/drydock/playbook/promotion"
)

// newPromoter builds the configured promotions. Secrets that are missing are noted in s.
func newPromoter(cfg *Config, s *secrets) (*promotion.Promoter, error) {
	flags, err := cfg.flagReader()
	if err != nil {
		return nil, usagef("%w", err)
	}
	components := map[string]promotion.Component{}
	for name, p := range cfg.Promotions {
		path := "promotions." + name
		versionToken := s.get(path+".version.token", p.Version.Token)
		jenkinsToken := s.get(path+".jenkins.token", p.Jenkins.Token)
		source, err := newVersionSource(p.Version, versionToken, flags)
		if err != nil {
			return nil, usagef("%s.version: %w", path, err)
		}
		if jenkinsToken == "" {
			continue // s knows
		}
		j := p.Jenkins
		jenkins, err := promotion.NewJenkins(promotion.JenkinsConfig{
			URL: j.URL, Job: j.Job, Promotion: j.Promotion, User: j.User, Token: jenkinsToken,
		}, nil)
		if err != nil {
			return nil, usagef("%s.jenkins: %w", path, err)
		}
		components[name] = promotion.Component{Source: source, Jenkins: jenkins}
	}
	return promotion.New(components), nil
}

func newVersionSource(v VersionSource, token string, flags promotion.FlagReader) (promotion.VersionSource, error) {
	switch v.Source {
	case "launchdarkly":
		return promotion.NewLaunchDarkly(promotion.LaunchDarklyConfig{
			URL: v.URL, Project: v.Project, Environment: v.Environment, Flag: v.Flag, Key: v.ContextKey, Attributes: v.Attributes,
			JSONPath: v.JSONPath, Token: token,
		}, time.Now, nil)
	case "featureflagset":
		return promotion.NewFlagSet(promotion.FlagSetConfig{Namespace: v.Namespace, Name: v.Name, Flag: v.Flag, JSONPath: v.JSONPath}, flags)
	}
	return promotion.NewHTTPSource(v.URL, v.JSONPath, token, nil)
}

// flagReader reads flags on the carriers themselves, through a registry of its own that can change nothing.
func (c *Config) flagReader() (promotion.FlagReader, error) {
	// What is wrong with a carrier is told where the carrier itself is read; a run's reasons name no files.
	registry, err := c.registry(kube.Options{Version: version, ReadOnly: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, carrier, namespace, name, flag string) (json.RawMessage, error) {
		on, err := registry.Carrier(carrier)
		if err != nil {
			return nil, err
		}
		return on.FeatureFlag(ctx, namespace, name, flag)
	}, nil
}

// promotions reads what the version source and the CI say about an absent DaemonSet, where their secrets are set: a plan needs
// only a kubeconfig, and says so where it lacks more.
func (a *app) promotions(ctx context.Context, s *sight) playbook.Reading[playbook.Promotion] {
	cfg, err := a.config()
	if err != nil {
		return playbook.Unknown[playbook.Promotion](err.Error())
	}
	found := &secrets{getenv: a.getenv, path: cfg.path}
	promoter, err := newPromoter(cfg, found)
	if err = errors.Join(err, found.err()); err != nil {
		return playbook.Unknown[playbook.Promotion]("the deployed version is not read here: " + err.Error())
	}
	return promoter.Promotion(ctx, s.target.Carrier, s.policy.DaemonSet.Promotion)
}
