package api

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// How many follow events at once, by default. choice: a follower costs a goroutine, a
// connection, and a few kilobytes a second.
const (
	DefaultFollowers    = 200 // of one process
	DefaultKeyFollowers = 20  // of them with one API key
)

// followers counts those who follow events, and ends them.
type followers struct {
	most, mostOfKey int

	ending context.Context //nolint:containedctx // ends when the process stops serving
	end    context.CancelFunc

	mu    sync.Mutex
	all   int            // guarded by mu
	ofKey map[string]int // guarded by mu: by the API key's id
}

func newFollowers(most, mostOfKey int) *followers {
	f := &followers{most: most, mostOfKey: mostOfKey, ofKey: make(map[string]int)}
	f.ending, f.end = context.WithCancel(context.Background())
	return f
}

// enter counts one more with an API key, or says why there may not be.
func (f *followers) enter(key string) *Problem {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ending.Err() != nil:
		p := problemf(http.StatusServiceUnavailable, codeUnavailable, "this process stops: repeat the request")
		p.retryAfter = time.Second
		return p
	case f.ofKey[key] >= f.mostOfKey:
		p := problemf(http.StatusTooManyRequests, codeRateLimited, "the API key %s follows events %d times here, and may not more often: end one", key, f.mostOfKey)
		p.retryAfter = 5 * time.Second
		return p
	case f.all >= f.most:
		p := problemf(http.StatusServiceUnavailable, codeOverloaded, "%d follow events here, and more may not", f.most)
		p.retryAfter = 5 * time.Second
		return p
	}
	f.all++
	f.ofKey[key]++
	return nil
}

func (f *followers) leave(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all--
	if f.ofKey[key]--; f.ofKey[key] == 0 {
		delete(f.ofKey, key)
	}
}

func (f *followers) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all
}
