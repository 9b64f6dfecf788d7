package api_test

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/store"
)

func (f *fixture) put(path string, r api.Registration) api.Registered {
	f.t.Helper()
	return into[api.Registered](f.t, f.want(http.StatusOK, request{method: http.MethodPut, path: path, body: r}))
}

func (f *fixture) get(path string) api.Device {
	f.t.Helper()
	return into[api.Device](f.t, f.want(http.StatusOK, request{method: http.MethodGet, path: path}))
}

// ofUser are the device tokens of a user.
func (f *fixture) ofUser(user string) []string {
	f.t.Helper()
	a := f.want(http.StatusOK, request{method: http.MethodGet, path: "/v1/apps/shop/users/" + user + "/devices"})
	var tokens []string
	for _, d := range into[api.Devices](f.t, a).Devices {
		tokens = append(tokens, d.Token)
	}
	return tokens
}

func TestLifeOfADevice(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	full := api.Registration{
		User: "ada", InstallID: "i-17", Environment: "sandbox", Kind: "voip", Locale: "de-AT",
		Timezone: "Europe/Vienna", AppVersion: "4.2", Tags: []string{"beta", "größe"}, Attributes: map[string]string{"plan": "gold"},
	}
	first := f.put(path("shop", 1), full)
	if first.Generation != 1 || !first.Created || first.Replaced != 0 || first.RegisteredAt.IsZero() {
		t.Errorf("first registration: got %+v, want generation 1, created", first)
	}
	again := f.put("/v1/apps/shop/devices/"+strings.ToUpper(token(1)), full)
	if again.Generation != 2 || again.Created || again.RegisteredAt.Before(first.RegisteredAt) {
		t.Errorf("the same once more, in capitals: got %+v, want generation 2, not created", again)
	}
	got := f.get(path("shop", 1))
	if got.CreatedAt == nil || !got.CreatedAt.Equal(first.RegisteredAt) || got.RegisteredAt == nil || !got.RegisteredAt.Equal(again.RegisteredAt) {
		t.Errorf("got created %v, registered %v, want %v and %v", got.CreatedAt, got.RegisteredAt, first.RegisteredAt, again.RegisteredAt)
	}
	got.CreatedAt, got.RegisteredAt = nil, nil
	want := api.Device{
		Token: token(1), State: "live", Generation: 2, Environment: "sandbox", Kind: "voip",
		User: "ada", InstallID: "i-17", Locale: "de-AT", Timezone: "Europe/Vienna", AppVersion: "4.2",
		Tags: full.Tags, Attributes: full.Attributes,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("GET: got %+v, want %+v", got, want)
	}

	// Another app's device token is another device.
	f.want(http.StatusNotFound, request{method: http.MethodGet, path: path("news", 1)})

	for range 2 { // removing it again changes nothing
		if a := f.want(http.StatusNoContent, request{method: http.MethodDelete, path: path("shop", 1)}); len(a.text) != 0 {
			t.Errorf("DELETE: got %q, want nothing", a.text)
		}
	}
	if got = f.get(path("shop", 1)); got.State != "removed" || got.Reason != "deleted" || got.ChangedAt == nil {
		t.Errorf("after DELETE: got %+v, want it removed, with reason and date", got)
	}
	if back := f.put(path("shop", 1), api.Registration{}); back.Generation != 3 || !back.Created {
		t.Errorf("registered after DELETE: got %+v, want generation 3, created", back)
	}
	if got = f.get(path("shop", 1)); got.State != "live" || got.User != "" || got.Kind != "alert" || got.Environment != "production" {
		t.Errorf("registered with nothing: got %+v, want the defaults and no user", got)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if p := into[api.Problem](t, f.want(http.StatusNotFound, request{method: method, path: path("shop", 2)})); p.Code != "unknown_device" {
			t.Errorf("%s of an unknown device: got %+v, want unknown_device", method, p)
		}
	}
}

// A registration that does not say is of the app's environment.
func TestEnvironmentOfTheApp(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	f.want(http.StatusOK, request{method: http.MethodPut, path: path("news", 1)}) // without a body
	if got := f.get(path("news", 1)); got.Environment != "sandbox" {
		t.Errorf("got %q, want sandbox", got.Environment)
	}
	f.put(path("news", 1), api.Registration{Environment: "production"})
	if got := f.get(path("news", 1)); got.Environment != "production" {
		t.Errorf("got %q, want production", got.Environment)
	}
}

func TestReplacement(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	f.put(path("shop", 1), api.Registration{User: "ada", InstallID: "i"})
	if got := f.put(path("shop", 2), api.Registration{User: "ada", PreviousToken: token(1)}); got.Replaced != 1 || !got.Created {
		t.Errorf("with previous_token: got %+v, want one replaced", got)
	}
	if got := f.get(path("shop", 1)); got.State != "removed" || got.Reason != "replaced" {
		t.Errorf("the old one: got %+v, want it replaced", got)
	}
	if got, want := f.ofUser("ada"), []string{token(2)}; !reflect.DeepEqual(got, want) {
		t.Errorf("devices of ada: got %v, want %v", got, want)
	}
	f.put(path("shop", 3), api.Registration{InstallID: "j"})
	if got := f.put(path("shop", 4), api.Registration{InstallID: "j"}); got.Replaced != 1 {
		t.Errorf("with a known install_id: got %+v, want one replaced", got)
	}
	if got := f.get(path("shop", 3)); got.State != "removed" {
		t.Errorf("the install's old one: got %+v, want it removed", got)
	}
	// Naming itself is no replacement.
	if got := f.put(path("shop", 4), api.Registration{InstallID: "j", PreviousToken: token(4)}); got.Replaced != 0 || got.Generation != 2 {
		t.Errorf("previous_token is the same: got %+v, want nothing replaced", got)
	}
}

func TestUsersDevices(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	const odd = "a/b c%2F.ü" // an id is the customer's own
	const escaped = "a%2Fb%20c%252F.%C3%BC"
	for n := range 20 {
		f.put(path("shop", n), api.Registration{User: odd})
	}
	if got := f.ofUser(escaped); len(got) != 20 {
		t.Errorf("got %d devices, want 20", len(got))
	}
	f.put(path("shop", 0), api.Registration{})              // logged out
	f.put(path("shop", 1), api.Registration{User: "grace"}) // handed on
	f.want(http.StatusNoContent, request{method: http.MethodDelete, path: path("shop", 2)})
	if got := f.ofUser(escaped); len(got) != 17 {
		t.Errorf("got %d devices, want 17", len(got))
	}
	if got, want := f.ofUser("grace"), []string{token(1)}; !reflect.DeepEqual(got, want) {
		t.Errorf("grace: got %v, want %v", got, want)
	}
	if got := f.ofUser("nobody"); len(got) != 0 {
		t.Errorf("nobody: got %v, want none", got)
	}
}

// moving is a token set in which a device goes to somebody else, or away, right
// after it was found.
type moving struct {
	api.TokenSet
	put func(n int)
}

func (m *moving) ByUsers(ctx context.Context, app string, users []string) ([][]store.Entry, error) {
	found, err := m.TokenSet.ByUsers(ctx, app, users)
	m.put(1)
	return found, err
}

func TestUsersDevicesThatMove(t *testing.T) {
	t.Parallel()
	var m *moving
	f := setup(t, func(cfg *api.Config) {
		m = &moving{TokenSet: cfg.TokenSet}
		cfg.TokenSet = m
	})
	m.put = func(n int) { f.put(path("shop", n), api.Registration{User: "grace"}) }
	f.put(path("shop", 1), api.Registration{User: "ada"})
	f.put(path("shop", 2), api.Registration{User: "ada"})
	if got, want := f.ofUser("ada"), []string{token(2)}; !reflect.DeepEqual(got, want) {
		t.Errorf("ada: got %v, want %v: the other is grace's by now", got, want)
	}
}

func TestTooManyDevices(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	var b api.Batch
	for n := range 256 {
		b.Devices = append(b.Devices, api.BatchRegistration{Token: token(n), Registration: api.Registration{User: "ada"}})
	}
	f.want(http.StatusOK, request{method: http.MethodPost, path: "/v1/apps/shop/devices", body: b})
	one := request{method: http.MethodPut, path: "/v1/apps/shop/devices/ff" + token(1), body: api.Registration{User: "ada"}}
	if p := into[api.Problem](t, f.want(http.StatusConflict, one)); p.Code != "too_many_devices" {
		t.Errorf("got %+v, want too_many_devices", p)
	}
	b.Devices = []api.BatchRegistration{{Token: "ee" + token(1), Registration: api.Registration{User: "ada"}}, {Token: "ee" + token(2)}}
	got := into[api.BatchResult](t, f.want(http.StatusOK, request{method: http.MethodPost, path: "/v1/apps/shop/devices", body: b}))
	if got.Registered != 1 || got.Failed != 1 || got.Results[0].Status != http.StatusConflict || got.Results[1].Status != http.StatusOK {
		t.Errorf("batch: got %+v, want the first a conflict", got)
	}
}

func TestBatch(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	long := strings.Repeat("ab", 300)
	body := `{"devices": [
		{"token": "` + token(1) + `", "user": "ada", "environment": "sandbox"},
		{"token": "abc", "timezone": "Mars/Olympus", "colour": 1},
		{"user": "ada"},
		{"token": "` + long + `"},
		{"token": "` + token(2) + `", "previous_token": "` + token(1) + `", "user": "ada"},
		7,
		{"token": "` + token(3) + `", "tags": ["a", "", 3]},
		{"token": "` + token(2) + `", "user": "grace"}
	]}`
	a := f.want(http.StatusOK, request{method: http.MethodPost, path: "/v1/apps/shop/devices", body: body})
	got := into[api.BatchResult](t, a)
	if got.Registered != 3 || got.Failed != 5 || len(got.Results) != 8 {
		t.Fatalf("got %+v, want 3 registered and 5 failed", got)
	}
	want := []struct {
		status int
		errors []string
	}{
		{200, nil},
		{422, []string{
			"devices[1].token: device token has an odd number of hex digits",
			"devices[1].timezone: must be a time zone of the IANA database, such as Europe/Vienna",
			"devices[1].colour: unknown field",
		}},
		{422, []string{"devices[2].token: is required"}},
		{422, []string{"devices[3].token: device token is longer than 256 bytes"}},
		{200, nil},
		{422, []string{"devices[5]: must be an object, got a number"}},
		{422, []string{"devices[6].tags[1]: must not be empty", "devices[6].tags[2]: must be a string, got a number"}},
		{200, nil},
	}
	for i, w := range want {
		r := got.Results[i]
		if r.Status != w.status || !reflect.DeepEqual(faultsOf(r.Errors), w.errors) || (r.Device != nil) != (r.Status == 200) {
			t.Errorf("result %d: got %+v, want %+v", i, r, w)
		}
	}
	if r := got.Results[4].Device; r.Replaced != 1 || r.Generation != 1 {
		t.Errorf("result 4: got %+v, want one replaced", r)
	}
	if r := got.Results[7].Device; r.Generation != 2 {
		t.Errorf("result 7: got %+v, want generation 2: it is the same device token as before", r)
	}
	if got, want := f.ofUser("grace"), []string{token(2)}; !reflect.DeepEqual(got, want) {
		t.Errorf("grace: got %v, want %v", got, want)
	}
}

func faultsOf(list []api.Fault) []string {
	var out []string
	for _, e := range list {
		out = append(out, strings.TrimPrefix(e.Path+": "+e.Message, ": "))
	}
	return out
}

func TestBatchOfAThousand(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	batch := func(n int) api.Batch {
		var b api.Batch
		for i := range n {
			b.Devices = append(b.Devices, api.BatchRegistration{Token: fmt.Sprintf("%064x", i+1), Registration: api.Registration{User: fmt.Sprint("u", i)}})
		}
		return b
	}
	r := request{method: http.MethodPost, path: "/v1/apps/shop/devices", body: batch(1000)}
	if got := into[api.BatchResult](t, f.want(http.StatusOK, r)); got.Registered != 1000 || got.Failed != 0 {
		t.Errorf("got %d registered, %d failed, want 1000 and 0", got.Registered, got.Failed)
	}
	r.body = batch(1001)
	if p := into[api.Problem](t, f.want(http.StatusUnprocessableEntity, r)); !reflect.DeepEqual(faultsOf(p.Errors), []string{"devices: must be at most 1000, got 1001"}) {
		t.Errorf("1001 devices: got %+v, want one problem", p)
	}
}

// Many callers at once, some on the same device.
func TestConcurrentRegistrations(t *testing.T) {
	t.Parallel()
	f := setup(t, nil)
	var wg sync.WaitGroup
	const callers, each = 16, 12
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				r := request{method: http.MethodPut, path: path("shop", i), body: api.Registration{User: fmt.Sprint("u", c)}}
				if a := f.send(r); a.status != http.StatusOK {
					t.Errorf("got %d %s, want 200", a.status, a.text)
				}
			}
		})
	}
	wg.Wait()
	for i := range each {
		if got := f.get(path("shop", i)); got.Generation != callers {
			t.Errorf("device %d: got generation %d, want %d: each registration counts once", i, got.Generation, callers)
		}
	}
}
