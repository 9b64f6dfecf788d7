package stream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// newCampaign is a campaign that nobody has stored yet.
func newCampaign(app, id string) campaign.Status {
	return campaign.Status{
		App: app, ID: id, State: campaign.Scheduled, Tags: []string{"a"},
		Definition: json.RawMessage(fmt.Sprintf(`{"id":%q,"title":"a < b & é"}`, id)),
		CreatedAt:  time.UnixMilli(1_800_000_000_000).UTC(), StartAt: time.UnixMilli(1_800_000_001_000).UTC(),
	}
}

func create(t *testing.T, s *stream.Streams, st campaign.Status) campaign.Status {
	t.Helper()
	got, created, err := s.CreateCampaign(t.Context(), st)
	if err != nil || !created || got.Revision == 0 {
		t.Fatalf("create campaign %s: got %+v, created %t, %v, want it created", st.ID, got, created, err)
	}
	return got
}

func TestCreateCampaign(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	for _, id := range []string{"spring", "spring sale 2027/ü"} {
		want := newCampaign("shop", id)
		if _, err := js.Campaign(ctx, "shop", id); !errors.Is(err, stream.ErrNoCampaign) {
			t.Errorf("%s: before: got %v, want %v", id, err, stream.ErrNoCampaign)
		}
		made := create(t, js.Streams, want)
		want.Revision = made.Revision
		if got, err := js.Campaign(ctx, "shop", id); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read:\ngot  %+v, %v\nwant %+v", id, got, err, want)
		}
		// Another app's is another one.
		create(t, js.Streams, newCampaign("news", id))

		// The same again, written in another way and later: it is as it is now.
		changed, err := js.ChangeCampaign(ctx, "shop", id, func(st *campaign.Status) error { return st.Pause(time.UnixMilli(5).UTC()) })
		if err != nil {
			t.Fatal(err)
		}
		again := newCampaign("shop", id)
		again.CreatedAt, again.Definition = time.UnixMilli(7), json.RawMessage(strings.ReplaceAll(string(again.Definition), ",", ",\n "))
		if got, created, err := js.CreateCampaign(ctx, again); err != nil || created || !reflect.DeepEqual(got, changed) {
			t.Errorf("%s: again:\ngot  %+v, created %t, %v\nwant %+v, not created", id, got, created, err, changed)
		}
		other := newCampaign("shop", id)
		other.Definition = json.RawMessage(`{"id":"x","title":"another"}`)
		if got, created, err := js.CreateCampaign(ctx, other); !errors.Is(err, stream.ErrCampaignExists) || created {
			t.Errorf("%s: another one: got %+v, created %t, %v, want %v", id, got, created, err, stream.ErrCampaignExists)
		}
	}
	// Whoever takes the key of another id does not get at that one.
	hashed := stream.SubjectToken("spring sale 2027/ü")
	if _, err := js.Campaign(ctx, "shop", hashed); !errors.Is(err, stream.ErrNoCampaign) {
		t.Errorf("by the key of another: got %v, want %v", err, stream.ErrNoCampaign)
	}
	if _, _, err := js.CreateCampaign(ctx, newCampaign("shop", hashed)); !errors.Is(err, stream.ErrCampaignExists) {
		t.Errorf("create in the place of another: got %v, want %v", err, stream.ErrCampaignExists)
	}
	for _, bad := range [][2]string{{"*", "spring"}, {"", "spring"}, {"shop.de", "x"}, {"shop", ""}} {
		if _, err := js.Campaign(ctx, bad[0], bad[1]); err == nil || errors.Is(err, stream.ErrNoCampaign) {
			t.Errorf("app %q, id %q: got %v, want it refused", bad[0], bad[1], err)
		}
	}
	if _, err := js.Campaigns(ctx, "*"); err == nil {
		t.Error("list of app *: got no error")
	}
}

// Of many that create the same campaign at once, one does.
func TestCreateCampaignAtOnce(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	const n = 8
	type answer struct {
		created bool
		err     error
	}
	answers := make(chan answer)
	for range n {
		go func() {
			_, created, err := js.CreateCampaign(context.Background(), newCampaign("shop", "spring"))
			answers <- answer{created, err}
		}()
	}
	created := 0
	for range n {
		a := <-answers
		if a.err != nil {
			t.Errorf("create: %v", a.err)
		}
		if a.created {
			created++
		}
	}
	if created != 1 {
		t.Errorf("created: got %d times, want once", created)
	}
}

func TestCampaigns(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	for i, id := range []string{"b", "c", "a"} {
		st := newCampaign("shop", id)
		st.CreatedAt = st.CreatedAt.Add(time.Duration(i/2) * time.Second) // a is the newest, b and c are as old
		create(t, js.Streams, st)
	}
	old := newCampaign("news", "z")
	old.CreatedAt = old.CreatedAt.Add(-time.Hour)
	create(t, js.Streams, old)
	// What cannot be read is no reason to show nothing.
	kv := campaignsBucket(t, js)
	for key, value := range map[string]string{"shop.bad": "{", "shop.other": `{"id":"b"}`, "shop.x.y": `{"id":"x"}`} {
		if _, err := kv.Put(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for app, want := range map[string]string{"shop": "shop/a shop/b shop/c", "news": "news/z", "": "shop/a shop/b shop/c news/z", "none": ""} {
		list, err := js.Campaigns(t.Context(), app)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, st := range list {
			names = append(names, st.App+"/"+st.ID)
			if st.Revision == 0 || st.State != campaign.Scheduled {
				t.Errorf("%s: got %+v, want it whole", st.ID, st)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("campaigns of %q: got %s, want %s", app, got, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := js.Campaigns(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: got %v, want %v", err, context.Canceled)
	}
}

func campaignsBucket(t *testing.T, js *testenv.JetStream) jetstream.KeyValue {
	t.Helper()
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := api.KeyValue(t.Context(), "pushfleet-campaigns")
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func TestChangeCampaign(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	if _, err := js.ChangeCampaign(ctx, "shop", "none", func(*campaign.Status) error { return nil }); !errors.Is(err, stream.ErrNoCampaign) {
		t.Errorf("of none: got %v, want %v", err, stream.ErrNoCampaign)
	}
	made := create(t, js.Streams, newCampaign("shop", "spring"))
	// Many count at once: no change is lost.
	const workers, each = 4, 10
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range each {
				if _, err := js.ChangeCampaign(ctx, "shop", "spring", func(st *campaign.Status) error {
					st.Ranges++
					return nil
				}); err != nil {
					t.Errorf("change: %v", err)
				}
			}
		})
	}
	all.Wait()
	got, err := js.Campaign(ctx, "shop", "spring")
	if err != nil || got.Ranges != workers*each || got.Revision <= made.Revision {
		t.Errorf("after %d changes: got %+v, %v", workers*each, got, err)
	}
	// Nothing is written where nothing changed, and an error ends it.
	same, err := js.ChangeCampaign(ctx, "shop", "spring", func(st *campaign.Status) error {
		st.App, st.ID, st.Revision = "x", "y", 1
		return st.Resume(time.Now())
	})
	if err != nil || !reflect.DeepEqual(same, got) {
		t.Errorf("no change:\ngot  %+v, %v\nwant %+v", same, err, got)
	}
	refused := errors.New("refused")
	kept, err := js.ChangeCampaign(ctx, "shop", "spring", func(st *campaign.Status) error {
		st.State, st.Tags[0] = campaign.Done, "changed"
		return refused
	})
	if !errors.Is(err, refused) || !reflect.DeepEqual(kept, got) {
		t.Errorf("refused:\ngot  %+v, %v\nwant %+v, %v", kept, err, got, refused)
	}
	if last, err := js.CampaignsRevision(ctx); err != nil || last != got.Revision {
		t.Errorf("revision: got %d, %v, want %d", last, err, got.Revision)
	}
}

// told is what a watch has told.
type told struct {
	st    campaign.Status
	seen  uint64
	ready bool
}

func watch(t *testing.T, js *testenv.JetStream) (tell <-chan told, stop func()) {
	t.Helper()
	all := make(chan told, 64)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- js.WatchCampaigns(ctx, func(st campaign.Status, seen uint64) {
			all <- told{st: st, seen: seen}
		}, func(seen uint64) { all <- told{ready: true, seen: seen} })
	}()
	return all, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("watch: got %v, want nil", err)
		}
	}
}

func next(t *testing.T, tell <-chan told) told {
	t.Helper()
	select {
	case got := <-tell:
		return got
	case <-time.After(10 * time.Second):
		t.Fatal("watch: got nothing in 10s")
		return told{}
	}
}

func TestWatchCampaigns(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	tell, stop := watch(t, js)
	if got := next(t, tell); !got.ready || got.seen != 0 {
		t.Errorf("of no campaigns: got %+v, want that it is ready", got)
	}
	spring := create(t, js.Streams, newCampaign("shop", "spring sale"))
	if got := next(t, tell); !reflect.DeepEqual(got, told{st: spring, seen: spring.Revision}) {
		t.Errorf("created:\ngot  %+v\nwant %+v", got, spring)
	}
	over, err := js.ChangeCampaign(ctx, "shop", "spring sale", func(st *campaign.Status) error {
		st.Closed = true
		return st.Cancel(time.UnixMilli(9).UTC())
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := next(t, tell); !reflect.DeepEqual(got, told{st: over, seen: over.Revision}) {
		t.Errorf("changed:\ngot  %+v\nwant %+v", got, over)
	}
	create(t, js.Streams, newCampaign("news", "spring sale"))
	next(t, tell)
	if err := js.DeleteCampaign(ctx, "shop", "spring sale"); err != nil {
		t.Fatal(err)
	}
	last, err := js.CampaignsRevision(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := next(t, tell), (told{st: campaign.Status{App: "shop", ID: "spring sale"}, seen: last}); !reflect.DeepEqual(got, want) {
		t.Errorf("deleted:\ngot  %+v\nwant %+v", got, want)
	}
	stop()

	// Whoever comes later is up to date too, and does not hear of what is gone.
	tell, stop = watch(t, js)
	defer stop()
	if got := next(t, tell); got.st.App != "news" {
		t.Errorf("later: got %+v, want news", got)
	}
	if got := next(t, tell); !got.ready || got.seen != last {
		t.Errorf("later: got %+v, want ready at %d", got, last)
	}
}

// More campaigns than a watch buffers, and nobody who takes them: it ends all the same.
func TestWatchCampaignsEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	kv := campaignsBucket(t, js)
	for n := range 600 {
		if _, err := kv.Put(t.Context(), fmt.Sprintf("shop.c%d", n), fmt.Appendf(nil, `{"id":"c%d"}`, n)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	err := js.WatchCampaigns(ctx, func(campaign.Status, uint64) {
		n++
		cancel()
	}, func(uint64) { t.Error("ready: got it though the watch was ended before") })
	if err != nil || n == 0 {
		t.Errorf("got %v after %d campaigns, want nil", err, n)
	}
}

func TestDeleteCampaign(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	create(t, js.Streams, newCampaign("shop", "spring"))
	for _, step := range []struct {
		name string
		then func(*campaign.Status) error
	}{
		{"of one that has not ended", func(st *campaign.Status) error { return st.Cancel(time.Now()) }},
		{"of one that is not closed", func(st *campaign.Status) error {
			st.Closed = true
			return nil
		}},
	} {
		if err := js.DeleteCampaign(ctx, "shop", "spring"); !errors.Is(err, campaign.ErrState) {
			t.Errorf("%s: got %v, want %v", step.name, err, campaign.ErrState)
		}
		if _, err := js.ChangeCampaign(ctx, "shop", "spring", step.then); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := js.DeleteCampaign(ctx, "shop", "spring"); err != nil {
			t.Errorf("delete: %v", err)
		}
		if _, err := js.Campaign(ctx, "shop", "spring"); !errors.Is(err, stream.ErrNoCampaign) {
			t.Errorf("after it: got %v, want %v", err, stream.ErrNoCampaign)
		}
	}
	if list, err := js.Campaigns(ctx, ""); len(list) != 0 || err != nil {
		t.Errorf("list after it: got %v, %v, want none", list, err)
	}
	// What is left goes by itself.
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	st, err := api.Stream(ctx, "KV_pushfleet-campaigns")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := st.GetLastMsgForSubject(ctx, "$KV.pushfleet-campaigns.shop.spring")
	if err != nil || msg.Header.Get(jetstream.MsgTTLHeader) != (90*24*time.Hour).String() {
		t.Errorf("what is left: got %v, %v, want it to go after 90 days", msg, err)
	}
	// Until then the id is not free, also not for the same campaign: a request that
	// comes once more must not send all of it again.
	if _, created, err := js.CreateCampaign(ctx, newCampaign("shop", "spring")); created || !errors.Is(err, stream.ErrCampaignExists) {
		t.Errorf("again: got created %t, %v, want %v", created, err, stream.ErrCampaignExists)
	}
	if err := st.Purge(ctx, jetstream.WithPurgeSubject("$KV.pushfleet-campaigns.shop.spring")); err != nil {
		t.Fatal(err)
	}
	create(t, js.Streams, newCampaign("shop", "spring"))
}

// A full bucket takes no more campaigns, and those that there are can be stopped.
func TestFullBucketOfCampaigns(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStreamOf(t, embedded.NATSConfig{}, stream.Config{JobsBytes: 1 << 20, OutcomesBytes: 1 << 20, CampaignsBytes: 64 << 10})
	var ids []string
	for {
		st := newCampaign("shop", fmt.Sprint("c", len(ids)))
		st.Definition = json.RawMessage(`{"x":"` + strings.Repeat("x", 1000) + `"}`)
		_, _, err := js.CreateCampaign(t.Context(), st)
		if errors.Is(err, stream.ErrFull) {
			break
		}
		if err != nil || len(ids) > 64 {
			t.Fatalf("campaign %d: got %v, want %v at last", len(ids), err, stream.ErrFull)
		}
		ids = append(ids, st.ID)
	}
	if len(ids) < 30 {
		t.Errorf("got %d campaigns into 64 KiB, want 30 at least", len(ids))
	}
	for _, id := range ids {
		if _, err := js.ChangeCampaign(t.Context(), "shop", id, func(st *campaign.Status) error {
			st.Closed = true
			return st.Cancel(time.Now())
		}); err != nil {
			t.Errorf("cancel: %v", err)
		}
	}
	// To create one that exists is no question of room.
	st := newCampaign("shop", ids[0])
	st.Definition = json.RawMessage(`{"x":"` + strings.Repeat("x", 1000) + `"}`)
	if _, created, err := js.CreateCampaign(t.Context(), st); created || err != nil {
		t.Errorf("one that exists: got created %t, %v", created, err)
	}
	for _, id := range ids {
		if err := js.DeleteCampaign(t.Context(), "shop", id); err != nil {
			t.Fatal(err)
		}
	}
	create(t, js.Streams, newCampaign("shop", "after"))
}

func ranges(id string, from, to int) []campaign.Range {
	var list []campaign.Range
	for n := from; n < to; n++ {
		list = append(list, campaign.Range{Campaign: id, Number: n, Devices: 10, Of: 64, From: n, To: n + 1})
	}
	return list
}

func take(t *testing.T, c *stream.Consumer, n int) []*stream.Message {
	t.Helper()
	var messages []*stream.Message
	for len(messages) < n {
		got, err := c.Take(n)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			m, err := c.Wait(5 * time.Second)
			if err != nil || m == nil {
				t.Fatalf("take: got %d of %d messages, then %v, %v", len(messages), n, m, err)
			}
			got = append(got, m)
		}
		messages = append(messages, got...)
	}
	return messages
}

func TestRanges(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	const id = "spring sale"
	for range 2 { // who does not know what became of a block publishes it again
		if err := js.PublishRanges(ctx, "shop", ranges(id, 0, 20)); err != nil {
			t.Fatal(err)
		}
	}
	// Neither another campaign nor another app has the same numbers.
	for _, other := range [][2]string{{"shop", "spring"}, {"news", id}} {
		if err := js.PublishRanges(ctx, other[0], ranges(other[1], 0, 3)); err != nil {
			t.Fatal(err)
		}
	}
	waiting, err := js.RangeSubjects(ctx)
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]uint64)
	for _, w := range waiting {
		counts[w.App+"/"+w.Campaign] = w.Messages
	}
	token := stream.SubjectToken(id)
	if want := map[string]uint64{"shop/" + token: 20, "shop/spring": 3, "news/" + token: 3}; !reflect.DeepEqual(counts, want) {
		t.Errorf("range subjects: got %v, want %v", counts, want)
	}
	if jobs, err := js.JobSubjects(ctx); len(jobs) != 0 || err != nil {
		t.Errorf("job subjects: got %v, %v, want none: ranges are no jobs", jobs, err)
	}

	c, err := js.RangesConsumer(ctx, "shop", id)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range take(t, c, 20) {
		var r campaign.Range
		if err := json.Unmarshal(m.Data, &r); err != nil {
			t.Fatal(err)
		}
		if want := ranges(id, i, i+1)[0]; !reflect.DeepEqual(r, want) {
			t.Errorf("range %d: got %+v, want %+v", i, r, want)
		}
		if m.App != "shop" || m.Campaign != token || m.Lane != job.Bulk || m.LaneName != "" || m.Header(stream.HeaderCampaign) != id {
			t.Errorf("range %d: got app %q, campaign %q, lane %s %q, header %q", i, m.App, m.Campaign, m.Lane, m.LaneName, m.Header(stream.HeaderCampaign))
		}
		if i < 15 {
			if err := m.AckWaiting(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}

	// Dropped: what waits, what is unacknowledged, and nothing else.
	for range 2 {
		if err := js.DropRanges(ctx, "shop", id); err != nil {
			t.Errorf("drop: %v", err)
		}
	}
	if waiting, err = js.RangeSubjects(ctx); err != nil || len(waiting) != 2 {
		t.Errorf("after drop: got %+v, %v, want the two others", waiting, err)
	}
	if names := durables(t, js, stream.Jobs); len(names) != 0 {
		t.Errorf("consumers after drop: got %q, want none", names)
	}
	for _, app := range []string{"*", "", ">"} {
		for what, err := range map[string]error{
			"drop":    js.DropRanges(ctx, app, id),
			"publish": js.PublishRanges(ctx, app, ranges(id, 0, 1)), "outcomes": js.RangeOutcomes(ctx, app, id, 1, nil),
		} {
			if err == nil {
				t.Errorf("%s of app %q: got no error", what, app)
			}
		}
		if _, err := js.RangesConsumer(ctx, app, id); err == nil {
			t.Errorf("consumer of app %q: got no error", app)
		}
	}
}

func durables(t *testing.T, js *testenv.JetStream, name string) []string {
	t.Helper()
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	st, err := api.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	list := st.ConsumerNames(t.Context())
	for n := range list.Name() {
		names = append(names, n)
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// Names are joined to names of consumers: none may be that of another.
func TestRangesConsumersAreApart(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	type consumer struct{ app, campaign string }
	all := make(map[consumer]*stream.Consumer)
	for _, c := range []consumer{{"a-b", "c"}, {"a", "b-c"}, {"x", "bulk"}, {"c", "x-bulk"}} {
		made, err := js.RangesConsumer(ctx, c.app, c.campaign)
		if err != nil {
			t.Fatal(err)
		}
		all[c] = made
	}
	for _, app := range []string{"c-x", "c=x", "c-a-b"} {
		if _, err := js.LaneConsumer(ctx, app, job.Bulk); err != nil {
			t.Fatal(err)
		}
	}
	for c, made := range all {
		if err := js.PublishRanges(ctx, c.app, ranges(c.campaign, 0, 1)); err != nil {
			t.Fatal(err)
		}
		if m := take(t, made, 1)[0]; m.Subject != stream.RangesSubject(c.app, c.campaign) {
			t.Errorf("%+v: got a message of %s", c, m.Subject)
		}
	}
}

func TestFullJobsRefuseRanges(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStreamOf(t, embedded.NATSConfig{}, stream.Config{JobsBytes: 64 << 10, OutcomesBytes: 1 << 20})
	// One stream reserves and refuses: the ranges beyond are told.
	if err := js.PublishRanges(t.Context(), "shop", ranges("spring", 0, 2000)); !errors.Is(err, stream.ErrFull) {
		t.Errorf("got %v, want %v", err, stream.ErrFull)
	}
}

func TestCampaignRequests(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	c, err := js.CampaignRequests(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.NC.Publish(stream.CampaignsSubject("ghost"), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	m := take(t, c, 1)[0]
	if m.App != "ghost" || m.LaneName != "" || m.Campaign != "" || string(m.Data) != "{}" {
		t.Errorf("got %+v, want a request of ghost", m)
	}
	// It is given up like any other message, and tells that it is not sent again.
	if err := js.Bury(ctx, m, stream.Letter{Reason: "unknown app", Last: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := js.PublishRanges(ctx, "ghost", ranges("spring", 0, 1)); err != nil {
		t.Fatal(err)
	}
	if c, err = js.StrayConsumer(ctx, []string{stream.RangesSubject("ghost", "spring")}); err != nil {
		t.Fatal(err)
	}
	if err := js.Bury(ctx, take(t, c, 1)[0], stream.Letter{Reason: "unknown campaign", Last: time.Now()}); err != nil {
		t.Fatal(err)
	}
	dead, err := js.DeadLetters(ctx)
	if err != nil {
		t.Fatal(err)
	}
	page, _, err := dead.Page(ctx, &stream.DeadFilter{App: "ghost"}, 0, 10)
	if err != nil || len(page) != 2 {
		t.Fatalf("dead letters: got %+v, %v, want two", page, err)
	}
	for i, want := range []string{"create it again", "range of a campaign"} {
		if got := page[i].Refusal(time.Now()); !strings.Contains(got, want) {
			t.Errorf("letter %d: got refusal %q, want one with %q", i, got, want)
		}
	}
	if page[1].Campaign != "spring" {
		t.Errorf("campaign of the letter: got %q, want spring", page[1].Campaign)
	}
}

func TestRangeOutcomes(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	const id = "spring sale"
	publish := func(of stream.OutcomesOf, text string) {
		t.Helper()
		storing, err := js.PublishOutcomes(of, text, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := storing.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	read := func(n int) (texts []string, last uint64) {
		t.Helper()
		if err := js.RangeOutcomes(ctx, "shop", id, n, func(seq uint64, data []byte) error {
			if seq <= last {
				t.Errorf("got %d after %d", seq, last)
			}
			texts, last = append(texts, string(data)), seq
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return texts, last
	}
	if got, _ := read(1); len(got) != 0 {
		t.Errorf("before: got %q, want none", got)
	}
	var want []string
	for i := range 200 {
		publish(stream.OutcomesOf{App: "shop", Campaign: id, Range: 1}, fmt.Sprint("one ", i))
		publish(stream.OutcomesOf{App: "shop", Campaign: id, Range: 10}, fmt.Sprint("ten ", i))
		want = append(want, fmt.Sprint("one ", i))
	}
	publish(stream.OutcomesOf{App: "shop", Campaign: "other", Range: 1}, "other campaign")
	publish(stream.OutcomesOf{App: "news", Campaign: id, Range: 1}, "other app")
	publish(stream.OutcomesOf{App: "shop", Lane: job.Bulk, Range: 1}, "job")
	if got, _ := read(1); !slices.Equal(got, want) {
		t.Errorf("range 1: got %q, want 200", got)
	}
	ended := errors.New("ended")
	if err := js.RangeOutcomes(ctx, "shop", id, 10, func(uint64, []byte) error { return ended }); !errors.Is(err, ended) {
		t.Errorf("got %v, want %v", err, ended)
	}
	if last, err := js.LastOutcome(ctx); err != nil || last != 403 {
		t.Errorf("last outcome: got %d, %v, want 403: all in one stream", last, err)
	}
}

func TestNewCampaign(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	now := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	c, err := campaign.Parse([]byte(`{"id":"spring","audience":{"all":true},"notification":{"body":"b"},"start_at":"2026-11-24T09:00:00Z"}`))
	if err != nil {
		t.Fatal(err)
	}
	var invalid *job.Invalid
	if _, _, err := js.NewCampaign(ctx, "shop", c, now.Add(2*time.Hour)); !errors.As(err, &invalid) || !strings.Contains(err.Error(), "start_at") {
		t.Errorf("when its start is over: got %v, want start_at refused", err)
	}
	if _, _, err := js.NewCampaign(ctx, "shop", &campaign.Campaign{ID: "x"}, now); !errors.As(err, &invalid) {
		t.Errorf("invalid: got %v, want a *job.Invalid", err)
	}
	made, created, err := js.NewCampaign(ctx, "shop", c, now)
	if err != nil || !created || made.State != campaign.Scheduled || !made.StartAt.Equal(now.Add(time.Hour)) {
		t.Fatalf("got %+v, created %t, %v, want it scheduled", made, created, err)
	}
	// Who asks again does so later.
	again, created, err := js.NewCampaign(ctx, "shop", c, now.Add(2*time.Hour))
	if err != nil || created || !reflect.DeepEqual(again, made) {
		t.Errorf("again:\ngot  %+v, created %t, %v\nwant %+v", again, created, err, made)
	}
	c.Rate = 7
	if _, _, err := js.NewCampaign(ctx, "shop", c, now); !errors.Is(err, stream.ErrCampaignExists) {
		t.Errorf("of other content: got %v, want %v", err, stream.ErrCampaignExists)
	}
}

// A campaign that changes while all are listed is in the list: what was listed before its
// change and what came after are one picture.
func TestListOfCampaignsThatChange(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	ctx := t.Context()
	ids := []string{"autumn", "spring", "summer", "winter"}
	for _, id := range ids {
		create(t, js.Streams, newCampaign("shop", id))
	}
	changing, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() { stop(); wg.Wait() }()
	for _, id := range ids[1:] {
		wg.Go(func() {
			for n := 1; changing.Err() == nil; n++ {
				_, err := js.ChangeCampaign(changing, "shop", id, func(st *campaign.Status) error {
					st.Ranges = n
					return nil
				})
				if err != nil && changing.Err() == nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 300 {
		list, err := js.Campaigns(ctx, "shop")
		if err != nil {
			t.Fatal(err)
		}
		got := make([]string, 0, len(ids))
		for i := range list {
			got = append(got, list[i].ID)
		}
		slices.Sort(got)
		if !slices.Equal(got, ids) {
			t.Fatalf("got %v, want each of %v once", got, ids)
		}
	}
}
