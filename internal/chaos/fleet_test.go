//go:build chaos && linux

package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	app    = "shop"
	bundle = "com.example.shop"
)

// shares are what part of all device tokens the simulator calls dead or bad.
var shares = apnstest.Shares{Dead: 0.02, Bad: 0.002}

// link is what a worker reaches one system over.
type link struct {
	name    string
	proxies []*testenv.Proxy // one for each server
}

func (l *link) each(do func(p *testenv.Proxy)) {
	for _, p := range l.proxies {
		do(p)
	}
}

// worker is one worker process and its links.
type worker struct {
	*process
	index             int
	ready             string // URL
	nats, redis, apns *link
	busy              atomic.Bool // something is being done to it
}

// fleet is all processes.
type fleet struct {
	t       *testing.T
	ctx     context.Context
	dir     string
	history *history

	nats    []*process
	natsURL string // of all servers, without proxies
	redis   *process
	sim     *process
	journal string
	workers []*worker

	pushfleet string // the program, for what runs once

	adminURL string
	conn     *nats.Conn
	js       jetstream.JetStream
	streams  *stream.Streams
	client   redis.UniversalClient
	set      *store.Store
}

// programs are the binaries that a fleet is made of.
type programs struct {
	nats, pushfleet string
	workers         []string // one for each worker
}

// startFleet starts everything and waits until it works.
func startFleet(ctx context.Context, t *testing.T, dir string, p programs, servers int) *fleet {
	t.Helper()
	f := &fleet{t: t, ctx: ctx, dir: dir, history: newHistory(t, dir), journal: filepath.Join(dir, "journal"), pushfleet: p.pushfleet}
	f.startNATS(p.nats, servers)
	f.startRedis()
	f.startSim(p.pushfleet)
	f.connect(servers)
	f.openSet(redis.NewClient(&redis.Options{Addr: f.redisAddr()}))
	f.check(os.WriteFile(filepath.Join(dir, direct), []byte(f.config(f.natsURL, []string{f.redisAddr()}, f.simAddr(), "", servers)), 0o600))
	for i, path := range p.workers {
		f.addWorker(i, path, servers)
	}
	for _, w := range f.workers {
		f.check(w.start())
	}
	f.supervise()
	for _, w := range f.workers {
		f.until("worker "+w.name, 60*time.Second, func() error { return f.isReady(w) })
	}
	return f
}

func (f *fleet) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) port() string {
	f.t.Helper()
	port, err := freePort()
	f.check(err)
	return port
}

// run starts a process that ends with the test.
func (f *fleet) run(name, path string, args ...string) *process {
	f.t.Helper()
	p := newProcess(f.dir, name, path, args...)
	f.check(p.start())
	f.t.Cleanup(p.kill)
	return p
}

func (f *fleet) startNATS(path string, servers int) {
	clients, routes := make([]string, servers), make([]string, servers)
	for i := range servers {
		clients[i] = "127.0.0.1:" + f.port()
		routes[i] = "nats://127.0.0.1:" + f.port()
	}
	for i, addr := range clients {
		name := "nats" + strconv.Itoa(i)
		_, port, err := net.SplitHostPort(addr)
		f.check(err)
		args := []string{"-a", "127.0.0.1", "-p", port, "-js", "-sd", filepath.Join(f.dir, name), "--name", name}
		if servers > 1 {
			args = append(args, "--cluster_name", "chaos", "--cluster", routes[i], "--routes", strings.Join(routes, ","), "--no_advertise")
		}
		f.nats = append(f.nats, f.run(name, path, args...))
	}
	f.natsURL = "nats://" + strings.Join(clients, ",nats://")
}

func (f *fleet) startRedis() {
	dir := filepath.Join(f.dir, "redis-data")
	f.check(os.Mkdir(dir, 0o700))
	f.redis = f.run("redis", "redis-server", append([]string{"--bind", "127.0.0.1", "--port", f.port()}, testenv.AppendOnly(dir, "everysec")...)...)
}

func (f *fleet) redisAddr() string { return "127.0.0.1:" + f.redis.args[3] }

func (f *fleet) startSim(path string) {
	listen, admin := "127.0.0.1:"+f.port(), "127.0.0.1:"+f.port()
	f.adminURL = "http://" + admin
	f.sim = f.run("sim", path, "sim", "--listen", listen, "--admin", admin, "--out", "sim", "--topic", bundle, "--topic", clubBundle,
		"--ledger", "hash", "--journal", f.journal, "--latency", "5ms", "--streams", "500",
		"--dead", fmt.Sprint(shares.Dead), "--bad", fmt.Sprint(shares.Bad), "--log-level", "warn")
	f.until("the simulator", 20*time.Second, func() error { return f.admin(http.MethodGet, "/stats", nil, nil) })
}

func (f *fleet) simAddr() string { return f.sim.args[2] }

// connect connects the suite itself to NATS, past all proxies.
func (f *fleet) connect(servers int) {
	f.until("nats-server", 60*time.Second, func() error {
		var err error
		if f.conn == nil {
			f.conn, err = nats.Connect(f.natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond))
		}
		if err == nil {
			f.js, err = jetstream.New(f.conn)
		}
		if err == nil {
			ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
			defer cancel()
			f.streams, err = stream.Open(ctx, f.conn, stream.Config{Replicas: servers})
		}
		return err
	})
	f.t.Cleanup(f.conn.Close)
}

// openSet has the suite use the token set itself, past all proxies.
func (f *fleet) openSet(client redis.UniversalClient) {
	f.client = client
	f.t.Cleanup(func() { _ = f.client.Close() })
	f.until("redis-server", 20*time.Second, func() error { return f.client.Ping(f.ctx).Err() })
	f.set = store.New(f.client, store.Config{})
}

func (f *fleet) proxied(name string, addrs ...string) *link {
	l := &link{name: name}
	for _, addr := range addrs {
		l.proxies = append(l.proxies, testenv.StartProxy(f.t, addr))
	}
	return l
}

func (l *link) addrs() []string {
	var list []string
	l.each(func(p *testenv.Proxy) { list = append(list, p.Addr) })
	return list
}

// direct is the configuration of what goes past all proxies.
const direct = "direct.yaml"

// config is a configuration with these addresses, and more.
func (f *fleet) config(nats string, redis []string, apns, more string, servers int) string {
	text := fmt.Sprintf("nats: {url: %q, replicas: %d}\nredis: {addresses: [%s]}\nlog: {level: info}\n%s\napps:\n", nats, servers, strings.Join(redis, ", "), more)
	for _, a := range [...]struct{ name, bundle string }{{app, bundle}, {club, clubBundle}} {
		text += fmt.Sprintf(`
  %s:
    bundle_id: %s
    key: {path: sim/AuthKey_SIM0000001.p8, key_id: SIM0000001, team_id: SIMTEAM001}
    endpoint: {url: "https://%s", ca_file: sim/ca.pem}
`, a.name, a.bundle, apns)
	}
	return text
}

// command runs pushfleet, past all proxies, and returns what it prints.
func (f *fleet) command(args ...string) ([]byte, error) {
	// What is known at the end is asked for when the run may be over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), time.Minute)
	defer cancel()
	var complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, f.pushfleet, append(args, "-c", direct)...)
	cmd.Dir, cmd.Stderr = f.dir, &complaint
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("pushfleet %s: %w: %s", strings.Join(args, " "), err, complaint.String())
	}
	return out, nil
}

// insist does something until it succeeds, or the run is over.
func (f *fleet) insist(what string, do func(ctx context.Context) error) {
	for f.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(f.ctx, 5*time.Second)
		err := do(ctx)
		cancel()
		if err == nil {
			return
		}
		f.history.say("%s: %.200v", what, err)
		<-time.After(tick)
	}
}

// addWorker makes a worker whose every link is a proxy of its own.
func (f *fleet) addWorker(i int, path string, servers int) {
	name := "w" + strconv.Itoa(i)
	ops := "127.0.0.1:" + f.port()
	w := &worker{
		index: i, ready: "http://" + ops + "/readyz",
		nats:  f.proxied("nats", strings.Split(strings.ReplaceAll(f.natsURL, "nats://", ""), ",")...),
		redis: f.proxied("redis", f.redisAddr()),
		apns:  f.proxied("apns", f.simAddr()),
	}
	config := f.config("nats://"+strings.Join(w.nats.addrs(), ",nats://"), w.redis.addrs(), w.apns.addrs()[0],
		fmt.Sprintf("worker: {name: %s, listen: %q}", name, ops), servers)
	file := filepath.Join(f.dir, name+".yaml")
	f.check(os.WriteFile(file, []byte(config), 0o600))
	w.process = newProcess(f.dir, name, path, "worker", "-c", file)
	f.t.Cleanup(w.kill)
	f.workers = append(f.workers, w)
}

// supervise starts workers again that ended by themselves, as compose and Kubernetes
// do. None may: what is away when they start they wait for.
func (f *fleet) supervise() {
	look := time.NewTicker(500 * time.Millisecond)
	end, ended := make(chan struct{}), make(chan struct{})
	f.t.Cleanup(func() { close(end); <-ended })
	go func() {
		defer close(ended)
		defer look.Stop()
		for {
			select {
			case <-look.C:
			case <-end:
				return
			}
			for _, w := range f.workers {
				gone, ran := w.ranFor()
				if !gone {
					continue
				}
				f.history.say("%s has ended by itself after %s", w.name, ran.Round(time.Millisecond))
				f.t.Errorf("%s ended by itself after %s", w.name, ran.Round(time.Millisecond))
				if err := w.start(); err != nil {
					f.t.Error(err)
				}
			}
		}
	}()
}

// until polls other processes, which have no event to wait for.
func (f *fleet) until(what string, patience time.Duration, is func() error) {
	f.t.Helper()
	if err := f.await(what, patience, is); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) await(what string, patience time.Duration, is func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for {
		err := is()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-timeout:
			return fmt.Errorf("waited %s for %s: %w", patience, what, err)
		case <-f.ctx.Done():
			return fmt.Errorf("waited for %s: %w: %w", what, context.Cause(f.ctx), err)
		}
	}
}

func (f *fleet) isReady(w *worker) error {
	resp, err := http.Get(w.ready)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	return nil
}

// admin talks to the simulator.
func (f *fleet) admin(method, path string, body, answer any) error {
	var send bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&send).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(f.ctx, method, f.adminURL+path, &send)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	return err
}

// leader returns the server that leads JOBS.
func (f *fleet) leader() (*process, error) {
	if len(f.nats) == 1 {
		return f.nats[0], nil
	}
	ctx, cancel := context.WithTimeout(f.ctx, 5*time.Second)
	defer cancel()
	st, err := f.js.Stream(ctx, stream.Jobs)
	if err != nil {
		return nil, err
	}
	if c := st.CachedInfo().Cluster; c != nil {
		for _, p := range f.nats {
			if p.name == c.Leader {
				return p, nil
			}
		}
	}
	return nil, errStillDown
}

// backlog says what is still to be done; nil: nothing.
func (f *fleet) backlog() error {
	ctx, cancel := context.WithTimeout(f.ctx, 5*time.Second)
	defer cancel()
	for _, name := range []string{stream.Jobs, stream.Devices} {
		st, err := f.js.Stream(ctx, name)
		if err != nil {
			return err
		}
		if n := st.CachedInfo().State.Msgs; n > 0 {
			return fmt.Errorf("%s holds %d messages", name, n)
		}
		for c := range st.ListConsumers(ctx).Info() {
			if c.NumAckPending > 0 || c.NumPending > 0 {
				return fmt.Errorf("consumer %s: %d pending, %d unacknowledged", c.Name, c.NumPending, c.NumAckPending)
			}
		}
	}
	recorder, err := f.streams.RecorderConsumer(ctx)
	if err != nil {
		return err
	}
	waiting, unacknowledged, err := recorder.Backlog(ctx)
	if err == nil && waiting+unacknowledged > 0 {
		err = fmt.Errorf("recorder: %d waiting, %d unacknowledged", waiting, unacknowledged)
	}
	return err
}

// lanes are both.
var lanes = []job.Lane{job.Transactional, job.Bulk}
