package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// benchEngineFlags are the flags of bench engine.
type benchEngineFlags struct {
	rounds          int
	engineN, apns2N int
	h2loadN         int
	json            bool
}

func newBenchEngine() *cobra.Command {
	var f benchEngineFlags
	cmd := &cobra.Command{
		Use:   "engine",
		Short: "The APNs engine beside apns2 and h2load",
		Long: `engine sends to the simulator, in another process, with pushfleet's engine, with
apns2 (500 goroutines, provider token, its defaults) and with h2load where it is
installed, in turn, several rounds, each sender and the simulator on a core of its
own where the system allows it. CPU is that of the sending process alone. What the
simulator received is compared with what was sent, by a hash.

It then measures, at 20 and 50 ms latency, which share of streams/latency one
connection reaches.`,
		Example: "  pushfleet bench engine\n  pushfleet bench engine --rounds 9 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := &benchEngine{flags: f, talk: cmd.ErrOrStderr()}
			return b.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.rounds, "rounds", 5, "rounds")
	fl.IntVar(&f.engineN, "n", 500_000, "notifications of the engine each round")
	fl.IntVar(&f.apns2N, "apns2-n", 30_000, "notifications of apns2 each round")
	fl.IntVar(&f.h2loadN, "h2load-n", 200_000, "requests of h2load each round")
	fl.BoolVar(&f.json, "json", false, "print one JSON object and nothing else")
	return cmd
}

// benchEngineResult has the medians over the rounds.
type benchEngineResult struct {
	EngineCPU      float64 `json:"engine_cpu_per_100k"` // seconds
	APNs2CPU       float64 `json:"apns2_cpu_per_100k"`
	H2loadCPU      float64 `json:"h2load_cpu_per_100k"` // 0: not installed
	CPURatioAPNs2  float64 `json:"cpu_ratio_apns2"`
	CPURatioH2load float64 `json:"cpu_ratio_h2load"`
	EngineRPS      float64 `json:"engine_rps"`
	APNs2RPS       float64 `json:"apns2_rps"`
	H2loadRPS      float64 `json:"h2load_rps"`
	RPSRatioAPNs2  float64 `json:"rps_ratio_apns2"`
	RPSRatioH2load float64 `json:"rps_ratio_h2load"`
	Allocs         float64 `json:"allocs_per_notification"`
	MaxRSSMB       float64 `json:"engine_max_rss_mb"`
	SimulatorUS    float64 `json:"simulator_cpu_us"` // per notification, while the engine sends
	ShareAt20ms    float64 `json:"share_at_20ms"`    // of streams/hold, the hold as the simulator measured it
	ShareAt50ms    float64 `json:"share_at_50ms"`
	Verified       bool    `json:"verified"` // what was received is what was sent
	Rounds         int     `json:"rounds"`
}

type benchEngine struct {
	flags benchEngineFlags
	talk  io.Writer

	dir                 string
	senderCore, simCore int
	sent                int // device tokens used so far
}

func (b *benchEngine) sayf(format string, args ...any) {
	if !b.flags.json {
		fmt.Fprintf(b.talk, format+"\n", args...)
	}
}

func (b *benchEngine) run(ctx context.Context, out io.Writer) (err error) {
	if b.dir, err = os.MkdirTemp("", "pushfleet-bench-"); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(b.dir)
	b.senderCore, b.simCore = 0, 1
	if runtime.NumCPU() < 2 {
		b.senderCore, b.simCore = -1, -1
		b.sayf("one core only: sender and simulator share it, and the figures mean little")
	}
	r := &benchEngineResult{Verified: true, Rounds: b.flags.rounds}
	if err := b.throughput(ctx, r); err != nil {
		return err
	}
	for _, at := range []struct {
		latency time.Duration
		share   *float64
	}{{20 * time.Millisecond, &r.ShareAt20ms}, {50 * time.Millisecond, &r.ShareAt50ms}} {
		if *at.share, err = b.share(ctx, at.latency); err != nil {
			return err
		}
	}
	return b.print(out, r)
}

// throughput measures CPU and rate of each sender, in turn.
func (b *benchEngine) throughput(ctx context.Context, r *benchEngineResult) (err error) {
	sim, err := startSim(ctx, filepath.Join(b.dir, "sim"), b.simCore)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sim.stop()) }()
	var engineCPU, apns2CPU, h2loadCPU, engineRPS, apns2RPS, h2loadRPS, allocs, rss, simUS []float64
	for round := range b.flags.rounds {
		before, err := procCPU(sim.cmd.Process.Pid)
		if err != nil {
			return err
		}
		e, err := b.sender(ctx, sim, r, "engine", b.flags.engineN)
		if err != nil {
			return err
		}
		after, err := procCPU(sim.cmd.Process.Pid)
		if err != nil {
			return err
		}
		a, err := b.sender(ctx, sim, r, "apns2", b.flags.apns2N)
		if err != nil {
			return err
		}
		h, err := b.h2load(ctx, sim)
		if err != nil {
			return err
		}
		n := float64(b.flags.engineN)
		simUS = append(simUS, (after-before)/n*1e6)
		engineCPU, engineRPS = append(engineCPU, e.CPUSeconds/n*1e5), append(engineRPS, n/e.Seconds)
		allocs, rss = append(allocs, float64(e.Mallocs)/n), append(rss, float64(e.MaxRSSBytes)/(1<<20))
		n = float64(b.flags.apns2N)
		apns2CPU, apns2RPS = append(apns2CPU, a.CPUSeconds/n*1e5), append(apns2RPS, n/a.Seconds)
		line := ""
		if h != nil {
			n = float64(b.flags.h2loadN)
			h2loadCPU, h2loadRPS = append(h2loadCPU, h.CPUSeconds/n*1e5), append(h2loadRPS, n/h.Seconds)
			line = fmt.Sprintf(", h2load %.3f", h2loadCPU[round])
		}
		b.sayf("round %d of %d: CPU s/100k: engine %.4f, apns2 %.2f%s; engine %.0f/s", round+1, b.flags.rounds, engineCPU[round], apns2CPU[round], line, engineRPS[round])
	}
	r.EngineCPU, r.APNs2CPU, r.H2loadCPU = median(engineCPU), median(apns2CPU), median(h2loadCPU)
	r.EngineRPS, r.APNs2RPS, r.H2loadRPS = median(engineRPS), median(apns2RPS), median(h2loadRPS)
	r.Allocs, r.MaxRSSMB, r.SimulatorUS = median(allocs), median(rss), median(simUS)
	r.CPURatioAPNs2, r.RPSRatioAPNs2 = r.EngineCPU/r.APNs2CPU, r.EngineRPS/r.APNs2RPS
	if r.H2loadCPU > 0 {
		r.CPURatioH2load, r.RPSRatioH2load = r.EngineCPU/r.H2loadCPU, r.EngineRPS/r.H2loadRPS
	}
	return nil
}

// sender runs one sender against sim, and compares what arrived with what it sent.
func (b *benchEngine) sender(ctx context.Context, sim *benchSim, r *benchEngineResult, kind string, n int, args ...string) (*senderResult, error) {
	if _, err := askSim(ctx, http.MethodPost, sim.admin+"/reset", ""); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	p, err := startPinned(ctx, b.senderCore, self, append([]string{
		"bench", "sender", "--kind", kind, "--url", sim.url, "--dir", sim.dir, "--n", strconv.Itoa(n), "--from", strconv.Itoa(b.sent),
	}, args...)...)
	if err != nil {
		return nil, err
	}
	b.sent += n + 10_000
	var result senderResult
	decodeErr := json.NewDecoder(p.out).Decode(&result)
	if err := p.wait(); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	if decodeErr != nil {
		return nil, fmt.Errorf("%s: read its result: %w", kind, decodeErr)
	}
	if result.Accepted != int64(n) {
		return nil, fmt.Errorf("%s: %d of %d were accepted", kind, result.Accepted, n)
	}
	stats, err := sim.stats(ctx)
	if err != nil {
		return nil, err
	}
	if stats.Sums != result.Sums || stats.Duplicates != 0 {
		r.Verified = false
		return nil, fmt.Errorf("%s: what the simulator received is not what was sent: sums %v and %v, %d duplicates", kind, stats.Sums, result.Sums, stats.Duplicates)
	}
	return &result, nil
}

// h2load runs nghttp2's load generator with the same request again and again; it
// returns nil where it is not installed.
func (b *benchEngine) h2load(ctx context.Context, sim *benchSim) (*senderResult, error) {
	program, err := exec.LookPath("h2load")
	if err != nil {
		return nil, nil //nolint:nilerr // it is optional
	}
	id, err := apnstest.LoadIdentity(sim.dir)
	if err != nil {
		return nil, fmt.Errorf("read simulator's files: %w", err)
	}
	body := filepath.Join(b.dir, "body.json")
	if err := os.WriteFile(body, []byte(benchBody), 0o600); err != nil {
		return nil, fmt.Errorf("write body: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, "-n", strconv.Itoa(b.flags.h2loadN), "-c", "1", "-m", "1000", "-d", body, //nolint:gosec // found on PATH
		"-H", "authorization: bearer "+id.Key.ProviderToken(time.Now()), "-H", "apns-topic: "+benchTopic, "-H", "apns-push-type: alert", "-H", "apns-priority: 10",
		sim.url+"/3/device/"+benchToken(0).Hex())
	if b.senderCore >= 0 {
		if taskset, err := exec.LookPath("taskset"); err == nil {
			cmd.Args = append([]string{taskset, "-c", strconv.Itoa(b.senderCore)}, cmd.Args...)
			cmd.Path = taskset
		}
	}
	text, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("h2load: %w: %s", err, text)
	}
	succeeded := regexp.MustCompile(`(\d+) succeeded`).FindSubmatch(text)
	rate := regexp.MustCompile(`([\d.]+) req/s`).FindSubmatch(text)
	if succeeded == nil || rate == nil {
		return nil, fmt.Errorf("h2load said: %s", text)
	}
	if string(succeeded[1]) != strconv.Itoa(b.flags.h2loadN) {
		b.sayf("h2load: %s of %d succeeded (it opens streams before it has read the limit)", succeeded[1], b.flags.h2loadN)
	}
	perSecond, err := strconv.ParseFloat(string(rate[1]), 64)
	if err != nil {
		return nil, fmt.Errorf("h2load's rate: %w", err)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return nil, errors.New("h2load: the system does not tell its CPU time")
	}
	cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	return &senderResult{Seconds: float64(b.flags.h2loadN) / perSecond, CPUSeconds: cpu.Seconds()}, nil
}

// share measures which share of streams/hold one connection of 1000 streams
// reaches at a latency.
func (b *benchEngine) share(ctx context.Context, latency time.Duration) (share float64, err error) {
	sim, err := startSim(ctx, filepath.Join(b.dir, "sim"), b.simCore, "--latency", latency.String())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, sim.stop()) }()
	const streams = 1000
	n := int(float64(streams) / latency.Seconds() * 5) // about five seconds
	var unused benchEngineResult
	result, err := b.sender(ctx, sim, &unused, "engine", n, "--calls", "6")
	if err != nil {
		return 0, err
	}
	stats, err := sim.stats(ctx)
	if err != nil {
		return 0, err
	}
	highest := streams / stats.HoldMeanSeconds
	share = float64(n) / result.Seconds / highest
	b.sayf("at %s: %.0f/s, the most that %d streams allow at the measured hold of %.2f ms is %.0f/s: share %.3f",
		latency, float64(n)/result.Seconds, streams, stats.HoldMeanSeconds*1000, highest, share)
	return share, nil
}

func (b *benchEngine) print(out io.Writer, r *benchEngineResult) error {
	if b.flags.json {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	}
	fmt.Fprintf(out, `
medians of %d rounds    engine      apns2     h2load
CPU s / 100k        %9.4f  %9.3f  %9.3f
per second          %9.0f  %9.0f  %9.0f

                                    measured     goal
engine's CPU / apns2's                %.4f    <= 0.015
engine's CPU / h2load's               %.4f    <= 0.2
allocations per notification          %.3f     <= 1
memory (MB)                           %.0f        <= 100
share of the cap at 20 ms             %.3f     >= 0.95
share of the cap at 50 ms             %.3f     >= 0.95
simulator's CPU (us)                  %.2f      <= 1.5
received is what was sent             %v
`, r.Rounds, r.EngineCPU, r.APNs2CPU, r.H2loadCPU, r.EngineRPS, r.APNs2RPS, r.H2loadRPS,
		r.CPURatioAPNs2, r.CPURatioH2load, r.Allocs, r.MaxRSSMB, r.ShareAt20ms, r.ShareAt50ms, r.SimulatorUS, r.Verified)
	return nil
}
