package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/job"
)

// guardTTL is how long a job's id is guarded against a second job of that id,
// counted from the last delivery; JetStream's own window covers two minutes.
const guardTTL = 24 * time.Hour

// Claim asks for a job's id on behalf of the message at a place in JOBS. Or, with
// a Campaign, for a range of it: no job's id is in its way then, and Lane and ID
// do not count.
type Claim struct {
	App      string
	Lane     job.Lane
	ID       string
	Campaign string // id
	Range    int
	Sequence uint64
}

func (c *Claim) String() string {
	if c.Campaign != "" {
		return c.App + "/campaigns/" + c.Campaign + "/" + strconv.Itoa(c.Range)
	}
	return c.App + "/" + c.Lane.String() + "/" + c.ID
}

func (c *Claim) ttl() time.Duration {
	if c.Campaign != "" {
		return rangeTTL
	}
	return guardTTL
}

// Claimed is what became of a [Claim].
type Claimed uint8

const (
	// First says that nobody had the id: the message is delivered for the first
	// time, as far as Redis remembers.
	First Claimed = iota
	// Again says that the same message had it: it was delivered before, whatever
	// JetStream says, whose count of deliveries can go with a leader.
	Again
	// Taken says that another message has it.
	Taken
)

// Guard claims ids and reports, in order, what became of that. The same message
// may claim its id any number of times.
func (s *Store) Guard(ctx context.Context, claims []Claim) ([]Claimed, error) {
	replies := make([]*redis.StatusCmd, len(claims))
	queue := make([]redis.Cmder, len(claims))
	keys := make([]string, len(claims))
	args := make([]any, 0, 7*len(claims))
	for i := range claims {
		keys[i] = guardKey(&claims[i])
		start := len(args)
		args = append(args, "set", &keys[i], &claims[i].Sequence, "ex", int(claims[i].ttl()/time.Second), "NX", "get")
		replies[i] = redis.NewStatusCmd(ctx, args[start:len(args):len(args)]...)
		queue[i] = onceStatus{replies[i]}
	}
	if err := s.send(ctx, queue); err != nil {
		return nil, fmt.Errorf("guard %d jobs: %w", len(claims), err)
	}
	claimed := make([]Claimed, len(claims))
	renew := s.client.Pipeline()
	for i, reply := range replies {
		held, err := reply.Result()
		switch {
		case errors.Is(err, redis.Nil):
		case err != nil:
			return nil, fmt.Errorf("guard job %s: %w", &claims[i], err)
		case held == strconv.FormatUint(claims[i].Sequence, 10):
			claimed[i] = Again
			// A message that is tried for days keeps its id: else another one could
			// take it, and the redelivery would be the duplicate.
			renew.Expire(ctx, keys[i], claims[i].ttl())
		default:
			claimed[i] = Taken
		}
	}
	if renew.Len() == 0 {
		return claimed, nil
	}
	if err := s.exec(ctx, renew); err != nil {
		return nil, fmt.Errorf("renew guards: %w", err)
	}
	return claimed, nil
}
