package feedback

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/store"
)

// sweepCycle is how long a sweep of all buckets of an app takes. choice: what a
// crash left half done is healed within the hour, and a look at a bucket is cheap.
const sweepCycle = time.Hour

// Swept sweeps buckets of a token set; see [store.Store].
type Swept interface {
	Buckets(ctx context.Context, app string) (int, error)
	Sweep(ctx context.Context, app string, n int) (store.Swept, error)
}

// Sweeper finishes replacements of device tokens that were cut off, and forgets
// tombstones that are old enough, bucket by bucket. Any number may run at once.
type Sweeper struct {
	set   Swept
	apps  []string
	cycle time.Duration
	log   *zap.Logger
}

// NewSweeper returns a sweeper for apps; cycle is how long it takes for all
// buckets of one, 0: an hour.
func NewSweeper(set Swept, apps []string, cycle time.Duration, log *zap.Logger) *Sweeper {
	if cycle == 0 {
		cycle = sweepCycle
	}
	return &Sweeper{set: set, apps: apps, cycle: cycle, log: log.Named("sweeper")}
}

// Run sweeps until ctx ends. It returns nil.
func (s *Sweeper) Run(ctx context.Context) error {
	at := rand.Uint32() //nolint:gosec // so that workers that start together do not sweep together
	for ctx.Err() == nil {
		most := 1
		for _, app := range s.apps {
			n, err := s.set.Buckets(ctx, app)
			if err != nil {
				s.say(ctx, app, err)
				continue
			}
			most = max(most, n)
			if _, err := s.set.Sweep(ctx, app, int(at)%n); err != nil {
				s.say(ctx, app, err)
			}
		}
		at++
		pause(ctx, s.cycle/time.Duration(most))
	}
	return nil
}

// say tells of a bucket that could not be swept: its turn comes again.
func (s *Sweeper) say(ctx context.Context, app string, err error) {
	if ctx.Err() == nil {
		s.log.Warn("cannot sweep", zap.String("app", app), zap.Error(err))
	}
}
