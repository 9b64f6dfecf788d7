package explain

import (
	"fmt"
	"time"

	"github.com/pushfleet/pushfleet/job"
)

// Explanation is the answer to a [Question].
type Explanation struct {
	_ struct{} `additionalProperties:"true"`

	App      string `json:"app" doc:"The app."`
	Campaign string `json:"campaign,omitempty" doc:"The campaign, if it was asked about one."`
	Job      string `json:"job,omitempty" doc:"The job, if it was asked about one."`
	Lane     string `json:"lane,omitempty" doc:"The lane of the job."`
	State    string `json:"state" doc:"Of the campaign; or of the job: complete, open, unknown."`
	Text     string `json:"text" doc:"The same for people."`
	// SearchedUntil is where a search ended for want of time; nil: it was whole.
	SearchedUntil *time.Time `json:"searched_until,omitempty" doc:"The search ended here for want of time: ask again, since then, for what was told later. Absent: it was whole."`
	Devices       []Finding  `json:"devices" nullable:"false" doc:"What is said of each device that was meant."`
}

// Finding is what is said of one device, or of a user who has none.
type Finding struct {
	_ struct{} `additionalProperties:"true"`

	Token   string     `json:"token,omitempty" doc:"The device token: whole only if it was given."`
	User    string     `json:"user,omitempty" doc:"The user."`
	Install string     `json:"install_id,omitempty" doc:"The installation of the app."`
	Range   *int       `json:"range,omitempty" doc:"The range of the campaign that the device is in."`
	Verdict string     `json:"verdict" doc:"A result as in outcomes, or one of: not in the audience, waiting, settled, nothing told."`
	Text    string     `json:"text" doc:"The same for people, with why."`
	Until   *time.Time `json:"until,omitempty" doc:"Of waiting: until when, where it is known."`
	Told    []Told     `json:"outcomes,omitempty" nullable:"false" doc:"All outcomes, the oldest first."`
}

// Verdicts on what has no outcome.
const (
	Outside = "not in the audience"
	Waiting = "waiting"
	Settled = "settled" // how, is not known any more
	Nothing = "nothing told"
)

// Told is one outcome.
type Told struct {
	_ struct{} `additionalProperties:"true"`

	At        time.Time  `json:"at" doc:"When it was told."`
	Worker    string     `json:"worker" doc:"The worker that told it."`
	Attempt   int        `json:"attempt" doc:"The retry round, from 1."`
	Result    job.Result `json:"result" doc:"What became of it, such as accepted, rejected, skipped."`
	Reason    string     `json:"reason,omitempty" doc:"APNs's reason, or pushfleet's in lower case."`
	Status    int        `json:"status,omitempty" doc:"The HTTP status of APNs's answer."`
	DeadSince *time.Time `json:"dead_since,omitempty" doc:"Since when the device token is dead, by APNs."`
}

// Sentence says it for people.
func (t *Told) Sentence() string {
	s := fmt.Sprintf("%s %s by worker %s", t.Result, Instant(t.At), t.Worker)
	if t.Result == job.Accepted {
		s = fmt.Sprintf("accepted by APNs %s, sent by worker %s", Instant(t.At), t.Worker)
	}
	if t.Result == job.Rejected {
		s = fmt.Sprintf("rejected by APNs %s, sent by worker %s", Instant(t.At), t.Worker)
	}
	if t.Attempt > 1 {
		s += fmt.Sprintf(", retry round %d", t.Attempt)
	}
	if t.Reason != "" {
		s += ": " + t.Reason
	}
	if t.Status != 0 {
		s += fmt.Sprintf(" (%d)", t.Status)
	}
	if t.DeadSince != nil {
		s += ", the device token is dead since " + Instant(*t.DeadSince)
	}
	return s
}

// Instant is a time for people, to the second.
func Instant(t time.Time) string { return t.UTC().Truncate(time.Second).String() }

// Name says which device a finding is about, for people.
func (d *Finding) Name() string {
	switch {
	case d.Token == "" && d.User != "":
		return "user " + d.User
	case d.Token == "":
		return "install " + d.Install
	case d.User != "":
		return "device " + d.Token + " of user " + d.User
	}
	return "device " + d.Token
}
