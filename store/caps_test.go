package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

func (f *fixture) useCaps(t *testing.T, claims ...store.CapClaim) []bool {
	t.Helper()
	granted, err := f.UseCaps(t.Context(), app, claims)
	if err != nil {
		t.Fatalf("UseCaps: %v", err)
	}
	return granted
}

func TestUseCaps(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		const day = 24 * time.Hour
		claim := func(who, by string, most int, per time.Duration) store.CapClaim {
			return store.CapClaim{Who: device.KeyOf(who), Kind: "marketing", By: by, Max: most, Per: per}
		}
		urgent := claim("anna", "urgent", 2, day)
		urgent.Override = true
		news := claim("anna", "a", 0, day)
		news.Kind = "news"
		for i, tt := range []struct {
			after  time.Duration
			claims []store.CapClaim
			want   []bool
		}{
			{claims: []store.CapClaim{claim("anna", "a", 2, day), claim("ben", "a", 2, day)}, want: []bool{true, true}},
			// Two of her devices, in one call and in another.
			{claims: []store.CapClaim{claim("anna", "b", 2, day), claim("anna", "b", 2, day)}, want: []bool{true, true}},
			{after: time.Hour, claims: []store.CapClaim{claim("anna", "a", 2, day), claim("anna", "c", 2, day)}, want: []bool{true, false}},
			{claims: []store.CapClaim{claim("anna", "c", 3, day), claim("ben", "c", 2, day), news}, want: []bool{true, true, false}},
			{claims: []store.CapClaim{urgent, claim("anna", "d", 3, day)}, want: []bool{true, false}},
			// By now a and b are out of the window of a day, but not out of that of a week.
			{after: 23*time.Hour + time.Second, claims: []store.CapClaim{claim("anna", "d", 3, day), claim("anna", "e", 5, 7*day)}, want: []bool{true, false}},
			// What counts in the week is kept from now on.
			{after: 3 * day, claims: []store.CapClaim{claim("anna", "f", 1, day), claim("anna", "g", 6, 7*day)}, want: []bool{true, false}},
			{claims: []store.CapClaim{claim("anna", "g", 7, 7*day)}, want: []bool{true}},
		} {
			f.clock.move(tt.after)
			if got := f.useCaps(t, tt.claims...); !slices.Equal(got, tt.want) {
				t.Errorf("call %d: got %v, want %v", i, got, tt.want)
			}
		}
		for _, key := range keysOf(t, f.client, "c") {
			if ttl := f.client.TTL(t.Context(), key).Val(); ttl < day/2 || ttl > 7*day {
				t.Errorf("%s: lives for %s, want its longest window", key, ttl)
			}
		}
		if got := f.useCaps(t); len(got) != 0 {
			t.Errorf("no claims: got %v", got)
		}
		if _, err := f.UseCaps(t.Context(), "no app!", nil); err == nil {
			t.Error("UseCaps of an app of no name: got no error")
		}
	})
}

// capModel counts by the letter: who, kind -> when each campaign was counted.
type capModel map[[2]string]map[string]time.Time

func (m capModel) use(who string, c *store.CapClaim, now time.Time) bool {
	k := [2]string{who, c.Kind}
	counted, n := m[k], 0
	for by, at := range counted {
		if now.Unix()-at.Unix() >= int64(c.Per.Seconds()) {
			continue
		}
		if n++; by == c.By {
			return true
		}
	}
	if n >= c.Max && !c.Override {
		return false
	}
	if counted == nil {
		counted = make(map[string]time.Time)
		m[k] = counted
	}
	counted[c.By] = now
	return true
}

func TestCapsAgainstAModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			onBoth(t, func(t *testing.T, f *fixture) {
				rnd := rand.New(rand.NewPCG(seed, 3))
				// One window for each kind: what one needs another one must not have
				// forgotten, and that is known only once it was asked for.
				windows := map[string]time.Duration{"marketing": time.Hour, "news": 20 * time.Second}
				kinds := []string{"marketing", "news"}
				model := make(capModel)
				for step := range 150 {
					now := f.clock.move(time.Duration(rnd.IntN(400_000)) * time.Millisecond)
					var claims []store.CapClaim
					var want []bool
					for range 1 + rnd.IntN(12) {
						who := fmt.Sprint("user ", rnd.IntN(8))
						kind := kinds[rnd.IntN(2)]
						c := store.CapClaim{
							Who: device.KeyOf(who), Kind: kind, By: fmt.Sprint("campaign ", rnd.IntN(20)),
							Max: 1 + rnd.IntN(4), Per: windows[kind], Override: rnd.IntN(10) == 0,
						}
						claims = append(claims, c)
						want = append(want, model.use(who, &c, now))
					}
					if got := f.useCaps(t, claims...); !slices.Equal(got, want) {
						t.Fatalf("step %d: got %v, want %v", step, got, want)
					}
				}
			})
		})
	}
}

// What nobody asks for any more goes with what others ask for in the bucket.
func TestCapsAreForgotten(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		var key string
		c := store.CapClaim{Who: device.KeyOf("anna"), Kind: "k", By: "a", Max: 1, Per: time.Minute}
		f.useCaps(t, c)
		for _, k := range keysOf(t, f.client, "c") {
			key = k
		}
		value := f.client.HGetAll(t.Context(), key).Val()
		if len(value) != 2 { // and the longest window
			t.Fatalf("bucket: got %d fields, want 2", len(value))
		}
		for field, v := range value {
			for n := range 20 {
				if field != "" {
					if err := f.client.HSet(t.Context(), key, fmt.Sprintf("%012d", n), v).Err(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for range 2000 {
			f.clock.move(61 * time.Second)
			f.useCaps(t, c)
			if f.client.HLen(t.Context(), key).Val() == 2 {
				return
			}
		}
		t.Errorf("bucket after 2000 claims: got %d fields, want 2", f.client.HLen(t.Context(), key).Val())
	})
}

func BenchmarkUseCaps(b *testing.B) {
	st := store.New(testenv.Redis(b).Client, store.Config{})
	const n = 1000
	claims := make([]store.CapClaim, n)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for j := range claims {
			claims[j] = store.CapClaim{Who: device.KeyOf(fmt.Sprint((i*n + j) % 2_000_000)), Kind: "marketing", By: fmt.Sprint(i / 2000), Max: 2, Per: time.Hour}
		}
		if _, err := st.UseCaps(b.Context(), app, claims); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, n, "claims")
}
