package feedback_test

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// fuseDevices is for a run of its own with a million devices:
//
//	go test ./feedback -run FuseFlip -fuse.devices 1000000 -timeout 30m
var fuseDevices = flag.Int("fuse.devices", 10_000, "devices in the tests that flip the environment")

const bundle = "com.example.shop"

// fuseWindow is a minute in life.
const fuseWindow = 2 * time.Second

// senderFunc is an APNs that answers at once.
type senderFunc func(n *apns.Notification) apns.Response

func (f senderFunc) Send(_ context.Context, _ job.Lane, batch []apns.Notification, done func(int, apns.Response)) {
	for i := range batch {
		done(i, f(&batch[i]))
	}
}

// fleet is worker processes in this one.
type fleet struct {
	t     *testing.T
	ctx   context.Context
	js    *testenv.JetStream
	redis *testenv.RedisDB
	set   *store.Store

	canaries    []device.Token
	quarantined atomic.Int64 // ever
	removed     atomic.Int64
}

func newFleet(t *testing.T, devices int) *fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+time.Duration(devices)*time.Millisecond)
	t.Cleanup(cancel)
	buckets := 4
	for buckets*128 < devices {
		buckets *= 2
	}
	f := &fleet{t: t, ctx: ctx, js: testenv.NewJetStream(t), redis: testenv.Redis(t)}
	f.set = store.New(f.redis.Client, store.Config{Buckets: buckets, FuseWindow: fuseWindow})
	return f
}

// counting is a token set that counts what is done to it.
type counting struct {
	*store.Store
	f *fleet
}

func (c counting) Apply(ctx context.Context, app string, verdicts []store.Verdict) ([]store.Applied, error) {
	applied, err := c.Store.Apply(ctx, app, verdicts)
	for _, a := range applied {
		switch a {
		case store.QuarantinedIt:
			c.f.quarantined.Add(1)
		case store.RemovedIt, store.RememberedIt:
			c.f.removed.Add(1)
		}
	}
	return applied, err
}

// start starts a worker process that sends by way of s.
func (f *fleet) start(name string, s worker.Sender) *feedback.Fuse {
	f.t.Helper()
	log := zaptest.NewLogger(f.t, zaptest.Level(zap.ErrorLevel)).Named(name)
	streams, err := stream.Open(f.ctx, testenv.Connect(f.t, f.js.Server.URL()), stream.Config{OutcomesBytes: 1 << 30})
	if err != nil {
		f.t.Fatal(err)
	}
	fuse := feedback.NewFuse(feedback.FuseConfig{Streams: streams, Store: f.set, Name: name, Logger: log})
	pub := feedback.NewPublisher(feedback.PublisherConfig{Streams: streams, Worker: name, Logger: log})
	rec := feedback.NewRecorder(feedback.RecorderConfig{Streams: streams, TokenSet: counting{f.set, f}, Ledger: f.set, Fuse: fuse, Logger: log})
	w, err := worker.New(worker.Config{
		Name: name, Version: "test", MaxInFlight: 2 * job.MaxRecipients, DrainTimeout: 5 * time.Second,
		Apps: []*worker.App{{
			Name: "shop", BundleID: bundle, Environment: device.Production, Canaries: f.canaries,
			Routes: []*worker.Route{{Environment: device.Production, Sender: s}},
		}},
		Streams: streams, Devices: f.set, Progress: f.set, Outcomes: pub, Logger: log,
		Fuses: fuse, KeepRejected: fuseWindow + time.Second, FuseRetry: time.Second, CanaryInterval: 300 * time.Millisecond,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	// What feeds on the worker stops after it: clean-ups run last first.
	run(f.t, fuse.Run)
	run(f.t, rec.Run)
	run(f.t, pub.Run)
	run(f.t, w.Run)
	return fuse
}

// simulator starts an APNs, and returns it and a maker of clients.
func (f *fleet) simulator(cfg apnstest.Config) (*apnstest.Server, func() worker.Sender) {
	f.t.Helper()
	sim, err := apnstest.New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = sim.Close() })
	pem, err := sim.KeyPEM()
	if err != nil {
		f.t.Fatal(err)
	}
	cred, err := apns.LoadKey(apns.KeyConfig{Base64: base64.StdEncoding.EncodeToString(pem), KeyID: sim.KeyID(), TeamID: sim.TeamID()})
	if err != nil {
		f.t.Fatal(err)
	}
	return sim, func() worker.Sender {
		c, err := apns.New(apns.ClientConfig{Credential: cred, Environment: device.Production, URL: sim.URL(), RootCAs: sim.CAPool()})
		if err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

func (f *fleet) register(tokens []device.Token) {
	f.t.Helper()
	for batch := range slices.Chunk(tokens, 8192) {
		regs := make([]device.Registration, len(batch))
		for i, tok := range batch {
			regs[i] = device.Registration{Token: tok, Environment: device.Production}
		}
		if _, err := f.set.RegisterMany(f.ctx, "shop", regs); err != nil {
			f.t.Fatal(err)
		}
	}
}

// publish publishes jobs to device tokens and returns their keys.
func (f *fleet) publish(name string, tokens []device.Token, size int) []store.JobKey {
	f.t.Helper()
	var keys []store.JobKey
	for to := range slices.Chunk(tokens, size) {
		id := fmt.Sprintf("%s-%d", name, len(keys))
		j := &job.Job{ID: id, To: job.Recipients{Tokens: to}, Notification: &job.Notification{Title: "hello"}}
		if _, err := f.js.PublishJob(f.ctx, "shop", job.Bulk, j); err != nil {
			f.t.Fatal(err)
		}
		keys = append(keys, store.JobKey{App: "shop", Lane: job.Bulk, ID: id})
	}
	return keys
}

// eventually polls what other goroutines do, and for which there is no event.
func (f *fleet) eventually(what string, is func() (got string, ok bool)) {
	f.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		got, ok := is()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-f.ctx.Done():
			f.t.Fatalf("waited for: %s; got %s", what, got)
		}
	}
}

// completed waits until jobs are complete, and returns the sum of their counts.
func (f *fleet) completed(keys []store.JobKey) (counts map[job.Result]int, duplicates int) {
	f.t.Helper()
	f.eventually("jobs are complete", func() (string, bool) {
		counts, duplicates = make(map[job.Result]int), 0
		done := 0
		for part := range slices.Chunk(keys, 256) {
			progress, err := f.set.Progress(f.ctx, part)
			if err != nil {
				return err.Error(), false
			}
			for _, p := range progress {
				if p.Complete {
					done++
				}
				duplicates += p.Duplicates
				for r, n := range p.Counts {
					if n != 0 {
						counts[r] += n
					}
				}
			}
		}
		return fmt.Sprintf("%d of %d, %v", done, len(keys), counts), done == len(keys)
	})
	return counts, duplicates
}

func (f *fleet) fuse() stream.Fuse {
	f.t.Helper()
	e, err := f.js.Fuse(f.ctx, "shop", device.Production)
	if err != nil {
		f.t.Fatal(err)
	}
	return e
}

// undone waits until the fuse has tripped and undone what it tripped for.
func (f *fleet) undone() {
	f.t.Helper()
	f.eventually("fuse has tripped and undone", func() (string, bool) {
		e := f.fuse()
		return fmt.Sprintf("%+v", e), e.Tripped && e.Undone
	})
}

// recorded waits until all that was in OUTCOMES is applied.
func (f *fleet) recorded() {
	f.t.Helper()
	last, err := f.js.LastOutcome(f.ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := f.js.RecorderConsumer(f.ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	f.eventually("recorders", func() (string, bool) {
		floor, err := c.AckFloor(f.ctx)
		return fmt.Sprintf("%d of %d, %v", floor, last, err), err == nil && floor >= last
	})
}

// states counts the device tokens of the set.
func (f *fleet) states() map[device.State]int {
	f.t.Helper()
	n, err := f.set.Buckets(f.ctx, "shop")
	if err != nil {
		f.t.Fatal(err)
	}
	entries, err := f.set.ScanBuckets(f.ctx, "shop", n, 0, n, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	states := make(map[device.State]int)
	for _, e := range entries {
		states[e.Record.State]++
	}
	return states
}

// turning does something once, before the notification that is number at is sent.
type turning struct {
	at   int64
	do   func() error
	sent atomic.Int64
	once sync.Once
	err  error // to be read after what do does has shown
}

type turningSender struct {
	worker.Sender
	turn *turning
}

func (s turningSender) Send(ctx context.Context, lane job.Lane, batch []apns.Notification, done func(int, apns.Response)) {
	if s.turn.sent.Add(int64(len(batch))) > s.turn.at {
		s.turn.once.Do(func() { s.turn.err = s.turn.do() })
	}
	s.Sender.Send(ctx, lane, batch, done)
}

// The environment flips under a running fleet. Next to nothing is quarantined,
// that is undone, nothing is removed, and everybody gets the notification.
func TestFuseFlip(t *testing.T) {
	for _, tt := range []struct {
		flip    string
		workers int
	}{{"environment", 2}, {"topic", 2}, {"environment", 8}} {
		t.Run(fmt.Sprintf("%s, %d workers", tt.flip, tt.workers), func(t *testing.T) {
			testFlip(t, tt.flip, tt.workers, *fuseDevices)
		})
	}
}

func testFlip(t *testing.T, flip string, workers, devices int) {
	f := newFleet(t, devices)
	sim, client := f.simulator(apnstest.Config{Topics: []string{bundle}, Ledger: apnstest.LedgerHash, Latency: 5 * time.Millisecond})
	// In the middle of the second round, whoever is how fast.
	turn := &turning{at: int64(devices + devices/8), do: func() error { return sim.SetFaults(apnstest.Faults{Flip: flip}) }}
	var fuses []*feedback.Fuse
	for n := range workers {
		fuses = append(fuses, f.start(fmt.Sprintf("w%d", n), turningSender{client(), turn}))
	}
	all := make([]device.Token, devices)
	for n := range all {
		all[n] = token(n)
	}
	f.register(all)
	if counts, _ := f.completed(f.publish("before", all, 1000)); counts[job.Accepted] != devices {
		t.Fatalf("before the flip: got %v, want %d accepted", counts, devices)
	}
	f.recorded()

	// Jobs for one and for many.
	few := min(devices/2, 20_000)
	keys := f.publish("few", all[:few], 3)
	keys = append(keys, f.publish("many", all[few:], 500)...)
	f.undone()
	if turn.err != nil {
		t.Fatal(turn.err)
	}
	rejected := sim.Stats().Rejected
	f.recorded()
	// The recorders that were at it when it tripped have looked once more by now.
	if got := f.states(); got[device.Live] != devices {
		t.Errorf("after the undoing: got %v, want %d live", got, devices)
	}
	if n := f.quarantined.Load(); n > 1000 {
		t.Errorf("ever quarantined: got %d, want at most 1000", n)
	}
	for n, fuse := range fuses {
		f.eventually("every worker knows", func() (string, bool) {
			return fmt.Sprintf("worker %d does not", n), fuse.Tripped("shop", device.Production)
		})
	}

	if err := sim.SetFaults(apnstest.Faults{}); err != nil {
		t.Fatal(err)
	}
	if was, err := fuses[0].Reset(f.ctx, "shop", device.Production, "test"); !was || err != nil {
		t.Fatalf("reset: got %t, %v, want true", was, err)
	}
	counts, duplicates := f.completed(keys)
	if counts[job.Accepted] != devices || len(counts) != 1 || duplicates != 0 {
		t.Errorf("in the end: got %v, %d duplicates, want %d accepted", counts, duplicates, devices)
	}
	f.recorded()
	if got := f.states(); got[device.Live] != devices || f.removed.Load() != 0 {
		t.Errorf("in the end: got %v, %d removed, want %d live", got, f.removed.Load(), devices)
	}
	if st := sim.Stats(); st.Accepted != int64(2*devices) || st.Duplicates != 0 {
		t.Errorf("simulator: got %d accepted, %d duplicates, want %d, 0", st.Accepted, st.Duplicates, 2*devices)
	}
	if e := f.fuse(); e.Tripped {
		t.Errorf("fuse: got %+v, want it closed", e)
	}
	t.Logf("rejected %d, quarantined for a moment %d", rejected, f.quarantined.Load())
}

// flipped is an APNs for tests that can be wrong about everything.
type flipped struct{ wrong atomic.Bool }

func (f *flipped) answer(n *apns.Notification) apns.Response {
	if f.wrong.Load() || n.DeviceToken.Raw()[0] == 'g' {
		return apns.Response{Status: 400, Reason: apns.BadDeviceToken, APNsID: n.APNsID}
	}
	return apns.Response{Status: 200, APNsID: n.APNsID}
}

// A caller's garbage says nothing about the environment.
func TestFuseIgnoresGarbage(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1000)
	var a flipped
	for n := range 2 {
		f.start(fmt.Sprintf("w%d", n), senderFunc(a.answer))
	}
	good := make([]device.Token, 1000)
	for n := range good {
		good[n] = token(n)
	}
	f.register(good)
	f.completed(f.publish("before", good, 1000))
	garbage := make([]device.Token, 100_000)
	for n := range garbage {
		garbage[n] = device.TokenFromRaw(fmt.Sprintf("garbage-%024d", n))
	}
	counts, _ := f.completed(f.publish("garbage", garbage, 1000))
	if counts[job.Rejected] != len(garbage) {
		t.Errorf("garbage: got %v, want %d rejected", counts, len(garbage))
	}
	f.recorded()
	if e := f.fuse(); e.Revision != 0 {
		t.Errorf("fuse: got %+v, want none", e)
	}
	if counts, _ := f.completed(f.publish("after", good, 1000)); counts[job.Accepted] != len(good) {
		t.Errorf("after it: got %v, want %d accepted", counts, len(good))
	}
}

// A canary that is accepted resets the fuse; one worker at a time sends it.
func TestFuseCanary(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 1000)
	canary := device.TokenFromRaw("canary-of-our-own")
	f.canaries = []device.Token{canary}
	var a flipped
	var sent atomic.Int64
	count := func(n *apns.Notification) apns.Response {
		if n.DeviceToken == canary {
			sent.Add(1)
			if n.PushType != job.PushBackground || n.Priority != 5 || n.Topic != bundle {
				t.Errorf("canary: got %s, priority %d, topic %s", n.PushType, n.Priority, n.Topic)
			}
		}
		return a.answer(n)
	}
	for n := range 4 {
		f.start(fmt.Sprintf("w%d", n), senderFunc(count))
	}
	all := make([]device.Token, 1000)
	for n := range all {
		all[n] = token(n)
	}
	f.register(all)
	f.completed(f.publish("before", all, 1000))
	f.recorded()
	a.wrong.Store(true)
	began := time.Now()
	keys := f.publish("flip", all, 100)
	f.undone()
	f.eventually("some canaries", func() (string, bool) { return fmt.Sprint(sent.Load()), sent.Load() >= 3 })
	if most := int64(time.Since(began)/(300*time.Millisecond)) + 1; sent.Load() > most {
		t.Errorf("canaries: got %d, want at most %d, one for each interval", sent.Load(), most)
	}
	if e := f.fuse(); !e.Tripped {
		t.Errorf("while they are rejected: got %+v, want it tripped", e)
	}
	a.wrong.Store(false)
	if counts, _ := f.completed(keys); counts[job.Accepted] != len(all) || len(counts) != 1 {
		t.Errorf("in the end: got %v, want %d accepted", counts, len(all))
	}
	if e := f.fuse(); e.Tripped || len(e.ResetBy) < 6 || e.ResetBy[:6] != "canary" {
		t.Errorf("fuse: got %+v, want it reset by a canary", e)
	}
}

// records is a fleet without workers: outcomes are told as a worker would.
type records struct {
	*fleet
	pub *feedback.Publisher
	n   int
}

func newRecords(t *testing.T) *records {
	t.Helper()
	f := newFleet(t, 1000)
	r := &records{fleet: f, pub: feedback.NewPublisher(feedback.PublisherConfig{Streams: f.js.Streams, Worker: "w"})}
	run(t, r.pub.Run)
	all := make([]device.Token, 1000)
	for n := range all {
		all[n] = token(n)
	}
	f.register(all)
	return r
}

// record starts a recorder.
func (r *records) record(name string, s feedback.FuseStore, set feedback.TokenSet, reg prometheus.Registerer) (fuse *feedback.Fuse, stop func()) {
	r.t.Helper()
	log := zaptest.NewLogger(r.t, zaptest.Level(zap.FatalLevel)).Named(name)
	// A clock that is behind: what counts is the order in OUTCOMES.
	behind := func() time.Time { return time.Now().Add(-time.Minute) }
	fuse = feedback.NewFuse(feedback.FuseConfig{Streams: r.js.Streams, Store: s, Name: name, Logger: log, Metrics: reg, Now: behind})
	return fuse, run(r.t, feedback.NewRecorder(feedback.RecorderConfig{Streams: r.js.Streams, TokenSet: set, Ledger: r.set, Fuse: fuse, Logger: log}).Run)
}

// reject tells that device tokens which were accepted before were rejected, for
// a job of its own, and returns that.
func (r *records) reject(from, to int) store.JobKey {
	r.t.Helper()
	r.n++
	o := job.JobOutcome{
		ID: fmt.Sprintf("job-%d", r.n), Sequence: uint64(r.n), Attempt: 1, Environment: device.Production, Whole: true, Complete: true, Total: to - from,
	}
	for n := from; n < to; n++ {
		o.Others = append(o.Others, job.Recipient{
			DeviceToken: token(n), Result: job.Rejected, Reason: "BadDeviceToken", Status: 400, Generation: 1, AcceptedBefore: true, SentAt: time.Now(),
		})
	}
	stored := make(chan error, 1)
	r.pub.Publish("shop", job.Bulk, []job.JobOutcome{o}, func(err error) { stored <- err })
	if err := <-stored; err != nil {
		r.t.Fatal(err)
	}
	return store.JobKey{App: "shop", Lane: job.Bulk, ID: o.ID}
}

// open returns which jobs are not complete.
func (r *records) open(keys ...store.JobKey) (open int) {
	r.t.Helper()
	progress, err := r.set.Progress(r.ctx, keys)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range progress {
		if !p.Complete {
			open++
		}
	}
	return open
}

// slow is a token set that stops before it quarantines, until it is let go.
type slow struct {
	*store.Store
	at, on chan struct{}
}

func (s slow) Apply(ctx context.Context, app string, verdicts []store.Verdict) ([]store.Applied, error) {
	select {
	case s.at <- struct{}{}:
		<-s.on
	default:
	}
	return s.Store.Apply(ctx, app, verdicts)
}

// One recorder is about to quarantine when another trips the fuse and undoes
// what it knows of.
func TestFuseRace(t *testing.T) {
	t.Parallel()
	r := newRecords(t)
	at, on := make(chan struct{}), make(chan struct{})
	_, stop := r.record("late", r.set, slow{r.set, at, on}, nil)
	late := r.reject(0, 150)
	<-at
	other, _ := r.record("fast", r.set, r.set, nil)
	trips := r.reject(150, 210)
	r.undone()
	close(on)
	r.recorded()
	if got := r.states(); got[device.Live] != 1000 {
		t.Errorf("got %v, want 1000 live", got)
	}
	if n := r.open(late, trips); n != 2 {
		t.Errorf("jobs that go on: got %d, want 2", n)
	}
	stop()
	if notes := other.Notes(); len(notes) != 1 {
		t.Errorf("notes: got %q, want one", notes)
	}
}

// crashes is a FuseStore that dies between the tripping and the undoing.
type crashes struct {
	*store.Store
	at chan struct{}
}

func (c crashes) Remembered(ctx context.Context, _ store.FuseWindow) ([]store.Rejection, error) {
	select {
	case c.at <- struct{}{}:
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil, errTest
}

func TestFuseFinishesWhatAnotherBegan(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(r *records, f *feedback.Fuse){
		"the next outcome": func(r *records, _ *feedback.Fuse) { r.reject(300, 301) },
		"in passing":       func(r *records, f *feedback.Fuse) { run(r.t, f.Run) },
		"reset": func(r *records, f *feedback.Fuse) {
			if was, err := f.Reset(r.ctx, "shop", device.Production, "test"); !was || err != nil {
				r.t.Errorf("reset: got %t, %v, want true", was, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRecords(t)
			dying := crashes{r.set, make(chan struct{})}
			_, stop := r.record("dies", dying, r.set, nil)
			first := r.reject(0, 150)
			r.recorded()
			if got := r.states(); got[device.Quarantined] != 150 {
				t.Fatalf("before: got %v, want 150 quarantined", got)
			}
			second := r.reject(150, 300)
			<-dying.at
			if e := r.fuse(); !e.Tripped || e.Undone {
				t.Fatalf("before the crash: got %+v, want tripped, not undone", e)
			}
			stop() // its messages go back
			reg := prometheus.NewRegistry()
			fuse := feedback.NewFuse(feedback.FuseConfig{Streams: r.js.Streams, Store: r.set, Name: "next", Metrics: reg})
			if name == "the next outcome" {
				fuse, _ = r.record("next", r.set, r.set, prometheus.NewRegistry())
			}
			next(r, fuse)
			r.eventually("undone", func() (string, bool) {
				e := r.fuse()
				return fmt.Sprintf("%+v", e), e.Undone
			})
			if got := r.states(); got[device.Live] != 1000 {
				t.Errorf("after: got %v, want 1000 live", got)
			}
			if n := r.open(first, second); n != 2 {
				t.Errorf("jobs that go on: got %d, want 2", n)
			}
		})
	}
}

// What was rejected while the fuse was tripped is not held against device tokens
// when it is told after the reset; what is rejected later is.
func TestFuseAfterReset(t *testing.T) {
	t.Parallel()
	r := newRecords(t)
	reg := prometheus.NewRegistry()
	fuse, stop := r.record("r", r.set, r.set, reg)
	r.reject(0, 200)
	r.undone()
	r.recorded()
	metric := func() float64 {
		families, err := reg.Gather()
		if err != nil || len(families) != 1 || families[0].GetName() != "pushfleet_fuse_tripped" {
			t.Fatalf("metrics: got %v, %v", families, err)
		}
		return families[0].GetMetric()[0].GetGauge().GetValue()
	}
	if got := metric(); got != 1 {
		t.Errorf("metric: got %v, want 1", got)
	}
	stop()
	late := r.reject(200, 500)
	if was, err := fuse.Reset(r.ctx, "shop", device.Production, "test"); !was || err != nil {
		t.Fatalf("reset: got %t, %v, want true", was, err)
	}
	if was, err := fuse.Reset(r.ctx, "shop", device.Production, "test"); was || err != nil {
		t.Errorf("reset twice: got %t, %v, want false", was, err)
	}
	if got := metric(); got != 0 {
		t.Errorf("metric after the reset: got %v, want 0", got)
	}
	r.record("again", r.set, r.set, nil)
	fresh := r.reject(600, 700)
	r.recorded()
	if got := r.states(); got[device.Quarantined] != 100 || got[device.Live] != 900 {
		t.Errorf("got %v, want the 100 of after the reset quarantined", got)
	}
	if n := r.open(late); n != 1 {
		t.Error("told late: got complete, want it sent again")
	}
	if n := r.open(fresh); n != 0 {
		t.Error("told after the reset: got open, want complete")
	}
}

// While a fuse is tripped nothing is removed, whatever APNs says.
func TestFuseFreezesRemovals(t *testing.T) {
	t.Parallel()
	r := newRecords(t)
	_, _ = r.record("r", r.set, r.set, nil)
	r.reject(0, 200)
	r.undone()
	stored := make(chan error, 1)
	o := job.JobOutcome{ID: "dead", Sequence: 900, Environment: device.Production, Whole: true, Complete: true, Total: 1, Others: []job.Recipient{{
		DeviceToken: token(1), Result: job.Rejected, Reason: "Unregistered", Status: 410, Generation: 1, AcceptedBefore: true,
		Timestamp: time.Now().Add(time.Hour).UnixMilli(), SentAt: time.Now(),
	}}}
	r.pub.Publish("shop", job.Bulk, []job.JobOutcome{o}, func(err error) { stored <- err })
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	r.recorded()
	if got := r.states(); got[device.Live] != 1000 {
		t.Errorf("got %v, want 1000 live", got)
	}
	if n := r.open(store.JobKey{App: "shop", Lane: job.Bulk, ID: "dead"}); n != 0 {
		t.Error("the notification: got open, want settled")
	}
}
