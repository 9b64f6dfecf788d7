package job

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// outcomesVersion is the version of the format of outcomes. A reader takes what
// it does not know for absent; a change that this would not do for gets a new one.
const outcomesVersion = 1

// maxMilliseconds ends the year 9999.
const maxMilliseconds = 253_402_300_799_999

var outcomesObject = newObject(
	object[Outcomes]{lenient: true},
	versionField(),
	required(text("app", "The app's key in the configuration.",
		textLimits{}, plain(func(o *Outcomes) *string { return &o.App }))),
	required(laneField(func(o *Outcomes) *Lane { return &o.Lane })),
	text("worker", "The worker that tells this.",
		textLimits{}, plain(func(o *Outcomes) *string { return &o.Worker })),
	milliseconds("at", "When it was told", func(o *Outcomes) *time.Time { return &o.At }),
	list("jobs", "What became of jobs, or parts of them.", jobOutcomeObject, func(o *Outcomes) *[]JobOutcome { return &o.Jobs }),
)

var jobOutcomeObject = newObject(
	object[JobOutcome]{lenient: true},
	required(text("id", "The job's id; a redriven job has one of its own.",
		textLimits{}, plain(func(j *JobOutcome) *string { return &j.ID }))),
	text("root", "Of a redriven job: the id of the job that it continues, which its apns-ids are made from.",
		textLimits{}, plain(func(j *JobOutcome) *string { return &j.Root })),
	integer("seq", "Place in the stream of jobs.", 0, math.MaxInt64-1, "",
		plain(func(j *JobOutcome) *uint64 { return &j.Sequence })),
	milliseconds("queued_at", "When JetStream stored the job", func(j *JobOutcome) *time.Time { return &j.QueuedAt }),
	milliseconds("taken_at", "When the worker got the job at this delivery, by its clock", func(j *JobOutcome) *time.Time { return &j.TakenAt }),
	milliseconds("sent_at", "When it handed the first notification of it to APNs; absent where nothing was sent", func(j *JobOutcome) *time.Time { return &j.SentAt }),
	integer("attempt", "Retry round, from 1.", 0, math.MaxInt32, "",
		plain(func(j *JobOutcome) *int { return &j.Attempt })),
	text("campaign", "Of a range of a campaign: the campaign's id.",
		textLimits{}, plain(func(j *JobOutcome) *string { return &j.Campaign })),
	integer("range", "Of a range of a campaign: its number, from 0.", 0, math.MaxInt32, "",
		plain(func(j *JobOutcome) *int { return &j.Range })),
	integer("devices", "Of a range of a campaign: how many devices the whole range was published with.", 0, math.MaxInt32, "",
		plain(func(j *JobOutcome) *int { return &j.Devices })),
	environmentField(func(j *JobOutcome) *device.Environment { return &j.Environment }),
	flag("whole", "This is all of the job, nothing of it was told before.",
		func(j *JobOutcome) *bool { return &j.Whole }),
	flag("complete", "With this, every recipient is settled.",
		func(j *JobOutcome) *bool { return &j.Complete }),
	integer("total", "With complete: how many recipients the job had, as resolved.", 0, math.MaxInt32, "",
		plain(func(j *JobOutcome) *int { return &j.Total })),
	deviceTokens("accepted", "Device tokens that APNs took.", 0, false,
		func(j *JobOutcome) *[]device.Token { return &j.Accepted }),
	freshField(),
	integer("known", "How many of those accepted are registered device tokens that were accepted before.", 0, math.MaxInt32, "",
		plain(func(j *JobOutcome) *int { return &j.Known })),
	list("others", "Recipients with another result.", recipientObject, func(j *JobOutcome) *[]Recipient { return &j.Others }),
)

var recipientObject = newObject(
	object[Recipient]{lenient: true},
	deviceToken("token", "The device token; absent where a user, an install or the job itself is meant.",
		func(r *Recipient) *device.Token { return &r.DeviceToken }),
	text("user", "The user's id.", textLimits{}, plain(func(r *Recipient) *string { return &r.User })),
	text("install", "The install's id.", textLimits{}, plain(func(r *Recipient) *string { return &r.Install })),
	// Not an enumeration: a newer worker may have more results.
	required(text("result", "What became of it: "+resultNames()+".",
		textLimits{}, plain(func(r *Recipient) *Result { return &r.Result }))),
	text("reason", "APNs's reason, or pushfleet's in lower case.",
		textLimits{}, plain(func(r *Recipient) *string { return &r.Reason })),
	integer("status", "APNs's HTTP status; absent if it did not answer.", 0, 999, "",
		plain(func(r *Recipient) *int { return &r.Status })),
	integer("timestamp", "APNs's, with status 410: since when the device token is dead, in milliseconds since 1970.", 0, maxMilliseconds, "",
		plain(func(r *Recipient) *int64 { return &r.Timestamp })),
	integer("generation", "Of the device token's record when it was sent to.", 0, math.MaxUint32, "",
		plain(func(r *Recipient) *uint32 { return &r.Generation })),
	flag("wrong_kind", "The device token is of another kind than the push type needs: a rejection says nothing about it.",
		func(r *Recipient) *bool { return &r.WrongKind }),
	flag("accepted_before", "The device token is registered, and was accepted before: should many such be rejected, the rejection is taken back and the notification tried again.",
		func(r *Recipient) *bool { return &r.AcceptedBefore }),
	milliseconds("sent_at", "When it was sent", func(r *Recipient) *time.Time { return &r.SentAt }),
)

// Results returns every result that this version writes.
func Results() []Result {
	return []Result{Accepted, Rejected, Expired, Suppressed, Skipped, Unknown, Failed, Duplicate}
}

func resultNames() string {
	s := ""
	for i, r := range Results()[1:] { // accepted ones are listed apart
		if i > 0 {
			s += ", "
		}
		s += string(r)
	}
	return s
}

// AppendJSON appends the message's JSON, which [ParseOutcomes] reads, and returns
// the extended slice. Zero values are left out, times are cut to milliseconds.
func (o *Outcomes) AppendJSON(dst []byte) []byte {
	size := stringBytes(o.App) + stringBytes(o.Worker) + 6*perName
	for i := range o.Jobs {
		j := &o.Jobs[i]
		size += jobBytes(j)
		for k := range j.Accepted {
			size += acceptedBytes(j, k)
		}
		for k := range j.Others {
			size += recipientBytes(&j.Others[k])
		}
	}
	return outcomesObject.encode(slices.Grow(dst, size), o)
}

// ParseOutcomes reads an outcomes message. Members that it does not know are
// ignored: a newer worker may have written them. Times are in UTC. An error that
// is about the content wraps an [*Invalid].
func ParseOutcomes(data []byte) (*Outcomes, error) {
	d := strictjson.New(data)
	o := new(Outcomes)
	outcomesObject.decode(d, o)
	d.End()
	d.Enter("jobs")
	for i := range o.Jobs {
		j := &o.Jobs[i]
		for k, f := range j.Fresh {
			if f < len(j.Accepted) || d.Bad("jobs.accepted", "jobs.fresh") {
				continue
			}
			d.EnterIndex(i)
			d.Enter("fresh")
			d.EnterIndex(k)
			d.Add("must be an index of accepted, which has %d", len(j.Accepted))
			d.Leave()
			d.Leave()
			d.Leave()
		}
	}
	d.Leave()
	if err := invalid(&d.Problems); err != nil {
		return nil, fmt.Errorf("parse outcomes: %w", err)
	}
	return o, nil
}

// OutcomeSchema returns the JSON Schema (draft 2020-12) of an outcomes message,
// indented. It is made from the tables that [ParseOutcomes] works with.
func OutcomeSchema() []byte {
	return indentedSchema("urn:pushfleet:schema:outcomes", "pushfleet outcomes",
		"What became of recipients of one or more jobs of one app and lane, as one worker tells it. New members may appear.",
		outcomesObject.describe())
}

// versionField is always there, and has no place in the struct.
func versionField() field[Outcomes] {
	return required(field[Outcomes]{
		name: "v", doc: "Version of this format.", schema: `"const":` + itoa(outcomesVersion),
		set:    func(*Outcomes) bool { return true },
		encode: func(dst []byte, _ *Outcomes) []byte { return append(dst, itoa(outcomesVersion)...) },
		decode: func(d *strictjson.Decoder, _ *Outcomes) {
			v, ok := d.ValueOf('0', "a whole number")
			if !ok {
				return
			}
			if n, ok := wholeNumber(v); !ok || n != outcomesVersion {
				d.Add("is of a version that is not known, only %d is", outcomesVersion)
			}
		},
	})
}

func laneField[T any](at func(*T) *Lane) field[T] {
	var names []string
	for _, l := range Lanes() {
		names = append(names, l.String())
	}
	return text("lane", "The queue class.", textLimits{enum: names}, access[T, string]{
		get: func(t *T) (string, bool) { return at(t).String(), true },
		put: func(t *T, s string) { *at(t), _ = ParseLane(s) },
	})
}

func environmentField[T any](at func(*T) *device.Environment) field[T] {
	names := []string{device.Production.String(), device.Sandbox.String()}
	return text("environment", "The APNs environment that was sent to; absent where nothing was sent.",
		textLimits{enum: names}, access[T, string]{
			get: func(t *T) (string, bool) { return at(t).String(), *at(t) != device.EnvironmentUnset },
			put: func(t *T, s string) { *at(t), _ = device.ParseEnvironment(s) },
		})
}

// freshField is a list of indices.
func freshField() field[JobOutcome] {
	return field[JobOutcome]{
		name: "fresh", doc: "Indices of those accepted for which that is the first time.",
		schema: listSchema(0, `"type":"integer","minimum":0`),
		set:    func(j *JobOutcome) bool { return len(j.Fresh) > 0 },
		encode: func(dst []byte, j *JobOutcome) []byte {
			dst = append(dst, '[')
			for i, f := range j.Fresh {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = appendInteger(dst, f)
			}
			return append(dst, ']')
		},
		decode: func(d *strictjson.Decoder, j *JobOutcome) {
			decodeList(d, 0, func() {
				v, ok := d.ValueOf('0', "a whole number")
				if !ok {
					return
				}
				n, ok := wholeNumber(v)
				if !ok || n < 0 || n > math.MaxInt32 {
					d.Add("must be an index of accepted")
					return
				}
				j.Fresh = append(j.Fresh, int(n))
			})
		},
	}
}

// milliseconds is a time in milliseconds since 1970.
func milliseconds[T any](name, doc string, at func(*T) *time.Time) field[T] {
	return integer(name, doc+", in milliseconds since 1970.", 0, maxMilliseconds, "", access[T, int64]{
		get: func(t *T) (int64, bool) { return at(t).UnixMilli(), !at(t).IsZero() },
		put: func(t *T, ms int64) { *at(t) = time.UnixMilli(ms).UTC() },
	})
}
