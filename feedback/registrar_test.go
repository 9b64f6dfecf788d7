package feedback_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// desk is registrars on a queue and a token set.
type desk struct {
	t   *testing.T
	ctx context.Context
	js  *testenv.JetStream
	set *store.Store
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return &desk{t: t, ctx: ctx, js: testenv.NewJetStream(t), set: store.New(testenv.Redis(t), store.Config{Buckets: 16})}
}

// start starts a registrar with a connection of its own.
func (d *desk) start(set feedback.DeviceSet) (stop func()) {
	d.t.Helper()
	streams, err := stream.Open(d.ctx, testenv.Connect(d.t, d.js.Server.URL()), stream.Config{OutcomesBytes: 1 << 30})
	if err != nil {
		d.t.Fatal(err)
	}
	return run(d.t, feedback.NewRegistrar(feedback.RegistrarConfig{
		Streams: streams, Devices: set, Apps: map[string]device.Environment{"shop": device.Sandbox, "bank": device.Production},
	}).Run)
}

func (d *desk) publish(app, body string) {
	d.t.Helper()
	if err := d.js.PublishDevice(d.ctx, app, "", []byte(body)); err != nil {
		d.t.Fatal(err)
	}
}

// done waits until the queue is empty.
func (d *desk) done() {
	d.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		n := messages(d.t, d.js, stream.Devices)
		if n == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-d.ctx.Done():
			d.t.Fatalf("messages left in %s: got %d, want 0", stream.Devices, n)
		}
	}
}

func (d *desk) device(app string, t device.Token) (device.Device, bool) {
	d.t.Helper()
	got, ok, err := d.set.Device(d.ctx, app, t)
	if err != nil {
		d.t.Fatal(err)
	}
	return got, ok
}

func TestRegistrar(t *testing.T) {
	d := newDesk(t)
	d.start(d.set)
	one, two := token(1), token(2)
	d.publish("shop", fmt.Sprintf(`{"action":"register","token":%q,"user":"u-1","install_id":"i-1","kind":"alert","locale":"de-AT",
		"timezone":"Europe/Vienna","app_version":"1.2","tags":["a","b"],"attributes":{"plan":"gold"}}`, one.Hex()))
	d.publish("bank", fmt.Sprintf(`{"action":"register","token":%q,"environment":"sandbox"}`, one.Hex()))
	d.done()
	got, _ := d.device("shop", one)
	if got.Environment != device.Sandbox || got.User != "u-1" || got.InstallID != "i-1" || got.Locale != "de-AT" || got.Timezone != "Europe/Vienna" ||
		got.AppVersion != "1.2" || len(got.Tags) != 2 || got.Attributes["plan"] != "gold" {
		t.Errorf("registered: got %+v", got)
	}
	if got, _ := d.device("bank", one); got.Environment != device.Sandbox {
		t.Errorf("registered with its environment: got %s, want sandbox", got.Environment)
	}

	d.publish("shop", fmt.Sprintf(`{"action":"detach","token":%q,"user":"somebody else"}`, one.Hex()))
	d.done()
	if got, _ := d.device("shop", one); got.User != "u-1" {
		t.Errorf("detached from another user: got user %q, want u-1", got.User)
	}
	d.publish("shop", fmt.Sprintf(`{"action":"detach","token":%q,"user":"u-1"}`, one.Hex()))
	d.publish("shop", fmt.Sprintf(`{"action":"detach","token":%q}`, token(99).Hex())) // not there
	d.done()
	if got, _ := d.device("shop", one); got.User != "" || got.InstallID != "i-1" || got.Attributes["plan"] != "gold" {
		t.Errorf("detached: got %+v, want no user and the rest", got)
	}

	d.publish("shop", fmt.Sprintf(`{"action":"register","token":%q,"previous_token":%q}`, two.Hex(), one.Hex()))
	d.done()
	if got, _ := d.device("shop", one); got.Record.State != device.Removed {
		t.Errorf("replaced: got %s, want removed", got.Record.State)
	}
	d.publish("shop", fmt.Sprintf(`{"action":"remove","token":%q}`, two.Hex()))
	d.publish("shop", fmt.Sprintf(`{"action":"remove","token":%q}`, token(98).Hex())) // not there
	d.done()
	if got, _ := d.device("shop", two); got.Record.State != device.Removed || got.Record.Reason != device.Deleted {
		t.Errorf("removed: got %s, %s", got.Record.State, got.Record.Reason)
	}
	if n := messages(t, d.js, stream.Dead); n != 0 {
		t.Errorf("dead letters: got %d, want 0", n)
	}
}

// What cannot be a device change is given up with every reason, and holds nobody
// up.
func TestRegistrarBuries(t *testing.T) {
	d := newDesk(t)
	d.start(d.set)
	bad := fmt.Sprintf(`{"action":"register","tokn":"x","user":7,"kind":"fax","timezone":"Mars/Olympus","token":"%s0"}`, token(1).Hex())
	d.publish("shop", bad)
	d.publish("shop", fmt.Sprintf(`{"action":"register","token":%q}`, token(2).Hex()))
	d.done()
	if _, ok := d.device("shop", token(2)); !ok {
		t.Error("the one after it: got none, want it registered")
	}
	api, err := jetstream.New(d.js.NC)
	if err != nil {
		t.Fatal(err)
	}
	st, err := api.Stream(d.ctx, stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	letter, err := st.GetLastMsgForSubject(d.ctx, stream.DeadSubject("shop"))
	if err != nil {
		t.Fatal(err)
	}
	reason := letter.Header.Get(stream.HeaderReason)
	for _, want := range []string{"tokn: unknown field, did you mean token?", "user: must be a string", "kind: must be one of", "timezone: must be a time zone", "token: device token has an odd number"} {
		if !strings.Contains(reason, want) {
			t.Errorf("reason: got %q, want %q in it", reason, want)
		}
	}
	if string(letter.Data) != bad || letter.Header.Get(stream.HeaderSubject) != "push.devices.shop" {
		t.Errorf("letter: got %q from %q", letter.Data, letter.Header.Get(stream.HeaderSubject))
	}
	if hex := token(1).Hex(); strings.Contains(reason, hex[6:20]) {
		t.Errorf("reason: got a device token in %q", reason)
	}
}

// Registrations of one install end in the last of the stream, whoever takes them
// and whatever fails meanwhile.
func TestRegistrarKeepsTheOrder(t *testing.T) {
	d := newDesk(t)
	const installs, rounds = 4, 250
	broken := &breaks{Store: d.set, last: make(map[string]int)}
	stops := []func(){d.start(broken), d.start(broken), d.start(broken)}
	for round := range rounds {
		for i := range installs {
			d.publish("shop", fmt.Sprintf(`{"action":"register","token":%q,"install_id":"i-%d","app_version":"%d"}`, token(i*rounds+round).Hex(), i, round))
		}
		if round%80 == 79 && len(stops) > 1 {
			stops[0]() // perhaps the one that is served
			stops = stops[1:]
		}
		// One that is stopped while it fails leaves the rest waiting.
		broken.failing.Store(len(stops) == 1)
	}
	d.done()
	if broken.behind > 0 {
		t.Errorf("in %d calls: got %d registrations after newer ones, want 0", broken.calls.Load(), broken.behind)
	}
	for i := range installs {
		found, err := d.set.ByInstalls(d.ctx, "shop", []string{fmt.Sprintf("i-%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		want := token(i*rounds + rounds - 1)
		if len(found[0]) != 1 || found[0][0].Token != want {
			t.Errorf("install %d: got %v, want the last one registered", i, found[0])
		}
	}
}

// breaks is a token set of which, if it is failing, every third registration
// fails after it was carried out. It notes what comes after something newer.
type breaks struct {
	*store.Store
	calls   atomic.Int64
	failing atomic.Bool

	mu     sync.Mutex
	last   map[string]int // guarded by mu: install -> the last round that was carried out and told so
	behind int            // guarded by mu
}

func (b *breaks) RegisterMany(ctx context.Context, app string, regs []device.Registration) ([]store.Registered, error) {
	// Two at once would overtake each other.
	<-time.After(rand.N(20 * time.Millisecond))
	out, err := b.Store.RegisterMany(ctx, app, regs)
	if b.calls.Add(1)%3 == 0 && b.failing.Load() {
		return nil, errTest
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range regs {
		round, err := strconv.Atoi(r.AppVersion)
		if err != nil || round < b.last[r.InstallID] {
			b.behind++
			continue
		}
		b.last[r.InstallID] = round
	}
	return out, err
}

// dead is a token set that takes one at a time only, and says when it is asked for
// more.
type dead struct {
	*store.Store
	asked chan struct{}
}

func (d dead) RegisterMany(ctx context.Context, app string, regs []device.Registration) ([]store.Registered, error) {
	if len(regs) == 1 {
		return d.Store.RegisterMany(ctx, app, regs)
	}
	select {
	case d.asked <- struct{}{}:
	default:
	}
	return nil, errTest
}

// A registrar that goes without having settled what it took is followed by one
// that applies that first. It takes an ack wait.
func TestRegistrarTakesOver(t *testing.T) {
	d := newDesk(t)
	const rounds = 300
	for round := range rounds {
		d.publish("shop", fmt.Sprintf(`{"action":"register","token":%q,"install_id":"i","app_version":"%d"}`, token(round).Hex(), round))
	}
	first := dead{d.set, make(chan struct{}, 1)}
	stop := d.start(first)
	<-first.asked
	stop()
	second := &breaks{Store: d.set, last: make(map[string]int)}
	d.start(second)
	for round := range rounds {
		d.publish("shop", fmt.Sprintf(`{"action":"register","token":%q,"install_id":"i","app_version":"%d"}`, token(rounds+round).Hex(), rounds+round))
	}
	d.done()
	if second.behind > 0 {
		t.Errorf("got %d registrations after newer ones, want 0", second.behind)
	}
	found, err := d.set.ByInstalls(d.ctx, "shop", []string{"i"})
	if err != nil || len(found[0]) != 1 || found[0][0].Token != token(2*rounds-1) {
		t.Errorf("got %v, %v, want the last one registered", found, err)
	}
}

func TestRegistrarLeavesUnknownApps(t *testing.T) {
	d := newDesk(t)
	d.publish("stranger", `{"action":"remove","token":"aa"}`)
	old := func() time.Time { return time.Now().Add(time.Hour) }
	run(t, feedback.NewRegistrar(feedback.RegistrarConfig{Streams: d.js.Streams, Devices: d.set, Now: old}).Run)
	d.done()
	if n := messages(t, d.js, stream.Dead); n != 1 {
		t.Errorf("dead letters: got %d, want 1", n)
	}
}

func TestParseDeviceChange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		want       []string // all that is wrong
	}{
		{"smallest", `{"action":"register","token":"aa"}`, nil},
		{"remove", ` {"token":"AA","action":"remove"} `, nil},
		{"empty", ``, []string{"is empty"}},
		{"list", `[]`, []string{"must be an object, got an array"}},
		{"cut", `{"action":"remove","token":"aa"`, []string{"not valid JSON: ends too early, after 31 bytes"}},
		{"more", `{"action":"remove","token":"aa"}{}`, []string{"not valid JSON: something follows the object at line 1, column 33"}},
		{"not utf-8", "{\"action\":\"\xff\"}", []string{"action: not valid JSON: invalid UTF-8 at line 1, column 12"}},
		{"nothing", `{}`, []string{"action: is required", "token: is required"}},
		{"action", `{"action":"burn","token":"aa"}`, []string{"action: must be one of register, remove, detach"}},
		{"null", `{"action":"register","token":"aa","user":null}`, []string{"user: must be a string, got null: leave it out instead"}},
		{"null inside", `{"action":"register","token":"aa","tags":[null],"attributes":{"a":null}}`, []string{"tags[0]: must be a string, got null: leave it out instead", "attributes.a: must be a string, got null: leave it out instead"}},
		{"word null", `{"action":"register","token":"aa","tags":["null"],"user":"null"}`, nil},
		{"twice", `{"action":"remove","token":"aa","token":"bb"}`, []string{"token: is given twice"}},
		{"for another action", `{"action":"remove","token":"aa","locale":"de","user":"u"}`, []string{"user: is not for remove", "locale: is not for remove"}},
		{"a token as a name", `{"action":"remove","token":"aa","00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0":1}`, []string{"has a member that is not known (its name is not printed)"}},
		{"environment", `{"action":"register","token":"aa","environment":"","kind":""}`, []string{"environment: must be production or sandbox", "kind: must be one of " + strings.Join(device.KindNames(), ", ")}},
		{"zone", `{"action":"register","token":"aa","timezone":"Local"}`, []string{"timezone: must be a time zone of the IANA database, such as Europe/Vienna"}},
		{"long", `{"action":"register","token":"` + strings.Repeat("aa", 300) + `","user":"` + strings.Repeat("u", 300) + `"}`, []string{"token: device token is longer than 256 bytes", "user: must be at most 256 bytes, got 300"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := feedback.ParseDeviceChange([]byte(tt.body))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if want := strings.Join(tt.want, "; "); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func FuzzParseDeviceChange(f *testing.F) {
	f.Add([]byte(`{"action":"register","token":"aa","tags":["x"],"attributes":{"a":"b"},"timezone":"Europe/Vienna"}`))
	f.Add([]byte(`{"action":"detach","token":"aa","user":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := feedback.ParseDeviceChange(data)
		if err != nil {
			return
		}
		if c.Device.Environment == device.EnvironmentUnset {
			c.Device.Environment = device.Production
		}
		if err := c.Device.Validate(); err != nil {
			t.Errorf("taken: got %v, want a valid registration", err)
		}
	})
}
