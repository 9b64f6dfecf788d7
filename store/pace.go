package store

import (
	"context"
	"fmt"
	"time"
)

// Permits asks for permits to send notifications of a campaign, of which there are
// rate a second for the whole fleet. It grants what there is: never more than come
// in a tenth of a second, and one at least where there is one. wait is how long it is
// until it is worth asking again; 0 if all were granted. Permits that nobody asks for
// are lost, not saved: over any ten seconds there are never more than 5 % too many,
// and who asks again after each wait gets no more than 5 % too few.
//
// The rate may be another one with each call. One of 0 or less is none: all is
// granted, and Redis is not asked.
func (s *Store) Permits(ctx context.Context, app, campaign string, rate, want int) (granted int, wait time.Duration, err error) {
	if rate <= 0 || want <= 0 {
		return max(want, 0), 0, nil
	}
	calls := []call{{keys: []string{paceKey(app, campaign)}, args: []any{s.now() * 1000, rate, want}}}
	err = s.run(ctx, "pace", calls)
	var reply []int64
	if err == nil {
		reply, err = calls[0].ints(2)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("pace campaign %s of app %q: %w", campaign, app, err)
	}
	return int(reply[0]), time.Duration(reply[1]) * time.Microsecond, nil
}
