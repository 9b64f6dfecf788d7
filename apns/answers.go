package apns

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// answerReader reads the bodies of rejections. It knows the documented reasons,
// so that each of them is one string however often it comes. It is safe for
// concurrent use.
type answerReader struct{ reasons map[string]Reason }

func newAnswerReader() *answerReader {
	a := &answerReader{make(map[string]Reason)}
	for _, r := range Reasons() {
		a.reasons[string(r)] = r
	}
	return a
}

// read returns what a body says: reason, and timestamp in milliseconds since the
// epoch or 0. What cannot be read is an unknown reason: the status tells the
// class.
func (a *answerReader) read(body []byte) (Reason, int64) {
	if reason, timestamp, ok := a.readPlain(body); ok {
		return reason, timestamp
	}
	var v struct {
		Reason    Reason `json:"reason"`
		Timestamp int64  `json:"timestamp"`
	}
	if json.Unmarshal(body, &v) != nil {
		return "", 0
	}
	return v.Reason, v.Timestamp
}

// readPlain reads the two forms that APNs sends, {"reason":"…"} and
// {"reason":"…","timestamp":…}, without allocation: there may be one such answer
// for every notification of a campaign.
func (a *answerReader) readPlain(body []byte) (Reason, int64, bool) {
	rest, ok := bytes.CutPrefix(body, []byte(`{"reason":"`))
	if !ok {
		return "", 0, false
	}
	name, rest, ok := bytes.Cut(rest, []byte(`"`))
	if !ok {
		return "", 0, false
	}
	reason, ok := a.reasons[string(name)]
	if !ok {
		return "", 0, false
	}
	if string(rest) == "}" {
		return reason, 0, true
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"timestamp":`)); !ok {
		return "", 0, false
	}
	if rest, ok = bytes.CutSuffix(rest, []byte("}")); !ok {
		return "", 0, false
	}
	timestamp, err := strconv.ParseInt(string(rest), 10, 64)
	return reason, timestamp, err == nil
}
