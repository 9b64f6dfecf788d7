package job

import (
	"math/bits"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// rules checks what concerns more than one field. Where a field is already known
// to be wrong, it says nothing more about it. inputBytes is how long the JSON was
// that the job was read from, or 0.
func (j *Job) rules(c *strictjson.Problems, inputBytes int) {
	if !j.SendAfter.IsZero() && !j.ExpiresAt.IsZero() && !j.SendAfter.Before(j.ExpiresAt) {
		c.AddAt("send_after", "must be before expires_at")
	}
	push := j.contentRules(c)
	if inputBytes == 0 || !j.surelyFits(inputBytes) {
		j.sizeRule(c, push)
	}
}

// contentRules checks what is sent, but for its size, and returns its push type.
func (j *Job) contentRules(c *strictjson.Problems) PushType {
	f := j.facts(c)
	push := j.PushType
	if push == "" && !c.Bad("push_type") {
		push = j.derive(c, &f)
	}
	if t := push.traits(); t != nil {
		if j.Priority != 0 && !c.Bad("priority") && !push.Allows(j.Priority) {
			c.AddAt("priority", "must not be %d for %s: APNs refuses it", j.Priority, push)
		}
		j.notificationRules(c, t)
		j.payloadRules(c, t, &f)
	}
	return push
}

// derive returns the push type that the content stands for, or says that there
// is none.
func (j *Job) derive(c *strictjson.Problems, f *facts) PushType {
	push := f.pushType()
	if push != "" || c.Bad("notification", "payload") || (j.Notification == nil && len(j.Payload) == 0) {
		return push
	}
	if f.contentChanged {
		c.AddAt("push_type", "is required: content_changed alone may be for widgets or controls")
	} else {
		c.AddAt("push_type", "is required: it cannot be told from the content")
	}
	return ""
}

func (j *Job) notificationRules(c *strictjson.Problems, t *traits) {
	n := j.Notification
	if n == nil {
		return
	}
	c.Enter("notification")
	defer c.Leave()
	if t.payloadOnly != "" {
		c.Add("is not for %s: use payload, with the member %s", t.push, t.payloadOnly)
		return
	}
	wrongBefore := c.Bad("notification")
	present := notificationObject.present(n)
	rule := &contentRules[t.index()]
	missing := func(want uint64, why string) {
		for m := want &^ present; m != 0; m &= m - 1 {
			if name := fieldName(m); !c.Bad("notification." + name) {
				c.AddAt(name, "is required for %s", why)
			}
		}
	}
	missing(rule.needs, string(t.push))
	for m := present & rule.forbids; m != 0; m &= m - 1 {
		c.AddAt(fieldName(m), "is not for %s", t.push)
	}
	if t.push != PushLiveActivity {
		if r := n.RelevanceScore; r != nil && (*r < 0 || *r > 1) {
			c.AddAt("relevance_score", "must be from 0 to 1")
		}
		return
	}
	if n.Event == EventStart {
		missing(liveRules.startNeeds, startWord)
		if present&liveRules.shown == 0 && !wrongBefore {
			c.Add("must have an alert, such as title and body, for %s", startWord)
		}
	} else if n.Event != "" {
		for m := present & liveRules.startOnly; m != 0; m &= m - 1 {
			c.AddAt(fieldName(m), "is only for %s", startWord)
		}
	}
	if present&liveRules.titles == liveRules.titles {
		c.AddAt("title_loc_key", "must not stand beside title for %s", t.push)
	}
	if present&liveRules.bodies == liveRules.bodies {
		c.AddAt("loc_key", "must not stand beside body for %s", t.push)
	}
}

// contentRules is what each row of pushTypes needs and forbids, and liveRules
// the groups of a Live Activity's fields, as bits of notificationObject.
var (
	contentRules = compileContentRules()
	liveRules    = struct{ shown, startNeeds, startOnly, titles, bodies uint64 }{
		shown:      notificationObject.mask(strings.Fields(shownFields)...),
		startNeeds: notificationObject.mask(strings.Fields(startNeeds)...),
		startOnly:  notificationObject.mask(strings.Fields(startFields)...),
		// In a Live Activity's alert, title and body are either text or a key.
		titles: notificationObject.mask("title", "title_loc_key"),
		bodies: notificationObject.mask("body", "loc_key"),
	}
)

type contentRule struct{ needs, forbids uint64 }

func compileContentRules() []contentRule {
	out := make([]contentRule, len(pushTypes))
	for i := range pushTypes {
		out[i].needs = notificationObject.mask(strings.Fields(pushTypes[i].needs)...)
		out[i].forbids = notificationObject.mask(pushTypes[i].forbidden()...)
	}
	return out
}

// fieldName returns the name of the lowest bit's field.
func fieldName(m uint64) string { return notificationObject.names[bits.TrailingZeros64(m)] }

const (
	startWord   = "event start"
	startNeeds  = "attributes_type attributes"
	startFields = startNeeds + " input_push_channel input_push_token"
)

// payloadRules checks the exact payload for what Apple documents; what it says
// beyond that is the caller's.
func (j *Job) payloadRules(c *strictjson.Problems, t *traits, f *facts) {
	if len(j.Payload) == 0 || c.Bad("payload") {
		return
	}
	c.Enter("payload")
	defer c.Leave()
	if t.payloadOnly != "" {
		if !f.mdm {
			c.Add("must have the member %s for %s", t.payloadOnly, t.push)
		}
		return
	}
	c.Enter("aps")
	defer c.Leave()
	switch {
	case t.push == PushBackground:
		if !f.background {
			c.AddAt("content-available", "must be 1 for background")
		}
		for _, m := range []struct {
			name  string
			value []byte
		}{{"alert", f.aps.alert}, {"badge", f.aps.badge}, {"sound", f.aps.sound}} {
			if m.value != nil {
				c.AddAt(m.name, "is not for background")
			}
		}
	case t.push == PushLiveActivity:
		need := func(name string, value []byte, why string, kind jsontext.Kind) {
			if value == nil {
				c.AddAt(name, "is required for %s", why)
			} else if got := jsontext.Value(value).Kind(); kind != 0 && got != kind {
				c.AddAt(name, "must be %s, got %s", strictjson.KindName(kind), strictjson.KindName(got))
			}
		}
		need("event", f.aps.event, "liveactivity", '"')
		if f.aps.event != nil && jsontext.Value(f.aps.event).Kind() == '"' &&
			f.event != EventStart && f.event != EventUpdate && f.event != EventEnd {
			c.AddAt("event", "must be one of start, update, end")
		}
		need("timestamp", f.aps.timestamp, "liveactivity", '0')
		need("content-state", f.aps.contentState, "liveactivity", '{')
		if f.event == EventStart {
			need("attributes-type", f.aps.attributesType, startWord, '"')
			need("attributes", f.aps.attributes, startWord, '{')
			need("alert", f.aps.alert, startWord, 0)
		}
	}
}

// sizeRule checks what will be sent against APNs's limit.
func (j *Job) sizeRule(c *strictjson.Problems, push PushType) {
	if push == "" || c.Bad("push_type", "notification", "data", "payload") {
		return
	}
	name, size := "payload", len(j.Payload)
	if j.Notification != nil {
		name = "notification"
		size = len(j.appendPayload(make([]byte, 0, 512+len(j.Data))))
	} else if !isCompact(j.Payload) {
		compacted, _ := compactObject(j.Payload)
		size = len(compacted)
	}
	if limit := push.MaxPayload(); size > limit {
		c.AddAt(name, "renders to %d bytes, the limit for %s is %d", size, push, limit)
	}
}

// surelyFits spares most jobs a rendering that would only be measured. A payload
// is never longer than the JSON that it came from, but for what is added around
// the alert and for numbers that are spelled out (1e9), and JSON without its
// recipients is longer still.
func (j *Job) surelyFits(inputBytes int) bool {
	const added = 256
	for _, t := range j.To.Tokens {
		inputBytes -= 2 * t.Len()
	}
	for _, list := range [...][]string{j.To.Users, j.To.Installs} {
		for _, id := range list {
			inputBytes -= len(id)
		}
	}
	return inputBytes+added <= MaxPayloadBytes
}

// facts is what the push type and the kind of device token follow from.
type facts struct {
	visible, background, contentChanged, mdm bool

	event Event
	aps   struct { // raw members of the payload's aps
		alert, badge, sound, event, timestamp, contentState, attributesType, attributes []byte
	}
}

// facts looks at the notification or the payload. What is wrong with the shape
// of a payload's aps goes to c, unless that is nil.
func (j *Job) facts(c *strictjson.Problems) (f facts) {
	if n := j.Notification; n != nil {
		f.visible = n.Title != "" || n.TitleLocKey != "" || n.Subtitle != "" || n.SubtitleLocKey != "" ||
			n.Body != "" || n.LocKey != "" || n.Badge != nil || n.Sound != Sound{}
		f.background, f.contentChanged, f.event = n.ContentAvailable, n.ContentChanged, n.Event
		return f
	}
	members(j.Payload, func(name, value []byte) {
		switch string(strictjson.Unquoted(name)) {
		case "aps":
			if jsontext.Value(value).Kind() == '{' {
				f.readAPS(value)
			} else if c != nil {
				c.Enter("payload")
				c.AddAt("aps", "must be an object")
				c.Leave()
			}
		case "mdm":
			f.mdm = true
		}
	})
	return f
}

func (f *facts) readAPS(aps []byte) {
	members(aps, func(name, value []byte) {
		switch string(strictjson.Unquoted(name)) {
		case "alert":
			f.aps.alert, f.visible = value, true
		case "badge":
			f.aps.badge, f.visible = value, true
		case "sound":
			f.aps.sound, f.visible = value, true
		case "content-available":
			n, ok := wholeNumber(value)
			f.background = ok && n == 1
		case "content-changed":
			f.contentChanged = string(value) == "true"
		case "event":
			f.aps.event = value
			if jsontext.Value(value).Kind() == '"' {
				f.event = Event(strictjson.Unquote(value))
			}
		case "timestamp":
			f.aps.timestamp = value
		case "content-state":
			f.aps.contentState = value
		case "attributes-type":
			f.aps.attributesType = value
		case "attributes":
			f.aps.attributes = value
		}
	})
}

// pushType derives; "" where it is not clear.
func (f *facts) pushType() PushType {
	switch {
	case f.event != "":
		return PushLiveActivity
	case f.visible:
		return PushAlert
	case f.contentChanged:
		return ""
	case f.background:
		return PushBackground
	case f.mdm:
		return PushMDM
	default:
		return ""
	}
}
