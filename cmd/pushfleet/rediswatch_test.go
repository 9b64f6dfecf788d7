package main_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// configure sets something of the running Redis.
func (r *rig) configure(t *testing.T, name, value string) {
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

	r.configure(t, "maxmemory-policy", "allkeys-lru")
	r.unready(t, base, "maxmemory-policy is allkeys-lru, and must be noeviction")
	r.problem(t, base, "evicts", 1)
	r.configure(t, "maxmemory-policy", "noeviction")
	r.ready(t, base, "ok\n")
	r.problem(t, base, "evicts", 0)

	r.configure(t, "maxmemory", "1")
	r.ready(t, base, "redis is out of memory")
	r.problem(t, base, "out_of_memory", 1)
	register(http.StatusServiceUnavailable, "application/problem+json")
	if status, body := r.http(http.DefaultClient, http.MethodGet, url, key, ""); status != http.StatusOK {
		t.Errorf("read while out of memory: got %d %s, want 200", status, body)
	}
	r.configure(t, "maxmemory", "0")
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
	r.configure(t, "maxmemory-policy", "volatile-ttl")
	r.start([]string{"PUSHFLEET_WORKER_NAME=w1", "PUSHFLEET_WORKER_LISTEN=" + ops}, filepath.Join(r.bin, "pushfleet"), "worker", "-c", r.config)
	r.until("the worker's answer", func() error { _, err := r.get(base + "/livez"); return err })
	r.unready(t, base, "maxmemory-policy is volatile-ttl")
	r.configure(t, "maxmemory-policy", "noeviction")
	r.until("the worker", func() error { _, err := r.get(base + "/readyz"); return err })
	r.configure(t, "maxmemory-policy", "allkeys-lfu")
	r.unready(t, base, "maxmemory-policy is allkeys-lfu")
	r.problem(t, base, "evicts", 1)
	r.configure(t, "maxmemory-policy", "noeviction")
	r.ready(t, base, "ok\n")
	r.configure(t, "maxmemory", "1")
	r.ready(t, base, "redis is out of memory")
	r.configure(t, "maxmemory", "0")
	r.problem(t, base, "evicts", 0)
}
