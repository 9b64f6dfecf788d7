package stream_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newJob(t testing.TB, id string) *job.Job {
	t.Helper()
	tok, err := device.ParseToken(strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	return &job.Job{ID: id, To: job.Recipients{Tokens: []device.Token{tok}}, Notification: &job.Notification{Title: "hello"}}
}

func TestOpenTwiceKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := context.Background()
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	// An operator bounds OUTCOMES, and an older version knew fewer subjects.
	st, err := api.Stream(ctx, stream.Outcomes)
	if err != nil {
		t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	cfg.MaxBytes = 123 << 20
	if _, err := api.UpdateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	st, err = api.Stream(ctx, stream.Jobs)
	if err != nil {
		t.Fatal(err)
	}
	cfg = st.CachedInfo().Config
	cfg.Subjects = []string{"push.jobs.*.*", "extra.subject"}
	if _, err := api.UpdateStream(ctx, cfg); err != nil {
		t.Fatal(err)
	}

	if _, err := stream.Open(ctx, js.NC, stream.Config{}); err != nil {
		t.Fatalf("second open: %v", err)
	}
	st, err = api.Stream(ctx, stream.Outcomes)
	if err != nil {
		t.Fatal(err)
	}
	if got := st.CachedInfo().Config.MaxBytes; got != 123<<20 {
		t.Errorf("max bytes of OUTCOMES: got %d, want the operator's %d", got, 123<<20)
	}
	st, err = api.Stream(ctx, stream.Jobs)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(st.CachedInfo().Config.Subjects, " ")
	for _, want := range []string{"push.jobs.*.*", "push.campaigns.*", "push.ranges.*.*", "extra.subject"} {
		if !strings.Contains(got, want) {
			t.Errorf("subjects of JOBS: got %q, want %s in it", got, want)
		}
	}
}

func TestOpenAtOnceFromManyProcesses(t *testing.T) {
	t.Parallel()
	server := testenv.StartNATS(t, embedded.NATSConfig{})
	errs := make(chan error)
	const n = 8
	for range n {
		nc := testenv.Connect(t, server.URL())
		go func() {
			_, err := stream.Open(context.Background(), nc, stream.Config{OutcomesBytes: 1 << 30})
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Errorf("open: %v", err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		server embedded.NATSConfig
		before *jetstream.StreamConfig
		want   error
		text   string
	}{
		{name: "no jetstream", server: embedded.NATSConfig{NoJetStream: true}, want: stream.ErrNoJetStream, text: "-js"},
		{
			name: "foreign jobs", want: stream.ErrForeign, text: "JOBS",
			before: &jetstream.StreamConfig{Name: stream.Jobs, Subjects: []string{"orders.>"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			nc := testenv.Connect(t, testenv.StartNATS(t, tc.server).URL())
			ctx := context.Background()
			if tc.before != nil {
				api, err := jetstream.New(nc)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := api.CreateStream(ctx, *tc.before); err != nil {
					t.Fatal(err)
				}
			}
			_, err := stream.Open(ctx, nc, stream.Config{})
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("open: got %v, want %v with %q", err, tc.want, tc.text)
			}
		})
	}
}

func TestCheckVersion(t *testing.T) {
	t.Parallel()
	for version, ok := range map[string]bool{
		"2.14.0": true, "2.15.2": true, "3.0.0": true, "2.14.1-beta.2": true,
		"2.13.9": false, "2.9.25": false, "1.99.0": false, "": false, "dev": false,
	} {
		err := stream.CheckVersion(version)
		if got := err == nil; got != ok {
			t.Errorf("version %q: got error %v, want accepted %v", version, err, ok)
		}
		if err != nil && (!errors.Is(err, stream.ErrTooOld) || !strings.Contains(err.Error(), "2.14")) {
			t.Errorf("version %q: got %v, want %v that names the version needed", version, err, stream.ErrTooOld)
		}
	}
}

func TestPublishJobDropsTheSecond(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := context.Background()
	first, err := js.PublishJob(ctx, "shop", job.Transactional, newJob(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := js.PublishJob(ctx, "shop", job.Transactional, newJob(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if first.Duplicate || !second.Duplicate || second.Sequence != first.Sequence {
		t.Errorf("got %+v and %+v, want the second to be a duplicate of the first", first, second)
	}
	// Another app's job, or another lane's, of the same id is another job.
	for _, other := range []struct {
		app  string
		lane job.Lane
	}{{"news", job.Transactional}, {"shop", job.Bulk}} {
		got, err := js.PublishJob(ctx, other.app, other.lane, newJob(t, "a"))
		if err != nil || got.Duplicate {
			t.Errorf("publish to %s %s: got %+v, %v, want it stored", other.app, other.lane, got, err)
		}
	}
	unnamed, err := js.PublishJob(ctx, "shop", job.Transactional, newJob(t, ""))
	if err != nil || unnamed.ID != stream.SequenceID(unnamed.Sequence) {
		t.Errorf("job without id: got %+v, %v, want it named after its sequence", unnamed, err)
	}
}

func TestPublishJobRefusesBadJobs(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	j := newJob(t, "a")
	j.Priority = 7
	var invalid *job.Invalid
	if _, err := js.PublishJob(context.Background(), "shop", job.Bulk, j); !errors.As(err, &invalid) {
		t.Errorf("bad job: got %v, want a *job.Invalid", err)
	}
	if _, err := js.PublishJob(context.Background(), "shop.de", job.Bulk, newJob(t, "a")); err == nil {
		t.Error("bad app: got no error")
	}
}

func TestMessagesComeWithWhatTheWorkerNeeds(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := context.Background()
	c, err := js.LaneConsumer(ctx, "shop", job.Bulk)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := c.Wait(10 * time.Millisecond); m != nil || err != nil {
		t.Fatalf("empty lane: got %v, %v, want nothing", m, err)
	}
	receipt, err := js.PublishJob(ctx, "shop", job.Bulk, newJob(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Wait(5 * time.Second)
	if err != nil || m == nil {
		t.Fatalf("wait: got %v, %v", m, err)
	}
	if m.App != "shop" || m.Lane != job.Bulk || m.Sequence != receipt.Sequence || m.Deliveries != 1 || m.StoredAt.IsZero() {
		t.Errorf("got %+v, want shop, bulk, sequence %d, first delivery", m, receipt.Sequence)
	}
	if err := m.Nak(0); err != nil {
		t.Fatal(err)
	}
	again, err := c.Wait(5 * time.Second)
	if err != nil || again == nil || again.Deliveries != 2 {
		t.Fatalf("after nak: got %+v, %v, want the second delivery", again, err)
	}
	if err := again.Ack(); err != nil {
		t.Fatal(err)
	}
	if err := js.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Take(10); len(got) != 0 || err != nil {
		t.Errorf("after ack: got %d messages, %v, want none", len(got), err)
	}
}

// readDead reads the newest dead letter of an app.
func readDead(t *testing.T, js *testenv.JetStream, app string) *jetstream.RawStreamMsg {
	t.Helper()
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	st, err := api.Stream(context.Background(), stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := st.GetLastMsgForSubject(context.Background(), stream.DeadSubject(app))
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func TestBury(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := context.Background()
	c, err := js.LaneConsumer(ctx, "shop", job.Bulk)
	if err != nil {
		t.Fatal(err)
	}
	maxPayload := int(js.NC.MaxPayload())
	for _, tc := range []struct {
		name string
		body []byte
		cut  bool
	}{
		{"small", []byte("not a job"), false},
		{"as large as the server takes", bytes.Repeat([]byte("x"), maxPayload), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := js.NC.Publish(stream.JobsSubject("shop", job.Bulk), tc.body); err != nil {
				t.Fatal(err)
			}
			m, err := c.Wait(5 * time.Second)
			if err != nil || m == nil {
				t.Fatalf("wait: got %v, %v", m, err)
			}
			letter := stream.Letter{Reason: "line one\nline two" + strings.Repeat("!", 5000), Root: "r-1", Last: time.Now()}
			for range 2 { // a worker that died in between does it again
				if err := js.Bury(ctx, m, letter); err != nil {
					t.Fatalf("bury: %v", err)
				}
			}
			got := readDead(t, js, "shop")
			if reason := got.Header.Get(stream.HeaderReason); !strings.HasPrefix(reason, "line one line two!") || len(reason) > 2100 {
				t.Errorf("reason: got %d bytes %.40q, want one line, bounded", len(reason), reason)
			}
			if got.Header.Get(stream.HeaderSubject) != m.Subject || got.Header.Get(stream.HeaderRoot) != "r-1" || got.Header.Get(stream.HeaderTries) != "1" {
				t.Errorf("headers: got %v", got.Header)
			}
			cut := got.Header.Get(stream.HeaderCut)
			if !tc.cut && (cut != "" || !bytes.Equal(got.Data, tc.body)) {
				t.Errorf("got %d bytes, cut %q, want the original %d bytes", len(got.Data), cut, len(tc.body))
			}
			if want := fmt.Sprintf("%d sha256:%x", len(tc.body), sha256.Sum256(tc.body)); tc.cut && (cut != want || !bytes.HasPrefix(tc.body, got.Data) || len(got.Data) < len(tc.body)-8192) {
				t.Errorf("got %d bytes, cut %q, want most of the body and %q", len(got.Data), cut, want)
			}
			if err := m.Ack(); err != nil {
				t.Fatal(err)
			}
		})
	}
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	st, err := api.Stream(ctx, stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	if got := st.CachedInfo().State.Msgs; got != 2 {
		t.Errorf("dead letters: got %d, want 2, each once", got)
	}
}

func TestStrayConsumer(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := context.Background()
	if _, err := js.PublishJob(ctx, "ghost", job.Bulk, newJob(t, "a")); err != nil {
		t.Fatal(err)
	}
	waiting, err := js.JobSubjects(ctx)
	if err != nil || len(waiting) != 1 || waiting[0].App != "ghost" || waiting[0].Lane != "bulk" || waiting[0].Messages != 1 {
		t.Fatalf("job subjects: got %+v, %v", waiting, err)
	}
	c, err := js.StrayConsumer(ctx, []string{waiting[0].Subject})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Take(5); len(got) != 1 || err != nil {
		t.Fatalf("take strays: got %d, %v", len(got), err)
	}
	// The app appears: its own consumer needs the stray one gone.
	if _, err := js.LaneConsumer(ctx, "ghost", job.Bulk); err == nil {
		t.Fatal("two consumers on one subject of a work queue: got no error")
	}
	if err := js.ReleaseApp(ctx, "other"); err != nil {
		t.Fatal(err)
	}
	if subjects, err := js.StraySubjects(ctx); len(subjects) != 1 || err != nil {
		t.Fatalf("after releasing another app: got %v, %v, want the stray consumer kept", subjects, err)
	}
	if err := js.ReleaseApp(ctx, "ghost"); err != nil {
		t.Fatal(err)
	}
	if _, err := js.LaneConsumer(ctx, "ghost", job.Bulk); err != nil {
		t.Errorf("lane consumer after release: %v", err)
	}
}

func TestPresence(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := context.Background()
	if got, err := js.Present(ctx); len(got) != 0 || err != nil {
		t.Fatalf("nobody: got %v, %v", got, err)
	}
	if err := js.Announce(ctx, "host.with.dots", stream.Presence{Version: "1", Apps: []string{"shop"}}); err != nil {
		t.Fatal(err)
	}
	got, err := js.Present(ctx)
	if err != nil || len(got) != 1 || got[0].Apps[0] != "shop" {
		t.Fatalf("one worker: got %v, %v", got, err)
	}
	if err := js.Leave(ctx, "host.with.dots"); err != nil {
		t.Fatal(err)
	}
	if got, err := js.Present(ctx); len(got) != 0 || err != nil {
		t.Errorf("after leaving: got %v, %v", got, err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{"shop": true, "My-App_2": true, "": false, "a.b": false, "a b": false, "a*": false, strings.Repeat("x", 65): false} {
		if got := stream.ValidName(name); got != ok {
			t.Errorf("name %q: got valid %v, want %v", name, got, ok)
		}
	}
	if got := stream.SubjectToken("a.b"); !stream.ValidName(got) || got == stream.SubjectToken("a-b") {
		t.Errorf("subject token: got %q", got)
	}
}
