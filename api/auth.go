package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
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

// ParseRole reads a role's name.
func ParseRole(name string) (Role, bool) {
	for i, n := range []string{"viewer", "operator", "approver", "admin"} {
		if n == name {
			return Role(i + 1), true
		}
	}
	return 0, false
}

// Token is a bearer token, known by its hash only.
type Token struct {
	Name   string
	Role   Role
	SHA256 [sha256.Size]byte
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
		token, err := s.authorize(bearer(c.Request), role)
		if err != nil {
			s.fail(c, err)
			return
		}
		c.Set(tokenKey, token)
	}
}

func (s *Server) authorize(secret string, role Role) (Token, error) {
	token, ok := s.tokens.find(secret)
	switch {
	case !ok:
		return Token{}, errNoToken
	case token.Role < role:
		return Token{}, errRole
	}
	return token, nil
}

// caller is the name of the token that require let through.
func caller(c *gin.Context) string {
	token, _ := c.Get(tokenKey)
	t, _ := token.(Token)
	return t.Name
}
