package stream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says how the streams are made where they do not exist yet. A stream
// that exists keeps its replicas, its placement and its limits.
type Config struct {
	// Replicas of each stream, 1 to 5; 0: 1. Replicas of one lose what the disk
	// of their server loses.
	Replicas int
	// OutcomesBytes bounds OUTCOMES; 0: 8 GiB. When it is full, workers stop
	// taking until the oldest outcomes have aged out.
	OutcomesBytes int64
}

// Errors of [Open].
var (
	ErrNoJetStream = errors.New("stream: the NATS server has no JetStream")
	ErrTooOld      = errors.New("stream: the NATS server is too old")
	ErrLimited     = errors.New("stream: JOBS has a limit that would delete jobs")
	ErrForeign     = errors.New("stream: a stream of this name exists that is not pushfleet's")
)

// minVersion is the first server with cron and time zones in message schedules
// (absent from 2.12; read in nats-server's sources).
var minVersion = [2]int{2, 14}

// Limits of the streams.
const (
	outcomesAge     = 7 * 24 * time.Hour
	devicesBytes    = 1 << 30
	duplicateWindow = 2 * time.Minute
)

// Streams is the fleet's JetStream, with all streams and buckets in place. It
// is safe for concurrent use.
type Streams struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	presence jetstream.KeyValue
	state    jetstream.KeyValue
}

// Open checks the server, makes the streams and buckets exist, and returns
// them. It may run in any number of processes at once. The connection stays the
// caller's.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Streams, error) {
	if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(maxPending), jetstream.WithPublishAsyncTimeout(publishTimeout))
	if err != nil {
		return nil, fmt.Errorf("open jetstream: %w", err)
	}
	if _, err := js.AccountInfo(ctx); err != nil {
		if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) || errors.Is(err, nats.ErrNoResponders) {
			return nil, fmt.Errorf("%w: start nats-server with -js, or enable JetStream for this account", ErrNoJetStream)
		}
		return nil, fmt.Errorf("ask for jetstream account: %w", err)
	}
	s := &Streams{nc: nc, js: js}
	for _, want := range definitions(cfg) {
		if err := s.ensure(ctx, want); err != nil {
			return nil, err
		}
	}
	s.presence, err = js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: presenceBucket, Description: "pushfleet workers and their apps",
		TTL: presenceTTL, Storage: jetstream.MemoryStorage, Replicas: max(cfg.Replicas, 1),
	})
	if err != nil {
		return nil, fmt.Errorf("ensure bucket %s: %w", presenceBucket, err)
	}
	if err := s.openState(ctx, max(cfg.Replicas, 1)); err != nil {
		return nil, err
	}
	return s, nil
}

func definitions(cfg Config) []jetstream.StreamConfig {
	replicas := max(cfg.Replicas, 1)
	outcomesBytes := cfg.OutcomesBytes
	if outcomesBytes == 0 {
		outcomesBytes = 8 << 30
	}
	return []jetstream.StreamConfig{
		{
			// No limit: a stream with schedules refuses discard-new (error 10052),
			// and any limit would then delete the oldest jobs. The bound is the
			// server's file store, where a publisher is told (503, 10023).
			Name: Jobs, Description: "pushfleet jobs and campaigns",
			Subjects:  []string{"push.jobs.*.*", "push.campaigns.*", "push.ranges.*.*", "push.later.>"},
			Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Replicas: replicas,
			MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, MaxMsgSize: -1,
			Duplicates: duplicateWindow, AllowDirect: true,
			AllowMsgTTL: true, AllowMsgSchedules: true, AllowAtomicPublish: true,
		},
		{
			Name: Devices, Description: "pushfleet device registrations",
			Subjects:  []string{"push.devices.*"},
			Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Replicas: replicas,
			Discard: jetstream.DiscardNew, MaxBytes: devicesBytes,
			MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, MaxMsgSize: -1,
			Duplicates: duplicateWindow, AllowDirect: true,
		},
		{
			Name: Outcomes, Description: "pushfleet: what became of notifications",
			Subjects:  []string{"push.outcomes.>"},
			Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: replicas,
			Discard: jetstream.DiscardNew, MaxBytes: outcomesBytes, MaxAge: outcomesAge,
			MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, MaxMsgSize: -1,
			Duplicates: duplicateWindow, AllowDirect: true,
		},
		{
			Name: Dead, Description: "pushfleet dead letters",
			Subjects:  []string{"push.dead.*"},
			Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: replicas,
			Discard: jetstream.DiscardNew,
			MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, MaxMsgSize: -1,
			Duplicates: duplicateWindow, AllowDirect: true,
		},
	}
}

// ensure makes a stream exist. An existing one is extended by what a newer
// pushfleet needs, and never loses what an operator has set.
func (s *Streams) ensure(ctx context.Context, want jetstream.StreamConfig) error {
	st, err := s.js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		st, err = s.js.CreateStream(ctx, want)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another process was faster
			st, err = s.js.Stream(ctx, want.Name)
		}
	}
	if err != nil {
		return fmt.Errorf("ensure stream %s: %w", want.Name, err)
	}
	have := st.CachedInfo().Config
	if have.Retention != want.Retention || have.Storage != jetstream.FileStorage {
		return fmt.Errorf("%w: %s has retention %s and %s storage, want %s and file; rename or delete it", ErrForeign, want.Name, have.Retention, have.Storage, want.Retention)
	}
	if want.Name == Jobs {
		if err := checkUnlimited(have); err != nil {
			return err
		}
	}
	next, changed := extend(have, want)
	if !changed {
		return nil
	}
	if _, err := s.js.UpdateStream(ctx, next); err != nil {
		return fmt.Errorf("extend stream %s: %w", want.Name, err)
	}
	return nil
}

// extend adds to have what want needs, and reports whether anything was missing.
func extend(have, want jetstream.StreamConfig) (jetstream.StreamConfig, bool) {
	changed := false
	known := make(map[string]bool, len(have.Subjects))
	for _, subject := range have.Subjects {
		known[subject] = true
	}
	for _, subject := range want.Subjects {
		if !known[subject] {
			have.Subjects = append(have.Subjects, subject)
			changed = true
		}
	}
	for _, flag := range []struct {
		have *bool
		want bool
	}{
		{&have.AllowMsgTTL, want.AllowMsgTTL},
		{&have.AllowMsgSchedules, want.AllowMsgSchedules},
		{&have.AllowAtomicPublish, want.AllowAtomicPublish},
		{&have.AllowDirect, want.AllowDirect},
	} {
		if flag.want && !*flag.have {
			*flag.have = true
			changed = true
		}
	}
	return have, changed
}

// checkUnlimited refuses a JOBS stream that would delete jobs by itself.
func checkUnlimited(cfg jetstream.StreamConfig) error {
	var limits []string
	if cfg.MaxMsgs > 0 {
		limits = append(limits, fmt.Sprintf("max_msgs=%d", cfg.MaxMsgs))
	}
	if cfg.MaxBytes > 0 {
		limits = append(limits, fmt.Sprintf("max_bytes=%d", cfg.MaxBytes))
	}
	if cfg.MaxAge > 0 {
		limits = append(limits, fmt.Sprintf("max_age=%s", cfg.MaxAge))
	}
	if cfg.MaxMsgsPerSubject > 0 {
		limits = append(limits, fmt.Sprintf("max_msgs_per_subject=%d", cfg.MaxMsgsPerSubject))
	}
	if len(limits) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s; remove it (nats stream edit JOBS), and bound the server's file store instead", ErrLimited, strings.Join(limits, ", "))
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

// Ready asks the server for JOBS: it answers nil if work can be taken.
func (s *Streams) Ready(ctx context.Context) error {
	if _, err := s.js.Stream(ctx, Jobs); err != nil {
		return fmt.Errorf("ask for stream %s: %w", Jobs, err)
	}
	return nil
}

// redactURL removes user information, so that a URL can stand in an error.
func redactURL(s string) string {
	parts := strings.Split(s, ",")
	for i, part := range parts {
		if u, err := url.Parse(strings.TrimSpace(part)); err == nil {
			parts[i] = u.Redacted()
		}
	}
	return strings.Join(parts, ",")
}
