package worker_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testenv.HoldRedis(m)) }

// sender is an APNs that answers as the test says.
type sender struct {
	// answer is called for every notification, from one goroutine a batch; nil
	// accepts all.
	answer func(n *apns.Notification) apns.Response

	mu   sync.Mutex
	sent []apns.Notification // guarded by mu
	at   time.Time           // guarded by mu: when the last of them came
	seen chan struct{}       // gets one for each batch, if there is room
}

func newSender(answer func(n *apns.Notification) apns.Response) *sender {
	return &sender{answer: answer, seen: make(chan struct{}, 1024)}
}

func accept(n *apns.Notification) apns.Response { return apns.Response{Status: 200, APNsID: n.APNsID} }

func (s *sender) Send(ctx context.Context, _ job.Lane, batch []apns.Notification, done func(int, apns.Response)) {
	late := ctx.Err() != nil
	if !late {
		s.mu.Lock()
		s.sent = append(s.sent, batch...)
		s.at = time.Now()
		s.mu.Unlock()
	}
	select {
	case s.seen <- struct{}{}:
	default:
	}
	for i := range batch {
		if late {
			done(i, apns.Response{Err: fmt.Errorf("%w: %w", apns.ErrNotSent, context.Cause(ctx))})
			continue
		}
		if s.answer == nil {
			done(i, accept(&batch[i]))
			continue
		}
		done(i, s.answer(&batch[i]))
	}
}

// got returns all that was sent so far.
func (s *sender) got() []apns.Notification {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]apns.Notification(nil), s.sent...)
}

// fixture is a fleet of one worker process around a sender.
type fixture struct {
	t   *testing.T
	ctx context.Context
	js  *testenv.JetStream
	set *store.Store

	sender *sender
	apps   []*worker.App
}

const bundle = "com.example.shop"

func setup(t *testing.T, answer func(n *apns.Notification) apns.Response) *fixture {
	t.Helper()
	t.Parallel()
	return setupOn(t, testenv.NewJetStream(t), answer)
}

func setupOn(t *testing.T, js *testenv.JetStream, answer func(n *apns.Notification) apns.Response) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	f := &fixture{t: t, ctx: ctx, js: js, set: store.New(testenv.Redis(t), store.Config{Buckets: 16}), sender: newSender(answer)}
	f.apps = []*worker.App{{
		Name: "shop", BundleID: bundle, Environment: device.Production,
		Routes: []*worker.Route{{Environment: device.Production, Sender: f.sender}},
	}}
	return f
}

// running is a worker process that runs.
type running struct {
	*worker.Worker
	stop func() // asks to stop and waits
}

type options struct {
	name     string
	devices  worker.Devices
	progress worker.Progress
	outcomes func(worker.Outcomes) worker.Outcomes
	change   func(*worker.Config)
}

// start runs a worker with publisher and recorder.
func (f *fixture) start(opt options) *running {
	f.t.Helper()
	if opt.name == "" {
		opt.name = "w1"
	}
	if opt.devices == nil {
		opt.devices = f.set
	}
	if opt.progress == nil {
		opt.progress = f.set
	}
	log := zaptest.NewLogger(f.t, zaptest.Level(zap.WarnLevel)).Named(opt.name)
	pub := feedback.NewPublisher(feedback.PublisherConfig{Streams: f.js.Streams, Worker: opt.name, Logger: log})
	rec := feedback.NewRecorder(feedback.RecorderConfig{Streams: f.js.Streams, TokenSet: f.set, Ledger: f.set, Logger: log})
	var outcomes worker.Outcomes = pub
	if opt.outcomes != nil {
		outcomes = opt.outcomes(pub)
	}
	cfg := worker.Config{
		Name: opt.name, Version: "test", Apps: f.apps, DrainTimeout: 5 * time.Second,
		StrayInterval: 50 * time.Millisecond, StrayAfter: 200 * time.Millisecond,
		Streams: f.js.Streams, Devices: opt.devices, Progress: opt.progress, Outcomes: outcomes, Logger: log,
	}
	if opt.change != nil {
		opt.change(&cfg)
	}
	w, err := worker.New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	work, stopWork := context.WithCancel(context.Background())
	tail, stopTail := context.WithCancel(context.Background())
	var head, tails sync.WaitGroup
	head.Go(func() {
		if err := w.Run(work); err != nil {
			f.t.Errorf("worker: %v", err)
		}
	})
	tails.Go(func() { _ = pub.Run(tail) })
	tails.Go(func() {
		if err := rec.Run(tail); err != nil {
			f.t.Errorf("recorder: %v", err)
		}
	})
	stop := sync.OnceFunc(func() {
		stopWork()
		head.Wait()
		stopTail()
		tails.Wait()
	})
	f.t.Cleanup(stop)
	return &running{Worker: w, stop: stop}
}

// token returns the n-th device token of the tests.
func token(n int) device.Token {
	var raw [32]byte
	binary.BigEndian.PutUint64(raw[24:], uint64(n))
	raw[0] = 0xaa
	t, err := device.ParseToken(hex.EncodeToString(raw[:]))
	if err != nil {
		panic(err)
	}
	return t
}

func tokens(from, to int) []device.Token {
	var out []device.Token
	for n := from; n < to; n++ {
		out = append(out, token(n))
	}
	return out
}

func newJob(id string, to ...device.Token) *job.Job {
	return &job.Job{ID: id, To: job.Recipients{Tokens: to}, Notification: &job.Notification{Title: "hello"}}
}

func (f *fixture) publish(lane job.Lane, j *job.Job) stream.Published {
	f.t.Helper()
	p, err := f.js.PublishJob(f.ctx, "shop", lane, j)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

func (f *fixture) register(r device.Registration) {
	f.t.Helper()
	if r.Environment == device.EnvironmentUnset {
		r.Environment = device.Production
	}
	if _, err := f.set.Register(f.ctx, "shop", r); err != nil {
		f.t.Fatal(err)
	}
}

// outcomes reads OUTCOMES until enough says that it has seen what it waits for.
func (f *fixture) outcomes(enough func(all []job.JobOutcome) bool) []job.JobOutcome {
	f.t.Helper()
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := api.OrderedConsumer(f.ctx, stream.Outcomes, jetstream.OrderedConsumerConfig{})
	if err != nil {
		f.t.Fatal(err)
	}
	it, err := c.Messages()
	if err != nil {
		f.t.Fatal(err)
	}
	defer it.Stop()
	var all []job.JobOutcome
	for !enough(all) {
		msg, err := it.Next(jetstream.NextContext(f.ctx))
		if err != nil {
			f.t.Fatalf("wait for outcomes: %v; so far %+v", err, all)
		}
		o, err := job.ParseOutcomes(msg.Data())
		if err != nil {
			f.t.Fatalf("outcomes cannot be read: %v", err)
		}
		all = append(all, o.Jobs...)
	}
	return all
}

// completed waits for the outcome that completes a job, and returns the job's.
func (f *fixture) completed(id string) []job.JobOutcome {
	f.t.Helper()
	var of []job.JobOutcome
	f.outcomes(func(all []job.JobOutcome) bool {
		of = of[:0]
		done := false
		for _, o := range all {
			if o.ID == id {
				of = append(of, o)
				done = done || o.Complete
			}
		}
		return done
	})
	return of
}

// results counts the recipients of outcomes by result and reason.
func results(outcomes []job.JobOutcome) map[string]int {
	counts := make(map[string]int)
	for _, o := range outcomes {
		if n := len(o.Accepted); n > 0 {
			counts["accepted"] += n
		}
		for _, r := range o.Others {
			counts[strings.TrimSpace(string(r.Result)+" "+r.Reason)]++
		}
	}
	return counts
}

// drained waits until nothing is left in JOBS, so that every message of it was
// acknowledged.
func (f *fixture) drained() {
	f.t.Helper()
	f.eventually("JOBS is empty", func() (string, bool) {
		api, err := jetstream.New(f.js.NC)
		if err != nil {
			return err.Error(), false
		}
		st, err := api.Stream(f.ctx, stream.Jobs)
		if err != nil {
			return err.Error(), false
		}
		n := st.CachedInfo().State.Msgs
		return fmt.Sprintf("%d messages", n), n == 0
	})
}

// eventually polls a state of another process for which there is no event.
func (f *fixture) eventually(what string, is func() (got string, ok bool)) {
	f.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
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

// dead waits for n dead letters of an app and returns them.
func (f *fixture) dead(app string, n int) []jetstream.Msg {
	f.t.Helper()
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		f.t.Fatal(err)
	}
	c, err := api.OrderedConsumer(f.ctx, stream.Dead, jetstream.OrderedConsumerConfig{FilterSubjects: []string{stream.DeadSubject(app)}})
	if err != nil {
		f.t.Fatal(err)
	}
	var all []jetstream.Msg
	for len(all) < n {
		msg, err := c.Next(jetstream.FetchContext(f.ctx))
		if err != nil {
			f.t.Fatalf("wait for dead letters: got %d of %d: %v", len(all), n, err)
		}
		all = append(all, msg)
	}
	return all
}

var errTest = errors.New("test")
