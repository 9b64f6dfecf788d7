//go:build chaos && linux

package chaos_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/internal/testenv"
)

var (
	stepsFlag   = flag.String("scale.workers", "2,8,3,8,2", "how many workers run, one phase after the other")
	eachFlag    = flag.Duration("scale.each", 14*time.Second, "how long a phase is")
	devicesFlag = flag.Int("scale.devices", 400_000, "how many devices the campaign is for")
	rateFlag    = flag.Int("scale.rate", 5000, "how many notifications of the campaign are sent a second")
	urgentFlag  = flag.Int("scale.urgent", 200, "how many transactional jobs are published a second")
	failFlag    = flag.Bool("scale.failover", false, "give each Redis master a replica, and kill one master in the middle of the second phase")
)

// scaling is one run of [TestScale].
type scaling struct {
	seed     uint64
	workers  []int // in each phase
	each     time.Duration
	devices  int
	rate     int // of the campaign, notifications a second
	urgent   int // transactional jobs a second
	failover bool
}

// TestScale starts and stops workers while a campaign and a stream of transactional
// jobs go through, on three nats-servers and a Redis Cluster of three masters:
// nothing may be lost, nothing sent twice, and nothing may stand still for longer
// than [pauseWithin].
func TestScale(t *testing.T) {
	p := scaling{
		seed: *seedFlag, each: *eachFlag, devices: *devicesFlag, rate: *rateFlag, urgent: *urgentFlag, failover: *failFlag,
	}
	if p.seed == 0 {
		p.seed = uint64(rand.Uint32())
	}
	for word := range strings.SplitSeq(*stepsFlag, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || n < 1 {
			t.Fatalf("-scale.workers: must be numbers of workers, separated by commas, got %q", *stepsFlag)
		}
		p.workers = append(p.workers, n)
	}
	b := binaries{t.TempDir()}
	bins := programs{
		pushfleet: b.build(t, "pushfleet", root(t), "./cmd/pushfleet"),
		nats:      b.build(t, "nats-server", root(t), "github.com/nats-io/nats-server/v2"),
	}
	for range slices.Max(p.workers) {
		bins.workers = append(bins.workers, bins.pushfleet)
	}
	dir := keptDir(t, fmt.Sprintf("scale-%d", p.seed))
	t.Logf("seed %d: %v workers, %s each; a campaign to %d devices at %d a second, %d transactional jobs a second", p.seed, p.workers, p.each, p.devices, p.rate, p.urgent)
	load := loadAverage()
	v, m := scale(t, p, dir, bins)
	reportScale(p, v, m)
	t.Logf("load average of a minute before the run: %s on %d cores", load, runtime.NumCPU())
	if v.failed() {
		t.Fail()
	}
}

// keptDir is a directory that is kept if the test fails.
func keptDir(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp(*keepFlag, name+"-") //nolint:usetesting // as it says
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("history, journal and logs are in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

// loadAverage is how busy the machine is: figures of a busy one say little.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	load, _, _ := strings.Cut(string(text), " ")
	return load
}

// scale runs it.
func scale(t *testing.T, p scaling, dir string, bins programs) (*verdict, *measures) {
	t.Helper()
	length := p.each * time.Duration(len(p.workers))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*length+10*time.Minute, errTooLong)
	defer cancel()
	f, cluster := startScaleFleet(ctx, t, dir, bins, p.failover)
	people := newPopulation(p.seed, 3000, 4500)
	people.setUp(f)
	roll := &roll{seed: p.seed, members: p.devices}
	roll.enrol(f)

	crew := newCrew(f, p.seed)
	crew.scaleTo(p.workers[0])
	urgent := newLoad(f, people, p.seed, p.urgent)
	c := newCampaigns(f, roll, newMonkey(f, p.seed, false), p.seed)
	loading, stopLoading := context.WithCancel(ctx)
	published := make(chan struct{})
	go func() {
		defer close(published)
		urgent.steady(loading, p.urgent)
	}()
	defer func() { stopLoading(); <-published }()
	stopProgress := watchScale(f, crew, p)
	defer stopProgress()

	c.createPaced(p.rate)
	crew.first()
	for n, workers := range p.workers {
		if n > 0 {
			crew.scaleTo(workers)
		}
		end := time.After(time.Until(crew.last().begin.Add(p.each)))
		if n == 1 && p.failover {
			<-time.After(p.each / 4)
			crew.last().failedOver = true
			failOver(ctx, f, cluster)
		}
		<-end
	}
	crew.end()
	stopLoading()
	<-published
	f.history.say("all is published")
	patience := time.Duration(p.devices/p.rate)*time.Second + time.Minute
	stuck := f.await("the end of the campaign", patience, c.ended)
	if stuck == nil {
		stuck = f.await("an empty queue", time.Minute, f.backlog)
	}
	if err := c.monkey.failure(); err != nil {
		t.Error(err)
	}
	crew.stopAll()
	if err := f.sim.stop(time.Minute); err != nil {
		t.Errorf("stop the simulator: %v", err)
	}
	f.check(c.show())
	j, err := readJournal(f.journal)
	f.check(err)
	b := newBounding(j, f.history.list(), f.dialed())
	v, err := judge(f, urgent, c, j, b, f.history.list())
	f.check(err)
	m := measure(crew, urgent, c, j, b)
	v.judgeScale(p, crew, m)
	if stuck != nil {
		v.bad("stuck", "%v", stuck)
	}
	if t.Failed() {
		v.bad("process", "see above")
	}
	for _, text := range slices.Concat(m.slow, v.problems) {
		f.history.say("VERDICT %s", text)
	}
	return v, m
}

// failOver kills a Redis master, and waits until its replica has its place.
func failOver(ctx context.Context, f *fleet, cluster *testenv.RedisCluster) {
	fault := f.history.begin(killRedis, all, "a master of the cluster")
	cluster.Masters[1].Kill()
	cluster.AwaitMaster(ctx, f.t, cluster.Replicas[1])
	f.history.end(fault)
}

// reportScale prints the tables and the last line.
func reportScale(p scaling, v *verdict, m *measures) {
	var text strings.Builder
	ms := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	fmt.Fprintf(&text, "\n%-17s %9s %9s %12s %12s %28s %16s %15s\n", "workers", "settled", "in work", "longest gap", "longest gap", "transactional jobs", "of a worker", "accepted")
	fmt.Fprintf(&text, "%-17s %9s %9s %12s %12s %28s %16s %15s\n", "", "", "", "campaign", "transact.", "p50 / p99 / longest", "least, most", "/s")
	for _, r := range m.phases {
		fmt.Fprintf(&text, "%-17s %9s %9s %12s %12s %28s %16s %15.0f\n",
			r.name(), ms(r.settled), ms(r.working), ms(r.campaignGap), ms(r.urgentGap),
			fmt.Sprintf("%s / %s / %s", ms(r.p50), ms(r.p99), ms(r.longest)), fmt.Sprintf("%.2f, %.2f", r.least, r.most), r.perSecond)
	}
	for _, r := range v.campaigns {
		fmt.Fprintf(&text, "campaign: %s, %d healthy devices, %d accepted, %d twice, took %s\n", r.state, r.must, r.accepted, r.duplicates, r.took.Round(100*time.Millisecond))
	}
	fmt.Fprintf(&text, "transactional jobs: %d; outcomes told a second time: %d\n", m.jobs, v.repeated)
	for kind, n := range v.counted {
		fmt.Fprintf(&text, "VIOLATION, %d times: %s\n", n, kind)
	}
	for _, problem := range v.problems {
		fmt.Fprintf(&text, "  %s\n", problem)
	}
	fmt.Fprintf(&text, "scale: sent=%d lost=%d duplicates=%d longest_pause_ms=%d rate=%d seed=%d\n",
		v.sent, v.lost, v.duplicates, m.longestPause().Milliseconds(), p.rate, p.seed)
	fmt.Print(text.String())
}
