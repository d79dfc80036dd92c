package api

import (
	"context"
	"crypto/sha256"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"
)

// Who comes, who goes and who is refused stands in the audit log beside what was done. It holds nobody up: what can not be written
// there is logged, for a database that is away must not keep people from seeing that it is.

// Deed is something for the audit log that is neither an order nor a run's.
type Deed struct {
	Who, What, Why string
	After          any // nil: nothing more is to be said
}

// Witness appends to the audit log.
type Witness interface {
	Record(ctx context.Context, d Deed) error
}

const (
	witnessTime = 2 * time.Second
	// What is refused is written down three times at once and then once a minute for an address, and for all of them ten times and then
	// once in ten seconds: guessing must not fill the log.
	refusalBurst    = 3
	refusalEvery    = time.Minute
	allRefusals     = 10
	allRefusalEvery = 10 * time.Second
	maxSeen         = 10_000
)

// sessions remembers what of logins was written down.
type sessions struct {
	refusals, all *limiter

	mu   sync.Mutex
	seen map[[sha256.Size]byte]struct{} // ID tokens
}

func newSessions() *sessions {
	return &sessions{refusals: newLimiter(rate.Every(refusalEvery), refusalBurst), all: newLimiter(rate.Every(allRefusalEvery), allRefusals),
		seen: map[[sha256.Size]byte]struct{}{}}
}

type comesFrom struct {
	Role    string   `json:"role,omitempty"`
	Carrier []string `json:"carriers,omitempty"`
	Address string   `json:"address"`
}

func (s *Server) record(r *http.Request, d Deed) bool {
	if s.Witness == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), witnessTime)
	defer cancel()
	if err := s.Witness.Record(ctx, d); err != nil {
		s.log.ErrorContext(ctx, "audit entry was not written", "who", d.Who, "what", d.What, "why", d.Why, "error", err)
		return false
	}
	return true
}

// recordSession writes down that a browser logged in with a token, or with an empty one that it logged out.
func (s *Server) recordSession(c *gin.Context, secret string) {
	what, why := "session.begin", "logged in to the dashboard"
	if secret == "" {
		what, why = "session.end", "logged out of the dashboard"
		secret, _ = c.Cookie(sessionCookie)
	}
	if secret == "" {
		return // nobody was logged in
	}
	token, err := s.identify(c.Request, secret)
	if err != nil {
		return // nor was this one
	}
	s.record(c.Request, Deed{Who: token.Name, What: what, Why: why, After: from(token, c.Request)})
}

func from(t Token, r *http.Request) comesFrom {
	return comesFrom{Role: t.Role.String(), Carrier: t.Carriers, Address: address(r)}
}

// recordRefusal writes down that somebody tried a token that does not exist.
func (s *Server) recordRefusal(r *http.Request) {
	now := s.Now()
	if s.sessions.refusals.allow(address(r), now) && s.sessions.all.allow("", now) {
		s.record(r, Deed{Who: "unknown", What: "token.refused", Why: "there is no such token", After: comesFrom{Address: address(r)}})
	}
}

// recordOIDC writes down that an ID token came here for the first time.
func (s *Server) recordOIDC(r *http.Request, secret string, token Token) {
	sum := sha256.Sum256([]byte(secret))
	s.sessions.mu.Lock()
	_, known := s.sessions.seen[sum]
	if !known {
		if len(s.sessions.seen) >= maxSeen {
			clear(s.sessions.seen)
		}
		s.sessions.seen[sum] = struct{}{}
	}
	s.sessions.mu.Unlock()
	if known {
		return
	}
	if !s.record(r, Deed{Who: token.Name, What: "oidc.login", Why: "an ID token was taken for the first time", After: from(token, r)}) {
		s.sessions.mu.Lock()
		delete(s.sessions.seen, sum) // its next request tries again
		s.sessions.mu.Unlock()
	}
}
