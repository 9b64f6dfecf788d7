package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// How long a pipeline that Redis cannot take just now is tried again, and how
// long it waits in between.
//
// choice: a slot of a cluster moves within some ten milliseconds, and a
// connection that was cut is made again at once. What takes longer than this, a
// fail-over or a restart, is for the caller, who may have something better to do
// than to wait.
const (
	sendPatience = 2 * time.Second
	sendFirst    = 5 * time.Millisecond
	sendLongest  = 200 * time.Millisecond
)

// once is a command that go-redis does not send again by itself.
//
// go-redis sends a pipeline again whole if its first command fails in a passing
// way: what was done is done once more. In a cluster one command may then be
// under way at two nodes at a time, both writing its reply. So what is sent again
// is decided here, for each command. Redirections (MOVED, ASK) stay go-redis's.
type once struct{ redis.Cmder }

func (once) NoRetry() bool { return true }

// onceScript and its like are once without an allocation for each command.
type (
	onceScript struct{ *redis.Cmd }
	onceStatus struct{ *redis.StatusCmd }
	onceField  struct{ *redis.StringCmd }
	onceFields struct{ *redis.SliceCmd }
)

func (onceScript) NoRetry() bool { return true }
func (onceStatus) NoRetry() bool { return true }
func (onceField) NoRetry() bool  { return true }
func (onceFields) NoRetry() bool { return true }

// exec sends what is queued in p as [Store.send] does.
func (s *Store) exec(ctx context.Context, p redis.Pipeliner) error {
	cmds := p.Cmds()
	for i, cmd := range cmds {
		cmds[i] = once{cmd}
	}
	return s.send(ctx, cmds)
}

// send sends cmds, which are not to be sent again by go-redis, in one pipeline,
// and those of them again that a Redis could not take just then. It returns the
// first error, after each command has its own; that there is no value
// ([redis.Nil]) is none. A command whose ctx ends while it is sent again has both
// that and what Redis said before for its error.
func (s *Store) send(ctx context.Context, cmds []redis.Cmder) error {
	err := s.sendOnce(ctx, cmds)
	var left []redis.Cmder
	for wait, end := sendFirst, time.Now().Add(sendPatience); err != nil; wait = min(2*wait, sendLongest) {
		left = left[:0]
		for _, cmd := range cmds {
			if passes(cmd.Err()) {
				left = append(left, cmd)
			}
		}
		if len(left) == 0 || time.Now().After(end) ||
			!sleep(ctx, wait/2+rand.N(wait)) { //nolint:gosec // spreads load, hides nothing
			break
		}
		refusals := make([]error, len(left))
		for i, cmd := range left {
			refusals[i] = cmd.Err()
			cmd.SetErr(nil)
		}
		err = s.sendOnce(ctx, left)
		if ended := context.Cause(ctx); err != nil && ended != nil {
			// What Redis said tells more than that there was no time to ask it again.
			unsent := firstError(left) == nil
			for i, cmd := range left {
				if unsent || isConnection(cmd.Err()) {
					cmd.SetErr(fmt.Errorf("%w, after %w", ended, refusals[i]))
				}
			}
			return firstError(cmds)
		}
		if err == nil && len(left) < len(cmds) {
			err = firstError(cmds)
		}
	}
	return err
}

func (s *Store) sendOnce(ctx context.Context, cmds []redis.Cmder) error {
	p := s.client.Pipeline()
	if err := p.BatchProcess(ctx, cmds...); err != nil {
		return err
	}
	_, err := p.Exec(ctx)
	if err == nil {
		return nil
	}
	first := firstError(cmds)
	if first == nil && !errors.Is(err, redis.Nil) {
		first = err // it was never sent, and says so only once
	}
	cluster, ok := s.client.(*redis.ClusterClient)
	if ok && slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool { return isConnection(cmd.Err()) }) {
		// go-redis asks again which node has what when a node redirects it. One that is
		// dead does not, and its replica has taken over long before the minute is out in
		// which go-redis asks anyway.
		cluster.ReloadState(ctx)
	}
	return first
}

func firstError(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	return nil
}

// passes reports whether a command that failed with err is to be sent again in a
// moment. It may have been carried out, which does no harm.
//
// A time-out is not among them: Redis has more to do than it can, and twice as
// much would not help. Neither is a refused connection, which go-redis has tried
// several times.
func passes(err error) bool {
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return false
	case redis.IsTryAgainError(err), redis.IsClusterDownError(err), redis.IsMasterDownError(err), redis.IsLoadingError(err):
		return true
	case redis.IsReadOnlyError(err):
		return true // go-redis closes the connection: the next one may lead to the new master
	case redis.HasErrorPrefix(err, "MOVED"), redis.HasErrorPrefix(err, "ASK"):
		return true // a slot that moved on and on
	}
	return wasCut(err)
}

// wasCut reports whether a connection ended under way.
func wasCut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// isConnection reports whether err is of the way to Redis, not of Redis.
func isConnection(err error) bool {
	var said redis.Error
	return err != nil && !errors.As(err, &said)
}

// sleep waits for d, and reports false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
