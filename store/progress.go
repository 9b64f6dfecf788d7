package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

const (
	// settledTTL is how long a complete job keeps the hashes of its recipients: as
	// long as a recorder may go back and apply outcomes again, with room to spare.
	settledTTL = time.Hour
	// rangeTTL is how long what is known of a campaign's range outlives its last
	// change. choice: a campaign may be paused for a month.
	rangeTTL = 35 * 24 * time.Hour
	// totalsTTL is how long a campaign's counts outlive their last change.
	totalsTTL = 90 * 24 * time.Hour

	// As scripts take them.
	settledSeconds = int(settledTTL / time.Second)
	totalsSeconds  = int(totalsTTL / time.Second)
)

// JobKey names a job: what its progress is kept under. Or, with a Campaign, a
// range of it, which is settled like a job; what else names a job, but the app, does
// not count then.
type JobKey struct {
	App  string
	Lane job.Lane
	ID   string // the job's own; a redriven one has one of its own

	Campaign string // its id; empty: a job
	Range    int    // from 0
}

func (k JobKey) isRange() bool { return k.Campaign != "" }

// progressTTL is how long progress outlives its last change.
func (s *Store) progressTTL(k JobKey) time.Duration {
	if k.isRange() {
		return rangeTTL
	}
	return s.cfg.KeepJobs
}

// progressSeconds is progressTTL as scripts take it.
func (s *Store) progressSeconds(k JobKey) int { return int(s.progressTTL(k) / time.Second) }

func (k JobKey) String() string {
	if k.isRange() {
		return k.App + "/campaigns/" + k.Campaign + "/" + strconv.Itoa(k.Range)
	}
	return k.App + "/" + k.Lane.String() + "/" + k.ID
}

// Progress says what of a job is settled. The zero value: nothing is known.
type Progress struct {
	Complete bool
	// RetryAt is when the message may be tried again; zero: at once.
	RetryAt time.Time
	// KeepUntil is how long the message must not be acknowledged, complete or not: a
	// rejection in it may still be taken back. Zero: it may.
	KeepUntil time.Time
	// Attempts made for the recipients that are neither settled nor waiting.
	Attempts int
	// By the recipients' hashes, and nil once complete: those that are settled and
	// counted; those that a worker settled without telling, and how (no device
	// token in it); and those with a retry time of their own.
	Settled map[uint64]struct{}
	Marked  map[uint64]job.Recipient
	Waiting map[uint64]Wait

	// Counts of recipients by result, Total as resolved once complete, and how
	// many recipients had a second outcome.
	Counts     map[job.Result]int
	Total      int
	Duplicates int
}

// Wait is a recipient's own back-off.
type Wait struct {
	Attempts int
	RetryAt  time.Time // millisecond resolution
}

// Progress reads the progress of jobs, in order.
func (s *Store) Progress(ctx context.Context, keys []JobKey) ([]Progress, error) {
	pipe := s.client.Pipeline()
	states := make([]*redis.MapStringStringCmd, len(keys))
	settled := make([]*redis.MapStringStringCmd, len(keys))
	held := make([]*redis.StringSliceCmd, len(keys))
	for i, k := range keys {
		of := progressKeys(k)
		states[i] = pipe.HGetAll(ctx, of[0])
		settled[i] = pipe.HGetAll(ctx, of[1])
		held[i] = pipe.SMembers(ctx, of[2])
	}
	if err := s.exec(ctx, pipe); err != nil {
		return nil, fmt.Errorf("read progress of %d jobs: %w", len(keys), err)
	}
	out := make([]Progress, len(keys))
	for i := range keys {
		var err error
		if out[i], err = parseProgress(states[i].Val(), settled[i].Val(), held[i].Val()); err != nil {
			return nil, fmt.Errorf("read progress of job %s: %w", keys[i], err)
		}
	}
	return out, nil
}

func parseProgress(state, settled map[string]string, held []string) (Progress, error) {
	p := Progress{Complete: state["done"] == "1", Counts: map[job.Result]int{}}
	for field, text := range state {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return p, fmt.Errorf("field %s is not a number", field)
		}
		switch result, isCount := strings.CutPrefix(field, "n:"); {
		case isCount:
			// Of a range it is a label: a result, and perhaps a reason.
			result, _, _ := strings.Cut(result, ":")
			p.Counts[job.Result(result)] += int(n)
		case field == "retry_at":
			p.RetryAt = time.UnixMilli(n)
		case field == "keep":
			p.KeepUntil = time.UnixMilli(n)
		case field == "attempts":
			p.Attempts = int(n)
		case field == "total":
			p.Total = int(n)
		case field == "duplicates":
			p.Duplicates = int(n)
		}
	}
	if p.Complete {
		return p, nil
	}
	for hash, value := range settled {
		if len(hash) != 8 {
			return p, fmt.Errorf("hash of %d bytes", len(hash))
		}
		key := binary.BigEndian.Uint64([]byte(hash))
		if err := p.add(key, value); err != nil {
			return p, err
		}
	}
	for _, hash := range held {
		if len(hash) != 8 {
			return p, fmt.Errorf("hash of %d bytes", len(hash))
		}
		// The worker's mark may outlive the rejection that was taken back.
		key := binary.BigEndian.Uint64([]byte(hash))
		if p.Marked[key].Result == job.Rejected {
			delete(p.Marked, key)
		}
	}
	return p, nil
}

// add reads what is stored of one recipient.
func (p *Progress) add(hash uint64, value string) error {
	switch {
	case strings.HasPrefix(value, "m"):
		marked, err := parseMark(value[1:])
		if err != nil {
			return err
		}
		if p.Marked == nil {
			p.Marked = make(map[uint64]job.Recipient)
		}
		p.Marked[hash] = marked
	case strings.HasPrefix(value, "r"):
		attempts, at, _ := strings.Cut(value[1:], ",")
		n, err1 := strconv.Atoi(attempts)
		ms, err2 := strconv.ParseInt(at, 10, 64)
		if err1 != nil || err2 != nil {
			return errors.New("a retry cannot be read")
		}
		if p.Waiting == nil {
			p.Waiting = make(map[uint64]Wait)
		}
		p.Waiting[hash] = Wait{Attempts: n, RetryAt: time.UnixMilli(ms)}
	default:
		if p.Settled == nil {
			p.Settled = make(map[uint64]struct{})
		}
		p.Settled[hash] = struct{}{}
	}
	return nil
}

// Mark says which recipients of a job a worker has settled and not yet told.
type Mark struct {
	Job        JobKey
	Recipients []Marked
}

// Marked is one recipient that a worker has settled.
type Marked struct {
	Hash uint64
	job.Recipient
}

// MarkSettled adds marks to the progress of jobs, so that another worker that
// gets a message does not send to them again but tells what became of them. It
// counts nothing.
func (s *Store) MarkSettled(ctx context.Context, marks []Mark) error {
	calls := make([]call, len(marks))
	for i, m := range marks {
		fields := hashFields(len(m.Recipients), func(j int) uint64 { return m.Recipients[j].Hash })
		args := make([]any, 0, 1+2*len(m.Recipients))
		args = append(args, s.progressSeconds(m.Job))
		for j := range m.Recipients {
			r := &m.Recipients[j]
			args = append(args, &fields[j])
			if r.Result == job.Accepted {
				args = append(args, acceptedMark)
			} else {
				args = append(args, "m"+formatMark(&r.Recipient))
			}
		}
		calls[i] = call{keys: progressKeys(m.Job)[1:2], args: args}
	}
	if err := s.run(ctx, "progress_mark", calls); err != nil {
		return fmt.Errorf("mark settled recipients of %d jobs: %w", len(marks), err)
	}
	return nil
}

// acceptedMark is what most recipients are marked with.
const acceptedMark = "m" + string(job.Accepted)

// formatMark packs what became of a recipient that was not accepted.
func formatMark(r *job.Recipient) string {
	sent := int64(0)
	if !r.SentAt.IsZero() {
		sent = r.SentAt.UnixMilli()
	}
	return fmt.Sprintf("%s|%d|%d|%d|%d|%s", r.Result, r.Status, r.Timestamp, r.Generation, sent, r.Reason)
}

func parseMark(text string) (job.Recipient, error) {
	if text == string(job.Accepted) {
		return job.Recipient{Result: job.Accepted}, nil
	}
	parts := strings.SplitN(text, "|", 6)
	if len(parts) != 6 {
		return job.Recipient{}, errors.New("a mark cannot be read")
	}
	var n [4]int64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseInt(parts[i+1], 10, 64); err != nil {
			return job.Recipient{}, errors.New("a mark cannot be read")
		}
	}
	r := job.Recipient{
		Result: job.Result(parts[0]), Reason: parts[5],
		Status: int(n[0]), Timestamp: n[1], Generation: uint32(n[2]),
	}
	if n[3] != 0 {
		r.SentAt = time.UnixMilli(n[3])
	}
	return r, nil
}

// HandBack is what must be remembered of a message that is tried again later.
type HandBack struct {
	RetryAt  time.Time
	Attempts int             // made so far for all but those in Waiting
	Waiting  map[uint64]Wait // recipients that differ; nil: none
}

// HandBack remembers when a job may be tried again.
func (s *Store) HandBack(ctx context.Context, k JobKey, h HandBack) error {
	args := []any{s.progressSeconds(k), h.RetryAt.UnixMilli(), h.Attempts}
	for hash, wait := range h.Waiting {
		args = append(args, hashField(hash), fmt.Sprintf("r%d,%d", wait.Attempts, wait.RetryAt.UnixMilli()))
	}
	err := s.run(ctx, "progress_handback", []call{{keys: progressKeys(k), args: args}})
	if err != nil {
		return fmt.Errorf("remember retry of job %s: %w", k, err)
	}
	return nil
}

// Settlement is what one outcome says about a job.
type Settlement struct {
	Job      JobKey
	Sequence uint64 // of the outcome in OUTCOMES
	// Whole: the outcome holds all recipients of the job, and nothing of it was
	// told before. Complete: with it, all are settled.
	Whole, Complete bool
	Total           int
	// Devices of a range that were looked at for it, the recipients among them. Of a
	// job it does not count.
	Devices int
	// Keep is how long the job's message must be kept, because a rejection among
	// the results may be taken back; 0: not at all.
	Keep time.Duration
	// Accepted has those that APNs took, and Hashes the rest, with Results at the same
	// indices. Most are accepted, and their hashes are needed for few jobs.
	Accepted []device.Token
	Hashes   []uint64
	Results  []job.Result
	// Labels are what the recipients in Hashes are counted under if it is a range, in
	// the order of Results: a result, and where there is more to say, a colon and a
	// reason, such as "rejected:Unregistered". Nil: the results alone.
	Labels []string
}

// label is what the ith recipient in Hashes is counted under.
func (st *Settlement) label(i int) *string {
	if st.Labels != nil {
		return &st.Labels[i]
	}
	return (*string)(&st.Results[i])
}

// Settled says what a [Settlement] changed.
type Settled struct {
	Counted    int // recipients that are now counted and were not before
	Duplicates int // recipients that had an outcome before, of another message
}

// Settle adds outcomes to the progress of jobs. It is the only writer of
// counts, and exact however often it is applied: a recipient counts once, and a
// second outcome for it as a duplicate.
func (s *Store) Settle(ctx context.Context, settlements []Settlement) ([]Settled, error) {
	out := make([]Settled, len(settlements))
	var calls []call
	var index []int
	for i := range settlements {
		if st := &settlements[i]; st.isWhole() {
			calls = append(calls, s.wholeCall(st))
			index = append(index, i)
		}
	}
	parts := make([]int, 0, len(settlements))
	if len(calls) > 0 {
		if err := s.run(ctx, "progress_whole", calls); err != nil {
			return nil, fmt.Errorf("settle %d jobs: %w", len(calls), err)
		}
		for n := range calls {
			switch calls[n].reply {
			case int64(1):
				st := &settlements[index[n]]
				out[index[n]].Counted = len(st.Accepted) + len(st.Hashes)
			case int64(0):
				parts = append(parts, index[n])
			}
		}
	}
	for i := range settlements {
		if st := &settlements[i]; !st.isWhole() {
			parts = append(parts, i)
		}
	}
	if len(parts) == 0 {
		return out, nil
	}
	calls = calls[:0]
	for _, i := range parts {
		calls = append(calls, s.partCall(&settlements[i]))
	}
	if err := s.run(ctx, "progress_part", calls); err != nil {
		return nil, fmt.Errorf("settle parts of %d jobs: %w", len(calls), err)
	}
	for n := range calls {
		counts, err := calls[n].ints(2)
		if err != nil {
			return nil, fmt.Errorf("settle part of job %s: %w", settlements[parts[n]].Job, err)
		}
		out[parts[n]] = Settled{Counted: int(counts[0]), Duplicates: int(counts[1])}
	}
	return out, nil
}

// isWhole reports whether no hashes are needed.
func (st *Settlement) isWhole() bool { return st.Whole && st.Complete && st.Keep == 0 }

func (s *Store) wholeCall(st *Settlement) call {
	args := make([]any, 0, 7)
	args = append(args, s.progressSeconds(st.Job), totalsSeconds, &st.Sequence, &st.Total, st.Devices)
	counts := map[string]int{string(job.Accepted): len(st.Accepted)} // most often that is all
	for i := range st.Results {
		counts[*st.label(i)]++
	}
	for label, n := range counts {
		if n == 0 {
			continue
		}
		args = append(args, label, n)
	}
	return call{keys: progressKeys(st.Job), args: args}
}

func (s *Store) partCall(st *Settlement) call {
	complete := 0
	if st.Complete {
		complete = 1
	}
	accepted, n := len(st.Accepted), len(st.Accepted)+len(st.Hashes)
	fields := hashFields(n, func(i int) uint64 {
		if i < accepted {
			return job.RecipientHash(st.Accepted[i])
		}
		return st.Hashes[i-accepted]
	})
	args := make([]any, 0, 8+2*n)
	args = append(args, s.progressSeconds(st.Job), totalsSeconds, &st.Sequence, complete, &st.Total, st.Devices, settledSeconds, st.Keep.Milliseconds())
	for i := range fields {
		result := any(string(job.Accepted))
		if i >= accepted {
			result = st.label(i - accepted)
		}
		args = append(args, &fields[i], result)
	}
	return call{keys: progressKeys(st.Job), args: args}
}

// hashFields returns n hashes as scripts take them, parts of one string.
func hashFields(n int, hash func(i int) uint64) []string {
	var all strings.Builder
	all.Grow(8 * n)
	fields := make([]string, n)
	for i := range fields {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], hash(i))
		all.Write(b[:])
		fields[i] = all.String()[8*i:]
	}
	return fields
}

func hashField(h uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], h)
	return string(b[:])
}
