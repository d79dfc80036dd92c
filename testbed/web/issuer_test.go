package web

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	clientID     = "drydock"
	clientSecret = "s3cret:of/the client" // as RFC 6749, 2.3.1 has it, it is escaped in the Authorization header
)

// issuer is a login server (OpenID Connect, code flow with PKCE). A person logs in by pressing a button with their name.
type issuer struct {
	*httptest.Server
	url    string
	method string // how a client proves itself: client_secret_basic, client_secret_post, or none
	key    *rsa.PrivateKey

	mu      sync.Mutex
	codes   map[string]grant // that were not used yet
	refused []string
}

type grant struct{ person, nonce, challenge, redirect string }

// people are the groups of those who can log in.
var people = map[string][]string{"ada": {"sre"}, "eve": {"accounting"}}

func newIssuer(t *testing.T, method string) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{method: method, key: key, codes: map[string]grant{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /keys", i.keys)
	mux.HandleFunc("GET /authorize", i.page)
	mux.HandleFunc("POST /authorize", i.consent)
	mux.HandleFunc("POST /token", i.token)
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	// Another name of the host makes it another site than Drydock's, as in real life: strict cookies are not sent on the way back.
	i.url = strings.Replace(i.URL, "127.0.0.1", "localhost", 1)
	return i
}

func tell(w http.ResponseWriter, status int, answer map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // the client sees what is missing
}

func (i *issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	tell(w, http.StatusOK, map[string]any{
		"issuer": i.url, "jwks_uri": i.url + "/keys", "authorization_endpoint": i.url + "/authorize", "token_endpoint": i.url + "/token",
		"id_token_signing_alg_values_supported": []string{"RS256"}, "token_endpoint_auth_methods_supported": []string{i.method},
	})
}

func (i *issuer) keys(w http.ResponseWriter, _ *http.Request) {
	encode := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	tell(w, http.StatusOK, map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1", "n": encode(i.key.N), "e": encode(big.NewInt(int64(i.key.E))),
	}}})
}

var issuerPage = template.Must(template.New("").Parse(`<!doctype html><title>Log in</title><form method="post">
{{range $name, $groups := .}}<button id="{{$name}}" name="person" value="{{$name}}">{{$name}}</button>{{end}}</form>`))

func (i *issuer) page(w http.ResponseWriter, _ *http.Request) { _ = issuerPage.Execute(w, people) }

func (i *issuer) consent(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != clientID || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" {
		http.Error(w, "no such client", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	i.mu.Lock()
	i.codes[code] = grant{r.PostFormValue("person"), q.Get("nonce"), q.Get("code_challenge"), q.Get("redirect_uri")}
	i.mu.Unlock()
	http.Redirect(w, r, fmt.Sprintf("%s?code=%s&state=%s", q.Get("redirect_uri"), code, q.Get("state")), http.StatusSeeOther)
}

// token gives an ID token for a code, once: a code that was sent with a wrong proof is spent.
func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	g, ok := i.codes[r.PostFormValue("code")]
	delete(i.codes, r.PostFormValue("code"))
	i.mu.Unlock()
	proof := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	err := i.authenticate(r)
	switch {
	case err != nil:
	case !ok:
		err = errors.New("no such code")
	case base64.RawURLEncoding.EncodeToString(proof[:]) != g.challenge || r.PostFormValue("redirect_uri") != g.redirect:
		err = errors.New("the code is another's")
	}
	if err != nil {
		i.mu.Lock()
		i.refused = append(i.refused, err.Error())
		i.mu.Unlock()
		tell(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	signed, err := i.sign(map[string]any{
		"iss": i.url, "aud": clientID, "sub": "u-" + g.person, "nonce": g.nonce, "email": g.person + "@example.com", "email_verified": true,
		"groups": people[g.person], "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	tell(w, http.StatusOK, map[string]any{"access_token": "x", "token_type": "Bearer", "expires_in": 3600, "id_token": signed})
}

// authenticate checks that the client proves itself in the one way that this login server knows.
func (i *issuer) authenticate(r *http.Request) error {
	id, secret, basic := r.BasicAuth()
	switch i.method {
	case "client_secret_basic":
		// Both are escaped before they are joined (RFC 6749, 2.3.1).
		if !basic || id != clientID || secret != url.QueryEscape(clientSecret) {
			return errors.New("no secret in the header")
		}
	case "client_secret_post":
		if basic || r.PostFormValue("client_id") != clientID || r.PostFormValue("client_secret") != clientSecret {
			return errors.New("no secret in the form")
		}
	default:
		if basic || r.PostFormValue("client_id") != clientID || r.PostFormValue("client_secret") != "" {
			return errors.New("a public client has no secret")
		}
	}
	return nil
}

// sign makes a token (RFC 7515, RS256).
func (i *issuer) sign(claims map[string]any) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), err
}
