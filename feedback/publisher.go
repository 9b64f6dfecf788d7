package feedback

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

const (
	// Outcomes are stored after flushAge, or when flushCount recipients are there.
	flushAge   = 5 * time.Millisecond
	flushCount = 1000
	// retryPause is the wait before outcomes that were not stored are published again.
	retryPause = 500 * time.Millisecond
	// maxUnstored bounds flushes that wait for JetStream.
	maxUnstored = 64
	// lastWait is how long Run waits for JetStream when it is told to stop.
	lastWait = 5 * time.Second
	// complainEvery is how often it is logged that JetStream takes nothing.
	complainEvery = 10 * time.Second
)

// ErrStopped is told for outcomes that were not stored when the publisher
// stopped.
var ErrStopped = errors.New("feedback: publisher stopped before outcomes were stored")

// PublisherConfig describes a [Publisher].
type PublisherConfig struct {
	Streams *stream.Streams
	Worker  string           // whose outcomes these are
	Logger  *zap.Logger      // nil: none
	Now     func() time.Time // nil: time.Now
}

// Publisher stores outcomes in JetStream. It is safe for concurrent use. While
// JetStream does not take them it keeps them and tries again: who publishes is
// bounded by the messages that it cannot acknowledge meanwhile.
type Publisher struct {
	cfg   PublisherConfig
	log   *zap.Logger
	wake  chan struct{} // something is pending
	full  chan struct{} // flushCount is reached
	start int64         // makes message ids of this process its own

	mu      sync.Mutex
	stopped bool                         // guarded by mu
	pending map[stream.OutcomesOf]*flush // guarded by mu
	count   int                          // guarded by mu: recipients in pending
	flushes uint64                       // only touched by Run

	// Only touched by the goroutine that waits:
	storedAt   time.Time // when JetStream last took something
	complained time.Time
}

// flush is outcomes of one subject on their way.
type flush struct {
	of       stream.OutcomesOf
	outcomes job.Outcomes
	stored   []func(error)
	parts    []part
}

// part is one message of a flush.
type part struct {
	id      string
	body    []byte
	at      time.Time       // when it was handed over last
	storing *stream.Storing // nil if it could not be handed over
}

// NewPublisher returns a publisher; nothing is stored until it runs.
func NewPublisher(cfg PublisherConfig) *Publisher {
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Publisher{
		cfg: cfg, log: cfg.Logger.Named("feedback"), start: cfg.Now().UnixNano(),
		wake: make(chan struct{}, 1), full: make(chan struct{}, 1),
		pending: make(map[stream.OutcomesOf]*flush),
	}
}

// Publish hands over outcomes of one job, or of one range of a campaign. stored is called once: with nil when
// they are in JetStream, or with [ErrStopped]. It is called from another
// goroutine, unless the publisher has stopped, and must not block.
func (p *Publisher) Publish(app string, lane job.Lane, outcomes []job.JobOutcome, stored func(error)) {
	p.mu.Lock()
	if p.stopped {
		p.mu.Unlock()
		stored(ErrStopped)
		return
	}
	of := stream.OutcomesOf{App: app, Lane: lane}
	if len(outcomes) > 0 && outcomes[0].Campaign != "" {
		of.Campaign, of.Range = outcomes[0].Campaign, outcomes[0].Range
	}
	f := p.pending[of]
	if f == nil {
		f = &flush{of: of, outcomes: job.Outcomes{App: app, Lane: lane, Worker: p.cfg.Worker}}
		p.pending[of] = f
	}
	f.outcomes.Jobs = append(f.outcomes.Jobs, outcomes...)
	f.stored = append(f.stored, stored)
	for i := range outcomes {
		p.count += len(outcomes[i].Accepted) + len(outcomes[i].Others)
	}
	full := p.count >= flushCount
	p.mu.Unlock()
	signal(p.wake)
	if full {
		signal(p.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run stores what is published until ctx ends, and then what is left. It
// returns nil.
func (p *Publisher) Run(ctx context.Context) error {
	flushes := make(chan *flush, maxUnstored)
	// Waiting for JetStream outlives ctx by a little: what is stored must be told.
	last, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var waiter, limit sync.WaitGroup
	waiter.Go(func() {
		for f := range flushes {
			p.await(last, f)
		}
	})
	limit.Go(func() {
		select {
		case <-ctx.Done():
			pause(last, lastWait)
			cancel()
		case <-last.Done():
		}
	})
	age := time.NewTimer(flushAge)
	defer age.Stop()
	for ctx.Err() == nil {
		select {
		case <-p.wake:
		case <-ctx.Done():
		}
		age.Reset(flushAge)
		select {
		case <-p.full:
		case <-age.C:
		case <-ctx.Done():
		}
		p.flush(last, flushes)
	}
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.flush(last, flushes)
	close(flushes)
	waiter.Wait()
	cancel()
	limit.Wait()
	return nil
}

// flush hands all that is pending to JetStream. It blocks while maxUnstored
// flushes wait; then more becomes pending, no more than workers can hold.
func (p *Publisher) flush(last context.Context, flushes chan<- *flush) {
	p.mu.Lock()
	pending := p.pending
	p.pending, p.count = make(map[stream.OutcomesOf]*flush), 0
	p.mu.Unlock()
	for _, f := range pending {
		f.outcomes.At = p.cfg.Now()
		// Headers and subject count too.
		for _, o := range f.outcomes.Split(p.cfg.Streams.MaxPayload()-1024, flushCount) {
			p.flushes++
			pt := part{id: fmt.Sprintf("%s/%d/%d", p.cfg.Worker, p.start, p.flushes), body: o.AppendJSON(nil)}
			p.publish(f, &pt)
			f.parts = append(f.parts, pt)
		}
		select {
		case flushes <- f:
		case <-last.Done():
			f.tell(ErrStopped)
		}
	}
}

func (p *Publisher) publish(f *flush, pt *part) {
	pt.at = time.Now()
	storing, err := p.cfg.Streams.PublishOutcomes(f.of, pt.id, pt.body)
	if err != nil {
		p.log.Warn("cannot publish outcomes", zap.Error(err))
	}
	pt.storing = storing
}

// await waits until every part of a flush is stored, publishing again what was
// not. JetStream drops what it has already, by the id, if that was within two
// minutes; a part that is stored twice is applied twice, to no effect but the
// count of duplicate outcomes.
func (p *Publisher) await(ctx context.Context, f *flush) {
	for i := range f.parts {
		pt := &f.parts[i]
		for !p.isStored(ctx, pt) {
			// One at a time asks whether there is room again. Once it has been told
			// so, what was refused before goes without a pause.
			if !p.storedAt.After(pt.at) {
				pause(ctx, retryPause)
			}
			if ctx.Err() != nil {
				f.tell(ErrStopped)
				return
			}
			p.publish(f, pt)
		}
		p.storedAt = time.Now()
	}
	f.tell(nil)
}

func (p *Publisher) isStored(ctx context.Context, pt *part) bool {
	if pt.storing == nil {
		return false
	}
	err := pt.storing.Wait(ctx)
	if now := time.Now(); err != nil && ctx.Err() == nil && now.Sub(p.complained) >= complainEvery {
		p.complained = now
		p.log.Error("outcomes are not stored, trying again until they are", zap.Error(err))
	}
	return err == nil
}

func (f *flush) tell(err error) {
	for _, stored := range f.stored {
		stored(err)
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
