package job

import (
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// Result is what became of one recipient, in the words of the fleet.
type Result string

// The results. Each recipient of a job ends in exactly one of them.
const (
	Accepted   Result = "accepted"   // APNs answered 200: accepted, never "delivered"
	Rejected   Result = "rejected"   // APNs answered why not
	Expired    Result = "expired"    // its expiry passed before it could be sent
	Suppressed Result = "suppressed" // its device token must not be used: removed or quarantined
	Skipped    Result = "skipped"    // nothing to send to, or no way to: see Reason
	Unknown    Result = "unknown"    // sent, the answer never came, and the job said drop
	Failed     Result = "failed"     // given up after retries; a dead letter tells more
	Duplicate  Result = "duplicate"  // the job's id was used before
)

// Outcomes is one message on push.outcomes.<app>.<lane>: what became of
// recipients of one or more jobs of one app and lane, at one worker. Or, on
// push.outcomes.<app>.bulk.<campaign>.<range>, of one range of a campaign.
type Outcomes struct {
	App    string
	Lane   Lane
	Worker string
	At     time.Time // millisecond resolution
	Jobs   []JobOutcome
}

// JobOutcome is what became of some or all recipients of one job.
type JobOutcome struct {
	ID       string // the job's id; a redriven job has one of its own
	Root     string // id of the job that a redriven one continues; empty for others
	Sequence uint64 // place in JOBS
	QueuedAt time.Time
	// TakenAt is when the worker got the message at this delivery, and SentAt when it
	// handed the first of it to APNs, by the worker's clock. Millisecond resolution;
	// zero: not told, and SentAt also where nothing was sent.
	TakenAt, SentAt time.Time
	Attempt         int // retry round, from 1

	// Campaign is the id of the campaign that this is a range of, and Range the number
	// of it, from 0; empty: it is a job. Devices are how many devices the whole range
	// was published with, in every outcome of it.
	Campaign string
	Range    int
	Devices  int

	// Environment is the APNs environment that was sent to; unset where nothing
	// was sent. A job whose devices are in both has one JobOutcome for each.
	Environment device.Environment

	// Whole: this is all of the job, nothing of it was told before. Complete:
	// with this, every recipient is settled. Total counts the recipients of the
	// whole job, as resolved; 0 while Complete is false.
	Whole, Complete bool
	Total           int

	// Accepted lists the device tokens that APNs took. Fresh has the indexes of
	// those in the token set for which that is the first time.
	Accepted []device.Token
	Fresh    []int
	// Known counts those of Accepted that are in the token set and were accepted
	// before; 0 also where the worker does not tell.
	Known int

	// Others are all recipients with another result than accepted.
	Others []Recipient
}

// Recipient is one recipient whose result is not accepted.
type Recipient struct {
	DeviceToken device.Token // zero where User, Install or the job itself is meant
	User        string
	Install     string
	Result      Result
	Reason      string // APNs's reason, or ours in lower case
	Status      int    // HTTP status, 0 if APNs did not answer
	// Timestamp is APNs's, with status 410: milliseconds since the epoch, else 0.
	Timestamp int64
	// Generation is that of the token's record when the notification was sent; 0
	// if the token was not in the set or the set could not be read.
	Generation uint32
	// WrongKind: the token's record is of another kind than the push type needs. A
	// rejection for the topic is then the caller's mistake.
	WrongKind bool
	// AcceptedBefore: the token is in the token set, and APNs accepted it before. Of
	// a rejected one the message is kept until it is sure that the rejection stands.
	AcceptedBefore bool
	SentAt         time.Time // zero if nothing was sent
}
