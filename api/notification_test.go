package api_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// outcome is that of a job, all of which was accepted.
func outcome(id string, sequence uint64, accepted ...device.Token) job.JobOutcome {
	at := time.UnixMilli(1_800_000_000_000).UTC()
	return job.JobOutcome{
		ID: id, Sequence: sequence, QueuedAt: at, TakenAt: at.Add(3 * time.Millisecond), SentAt: at.Add(5 * time.Millisecond), Attempt: 1,
		Environment: device.Production, Whole: true, Complete: true, Total: len(accepted), Accepted: accepted,
	}
}

// settled counts outcomes that are at a place in OUTCOMES, as a recorder does.
func (f *fixture) settled(sequence uint64, outcomes ...job.JobOutcome) {
	f.t.Helper()
	for _, jo := range outcomes {
		st := store.Settlement{
			Job: store.JobKey{App: "shop", ID: jo.ID}, Sequence: sequence, Whole: jo.Whole, Complete: jo.Complete, Total: jo.Total, Accepted: jo.Accepted,
		}
		refused := false // such an outcome is about another message
		for i := range jo.Others {
			refused = refused || jo.Others[i].Result == job.Duplicate
			st.Hashes, st.Results = append(st.Hashes, jo.Others[i].Hash()), append(st.Results, jo.Others[i].Result)
		}
		if refused {
			continue
		}
		if _, err := f.set.Settle(f.t.Context(), []store.Settlement{st}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// told stores outcomes in one message, and counts them, as worker and recorder do.
func (f *fixture) told(js *testenv.JetStream, outcomes ...job.JobOutcome) uint64 {
	f.t.Helper()
	sequence := f.published(js, outcomes...)
	f.settled(sequence, outcomes...)
	return sequence
}

// published stores outcomes in one message. It was told 35 ms after its jobs were
// stored.
func (f *fixture) published(js *testenv.JetStream, outcomes ...job.JobOutcome) uint64 {
	f.t.Helper()
	o := job.Outcomes{App: "shop", Worker: "w1", At: time.UnixMilli(1_800_000_000_035), Jobs: outcomes}
	storing, err := js.PublishOutcomes(stream.OutcomesOf{App: "shop"}, fmt.Sprint(time.Now().UnixNano()), o.AppendJSON(nil))
	if err != nil {
		f.t.Fatal(err)
	}
	if err := storing.Wait(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	last, err := js.LastOutcome(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return last
}

func (f *fixture) status(path string) api.Notification {
	f.t.Helper()
	return into[api.Notification](f.t, f.want(http.StatusOK, request{method: http.MethodGet, path: notifications + "/" + path}))
}

// claimed says that a worker has had a job.
func (f *fixture) claimed(id string, sequence uint64) {
	f.t.Helper()
	if _, err := f.set.Guard(f.t.Context(), []store.Claim{{App: "shop", ID: id, Sequence: sequence}}); err != nil {
		f.t.Fatal(err)
	}
}

// brief is a status in short: its state, and each recipient with its result.
func brief(n *api.Notification) string {
	s := n.State
	for _, r := range n.Recipients {
		who := r.User + r.InstallID
		if r.Token != "" {
			raw, _ := hex.DecodeString(r.Token)
			who += "/" + string(raw)
		}
		s += " " + who + "=" + r.Result
	}
	if n.Omitted > 0 {
		s += fmt.Sprint(" and ", n.Omitted)
	}
	return s
}

// raw are device tokens that are easy to read.
func raw(texts ...string) []device.Token {
	var tokens []device.Token
	for _, text := range texts {
		tokens = append(tokens, device.TokenFromRaw(text))
	}
	return tokens
}

// The usual job: settled at once, in a message of OUTCOMES among others.
func TestStatusOfADoneJob(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	jo := outcome("done", 17, raw("t1")...)
	dead := time.UnixMilli(1_799_000_000_000).UTC()
	jo.Others = []job.Recipient{
		{DeviceToken: raw("t2")[0], Result: job.Rejected, Reason: "Unregistered", Status: 410, Timestamp: dead.UnixMilli(), SentAt: jo.SentAt},
		{DeviceToken: raw("t3")[0], Result: job.Suppressed, Reason: "removed 2026-11-01: replaced"},
		{User: "bob", Result: job.Skipped, Reason: "no device"},
		{Install: "i", Result: job.Expired},
	}
	jo.Total = 5
	refused := job.JobOutcome{ID: "done", Sequence: 19, Others: []job.Recipient{{Result: job.Duplicate, Reason: "the id was used before"}}}
	f.told(js, outcome("other", 16, raw("t1")...), jo, outcome("another", 18, raw("t9")...), refused)
	ms := func(n int64) *int64 { return &n }
	told, id := time.UnixMilli(1_800_000_000_035).UTC(), func(token string) string { return job.APNsID("shop", "done", raw(token)[0]).String() }
	want := api.Notification{
		ID: "done", Lane: "transactional", Sequence: 17, State: "done", QueuedAt: &jo.QueuedAt,
		Counts:  map[string]int{"accepted": 1, "rejected": 1, "suppressed": 1, "skipped": 1, "expired": 1},
		Latency: &api.NotificationLatency{Queued: ms(3), Waiting: ms(2), APNs: ms(30)},
		Recipients: []api.NotificationRecipient{
			{Token: "7431", Result: "accepted", Status: 200, APNsID: id("t1"), Attempts: 1, SentAt: &jo.SentAt, SettledAt: &told},
			{Token: "7432", Result: "rejected", Reason: "Unregistered", Status: 410, APNsID: id("t2"), Attempts: 1, SentAt: &jo.SentAt, SettledAt: &told, DeadSince: &dead},
			{Token: "7433", Result: "suppressed", Reason: "removed 2026-11-01: replaced", Attempts: 1, SettledAt: &told},
			{User: "bob", Result: "skipped", Reason: "no device", Attempts: 1, SettledAt: &told},
			{InstallID: "i", Result: "expired", Attempts: 1, SettledAt: &told},
		},
	}
	if got := f.status("done"); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	f.want(http.StatusNotFound, request{method: http.MethodGet, path: notifications + "/done?lane=bulk"})
	f.want(http.StatusOK, request{method: http.MethodGet, path: notifications + "/done", key: f.keyFor("shop", api.ScopeRead)})

	// Of a redriven job, the apns-ids are those of the first one.
	again := outcome("redrive-1", 20, raw("t1")...)
	again.Root = "done"
	f.told(js, again)
	if got := f.status("redrive-1"); len(got.Recipients) != 1 || got.Recipients[0].APNsID != id("t1") {
		t.Errorf("redriven: got %+v, want the apns-id of the first one", got)
	}
	// An older worker tells no times.
	old := outcome("old", 21, raw("t1")...)
	old.TakenAt, old.SentAt = time.Time{}, time.Time{}
	f.told(js, old)
	if got := f.status("old"); got.Latency != nil || got.Recipients[0].APNsID == "" || got.Recipients[0].SentAt != nil {
		t.Errorf("of an older worker: got %+v, want no times and an apns-id", got)
	}
}

// A job's way from the queue to its end, with a retry.
func TestStatusOnTheWay(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	want := func(when, path, want string) api.Notification {
		t.Helper()
		got := f.status(path)
		if text := brief(&got); text != want {
			t.Errorf("%s: got %s, want %s", when, text, want)
		}
		return got
	}
	in := f.handedIn("", `{"id":"a","to":{"tokens":["7431","7432","7433","7434"]},"notification":{"title":"t"}}`)
	at := "a?sequence=" + fmt.Sprint(in.Sequence)
	f.want(http.StatusNotFound, request{method: http.MethodGet, path: notifications + "/a"}) // without its place
	f.want(http.StatusNotFound, request{method: http.MethodGet, path: notifications + "/b?sequence=" + fmt.Sprint(in.Sequence)})
	got := want("queued", at, "queued /t1=waiting /t2=waiting /t3=waiting /t4=waiting")
	if got.QueuedAt == nil || got.Sequence != in.Sequence || got.Recipients[0].APNsID != job.APNsID("shop", "a", raw("t1")[0]).String() {
		t.Errorf("queued: got %+v, want its place, time and apns-ids", got)
	}

	f.claimed("a", in.Sequence)
	want("a worker has it", "a", "in_work /t1=waiting /t2=waiting /t3=waiting /t4=waiting")

	// One is accepted, one a worker has settled and not told, two wait.
	first := outcome("a", in.Sequence, raw("t1")...)
	first.Whole, first.Complete, first.Total = false, false, 0
	f.told(js, first)
	key, hash := store.JobKey{App: "shop", ID: "a"}, func(token string) uint64 { return job.RecipientHash(raw(token)[0]) }
	marked := store.Marked{Hash: hash("t2"), Recipient: job.Recipient{Result: job.Rejected, Reason: "BadDeviceToken", Status: 400}}
	if err := f.set.MarkSettled(t.Context(), []store.Mark{{Job: key, Recipients: []store.Marked{marked}}}); err != nil {
		t.Fatal(err)
	}
	soon, later := f.clock.now().Add(time.Minute), f.clock.now().Add(time.Hour)
	back := store.HandBack{RetryAt: soon, Attempts: 2, Waiting: map[uint64]store.Wait{hash("t3"): {Attempts: 1, RetryAt: later}}}
	if err := f.set.HandBack(t.Context(), key, back); err != nil {
		t.Fatal(err)
	}
	got = want("handed back", "a", "retrying /t1=accepted /t2=rejected /t3=retrying /t4=retrying")
	if got.RetryAt == nil || !got.RetryAt.Equal(soon) || !reflect.DeepEqual(got.Counts, map[string]int{"accepted": 1}) {
		t.Errorf("handed back: got %+v, want it tried again at %s, and one counted", got, soon)
	}
	if r := got.Recipients; r[1].Reason != "BadDeviceToken" || r[1].Status != 400 || r[2].Attempts != 1 || r[2].RetryAt == nil || !r[2].RetryAt.Equal(later) || r[3].Attempts != 2 || r[3].RetryAt != nil {
		t.Errorf("handed back: got %+v, want reasons, tries and times", r)
	}
	f.clock.move(2 * time.Minute)
	want("tried again", "a", "in_work /t1=accepted /t2=rejected /t3=retrying /t4=retrying")

	last := outcome("a", in.Sequence, raw("t3")...)
	last.Whole, last.Total, last.Attempt = false, 4, 3
	last.Others = []job.Recipient{{DeviceToken: raw("t2")[0], Result: job.Rejected}, {DeviceToken: raw("t4")[0], Result: job.Failed, Reason: "no answer", SentAt: last.SentAt}}
	f.told(js, last)
	got = want("done", "a", "done /t1=accepted /t3=accepted /t2=rejected /t4=failed")
	if got.RetryAt != nil || got.Recipients[1].Attempts != 3 || *got.Latency.Queued != 3 {
		t.Errorf("done: got %+v, want the first one's latency and the last one's round", got)
	}
	// Whoever handed it in again asks for another place.
	want("a duplicate's place", "a?sequence=4711", "done /t1=accepted /t3=accepted /t2=rejected /t4=failed")
}

// A job without an id is found by its place, and one with a time of its own says so.
func TestStatusWhileItWaits(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	const body = `{"to":{"tokens":["7431"]},"notification":{"title":"t"},"send_after":"2030-01-01T00:00:00Z"}`
	in := f.handedIn("?lane=bulk", body)
	got := f.status(in.ID + "?lane=bulk")
	if text := brief(&got); text != "queued /t1=waiting" || got.SendAfter == nil || got.SendAfter.Year() != 2030 || got.Lane != "bulk" {
		t.Errorf("got %s, %+v, want it queued until 2030", text, got)
	}
	f.want(http.StatusNotFound, request{method: http.MethodGet, path: notifications + "/" + in.ID}) // the other lane
	named := f.handedIn("?lane=bulk", `{"id":"a",`+body[1:])
	f.want(http.StatusNotFound, request{method: http.MethodGet, path: notifications + "/" + stream.SequenceID(named.Sequence) + "?lane=bulk"})
}

// Of users it is told which of their devices wait.
func TestStatusOfUsers(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	for token, r := range map[string]api.Registration{
		"7431": {User: "ada", InstallID: "i1"}, "7432": {User: "ada"}, "7433": {User: "ada", Kind: "voip"}, "7434": {User: "eve", Kind: "voip"},
	} {
		f.put("/v1/apps/shop/devices/"+token, r)
	}
	in := f.handedIn("", `{"id":"u","to":{"users":["ada","bob","eve"]},"notification":{"title":"t"}}`)
	f.claimed("u", in.Sequence)
	part := outcome("u", in.Sequence, raw("t2")...)
	part.Whole, part.Complete = false, false
	part.Others = []job.Recipient{{User: "bob", Result: job.Skipped, Reason: "no device"}}
	f.told(js, part)
	got := f.status("u")
	if text, want := brief(&got), "in_work /t2=accepted bob=skipped ada/t1=waiting eve=waiting"; text != want {
		t.Errorf("users: got %s, want %s", text, want)
	}
	in = f.handedIn("", `{"id":"i","to":{"installs":["i1","i2"]},"notification":{"title":"t"}}`)
	got = f.status("i?sequence=" + fmt.Sprint(in.Sequence))
	if text, want := brief(&got), "queued i1/t1=waiting i2=waiting"; text != want {
		t.Errorf("installs: got %s, want %s", text, want)
	}
}

// Only the outcome that counts for a recipient is told: not a rejection that was taken
// back, nor what came twice.
func TestStatusTellsWhatCounts(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	want := func(when, want string) {
		t.Helper()
		got := f.status("a")
		if text := brief(&got); text != want {
			t.Errorf("%s: got %s, want %s", when, text, want)
		}
	}
	part := func(accepted ...string) job.JobOutcome {
		jo := outcome("a", 5, raw(accepted...)...)
		jo.Whole, jo.Complete, jo.Total = false, false, 0
		return jo
	}
	rejected := func(token string) []job.Recipient {
		return []job.Recipient{{DeviceToken: raw(token)[0], Result: job.Rejected, Reason: "BadDeviceToken", Status: 400}}
	}
	// The rejection of t1 is held back by a fuse.
	first := part("t2")
	first.Others = rejected("t1")
	at := f.published(js, first)
	first.Others = nil
	f.settled(at, first)
	want("held back", "in_work /t2=accepted")
	// t1 is sent to again. That of t2 is told twice, and the second time otherwise.
	second := part("t1", "t3")
	second.Others, second.Complete, second.Total = rejected("t2"), true, 3
	f.told(js, second)
	want("sent again", "done /t2=accepted /t1=accepted /t3=accepted")
	// After an hour it is not known any more which counts.
	if err := f.redis.Del(t.Context(), "pf:{j:shop/transactional/a}:s").Err(); err != nil {
		t.Fatal(err)
	}
	want("later", "done /t2=accepted /t1=accepted /t3=accepted")

	// What OUTCOMES has not any more is counted.
	f.settled(4711, outcome("gone", 9, raw("t1", "t2")...))
	got := f.status("gone")
	if text := brief(&got); text != "done and 2" || !reflect.DeepEqual(got.Counts, map[string]int{"accepted": 2}) {
		t.Errorf("outcomes that are gone: got %s %v, want 2 accepted", text, got.Counts)
	}
}

// An answer lists ten thousand recipients, and counts the others.
func TestStatusIsBounded(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setupNotifications(t, js, nil)
	for part := range 3 {
		jo := outcome("many", 5)
		jo.Whole, jo.Complete, jo.Total = false, part == 2, 10_500
		for n := range 3500 {
			jo.Accepted = append(jo.Accepted, device.TokenFromRaw(fmt.Sprint(part, "/", n)))
		}
		f.told(js, jo)
	}
	if got := f.status("many"); got.State != "done" || len(got.Recipients) != 10_000 || got.Omitted != 500 || got.Counts["accepted"] != 10_500 {
		t.Errorf("got %s, %d recipients, %d omitted, %v, want 10000 and 500", got.State, len(got.Recipients), got.Omitted, got.Counts)
	}
}

// acknowledging is a queue whose message is acknowledged just when it is asked for.
type acknowledging struct {
	api.Queue
	before func()
}

func (q acknowledging) StoredJob(context.Context, string, job.Lane, uint64) (stream.StoredJob, bool, error) {
	q.before()
	return stream.StoredJob{}, false, nil
}

func TestStatusOfAJobThatIsTakenMeanwhile(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	q := &acknowledging{Queue: js.Streams}
	f := setupNotifications(t, js, q)
	q.before = func() { f.told(js, outcome("a", 5, raw("t1")...)) }
	got := f.status("a?sequence=5")
	if text := brief(&got); text != "done /t1=accepted" {
		t.Errorf("got %s, want it done", text)
	}
	// Acknowledged, and not recorded yet.
	q.before = func() {}
	f.claimed("b", 6)
	got = f.status("b")
	if text := brief(&got); text != "in_work" || got.Sequence != 6 {
		t.Errorf("not recorded: got %s, place %d, want it in work, 6", text, got.Sequence)
	}
}

// forgetful is where nothing can be read of jobs.
type forgetful struct{}

func (forgetful) JobStatus(context.Context, store.JobKey) (store.JobStatus, error) {
	return store.JobStatus{}, errors.New("redis is away")
}

func (forgetful) AppCounts(context.Context) (map[string]store.Counts, error) {
	return nil, errors.New("redis is away")
}

func TestStatusWithoutRedis(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	f := setup(t, func(c *api.Config) {
		c.Queue, c.Fleet, c.Gorush, c.Jobs = js.Streams, js.Streams, &api.Gorush{App: "shop"}, forgetful{}
	})
	a := f.want(http.StatusServiceUnavailable, request{method: http.MethodGet, path: notifications + "/a"})
	if p := into[api.Problem](t, a); p.Code != "unavailable" || a.header.Get("Retry-After") != "5" {
		t.Errorf("got %+v, want unavailable and a time", p)
	}
	if a := f.want(http.StatusServiceUnavailable, request{method: http.MethodGet, path: "/api/stat/app"}); a.header.Get("Retry-After") != "5" {
		t.Errorf("counts: got %s, want a time", a.header)
	}
}
