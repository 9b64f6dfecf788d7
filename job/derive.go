package job

import (
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// EffectivePushType returns the job's push type, or the one that its content
// stands for: an alert, badge or sound is [PushAlert]; content_available alone is
// [PushBackground]; an event is [PushLiveActivity]; a payload is looked at in the
// same way, and one with the member mdm is [PushMDM]. It returns "" where none of
// that is so; [Job.Validate] refuses such a job.
func (j *Job) EffectivePushType() PushType {
	if j.PushType != "" {
		return j.PushType
	}
	f := j.facts(nil)
	return f.pushType()
}

// EffectivePriority returns the job's priority, or the default of its push type.
func (j *Job) EffectivePriority() int {
	if j.Priority != 0 {
		return j.Priority
	}
	return j.EffectivePushType().DefaultPriority()
}

// Topic returns apns-topic for the app with that bundle id, see [PushType.Topic].
func (j *Job) Topic(bundleID string) string { return j.EffectivePushType().Topic(bundleID) }

// Kind returns the kind of device token that the job is sent to: that of its
// push type, and [device.LiveActivityStart] for a Live Activity's start.
func (j *Job) Kind() device.Kind {
	f := j.facts(nil)
	push := j.PushType
	if push == "" {
		push = f.pushType()
	}
	if push == PushLiveActivity && f.event == EventStart {
		return device.LiveActivityStart
	}
	return push.Kind()
}

// MaxPayload returns how many bytes the job's payload may have: 4096, and 5120
// for [PushVoIP].
func (j *Job) MaxPayload() int { return j.EffectivePushType().MaxPayload() }

// Expiry is the end of a job's worth. The zero value is none.
type Expiry struct {
	at   time.Time
	once bool
}

// Expiration returns when the job expires. A TTL counts from SendAfter, or else
// from when JetStream stored the job; a TTL of zero means one attempt.
func (j *Job) Expiration(stored time.Time) Expiry {
	switch {
	case !j.ExpiresAt.IsZero():
		return Expiry{at: j.ExpiresAt}
	case j.TTL > 0:
		from := stored
		if !j.SendAfter.IsZero() {
			from = j.SendAfter
		}
		return Expiry{at: from.Add(j.TTL)}
	default:
		return Expiry{once: j.HasTTL}
	}
}

// Header returns apns-expiration: Unix seconds, rounded up; 0 for one attempt
// that APNs does not store; -1 for none (the header is left out, and APNs stores
// for up to 30 days).
func (e Expiry) Header() int64 {
	switch {
	case !e.at.IsZero():
		seconds := e.at.Unix()
		if e.at.Nanosecond() > 0 {
			seconds++
		}
		return seconds
	case e.once:
		return 0
	default:
		return -1
	}
}

// Passed reports whether now is past the expiry, so that the job is not to be
// sent any more. It never is where there is none, nor with one attempt: how long
// the job waited for that is not limited.
func (e Expiry) Passed(now time.Time) bool { return !e.at.IsZero() && !now.Before(e.at) }

// Once reports whether the job asks for one attempt that APNs does not store.
func (e Expiry) Once() bool { return e.once }

// Time returns when the job expires; ok is false where there is no such time.
func (e Expiry) Time() (at time.Time, ok bool) { return e.at, !e.at.IsZero() }
