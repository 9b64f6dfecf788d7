package check_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// A wrong key is refused with the reason, a right one shows what it may, is kept over a
// reload, and is gone after signing out.
func TestSignIn(t *testing.T) {
	f := setup(t)
	p := open(t, f, "", "#/campaigns")
	p.signIn("nonsense")
	p.sees("as it was shown when it was made")
	p.signIn("pf_aaaaaaaaaaaaaaaa_" + strings.Repeat("a", 52))
	p.sees("the API key is not known, or was revoked")
	if got := eval[bool](p, `sessionStorage.length === 0 && document.querySelector("nav") === null`); !got {
		t.Error("with a wrong key: got a session, want none")
	}
	p.signIn(f.admin)
	p.until("the view that the URL names", `document.querySelector("h1").innerText === "Campaigns"`)
	p.until("live data", `document.querySelector(".connection").innerText === "live"`)
	p.do(chromedp.Reload())
	p.until("the same view after a reload", `document.querySelector("nav") && document.querySelector("h1").innerText === "Campaigns"`)
	if got := eval[bool](p, `Object.keys(localStorage).length === 0 && document.cookie === "" && !location.href.includes("pf_")`); !got {
		t.Error("the key is kept somewhere else than in the tab")
	}

	// Back and forward.
	p.click(`nav a[href="#/dead-letters"]`)
	p.until("dead letters", `document.querySelector("h1").innerText === "Dead letters"`)
	p.do(chromedp.NavigateBack())
	p.until("campaigns again", `document.querySelector("h1").innerText === "Campaigns"`)

	p.click(button("Sign out"))
	p.until("the form again", `document.querySelector("input[name=key]") && sessionStorage.length === 0`)
	p.do(chromedp.Reload())
	p.until("the form after a reload", `document.querySelector("input[name=key]")`)
}

// A key with fewer scopes sees fewer buttons, and why.
func TestScopes(t *testing.T) {
	f := setup(t)
	f.devices(t, "5c09e500", 10, nil)
	f.must(t, "POST", "/v1/apps/demo/campaigns", map[string]any{
		"id": "scopes", "audience": map[string]any{"all": true}, "notification": map[string]any{"title": "x"}, "start_at": "2100-01-01T00:00:00Z",
	}, nil)
	defer f.must(t, "POST", "/v1/apps/demo/campaigns/scopes/cancel", nil, nil)

	reader := open(t, f, f.key(t, "read"), "#/campaigns")
	reader.sees("scopes")
	reader.sees("it needs the scope campaigns")
	if n := eval[int](reader, `document.querySelectorAll("tr[data-campaign] button").length`); n != 0 {
		t.Errorf("to read only: got %d buttons, want none", n)
	}
	reader.goTo("#/dead-letters")
	reader.sees("it needs the scope admin")

	// One that may steer campaigns and not read has no events, and does without.
	steerer := open(t, f, f.key(t, "campaigns"), "#/campaigns")
	steerer.until("buttons", `document.querySelectorAll("tr[data-campaign=scopes] button").length === 3`)
	steerer.click(button("Pause scopes"))
	steerer.until("it to be paused", `document.querySelector("tr[data-campaign=scopes] .badge").innerText === "paused"`)

	// One that may not read sees why there is nothing.
	sender := open(t, f, f.key(t, "send"), "#/fleet")
	sender.sees("needs the scope read or admin")
	sender.goTo("#/dead-letters")
	sender.sees("Not allowed")
	sender.until("that it is not live", `document.querySelector(".connection").innerText === "not live"`)

	// A revoked key is signed out.
	key := f.key(t, "read")
	revoked := open(t, f, key, "#/fleet")
	revoked.until("live data", `document.querySelector(".connection").innerText === "live"`)
	f.revoke(t, strings.Split(key, "_")[1])
	revoked.sees("Signed out")
	revoked.sees("not known, or was revoked")
}

// An API that goes away is said to be gone; when it is back, so is the page.
func TestRestart(t *testing.T) {
	f := setup(t)
	p := open(t, f, f.admin, "#/fleet")
	p.until("live data", `document.querySelector(".connection").innerText === "live" && document.querySelector("[data-tile=Workers] .value").innerText === "1"`)
	f.api.stop()
	p.until("that the connection is lost", `document.querySelector(".banner.lost")?.innerText.includes("Connection lost")`)
	p.until("how old it is", `/What you see is \d+.* old/.test(document.querySelector(".banner.lost").innerText)`)
	p.goTo("#/dead-letters")
	p.sees("the API cannot be reached")
	if err := f.startAPI(); err != nil {
		t.Fatal(err)
	}
	p.click(button("Try now"))
	p.until("live data again", `document.querySelector(".connection").innerText === "live" && document.querySelector(".banner.lost") === null`)
	p.click(button("Try again"))
	p.until("dead letters after all", `document.querySelector(".fault") === null`)
	p.mu.Lock()
	loads := p.loads
	p.mu.Unlock()
	if loads != 1 {
		t.Errorf("the page was loaded %d times, want once", loads)
	}

	// By itself, too.
	f.api.stop()
	p.until("that the connection is lost", `document.querySelector(".banner.lost")`)
	if err := f.startAPI(); err != nil {
		t.Fatal(err)
	}
	p.until("live data by itself", `document.querySelector(".connection").innerText === "live"`)
}

// revoke revokes an API key.
func (f *fleet) revoke(t *testing.T, id string) {
	t.Helper()
	if out, err := f.command("key", "revoke", "-c", f.config, id); err != nil {
		t.Fatal(fmt.Errorf("revoke key: %w: %s", err, out))
	}
}

// Behind a proxy the page may have a place of its own.
func TestBelowAPath(t *testing.T) {
	f := setup(t)
	at, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(http.StripPrefix("/ops/push", httputil.NewSingleHostReverseProxy(at)))
	defer front.Close()
	defer front.CloseClientConnections()
	below := *f
	below.url = front.URL
	p := open(t, &below, "", "ops/push/#/fleet")
	p.signIn(f.admin)
	p.until("live data", `document.querySelector(".connection")?.innerText === "live" && document.querySelector("[data-tile=Workers] .value")?.innerText === "1"`)
	p.click(button("Sign out"))
}
