package job

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// WebhookType is the type of every [Webhook]. A body that readers of this one could
// not read would get another.
const WebhookType = "push.outcomes"

// Webhook is the body of one POST to an app's webhook: what became of recipients of
// one or more jobs.
type Webhook struct {
	App       string
	Timestamp time.Time // when JetStream stored the first of it; the same at every try
	Events    []WebhookEvent
}

// WebhookEvent is what became of one recipient of one job. Times have millisecond
// resolution.
type WebhookEvent struct {
	ID       string // the same whenever this is told, and no other event's
	Job      string // the job's id
	Root     string // id of the job that a redriven one continues; empty for others
	Campaign string // id of the campaign that sent it; empty: a job
	Lane     Lane

	DeviceToken device.Token // zero where User, Install or the job itself is meant
	User        string
	Install     string

	Environment device.Environment // unset where nothing was sent
	Result      Result
	Reason      string // APNs's reason, or ours in lower case
	Status      int    // HTTP status, 0 if APNs did not answer
	APNsID      string // empty where nothing was sent
	Attempt     int    // retry round, from 1

	QueuedAt  time.Time // when JetStream stored the job
	SentAt    time.Time // zero where nothing was sent; of what was accepted, when the first of its job was
	At        time.Time // when the worker told it
	DeadSince time.Time // APNs's, with status 410; else zero
}

var webhookObject = newObject(
	object[Webhook]{lenient: true},
	typeField(),
	instant("timestamp", "RFC 3339: when the first of the events was stored. The same at every try.",
		func(w *Webhook) *time.Time { return &w.Timestamp }),
	required(text("app", "The app's key in the configuration.",
		textLimits{}, plain(func(w *Webhook) *string { return &w.App }))),
	required(list("events", "What became of recipients, one by one, in the order in which workers told it.", webhookEventObject,
		func(w *Webhook) *[]WebhookEvent { return &w.Events })),
)

var webhookEventObject = newObject(
	object[WebhookEvent]{lenient: true},
	required(text("id", "The same whenever this event is told, and no other event's.",
		textLimits{}, plain(func(e *WebhookEvent) *string { return &e.ID }))),
	required(text("job", "The job's id; a redriven job has one of its own. Of a campaign: its id, a slash, the number of a range.",
		textLimits{}, plain(func(e *WebhookEvent) *string { return &e.Job }))),
	text("root", "Of a redriven job: the id of the job that it continues.",
		textLimits{}, plain(func(e *WebhookEvent) *string { return &e.Root })),
	text("campaign", "The campaign that sent it; absent for jobs.",
		textLimits{}, plain(func(e *WebhookEvent) *string { return &e.Campaign })),
	required(laneField(func(e *WebhookEvent) *Lane { return &e.Lane })),
	deviceToken("token", "The device token; absent where a user, an install or the job itself is meant.",
		func(e *WebhookEvent) *device.Token { return &e.DeviceToken }),
	text("user", "The user's id, where a user without a device is meant.",
		textLimits{}, plain(func(e *WebhookEvent) *string { return &e.User })),
	text("install", "The install's id, where an install without a device is meant.",
		textLimits{}, plain(func(e *WebhookEvent) *string { return &e.Install })),
	environmentField(func(e *WebhookEvent) *device.Environment { return &e.Environment }),
	// Not an enumeration: a newer version may have more results.
	required(text("result", "What became of it: accepted, "+resultNames()+". Accepted is what APNs took; whether a device showed it, APNs does not tell.",
		textLimits{}, plain(func(e *WebhookEvent) *Result { return &e.Result }))),
	text("reason", "APNs's reason, or pushfleet's in lower case.",
		textLimits{}, plain(func(e *WebhookEvent) *string { return &e.Reason })),
	integer("status", "APNs's HTTP status; absent if it did not answer.", 0, 999, "",
		plain(func(e *WebhookEvent) *int { return &e.Status })),
	text("apns_id", "The notification's apns-id; absent where nothing was sent.",
		textLimits{}, plain(func(e *WebhookEvent) *string { return &e.APNsID })),
	integer("attempt", "Retry round, from 1.", 0, math.MaxInt32, "",
		plain(func(e *WebhookEvent) *int { return &e.Attempt })),
	instant("queued_at", "RFC 3339: when the job was stored.", func(e *WebhookEvent) *time.Time { return &e.QueuedAt }),
	instant("sent_at", "RFC 3339, by the worker's clock: when it was sent; of what was accepted, when the first of its job was. Absent where nothing was sent.", func(e *WebhookEvent) *time.Time { return &e.SentAt }),
	instant("at", "RFC 3339: when the worker told it.", func(e *WebhookEvent) *time.Time { return &e.At }),
	instant("dead_since", "RFC 3339, with status 410: since when the device token is dead, by APNs.", func(e *WebhookEvent) *time.Time { return &e.DeadSince }),
)

// Events returns what o tells, recipient by recipient, of those whose result keep
// takes; nil takes all. sequence and stored say where and when OUTCOMES stored the
// message: the ids of the events are made from that.
func (o *Outcomes) Events(sequence uint64, stored time.Time, keep func(Result) bool) []WebhookEvent {
	place := strconv.FormatUint(sequence, 10) + "-" + strconv.FormatInt(stored.UnixMilli(), 36) + "-"
	var events []WebhookEvent
	n := 0
	for i := range o.Jobs {
		j := &o.Jobs[i]
		base := WebhookEvent{
			Job: j.ID, Root: j.Root, Campaign: j.Campaign, Lane: o.Lane, Environment: j.Environment,
			Attempt: j.Attempt, QueuedAt: j.QueuedAt, At: o.At,
		}
		ids := NewAPNsIDs(o.App, j.apnsRoot())
		add := func(e WebhookEvent, sent bool) {
			n++ // those that are left out have a number too: a filter may change
			if keep != nil && !keep(e.Result) {
				return
			}
			e.ID = place + itoa(n-1)
			if sent {
				e.APNsID = ids.ID(e.DeviceToken).String()
			}
			events = append(events, e)
		}
		for _, t := range j.Accepted {
			e := base
			e.DeviceToken, e.Result, e.Status, e.SentAt = t, Accepted, 200, j.SentAt
			add(e, true)
		}
		for k := range j.Others {
			r := &j.Others[k]
			e := base
			e.DeviceToken, e.User, e.Install = r.DeviceToken, r.User, r.Install
			e.Result, e.Reason, e.Status, e.SentAt = r.Result, r.Reason, r.Status, r.SentAt
			if r.Timestamp > 0 {
				e.DeadSince = time.UnixMilli(r.Timestamp).UTC()
			}
			add(e, !r.DeviceToken.IsZero() && wasSent(r.Result))
		}
	}
	return events
}

// wasSent reports whether a result says that the notification went to APNs.
func wasSent(r Result) bool {
	return r == Accepted || r == Rejected || r == Unknown || r == Failed
}

// apnsRoot is the id that the apns-ids of a job, or of a range of a campaign, are
// made from.
func (j *JobOutcome) apnsRoot() string {
	switch {
	case j.Campaign != "":
		return CampaignRoot(j.Campaign)
	case j.Root != "":
		return j.Root
	default:
		return j.ID
	}
}

// Split divides w into bodies of at most maxEvents events and maxBytes bytes of
// JSON; 0: without that bound. An event that is larger by itself has a body of its
// own.
func (w *Webhook) Split(maxBytes, maxEvents int) []Webhook {
	base := len(w.with(nil).AppendJSON(nil)) + len(`,"events":[]`)
	var out []Webhook
	var scratch []byte
	start, bytes := 0, base
	for i := range w.Events {
		scratch = webhookEventObject.encode(scratch[:0], &w.Events[i])
		size := len(scratch) + len(",")
		if i > start && (maxBytes > 0 && bytes+size > maxBytes || maxEvents > 0 && i-start >= maxEvents) {
			out = append(out, *w.with(w.Events[start:i]))
			start, bytes = i, base
		}
		bytes += size
	}
	if start < len(w.Events) {
		out = append(out, *w.with(w.Events[start:]))
	}
	return out
}

func (w *Webhook) with(events []WebhookEvent) *Webhook {
	return &Webhook{App: w.App, Timestamp: w.Timestamp, Events: events}
}

// AppendJSON appends the body, which [ParseWebhook] reads, and returns the extended
// slice. Zero values are left out. The same body gives the same bytes.
func (w *Webhook) AppendJSON(dst []byte) []byte {
	const perEvent = 400 // about what one takes
	return webhookObject.encode(slices.Grow(dst, 128+perEvent*len(w.Events)), w)
}

// ParseWebhook reads the body of a POST to a webhook. Members that it does not know
// are ignored; times are in UTC. An error that is about the content wraps an
// [*Invalid]. Check the signature first.
func ParseWebhook(data []byte) (*Webhook, error) {
	d := strictjson.New(data)
	w := new(Webhook)
	webhookObject.decode(d, w)
	d.End()
	if err := invalid(&d.Problems); err != nil {
		return nil, fmt.Errorf("parse webhook: %w", err)
	}
	return w, nil
}

// WebhookSchema returns the JSON Schema (draft 2020-12) of the body of a POST to a
// webhook, indented. It is made from the tables that [ParseWebhook] works with.
func WebhookSchema() []byte {
	return indentedSchema("urn:pushfleet:schema:webhook", "A POST to an app's webhook",
		"What became of recipients of one or more jobs of an app. New members, results and reasons may appear.",
		webhookObject.describe())
}

// typeField is always there, and has no place in the struct.
func typeField() field[Webhook] {
	return required(field[Webhook]{
		name: "type", doc: "What the events are, and in which form.", schema: `"const":` + quote(WebhookType),
		set:    func(*Webhook) bool { return true },
		encode: func(dst []byte, _ *Webhook) []byte { return appendString(dst, WebhookType) },
		decode: func(d *strictjson.Decoder, _ *Webhook) {
			if s, ok := d.Text(); ok && s != WebhookType {
				d.Add("is of a type that is not known, only %s is", WebhookType)
			}
		},
	})
}
