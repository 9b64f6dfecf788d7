package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// parsed parses a job and publishes it as it came.
func parsed(t *testing.T, js *testenv.JetStream, body string) stream.Published {
	t.Helper()
	j, err := job.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	p, err := js.PublishParsed(t.Context(), "shop", job.Bulk, j, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPublishParsed(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := api.Stream(t.Context(), stream.Jobs)
	if err != nil {
		t.Fatal(err)
	}
	stored := func(sequence uint64) *jetstream.RawStreamMsg {
		t.Helper()
		msg, err := jobs.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	const body = `{ "id": "a/1", "to": {"users": ["ada"]}, "notification": {"title": "\u00e9"} }`
	first := parsed(t, js, body)
	if msg := stored(first.Sequence); string(msg.Data) != body || msg.Header.Get(nats.MsgIdHdr) != "shop/bulk/a/1" || msg.Subject != "push.jobs.shop.bulk" {
		t.Errorf("got %s %v %s, want it as it came", msg.Subject, msg.Header, msg.Data)
	}
	if again := parsed(t, js, body); !again.Duplicate || again.Sequence != first.Sequence || again.ID != "a/1" {
		t.Errorf("again: got %+v, want the first one's place", again)
	}
	if none := parsed(t, js, `{"to":{"users":["ada"]},"notification":{"title":"t"}}`); none.ID != stream.SequenceID(none.Sequence) {
		t.Errorf("without an id: got %+v, want it named after its place", none)
	}

	var j job.Job
	j.ID, j.Notification = "long", &job.Notification{Title: "t"}
	for n := range 17 {
		j.To.Tokens = append(j.To.Tokens, device.TokenFromRaw(fmt.Sprint("token number ", n)))
	}
	text, err := json.Marshal(&j)
	if err != nil {
		t.Fatal(err)
	}
	msg := stored(parsed(t, js, string(text)).Sequence)
	if got, err := job.Parse(msg.Data); len(msg.Data) >= len(text)*2/3 || err != nil || !reflect.DeepEqual(got, &j) {
		t.Errorf("a long list: got %d bytes of %d, %v, want the same job in fewer", len(msg.Data), len(text), err)
	}

	// An id that is not in the body.
	p, err := js.PublishParsed(t.Context(), "shop", job.Bulk, &job.Job{ID: "given", To: job.Recipients{Users: []string{"u"}}, Notification: j.Notification}, nil)
	if err != nil {
		t.Fatal(err)
	}
	given, err := p.Wait(t.Context())
	if err != nil || !strings.Contains(string(stored(given.Sequence).Data), `"id":"given"`) {
		t.Errorf("without a body: got %+v, %v, want the id in what is stored", given, err)
	}
}

func TestPublishParsedRefuses(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStreamOf(t, embedded.NATSConfig{MaxPayload: 32 << 10}, stream.Config{JobsBytes: 1 << 30, OutcomesBytes: 1 << 30})
	j := &job.Job{Notification: &job.Notification{Title: "t"}}
	for n := range 1000 {
		j.To.Users = append(j.To.Users, fmt.Sprintf("a user with a number that is not short %d", n))
	}
	if _, err := js.PublishParsed(t.Context(), "shop", job.Bulk, j, nil); !errors.Is(err, stream.ErrTooLarge) {
		t.Errorf("40 KB: got %v, want %v", err, stream.ErrTooLarge)
	}

	// Somebody takes what is published and does not answer.
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	if err := api.DeleteStream(t.Context(), stream.Jobs); err != nil {
		t.Fatal(err)
	}
	if _, err := js.NC.Subscribe("push.jobs.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	j.To.Users = j.To.Users[:1]
	for n := range 5000 {
		start := time.Now()
		p, err := js.PublishParsed(t.Context(), "shop", job.Bulk, j, nil)
		if n == 0 {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(errors.New("gone"))
			if _, err := p.Wait(ctx); err == nil || !strings.Contains(err.Error(), "gone") {
				t.Errorf("wait: got %v, want it to end with its context", err)
			}
		}
		if err == nil {
			continue
		}
		if took := time.Since(start); !errors.Is(err, stream.ErrBusy) || n < 4000 || took > 5*time.Second {
			t.Errorf("publish %d: got %v after %s, want %v at once, after some thousands", n, err, took, stream.ErrBusy)
		}
		return
	}
	t.Error("got no end, want one to what is outstanding")
}

func TestStoredJob(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	before := time.Now()
	named := parsed(t, js, `{"id":"a","to":{"users":["ada"]},"notification":{"title":"t"}}`)
	nameless := parsed(t, js, `{"to":{"users":["ada"]},"notification":{"title":"t"}}`)
	redriven := nats.NewMsg("push.jobs.shop.bulk")
	redriven.Data = []byte(`{"id":"a","to":{"users":["ada"]},"notification":{"title":"t"}}`)
	redriven.Header.Set(stream.HeaderID, "redrive-1")
	broken := nats.NewMsg("push.jobs.shop.bulk")
	broken.Data = []byte("{")
	for _, msg := range []*nats.Msg{redriven, broken} {
		if err := js.NC.PublishMsg(msg); err != nil {
			t.Fatal(err)
		}
	}
	if err := js.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		app      string
		lane     job.Lane
		sequence uint64
		id, root string // empty: none
	}{
		{"named", "shop", job.Bulk, named.Sequence, "a", "a"},
		{"nameless", "shop", job.Bulk, nameless.Sequence, nameless.ID, nameless.ID},
		{"redriven", "shop", job.Bulk, nameless.Sequence + 1, "redrive-1", "a"},
		{"broken", "shop", job.Bulk, nameless.Sequence + 2, "", ""},
		{"another app's", "news", job.Bulk, named.Sequence, "", ""},
		{"another lane's", "shop", job.Transactional, named.Sequence, "", ""},
		{"not there", "shop", job.Bulk, 4711, "", ""},
	} {
		got, ok, err := js.StoredJob(t.Context(), tt.app, tt.lane, tt.sequence)
		if err != nil || ok != (tt.id != "") || got.ID != tt.id || got.Root != tt.root {
			t.Errorf("%s: got %+v, %v, %v, want %q of root %q", tt.name, got, ok, err, tt.id, tt.root)
		}
		if ok && (got.Sequence != tt.sequence || got.StoredAt.Before(before.Add(-time.Second)) || got.Job.To.Users[0] != "ada") {
			t.Errorf("%s: got %+v, want its place, time and recipients", tt.name, got)
		}
	}
	// A replica that is behind would not have had it.
	for _, sequence := range []uint64{named.Sequence, nameless.Sequence + 1} {
		direct, err := js.StoredDirect(t.Context(), stream.Jobs, sequence)
		if err != nil {
			t.Fatal(err)
		}
		got, err := js.StoredAtLeader(t.Context(), stream.Jobs, sequence)
		if err != nil || string(got.Data) != string(direct.Data) || got.Header.Get(stream.HeaderID) != direct.Header.Get(stream.HeaderID) ||
			got.Subject != direct.Subject || !got.Time.Equal(direct.Time) || got.Sequence != direct.Sequence {
			t.Errorf("at the leader: got %+v, %v, want %+v", got, err, direct)
		}
	}
	if _, err := js.StoredAtLeader(t.Context(), "NONE", 1); err == nil || errors.Is(err, jetstream.ErrMsgNotFound) {
		t.Errorf("a stream that is not there: got %v, want an error that says so", err)
	}
}

func TestStoredOutcomes(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	want := &job.Outcomes{App: "shop", Worker: "w", Jobs: []job.JobOutcome{{ID: "a", Sequence: 3}}}
	for i, body := range [][]byte{want.AppendJSON(nil), []byte(`{"v":2}`)} {
		storing, err := js.PublishOutcomes(stream.OutcomesOf{App: "shop"}, fmt.Sprint(i), body)
		if err != nil {
			t.Fatal(err)
		}
		if err := storing.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got, ok, err := js.StoredOutcomes(t.Context(), 1); err != nil || !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, %v, want %+v", got, ok, err, want)
	}
	for _, sequence := range []uint64{2, 3} { // of a version that is not known; none
		if got, ok, err := js.StoredOutcomes(t.Context(), sequence); err != nil || ok {
			t.Errorf("%d: got %+v, %v, %v, want none", sequence, got, ok, err)
		}
	}
}
