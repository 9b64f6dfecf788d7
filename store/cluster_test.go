package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// onCluster returns a token set on a cluster of three masters, perhaps with a
// replica each.
func onCluster(t *testing.T, buckets int, replicas bool, args ...string) (*fixture, *testenv.RedisCluster, bool) {
	t.Helper()
	cluster, ok := testenv.StartRedisCluster(t, replicas, args...)
	if !ok {
		t.Log("no redis-server to make a cluster of")
		return nil, nil, false
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
	t.Cleanup(func() { _ = client.Close() })
	f := &fixture{clock: newClock(), client: client}
	f.Store = store.New(client, store.Config{Buckets: buckets, Clock: f.clock.now})
	return f, cluster, true
}

func TestOnACluster(t *testing.T) {
	t.Parallel()
	f, _, ok := onCluster(t, 64, false)
	if !ok {
		return
	}
	if err := f.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}

	const n = 300 // over all nodes
	regs := func(from int) (list []device.Registration, tokens []device.Token) {
		for i := range n {
			reg := registration(token(from + i))
			if i%10 == 0 {
				reg.Token = longToken(from + i)
			}
			reg.User, reg.InstallID = fmt.Sprint("user ", i/2), fmt.Sprint("install ", i)
			list, tokens = append(list, reg), append(tokens, reg.Token)
		}
		return list, tokens
	}
	first, olds := regs(0)
	if _, err := f.RegisterMany(t.Context(), app, first); err != nil {
		t.Fatal(err)
	}
	second, news := regs(n)
	for i := range second {
		if i%2 == 0 {
			second[i].InstallID, second[i].PreviousToken = "", olds[i]
		}
	}
	got, err := f.RegisterMany(t.Context(), app, second)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range got {
		if r.Replaced != 1 {
			t.Fatalf("registration %d: got %+v, want 1 replaced", i, r)
		}
	}
	entries, err := f.Lookup(t.Context(), app, append(olds, news...), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		if want := i >= n; !e.Known || e.Record.Usable() != want {
			t.Fatalf("entry %d: got %+v, want it usable %t", i, e, want)
		}
	}
	users, err := f.ByUsers(t.Context(), app, []string{"user 0", "user 7"})
	if err != nil {
		t.Fatal(err)
	}
	wantTokens(t, "devices of user 0", tokensOf(users[0]), news[0], news[1])
	wantTokens(t, "devices of user 7", tokensOf(users[1]), news[14], news[15])

	f.clock.move(time.Hour)
	var verdicts []store.Verdict
	for _, tok := range news {
		verdicts = append(verdicts, store.Verdict{Token: tok, Said: store.Dead, Generation: 1, Timestamp: f.clock.now().UnixMilli()})
	}
	applied, err := f.Apply(t.Context(), app, verdicts)
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range applied {
		if a != store.RemovedIt {
			t.Fatalf("verdict %d: got %v, want %v", i, a, store.RemovedIt)
		}
	}
	if all, err := f.ScanBuckets(t.Context(), app, 64, 0, 64, nil); err != nil || len(all) != 2*n {
		t.Errorf("ScanBuckets: got %d, %v, want %d", len(all), err, 2*n)
	}
	if c, err := f.Count(t.Context(), app); err != nil || c != 2*n {
		t.Errorf("Count: got %d, %v, want %d", c, err, 2*n)
	}
	f.clock.move(2 * store.DefaultRemember)
	if swept := f.sweep(t); swept.Forgotten != 2*n {
		t.Errorf("sweep: got %+v, want %d forgotten", swept, 2*n)
	}
	var left atomic.Int64
	err = f.client.(*redis.ClusterClient).ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error {
		keys, err := c.DBSize(ctx).Result()
		left.Add(keys)
		return err
	})
	if err != nil || left.Load() > 2 {
		t.Errorf("keys left after all was forgotten: got %d, %v, want the layout, and removals of this hour", left.Load(), err)
	}
}
