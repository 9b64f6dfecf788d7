package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// naiveStream has the single jobs of the apns2 worker: a stream of its own,
	// because a worker buries what nobody's app is.
	naiveStream  = "NAIVE"
	naiveSubject = "bench.naive"
	naiveDurable = "naive"

	// benchPause is far above what a benchmark takes; the consumer is resumed.
	benchPause = time.Hour
)

// jobsRig is the processes of bench jobs.
type jobsRig struct {
	benchFleet
	naive *benchProcess
}

// start starts everything and waits until it is ready. What it has started,
// stop stops.
func (b *jobsRig) start(ctx context.Context, f benchJobsFlags) error {
	if err := b.benchFleet.start(ctx, f.natsServer, f.n); err != nil {
		return err
	}
	if _, err := b.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: naiveStream, Subjects: []string{naiveSubject}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage,
	}); err != nil {
		return fmt.Errorf("create stream %s: %w", naiveStream, err)
	}
	if _, err := b.js.CreateConsumer(ctx, naiveStream, jetstream.ConsumerConfig{
		Durable: naiveDurable, AckPolicy: jetstream.AckExplicitPolicy, AckWait: stream.TransactionalAckWait, MaxAckPending: -1,
	}); err != nil {
		return fmt.Errorf("create consumer %s: %w", naiveDurable, err)
	}
	if err := b.startWorker(ctx, b.redisAddr, f.cpuProfile); err != nil {
		return err
	}
	return b.startNaive(ctx)
}

// startNaive starts the apns2 worker and waits until it takes jobs.
func (b *jobsRig) startNaive(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	b.naive, err = startPinned(ctx, b.core, self, "bench", "apns2-worker", "--nats", b.natsURL, "--url", b.sim.url, "--dir", b.sim.dir)
	if err != nil {
		return err
	}
	if !bufio.NewScanner(b.naive.out).Scan() {
		return errors.New("apns2 worker said nothing")
	}
	return nil
}

// stop stops what was started, the workers first.
func (b *jobsRig) stop() error {
	var err error
	if b.naive != nil {
		err = b.naive.stop()
	}
	return errors.Join(err, b.benchFleet.stop())
}

// register puts the device tokens into the token set.
func (b *jobsRig) register(ctx context.Context, n int, done func(int)) error {
	for from := 0; from < n; from += benchRegister {
		regs := make([]device.Registration, min(benchRegister, n-from))
		for i := range regs {
			regs[i] = bareDevice(benchToken(from+i), from+i)
		}
		if _, err := b.set.RegisterMany(ctx, benchApp, regs); err != nil {
			return err
		}
		done(len(regs))
	}
	return nil
}

func (b *jobsRig) warm(ctx context.Context, f benchJobsFlags) error {
	if _, err := b.throughWorker(ctx, job.Bulk, "warm", f.n, benchJobTokens); err != nil {
		return err
	}
	singles := min(f.singles, 5000)
	if _, err := b.throughWorker(ctx, job.Transactional, "warm", singles, 1); err != nil {
		return err
	}
	_, err := b.throughNaive(ctx, "warm", singles)
	return err
}

// benchJob is the nth job of a run, for the device tokens from number from on.
func benchJob(run string, n, from, tokens int) *job.Job {
	j := &job.Job{
		ID: fmt.Sprintf("%s-%d", run, n),
		Notification: &job.Notification{
			Title: "Your order is on its way", Body: "Order 4711 was shipped and will be with you on Friday",
			Badge: new(1), Sound: job.Sound{Name: "default"}, ThreadID: "orders",
		},
		Data: json.RawMessage(`{"order":4711,"url":"https://example.com/orders/4711"}`),
	}
	j.To.Tokens = make([]device.Token, tokens)
	for i := range j.To.Tokens {
		j.To.Tokens[i] = benchToken(from + i)
	}
	return j
}

// publish publishes jobs as JSON, and returns what the simulator must receive.
// Producers in Go would write long lists in the compact form: those in other
// languages do not.
func (b *jobsRig) publish(ctx context.Context, subject string, lane job.Lane, run string, n, tokens int) (sums apnstest.Sums, err error) {
	futures := make([]jetstream.PubAckFuture, 0, n/tokens)
	for from := 0; from < n; from += tokens {
		j := benchJob(run, from/tokens, from, tokens)
		msg := nats.NewMsg(subject)
		msg.Header.Set(jetstream.MsgIDHeader, stream.MsgID(benchApp, lane, j.ID))
		if msg.Data, err = j.MarshalJSON(); err != nil {
			return sums, fmt.Errorf("encode job: %w", err)
		}
		future, err := b.js.PublishMsgAsync(msg, jetstream.WithStallWait(10*time.Second))
		if err != nil {
			return sums, fmt.Errorf("publish to %s: %w", subject, err)
		}
		futures = append(futures, future)
		body, err := j.RenderPayload()
		if err != nil {
			return sums, fmt.Errorf("render payload: %w", err)
		}
		ids := job.NewAPNsIDs(benchApp, j.ID)
		for _, t := range j.To.Tokens {
			sums.Add(&apnstest.Notification{
				DeviceToken: []byte(t.Raw()), APNsID: ids.ID(t), Topic: benchTopic, PushType: string(j.EffectivePushType()),
				Priority: j.EffectivePriority(), Expiration: j.Expiration(time.Time{}).Header(), Body: body,
			})
		}
	}
	for _, future := range futures {
		select {
		case ack := <-future.Ok():
			if ack.Duplicate {
				return sums, fmt.Errorf("publish to %s: JetStream has a job of this id", subject)
			}
		case err := <-future.Err():
			return sums, fmt.Errorf("publish to %s: %w", subject, err)
		case <-ctx.Done():
			return sums, fmt.Errorf("publish to %s: %w", subject, context.Cause(ctx))
		}
	}
	return sums, nil
}

// jobsRun is one run of jobs through one worker.
type jobsRun struct {
	subject          string
	lane             job.Lane
	stream, consumer string
	name             string
	n, tokens        int
	process          *benchProcess
	done             func(context.Context) error // nil once nothing is left to do
}

// throughWorker sends n notifications through the worker, in jobs of tokens.
func (b *jobsRig) throughWorker(ctx context.Context, lane job.Lane, name string, n, tokens int) (benchMeasure, error) {
	m, err := b.through(ctx, jobsRun{
		subject: stream.JobsSubject(benchApp, lane), lane: lane, stream: stream.Jobs, consumer: stream.LaneDurable(benchApp, lane),
		name: name, n: n, tokens: tokens, process: b.worker,
		done: func(ctx context.Context) error {
			if err := b.empty(ctx, stream.Jobs); err != nil {
				return err
			}
			// A job leaves JOBS once its outcomes are stored, so all are there by now.
			return b.recorded(ctx)
		},
	})
	if err != nil {
		return m, err
	}
	return m, b.complete(ctx, lane, name, n, tokens)
}

// throughNaive sends n notifications through the apns2 worker.
func (b *jobsRig) throughNaive(ctx context.Context, name string, n int) (benchMeasure, error) {
	return b.through(ctx, jobsRun{
		subject: naiveSubject, lane: job.Transactional, stream: naiveStream, consumer: naiveDurable,
		name: name, n: n, tokens: 1, process: b.naive,
		done: func(ctx context.Context) error { return b.empty(ctx, naiveStream) },
	})
}

func (b *jobsRig) through(ctx context.Context, r jobsRun) (m benchMeasure, err error) {
	if _, err := askSim(ctx, http.MethodPost, b.sim.admin+"/reset", ""); err != nil {
		return m, err
	}
	if _, err := b.js.PauseConsumer(ctx, r.stream, r.consumer, time.Now().Add(benchPause)); err != nil {
		return m, fmt.Errorf("pause consumer %s: %w", r.consumer, err)
	}
	sums, err := b.publish(ctx, r.subject, r.lane, r.name, r.n, r.tokens)
	if err != nil {
		return m, err
	}
	pids := [3]int{r.process.cmd.Process.Pid, b.nats.cmd.Process.Pid, b.redis.cmd.Process.Pid}
	var before, after [3]float64
	if err := cpuOf(pids, &before); err != nil {
		return m, err
	}
	began := time.Now()
	if _, err := b.js.ResumeConsumer(ctx, r.stream, r.consumer); err != nil {
		return m, fmt.Errorf("resume consumer %s: %w", r.consumer, err)
	}
	if err := b.drained(ctx, r.done); err != nil {
		return m, fmt.Errorf("wait for %d notifications of %s: %w", r.n, r.consumer, err)
	}
	m.took = time.Since(began)
	if err := cpuOf(pids, &after); err != nil {
		return m, err
	}
	m.cpu, m.nats, m.redis = after[0]-before[0], after[1]-before[1], after[2]-before[2]
	if m.cpu <= 0 {
		return m, errors.New("no CPU time was measured: too few notifications, or the system does not tell (Linux does)")
	}
	return m, b.received(ctx, r.n, sums)
}

// received compares what the simulator received with what was published.
func (b *jobsRig) received(ctx context.Context, n int, sums apnstest.Sums) error {
	stats, err := b.sim.stats(ctx)
	if err != nil {
		return err
	}
	if stats.Accepted != int64(n) || stats.Duplicates != 0 || stats.Sums != sums {
		return fmt.Errorf("what the simulator received is not what was published: %d of %d accepted, %d duplicates, sums %v and %v",
			stats.Accepted, n, stats.Duplicates, stats.Sums, sums)
	}
	return nil
}

// complete compares the token set's books with what was published.
func (b *jobsRig) complete(ctx context.Context, lane job.Lane, name string, n, tokens int) error {
	keys := make([]store.JobKey, n/tokens)
	for i := range keys {
		keys[i] = store.JobKey{App: benchApp, Lane: lane, ID: fmt.Sprintf("%s-%d", name, i)}
	}
	for part := range slices.Chunk(keys, 1000) {
		progress, err := b.set.Progress(ctx, part)
		if err != nil {
			return err
		}
		for i, p := range progress {
			if !p.Complete || p.Counts[job.Accepted] != tokens || p.Duplicates != 0 {
				return fmt.Errorf("job %s: complete %v, %d of %d accepted, %d duplicates", part[i], p.Complete, p.Counts[job.Accepted], tokens, p.Duplicates)
			}
		}
	}
	return nil
}
