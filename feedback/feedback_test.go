package feedback_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(testenv.HoldRedis(m), goleak.IgnoreAnyFunction(testenv.RedisDialing))
}

var errTest = errors.New("test")

func token(n int) device.Token {
	return device.TokenFromRaw(fmt.Sprintf("token-%026d", n))
}

// outcome tells of recipients from, …, to-1 of a job.
func outcome(id string, from, to int) job.JobOutcome {
	o := job.JobOutcome{ID: id, Sequence: 1, Attempt: 1, QueuedAt: time.UnixMilli(1_800_000_000_000), Whole: true, Complete: true, Total: to - from}
	for n := from; n < to; n++ {
		o.Accepted = append(o.Accepted, token(n))
	}
	return o
}

// run runs something until the test ends or stop is called, which waits.
func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// read reads n messages of OUTCOMES.
func read(t *testing.T, js *testenv.JetStream, n int) []*job.Outcomes {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	c, err := api.OrderedConsumer(ctx, stream.Outcomes, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var all []*job.Outcomes
	for len(all) < n {
		msg, err := c.Next(jetstream.FetchContext(ctx))
		if err != nil {
			t.Fatalf("read outcomes: got %d of %d: %v", len(all), n, err)
		}
		o, err := job.ParseOutcomes(msg.Data())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

func messages(t *testing.T, js *testenv.JetStream, name string) uint64 {
	t.Helper()
	api, err := jetstream.New(js.NC)
	if err != nil {
		t.Fatal(err)
	}
	st, err := api.Stream(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return st.CachedInfo().State.Msgs
}

func TestPublisherCoalesces(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := feedback.NewPublisher(feedback.PublisherConfig{Streams: js.Streams, Worker: "w1"})
	stored := make(chan error, 100)
	for n := range 100 {
		p.Publish("shop", job.Transactional, []job.JobOutcome{outcome(fmt.Sprint(n), n, n+1)}, func(err error) { stored <- err })
	}
	stop := run(t, p.Run)
	for range 100 {
		if err := <-stored; err != nil {
			t.Fatalf("stored: %v", err)
		}
	}
	if n := messages(t, js, stream.Outcomes); n != 1 {
		t.Errorf("messages: got %d, want 100 jobs in one", n)
	}
	got := read(t, js, 1)[0]
	if got.App != "shop" || got.Lane != job.Transactional || got.Worker != "w1" || len(got.Jobs) != 100 || got.At.IsZero() {
		t.Errorf("got app %q, lane %s, worker %q, %d jobs", got.App, got.Lane, got.Worker, len(got.Jobs))
	}
	stop()
	p.Publish("shop", job.Bulk, nil, func(err error) { stored <- err })
	if err := <-stored; !errors.Is(err, feedback.ErrStopped) {
		t.Errorf("after the end: got %v, want %v", err, feedback.ErrStopped)
	}
}

// What is published last is stored before Run returns.
func TestPublisherFlushesAtTheEnd(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := feedback.NewPublisher(feedback.PublisherConfig{Streams: js.Streams, Worker: "w1"})
	stored := make(chan error, 1)
	p.Publish("shop", job.Bulk, []job.JobOutcome{outcome("a", 0, 1)}, func(err error) { stored <- err })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-stored; err != nil {
		t.Errorf("stored: got %v, want nil", err)
	}
}

// More than fits one message is split, and told as stored once all of it is.
func TestPublisherSplits(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := feedback.NewPublisher(feedback.PublisherConfig{Streams: js.Streams, Worker: "w1"})
	run(t, p.Run)
	stored := make(chan error, 2)
	p.Publish("shop", job.Bulk, []job.JobOutcome{outcome("a", 0, 1000)}, func(err error) { stored <- err })
	p.Publish("shop", job.Bulk, []job.JobOutcome{outcome("b", 0, 1000)}, func(err error) { stored <- err })
	for range 2 {
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range read(t, js, 2) {
		if len(o.Jobs) != 1 || !o.Jobs[0].Whole || len(o.Jobs[0].Accepted) != 1000 {
			t.Errorf("got %d jobs, want one, whole, in each message", len(o.Jobs))
		}
	}
}

// A range of a campaign has a subject of its own, whatever else is on its way.
func TestPublisherKeepsRangesApart(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	p := feedback.NewPublisher(feedback.PublisherConfig{Streams: js.Streams, Worker: "w1"})
	stored := make(chan error, 5)
	publish := func(campaign string, n int, text string) {
		o := outcome(text, 0, 2)
		o.Campaign, o.Range = campaign, n
		p.Publish("shop", job.Bulk, []job.JobOutcome{o}, func(err error) { stored <- err })
	}
	publish("spring sale", 0, "a")
	publish("spring sale", 7, "b")
	publish("spring sale", 7, "c")
	publish("summer", 7, "d")
	publish("", 0, "job")
	stop := run(t, p.Run)
	for range 5 {
		if err := <-stored; err != nil {
			t.Fatalf("stored: %v", err)
		}
	}
	stop()
	for n, want := range map[int]string{0: "a", 7: "bc", 1: ""} {
		got := ""
		if err := js.RangeOutcomes(t.Context(), "shop", "spring sale", n, func(_ uint64, data []byte) error {
			o, err := job.ParseOutcomes(data)
			if err != nil {
				return err
			}
			for _, j := range o.Jobs {
				got += j.ID
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("range %d: got outcomes of %q, want %q", n, got, want)
		}
	}
	if n := messages(t, js, stream.Outcomes); n != 4 {
		t.Errorf("messages: got %d, want 4: three ranges and jobs", n)
	}
}

// fails answers with an error until it is told not to.
type fails struct {
	*store.Store
	broken chan struct{} // closed: works
	asked  chan struct{} // gets one for each failure, if there is room
}

func (f fails) Settle(ctx context.Context, s []store.Settlement) ([]store.Settled, error) {
	select {
	case <-f.broken:
		return f.Store.Settle(ctx, s)
	default:
		select {
		case f.asked <- struct{}{}:
		default:
		}
		return nil, errTest
	}
}

// While Redis fails, outcomes wait, and nothing is acknowledged.
func TestRecorderWaitsForRedis(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	set := store.New(testenv.Redis(t), store.Config{Buckets: 4})
	p := feedback.NewPublisher(feedback.PublisherConfig{Streams: js.Streams, Worker: "w1"})
	run(t, p.Run)
	ledger := fails{Store: set, broken: make(chan struct{}), asked: make(chan struct{}, 1)}
	r := feedback.NewRecorder(feedback.RecorderConfig{Streams: js.Streams, TokenSet: set, Ledger: ledger})
	run(t, r.Run)
	stored := make(chan error, 1)
	p.Publish("shop", job.Bulk, []job.JobOutcome{outcome("a", 0, 3)}, func(err error) { stored <- err })
	if err := <-stored; err != nil {
		t.Fatal(err)
	}
	<-ledger.asked
	c, err := js.RecorderConsumer(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if floor, err := c.AckFloor(context.Background()); floor != 0 || err != nil {
		t.Errorf("ack floor while redis fails: got %d, %v, want 0", floor, err)
	}
	close(ledger.broken)
	waitFloor(t, c, 1)
	got, err := set.Progress(context.Background(), []store.JobKey{{App: "shop", Lane: job.Bulk, ID: "a"}})
	if err != nil || !got[0].Complete || got[0].Counts[job.Accepted] != 3 || got[0].Duplicates != 0 {
		t.Errorf("progress: got %+v, %v, want 3 accepted, once", got, err)
	}
}

// waitFloor polls how far the recorder is: JetStream has no event for it.
func waitFloor(t *testing.T, c *stream.Consumer, want uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		floor, err := c.AckFloor(ctx)
		if err != nil {
			t.Fatalf("ack floor: got %d, want %d: %v", floor, want, err)
		}
		if floor >= want {
			return
		}
		<-tick.C
	}
}

// What is not ours in OUTCOMES does not stop the recorder.
func TestRecorderPassesOverWhatItCannotRead(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	set := store.New(testenv.Redis(t), store.Config{Buckets: 4})
	if err := js.NC.Publish(stream.OutcomesSubject("shop", job.Bulk), []byte("not outcomes")); err != nil {
		t.Fatal(err)
	}
	r := feedback.NewRecorder(feedback.RecorderConfig{Streams: js.Streams, TokenSet: set, Ledger: set})
	run(t, r.Run)
	c, err := js.RecorderConsumer(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	waitFloor(t, c, 1)
}

// Two recorders share the work, and each outcome counts once.
func TestRecordersShareTheWork(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	set := store.New(testenv.Redis(t), store.Config{Buckets: 4})
	p := feedback.NewPublisher(feedback.PublisherConfig{Streams: js.Streams, Worker: "w1"})
	run(t, p.Run)
	for range 2 {
		run(t, feedback.NewRecorder(feedback.RecorderConfig{Streams: js.Streams, TokenSet: set, Ledger: set}).Run)
	}
	const jobs = 50
	stored := make(chan error, jobs)
	for n := range jobs {
		p.Publish("shop", job.Bulk, []job.JobOutcome{outcome(fmt.Sprint(n), 0, 500)}, func(err error) { stored <- err })
	}
	for range jobs {
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	c, err := js.RecorderConsumer(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	waitFloor(t, c, messages(t, js, stream.Outcomes))
	var keys []store.JobKey
	for n := range jobs {
		keys = append(keys, store.JobKey{App: "shop", Lane: job.Bulk, ID: fmt.Sprint(n)})
	}
	got, err := set.Progress(context.Background(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range got {
		if !p.Complete || p.Counts[job.Accepted] != 500 || p.Duplicates != 0 {
			t.Errorf("job %d: got %+v, want 500 accepted, once", i, p)
		}
	}
	counts, err := set.AppCounts(context.Background())
	if want := (store.Counts{Accepted: jobs * 500}); err != nil || counts["shop"] != want {
		t.Errorf("of the app: got %v, %v, want %v", counts, err, want)
	}
}

// What an app's notifications count as.
func TestRecorderCountsByApp(t *testing.T) {
	t.Parallel()
	js := testenv.NewJetStream(t)
	set := store.New(testenv.Redis(t), store.Config{Buckets: 4})
	ledger := &failingLedger{Store: set}
	ledger.fails.Store(2)
	p := feedback.NewPublisher(feedback.PublisherConfig{Streams: js.Streams, Worker: "w1"})
	run(t, p.Run)
	run(t, feedback.NewRecorder(feedback.RecorderConfig{Streams: js.Streams, TokenSet: set, Ledger: ledger}).Run)
	jo := outcome("a", 0, 3)
	for n, result := range []job.Result{job.Rejected, job.Failed, job.Unknown, job.Expired, job.Skipped, job.Suppressed, job.Duplicate} {
		jo.Others = append(jo.Others, job.Recipient{DeviceToken: token(10 + n), Result: result, Reason: "r"})
	}
	stored := make(chan error, 2)
	p.Publish("shop", job.Bulk, []job.JobOutcome{jo}, func(err error) { stored <- err })
	p.Publish("news", job.Bulk, []job.JobOutcome{outcome("b", 0, 1)}, func(err error) { stored <- err })
	for range 2 {
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	c, err := js.RecorderConsumer(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	waitFloor(t, c, messages(t, js, stream.Outcomes))
	got, err := set.AppCounts(context.Background())
	want := map[string]store.Counts{"shop": {Accepted: 3, Failed: 3}, "news": {Accepted: 1}}
	if err != nil || !maps.Equal(got, want) || ledger.fails.Load() > 0 {
		t.Errorf("got %v, %v, want %v, after two answers that were lost", got, err, want)
	}
}

// failingLedger counts, and loses the answer.
type failingLedger struct {
	*store.Store
	fails atomic.Int32
}

func (l *failingLedger) CountTold(ctx context.Context, told []store.Told) error {
	err := l.Store.CountTold(ctx, told)
	if len(told) > 0 && l.fails.Add(-1) >= 0 {
		return errors.Join(err, errTest)
	}
	return err
}

// swept counts the buckets that were swept, and closes done when all were.
type swept struct {
	*store.Store
	mu   sync.Mutex
	seen map[int]bool
	done chan struct{}
}

func (s *swept) Sweep(ctx context.Context, app string, n int) (store.Swept, error) {
	out, err := s.Store.Sweep(ctx, app, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && !s.seen[n] {
		s.seen[n] = true
		if len(s.seen) == 4 {
			close(s.done)
		}
	}
	return out, err
}

func TestSweeperComesToEveryBucket(t *testing.T) {
	t.Parallel()
	set := &swept{Store: store.New(testenv.Redis(t), store.Config{Buckets: 4}), seen: make(map[int]bool), done: make(chan struct{})}
	run(t, feedback.NewSweeper(set, []string{"shop"}, 20*time.Millisecond, nil, zap.NewNop()).Run)
	select {
	case <-set.done:
	case <-time.After(20 * time.Second):
		t.Errorf("swept: got %v, want 4 buckets", set.seen)
	}
}
