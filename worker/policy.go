package worker

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/job"
)

// Action is what happens to a notification after a try.
type Action uint8

// The actions.
const (
	Accept Action = iota // settled: accepted
	Drop                 // settled: rejected, or unknown if no answer came
	Bury                 // settled as Drop, and kept as a dead letter: the job is at fault
	Retry                // not settled: try again after a delay
)

// Halt says what else stops with a notification.
type Halt uint8

// The halts.
const (
	GoOn      Halt = iota
	StopTopic      // this topic of the route: its configuration is wrong
	StopRoute      // the route: its credential or its client is wrong
)

// schedule is how long to wait before the next try.
type schedule uint8

const (
	never     schedule = iota
	soon               // connection trouble: seconds, growing to a minute
	server             // 5xx: 15 minutes, growing to an hour; a transactional one tries once more at once, elsewhere
	perDevice          // too many to one device: a minute, growing to an hour
	whenFixed          // somebody has to mend the configuration
)

// Connection-level outcomes stand in the table beside APNs's reasons, under
// names that APNs does not use.
const (
	causeAccepted apns.Reason = "accepted"
	causeNotSent  apns.Reason = "not sent"     // stream not written, REFUSED_STREAM, GOAWAY below its id
	causeStopped  apns.Reason = "stopped"      // the client sends nothing: APNs refuses the credential
	causeUnknown  apns.Reason = "no answer"    // time-out, reset, connection lost after writing
	cause4xx      apns.Reason = "unknown 4xx"  // a reason that is not documented
	cause5xx      apns.Reason = "unknown 5xx"  //
	causeOther    apns.Reason = "other status" // neither 200, 4xx nor 5xx
)

// rule is one row of the table.
type rule struct {
	action Action
	halt   Halt
	wait   schedule
}

// policy is the whole of what pushfleet makes of APNs's answers. What an answer
// means for the device token is the recorder's business ([apns.Reason.Verdict]).
// The rows follow Apple's "Handling notification responses from APNs"; where a
// row departs from it, it says why.
func policy() map[apns.Reason]rule {
	return map[apns.Reason]rule{
		causeAccepted: {action: Accept},

		// 400: the job is at fault; sending it again as it is cannot help.
		apns.BadCollapseID:     {action: Bury},
		apns.BadExpirationDate: {action: Bury},
		apns.BadMessageID:      {action: Bury},
		apns.BadPriority:       {action: Bury},
		apns.InvalidPushType:   {action: Bury},
		apns.PayloadEmpty:      {action: Bury},
		apns.PayloadTooLarge:   {action: Bury},

		// 400, 410: the device token is at fault.
		apns.BadDeviceToken:         {action: Drop},
		apns.DeviceTokenNotForTopic: {action: Drop},
		apns.ExpiredToken:           {action: Drop},
		apns.Unregistered:           {action: Drop},

		// The app's configuration is at fault: the notification is kept.
		apns.BadTopic:                   {action: Retry, halt: StopTopic, wait: whenFixed},
		apns.MissingTopic:               {action: Retry, halt: StopTopic, wait: whenFixed},
		apns.TopicDisallowed:            {action: Retry, halt: StopTopic, wait: whenFixed},
		apns.BadCertificate:             {action: Retry, halt: StopRoute, wait: whenFixed},
		apns.BadCertificateEnvironment:  {action: Retry, halt: StopRoute, wait: whenFixed},
		apns.Forbidden:                  {action: Retry, halt: StopRoute, wait: whenFixed},
		apns.InvalidProviderToken:       {action: Retry, halt: StopRoute, wait: whenFixed},
		apns.BadEnvironmentKeyIDInToken: {action: Retry, halt: StopRoute, wait: whenFixed},
		apns.BadEnvironmentKeyInToken:   {action: Retry, halt: StopRoute, wait: whenFixed},

		// Our client is at fault. choice: kept, not dropped; a fixed worker sends them.
		apns.DuplicateHeaders:     {action: Retry, halt: StopRoute, wait: whenFixed},
		apns.MissingDeviceToken:   {action: Retry, halt: StopRoute, wait: whenFixed},
		apns.MissingProviderToken: {action: Retry, halt: StopRoute, wait: whenFixed},
		apns.BadPath:              {action: Retry, halt: StopRoute, wait: whenFixed},
		apns.MethodNotAllowed:     {action: Retry, halt: StopRoute, wait: whenFixed},

		// The connection is at fault: the client has another one by then.
		apns.ExpiredProviderToken:        {action: Retry, wait: soon},
		apns.UnrelatedKeyIDInToken:       {action: Retry, wait: soon},
		apns.TooManyProviderTokenUpdates: {action: Retry, wait: soon},
		apns.IdleTimeout:                 {action: Retry, wait: soon},
		apns.Shutdown:                    {action: Retry, wait: soon},

		// One device gets too many.
		apns.TooManyRequests: {action: Retry, wait: perDevice},

		// APNs is at fault. Apple: 5xx may be retried after 15 minutes.
		apns.InternalServerError: {action: Retry, wait: server},
		apns.ServiceUnavailable:  {action: Retry, wait: server},

		cause4xx:   {action: Retry, wait: server},
		cause5xx:   {action: Retry, wait: server},
		causeOther: {action: Retry, wait: server},

		causeNotSent: {action: Retry, wait: soon},
		causeStopped: {action: Retry, halt: StopRoute, wait: whenFixed},
		causeUnknown: {action: Retry, wait: soon}, // or Drop, as the job says
	}
}

// maxAttempts is how many answers, or missing answers, a notification gets
// before it is given up. On the 5xx schedule that is about a day.
const maxAttempts = 30

// Try is one try at APNs.
type Try struct {
	Lane      job.Lane
	Attempt   int // from 1; tries that APNs cannot have seen do not count
	Delivery  int // of the message, from 1: what makes such tries rarer
	OnUnknown job.OnUnknown
	Left      time.Duration // until the notification expires; 0: it does not
}

// Decision says what to do after a [Try].
type Decision struct {
	Action Action
	Halt   Halt
	// Delay before the next try, with jitter; 0 unless Action is Retry. It ends
	// before the notification expires, or when it does. Asking twice gives two
	// delays: ask once.
	Delay time.Duration
	// Again says to try once more at once, on another connection. What else is decided
	// is for where that cannot be done.
	Again bool
	// Costs says that a retry adds to APNs's load: it is a matter of the budget.
	Costs bool
	// Attempted is false where APNs cannot have seen the try: it does not count.
	Attempted bool
}

// Policy decides what an answer means. It is safe for concurrent use.
type Policy struct{ rules map[apns.Reason]rule }

// NewPolicy returns the policy.
func NewPolicy() *Policy { return &Policy{rules: policy()} }

// Decide says what to do after a try that ended in r.
func (p *Policy) Decide(r apns.Response, t Try) Decision {
	cause := causeOf(r)
	row, ok := p.rules[cause]
	if !ok {
		row = p.rules[classOf(r.Status)]
	}
	d := Decision{Action: row.action, Halt: row.halt, Attempted: cause != causeNotSent && cause != causeStopped}
	switch {
	case cause == causeUnknown && t.OnUnknown == job.Drop:
		d.Action = Drop
	case d.Action == Retry && d.Attempted && row.wait != whenFixed && t.Attempt >= maxAttempts:
		d.Action = Bury
	}
	if !d.Attempted {
		t.Attempt = max(t.Attempt, t.Delivery)
	}
	if d.Action == Retry {
		d.Delay = delay(row.wait, t)
		d.Again = row.wait == server && t.Lane == job.Transactional && t.Attempt == 1
		d.Costs = d.Attempted && row.wait != whenFixed
		inTime(&d, row.wait, t.Left)
	}
	return d
}

// inTime sees to it that a retry does not come later than the notification
// expires.
//
// choice: where APNs has asked for time that there is not, it is settled at once,
// as what APNs said: nothing would come of waiting, and whoever sent it learns why.
// Where it was not APNs that asked, the time that is left is halved, so that there
// are tries until its end; it is told as expired when it is.
func inTime(d *Decision, s schedule, left time.Duration) {
	if left == 0 || d.Delay < left {
		return
	}
	switch s {
	case server, perDevice:
		d.Action, d.Delay, d.Costs = Drop, 0, false
	default:
		d.Delay = min(max(left/2, time.Second), max(0, left))
	}
}

// causeOf names what ended a try.
func causeOf(r apns.Response) apns.Reason {
	switch {
	case r.Err != nil:
		return causeOfError(r.Err)
	case r.Status == 200:
		return causeAccepted
	case r.Reason == "":
		return classOf(r.Status)
	default:
		return r.Reason
	}
}

// causeOfError is apart from causeOf, which allocates nothing for an answer.
func causeOfError(err error) apns.Reason {
	var stopped *apns.RouteError
	switch {
	case errors.As(err, &stopped):
		return causeStopped
	case errors.Is(err, apns.ErrNotSent):
		return causeNotSent
	default:
		return causeUnknown
	}
}

func classOf(status int) apns.Reason {
	switch status / 100 {
	case 4:
		return cause4xx
	case 5:
		return cause5xx
	default:
		return causeOther
	}
}

// stopFor is how long a stopped route or topic stays stopped before it is tried
// again: long enough not to annoy APNs, short enough to notice a mended key.
const stopFor = 30 * time.Second

func delay(s schedule, t Try) time.Duration {
	switch s {
	case soon:
		return jitter(grow(time.Second, t.Attempt-1, time.Minute))
	case server:
		if t.Lane == job.Transactional {
			t.Attempt-- // the second was made at once
		}
		return jitter(grow(15*time.Minute, t.Attempt-1, time.Hour))
	case perDevice:
		return jitter(grow(time.Minute, t.Attempt-1, time.Hour))
	default:
		return stopFor
	}
}

// grow doubles base n times, up to limit.
func grow(base time.Duration, n int, limit time.Duration) time.Duration {
	for range n {
		if base >= limit {
			break
		}
		base *= 2
	}
	return min(base, limit)
}

// jitter spreads d over its upper half, so that what failed together does not
// come back together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) //nolint:gosec // spreads load, hides nothing
}
