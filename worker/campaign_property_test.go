package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// untold is for how long before a crash a worker's answers may be unknown to others.
// choice: 100 ms are promised; more for machines that are busy with other tests.
const untold = 500 * time.Millisecond

// TestCampaignCoversItsAudience draws from a seed what happens while a campaign runs:
// devices come, go, are replaced and change their tags, buckets double, workers crash,
// JetStream forgets what it handed out, and it is paused. Whoever was there and
// matched throughout gets it exactly once, whoever was not at most once, and nobody
// else at all; but for what a worker that crashed could not tell any more.
func TestCampaignCoversItsAudience(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for i, tt := range []struct {
		name, audience string
		matches        func(tags []string) bool
	}{
		{"all", `{"all":true}`, func([]string) bool { return true }},
		{"one of", `{"tags":{"any":["a","b"]}}`, func(tags []string) bool { return slices.Contains(tags, "a") || slices.Contains(tags, "b") }},
		{"each of", `{"tags":{"all":["a","c"],"none":["b"]}}`, func(tags []string) bool {
			return slices.Contains(tags, "a") && slices.Contains(tags, "c") && !slices.Contains(tags, "b")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newAudience(t, rand.New(rand.NewPCG(seed, uint64(i))), tt.matches)
			p.covers(tt.audience)
		})
	}
}

// How many devices there are: as many again come and go.
const (
	steady = 6000
	moving = 600
)

// audience is a campaign under way, and what is known of its devices.
type audience struct {
	*fixture
	db      *testenv.RedisDB
	rng     *rand.Rand
	matches func(tags []string) bool

	dying   sync.WaitGroup
	workers []*mortal // that live
	dead    []*mortal
	number  int // of the last worker

	tags map[device.Token][]string // of those that stay
	// Of those that do not stay: whether they ever matched. Set when churn ends.
	ever map[device.Token]bool
}

func newAudience(t *testing.T, rng *rand.Rand, matches func([]string) bool) *audience {
	t.Helper()
	p := &audience{fixture: setup(t, nil), rng: rng, matches: matches, tags: make(map[device.Token][]string), ever: make(map[device.Token]bool)}
	p.db = testenv.Redis(t)
	p.set = store.New(p.db, store.Config{Buckets: 4 << rng.IntN(5)})
	p.registerMany(steady, func(_ int, r *device.Registration) {
		r.Tags = someTags(rng)
		p.tags[r.Token] = r.Tags
	})
	return p
}

func someTags(rng *rand.Rand) []string {
	var tags []string
	for _, tag := range []string{"a", "b", "c"} {
		if rng.IntN(3) == 0 {
			tags = append(tags, tag)
		}
	}
	return tags
}

// mortal is a worker that can die at once: with its connections, and without a
// word. It has a sender of its own, which accepts all until then.
type mortal struct {
	stop func()
	nc   interface{ Close() }
	db   *redis.Client

	mu   sync.Mutex
	dead time.Time               // guarded by mu: zero while it lives
	sent int                     // guarded by mu
	at   map[device.Token]answer // guarded by mu
}

// answer is how often, and when at last, a device token was sent to.
type answer struct {
	times int
	last  time.Time
}

func (m *mortal) Send(ctx context.Context, _ job.Lane, batch []apns.Notification, done func(int, apns.Response)) {
	m.mu.Lock()
	gone := !m.dead.IsZero() || ctx.Err() != nil
	for i := range batch {
		if a := m.at[batch[i].DeviceToken]; !gone {
			m.at[batch[i].DeviceToken] = answer{a.times + 1, time.Now()}
			m.sent++
		}
	}
	m.mu.Unlock()
	for i := range batch {
		if gone {
			done(i, apns.Response{Err: apns.ErrNotSent})
		} else {
			done(i, accept(&batch[i]))
		}
	}
}

// birth starts a worker.
func (p *audience) birth() {
	p.t.Helper()
	p.number++
	name := fmt.Sprint("w", p.number)
	nc := testenv.Connect(p.t, p.js.Server.URL())
	streams, err := stream.Open(p.ctx, nc, stream.Config{})
	if err != nil {
		p.t.Fatal(err)
	}
	m := &mortal{nc: nc, db: redis.NewClient(&redis.Options{Addr: p.db.Addr, DB: p.db.DB}), at: make(map[device.Token]answer)}
	set := store.New(m.db, store.Config{})
	pub := feedback.NewPublisher(feedback.PublisherConfig{Streams: streams, Worker: name, Logger: zap.NewNop()})
	rec := feedback.NewRecorder(feedback.RecorderConfig{Streams: streams, TokenSet: set, Ledger: set, Logger: zap.NewNop()})
	w, err := worker.New(worker.Config{
		Name: name, Version: "test", DrainTimeout: time.Second, Streams: streams,
		Devices: set, Progress: set, Campaigns: set, Outcomes: pub,
		Apps: []*worker.App{{
			Name: "shop", BundleID: bundle, Environment: device.Production,
			Routes: []*worker.Route{{Environment: device.Production, Sender: m}},
		}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	work, stopWork := context.WithCancel(context.Background())
	tail, stopTail := context.WithCancel(context.Background())
	var head, tails sync.WaitGroup
	head.Go(func() { _ = w.Run(work) })
	tails.Go(func() { _ = pub.Run(tail) })
	tails.Go(func() { _ = rec.Run(tail) })
	m.stop = sync.OnceFunc(func() {
		stopWork()
		head.Wait()
		stopTail()
		tails.Wait()
		_ = m.db.Close()
	})
	p.t.Cleanup(m.stop)
	p.workers = append(p.workers, m)
}

// crash ends a worker at once. What it had taken nobody has until JetStream hands it
// out again.
func (p *audience) crash() {
	m := p.workers[0]
	p.workers, p.dead = p.workers[1:], append(p.dead, m)
	m.mu.Lock()
	m.dead = time.Now()
	m.mu.Unlock()
	m.nc.Close()
	_ = m.db.Close()
	p.dying.Go(m.stop)
}

// change changes the campaign as an operator does. One that is done too soon is told
// of in the end.
func (p *audience) change(do func(*campaign.Status) error) {
	p.t.Helper()
	if _, err := p.js.ChangeCampaign(p.ctx, "shop", "c", do); err != nil && !errors.Is(err, campaign.ErrState) {
		p.t.Fatal(err)
	}
}

// ended reports whether the campaign has.
func (p *audience) ended() bool {
	st, err := p.js.Campaign(p.ctx, "shop", "c")
	return err == nil && st.Ended()
}

func (p *audience) pause() {
	p.t.Helper()
	p.change(func(s *campaign.Status) error { return s.Pause(time.Now()) })
	last := -1
	look := time.NewTicker(300 * time.Millisecond)
	defer look.Stop()
	p.eventually("nothing more to be sent", func() (string, bool) {
		<-look.C
		was := last
		last = p.sent()
		return fmt.Sprint(last), last == was
	})
}

func (p *audience) resume() {
	p.t.Helper()
	p.change(func(st *campaign.Status) error { return st.Resume(time.Now()) })
}

// sent is how many notifications were sent so far.
func (p *audience) sent() int {
	n := 0
	for _, m := range append(slices.Clone(p.workers), p.dead...) {
		m.mu.Lock()
		n += m.sent
		m.mu.Unlock()
	}
	return n
}

// churn changes devices that do not stay, one after the other, until stop is closed.
func (p *audience) churn(rng *rand.Rand, stop <-chan struct{}) {
	next := steady
	var now []device.Token
	matched := make(map[device.Token]bool)
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for {
		select {
		case <-stop:
			p.ever = matched
			return
		case <-pace.C:
		}
		r := device.Registration{Token: token(next), Environment: device.Production, Tags: someTags(rng)}
		switch n := rng.IntN(4); {
		case len(now) < moving/2 || n == 0: // one comes
			next++
			now = append(now, r.Token)
		case n == 1: // one goes
			i := rng.IntN(len(now))
			if _, err := p.set.Delete(p.ctx, "shop", now[i], device.Deleted); err != nil {
				p.t.Error(err)
			}
			now = slices.Delete(now, i, i+1)
			continue
		case n == 2: // one is replaced
			i := rng.IntN(len(now))
			next++
			r.PreviousToken, now[i] = now[i], r.Token
		default: // one has other tags
			r.Token = now[rng.IntN(len(now))]
		}
		matched[r.Token] = matched[r.Token] || p.matches(r.Tags)
		if _, err := p.set.Register(p.ctx, "shop", r); err != nil {
			p.t.Error(err)
		}
	}
}

// double doubles the buckets.
func (p *audience) double() {
	set := store.New(p.db, store.Config{DevicesPerBucket: 1})
	for {
		g, err := set.Grow(p.ctx, "shop")
		if err != nil {
			p.t.Error(err)
			return
		}
		if !g.Doubling {
			return
		}
	}
}

// covers runs a campaign while all that is drawn happens.
func (p *audience) covers(rules string) {
	p.birth()
	p.birth()
	stop, churned := make(chan struct{}), make(chan struct{})
	churning := rand.New(rand.NewPCG(p.rng.Uint64(), 1))
	go func() {
		defer close(churned)
		p.churn(churning, stop)
	}()
	halt := sync.OnceFunc(func() { close(stop); <-churned })
	defer halt()
	steps := []string{"pause", "crash", "forget", "double", "crash"}
	p.rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	p.t.Logf("%d of %d match; then %v", len(p.must()), steady, steps)
	// Each step lasts less than a second, and what it does another one or two.
	rate := len(p.must()) / (3 * len(steps))
	p.create(fmt.Sprintf(`{"id":"c","audience":%s,"notification":{"title":"Hello"},"rate":%d}`, rules, rate))
	doubling := make(chan struct{}, 1)
	defer func() { doubling <- struct{}{} }()
	for _, step := range steps {
		enough := p.sent() + rate/2 + p.rng.IntN(rate/4)
		p.eventually("some to be sent", func() (string, bool) {
			n := p.sent()
			return fmt.Sprintf("%d, want %d", n, enough), n >= enough || p.ended()
		})
		switch step {
		case "double":
			select {
			case doubling <- struct{}{}:
				go func() { defer func() { <-doubling }(); p.double() }()
			default: // they still do
			}
			continue
		case "crash":
			p.birth()
			p.crash()
		}
		p.pause()
		if step != "pause" {
			p.handOutAgain("c")
		}
		p.resume()
	}
	p.dying.Wait()
	p.change(func(s *campaign.Status) error { return s.SetRate(0) })
	st := p.reaches("c", campaign.Done)
	halt()
	p.judge(st)
}

// must are those that are to be sent to exactly once.
func (p *audience) must() map[device.Token]bool {
	must := make(map[device.Token]bool)
	for t, tags := range p.tags {
		if p.matches(tags) {
			must[t] = true
		}
	}
	return must
}

// judge holds what was sent against what is known of the devices.
func (p *audience) judge(st campaign.Status) {
	p.t.Helper()
	got, repeated := make(map[device.Token]int), make(map[device.Token]int)
	for _, m := range append(p.workers, p.dead...) {
		m.mu.Lock()
		for t, a := range m.at {
			got[t] += a.times
			if !m.dead.IsZero() && m.dead.Sub(a.last) < untold {
				repeated[t]++
			}
		}
		m.mu.Unlock()
	}
	must, again, missing, outside := p.must(), 0, 0, 0
	for t := range must {
		if got[t] == 0 {
			missing++
		}
	}
	for t, n := range got {
		if n-1 > repeated[t] {
			again++
		}
		if !must[t] && !p.ever[t] {
			outside++
		}
	}
	if missing+again+outside > 0 {
		p.t.Errorf("got %d that were left out, %d that were sent to again, %d that do not belong to it, want none of %d", missing, again, outside, len(must))
	}
	totals := p.totals(st)
	sum := int64(0)
	for _, n := range totals.Counts {
		sum += n
	}
	if n := totals.Counts["accepted"]; n != sum || n != totals.Matched || n < int64(len(must)) || n > int64(len(got)) {
		p.t.Errorf("counts: got %+v, want as many accepted as matched, %d to %d", totals, len(must), len(got))
	}
	if totals.Devices != st.Devices || totals.Ranges != int64(st.Ranges) || st.Ranges < 2 {
		p.t.Errorf("counts: got %+v of %+v, want all ranges", totals, st)
	}
	growth, err := p.set.Growth(p.ctx, "shop")
	text, _ := json.Marshal(totals)
	p.t.Logf("%d ranges by %v, %d workers, buckets %+v, %v: %s", st.Ranges, st.Tags, p.number, growth, err, text)
}
