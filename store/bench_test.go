package store_test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// benchDevices in the default number of buckets make listpacks of about 195.
const benchDevices = 200_000

// withUser gives each device a user and an install of its own.
func withUser(t device.Token) device.Registration {
	reg := registration(t)
	reg.User = fmt.Sprint("user ", t.Hex()[:16])
	reg.InstallID = fmt.Sprint("install ", t.Hex()[:16])
	return reg
}

func benchTokens(from, n int) []device.Token {
	tokens := make([]device.Token, n)
	for i := range tokens {
		tokens[i] = token((from + i*7919) % benchDevices)
	}
	return tokens
}

func perSecond(b *testing.B, n int, what string) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), what+"/s")
}

func BenchmarkBytesPerDevice(b *testing.B) {
	for _, bb := range []struct {
		name string
		reg  func(device.Token) device.Registration
	}{{"bare", registration}, {"user and install", withUser}} {
		b.Run(bb.name, func(b *testing.B) {
			for b.Loop() {
				db := testenv.Redis(b)
				st := store.New(db.Client, store.Config{})
				start := time.Now()
				fill(b, st, benchDevices, bb.reg)
				b.ReportMetric(benchDevices/time.Since(start).Seconds(), "registrations/s")
				b.ReportMetric(float64(bytesOf(b, db.Client))/benchDevices, "bytes/device")
			}
		})
	}
}

func BenchmarkRegisterMany(b *testing.B) {
	for _, bb := range []struct {
		name string
		reg  func(device.Token) device.Registration
	}{{"bare", registration}, {"user and install", withUser}} {
		b.Run(bb.name, func(b *testing.B) {
			st := store.New(testenv.Redis(b).Client, store.Config{})
			fill(b, st, benchDevices, bb.reg)
			regs := make([]device.Registration, 1000)
			for i := 0; b.Loop(); i++ {
				for j, t := range benchTokens(i*len(regs), len(regs)) {
					regs[j] = bb.reg(t)
				}
				if _, err := st.RegisterMany(b.Context(), app, regs); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b, len(regs), "registrations")
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	st := store.New(testenv.Redis(b).Client, store.Config{})
	fill(b, st, benchDevices, registration)
	for _, bb := range []struct {
		name string
		n    int
		from int
	}{
		{"1", 1, 0},
		{"100", 100, 0},
		{"1000", 1000, 0},
		{"unknown/1000", 1000, benchDevices},
	} {
		b.Run(bb.name, func(b *testing.B) {
			n, tokens := bb.n, benchTokens(0, bb.n)
			for i := range tokens {
				if bb.from > 0 {
					tokens[i] = token(bb.from + i)
				}
			}
			var dst []store.Entry
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = st.Lookup(b.Context(), app, tokens, dst[:0]); err != nil {
					b.Fatal(err)
				}
			}
			perSecond(b, n, "tokens")
		})
	}
}

func BenchmarkByUsers(b *testing.B) {
	st := store.New(testenv.Redis(b).Client, store.Config{})
	fill(b, st, benchDevices, withUser)
	const n = 1000
	users := make([]string, n)
	for i, t := range benchTokens(0, n) {
		users[i] = withUser(t).User
	}
	b.ReportAllocs()
	for b.Loop() {
		found, err := st.ByUsers(b.Context(), app, users)
		if err != nil || len(found[0]) != 1 {
			b.Fatalf("got %v, %v", found[0], err)
		}
	}
	perSecond(b, n, "users")
}

func BenchmarkApply(b *testing.B) {
	st := store.New(testenv.Redis(b).Client, store.Config{})
	fill(b, st, benchDevices, registration)
	const n = 1000
	verdicts := make([]store.Verdict, n)
	for i, t := range benchTokens(0, n) {
		verdicts[i] = store.Verdict{Token: t, Said: store.Dead, Generation: 1, Timestamp: time.Now().Add(time.Hour).UnixMilli()}
	}
	for i := 0; b.Loop(); i++ {
		for j, t := range benchTokens(i*n, n) {
			verdicts[j].Token = t
		}
		if _, err := st.Apply(b.Context(), app, verdicts); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, n, "verdicts")
}

func BenchmarkScan(b *testing.B) {
	st := store.New(testenv.Redis(b).Client, store.Config{})
	fill(b, st, benchDevices, registration)
	const step = 8 // about 1500 devices
	var dst []store.Entry
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		var err error
		from := i * step % store.DefaultBuckets
		if dst, err = st.ScanBuckets(b.Context(), app, store.DefaultBuckets, from, from+step, dst[:0]); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, step*benchDevices/store.DefaultBuckets, "devices")
}

// The demo registers on miniredis, where fewer buckets mean fewer runs of Lua.
func BenchmarkMiniredis(b *testing.B) {
	st := store.New(testenv.Miniredis(b).Client, store.Config{Buckets: 64})
	const n = 10_000
	regs := make([]device.Registration, n)
	for i := range regs {
		regs[i] = registration(token(i))
	}
	for b.Loop() {
		if _, err := st.RegisterMany(b.Context(), app, regs); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, n, "registrations")
}

// What doubling a million devices takes, and what a registration takes meanwhile:
// one step after the other, and with a pause after each as long as the step.
func BenchmarkDoubling(b *testing.B) {
	const devices, buckets = 1_000_000, 4096
	for _, bm := range []struct {
		name   string
		reg    func(device.Token) device.Registration
		gentle bool
	}{
		{"bare", registration, false},
		{"bare, gentle", registration, true},
		{"with user and install, gentle", withUser, true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			db := testenv.Redis(b)
			st := store.New(db.Client, store.Config{Buckets: buckets})
			fill(b, st, devices, bm.reg)
			b.ReportMetric(float64(bytesOf(b, db.Client))/devices, "bytes/device-before")
			other := store.New(sibling(b, db), store.Config{})
			quiet := latencies(b, other, bm.reg, func(n int) bool { return n < 3000 })
			var done atomic.Bool
			took := make(chan time.Duration, 1)
			go func() {
				defer done.Store(true)
				begun := time.Now()
				for {
					step := time.Now()
					g, err := st.Grow(b.Context(), app)
					if err != nil || !g.Doubling && !g.Began {
						if err != nil || !g.Ended {
							b.Errorf("Grow: got %+v, %v", g, err)
						}
						took <- time.Since(begun)
						return
					}
					if bm.gentle {
						select {
						case <-time.After(time.Since(step)):
						case <-b.Context().Done():
						}
					}
				}
			}()
			busy := latencies(b, other, bm.reg, func(int) bool { return !done.Load() })
			b.ReportMetric((<-took).Seconds(), "s/doubling")
			b.ReportMetric(float64(bytesOf(b, db.Client))/devices, "bytes/device-after")
			for name, list := range map[string][]time.Duration{"quiet": quiet, "busy": busy} {
				for _, percent := range []int{50, 99} {
					b.ReportMetric(float64(list[len(list)*percent/100].Microseconds()), fmt.Sprintf("µs/%s-p%d", name, percent))
				}
				b.ReportMetric(float64(list[len(list)-1].Microseconds()), "µs/"+name+"-max")
			}
			for key, enc := range encodings(b, db.Client) {
				if enc != "listpack" {
					b.Fatalf("encoding of %s: got %s, want listpack", key, enc)
				}
			}
		})
	}
}

// latencies are what registrations took, one after the other, in their order of
// length.
func latencies(
	b *testing.B, st *store.Store, reg func(device.Token) device.Registration, more func(n int) bool,
) (list []time.Duration) {
	b.Helper()
	for n := 0; more(n); n++ {
		reg := reg(token(n * 7919 % 1_000_000))
		begun := time.Now()
		if _, err := st.Register(b.Context(), app, reg); err != nil {
			b.Fatal(err)
		}
		list = append(list, time.Since(begun))
	}
	slices.Sort(list)
	return list
}
