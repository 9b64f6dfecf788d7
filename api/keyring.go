package api

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/pushfleet/pushfleet/store"
)

// Keys is where API keys are kept.
type Keys interface {
	// APIKey returns the API key with an id, also a revoked one.
	APIKey(ctx context.Context, id string) (k store.APIKey, ok bool, err error)
}

// KeyAge is how long an API key that was read is relied on at the most: a
// revocation is in force everywhere after it.
const KeyAge = 5 * time.Second

const (
	// refreshAge is how old it is when one request reads it again while the others
	// go on: so that no request waits for Redis while everything is well.
	refreshAge = 2 * time.Second

	// maxUnknown bounds the ids that are remembered as unknown.
	maxUnknown = 4096

	// keyTimeout is the patience with Redis.
	keyTimeout = 3 * time.Second
)

// keyring remembers API keys and counts their requests. What is unknown or
// revoked is remembered apart: strangers decide how many those are.
type keyring struct {
	keys  Keys
	now   func() time.Time
	reads singleflight.Group

	mu      sync.Mutex // guards what is below
	limit   rate.Limit
	burst   int
	good    map[string]*heldKey
	unknown map[string]time.Time // id -> read at
}

type heldKey struct {
	key        *store.APIKey // immutable
	readAt     time.Time
	refreshing bool
	limiter    *rate.Limiter
}

func newKeyring(keys Keys, perSecond int, now func() time.Time) *keyring {
	k := &keyring{keys: keys, now: now, good: make(map[string]*heldKey), unknown: make(map[string]time.Time)}
	k.setLimit(perSecond)
	return k
}

// setLimit changes how many requests a second each API key may make, and begins to count
// anew; 0: without limit.
func (k *keyring) setLimit(perSecond int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.limit, k.burst = rate.Limit(perSecond), perSecond
	if perSecond == 0 {
		k.limit = rate.Inf
	}
	for _, held := range k.good {
		held.limiter = rate.NewLimiter(k.limit, k.burst)
	}
}

// find returns the API key with an id and the limiter of its requests; nil if it
// is unknown or revoked. The error is Redis's.
func (k *keyring) find(ctx context.Context, id string) (*store.APIKey, *rate.Limiter, error) {
	now := k.now()
	k.mu.Lock()
	held := k.good[id]
	var age time.Duration
	if held != nil {
		age = now.Sub(held.readAt)
		if age < refreshAge || age < KeyAge && held.refreshing {
			defer k.mu.Unlock()
			return held.key, held.limiter, nil
		}
		held.refreshing = true
	} else if at, ok := k.unknown[id]; ok && now.Sub(at) < refreshAge {
		k.mu.Unlock()
		return nil, nil, nil
	}
	k.mu.Unlock()

	_, err, _ := k.reads.Do(id, func() (any, error) {
		// Others may wait for it, so it must not end with this request.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyTimeout)
		defer cancel()
		return nil, k.read(ctx, id)
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	now = k.now()
	held = k.good[id]
	if err != nil && (held == nil || now.Sub(held.readAt) >= KeyAge) {
		return nil, nil, err
	}
	if held == nil {
		return nil, nil, nil
	}
	return held.key, held.limiter, nil
}

// read reads an API key anew.
func (k *keyring) read(ctx context.Context, id string) error {
	asked := k.now() // what is revoked from here on may be missed
	key, ok, err := k.keys.APIKey(ctx, id)
	k.mu.Lock()
	defer k.mu.Unlock()
	held := k.good[id]
	if held != nil {
		held.refreshing = false
	}
	if err != nil {
		return err
	}
	if !ok || key.Revoked() {
		delete(k.good, id)
		if len(k.unknown) >= maxUnknown {
			clear(k.unknown)
		}
		k.unknown[id] = asked
		return nil
	}
	delete(k.unknown, id)
	if held == nil {
		held = &heldKey{limiter: rate.NewLimiter(k.limit, k.burst)}
		k.good[id] = held
	}
	held.key, held.readAt = &key, asked
	return nil
}

// take takes n from a limiter, or says how long to wait. More than it can ever
// hold counts as all of it.
func (k *keyring) take(l *rate.Limiter, n int) (wait time.Duration) {
	if l.Limit() == rate.Inf || n <= 0 {
		return 0
	}
	now := k.now()
	r := l.ReserveN(now, min(n, l.Burst()))
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// takeMore is take for the rest of a batch, of which one was taken as the request: more
// than there can ever be besides that counts as all of it.
func (k *keyring) takeMore(l *rate.Limiter, n int) (wait time.Duration) {
	if l.Limit() != rate.Inf {
		n = min(n, l.Burst()-1)
	}
	return k.take(l, n)
}
