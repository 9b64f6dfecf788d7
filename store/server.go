package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is what a Redis server tells of itself. What it does not tell is zero.
type Server struct {
	Addr    string // host:port in a cluster, else empty
	Version string

	Cluster  bool
	Broken   bool  // it is a member of a cluster that does not serve all slots
	Replicas int64 // that are connected to it

	UsedBytes int64 // as far as maxmemory counts it
	MaxBytes  int64 // maxmemory; 0: no limit
	// MachineBytes is the memory of the machine, or of what the server takes for one.
	MachineBytes int64

	AppendOnly bool
	// Snapshots is the setting save, empty if there are none; Hidden says that the
	// server lets no settings be read.
	Snapshots string
	Hidden    bool

	// Clock is the server's time of day, and Asked when it was asked by ours: the
	// middle between question and answer.
	Clock, Asked time.Time
}

// Servers asks Redis, in a cluster each master, what it is. [Store.Problems] says
// what of it is wrong.
func (s *Store) Servers(ctx context.Context) ([]Server, error) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		server, err := askServer(ctx, s.client, "")
		if err != nil {
			return nil, err
		}
		return []Server{server}, nil
	}
	var mu sync.Mutex
	var servers []Server
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		server, err := askServer(ctx, c, c.Options().Addr)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		servers = append(servers, server)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask the masters of redis: %w", err)
	}
	slices.SortFunc(servers, func(a, b Server) int { return strings.Compare(a.Addr, b.Addr) })
	return servers, nil
}

func askServer(ctx context.Context, c redis.Cmdable, addr string) (Server, error) {
	began := time.Now()
	clock, err := c.Time(ctx).Result()
	if err != nil {
		return Server{}, fmt.Errorf("ask redis for the time: %w", err)
	}
	took := time.Since(began)
	told := info(ctx, c)
	s := Server{
		Addr: addr, Version: told["redis_version"], Cluster: told["redis_mode"] == "cluster",
		Replicas:     number(told["connected_slaves"]),
		UsedBytes:    number(told["used_memory"]) - number(told["mem_not_counted_for_evict"]),
		MaxBytes:     number(told["maxmemory"]),
		MachineBytes: number(told["total_system_memory"]),
		AppendOnly:   told["aof_enabled"] == "1",
		Clock:        clock, Asked: began.Add(took / 2),
	}
	if s.Cluster {
		state, err := c.ClusterInfo(ctx).Result()
		s.Broken = err == nil && strings.Contains(state, "cluster_state:fail")
	}
	s.Hidden = true
	if settings, err := c.ConfigGet(ctx, "save").Result(); err == nil {
		save, known := settings["save"]
		s.Snapshots, s.Hidden = save, !known
	}
	return s, nil
}
