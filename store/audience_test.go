package store_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

func (f *fixture) audience(t *testing.T, c store.Classes, tags []string, details bool) (list []device.Device, seen, unreadable int) {
	t.Helper()
	list, seen, unreadable, err := f.ReadAudience(t.Context(), app, c, tags, details, nil)
	if err != nil {
		t.Fatalf("ReadAudience: %v", err)
	}
	return list, seen, unreadable
}

// devicesByToken are devices, of which each must be there once.
func devicesByToken(t *testing.T, list []device.Device) map[device.Token]device.Device {
	t.Helper()
	out := make(map[device.Token]device.Device)
	for _, d := range list {
		if _, twice := out[d.Token]; twice {
			t.Errorf("%v: got it twice", d.Token)
		}
		out[d.Token] = d
	}
	return out
}

// full is a registration with everything.
func full(tok device.Token, n int) device.Registration {
	reg := registration(tok)
	reg.User, reg.InstallID = fmt.Sprint("user ", n), fmt.Sprint("install ", n)
	reg.Locale, reg.Timezone, reg.AppVersion = "de-AT", "Europe/Vienna", "7.1.0"
	reg.Tags = []string{"beta", fmt.Sprint("team ", n%3)}
	reg.Attributes = map[string]string{"first_name": "Zoë", "link": `<a href="/x?a=1&b=2">`}
	return reg
}

func TestReadAudience(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		const devices = 60
		all := make(map[device.Token]device.Device)
		for n := range devices {
			tok := token(n)
			if n%7 == 0 {
				tok = longToken(n)
			}
			reg := registration(tok)
			if n%2 == 0 {
				reg = full(tok, n)
			}
			f.mustRegister(t, reg)
		}
		for n := range devices { // with details now, which are behind the others
			if n%6 == 3 && n%7 != 0 {
				f.mustRegister(t, full(token(n), n))
			}
		}
		if _, err := f.Delete(t.Context(), app, token(1), device.Deleted); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Delete(t.Context(), app, token(2), device.Deleted); err != nil {
			t.Fatal(err)
		}
		f.apply(t, store.Verdict{Token: token(4), Said: store.Quarantine, Generation: 1, Reason: device.BadDeviceToken, SentAt: f.clock.now()})
		f.patch(t, token(3), func(packed string) string { return packed[:5] })
		for n := range devices {
			tok := token(n)
			if n%7 == 0 {
				tok = longToken(n)
			}
			if n == 3 {
				continue
			}
			if d, ok, err := f.Device(t.Context(), app, tok); err != nil || !ok {
				t.Fatalf("device %d: got %t, %v", n, ok, err)
			} else if d.Record.Usable() {
				all[tok] = d
			}
		}
		for _, details := range []bool{true, false} {
			got, seen, unreadable := f.audience(t, store.Classes{Of: 1, To: 1}, nil, details)
			if seen != devices || unreadable != 1 || len(got) != devices-4 {
				t.Errorf("details %t: got %d of %d, %d unreadable, want %d of %d, 1", details, len(got), seen, unreadable, devices-4, devices)
			}
			for tok, d := range devicesByToken(t, got) {
				want := all[tok]
				if !details {
					want = device.Device{Record: want.Record, CreatedAt: want.Record.Registered()}
					want.Token, want.Environment, want.Kind = tok, want.Record.Environment, want.Record.Kind
				}
				if !reflect.DeepEqual(d, want) {
					t.Errorf("details %t: got %+v, want %+v", details, d, want)
				}
			}
			// By classes, also by more than there are buckets.
			for _, of := range []int{2, 4, 16, 128} {
				var list []device.Device
				sum := 0
				for c := 0; c < of; c += 2 {
					some, seen, _ := f.audience(t, store.Classes{Of: of, From: c, To: c + 2}, nil, details)
					list, sum = append(list, some...), sum+seen
				}
				if len(devicesByToken(t, list)) != devices-4 || sum != devices {
					t.Errorf("details %t, %d classes: got %d of %d, want %d of %d", details, of, len(list), sum, devices-4, devices)
				}
			}
			// By tags: 1, 3 and 2 are not there, and 4 is in quarantine.
			want := 0
			for _, d := range all {
				if slices.Contains(d.Tags, "team 1") || slices.Contains(d.Tags, "team 2") {
					want++
				}
			}
			got, seen, _ = f.audience(t, store.Classes{Of: 1, To: 1}, []string{"team 1", "team 2", "nobody", "team 2"}, details)
			if len(devicesByToken(t, got)) != want || want == 0 || seen < want {
				t.Errorf("details %t, by tags: got %d of %d, want %d", details, len(got), seen, want)
			}
			for _, d := range got {
				if want := all[d.Token]; details && !reflect.DeepEqual(d, want) || !details && d.Record != want.Record {
					t.Errorf("details %t, by tags: got %+v, want %+v", details, d, want)
				}
			}
		}
		// Details that are gone, those of another user, and damaged ones.
		key := func(n int) string { return store.BucketKey(app, 4, token(n), 'x') }
		one, err := f.client.HGet(t.Context(), key(8), token(8).Raw()).Result()
		if err != nil {
			t.Fatal(err)
		}
		for n, value := range map[int]string{6: "damaged", 10: one} {
			if err := f.client.HSet(t.Context(), key(n), token(n).Raw(), value).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.client.HDel(t.Context(), key(12), token(12).Raw()).Err(); err != nil {
			t.Fatal(err)
		}
		for _, tags := range [][]string{nil, {"beta"}} {
			got, _, unreadable := f.audience(t, store.Classes{Of: 1, To: 1}, tags, true)
			byToken := devicesByToken(t, got)
			if _, ok := byToken[token(6)]; ok || unreadable == 0 {
				t.Errorf("tags %q: got %d unreadable, and a device with damaged details %t", tags, unreadable, ok)
			}
			// What Redis says again and again is believed.
			if d := byToken[token(10)]; d.User != "user 8" {
				t.Errorf("tags %q: got user %q, want those details that are there", tags, d.User)
			}
			if d, ok := byToken[token(12)]; tags == nil && (!ok || d.User != "") {
				t.Errorf("without its details: got %+v, %t, want the device all the same", d, ok)
			}
		}
		for _, c := range []store.Classes{{}, {Of: 3, To: 1}, {Of: 4, From: -1, To: 1}, {Of: 4, To: 5}, {Of: 4, From: 2, To: 1}} {
			if _, _, _, err := f.ReadAudience(t.Context(), app, c, nil, false, nil); err == nil {
				t.Errorf("ReadAudience of %+v: got no error", c)
			}
		}
	})
}

// A stale hint makes nobody a member, and goes when it is read.
func TestReadAudienceTakesOutStaleHints(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, tagged(token(1), "vip", "beta"))
		f.mustRegister(t, tagged(token(2), "vip"))
		keys := keysOf(t, f.client, "t")
		for _, key := range keys {
			if err := f.client.HSet(t.Context(), key, token(3).Raw(), 7, token(1).Raw(), 1).Err(); err != nil {
				t.Fatal(err)
			}
		}
		f.mustRegister(t, tagged(token(1), "beta"))
		for _, key := range keys {
			if err := f.client.HSetNX(t.Context(), key, token(1).Raw(), 1).Err(); err != nil {
				t.Fatal(err)
			}
		}
		got, seen, _ := f.audience(t, store.Classes{Of: 1, To: 1}, []string{"vip"}, false)
		if len(got) != 1 || got[0].Token != token(2) || seen != 3 {
			t.Errorf("vip: got %v of %d, want one of 3", got, seen)
		}
		f.audience(t, store.Classes{Of: 1, To: 1}, []string{"beta"}, false)
		if got := f.inIndex(t); got != 2 {
			t.Errorf("in the index after it was read: got %d, want 2", got)
		}
	})
}

func TestCountClasses(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.LimitTags(8)
		const devices = 200
		var regs []device.Registration
		for n := range devices {
			tok := token(n)
			if n%7 == 0 {
				tok = longToken(n)
			}
			regs = append(regs, tagged(tok, "vip"))
		}
		if _, err := f.RegisterMany(t.Context(), app, regs); err != nil {
			t.Fatal(err)
		}
		check := func(what string, tags []string) {
			t.Helper()
			classes, about, err := f.AudienceSize(t.Context(), app, tags)
			if err != nil || about < devices*8/10 || about > devices*12/10 {
				t.Errorf("%s: AudienceSize: got %d, %v, want about %d", what, about, err, devices)
			}
			for _, of := range []int{1, classes, 4 * classes} {
				for _, width := range []int{1, 3} {
					n := (of + width - 1) / width
					counts, err := f.CountClasses(t.Context(), app, tags, of, width, 0, n)
					if err != nil {
						t.Fatal(err)
					}
					sum := 0
					for i, count := range counts {
						sum += count
						list, _, _ := f.audience(t, store.Classes{Of: of, From: i * width, To: min((i+1)*width, of)}, tags, false)
						if of <= classes && count != len(list) || count < len(list)/2 || count == 0 && len(list) > 0 {
							t.Errorf("%s: range %d of %d classes of %d: got %d, want %d", what, i, width, of, count, len(list))
						}
					}
					if of <= classes && sum != devices {
						t.Errorf("%s: %d classes: got %d, want %d", what, of, sum, devices)
					}
					if n < 2 {
						continue
					}
					if some, err := f.CountClasses(t.Context(), app, tags, of, width, width, n-1); err != nil || !slices.Equal(some, counts[1:]) {
						t.Errorf("%s: without the first range: got %v, %v, want %v", what, some, err, counts[1:])
					}
				}
			}
		}
		check("all", nil)
		check("by a tag", []string{"vip"})
		for { // half of a doubling
			if g, err := f.Grow(t.Context(), app); err != nil || !g.Doubling || g.Split >= g.Buckets/2 {
				break
			}
		}
		check("all, while buckets double", nil)
		grow(t, f.Store)
		check("all, after buckets doubled", nil)
		for _, bad := range [][4]int{{3, 1, 0, 1}, {4, 0, 0, 1}, {4, 1, 5, 1}, {4, 1, 0, -1}} {
			if got, err := f.CountClasses(t.Context(), app, nil, bad[0], bad[1], bad[2], bad[3]); err == nil {
				t.Errorf("CountClasses of %v: got %v and no error", bad, got)
			}
		}
	})
}

func TestReadAudienceOnACluster(t *testing.T) {
	t.Parallel()
	f, _, ok := onCluster(t, 64, false)
	if !ok {
		return
	}
	const devices = 300
	var regs []device.Registration
	for n := range devices {
		regs = append(regs, full(token(n), n))
	}
	if _, err := f.RegisterMany(t.Context(), app, regs); err != nil {
		t.Fatal(err)
	}
	for _, tags := range [][]string{nil, {"team 0", "team 1", "team 2"}} {
		var list []device.Device
		for c := 0; c < 64; c += 8 {
			some, _, _ := f.audience(t, store.Classes{Of: 64, From: c, To: c + 8}, tags, true)
			list = append(list, some...)
		}
		if got := devicesByToken(t, list); len(got) != devices || got[token(7)].User != "user 7" {
			t.Errorf("tags %q: got %d devices, want %d", tags, len(got), devices)
		}
	}
	if counts, err := f.CountClasses(t.Context(), app, nil, 64, 64, 0, 1); err != nil || counts[0] != devices {
		t.Errorf("CountClasses: got %v, %v, want %d", counts, err, devices)
	}
	if _, err := f.client.(*redis.ClusterClient).Ping(t.Context()).Result(); err != nil {
		t.Fatal(err)
	}
}

// compareAudience compares what two token sets have in the same classes.
func (m *model) compareAudience(st *store.Store) {
	of := 1 << m.rng.IntN(7)
	c := store.Classes{Of: of, From: m.rng.IntN(of)}
	c.To = c.From + 1 + m.rng.IntN(of-c.From)
	var tags []string
	if m.rng.IntN(2) == 0 {
		tags = []string{"vip"}
	}
	details := m.rng.IntN(2) == 0
	got, seen, _, err := st.ReadAudience(m.t.Context(), app, c, tags, details, nil)
	want, seen2, _, err2 := m.plain.ReadAudience(m.t.Context(), app, c, tags, details, nil)
	m.same("ReadAudience", devicesByToken(m.t, got), devicesByToken(m.t, want), err, err2)
	if tags != nil {
		return // stale hints may be among them
	}
	m.same("ReadAudience, seen", seen, seen2)
	counts, err := st.CountClasses(m.t.Context(), app, nil, of, c.To-c.From, c.From, 1)
	buckets, err2 := st.Buckets(m.t.Context(), app)
	if err := errors.Join(err, err2); err != nil {
		m.t.Fatal(err)
	}
	// By more classes than there are buckets it is a guess, but for none.
	if least := len(want); of <= buckets && counts[0] < least || counts[0] == 0 && least > 0 {
		m.t.Errorf("CountClasses of %+v in %d buckets: got %d, want %d at least", c, buckets, counts[0], least)
	}
}

var benchFull = func(tok device.Token) device.Registration {
	n := int(tok.Raw()[0])
	reg := withUser(tok)
	reg.Locale, reg.Timezone, reg.AppVersion = "de-AT", "Europe/Vienna", "7.1.0"
	reg.Tags = []string{"beta", fmt.Sprint("team ", n%50)}
	reg.Attributes = map[string]string{"first_name": "Zoë", "plan": "gold"}
	return reg
}

func BenchmarkReadAudience(b *testing.B) {
	for _, bb := range []struct {
		name    string
		reg     func(device.Token) device.Registration
		tags    []string
		details bool
	}{
		{"all bare", registration, nil, false},
		{"all, details", benchFull, nil, true},
		{"all, without details", benchFull, nil, false},
		{"tag of all, details", benchFull, []string{"beta"}, true},
		{"tag of few, details", benchFull, []string{"team 7"}, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			st := store.New(testenv.Redis(b).Client, store.Config{Buckets: 2048})
			fill(b, st, benchDevices, bb.reg)
			const ranges = 200 // of about 1000 devices
			classes, _, err := st.AudienceSize(b.Context(), app, bb.tags)
			if err != nil {
				b.Fatal(err)
			}
			var dst []device.Device
			devices := 0
			b.ReportAllocs()
			begun := cpuTime(b)
			for i := 0; b.Loop(); i++ {
				n := max(classes/ranges, 1)
				from := i * n % classes
				if dst, _, _, err = st.ReadAudience(b.Context(), app, store.Classes{Of: classes, From: from, To: min(from+n, classes)}, bb.tags, bb.details, dst[:0]); err != nil {
					b.Fatal(err)
				}
				devices += len(dst)
			}
			b.ReportMetric(float64((cpuTime(b)-begun).Nanoseconds())/float64(devices), "cpu-ns/device")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(devices), "ns/device")
		})
	}
}
