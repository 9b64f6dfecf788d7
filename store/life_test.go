package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// A life ends with a restart, though nothing is lost, and when a replica becomes
// the master.
func TestLife(t *testing.T) {
	t.Parallel()
	server, ok := testenv.StartRedis(t, testenv.AppendOnly(t.TempDir(), "always")...)
	if !ok {
		t.Skip("no redis-server on PATH: miniredis says nothing of its life")
	}
	open := func(addr string) (*store.Store, *redis.Client) {
		c := redis.NewClient(&redis.Options{Addr: addr})
		t.Cleanup(func() { _ = c.Close() })
		return store.New(c, store.Config{}), c
	}
	s, _ := open(server.Addr)
	life, h, err := s.Healed(t.Context())
	if err != nil || life == "" || h != (store.Healed{}) {
		t.Fatalf("at first: got %q, %+v, %v, want a life that was never healed", life, h, err)
	}
	want := store.Healed{Life: life, Through: 7}
	if err := s.SetHealed(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if now, h, err := s.Healed(t.Context()); err != nil || now != life || h != want {
		t.Errorf("healed: got %q, %+v, %v, want %+v", now, h, err, want)
	}
	server.Restart(t)
	after, h, err := s.Healed(t.Context())
	if err != nil || after == life || h != want {
		t.Errorf("restarted: got %q, %+v, %v, want another life than %q, and what was healed", after, h, err, life)
	}

	replica, _ := testenv.StartRedis(t, testenv.ReplicaOf(t, server)...)
	second, c := open(replica.Addr)
	if life, err := second.Life(t.Context()); err == nil {
		t.Errorf("of a replica: got %q, want an error", life)
	}
	if err := c.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	first, err := second.Life(t.Context())
	if err != nil || first == after {
		t.Errorf("of a replica that took over: got %q, %v, want another life", first, err)
	}
	// The same process, with what another one held in between.
	if err := c.ReplicaOf(t.Context(), "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	if again, err := second.Life(t.Context()); err != nil || again == first {
		t.Errorf("master again: got %q, %v, want another life", again, err)
	}
}

func TestUnheal(t *testing.T) {
	t.Parallel()
	s := store.New(testenv.Redis(t), store.Config{})
	if err := s.SetHealed(t.Context(), store.Healed{Life: "a", Through: 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Unheal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, h, err := s.Healed(t.Context()); err != nil || h != (store.Healed{}) {
		t.Errorf("got %+v, %v, want nothing healed", h, err)
	}
}

func TestClaimHealing(t *testing.T) {
	t.Parallel()
	s := store.New(testenv.Redis(t), store.Config{})
	for _, tt := range []struct {
		life, by string
		want     bool
	}{
		{"a", "one", true},
		{"a", "two", false},
		{"a", "one", true},
		{"b", "two", true}, // another life
	} {
		if got, err := s.ClaimHealing(t.Context(), tt.life, tt.by, time.Minute); err != nil || got != tt.want {
			t.Errorf("%s, of life %s: got %t, %v, want %t", tt.by, tt.life, got, err, tt.want)
		}
	}
}

// In a cluster the life is that of all masters.
func TestLifeOfACluster(t *testing.T) {
	t.Parallel()
	f, cluster, ok := onCluster(t, 4, true, "--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0")
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	life, err := f.Life(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := f.Life(ctx); err != nil || again != life {
		t.Errorf("asked again: got %q, %v, want %q", again, err, life)
	}
	cluster.Masters[0].AwaitReplica(ctx, t)
	cluster.Masters[0].Kill()
	cluster.AwaitMaster(ctx, t, cluster.Replicas[0])
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// The client learns of it by what fails.
		_, _, _ = f.Healed(ctx)
		f.client.(*redis.ClusterClient).ReloadState(ctx)
		after, err := f.Life(ctx)
		if err == nil && after != life {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("after a fail-over: got %q, %v, want another life than %q", after, err, life)
		}
	}
}

func TestClaimWork(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		claim := func(name, by string, lease time.Duration, want bool) {
			t.Helper()
			if got, err := f.ClaimWork(t.Context(), name, by, lease); err != nil || got != want {
				t.Errorf("%s claims %s: got %t, %v, want %t", by, name, got, err, want)
			}
		}
		claim("expand", "a", time.Hour, true)
		claim("expand", "b", time.Hour, false)
		claim("other", "b", time.Hour, true)
		claim("expand", "a", 2*time.Hour, true)
		if ttl := f.client.PTTL(t.Context(), "pf:work:expand").Val(); ttl < time.Hour {
			t.Errorf("lease after it was claimed again: got %s, want two hours", ttl)
		}
		if err := f.client.Del(t.Context(), "pf:work:expand").Err(); err != nil { // it ran out
			t.Fatal(err)
		}
		claim("expand", "b", time.Hour, true)
		claim("expand", "a", time.Hour, false)
	})
}
