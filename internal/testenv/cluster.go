package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// clusterSlots is how many slots a Redis Cluster has.
const clusterSlots = 16384

// RedisCluster is a Redis Cluster that belongs to one test, and ends with it.
type RedisCluster struct {
	// Masters have the slots in equal parts, in order; Replicas[i] is of Masters[i].
	// Both are as the cluster began, whatever has failed over since.
	Masters, Replicas []*RedisNode
}

// RedisNode is one server of a cluster.
type RedisNode struct {
	*RedisServer
	// Client is connected to this server alone, and follows no redirection.
	Client *redis.Client
	ID     string
}

// StartRedisCluster starts a cluster of three masters, each with a replica if
// replicas is set, with further arguments for each server, and waits until it is
// whole. Where there is no redis-server on PATH, ok is false.
func StartRedisCluster(t testing.TB, replicas bool, args ...string) (cluster *RedisCluster, ok bool) {
	t.Helper()
	const masters = 3
	cluster = new(RedisCluster)
	n := masters
	if replicas {
		n *= 2
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all []*RedisNode
	for i := range n {
		// By default the bus is at the port and 10,000, which may be beyond 65,535.
		bus, err := freeAddr()
		if err != nil {
			t.Fatal(err)
		}
		_, port, err := net.SplitHostPort(bus)
		if err != nil {
			t.Fatal(err)
		}
		// A replica is sent its copy at once rather than after five seconds.
		server, ok := StartRedis(t, append([]string{
			"--cluster-enabled", "yes", "--cluster-port", port, "--repl-diskless-sync-delay", "0",
		}, args...)...)
		if !ok {
			return nil, false
		}
		node := &RedisNode{RedisServer: server, Client: redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1})}
		t.Cleanup(func() { _ = node.Client.Close() })
		all = append(all, node)
		if err := cluster.join(ctx, node, all[0], port, i, i < masters); err != nil {
			t.Fatalf("make a redis cluster: %v", err)
		}
	}
	cluster.Masters, cluster.Replicas = all[:masters], all[masters:]
	for _, node := range all {
		cluster.await(ctx, t, node, "cluster info", fmt.Sprint("cluster_known_nodes:", n))
	}
	for i, node := range cluster.Replicas {
		if err := node.Client.ClusterReplicate(ctx, cluster.Masters[i].ID).Err(); err != nil {
			t.Fatalf("make a redis cluster: %v", err)
		}
	}
	for _, node := range all {
		cluster.await(ctx, t, node, "cluster info", "cluster_state:ok")
	}
	for _, node := range cluster.Replicas {
		cluster.await(ctx, t, node, "info replication", "master_link_status:up")
	}
	for _, node := range cluster.Masters[:min(masters, len(cluster.Replicas))] {
		// Only then is a write sent on when it is made.
		cluster.await(ctx, t, node, "info replication", "state=online")
	}
	return cluster, true
}

// join has the ith node meet the first one, and gives it slots if it is a master.
func (c *RedisCluster) join(ctx context.Context, node, first *RedisNode, bus string, i int, master bool) error {
	var err error
	if node.ID, err = node.Client.ClusterMyID(ctx).Result(); err != nil {
		return err
	}
	if master {
		const masters = 3
		// Two masters of one epoch would have to find a way out of it first.
		if err := node.Client.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			return err
		}
		if err := node.Client.ClusterAddSlotsRange(ctx, i*clusterSlots/masters, (i+1)*clusterSlots/masters-1).Err(); err != nil {
			return err
		}
	}
	host, port, err := net.SplitHostPort(node.Addr)
	if err != nil {
		return err
	}
	return first.Client.Do(ctx, "cluster", "meet", host, port, bus).Err()
}

// await polls a node, which has no event to wait for, until it says want.
func (c *RedisCluster) await(ctx context.Context, t testing.TB, node *RedisNode, command, want string) {
	t.Helper()
	var words []any
	for word := range strings.SplitSeq(command, " ") {
		words = append(words, word)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := node.Client.Do(ctx, words...).Text()
		if err == nil && strings.Contains(text, want) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s of redis at %s: got %q, %v, want %s", command, node.Addr, text, err, want)
		}
	}
}

// AwaitMaster waits until a replica has taken its master's place.
func (c *RedisCluster) AwaitMaster(ctx context.Context, t testing.TB, node *RedisNode) {
	t.Helper()
	c.await(ctx, t, node, "info replication", "role:master")
}

// Addrs are the addresses of all nodes.
func (c *RedisCluster) Addrs() []string {
	var addrs []string
	for _, list := range [][]*RedisNode{c.Masters, c.Replicas} {
		for _, node := range list {
			addrs = append(addrs, node.Addr)
		}
	}
	return addrs
}

// MoveSlot moves a slot from one master to another, key by key, as
// redis-cli --cluster reshard does. between is called when the slot is on the
// move, after each key, and before the move is made known.
func (c *RedisCluster) MoveSlot(ctx context.Context, slot int, from, to *RedisNode, between func()) error {
	host, port, err := net.SplitHostPort(to.Addr)
	if err != nil {
		return err
	}
	if err := to.Client.Do(ctx, "cluster", "setslot", slot, "importing", from.ID).Err(); err != nil {
		return fmt.Errorf("import slot %d: %w", slot, err)
	}
	if err := from.Client.Do(ctx, "cluster", "setslot", slot, "migrating", to.ID).Err(); err != nil {
		return fmt.Errorf("migrate slot %d: %w", slot, err)
	}
	for {
		between()
		keys, err := from.Client.ClusterGetKeysInSlot(ctx, slot, 1).Result()
		if err != nil {
			return fmt.Errorf("keys of slot %d: %w", slot, err)
		}
		if len(keys) == 0 {
			break
		}
		err = from.Client.Do(ctx, "migrate", host, port, keys[0], 0, 5000).Err()
		if err != nil {
			return fmt.Errorf("migrate a key of slot %d: %w", slot, err)
		}
	}
	var errs []error
	for _, node := range append([]*RedisNode{to, from}, c.Masters...) {
		errs = append(errs, node.Client.Do(ctx, "cluster", "setslot", slot, "node", to.ID).Err())
	}
	return errors.Join(errs...)
}

// AwaitReplica waits until a replica of the node has all that the node has taken
// so far.
func (n *RedisNode) AwaitReplica(ctx context.Context, t testing.TB) {
	t.Helper()
	conn := n.Client.Conn()
	defer conn.Close()
	// WAIT is about the writes of its own connection, so it needs one, to a slot that
	// is here.
	var err error
	for i := range 1000 {
		if err = conn.Set(ctx, fmt.Sprint("probe-", i), 1, time.Minute).Err(); err == nil || !redis.HasErrorPrefix(err, "MOVED") {
			break
		}
	}
	if err != nil {
		t.Fatalf("write to a master: %v", err)
	}
	got, err := conn.Wait(ctx, 1, 20*time.Second).Result()
	if err != nil || got < 1 {
		t.Fatalf("wait for a replica: got %d, %v, want 1", got, err)
	}
}
