package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

// load registers, replaces, rejects, settles and scans on a cluster while the
// test does something to it, and keeps a model of what was acknowledged.
//
// Each writer has device tokens, users and installs of its own, so what must be
// there at the end follows from its own acknowledged calls alone. What fails is
// repeated until it does not, as the fleet does it.
type load struct {
	*fixture
	ctx      context.Context
	strict   bool // nothing may be lost
	stop     chan struct{}
	running  sync.WaitGroup
	calls    atomic.Int64 // that ended, well or not
	refused  atomic.Int64 // of them
	why      atomic.Value // string: the last refusal
	promoted time.Time    // when the replica of a killed master took over; set before end

	still   []device.Token // registered before, and left alone
	writers []*writer
	scans   atomic.Int64
}

// writer is the model of one goroutine.
type writer struct {
	n, next  int
	state    map[device.Token]fate
	installs [4]device.Token // the live device token of each
	told     []time.Time     // acknowledgements of outcomes of its job
}

// fate is what is acknowledged of a device token.
type fate struct {
	live bool
	user string
	at   time.Time // of the acknowledgement
}

const (
	loadWriters = 4
	loadStill   = 400
	loadTold    = 3 // recipients in each outcome
	loadBuckets = 8 // few, so that the one on the move is often asked for
)

func startLoad(t *testing.T, f *fixture, strict bool) *load {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	l := &load{fixture: f, ctx: ctx, strict: strict, stop: make(chan struct{})}
	var regs []device.Registration
	for n := range loadStill {
		reg := withOwner(1_000_000 + n)
		regs, l.still = append(regs, reg), append(l.still, reg.Token)
	}
	if _, err := f.RegisterMany(ctx, app, regs); err != nil {
		t.Fatal(err)
	}
	for n := range loadWriters {
		w := &writer{n: n, state: make(map[device.Token]fate)}
		l.writers = append(l.writers, w)
		l.running.Go(func() { l.write(t, w) })
	}
	l.running.Go(func() { l.scan(t) })
	t.Cleanup(func() {
		cancel() // what the test has given up ends here
		l.running.Wait()
	})
	return l
}

// do repeats a call until it succeeds. It reports false if the test is over.
func (l *load) do(t *testing.T, what string, call func() error) bool {
	for {
		err := call()
		l.calls.Add(1)
		if err == nil {
			return true
		}
		if l.ctx.Err() != nil {
			return false
		}
		l.refused.Add(1)
		l.why.Store(fmt.Sprintf("%s: %v", what, err))
	}
}

// write runs until the test stops it.
func (l *load) write(t *testing.T, w *writer) {
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		if !l.step(t, w) {
			return
		}
	}
}

// step does one thing and notes what is acknowledged.
func (l *load) step(t *testing.T, w *writer) bool {
	i := rand.N(len(w.installs))
	current := w.installs[i]
	switch what := rand.N(10); {
	case what < 6 || current.IsZero(): // an install with a new device token
		tok := token(2_000_000 + w.n*100_000 + w.next)
		if w.next++; w.next%8 == 0 {
			tok = longToken(2_000_000 + w.n*100_000 + w.next)
		}
		reg := registration(tok)
		reg.User = fmt.Sprintf("writer %d user %d", w.n, i)
		reg.InstallID = fmt.Sprintf("writer %d install %d", w.n, i)
		if what%2 == 0 {
			reg.PreviousToken = current
		}
		var got store.Registered
		if !l.do(t, "register", func() (err error) { got, err = l.Register(l.ctx, app, reg); return err }) {
			return false
		}
		if got.Superseded {
			t.Errorf("registration of writer %d: got %+v, and nobody else has that install", w.n, got)
		}
		w.state[tok] = fate{live: true, user: reg.User, at: time.Now()}
		if !current.IsZero() {
			w.state[current] = fate{at: time.Now()}
		}
		w.installs[i] = tok
	case what < 8: // APNs says that it is dead
		v := []store.Verdict{{Token: current, Said: store.Dead, Timestamp: l.clock.move(time.Second).UnixMilli()}}
		if !l.do(t, "410", func() error { _, err := l.Apply(l.ctx, app, v); return err }) {
			return false
		}
		w.state[current] = fate{at: time.Now()}
		w.installs[i] = device.Token{}
	case what < 9: // outcomes of a job
		st := store.Settlement{Job: w.job(), Sequence: uint64(len(w.told) + 1), Total: 1_000_000}
		for i := range loadTold {
			st.Hashes = append(st.Hashes, uint64(len(w.told)*loadTold+i))
			st.Results = append(st.Results, job.Accepted)
		}
		if !l.do(t, "settle", func() error { _, err := l.Settle(l.ctx, []store.Settlement{st}); return err }) {
			return false
		}
		w.told = append(w.told, time.Now())
	default: // what was acknowledged is read
		var found [][]store.Entry
		user := w.state[current].user
		if !l.do(t, "look up", func() (err error) { found, err = l.ByUsers(l.ctx, app, []string{user}); return err }) {
			return false
		}
		// What a killed master had acknowledged may be lost, and so may a removal.
		if got := tokensOf(found[0]); l.strict && (len(got) != 1 || got[0] != current) {
			t.Errorf("devices of %s: got %v, want %v", user, got, current)
		}
	}
	return true
}

func (w *writer) job() store.JobKey {
	return store.JobKey{App: app, Lane: job.Bulk, ID: fmt.Sprint("job-", w.n)}
}

// scan reads all buckets again and again, and wants what nobody changes in each
// reading, once.
func (l *load) scan(t *testing.T) {
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		var all []store.Entry
		if !l.do(t, "scan", func() (err error) { all, err = l.ScanBuckets(l.ctx, app, loadBuckets, 0, loadBuckets, nil); return err }) {
			return
		}
		l.scans.Add(1)
		seen := count(all)
		for _, tok := range l.still {
			if seen[tok] != 1 {
				t.Errorf("scan: got a device that nobody changes %d times, want it once", seen[tok])
				return
			}
		}
	}
}

func count(entries []store.Entry) map[device.Token]int {
	seen := make(map[device.Token]int)
	for _, e := range entries {
		seen[e.Token]++
	}
	return seen
}

// after waits until n more calls have ended. One that Redis keeps waiting ends
// with an error.
func (l *load) after(t *testing.T, n int64) {
	t.Helper()
	target := l.calls.Load() + n
	until(t, "calls", func() bool { return l.calls.Load() >= target })
}

// end stops the load and returns what is not as it was acknowledged.
func (l *load) end(t *testing.T) (lost []fate) {
	t.Helper()
	close(l.stop)
	l.running.Wait()
	all, err := l.ScanBuckets(l.ctx, app, loadBuckets, 0, loadBuckets, nil)
	if err != nil {
		t.Fatal(err)
	}
	for tok, n := range count(all) {
		if n != 1 {
			t.Errorf("scan at the end: got %v %d times, want it once", tok, n)
		}
	}
	known := 0
	for _, w := range l.writers {
		known += len(w.state)
		var tokens []device.Token
		for tok := range w.state {
			tokens = append(tokens, tok)
		}
		entries, err := l.Lookup(l.ctx, app, tokens, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			// One that was lost need not be removed afterwards.
			if want := w.state[e.Token]; (e.Known && e.Record.Usable()) != want.live || l.strict && !e.Known {
				lost = append(lost, want)
			}
		}
		for i, tok := range w.installs {
			if tok.IsZero() {
				continue
			}
			wantFound := func(what string, found [][]store.Entry, err error) {
				if err != nil {
					t.Fatal(err)
				}
				// That there is another one too is told by its own fate.
				if got := tokensOf(found[0]); !slices.Contains(got, tok) {
					lost = append(lost, w.state[tok])
					t.Logf("devices of %s %d of writer %d: got %v, want %v", what, i, w.n, got, tok)
				}
			}
			found, err := l.ByUsers(l.ctx, app, []string{w.state[tok].user})
			wantFound("user", found, err)
			found, err = l.ByInstalls(l.ctx, app, []string{fmt.Sprintf("writer %d install %d", w.n, i)})
			wantFound("install", found, err)
		}
		progress, err := l.Progress(l.ctx, []store.JobKey{w.job()})
		if err != nil {
			t.Fatal(err)
		}
		got, want := progress[0].Counts[job.Accepted], len(w.told)*loadTold
		if got > want || progress[0].Duplicates != 0 {
			t.Errorf("progress of writer %d: got %d accepted, %d duplicates, want %d and none", w.n, got, progress[0].Duplicates, want)
		}
		// Its keys and the guard's are in two slots.
		status, err := l.JobStatus(l.ctx, w.job())
		if err != nil || status.Counts[job.Accepted] != got || got > 0 && len(status.Outcomes) == 0 {
			t.Errorf("status of writer %d: got %+v, %v, want %d accepted, and places", w.n, status, err, got)
		}
		// Which of them are missing cannot be told: the last ones before the kill.
		last := w.told
		if !l.promoted.IsZero() {
			last = slices.DeleteFunc(last, l.promoted.Before)
		}
		for n := range (want - got + loadTold - 1) / loadTold {
			lost = append(lost, fate{at: last[len(last)-1-n]})
		}
	}
	if len(all) != known+loadStill {
		t.Logf("devices at the end: got %d, want %d", len(all), known+loadStill)
	}
	t.Logf("%d calls, of which %d were refused and repeated (the last: %v); %d scans; %d device tokens",
		l.calls.Load(), l.refused.Load(), l.why.Load(), l.scans.Load(), known)
	return lost
}

// heard counts what nodes said to pipelines.
type heard struct {
	mu   sync.Mutex
	said map[string]int
}

func (*heard) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*heard) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *heard) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, cmd := range cmds {
			for _, word := range []string{"ASK", "MOVED", "TRYAGAIN", "NOSCRIPT"} {
				if redis.HasErrorPrefix(cmd.Err(), word) {
					h.said[word]++
				}
			}
		}
		return err
	}
}

// Slots that hold device tokens, users, installs and progress move to another
// node, key by key, while all goes on: nothing that was acknowledged is lost or
// doubled.
func TestSlotsMoveUnderLoad(t *testing.T) {
	t.Parallel()
	f, cluster, ok := onCluster(t, loadBuckets, false)
	if !ok {
		return
	}
	h := &heard{said: make(map[string]int)}
	f.client.(*redis.ClusterClient).OnNewNode(func(c *redis.Client) { c.AddHook(h) })
	l := startLoad(t, f, true)
	l.after(t, 100)
	// No node has ever seen a script, as one that has just joined.
	for _, node := range cluster.Masters {
		if err := node.Client.ScriptFlush(l.ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	moves := make(map[int]int) // slot -> number of the master that has it
	for _, kind := range []string{"{shop:*}:d", "{shop:*}:u", "{shop:*}:i", "{j:*}:p"} {
		found := 0
		until(t, "keys of "+kind, func() bool {
			for n, node := range cluster.Masters {
				keys, err := node.Client.Keys(l.ctx, "pf:"+kind).Result()
				if err != nil {
					t.Fatal(err)
				}
				for _, key := range keys[:min(4, len(keys))] {
					slot, err := node.Client.ClusterKeySlot(l.ctx, key).Result()
					if err != nil {
						t.Fatal(err)
					}
					moves[int(slot)] = n
					found++
				}
				if found > 0 {
					return true
				}
			}
			return false
		})
	}
	var took, slowest time.Duration
	for slot, n := range moves {
		start := time.Now()
		from, to := cluster.Masters[n], cluster.Masters[(n+1)%len(cluster.Masters)]
		if err := cluster.MoveSlot(l.ctx, slot, from, to, func() { l.after(t, 8) }); err != nil {
			t.Fatal(err)
		}
		took += time.Since(start)
		slowest = max(slowest, time.Since(start))
	}
	l.after(t, 100)
	if lost := l.end(t); len(lost) > 0 {
		t.Errorf("not as it was acknowledged: got %d device tokens, users, installs or jobs, want none", len(lost))
	}
	t.Logf("%d slots moved in %s, the slowest in %s; nodes said %v", len(moves), took.Round(time.Millisecond), slowest.Round(time.Millisecond), h.said)
	// What a slot keeps waiting for longer than the token set waits is told.
	if n := l.refused.Load(); n > 0 && slowest < time.Second {
		t.Errorf("refused: got %d calls, the last %v, want none", n, l.why.Load())
	}
	for _, word := range []string{"ASK", "MOVED", "TRYAGAIN", "NOSCRIPT"} {
		if h.said[word] == 0 {
			t.Errorf("%s: got none in all of it, so the test shows nothing", word)
		}
	}
}

// A master is killed and its replica takes over. Calls fail meanwhile, go on by
// themselves, and of what was acknowledged at most the last moment before the kill
// is lost, which is Redis's own promise.
func TestMasterDiesUnderLoad(t *testing.T) {
	t.Parallel()
	f, cluster, ok := onCluster(t, loadBuckets, true, "--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0")
	if !ok {
		return
	}
	l := startLoad(t, f, false)
	l.after(t, 1000)
	// All that is acknowledged before this moment is at the replica before the kill.
	safe := time.Now()
	cluster.Masters[0].AwaitReplica(l.ctx, t)
	cluster.Masters[0].Kill()
	killed := time.Now()
	ctx, cancel := context.WithTimeout(l.ctx, 30*time.Second)
	defer cancel()
	cluster.AwaitMaster(ctx, t, cluster.Replicas[0])
	promoted := time.Now()
	// All buckets, and so all masters.
	until(t, "a scan of all", func() bool {
		_, err := l.ScanBuckets(l.ctx, app, loadBuckets, 0, loadBuckets, nil)
		return err == nil
	})
	whole := time.Now()
	l.after(t, 300)
	l.promoted = promoted
	lost := l.end(t)
	oldest := time.Duration(0)
	for _, f := range lost {
		if f.at.Before(safe) {
			t.Errorf("lost: got one that was acknowledged %s before the kill, and was at the replica", killed.Sub(f.at))
		}
		oldest = max(oldest, killed.Sub(f.at))
	}
	t.Logf("promoted %s after the kill, whole %s after that; %d not as acknowledged, the oldest %s before the kill",
		promoted.Sub(killed).Round(time.Millisecond), whole.Sub(promoted).Round(time.Millisecond), len(lost), oldest.Round(time.Millisecond))
}
