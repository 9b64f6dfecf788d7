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

// Letter is what is given up, and why.
type Letter struct {
	Reason string // for people; every problem at once
	Root   string // the job's id; empty if it could not be read
	// Body replaces the message's own body where only some of its recipients are
	// given up; nil keeps the original bytes.
	Body []byte
	Last time.Time
}

// Bury stores a message as a dead letter of its app. The body stays what it
// was, and everything else goes to headers; a body that does not fit any more is
// cut, and Push-Cut says so. Burying a message twice stores it once within the
// duplicate window.
func (s *Streams) Bury(ctx context.Context, m *Message, letter Letter) error {
	dead := nats.NewMsg(DeadSubject(m.App))
	dead.Data = m.Data
	for name, values := range m.msg.Headers() {
		if !strings.HasPrefix(name, "Nats-") {
			dead.Header[name] = values
		}
	}
	dead.Header.Set(HeaderReason, headerText(letter.Reason))
	dead.Header.Set(HeaderTries, strconv.FormatUint(m.Deliveries, 10))
	dead.Header.Set(HeaderFirst, m.StoredAt.UTC().Format(time.RFC3339Nano))
	dead.Header.Set(HeaderLast, letter.Last.UTC().Format(time.RFC3339Nano))
	dead.Header.Set(HeaderSubject, m.Subject)
	if letter.Root != "" {
		dead.Header.Set(HeaderRoot, letter.Root)
	}
	if letter.Body != nil {
		dead.Data = letter.Body
	}
	// The body is part of it: a job may be given up for two reasons, part by part.
	sum := sha256.Sum256(append([]byte(letter.Reason+"\x00"), dead.Data...))
	dead.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("dead/%d/%x", m.Sequence, sum[:12]))
	if room := int(s.nc.MaxPayload()) - headerBytes(dead) - cutHeaderBytes; len(dead.Data) > room {
		dead.Header.Set(HeaderCut, fmt.Sprintf("%d sha256:%x", len(dead.Data), sha256.Sum256(dead.Data)))
		dead.Data = dead.Data[:max(0, room)]
	}
	if _, err := s.js.PublishMsg(ctx, dead); err != nil {
		return publishError(dead.Subject, err)
	}
	return nil
}

// cutHeaderBytes is the room for Push-Cut: a name, a length and a hash.
const cutHeaderBytes = 128

// headerBytes is what nats.go adds to the body for the message's headers.
func headerBytes(msg *nats.Msg) int {
	return msg.Size() - len(msg.Data) - len(msg.Subject) - len(msg.Reply)
}

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
