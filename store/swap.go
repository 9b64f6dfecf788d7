package store

import (
	"context"
	"fmt"
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// Now is the time by the token set's clock, which records are dated by.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if s.cfg.Clock != nil {
		return s.cfg.Clock(), nil
	}
	// A cluster answers by any of its nodes.
	now, err := s.client.Time(ctx).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("read the token set's clock: %w", err)
	}
	return now, nil
}

// swap is a record to be changed, if it is still as it was read.
type swap struct {
	token         device.Token
	before, after device.Record
}

// swapRecords changes records, and reports which were as they were read.
func (s *Store) swapRecords(ctx context.Context, l *layout, list []swap) ([]bool, error) {
	parts := s.onBuckets(ctx, l, bucketScript{
		name: "swap", kinds: "d", items: len(list),
		token: func(i int) device.Token { return list[i].token },
		args: func(dst []any, i int) []any {
			return append(dst, string(list[i].before.Append(nil)), string(list[i].after.Append(nil)))
		},
	})
	err := partsError(parts)
	done := make([]bool, len(list))
	for g := range parts {
		members := parts[g].members
		reply, replyErr := parts[g].ints(len(members))
		if replyErr != nil {
			if err == nil {
				err = replyErr
			}
			continue
		}
		for n, i := range members {
			done[i] = reply[n] == 1
		}
	}
	return done, err
}
