package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// urgentLoad publishes transactional jobs at a steady rate and sees what becomes
// of them.
type urgentLoad struct {
	streams   *stream.Streams
	js        jetstream.JetStream
	app       string
	perSecond int

	mu   sync.Mutex
	sent map[string]time.Time // guarded by mu: id -> when
	took []float64            // guarded by mu: milliseconds
	fail error                // guarded by mu
}

func newUrgentLoad(streams *stream.Streams, js jetstream.JetStream, app string, perSecond int) *urgentLoad {
	return &urgentLoad{streams: streams, js: js, app: app, perSecond: perSecond, sent: make(map[string]time.Time)}
}

func (u *urgentLoad) told() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.took)
}

func (u *urgentLoad) p99() float64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.took) == 0 {
		return 0
	}
	slices.Sort(u.took)
	return u.took[min(len(u.took)-1, len(u.took)*99/100)]
}

// start begins; stop ends it and waits until all is told.
func (u *urgentLoad) start(ctx context.Context) (stop func() error, err error) {
	consumer, err := u.js.OrderedConsumer(ctx, stream.Outcomes, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{stream.OutcomesSubject(u.app, job.Transactional)}, DeliverPolicy: jetstream.DeliverNewPolicy,
	})
	if err != nil {
		return nil, fmt.Errorf("read outcomes: %w", err)
	}
	reading, err := consumer.Consume(func(msg jetstream.Msg) { u.read(msg.Data()) })
	if err != nil {
		return nil, fmt.Errorf("read outcomes: %w", err)
	}
	publishing, stopPublishing := context.WithCancel(ctx)
	var publisher sync.WaitGroup
	publisher.Go(func() { u.publish(publishing) })
	return func() error {
		stopPublishing()
		publisher.Wait()
		defer reading.Stop()
		return waitFor(ctx, func() error {
			u.mu.Lock()
			defer u.mu.Unlock()
			if u.fail == nil && len(u.sent) > 0 {
				return fmt.Errorf("%d transactional jobs have no outcome", len(u.sent))
			}
			return u.fail
		})
	}, nil
}

func (u *urgentLoad) publish(ctx context.Context) {
	tick := time.NewTicker(time.Second / time.Duration(u.perSecond))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		j := &job.Job{
			ID: fmt.Sprintf("urgent-%d-%d", time.Now().UnixNano(), n), Notification: &job.Notification{Title: "Your code is 123456"},
			To: job.Recipients{Tokens: []device.Token{benchToken(1<<40 + n)}},
		}
		u.mu.Lock()
		u.sent[j.ID] = time.Now()
		u.mu.Unlock()
		if _, err := u.streams.PublishJobAsync(ctx, u.app, job.Transactional, j); err != nil {
			u.mu.Lock()
			u.fail = err
			u.mu.Unlock()
			return
		}
	}
}

func (u *urgentLoad) read(body []byte) {
	now := time.Now()
	o, err := job.ParseOutcomes(body)
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		u.fail = err
		return
	}
	for i := range o.Jobs {
		if at, ok := u.sent[o.Jobs[i].ID]; ok && o.Jobs[i].Complete {
			delete(u.sent, o.Jobs[i].ID)
			u.took = append(u.took, float64(now.Sub(at).Microseconds())/1000)
		}
	}
}
