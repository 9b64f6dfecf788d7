package main_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// reloads is a worker whose configuration is changed while it sends for apps, each with
// an APNs of its own.
type reloads struct {
	*rig
	streams *stream.Streams
	worker  *process
	ops     string // URL of its probes
	apns    map[string]*apnstest.Server

	mu   sync.Mutex
	sent map[string]time.Time // guarded by mu: by device token, when its job was published
}

// newReloads starts the apps' APNs, and a worker that sends for some of them.
func newReloads(t *testing.T, apps ...string) *reloads {
	t.Helper()
	r := &reloads{rig: newRig(t), apns: make(map[string]*apnstest.Server), sent: make(map[string]time.Time)}
	for _, app := range apps {
		sim, err := apnstest.New(apnstest.Config{Topics: []string{"com.example." + app}, Latency: 5 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sim.Close() })
		if err := errors.Join(os.Mkdir(filepath.Join(r.dir, app), 0o700), sim.WriteFiles(filepath.Join(r.dir, app))); err != nil {
			t.Fatal(err)
		}
		r.apns[app] = sim
	}
	streams, err := stream.Open(r.ctx, testenv.Connect(t, r.natsURL), stream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	r.streams = streams
	return r
}

// begin starts the worker.
func (r *reloads) begin() {
	r.t.Helper()
	addr := "127.0.0.1:" + freePort(r.t)
	r.ops = "http://" + addr
	r.worker = r.start([]string{"PUSHFLEET_WORKER_LISTEN=" + addr}, filepath.Join(r.bin, "pushfleet"), "worker", "-c", r.config)
	r.rig.until("the worker", func() error { _, err := r.get(r.ops + "/readyz"); return err })
}

// rotate makes another key of an app's APNs, and returns its id.
func (r *reloads) rotate(app, id string) string {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.apns[app].AddKey(apnstest.Key{ID: id, TeamID: r.apns[app].TeamID(), Private: key}); err != nil {
		r.t.Fatal(err)
	}
	r.write(filepath.Join(app, "AuthKey_"+id+".p8"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return id
}

// configure writes the configuration for apps with the keys of the given ids, at once.
func (r *reloads) configure(keys map[string]string, more string) {
	r.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "nats: {url: %q}\nredis: {addresses: [%q]}\n%s\napps:\n", r.natsURL, r.redisAddr, more)
	for _, app := range slices.Sorted(maps.Keys(keys)) {
		sim := r.apns[app]
		fmt.Fprintf(&b, "  %s:\n    bundle_id: com.example.%s\n    key: {path: %s/AuthKey_%s.p8, key_id: %s, team_id: %s}\n    endpoint: {url: %q, ca_file: %s/ca.pem}\n",
			app, app, app, keys[app], keys[app], sim.TeamID(), sim.URL(), app)
	}
	r.replaceConfig(b.String())
}

func (r *reloads) replaceConfig(text string) {
	r.t.Helper()
	next := r.config + ".next"
	if err := errors.Join(os.WriteFile(next, []byte(text), 0o600), os.Rename(next, r.config)); err != nil {
		r.t.Fatal(err)
	}
}

// hangUp sends SIGHUP.
func (r *reloads) hangUp() {
	r.t.Helper()
	if err := r.worker.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
}

// metric sums what the worker tells of a metric, of the series with all of the texts.
func (r *reloads) metric(name string, with ...string) (sum float64, series int) {
	r.t.Helper()
	text, err := r.get(r.ops + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
lines:
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		for _, w := range with {
			if !strings.Contains(line, w) {
				continue lines
			}
		}
		fields := strings.Fields(line)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			r.t.Fatal(err)
		}
		sum += v
		series++
	}
	return sum, series
}

// reaches waits until a metric is at a value.
func (r *reloads) reaches(want float64, name string, with ...string) {
	r.t.Helper()
	r.rig.until(fmt.Sprintf("%s %v to be %g", name, with, want), func() error {
		if got, _ := r.metric(name, with...); got != want {
			return fmt.Errorf("got %g", got)
		}
		return nil
	})
}

// publish hands in one job for one device.
func (r *reloads) publish(app string, n int) error {
	token := device.TokenFromRaw(fmt.Sprintf("%-8s%024d", app, n))
	r.mu.Lock()
	r.sent[token.Hex()] = time.Now()
	r.mu.Unlock()
	_, err := r.streams.PublishJob(r.ctx, app, job.Transactional, &job.Job{
		ID: fmt.Sprintf("%s-%d", app, n), To: job.Recipients{Tokens: []device.Token{token}}, Notification: &job.Notification{Title: "hello"},
	})
	return err
}

// steadily publishes for an app until stop is called, which returns how many.
func (r *reloads) steadily(app string, every time.Duration) (stop func() int) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.ctx)
	var publishing sync.WaitGroup
	n := 0
	publishing.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if err := r.publish(app, n); err != nil {
				r.t.Errorf("publish for %s: %v", app, err)
				return
			}
			n++
		}
	})
	stop = sync.OnceValue(func() int {
		cancel()
		publishing.Wait()
		return n
	})
	r.t.Cleanup(func() { stop() })
	return stop
}

// accepts waits until an app's APNs has accepted n notifications, and checks that it has
// each of them once.
func (r *reloads) accepts(app string, n int) []apnstest.Record {
	r.t.Helper()
	sim := r.apns[app]
	if err := sim.Wait(r.ctx, func(st apnstest.Stats) bool { return st.Accepted >= int64(n) }); err != nil {
		r.t.Fatalf("%s: got %d accepted, want %d: %v", app, sim.Stats().Accepted, n, err)
	}
	if st := sim.Stats(); st.Accepted != int64(n) || st.Duplicates != 0 {
		r.t.Errorf("%s: got %d accepted and %d duplicates, want %d and 0", app, st.Accepted, st.Duplicates, n)
	}
	accepted := slices.DeleteFunc(sim.Ledger(apnstest.Filter{}), func(rec apnstest.Record) bool { return rec.Status != 200 })
	slices.SortFunc(accepted, func(a, b apnstest.Record) int { return a.ReceivedAt.Compare(b.ReceivedAt) })
	return accepted
}

// connected waits until an app's APNs has so many connections.
func (r *reloads) connected(app string, want int) {
	r.t.Helper()
	r.rig.until(fmt.Sprintf("%d connections of %s", want, app), func() error {
		open := slices.DeleteFunc(r.apns[app].Connections(), func(c apnstest.Connection) bool { return !c.ClosedAt.IsZero() })
		if len(open) != want {
			return fmt.Errorf("got %d", len(open))
		}
		return nil
	})
}

// latencies are the times from publishing to APNs, sorted, of what came in a time.
func (r *reloads) latencies(records []apnstest.Record, from, to time.Time) (all []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range records {
		if rec := &records[i]; rec.ReceivedAt.After(from) && rec.ReceivedAt.Before(to) {
			all = append(all, rec.ReceivedAt.Sub(r.sent[rec.DeviceToken]))
		}
	}
	slices.Sort(all)
	return all
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Round(100 * time.Microsecond)
}

// longestGap is the longest time without a notification.
func longestGap(records []apnstest.Record) (gap time.Duration) {
	for i := 1; i < len(records); i++ {
		gap = max(gap, records[i].ReceivedAt.Sub(records[i-1].ReceivedAt))
	}
	return gap
}

// A worker sends steadily for two apps. The key of one is rotated, and the former one
// refused; a third app is added, and its jobs that wait go out; a broken file is refused;
// the second app is removed, and its jobs stay. Nothing is lost, repeated or late.
func TestReloadUnderLoad(t *testing.T) {
	r := newReloads(t, "rotated", "steady", "added")
	rotated, steady, added := r.apns["rotated"], r.apns["steady"], r.apns["added"]
	keys := map[string]string{"rotated": rotated.KeyID(), "steady": steady.KeyID()}
	r.configure(keys, "")
	r.begin()
	const early = 500
	for n := range early {
		if err := r.publish("added", n); err != nil {
			t.Fatal(err)
		}
	}
	stopRotated, stopSteady := r.steadily("rotated", 5*time.Millisecond), r.steadily("steady", 5*time.Millisecond)
	warm := time.Now()
	r.rig.until("a while without changes", func() error {
		if time.Since(warm) < 5*time.Second {
			return errors.New("not yet")
		}
		return nil
	})

	// Rotation. Both keys are good until the new one is in force, then only that.
	calm := time.Now()
	keys["rotated"] = r.rotate("rotated", "NEWKEY0001")
	r.configure(keys, "")
	r.reaches(1, "pushfleet_config_reloads_total", `result="applied"`)
	t.Logf("rotated by the change of the file: in force after %s", time.Since(calm).Round(time.Millisecond))
	if err := rotated.SetFaults(apnstest.Faults{Auth: apnstest.AuthFaults{OnlyKeyID: "NEWKEY0001"}}); err != nil {
		t.Fatal(err)
	}

	// Another app, by SIGHUP.
	keys["added"] = added.KeyID()
	r.configure(keys, "")
	r.hangUp()
	r.reaches(2, "pushfleet_config_reloads_total", `result="applied"`)
	r.accepts("added", early)

	// A broken file.
	good, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	r.replaceConfig(strings.ReplaceAll(string(good), "team_id", "teem_id") + "\nredis: {}\n")
	r.reaches(1, "pushfleet_config_reloads_total", `result="refused"`)
	r.reaches(0, "pushfleet_config_reload_successful")
	for _, want := range []string{"cannot be used: the one before stays in force", "teem_id: unknown key, did you mean team_id?", "redis: is set twice"} {
		if !r.worker.out.contains(want) {
			t.Errorf("log: got no %q", want)
		}
	}
	verbose, err := r.get(r.ops + "/readyz?verbose")
	if err != nil || !regexp.MustCompile(`(?m)^FAILED +configuration .*teem_id`).Match(verbose) {
		t.Errorf("readyz?verbose: got %v, %s, want it ready, and the configuration failed", err, verbose)
	}
	for n := early; n < early+50; n++ {
		if err := r.publish("added", n); err != nil {
			t.Fatal(err)
		}
	}
	r.accepts("added", early+50)

	// Mended, with more that only a restart changes.
	r.configure(keys, "worker: {max_in_flight: 30000, drain_timeout: 20s}\nlog: {level: debug}")
	r.reaches(3, "pushfleet_config_reloads_total", `result="applied"`)
	r.reaches(1, "pushfleet_config_reload_successful")
	if want := "takes effect at the next start: log.level, worker.drain_timeout"; !r.worker.out.contains(want) {
		t.Errorf("log: got no %q", want)
	}
	changed := time.Now()

	// The steady app is removed.
	sentSteady := stopSteady()
	records := r.accepts("steady", sentSteady)
	delete(keys, "steady")
	r.configure(keys, "worker: {max_in_flight: 30000, drain_timeout: 20s}\nlog: {level: debug}")
	r.hangUp()
	r.reaches(4, "pushfleet_config_reloads_total", `result="applied"`)
	if _, series := r.metric("pushfleet_notifications_total", `app="steady"`); series != 0 {
		t.Errorf("metrics: got %d series of the removed app, want 0", series)
	}
	r.connected("steady", 0)
	for n := range 20 {
		if err := r.publish("steady", sentSteady+n); err != nil {
			t.Fatal(err)
		}
	}
	r.accepts("rotated", stopRotated())
	backlog, err := r.streams.Backlog(r.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := backlog.Jobs["steady"]; got != 20 {
		t.Errorf("jobs of the removed app: got %d in JOBS, want 20", got)
	}
	r.accepts("steady", sentSteady)

	before, during := r.latencies(records, warm.Add(time.Second), calm), r.latencies(records, calm, changed)
	gap := longestGap(records)
	t.Logf("steady app, %d jobs at 200/s: p50/p99/max before %s/%s/%s, while others changed (%s) %s/%s/%s; longest gap %s", sentSteady,
		quantile(before, 0.5), quantile(before, 0.99), quantile(before, 1),
		changed.Sub(calm).Round(time.Second), quantile(during, 0.5), quantile(during, 0.99), quantile(during, 1), gap.Round(time.Millisecond))
	if gap > time.Second {
		t.Errorf("steady app: got a gap of %s, want less than a second", gap)
	}
	own := r.accepts("rotated", stopRotated())
	t.Logf("rotated app: p99 %s, longest gap %s", quantile(r.latencies(own, calm, changed), 0.99), longestGap(own).Round(time.Millisecond))
	if gap := longestGap(own); gap > time.Second {
		t.Errorf("rotated app: got a gap of %s, want less than a second", gap)
	}
	if err := r.stop(r.worker); err != nil {
		t.Errorf("worker: %v, want a clean end", err)
	}
}

// Fifty rotations, additions and removals later the worker has what it had before.
func TestReloadsLeaveNothingBehind(t *testing.T) {
	r := newReloads(t, "rotated", "comes")
	sim := r.apns["rotated"]
	ids := []string{sim.KeyID(), r.rotate("rotated", "NEWKEY0001")}
	configure := func(n int) {
		keys := map[string]string{"rotated": ids[n%2]}
		if n%2 == 1 {
			keys["comes"] = r.apns["comes"].KeyID()
		}
		r.configure(keys, "worker: {connections: 1}")
	}
	configure(0)
	r.begin()
	stop := r.steadily("rotated", 10*time.Millisecond)
	// settled waits for a state that is no more than another one.
	settled := func(when string, than map[string]float64) map[string]float64 {
		got := make(map[string]float64)
		r.rig.until("the worker to settle "+when, func() error {
			for _, name := range []string{"go_goroutines", "process_open_fds", "pushfleet_apns_connections"} {
				got[name], _ = r.metric(name)
				if limit, ok := than[name]; ok && got[name] > limit {
					return fmt.Errorf("%s: got %g, want at most %g", name, got[name], limit)
				}
			}
			return nil
		})
		return got
	}
	// Once there and back, so that all that is kept for good is there.
	const reloads = 50
	var before map[string]float64
	for n := 1; n <= reloads+2; n++ {
		configure(n)
		r.hangUp()
		r.reaches(float64(n), "pushfleet_config_reloads_total", `result="applied"`)
		if n == 2 {
			before = settled("before", map[string]float64{"pushfleet_apns_connections": 1})
		}
	}
	// A few come and go with what is under way.
	limits := map[string]float64{
		"go_goroutines": before["go_goroutines"] + 10, "process_open_fds": before["process_open_fds"] + 5, "pushfleet_apns_connections": 1,
	}
	after := settled("after", limits)
	t.Logf("before %v, after %d reloads %v", before, reloads, after)
	r.accepts("rotated", stop())
	r.connected("rotated", 1)
	r.connected("comes", 0)
}

// The API takes an app, an environment and a rate without a restart, and refuses what it
// cannot use.
func TestAPIReloads(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	r := newAPIRig(t, "api: {listen: "+addr+"}")
	base := "http://" + addr
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	p := r.start(nil, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config)
	r.until("the API", func() error { _, err := r.get(base + "/readyz"); return err })
	key := r.key("--app", "shop", "--scope", "devices")
	all := r.key("--all-apps", "--scope", "admin")
	register := func(app, key string) (int, string) {
		return r.http(http.DefaultClient, http.MethodPut, base+"/v1/apps/"+app+"/devices/0a0b0c0d", key, "{}")
	}
	if got, text := register("news", all); got != http.StatusNotFound {
		t.Fatalf("before the app is there: got %d %s, want 404", got, text)
	}
	more := strings.ReplaceAll(string(text), "listen: ", "rate_limit: 1, listen: ") +
		"  news: {bundle_id: com.example.news, environment: sandbox, key: {path: pushfleet.yaml, key_id: SIM0000001, team_id: SIMTEAM001}}\n"
	if err := os.WriteFile(r.config, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	r.until("the app", func() error {
		if got, text := register("news", all); got != http.StatusOK {
			return fmt.Errorf("got %d %s", got, text)
		}
		return nil
	})
	_, _ = register("shop", key)
	if got, text := register("shop", key); got != http.StatusTooManyRequests {
		t.Errorf("second request at 1/s: got %d %s, want 429", got, text)
	}
	if err := os.WriteFile(r.config, []byte("apps: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.until("the refusal", func() error {
		verbose, err := r.get(base + "/readyz?verbose")
		if err == nil && !strings.Contains(string(verbose), "none is configured, so there is nothing to serve") {
			err = fmt.Errorf("got %s", verbose)
		}
		return err
	})
	r.until("the rate to let it through", func() error {
		if got, text := register("news", all); got != http.StatusOK {
			return fmt.Errorf("got %d %s", got, text)
		}
		return nil
	})
	if err := r.stop(p); err != nil {
		t.Errorf("api: %v, want a clean end", err)
	}
}
