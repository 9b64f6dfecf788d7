package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Counts are notifications by what became of them, since an app has outcomes. They only
// grow.
type Counts struct {
	Accepted int64
	Failed   int64 // rejected, given up, or without an answer
}

// Told is what one message of OUTCOMES adds to the counts of an app.
type Told struct {
	App      string
	Sequence uint64    // of the message
	At       time.Time // when it was told, by the worker's clock
	Counts
}

const (
	// countedTogether is how many messages share a set of those that are counted.
	// choice: up to 512 small numbers take Redis two bytes each (set-max-intset-entries).
	countedTogether = 512
	// countedSeconds is how long it is remembered that a message is counted.
	//
	// choice: recorders apply a message again within seconds, or when they are back. What
	// they had in hand when all of them went away for longer than a day counts twice.
	countedSeconds = 24 * 60 * 60
)

// countedKey is where it stands which messages of a block are in the counts. The hour in
// it is for an OUTCOMES that was made anew: its messages have the numbers of earlier ones.
func countedKey(at time.Time, block uint64) string {
	return "pf:{counts}:" + strconv.FormatInt(at.Unix()/3600, 10) + ":" + strconv.FormatUint(block, 10)
}

// CountTold adds to the counts of apps. It may be repeated: each message counts once.
func (s *Store) CountTold(ctx context.Context, told []Told) error {
	blocks := make(map[string]int)
	var calls []call
	for i := range told {
		t := &told[i]
		key := countedKey(t.At, t.Sequence/countedTogether)
		n, ok := blocks[key]
		if !ok {
			n = len(calls)
			blocks[key] = n
			calls = append(calls, call{keys: []string{countsKey, key}, args: []any{countedSeconds}})
		}
		calls[n].args = append(calls[n].args, t.Sequence%countedTogether, t.App, t.Accepted, t.Failed)
	}
	if len(calls) == 0 {
		return nil
	}
	if err := s.run(ctx, "counts", calls); err != nil {
		return fmt.Errorf("count %d outcomes: %w", len(told), err)
	}
	return nil
}

// AppCounts returns the counts of all apps that have any.
func (s *Store) AppCounts(ctx context.Context) (map[string]Counts, error) {
	fields, err := s.client.HGetAll(ctx, countsKey).Result()
	if err != nil {
		return nil, fmt.Errorf("read counts of apps: %w", err)
	}
	all := make(map[string]Counts)
	for field, text := range fields {
		what, app, _ := strings.Cut(field, ":")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read counts of apps: field %s is not a number", field)
		}
		c := all[app]
		switch what {
		case "accepted":
			c.Accepted = n
		case "failed":
			c.Failed = n
		}
		all[app] = c
	}
	return all, nil
}
