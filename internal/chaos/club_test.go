//go:build chaos && linux

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

// The app that campaigns are for has devices of its own.
const (
	club       = "club"
	clubBundle = "com.example.club"
	// members are registered before the run, and nothing is done to them. movers come,
	// go, are replaced and change their tags all the time.
	members = 12_000
	movers  = 800
	// Every so many members have the tag, less than one in four, so that it is worth
	// reading by it; a time zone in which it is not night; and a user of their own.
	tagged, awake, owned = 5, 2, 3

	clubTag = "gold"
	// here is where it is night in quiet hours, there where it is not.
	here, there = "Etc/GMT", "Etc/GMT-12"
)

// roll is the devices of the club.
type roll struct {
	seed    uint64
	members int
	rng     *rand.Rand // of the movers; only touched by who moves them

	mu     sync.Mutex
	movers []mover // guarded by mu
}

// mover is what is known of one mover, by its device tokens.
type mover struct {
	had []bool // of each device token that it ever had: it was registered with the tag
}

func newRoll(seed uint64) *roll {
	r := &roll{seed: seed, members: members, rng: rand.New(rand.NewPCG(seed, 3)), movers: make([]mover, movers)}
	for i := range r.movers {
		r.movers[i].had = []bool{false}
	}
	return r
}

func (r *roll) member(i int) device.Token {
	return device.TokenFromRaw(fmt.Sprintf("%016x%08d%08d", r.seed, 1, i))
}

// mover is the nth device token of a mover.
func (r *roll) mover(i, n int) device.Token {
	return device.TokenFromRaw(fmt.Sprintf("%016x%08d%08d", r.seed, 2+n, i))
}

func memberUser(i int) string { return fmt.Sprintf("member-%d", i) }

func healthy(t device.Token) bool { return shares.Fate([]byte(t.Raw())) == apnstest.Healthy }

// setUp registers members, and movers as they are at first.
func (r *roll) setUp(f *fleet) {
	name := filepath.Join(f.dir, "club.ndjson")
	file, err := os.Create(name)
	f.check(err)
	enc := json.NewEncoder(file)
	for i := range r.members {
		line := map[string]any{"token": r.member(i).Hex(), "timezone": here}
		if i%tagged == 0 {
			line["tags"] = []string{clubTag}
		}
		if i%awake == 0 {
			line["timezone"] = there
		}
		if i%owned == 0 {
			line["user"] = memberUser(i)
		}
		f.check(enc.Encode(line))
	}
	for i := range movers {
		f.check(enc.Encode(map[string]any{"token": r.mover(i, 0).Hex(), "install_id": install(i)}))
	}
	f.check(file.Close())
	_, err = f.command("device", "import", "--app", club, name)
	f.check(err)
}

func install(i int) string { return fmt.Sprintf("mover-%d", i) }

// move changes some movers, each in a way that is drawn.
func (r *roll) move(f *fleet, number int) {
	for n := range 4 {
		i := r.rng.IntN(movers)
		r.mu.Lock()
		m := &r.movers[i]
		last := len(m.had) - 1
		change := map[string]any{"action": "register", "token": r.mover(i, last).Hex()}
		switch r.rng.IntN(5) {
		case 0:
			change["action"] = "remove"
		case 1, 2:
			change["install_id"], change["tags"] = install(i), []string{clubTag}
			m.had[last] = true
		case 3:
			change["install_id"] = install(i)
		case 4:
			change["install_id"], change["previous_token"] = install(i), r.mover(i, last).Hex()
			change["token"] = r.mover(i, last+1).Hex()
			m.had = append(m.had, false)
		}
		r.mu.Unlock()
		body, err := json.Marshal(change)
		if err != nil {
			panic(err) // a map of strings
		}
		f.insist("move", func(ctx context.Context) error {
			return f.streams.PublishDevice(ctx, club, fmt.Sprintf("m-%d-%d", number, n), body)
		})
	}
}

// grow doubles the buckets of the club's token set, once, as the sweepers do when
// it has become too full.
func (r *roll) grow(f *fleet) {
	set := store.New(f.client, store.Config{DevicesPerBucket: 1})
	for f.ctx.Err() == nil {
		g, err := set.Grow(f.ctx, club)
		switch {
		case err != nil:
			f.history.say("double the buckets: %.200v", err)
			<-time.After(tick)
		case g.Began:
			f.history.say("%d buckets of the club begin to double", g.Buckets)
		case g.Ended:
			f.history.say("the club has %d buckets", g.Buckets)
			return
		case !g.Doubling:
			return // there are enough
		}
	}
}
