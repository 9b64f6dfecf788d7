package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Config says how the streams are made where they do not exist yet. A stream
// that exists keeps its replicas, its placement and its limits.
//
// Each stream reserves its bytes of the server's file store, so that none can take
// the room of another: jobs that fill theirs leave room for the outcomes without
// which no job would ever go.
type Config struct {
	// Replicas of each stream, 1 to 5; 0: 1. Replicas of one lose what the disk
	// of their server loses.
	Replicas int
	// JobsBytes bounds JOBS; 0: 16 GiB. Where the server has less to reserve it is
	// halved, but not below 1 GiB. When it is full, publishers get [ErrFull].
	JobsBytes int64
	// OutcomesBytes bounds OUTCOMES; 0: 8 GiB. When it is full, workers stop
	// taking until the oldest outcomes have aged out.
	OutcomesBytes int64
	// DevicesBytes bounds DEVICES; 0: 1 GiB. When it is full, publishers get
	// [ErrFull].
	DevicesBytes int64
	// DeadBytes bounds DEAD; 0: 2 GiB. When it is full, what should go there stays
	// in JOBS and is tried again from time to time.
	DeadBytes int64
	// CampaignsBytes bounds the bucket of campaigns; 0: 256 MiB. When little of it is
	// left, no campaign can be created ([ErrFull]), and those that there are go on.
	CampaignsBytes int64
	Logger         *zap.Logger // nil: none
}

// Errors of [Open].
var (
	ErrNoJetStream = errors.New("stream: the NATS server has no JetStream")
	ErrTooOld      = errors.New("stream: the NATS server is too old")
	ErrLimited     = errors.New("stream: JOBS would delete jobs by itself")
	ErrForeign     = errors.New("stream: a stream of this name exists that is not pushfleet's")
)

// minVersion is the first server with cron and time zones in message schedules
// (absent from 2.12; read in nats-server's sources).
var minVersion = [2]int{2, 14}

// Limits of the streams.
const (
	jobsBytes       = 16 << 30
	leastJobsBytes  = 1 << 30
	outcomesAge     = 7 * 24 * time.Hour
	outcomesBytes   = 8 << 30
	devicesBytes    = 1 << 30
	deadBytes       = 2 << 30
	campaignsBytes  = 256 << 20
	duplicateWindow = 2 * time.Minute
)

// Streams is the fleet's JetStream. It is safe for concurrent use.
type Streams struct {
	nc        *nats.Conn
	js        jetstream.JetStream
	log       *zap.Logger
	presence  *bucket
	state     *bucket
	campaigns *bucket
	replicas  int // of what is made

	byName map[string]jetstream.Stream // JOBS and OUTCOMES, to read from; nil: they were attached to
}

// Open checks the server, makes the streams and buckets exist, and returns
// them. It may run in any number of processes at once. That the bucket of workers'
// presence cannot be had now is no error. The connection stays the caller's.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Streams, error) {
	s, err := openJetStream(ctx, nc, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.openState(ctx, s.replicas); err != nil {
		return nil, err
	}
	for _, want := range definitions(cfg) {
		if err := s.ensure(ctx, want); err != nil {
			return nil, err
		}
	}
	s.byName = make(map[string]jetstream.Stream)
	for _, name := range []string{Jobs, Outcomes} {
		if s.byName[name], err = s.js.Stream(ctx, name); err != nil {
			return nil, fmt.Errorf("open stream %s: %w", name, err)
		}
	}
	if _, err := s.campaigns.open(ctx); err != nil {
		return nil, err
	}
	if kv, err := s.ensurePresence(ctx); err == nil {
		s.presence.kv = kv
	} else if ctx.Err() != nil {
		return nil, err
	} else {
		// It is in memory: when most servers of a cluster start anew it takes longest to
		// come back. Nobody needs it to send, and who announces makes it exist.
		s.log.Warn("cannot tell yet which workers there are", zap.Error(err))
	}
	return s, nil
}

// Attach returns the streams and buckets as they are: it makes none, and asks the
// server for nothing. So a user who may only publish can publish. What is missing is
// noticed where it is needed, as [ErrNoStream]. The connection stays the caller's; it
// must stand, for the server's version is read from it.
func Attach(nc *nats.Conn) (*Streams, error) {
	if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
		return nil, err
	}
	return newStreams(nc, Config{})
}

func newStreams(nc *nats.Conn, cfg Config) (*Streams, error) {
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(maxPending), jetstream.WithPublishAsyncTimeout(publishTimeout))
	if err != nil {
		return nil, fmt.Errorf("open jetstream: %w", err)
	}
	s := &Streams{
		nc: nc, js: js, log: cfg.Logger, replicas: max(cfg.Replicas, 1),
		state: &bucket{js: js, name: stateBucket}, presence: &bucket{js: js, name: presenceBucket}, campaigns: &bucket{js: js, name: campaignsBucket},
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	return s, nil
}

// openJetStream attaches to a server that it has checked.
func openJetStream(ctx context.Context, nc *nats.Conn, cfg Config) (*Streams, error) {
	if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
		return nil, err
	}
	s, err := newStreams(nc, cfg)
	if err != nil {
		return nil, err
	}
	if _, err := s.js.AccountInfo(ctx); err != nil {
		if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) || errors.Is(err, nats.ErrNoResponders) {
			return nil, fmt.Errorf("%w: start nats-server with -js, or enable JetStream for this account", ErrNoJetStream)
		}
		return nil, fmt.Errorf("ask for jetstream account: %w", err)
	}
	return s, nil
}

func checkVersion(version string) error {
	core, _, _ := strings.Cut(version, "-")
	parts := strings.SplitN(core, ".", 3)
	if len(parts) >= 2 {
		major, err1 := strconv.Atoi(parts[0])
		minor, err2 := strconv.Atoi(parts[1])
		if err1 == nil && err2 == nil && (major > minVersion[0] || major == minVersion[0] && minor >= minVersion[1]) {
			return nil
		}
	}
	return fmt.Errorf("%w: it is %s, pushfleet needs %d.%d or newer", ErrTooOld, version, minVersion[0], minVersion[1])
}

// Connected reports whether the connection to NATS stands.
func (s *Streams) Connected() bool { return s.nc.IsConnected() }

// Flush returns nil once the server has read all that was sent to it before.
func (s *Streams) Flush(patience time.Duration) error {
	if err := s.nc.FlushTimeout(patience); err != nil {
		return fmt.Errorf("flush to nats: %w", err)
	}
	return nil
}

// Ready asks the server for JOBS: it answers nil if work can be taken.
func (s *Streams) Ready(ctx context.Context) error {
	if _, err := s.js.Stream(ctx, Jobs); err != nil {
		return fmt.Errorf("ask for stream %s: %w", Jobs, err)
	}
	return nil
}
