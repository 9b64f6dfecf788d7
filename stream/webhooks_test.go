package stream_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

func outcomeOn(t *testing.T, js *testenv.JetStream, of stream.OutcomesOf) {
	t.Helper()
	storing, err := js.PublishOutcomes(of, "", []byte("{}"))
	if err == nil {
		err = storing.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	bulk, transactional := stream.OutcomesOf{App: "shop", Lane: job.Bulk}, stream.OutcomesOf{App: "shop", Lane: job.Transactional}
	ofCampaign := stream.OutcomesOf{App: "shop", Lane: job.Bulk, Campaign: "spring", Range: 3}
	outcomeOn(t, js, bulk) // before there is a webhook
	for _, tt := range []struct {
		name  string
		lanes []job.Lane
		want  int
	}{
		{"all", nil, 3},
		{"both", []job.Lane{job.Bulk, job.Transactional}, 3},
		{"bulk", []job.Lane{job.Bulk}, 2},
		{"transactional", []job.Lane{job.Transactional}, 1},
		{"all again", nil, 3},
	} {
		w, err := js.Webhook(ctx, "shop", tt.lanes)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if lag, err := w.Lag(ctx); err != nil || lag != (stream.Lag{}) {
			t.Errorf("%s: got lag %+v, %v, want none", tt.name, lag, err)
		}
		before := time.Now().Add(-time.Second)
		for _, of := range []stream.OutcomesOf{bulk, transactional, ofCampaign, {App: "bank", Lane: job.Bulk}} {
			outcomeOn(t, js, of)
		}
		lag, err := w.Lag(ctx)
		if err != nil || lag.Messages != tt.want || lag.Oldest.Before(before) {
			t.Errorf("%s: got lag %+v, %v, want %d messages since a moment ago", tt.name, lag, err, tt.want)
		}
		messages, err := w.Outcomes.Take(10)
		if err != nil || len(messages) != tt.want {
			t.Errorf("%s: got %d messages, %v, want %d", tt.name, len(messages), err, tt.want)
		}
		for _, m := range messages {
			if err := m.AckWaiting(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := js.Webhook(ctx, "a.b", nil); err == nil {
		t.Error("a name that is none: got nil, want an error")
	}
}

func TestWebhookPosts(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	w, err := js.Webhook(ctx, "shop", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"1", "1", "2"} {
		if err := w.Publish(ctx, id, []byte("body")); err != nil {
			t.Fatal(err)
		}
	}
	bank, err := js.Webhook(ctx, "bank", nil)
	if err != nil {
		t.Fatal(err)
	}
	// The same id of another app is another POST.
	if err := bank.Publish(ctx, "1", []byte("body")); err != nil {
		t.Fatal(err)
	}
	if lag, err := w.Lag(ctx); err != nil || lag.Posts != 2 || lag.Messages != 0 || lag.Oldest.IsZero() {
		t.Errorf("got lag %+v, %v, want two POSTs", lag, err)
	}
	posts, err := w.Posts.Take(10)
	if err != nil || len(posts) != 2 || posts[0].App != "shop" || string(posts[0].Data) != "body" {
		t.Fatalf("got %d POSTs, %v, want two of shop", len(posts), err)
	}
	for _, m := range posts {
		if err := m.AckWaiting(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if lag, err := w.Lag(ctx); err != nil || lag.Posts != 0 {
		t.Errorf("got lag %+v, %v, want none", lag, err)
	}
	if lag, err := bank.Lag(ctx); err != nil || lag.Posts != 1 {
		t.Errorf("of another app: got lag %+v, %v, want its one", lag, err)
	}
}

// A POST of the largest size fits, also as a dead letter, and goes back from there.
func TestWebhookLetter(t *testing.T) {
	t.Parallel()
	m := newMorgue(t, testenv.NewJetStream(t))
	ctx := t.Context()
	w, err := m.js.Webhook(ctx, "shop", nil)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, w.MaxBody())
	if err := w.Publish(ctx, "1", body); err != nil {
		t.Fatal(err)
	}
	take := func() *stream.Message {
		t.Helper()
		posts, err := w.Posts.Take(1)
		if err != nil || len(posts) != 1 {
			t.Fatalf("got %d POSTs, %v, want one", len(posts), err)
		}
		return posts[0]
	}
	post := take()
	if err := m.js.Bury(ctx, post, stream.Letter{Reason: "webhook: not taken", Recipients: 7, Last: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := post.AckWaiting(ctx); err != nil {
		t.Fatal(err)
	}
	l := m.letter(1)
	app, lane := l.Target()
	if !l.IsPost() || l.Cut != "" || l.Bytes != len(body) || l.Recipients != 7 || app != "shop" || lane != "" || l.Refusal(time.Now()) != "" {
		t.Errorf("got letter %+v to %q, %q", l.Header, app, lane)
	}
	for n, again := range []bool{false, true} { // the second one is dropped
		done, err := m.Redrive(ctx, l)
		if err != nil || done.Again != again {
			t.Errorf("redriven %d times: got %+v, %v", n+1, done, err)
		}
	}
	if back := take(); len(back.Data) != len(body) || back.App != "shop" {
		t.Errorf("redriven: got %d bytes for %s", len(back.Data), back.App)
	}
}

// Where there is no room for the queue, it is said; nothing else suffers.
func TestWebhookWithoutRoom(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStreamOf(t, embedded.NATSConfig{MaxStore: 1<<30 + 300<<20}, stream.Config{JobsBytes: 1 << 30, OutcomesBytes: 64 << 20, DevicesBytes: 16 << 20, DeadBytes: 16 << 20, CampaignsBytes: 16 << 20})
	if _, err := js.Webhook(t.Context(), "shop", nil); err == nil {
		t.Error("got nil, want an error")
	}
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Stream(context.Background(), stream.Webhooks); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("the queue: got %v, want none", err)
	}
}
