package store

import (
	"context"
	"fmt"
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// Said is what APNs said about a device token, as far as the token set cares.
type Said uint8

// What is said. The numbers are those of lua/apply.lua.
const (
	// Accepted: a notification was taken (200). The device token is remembered to
	// work. If it is quarantined, and the notification was sent after the rejection
	// and at the same generation, it is live again, at the next generation: the
	// rejection was wrong, and must not be applied once more.
	Accepted Said = iota + 1
	// Dead: the device token is no longer valid (410). It is removed if it was
	// registered before Timestamp and not again since the notification was sent.
	// One that is not in the token set is remembered as removed, so that it is not
	// sent to again. A token of which APNs says this again and again, with later
	// timestamps, goes in the end.
	Dead
	// Quarantine: the device token was rejected in a way that may be our mistake
	// (BadDeviceToken, DeviceTokenNotForTopic). It is kept and not used, if it was
	// not registered again since the notification was sent. One that is not in the
	// token set is not remembered: a wrong environment in the configuration must not
	// silence devices of which this token set knows nothing.
	Quarantine

	deleted // removed for a reason of ours
)

// UndatedMargin is how long before the notification was sent a device token must
// have been registered for a 410 without a timestamp to remove it.
//
// choice: it covers the difference between the sender's clock and that of the
// token set. A token that is kept by it is removed by the next 410.
const UndatedMargin = time.Minute

// Verdict is what APNs said about one device token.
type Verdict struct {
	Token device.Token
	Said  Said
	// Generation is that of the record when the notification was sent; 0 if the
	// device token was not in the token set, or the set could not be read. Then
	// Timestamp alone decides whether Dead removes.
	Generation uint32
	// Timestamp is the one of a 410, in milliseconds since the epoch. 0 is none:
	// SentAt less [UndatedMargin] stands for it.
	Timestamp int64
	SentAt    time.Time // of the notification
	Reason    device.Reason
	// TopicMatchesKind says that the notification's topic was the one for the kind
	// of the device token. DeviceTokenNotForTopic without it is the mistake of the
	// caller, and changes nothing.
	TopicMatchesKind bool
}

// Applied is what a verdict did.
type Applied uint8

// What verdicts do. The numbers are those of lua/apply.lua.
const (
	NotApplied    Applied = iota // Redis failed
	Unchanged                    // it was so already
	MarkedIt                     // accepted for the first time
	ReleasedIt                   // from quarantine
	RemovedIt                    //
	RememberedIt                 // as removed; it was not in the token set
	QuarantinedIt                //
	RejectedAgain                // in quarantine, a day or more after it was last counted
	KeptNewer                    // registered, or released, after what was said
	NotInSet                     // and not remembered
	KeptTopic                    // the topic was not the one for its kind
	OverCap                      // kept: enough were removed in this hour
	Unreadable                   // its record is damaged, or a newer version wrote it
)

var appliedNames = [...]string{
	"not applied", "unchanged", "marked", "released", "removed", "remembered", "quarantined",
	"rejected again", "kept, newer", "not in set", "kept, topic", "kept, over the cap", "unreadable",
}

// String returns a word or two for logs.
func (a Applied) String() string {
	if int(a) >= len(appliedNames) {
		return fmt.Sprintf("applied(%d)", uint8(a))
	}
	return appliedNames[a]
}

// Apply writes what APNs said into the token set, and returns what each verdict
// did, in their order. Applying a verdict again changes nothing, so after an
// error, which is Redis's, all of them may be applied again; those that the error
// kept from being applied are NotApplied.
//
// Removals are counted by the hour. When too many were in this one, what APNs
// says is dead stays as it is, and is OverCap; what is deleted for a reason of ours
// is counted and goes.
//
// It is one script for each bucket, in one pipeline.
func (s *Store) Apply(ctx context.Context, app string, verdicts []Verdict) ([]Applied, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return nil, err
	}
	out := make([]Applied, len(verdicts))
	for from := 0; from < len(verdicts); from += pipelineTokens {
		to := min(from+pipelineTokens, len(verdicts))
		if applyErr := s.applyCapped(ctx, l, verdicts[from:to], out[from:to]); err == nil {
			err = applyErr
		}
	}
	if err != nil {
		return out, fmt.Errorf("apply %d verdicts to device tokens of app %q: %w", len(verdicts), app, err)
	}
	return out, nil
}

// applyCapped applies verdicts of which no more remove than may in this hour.
func (s *Store) applyCapped(ctx context.Context, l *layout, verdicts []Verdict, out []Applied) error {
	dead := 0
	for i := range verdicts {
		if verdicts[i].Said == Dead {
			dead++
		}
	}
	granted, err := s.claimRemovals(ctx, l.app, dead)
	if err != nil {
		return err
	}
	left := granted
	for i := range verdicts {
		if verdicts[i].Said != Dead {
			continue
		}
		if left == 0 {
			out[i] = OverCap
			continue
		}
		left--
	}
	err = s.apply(ctx, l, verdicts, out)
	// What is not known to be unused counts as used.
	used := 0
	for i := range verdicts {
		if out[i] == RemovedIt || verdicts[i].Said == Dead && out[i] == NotApplied {
			used++
		}
	}
	if noteErr := s.noteRemovals(ctx, l.app, used-granted); err == nil {
		err = noteErr
	}
	return err
}

func (s *Store) apply(ctx context.Context, l *layout, verdicts []Verdict, out []Applied) error {
	var todo []int
	for i, v := range verdicts {
		if out[i] == OverCap {
			continue
		}
		if v.Said == Quarantine && v.Reason == device.DeviceTokenNotForTopic && !v.TopicMatchesKind {
			out[i] = KeptTopic
			continue
		}
		todo = append(todo, i)
	}
	if len(todo) == 0 {
		return nil
	}
	parts := s.onBuckets(ctx, l, bucketScript{
		name: "apply", kinds: "d", head: []any{s.now()}, items: len(todo),
		token: func(i int) device.Token { return verdicts[todo[i]].Token },
		args: func(dst []any, i int) []any {
			v := &verdicts[todo[i]]
			return append(dst, uint8(v.Said), v.Generation, v.deadFrom(), unixMilli(v.SentAt), uint8(v.Reason))
		},
	})
	err := partsError(parts)
	for g := range parts {
		members := parts[g].members
		reply, replyErr := parts[g].ints(len(members))
		if replyErr != nil {
			if err == nil {
				err = replyErr
			}
			continue
		}
		for n, i := range members {
			if out[todo[i]] = Unreadable; reply[n] > 0 {
				out[todo[i]] = Applied(reply[n])
			}
		}
	}
	return err
}

// deadFrom is the time from which on the device token was dead, as far as v
// knows, in milliseconds since the epoch; 0 is unknown.
func (v *Verdict) deadFrom() int64 {
	if v.Timestamp > 0 {
		return v.Timestamp
	}
	return max(0, unixMilli(v.SentAt)-UndatedMargin.Milliseconds())
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
