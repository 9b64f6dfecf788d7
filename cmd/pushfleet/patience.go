package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/stream"
)

// The waits between two tries to reach JetStream double from the first to the longest.
const (
	firstWait   = 250 * time.Millisecond
	longestWait = 5 * time.Second
)

// awaitNATS is connectNATS for a worker, which may start before its servers do, or
// while they elect a leader: it tries for worker.start_timeout. failed is told of each
// try that failed.
func awaitNATS(ctx context.Context, cfg *config.Config, role string, log *zap.Logger, failed func(error)) (nc *nats.Conn, streams *stream.Streams, err error) {
	err = patiently(ctx, cfg.Worker.StartTimeout, func(ctx context.Context) error {
		nc, streams, err = connectNATS(ctx, cfg, role, log)
		return err
	}, func(err error, wait time.Duration) {
		log.Warn("JetStream cannot be reached, trying again", zap.Duration("after", wait), zap.Error(err))
		failed(err)
	})
	return nc, streams, err
}

// patiently tries until it succeeds, and no longer than ctx or patience last. What
// waiting does not mend ends it at once. It calls again before each wait.
func patiently(ctx context.Context, patience time.Duration, try func(context.Context) error, again func(err error, wait time.Duration)) error {
	begun := time.Now()
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		err := try(ctx)
		switch left := patience - time.Since(begun); {
		case ctx.Err() != nil && err != nil:
			return ctx.Err()
		case err == nil, stream.Permanent(err):
			return err
		case left <= 0 && patience > 0:
			return fmt.Errorf("tried for %s (worker.start_timeout): %w", patience, err)
		case left <= 0:
			return err
		default:
			wait = min(wait, left)
		}
		again(err, wait)
		next := time.NewTimer(wait)
		select {
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			return ctx.Err()
		}
	}
}
