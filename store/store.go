package store

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// DefaultBuckets is the bucket count of an app's token set if the Config has
// none: good for up to 500,000 devices with Redis's own settings.
const DefaultBuckets = 1024

// DefaultRemember is how long a removed device token is remembered.
//
// choice: long enough to notice a mistake and undo it.
const DefaultRemember = 30 * 24 * time.Hour

// Config says how a [Store] works. The zero value is good for most.
type Config struct {
	// Buckets is the bucket count of apps that have nothing in the token set yet:
	// a power of two, at most 2^24. Zero is [DefaultBuckets]. A bucket should hold
	// 100 to 200 devices, and never as many as Redis's hash-max-listpack-entries
	// (512, on some servers 128): beyond that a device takes twice the memory. Once
	// an app has a token set, its own count holds.
	Buckets int

	// Remember is how long removed device tokens are remembered, at least: until
	// then they are suppressed, and a removal can be undone. Zero is
	// [DefaultRemember].
	Remember time.Duration

	// RemovalsPerHour is how many device tokens of an app may be removed in an hour
	// because APNs said so: what is beyond stays as it is, and is removed by a later
	// 410. Zero is a tenth of the token set, and 10,000 at least; below zero there is
	// no limit.
	RemovalsPerHour int

	// FuseWindow is how far back the fuse looks; zero is [DefaultFuseWindow]. It must
	// be the same in the whole fleet.
	FuseWindow time.Duration

	// Clock tells the time that goes into records. Nil is the Redis server's
	// clock: one clock for the whole fleet, whatever the machines' own say.
	Clock func() time.Time
}

// Store is the token set. It is safe for concurrent use, starts no goroutines
// and needs no closing; its client does.
type Store struct {
	client  redis.UniversalClient
	cfg     Config
	invalid error // what is wrong with cfg
	scripts map[string]script

	tagEntries int // see the constant

	scratch sync.Pool // of *lookupScratch

	mu           sync.Mutex // guards what follows
	layouts      map[string]cachedLayout
	counts       map[string]cachedCount
	growthsKnown map[tagID]cachedGrowth // of tags of more than one bucket
}

type cachedLayout struct {
	*layout
	readAt time.Time // monotonic
}

// New returns a Store over client, which stays the caller's to close. Nothing is
// sent to Redis. The client's own time-outs hold for each command; it must read
// from masters, not from replicas. What a Redis cannot take for a moment is sent
// again for two seconds at most, also if the client is not to try again.
//
// With a Config that [Config.Validate] complains about, every call returns that
// complaint.
func New(client redis.UniversalClient, cfg Config) *Store {
	invalid := cfg.Validate()
	if cfg.Buckets == 0 {
		cfg.Buckets = DefaultBuckets
	}
	if cfg.Remember == 0 {
		cfg.Remember = DefaultRemember
	}
	if cfg.FuseWindow == 0 {
		cfg.FuseWindow = DefaultFuseWindow
	}
	return &Store{
		client:       client,
		cfg:          cfg,
		invalid:      invalid,
		scripts:      loadScripts(),
		tagEntries:   tagEntries,
		layouts:      make(map[string]cachedLayout),
		counts:       make(map[string]cachedCount),
		growthsKnown: make(map[tagID]cachedGrowth),
	}
}

// Validate reports everything that is wrong with c, joined.
func (c Config) Validate() error {
	var errs []error
	if c.Buckets < 0 || c.Buckets > maxBuckets || bits.OnesCount(uint(c.Buckets)) > 1 {
		errs = append(errs, fmt.Errorf("store: buckets must be a power of two of at most %d, got %d", maxBuckets, c.Buckets))
	}
	if c.Remember < 0 {
		errs = append(errs, fmt.Errorf("store: remember must not be negative, got %s", c.Remember))
	}
	if c.FuseWindow < 0 {
		errs = append(errs, fmt.Errorf("store: fuse window must not be negative, got %s", c.FuseWindow))
	}
	return errors.Join(errs...)
}

// layoutVersion is the layout that keys.go describes.
const layoutVersion = "1"

// layoutAge is how long a layout that was read is relied on. It bounds the harm
// when Redis is emptied or restored from a backup under a running fleet.
const layoutAge = 10 * time.Second

// layout returns how the token set of app is laid out; the first use of an app
// writes it down.
//
// choice: it is in Redis, beside the data that it describes, not in JetStream:
// a backup that is restored must bring the layout that it was written with.
func (s *Store) layout(ctx context.Context, app string) (*layout, error) {
	if s.invalid != nil {
		return nil, s.invalid
	}
	s.mu.Lock()
	cached, ok := s.layouts[app]
	if ok && time.Since(cached.readAt) < layoutAge {
		s.mu.Unlock()
		return cached.layout, nil
	}
	if ok {
		// Only one caller reads it again, the others go on with what is known.
		cached.readAt = time.Now()
		s.layouts[app] = cached
	}
	s.mu.Unlock()

	l, err := s.readLayout(ctx, app, cached.layout)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.layouts, app)
		return nil, fmt.Errorf("read layout of app %q: %w", app, err)
	}
	s.layouts[app] = cachedLayout{layout: l, readAt: time.Now()}
	return l, nil
}

func (s *Store) readLayout(ctx context.Context, app string, known *layout) (*layout, error) {
	if !validApp(app) {
		return nil, errors.New("an app's name is letters, digits, - and _")
	}
	buckets := s.cfg.Buckets
	if known != nil {
		buckets = int(known.buckets)
	}
	p := s.client.Pipeline()
	reply := p.HMGet(ctx, layoutKey(app), "buckets", "layout")
	if err := s.exec(ctx, p); err != nil {
		return nil, err
	}
	if slices.Contains(reply.Val(), nil) {
		// Written only where it is missing: a Redis that is out of memory, or that is a
		// replica, can still be read.
		p = s.client.Pipeline()
		p.HSetNX(ctx, layoutKey(app), "buckets", buckets)
		p.HSetNX(ctx, layoutKey(app), "layout", layoutVersion)
		reply = p.HMGet(ctx, layoutKey(app), "buckets", "layout")
		if err := s.exec(ctx, p); err != nil {
			return nil, err
		}
	}
	var stored struct {
		Buckets uint32 `redis:"buckets"`
		Layout  string `redis:"layout"`
	}
	if err := reply.Scan(&stored); err != nil {
		return nil, err
	}
	if stored.Layout != layoutVersion {
		return nil, fmt.Errorf("layout %q is not known to this version, which knows %s", stored.Layout, layoutVersion)
	}
	if stored.Buckets == 0 || stored.Buckets > maxBuckets || bits.OnesCount32(stored.Buckets) != 1 {
		return nil, fmt.Errorf("its bucket count %d is not a power of two of at most %d", stored.Buckets, maxBuckets)
	}
	if known != nil && known.buckets == stored.Buckets {
		return known, nil
	}
	return &layout{app: app, buckets: stored.Buckets}, nil
}

func validApp(app string) bool {
	for i := range len(app) {
		switch c := app[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return app != ""
}

// now is the time to hand to scripts, in milliseconds since the epoch; 0 has
// them ask the server.
func (s *Store) now() int64 {
	if s.cfg.Clock == nil {
		return 0
	}
	return s.cfg.Clock().UnixMilli()
}
