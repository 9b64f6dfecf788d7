package producer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// Final is what became of a job.
type Final struct {
	Receipt Receipt
	// Recipients are those that are settled, each once and with its result, in the order
	// in which they were told. Users and installs are device tokens here, except those
	// that had none.
	Recipients []job.Recipient
	Complete   bool // no recipient is left
}

// Accepted reports whether APNs has accepted the notifications to all recipients. It
// never means delivered: APNs does not tell.
func (f *Final) Accepted() bool {
	for i := range f.Recipients {
		if f.Recipients[i].Result != job.Accepted {
			return false
		}
	}
	return f.Complete && len(f.Recipients) > 0
}

const (
	// waitSlack is how long before its enqueuing a job's outcomes are looked for: servers'
	// clocks differ. choice: more than any that are kept differ by.
	waitSlack = 10 * time.Second
	// duplicateSlack is the same for what JetStream had before: its duplicate window.
	duplicateSlack = 2 * time.Minute
)

// Wait waits until every recipient of a job is settled, and returns what became of them.
// A job with a time to be sent at, or one that is tried again, may take long: what ends
// the waiting is ctx, and then what is settled by then is returned with an error.
//
// A job that no worker can read, or whose app no worker knows (it takes them a minute to
// be sure), becomes a dead letter as a whole: it is complete then, with one recipient that
// stands for all of it, the result [job.Failed] and the reason. That is seen only with the
// right to read dead letters; without it, what ends the waiting is ctx.
func (p *Producer) Wait(ctx context.Context, r Receipt) (Final, error) {
	for final, err := range p.WaitAll(ctx, []Receipt{r}) {
		return final, err
	}
	return Final{}, errors.New("wait for a job: the receipt is that of none")
}

// WaitAll waits for many jobs as [Producer.Wait] does for one. It tells of each once, as
// it is settled; of those that were not when ctx ended, at the end and with an error. A
// zero receipt, which belongs to a job that was not stored, is passed over.
func (p *Producer) WaitAll(ctx context.Context, receipts []Receipt) iter.Seq2[Final, error] {
	return func(yield func(Final, error) bool) {
		w := newWaiting(receipts)
		if w.left == 0 {
			return
		}
		err := p.hear(ctx, w, func(done []*waited) bool {
			for _, one := range done {
				if !yield(one.Final, nil) {
					return false
				}
			}
			return w.left > 0
		})
		if errors.Is(err, errEnough) {
			return
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		for _, one := range w.all {
			if one.done {
				continue
			}
			if !yield(one.Final, fmt.Errorf("wait for job %s: %d recipients are settled: %w", one.Receipt.ID, len(one.Recipients), err)) {
				return
			}
		}
	}
}

// hear follows what is told of the jobs that are waited for, and calls done with those
// that are done with it, until that returns false: then the error is errEnough.
func (p *Producer) hear(ctx context.Context, w *waiting, done func([]*waited) bool) error {
	ctx, stop := context.WithCancel(ctx)
	// What each message says goes through here: all else is only touched by the caller.
	told := make(chan func() []*waited)
	tell := func(note func() []*waited) error {
		select {
		case told <- note:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	var followers sync.WaitGroup
	defer followers.Wait()
	defer stop()
	ended := make(chan error, 1)
	followers.Go(func() {
		ended <- p.follow(ctx, w.subjects(), w.start, nil, func(o *Outcome) error {
			if w.byID[waitKey{o.App, o.Lane, o.ID}] == nil { // nobody writes to it
				return nil
			}
			return tell(func() []*waited { return w.note(o) })
		})
	})
	followers.Go(func() {
		// Whoever may not read them waits for outcomes alone.
		_ = p.streams.FollowDead(ctx, w.apps(), w.start, func(l *stream.DeadLetter) error {
			return tell(func() []*waited { return w.bury(l) })
		})
	})
	for {
		select {
		case note := <-told:
			if !done(note()) {
				return errEnough
			}
		case err := <-ended:
			return err
		}
	}
}

// waiting is one call of WaitAll.
type waiting struct {
	all   []*waited
	byID  map[waitKey][]*waited
	left  int
	start stream.Start
}

// waitKey is what a job's id is unique in, and the id.
type waitKey struct {
	app  string
	lane job.Lane
	id   string
}

// waited is one job that is waited for.
type waited struct {
	Final
	done bool
	seen map[recipientKey]bool
}

// recipientKey tells recipients of one job apart.
type recipientKey struct {
	token         device.Token
	user, install string
}

func newWaiting(receipts []Receipt) *waiting {
	w := &waiting{byID: make(map[waitKey][]*waited)}
	for _, r := range receipts {
		if r.ID == "" {
			continue
		}
		one := &waited{Final: Final{Receipt: r}, seen: make(map[recipientKey]bool)}
		key := waitKey{r.App, r.Lane, r.ID}
		w.all = append(w.all, one)
		w.byID[key] = append(w.byID[key], one)
		w.left++

		// How long ago it was is measured here, and counted back from the server's time:
		// whether the clocks agree does not matter.
		ago := max(0, time.Since(r.At)) + waitSlack
		if r.Duplicate {
			ago += duplicateSlack
		}
		w.start.Ago = max(w.start.Ago, ago)
		if r.At.IsZero() {
			w.start.Place = 1
		}
	}
	if w.start.Place > 0 {
		w.start.Ago = 0
	}
	return w
}

func (w *waiting) apps() []string {
	var apps []string
	for key := range w.byID {
		if !slices.Contains(apps, key.app) {
			apps = append(apps, key.app)
		}
	}
	return apps
}

func (w *waiting) subjects() []string {
	var subjects []string
	for key := range w.byID {
		subject := stream.OutcomesSubject(key.app, key.lane)
		if !slices.Contains(subjects, subject) {
			subjects = append(subjects, subject)
		}
	}
	return subjects
}

// note takes what an outcome tells, and returns the jobs that are done with it: several,
// if one was enqueued more than once.
func (w *waiting) note(o *Outcome) (done []*waited) {
	for _, one := range w.byID[waitKey{o.App, o.Lane, o.ID}] {
		// The id may be another message's as well: then one of the two is a duplicate.
		if one.done || one.Receipt.Sequence != 0 && one.Receipt.Sequence != o.Sequence {
			continue
		}
		one.Complete = o.Complete
		for r := range o.Recipients() {
			one.add(&r)
		}
		if one.Complete {
			one.done = true
			w.left--
			done = append(done, one)
		}
	}
	return done
}

// bury takes a dead letter, and returns the jobs that were given up with it as a whole.
// Those of which APNs was asked have outcomes.
func (w *waiting) bury(l *stream.DeadLetter) (done []*waited) {
	if l.Attempts > 0 {
		return nil
	}
	for _, one := range w.all {
		r := &one.Receipt
		if one.done || l.Subject != stream.JobsSubject(r.App, r.Lane) {
			continue
		}
		if r.Sequence != l.Place && (r.Sequence != 0 || r.ID != l.Root) {
			continue
		}
		one.Recipients = append(one.Recipients, job.Recipient{Result: job.Failed, Reason: l.Reason})
		one.Complete, one.done = true, true
		w.left--
		done = append(done, one)
	}
	return done
}

// add takes a recipient's result, if it is the first.
func (w *waited) add(r *job.Recipient) {
	key := recipientKey{r.DeviceToken, r.User, r.Install}
	if w.seen[key] {
		return
	}
	w.seen[key] = true
	w.Recipients = append(w.Recipients, *r)
	if r.Result == job.Duplicate { // of the job as a whole, and all that will be told
		w.Complete = true
	}
}
