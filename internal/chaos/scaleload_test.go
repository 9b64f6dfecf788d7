//go:build chaos && linux

package chaos_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
)

// beat is how often the jobs are published that are due.
const beat = 10 * time.Millisecond

// steady publishes transactional jobs at a steady rate until ctx ends: four in five
// to a device token, the others to a user. Each counts from when it was due, so one
// that is published late is not the faster for it.
func (l *load) steady(ctx context.Context, perSecond int) {
	p := producer.FromStreams(l.f.streams)
	pace := time.NewTicker(beat)
	defer pace.Stop()
	begin := time.Now()
	for n := 0; ; {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
		var orders []*order
		for ; n < int(time.Since(begin).Seconds()*float64(perSecond)); n++ {
			o := &order{
				id: fmt.Sprintf("u-%d", n), lane: job.Transactional, user: -1, count: 1, first: l.rng.IntN(l.p.size),
				asked: begin.Add(time.Duration(n) * time.Second / time.Duration(perSecond)),
			}
			if n%5 == 0 {
				o.user, o.count = l.rng.IntN(len(l.p.healthyUsers)), l.p.perUser
			}
			orders = append(orders, o)
		}
		l.publish(p, job.Transactional, orders)
	}
}

// scaleID is the campaign of [TestScale].
const scaleID = "scale"

// createPaced creates a campaign to all members, at a rate.
func (c *campaigns) createPaced(rate int) {
	s := &sent{id: scaleID, kind: rateKind, asked: time.Now()}
	c.mu.Lock()
	c.list = append(c.list, s)
	c.mu.Unlock()
	c.create(s, map[string]any{
		"id": s.id, "audience": map[string]any{"all": true}, "rate": rate,
		"notification": map[string]any{"title": "chaos", "body": s.id},
	})
}

// watchScale shows how far a run is: a line that changes on a terminal, one now and
// then elsewhere.
func watchScale(f *fleet, c *crew, p scaling) (stop func()) {
	every, before, after := 5*time.Second, "", "\n"
	if term.IsTerminal(int(os.Stderr.Fd())) {
		every, before, after = time.Second/2, "\r", "\x1b[K"
	}
	end, ended := make(chan struct{}), make(chan struct{})
	begin, last, had := time.Now(), time.Now(), int64(0)
	go func() {
		defer close(ended)
		look := time.NewTicker(every)
		defer look.Stop()
		for {
			select {
			case <-look.C:
			case <-end:
				fmt.Fprint(os.Stderr, before+after)
				return
			}
			var st apnstest.Stats
			if f.admin("GET", "/stats", nil, &st) != nil {
				continue
			}
			ph := c.last()
			fmt.Fprintf(os.Stderr, "%sscale: %3.0f s, %d -> %d workers, %d accepted, %.0f/s%s", before, time.Since(begin).Seconds(),
				ph.from, ph.to, st.Accepted, float64(st.Accepted-had)/time.Since(last).Seconds(), after)
			last, had = time.Now(), st.Accepted
		}
	}()
	return func() { close(end); <-ended }
}
