package main

import (
	"github.com/drydock/drydock/playbook"
	"github.com/drydock/drydock/playbook/promotion"
)

// newPromoter builds the configured promotions. Secrets that are missing are noted in s.
func newPromoter(cfg *Config, s *secrets) (playbook.Promoter, error) {
	components := map[string]promotion.Component{}
	for name, p := range cfg.Promotions {
		path := "promotions." + name
		versionToken := s.get(path+".version.token", p.Version.Token)
		jenkinsToken := s.get(path+".jenkins.token", p.Jenkins.Token)
		if p.Version.Source != "http" {
			return nil, usagef("%s.version.source: %s is not available yet: use http", path, p.Version.Source)
		}
		source, err := promotion.NewHTTPSource(p.Version.URL, p.Version.JSONPath, versionToken, nil)
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
