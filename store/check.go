package store

import (
	"context"
	"errors"
	"fmt"
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
	// ErrListpack: device tokens take twice the memory. Everything works.
	ErrListpack = errors.New("store: redis keeps buckets as hash tables")
)

const (
	minMajor   = 7   // scripts that ask the server's clock write from 7.0 on without more ado
	minEntries = 128 // a bucket is meant to hold 100 to 200 devices
	minValue   = 64  // bytes: shortToken and a generation; a packed record
)

// Check reports whether Redis answers and is set up as the token set needs it,
// everything that is wrong joined: [ErrEvicts], [ErrVersion] and [ErrListpack]
// can be told apart. In a cluster it looks at every master. What a server does
// not let be read is taken to be right.
func (s *Store) Check(ctx context.Context) error {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return checkServer(ctx, s.client)
	}
	var mu sync.Mutex
	var errs []error
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		if err := checkServer(ctx, c); err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, fmt.Errorf("%s: %w", c.Options().Addr, err))
		}
		return nil
	})
	return errors.Join(append(errs, err)...)
}

func checkServer(ctx context.Context, c redis.Cmdable) error {
	if err := c.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	var errs []error
	version, policy := "", ""
	for _, section := range []string{"server", "memory"} {
		info, err := c.Info(ctx, section).Result()
		if err != nil {
			continue // managed servers and miniredis do not tell everything
		}
		for line := range strings.Lines(info) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			switch name {
			case "redis_version":
				version = value
			case "maxmemory_policy":
				policy = value
			}
		}
	}
	if major, _, _ := strings.Cut(version, "."); major != "" {
		if n, err := strconv.Atoi(major); err == nil && n < minMajor {
			errs = append(errs, fmt.Errorf("%w: %s, where %d.0 or newer is needed", ErrVersion, version, minMajor))
		}
	}
	if policy != "" && policy != "noeviction" {
		errs = append(errs, fmt.Errorf(
			"%w: maxmemory-policy is %s, and must be noeviction, or device tokens vanish when memory is short",
			ErrEvicts, policy))
	}
	settings, err := c.ConfigGet(ctx, "hash-max-listpack-*").Result()
	if err != nil {
		return errors.Join(errs...)
	}
	for _, want := range []struct {
		name  string
		least int
	}{
		{"hash-max-listpack-entries", minEntries},
		{"hash-max-listpack-value", minValue},
	} {
		if n, err := strconv.Atoi(settings[want.name]); err == nil && n < want.least {
			errs = append(errs, fmt.Errorf("%w: %s is %d, and should be at least %d", ErrListpack, want.name, n, want.least))
		}
	}
	return errors.Join(errs...)
}
