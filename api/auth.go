package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/playbook"
)

// Role is what a token may do. Each role may do what the ones before it may.
type Role int

// The roles, lowest first.
const (
	Viewer Role = iota + 1
	Operator
	Approver
	Admin
)

var roleNames = []string{"viewer", "operator", "approver", "admin"}

// ParseRole reads a role's name.
func ParseRole(name string) (Role, bool) {
	i := slices.Index(roleNames, name)
	return Role(i + 1), i >= 0
}

// String is the role's name; empty for none.
func (r Role) String() string {
	if r < Viewer || r > Admin {
		return ""
	}
	return roleNames[r-1]
}

// Token is who a bearer token belongs to, and what it is good for.
type Token struct {
	Name string
	Role Role
	// Carriers are the ones that the token is for; empty: all.
	Carriers []string
	SHA256   [sha256.Size]byte // by which a configured token is known
}

// isFor reports whether the token is for a carrier.
func (t Token) isFor(carrier string) bool {
	return len(t.Carriers) == 0 || slices.Contains(t.Carriers, carrier)
}

// Tokens finds who a bearer token belongs to.
type Tokens []Token

// find compares with every token, in constant time, so that the time tells nothing about which came near.
func (t Tokens) find(secret string) (Token, bool) {
	if secret == "" {
		return Token{}, false
	}
	sum := sha256.Sum256([]byte(secret))
	found, at := 0, 0
	for i := range t {
		equal := subtle.ConstantTimeCompare(sum[:], t[i].SHA256[:])
		at = subtle.ConstantTimeSelect(equal, i, at)
		found |= equal
	}
	if found == 0 {
		return Token{}, false
	}
	return t[at], true
}

// bearer is the token of the Authorization header, or empty.
func bearer(r *http.Request) string {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

const tokenKey = "token"

// require lets a request through whose bearer token has at least the role.
func (s *Server) require(role Role) gin.HandlerFunc {
	return func(c *gin.Context) {
		token, err := s.authorize(c.Request, bearer(c.Request), role)
		if err != nil {
			s.fail(c, err)
			return
		}
		c.Set(tokenKey, token)
	}
}

// authorize finds out who sends a secret, holds them to their rate, and to their role.
func (s *Server) authorize(r *http.Request, secret string, role Role) (Token, error) {
	token, err := s.identify(r, secret)
	switch {
	case err != nil && secret != "":
		if !errors.Is(err, ErrIssuer) {
			s.recordRefusal(r)
		}
		if !s.guesses.allow(address(r), s.Now()) {
			return Token{}, errTooManyRequests
		}
		return Token{}, err
	case err != nil:
		return Token{}, err
	case !s.requests.allow(token.Name, s.Now()):
		return Token{}, errTooManyRequests
	case token.Role < role:
		return Token{}, errRole
	}
	return token, nil
}

// identify finds out who a secret belongs to.
func (s *Server) identify(r *http.Request, secret string) (Token, error) {
	if token, ok := s.tokens.find(secret); ok {
		return token, nil
	}
	if s.OIDC == nil || !looksSigned(secret) {
		return Token{}, errNoToken
	}
	token, err := s.OIDC.Identify(r.Context(), secret)
	switch {
	case errors.Is(err, ErrIssuer):
		s.log.WarnContext(r.Context(), "ID token could not be checked", "error", err)
		return Token{}, ErrIssuer
	case err != nil:
		s.log.InfoContext(r.Context(), "ID token was refused", "error", err)
		return Token{}, errNoToken
	}
	s.recordOIDC(r, secret, token)
	return token, nil
}

// address is where a request comes from. Behind a proxy that is the proxy's, and all guess together.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// tokenOf is the token that require let through.
func tokenOf(c *gin.Context) Token {
	token, _ := c.Get(tokenKey)
	t, _ := token.(Token)
	return t
}

// caller is the name of the token that require let through.
func caller(c *gin.Context) string { return tokenOf(c).Name }

// inScope refuses a carrier that the caller's token is not for, whether there is such a carrier or not.
func inScope(c *gin.Context, carrier string) error {
	if !tokenOf(c).isFor(carrier) {
		return errOutOfScope
	}
	return nil
}

// narrowed is the carriers to which the token narrows a list whose own filter may name one; empty: not at all.
func narrowed(c *gin.Context, carrier string) ([]string, error) {
	if carrier == "" {
		return tokenOf(c).Carriers, nil
	}
	return nil, inScope(c, carrier)
}

// ownRun hides runs of other carriers: they are answered as if they were not there. It costs a read for tokens with carriers only.
func (s *Server) ownRun(c *gin.Context, id string) error {
	if len(tokenOf(c).Carriers) == 0 {
		return nil
	}
	_, err := s.readRun(c, id)
	return err
}

// readRun reads a run that the caller's token is for.
func (s *Server) readRun(c *gin.Context, id string) (playbook.StoredRun, error) {
	r, err := s.History.Run(c.Request.Context(), id)
	if err == nil && !tokenOf(c).isFor(r.Target.Carrier) {
		return playbook.StoredRun{}, playbook.ErrNoRun
	}
	return r, err
}
