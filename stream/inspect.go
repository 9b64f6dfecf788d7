package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/job"
)

// What an [Inspector] finds wrong, beside [ErrForeign], [ErrLimited] and [ErrFull].
var (
	// ErrMissing: a stream does not exist. The next process that starts makes it.
	ErrMissing = errors.New("stream: missing")
	// ErrOutdated: a stream or a durable lacks what this version needs. The next
	// worker that starts extends it.
	ErrOutdated = errors.New("stream: not as this version needs it")
	// ErrUnbounded: a stream has no limit, and can take the room of the others.
	ErrUnbounded = errors.New("stream: no limit")
	// ErrDiscards: a stream deletes by itself what it should keep or refuse.
	ErrDiscards = errors.New("stream: deletes by itself")
	// ErrReplicas: a stream has fewer replicas than configured.
	ErrReplicas = errors.New("stream: too few replicas")
	// ErrBehind: a replica of a stream is away or behind.
	ErrBehind = errors.New("stream: a replica is behind")
	// ErrNearlyFull: little is left of what a stream may take.
	ErrNearlyFull = errors.New("stream: nearly full")
	// ErrPaused: a durable is paused, and gives nothing out.
	ErrPaused = errors.New("stream: paused")
)

// Inspector looks at the fleet's JetStream, and makes and changes nothing. It is
// safe for concurrent use.
type Inspector struct{ s *Streams }

// Inspect returns an inspector. The error is that of [Open] where the server cannot
// be worked with at all. The connection stays the caller's.
func Inspect(ctx context.Context, nc *nats.Conn) (*Inspector, error) {
	s, err := openJetStream(ctx, nc, Config{})
	if err != nil {
		return nil, err
	}
	return &Inspector{s}, nil
}

// Inspector returns an inspector of what s works on.
func (s *Streams) Inspector(ctx context.Context) (*Inspector, error) { return Inspect(ctx, s.nc) }

// Server returns the name and version of the server that it is connected to.
func (i *Inspector) Server() (name, version string) {
	return i.s.nc.ConnectedServerName(), i.s.nc.ConnectedServerVersion()
}

// Clock returns the time of day by the clock of the server that leads a stream; zero
// if there is none to ask.
func (i *Inspector) Clock(ctx context.Context) (time.Time, error) {
	st, err := i.s.js.Stream(ctx, Outcomes)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, fmt.Errorf("ask for stream %s: %w", Outcomes, err)
	}
	return st.CachedInfo().TimeStamp, nil
}

// StreamState is how a stream is.
type StreamState struct {
	Name     string
	Problems []error // each wraps one of the errors above
	Messages uint64
	Bytes    uint64
	MaxBytes uint64 // 0: no limit, or the stream is missing
	Replicas int    // 0: the stream is missing
}

// The shares of its room from which on a stream is nearly full, or as good as full:
// what comes next may not fit any more.
const (
	nearlyFull = 0.8
	fullShare  = 0.99
)

// Streams returns how each of the fleet's streams is, where cfg says how many
// replicas it should have.
func (i *Inspector) Streams(ctx context.Context, cfg Config) ([]StreamState, error) {
	var states []StreamState
	for _, want := range definitions(cfg) {
		st, err := i.s.js.Stream(ctx, want.Name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			states = append(states, StreamState{Name: want.Name, Problems: []error{ErrMissing}})
			continue
		case err != nil:
			return nil, fmt.Errorf("ask for stream %s: %w", want.Name, err)
		}
		states = append(states, inspectStream(st.CachedInfo(), want))
	}
	return states, nil
}

// inspectStream compares a stream with how it should be.
func inspectStream(info *jetstream.StreamInfo, want jetstream.StreamConfig) StreamState {
	have := info.Config
	state := StreamState{
		Name: want.Name, Messages: info.State.Msgs, Bytes: info.State.Bytes,
		MaxBytes: uint64(max(0, have.MaxBytes)), Replicas: have.Replicas,
	}
	add := func(err error, format string, args ...any) {
		state.Problems = append(state.Problems, fmt.Errorf("%w: "+format, append([]any{err}, args...)...))
	}
	if err := checkKind(have, want); err != nil {
		state.Problems = append(state.Problems, err)
		return state
	}
	if _, changed := extend(have, want); changed {
		add(ErrOutdated, "it lacks subjects or settings")
	}
	if want.Name == Jobs {
		if err := checkKeepsJobs(have); err != nil {
			state.Problems = append(state.Problems, err)
		}
	} else {
		if have.Discard == jetstream.DiscardOld && (have.MaxBytes > 0 || have.MaxMsgs > 0) {
			add(ErrDiscards, "discard=old, so that it deletes the oldest when it is full, where it should refuse")
		}
		if have.MaxAge > 0 && want.MaxAge == 0 {
			add(ErrDiscards, "max_age=%s", have.MaxAge)
		}
	}
	if have.Replicas < want.Replicas {
		add(ErrReplicas, "it has %d, and nats.replicas is %d", have.Replicas, want.Replicas)
	}
	if info.Cluster != nil {
		for _, peer := range info.Cluster.Replicas {
			if peer.Offline || !peer.Current {
				add(ErrBehind, "the one on %s", peer.Name)
			}
		}
		if info.Cluster.Leader == "" {
			add(ErrBehind, "it has no leader")
		}
	}
	switch room := float64(state.MaxBytes) * roomOf(want.Name); {
	case state.MaxBytes == 0:
		add(ErrUnbounded, "max_bytes is not set")
	case have.MaxMsgs > 0 && info.State.Msgs >= uint64(have.MaxMsgs):
		add(ErrFull, "it holds %d messages of %d", info.State.Msgs, have.MaxMsgs)
	case float64(state.Bytes) >= room*fullShare:
		add(ErrFull, "it takes %d bytes of %.0f", state.Bytes, room)
	case float64(state.Bytes) >= room*nearlyFull:
		add(ErrNearlyFull, "it takes %d bytes of %.0f", state.Bytes, room)
	}
	return state
}

// roomOf is the share of its bytes that a stream may take before something is
// refused.
func roomOf(name string) float64 {
	if name == campaignsStream {
		return 1 - 1.0/campaignsReserve
	}
	return 1
}

// DurableState is how a durable consumer is.
type DurableState struct {
	Name     string
	Exists   bool
	Problems []error // each wraps [ErrPaused] or [ErrOutdated]
	// Waiting is how many messages nobody has taken, whether the durable exists or
	// not; Taken how many are being worked on.
	Waiting, Taken uint64
}

// Lane returns how the durable of an app and lane is.
func (i *Inspector) Lane(ctx context.Context, app string, lane job.Lane) (DurableState, error) {
	return i.durable(ctx, Jobs, LaneDurable(app, lane), JobsSubject(app, lane))
}

// Recorder returns how the durable is by which outcomes are written to the token set.
func (i *Inspector) Recorder(ctx context.Context) (DurableState, error) {
	return i.durable(ctx, Outcomes, recorderDurable, "push.outcomes.>")
}

// Registrar returns how the durable is by which device changes are.
func (i *Inspector) Registrar(ctx context.Context) (DurableState, error) {
	return i.durable(ctx, Devices, registrarDurable, "push.devices.*")
}

func (i *Inspector) durable(ctx context.Context, name, durable, subject string) (DurableState, error) {
	state := DurableState{Name: durable}
	c, err := i.s.js.Consumer(ctx, name, durable)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return state, nil
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		state.Waiting, err = i.count(ctx, name, subject)
		return state, err
	case err != nil:
		return state, fmt.Errorf("ask for consumer %s: %w", durable, err)
	}
	info := c.CachedInfo()
	state.Exists, state.Waiting, state.Taken = true, info.NumPending, uint64(info.NumAckPending)
	if info.Paused {
		state.Problems = append(state.Problems, fmt.Errorf("%w: for another %s", ErrPaused, info.PauseRemaining.Round(time.Second)))
	}
	if info.Config.MaxDeliver > 0 || info.Config.MaxAckPending > 0 {
		state.Problems = append(state.Problems, fmt.Errorf("%w: max_deliver is %d and max_ack_pending %d, and neither should be limited",
			ErrOutdated, info.Config.MaxDeliver, info.Config.MaxAckPending))
	}
	return state, nil
}

// DeadLetters returns how many dead letters an app has.
func (i *Inspector) DeadLetters(ctx context.Context, app string) (uint64, error) {
	n, err := i.count(ctx, Dead, DeadSubject(app))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0, nil
	}
	return n, err
}

// count returns how many messages of a stream match a subject.
func (i *Inspector) count(ctx context.Context, name, subject string) (n uint64, err error) {
	st, err := i.s.js.Stream(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("ask for stream %s: %w", name, err)
	}
	info, err := st.Info(ctx, jetstream.WithSubjectFilter(subject))
	if err != nil {
		return 0, fmt.Errorf("count %s in %s: %w", subject, name, err)
	}
	for _, of := range info.State.Subjects {
		n += of
	}
	return n, nil
}

// Present returns what all living workers have announced.
func (i *Inspector) Present(ctx context.Context) ([]Presence, error) {
	present, err := i.s.Present(ctx)
	if errors.Is(err, ErrNoStream) { // there never was a worker
		return nil, nil
	}
	return present, err
}

// Tripped returns the fuses that are tripped.
func (i *Inspector) Tripped(ctx context.Context) ([]Fuse, error) {
	fuses, err := i.s.Fuses(ctx)
	if errors.Is(err, ErrNoStream) {
		return nil, nil
	}
	return slices.DeleteFunc(fuses, func(f Fuse) bool { return !f.Tripped }), err
}
