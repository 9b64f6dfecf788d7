package job

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// MaxRecipientIDBytes is the longest id of a user or an install.
const MaxRecipientIDBytes = 256

// maxUnixSeconds is in the year 5138. choice: what is above was meant to be
// milliseconds.
const maxUnixSeconds = 99_999_999_999

// jobObject, notificationObject and the others in this file are the wire format:
// Parse, Validate, AppendJSON, RenderPayload and Schema all work from them.
var jobObject = newObject(
	object[Job]{
		choices: []choice{
			exactlyOne("notification", "payload"),
			atMostOne("ttl", "expires_at"),
		},
		needs:  []need{{name: "data", other: "notification"}},
		schema: pushTypeSchemas(),
	},
	text("id", "Makes the job unique within its app and lane for 24 hours. Not seq- and a number: that names jobs without an id. "+
		"Not ., .. or /: no URL could name it.",
		textLimits{max: MaxIDBytes, line: true, refuse: refuseReservedID, schema: `"not":{"pattern":"^(seq-[0-9]+|[.]{1,2}|/)$"}`},
		plain(func(j *Job) *string { return &j.ID })),
	required(nested("to", "Whom to send to: exactly one list. Repeated recipients count once.",
		recipientsObject, func(j *Job) *Recipients { return &j.To })),
	nestedOptional("notification", "What to show or do: Apple's aps keys in snake_case.",
		notificationObject, func(j *Job) **Notification { return &j.Notification }),
	rawObject("data", "Your own members; they stand beside aps in the payload.",
		"aps", func(j *Job) *json.RawMessage { return &j.Data }),
	rawObject("payload", "The exact JSON for APNs, instead of notification and data.",
		"", func(j *Job) *json.RawMessage { return &j.Payload }),
	text("push_type", "apns-push-type. Derived from the notification or payload where that is unambiguous.",
		textLimits{enum: pushTypeNames()}, plain(func(j *Job) *PushType { return &j.PushType })),
	oneOfIntegers("priority", "apns-priority: 10 at once, 5 considering power, 1 never wake the device. Default 10, and 5 for background.",
		[]int{10, 5, 1}, plain(func(j *Job) *int { return &j.Priority })),
	text("collapse_id", "apns-collapse-id: a later notification with the same one replaces this one.",
		textLimits{max: MaxCollapseIDBytes, line: true}, plain(func(j *Job) *string { return &j.CollapseID })),
	ttlField(),
	instant("expires_at", "RFC 3339. Past it the job is not sent and APNs does not keep it.",
		func(j *Job) *time.Time { return &j.ExpiresAt }),
	instant("send_after", "RFC 3339. Not sent before; must be before expires_at.",
		func(j *Job) *time.Time { return &j.SendAfter }),
	text("on_unknown", "What to do when APNs's answer never came: resend (default, may show twice) or drop (may never show).",
		textLimits{enum: []string{Resend.String(), Drop.String()}},
		access[Job, string]{
			get: func(j *Job) (string, bool) { return j.OnUnknown.String(), j.OnUnknown != Resend },
			put: func(j *Job, s string) {
				j.OnUnknown = Resend
				if s == Drop.String() {
					j.OnUnknown = Drop
				}
			},
		}),
)

// headerObject is the JSON part of a compact job: the recipients follow it.
var headerObject = jobObject.without("to")

var recipientsObject = newObject(
	object[Recipients]{choices: []choice{exactlyOne("tokens", "users", "installs")}},
	deviceTokens("tokens", "Device tokens in hexadecimal.", MaxRecipients, true,
		func(r *Recipients) *[]device.Token { return &r.Tokens }),
	texts("users", "Your users' ids: all their devices with the kind of device token that the push type needs.", MaxRecipients, true,
		textLimits{max: MaxRecipientIDBytes}, func(r *Recipients) *[]string { return &r.Users }),
	texts("installs", "Your installs' ids: one device each.", MaxRecipients, true,
		textLimits{max: MaxRecipientIDBytes}, func(r *Recipients) *[]string { return &r.Installs }),
)

var notificationObject = newObject(
	object[Notification]{
		needs: []need{
			{name: "title_loc_args", other: "title_loc_key"},
			{name: "subtitle_loc_args", other: "subtitle_loc_key"},
			{name: "loc_args", other: "loc_key"},
		},
		schema: []string{eventSchema()},
	},
	text("title", "First line of the alert.",
		textLimits{}, plain(func(n *Notification) *string { return &n.Title })),
	text("title_loc_key", "Key of the title in the app's Localizable.strings.",
		textLimits{}, plain(func(n *Notification) *string { return &n.TitleLocKey })),
	texts("title_loc_args", "Replace the %@ in the localized title, in order.", maxLocArgs, false,
		textLimits{anySize: true}, func(n *Notification) *[]string { return &n.TitleLocArgs }),
	text("subtitle", "Second line of the alert.",
		textLimits{}, plain(func(n *Notification) *string { return &n.Subtitle })),
	text("subtitle_loc_key", "Key of the subtitle in the app's Localizable.strings.",
		textLimits{}, plain(func(n *Notification) *string { return &n.SubtitleLocKey })),
	texts("subtitle_loc_args", "Replace the %@ in the localized subtitle, in order.", maxLocArgs, false,
		textLimits{anySize: true}, func(n *Notification) *[]string { return &n.SubtitleLocArgs }),
	text("body", "Text of the alert.",
		textLimits{}, plain(func(n *Notification) *string { return &n.Body })),
	text("loc_key", "Key of the body in the app's Localizable.strings.",
		textLimits{}, plain(func(n *Notification) *string { return &n.LocKey })),
	texts("loc_args", "Replace the %@ in the localized body, in order.", maxLocArgs, false,
		textLimits{anySize: true}, func(n *Notification) *[]string { return &n.LocArgs }),
	text("launch_image", "Name of the launch image file to show.",
		textLimits{}, plain(func(n *Notification) *string { return &n.LaunchImage })),
	integer("badge", "Number on the app's icon; 0 removes it.", 0, math.MaxInt32, "",
		optional(func(n *Notification) **int { return &n.Badge })),
	soundField(),
	text("thread_id", "Groups notifications.",
		textLimits{}, plain(func(n *Notification) *string { return &n.ThreadID })),
	text("category", "A category that the app registered: its actions are shown.",
		textLimits{}, plain(func(n *Notification) *string { return &n.Category })),
	asOne(flag("content_available", "Wake the app in the background.",
		func(n *Notification) *bool { return &n.ContentAvailable })),
	asOne(flag("mutable_content", "Pass the notification through the app's notification service extension.",
		func(n *Notification) *bool { return &n.MutableContent })),
	text("target_content_id", "The window to bring forward.",
		textLimits{}, plain(func(n *Notification) *string { return &n.TargetContentID })),
	text("interruption_level", "How the notification may interrupt.",
		textLimits{enum: []string{string(Passive), string(Active), string(TimeSensitive), string(Critical)}},
		plain(func(n *Notification) *InterruptionLevel { return &n.InterruptionLevel })),
	number("relevance_score", "Rank in the summary, 0 to 1; for a Live Activity any number.", math.Inf(-1), math.Inf(1),
		optional(func(n *Notification) **float64 { return &n.RelevanceScore })),
	text("filter_criteria", "Tells a Focus whether to show the notification.",
		textLimits{}, plain(func(n *Notification) *string { return &n.FilterCriteria })),
	flag("content_changed", "Widgets and controls: reload.",
		func(n *Notification) *bool { return &n.ContentChanged }),
	text("event", "Live Activity: what happens to it.",
		textLimits{enum: []string{string(EventStart), string(EventUpdate), string(EventEnd)}},
		plain(func(n *Notification) *Event { return &n.Event })),
	unixSeconds("timestamp", "Live Activity: Unix seconds; the device shows the newest.",
		func(n *Notification) **int64 { return &n.Timestamp }),
	rawObject("content_state", "Live Activity: what the app's ContentState decodes.",
		"", func(n *Notification) *json.RawMessage { return &n.ContentState }),
	unixSeconds("stale_date", "Live Activity: Unix seconds at which it goes stale.",
		func(n *Notification) **int64 { return &n.StaleDate }),
	unixSeconds("dismissal_date", "Live Activity: Unix seconds at which an ended one goes away; in the past: at once.",
		func(n *Notification) **int64 { return &n.DismissalDate }),
	text("attributes_type", "Live Activity, start: name of the app's ActivityAttributes type.",
		textLimits{}, plain(func(n *Notification) *string { return &n.AttributesType })),
	rawObject("attributes", "Live Activity, start: what that type decodes.",
		"", func(n *Notification) *json.RawMessage { return &n.Attributes }),
	text("input_push_channel", "Live Activity, start (iOS 18): the broadcast channel to follow.",
		textLimits{}, plain(func(n *Notification) *string { return &n.InputPushChannel })),
	asOne(flag("input_push_token", "Live Activity, start (iOS 18): ask for an update token.",
		func(n *Notification) *bool { return &n.InputPushToken })),
)

// maxLocArgs bounds a list of arguments. choice: more than a text can hold in
// 4096 bytes.
const maxLocArgs = 1000

var soundObject = newObject(
	object[Sound]{},
	required(text("name", "A sound file in the app, or default.",
		textLimits{}, plain(func(s *Sound) *string { return &s.Name }))),
	flag("critical", "A critical alert: sounds when muted.", func(s *Sound) *bool { return &s.Critical }),
	number("volume", "0 to 1, for a critical alert.", 0, 1, optional(func(s *Sound) **float64 { return &s.Volume })),
)

// soundField is a string, or an object for critical alerts.
func soundField() field[Notification] {
	name := textLimits{}
	simple := func(s *Sound) bool { return !s.Critical && s.Volume == nil }
	render := func(dst []byte, n *Notification, yes string) []byte {
		s := &n.Sound
		if simple(s) {
			return appendString(dst, s.Name)
		}
		dst = append(dst, '{')
		if s.Critical {
			dst = append(dst, `"critical":`...)
			dst = append(append(dst, yes...), ',')
		}
		dst = appendString(append(dst, `"name":`...), s.Name)
		if s.Volume != nil {
			volume := soundObject.fields[soundObject.index["volume"]]
			dst = volume.encode(append(dst, `,"volume":`...), s)
		}
		return append(dst, '}')
	}
	return field[Notification]{
		name: "sound", doc: "Name of a sound file in the app or default; an object for critical alerts.",
		schema: `"anyOf":[{` + name.describe() + `},{` + soundObject.describe() + `}]`,
		set:    func(n *Notification) bool { return n.Sound != Sound{} },
		encode: func(dst []byte, n *Notification) []byte { return render(dst, n, "true") },
		aps:    func(dst []byte, n *Notification) []byte { return render(dst, n, "1") },
		decode: func(d *strictjson.Decoder, n *Notification) {
			switch d.Peek() {
			case '{':
				soundObject.decode(d, &n.Sound)
			case '"':
				if s, ok := d.Text(); ok && name.check(&d.Problems, s) {
					n.Sound.Name = s
				}
			default:
				if v, ok := d.Value(); ok {
					d.WrongKind("a string or an object", v.Kind())
				}
			}
		},
		check: func(c *strictjson.Problems, n *Notification) {
			if simple(&n.Sound) {
				name.check(c, n.Sound.Name)
				return
			}
			soundObject.check(c, &n.Sound)
		},
	}
}

func unixSeconds(name, doc string, at func(*Notification) **int64) field[Notification] {
	return integer(name, doc, 0, maxUnixSeconds, " of Unix seconds (not milliseconds)", optional(at))
}

// ttlField is a Go duration from 0 to MaxTTL.
func ttlField() field[Job] {
	check := func(c *strictjson.Problems, ttl time.Duration) bool {
		switch {
		case ttl < 0:
			c.Add("must not be negative")
		case ttl > MaxTTL:
			c.Add("must be at most %s (30 days): APNs stores no longer", strictjson.DurationText(MaxTTL))
		default:
			return true
		}
		return false
	}
	return field[Job]{
		name: "ttl",
		doc: "How long the job is worth sending, such as 90s, 4h or 1h30m, counted from send_after or else from when it was stored; at most 720h. " +
			"0s: one attempt, which APNs does not store.",
		schema: strictjson.DurationSchema,
		set:    func(j *Job) bool { return j.HasTTL || j.TTL != 0 },
		encode: func(dst []byte, j *Job) []byte { return appendString(dst, strictjson.DurationText(j.TTL)) },
		decode: func(d *strictjson.Decoder, j *Job) {
			if ttl, ok := strictjson.ReadDuration(d); ok && check(&d.Problems, ttl) {
				j.TTL, j.HasTTL = ttl, true
			}
		},
		check: func(c *strictjson.Problems, j *Job) { check(c, j.TTL) },
	}
}

// refuseReservedID keeps callers off the names of jobs without an id, seq- and the
// place in the stream, and off those that no URL can have.
func refuseReservedID(id string) string {
	if strictjson.IsPath(id) {
		return strictjson.NotPath
	}
	digits, ok := strings.CutPrefix(id, "seq-")
	if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return ""
	}
	return "must not be seq- and a number: that names jobs without an id"
}

// String returns the choice's name on the wire.
func (o OnUnknown) String() string {
	if o == Drop {
		return "drop"
	}
	return "resend"
}
