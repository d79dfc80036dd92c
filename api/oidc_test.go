package api_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/drydock/drydock/api"
)

// issuer is a login server: its discovery document, its keys, and a pen.
type issuer struct {
	*httptest.Server
	key *rsa.PrivateKey
	// down fails the discovery document, noKeys the keys.
	down, noKeys atomic.Bool
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		if i.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/a",
			"token_endpoint": i.URL + "/t", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		if i.noKeys.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

// sign makes an ID token; the claims given replace or add to those of a good one.
func (i *issuer) sign(t *testing.T, key *rsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"iss": i.URL, "aud": "drydock", "sub": "u1", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for k, v := range claims {
		all[k] = v
	}
	token, err := jwt.Signed(signer).Claims(all).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	identifier := api.NewIdentifier(api.OIDC{Issuer: i.URL, Audience: "drydock", Groups: []api.OIDCGroup{
		{Name: "everyone", Role: api.Viewer}, {Name: "sre", Role: api.Operator, Carriers: []string{"c1"}},
		{Name: "sre-2", Role: api.Operator, Carriers: []string{"c2"}}, {Name: "leads", Role: api.Operator}, {Name: "root", Role: api.Admin, Carriers: []string{"c9"}},
	}})
	i.down.Store(true)
	good := i.sign(t, i.key, map[string]any{"groups": []string{"sre"}})
	if _, err := identifier.Identify(t.Context(), good); !errors.Is(err, api.ErrIssuer) {
		t.Errorf("while the issuer is down: %v", err)
	}
	i.down.Store(false)
	i.noKeys.Store(true)
	if _, err := identifier.Identify(t.Context(), good); !errors.Is(err, api.ErrIssuer) {
		t.Errorf("while its keys can not be read: %v", err)
	}
	if _, err := identifier.Identify(t.Context(), "a.b.c"); err == nil || errors.Is(err, api.ErrIssuer) {
		t.Errorf("what is no token needs no keys to be refused: %v", err)
	}
	i.noKeys.Store(false)

	for name, tt := range map[string]struct {
		claims map[string]any
		want   api.Token
	}{
		"a group":                    {map[string]any{"groups": []string{"sre"}}, api.Token{Name: "oidc:u1", Role: api.Operator, Carriers: []string{"c1"}}},
		"a claim that is one name":   {map[string]any{"groups": "everyone"}, api.Token{Name: "oidc:u1", Role: api.Viewer}},
		"two groups of one role":     {map[string]any{"groups": []string{"sre", "sre-2"}}, api.Token{Name: "oidc:u1", Role: api.Operator, Carriers: []string{"c1", "c2"}}},
		"one of them for all":        {map[string]any{"groups": []string{"sre", "leads", "sre-2"}}, api.Token{Name: "oidc:u1", Role: api.Operator}},
		"a lower role gives nothing": {map[string]any{"groups": []string{"everyone", "root"}}, api.Token{Name: "oidc:u1", Role: api.Admin, Carriers: []string{"c9"}}},
		"a verified address":         {map[string]any{"groups": "sre", "email": "ada@example.com", "email_verified": true}, api.Token{Name: "oidc:ada@example.com", Role: api.Operator, Carriers: []string{"c1"}}},
		"an address of one's own":    {map[string]any{"groups": "sre", "email": "ada@example.com"}, api.Token{Name: "oidc:u1", Role: api.Operator, Carriers: []string{"c1"}}},
	} {
		got, err := identifier.Identify(t.Context(), i.sign(t, i.key, tt.claims))
		if err != nil || got.Name != tt.want.Name || got.Role != tt.want.Role || !slices.Equal(got.Carriers, tt.want.Carriers) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, tt.want)
		}
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	sre := []string{"sre"}
	for name, token := range map[string]string{
		"another audience":   i.sign(t, i.key, map[string]any{"groups": sre, "aud": "other"}),
		"another issuer":     i.sign(t, i.key, map[string]any{"groups": sre, "iss": "https://evil.example.com"}),
		"over":               i.sign(t, i.key, map[string]any{"groups": sre, "exp": time.Now().Add(-time.Hour).Unix()}),
		"no group":           i.sign(t, i.key, nil),
		"an unknown group":   i.sign(t, i.key, map[string]any{"groups": []any{"none", 7}}),
		"a stranger's key":   i.sign(t, stranger, map[string]any{"groups": sre}),
		"no signature":       "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1MSJ9.",
		"not a token at all": "a.b.c",
	} {
		if got, err := identifier.Identify(t.Context(), token); err == nil || errors.Is(err, api.ErrIssuer) {
			t.Errorf("%s was taken: %+v", name, got)
		}
	}

	w := &witness{}
	s := newContractServer(t, func(o *api.Options) { o.OIDC, o.Witness = identifier, w })
	ask := func(token string) int {
		return s.do(request{method: "GET", path: "/api/v1/kill-switch", header: map[string]string{"Authorization": "Bearer " + token}}).Code
	}
	if got := []int{ask(good), ask("a.b.c"), ask("tok-viewer")}; !slices.Equal(got, []int{200, 401, 200}) {
		t.Errorf("over HTTP: %v", got)
	}
	ask(good)
	if got := w.take(); len(got) != 2 || !strings.HasSuffix(got[0], " oidc.login") || got[1] != "unknown token.refused" {
		t.Errorf("recorded %q", got)
	}
	// What could not be recorded is with the next request.
	w.down = true
	again := i.sign(t, i.key, map[string]any{"groups": sre, "jti": "2"})
	if got := []int{ask(again), ask(again)}; !slices.Equal(got, []int{200, 200}) {
		t.Errorf("without a log: %v", got)
	}
	w.down = false
	ask(again)
	if got := w.take(); len(got) != 1 {
		t.Errorf("recorded %q, want the login once", got)
	}

	// While it is away nobody is refused, and nobody is let in.
	s = newContractServer(t, func(o *api.Options) {
		o.OIDC, o.Witness = api.NewIdentifier(api.OIDC{Issuer: i.URL, Audience: "drydock"}), w
	})
	i.noKeys.Store(true)
	answer := s.do(request{method: "GET", path: "/api/v1/kill-switch", header: map[string]string{"Authorization": "Bearer " + good}})
	if answer.Code != http.StatusServiceUnavailable || !strings.Contains(answer.Body.String(), `/problems/issuer-unavailable"`) ||
		strings.Contains(answer.Body.String(), i.URL) || len(w.take()) != 0 {
		t.Errorf("while the issuer's keys can not be read: %d %s", answer.Code, answer.Body)
	}
}
