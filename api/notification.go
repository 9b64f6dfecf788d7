package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// Jobs is where it is kept what is known of jobs, and of all of an app's; see [store.Store].
type Jobs interface {
	JobStatus(ctx context.Context, k store.JobKey) (store.JobStatus, error)
	AppCounts(ctx context.Context) (map[string]store.Counts, error)
}

// maxRecipients is how many recipients an answer lists. choice: ten times those that a
// job can name; only a job to users with very many devices has more.
const maxRecipients = 10_000

func utoa(n uint64) string { return strconv.FormatUint(n, 10) }

// asked is a question about a job.
type asked struct {
	key      store.JobKey
	sequence uint64 // its place in JOBS; 0: not said
}

func (c *call) asked() (asked, *Problem) {
	var f faults
	query := c.r.URL.Query()
	q := asked{key: store.JobKey{App: c.appName, Lane: readLane(query, &f), ID: c.r.PathValue("id")}}
	if id := q.key.ID; len(id) > job.MaxIDBytes {
		f.add("{id}", "must be at most %d bytes, got %d", job.MaxIDBytes, len(id))
	} else if !utf8.ValidString(id) {
		f.add("{id}", "must be UTF-8")
	}
	var err error
	if text := query.Get("sequence"); text != "" {
		if q.sequence, err = strconv.ParseUint(text, 10, 63); err != nil || q.sequence == 0 {
			f.add("{sequence}", "must be the place that the job was stored at")
		}
	} else if digits, ok := strings.CutPrefix(q.key.ID, "seq-"); ok {
		q.sequence, _ = strconv.ParseUint(digits, 10, 63) // 0: it is some other id
	}
	if f.any() {
		return q, invalid(&f)
	}
	return q, nil
}

func (a *API) getNotification(c *call) (int, any, *Problem) {
	q, p := c.asked()
	if p != nil {
		return 0, nil, p
	}
	v, err := a.look(c.ctx, q)
	if err != nil {
		return 0, nil, statusUnavailable(err)
	}
	if !v.known() {
		return 0, nil, problemf(http.StatusNotFound, codeUnknownNotification,
			"nothing is known of a job with this id in the lane %s: none was handed in; or it still waits in the queue, where it is found only "+
				"by ?sequence=, as status_url has it; or it is so long done that what became of it is not kept any more", q.key.Lane)
	}
	n, err := a.notification(c.ctx, q, &v)
	if err != nil {
		return 0, nil, statusUnavailable(err)
	}
	return http.StatusOK, n, nil
}

func statusUnavailable(cause error) *Problem {
	p := problemf(http.StatusServiceUnavailable, codeUnavailable, "what became of the job cannot be read now: repeat the request later")
	p.retryAfter, p.cause = retryWhenDown, cause
	return p
}

// view is what Redis and JOBS have of a job.
type view struct {
	status  store.JobStatus
	message stream.StoredJob
	waits   bool // message is there
}

// known reports whether anything is known of the job.
func (v *view) known() bool {
	st := &v.status
	return v.waits || st.Message != 0 || st.Complete || len(st.Counts) > 0 || len(st.Marked) > 0 || len(st.Waiting) > 0 || !st.RetryAt.IsZero()
}

// look reads what Redis has of a job and, unless that is all, what JOBS has.
func (a *API) look(ctx context.Context, q asked) (v view, err error) {
	if v.status, err = a.cfg.Jobs.JobStatus(ctx, q.key); err != nil || v.status.Complete {
		return v, err
	}
	at := v.status.Message
	if at == 0 {
		at = q.sequence
	}
	if at == 0 {
		return v, nil
	}
	if v.message, v.waits, err = a.cfg.Queue.StoredJob(ctx, q.key.App, q.key.Lane, at); err != nil {
		return v, err
	}
	if v.waits = v.waits && v.message.ID == q.key.ID; v.waits {
		return v, nil
	}
	// It may have been taken, and acknowledged, since Redis was asked.
	v.status, err = a.cfg.Jobs.JobStatus(ctx, q.key)
	return v, err
}

// notification says what became of a job.
func (a *API) notification(ctx context.Context, q asked, v *view) (*Notification, error) {
	b := &answer{
		key: q.key, v: v, now: a.cfg.Now(), ids: job.NewAPNsIDs(q.key.App, q.key.ID), places: make(map[uint64]int),
		out: Notification{ID: q.key.ID, Lane: q.key.Lane.String(), Sequence: v.status.Message, Recipients: []NotificationRecipient{}},
	}
	b.state()
	for _, sequence := range v.status.Outcomes {
		if len(b.out.Recipients) == maxRecipients {
			break
		}
		o, ok, err := a.cfg.Queue.StoredOutcomes(ctx, sequence)
		if err != nil {
			return nil, err
		}
		if ok {
			b.read(o, sequence)
		}
	}
	settled := 0
	for _, n := range b.out.Counts {
		settled += n
	}
	b.out.Omitted = max(0, settled-len(b.out.Recipients))
	if v.waits && !v.status.Complete {
		list, err := a.recipients(ctx, q.key.App, v.message.Job)
		if err != nil {
			return nil, err
		}
		b.open(list)
	}
	return &b.out, nil
}

// answer is an answer in the making.
type answer struct {
	key    store.JobKey
	v      *view
	now    time.Time
	ids    *job.APNsIDs
	places map[uint64]int // recipient's hash -> place in out.Recipients
	out    Notification
}

// state says where the job is.
func (b *answer) state() {
	st, out := &b.v.status, &b.out
	out.Counts, out.Duplicates = make(map[string]int), st.Duplicates
	for result, n := range st.Counts {
		if n > 0 { // all may have been taken back
			out.Counts[string(result)] = n
		}
	}
	if b.v.waits {
		m := &b.v.message
		out.Sequence, out.QueuedAt = m.Sequence, when(m.StoredAt.Truncate(time.Millisecond))
		if m.Job.SendAfter.After(b.now) {
			out.SendAfter = when(m.Job.SendAfter)
		}
		b.ids = job.NewAPNsIDs(b.key.App, m.Root)
	}
	switch {
	case st.Complete:
		out.State = stateDone
	case st.RetryAt.After(b.now): // of the first one that waits
		out.State, out.RetryAt = stateRetrying, when(st.RetryAt)
	case st.Message == 0 && st.Attempts == 0 && len(st.Counts)+len(st.Marked) == 0:
		out.State = stateQueued
	default:
		out.State = stateInWork
	}
}

// read takes from a message of OUTCOMES what it tells of the job.
func (b *answer) read(o *job.Outcomes, sequence uint64) {
	if o.App != b.key.App || o.Lane != b.key.Lane {
		return
	}
	for i := range o.Jobs {
		jo := &o.Jobs[i]
		if jo.ID != b.key.ID || jo.Campaign != "" {
			continue
		}
		if jo.Root != "" {
			b.ids = job.NewAPNsIDs(b.key.App, jo.Root)
		}
		for _, t := range jo.Accepted {
			b.settle(jo, o.At, sequence, &job.Recipient{DeviceToken: t, Result: job.Accepted, Status: http.StatusOK, SentAt: jo.SentAt})
		}
		for k := range jo.Others {
			if r := &jo.Others[k]; r.Result != job.Duplicate { // it tells of another message
				b.settle(jo, o.At, sequence, r)
			}
		}
	}
}

// settle adds a recipient, if the outcome is the one that counts for it.
func (b *answer) settle(jo *job.JobOutcome, at time.Time, sequence uint64, r *job.Recipient) {
	hash := r.Hash()
	by, known := b.v.status.SettledBy(hash)
	if known && by != sequence {
		return
	}
	b.time(jo, at)
	told := NotificationRecipient{
		User: r.User, InstallID: r.Install, Result: string(r.Result), Reason: r.Reason, Status: r.Status, Attempts: jo.Attempt, SettledAt: when(at),
	}
	if !r.DeviceToken.IsZero() {
		told.Token = r.DeviceToken.Hex()
	}
	if r.Timestamp != 0 {
		told.DeadSince = when(time.UnixMilli(r.Timestamp))
	}
	if told.SentAt = when(r.SentAt); told.SentAt != nil || r.Result == job.Accepted {
		told.APNsID = b.apnsID(r.DeviceToken)
	}
	place, again := b.places[hash]
	switch {
	case !again && len(b.out.Recipients) < maxRecipients:
		b.places[hash] = len(b.out.Recipients)
		b.out.Recipients = append(b.out.Recipients, told)
	// Nobody knows any more which one counts. A rejection may have been taken back, and
	// the last one stand; one that was accepted stands whatever came after it.
	case again && b.out.Recipients[place].Result != string(job.Accepted):
		b.out.Recipients[place] = told
	}
}

// time says of the first outcome where the time went.
func (b *answer) time(jo *job.JobOutcome, told time.Time) {
	out := &b.out
	if out.QueuedAt == nil {
		out.QueuedAt = when(jo.QueuedAt)
	}
	if out.Sequence == 0 {
		out.Sequence = jo.Sequence
	}
	if out.Latency != nil || jo.TakenAt.IsZero() {
		return
	}
	out.Latency = &NotificationLatency{
		Queued: between(jo.QueuedAt, jo.TakenAt), Waiting: between(jo.TakenAt, jo.SentAt), APNs: between(jo.SentAt, told),
	}
}

// between is from one time to the other in milliseconds; nil if one is not known.
// Clocks differ, and nothing took less than no time.
func between(from, to time.Time) *int64 {
	if from.IsZero() || to.IsZero() {
		return nil
	}
	return new(max(0, to.Sub(from).Milliseconds()))
}

// open adds the recipients that are not settled.
func (b *answer) open(list []named) {
	st := &b.v.status
	for i := range list {
		r := &list[i]
		hash := r.hash()
		if _, listed := b.places[hash]; listed || len(b.out.Recipients) == maxRecipients {
			continue
		}
		if by, _ := st.SettledBy(hash); by != 0 {
			continue // it is among those omitted
		}
		told := NotificationRecipient{User: r.user, InstallID: r.install, Result: resultWaiting, Attempts: st.Attempts}
		if !r.token.IsZero() {
			told.Token, told.APNsID = r.token.Hex(), b.apnsID(r.token)
		}
		if w, ok := st.Waiting[hash]; ok {
			told.Attempts, told.RetryAt = w.Attempts, when(w.RetryAt)
		}
		if told.Attempts > 0 || b.out.State == stateRetrying {
			told.Result = resultRetrying
		}
		if m, ok := st.Marked[hash]; ok { // a worker knows, and has not told
			told.Result, told.Reason, told.Status, told.SentAt, told.RetryAt = string(m.Result), m.Reason, m.Status, when(m.SentAt), nil
		}
		b.places[hash] = len(b.out.Recipients)
		b.out.Recipients = append(b.out.Recipients, told)
	}
}

func (b *answer) apnsID(t device.Token) string { return b.ids.ID(t).String() }

// named is a recipient of a job that may not be settled: a device token, or a user or
// installation that has none; or a device token and whose it is.
type named struct {
	token         device.Token
	user, install string
}

// hash is what progress knows it by.
func (n *named) hash() uint64 {
	if !n.token.IsZero() {
		return job.RecipientHash(n.token)
	}
	return (&job.Recipient{User: n.user, Install: n.install}).Hash()
}

// recipients are those of a job, as a worker would find them now.
func (a *API) recipients(ctx context.Context, app string, j *job.Job) ([]named, error) {
	list := make([]named, 0, j.To.Len())
	for _, t := range j.To.Tokens {
		list = append(list, named{token: t})
	}
	if len(list) > 0 {
		return list, nil
	}
	find, ids, of := a.cfg.TokenSet.ByUsers, j.To.Users, func(id string) named { return named{user: id} }
	if len(ids) == 0 {
		find, ids, of = a.cfg.TokenSet.ByInstalls, j.To.Installs, func(id string) named { return named{install: id} }
	}
	found, err := find(ctx, app, ids)
	if err != nil {
		return nil, fmt.Errorf("find devices: %w", err)
	}
	kind := j.Kind()
	for i, entries := range found {
		devices := 0
		for k := range entries {
			if e := &entries[k]; e.Record.Kind == kind && e.Record.Usable() {
				n := of(ids[i])
				n.token = e.Token
				list = append(list, n)
				devices++
			}
		}
		if devices == 0 {
			list = append(list, of(ids[i]))
		}
	}
	return list, nil
}

// when is a time of an answer; nil if it is zero.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
