package store_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// startCluster starts a Redis Cluster of three masters.
func startCluster(t *testing.T) (*redis.ClusterClient, bool) {
	t.Helper()
	const nodes, slots = 3, 16384
	var addrs []string
	var clients []*redis.Client
	for n := range nodes {
		bus := freePort(t)
		// By default the bus is at the port and 10,000, which may be beyond 65,535.
		server, ok := testenv.StartRedis(t, "--cluster-enabled", "yes", "--cluster-port", bus)
		if !ok {
			return nil, false
		}
		c := redis.NewClient(&redis.Options{Addr: server.Addr})
		t.Cleanup(func() { _ = c.Close() })
		addrs, clients = append(addrs, server.Addr), append(clients, c)
		if err := c.ClusterAddSlotsRange(t.Context(), n*slots/nodes, (n+1)*slots/nodes-1).Err(); err != nil {
			t.Fatal(err)
		}
		host, port, err := net.SplitHostPort(server.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := clients[0].Do(t.Context(), "cluster", "meet", host, port, bus).Err(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, c := range clients {
		for {
			info, err := c.ClusterInfo(t.Context()).Result()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprint("cluster_known_nodes:", nodes)) {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatal("the cluster does not come up")
			}
		}
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	t.Cleanup(func() { _ = client.Close() })
	return client, true
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func TestOnACluster(t *testing.T) {
	t.Parallel()
	client, ok := startCluster(t)
	if !ok {
		t.Log("no redis-server to make a cluster of")
		return
	}
	f := &fixture{clock: newClock(), client: client}
	f.Store = store.New(client, store.Config{Buckets: 64, Clock: f.clock.now})
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
	if all, err := f.ScanBuckets(t.Context(), app, 0, 64, nil); err != nil || len(all) != 2*n {
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
	err = client.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error {
		keys, err := c.DBSize(ctx).Result()
		left.Add(keys)
		return err
	})
	if err != nil || left.Load() > 2 {
		t.Errorf("keys left after all was forgotten: got %d, %v, want the layout, and removals of this hour", left.Load(), err)
	}
}
