package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A life is the time in which Redis forgets nothing: from a start or a fail-over
// to the next. What was written last before its end may be gone after it. These
// keys say whether it was written again.
const (
	healedKey  = "pf:recorder:healed"   // STRING  <life> <sequence in OUTCOMES>
	healingKey = "pf:recorder:healing:" // STRING  and the life: who is at it
)

// Healed says how far outcomes are known to be applied in a life of Redis.
type Healed struct {
	Life string // empty: none was ever healed
	// Through is the last message of OUTCOMES that was looked at when it was healed.
	// All up to there are applied; what came later was applied to this life.
	Through uint64
}

// Life names the present life of Redis: of all masters, in a cluster. It changes
// when one of them starts again or another takes its place. What a server does
// not tell does not count: then only a loss of all is noticed, by [Store.Healed].
func (s *Store) Life(ctx context.Context) (string, error) {
	if s.invalid != nil {
		return "", s.invalid
	}
	var ids []string
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		id, err := serverLife(ctx, s.client)
		if err != nil {
			return "", fmt.Errorf("ask redis who it is: %w", err)
		}
		ids = append(ids, id)
	} else {
		var mu sync.Mutex
		err := cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			id, err := serverLife(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, id)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("ask the masters of redis who they are: %w", err)
		}
	}
	slices.Sort(ids)
	sum := sha256.Sum256([]byte(strings.Join(ids, ",")))
	return hex.EncodeToString(sum[:16]), nil
}

// serverLife names the life of one server. The run id is new with every start; the
// replication id also when a replica becomes the master, or follows another one.
func serverLife(ctx context.Context, c redis.Cmdable) (string, error) {
	id := ""
	for _, section := range [...]string{"server", "replication"} {
		text, err := c.Info(ctx, section).Result()
		if isConnection(err) || redis.IsLoadingError(err) {
			return "", err
		}
		if err != nil {
			continue // managed servers and miniredis do not tell everything
		}
		for line := range strings.Lines(text) {
			switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); {
			case name == "role" && value == "slave":
				return "", ErrReplica
			case name == "run_id" || name == "master_replid":
				id += value + "."
			}
		}
	}
	return id, nil
}

// Healed returns the present life of Redis, and which was healed last. If they
// are the same, everything that the recorders have acknowledged is in Redis, up to
// the time of the question: who reads asks before and after, and has read
// something whole if both answers are the same.
func (s *Store) Healed(ctx context.Context) (life string, h Healed, err error) {
	// The life first: if it ends in between, the mark is of another one.
	if life, err = s.Life(ctx); err != nil {
		return "", Healed{}, err
	}
	text, err := s.client.Get(ctx, healedKey).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return life, Healed{}, nil
	case err != nil:
		return "", Healed{}, fmt.Errorf("read how far redis is healed: %w", err)
	}
	name, through, _ := strings.Cut(text, " ")
	n, err := strconv.ParseUint(through, 10, 64)
	if err != nil {
		return life, Healed{}, nil //nolint:nilerr // it cannot be read: healed once more, it can
	}
	return life, Healed{Life: name, Through: n}, nil
}

// SetHealed writes that a life is healed.
func (s *Store) SetHealed(ctx context.Context, h Healed) error {
	if err := s.client.Set(ctx, healedKey, h.Life+" "+strconv.FormatUint(h.Through, 10), 0).Err(); err != nil {
		return fmt.Errorf("write that redis is healed: %w", err)
	}
	return nil
}

// Unheal takes that back: until Redis is healed again, nobody relies on it.
func (s *Store) Unheal(ctx context.Context) error {
	if err := s.client.Del(ctx, healedKey).Err(); err != nil {
		return fmt.Errorf("write that redis is not healed: %w", err)
	}
	return nil
}

// ClaimHealing reports whether by is the one to heal a life of Redis, for so long:
// nobody else is, or by was before.
func (s *Store) ClaimHealing(ctx context.Context, life, by string, lease time.Duration) (bool, error) {
	ok, err := s.claim(ctx, healingKey+life, by, lease)
	if err != nil {
		return false, fmt.Errorf("claim the healing of redis: %w", err)
	}
	return ok, nil
}

// ClaimWork reports whether by is the one to do some work, for so long: nobody else
// is, or by was before, whose lease begins anew. A process that stands still for
// longer than its lease is not told that another one has the work now.
func (s *Store) ClaimWork(ctx context.Context, name, by string, lease time.Duration) (bool, error) {
	ok, err := s.claim(ctx, workKey(name), by, lease)
	if err != nil {
		return false, fmt.Errorf("claim work %s: %w", name, err)
	}
	return ok, nil
}

func (s *Store) claim(ctx context.Context, key, by string, lease time.Duration) (bool, error) {
	calls := []call{{keys: []string{key}, args: []any{by, max(lease.Milliseconds(), 1)}}}
	if err := s.run(ctx, "claim", calls); err != nil {
		return false, err
	}
	n, err := sum(calls)
	return n == 1, err
}
