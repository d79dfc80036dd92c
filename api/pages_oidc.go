package api

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/oauth2"
)

const (
	oidcCallback = "/login/oidc/callback"
	// loginCookie keeps what a login needs until the person comes back from the login server. It is SameSite=Lax: coming back is a
	// navigation from another site, with which a strict cookie is not sent.
	loginCookie = "drydock_login"
	loginTime   = 10 * time.Minute
	// maxSession is as much as browsers keep in one cookie, with its name and attributes.
	maxSession = 3900
)

// loginState is a login that is under way.
type loginState struct{ State, Nonce, Proof, Next string }

func (l loginState) encode() string {
	text, err := json.Marshal(l)
	if err != nil {
		return "" // strings always marshal
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func decodeLogin(cookie string) (l loginState, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		return l, err
	}
	return l, json.Unmarshal(text, &l)
}

// loginOIDC sends a person to the login server.
func (p *pages) loginOIDC(c *gin.Context) {
	if !p.server.OIDC.forPages() {
		c.Redirect(http.StatusSeeOther, "/login")
		return
	}
	l := loginState{State: oauth2.GenerateVerifier(), Nonce: oauth2.GenerateVerifier(), Proof: oauth2.GenerateVerifier(), Next: localPath(c.Query("next"))}
	address, err := p.server.OIDC.loginAddress(c.Request.Context(), l.State, l.Nonce, l.Proof)
	if err != nil {
		p.server.log.WarnContext(c.Request.Context(), "login server was not reached", "error", err)
		p.loginPage(c, http.StatusBadGateway, "The login server does not answer. Try again, or log in with a token.")
		return
	}
	p.setCookie(c, loginCookie, l.encode(), http.SameSiteLaxMode, loginTime)
	c.Redirect(http.StatusSeeOther, address)
}

// callbackOIDC takes a person back from the login server. The session is the ID token, which /api takes as well.
func (p *pages) callbackOIDC(c *gin.Context) {
	secret, next, err := p.finishOIDC(c)
	p.setCookie(c, loginCookie, "", http.SameSiteLaxMode, 0)
	if err == nil {
		_, err = p.server.authorize(c.Request, secret, Viewer)
	}
	switch {
	case errors.Is(err, errTooManyRequests):
		p.tooMany(c)
		return
	case err == nil && len(secret) > maxSession:
		err = errors.New("the ID token is too long for a cookie: let the login server name fewer groups in it")
	}
	if err != nil {
		p.server.log.InfoContext(c.Request.Context(), "login by OIDC failed", "error", err)
		p.loginPageTo(c, http.StatusUnauthorized, "You were not logged in. Try again; if it stays so, none of your groups may be configured in oidc.", next)
		return
	}
	p.setSession(c, secret)
	// Not a redirect: the browser takes one for a part of the navigation from the other site, and would not send the strict cookie.
	p.render(c, http.StatusOK, "message", messagePage{page: page{Version: p.server.Version}, Heading: "Logged in", Text: "The page that you asked for comes at once.", Onward: next})
}

func (p *pages) finishOIDC(c *gin.Context) (secret, next string, err error) {
	if !p.server.OIDC.forPages() {
		return "", "", errors.New("no login server is configured")
	}
	cookie, err := c.Cookie(loginCookie)
	if err != nil {
		return "", "", errors.New("the login was not begun here, or too long ago")
	}
	l, err := decodeLogin(cookie)
	if err != nil || l.State == "" || subtle.ConstantTimeCompare([]byte(l.State), []byte(c.Query("state"))) == 0 {
		return "", "", errors.New("the login was not begun here")
	}
	if told := c.Query("error"); told != "" {
		return "", l.Next, errors.New("the login server said " + told)
	}
	secret, err = p.server.OIDC.finish(c.Request.Context(), c.Query("code"), l.Nonce, l.Proof)
	return secret, localPath(l.Next), err
}
