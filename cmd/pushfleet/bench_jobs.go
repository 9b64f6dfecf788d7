package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushfleet/pushfleet/job"
)

// benchJobsFlags are the flags of bench jobs.
type benchJobsFlags struct {
	rounds     int
	n          int // notifications in jobs of many, each round
	singles    int // jobs of one, each round, of either worker
	apns2N     int
	natsServer string
	cpuProfile string
	json       bool
}

// benchJobTokens is how many device tokens a job of many names.
const benchJobTokens = 100

func newBenchJobs() *cobra.Command {
	var f benchJobsFlags
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "A whole worker on jobs, beside apns2",
		Long: `jobs measures what a notification costs a whole worker ("pushfleet worker": JetStream,
guard, look-up of device tokens, APNs, outcomes, and the recorder that applies them), as CPU
time of its process:

  json100  JSON jobs of 100 device tokens each, beside apns2 alone (500 goroutines, provider
           token, its defaults), which has neither queue nor token set.
  single   JSON jobs of one device token, beside a worker that takes the same messages from
           JetStream, many with each fetch, calls apns2 for each in 500 goroutines, and
           acknowledges after the answer. That one has no guard, look-up, status or outcomes.

nats-server, redis-server (with the append-only file of docker-compose.yml), the simulator and
both workers are processes of their own; workers and apns2 have one core, all else the other,
where the system allows it. Jobs are published while their consumer is paused. Every device
token is registered and was accepted before, as in a fleet that has run for a day.

A round fails unless the simulator received exactly what was published, by a hash over every
field and body, nothing twice, and unless the streams are empty, the outcomes recorded and
every job complete in the token set. Rounds of the four take turns.`,
		Example: `  pushfleet bench jobs
  pushfleet bench jobs --nats-server bin/nats-server --json
  pushfleet bench jobs --rounds 9 --n 500000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := benchmarkJobs(cmd.Context(), f, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return r.print(cmd.OutOrStdout(), f.json)
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&f.rounds, "rounds", 5, "rounds")
	fl.IntVar(&f.n, "n", 300_000, "notifications in jobs of 100 each round")
	fl.IntVar(&f.singles, "singles", 30_000, "jobs of one notification each round, for either worker")
	fl.IntVar(&f.apns2N, "apns2-n", 30_000, "notifications of apns2 alone each round")
	fl.StringVar(&f.natsServer, "nats-server", "", "the nats-server program (default: the one on PATH)")
	fl.StringVar(&f.cpuProfile, "cpuprofile", "", "write a CPU profile of the worker")
	fl.BoolVar(&f.json, "json", false, "print one JSON object and nothing else")
	return cmd
}

// benchSpread is the smallest and the largest of the rounds.
type benchSpread struct {
	Min float64 `json:"min"`
	Max float64 `json:"max"`
}

// benchJobsResult has the medians over the rounds. CPU is in seconds per 100,000
// notifications.
type benchJobsResult struct {
	JSON100CPU    float64     `json:"json100_cpu_per_100k"`
	APNs2CPU      float64     `json:"apns2_cpu_per_100k"`
	JSON100Ratio  float64     `json:"json100_cpu_ratio_apns2"` // of the two medians
	JSON100Spread benchSpread `json:"json100_cpu_ratio_apns2_spread"`
	SingleCPU     float64     `json:"single_cpu_per_100k"`
	NaiveCPU      float64     `json:"single_apns2_cpu_per_100k"`
	SingleRatio   float64     `json:"single_cpu_ratio"`
	SingleSpread  benchSpread `json:"single_cpu_ratio_spread"`

	JSON100RPS float64 `json:"json100_per_second"`
	APNs2RPS   float64 `json:"apns2_per_second"`
	SingleRPS  float64 `json:"single_per_second"`
	NaiveRPS   float64 `json:"single_apns2_per_second"`

	// What the others spend meanwhile.
	JSON100NATS  float64 `json:"json100_nats_cpu_per_100k"`
	JSON100Redis float64 `json:"json100_redis_cpu_per_100k"`
	SingleNATS   float64 `json:"single_nats_cpu_per_100k"`
	SingleRedis  float64 `json:"single_redis_cpu_per_100k"`

	MaxRSSMB float64 `json:"worker_max_rss_mb"` // of all rounds

	Verified bool `json:"verified"` // what was received is what was published
	Rounds   int  `json:"rounds"`
	Cores    int  `json:"cores"`
}

// jobsShape is one of the things that are measured in turn.
type jobsShape struct {
	cpu, perSecond, nats, redis []float64 // by round
}

func (s *jobsShape) add(m benchMeasure, n int) {
	per := 1e5 / float64(n)
	s.cpu, s.perSecond = append(s.cpu, m.cpu*per), append(s.perSecond, float64(n)/m.took.Seconds())
	s.nats, s.redis = append(s.nats, m.nats*per), append(s.redis, m.redis*per)
}

func benchmarkJobs(ctx context.Context, f benchJobsFlags, talk io.Writer) (r *benchJobsResult, err error) {
	switch {
	case f.rounds < 1 || f.rounds > 100:
		return nil, usagef("--rounds: must be 1 to 100, got %d", f.rounds)
	case f.n < benchJobTokens || f.n%benchJobTokens != 0 || f.n > 10_000_000:
		return nil, usagef("--n: must be a multiple of %d up to 10,000,000, got %d", benchJobTokens, f.n)
	case f.singles < 1 || f.singles > f.n:
		return nil, usagef("--singles: must be 1 to --n (%d), got %d", f.n, f.singles)
	case f.apns2N < 1:
		return nil, usagef("--apns2-n: must be at least 1, got %d", f.apns2N)
	}
	dir, err := os.MkdirTemp("", "pushfleet-bench-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	say := func(format string, args ...any) {
		if !f.json {
			fmt.Fprintf(talk, format+"\n", args...)
		}
	}
	rig := &jobsRig{benchFleet: benchFleet{dir: dir, core: 0, others: 1}}
	if runtime.NumCPU() < 2 {
		rig.core, rig.others = -1, -1
		say("one core only: all share it, and the figures mean little")
	}
	if err := rig.start(ctx, f); err != nil {
		return nil, errors.Join(err, rig.stop())
	}
	defer func() { err = errors.Join(err, rig.stop()) }()
	progress := newBar(talk, f.n, "registering", "devices", f.json)
	if err := rig.register(ctx, f.n, progress.add); err != nil {
		return nil, err
	}
	progress.finish()

	// Connections, scripts and heaps are warm before anything counts, and every
	// device token has been accepted.
	if err := rig.warm(ctx, f); err != nil {
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	var many, apns2, single, naive jobsShape
	var ratio100, ratio1 []float64
	for round := range f.rounds {
		name := fmt.Sprint("round", round)
		for _, part := range []struct {
			shape *jobsShape
			n     int
			run   func() (benchMeasure, error)
		}{
			{&many, f.n, func() (benchMeasure, error) {
				return rig.throughWorker(ctx, job.Bulk, name, f.n, benchJobTokens)
			}},
			{&apns2, f.apns2N, func() (benchMeasure, error) { return rig.apns2(ctx, rig.sim, f.apns2N) }},
			{&single, f.singles, func() (benchMeasure, error) {
				return rig.throughWorker(ctx, job.Transactional, name, f.singles, 1)
			}},
			{&naive, f.singles, func() (benchMeasure, error) { return rig.throughNaive(ctx, name, f.singles) }},
		} {
			m, err := part.run()
			if err != nil {
				return nil, fmt.Errorf("round %d: %w", round+1, err)
			}
			part.shape.add(m, part.n)
		}
		ratio100 = append(ratio100, many.cpu[round]/apns2.cpu[round])
		ratio1 = append(ratio1, single.cpu[round]/naive.cpu[round])
		say("round %d of %d: CPU s/100k: worker on jobs of %d %.3f, apns2 %.2f: ratio %.4f; worker on single jobs %.2f, apns2 worker %.2f: ratio %.3f",
			round+1, f.rounds, benchJobTokens, many.cpu[round], apns2.cpu[round], ratio100[round], single.cpu[round], naive.cpu[round], ratio1[round])
	}
	rss, err := procMaxRSS(rig.worker.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	return &benchJobsResult{
		JSON100CPU: median(many.cpu), APNs2CPU: median(apns2.cpu), SingleCPU: median(single.cpu), NaiveCPU: median(naive.cpu),
		JSON100Ratio: median(many.cpu) / median(apns2.cpu), SingleRatio: median(single.cpu) / median(naive.cpu),
		JSON100Spread: benchSpread{slices.Min(ratio100), slices.Max(ratio100)},
		SingleSpread:  benchSpread{slices.Min(ratio1), slices.Max(ratio1)},
		JSON100RPS:    median(many.perSecond), APNs2RPS: median(apns2.perSecond), SingleRPS: median(single.perSecond), NaiveRPS: median(naive.perSecond),
		JSON100NATS: median(many.nats), JSON100Redis: median(many.redis), SingleNATS: median(single.nats), SingleRedis: median(single.redis),
		MaxRSSMB: float64(rss) / (1 << 20), Verified: true, Rounds: f.rounds, Cores: runtime.NumCPU(),
	}, nil
}

func (r *benchJobsResult) print(out io.Writer, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return fmt.Errorf("print result: %w", err)
		}
		return nil
	}
	fmt.Fprintf(out, `
medians of %d rounds               CPU s / 100k   per second   nats   redis
worker, JSON jobs of %d                %9.4f    %9.0f   %4.2f   %5.2f
apns2 alone                            %9.3f    %9.0f
worker, single jobs                    %9.3f    %9.0f   %4.2f   %5.2f
apns2 worker, the same single jobs     %9.3f    %9.0f

                                       measured   (lowest, highest)     goal
jobs of %d: worker / apns2              %.4f    (%.4f, %.4f)   <= 0.04
single jobs: worker / apns2 worker      %.3f     (%.3f, %.3f)     <= 0.25
worker's memory (MB)                    %.0f                         <= 100
received is what was published          %v
`, r.Rounds, benchJobTokens, r.JSON100CPU, r.JSON100RPS, r.JSON100NATS, r.JSON100Redis, r.APNs2CPU, r.APNs2RPS,
		r.SingleCPU, r.SingleRPS, r.SingleNATS, r.SingleRedis, r.NaiveCPU, r.NaiveRPS,
		benchJobTokens, r.JSON100Ratio, r.JSON100Spread.Min, r.JSON100Spread.Max,
		r.SingleRatio, r.SingleSpread.Min, r.SingleSpread.Max, r.MaxRSSMB, r.Verified)
	return nil
}

// benchMeasure is what one run of one shape took: CPU in seconds.
type benchMeasure struct {
	cpu, nats, redis float64
	took             time.Duration
}
