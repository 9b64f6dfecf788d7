package store

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// DefaultBuckets is the bucket count of an app's token set if the Config has
// none: good for up to 200,000 devices, then they double.
const DefaultBuckets = 1024

// DefaultRemember is how long a removed device token is remembered.
//
// choice: long enough to notice a mistake and undo it.
const DefaultRemember = 30 * 24 * time.Hour

// DefaultKeepJobs is how long what is known of a job is kept if the Config does not
// say, and the least that it may be: as long as the job's id is guarded.
const DefaultKeepJobs = guardTTL

// MaxKeepJobs is the most: OUTCOMES, which has the recipients, keeps a week.
const MaxKeepJobs = 7 * 24 * time.Hour

// Config says how a [Store] works. The zero value is good for most.
type Config struct {
	// Buckets is the bucket count of apps that have nothing in the token set yet:
	// a power of two, at most 2^24. Zero is [DefaultBuckets]; for a large token set
	// [BucketsFor] saves doubling them again and again. A bucket should hold 100 to
	// 200 devices, and never as many as Redis's hash-max-listpack-entries (512, on
	// some servers 128): beyond that a device takes twice the memory. Once an app has
	// a token set, its own count holds.
	Buckets int

	// DevicesPerBucket is how many devices a bucket holds on average when
	// [Store.Grow] begins to double them. Zero is [DefaultDevicesPerBucket], or half
	// of hash-max-listpack-entries where that is less.
	DevicesPerBucket int

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

	// KeepJobs is how long what is known of a job outlives its last change, from
	// [DefaultKeepJobs], which is zero, to [MaxKeepJobs].
	KeepJobs time.Duration

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
	if cfg.KeepJobs == 0 {
		cfg.KeepJobs = DefaultKeepJobs
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
	if c.DevicesPerBucket < 0 {
		errs = append(errs, fmt.Errorf("store: devices per bucket must not be negative, got %d", c.DevicesPerBucket))
	}
	if c.Remember < 0 {
		errs = append(errs, fmt.Errorf("store: remember must not be negative, got %s", c.Remember))
	}
	if c.FuseWindow < 0 {
		errs = append(errs, fmt.Errorf("store: fuse window must not be negative, got %s", c.FuseWindow))
	}
	if c.KeepJobs != 0 && (c.KeepJobs < DefaultKeepJobs || c.KeepJobs > MaxKeepJobs) {
		errs = append(errs, fmt.Errorf("store: keep jobs must be %s to %s, got %s", DefaultKeepJobs, MaxKeepJobs, c.KeepJobs))
	}
	return errors.Join(errs...)
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
