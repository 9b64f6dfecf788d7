package apnstest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// clock is a server's clock that a test moves.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ns.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func newKey(t *testing.T, id, team string) apnstest.Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return apnstest.Key{ID: id, TeamID: team, Private: private}
}

// sign makes a token of any header and claims, with an ASN.1 signature.
func sign(t *testing.T, k apnstest.Key, header, claims string) string {
	t.Helper()
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(claims))
	sum := sha256.Sum256([]byte(text))
	sig, err := ecdsa.SignASN1(rand.Reader, k.Private, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + enc.EncodeToString(sig)
}

func TestProviderToken(t *testing.T) {
	t.Parallel()
	clk := newClock()
	id, err := apnstest.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	stranger := newKey(t, id.Key.ID, id.Key.TeamID)
	production := newKey(t, "PRODUCTION", id.Key.TeamID)
	production.Environment = apnstest.Production
	srv := newServer(t, apnstest.Config{
		Identity: id, Environment: apnstest.Sandbox, Keys: []apnstest.Key{production}, Now: clk.now,
	})
	now := clk.now()
	good := srv.ProviderToken(now)
	parts := strings.Split(good, ".")
	str := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	kid, iss := id.Key.ID, id.Key.TeamID
	head := `{"alg":"ES256","kid":` + str(kid) + `}`
	iat := str(now.Unix())
	claims := `{"iss":` + str(iss) + `,"iat":` + iat + `}`
	for _, tt := range []struct {
		name, jwt, reason string
	}{
		{"good", good, ""},
		{"ASN.1 signature", sign(t, id.Key, head, claims), ""},
		{"typ and exp", sign(t, id.Key, `{"alg":"ES256","typ":"JWT","kid":`+str(kid)+`}`, `{"iss":`+str(iss)+`,"iat":`+iat+`,"exp":1}`), ""},
		{"just an hour old", srv.ProviderToken(now.Add(-time.Hour)), ""},
		{"more than an hour old", srv.ProviderToken(now.Add(-time.Hour - time.Second)), "ExpiredProviderToken"},
		{"a minute ahead", srv.ProviderToken(now.Add(time.Minute)), ""},
		{"six minutes ahead", srv.ProviderToken(now.Add(6 * time.Minute)), "InvalidProviderToken"},
		{"two parts", parts[0] + "." + parts[1], "InvalidProviderToken"},
		{"four parts", good + ".x", "InvalidProviderToken"},
		{"rubbish", "x", "InvalidProviderToken"},
		{"no algorithm", sign(t, id.Key, `{"kid":`+str(kid)+`}`, claims), "InvalidProviderToken"},
		{"other algorithm", sign(t, id.Key, `{"alg":"RS256","kid":`+str(kid)+`}`, claims), "InvalidProviderToken"},
		{"no key id", sign(t, id.Key, `{"alg":"ES256"}`, claims), "InvalidProviderToken"},
		{"unknown key id", sign(t, id.Key, `{"alg":"ES256","kid":"NOBODYKNOW"}`, claims), "InvalidProviderToken"},
		{"other team", sign(t, id.Key, head, `{"iss":"OTHERTEAM1","iat":`+iat+`}`), "InvalidProviderToken"},
		{"iat a string", sign(t, id.Key, head, `{"iss":`+str(iss)+`,"iat":"`+iat+`"}`), "InvalidProviderToken"},
		{"iat a fraction", sign(t, id.Key, head, `{"iss":`+str(iss)+`,"iat":`+iat+`.5}`), "InvalidProviderToken"},
		{"iat in milliseconds", sign(t, id.Key, head, `{"iss":`+str(iss)+`,"iat":`+iat+`000}`), "InvalidProviderToken"},
		{"no iat", sign(t, id.Key, head, `{"iss":`+str(iss)+`}`), "InvalidProviderToken"},
		{"signature of another key", stranger.ProviderToken(now), "InvalidProviderToken"},
		{"signature cut", good[:len(good)-4], "InvalidProviderToken"},
		{"claims changed", parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":`+str(iss)+`,"iat":1}`)) + "." + parts[2], "InvalidProviderToken"},
		{"key of the other environment", production.ProviderToken(now), "BadEnvironmentKeyInToken"},
	} {
		c := dial(t, srv, dialOptions{}) // a connection is bound to its first token
		c.jwt = tt.jwt
		for try := range 2 { // the second time it is remembered
			got := c.answer(c.push(tokenN(1)))
			wantStatus := 403
			if tt.reason == "" {
				wantStatus = 200
			}
			if got.status != wantStatus || got.reason() != tt.reason {
				t.Errorf("%s, try %d: got %d %q, want %d %q", tt.name, try, got.status, got.reason(), wantStatus, tt.reason)
			}
		}
		wantLimit := uint32(1)
		if tt.reason == "" {
			wantLimit = 1000
		}
		c.ping()
		if got := c.settings[http2.SettingMaxConcurrentStreams]; got != wantLimit {
			t.Errorf("%s: got stream limit %d, want %d", tt.name, got, wantLimit)
		}
	}
}

func TestExpiryOnLiveConnection(t *testing.T) {
	t.Parallel()
	for _, wedge := range []bool{false, true} {
		clk := newClock()
		srv := newServer(t, apnstest.Config{Now: clk.now, Faults: apnstest.Faults{Auth: apnstest.AuthFaults{WedgeExpired: wedge}}})
		c := dial(t, srv, dialOptions{})
		c.jwt = srv.ProviderToken(clk.now())
		c.warm()
		clk.advance(61 * time.Minute)
		if got := c.answer(c.push(tokenN(1))).reason(); got != "ExpiredProviderToken" {
			t.Errorf("wedge %v: got %q after 61 minutes, want ExpiredProviderToken", wedge, got)
		}
		c.jwt = srv.ProviderToken(clk.now())
		want := ""
		if wedge {
			want = "ExpiredProviderToken"
		}
		if got := c.answer(c.push(tokenN(1))).reason(); got != want {
			t.Errorf("wedge %v: got %q with a new token, want %q", wedge, got, want)
		}
	}
}

func TestTooManyProviderTokenUpdates(t *testing.T) {
	t.Parallel()
	clk := newClock()
	srv := newServer(t, apnstest.Config{Now: clk.now})
	c := dial(t, srv, dialOptions{})
	first := srv.ProviderToken(clk.now())
	c.jwt = first
	c.warm()
	expect := func(what, jwt, want string) {
		t.Helper()
		c.jwt = jwt
		if got := c.answer(c.push(tokenN(1))).reason(); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	clk.advance(20*time.Minute - time.Second)
	second := srv.ProviderToken(clk.now())
	expect("changed after less than 20 minutes", second, "TooManyProviderTokenUpdates")
	expect("back to the first", first, "")
	clk.advance(time.Second)
	expect("changed after 20 minutes", second, "")
	expect("back again at once", first, "TooManyProviderTokenUpdates")
	clk.advance(20 * time.Minute)
	expect("back again after 20 minutes", first, "")

	// Another connection is none of this one's business.
	c = dial(t, srv, dialOptions{})
	expect("new connection", srv.ProviderToken(clk.now()), "")
	if err := srv.SetFaults(apnstest.Faults{Auth: apnstest.AuthFaults{UpdateInterval: -1}}); err != nil {
		t.Fatal(err)
	}
	clk.advance(time.Second)
	expect("without limit", srv.ProviderToken(clk.now()), "")
}

func TestConnectionIsBound(t *testing.T) {
	t.Parallel()
	id, err := apnstest.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	same := newKey(t, "SAMETEAM01", id.Key.TeamID)
	related := newKey(t, "RELATED001", id.Key.TeamID)
	related.RelatedTo = id.Key.ID
	other := newKey(t, "OTHERTEAM1", "TEAM000002")
	narrow := newKey(t, "NARROW0001", id.Key.TeamID)
	narrow.Topics = []string{"com.example.narrow"}
	srv := newServer(t, apnstest.Config{
		Identity: id, Keys: []apnstest.Key{same, related, other, narrow},
		Faults: apnstest.Faults{Auth: apnstest.AuthFaults{UpdateInterval: -1}},
	})
	now := time.Now()
	c := ready(t, srv)
	for _, tt := range []struct {
		name string
		key  apnstest.Key
		want string
	}{
		{"key of the same team", same, "UnrelatedKeyIdInToken"},
		{"key of another team", other, "InvalidProviderToken"},
		{"related key", related, ""},
		{"first key again", id.Key, ""},
	} {
		c.jwt = tt.key.ProviderToken(now)
		if got := c.answer(c.push(tokenN(1))).reason(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	c = dial(t, srv, dialOptions{})
	c.jwt = narrow.ProviderToken(now)
	if got := c.answer(c.push(tokenN(1))).reason(); got != "TopicDisallowed" {
		t.Errorf("topic that is not the key's: got %q, want TopicDisallowed", got)
	}
	if got := c.answer(c.push(tokenN(1), "apns-topic", "com.example.narrow")).reason(); got != "" {
		t.Errorf("topic of the key: got %q, want accepted", got)
	}
}

func TestTopicsAreBoundAtFirstPush(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{Topics: []string{bundle}})
	c := ready(t, srv)
	if err := srv.SetTopics(bundle, "com.example.later"); err != nil {
		t.Fatal(err)
	}
	if got := c.answer(c.push(tokenN(1), "apns-topic", "com.example.later")).reason(); got != "TopicDisallowed" {
		t.Errorf("topic allowed later, old connection: got %q, want TopicDisallowed", got)
	}
	c = dial(t, srv, dialOptions{})
	if got := c.answer(c.push(tokenN(1), "apns-topic", "com.example.later")).reason(); got != "" {
		t.Errorf("topic allowed later, new connection: got %q, want accepted", got)
	}
	if err := srv.SetTopics("no topic"); err == nil {
		t.Error("set topics to rubbish: got no error")
	}
}

func TestAuthFaults(t *testing.T) {
	t.Parallel()
	id, err := apnstest.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	sandbox := newKey(t, "SANDBOX001", id.Key.TeamID)
	sandbox.Environment = apnstest.Sandbox
	srv := newServer(t, apnstest.Config{Identity: id, Keys: []apnstest.Key{sandbox}})
	for _, tt := range []struct {
		name  string
		fault apnstest.AuthFaults
		key   apnstest.Key
		want  string
	}{
		{"revoked", apnstest.AuthFaults{Revoked: []string{id.Key.ID}}, id.Key, "Forbidden"},
		{"only another key", apnstest.AuthFaults{OnlyKeyID: sandbox.ID}, id.Key, "InvalidProviderToken"},
		{"only this key", apnstest.AuthFaults{OnlyKeyID: id.Key.ID}, id.Key, ""},
		{"clock two hours ahead", apnstest.AuthFaults{ClockSkew: apnstest.Duration(2 * time.Hour)}, id.Key, "ExpiredProviderToken"},
		{"clock two hours behind", apnstest.AuthFaults{ClockSkew: apnstest.Duration(-2 * time.Hour)}, id.Key, "InvalidProviderToken"},
		{"clock behind, and it is tolerated", apnstest.AuthFaults{
			ClockSkew: apnstest.Duration(-2 * time.Hour), MaxFuture: apnstest.Duration(3 * time.Hour),
		}, id.Key, ""},
		{"environment as documented", apnstest.AuthFaults{DocumentedSpelling: true}, sandbox, "BadEnvironmentKeyIdInToken"},
		{"environment as seen", apnstest.AuthFaults{}, sandbox, "BadEnvironmentKeyInToken"},
	} {
		if err := srv.SetFaults(apnstest.Faults{}); err != nil {
			t.Fatal(err)
		}
		c := dial(t, srv, dialOptions{})
		c.jwt = tt.key.ProviderToken(time.Now())
		if tt.key.ID == id.Key.ID { // the fault comes in the middle of the run
			c.warm()
		}
		if err := srv.SetFaults(apnstest.Faults{Auth: tt.fault}); err != nil {
			t.Fatal(err)
		}
		if got := c.answer(c.push(tokenN(1))).reason(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAddKey(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	key := newKey(t, "LATERADDED", srv.TeamID())
	c := dial(t, srv, dialOptions{})
	c.jwt = key.ProviderToken(time.Now())
	if got := c.answer(c.push(tokenN(1))).reason(); got != "InvalidProviderToken" {
		t.Errorf("key that is unknown: got %q, want InvalidProviderToken", got)
	}
	if err := srv.AddKey(key); err != nil {
		t.Fatal(err)
	}
	if got := c.answer(c.push(tokenN(1))).reason(); got != "" {
		t.Errorf("key that was added: got %q, want accepted", got)
	}
	if err := srv.AddKey(apnstest.Key{ID: "x"}); err == nil {
		t.Error("add a key without team and public half: got no error")
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	srv := newServer(t, apnstest.Config{})
	stranger := newServer(t, apnstest.Config{})
	sandbox := newServer(t, apnstest.Config{Environment: apnstest.Sandbox})
	with := func(s *apnstest.Server, cfg apnstest.CertificateConfig) *client {
		t.Helper()
		cert, err := s.ClientCertificate(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return dial(t, srv, dialOptions{cert: &cert})
	}
	c := with(srv, apnstest.CertificateConfig{BundleID: bundle})
	c.ping()
	if got := c.settings[http2.SettingMaxConcurrentStreams]; got != 1000 {
		t.Errorf("stream limit: got %d, want 1000 at once with a certificate", got)
	}
	for _, tt := range []struct {
		name string
		over []string
		want string
	}{
		{"default topic", []string{"apns-topic", "-"}, ""},
		{"provider token is ignored", []string{"authorization", "bearer x"}, ""},
		{"other app", []string{"apns-topic", "com.example.other"}, "TopicDisallowed"},
		{"voip", []string{"apns-push-type", "voip", "apns-topic", bundle + ".voip"}, ""},
		{"location", []string{"apns-push-type", "location", "apns-topic", bundle + ".location-query"}, "TopicDisallowed"},
		{"liveactivity", []string{"apns-push-type", "liveactivity", "apns-topic", bundle + ".push-type.liveactivity"}, "TopicDisallowed"},
	} {
		if got := c.answer(c.push(tokenN(1), tt.over...)).reason(); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	c = with(srv, apnstest.CertificateConfig{BundleID: bundle, Topics: []string{bundle, bundle + ".voip"}})
	for topic, want := range map[string]string{"-": "MissingTopic", bundle: "", bundle + ".complication": "TopicDisallowed"} {
		over := []string{"apns-topic", topic, "apns-push-type", "-"}
		if got := c.answer(c.push(tokenN(1), over...)).reason(); got != want {
			t.Errorf("certificate with topics, topic %s: got %q, want %q", topic, got, want)
		}
	}
	for _, tt := range []struct {
		name string
		by   *apnstest.Server
		cfg  apnstest.CertificateConfig
		want string
	}{
		{"production only, to sandbox", sandbox, apnstest.CertificateConfig{BundleID: bundle, Environments: []apnstest.Environment{apnstest.Production}}, "BadCertificateEnvironment"},
		{"sandbox only", srv, apnstest.CertificateConfig{BundleID: bundle, Environments: []apnstest.Environment{apnstest.Sandbox}}, "BadCertificateEnvironment"},
		{"expired", srv, apnstest.CertificateConfig{BundleID: bundle, NotAfter: time.Now().Add(-time.Hour)}, "BadCertificate"},
		{"of a stranger", stranger, apnstest.CertificateConfig{BundleID: bundle}, "BadCertificate"},
	} {
		c := with(tt.by, tt.cfg)
		if tt.by == sandbox {
			cert, err := sandbox.ClientCertificate(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			c = dial(t, sandbox, dialOptions{cert: &cert})
		}
		if err := c.drain(); !isEOF(err) {
			t.Errorf("%s: got %v, want the connection closed", tt.name, err)
		}
		want := goAway{0, http2.ErrCodeNo, `{"reason":"` + tt.want + `"}`}
		if len(c.goAways) != 1 || c.goAways[0] != want || len(c.settings) == 0 {
			t.Errorf("%s: got SETTINGS %v, GOAWAY %+v, want SETTINGS, then %+v", tt.name, c.settings, c.goAways, want)
		}
	}
}
