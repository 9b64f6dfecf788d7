package main_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/internal/testenv"
)

// configSet sets something of the running Redis.
func (r *rig) configSet(t *testing.T, name, value string) {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: r.redisAddr})
	defer client.Close()
	if err := client.ConfigSet(r.ctx, name, value).Err(); err != nil {
		t.Fatal(err)
	}
}

// unready wants the probe at base to say that the process is not ready, and why.
func (r *rig) unready(t *testing.T, base, why string) {
	t.Helper()
	status, body := r.http(http.DefaultClient, http.MethodGet, base+"/readyz", "", "")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, why) {
		t.Errorf("/readyz: got %d %s, want 503 and %q", status, body, why)
	}
}

// ready wants the probe to say that the process is ready, with a note.
func (r *rig) ready(t *testing.T, base, note string) {
	t.Helper()
	status, body := r.http(http.DefaultClient, http.MethodGet, base+"/readyz", "", "")
	if status != http.StatusOK || !strings.Contains(body, note) {
		t.Errorf("/readyz: got %d %s, want 200 and %q", status, body, note)
	}
}

// problem wants a metric of what is wrong with Redis.
func (r *rig) problem(t *testing.T, base, name string, value int) {
	t.Helper()
	want := fmt.Sprintf("pushfleet_redis_problem{problem=%q} %d\n", name, value)
	if text, err := r.get(base + "/metrics"); err != nil || !strings.Contains(string(text), want) {
		t.Errorf("metrics: %v: got no %q", err, want)
	}
}

// An API tells of a Redis that is not as it must be, also if it was at the start,
// and answers as it should meanwhile.
func TestAPIWatchesRedis(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	r := newAPIRig(t, "api: {listen: "+addr+"}")
	base := "http://" + addr
	p := r.start(nil, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config)
	r.until("the API", func() error { _, err := r.get(base + "/readyz"); return err })
	key := r.key("--app", "shop", "--scope", "devices")
	hex := strings.Repeat("0a1b2c3d", 8)
	url := base + "/v1/apps/shop/devices/" + hex
	register := func(want int, text string) {
		t.Helper()
		req, err := http.NewRequestWithContext(r.ctx, http.MethodPut, url, strings.NewReader(`{"user":"ada"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want || resp.Header.Get("Content-Type") != text {
			t.Errorf("register: got %s, %s, want %d, %s", resp.Status, resp.Header.Get("Content-Type"), want, text)
		}
		if (resp.Header.Get("Retry-After") != "") != (want == http.StatusServiceUnavailable) {
			t.Errorf("register: got %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
		}
	}
	register(http.StatusOK, "application/json")

	r.configSet(t, "maxmemory-policy", "allkeys-lru")
	r.unready(t, base, "maxmemory-policy is allkeys-lru, and must be noeviction")
	r.problem(t, base, "evicts", 1)
	r.configSet(t, "maxmemory-policy", "noeviction")
	r.ready(t, base, "ok\n")
	r.problem(t, base, "evicts", 0)

	r.configSet(t, "maxmemory", "1")
	r.ready(t, base, "redis is out of memory")
	r.problem(t, base, "out_of_memory", 1)
	register(http.StatusServiceUnavailable, "application/problem+json")
	if status, body := r.http(http.DefaultClient, http.MethodGet, url, key, ""); status != http.StatusOK {
		t.Errorf("read while out of memory: got %d %s, want 200", status, body)
	}
	r.configSet(t, "maxmemory", "0")
	register(http.StatusOK, "application/json")

	// A replica: of a master that is not there, so it keeps what it has.
	client := redis.NewClient(&redis.Options{Addr: r.redisAddr})
	defer client.Close()
	if err := client.ReplicaOf(r.ctx, "127.0.0.1", freePort(t)).Err(); err != nil {
		t.Fatal(err)
	}
	r.unready(t, base, "redis is a replica")
	r.problem(t, base, "replica", 1)
	register(http.StatusServiceUnavailable, "application/problem+json")
	if err := client.ReplicaOf(r.ctx, "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	r.ready(t, base, "ok\n")
	register(http.StatusOK, "application/json")
	if err := r.stop(p); err != nil {
		t.Errorf("SIGTERM: %v, want a clean end", err)
	}
	if out := p.out.String(); !strings.Contains(out, "redis is not as it should be") || !strings.Contains(out, "again") || strings.Contains(out, hex) {
		t.Errorf("log: got %s, want it to say what is wrong and when it is over, and no device token", out)
	}
}

// A worker tells of a Redis that evicts, at the start and afterwards.
func TestWorkerWatchesRedis(t *testing.T) {
	r := newRig(t)
	ops := "127.0.0.1:" + freePort(t)
	base := "http://" + ops
	r.configSet(t, "maxmemory-policy", "volatile-ttl")
	r.start([]string{"PUSHFLEET_WORKER_NAME=w1", "PUSHFLEET_WORKER_LISTEN=" + ops}, filepath.Join(r.bin, "pushfleet"), "worker", "-c", r.config)
	r.until("the worker's answer", func() error { _, err := r.get(base + "/livez"); return err })
	r.unready(t, base, "maxmemory-policy is volatile-ttl")
	r.configSet(t, "maxmemory-policy", "noeviction")
	r.until("the worker", func() error { _, err := r.get(base + "/readyz"); return err })
	r.configSet(t, "maxmemory-policy", "allkeys-lfu")
	r.unready(t, base, "maxmemory-policy is allkeys-lfu")
	r.problem(t, base, "evicts", 1)
	r.configSet(t, "maxmemory-policy", "noeviction")
	r.ready(t, base, "ok\n")
	r.configSet(t, "maxmemory", "1")
	r.ready(t, base, "redis is out of memory")
	r.configSet(t, "maxmemory", "0")
	r.problem(t, base, "evicts", 0)
}

// A master of the cluster is killed under an API: requests for its devices are
// answered with 503 and a time to come again, and are carried out once its replica
// has taken over, without anybody's doing.
func TestAPIOutlivesAMaster(t *testing.T) {
	addr := "127.0.0.1:" + freePort(t)
	r := newAPIRig(t, "api: {listen: "+addr+"}")
	cluster, ok := testenv.StartRedisCluster(t, true, "--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0")
	if !ok {
		t.Fatal("this test needs redis-server")
	}
	base := "http://" + addr
	text, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	// Two of the six will do; the one to be killed is not among them.
	seeds := strings.Join(cluster.Addrs()[1:3], `", "`)
	if err := os.WriteFile(r.config, bytes.Replace(text, []byte(r.redisAddr), []byte(seeds), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	p := r.start(nil, filepath.Join(r.bin, "pushfleet"), "api", "-c", r.config)
	r.until("the API", func() error { _, err := r.get(base + "/readyz"); return err })
	key := r.key("--app", "shop", "--scope", "devices")
	const devices = 24 // on all masters
	url := func(n int) string { return fmt.Sprintf("%s/v1/apps/shop/devices/%064x", base, n+1) }
	// register registers all devices at once, and returns how many were refused.
	register := func() (refused int64) {
		t.Helper()
		var n atomic.Int64
		var calls sync.WaitGroup
		for i := range devices {
			calls.Go(func() {
				req, err := http.NewRequestWithContext(r.ctx, http.MethodPut, url(i), strings.NewReader(fmt.Sprintf(`{"user":"u-%d"}`, i)))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+key)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				switch resp.StatusCode {
				case http.StatusOK:
				case http.StatusServiceUnavailable:
					n.Add(1)
					if resp.Header.Get("Retry-After") == "" || resp.Header.Get("Content-Type") != "application/problem+json" {
						t.Errorf("register: got %s with %v, want a problem and a time", resp.Status, resp.Header)
					}
				default:
					t.Errorf("register: got %s, want 200 or 503", resp.Status)
				}
			})
		}
		calls.Wait()
		return n.Load()
	}
	if n := register(); n != 0 {
		t.Errorf("before: got %d refused, want 0", n)
	}
	cluster.Masters[0].Kill()
	start := time.Now()
	refused := register()
	if refused == 0 {
		t.Error("with a master killed: got none refused, so it had no devices")
	}
	r.until("registrations", func() error {
		if n := register(); n > 0 {
			refused += n
			return fmt.Errorf("%d are refused", n)
		}
		return nil
	})
	t.Logf("all is taken %s after the kill; %d were refused", time.Since(start).Round(time.Millisecond), refused)
	for i := range devices {
		if status, body := r.http(http.DefaultClient, http.MethodGet, url(i), key, ""); status != http.StatusOK || !strings.Contains(body, fmt.Sprintf(`"u-%d"`, i)) {
			t.Errorf("device %d: got %d %s, want it with its user", i, status, body)
		}
	}
	r.until("the API to be ready", func() error { _, err := r.get(base + "/readyz"); return err })
	if err := r.stop(p); err != nil {
		t.Errorf("SIGTERM: %v, want a clean end", err)
	}
}
