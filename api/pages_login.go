package api

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	// sessionCookie holds the token itself: the pages check it as /api checks the header, so every replica knows it and
	// it ends when the token is taken out of the configuration. It is HttpOnly and SameSite=Strict, and /api ignores it.
	sessionCookie = "drydock_session"
	sessionLength = 12 * time.Hour
)

// oneTimeCode logs one browser in: the address that serve prints carries it.
type oneTimeCode struct {
	mu   sync.Mutex
	code string
}

func (o *oneTimeCode) spend(code string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.code == "" || code != o.code {
		return false
	}
	o.code = ""
	return true
}

type loginPage struct {
	page
	Wrong, Next, Hint string
	OIDC              bool
}

// loginPage asks for a token; it goes on to where the request wanted to go.
func (p *pages) loginPage(c *gin.Context, status int, wrong string) {
	p.loginPageTo(c, status, wrong, cmp.Or(c.Query("next"), c.PostForm("next")))
}

func (p *pages) loginPageTo(c *gin.Context, status int, wrong, next string) {
	hint := `Tokens are listed in the configuration as api_tokens; "drydock token new" makes one.`
	if p.server.LoginToken != "" {
		hint = "The token is in the file token of the data directory. The address that the server printed at its start logs in once, without it."
	}
	p.render(c, status, "login", loginPage{
		page: page{Version: p.server.Version}, Wrong: wrong, Next: localPath(next), Hint: hint,
		OIDC: p.server.OIDC.forPages(),
	})
}

// login shows the form, or takes the one-time code.
func (p *pages) login(c *gin.Context) {
	if code := c.Query("code"); code != "" {
		if p.server.login.spend(code) {
			p.setSession(c, p.server.LoginToken)
			c.Redirect(http.StatusSeeOther, "/")
			return
		}
		p.loginPage(c, http.StatusUnauthorized, "This address was used before. Log in with the token.")
		return
	}
	p.loginPage(c, http.StatusOK, "")
}

// enter takes the form.
func (p *pages) enter(c *gin.Context) {
	if !sameSite(c.Request) {
		p.loginPage(c, http.StatusForbidden, "The form came from another site.")
		return
	}
	secret := strings.TrimSpace(c.PostForm("token"))
	switch _, err := p.server.authorize(c.Request, secret, Viewer); {
	case errors.Is(err, errTooManyRequests):
		p.tooMany(c)
		return
	case errors.Is(err, ErrIssuer):
		p.loginPage(c, http.StatusServiceUnavailable, "The login server does not answer, so nobody knows whose this token is. Try again.")
		return
	case err != nil:
		p.loginPage(c, http.StatusUnauthorized, "No such token.")
		return
	}
	p.setSession(c, secret)
	c.Redirect(http.StatusSeeOther, localPath(c.PostForm("next")))
}

func (p *pages) leave(c *gin.Context) {
	if !sameSite(c.Request) {
		p.loginPage(c, http.StatusForbidden, "The form came from another site.")
		return
	}
	p.setSession(c, "")
	c.Redirect(http.StatusSeeOther, "/login")
}

func (p *pages) setSession(c *gin.Context, secret string) {
	p.server.recordSession(c, secret)
	p.setCookie(c, sessionCookie, secret, http.SameSiteStrictMode, sessionLength)
}

// setCookie sets a cookie that no script can read, or with an empty value takes it away.
func (p *pages) setCookie(c *gin.Context, name, value string, site http.SameSite, length time.Duration) {
	cookie := &http.Cookie{ //nolint:gosec // Secure wherever people come through https; on loopback there is none.
		Name: name, Value: value, Path: "/", HttpOnly: true, Secure: p.server.SecureCookies, SameSite: site, MaxAge: int(length / time.Second),
	}
	if value == "" {
		cookie.MaxAge = -1
	}
	http.SetCookie(c.Writer, cookie)
}

// sameSite reports whether a form was sent by a page of ours and not by another site's.
func sameSite(r *http.Request) bool {
	var protection http.CrossOriginProtection
	return protection.Check(r) == nil
}

// localPath keeps a redirect on this server.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.Contains(next, `\`) {
		return "/"
	}
	return next
}
