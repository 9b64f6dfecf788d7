//go:build soak

package apns_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/pushfleet/pushfleet/apns"
	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// A test binary's flags have no other place than package variables.
var (
	soakFor  = flag.Duration("soak", 30*time.Second, "how long the soak test injects faults")
	soakSeed = flag.Uint64("soak.seed", 0, "seed of the soak test; 0: a new one")
	soakRate = flag.Int("soak.rate", 5000, "notifications per second that the soak test sends at most")
)

const (
	soakSenders        = 24
	soakConnections    = 3
	soakMaxConnections = 8
	soakDialsPerMinute = 30
	soakTimeout        = 4 * time.Second // ClientConfig.RequestTimeout
	soakMaxBatch       = 1000

	// A notification waits for a stream for at most twice the timeout (once more
	// if a connection gave it back), and then for its answer. The rest is for a
	// machine that is busy with other things.
	soakSendMost = 3*soakTimeout + 8*time.Second

	// soakRecovery is how long after the last fault a batch is accepted wholly.
	soakRecovery = 30 * time.Second

	// The ledger is checked and emptied at the end of each phase, so that memory
	// stays bounded. In a long phase a connection can stay half-open for as long as
	// the client needs to find out.
	soakPhase     = 15 * time.Second
	soakLongPhase = 45 * time.Second
	// In a storm every connection is ended as soon as it is there, so that nothing
	// but the client's own rule holds back its dials.
	soakStorm = 40 * time.Second

	// soakHeapMore is what the heap may have grown by at the end: a byte per
	// notification is accounted for apart.
	soakHeapMore = 8 << 20
	// soakCalmHeapMore is what the heap may grow by between the first calm and the
	// last one, with client and simulator alive and the ledger empty. The
	// simulator's maps keep the size that the largest phase gave them: up to
	// soakCalmHeapEach for each notification of it.
	soakCalmHeapMore = 8 << 20
	soakCalmHeapEach = 160
)

// fate is what the test knows of a notification, in one byte, for ever: whether
// the ledger has it, and what Send said.
type fate = uint8

const (
	fateTaken    fate = 0x80 // the ledger has it
	fateUnused   fate = 0
	fateSent     fate = 1 // Send has not returned
	fateAccepted fate = 2
	fateRejected fate = 3
	fateNotSent  fate = 4
	fateUnknown  fate = 5
)

// told is what Send said of a notification of the present phase.
type told struct {
	status uint16
	reason apns.Reason
	err    error
	times  atomic.Uint32 // that done was called
}

// soak is one run of the test.
type soak struct {
	t      *testing.T
	seed   uint64
	srv    *apnstest.Server
	client *apns.Client
	shares apnstest.Shares
	start  time.Time

	limiter *rate.Limiter

	mu         sync.Mutex
	violations []string
	fates      []fate // by number
	base       int    // number of the phase's first
	phase      []*told
	dialed     []time.Time // attempts, by the client's account
	slowest    time.Duration

	sent, accepted, rejected, notSent, unknown, batches, cancelled atomic.Int64

	// Only touched by the phase loop.
	faults  map[string]int
	opened  map[uint64]time.Time // connections, by the simulator's account
	refused map[time.Time]bool   // refused or stalled by a fault
	late    int                  // in the ledger only in a later phase
	largest int                  // notifications in a phase, at most
	cut     int                  // rejections without a reason: the answer ended before its body
	// headersOnly: a fault of the phase cut answers off after their headers. The
	// status is the answer then, and the reason is unknown.
	headersOnly bool
	simTotal    simTotals
}

// simTotals sums what the simulator counted over all phases.
type simTotals struct {
	received, accepted, rejected, faulted, withdrawn, duplicates, cancelled, lost, goAways, refusedStreams, pings int64
	handshakesFailed                                                                                              int64
}

func (s *soak) violate(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.violations) < 100 {
		s.violations = append(s.violations, fmt.Sprintf("[%v] ", time.Since(s.start).Round(time.Millisecond))+fmt.Sprintf(format, args...))
	}
}

func (s *soak) violated() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.violations)
}

// reserve takes n numbers of notifications.
func (s *soak) reserve(n int) (first int, ts []*told) {
	block := make([]told, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	first = len(s.fates)
	for i := range block {
		s.fates = append(s.fates, fateSent)
		s.phase = append(s.phase, &block[i])
	}
	return first, s.phase[len(s.phase)-n:]
}

// rawToken is the device token of a number: the number, mixed with the seed so
// that its fate varies between runs.
func (s *soak) rawToken(n int) [32]byte {
	var raw [32]byte
	binary.BigEndian.PutUint64(raw[0:], uint64(n)*0x9e3779b97f4a7c15^s.seed)
	binary.BigEndian.PutUint64(raw[8:], s.seed)
	binary.BigEndian.PutUint64(raw[24:], uint64(n))
	return raw
}

func (s *soak) apnsID(n int) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[0:], s.seed)
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// appendPayload appends what the notification with a number says: mostly little,
// now and then as much as APNs takes.
func (s *soak) appendPayload(dst []byte, n int) []byte {
	dst = append(dst, `{"aps":{"alert":"n`...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, `"},"pad":"`...)
	pad := n * 7 % 150
	if n%37 == 0 {
		pad = 1000 + n%2900
	}
	for range pad {
		dst = append(dst, 'x')
	}
	return append(dst, `"}`...)
}

func (s *soak) fill(b *apns.Notification, n int) {
	raw := s.rawToken(n)
	*b = apns.Notification{
		DeviceToken: device.TokenFromRaw(string(raw[:])), APNsID: s.apnsID(n),
		Topic: "com.example.app", PushType: job.PushAlert, Priority: 10, Expiration: -1,
		Payload: s.appendPayload(b.Payload[:0], n),
	}
	switch n % 5 {
	case 0:
		b.Priority = 5
	case 1:
		b.Topic = "com.example.other"
	case 2:
		b.Expiration = 1_900_000_000 + int64(n)
	case 3:
		b.CollapseID = "c" + strconv.Itoa(n%11)
	}
}

// send sends a batch that begins with a number, and checks that everything is
// told once. The batch is the caller's again afterwards.
func (s *soak) send(ctx context.Context, lane job.Lane, first int, ts []*told, batch []apns.Notification) {
	var left atomic.Int64
	left.Store(int64(len(batch)))
	s.sent.Add(int64(len(batch)))
	s.batches.Add(1)
	begun := time.Now()
	s.client.Send(ctx, lane, batch, func(i int, r apns.Response) {
		if i < 0 || i >= len(ts) {
			s.violate("done: got index %d of a batch of %d", i, len(ts))
			return
		}
		if n := ts[i].times.Add(1); n != 1 {
			s.violate("notification %d: done called %d times, now with status %d, error %v", first+i, n, r.Status, r.Err)
			return
		}
		ts[i].status, ts[i].reason, ts[i].err = uint16(r.Status), r.Reason, r.Err
		if want := s.apnsID(first + i); r.APNsID != want {
			s.violate("notification %d: got apns-id %v, want %v", first+i, r.APNsID, want)
		}
		left.Add(-1)
	})
	took := time.Since(begun)
	if n := left.Load(); n != 0 {
		s.violate("batch of %d at %d: Send returned with %d notifications untold", len(batch), first, n)
	}
	if took > soakSendMost {
		s.violate("batch of %d at %d, lane %v: Send took %v, want at most %v", len(batch), first, lane, took, soakSendMost)
	}
	// The batch is ours again: who still reads it sends nonsense.
	for i := range batch {
		for j := range batch[i].Payload {
			batch[i].Payload[j] = '!'
		}
		batch[i] = apns.Notification{Payload: batch[i].Payload}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slowest = max(s.slowest, took)
	for i, r := range ts {
		f := fateUnknown
		switch {
		case r.times.Load() == 0:
			f = fateSent
		case r.err == nil && r.status == 200:
			f = fateAccepted
			s.accepted.Add(1)
		case r.err == nil:
			f = fateRejected
			s.rejected.Add(1)
		case errors.Is(r.err, apns.ErrNotSent):
			f = fateNotSent
			s.notSent.Add(1)
		default:
			s.unknown.Add(1)
		}
		s.fates[first+i] = s.fates[first+i]&fateTaken | f
	}
}

// sender sends batches until ctx ends.
func (s *soak) sender(ctx context.Context, rng *rand.Rand) {
	own := make([]apns.Notification, soakMaxBatch)
	for {
		// From 1 to 1000, each order of magnitude as often.
		n := min(soakMaxBatch, int(math.Pow(10, 3.01*rng.Float64())))
		lane := job.Bulk
		if rng.IntN(4) == 0 {
			lane = job.Transactional
		}
		var deadline time.Duration
		if rng.IntN(20) == 0 {
			deadline = time.Duration(rng.ExpFloat64() * float64(50*time.Millisecond))
		}
		if s.limiter.WaitN(ctx, n) != nil {
			return
		}
		first, ts := s.reserve(n)
		batch := own[:n]
		for i := range batch {
			s.fill(&batch[i], first+i)
		}
		sendCtx, cancel := context.Background(), context.CancelFunc(func() {})
		if deadline > 0 {
			s.cancelled.Add(1)
			sendCtx, cancel = context.WithTimeout(sendCtx, deadline)
		}
		s.send(sendCtx, lane, first, ts, batch)
		cancel()
	}
}

// clean sends to healthy device tokens until a batch is accepted wholly.
func (s *soak) clean(limit time.Duration) {
	begun := time.Now()
	var last string
	for tries := 1; ; tries++ {
		first, ts := s.reserve(2 * 500)
		batch, to, numbers := make([]apns.Notification, 0, 500), make([]*told, 0, 500), make([]int, 0, 500)
		for i := range ts {
			raw := s.rawToken(first + i)
			if len(batch) == 500 || s.shares.Fate(raw[:]) != apnstest.Healthy {
				continue
			}
			var b apns.Notification
			s.fill(&b, first+i)
			batch, to, numbers = append(batch, b), append(to, ts[i]), append(numbers, first+i)
		}
		s.mu.Lock()
		for i := range ts {
			s.fates[first+i] = fateUnused
		}
		s.mu.Unlock()
		s.sent.Add(int64(len(batch)))
		bad := 0
		var mu sync.Mutex
		s.client.Send(context.Background(), job.Lane(tries%2), batch, func(i int, r apns.Response) {
			if n := to[i].times.Add(1); n != 1 {
				s.violate("clean notification %d: done called %d times", numbers[i], n)
				return
			}
			to[i].status, to[i].reason, to[i].err = uint16(r.Status), r.Reason, r.Err
			f, count := fateAccepted, &s.accepted
			switch {
			case r.Err == nil && r.Status == 200:
			case r.Err == nil:
				f, count = fateRejected, &s.rejected
			case errors.Is(r.Err, apns.ErrNotSent):
				f, count = fateNotSent, &s.notSent
			default:
				f, count = fateUnknown, &s.unknown
			}
			count.Add(1)
			mu.Lock()
			if f != fateAccepted {
				bad++
				last = fmt.Sprintf("status %d %s, error %v", r.Status, r.Reason, r.Err)
			}
			mu.Unlock()
			s.mu.Lock()
			s.fates[numbers[i]] = f
			s.mu.Unlock()
		})
		switch took := time.Since(begun); {
		case bad == 0 && took <= limit:
			return
		case bad == 0, took > limit:
			s.violate("clean batch: wholly accepted only after %v and %d tries, want within %v; the last bad one of %d: %s; simulator: %s",
				took, tries, limit, bad, last, s.connectionsText())
			return
		}
	}
}

func (s *soak) connectionsText() string {
	var b strings.Builder
	for _, c := range s.srv.Connections() {
		if c.ClosedAt.IsZero() {
			fmt.Fprintf(&b, "{%d limit %d received %d unanswered %d} ", c.ID, c.StreamLimit, c.Received, c.Unanswered)
		}
	}
	return b.String()
}

// numberOf is the number that a record is of.
func (s *soak) numberOf(r *apnstest.Record) (int, bool) {
	tok, err := device.ParseToken(r.DeviceToken)
	if err != nil || tok.Len() != 32 {
		return 0, false
	}
	n := int(binary.BigEndian.Uint64([]byte(tok.Raw())[24:]))
	raw := s.rawToken(n)
	return n, tok.Raw() == string(raw[:]) && strings.EqualFold(r.APNsID, s.apnsID(n).String())
}

// check compares what was told in the phase with the simulator's ledger. Nothing
// is being sent.
func (s *soak) check() {
	records := s.srv.Ledger(apnstest.Filter{})
	st := s.srv.Stats()
	s.mu.Lock()
	fates, base, phase := s.fates, s.base, s.phase
	s.mu.Unlock()
	over := make(map[uint64]bool)
	for _, c := range s.srv.Connections() {
		over[c.ID] = !c.ClosedAt.IsZero()
	}
	seen := make([]*apnstest.Record, len(phase))
	var payload []byte
	for i := range records {
		r := &records[i]
		if r.Withdrawn || r.Status == 0 {
			continue
		}
		n, ok := s.numberOf(r)
		if !ok || n >= len(fates) {
			s.violate("ledger: a request that was never made: %s", recordText(r))
			continue
		}
		if payload = s.appendPayload(payload[:0], n); r.Body != string(payload) {
			s.violate("ledger: notification %d has another body (%d bytes, want %d): %.60q", n, len(r.Body), len(payload), r.Body)
		}
		f := fates[n] &^ fateTaken
		if fates[n]&fateTaken != 0 {
			first := "an earlier phase"
			if n >= base && seen[n-base] != nil {
				first = recordText(seen[n-base])
			}
			s.violate("ledger: notification %d (%s) was processed twice: %s, then %s", n, fateText(f), first, recordText(r))
			continue
		}
		fates[n] |= fateTaken
		if n < base {
			s.late++
			if f != fateUnknown {
				s.violate("ledger: notification %d of an earlier phase, told as %s, came late: %s", n, fateText(f), recordText(r))
			}
			continue
		}
		seen[n-base] = r
		tr := phase[n-base]
		switch f {
		case fateUnused:
			s.violate("ledger: notification %d was never sent: %s", n, recordText(r))
		case fateNotSent:
			s.violate("ledger: notification %d was told as not sent (%v): %s", n, tr.err, recordText(r))
		case fateAccepted:
			if r.Status != 200 || !r.Answered && !s.headersOnly {
				s.violate("ledger: notification %d was told as accepted: %s", n, recordText(r))
			}
		case fateRejected:
			whole := r.Reason == string(tr.reason) && r.Answered
			// Only what ended before its body may lack the reason: a stream that a fault
			// reset, or a connection that is over.
			half := tr.reason == "" && (s.headersOnly && !r.Answered || over[r.Connection])
			if half {
				s.cut++
			}
			if r.Status != int(tr.status) || !whole && !half {
				s.violate("ledger: notification %d was told as rejected with %d %s: %s", n, tr.status, tr.reason, recordText(r))
			}
		case fateSent:
			s.violate("notification %d: never told", n)
		}
	}
	for i, tr := range phase {
		n := base + i
		f := fates[n] &^ fateTaken
		if (f == fateAccepted || f == fateRejected) && fates[n]&fateTaken == 0 {
			s.violate("notification %d was told as %s (%d %s) and is not in the ledger", n, fateText(f), tr.status, tr.reason)
		}
		if times := tr.times.Load(); f != fateUnused && times != 1 {
			s.violate("notification %d: done called %d times, want once", n, times)
		}
	}
	if st.Duplicates != 0 {
		s.violate("simulator: got %d duplicates, want none", st.Duplicates)
	}
	s.gather(st)
	s.srv.Reset()
	s.headersOnly = false
	s.mu.Lock()
	defer s.mu.Unlock()
	s.largest = max(s.largest, len(s.phase))
	s.base, s.phase = len(s.fates), nil
}

func (s *soak) gather(st apnstest.Stats) {
	t := &s.simTotal
	t.received += st.Received
	t.accepted += st.Accepted
	t.rejected += st.Rejected
	t.faulted += st.Faulted
	t.withdrawn += st.Withdrawn
	t.duplicates += st.Duplicates
	t.cancelled += st.Cancelled
	t.lost += st.AnswersLost
	t.goAways += st.GoAways
	t.refusedStreams += st.RefusedStreams
	t.pings += st.PingsReceived
	t.handshakesFailed += st.HandshakesFailed
	s.look()
}

// look takes down which connections the simulator has seen.
func (s *soak) look() {
	for _, c := range s.srv.Connections() {
		s.opened[c.ID] = c.OpenedAt
	}
	for _, e := range s.srv.Events() {
		if e.What == "connection refused" || e.What == "handshake stalled" || e.What == "no settings" {
			s.refused[e.At] = true
		}
	}
}

// mostConnects returns the most connects, by the simulator's account, within any
// span of time.
func (s *soak) mostConnects(within time.Duration) int {
	var all []time.Time
	for _, at := range s.opened {
		all = append(all, at)
	}
	for at := range s.refused {
		all = append(all, at)
	}
	return mostWithin(all, within)
}

func mostWithin(all []time.Time, within time.Duration) (most int) {
	all = slices.SortedFunc(slices.Values(all), time.Time.Compare)
	from := 0
	for i, at := range all {
		for at.Sub(all[from]) >= within {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

func fateText(f fate) string {
	return [...]string{"unused", "never told", "accepted", "rejected", "not sent", "unknown"}[f]
}

func recordText(r *apnstest.Record) string {
	return fmt.Sprintf("connection %d stream %d at %s: %d %s, answered %v", r.Connection, r.Stream,
		r.ReceivedAt.Format("15:04:05.000"), r.Status, r.Reason, r.Answered)
}

// settle waits until the simulator holds no request any more.
func (s *soak) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.srv.Wait(ctx, func(st apnstest.Stats) bool { return st.Pending == 0 }); err != nil {
		s.violate("simulator still holds %d requests 20 s after all were told, connections: %s", s.srv.Stats().Pending, s.connectionsText())
	}
}

func (s *soak) progress() {
	st := s.srv.Stats()
	s.mu.Lock()
	dials := len(s.dialed)
	s.mu.Unlock()
	s.t.Logf("%6.0fs  sent %d  accepted %d  rejected %d  not sent %d  unknown %d  connections %d  dials %d  rss %d MB  goroutines %d  violations %d",
		time.Since(s.start).Seconds(), s.sent.Load(), s.accepted.Load(), s.rejected.Load(), s.notSent.Load(), s.unknown.Load(),
		st.ConnectionsOpen, dials, rssBytes()>>20, runtime.NumGoroutine(), s.violated())
}

// rssBytes is the process's resident memory; 0 where the system does not say.
func rssBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

func heapAfterGC() uint64 {
	runtime.GC()
	runtime.GC() // sync.Pool gives up its memory at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// goroutinesSettled returns how many goroutines there are once there are no more
// than want, or after a while.
func goroutinesSettled(want int) int {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	give := time.After(10 * time.Second)
	for n := runtime.NumGoroutine(); ; n = runtime.NumGoroutine() {
		if n <= want {
			return n
		}
		select {
		case <-tick.C:
		case <-give:
			return n
		}
	}
}

// Whatever APNs and the network do, for as long as one likes: each notification
// ends in exactly one outcome, which is true by the simulator's ledger; the client
// makes no duplicate, does not storm, and leaves nothing behind.
//
//	go test -tags soak -run Soak -timeout 15m ./apns -soak=10m
func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 48)
	}
	t.Logf("soak: %v at %d/s at most; replay with -soak=%v -soak.seed=%d", *soakFor, *soakRate, *soakFor, seed)
	goroutinesBefore, heapBefore := runtime.NumGoroutine(), heapAfterGC()

	shares := apnstest.Shares{Dead: 0.02, Bad: 0.005, WrongTopic: 0.005}
	srv, err := apnstest.New(apnstest.Config{
		DeadShare: shares.Dead, BadShare: shares.Bad, WrongTopicShare: shares.WrongTopic,
		LedgerLimit: 10_000_000,
	})
	if err != nil {
		t.Fatalf("start simulator: %v", err)
	}
	s := &soak{
		t: t, seed: seed, srv: srv, shares: shares, start: time.Now(),
		limiter: rate.NewLimiter(rate.Limit(*soakRate), 2*soakMaxBatch),
		faults:  make(map[string]int), opened: make(map[uint64]time.Time), refused: make(map[time.Time]bool),
	}
	metrics := prometheus.NewRegistry()
	s.client, err = apns.New(apns.ClientConfig{
		Credential: keyOf(t, srv), URL: srv.URL(), RootCAs: srv.CAPool(),
		Connections: soakConnections, MaxConnections: soakMaxConnections,
		DialsPerMinute: soakDialsPerMinute, RequestTimeout: soakTimeout,
		Metrics: metrics,
		// It is asked before each attempt to connect.
		Proxy: func(*url.URL) (*url.URL, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.dialed = append(s.dialed, time.Now())
			return nil, nil
		},
	})
	if err != nil {
		_ = srv.Close()
		t.Fatalf("new client: %v", err)
	}

	stopProgress, progressDone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(progressDone)
		tick := time.NewTicker(10 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.progress()
			case <-stopProgress:
				return
			}
		}
	}()

	rng := rand.New(rand.NewPCG(seed, 1))
	s.clean(soakRecovery) // connects
	s.settle()
	s.check()
	firstCalm := heapAfterGC() - uint64(cap(s.fates))
	calm := firstCalm
	end := time.Now().Add(*soakFor)
	for i := 0; time.Now().Before(end) && s.violated() < 100; i++ {
		length, recovery := soakPhase, soakRecovery
		switch i % 4 {
		case 1:
			length = soakLongPhase
		case 3:
			// The dials of the minute are used up then.
			length, recovery = soakStorm, recovery+time.Minute
		}
		s.runPhase(rng, min(length, time.Until(end)), i%4 == 3)
		s.clean(recovery)
		s.settle()
		s.check()
		calm = heapAfterGC() - uint64(cap(s.fates))
	}
	counters := metricsText(t, metrics)
	close(stopProgress)
	<-progressDone
	s.progress()

	if err := s.client.Close(); err != nil {
		t.Errorf("close client: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Wait(ctx, func(st apnstest.Stats) bool { return st.ConnectionsOpen == 0 }); err != nil {
		s.violate("simulator: %d connections open 10 s after Close, want none: %s", srv.Stats().ConnectionsOpen, s.connectionsText())
	}
	s.gather(srv.Stats())
	if err := srv.Close(); err != nil {
		t.Errorf("close simulator: %v", err)
	}

	if got := s.mostConnects(time.Minute); got > soakDialsPerMinute {
		s.violate("simulator: got %d connects within a minute, want at most %d", got, soakDialsPerMinute)
	}
	if got := mostWithin(s.dialed, time.Minute); got > soakDialsPerMinute {
		s.violate("client: got %d dials within a minute, want at most %d", got, soakDialsPerMinute)
	}
	if more := uint64(soakCalmHeapMore + soakCalmHeapEach*s.largest); calm > firstCalm+more {
		s.violate("heap in a calm: got %d KB in the last, want at most %d KB more than the %d KB of the first", calm>>10, more>>10, firstCalm>>10)
	}
	if s.accepted.Load() == 0 {
		s.violate("nothing was accepted")
	}
	s.client, s.srv, s.limiter = nil, nil, nil
	goroutinesAfter := goroutinesSettled(goroutinesBefore)
	if goroutinesAfter > goroutinesBefore {
		buf := make([]byte, 1<<20)
		s.violate("goroutines: got %d, want %d as before:\n%s", goroutinesAfter, goroutinesBefore, buf[:runtime.Stack(buf, true)])
	}
	heapAfter := heapAfterGC()
	if heapAfter > heapBefore+uint64(cap(s.fates))+soakHeapMore {
		s.violate("heap: got %d KB, want at most %d KB more than the %d KB before", heapAfter>>10, (soakHeapMore+cap(s.fates))>>10, heapBefore>>10)
	}

	s.summary(counters, [2]int{goroutinesBefore, goroutinesAfter}, [4]uint64{heapBefore, firstCalm, calm, heapAfter})
	for _, v := range s.violations {
		t.Errorf("seed %d: %s", seed, v)
	}
}

// runPhase sends for a while under faults, and returns once everything is told
// and no fault acts any more.
func (s *soak) runPhase(rng *rand.Rand, length time.Duration, storm bool) {
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var senders sync.WaitGroup
	for range soakSenders {
		own := rand.New(rand.NewPCG(rng.Uint64(), 2))
		senders.Go(func() { s.sender(ctx, own) })
	}
	f := newFaulter(s, rng)
	if storm {
		f.storm(ctx)
	} else {
		f.run(ctx)
	}
	f.heal()
	told := make(chan struct{})
	go func() {
		senders.Wait()
		close(told)
	}()
	select {
	case <-told:
	case <-time.After(2 * time.Minute):
		buf := make([]byte, 4<<20)
		s.t.Fatalf("seed %d: Send hangs 2 minutes after the end of a phase, simulator: %s\n%s", s.seed, s.connectionsText(), buf[:runtime.Stack(buf, true)])
	}
}

func metricsText(t *testing.T, reg *prometheus.Registry) (out []string) {
	families, err := reg.Gather()
	if err != nil {
		t.Fatalf("gather metrics: %v", err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			name := strings.TrimPrefix(f.GetName(), "pushfleet_apns_")
			switch {
			case m.GetCounter() != nil:
				out = append(out, fmt.Sprintf("%s{%s} %.0f", name, strings.Join(labels, ","), m.GetCounter().GetValue()))
			case m.GetGauge() != nil:
				out = append(out, fmt.Sprintf("%s{%s} %.4g", name, strings.Join(labels, ","), m.GetGauge().GetValue()))
			}
		}
	}
	return out
}

func (s *soak) summary(counters []string, goroutines [2]int, heap [4]uint64) {
	var b strings.Builder
	row := func(name string, v any) { fmt.Fprintf(&b, "  %-44s %12v\n", name, v) }
	fmt.Fprintf(&b, "soak summary: seed %d, %v of faults, %v in all\n", s.seed, *soakFor, time.Since(s.start).Round(time.Second))
	row("notifications sent", s.sent.Load())
	row("batches", s.batches.Load())
	row("batches with a deadline", s.cancelled.Load())
	row("accepted", s.accepted.Load())
	row("rejected", s.rejected.Load())
	row("  of these, with the reason cut off", s.cut)
	row("not sent", s.notSent.Load())
	row("unknown", s.unknown.Load())
	row("  of these, in the ledger", s.takenUnknown())
	row("  of these, only in a later phase", s.late)
	row("slowest Send", s.slowest.Round(time.Millisecond))
	b.WriteString("simulator\n")
	st := s.simTotal
	row("received, judged", st.received)
	row("accepted", st.accepted)
	row("rejected", st.rejected)
	row("not judged, by a fault", st.faulted)
	row("disowned by GOAWAY after acceptance", st.withdrawn)
	row("duplicates", st.duplicates)
	row("reset by the client", st.cancelled)
	row("judged and lost with their connection", st.lost)
	row("streams refused above the limit", st.refusedStreams)
	row("GOAWAYs", st.goAways)
	row("PINGs from the client", st.pings)
	row("connections", len(s.opened))
	row("refused, stalled or mute from the start", len(s.refused))
	row("handshakes failed", st.handshakesFailed)
	row("most connects in a minute (simulator)", fmt.Sprintf("%d of %d", s.mostConnects(time.Minute), soakDialsPerMinute))
	row("most dials in a minute (client)", fmt.Sprintf("%d of %d", mostWithin(s.dialed, time.Minute), soakDialsPerMinute))
	row("dials", len(s.dialed))
	b.WriteString("faults injected\n")
	names := make([]string, 0, len(s.faults))
	total := 0
	for name, n := range s.faults {
		names = append(names, name)
		total += n
	}
	slices.Sort(names)
	for _, name := range names {
		row(name, s.faults[name])
	}
	row("all", total)
	b.WriteString("client metrics at the end\n")
	for _, c := range counters {
		fmt.Fprintf(&b, "  %s\n", c)
	}
	b.WriteString("resources\n")
	row("goroutines before, after", fmt.Sprintf("%d, %d", goroutines[0], goroutines[1]))
	row("heap before, after (KB)", fmt.Sprintf("%d, %d", heap[0]>>10, heap[3]>>10))
	row("heap in the first calm, the last (KB)", fmt.Sprintf("%d, %d", heap[1]>>10, heap[2]>>10))
	row("the test's own byte per notification (KB)", cap(s.fates)>>10)
	row("violations", len(s.violations))
	s.t.Log(b.String())
}

func (s *soak) takenUnknown() (n int) {
	for _, f := range s.fates {
		if f == fateUnknown|fateTaken {
			n++
		}
	}
	return n
}
