package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/device"
)

// stateBucket holds what the whole fleet must agree on:
//
//	fuse.<app>.<environment>   Fuse
const stateBucket = "pushfleet"

// stateBytes is reserved for stateBucket: what the fleet must agree on has room
// when streams are full.
const stateBytes = 16 << 20

// ErrChanged is returned where an entry is not what it was when it was read.
var ErrChanged = errors.New("stream: entry was changed by somebody else")

// Fuse is the entry of one app's fuse for one environment. While it is tripped
// nothing is sent there.
type Fuse struct {
	App         string             `json:"-"`
	Environment device.Environment `json:"-"`
	// Revision of the entry; 0: there is none, and the fuse has never tripped.
	Revision uint64 `json:"-"`

	Tripped   bool      `json:"tripped"`
	TrippedAt time.Time `json:"tripped_at,omitzero"`
	TrippedBy string    `json:"tripped_by,omitempty"` // the worker that saw it
	Rejected  int       `json:"rejected,omitempty"`   // of Sent: why it tripped
	Sent      int       `json:"sent,omitempty"`
	// Window is the revision before it tripped: what the counters are kept under.
	// Undone says that what was applied of them is undone.
	Window uint64 `json:"window,omitempty"`
	Undone bool   `json:"undone,omitempty"`

	ResetAt time.Time `json:"reset_at,omitzero"`
	ResetBy string    `json:"reset_by,omitempty"`
	// ResetSequence is the last message of OUTCOMES when it was reset: rejections
	// up to there belong to what it tripped for.
	ResetSequence uint64 `json:"reset_sequence,omitempty"`
}

func fuseKey(app string, env device.Environment) string {
	return "fuse." + app + "." + env.String()
}

// openState makes the bucket exist. An existing one stays as it is: what an operator has
// set is not undone, and a server whose file store is all reserved refuses even an update
// that changes nothing.
func (s *Streams) openState(ctx context.Context, replicas int) error {
	kv, err := s.js.KeyValue(ctx, stateBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = s.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{ // another process may be faster
			Bucket: stateBucket, Description: "pushfleet: what the fleet agrees on",
			History: 1, Storage: jetstream.FileStorage, Replicas: replicas, MaxBytes: stateBytes,
		})
	}
	if err != nil {
		return fmt.Errorf("ensure bucket %s: %w", stateBucket, err)
	}
	s.state.kv = kv // nobody else has it yet
	return nil
}

// Fuse reads a fuse.
func (s *Streams) Fuse(ctx context.Context, app string, env device.Environment) (Fuse, error) {
	entry, err := s.state.Get(ctx, fuseKey(app, env))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Fuse{App: app, Environment: env}, nil
	}
	if err != nil {
		return Fuse{}, fmt.Errorf("read fuse of %s, %s: %w", app, env, err)
	}
	return parseFuse(entry)
}

// SetFuse writes a fuse if its entry still has the Revision of f, and returns it
// with the new one. Else the error wraps [ErrChanged].
func (s *Streams) SetFuse(ctx context.Context, f Fuse) (Fuse, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return f, fmt.Errorf("encode fuse: %w", err)
	}
	key := fuseKey(f.App, f.Environment)
	var revision uint64
	if f.Revision == 0 {
		revision, err = s.state.Create(ctx, key, body)
	} else {
		revision, err = s.state.Update(ctx, key, body, f.Revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return f, fmt.Errorf("write fuse of %s, %s: %w", f.App, f.Environment, ErrChanged)
	}
	if err != nil {
		return f, fmt.Errorf("write fuse of %s, %s: %w", f.App, f.Environment, err)
	}
	f.Revision = revision
	return f, nil
}

// Fuses reads every fuse that has an entry, those that are not tripped too.
func (s *Streams) Fuses(ctx context.Context) ([]Fuse, error) {
	entries, err := s.state.all(ctx, "fuse.*.*")
	if err != nil {
		return nil, fmt.Errorf("list fuses: %w", err)
	}
	var fuses []Fuse
	for _, entry := range entries {
		f, err := parseFuse(entry)
		if errors.Is(err, errForeignKey) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if f.Revision != 0 {
			fuses = append(fuses, f)
		}
	}
	slices.SortFunc(fuses, func(a, b Fuse) int {
		return cmp.Or(strings.Compare(a.App, b.App), cmp.Compare(a.Environment, b.Environment))
	})
	return fuses, nil
}

// WatchFuses calls changed with every fuse that has an entry, and again whenever
// one changes, until ctx ends. An entry that is deleted has Revision 0. It comes
// through reconnections of its own accord. The error is nil if ctx ended.
func (s *Streams) WatchFuses(ctx context.Context, changed func(Fuse)) error {
	watch, err := s.state.Watch(ctx, "fuse.*.*")
	if err != nil {
		return fmt.Errorf("watch fuses: %w", err)
	}
	defer watch.Stop() //nolint:errcheck // nobody listens any more
	for {
		select {
		case entry, ok := <-watch.Updates():
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("watch fuses: %w", errWatchEnded)
			}
			if entry == nil {
				continue
			}
			f, err := parseFuse(entry)
			if errors.Is(err, errForeignKey) {
				continue
			}
			if err != nil {
				return err
			}
			changed(f)
		case <-ctx.Done():
			return nil
		}
	}
}

var (
	errWatchEnded = errors.New("it ended")
	errForeignKey = errors.New("its key is not fuse.<app>.<environment>")
)

func parseFuse(entry jetstream.KeyValueEntry) (Fuse, error) {
	app, name, _ := strings.Cut(strings.TrimPrefix(entry.Key(), "fuse."), ".")
	env, err := device.ParseEnvironment(name)
	if err != nil || env == device.EnvironmentUnset {
		return Fuse{}, fmt.Errorf("read fuse %s: %w", entry.Key(), errForeignKey)
	}
	f := Fuse{App: app, Environment: env}
	if entry.Operation() != jetstream.KeyValuePut {
		return f, nil
	}
	if err := json.Unmarshal(entry.Value(), &f); err != nil {
		return Fuse{}, fmt.Errorf("read fuse %s: %w", entry.Key(), err)
	}
	f.Revision = entry.Revision()
	return f, nil
}
