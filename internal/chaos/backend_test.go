//go:build chaos && linux

package chaos_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/stream"
)

// The moods of a backend.
const (
	well  = iota
	sulks // takes connections and answers nothing
	fails // answers 500
)

const (
	// apis is how many API processes tell the backend.
	apis = 2
	// againPerFault bounds the events that one fault may have told again, as
	// docs/webhooks.md says: those of all POSTs that are on their way, eight of 200 from
	// each process, and those that are being made up, a thousand from each.
	againPerFault = apis * (8*200 + 1000)
)

// backend is what an app's webhook leads to: it takes what became of notifications, and
// is not always well. The API processes that tell it are killed, too.
type backend struct {
	f       *fleet
	rng     *rand.Rand
	secret  string
	addr    string
	apis    [apis]*process
	mood    atomic.Int32
	serving *http.Server // only touched by run, and before and after it

	mu     sync.Mutex
	told   map[uint64]uint8    // guarded by mu: results by pair of device token and apns-id
	ids    map[uint64]struct{} // guarded by mu: of events, hashed
	posts  int                 // guarded by mu: taken
	again  int                 // guarded by mu: events that were taken before
	bad    []string            // guarded by mu: what no POST may be
	faults int                 // only touched by run: after which something may be told again
}

// startBackend starts the backend and the API processes that tell it, and waits until
// nothing can be missed by them.
func startBackend(f *fleet, seed uint64, servers int) *backend {
	b := &backend{
		f: f, rng: rand.New(rand.NewPCG(seed, 5)), addr: "127.0.0.1:" + f.port(),
		secret: base64.StdEncoding.EncodeToString([]byte("chaos, thirty-two bytes of secret")),
		told:   make(map[uint64]uint8), ids: make(map[uint64]struct{}),
	}
	f.check(b.serve())
	f.t.Cleanup(func() { _ = b.serving.Close() })
	for i := range b.apis {
		name := fmt.Sprintf("api%d", i)
		config := f.config(f.natsURL, []string{f.redisAddr()}, f.simAddr(), "api: {listen: \"127.0.0.1:"+f.port()+"\"}", servers)
		hook := fmt.Sprintf("    bundle_id: %s\n    webhook: {url: \"http://%s/\", secrets: whsec_%s, allow_private: true, timeout: 2s}\n", bundle, b.addr, b.secret)
		config = strings.Replace(config, "    bundle_id: "+bundle+"\n", hook, 1)
		file := filepath.Join(f.dir, name+".yaml")
		f.check(os.WriteFile(file, []byte(config), 0o600))
		b.apis[i] = f.run(name, f.pushfleet, "api", "-c", file)
	}
	f.until("the webhook's place in OUTCOMES", time.Minute, func() error {
		_, err := f.js.Consumer(f.ctx, stream.Outcomes, "webhook-"+app)
		return err
	})
	return b
}

func (b *backend) serve() error {
	listener, err := net.Listen("tcp", b.addr)
	if err != nil {
		return err
	}
	b.serving = &http.Server{Handler: b, ReadHeaderTimeout: time.Minute}
	go func() { _ = b.serving.Serve(listener) }()
	return nil
}

// ServeHTTP takes one POST.
func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch b.mood.Load() {
	case sulks:
		_, _ = io.Copy(io.Discard, r.Body) // only then it is noticed that the caller went
		<-r.Context().Done()
		return
	case fails:
		http.Error(w, "not well", http.StatusInternalServerError)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller went
	}
	if err := b.take(body, r.Header); err != nil {
		b.mu.Lock()
		b.bad = append(b.bad, err.Error())
		b.mu.Unlock()
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// take verifies a POST, and remembers what it tells.
func (b *backend) take(body []byte, h http.Header) error {
	wh, err := standardwebhooks.NewWebhook("whsec_" + b.secret)
	if err != nil {
		return err
	}
	if err := wh.Verify(body, h); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	post, err := job.ParseWebhook(body)
	if err != nil {
		return err
	}
	if post.App != app || len(post.Events) == 0 {
		return fmt.Errorf("a POST of %d events for %s", len(post.Events), post.App)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.posts++
	for i := range post.Events {
		e := &post.Events[i]
		id := fnv.New64a()
		_, _ = id.Write([]byte(e.ID))
		if _, known := b.ids[id.Sum64()]; known {
			b.again++
		}
		b.ids[id.Sum64()] = struct{}{}
		if e.DeviceToken.IsZero() {
			continue
		}
		ids := job.NewAPNsIDs(app, e.Job)
		b.told[apnstest.PairHash([]byte(e.DeviceToken.Raw()), ids.ID(e.DeviceToken))] |= bits[e.Result]
	}
	return nil
}

// run makes the backend and those who tell it unwell, one thing after the other, until
// ctx ends; then all is well again.
func (b *backend) run(ctx context.Context) {
	for {
		gap, d, x := b.between(time.Second, 6*time.Second), b.between(200*time.Millisecond, 4*time.Second), b.rng.IntN(10)
		select {
		case <-time.After(gap):
		case <-ctx.Done():
			b.revive()
			return
		}
		switch {
		case x < 2:
			b.is(sulks, "sulks", d)
		case x < 4:
			b.is(fails, "fails", d)
		case x < 6:
			b.goDown(d)
		default:
			b.killAPI(b.rng.IntN(apis), d)
		}
		b.revive()
	}
}

func (b *backend) between(low, high time.Duration) time.Duration {
	return low + time.Duration(b.rng.Int64N(int64(high-low)+1))
}

func (b *backend) is(mood int32, what string, d time.Duration) {
	b.f.history.say("backend %s for %s", what, d)
	b.mood.Store(mood)
	<-time.After(d)
	b.mood.Store(well)
}

// goDown ends the backend without an answer to what it was told, and starts it again.
func (b *backend) goDown(d time.Duration) {
	b.faults++
	b.f.history.say("backend down for %s", d)
	_ = b.serving.Close()
	<-time.After(d)
	if err := b.serve(); err != nil {
		b.f.t.Error(err)
	}
}

func (b *backend) killAPI(i int, d time.Duration) {
	b.faults++
	b.f.history.say("kill %s for %s", b.apis[i].name, d)
	b.apis[i].kill()
	<-time.After(d)
	if err := b.apis[i].start(); err != nil {
		b.f.t.Error(err)
	}
}

// revive starts what has ended by itself, as compose and Kubernetes do.
func (b *backend) revive() {
	for _, p := range b.apis {
		if gone, ran := p.ranFor(); gone {
			b.faults++
			b.f.history.say("%s has ended by itself after %s", p.name, ran.Round(time.Millisecond))
			if err := p.start(); err != nil {
				b.f.t.Error(err)
			}
		}
	}
}

// drained says what was not told yet; nil: nothing.
func (b *backend) drained() error {
	b.revive()
	ctx, cancel := context.WithTimeout(b.f.ctx, 5*time.Second)
	defer cancel()
	for _, of := range [...][2]string{{stream.Outcomes, "webhook-" + app}, {stream.Webhooks, ""}} {
		st, err := b.f.js.Stream(ctx, of[0])
		if err != nil {
			return err
		}
		if of[1] == "" {
			if n := st.CachedInfo().State.Msgs; n > 0 {
				return fmt.Errorf("%s holds %d POSTs", of[0], n)
			}
			continue
		}
		c, err := st.Consumer(ctx, of[1])
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return errors.New("the webhook has no place in OUTCOMES any more")
		}
		if err != nil {
			return err
		}
		if info := c.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
			return fmt.Errorf("webhook: %d messages pending, %d unacknowledged", info.NumPending, info.NumAckPending)
		}
	}
	return nil
}

// judgeWebhook holds what the backend was told against what OUTCOMES has of the app's
// jobs. It is for when all have ended.
func (v *verdict) judgeWebhook(f *fleet, l *load, b *backend, faults []fault) error {
	outcomes, err := f.outcomes()
	if err != nil {
		return fmt.Errorf("read outcomes: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, o := range l.orders {
		ids := job.NewAPNsIDs(app, o.id)
		for i, t := range o.tokens(l.p) {
			pair := apnstest.PairHash([]byte(t.Raw()), ids.ID(t))
			e := outcomes[pair]
			if e.times == 0 {
				continue // lost, which is told elsewhere
			}
			n++
			switch heard := b.told[pair]; {
			case heard == 0:
				v.bad("webhook: an outcome was never taken", "job %s, recipient %d", o.id, i)
			case heard != e.results:
				v.bad("webhook: another result than in OUTCOMES", "job %s, recipient %d: %s, want %s", o.id, i, resultsOf(heard), resultsOf(e.results))
			}
		}
	}
	for _, why := range b.bad {
		v.bad("webhook: a POST that is none", "%s", why)
	}
	causes := b.faults
	for i := range faults {
		if faults[i].kind == killNATS {
			causes++
		}
	}
	bound := causes * againPerFault
	if b.again > bound {
		v.bad("webhook: more events again than the bound", "%d, bound %d", b.again, bound)
	}
	v.heard = fmt.Sprintf("webhook: outcomes=%d posts=%d events=%d again=%d bound=%d", n, b.posts, len(b.ids), b.again, bound)
	return nil
}
