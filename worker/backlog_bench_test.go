package worker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
	"github.com/pushfleet/pushfleet/worker"
)

// BenchmarkBacklog works off a backlog of b.N jobs, with guard, look-up, outcomes
// and recorder on a real JetStream and Redis. The sender accepts at once: so "sent"
// is the dearest that a job costs without APNs, and "expired" must be cheaper.
func BenchmarkBacklog(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		for _, expired := range []bool{false, true} {
			name := "sent"
			if expired {
				name = "expired"
			}
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) { benchmarkBacklog(b, size, expired) })
		}
	}
}

func benchmarkBacklog(b *testing.B, size int, expired bool) {
	js := testenv.NewJetStream(b)
	set := store.New(testenv.Redis(b), store.Config{Buckets: 1024})
	// The lane exists, so that nothing but the work is measured.
	if _, err := js.LaneConsumer(b.Context(), "shop", job.Bulk); err != nil {
		b.Fatal(err)
	}
	pending := make([]*stream.Pending, 0, b.N)
	for n := range b.N {
		j := newJob(fmt.Sprint(n), tokens(n*size, (n+1)*size)...)
		if expired {
			j.ExpiresAt = time.Now().Add(time.Second)
		}
		p, err := js.PublishJobAsync(b.Context(), "shop", job.Bulk, j)
		if err != nil {
			b.Fatal(err)
		}
		pending = append(pending, p)
	}
	for _, p := range pending {
		if _, err := p.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	api, err := jetstream.New(js.NC)
	if err != nil {
		b.Fatal(err)
	}
	queued := stored(b, api, stream.Jobs)
	pub := feedback.NewPublisher(feedback.PublisherConfig{Streams: js.Streams, Worker: "w"})
	rec := feedback.NewRecorder(feedback.RecorderConfig{Streams: js.Streams, TokenSet: set, Ledger: set})
	later := time.Now().Add(time.Minute) // by then every ttl is over
	w, err := worker.New(worker.Config{
		Name: "w", Streams: js.Streams, Devices: set, Progress: set, Outcomes: pub,
		Apps: []*worker.App{{
			Name: "shop", BundleID: bundle, Environment: device.Production,
			Routes: []*worker.Route{{Environment: device.Production, Sender: newSender(nil)}},
		}},
		Now: func() time.Time { return later },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	tail, stopTail := context.WithCancel(context.WithoutCancel(ctx))
	var head, tails sync.WaitGroup
	b.ResetTimer()
	head.Go(func() { _ = w.Run(ctx) })
	tails.Go(func() { _ = pub.Run(tail) })
	tails.Go(func() { _ = rec.Run(tail) })
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if stored(b, api, stream.Jobs).Msgs == 0 {
			break
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "notifications/s")
	b.ReportMetric(float64(queued.Bytes)/float64(b.N), "JOBS-B/job")
	b.ReportMetric(float64(stored(b, api, stream.Outcomes).Bytes)/float64(b.N*size), "OUTCOMES-B/notification")
	stop()
	head.Wait()
	stopTail()
	tails.Wait()
}

// stored is what a stream holds.
func stored(b *testing.B, api jetstream.JetStream, name string) jetstream.StreamState {
	b.Helper()
	st, err := api.Stream(b.Context(), name)
	if err != nil {
		b.Fatal(err)
	}
	return st.CachedInfo().State
}
