package web

import (
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/drydock/drydock/api"
	"github.com/drydock/drydock/testbed/browser"
)

// TestOIDC logs in at a login server of another site, as a client of each kind, and comes back to where one wanted to go.
func TestOIDC(t *testing.T) {
	g, err := NewGallery(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	chrome := browser.Start(t)
	open := func(i *issuer, secret string) *browser.Tab {
		server := httptest.NewUnstartedServer(nil)
		origin := "http://" + server.Listener.Addr().String()
		handler, err := g.Handler(api.NewIdentifier(api.OIDC{
			Issuer: i.url, Audience: clientID, ClientSecret: secret, PublicURL: origin, Groups: []api.OIDCGroup{{Name: "sre", Role: api.Operator}},
		}))
		if err != nil {
			t.Fatal(err)
		}
		server.Config.Handler = handler
		server.Start()
		t.Cleanup(server.Close)
		b := browser.NewTab(t, chrome, origin)
		b.Allow("a request left the origin: "+i.url, "status of 401", "favicon.ico" /* the login server has none */)
		b.Open("/runs/run-05?tick=2")
		b.Until(`location.pathname === "/login"`, "the login")
		return b
	}
	enter := func(b *browser.Tab, person string) {
		b.Click(`a[href^="/login/oidc"]`)
		b.Click("#" + person)
	}
	for method, secret := range map[string]string{"client_secret_basic": clientSecret, "client_secret_post": clientSecret, "none": ""} {
		i := newIssuer(t, method)
		b := open(i, secret)
		enter(b, "eve")
		b.UntilText("You were not logged in") // no group of hers is configured
		enter(b, "ada")
		b.Until(`location.pathname + location.search === "/runs/run-05?tick=2"`, "where one wanted to go")
		b.UntilText("oidc:ada@example.com")
		b.Until(`document.getElementById("order-cancel")`, "what her group's role may do")
		if len(i.refused) > 0 {
			t.Errorf("%s: refused: %q", method, i.refused)
		}
		b.Click(`form[action="/logout"] button`)
		b.Until(`location.pathname === "/login"`, "logged out")
	}
	// Who does not know the secret is told so, and nobody is logged in.
	i := newIssuer(t, "client_secret_basic")
	b := open(i, "another")
	enter(b, "ada")
	b.UntilText("You were not logged in")
	i.mu.Lock()
	defer i.mu.Unlock()
	if !slices.Equal(i.refused, []string{"no secret in the header"}) {
		t.Errorf("the login server refused %q", i.refused)
	}
}
