package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/playbook"
)

// resolved are the secrets of a server, read once at its start.
type resolved struct {
	backupKey      []byte
	pagerDutyToken string
	webhookSecrets []string
	selfAlertKey   string
	deadMan        string
	tokens         api.Tokens
	oidcSecret     string
	// madeToken is the admin token in data_dir/token, empty where api_tokens are configured.
	madeToken string
	promoter  playbook.Promoter
}

// resolve reads every secret that serve needs. One error names all that are missing.
func resolve(cfg *Config, getenv func(string) string) (*resolved, error) {
	s := &secrets{getenv: getenv, path: cfg.path}
	r := &resolved{}
	s.get("database_url", cfg.DatabaseURL)
	r.pagerDutyToken = s.get("pagerduty.token", cfg.PagerDuty.Token)
	for i := range cfg.PagerDuty.WebhookSecrets {
		r.webhookSecrets = append(r.webhookSecrets, s.get(fmt.Sprintf("pagerduty.webhook_secrets[%d]", i), &cfg.PagerDuty.WebhookSecrets[i]))
	}
	if cfg.SelfAlert != nil {
		r.selfAlertKey = s.get("self_alert.routing_key", cfg.SelfAlert.RoutingKey)
	}
	r.deadMan = s.get("deadman_url", cfg.DeadManURL)
	var err error
	if cfg.Role != roleIngest {
		for i, carrier := range cfg.Carriers {
			if over := carrier.ControllerManager.SSH; over != nil {
				s.get(fmt.Sprintf("carriers[%d].controller_manager.ssh.key", i), over.Key) // read again at each use
			}
		}
		if r.promoter, err = newPromoter(cfg, s); err != nil {
			return nil, err
		}
	}
	if err := r.readTokens(cfg, s); err != nil {
		return nil, err
	}
	if cfg.OIDC != nil {
		r.oidcSecret = s.get("oidc.client_secret", cfg.OIDC.ClientSecret)
	}
	key, keyErr := backupKey(cfg, s)
	if err := s.err(); err != nil {
		return nil, missingSecrets(err)
	}
	r.backupKey = key
	return r, keyErr
}

func (r *resolved) readTokens(cfg *Config, s *secrets) error {
	for i, t := range cfg.APITokens {
		path := fmt.Sprintf("api_tokens[%d].sha256", i)
		text := s.get(path, t.SHA256)
		if text == "" {
			continue // s knows
		}
		sum, err := hex.DecodeString(text)
		if err != nil || len(sum) != sha256.Size {
			return usagef("%s (%s) is not a SHA-256 in hex: \"drydock token new\" prints one", path, t.SHA256)
		}
		role, _ := api.ParseRole(t.Role) // the configuration was checked
		r.tokens = append(r.tokens, api.Token{Name: t.Name, Role: role, Carriers: t.Carriers, SHA256: [sha256.Size]byte(sum)})
	}
	if len(cfg.APITokens) > 0 || cfg.OIDC != nil {
		return nil
	}
	// The configuration's check has made sure that the address is loopback.
	token, err := keepSecret(filepath.Join(cfg.path(cfg.DataDir), tokenFile), newToken32)
	if err != nil {
		return usagef("make the admin token: %w", err)
	}
	r.madeToken = token
	r.tokens = api.Tokens{{Name: "local", Role: api.Admin, SHA256: sha256.Sum256([]byte(token))}}
	return nil
}

// identifier takes the ID tokens of the configured login server, to which clientSecret proves who asks; nil without one.
func (c *Config) identifier(clientSecret string) *api.Identifier {
	if c.OIDC == nil {
		return nil
	}
	config := api.OIDC{Issuer: c.OIDC.Issuer, Audience: c.OIDC.Audience, GroupsClaim: c.OIDC.GroupsClaim, ClientSecret: clientSecret, PublicURL: c.PublicURL}
	for _, g := range c.OIDC.Groups {
		role, _ := api.ParseRole(g.Role) // the configuration was checked
		config.Groups = append(config.Groups, api.OIDCGroup{Name: g.Name, Role: role, Carriers: g.Carriers})
	}
	return api.NewIdentifier(config)
}
