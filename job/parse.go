package job

import "github.com/pushfleet/pushfleet/internal/strictjson"

// Parse reads a job as JSON or in the compact encoding of [AppendCompact], and
// checks all that [Job.Validate] checks. The error is an [*Invalid] with every
// problem at once, up to the first syntax error. The job holds nothing of data.
//
// Repeated recipients are dropped, all but the first. Data, payload and the like
// are kept without white space, their numbers and strings as they were written.
// Times are in UTC.
func Parse(data []byte) (*Job, error) {
	if len(data) > 0 && data[0] == compactMark {
		return parseCompact(data)
	}
	var j Job
	d := strictjson.New(data)
	decodeJob(d, jobObject, &j)
	if err := invalid(&d.Problems); err != nil {
		return nil, err
	}
	return &j, nil
}

// decodeJob reads a whole document, by the table with or the one without recipients.
func decodeJob(d *strictjson.Decoder, o *object[Job], j *Job) {
	o.decode(d, j)
	d.End()
	if !d.Broken() {
		j.rules(&d.Problems, d.Len())
	}
}

// Validate checks a job that Go code made, by the rules and with the paths of
// [Parse]; the error is an [*Invalid]. It changes nothing; repeated recipients
// are no problem to it, and are dropped by Parse. A TTL other than zero counts
// with or without HasTTL.
func (j *Job) Validate() error {
	var c strictjson.Problems
	jobObject.check(&c, j)
	if j.OnUnknown > Drop {
		c.AddAt("on_unknown", "must be one of resend, drop")
	}
	j.rules(&c, 0)
	return invalid(&c)
}

// AppendJSON appends the job's JSON, which [Parse] reads back to an equal job,
// and returns the extended slice. It fails, with dst as it was, only where data,
// payload, content_state or attributes is not a JSON object ([*Invalid]); it
// does not otherwise validate.
func (j *Job) AppendJSON(dst []byte) ([]byte, error) {
	if err := j.raws(); err != nil {
		return dst, err
	}
	return jobObject.encode(dst, j), nil
}

// MarshalJSON implements [encoding/json.Marshaler] with [Job.AppendJSON].
func (j *Job) MarshalJSON() ([]byte, error) { return j.AppendJSON(nil) }

// UnmarshalJSON implements [encoding/json.Unmarshaler] with [Parse].
func (j *Job) UnmarshalJSON(data []byte) error {
	parsed, err := Parse(data)
	if err != nil {
		return err
	}
	*j = *parsed
	return nil
}
