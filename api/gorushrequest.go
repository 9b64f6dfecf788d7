package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/job"
)

// The platforms of gorush.
const (
	gorushIOS = 1 + iota
	gorushAndroid
	gorushHuawei
)

// gorushNotification is one of the notifications of a request of gorush (README of
// appleboy/gorush, "Request body").
type gorushNotification struct {
	id, apnsID, topic, message, title, priority, collapseID, pushType string

	platform    int64
	tokens      []string
	environment device.Environment // unset: neither production nor development
	expiration  *int64             // Unix seconds

	alert     gorushAlert
	badge     *int64
	sound     gorushSound
	soundName string
	volume    json.RawMessage // a number; nil: none

	category, threadID, interruption string
	contentAvailable, mutableContent bool
	urlArgs                          []string

	event                               string
	contentState                        json.RawMessage
	timestamp, staleDate, dismissalDate *int64

	data                            json.RawMessage // an object
	production, development, dryRun bool

	faults  []Fault // of the whole notification
	refused []gorushRefusal
}

// gorushRefusal is a device token that cannot be sent to.
type gorushRefusal struct {
	token string // as it may be shown
	path  string // tokens[3]; empty: it is a device token, and the queue took it not
	why   string
}

type gorushAlert struct {
	title, subtitle, body, action, actionLocKey, launchImage string
	titleLocKey, locKey, summaryArg                          string
	titleLocArgs, locArgs                                    []string
	summaryArgCount                                          *int64
}

// gorushSound is text, or a dictionary.
type gorushSound struct {
	text, name string
	critical   *int64
	volume     json.RawMessage
	dictionary bool
}

func (n *gorushNotification) fault(path, format string, args ...any) {
	n.faults = append(n.faults, Fault{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (n *gorushNotification) environmentName() string {
	if n.environment == device.Sandbox {
		return "development"
	}
	return "production"
}

// member is one of an object of gorush's, which takes null for absent as its decoder
// does.
func member[T any](name, doc, schema string, read func(d *strictjson.Decoder, dst *T)) strictjson.Member[T] {
	return strictjson.Member[T]{Name: name, Doc: doc, Schema: schema, Read: func(d *strictjson.Decoder, dst *T) {
		if d.Peek() == 'n' {
			d.Value()
			return
		}
		read(d, dst)
	}}
}

func textMember[T any](name, doc string, at func(*T) *string) strictjson.Member[T] {
	return member(name, doc, `"type":"string"`, func(d *strictjson.Decoder, dst *T) { *at(dst), _ = d.Text() })
}

func textsMember[T any](name, doc string, at func(*T) *[]string) strictjson.Member[T] {
	return member(name, doc, `"type":"array","items":{"type":"string"}`, func(d *strictjson.Decoder, dst *T) {
		strictjson.ReadList(d, 0, func() {
			if s, ok := d.Text(); ok {
				*at(dst) = append(*at(dst), s)
			}
		})
	})
}

func flagMember[T any](name, doc string, at func(*T) *bool) strictjson.Member[T] {
	return member(name, doc, `"type":"boolean"`, func(d *strictjson.Decoder, dst *T) {
		v, ok := d.Value()
		switch {
		case !ok:
		case v.Kind() == 't' || v.Kind() == 'f':
			*at(dst) = v.Kind() == 't'
		default:
			d.WrongKind("a boolean", v.Kind())
		}
	})
}

func integerMember[T any](name, doc string, at func(*T) **int64) strictjson.Member[T] {
	return member(name, doc, `"type":"integer"`, func(d *strictjson.Decoder, dst *T) {
		v, ok := d.ValueOf('0', "a whole number")
		if !ok {
			return
		}
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			d.Add("must be a whole number")
			return
		}
		*at(dst) = &n
	})
}

func volumeMember[T any](at func(*T) *json.RawMessage) strictjson.Member[T] {
	return member("volume", "The sound's volume.", `"type":"number"`, func(d *strictjson.Decoder, dst *T) {
		if v, ok := d.ValueOf('0', "a number"); ok {
			*at(dst) = append(json.RawMessage(nil), v...)
		}
	})
}

func objectMember[T any](name, doc string, at func(*T) *json.RawMessage) strictjson.Member[T] {
	return member(name, doc, `"type":"object"`, func(d *strictjson.Decoder, dst *T) {
		if v, ok := d.ValueOf('{', "an object"); ok {
			*at(dst) = append(json.RawMessage(nil), v...)
		}
	})
}

// unusedMember is one that gorush reads and leaves out of what it sends to APNs.
func unusedMember(name string) strictjson.Member[gorushNotification] {
	return member(name, "Not for iOS: taken, and not used.", "", func(d *strictjson.Decoder, _ *gorushNotification) { d.Value() })
}

// gorushMembers is the table of a notification.
func gorushMembers() strictjson.Object[gorushNotification] {
	type n = gorushNotification
	list := strictjson.Object[n]{
		textMember("notif_id", "The job's id: unique, and a second one within a day is not sent.", func(n *n) *string { return &n.id }),
		textsMember("tokens", "Device tokens in hexadecimal.", func(n *n) *[]string { return &n.tokens }),
		member("to", "One more device token.", `"type":"string"`, func(d *strictjson.Decoder, n *n) {
			if s, ok := d.Text(); ok && s != "" {
				n.tokens = append(n.tokens, s)
			}
		}),
		member("platform", "1: iOS. Others are refused.", `"type":"integer"`, func(d *strictjson.Decoder, n *n) {
			v, ok := d.ValueOf('0', "1 (iOS)")
			if ok {
				n.platform, _ = strconv.ParseInt(string(v), 10, 64)
			}
		}),
		textMember("message", "Text of the alert.", func(n *n) *string { return &n.message }),
		textMember("title", "First line of the alert.", func(n *n) *string { return &n.title }),
		textMember("topic", "Finds the app: its bundle id, with the suffix of a push type if it has one.", func(n *n) *string { return &n.topic }),
		textMember("priority", "normal (5) or high (10).", func(n *n) *string { return &n.priority }),
		flagMember("content_available", "Wakes the app in the background.", func(n *n) *bool { return &n.contentAvailable }),
		flagMember("mutable_content", "Passes the notification through the app's service extension.", func(n *n) *bool { return &n.mutableContent }),
		member("sound", "A sound file's name, or an object.", `"anyOf":[{"type":"string"},{"type":"object"}]`, readGorushSound),
		textMember("name", "Name of the sound, of a critical alert.", func(n *n) *string { return &n.soundName }),
		volumeMember(func(n *n) *json.RawMessage { return &n.volume }),
		objectMember("data", "Your own members, beside aps.", func(n *n) *json.RawMessage { return &n.data }),
		integerMember("expiration", "Unix seconds; 0: one attempt.", func(n *n) **int64 { return &n.expiration }),
		textMember("apns_id", "A UUID: the job's id, where there is no notif_id. APNs gets an apns-id for each device token.", func(n *n) *string { return &n.apnsID }),
		textMember("collapse_id", "apns-collapse-id.", func(n *n) *string { return &n.collapseID }),
		textMember("push_type", "apns-push-type.", func(n *n) *string { return &n.pushType }),
		integerMember("badge", "Number on the app's icon; a negative one counts as none.", func(n *n) **int64 { return &n.badge }),
		textMember("category", "Of the actions that are shown.", func(n *n) *string { return &n.category }),
		textMember("thread-id", "Groups notifications.", func(n *n) *string { return &n.threadID }),
		textsMember("url-args", "For Safari.", func(n *n) *[]string { return &n.urlArgs }),
		member("alert", "The alert in detail.", gorushAlertMembers().Schema(), func(d *strictjson.Decoder, n *n) { gorushAlertMembers().Read(d, &n.alert) }),
		flagMember("production", "Only an app that sends to production.", func(n *n) *bool { return &n.production }),
		flagMember("development", "Only an app that sends to the sandbox.", func(n *n) *bool { return &n.development }),
		textMember("interruption_level", "passive, active, time-sensitive or critical.", func(n *n) *string { return &n.interruption }),
		objectMember("content-state", "Live Activity.", func(n *n) *json.RawMessage { return &n.contentState }),
		integerMember("timestamp", "Live Activity: Unix seconds.", func(n *n) **int64 { return &n.timestamp }),
		integerMember("stale-date", "Live Activity: Unix seconds.", func(n *n) **int64 { return &n.staleDate }),
		integerMember("dismissal-date", "Live Activity: Unix seconds.", func(n *n) **int64 { return &n.dismissalDate }),
		textMember("event", "Live Activity: update or end.", func(n *n) *string { return &n.event }),
		flagMember("dry_run", "true is refused.", func(n *n) *bool { return &n.dryRun }),
	}
	for _, name := range []string{
		"retry", // a worker decides that itself
		"image", "api_key", "collapse_key", "delay_while_idle", "time_to_live", "restricted_package_name",
		"notification", "android", "webpush", "apns", "fcm_options", "condition",
		"app_id", "app_secret", "huawei_notification", "huawei_data", "huawei_collapse_key", "huawei_ttl", "bi_tag", "fast_app_target",
	} {
		list = append(list, unusedMember(name))
	}
	return list
}

func gorushAlertMembers() strictjson.Object[gorushAlert] {
	type a = gorushAlert
	return strictjson.Object[a]{
		textMember("title", "", func(a *a) *string { return &a.title }),
		textMember("subtitle", "", func(a *a) *string { return &a.subtitle }),
		textMember("body", "", func(a *a) *string { return &a.body }),
		textMember("action", "", func(a *a) *string { return &a.action }),
		textMember("action-loc-key", "", func(a *a) *string { return &a.actionLocKey }),
		textMember("launch-image", "", func(a *a) *string { return &a.launchImage }),
		textMember("title-loc-key", "", func(a *a) *string { return &a.titleLocKey }),
		textsMember("title-loc-args", "", func(a *a) *[]string { return &a.titleLocArgs }),
		textMember("loc-key", "", func(a *a) *string { return &a.locKey }),
		textsMember("loc-args", "", func(a *a) *[]string { return &a.locArgs }),
		textMember("summary-arg", "", func(a *a) *string { return &a.summaryArg }),
		integerMember("summary-arg-count", "", func(a *a) **int64 { return &a.summaryArgCount }),
	}
}

func readGorushSound(d *strictjson.Decoder, n *gorushNotification) {
	switch d.Peek() {
	case '"':
		n.sound.text, _ = d.Text()
	case '{':
		n.sound.dictionary = true
		strictjson.Object[gorushSound]{
			textMember("name", "", func(s *gorushSound) *string { return &s.name }),
			integerMember("critical", "", func(s *gorushSound) **int64 { return &s.critical }),
			volumeMember(func(s *gorushSound) *json.RawMessage { return &s.volume }),
		}.Read(d, &n.sound)
	default:
		if v, ok := d.Value(); ok {
			d.WrongKind("a string or an object", v.Kind())
		}
	}
}

// gorushRequestSchema has the keywords of a request's JSON Schema.
func gorushRequestSchema() string {
	return `"type":"object","required":["notifications"],"additionalProperties":false,"properties":{"notifications":{"type":"array","minItems":1,"items":{` +
		gorushMembers().Schema() + `}}}`
}

// readPush reads a request of at most so many notifications. What is wrong with one notification is that one's.
func (a *API) readPush(body []byte, most int) (list []gorushNotification, p *Problem) {
	d := strictjson.New(body)
	type request struct {
		total int
		given bool
	}
	var req request
	strictjson.Object[request]{member("notifications", "", "", func(d *strictjson.Decoder, r *request) {
		r.given = true
		r.total, _ = strictjson.ReadList(d, most, func() {
			var n gorushNotification
			problems, _ := d.Apart(func() { a.gorush.Read(d, &n) })
			for _, p := range problems {
				n.faults = append(n.faults, Fault{Path: relative(p.Path), Message: p.Message})
			}
			list = append(list, n)
		})
	})}.Read(d, &req)
	d.End()
	if p := malformed(d); p != nil {
		return nil, p
	}
	switch problems, _ := d.List(); {
	case len(problems) > 0:
		return nil, gorushProblem("%s", problems[0])
	case !req.given:
		return nil, gorushProblem("Missing notifications field.")
	case req.total == 0:
		return nil, gorushProblem("Notifications field is empty.")
	case req.total > most:
		return nil, gorushProblem("Number of notifications(%d) over limit(%d)", req.total, most)
	}
	for i := range list {
		list[i].check()
	}
	return list, nil
}

// relative is a path without the notification that it is in.
func relative(path string) string {
	_, rest, _ := strings.Cut(path, "]")
	return strings.TrimPrefix(rest, ".")
}

// check finds what concerns one member, or several of gorush's own.
func (n *gorushNotification) check() {
	if n.platform != gorushIOS {
		n.fault("platform", "must be 1 (iOS): pushfleet sends to APNs alone")
		return // the rest follows from it
	}
	if len(n.tokens) == 0 {
		n.fault("tokens", "must not be empty")
	}
	if n.dryRun {
		n.fault("dry_run", "must be false: pushfleet would send")
	}
	switch {
	case n.production && n.development:
		n.fault("development", "must not stand beside production")
	case n.production:
		n.environment = device.Production
	case n.development:
		n.environment = device.Sandbox
	}
	switch n.priority {
	case "", "normal", "high":
	default:
		n.fault("priority", "must be normal or high")
	}
	if n.apnsID != "" {
		if _, err := uuid.Parse(n.apnsID); err != nil {
			n.fault("apns_id", "must be a UUID")
		} else if n.id != "" {
			n.fault("apns_id", "must not stand beside notif_id: both name the job, and APNs gets an apns-id for each device token")
		}
	}
	if e := n.expiration; e != nil && (*e < 0 || *e > maxGorushExpiration) {
		n.fault("expiration", "must be Unix seconds, or 0 for one attempt")
	}
}

// maxGorushExpiration is in the year 5138. choice: what is above was meant to be
// milliseconds.
const maxGorushExpiration = 99_999_999_999

// job is the notification as a job to all device tokens that are some, however many.
// push is what its topic asks for, or "".
func (n *gorushNotification) job(push job.PushType, bundleID string) *job.Job {
	j := &job.Job{
		ID: cmp.Or(n.id, strings.ToLower(n.apnsID)), PushType: cmp.Or(job.PushType(n.pushType), push), CollapseID: n.collapseID,
		Payload: n.payload(),
	}
	switch n.priority {
	case "normal":
		j.Priority = 5
	case "high":
		j.Priority = 10
	}
	switch e := n.expiration; {
	case e == nil:
	case *e == 0:
		j.HasTTL = true
	default:
		j.ExpiresAt = time.Unix(*e, 0).UTC()
	}
	for i, text := range n.tokens {
		tok, err := device.ParseToken(text)
		if err != nil {
			n.refused = append(n.refused, gorushRefusal{path: "tokens[" + itoa(i) + "]", why: err.Error()})
			continue
		}
		j.To.Tokens = append(j.To.Tokens, tok)
	}
	// Its recipients are looked at above, and may be too many for one job.
	one := *j
	one.To.Tokens = []device.Token{device.TokenFromRaw("one")}
	if err := one.Validate(); err != nil {
		var f faults
		f.addJob(err, "")
		for _, fault := range f.list {
			n.fault(gorushPath(fault.Path, n.id == ""), "%s", fault.Message)
		}
		return j
	}
	if want := j.Topic(bundleID); n.topic != "" && n.topic != want && n.topic != bundleID {
		n.fault("topic", "must be %s for %s", want, j.EffectivePushType())
	}
	return j
}

// gorushPath names what a job calls path.
func gorushPath(path string, nameless bool) string {
	switch {
	case path == "id" && nameless:
		return "apns_id"
	case path == "id":
		return "notif_id"
	case path == "expires_at":
		return "expiration"
	}
	path = strings.TrimPrefix(strings.TrimPrefix(path, "payload"), ".aps.")
	if path == "content-available" {
		return "content_available"
	}
	return path
}

// parts divides a job with more recipients than one may have. Those after the first
// have its id with a number.
func (n *gorushNotification) parts(j *job.Job) []*job.Job {
	var parts []*job.Job
	all := j.To.Tokens
	for len(all) > 0 {
		part := *j
		part.To.Tokens = all[:min(job.MaxRecipients, len(all))]
		all = all[len(part.To.Tokens):]
		if len(parts) > 0 && j.ID != "" {
			part.ID += "." + itoa(len(parts)+1)
		}
		if len(part.ID) > job.MaxIDBytes {
			n.fault("notif_id", "must leave room for a number: there are more than %d tokens", job.MaxRecipients)
			return nil
		}
		parts = append(parts, &part)
	}
	return parts
}

// payload is what gorush would send (observed: appleboy/gorush, and sideshow/apns2 that
// it uses), but for one thing: beside an alert in detail it loses the message.
func (n *gorushNotification) payload() json.RawMessage {
	aps := object{}
	aps.raw("alert", n.alertJSON())
	if n.badge != nil && *n.badge >= 0 && *n.badge <= math.MaxInt32 {
		aps.integer("badge", n.badge)
	}
	aps.raw("sound", n.soundJSON())
	aps.text("thread-id", n.threadID)
	aps.text("category", n.category)
	aps.one("content-available", n.contentAvailable)
	aps.one("mutable-content", n.mutableContent)
	aps.text("interruption-level", n.interruption)
	aps.texts("url-args", n.urlArgs)
	aps.text("event", n.event)
	aps.positive("timestamp", n.timestamp)
	aps.raw("content-state", n.contentState)
	aps.positive("stale-date", n.staleDate)
	aps.positive("dismissal-date", n.dismissalDate)
	whole := object{}
	whole.raw("aps", aps.end("{}"))
	if inner := strings.TrimSpace(string(n.data)); len(inner) > 2 {
		if inner = strings.TrimSpace(inner[1 : len(inner)-1]); inner != "" {
			whole.b = append(append(whole.b, ','), inner...)
		}
	}
	return whole.end("")
}

// alertJSON is a string where there is nothing but a message, as gorush has it: apps
// may look for that.
func (n *gorushNotification) alertJSON() json.RawMessage {
	al := &n.alert
	title, body := cmp.Or(al.title, n.title), cmp.Or(al.body, n.message)
	o := object{}
	o.text("title", title)
	o.text("subtitle", al.subtitle)
	o.text("body", body)
	o.text("title-loc-key", al.titleLocKey)
	o.texts("title-loc-args", al.titleLocArgs)
	o.text("loc-key", al.locKey)
	o.texts("loc-args", al.locArgs)
	o.text("action", al.action)
	o.text("action-loc-key", al.actionLocKey)
	o.text("launch-image", al.launchImage)
	o.text("summary-arg", al.summaryArg)
	o.positive("summary-arg-count", al.summaryArgCount)
	if al.body == "" && o.members == 1 && n.message != "" {
		return strictjson.AppendText(nil, n.message)
	}
	return o.end("")
}

// soundJSON: a name or a volume beside sound makes one of a critical alert, with
// defaults.
func (n *gorushNotification) soundJSON() json.RawMessage {
	one := int64(1)
	o := object{}
	switch s := &n.sound; {
	case n.soundName != "" || n.volume != nil:
		o.integer("critical", &one)
		o.text("name", cmp.Or(n.soundName, "default"))
		o.raw("volume", n.volume)
		if n.volume == nil {
			o.raw("volume", json.RawMessage("1"))
		}
	case s.dictionary:
		o.positive("critical", s.critical)
		o.text("name", s.name)
		o.raw("volume", s.volume)
	case s.text != "":
		return strictjson.AppendText(nil, s.text)
	}
	return o.end("")
}

// object is a JSON object in the making; what is empty is left out.
type object struct {
	b       []byte
	members int
}

func (o *object) raw(name string, value []byte) {
	if len(value) == 0 {
		return
	}
	sep := byte(',')
	if o.members == 0 {
		sep = '{'
	}
	o.b = append(strictjson.AppendText(append(o.b, sep), name), ':')
	o.b = append(o.b, value...)
	o.members++
}

func (o *object) text(name, value string) {
	if value != "" {
		o.raw(name, strictjson.AppendText(nil, value))
	}
}

func (o *object) texts(name string, values []string) {
	if len(values) == 0 {
		return
	}
	list := []byte{'['}
	for i, v := range values {
		if i > 0 {
			list = append(list, ',')
		}
		list = strictjson.AppendText(list, v)
	}
	o.raw(name, append(list, ']'))
}

func (o *object) integer(name string, value *int64) {
	if value != nil {
		o.raw(name, strconv.AppendInt(nil, *value, 10))
	}
}

func (o *object) positive(name string, value *int64) {
	if value != nil && *value > 0 {
		o.integer(name, value)
	}
}

func (o *object) one(name string, is bool) {
	if is {
		o.raw(name, []byte{'1'})
	}
}

// end returns the object, or empty where it has no member.
func (o *object) end(empty string) json.RawMessage {
	if o.members == 0 {
		return json.RawMessage(empty)
	}
	return append(o.b, '}')
}

// tokenFaults are the faults of its device tokens.
func (n *gorushNotification) tokenFaults() (list []Fault) {
	for _, r := range n.refused {
		list = append(list, Fault{Path: r.path, Message: r.why})
	}
	return list
}

// appendLogs appends an entry for each device token that is not sent to.
func (n *gorushNotification) appendLogs(logs []GorushLog) []GorushLog {
	message := n.message
	if len(message) > maxGorushMessage {
		message = strings.ToValidUTF8(message[:maxGorushMessage], "")
	}
	entry := GorushLog{ID: n.id, Type: "failed-push", Platform: gorushPlatform(n.platform), Message: message}
	add := func(token, why string) {
		if len(logs) < maxGorushLogs {
			entry.Token, entry.Error = token, why
			logs = append(logs, entry)
		}
	}
	if len(n.faults) == 0 {
		for _, r := range n.refused {
			add(r.token, strings.TrimPrefix(r.path+": "+r.why, ": "))
		}
		return logs
	}
	var why []string
	for _, f := range n.faults {
		why = append(why, strings.TrimPrefix(f.Path+": "+f.Message, ": "))
	}
	for _, text := range n.tokens {
		shown := ""
		if tok, err := device.ParseToken(text); err == nil {
			shown = tok.String()
		}
		add(shown, strings.Join(why, "; "))
	}
	if len(n.tokens) == 0 {
		add("", strings.Join(why, "; "))
	}
	return logs
}

func gorushPlatform(n int64) string {
	switch n {
	case gorushIOS:
		return "ios"
	case gorushAndroid:
		return "android"
	case gorushHuawei:
		return "huawei"
	}
	return ""
}
