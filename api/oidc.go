package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// OIDC says whose ID tokens are taken as bearer tokens, and what their groups may do.
type OIDC struct {
	Issuer      string // https://login.example.com; its discovery document names the keys
	Audience    string // the client id that the tokens are made for
	GroupsClaim string // absent: groups
	Groups      []OIDCGroup
	// ClientSecret proves to the login server that it is Drydock who comes with a person's code, where it takes Drydock for a
	// confidential client. Empty: a public client.
	ClientSecret string
	Client       *http.Client // absent: one with a time limit
	// PublicURL is the address at which people reach the pages: the login server sends them back there. Empty: people log in on the
	// pages with a token only.
	PublicURL string
}

// OIDCGroup is what the members of a group may do.
type OIDCGroup struct {
	Name     string
	Role     Role
	Carriers []string // empty: all
}

const (
	oidcTime = 5 * time.Second
	// oidcPrefix keeps people's names apart from the names of api_tokens.
	oidcPrefix = "oidc:"
)

// Identifier finds out who an ID token belongs to.
type Identifier struct {
	config OIDC
	reads  *issuerReads

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil until the issuer was reached
	endpoint oauth2.Endpoint
}

// NewIdentifier takes tokens of an issuer. The issuer is asked for its keys when the first token comes, so that its outage does not
// keep a server from starting.
func NewIdentifier(config OIDC) *Identifier {
	config.GroupsClaim = cmp.Or(config.GroupsClaim, "groups")
	client := http.Client{Timeout: oidcTime}
	if config.Client != nil {
		client = *config.Client
	}
	reads := &issuerReads{RoundTripper: cmp.Or(client.Transport, http.DefaultTransport)}
	client.Transport, config.Client = reads, &client
	return &Identifier{config: config, reads: reads}
}

// issuerReads counts what could not be read from the issuer: the verifier's error says it in text alone.
type issuerReads struct {
	http.RoundTripper
	failed atomic.Int64
}

// RoundTrip is http.RoundTripper's.
func (r *issuerReads) RoundTrip(req *http.Request) (*http.Response, error) {
	response, err := r.RoundTripper.RoundTrip(req)
	if err != nil || response.StatusCode >= http.StatusBadRequest {
		r.failed.Add(1)
	}
	return response, err
}

// ErrIssuer says that the issuer, or its keys, could not be read, so that nobody knows whose a token is.
var ErrIssuer = errors.New("the issuer of ID tokens did not answer")

// looksSigned tells a signed token from a random one, which is not shown to the issuer's code at all.
func looksSigned(secret string) bool { return strings.Count(secret, ".") == 2 }

// Identify checks a token's signature, issuer, audience and times, and finds what its groups may do. The error says why it is not
// taken, and is ErrIssuer when that could not be found out.
func (i *Identifier) Identify(ctx context.Context, secret string) (Token, error) {
	verifier, err := i.ready(ctx)
	if err != nil {
		return Token{}, err
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, i.config.Client), oidcTime)
	defer cancel()
	failed := i.reads.failed.Load()
	id, err := verifier.Verify(ctx, secret)
	switch {
	case err == nil:
	case ctx.Err() != nil || i.reads.failed.Load() > failed: // only reading its keys takes any time
		return Token{}, fmt.Errorf("%w: verify ID token: %w", ErrIssuer, err)
	default:
		return Token{}, fmt.Errorf("verify ID token: %w", err)
	}
	var claims map[string]any
	if err := id.Claims(&claims); err != nil {
		return Token{}, fmt.Errorf("read the claims of ID token: %w", err)
	}
	token := Token{Name: oidcPrefix + id.Subject}
	// An address that nobody has verified is the user's own word, and approvals go by the name.
	if email, _ := claims["email"].(string); email != "" && claims["email_verified"] == true {
		token.Name = oidcPrefix + email
	}
	if !i.grant(&token, groupsOf(claims[i.config.GroupsClaim])) {
		return Token{}, errors.New("no group of the ID token is configured")
	}
	return token, nil
}

// grant gives a token the highest role of its groups. The carriers are those of the groups with that role: a lower role elsewhere is
// not carried over, nor made more of.
func (i *Identifier) grant(token *Token, groups map[string]bool) bool {
	all := false
	for _, g := range i.config.Groups {
		switch {
		case !groups[g.Name] || g.Role < token.Role:
			continue
		case g.Role > token.Role:
			token.Role, token.Carriers, all = g.Role, nil, false
		}
		all = all || len(g.Carriers) == 0
		token.Carriers = append(token.Carriers, g.Carriers...)
	}
	if all {
		token.Carriers = nil
	}
	return token.Role != 0
}

// groupsOf reads a claim that is a list of names, or one name.
func groupsOf(claim any) map[string]bool {
	groups := map[string]bool{}
	switch claim := claim.(type) {
	case string:
		groups[claim] = true
	case []any:
		for _, g := range claim {
			if name, ok := g.(string); ok {
				groups[name] = true
			}
		}
	}
	return groups
}

// ready discovers the issuer, once.
func (i *Identifier) ready(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.verifier != nil {
		return i.verifier, nil
	}
	// The provider keeps its context for later reads of the keys: it must outlive this request.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), i.config.Client), i.config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: discover %s: %w", ErrIssuer, i.config.Issuer, err)
	}
	i.verifier = provider.Verifier(&oidc.Config{ClientID: i.config.Audience})
	i.endpoint = provider.Endpoint()
	i.endpoint.AuthStyle = i.authStyle(provider)
	return i.verifier, nil
}

// authStyle is how Drydock names itself with a code. It is not found out by trying: a code is good for one try (RFC 6749, 4.1.2), and
// some login servers spend it on a refused one.
func (i *Identifier) authStyle(provider *oidc.Provider) oauth2.AuthStyle {
	if i.config.ClientSecret == "" {
		return oauth2.AuthStyleInParams // a public client has nothing but its id
	}
	var told struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"` // absent: client_secret_basic (OpenID Connect Discovery, 3)
	}
	if err := provider.Claims(&told); err == nil && len(told.Methods) > 0 && !slices.Contains(told.Methods, "client_secret_basic") {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

// forPages reports whether people can log in to the pages at the issuer.
func (i *Identifier) forPages() bool { return i != nil && i.config.PublicURL != "" }

// client is Drydock as the issuer knows it. Its proof is PKCE (RFC 7636), and a secret where it has one.
func (i *Identifier) client(ctx context.Context) (*oauth2.Config, *oidc.IDTokenVerifier, error) {
	verifier, err := i.ready(ctx)
	if err != nil {
		return nil, nil, err
	}
	return &oauth2.Config{ClientID: i.config.Audience, ClientSecret: i.config.ClientSecret, Endpoint: i.endpoint, RedirectURL: strings.TrimRight(i.config.PublicURL, "/") + oidcCallback,
		Scopes: []string{oidc.ScopeOpenID, "email", "profile"}}, verifier, nil
}

// loginAddress is where a person logs in. What the three secrets are is told again in finish.
func (i *Identifier) loginAddress(ctx context.Context, state, nonce, proof string) (string, error) {
	client, _, err := i.client(ctx)
	if err != nil {
		return "", err
	}
	return client.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(proof)), nil
}

// finish turns the code with which a person came back into their ID token.
func (i *Identifier) finish(ctx context.Context, code, nonce, proof string) (string, error) {
	client, verifier, err := i.client(ctx)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, i.config.Client), oidcTime)
	defer cancel()
	granted, err := client.Exchange(ctx, code, oauth2.VerifierOption(proof))
	if err != nil {
		return "", fmt.Errorf("exchange the code: %w", err)
	}
	secret, _ := granted.Extra("id_token").(string)
	id, err := verifier.Verify(ctx, secret)
	if err != nil {
		return "", fmt.Errorf("verify ID token: %w", err)
	}
	if id.Nonce != nonce {
		return "", errors.New("the ID token is not an answer to this login")
	}
	return secret, nil
}
