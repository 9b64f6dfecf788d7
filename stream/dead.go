package stream

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxReasonBytes bounds a dead letter's reason: with the other headers it stays
// well below what is kept free for them.
const maxReasonBytes = 2048

// letterMsgID begins the Nats-Msg-Id of a dead letter; what follows is the place of the
// message that it was, and a hash.
const letterMsgID = "dead/"

// Letter is what is given up, and why.
type Letter struct {
	Reason string // for people; every problem at once
	Root   string // the job's id, or that of the one which it continues; empty if it could not be read
	// Body replaces the message's own body where only some of its recipients are
	// given up; nil keeps the original bytes.
	Body []byte
	// Recipients is how many are given up, and Attempts how many tries at APNs the
	// one of them had that was tried most; 0: not known, or none.
	Recipients, Attempts int
	Expires              time.Time // when the job's time is over; zero: never, or not known
	Last                 time.Time // when it was given up
}

// Bury stores a message as a dead letter of its app. The body stays what it
// was, and everything else goes to headers; a body that does not fit any more is
// cut, and Push-Cut says so. Burying a message twice stores it once within the
// duplicate window.
func (s *Streams) Bury(ctx context.Context, m *Message, letter Letter) error {
	dead := nats.NewMsg(DeadSubject(m.App))
	dead.Data = m.Data
	for name, values := range m.msg.Headers() {
		if !strings.HasPrefix(name, "Nats-") && !isLetterHeader(name) {
			dead.Header[name] = values
		}
	}
	dead.Header.Set(HeaderReason, headerText(letter.Reason))
	dead.Header.Set(HeaderTries, strconv.FormatUint(m.Deliveries, 10))
	dead.Header.Set(HeaderFirst, headerTime(m.FirstStored()))
	dead.Header.Set(HeaderLast, headerTime(letter.Last))
	dead.Header.Set(HeaderSubject, m.Subject)
	if letter.Root != "" {
		dead.Header.Set(HeaderRoot, letter.Root)
	}
	if letter.Recipients > 0 {
		dead.Header.Set(HeaderRecipients, strconv.Itoa(letter.Recipients))
	}
	if letter.Attempts > 0 {
		dead.Header.Set(HeaderAttempts, strconv.Itoa(letter.Attempts))
	}
	if !letter.Expires.IsZero() {
		dead.Header.Set(HeaderExpires, headerTime(letter.Expires))
	}
	if letter.Body != nil {
		dead.Data = letter.Body
	}
	// The body is part of it: a job may be given up for two reasons, part by part. So
	// is the subject: places in JOBS and in DEVICES are numbered alike.
	sum := sha256.Sum256(append([]byte(letter.Reason+"\x00"+m.Subject+"\x00"), dead.Data...))
	dead.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%s%d/%x", letterMsgID, m.Sequence, sum[:12]))
	if room := int(s.nc.MaxPayload()) - headerBytes(dead) - cutHeaderBytes; len(dead.Data) > room {
		dead.Header.Set(HeaderCut, fmt.Sprintf("%d sha256:%x", len(dead.Data), sha256.Sum256(dead.Data)))
		dead.Data = dead.Data[:max(0, room)]
	}
	if _, err := s.js.PublishMsg(ctx, dead); err != nil {
		return s.publishError(dead.Subject, err)
	}
	return nil
}

// cutHeaderBytes is the room for Push-Cut: a name, a length and a hash.
const cutHeaderBytes = 128

// headerBytes is what nats.go adds to the body for the message's headers.
func headerBytes(msg *nats.Msg) int {
	return msg.Size() - len(msg.Data) - len(msg.Subject) - len(msg.Reply)
}

// isLetterHeader reports whether a header says something about a dead letter, and
// nothing about the message that it was or will be.
func isLetterHeader(name string) bool {
	switch name {
	case HeaderReason, HeaderTries, HeaderAttempts, HeaderRecipients, HeaderFirst, HeaderLast, HeaderExpires, HeaderSubject, HeaderCut:
		return true
	default:
		return false
	}
}

func headerTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// headerText makes text fit for a header: one line, bounded.
func headerText(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxReasonBytes {
		text = strings.ToValidUTF8(text[:maxReasonBytes-len("…")], "") + "…"
	}
	return text
}
