package job

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// RenderPayload returns the JSON for APNs, exactly: `{"aps":{…}, …data}` with the
// members of aps in the order of [Notification]'s wire format and those of data as
// they were given, or Payload without its white space. The same job renders to
// the same bytes. An error means that there
// is nothing to render, or that data or payload is not an object ([*Invalid]).
// Limits are for [Job.Validate].
func (j *Job) RenderPayload() ([]byte, error) {
	if err := j.raws(); err != nil {
		return nil, fmt.Errorf("render payload: %w", err)
	}
	if j.Notification == nil {
		if len(j.Payload) == 0 {
			return nil, errors.New("render payload: the job has neither notification nor payload")
		}
		if isCompact(j.Payload) {
			return bytes.Clone(j.Payload), nil
		}
		compacted, _ := compactObject(j.Payload)
		return compacted, nil
	}
	return j.appendPayload(make([]byte, 0, 512+len(j.Data))), nil
}

// raws checks that what is passed on as it is can be.
func (j *Job) raws() error {
	var c strictjson.Problems
	check := func(name string, raw []byte) {
		if len(raw) == 0 {
			return
		}
		if _, problem := compactObject(raw); problem != "" {
			c.AddAt(name, "%s", problem)
		}
	}
	check("data", j.Data)
	check("payload", j.Payload)
	if n := j.Notification; n != nil {
		c.Enter("notification")
		check("content_state", n.ContentState)
		check("attributes", n.Attributes)
		c.Leave()
	}
	return invalid(&c)
}

// appendPayload renders a notification and data that are known to be good.
func (j *Job) appendPayload(dst []byte) []byte {
	n := j.Notification
	dst = append(dst, `{"aps":{`...)
	start := len(dst)
	present := notificationObject.present(n)
	inAlert := apsAlert
	if n.Event != "" {
		inAlert |= apsSound
	}
	dst = n.appendAlert(dst, present&inAlert)
	for m := present &^ inAlert; m != 0; m &= m - 1 {
		dst = notificationObject.lowest(m).appendAPS(comma(dst, start), n)
	}
	dst = append(dst, '}')
	data := []byte(j.Data)
	if len(data) > 0 && !isCompact(data) {
		data, _ = compactObject(data)
	}
	if len(data) > len("{}") {
		dst = append(append(dst, ','), data[1:len(data)-1]...)
	}
	return append(dst, '}')
}

// appendAlert appends the alert dictionary with the present fields, if there are any.
//
// That of a Live Activity is another one: localized texts are dictionaries in the
// place of title and body, and the sound is inside (Apple, Starting and updating
// Live Activities with ActivityKit push notifications).
func (n *Notification) appendAlert(dst []byte, present uint64) []byte {
	if present == 0 {
		return dst
	}
	dst = append(dst, `"alert":{`...)
	start := len(dst)
	for m := present; m != 0; m &= m - 1 {
		f := notificationObject.lowest(m)
		switch {
		case n.Event == "":
			dst = f.appendAPS(comma(dst, start), n)
		case f.name == "title_loc_key":
			dst = appendLocalized(append(comma(dst, start), `"title":`...), n.TitleLocKey, n.TitleLocArgs)
		case f.name == "loc_key":
			dst = appendLocalized(append(comma(dst, start), `"body":`...), n.LocKey, n.LocArgs)
		case f.name == "title_loc_args", f.name == "loc_args":
		default:
			dst = f.appendAPS(comma(dst, start), n)
		}
	}
	return append(dst, '}')
}

// apsAlert and apsSound are the fields of the alert dictionary, and the sound, as
// bits of notificationObject.
var (
	apsAlert = notificationObject.mask(strings.Fields(alertFields)...)
	apsSound = notificationObject.mask("sound")
)

func appendLocalized(dst []byte, key string, args []string) []byte {
	dst = appendString(append(dst, `{"loc-key":`...), key)
	if len(args) > 0 {
		dst = appendStrings(append(dst, `,"loc-args":`...), args)
	}
	return append(dst, '}')
}

// appendAPS appends the member as APNs wants it.
func (f *field[T]) appendAPS(dst []byte, t *T) []byte {
	dst = append(dst, f.apsKey...)
	if f.aps != nil {
		return f.aps(dst, t)
	}
	return f.encode(dst, t)
}

// comma appends one if something was appended since start.
func comma(dst []byte, start int) []byte {
	if len(dst) > start {
		return append(dst, ',')
	}
	return dst
}

// isCompact reports whether valid JSON has no white space outside its strings.
func isCompact(b []byte) bool {
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			i = strictjson.StringEnd(b, i) - 1
		case isSpace(b[i]):
			return false
		}
	}
	return true
}
