//go:build chaos && linux

package chaos_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/producer"
)

// The kinds of campaigns, as they are named in the history and in the table.
const (
	quietKind  = "quiet hours"
	allKind    = "all"
	tagKind    = "tag"
	fileKind   = "file"
	rateKind   = "rate"
	pauseKind  = "paused"
	cancelKind = "cancelled"
)

// sent is a campaign that was created, and what was asked of it.
type sent struct {
	id, kind string
	file     []int // members that are in its file
	asked    time.Time
	halts    []halt
	shown    api.Campaign // what campaign show says in the end
}

// halt is a time in which nothing of a campaign may be sent: since it was
// acknowledged that it is paused, until it was asked to go on. to is zero if it
// was cancelled.
type halt struct{ from, to time.Time }

// campaigns creates campaigns and steers them, while a fleet is broken.
type campaigns struct {
	f      *fleet
	roll   *roll
	monkey *monkey
	rng    *rand.Rand
	ask    *producer.Campaigns

	steering sync.WaitGroup
	mu       sync.Mutex
	list     []*sent // guarded by mu
}

func newCampaigns(f *fleet, r *roll, m *monkey, seed uint64) *campaigns {
	return &campaigns{
		f: f, roll: r, monkey: m, rng: rand.New(rand.NewPCG(seed, 4)),
		ask: producer.FromStreams(f.streams).Campaigns(),
	}
}

const (
	// The longest that a run waits between two campaigns.
	longestGap = 20 * time.Second
	// fileRecipients are in a file.
	fileRecipients = 3000
	// haltWithin is after how long nothing of a halted campaign is sent any more:
	// docs/guarantees.md.
	haltWithin = 2 * time.Second
)

// run creates campaigns for so long: first one of each kind, that with quiet hours
// before all others, as it takes longest; then any. It returns when all is asked for.
func (c *campaigns) run(ctx context.Context, during time.Duration) {
	kinds := []string{allKind, tagKind, fileKind, rateKind, pauseKind, cancelKind}
	c.rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	// The one that has a worker killed does not come while another kill must be alone.
	if i := slices.Index(kinds, pauseKind); i < 2 {
		kinds[i], kinds[i+2] = kinds[i+2], kinds[i]
	}
	kinds = append([]string{quietKind}, kinds...)
	// Two gaps are left for what the last one of each kind takes.
	gap := min(longestGap, during/time.Duration(len(kinds)+2))
	next, end := time.NewTimer(gap/4), time.After(during-2*gap)
	moving := time.NewTicker(tick)
	defer moving.Stop()
	defer next.Stop()
	defer c.steering.Wait()
	for n, moved := 0, 0; ; {
		select {
		case <-next.C:
			kind := kinds[c.rng.IntN(len(kinds))]
			if n < len(kinds) {
				kind = kinds[n]
			}
			c.begin(ctx, fmt.Sprintf("k-%d", n), kind)
			next.Reset(gap)
			n++
		case <-moving.C:
			c.roll.move(c.f, moved)
			moved++
		case <-end:
			return
		case <-ctx.Done():
			return
		}
	}
}

// begin creates a campaign and steers it while others are created. All that it
// does is drawn before.
func (c *campaigns) begin(ctx context.Context, id, kind string) {
	s := &sent{id: id, kind: kind}
	definition := map[string]any{
		"id": id, "audience": map[string]any{"all": true}, "notification": map[string]any{"title": "chaos", "body": id},
	}
	wait := func(low, high time.Duration) time.Duration { return low + time.Duration(c.rng.Int64N(int64(high-low))) }
	var steer func()
	switch kind {
	case quietKind:
		now := time.Now().UTC()
		definition["quiet_hours"] = map[string]any{
			"from": now.Add(-time.Hour).Format("15:04"), "to": now.Add(75 * time.Second).Format("15:04"), "action": "defer",
		}
	case allKind:
		steer = func() { c.roll.grow(c.f) }
	case tagKind:
		definition["audience"] = map[string]any{"tags": map[string]any{"any": []string{clubTag}}}
	case fileKind:
		delete(definition, "audience")
		definition["recipients"] = map[string]any{"variables": []string{"code"}}
		definition["notification"] = map[string]any{"body": "Your code: {{code}}"}
		definition["rate"] = 500
		s.file = c.rng.Perm(c.roll.members)[:fileRecipients]
	case rateKind:
		definition["rate"] = 800
	case pauseKind:
		definition["rate"] = 1000
		var runs, rests []time.Duration
		for range 3 {
			runs, rests = append(runs, wait(time.Second, 3*time.Second)), append(rests, wait(2500*time.Millisecond, 5*time.Second))
		}
		steer = func() { c.pauseAndResume(ctx, s, runs, rests) }
	case cancelKind:
		definition["rate"] = 800
		after := wait(4*time.Second, 8*time.Second)
		steer = func() {
			<-time.After(after)
			c.halt(s, "cancel", c.ask.Cancel)
		}
	}
	c.mu.Lock()
	c.list = append(c.list, s)
	c.mu.Unlock()
	c.steering.Go(func() {
		c.f.history.say("campaign %s: %s", id, kind)
		s.asked = time.Now()
		c.create(s, definition)
		if steer != nil {
			steer()
		}
	})
}

// create creates a campaign until that is acknowledged: one to a tag by a message,
// which a worker reads, the others at once.
func (c *campaigns) create(s *sent, definition map[string]any) {
	body, err := json.Marshal(definition)
	if err != nil {
		panic(err) // a map of strings and numbers
	}
	def, err := campaign.Parse(body)
	if err != nil {
		c.monkey.fail(err)
		return
	}
	c.f.insist("create campaign "+s.id, func(ctx context.Context) error {
		switch s.kind {
		case tagKind:
			_, err = c.f.js.Publish(ctx, "push.campaigns."+club, body, jetstream.WithMsgID(club+"/campaigns/"+s.id))
		case fileKind:
			_, err = c.ask.CreateFromFile(ctx, club, def, producer.File{Source: strings.NewReader(c.recipients(s))})
		default:
			_, _, err = c.ask.Create(ctx, club, def)
		}
		return err
	})
}

// recipients is the file of a campaign: by user who has one, by device token the
// others.
func (c *campaigns) recipients(s *sent) string {
	var b strings.Builder
	for _, i := range s.file {
		name, value := "token", c.roll.member(i).Hex()
		if i%owned == 0 {
			name, value = "user", memberUser(i)
		}
		fmt.Fprintf(&b, `{%q:%q,"variables":{"code":%q}}`+"\n", name, value, s.code(i))
	}
	return b.String()
}

// code is what a recipient of a file reads.
func (s *sent) code(i int) string { return fmt.Sprintf("%s-%d", s.id, i) }

// payload is what is to be sent to a member.
func (s *sent) payload(i int) []byte {
	if s.kind == fileKind {
		return fmt.Appendf(nil, `{"aps":{"alert":{"body":"Your code: %s"}}}`, s.code(i))
	}
	return fmt.Appendf(nil, `{"aps":{"alert":{"title":"chaos","body":%q}}}`, s.id)
}

// pauseAndResume does so again and again. At the second time a worker is killed too.
func (c *campaigns) pauseAndResume(ctx context.Context, s *sent, runs, rests []time.Duration) {
	for n := range runs {
		<-time.After(runs[n])
		if n == 1 && ctx.Err() == nil {
			c.killWorker(time.Second)
		}
		c.halt(s, "pause", c.ask.Pause)
		<-time.After(rests[n])
		c.mu.Lock()
		if len(s.halts) > n {
			s.halts[n].to = time.Now()
		}
		c.mu.Unlock()
		c.steer(s, "resume", c.ask.Resume)
	}
}

// killWorker kills one beside whatever else is done, and starts it again after a
// time.
func (c *campaigns) killWorker(down time.Duration) {
	restart := c.monkey.kill(c.monkey.take(0))
	c.steering.Go(func() {
		<-time.After(down)
		c.monkey.fail(restart())
	})
}

// halt pauses or cancels a campaign, and notes when that was acknowledged.
func (c *campaigns) halt(s *sent, what string, do func(context.Context, string, string) (campaign.Status, error)) {
	if c.steer(s, what, do) {
		c.mu.Lock()
		defer c.mu.Unlock()
		s.halts = append(s.halts, halt{from: time.Now()})
	}
}

// steer asks until it is acknowledged, and reports whether it was: not, if the
// campaign was done before.
func (c *campaigns) steer(s *sent, what string, do func(context.Context, string, string) (campaign.Status, error)) (done bool) {
	c.f.insist(what+" campaign "+s.id, func(ctx context.Context) error {
		_, err := do(ctx, club, s.id)
		if errors.Is(err, campaign.ErrState) {
			return nil
		}
		done = err == nil
		return err
	})
	c.f.history.say("campaign %s: %s: %t", s.id, what, done)
	return done
}

// ended returns nil once every campaign has ended and its counts are final.
func (c *campaigns) ended() error {
	ctx, cancel := context.WithTimeout(c.f.ctx, 5*time.Second)
	defer cancel()
	list, err := c.ask.List(ctx, club)
	if err != nil {
		return err
	}
	for _, s := range c.all() {
		i := slices.IndexFunc(list, func(st campaign.Status) bool { return st.ID == s.id })
		if i < 0 {
			return fmt.Errorf("campaign %s is not there", s.id)
		}
		if !list[i].Closed {
			return fmt.Errorf("campaign %s, %s, is %s: %d ranges, expanded %t", s.id, s.kind, list[i].State, list[i].Ranges, list[i].Expanded)
		}
	}
	return nil
}

// show asks what became of each campaign.
func (c *campaigns) show() error {
	for _, s := range c.all() {
		out, err := c.f.command("campaign", "show", "--app", club, "--output", "json", s.id)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(out, &s.shown); err != nil {
			return fmt.Errorf("read what campaign show says of %s: %w", s.id, err)
		}
	}
	return nil
}

func (c *campaigns) all() []*sent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}
