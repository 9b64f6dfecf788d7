package worker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// A Redis without memory is still read: nothing goes to a removed device token.
// What needs to write first waits, and all is counted once in the end.
func TestRedisOutOfMemory(t *testing.T) {
	f := setup(t, nil)
	server, ok := testenv.StartRedis(t)
	if !ok {
		t.Log("no redis-server on PATH: nothing to fill")
		return
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	t.Cleanup(func() { _ = client.Close() })
	f.set = store.New(client, store.Config{Buckets: 16})
	f.register(device.Registration{Token: token(1), User: "ada"})
	f.register(device.Registration{Token: token(9)})
	if was, err := f.set.Delete(f.ctx, "shop", token(9), device.Deleted); err != nil || !was {
		t.Fatalf("Delete: got %t, %v", was, err)
	}
	memory := func(value string) {
		t.Helper()
		if err := client.ConfigSet(f.ctx, "maxmemory", value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	memory("1")
	f.start(options{})
	f.publish(job.Transactional, &job.Job{ID: "users", To: job.Recipients{Users: []string{"ada"}}, Notification: &job.Notification{Title: "x"}})
	f.publish(job.Transactional, newJob("inline", token(2), token(3), token(9)))
	counts := results(f.completed("inline"))
	if counts["accepted"] != 2 || len(counts) != 2 {
		t.Errorf("outcomes: got %v, want 2 accepted and 1 suppressed", counts)
	}
	memory("0")
	if counts := results(f.completed("users")); counts["accepted"] != 1 {
		t.Errorf("outcomes of the one that waited: got %v, want 1 accepted", counts)
	}
	f.drained()
	sent := make(map[device.Token]int)
	for _, n := range f.sender.got() {
		sent[n.DeviceToken]++
	}
	for n, want := range map[int]int{1: 1, 2: 1, 3: 1, 9: 0} {
		if got := sent[token(n)]; got != want {
			t.Errorf("sent to device %d: got %d, want %d", n, got, want)
		}
	}
	f.eventually("progress is counted", func() (string, bool) {
		p, err := f.set.Progress(f.ctx, []store.JobKey{
			{App: "shop", Lane: job.Transactional, ID: "inline"}, {App: "shop", Lane: job.Transactional, ID: "users"},
		})
		if err != nil {
			return err.Error(), false
		}
		for _, one := range p {
			if one.Duplicates != 0 {
				t.Fatalf("progress: got %+v, want no duplicates", p)
			}
		}
		return fmt.Sprintf("%+v", p), p[0].Complete && p[1].Complete
	})
}

// A Redis that takes connections and never answers costs jobs that name device
// tokens a few seconds each, not their ack waits. Those that need it wait. Afterwards
// all is counted once, and nothing was sent twice.
func TestRedisHangs(t *testing.T) {
	f := setup(t, nil)
	server, ok := testenv.StartRedis(t)
	if !ok {
		t.Skip("no redis-server on PATH: nothing to freeze")
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr, ReadTimeout: 3 * time.Second, WriteTimeout: 3 * time.Second, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = client.Close() })
	f.set = store.New(client, store.Config{Buckets: 16})
	f.register(device.Registration{Token: token(1), User: "ada"})
	f.start(options{})
	f.publish(job.Transactional, newJob("before", token(2)))
	f.completed("before")

	server.Freeze(t)
	f.publish(job.Transactional, &job.Job{ID: "users", To: job.Recipients{Users: []string{"ada"}}, Notification: &job.Notification{Title: "x"}})
	keys := []store.JobKey{{App: "shop", Lane: job.Transactional, ID: "users"}}
	const jobs = 5
	for n := range jobs {
		// One after the other: each finds it hanging.
		id := fmt.Sprintf("inline-%d", n)
		keys = append(keys, store.JobKey{App: "shop", Lane: job.Transactional, ID: id})
		published := time.Now()
		f.publish(job.Transactional, newJob(id, token(10+n), token(20+n)))
		if counts := results(f.completed(id)); counts["accepted"] != 2 {
			t.Errorf("%s: got %v, want 2 accepted", id, counts)
		}
		// The worker's patience is two seconds, and it asks once.
		if took := time.Since(published); took > 5*time.Second {
			t.Errorf("%s: took %s with a redis that hangs", id, took)
		}
	}
	if got := len(f.sender.got()); got != 1+2*jobs {
		t.Errorf("sent meanwhile: got %d, want %d: the job to a user waits", got, 1+2*jobs)
	}

	server.Thaw(t)
	if counts := results(f.completed("users")); counts["accepted"] != 1 {
		t.Errorf("outcomes of the one that waited: got %v, want 1 accepted", counts)
	}
	f.drained()
	f.eventually("all is counted", func() (string, bool) {
		p, err := f.set.Progress(f.ctx, keys)
		done := err == nil
		for _, one := range p {
			done = done && one.Complete
		}
		return fmt.Sprintf("%+v, %v", p, err), done
	})
	p, err := f.set.Progress(f.ctx, keys)
	if err != nil {
		t.Fatal(err)
	}
	for i, one := range p {
		if one.Duplicates != 0 || one.Counts[job.Accepted] != one.Total {
			t.Errorf("%s: got %+v, want all accepted, once", keys[i], one)
		}
	}
	if got := len(f.sender.got()); got != 2+2*jobs {
		t.Errorf("sent in the end: got %d, want %d", got, 2+2*jobs)
	}
}
