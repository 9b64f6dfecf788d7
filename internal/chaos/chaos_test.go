//go:build chaos && linux

package chaos_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/internal/testenv"
)

var (
	seedFlag     = flag.Uint64("chaos.seed", 0, "what to draw the faults and the jobs from; 0: a new seed")
	forFlag      = flag.Duration("chaos.for", 75*time.Second, "how long to publish")
	countFlag    = flag.Int("chaos.notifications", 100_000, "how many notifications to publish in that time")
	serversFlag  = flag.Int("chaos.servers", 3, "how many nats-servers: 1, or 3 as a cluster")
	previousFlag = flag.String("chaos.previous", "", "a revision of which half of the workers are")
	apartFlag    = flag.Duration("chaos.apart", 0, "do each kind of thing once, so long after the one before; 0: as drawn")
	keepFlag     = flag.String("chaos.keep", "", "directory for what is kept of a run that fails (default: the system's)")
)

const (
	workers = 4
	// quiet is how long nothing is done to the fleet at first, after which there
	// must be no duplicate.
	quiet = 8 * time.Second
	// long is from when on a run has faults that take minutes.
	long = 10 * time.Minute
)

// plan is one run.
type plan struct {
	seed    uint64
	during  time.Duration
	count   int
	servers int
	keep    string
	apart   time.Duration
	// expectFailure: the fleet breaks a promise, and nothing of it is kept.
	expectFailure bool
}

// TestChaos breaks a fleet and checks that it has kept its promises.
func TestChaos(t *testing.T) {
	p := plan{seed: *seedFlag, during: *forFlag, count: *countFlag, servers: *serversFlag, keep: *keepFlag, apart: *apartFlag}
	if p.seed == 0 {
		p.seed = uint64(rand.Uint32())
	}
	b := binaries{t.TempDir()}
	current := b.build(t, "pushfleet", root(t), "./cmd/pushfleet")
	bins := programs{pushfleet: current, nats: b.build(t, "nats-server", root(t), "github.com/nats-io/nats-server/v2")}
	for i := range workers {
		bins.workers = append(bins.workers, current)
		if *previousFlag != "" && i%2 == 1 {
			bins.workers[i] = buildRevision(t, b, *previousFlag)
		}
	}
	v := run(t, p, bins)
	report(t, p, v)
	if v.failed() {
		t.Fail()
	}
}

// buildRevision builds pushfleet as it was at a revision.
func buildRevision(t *testing.T, b binaries, revision string) string {
	t.Helper()
	path := b.path("pushfleet-previous")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	tree := filepath.Join(t.TempDir(), "tree")
	if out, err := exec.Command("git", "-C", root(t), "worktree", "add", "--detach", tree, revision).CombinedOutput(); err != nil {
		t.Fatalf("check out %s: %v\n%s", revision, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("git", "-C", root(t), "worktree", "remove", "--force", tree).CombinedOutput(); err != nil {
			t.Errorf("remove worktree: %v\n%s", err, out)
		}
	})
	return b.build(t, "pushfleet-previous", tree, "./cmd/pushfleet")
}

// run runs one plan. What it left behind is kept if it failed.
func run(t *testing.T, p plan, bins programs) *verdict {
	t.Helper()
	dir, err := os.MkdirTemp(p.keep, fmt.Sprintf("chaos-%d-", p.seed)) //nolint:usetesting // kept if the run fails
	if err != nil {
		t.Fatal(err)
	}
	var v *verdict
	t.Cleanup(func() {
		if (v == nil || v.failed()) && !p.expectFailure {
			t.Logf("seed %d: history, journal and logs are in %s", p.seed, dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	t.Logf("seed %d: %d notifications in %s, %d nats-servers, %d workers", p.seed, p.count, p.during, p.servers, len(bins.workers))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*p.during+40*time.Minute, errTooLong)
	defer cancel()
	f := startFleet(ctx, t, dir, bins, p.servers)
	registered := max(2000, p.count/10)
	people := newPopulation(p.seed, registered, registered*3/2)
	people.setUp(f)
	roll := newRoll(p.seed)
	roll.setUp(f)
	hooked := startBackend(f, p.seed, p.servers)
	m := newMonkey(f, p.seed, p.during >= long)
	m.apart = p.apart
	f.check(f.admin("PUT", "/faults", m.faults(), nil))

	l := newLoad(f, people, p.seed, int(float64(p.count)/p.during.Seconds()))
	loading, stopLoading := context.WithCancel(ctx)
	defer stopLoading()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(loading, p.count)
	}()
	c := newCampaigns(f, roll, m, p.seed)
	campaigned := make(chan struct{})
	go func() {
		defer close(campaigned)
		c.run(loading, p.during)
	}()
	defer func() { stopLoading(); <-done; <-campaigned }()
	stopProgress := tell(t, f, l, p)
	defer stopProgress()

	early := duplicatesAfterQuiet(f, done)
	cleanKill(l, m, done)
	breaking, stopBreaking := context.WithCancel(ctx)
	go func() {
		defer stopBreaking()
		select {
		case <-done:
		case <-ctx.Done():
		}
	}()
	unwell := make(chan struct{})
	go func() {
		defer close(unwell)
		hooked.run(breaking)
	}()
	m.run(breaking)
	<-unwell
	<-done
	<-campaigned
	f.history.say("all is published")
	patience := 3 * time.Minute
	if p.during >= long {
		patience = 35 * time.Minute // what APNs answered 5xx is tried again after 15 minutes
	}
	stuck := f.await("an empty queue", patience, f.backlog)
	if stuck == nil {
		stuck = f.await("the end of all campaigns", patience, c.ended)
	}
	if stuck == nil {
		stuck = f.await("the backend to be told of everything", patience, hooked.drained)
	}
	if err := m.failure(); err != nil {
		t.Errorf("seed %d: %v", p.seed, err)
	}
	faults, dialed := f.history.list(), f.dialed()
	for _, w := range f.workers {
		if err := w.stop(time.Minute); err != nil {
			t.Errorf("stop %s: %v", w.name, err)
		}
	}
	if err := f.sim.stop(time.Minute); err != nil {
		t.Errorf("stop the simulator: %v", err)
	}
	f.check(c.show())
	j, err := readJournal(f.journal)
	f.check(err)
	v, err = judge(f, l, c, j, newBounding(j, faults, dialed), faults)
	f.check(err)
	f.check(v.judgeWebhook(f, l, hooked, faults))
	if stuck != nil {
		v.bad("stuck", "%v", stuck)
	}
	if early > 0 {
		v.bad("duplicates without a fault", "%d", early)
	}
	if m.failure() != nil || t.Failed() {
		v.bad("process", "see above")
	}
	for _, text := range v.problems {
		f.history.say("VERDICT %s", text)
	}
	return v
}

var errTooLong = fmt.Errorf("chaos: the run takes too long")

// duplicatesAfterQuiet lets the fleet work in peace for a while.
func duplicatesAfterQuiet(f *fleet, done <-chan struct{}) int64 {
	select {
	case <-time.After(quiet):
	case <-done:
	}
	var st apnstest.Stats
	f.check(f.admin("GET", "/stats", nil, &st))
	return st.Duplicates
}

// cleanKill kills one worker that holds urgent jobs, and does nothing else until
// they must be done.
func cleanKill(l *load, m *monkey, done <-chan struct{}) {
	l.burst(2000)
	m.killWorker()
	select {
	case <-time.After(urgentWithin + time.Second):
	case <-done:
	}
}

func (f *fleet) dialed() []map[string]bool {
	list := make([]map[string]bool, len(f.workers))
	for i, w := range f.workers {
		list[i] = make(map[string]bool)
		w.apns.each(func(p *testenv.Proxy) {
			for _, a := range p.Dialed() {
				list[i][a] = true
			}
		})
	}
	return list
}

// tell shows how far a run is, every few seconds.
func tell(t *testing.T, f *fleet, l *load, p plan) (stop func()) {
	t.Helper()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(15 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, n := l.progress()
				faults := len(f.history.list())
				fmt.Fprintf(os.Stderr, "chaos: %d of %d published, %d faults; %v\n", n, p.count, faults, f.backlog())
			case <-end:
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

// report prints the tables and the last line.
func report(t *testing.T, p plan, v *verdict) {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "\n%-22s %6s %16s %16s\n", "fault", "times", "settled, median", "longest")
	for _, r := range v.rows {
		fmt.Fprintf(&text, "%-22s %6d %16s %16s\n", r.kind, r.times, r.median.Round(time.Millisecond), r.longest.Round(time.Millisecond))
	}
	fmt.Fprintf(&text, "\n%-10s %-12s %-10s %9s %9s %11s %9s %6s %10s\n", "campaign", "kind", "state", "audience", "accepted", "duplicates", "replaced", "halts", "took")
	for _, r := range v.campaigns {
		fmt.Fprintf(&text, "%-10s %-12s %-10s %9d %9d %11d %9d %6d %10s\n", r.id, r.kind, r.state, r.must, r.accepted, r.duplicates, r.replaced, r.halts, r.took.Round(100*time.Millisecond))
	}
	fmt.Fprintf(&text, "\nbound on duplicates: %d requests\n", v.bound)
	for _, why := range slices.Sorted(maps.Keys(v.why)) {
		fmt.Fprintf(&text, "  %-48s %d\n", why, v.why[why])
	}
	fmt.Fprintf(&text, "outcomes told a second time: %d\ntransactional jobs after a kill with nothing else around it: accepted within %s\n", v.repeated, v.urgent.Round(time.Millisecond))
	fmt.Fprintln(&text, v.heard)
	for _, kind := range slices.Sorted(maps.Keys(v.counted)) {
		fmt.Fprintf(&text, "VIOLATION, %d times: %s\n", v.counted[kind], kind)
	}
	for _, problem := range v.problems {
		fmt.Fprintf(&text, "  %s\n", problem)
	}
	fmt.Fprintf(&text, "chaos: sent=%d kills=%d lost=%d duplicates=%d bound=%d seed=%d\n", v.sent, v.kills, v.lost, v.duplicates, v.bound, p.seed)
	fmt.Print(text.String())
}
