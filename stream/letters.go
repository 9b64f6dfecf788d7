package stream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors of [DeadLetters].
var (
	ErrNoLetter = errors.New("stream: there is no such dead letter")
	// ErrNotDeleted: the letter was redriven and is still in DEAD. Redriving it again
	// sends nothing twice, and deletes it.
	ErrNotDeleted = errors.New("stream: the dead letter was redriven and could not be deleted")
)

// DeadLetter is a dead letter as DEAD has it.
type DeadLetter struct {
	Sequence uint64    // place in DEAD
	StoredAt time.Time // when DEAD stored it
	App      string    // of the subject in DEAD

	Reason   string // for people; every problem at once
	Subject  string // where the message was published
	Place    uint64 // of the message in the stream that has that subject; 0: not known
	ID       string // its own, if it was redriven before
	Root     string // the job's id, or that of the one which it continues; empty: it is no job
	Campaign string

	Recipients int // that were given up; 0: not known
	Attempts   int // tries at APNs, of the recipient that had most
	Deliveries int

	First, Last time.Time // when JetStream stored the message, and when it was given up
	Expires     time.Time // when the job's time is over; zero: never, or not known
	// Cut is "<bytes> sha256:<hex>" of the whole body where it did not fit.
	Cut string

	// RedriveID is the id of the job that redriving makes. It is the same for all
	// letters that tell the same of the same message: a worker that died may have
	// stored one twice.
	RedriveID string

	Header map[string][]string // all of them
	Bytes  int                 // length of the body
	Body   []byte              // nil in a page
}

// GivenUp is when it was given up, as far as that is known.
func (l *DeadLetter) GivenUp() time.Time {
	if l.Last.IsZero() {
		return l.StoredAt
	}
	return l.Last
}

// DeadFilter says which dead letters are meant. The zero value means all.
type DeadFilter struct {
	App      string
	Reason   string // part of the reason, in any case
	Campaign string
	Job      string // its id, or that of the one which it continues
	// Given up from After on and before Before, by when DEAD stored them; zero: no
	// bound.
	After, Before time.Time
	Through       uint64 // the last place that is meant; 0: no bound
}

// IsPrefix reports whether the letters that are meant are the oldest ones of the
// app, or of all apps, without a gap.
func (f *DeadFilter) IsPrefix() bool {
	return f.Reason == "" && f.Campaign == "" && f.Job == "" && f.After.IsZero()
}

func (f *DeadFilter) means(l *DeadLetter) bool {
	return (f.Campaign == "" || l.Campaign == f.Campaign) &&
		(f.Job == "" || l.Root == f.Job || l.ID == f.Job) &&
		(f.Reason == "" || strings.Contains(strings.ToLower(l.Reason), strings.ToLower(f.Reason))) &&
		(f.After.IsZero() || !l.StoredAt.Before(f.After))
}

// isPast reports whether neither l nor any letter after it is meant.
func (f *DeadFilter) isPast(l *DeadLetter) bool {
	return f.Through != 0 && l.Sequence > f.Through || !f.Before.IsZero() && !l.StoredAt.Before(f.Before)
}

func (f *DeadFilter) subject() string { return DeadSubject(cmp.Or(f.App, "*")) }

// DeadLetters reads, redrives and deletes dead letters. It is safe for
// concurrent use, also by several processes.
type DeadLetters struct {
	s      *Streams
	stream jetstream.Stream
}

// DeadLetters opens DEAD.
func (s *Streams) DeadLetters(ctx context.Context) (*DeadLetters, error) {
	st, err := s.js.Stream(ctx, Dead)
	if err != nil {
		return nil, fmt.Errorf("ask for stream %s: %w", Dead, err)
	}
	return &DeadLetters{s: s, stream: st}, nil
}

// Last returns the place of the newest dead letter. Letters that come later have
// a greater one, also if they were redriven and come back.
func (d *DeadLetters) Last(ctx context.Context) (uint64, error) {
	info, err := d.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask for stream %s: %w", Dead, err)
	}
	return info.State.LastSeq, nil
}

const (
	// deadBatch is how many letters are asked for at once: their headers, of some
	// hundred bytes, and a few thousand where reasons are long.
	deadBatch = 256
	// deadReads is how often a page is read on after the connection was lost, or a
	// message on the way.
	deadReads = 5
	// deadPause is the wait before.
	deadPause = 500 * time.Millisecond
	// deadIdle is how long the server keeps the reader of a process that is gone.
	deadIdle = time.Minute
)

// Page returns up to limit letters of those that f means, oldest first and
// without their bodies, from place from on, and where the next page begins; 0: there
// is none. What it needs in memory does not depend on how many there are.
func (d *DeadLetters) Page(ctx context.Context, f *DeadFilter, from uint64, limit int) (page []DeadLetter, next uint64, err error) {
	return d.Search(ctx, f, from, limit, 0)
}

// Search is [DeadLetters.Page] for who has not the time to look at all: it looks at no
// more than most letters, and the page may have fewer than limit, or none, though others
// follow. most 0: no bound.
func (d *DeadLetters) Search(ctx context.Context, f *DeadFilter, from uint64, limit, most int) (page []DeadLetter, next uint64, err error) {
	if f.App != "" && !ValidName(f.App) {
		return nil, 0, fmt.Errorf("read dead letters: app %q: must be letters, digits, '-' and '_'", f.App)
	}
	r := deadReader{d: d, filter: f, next: max(from, 1), limit: limit, most: most}
	for try := 1; ; try++ {
		at := r.next
		done, err := r.read(ctx)
		switch {
		case done:
			return r.page, r.end, nil
		case ctx.Err() != nil:
			return nil, 0, fmt.Errorf("read dead letters: %w", context.Cause(ctx))
		case r.next > at: // it came further
			try = 0
		case try == deadReads:
			return nil, 0, fmt.Errorf("read dead letters: %w", cmp.Or(err, errReadStands))
		}
		select {
		case <-time.After(deadPause):
		case <-ctx.Done():
		}
	}
}

var errReadStands = errors.New("the server sends none")

// deadReader gathers one page.
type deadReader struct {
	d      *DeadLetters
	filter *DeadFilter
	next   uint64 // place that is read next
	limit  int
	most   int // letters that are looked at; 0: no bound
	looked int
	page   []DeadLetter
	end    uint64 // once done: where the next page begins
}

// read reads on from next, with a consumer of its own, and reports whether the
// page is done. It may be called again if not.
func (r *deadReader) read(ctx context.Context) (done bool, err error) {
	cfg := jetstream.ConsumerConfig{
		Description: "reads dead letters", FilterSubject: r.filter.subject(), HeadersOnly: true,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.next,
		AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true, Replicas: 1, InactiveThreshold: deadIdle,
	}
	if r.next == 1 && !r.filter.After.IsZero() {
		cfg.DeliverPolicy, cfg.OptStartSeq, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, 0, &r.filter.After
	}
	c, err := r.d.stream.CreateConsumer(ctx, cfg)
	if err != nil {
		return false, fmt.Errorf("make a reader of %s: %w", Dead, err)
	}
	info := c.CachedInfo()
	defer func() {
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = r.d.stream.DeleteConsumer(leave, info.Name) // the server does it after deadIdle
	}()
	waiting, delivered := info.NumPending, uint64(0)
	for waiting > 0 {
		batch, err := c.FetchNoWait(min(deadBatch, r.limit-len(r.page)+1))
		if err != nil {
			return false, fmt.Errorf("fetch from %s: %w", Dead, err)
		}
		got, gap := 0, false
		for msg := range batch.Messages() {
			meta, err := msg.Metadata()
			if err != nil {
				return false, fmt.Errorf("read message metadata: %w", err)
			}
			delivered++
			gap = gap || meta.Sequence.Consumer != delivered
			if done || gap {
				continue // to the end of the batch: nothing is left behind
			}
			got, waiting = got+1, meta.NumPending
			l := parseLetter(msg.Subject(), meta.Sequence.Stream, meta.Timestamp, msg.Headers(), msg.Data())
			done = r.take(&l)
		}
		switch err := batch.Error(); {
		case done:
			return true, nil
		case err != nil:
			return false, fmt.Errorf("fetch from %s: %w", Dead, err)
		case gap:
			return false, nil // one was lost on the way: read on from there
		case got > 0:
			continue
		}
		// None came: those that waited were deleted meanwhile, or the server is slow.
		if info, err = c.Info(ctx); err != nil {
			return false, fmt.Errorf("ask for the reader of %s: %w", Dead, err)
		}
		if info.NumPending > 0 {
			return false, nil
		}
		waiting = 0
	}
	return true, nil
}

// take adds a letter to the page if it is meant, and reports whether the page is
// done.
func (r *deadReader) take(l *DeadLetter) (done bool) {
	if r.filter.isPast(l) {
		return true
	}
	if r.most > 0 && r.looked == r.most {
		r.end = l.Sequence
		return true
	}
	r.looked++
	if !r.filter.means(l) {
		r.next = l.Sequence + 1
		return false
	}
	if len(r.page) == r.limit {
		r.end = l.Sequence
		return true
	}
	r.next = l.Sequence + 1
	r.page = append(r.page, *l)
	return false
}

// Letter returns a whole letter, or [ErrNoLetter].
func (d *DeadLetters) Letter(ctx context.Context, sequence uint64) (*DeadLetter, error) {
	msg, err := d.stream.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("read dead letter %d: %w", sequence, ErrNoLetter)
	}
	if err != nil {
		return nil, fmt.Errorf("read dead letter %d: %w", sequence, err)
	}
	l := parseLetter(msg.Subject, msg.Sequence, msg.Time, msg.Header, msg.Data)
	return &l, nil
}

// parseLetter reads what the headers say. What is not there, or cannot be read,
// is zero: an older version may have written the letter.
func parseLetter(subject string, sequence uint64, stored time.Time, h nats.Header, body []byte) DeadLetter {
	number := func(name string) int {
		n, _ := strconv.Atoi(h.Get(name))
		return max(n, 0)
	}
	when := func(name string) time.Time {
		t, _ := time.Parse(time.RFC3339Nano, h.Get(name))
		return t
	}
	l := DeadLetter{
		Sequence: sequence, StoredAt: stored, App: strings.TrimPrefix(subject, DeadSubject("")),
		Reason: h.Get(HeaderReason), Subject: h.Get(HeaderSubject), ID: h.Get(HeaderID), Root: h.Get(HeaderRoot), Campaign: h.Get(HeaderCampaign),
		Recipients: number(HeaderRecipients), Attempts: number(HeaderAttempts), Deliveries: number(HeaderTries),
		First: when(HeaderFirst), Last: when(HeaderLast), Expires: when(HeaderExpires),
		Cut: h.Get(HeaderCut), Header: h, Body: body, Bytes: len(body),
	}
	if place, ok := strings.CutPrefix(h.Get(jetstream.MsgIDHeader), letterMsgID); ok {
		place, _, _ = strings.Cut(place, "/")
		l.Place, _ = strconv.ParseUint(place, 10, 64)
	}
	if size := h.Get(nats.MsgSize); size != "" { // of a letter without its body
		l.Body, l.Bytes = nil, number(nats.MsgSize)
	}
	// The place in DEAD would be a simpler id, and a wrong one: it differs between two
	// letters that tell the same, and begins anew if DEAD is made anew.
	source := h.Get(jetstream.MsgIDHeader) + "\x00" + h.Get(HeaderFirst)
	if h.Get(jetstream.MsgIDHeader) == "" { // not ours
		source = fmt.Sprintf("%d\x00%d", sequence, stored.UnixNano())
	}
	sum := sha256.Sum256([]byte(subject + "\x00" + source))
	l.RedriveID = fmt.Sprintf("redrive-%x", sum[:8])
	return l
}

// Refusal returns why a letter cannot be redriven at a time, or "".
func (l *DeadLetter) Refusal(now time.Time) string {
	if _, err := splitDevicesSubject(l.Subject); err == nil {
		return "it is a device change: it would undo what was registered since, and the app's next start repeats it"
	}
	if _, err := splitCampaignsSubject(l.Subject); err == nil {
		return "it is a campaign that was to be created: correct it and create it again"
	}
	if _, _, err := splitRangesSubject(l.Subject); err == nil {
		return "it is a range of a campaign: what is left of it is sent with its campaign or not at all"
	}
	app, _, err := splitJobsSubject(l.Subject)
	switch {
	case !l.IsPost() && (err != nil || !ValidName(app)):
		return "it does not say where the message was published"
	case l.Cut != "":
		return "its body was cut: nobody has the rest"
	case !l.Expires.IsZero() && !now.Before(l.Expires):
		return "the job's time is over"
	default:
		return ""
	}
}

// Target returns the app and the lane that a letter goes back to; they may be
// such as no worker knows. A POST to a webhook has no lane.
func (l *DeadLetter) Target() (app, lane string) {
	if app, err := splitWebhooksSubject(l.Subject); err == nil {
		return app, ""
	}
	app, lane, _ = splitJobsSubject(l.Subject)
	return app, lane
}

// IsPost reports whether the letter is a POST that an app's webhook did not take.
func (l *DeadLetter) IsPost() bool {
	_, err := splitWebhooksSubject(l.Subject)
	return err == nil
}

// Redriven says what became of a letter that was redriven.
type Redriven struct {
	ID       string // of the job that continues it
	Sequence uint64 // place in JOBS
	// Again: it was redriven within the last two minutes, and is not sent again.
	Again bool
}

// Redrive publishes a whole letter to where it came from, as a job with an id of
// its own, and deletes the letter once that is stored. The notifications keep
// their apns-ids. A letter that is redriven again, by somebody else or because
// it could not be deleted ([ErrNotDeleted]), is sent once: JetStream drops the
// second within two minutes, workers do within a day of its last delivery. The
// letter stays where it is if the error is another one.
func (d *DeadLetters) Redrive(ctx context.Context, l *DeadLetter) (Redriven, error) {
	if why := l.Refusal(time.Now()); why != "" {
		return Redriven{}, fmt.Errorf("redrive dead letter %d: %s", l.Sequence, why)
	}
	if len(l.Body) != l.Bytes {
		return Redriven{}, fmt.Errorf("redrive dead letter %d: its body was not read", l.Sequence)
	}
	msg := nats.NewMsg(l.Subject)
	msg.Data = l.Body
	for name, values := range l.Header {
		if !strings.HasPrefix(name, "Nats-") && !isLetterHeader(name) {
			msg.Header[name] = values
		}
	}
	msg.Header.Set(HeaderID, l.RedriveID)
	if !l.First.IsZero() {
		msg.Header.Set(HeaderFirst, headerTime(l.First))
	}
	app, lane := l.Target()
	msg.Header.Set(jetstream.MsgIDHeader, app+"/"+lane+"/"+l.RedriveID)
	ack, err := d.s.js.PublishMsg(ctx, msg)
	if err != nil {
		return Redriven{}, fmt.Errorf("redrive dead letter %d: %w", l.Sequence, d.s.publishError(msg.Subject, err))
	}
	done := Redriven{ID: l.RedriveID, Sequence: ack.Sequence, Again: ack.Duplicate}
	if _, err := d.Delete(ctx, l.Sequence); err != nil {
		return done, fmt.Errorf("redrive dead letter %d: %w: %w", l.Sequence, ErrNotDeleted, err)
	}
	return done, nil
}

// Delete deletes a letter, and reports whether it was there.
func (d *DeadLetters) Delete(ctx context.Context, sequence uint64) (bool, error) {
	err := d.stream.DeleteMsg(ctx, sequence)
	if err == nil {
		return true, nil
	}
	// Server and cluster say in different ways that it is gone; a look is surer.
	if _, look := d.Letter(ctx, sequence); errors.Is(look, ErrNoLetter) {
		return false, nil
	}
	return false, fmt.Errorf("delete dead letter %d: %w", sequence, err)
}

// DeleteThrough deletes all letters of an app, or of all apps if it is empty, up
// to a place.
func (d *DeadLetters) DeleteThrough(ctx context.Context, app string, sequence uint64) error {
	opts := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSequence(sequence + 1)}
	if app != "" {
		if !ValidName(app) { // a wildcard would take what nobody meant
			return fmt.Errorf("delete dead letters: app %q: must be letters, digits, '-' and '_'", app)
		}
		opts = append(opts, jetstream.WithPurgeSubject(DeadSubject(app)))
	}
	if err := d.stream.Purge(ctx, opts...); err != nil {
		return fmt.Errorf("delete dead letters up to %d: %w", sequence, err)
	}
	return nil
}
