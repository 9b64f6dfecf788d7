package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

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
	// benchDrained is how long a run may take.
	benchDrained = 3 * time.Minute
	// drainTick is how often it is asked whether all is done. It costs the workers
	// nothing: nats-server answers.
	drainTick = 10 * time.Millisecond
)

// jobsRig is the processes of bench jobs.
type jobsRig struct {
	dir          string
	core, others int // of the measured processes, and of the rest; -1: the system's choice

	nats, redis   *benchProcess
	sim           *benchSim
	worker, naive *benchProcess

	nc       *nats.Conn
	js       jetstream.JetStream
	streams  *stream.Streams
	recorder *stream.Consumer
	client   *redis.Client
	set      *store.Store

	sent int // device tokens that apns2 alone has used
}

// findNATS finds the server's program.
func findNATS(named string) (string, error) {
	if named == "" {
		named = "nats-server"
	}
	bin, err := exec.LookPath(named)
	if errors.Is(err, exec.ErrDot) {
		err = nil // it was named
	}
	if err != nil {
		return "", fmt.Errorf("this benchmark needs nats-server: %w; name it with --nats-server, or build the one of go.mod in pushfleet's sources:"+
			" go build -o bin/nats-server github.com/nats-io/nats-server/v2 (make bench does)", err)
	}
	return bin, nil
}

// start starts everything and waits until it is ready. What it has started,
// stop stops.
func (b *jobsRig) start(ctx context.Context, f benchJobsFlags) (err error) {
	natsBin, err := findNATS(f.natsServer)
	if err != nil {
		return err
	}
	redisBin, err := exec.LookPath("redis-server")
	if err != nil {
		return errors.New("this benchmark needs redis-server (apt-get install redis-server)")
	}
	natsAddr, redisAddr, err := twoAddresses(ctx)
	if err != nil {
		return err
	}
	_, natsPort, err := net.SplitHostPort(natsAddr)
	if err != nil {
		return fmt.Errorf("start nats-server: %w", err)
	}
	_, redisPort, err := net.SplitHostPort(redisAddr)
	if err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	if b.nats, err = startPinned(ctx, b.others, natsBin, "-a", "127.0.0.1", "-p", natsPort, "-js",
		"-sd", filepath.Join(b.dir, "jetstream"), "-l", filepath.Join(b.dir, "nats.log")); err != nil {
		return err
	}
	// Settings from --appendonly on are those of docker-compose.yml.
	if b.redis, err = startPinned(ctx, b.others, redisBin, "--bind", "127.0.0.1", "--port", redisPort, "--dir", b.dir, "--loglevel", "warning",
		"--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
		"--hash-max-listpack-entries", "512", "--hash-max-listpack-value", "64"); err != nil {
		return err
	}
	if b.sim, err = startSim(ctx, filepath.Join(b.dir, "sim"), b.others); err != nil {
		return err
	}
	if err := b.connect(ctx, "nats://"+natsAddr, redisAddr, f.n); err != nil {
		return err
	}
	if err := b.startWorker(ctx, "nats://"+natsAddr, redisAddr, f.cpuProfile); err != nil {
		return err
	}
	return b.startNaive(ctx, "nats://"+natsAddr)
}

// connect opens the streams and the token set.
func (b *jobsRig) connect(ctx context.Context, natsURL, redisAddr string, devices int) (err error) {
	if err := waitFor(ctx, func() (err error) {
		b.nc, err = nats.Connect(natsURL)
		return err
	}); err != nil {
		return fmt.Errorf("wait for nats-server: %w", err)
	}
	// JetStream may be a moment behind.
	if err := waitFor(ctx, func() (err error) {
		b.streams, err = stream.Open(ctx, b.nc, stream.Config{})
		return err
	}); err != nil {
		return err
	}
	if b.recorder, err = b.streams.RecorderConsumer(ctx); err != nil {
		return err
	}
	if b.js, err = jetstream.New(b.nc, jetstream.WithPublishAsyncMaxPending(4096)); err != nil {
		return fmt.Errorf("open jetstream: %w", err)
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
	b.client = redis.NewClient(&redis.Options{Addr: redisAddr})
	if err := waitFor(ctx, func() error { return b.client.Ping(ctx).Err() }); err != nil {
		return fmt.Errorf("wait for redis-server: %w", err)
	}
	b.set = store.New(b.client, store.Config{Buckets: bucketsFor(devices)})
	_, err = b.set.Buckets(ctx, benchApp) // the bucket count is written down
	return err
}

// startWorker starts "pushfleet worker" and waits until it takes jobs.
func (b *jobsRig) startWorker(ctx context.Context, natsURL, redisAddr, cpuProfile string) error {
	id, err := apnstest.LoadIdentity(b.sim.dir)
	if err != nil {
		return fmt.Errorf("read simulator's files: %w", err)
	}
	listen, _, err := twoAddresses(ctx)
	if err != nil {
		return err
	}
	path := filepath.Join(b.dir, "pushfleet.yaml")
	text := fmt.Sprintf(`nats: {url: "%s"}
redis: {addresses: ["%s"]}
worker: {name: bench, listen: "%s"}
log: {level: warn}
apps:
  %s:
    bundle_id: %s
    key: {path: "sim/AuthKey_%s.p8", key_id: "%s", team_id: "%s"}
    endpoint: {url: "%s", ca_file: sim/ca.pem}
`, natsURL, redisAddr, listen, benchApp, benchTopic, id.Key.ID, id.Key.ID, id.Key.TeamID, b.sim.url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	args := []string{"worker", "-c", path}
	if cpuProfile != "" {
		args = append(args, "--cpuprofile", cpuProfile)
	}
	if b.worker, err = startPinned(ctx, b.core, self, args...); err != nil {
		return err
	}
	if err := waitFor(ctx, func() error { return askReady(ctx, listen) }); err != nil {
		return fmt.Errorf("wait for pushfleet worker: %w", err)
	}
	return nil
}

// startNaive starts the apns2 worker and waits until it takes jobs.
func (b *jobsRig) startNaive(ctx context.Context, natsURL string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	b.naive, err = startPinned(ctx, b.core, self, "bench", "apns2-worker", "--nats", natsURL, "--url", b.sim.url, "--dir", b.sim.dir)
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
	var errs []error
	for _, p := range []*benchProcess{b.worker, b.naive} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	if b.nc != nil {
		b.nc.Close()
	}
	if b.client != nil {
		errs = append(errs, b.client.Close())
	}
	if b.sim != nil {
		errs = append(errs, b.sim.stop())
	}
	for _, p := range []*benchProcess{b.redis, b.nats} {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	return errors.Join(errs...)
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
			waiting, unacknowledged, err := b.recorder.Backlog(ctx)
			if err == nil && waiting+unacknowledged > 0 {
				err = fmt.Errorf("%d messages of outcomes are not recorded", waiting+unacknowledged)
			}
			return err
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

// drained waits until done returns nil.
func (b *jobsRig) drained(ctx context.Context, done func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, benchDrained)
	defer cancel()
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// empty returns nil if nothing is left in a stream.
func (b *jobsRig) empty(ctx context.Context, name string) error {
	st, err := b.js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("ask for stream %s: %w", name, err)
	}
	if left := st.CachedInfo().State.Msgs; left > 0 {
		return fmt.Errorf("%d messages are left in %s", left, name)
	}
	return nil
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

// apns2 sends with apns2 alone.
func (b *jobsRig) apns2(ctx context.Context, n int) (m benchMeasure, err error) {
	e := &benchEngine{senderCore: b.core, sent: b.sent}
	var verified benchEngineResult
	r, err := e.sender(ctx, b.sim, &verified, "apns2", n)
	if err != nil {
		return m, err
	}
	b.sent = e.sent
	return benchMeasure{cpu: r.CPUSeconds, took: time.Duration(r.Seconds * float64(time.Second))}, nil
}

// askReady asks a worker whether it takes jobs.
func askReady(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("ask whether it is ready: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask whether it is ready: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("not ready: " + strconv.Itoa(resp.StatusCode))
	}
	return nil
}
