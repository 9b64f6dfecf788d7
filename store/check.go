package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// What [Store.Check] finds wrong.
var (
	// ErrEvicts: Redis may throw away device tokens. Do not run with it.
	ErrEvicts = errors.New("store: redis evicts keys")
	// ErrVersion: Redis is too old.
	ErrVersion = errors.New("store: redis is too old")
	// ErrReplica: Redis is a replica, which takes no writes and may be behind.
	ErrReplica = errors.New("store: redis is a replica")
	// ErrMember: Redis is a member of a cluster, and the client does not know that.
	ErrMember = errors.New("store: redis is a member of a cluster")
	// ErrFull: Redis has no memory left, and takes nothing but reads until it has.
	ErrFull = errors.New("store: redis is out of memory")
	// ErrDisk: Redis could not write to its disk, and takes nothing but reads, or
	// would lose what it took.
	ErrDisk = errors.New("store: redis cannot write to its disk")
	// ErrListpack: device tokens take twice the memory. Everything works.
	ErrListpack = errors.New("store: redis keeps buckets as hash tables")
)

// Problem is one thing that is wrong with Redis.
type Problem struct {
	Server string // host:port in a cluster, else empty
	Err    error  // wraps one of the errors above, or is why Redis does not answer
}

// Error says the problem in a line.
func (p Problem) Error() string {
	if p.Server == "" {
		return p.Err.Error()
	}
	return p.Server + ": " + p.Err.Error()
}

// Unwrap returns Err.
func (p Problem) Unwrap() error { return p.Err }

// Bearable reports whether the token set may be used all the same: nothing is
// wrong then with what it says, and what it does not take it refuses.
func (p Problem) Bearable() bool {
	return errors.Is(p.Err, ErrListpack) || errors.Is(p.Err, ErrFull) || errors.Is(p.Err, ErrDisk)
}

const (
	minMajor   = 7   // scripts that ask the server's clock write from 7.0 on without more ado
	minEntries = 128 // a bucket is meant to hold 100 to 200 devices
	minValue   = 64  // bytes: shortToken and a generation; a packed record
)

// Check reports whether Redis answers and is set up as the token set needs it:
// all that [Store.Problems] returns, joined.
func (s *Store) Check(ctx context.Context) error {
	var errs []error
	for _, p := range s.Problems(ctx) {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// Problems returns everything that is wrong with Redis as it is now; nothing, if
// all is well. In a cluster it looks at every master. What a server does not let
// be read is taken to be right.
func (s *Store) Problems(ctx context.Context) []Problem {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return checkServer(ctx, s.client, "")
	}
	var mu sync.Mutex
	var found []Problem
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		list := checkServer(ctx, c, c.Options().Addr)
		mu.Lock()
		defer mu.Unlock()
		found = append(found, list...)
		return nil
	})
	if err != nil {
		found = append(found, Problem{Err: fmt.Errorf("find the masters of redis: %w", err)})
	}
	slices.SortFunc(found, func(a, b Problem) int { return strings.Compare(a.Server, b.Server) })
	return found
}

// info reads what a server tells of itself; managed servers and miniredis do not
// tell everything.
func info(ctx context.Context, c redis.Cmdable) map[string]string {
	told := make(map[string]string)
	for _, section := range []string{"server", "memory", "persistence", "replication"} {
		text, err := c.Info(ctx, section).Result()
		if err != nil {
			continue
		}
		for line := range strings.Lines(text) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			told[name] = value
		}
	}
	return told
}

// checkServer checks one server; addr, of a member of the cluster that the client
// knows of, is empty if there is none.
func checkServer(ctx context.Context, c redis.Cmdable, addr string) (found []Problem) {
	add := func(err error) { found = append(found, Problem{Server: addr, Err: err}) }
	err := c.Ping(ctx).Err()
	disk := redis.HasErrorPrefix(err, "MISCONF") // it refuses a ping as it does writes
	if err != nil && !disk {
		add(fmt.Errorf("ping redis: %w", err))
		return found
	}
	told := info(ctx, c)
	version := told["redis_version"]
	if major, _, _ := strings.Cut(version, "."); major != "" {
		if n, err := strconv.Atoi(major); err == nil && n < minMajor {
			add(fmt.Errorf("%w: %s, where %d.0 or newer is needed", ErrVersion, version, minMajor))
		}
	}
	if policy := told["maxmemory_policy"]; policy != "" && policy != "noeviction" {
		add(fmt.Errorf("%w: maxmemory-policy is %s, and must be noeviction, or device tokens vanish when memory is short", ErrEvicts, policy))
	}
	if told["role"] == "slave" {
		add(fmt.Errorf("%w: it takes no writes, and must be asked for nothing", ErrReplica))
	}
	if told["redis_mode"] == "cluster" && addr == "" {
		add(fmt.Errorf("%w: several addresses must be given, or it is taken to be alone", ErrMember))
	}
	// As redis does it: what is on its way to replicas does not count.
	used, most := number(told["used_memory"])-number(told["mem_not_counted_for_evict"]), number(told["maxmemory"])
	if most > 0 && used > most {
		add(fmt.Errorf("%w: it uses %d bytes of %d, and takes no registration", ErrFull, used, most))
	}
	for _, file := range []struct{ name, status string }{
		{"append-only file", "aof_last_write_status"},
		{"append-only file anew", "aof_last_bgrewrite_status"},
		{"snapshot", "rdb_last_bgsave_status"},
	} {
		if told[file.status] == "err" {
			add(fmt.Errorf("%w: it failed to write the %s", ErrDisk, file.name))
			disk = false
		}
	}
	if disk {
		add(fmt.Errorf("%w: %w", ErrDisk, err))
	}
	settings, err := c.ConfigGet(ctx, "hash-max-listpack-*").Result()
	if err != nil {
		return found
	}
	for _, want := range []struct {
		name  string
		least int
	}{
		{"hash-max-listpack-entries", minEntries},
		{"hash-max-listpack-value", minValue},
	} {
		if n, err := strconv.Atoi(settings[want.name]); err == nil && n < want.least {
			add(fmt.Errorf("%w: %s is %d, and should be at least %d", ErrListpack, want.name, n, want.least))
		}
	}
	return found
}

// number reads a number of INFO; what is none is 0.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
