package store_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// onServer returns a token set on a server of the test's own.
func onServer(t *testing.T, opts *redis.Options, args ...string) (*fixture, *testenv.RedisServer, bool) {
	t.Helper()
	server, ok := testenv.StartRedis(t, args...)
	if !ok {
		t.Log("no redis-server on PATH: nothing to disturb")
		return nil, nil, false
	}
	opts.Addr = server.Addr
	return setup(dial(t, opts)), server, true
}

func dial(t *testing.T, opts *redis.Options) *redis.Client {
	t.Helper()
	client := redis.NewClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// refused wants a call to have gone wrong for a cause that its error names, with
// the app and no device token.
func refused(t *testing.T, what string, err error, cause string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: got no error, want one that says %s", what, cause)
		return
	}
	text := err.Error()
	if !strings.Contains(text, cause) || !strings.Contains(text, app) {
		t.Errorf("%s: got %q, want the app and %s", what, text, cause)
	}
	for n := range 100 {
		if strings.Contains(text, token(n).Hex()) || strings.Contains(text, token(n).Raw()) {
			t.Errorf("%s: got a device token in %q", what, text)
		}
	}
}

// until polls Redis, which has no event to wait for.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited for %s", what)
		}
	}
}

func userOf(n int) string { return fmt.Sprint("user ", n) }

func withOwner(n int) device.Registration {
	reg := registration(token(n))
	reg.User, reg.InstallID = userOf(n), fmt.Sprint("install ", n)
	return reg
}

// wantReadable wants all that only reads to work, also where layouts must be read
// again.
func (f *fixture) wantReadable(t *testing.T, n int) {
	t.Helper()
	f.AgeLayouts()
	if e := f.entry(t, token(n)); !e.Known || !e.Record.Usable() {
		t.Errorf("look-up: got %+v, want a live device", e)
	}
	wantTokens(t, "devices of the user", f.ofUser(t, userOf(n)), token(n))
	if all, err := f.ScanBuckets(t.Context(), app, 4, 0, 4, nil); err != nil || len(all) == 0 {
		t.Errorf("ScanBuckets: got %d, %v", len(all), err)
	}
	if _, ok, err := f.Device(t.Context(), app, token(n)); err != nil || !ok {
		t.Errorf("Device: got %t, %v", ok, err)
	}
}

// wantUnwritable wants all that writes to be refused for a cause. It does all at
// once, since some of it waits first.
func (f *fixture) wantUnwritable(t *testing.T, n int, cause string) {
	t.Helper()
	var calls sync.WaitGroup
	defer calls.Wait()
	calls.Go(func() {
		_, err := f.Register(t.Context(), app, registration(token(99)))
		refused(t, "Register", err, cause)
	})
	calls.Go(func() {
		got, err := f.RegisterMany(t.Context(), app, []device.Registration{registration(token(98))})
		refused(t, "RegisterMany", err, cause)
		if len(got) != 1 || got[0].Err == nil {
			t.Errorf("RegisterMany: got %+v, want an error at its place", got)
		}
	})
	calls.Go(func() {
		v := []store.Verdict{{Token: token(n), Said: store.Quarantine, Generation: 1, Reason: device.BadDeviceToken}}
		got, err := f.Apply(t.Context(), app, v)
		refused(t, "Apply", err, cause)
		if len(got) != 1 || got[0] != store.NotApplied {
			t.Errorf("Apply: got %v, want %v", got, store.NotApplied)
		}
	})
	calls.Go(func() {
		_, err := f.Delete(t.Context(), app, token(n), device.Deleted)
		refused(t, "Delete", err, cause)
	})
}

// wantAsBefore wants that nothing was written, and that all can be.
func (f *fixture) wantAsBefore(t *testing.T, n int) {
	t.Helper()
	f.wantReadable(t, n)
	for _, unwritten := range []int{98, 99} {
		if e := f.entry(t, token(unwritten)); e.Known {
			t.Errorf("a registration that was refused: got %+v, want none", e)
		}
	}
	if got := f.mustRegister(t, withOwner(n)); got.Generation != 2 {
		t.Errorf("registered again: got %+v, want generation 2", got)
	}
	if got := f.apply(t, store.Verdict{Token: token(n), Said: store.Dead, Generation: 2, Timestamp: f.clock.move(time.Hour).UnixMilli()}); got != store.RemovedIt {
		t.Errorf("410 afterwards: got %v, want %v", got, store.RemovedIt)
	}
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	f, _, ok := onServer(t, &redis.Options{})
	if !ok {
		return
	}
	f.mustRegister(t, withOwner(1))
	if err := f.client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	f.wantReadable(t, 1)
	f.wantUnwritable(t, 1, "OOM command not allowed")
	if err := f.Check(t.Context()); !errors.Is(err, store.ErrFull) {
		t.Errorf("Check: got %v, want %v", err, store.ErrFull)
	}
	if err := f.client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if err := f.Check(t.Context()); err != nil {
		t.Errorf("Check with memory: got %v, want nothing wrong", err)
	}
	f.wantAsBefore(t, 1)
}

func TestCannotSave(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, _, ok := onServer(t, &redis.Options{}, "--dir", dir, "--save", "3600 1")
	if !ok {
		return
	}
	f.mustRegister(t, withOwner(1))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.client.BgSave(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	until(t, "the snapshot to fail", func() bool {
		return strings.Contains(f.client.Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
	})
	f.wantReadable(t, 1)
	f.wantUnwritable(t, 1, "MISCONF")
	problems := f.Problems(t.Context())
	if len(problems) != 1 || !errors.Is(problems[0], store.ErrDisk) || !problems[0].Bearable() {
		t.Errorf("Problems: got %v, want %v, and it can be read", problems, store.ErrDisk)
	}
	if err := f.client.ConfigSet(t.Context(), "stop-writes-on-bgsave-error", "no").Err(); err != nil {
		t.Fatal(err)
	}
	f.wantAsBefore(t, 1)
}

func TestOnAReplica(t *testing.T) {
	t.Parallel()
	master, server, ok := onServer(t, &redis.Options{}, "--repl-diskless-sync-delay", "0")
	if !ok {
		return
	}
	f, _, _ := onServer(t, &redis.Options{}, testenv.ReplicaOf(t, server)...)
	master.mustRegister(t, withOwner(1))
	until(t, "the replica", func() bool {
		n, err := f.client.Exists(t.Context(), "pf:{"+app+"}:layout").Result()
		return err == nil && n == 1
	})
	if n, err := master.client.Do(t.Context(), "wait", 1, 10_000).Int(); err != nil || n != 1 {
		t.Fatalf("replicas with all of it: got %d, %v, want 1", n, err)
	}
	f.wantReadable(t, 1)
	f.wantUnwritable(t, 1, "READONLY")
	if err := f.Check(t.Context()); !errors.Is(err, store.ErrReplica) {
		t.Errorf("Check: got %v, want %v", err, store.ErrReplica)
	}
	if err := f.client.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	if err := f.Check(t.Context()); err != nil {
		t.Errorf("Check of a master: got %v, want nothing wrong", err)
	}
	f.wantAsBefore(t, 1)
}

// A write that comes while a replica takes over waits for it.
func TestReplicaTakesOverMeanwhile(t *testing.T) {
	t.Parallel()
	master, server, ok := onServer(t, &redis.Options{}, "--repl-diskless-sync-delay", "0")
	if !ok {
		return
	}
	f, replica, _ := onServer(t, &redis.Options{MaxRetries: -1}, testenv.ReplicaOf(t, server)...)
	master.mustRegister(t, registration(token(1)))
	admin := dial(t, &redis.Options{Addr: replica.Addr})
	until(t, "the replica to know the layout", func() bool {
		n, err := admin.Exists(t.Context(), "pf:{"+app+"}:layout").Result()
		return err == nil && n == 1
	})
	until(t, "the replica", func() bool {
		e, err := f.Lookup(t.Context(), app, []device.Token{token(1)}, nil)
		return err == nil && e[0].Known
	})
	refusals := 0
	f.client.AddHook(pipelineHook(func(cmds []redis.Cmder) {
		// The first one goes to the replica, which does not know the script.
		if cmds[0].Name() != "eval" {
			return
		}
		if refusals++; refusals == 2 {
			if err := admin.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
				t.Error(err)
			}
		}
	}))
	if got := f.mustRegister(t, registration(token(1))); got.Generation != 2 || refusals < 2 {
		t.Errorf("got %+v after %d tries, want generation 2 and to have been refused first", got, refusals)
	}
}

func TestLoading(t *testing.T) {
	t.Parallel()
	// Each key takes 2 ms to load, and others are answered in between.
	f, server, ok := onServer(t, &redis.Options{}, "--enable-debug-command", "yes", "--key-load-delay", "2000",
		"--loading-process-events-interval-bytes", "1024")
	if !ok {
		return
	}
	f.mustRegister(t, withOwner(1))
	values := make([]any, 0, 4000)
	for n := range cap(values) / 2 {
		values = append(values, fmt.Sprint("other ", n), strings.Repeat("x", 100))
	}
	if err := f.client.MSet(t.Context(), values...).Err(); err != nil {
		t.Fatal(err)
	}
	loader := dial(t, &redis.Options{Addr: server.Addr, ReadTimeout: time.Minute, MaxRetries: -1})
	probe := dial(t, &redis.Options{Addr: server.Addr, MaxRetries: -1})
	loaded := make(chan error, 1)
	go func() { loaded <- loader.Do(context.Background(), "debug", "reload").Err() }()
	until(t, "loading", func() bool { return redis.IsLoadingError(probe.Get(t.Context(), "other 0").Err()) })

	impatient, cancel := context.WithCancel(t.Context())
	defer cancel()
	tries := 0
	f.client.AddHook(pipelineHook(func([]redis.Cmder) {
		if tries++; tries == 2 {
			cancel()
		}
	}))
	_, err := f.Register(impatient, app, registration(token(99)))
	refused(t, "Register, with little patience", err, "LOADING")
	if !errors.Is(err, context.Canceled) || tries != 2 {
		t.Errorf("Register, with little patience: got %v after %d tries, want also that it was canceled at the second", err, tries)
	}
	if err := f.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "LOADING") {
		t.Errorf("Check: got %v, want that it loads", err)
	}
	if err := <-loaded; err != nil {
		t.Fatal(err)
	}
	f.wantAsBefore(t, 1)
}

func TestBusyScript(t *testing.T) {
	t.Parallel()
	f, server, ok := onServer(t, &redis.Options{}, "--busy-reply-threshold", "10")
	if !ok {
		return
	}
	f.mustRegister(t, withOwner(1))
	other := dial(t, &redis.Options{Addr: server.Addr, ReadTimeout: time.Minute, MaxRetries: -1})
	ended := make(chan error, 1)
	go func() { ended <- other.Eval(context.Background(), "while true do end", nil).Err() }()
	probe := dial(t, &redis.Options{Addr: server.Addr, MaxRetries: -1})
	until(t, "the script", func() bool { return redis.HasErrorPrefix(probe.Ping(t.Context()).Err(), "BUSY") })

	f.wantUnwritable(t, 1, "BUSY")
	if err := probe.ScriptKill(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("the script that was killed: got no error")
	}
	f.wantAsBefore(t, 1)
}

// A Redis that does not answer is not asked again and again.
func TestPaused(t *testing.T) {
	t.Parallel()
	f, server, ok := onServer(t, &redis.Options{ReadTimeout: 300 * time.Millisecond})
	if !ok {
		return
	}
	f.mustRegister(t, withOwner(1))
	admin := dial(t, &redis.Options{Addr: server.Addr})
	if err := admin.Do(t.Context(), "client", "pause", 60_000, "write").Err(); err != nil {
		t.Fatal(err)
	}
	f.wantReadable(t, 1)
	start := time.Now()
	_, err := f.Register(t.Context(), app, registration(token(97)))
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("Register: got %v, want a time-out", err)
	}
	refused(t, "Register", err, "timeout")
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Register: took %s, want one time-out of 300 ms", took)
	}
	if err := admin.Do(t.Context(), "client", "unpause").Err(); err != nil {
		t.Fatal(err)
	}
	// What had come to Redis is carried out now.
	f.wantAsBefore(t, 1)
}

// Whatever byte of a pipeline is the last, registering is made whole without the
// caller's doing.
func TestConnectionCut(t *testing.T) {
	t.Parallel()
	const devices = 60
	server, ok := testenv.StartRedis(t)
	if !ok {
		t.Log("no redis-server on PATH: no connection to cut")
		return
	}
	direct := dial(t, &redis.Options{Addr: server.Addr})
	cuts := 0
	for _, at := range []int{0, 1, 200, 1000, 1500, 2500, 4000, 6000, 10_000} {
		for name, cut := range map[string]func(*testenv.Proxy, int){"replies": (*testenv.Proxy).CutReplies, "requests": (*testenv.Proxy).CutRequests} {
			if err := direct.FlushDB(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			proxy := testenv.StartProxy(t, server.Addr)
			f := setup(dial(t, &redis.Options{Addr: proxy.Addr}))
			f.mustRegister(t, registration(token(1000))) // scripts are there, and a connection
			var regs []device.Registration
			var old, fresh []device.Token
			for n := range devices {
				reg := withOwner(n)
				old = append(old, reg.Token)
				f.mustRegister(t, reg)
				reg.Token, reg.User = token(devices+n), "common"
				fresh = append(fresh, reg.Token)
				regs = append(regs, reg)
			}
			cut(proxy, at)
			got, err := f.RegisterMany(t.Context(), app, regs)
			if err != nil {
				t.Errorf("%s cut at %d: got %v, want it made whole", name, at, err)
			}
			cuts += proxy.Cuts()
			for i, r := range got {
				if r.Err != nil || r.Generation == 0 || r.Generation > 2 {
					t.Fatalf("%s cut at %d, registration %d: got %+v, want it registered once or twice", name, at, i, r)
				}
			}
			entries, err := f.Lookup(t.Context(), app, append(old, fresh...), nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range entries {
				if live := i >= devices; !e.Known || e.Record.Usable() != live {
					t.Fatalf("%s cut at %d, device %d: got %+v, want it live: %t", name, at, i, e, live)
				}
			}
			wantTokens(t, fmt.Sprintf("%s cut at %d: devices of the user", name, at), f.ofUser(t, "common"), fresh...)
		}
	}
	if cuts < 14 {
		t.Errorf("cuts: got %d of 18, want most to be within a registration", cuts)
	}
}

// A Redis that cannot be reached is an error, and what it kept from being done is
// done by the caller's repeating it.
func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	server, ok := testenv.StartRedis(t)
	if !ok {
		t.Log("no redis-server on PATH: no connection to cut")
		return
	}
	proxy := testenv.StartProxy(t, server.Addr)
	f := setup(dial(t, &redis.Options{Addr: proxy.Addr, MaxRetries: -1, DialerRetries: 1}))
	f.mustRegister(t, withOwner(1))
	reg := registration(token(2))
	reg.PreviousToken = token(1)
	// After the record is written, before the older one is removed.
	f.client.AddHook(&interloper{n: 2, before: func() { proxy.Refuse(true) }})
	_, err := f.Register(t.Context(), app, reg)
	refused(t, "Register", err, "replace an older device token")
	proxy.Refuse(false)
	if _, err := f.Register(t.Context(), app, reg); err != nil {
		t.Fatalf("Register again: %v", err)
	}
	if old, fresh := f.entry(t, token(1)), f.entry(t, token(2)); old.Record.Usable() || !fresh.Record.Usable() {
		t.Errorf("got %+v, %+v, want the older one removed", old, fresh)
	}
}

// Registrations go on over a kill -9 and a restart; what was acknowledged is
// there, since appendfsync is always.
func TestRestartMidRun(t *testing.T) {
	t.Parallel()
	f, server, ok := onServer(t, &redis.Options{DialerRetries: 1}, testenv.AppendOnly(t.TempDir(), "always")...)
	if !ok {
		return
	}
	const writers, each, restarts = 4, 400, 2
	var running sync.WaitGroup
	progress := make(chan struct{}, writers*each)
	failures := make(chan error, writers)
	for w := range writers {
		running.Go(func() {
			var failure error
			for n := range each {
				reg := withOwner(w*each + n)
				for {
					_, err := f.Register(t.Context(), app, reg)
					if err == nil {
						break
					}
					failure = err
					if t.Context().Err() != nil {
						return
					}
				}
				progress <- struct{}{}
			}
			failures <- failure
		})
	}
	for range restarts {
		for range writers * each / (restarts + 2) {
			<-progress
		}
		server.Restart(t)
	}
	running.Wait()
	close(failures)
	for err := range failures {
		if err != nil {
			refused(t, "Register meanwhile", err, "register a device")
		}
	}
	for n := range writers * each {
		if e := f.entry(t, token(n)); !e.Record.Usable() {
			t.Fatalf("device %d, acknowledged: got %+v, want it live", n, e)
		}
	}
	for _, n := range []int{0, each, writers*each - 1} {
		wantTokens(t, "devices of the user", f.ofUser(t, userOf(n)), token(n))
	}
	all, err := f.ScanBuckets(t.Context(), app, 4, 0, 4, nil)
	if err != nil || len(all) != writers*each {
		t.Errorf("ScanBuckets: got %d, %v, want %d", len(all), err, writers*each)
	}
}

// Sentinel has a replica take over when the master is killed, and the token set
// goes on with it.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	const name = "tokens"
	master, ok := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	if !ok {
		t.Log("no redis-server on PATH: nothing to fail over")
		return
	}
	replica, _ := testenv.StartRedis(t, testenv.ReplicaOf(t, master)...)
	sentinel, _ := testenv.StartSentinel(t, name, master)
	watch := redis.NewSentinelClient(&redis.Options{Addr: sentinel})
	t.Cleanup(func() { _ = watch.Close() })
	until(t, "the sentinel to know the replica", func() bool {
		list, err := watch.Replicas(t.Context(), name).Result()
		return err == nil && len(list) == 1 && list[0]["master-link-status"] == "ok"
	})
	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{sentinel}, MasterName: name, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	f := setup(client)
	f.mustRegister(t, withOwner(1))
	if n, err := client.Do(t.Context(), "wait", 1, 10_000).Int(); err != nil || n != 1 {
		t.Fatalf("replicas with all of it: got %d, %v, want 1", n, err)
	}
	master.Kill()
	killed := time.Now()
	failed := 0
	until(t, "a registration", func() bool {
		_, err := f.Register(t.Context(), app, registration(token(2)))
		if err != nil {
			failed++
			refused(t, "Register meanwhile", err, "register a device")
		}
		return err == nil
	})
	t.Logf("registrations go on %s after the kill, after %d that were refused", time.Since(killed).Round(time.Millisecond), failed)
	f.wantReadable(t, 1)
	role, err := dial(t, &redis.Options{Addr: replica.Addr}).Info(t.Context(), "replication").Result()
	if err != nil || !strings.Contains(role, "role:master") {
		t.Errorf("replica: got %q, %v, want it to be the master", role, err)
	}
	if err := f.Check(t.Context()); err != nil {
		t.Errorf("Check: got %v, want nothing wrong", err)
	}
}
