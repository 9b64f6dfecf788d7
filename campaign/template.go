package campaign

import (
	"errors"
	"fmt"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/job"
)

// ErrTooLarge is what [Plan.Payload] returns where what is rendered for a recipient
// exceeds what APNs takes.
var ErrTooLarge = errors.New("campaign: payload is larger than APNs takes")

// MissingError is the error of [Plan.Payload] where a recipient has no value for a
// variable that has no default.
type MissingError struct{ Variable string }

// Error returns the reason under which the recipient is skipped.
func (e *MissingError) Error() string { return reasonNoValue + e.Variable }

// template is a payload with its placeholders: literal JSON, a value, literal JSON
// and so on, and a tail.
type template struct {
	slots   []slot
	tail    []byte
	literal int // bytes of all literals
}

// slot is a placeholder, and the JSON before it.
type slot struct {
	before []byte
	variable
	fallback []byte        // escaped; what stands for an empty value
	missing  *MissingError // what to say where there is neither; nil: fallback is taken
}

// newTemplate renders a job whose placeholders are known to be good.
func newTemplate(j *job.Job, vars variables) (*template, error) {
	payload, err := j.RenderPayload()
	if err != nil {
		return nil, fmt.Errorf("compile template: %w", err)
	}
	var t template
	var pending []byte // literal JSON since the last placeholder
	for i := 0; i < len(payload); {
		if payload[i] != '"' {
			pending = append(pending, payload[i])
			i++
			continue
		}
		end := strictjson.StringEnd(payload, i)
		quoted := payload[i:end]
		i = end
		list, problem := pieces(strictjson.Unquote(quoted))
		if problem != "" {
			return nil, fmt.Errorf("compile template: a text %s", problem)
		}
		if len(list) == 1 {
			pending = append(pending, quoted...) // as it was written
			continue
		}
		pending = append(pending, '"')
		for _, p := range list {
			pending = appendEscaped(pending, p.literal)
			if !p.placeholder {
				continue
			}
			v, problem := vars.find(p.name)
			if problem != "" {
				return nil, fmt.Errorf("compile template: %s", problem)
			}
			s := slot{before: pending, variable: v, fallback: appendEscaped(nil, p.fallback)}
			if !p.hasFallback {
				s.missing = &MissingError{Variable: v.name}
			}
			t.slots, t.literal, pending = append(t.slots, s), t.literal+len(pending), nil
		}
		pending = append(pending, '"')
	}
	t.tail = pending
	t.literal += len(pending)
	return &t, nil
}

// shortest returns how many bytes it renders to at least: with defaults, and
// nothing where there is none.
func (t *template) shortest() int {
	n := t.literal
	for i := range t.slots {
		n += len(t.slots[i].fallback)
	}
	return n
}

// append appends what it renders to for a recipient.
func (t *template) append(dst []byte, d *device.Device, vars map[string]string) ([]byte, error) {
	for i := range t.slots {
		s := &t.slots[i]
		dst = append(dst, s.before...)
		if value := s.value(d, vars); value != "" {
			dst = appendEscaped(dst, value)
		} else if s.missing != nil {
			return nil, s.missing
		} else {
			dst = append(dst, s.fallback...)
		}
	}
	return append(dst, t.tail...), nil
}

// appendEscaped appends s as it stands in a JSON string. Bytes that are not UTF-8
// become U+FFFD.
func appendEscaped(dst []byte, s string) []byte {
	start := len(dst)
	dst = strictjson.AppendText(dst, s)
	n := copy(dst[start:], dst[start+1:len(dst)-1])
	return dst[:start+n]
}
