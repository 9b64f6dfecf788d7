package stream_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// followed is one message that a follower was told of.
type followed struct {
	place uint64
	text  string
}

// follow follows outcomes in a goroutine, which ends with the test. Each message can be
// read from the channel; err gets how it ended.
func follow(t *testing.T, s *stream.Streams, from stream.Start, subjects ...string) (told <-chan followed, end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	all := make(chan followed, 10_000)
	ended := make(chan error, 1)
	go func() {
		ended <- s.FollowOutcomes(ctx, subjects, from, func(place uint64, data []byte) error {
			all <- followed{place, string(data)}
			return nil
		})
	}()
	end = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() { _ = end() })
	return all, end
}

// nextTold waits for the next message, which must be the one that is wanted.
func nextTold(t *testing.T, told <-chan followed, want string) followed {
	t.Helper()
	select {
	case got := <-told:
		if got.text != want {
			t.Fatalf("got %q, want %q", got.text, want)
		}
		return got
	case <-time.After(time.Minute):
		t.Fatalf("waited for %q", want)
		return followed{}
	}
}

// tell publishes an outcomes message, which here is only a text.
func tell(t *testing.T, s *stream.Streams, of stream.OutcomesOf, text string) {
	t.Helper()
	for {
		storing, err := s.PublishOutcomes(of, text, []byte(text))
		if err == nil {
			err = storing.Wait(t.Context())
		}
		if err == nil {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

// begun waits until n followers have begun.
func begun(t *testing.T, js *testenv.JetStream, n int) {
	t.Helper()
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := api.Stream(t.Context(), stream.Outcomes)
		if err != nil {
			t.Fatal(err)
		}
		if st.CachedInfo().State.Consumers == n {
			return
		}
		<-tick.C
	}
}

var shopBulk = stream.OutcomesOf{App: "shop", Lane: job.Bulk}

const shopBulkSubject = "push.outcomes.shop.bulk"

func TestFollowBegins(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	tell(t, js.Streams, shopBulk, "one")
	tell(t, js.Streams, stream.OutcomesOf{App: "news", Lane: job.Bulk}, "of another app")
	tell(t, js.Streams, shopBulk, "three")
	for _, tt := range []struct {
		name string
		from stream.Start
		want []string
	}{
		{"at the first place", stream.Start{Place: 1}, []string{"one", "three", "four"}},
		{"at a place", stream.Start{Place: 2}, []string{"three", "four"}},
		{"at a place that is to come", stream.Start{Place: 4}, []string{"four"}},
		{"since before", stream.Start{Since: time.Now().Add(-time.Hour)}, []string{"one", "three", "four"}},
		{"an hour ago", stream.Start{Ago: time.Hour}, []string{"one", "three", "four"}},
	} {
		told, end := follow(t, js.Streams, tt.from, shopBulkSubject)
		for _, want := range tt.want {
			if want == "four" {
				tell(t, js.Streams, shopBulk, "four")
			}
			nextTold(t, told, want)
		}
		if err := end(); err != nil {
			t.Errorf("%s: ended with %v, want nil", tt.name, err)
		}
		select {
		case got := <-told:
			t.Errorf("%s: got %+v as well", tt.name, got)
		default:
		}
	}
}

// distant attaches to streams by a proxy; reconnected tells of each time that the
// connection was made anew.
func distant(t *testing.T, js *testenv.JetStream) (far *stream.Streams, proxy *testenv.Proxy, reconnected <-chan struct{}) {
	t.Helper()
	server, err := url.Parse(js.Server.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy = testenv.StartProxy(t, server.Host)
	again := make(chan struct{}, 100)
	nc, err := stream.Dial("nats://"+proxy.Addr, nats.ReconnectWait(10*time.Millisecond), nats.ReconnectHandler(func(*nats.Conn) { again <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if far, err = stream.Attach(nc); err != nil {
		t.Fatal(err)
	}
	return far, proxy, again
}

// The server does not know that the last message was lost on its way, and nothing comes
// after it that would show.
func TestFollowGetsWhatWasOnItsWay(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	far, proxy, reconnected := distant(t, js)
	told, _ := follow(t, far, stream.Start{}, shopBulkSubject)
	begun(t, js, 1)
	tell(t, js.Streams, shopBulk, "one")
	nextTold(t, told, "one")
	proxy.CutReplies(1000)
	long := strings.Repeat("x", 100_000)
	storing, err := js.PublishOutcomes(shopBulk, "long", []byte(long))
	if err != nil {
		t.Fatal(err)
	}
	if err := storing.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-reconnected
	nextTold(t, told, long)
}

// What nobody has told anything yet, and what waits for the rest, goes on where it was.
func TestFollowSurvivesConnections(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	far, proxy, reconnected := distant(t, js)
	fresh, _ := follow(t, far, stream.Start{}, "push.outcomes.news.bulk")
	told, end := follow(t, far, stream.Start{}, shopBulkSubject)
	begun(t, js, 2)
	const rounds = 3
	n := 0
	for range rounds {
		for range 100 {
			tell(t, js.Streams, shopBulk, strconv.Itoa(n))
			n++
		}
		proxy.Refuse(true)
		for range 100 {
			tell(t, js.Streams, shopBulk, strconv.Itoa(n))
			n++
		}
		tell(t, js.Streams, stream.OutcomesOf{App: "news", Lane: job.Bulk}, "meanwhile "+strconv.Itoa(n))
		proxy.Refuse(false)
		<-reconnected
	}
	for i := range n {
		nextTold(t, told, strconv.Itoa(i))
	}
	for i := range rounds {
		nextTold(t, fresh, "meanwhile "+strconv.Itoa(200*(i+1)))
	}
	if err := end(); err != nil {
		t.Errorf("ended with %v, want nil", err)
	}
}

func TestFollowSurvivesRestarts(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := embedded.NATSConfig{StoreDir: t.TempDir(), Port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	server, err := embedded.StartNATS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Stop() })
	nc := testenv.Connect(t, server.URL())
	s, err := stream.Open(t.Context(), nc, stream.Config{JobsBytes: 1 << 30, OutcomesBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	told, end := follow(t, s, stream.Start{Place: 1}, shopBulkSubject)
	tell(t, s, shopBulk, "before")
	before := nextTold(t, told, "before")
	server.Stop()
	if server, err = embedded.StartNATS(cfg); err != nil {
		t.Fatal(err)
	}
	tell(t, s, shopBulk, "after")
	if after := nextTold(t, told, "after"); after.place <= before.place {
		t.Errorf("got place %d after %d", after.place, before.place)
	}
	if err := end(); err != nil {
		t.Errorf("ended with %v, want nil", err)
	}
}

func TestFollowEnds(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	tell(t, js.Streams, shopBulk, "one")
	ended := errors.New("ended")
	err := js.FollowOutcomes(t.Context(), []string{shopBulkSubject}, stream.Start{Place: 1}, func(uint64, []byte) error { return ended })
	if !errors.Is(err, ended) {
		t.Errorf("by each: got %v, want %v", err, ended)
	}
	nc := testenv.Connect(t, js.Server.URL())
	s, err := stream.Attach(nc)
	if err != nil {
		t.Fatal(err)
	}
	err = s.FollowOutcomes(t.Context(), []string{shopBulkSubject}, stream.Start{Place: 1}, func(uint64, []byte) error {
		nc.Close()
		return nil
	})
	if !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("by the connection: got %v, want %v", err, nats.ErrConnectionClosed)
	}
	// While the server is away its context ends it at once.
	js.Server.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := js.FollowOutcomes(ctx, []string{shopBulkSubject}, stream.Start{}, nil); err != nil {
		t.Errorf("by its context: got %v, want nil", err)
	}
}
