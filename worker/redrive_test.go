package worker_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// faulty is an APNs that finds every job at fault until it is mended.
type faulty struct{ mended atomic.Bool }

func (a *faulty) answer(n *apns.Notification) apns.Response {
	if a.mended.Load() {
		return accept(n)
	}
	return apns.Response{Status: 413, Reason: apns.PayloadTooLarge}
}

// letters waits for n dead letters of shop and returns them whole.
func (f *fixture) letters(n int) (*stream.DeadLetters, []*stream.DeadLetter) {
	f.t.Helper()
	f.dead("shop", n)
	d, err := f.js.DeadLetters(f.ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	page, _, err := d.Page(f.ctx, &stream.DeadFilter{App: "shop"}, 1, n)
	if err != nil || len(page) != n {
		f.t.Fatalf("dead letters: got %d, %v, want %d", len(page), err, n)
	}
	list := make([]*stream.DeadLetter, n)
	for i := range page {
		if list[i], err = d.Letter(f.ctx, page[i].Sequence); err != nil {
			f.t.Fatal(err)
		}
	}
	return d, list
}

func (f *fixture) redrive(d *stream.DeadLetters, l *stream.DeadLetter) stream.Redriven {
	f.t.Helper()
	done, err := d.Redrive(f.ctx, l)
	if err != nil {
		f.t.Fatal(err)
	}
	return done
}

// sentTo returns what was sent to a device token.
func (f *fixture) sentTo(t device.Token) (list []apns.Notification) {
	for _, n := range f.sender.got() {
		if n.DeviceToken == t {
			list = append(list, n)
		}
	}
	return list
}

// duplicates waits for n outcomes that tell of a duplicate.
func (f *fixture) duplicates(n int) (list []job.JobOutcome) {
	f.t.Helper()
	f.outcomes(func(all []job.JobOutcome) bool {
		list = list[:0]
		for _, o := range all {
			if len(o.Others) == 1 && o.Others[0].Result == job.Duplicate {
				list = append(list, o)
			}
		}
		return len(list) >= n
	})
	return list
}

// forget makes JetStream forget what was published to JOBS: its window is over.
func (f *fixture) forget() {
	f.t.Helper()
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		f.t.Fatal(err)
	}
	st, err := api.Stream(f.ctx, stream.Jobs)
	if err != nil {
		f.t.Fatal(err)
	}
	cfg := st.CachedInfo().Config
	cfg.Duplicates = 100 * time.Millisecond // JetStream's least
	if _, err := api.UpdateStream(f.ctx, cfg); err != nil {
		f.t.Fatal(err)
	}
}

// A letter of some of a job's recipients is redriven after the cause is mended:
// they get the same notification once, and nobody else gets it again.
func TestRedrivenLetterIsSentOnce(t *testing.T) {
	var apnsSide faulty
	f := setup(t, func(n *apns.Notification) apns.Response {
		if n.DeviceToken == token(2) {
			return accept(n)
		}
		return apnsSide.answer(n)
	})
	f.start(options{})
	f.publish(job.Transactional, newJob("order-1", tokens(0, 3)...))
	f.completed("order-1")
	d, letters := f.letters(1)
	l := letters[0]
	if l.Root != "order-1" || l.Recipients != 2 || l.Attempts != 1 || l.Deliveries != 1 || l.Reason != "PayloadTooLarge" {
		t.Errorf("letter: got %+v, want root order-1, 2 recipients with one attempt", l)
	}
	apnsSide.mended.Store(true)
	done := f.redrive(d, l)
	got := f.completed(done.ID)
	if counts := results(got); counts["accepted"] != 2 || len(counts) != 1 || got[0].Root != "order-1" || !got[0].Whole || got[0].Total != 2 {
		t.Errorf("outcomes: got %v %+v, want 2 accepted with root order-1", counts, got)
	}
	f.drained()
	for n, want := range []int{2, 2, 1} {
		sent := f.sentTo(token(n))
		if len(sent) != want {
			t.Errorf("token %d: sent to %d times, want %d", n, len(sent), want)
		}
		for _, s := range sent {
			if id := job.APNsID("shop", "order-1", token(n)); s.APNsID != id {
				t.Errorf("token %d: got apns-id %s, want %s each time", n, s.APNsID, id)
			}
		}
	}
	f.eventually("progress of both is their own", func() (string, bool) {
		p, err := f.set.Progress(f.ctx, []store.JobKey{
			{App: "shop", Lane: job.Transactional, ID: "order-1"}, {App: "shop", Lane: job.Transactional, ID: done.ID},
		})
		return fmt.Sprintf("%+v %v", p, err), err == nil && p[0].Complete && p[0].Counts[job.Rejected] == 2 && p[0].Duplicates == 0 &&
			p[1].Complete && p[1].Counts[job.Accepted] == 2 && p[1].Duplicates == 0
	})
}

// The process that redrives dies before it has deleted the letter, or two
// operators have read it: within JetStream's window and beyond it, it is sent once.
func TestRedrivenTwiceIsSentOnce(t *testing.T) {
	var apnsSide faulty
	f := setup(t, apnsSide.answer)
	f.start(options{})
	// Without an id of its own nothing guards the job that the letter was.
	p := f.publish(job.Bulk, newJob("", token(1)))
	d, letters := f.letters(1)
	l := letters[0]
	if l.Root != p.ID {
		t.Errorf("root: got %q, want %q", l.Root, p.ID)
	}
	apnsSide.mended.Store(true)
	done := f.redrive(d, l)
	f.completed(done.ID)
	if again := f.redrive(d, l); !again.Again || again.Sequence != done.Sequence {
		t.Errorf("redriven again at once: got %+v, want it dropped by JetStream", again)
	}
	f.forget()
	f.eventually("JetStream takes it again", func() (string, bool) {
		again := f.redrive(d, l)
		return fmt.Sprintf("%+v", again), !again.Again && again.ID == done.ID && again.Sequence > done.Sequence
	})
	o := f.duplicates(1)[0]
	if o.ID != done.ID || o.Root != p.ID {
		t.Errorf("outcome of the second: got %+v, want %s with root %s", o, done.ID, p.ID)
	}
	f.drained()
	sent := f.sentTo(token(1))
	if len(sent) != 2 || sent[0].APNsID != sent[1].APNsID || sent[1].APNsID != job.APNsID("shop", p.ID, token(1)) {
		t.Errorf("sent: got %d with ids %v, want one rejected and one accepted, of one id", len(sent), sent)
	}
}

// A redriven job that is at fault once more keeps its first root and its first
// time, and can be redriven again.
func TestRedrivenAndBuriedAgain(t *testing.T) {
	var apnsSide faulty
	f := setup(t, apnsSide.answer)
	f.start(options{})
	f.publish(job.Transactional, newJob("order-1", token(1)))
	d, letters := f.letters(1)
	first := f.redrive(d, letters[0])
	f.completed(first.ID)
	_, again := f.letters(1)
	if l := again[0]; l.Root != "order-1" || l.ID != first.ID || l.RedriveID == first.ID || !l.First.Equal(letters[0].First) {
		t.Errorf("second letter: got %+v, want root order-1, id %s and the first time %s", l, first.ID, letters[0].First)
	}
	apnsSide.mended.Store(true)
	second := f.redrive(d, again[0])
	if counts := results(f.completed(second.ID)); counts["accepted"] != 1 {
		t.Errorf("outcomes: got %v", counts)
	}
	f.drained()
	for _, n := range f.sentTo(token(1)) {
		if want := job.APNsID("shop", "order-1", token(1)); n.APNsID != want {
			t.Errorf("apns-id: got %s, want %s", n.APNsID, want)
		}
	}
	if n := len(f.sentTo(token(1))); n != 3 {
		t.Errorf("sent: got %d, want 3", n)
	}
}

// A redriven job that is tried later keeps its own progress through redeliveries.
func TestRedrivenIsTriedAgain(t *testing.T) {
	var tries atomic.Int32
	f := setup(t, func(n *apns.Notification) apns.Response {
		switch {
		case n.DeviceToken == token(1):
			if tries.Add(1) == 1 {
				return apns.Response{Status: 413, Reason: apns.PayloadTooLarge}
			}
			return accept(n)
		case tries.Add(1) == 2: // second of the job: buried; then once no answer
			return apns.Response{Status: 413, Reason: apns.PayloadTooLarge}
		case tries.Load() == 4:
			return apns.Response{Err: errTest}
		default:
			return accept(n)
		}
	})
	f.start(options{})
	f.publish(job.Transactional, newJob("order-1", token(1), token(2)))
	d, letters := f.letters(1)
	done := f.redrive(d, letters[0])
	got := f.completed(done.ID)
	if counts := results(got); counts["accepted"] != 2 {
		t.Errorf("outcomes: got %v, want 2 accepted", counts)
	}
	f.drained()
	if a, b := len(f.sentTo(token(1))), len(f.sentTo(token(2))); a != 2 || b != 3 {
		t.Errorf("sent: got %d and %d, want 2, and 3 for the one that had no answer", a, b)
	}
}

// A letter that was no job becomes one when workers understand it, and else it
// comes back.
func TestRedrivenInvalid(t *testing.T) {
	f := setup(t, nil)
	f.start(options{})
	bad := []byte(`{"to":{"tokens":["zz"]},"notification":{"title":"x"}}`)
	if err := f.js.NC.Publish(stream.JobsSubject("shop", job.Bulk), bad); err != nil {
		t.Fatal(err)
	}
	d, letters := f.letters(1)
	if l := letters[0]; l.Root != "" || l.Recipients != 0 || string(l.Body) != string(bad) {
		t.Errorf("letter: got %+v, want no root, and the body as it was", l)
	}
	done := f.redrive(d, letters[0])
	_, again := f.letters(1)
	if l := again[0]; l.Sequence == letters[0].Sequence || l.Root != "" || l.ID != done.ID || string(l.Body) != string(bad) {
		t.Errorf("letter: got %+v, want it back as it was", l)
	}
	// As if it had been a newer version's: now it is a job.
	good, err := newJob("", token(5)).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	l := again[0]
	l.Body, l.Bytes = good, len(good)
	last := f.redrive(d, l)
	if counts := results(f.completed(last.ID)); counts["accepted"] != 1 {
		t.Errorf("outcomes: got %v", counts)
	}
	f.drained()
}

// Jobs of an app that nobody knew are sent once it is known.
func TestRedrivenStray(t *testing.T) {
	f := setup(t, nil)
	shop := f.apps
	f.apps = []*worker.App{{Name: "other", BundleID: bundle, Environment: device.Production}}
	w := f.start(options{})
	f.publish(job.Bulk, newJob("s", tokens(0, 2)...))
	p := f.publish(job.Bulk, newJob("", token(3)))
	d, letters := f.letters(2)
	for i, want := range []string{"s", p.ID} {
		if l := letters[i]; l.Reason != "unknown app" || l.Root != want || l.Recipients != 2-i {
			t.Errorf("letter %d: got %+v, want root %s", i, l, want)
		}
	}
	w.stop()
	f.apps = shop
	f.start(options{name: "w2"})
	for _, l := range letters {
		f.completed(f.redrive(d, l).ID)
	}
	f.drained()
	if n := len(f.sender.got()); n != 3 {
		t.Errorf("sent: got %d, want 3", n)
	}
	if got, want := f.sentTo(token(3))[0].APNsID, job.APNsID("shop", p.ID, token(3)); got != want {
		t.Errorf("apns-id: got %s, want %s", got, want)
	}
}

// A ttl counts from when the first message was stored.
func TestRedrivenKeepsItsExpiry(t *testing.T) {
	var apnsSide faulty
	f := setup(t, apnsSide.answer)
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	f.start(options{change: func(c *worker.Config) { c.Now = now }})
	j := newJob("t", token(1))
	j.TTL, j.HasTTL = time.Hour, true
	f.publish(job.Bulk, j)
	d, letters := f.letters(1)
	l := letters[0]
	if want := l.First.Add(time.Hour); !l.Expires.Equal(want) {
		t.Errorf("expires: got %s, want %s", l.Expires, want)
	}
	apnsSide.mended.Store(true)
	// The message itself is new: only the first time makes it an hour old.
	ahead.Store(int64(time.Until(l.Expires) + time.Millisecond))
	done := f.redrive(d, l)
	if counts := results(f.completed(done.ID)); counts["expired"] != 1 {
		t.Errorf("outcomes: got %v, want it expired", counts)
	}
	f.drained()
	if n := len(f.sentTo(token(1))); n != 1 {
		t.Errorf("sent: got %d, want 1, before it was given up", n)
	}
}

// Ids in headers are bounded: they become keys and members of JSON.
func TestBadIDInHeader(t *testing.T) {
	f := setup(t, nil)
	f.start(options{})
	body, err := newJob("h", token(1)).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for i, bad := range []string{string(make([]byte, job.MaxIDBytes)) + "x", "\xff"} {
		for j, name := range []string{stream.HeaderID, stream.HeaderRoot} {
			msg := nats.NewMsg(stream.JobsSubject("shop", job.Bulk))
			msg.Data = body
			msg.Header.Set(name, bad)
			if err := f.js.NC.PublishMsg(msg); err != nil {
				t.Fatal(err)
			}
			n := 2*i + j + 1
			letter := f.dead("shop", n)[n-1]
			if got := letter.Headers().Get(stream.HeaderReason); len(got) < len(name) || got[:len("header "+name)] != "header "+name {
				t.Errorf("%s: got reason %q", name, got)
			}
		}
	}
	if n := len(f.sender.got()); n != 0 {
		t.Errorf("sent: got %d, want none", n)
	}
}

// A thousand letters are redriven: each is sent once.
func TestThousandLettersAreRedriven(t *testing.T) {
	var apnsSide faulty
	f := setup(t, apnsSide.answer)
	f.start(options{})
	const n = 1000
	for i := range n {
		if _, err := f.js.PublishJobAsync(t.Context(), "shop", job.Bulk, newJob(fmt.Sprintf("j-%d", i), token(i))); err != nil {
			t.Fatal(err)
		}
	}
	d, letters := f.letters(n)
	apnsSide.mended.Store(true)
	for _, l := range letters {
		f.redrive(d, l)
	}
	f.drained()
	perToken := make(map[device.Token]int)
	for _, s := range f.sender.got() {
		perToken[s.DeviceToken]++
	}
	for i := range n {
		if got := perToken[token(i)]; got != 2 {
			t.Errorf("token %d: sent to %d times, want twice: before and after", i, got)
		}
	}
	if _, _, err := d.Page(f.ctx, &stream.DeadFilter{}, 1, 1); err != nil || f.deadCount("shop") != 0 {
		t.Errorf("letters left: got %d, %v, want none", f.deadCount("shop"), err)
	}
}
