package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// setupSmall is setup with streams that a test can fill.
func setupSmall(t *testing.T, of stream.Config, answer func(n *apns.Notification) apns.Response) *fixture {
	t.Helper()
	t.Parallel()
	for _, bytes := range []*int64{&of.JobsBytes, &of.OutcomesBytes, &of.DeadBytes} {
		if *bytes == 0 {
			*bytes = 64 << 20
		}
	}
	return setupOn(t, testenv.NewJetStreamOf(t, embedded.NATSConfig{}, of), answer)
}

// fill publishes jobs of n device tokens each until JOBS has no room, and returns
// how many were stored.
func (f *fixture) fill(n int) int {
	f.t.Helper()
	for k := range 1_000_000 {
		_, err := f.js.PublishJob(f.ctx, "shop", job.Bulk, newJob(fmt.Sprint(k), tokens(k*n, (k+1)*n)...))
		if errors.Is(err, stream.ErrFull) {
			return k
		}
		if err != nil {
			f.t.Fatalf("publish job %d: %v", k, err)
		}
	}
	f.t.Fatal("JOBS is never full")
	return 0
}

// limit sets how many bytes a stream may have.
func (f *fixture) limit(name string, bytes int64) {
	f.t.Helper()
	st := f.stream(name)
	cfg := st.CachedInfo().Config
	cfg.MaxBytes = bytes
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := api.UpdateStream(f.ctx, cfg); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) stream(name string) jetstream.Stream {
	f.t.Helper()
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		f.t.Fatal(err)
	}
	st, err := api.Stream(f.ctx, name)
	if err != nil {
		f.t.Fatal(err)
	}
	return st
}

// sentOnce fails unless each of the device tokens from..to was sent to once.
func (f *fixture) sentOnce(from, to int) {
	f.t.Helper()
	times := make(map[device.Token]int)
	for _, n := range f.sender.got() {
		times[n.DeviceToken]++
	}
	lost, doubled := 0, 0
	for n := from; n < to; n++ {
		switch k := times[token(n)]; {
		case k == 0:
			lost++
		case k > 1:
			doubled++
		}
	}
	if lost > 0 || doubled > 0 {
		f.t.Errorf("of %d notifications: got %d lost and %d doubled, want none", to-from, lost, doubled)
	}
}

// acceptedOnce waits until outcomes say of each of the device tokens from..to that
// it was accepted, and fails if one is told twice.
func (f *fixture) acceptedOnce(from, to int) {
	f.t.Helper()
	told := make(map[device.Token]int)
	seen := 0
	f.outcomes(func(all []job.JobOutcome) bool {
		for ; seen < len(all); seen++ {
			for _, t := range all[seen].Accepted {
				told[t]++
			}
		}
		return len(told) >= to-from
	})
	for n := from; n < to; n++ {
		if told[token(n)] != 1 {
			f.t.Fatalf("outcomes of device %d: got %d, want 1", n, told[token(n)])
		}
	}
}

// A full JOBS tells its publishers; once there are workers all that it took is
// sent, and it takes again.
func TestFullJobs(t *testing.T) {
	f := setupSmall(t, stream.Config{JobsBytes: 1 << 20}, nil)
	const each = 10
	stored := f.fill(each)
	f.start(options{})
	after := newJob("after", tokens(stored*each, (stored+1)*each)...)
	f.eventually("JOBS takes again", func() (string, bool) {
		_, err := f.js.PublishJob(f.ctx, "shop", job.Bulk, after)
		if err != nil && !errors.Is(err, stream.ErrFull) {
			t.Fatalf("publish: %v", err)
		}
		return fmt.Sprint(err), err == nil
	})
	f.acceptedOnce(0, (stored+1)*each)
	f.drained()
	f.sentOnce(0, (stored+1)*each)
}

// While OUTCOMES is full a worker sends no more than it may hold and keeps that;
// when there is room again it tells, and nothing is sent twice.
func TestFullOutcomes(t *testing.T) {
	f := setupSmall(t, stream.Config{OutcomesBytes: 256 << 10}, nil)
	const jobs, each, room = 500, 40, 2000
	for n := range jobs {
		f.publish(job.Transactional, newJob(fmt.Sprint(n), tokens(n*each, (n+1)*each)...))
	}
	f.start(options{change: func(c *worker.Config) { c.MaxInFlight = room }})
	var acked uint64
	held, redelivered := 0, 0
	settled := func() (string, bool) {
		info, err := f.stream(stream.Jobs).Consumer(f.ctx, stream.LaneDurable("shop", job.Transactional))
		if err != nil {
			return err.Error(), false
		}
		got := info.CachedInfo()
		held, redelivered = got.NumAckPending, got.NumRedelivered
		was := acked
		acked = uint64(jobs) - got.NumPending - uint64(got.NumAckPending)
		// All that it may hold is held, and nothing moves.
		return fmt.Sprintf("%d settled, %d held, %d waiting", acked, got.NumAckPending, got.NumPending),
			got.NumAckPending*each >= room/4 && acked == was && acked > 0 && f.outcomesFull()
	}
	f.eventually("the worker is full", settled)
	// Longer than the ack wait: what is held is kept, not delivered again.
	over := time.NewTimer(stream.TransactionalAckWait + 2*time.Second)
	defer over.Stop()
	// A message that exceeds the room goes back now and then. Of what is held, all
	// would be delivered again after an ack wait.
	before := redelivered
	<-over.C
	settled()
	if redelivered-before >= max(held/2, 4) {
		t.Errorf("redelivered while OUTCOMES was full: got %d of %d held, want next to none", redelivered-before, held)
	}
	if acked == jobs {
		t.Fatal("OUTCOMES took everything: the test does not fill it")
	}
	if sent := len(f.sender.got()); sent > int(acked)*each+room {
		t.Errorf("sent: got %d with %d settled, want at most %d more", sent, acked*each, room)
	}
	f.limit(stream.Outcomes, 64<<20)
	f.acceptedOnce(0, jobs*each)
	f.drained()
	f.sentOnce(0, jobs*each)
	if info := f.stream(stream.Jobs).CachedInfo(); info.State.Msgs != 0 {
		t.Errorf("JOBS: got %d messages, want none", info.State.Msgs)
	}
}

func (f *fixture) outcomesFull() bool {
	state := f.stream(stream.Outcomes).CachedInfo()
	return state.State.Bytes+96<<10 > uint64(state.Config.MaxBytes)
}

// A worker that is told to stop while OUTCOMES is full does stop; the next one
// tells what it could not, and sends to nobody again.
func TestStopWhileOutcomesAreFull(t *testing.T) {
	f := setupSmall(t, stream.Config{OutcomesBytes: 32 << 10}, nil)
	const jobs, each = 80, 20
	first := f.start(options{change: func(c *worker.Config) { c.DrainTimeout = time.Millisecond }})
	for n := range jobs {
		f.publish(job.Transactional, newJob(fmt.Sprint(n), tokens(n*each, (n+1)*each)...))
	}
	f.eventually("everything is sent", func() (string, bool) {
		n := len(f.sender.got())
		return fmt.Sprint(n), n >= jobs*each
	})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		first.stop()
	}()
	select {
	case <-stopped:
	case <-f.ctx.Done():
		t.Fatal("the worker does not stop")
	}
	left := f.stream(stream.Jobs).CachedInfo().State.Msgs
	if left == 0 {
		t.Fatal("everything was told: the test does not fill OUTCOMES")
	}
	f.limit(stream.Outcomes, 64<<20)
	f.start(options{name: "w2"})
	f.drained()
	f.acceptedOnce(0, jobs*each)
	f.sentOnce(0, jobs*each)
}

// What cannot be buried because DEAD is full is in nobody's way, and is buried
// when there is room.
func TestFullDead(t *testing.T) {
	f := setupSmall(t, stream.Config{DeadBytes: 16 << 10}, func(n *apns.Notification) apns.Response {
		if n.DeviceToken == token(1) {
			return apns.Response{Status: 400, Reason: apns.PayloadTooLarge, APNsID: n.APNsID}
		}
		return accept(n)
	})
	const room, bad = 2000, 2200
	f.start(options{change: func(c *worker.Config) { c.MaxInFlight = room }})
	for n := range bad {
		if _, err := f.js.NC.Request(stream.JobsSubject("shop", job.Bulk), fmt.Appendf(nil, "not a job %d", n), 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	f.publish(job.Bulk, newJob("partly", tokens(0, 10)...))
	f.publish(job.Bulk, newJob("good", tokens(10, 20)...))
	if counts := results(f.completed("good")); counts["accepted"] != 10 {
		t.Errorf("a good job: got %v, want 10 accepted", counts)
	}
	// Of the other all but one are told, once.
	f.outcomes(func(all []job.JobOutcome) bool {
		accepted := 0
		for _, o := range all {
			if o.ID == "partly" {
				accepted += len(o.Accepted)
				if o.Complete || len(o.Others) > 0 {
					t.Fatalf("outcome of what is not buried: got %+v, want only what was accepted", o)
				}
			}
		}
		return accepted == 9
	})
	f.limit(stream.Dead, 64<<20)
	f.dead("shop", bad+1)
	if counts := results(f.completed("partly")); counts["accepted"] != 9 || counts["rejected PayloadTooLarge"] != 1 {
		t.Errorf("outcomes: got %v, want 9 accepted and 1 rejected", counts)
	}
	f.drained()
	f.sentOnce(2, 20)
	if got := f.stream(stream.Dead).CachedInfo().State.Msgs; got != bad+1 {
		t.Errorf("dead letters: got %d, want each once: %d", got, bad+1)
	}
}

// Somebody else's stream fills the server: neither jobs nor outcomes are stored.
func TestFullServer(t *testing.T) {
	t.Parallel()
	of := stream.Config{JobsBytes: 8 << 20, OutcomesBytes: 8 << 20, DevicesBytes: 1 << 20, DeadBytes: 1 << 20, CampaignsBytes: 1 << 20}
	f := setupOn(t, testenv.NewJetStreamOf(t, embedded.NATSConfig{MaxStore: 40 << 20}, of), nil)
	api, err := jetstream.New(f.js.NC)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := api.CreateStream(f.ctx, jetstream.StreamConfig{Name: "FOREIGN", Subjects: []string{"foreign"}})
	if err != nil {
		t.Fatal(err)
	}
	const each = 10
	stored := 0
	for ; stored < 100; stored++ {
		f.publish(job.Bulk, newJob(fmt.Sprint(stored), tokens(stored*each, (stored+1)*each)...))
	}
	for n := 0; ; n++ {
		answer, err := f.js.NC.Request("foreign", make([]byte, 512<<10), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(answer.Data, []byte("10023")) {
			break
		}
		if n > 1000 {
			t.Fatal("the server is never full")
		}
	}
	f.start(options{})
	f.eventually("all is sent", func() (string, bool) {
		n := len(f.sender.got())
		return fmt.Sprint(n), n == stored*each
	})
	if _, err := f.js.PublishJob(f.ctx, "shop", job.Bulk, newJob("after", token(stored*each))); !errors.Is(err, stream.ErrFull) {
		t.Errorf("publish to a full server: got %v, want %v", err, stream.ErrFull)
	}
	if err := foreign.Purge(f.ctx); err != nil {
		t.Fatal(err)
	}
	f.publish(job.Bulk, newJob("after", token(stored*each)))
	f.acceptedOnce(0, stored*each+1)
	f.drained()
	f.sentOnce(0, stored*each+1)
}

// A message takes the room of its bytes, however few its recipients: a flood of
// large ones does not take all memory.
func TestLargeMessagesTakeMoreRoom(t *testing.T) {
	answer := make(chan struct{})
	f := setup(t, func(n *apns.Notification) apns.Response {
		<-answer
		return accept(n)
	})
	const jobs, room, size = 40, 2000, 900_000
	for n := range jobs {
		body, err := newJob(fmt.Sprint(n), token(n)).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		body = append(body, strings.Repeat(" ", size-len(body))...)
		if _, err := f.js.NC.Request(stream.JobsSubject("shop", job.Bulk), body, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	f.start(options{change: func(c *worker.Config) { c.MaxInFlight = room }})
	// Its room is worth 8 MB. It may hand back what is too much, and is given it
	// again; what it holds at one time is what counts.
	const most = room * job.MaxPayloadBytes / size
	f.eventually("the worker has begun", func() (string, bool) { return "nothing sent", len(f.sender.got()) > 0 })
	for range 20 {
		f.publish(job.Transactional, newJob("", token(jobs))) // goes through meanwhile
	}
	if held := len(f.sender.got()); held > most+21 {
		t.Errorf("large messages at one time: got %d, want at most %d", held, most)
	}
	close(answer)
	f.drained()
	f.sentOnce(0, jobs)
}

// crowd is a token set in which every user has many devices.
type crowd struct {
	worker.Devices
	each int

	mu   sync.Mutex
	next int // guarded by mu
}

func (c *crowd) ByUsers(_ context.Context, _ string, users []string) ([][]store.Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([][]store.Entry, len(users))
	for i := range users {
		for range c.each {
			out[i] = append(out[i], store.Entry{
				Token: token(c.next), Known: true,
				Record: device.Record{Environment: device.Production, Generation: 1},
			})
			c.next++
		}
	}
	return out, nil
}

// Users with many devices are more than the room that was taken for them: only
// one such job goes beyond it, the others wait for their turn.
func TestUsersWithManyDevices(t *testing.T) {
	for _, tc := range []struct {
		name              string
		jobs, users, each int
		atOnce            int // notifications, at the most
	}{
		{"long lists", 12, 100, 20, 2 * 2000},
		{"short lists", 400, 5, 20, 2000 + 512*16},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer := make(chan struct{})
			var once sync.Once
			f := setup(t, func(n *apns.Notification) apns.Response {
				<-answer
				return accept(n)
			})
			t.Cleanup(func() { once.Do(func() { close(answer) }) })
			users := make([]string, tc.users)
			for i := range users {
				users[i] = fmt.Sprintf("user-%d", i)
			}
			for n := range tc.jobs {
				f.publish(job.Bulk, &job.Job{ID: fmt.Sprint(n), To: job.Recipients{Users: users}, Notification: &job.Notification{Title: "x"}})
			}
			f.start(options{devices: &crowd{Devices: f.set, each: tc.each}, change: func(c *worker.Config) { c.MaxInFlight = 2000 }})
			was, polls := 0, 0
			f.eventually("nothing more is sent", func() (string, bool) {
				n := len(f.sender.got())
				if polls++; n != was || n == 0 {
					was, polls = n, 0
				}
				return fmt.Sprint(n), polls >= 50
			})
			if n := len(f.sender.got()); n > tc.atOnce {
				t.Errorf("at one time: got %d notifications, want at most %d", n, tc.atOnce)
			}
			once.Do(func() { close(answer) })
			f.drained()
			f.sentOnce(0, tc.jobs*tc.users*tc.each)
		})
	}
}
