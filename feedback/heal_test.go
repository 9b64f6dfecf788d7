package feedback_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap/zaptest"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// pair is a master, a replica, and a client that is led to one of them.
type pair struct {
	master, replica *testenv.RedisServer
	to              atomic.Pointer[string]
	client          *redis.Client // of whichever is the master
	second          *redis.Client // of the replica
}

func newPair(t *testing.T) *pair {
	t.Helper()
	master, ok := testenv.StartRedis(t)
	if !ok {
		t.Skip("no redis-server on PATH: nothing to fail over")
	}
	replica, _ := testenv.StartRedis(t, testenv.ReplicaOf(t, master)...)
	p := &pair{master: master, replica: replica}
	p.to.Store(&master.Addr)
	p.client = redis.NewClient(&redis.Options{DialerRetries: 1, Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, *p.to.Load())
	}})
	p.second = redis.NewClient(&redis.Options{Addr: replica.Addr})
	t.Cleanup(func() { _, _ = p.client.Close(), p.second.Close() })
	return p
}

// part cuts the replica off, once it has all that the master has until now.
func (p *pair) part(t *testing.T) {
	t.Helper()
	if err := p.client.Set(t.Context(), "last", "it", 0).Err(); err != nil {
		t.Fatal(err)
	}
	// Wait counts only what its own connection wrote.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for p.second.Get(t.Context(), "last").Val() != "it" {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the replica does not follow")
		}
	}
	if err := p.second.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
}

// failOver ends the master; the replica takes its place.
func (p *pair) failOver() {
	p.to.Store(&p.replica.Addr)
	p.master.Kill()
}

// held is what Redis has, but for times and for who heals it.
func held(t *testing.T, c *redis.Client) map[string]string {
	t.Helper()
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, k := range keys {
		if !strings.HasPrefix(k, "pf:recorder:") {
			all[k] = fmt.Sprintf("%q", c.Dump(t.Context(), k).Val())
		}
	}
	return all
}

// healing is a token set with jobs whose outcomes are told.
type healing struct {
	*desk
	pub  *feedback.Publisher
	jobs []store.JobKey
}

func newHealing(t *testing.T, c *redis.Client) *healing {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	h := &healing{desk: &desk{t: t, ctx: ctx, js: testenv.NewJetStream(t), set: store.New(c, store.Config{Buckets: 4})}}
	h.pub = feedback.NewPublisher(feedback.PublisherConfig{Streams: h.js.Streams, Worker: "w"})
	run(t, h.pub.Run)
	for n := range 40 {
		h.register(token(n))
	}
	return h
}

// record starts a recorder with a connection of its own.
func (h *healing) record() (stop func()) {
	h.t.Helper()
	streams, err := stream.Open(h.ctx, testenv.Connect(h.t, h.js.Server.URL()), stream.Config{OutcomesBytes: 1 << 30})
	if err != nil {
		h.t.Fatal(err)
	}
	log := zaptest.NewLogger(h.t)
	fuse := feedback.NewFuse(feedback.FuseConfig{Streams: streams, Store: h.set, Logger: log})
	return run(h.t, feedback.NewRecorder(feedback.RecorderConfig{Streams: streams, TokenSet: h.set, Ledger: h.set, Fuse: fuse, Logger: log}).Run)
}

// tell stores outcomes of one job.
func (h *healing) tell(o job.JobOutcome) {
	h.t.Helper()
	stored := make(chan error, 1)
	h.pub.Publish("shop", job.Bulk, []job.JobOutcome{o}, func(err error) { stored <- err })
	if err := <-stored; err != nil {
		h.t.Fatal(err)
	}
	k := store.JobKey{App: "shop", Lane: job.Bulk, ID: o.ID}
	if !slices.Contains(h.jobs, k) {
		h.jobs = append(h.jobs, k)
	}
}

// tellAll tells of everything that the recorder knows: whole jobs and parts, a
// second outcome, a removal and rejections.
func (h *healing) tellAll() {
	h.t.Helper()
	now := time.Now()
	h.tell(outcome("whole", 0, 3))
	part := outcome("parts", 0, 10)
	part.Environment, part.Known = device.Production, 10
	part.Whole, part.Complete, part.Total = false, false, 0
	h.tell(part)
	rest := outcome("parts", 10, 12)
	rest.Whole, rest.Total, rest.Environment = false, 15, device.Production
	rest.Others = []job.Recipient{
		{DeviceToken: token(20), Result: job.Rejected, Status: 410, Reason: "Unregistered", Timestamp: now.Add(time.Hour).UnixMilli(), Generation: 1, SentAt: now},
		{DeviceToken: token(21), Result: job.Rejected, Status: 400, Reason: "BadDeviceToken", Generation: 1, AcceptedBefore: true, SentAt: now},
		{DeviceToken: token(22), Result: job.Expired},
	}
	h.tell(rest)
	again := outcome("whole", 0, 2) // sent twice
	again.Whole, again.Complete = false, false
	h.tell(again)
	h.recorded()
}

// recorded waits until all outcomes are applied.
func (h *healing) recorded() {
	h.t.Helper()
	c, err := h.js.RecorderConsumer(h.ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	waitFloor(h.t, c, messages(h.t, h.js, stream.Outcomes))
}

// healed waits until the present life is healed.
func (h *healing) healed() {
	h.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		life, healed, err := h.set.Healed(h.ctx)
		if err == nil && healed.Life == life {
			return
		}
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			h.t.Fatalf("not healed: got %q, %+v, %v", life, healed, err)
		}
	}
}

// facts are what users may see: progress of jobs and states of devices.
func (h *healing) facts() string {
	h.t.Helper()
	progress, err := h.set.Progress(h.ctx, h.jobs)
	if err != nil {
		h.t.Fatal(err)
	}
	var b strings.Builder
	for i, p := range progress {
		for hash := range p.Settled {
			p.Settled[hash] = struct{}{}
		}
		p.KeepUntil = time.Time{} // counted from when it was applied
		fmt.Fprintf(&b, "%s: %+v\n", h.jobs[i], p)
	}
	for n := range 40 {
		d, ok := h.device("shop", token(n))
		fmt.Fprintf(&b, "%d: %t %s %d\n", n, ok, d.Record.State, d.Record.Generation)
	}
	return b.String()
}

// The replica that takes over lacks the last outcomes: counts, removals and
// quarantine are as if nothing had been lost.
func TestFailOverIsHealed(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	h := newHealing(t, p.client)
	h.record()
	h.record()
	h.healed()
	p.part(t)
	h.tellAll()
	want := h.facts()
	p.failOver()
	if h.facts() == want {
		t.Fatal("nothing was lost: this test proves nothing")
	}
	h.healed()
	if got := h.facts(); got != want {
		t.Errorf("after the fail-over: got\n%s\nwant\n%s", got, want)
	}
	// And it goes on.
	h.tell(outcome("later", 30, 33))
	h.recorded()
	if got, err := h.set.Progress(h.ctx, []store.JobKey{{App: "shop", Lane: job.Bulk, ID: "later"}}); err != nil || got[0].Counts[job.Accepted] != 3 {
		t.Errorf("later: got %+v, %v, want 3 accepted", got, err)
	}
}

// A Redis that has forgotten everything gets at least the last minute again.
func TestLossOfAllIsHealed(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	h := newHealing(t, r.Client)
	h.record()
	h.healed()
	h.tellAll()
	want, err := h.set.Progress(h.ctx, h.jobs)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.FlushDB(h.ctx).Err(); err != nil {
		t.Fatal(err)
	}
	h.healed()
	got, err := h.set.Progress(h.ctx, h.jobs)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if !maps.Equal(got[i].Counts, want[i].Counts) || got[i].Duplicates != want[i].Duplicates || got[i].Complete != want[i].Complete {
			t.Errorf("%s: got %+v, want %+v", h.jobs[i], got[i], want[i])
		}
	}
	if want[0].Duplicates != 2 {
		t.Errorf("%s: got %+v, want 2 duplicates", h.jobs[0], want[0])
	}
	// Not in the token set any more, but remembered: it is not sent to again.
	if d, _ := h.device("shop", token(20)); d.Record.State != device.Removed {
		t.Errorf("the removed one: got %+v", d.Record)
	}
}

// Healing where nothing was lost changes nothing: not a counter of the fuse, not
// the number of duplicates.
func TestHealingChangesNothing(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	h := newHealing(t, r.Client)
	stop := h.record()
	h.healed()
	h.tellAll()
	stop()
	want := held(t, r.Client)
	if err := h.set.Unheal(h.ctx); err != nil {
		t.Fatal(err)
	}
	h.record()
	h.healed()
	got := held(t, r.Client)
	for k := range want {
		// How long a job's message is kept counts from when it was applied.
		if got[k] != want[k] && !strings.HasPrefix(k, "pf:{j:shop/bulk/parts}:p") {
			t.Errorf("%s: got %s, want %s", k, got[k], want[k])
		}
	}
	if len(got) != len(want) {
		t.Errorf("keys: got %d, want %d", len(got), len(want))
	}
}

// partitioned is a ledger of a recorder that was cut off with the old master: it
// still sees the life before.
type partitioned struct {
	*store.Store
	life atomic.Pointer[string] // nil: what Redis says
}

func (p *partitioned) Healed(ctx context.Context) (string, store.Healed, error) {
	life, h, err := p.Store.Healed(ctx)
	if was := p.life.Load(); was != nil {
		return *was, store.Healed{Life: *was, Through: h.Through}, err
	}
	return life, h, err
}

// A recorder went on with the old master after another one had healed the new.
// When it sees the new one, it heals what it applied to the old.
func TestHealsAgainWhatOnlyTheOldMasterGot(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	h := newHealing(t, r.Client)
	stop := h.record()
	h.healed()
	stop()
	_, before, err := h.set.Healed(h.ctx)
	if err != nil {
		t.Fatal(err)
	}
	ledger := &partitioned{Store: h.set}
	old := "the old one"
	ledger.life.Store(&old)
	run(t, feedback.NewRecorder(feedback.RecorderConfig{Streams: h.js.Streams, TokenSet: h.set, Ledger: ledger, Logger: zaptest.NewLogger(t)}).Run)
	h.tell(outcome("cut off", 0, 3))
	h.recorded()
	// What it applied is not in the new one.
	if err := r.Del(h.ctx, "pf:{j:shop/bulk/cut off}:p").Err(); err != nil {
		t.Fatal(err)
	}
	ledger.life.Store(nil)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		life, now, err := h.set.Healed(h.ctx)
		if err == nil && now.Life == life && now.Through > before.Through {
			break
		}
		select {
		case <-tick.C:
		case <-h.ctx.Done():
			t.Fatalf("not healed again: got %+v, %v", now, err)
		}
	}
	if got, err := h.set.Progress(h.ctx, h.jobs); err != nil || got[0].Counts[job.Accepted] != 3 {
		t.Errorf("progress: got %+v, %v, want 3 accepted", got, err)
	}
}
