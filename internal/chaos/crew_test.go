//go:build chaos && linux

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/internal/testenv"
)

// startScaleFleet starts three nats-servers, a Redis Cluster and the simulator, and
// makes workers that do not run yet. Their links to APNs go through a proxy, by which
// their connections are told apart; the others do not.
func startScaleFleet(ctx context.Context, t *testing.T, dir string, p programs, replicas bool) (*fleet, *testenv.RedisCluster) {
	t.Helper()
	const servers = 3
	f := &fleet{t: t, ctx: ctx, dir: dir, history: newHistory(t, dir), journal: filepath.Join(dir, "journal"), pushfleet: p.pushfleet}
	f.startNATS(p.nats, servers)
	cluster, ok := testenv.StartRedisCluster(t, replicas, "--appendonly", "yes", "--appendfsync", "everysec", "--cluster-node-timeout", "2000")
	if !ok {
		t.Fatal("there is no redis-server on PATH")
	}
	f.startSim(p.pushfleet)
	f.connect(servers)
	f.openSet(redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()}))
	f.check(os.WriteFile(filepath.Join(dir, direct), []byte(f.config(f.natsURL, cluster.Addrs(), f.simAddr(), "", servers)), 0o600))
	for i, path := range p.workers {
		name := "w" + strconv.Itoa(i)
		ops := "127.0.0.1:" + f.port()
		w := &worker{index: i, ready: "http://" + ops + "/readyz", apns: f.proxied("apns", f.simAddr())}
		config := f.config(f.natsURL, cluster.Addrs(), w.apns.addrs()[0], fmt.Sprintf("worker: {name: %s, listen: %q}", name, ops), servers)
		file := filepath.Join(dir, name+".yaml")
		f.check(os.WriteFile(file, []byte(config), 0o600))
		w.process = newProcess(dir, name, path, "worker", "-c", file)
		t.Cleanup(w.kill)
		f.workers = append(f.workers, w)
	}
	return f, cluster
}

// enrol registers all members, by their device tokens alone.
func (r *roll) enrol(f *fleet) {
	name := filepath.Join(f.dir, "members.ndjson")
	file, err := os.Create(name)
	f.check(err)
	enc := json.NewEncoder(file)
	for i := range r.members {
		f.check(enc.Encode(map[string]any{"token": r.member(i).Hex()}))
	}
	f.check(file.Close())
	_, err = f.command("device", "import", "--app", club, name)
	f.check(err)
}

// phase is the time from one change of how many workers run to the next one.
type phase struct {
	from, to   int // workers
	begin, end time.Time
	settled    time.Duration // until those that were started are ready, or those that were stopped have ended
	started    map[int]time.Time
	running    []int // index of each worker that is not told to stop
	failedOver bool  // a Redis master was killed in it
}

// crew is the workers of a fleet, of which some run.
type crew struct {
	f   *fleet
	rng *rand.Rand

	mu      sync.Mutex
	running []int    // guarded by mu
	phases  []*phase // guarded by mu
}

func newCrew(f *fleet, seed uint64) *crew {
	return &crew{f: f, rng: rand.New(rand.NewPCG(seed, 5))}
}

// scaleTo starts workers, or stops some that are drawn, all at once, and returns when
// that is done. A phase begins with it.
func (c *crew) scaleTo(n int) {
	c.mu.Lock()
	before := slices.Clone(c.running)
	free := slices.DeleteFunc(indices(len(c.f.workers)), func(i int) bool { return slices.Contains(before, i) })
	c.rng.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	stay := slices.Clone(before)
	c.rng.Shuffle(len(stay), func(i, j int) { stay[i], stay[j] = stay[j], stay[i] })
	leave := stay[min(n, len(stay)):]
	stay = stay[:min(n, len(stay))]
	join := free[:n-len(stay)]
	c.running = slices.Concat(stay, join)
	p := &phase{from: len(before), to: n, begin: time.Now(), started: make(map[int]time.Time), running: slices.Clone(c.running)}
	if len(c.phases) > 0 {
		c.phases[len(c.phases)-1].end = p.begin
	}
	c.phases = append(c.phases, p)
	c.mu.Unlock()
	c.f.history.say("%d -> %d workers: starts %v, stops %v", p.from, p.to, join, leave)

	var all sync.WaitGroup
	for _, i := range leave {
		all.Go(func() { c.stop(i) })
	}
	for _, i := range join {
		p.started[i] = time.Now()
		if err := c.f.workers[i].start(); err != nil {
			c.f.t.Error(err)
		}
	}
	for _, i := range join {
		w := c.f.workers[i]
		all.Go(func() {
			if err := c.f.await("worker "+w.name, time.Minute, func() error { return c.f.isReady(w) }); err != nil {
				c.f.t.Error(err)
			}
		})
	}
	all.Wait()
	c.mu.Lock()
	p.settled = time.Since(p.begin)
	c.mu.Unlock()
	c.f.history.say("%d -> %d workers after %s", p.from, p.to, p.settled.Round(time.Millisecond))
}

// stop stops a worker, which must have run until then and end cleanly.
func (c *crew) stop(i int) {
	w := c.f.workers[i]
	if gone, ran := w.ranFor(); gone {
		c.f.t.Errorf("%s ended by itself after %s", w.name, ran.Round(time.Millisecond))
	}
	if err := w.stop(time.Minute); err != nil {
		c.f.t.Errorf("stop %s: %v", w.name, err)
	}
}

// first begins the first phase anew, now that there is work.
func (c *crew) first() { *c.last() = phase{to: len(c.running), begin: time.Now(), running: c.running} }

// end ends the last phase.
func (c *crew) end() { c.last().end = time.Now() }

func (c *crew) last() *phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phases[len(c.phases)-1]
}

func (c *crew) stopAll() {
	var all sync.WaitGroup
	for _, i := range c.last().running {
		all.Go(func() { c.stop(i) })
	}
	all.Wait()
}

func indices(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}
