package stream_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/stream"
)

// What an operator has set of the fleet's bucket stays when another process starts.
func TestStateStaysAsItWasSet(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	st, err := api.Stream(t.Context(), "KV_pushfleet")
	if err != nil {
		t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	cfg.MaxBytes = 32 << 20
	if _, err := api.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Open(t.Context(), js.NC, stream.Config{}); err != nil {
		t.Fatal(err)
	}
	info, err := st.Info(t.Context())
	if err != nil || info.Config.MaxBytes != cfg.MaxBytes {
		t.Errorf("got a limit of %d bytes, %v, want the %d that were set", info.Config.MaxBytes, err, cfg.MaxBytes)
	}
}

func TestFuseEntries(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	js := testenv.NewJetStream(t)
	if list, err := js.Fuses(ctx); len(list) != 0 || err != nil {
		t.Errorf("list: got %v, %v, want none", list, err)
	}
	none, err := js.Fuse(ctx, "shop", device.Production)
	if want := (stream.Fuse{App: "shop", Environment: device.Production}); err != nil || none != want {
		t.Errorf("without an entry: got %+v, %v, want %+v", none, err, want)
	}

	changes := make(chan stream.Fuse, 16)
	watching, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- js.WatchFuses(watching, func(f stream.Fuse) { changes <- f }) }()

	none.Tripped, none.TrippedAt, none.Rejected, none.Sent = true, time.UnixMilli(1_800_000_000_000).UTC(), 200, 300
	first, err := js.SetFuse(ctx, none)
	if err != nil || first.Revision == 0 {
		t.Fatalf("set: got %+v, %v, want a revision", first, err)
	}
	if got := <-changes; got != first {
		t.Errorf("watch: got %+v, want %+v", got, first)
	}
	for name, stale := range map[string]stream.Fuse{"made twice": none, "another revision": {App: "shop", Environment: device.Production, Revision: first.Revision + 7}} {
		if _, err := js.SetFuse(ctx, stale); !errors.Is(err, stream.ErrChanged) {
			t.Errorf("%s: got %v, want %v", name, err, stream.ErrChanged)
		}
	}
	next := first
	next.Undone = true
	if next, err = js.SetFuse(ctx, next); err != nil {
		t.Fatal(err)
	}
	if got, err := js.Fuse(ctx, "shop", device.Production); got != next || err != nil {
		t.Errorf("read: got %+v, %v, want %+v", got, err, next)
	}
	if _, err := js.SetFuse(ctx, stream.Fuse{App: "bank", Environment: device.Sandbox}); err != nil {
		t.Fatal(err)
	}
	if list, err := js.Fuses(ctx); len(list) != 2 || err != nil {
		t.Errorf("list: got %v, %v, want two", list, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("watch: got %v, want nil", err)
	}
}

// One of several is served at a time, and another one when that leaves.
func TestRegistrarConsumerServesOne(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	js := testenv.NewJetStream(t)
	one, err := js.RegistrarConsumer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	two, err := js.RegistrarConsumer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	publish := func() {
		t.Helper()
		if err := js.PublishDevice(ctx, "shop", "", []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	m, err := one.Wait(time.Second)
	if err != nil || m == nil || m.App != "shop" {
		t.Fatalf("first: got %+v, %v, want a message of shop", m, err)
	}
	if err := m.AckWaiting(ctx); err != nil {
		t.Fatal(err)
	}
	publish()
	if m, err := two.Wait(100 * time.Millisecond); m != nil || err != nil {
		t.Errorf("second: got %+v, %v, want nothing", m, err)
	}
	if err := js.LeaveRegistrar(ctx, two); err != nil { // it has nothing to leave
		t.Fatal(err)
	}
	if m, err := two.Wait(100 * time.Millisecond); m != nil || err != nil {
		t.Errorf("second, after leaving in vain: got %+v, %v, want nothing", m, err)
	}
	if err := js.LeaveRegistrar(ctx, one); err != nil {
		t.Fatal(err)
	}
	if m, err := two.Wait(5 * time.Second); m == nil || err != nil {
		t.Errorf("second, after the first has left: got %+v, %v, want a message", m, err)
	}
	for _, app := range []string{"", "a.b", "a b"} {
		if err := js.PublishDevice(ctx, app, "", nil); err == nil {
			t.Errorf("app %q: got nil, want an error", app)
		}
	}
}
