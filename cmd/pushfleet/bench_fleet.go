package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// benchDrained is how long a run may take.
	benchDrained = 3 * time.Minute
	// drainTick is how often it is asked whether all is done. It costs the workers
	// nothing: nats-server answers.
	drainTick = 10 * time.Millisecond
)

// benchFleet is a fleet of processes: nats-server, redis-server, the simulator and
// one worker.
type benchFleet struct {
	dir          string
	core, others int // of the measured processes, and of the rest; -1: the system's choice

	natsURL, redisAddr string

	nats, redis *benchProcess
	sim         *benchSim
	worker      *benchProcess

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

// start starts all but the worker, with room for so many devices, and waits until
// it is ready. What it has started, stop stops. sim are further arguments of the
// simulator.
func (b *benchFleet) start(ctx context.Context, natsServer string, devices int, sim ...string) (err error) {
	natsBin, err := findNATS(natsServer)
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
	if b.sim, err = startSim(ctx, filepath.Join(b.dir, "sim"), b.others, sim...); err != nil {
		return err
	}
	b.natsURL, b.redisAddr = "nats://"+natsAddr, redisAddr
	return b.connect(ctx, devices)
}

// connect opens the streams and the token set.
func (b *benchFleet) connect(ctx context.Context, devices int) (err error) {
	if err := waitFor(ctx, func() (err error) {
		b.nc, err = nats.Connect(b.natsURL)
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
	b.client = redis.NewClient(&redis.Options{Addr: b.redisAddr})
	if err := waitFor(ctx, func() error { return b.client.Ping(ctx).Err() }); err != nil {
		return fmt.Errorf("wait for redis-server: %w", err)
	}
	b.set = store.New(b.client, store.Config{Buckets: bucketsFor(devices)})
	_, err = b.set.Buckets(ctx, benchApp) // the bucket count is written down
	return err
}

// startWorker starts "pushfleet worker" and waits until it takes jobs. Its Redis may
// be reached at another address than ours.
func (b *benchFleet) startWorker(ctx context.Context, redisAddr, cpuProfile string) error {
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
`, b.natsURL, redisAddr, listen, benchApp, benchTopic, id.Key.ID, id.Key.ID, id.Key.TeamID, b.sim.url)
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

// stop stops what was started, the worker first.
func (b *benchFleet) stop() error {
	var errs []error
	if b.worker != nil {
		errs = append(errs, b.worker.stop())
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

// drained waits until done returns nil.
func (b *benchFleet) drained(ctx context.Context, done func(context.Context) error) error {
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
func (b *benchFleet) empty(ctx context.Context, name string) error {
	st, err := b.js.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("ask for stream %s: %w", name, err)
	}
	if left := st.CachedInfo().State.Msgs; left > 0 {
		return fmt.Errorf("%d messages are left in %s", left, name)
	}
	return nil
}

// recorded returns nil once the recorder has nothing left to do.
func (b *benchFleet) recorded(ctx context.Context) error {
	waiting, unacknowledged, err := b.recorder.Backlog(ctx)
	if err == nil && waiting+unacknowledged > 0 {
		err = fmt.Errorf("%d messages of outcomes are not recorded", waiting+unacknowledged)
	}
	return err
}

// apns2 sends with apns2 alone, to a simulator for which all device tokens are
// healthy.
func (b *benchFleet) apns2(ctx context.Context, sim *benchSim, n int) (m benchMeasure, err error) {
	e := &benchEngine{senderCore: b.core, sent: b.sent}
	var verified benchEngineResult
	r, err := e.sender(ctx, sim, &verified, "apns2", n)
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
