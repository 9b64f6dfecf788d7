//go:build chaos && linux

package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
)

// population is all device tokens of a run: the first registered ones are in the
// token set from the start, the others only in jobs.
type population struct {
	seed       uint64
	registered int
	size       int
	// Of the registered ones, the first ghosts are called dead since an hour ago,
	// which is before they were registered: a 410 must never remove them. The
	// devices of users follow; they are healthy. The plain ones follow.
	ghosts, users, perUser, plain int

	healthyUsers [][]int // devices of each user
}

func newPopulation(seed uint64, registered, size int) *population {
	p := &population{seed: seed, registered: registered, size: size, ghosts: registered / 100, users: registered / 20, perUser: 3}
	next := p.ghosts
	for range p.users {
		var devices []int
		for len(devices) < p.perUser && next < registered {
			if shares.Fate([]byte(p.token(next).Raw())) == apnstest.Healthy {
				devices = append(devices, next)
			}
			next++
		}
		p.healthyUsers = append(p.healthyUsers, devices)
	}
	p.plain = next
	return p
}

func (p *population) token(i int) device.Token {
	return device.TokenFromRaw(fmt.Sprintf("%016x%016d", p.seed, i))
}

func user(u int) string { return fmt.Sprintf("user-%d", u) }

// setUp registers devices and makes ghosts of some, as an operator and as APNs
// would.
func (p *population) setUp(f *fleet) {
	owner := make(map[int]int)
	for u, devices := range p.healthyUsers {
		for _, i := range devices {
			owner[i] = u
		}
	}
	name := filepath.Join(f.dir, "devices.ndjson")
	file, err := os.Create(name)
	f.check(err)
	enc := json.NewEncoder(file)
	for i := range p.registered {
		line := map[string]any{"token": p.token(i).Hex()}
		if u, ok := owner[i]; ok {
			line["user"] = user(u)
		}
		f.check(enc.Encode(line))
	}
	f.check(file.Close())
	_, err = f.command("device", "import", "--app", app, name)
	f.check(err)
	died := time.Now().Add(-time.Hour)
	for i := range p.ghosts {
		f.check(f.admin("PUT", "/devices/"+p.token(i).Hex(), apnstest.Device{DeadSince: &died}, nil))
	}
}

// order is a job that was published, and for whom.
type order struct {
	id    string
	lane  job.Lane
	first int // of its tokens in the population
	count int
	user  int // -1: tokens are named

	asked time.Time // before it was published, or when it was due to be
	taken time.Time // when JetStream had acknowledged it
}

func (o *order) job(p *population) *job.Job {
	j := &job.Job{ID: o.id, Notification: &job.Notification{Title: "chaos", Body: o.id}}
	if o.user >= 0 {
		j.To.Users = []string{user(o.user)}
		return j
	}
	for i := range o.count {
		j.To.Tokens = append(j.To.Tokens, p.token((o.first+i)%p.size))
	}
	return j
}

// tokens are the device tokens that it is for.
func (o *order) tokens(p *population) []device.Token {
	var list []device.Token
	if o.user >= 0 {
		for _, i := range p.healthyUsers[o.user] {
			list = append(list, p.token(i))
		}
		return list
	}
	return o.job(p).To.Tokens
}

// registration is a device change that was published.
type registration struct {
	token int
	asked time.Time
}

// load publishes jobs and registrations at a steady pace, and remembers every one
// that JetStream acknowledged.
type load struct {
	f    *fleet
	p    *population
	rng  *rand.Rand
	each float64 // notifications a tick

	number int // of the last job or registration

	mu            sync.Mutex
	orders        []*order       // guarded by mu: acknowledged
	registrations []registration // guarded by mu: acknowledged
	notifications int            // guarded by mu: of orders
}

// tick is how often jobs are published.
const tick = 200 * time.Millisecond

func newLoad(f *fleet, p *population, seed uint64, perSecond int) *load {
	return &load{f: f, p: p, rng: rand.New(rand.NewPCG(seed, 2)), each: float64(perSecond) * tick.Seconds()}
}

// run publishes until ctx ends, and then until the last is acknowledged.
func (l *load) run(ctx context.Context, want int) {
	p := producer.FromStreams(l.f.streams)
	pace := time.NewTicker(tick)
	defer pace.Stop()
	due, notifications := 0.0, 0
	for notifications < want {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
		byLane := make(map[job.Lane][]*order)
		for due += l.each; due > 0; {
			o := l.next()
			byLane[o.lane] = append(byLane[o.lane], o)
			due -= float64(o.count)
			notifications += o.count
		}
		for _, lane := range lanes {
			l.publish(p, lane, byLane[lane])
		}
		l.register()
	}
}

// burst publishes transactional jobs to one device each, at once.
func (l *load) burst(n int) {
	var orders []*order
	for i := range n {
		orders = append(orders, &order{id: fmt.Sprintf("burst-%d", i), lane: job.Transactional, user: -1, count: 1, first: l.p.plain + i%(l.p.size-l.p.plain)})
	}
	l.publish(producer.FromStreams(l.f.streams), job.Transactional, orders)
}

// next draws a job: by notifications, six in ten in lists of a thousand, two in
// lists of a hundred, the rest one by one, to tokens and to users.
func (l *load) next() *order {
	l.number++
	o := &order{id: fmt.Sprintf("c-%d", l.number), lane: job.Bulk, user: -1, count: 1}
	switch x := l.rng.IntN(10_000); {
	case x < 25:
		o.count = 1000
	case x < 110:
		o.count = 100
	case x < 4000:
	case x < 5000:
		o.user = l.rng.IntN(len(l.p.healthyUsers))
		o.count = l.p.perUser
		o.lane = job.Transactional
	default:
		o.lane = job.Transactional
	}
	o.first = l.rng.IntN(l.p.size)
	return o
}

// publish publishes until every job is acknowledged.
func (l *load) publish(p *producer.Producer, lane job.Lane, orders []*order) {
	for _, o := range orders {
		if o.asked.IsZero() {
			o.asked = time.Now()
		}
	}
	for len(orders) > 0 && l.f.ctx.Err() == nil {
		jobs := make([]*job.Job, len(orders))
		for i, o := range orders {
			jobs[i] = o.job(l.p)
		}
		ctx, cancel := context.WithTimeout(l.f.ctx, 5*time.Second)
		receipts, err := p.EnqueueBatch(ctx, app, lane, jobs)
		cancel()
		var left []*order
		now := time.Now()
		l.mu.Lock()
		for i, o := range orders {
			if receipts[i].Sequence == 0 {
				left = append(left, o)
				continue
			}
			o.taken = now
			l.orders = append(l.orders, o)
			l.notifications += o.count
		}
		l.mu.Unlock()
		if orders = left; err != nil {
			l.f.history.say("publish: %d jobs are not acknowledged: %.200v", len(left), err)
		}
	}
}

// register registers some devices again, ghosts and dead ones among them.
func (l *load) register() {
	for n := range 4 {
		l.number++
		// Never a user's: without the user it would leave them.
		i := l.p.plain + l.rng.IntN(l.p.registered-l.p.plain)
		if n == 0 {
			i = l.rng.IntN(l.p.ghosts)
		}
		body := fmt.Appendf(nil, `{"action":"register","token":%q}`, l.p.token(i).Hex())
		r := registration{token: i, asked: time.Now()}
		id := fmt.Sprintf("r-%d", l.number)
		l.f.insist("register", func(ctx context.Context) error { return l.f.streams.PublishDevice(ctx, app, id, body) })
		if l.f.ctx.Err() == nil {
			l.mu.Lock()
			l.registrations = append(l.registrations, r)
			l.mu.Unlock()
		}
	}
}

func (l *load) progress() (jobs, notifications int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.orders), l.notifications
}

var errNoConnection = errors.New("the simulator has no connection")

// openConnections are the simulator's connections from a worker.
func (f *fleet) openConnections(w *worker) ([]uint64, error) {
	var list []apnstest.Connection
	if err := f.admin("GET", "/connections", nil, &list); err != nil {
		return nil, err
	}
	mine := make(map[string]bool)
	w.apns.each(func(p *testenv.Proxy) {
		for _, a := range p.Dialed() {
			mine[a] = true
		}
	})
	var ids []uint64
	for _, c := range list {
		if mine[c.Remote] && c.ClosedAt.IsZero() {
			ids = append(ids, c.ID)
		}
	}
	if len(ids) == 0 {
		return nil, errNoConnection
	}
	return ids, nil
}
