package stream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/job"
)

// Identity returns the own id of the job in the message, and its root. They differ in a
// redriven job: its body is that of the job which it continues, with the id in it.
func (m *Message) Identity(j *job.Job) (id, root string, err error) {
	return identity(m.headers, j, m.Sequence)
}

func identity(h nats.Header, j *job.Job, sequence uint64) (id, root string, err error) {
	for _, name := range [...]string{HeaderID, HeaderRoot} {
		if v := h.Get(name); len(v) > job.MaxIDBytes || !utf8.ValidString(v) {
			return "", "", fmt.Errorf("header %s: must be at most %d bytes of UTF-8", name, job.MaxIDBytes)
		}
	}
	id = cmp.Or(h.Get(HeaderID), j.ID, SequenceID(sequence))
	root = cmp.Or(h.Get(HeaderRoot), j.ID, id)
	return id, root, nil
}

// StoredJob is a job that is in JOBS.
type StoredJob struct {
	ID, Root string // see [Message.Identity]
	Job      *job.Job
	Sequence uint64
	StoredAt time.Time
}

// StoredJob returns the job at a place in JOBS. ok is false where there is none of the
// app and lane: it was acknowledged, is somebody else's, or cannot be read.
func (s *Streams) StoredJob(ctx context.Context, app string, lane job.Lane, sequence uint64) (st StoredJob, ok bool, err error) {
	msg, ok, err := s.stored(ctx, Jobs, sequence)
	if err != nil || !ok || msg.Subject != JobsSubject(app, lane) {
		return StoredJob{}, false, err
	}
	st = StoredJob{Sequence: sequence, StoredAt: msg.Time}
	if st.Job, err = job.Parse(msg.Data); err != nil {
		return StoredJob{}, false, nil //nolint:nilerr // a worker buries it, and says why
	}
	if st.ID, st.Root, err = identity(msg.Header, st.Job, sequence); err != nil {
		return StoredJob{}, false, nil //nolint:nilerr // as above
	}
	return st, true, nil
}

// StoredOutcomes returns the message at a place in OUTCOMES; ok is false where there
// is none any more, or one that cannot be read.
func (s *Streams) StoredOutcomes(ctx context.Context, sequence uint64) (o *job.Outcomes, ok bool, err error) {
	msg, ok, err := s.stored(ctx, Outcomes, sequence)
	if err != nil || !ok {
		return nil, false, err
	}
	if o, err = job.ParseOutcomes(msg.Data); err != nil {
		return nil, false, nil //nolint:nilerr // of a newer version, or somebody else's
	}
	return o, true, nil
}

// stored reads one message by its place. Any replica may answer; what that one does
// not have is asked of the leader, because it may be a moment behind.
func (s *Streams) stored(ctx context.Context, name string, sequence uint64) (_ *jetstream.RawStreamMsg, ok bool, err error) {
	st := s.byName[name]
	if st == nil {
		if st, err = s.js.Stream(ctx, name); err != nil {
			return nil, false, fmt.Errorf("open stream %s: %w", name, err)
		}
	}
	msg, err := st.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		msg, err = s.storedAtLeader(ctx, name, sequence)
	}
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("read message %d of %s: %w", sequence, name, err)
	}
	return msg, true, nil
}

// storedAtLeader reads one message by its place, from the stream's leader; of a stream
// that allows direct reads the client never asks it.
func (s *Streams) storedAtLeader(ctx context.Context, name string, sequence uint64) (*jetstream.RawStreamMsg, error) {
	reply, err := s.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+name, fmt.Appendf(nil, `{"seq":%d}`, sequence))
	if err != nil {
		return nil, err //nolint:wrapcheck // stored names the message
	}
	var r struct {
		Message *struct {
			Subject string    `json:"subject"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	switch err := json.Unmarshal(reply.Data, &r); {
	case err != nil:
		return nil, err //nolint:wrapcheck // as above
	case r.Error != nil && r.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, jetstream.ErrMsgNotFound
	case r.Error != nil:
		return nil, r.Error
	case r.Message == nil:
		return nil, jetstream.ErrInvalidJetStreamResponse
	}
	msg := &jetstream.RawStreamMsg{Subject: r.Message.Subject, Sequence: sequence, Data: r.Message.Data, Time: r.Message.Time}
	if len(r.Message.Header) > 0 {
		if msg.Header, err = nats.DecodeHeadersMsg(r.Message.Header); err != nil {
			return nil, err //nolint:wrapcheck // as above
		}
	}
	return msg, nil
}
