package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

func TestRegisterKeepsWhatWasHandedIn(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		lengths := []int{1, 32, 60, 61, 80, 256}
		var all []device.Token
		for _, n := range lengths {
			tok := tokenOf(1, n)
			all = append(all, tok)
			reg := device.Registration{
				Token: tok, User: "anna", InstallID: fmt.Sprint("install of ", n),
				Environment: device.Sandbox, Kind: device.VoIP,
				Locale: "de-AT", Timezone: "Europe/Vienna", AppVersion: "4.2", Tags: []string{"news", "sport"},
				Attributes: map[string]string{"plan": "gold"},
			}
			first := f.clock.move(time.Second)
			got := f.mustRegister(t, reg)
			if got.RegisteredAt != first.UnixMilli() || got.Generation != 1 || !got.New || got.Replaced != 0 || got.Superseded {
				t.Errorf("%d bytes: first registration: got %+v", n, got)
			}
			second := f.clock.move(time.Hour)
			if got = f.mustRegister(t, reg); got.Generation != 2 || got.New {
				t.Errorf("%d bytes: second registration: got %+v, want generation 2 and not new", n, got)
			}
			d, ok, err := f.Device(t.Context(), app, tok)
			if err != nil || !ok {
				t.Fatalf("%d bytes: Device: got %t, %v", n, ok, err)
			}
			if d.Token != tok || d.User != reg.User || d.InstallID != reg.InstallID || d.Environment != reg.Environment ||
				d.Kind != reg.Kind || d.Locale != reg.Locale || d.Timezone != reg.Timezone || d.AppVersion != reg.AppVersion ||
				!slices.Equal(d.Tags, reg.Tags) || !maps.Equal(d.Attributes, reg.Attributes) {
				t.Errorf("%d bytes: Device: got %+v, want %+v", n, d.Registration, reg)
			}
			if !d.CreatedAt.Equal(first) || !d.Record.Registered().Equal(second) {
				t.Errorf("%d bytes: created, registered: got %v, %v, want %v, %v",
					n, d.CreatedAt, d.Record.Registered(), first, second)
			}
			e := f.entry(t, tok)
			if !e.Known || e.Record != d.Record || !e.Record.Usable() || e.Record.Replaces || !e.Record.Details {
				t.Errorf("%d bytes: Lookup: got %+v, want the record %+v", n, e, d.Record)
			}
		}
		wantTokens(t, "devices of anna", f.ofUser(t, "anna"), all...)
		if n, err := f.Count(t.Context(), app); err != nil || n != int64(len(all)) {
			t.Errorf("Count: got %d, %v, want %d", n, err, len(all))
		}
	})
}

func TestRegisterWithinOneMillisecondRaisesGeneration(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for want := uint32(1); want <= 3; want++ {
			if got := f.mustRegister(t, registration(token(1))); got.Generation != want {
				t.Errorf("registration %d: got generation %d", want, got.Generation)
			}
		}
	})
}

func TestRegisterByTheServersClock(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		st := store.New(f.client, store.Config{})
		before := time.Now().Add(-time.Minute).UnixMilli()
		got, err := st.Register(t.Context(), "other", registration(token(1)))
		after := time.Now().Add(time.Minute).UnixMilli()
		if err != nil || got.RegisteredAt < before || got.RegisteredAt > after {
			t.Errorf("Register: got %+v, %v, want registered within a minute of now", got, err)
		}
	})
}

func TestRegisterMovesTheUser(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		reg := registration(token(1))
		reg.User, reg.InstallID = "anna", "phone"
		f.mustRegister(t, reg)

		reg.User = "bert"
		f.mustRegister(t, reg)
		wantTokens(t, "devices of anna after bert logged in", f.ofUser(t, "anna"))
		wantTokens(t, "devices of bert", f.ofUser(t, "bert"), token(1))
		if n := f.fields(t, "u"); n != 1 {
			t.Errorf("slots of users in redis: got %d, want 1: anna's should be gone", n)
		}

		reg.User = ""
		f.mustRegister(t, reg)
		wantTokens(t, "devices of bert after logging out", f.ofUser(t, "bert"))
		wantTokens(t, "devices of the install", f.ofInstall(t, "phone"), token(1))

		reg.InstallID = ""
		f.mustRegister(t, reg)
		wantTokens(t, "devices of the install that is not named again", f.ofInstall(t, "phone"))
		if n := f.fields(t, "u") + f.fields(t, "i") + f.fields(t, "x"); n != 0 {
			t.Errorf("slots and details in redis of a device without any: got %d, want 0", n)
		}
		if e := f.entry(t, token(1)); !e.Record.Usable() || e.Record.Details {
			t.Errorf("record: got %+v, want live without details", e.Record)
		}
	})
}

func TestRegisterReleases(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for i, v := range []store.Verdict{
			{Said: store.Dead, Generation: 1, Timestamp: f.clock.now().Add(time.Hour).UnixMilli(), Reason: device.Unregistered},
			{Said: store.Quarantine, Generation: 1, Reason: device.BadDeviceToken},
		} {
			v.Token = token(i)
			f.mustRegister(t, registration(v.Token))
			f.clock.move(2 * time.Hour)
			if got := f.apply(t, store.Verdict{Token: v.Token, Said: store.Accepted}); got != store.MarkedIt {
				t.Fatalf("accepted: got %v, want %v", got, store.MarkedIt)
			}
			f.apply(t, v)
			if e := f.entry(t, v.Token); e.Record.Usable() {
				t.Fatalf("after verdict %d: got a live record %+v", i, e.Record)
			}
			got := f.mustRegister(t, registration(v.Token))
			if got.Generation != 2 || got.New != (v.Said == store.Dead) {
				t.Errorf("registration after verdict %d: got %+v, want generation 2", i, got)
			}
			if e := f.entry(t, v.Token); !e.Record.Usable() || !e.Record.Accepted || e.Record.ChangedAt != 0 {
				t.Errorf("record after verdict %d and registration: got %+v, want live and accepted before", i, e.Record)
			}
		}
	})
}

func TestRegisterReplaces(t *testing.T) {
	withInstall := func(t device.Token, k device.Kind) device.Registration {
		return device.Registration{Token: t, InstallID: "phone", Kind: k, Environment: device.Production, User: "anna"}
	}
	tests := []struct {
		name         string
		before       []device.Registration
		reg          device.Registration
		wantReplaced int
		wantLive     []device.Token
		wantRemoved  []device.Token
	}{
		{
			name:         "previous token",
			before:       []device.Registration{{Token: token(1), User: "anna", Environment: device.Production}},
			reg:          device.Registration{Token: token(2), PreviousToken: token(1), User: "anna", Environment: device.Production},
			wantReplaced: 1,
			wantLive:     []device.Token{token(2)},
			wantRemoved:  []device.Token{token(1)},
		},
		{
			name:     "previous token is the token itself",
			before:   []device.Registration{{Token: token(1), User: "anna", Environment: device.Production}},
			reg:      device.Registration{Token: token(1), PreviousToken: token(1), User: "anna", Environment: device.Production},
			wantLive: []device.Token{token(1)},
		},
		{
			name:         "previous token was never registered",
			reg:          device.Registration{Token: token(2), PreviousToken: token(1), User: "anna", Environment: device.Production},
			wantReplaced: 1,
			wantLive:     []device.Token{token(2)},
			wantRemoved:  []device.Token{token(1)},
		},
		{
			name: "previous token was replaced already",
			before: []device.Registration{
				{Token: token(2), PreviousToken: token(1), User: "anna", Environment: device.Production},
			},
			reg:         device.Registration{Token: token(2), PreviousToken: token(1), User: "anna", Environment: device.Production},
			wantLive:    []device.Token{token(2)},
			wantRemoved: []device.Token{token(1)},
		},
		{
			name:         "long tokens",
			before:       []device.Registration{withInstall(longToken(1), device.LiveActivityStart)},
			reg:          withInstall(longToken(2), device.LiveActivityStart),
			wantReplaced: 1,
			wantLive:     []device.Token{longToken(2)},
			wantRemoved:  []device.Token{longToken(1)},
		},
		{
			name: "install",
			before: []device.Registration{
				withInstall(token(1), device.Alert), withInstall(token(9), device.VoIP),
			},
			reg:          withInstall(token(2), device.Alert),
			wantReplaced: 1,
			wantLive:     []device.Token{token(2), token(9)},
			wantRemoved:  []device.Token{token(1)},
		},
		{
			name:         "install and previous token, the same",
			before:       []device.Registration{withInstall(token(1), device.Alert)},
			reg:          device.Registration{Token: token(2), PreviousToken: token(1), InstallID: "phone", User: "anna", Environment: device.Production},
			wantReplaced: 1,
			wantLive:     []device.Token{token(2)},
			wantRemoved:  []device.Token{token(1)},
		},
		{
			name: "install, but each Live Activity has its own",
			before: []device.Registration{
				withInstall(longToken(1), device.LiveActivity), withInstall(token(1), device.Alert),
			},
			reg:      withInstall(longToken(2), device.LiveActivity),
			wantLive: []device.Token{longToken(1), longToken(2), token(1)},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, f *fixture) {
				for _, reg := range tt.before {
					f.mustRegister(t, reg)
				}
				if got := f.mustRegister(t, tt.reg); got.Replaced != tt.wantReplaced {
					t.Errorf("Replaced: got %d, want %d", got.Replaced, tt.wantReplaced)
				}
				for _, tok := range tt.wantLive {
					if e := f.entry(t, tok); !e.Known || !e.Record.Usable() || e.Record.Replaces {
						t.Errorf("%v: got %+v, want live with nothing left to replace", tok, e)
					}
				}
				for _, tok := range tt.wantRemoved {
					if e := f.entry(t, tok); e.Record.State != device.Removed || e.Record.Reason != device.Replaced {
						t.Errorf("%v: got %+v, want removed as replaced", tok, e)
					}
				}
				wantTokens(t, "devices of anna", f.ofUser(t, "anna"), tt.wantLive...)
				if n := f.fields(t, "r"); n != 0 {
					t.Errorf("replacements left in redis: got %d, want 0", n)
				}
			})
		})
	}
}

func TestRegisterReplacesWhateverTheClockSays(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		reg := registration(token(1))
		reg.InstallID = "phone"
		old := f.mustRegister(t, reg)
		f.clock.move(-time.Hour) // another server's clock is behind
		reg.Token = token(2)
		got := f.mustRegister(t, reg)
		if got.Replaced != 1 || got.RegisteredAt <= old.RegisteredAt {
			t.Errorf("got %+v, want 1 replaced, registered after %d", got, old.RegisteredAt)
		}
		wantTokens(t, "devices of the install", f.ofInstall(t, "phone"), token(2))
	})
}

func TestRegisterTimeGoesBackOnlyFromAWrongClock(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		first := f.mustRegister(t, registration(token(1)))
		f.clock.move(-23 * time.Hour)
		if got := f.mustRegister(t, registration(token(1))); got.RegisteredAt != first.RegisteredAt || got.Generation != 2 {
			t.Errorf("clock put back by 23 hours: got %+v, want registered at %d, generation 2", got, first.RegisteredAt)
		}
		now := f.clock.move(-25 * time.Hour)
		if got := f.mustRegister(t, registration(token(1))); got.RegisteredAt != now.UnixMilli() || got.Generation != 3 {
			t.Errorf("clock put back by two days: got %+v, want registered at %d, generation 3", got, now.UnixMilli())
		}
	})
}

func TestRegisterManyKeepsTheOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		var regs []device.Registration
		for n := range 5 { // five device tokens of one install, and the user moves too
			reg := registration(token(n))
			reg.InstallID, reg.User = "phone", fmt.Sprint("user ", n)
			regs = append(regs, reg)
		}
		again := regs[1] // a device token twice
		again.User = "last"
		regs = append(regs, again)
		for n := 100; n < 200; n++ { // and others
			regs = append(regs, registration(token(n)))
		}
		got, err := f.RegisterMany(t.Context(), app, regs)
		if err != nil {
			t.Fatal(err)
		}
		if got[5].Generation != 2 || got[5].Replaced != 1 {
			t.Errorf("the last registration of the install: got %+v, want generation 2, 1 replaced", got[5])
		}
		wantTokens(t, "devices of the install", f.ofInstall(t, "phone"), token(1))
		for n := range 5 {
			wantTokens(t, fmt.Sprint("devices of user ", n), f.ofUser(t, fmt.Sprint("user ", n)))
		}
		wantTokens(t, "devices of the last user", f.ofUser(t, "last"), token(1))
		if n, err := f.Count(t.Context(), app); err != nil || n != 105 {
			t.Errorf("Count: got %d, %v, want 105, of which 4 are removed", n, err)
		}
	})
}

func TestRegisterManyTellsEachItsError(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		// A record that a newer version wrote.
		f.mustRegister(t, registration(token(1)))
		f.patch(t, token(1), func(packed string) string { return "\x02" + packed[1:] })

		noEnvironment := registration(token(2))
		noEnvironment.Environment = device.EnvironmentUnset
		got, err := f.RegisterMany(t.Context(), app, []device.Registration{
			registration(token(1)), noEnvironment, registration(device.Token{}), registration(token(3)),
		})
		if err == nil || !strings.Contains(err.Error(), "3 of 4") {
			t.Errorf("error: got %v, want one that says 3 of 4", err)
		}
		if !errors.Is(got[0].Err, device.ErrRecord) {
			t.Errorf("error of the record of a newer version: got %v, want %v", got[0].Err, device.ErrRecord)
		}
		if got[1].Err == nil || !strings.Contains(got[1].Err.Error(), "environment") {
			t.Errorf("error without environment: got %v", got[1].Err)
		}
		if !errors.Is(got[2].Err, device.ErrTokenEmpty) {
			t.Errorf("error without device token: got %v, want %v", got[2].Err, device.ErrTokenEmpty)
		}
		if got[3].Err != nil || !f.entry(t, token(3)).Known {
			t.Errorf("the good one: got %+v, want it registered", got[3])
		}
	})
}

func TestRegisterThatReplacesAnUnreadableRecord(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1)))
		mend := f.patch(t, token(1), func(packed string) string { return "\x02" + packed[1:] })
		reg := registration(token(2))
		reg.PreviousToken = token(1)
		if _, err := f.Register(t.Context(), app, reg); err != nil {
			t.Errorf("Register: got %v, want what cannot be read left alone", err)
		}
		mend()
		if e := f.entry(t, token(1)); !e.Record.Usable() {
			t.Errorf("old device token: got %+v, want it untouched", e.Record)
		}
	})
}

// A crash between any two steps of a replacement shows no reader neither device
// token, and a sweep, or the next registration, removes the old one.
func TestRegisterCutOffAnywhere(t *testing.T) {
	heal := map[string]func(t *testing.T, f *fixture, reg device.Registration){
		"sweep": func(t *testing.T, f *fixture, _ device.Registration) {
			f.sweep(t)
		},
		"next registration": func(t *testing.T, f *fixture, reg device.Registration) {
			f.clock.move(time.Hour)
			reg.PreviousToken = device.Token{} // the app has forgotten it
			f.mustRegister(t, reg)
		},
		"the same again": func(t *testing.T, f *fixture, reg device.Registration) {
			f.mustRegister(t, reg)
		},
	}
	for how, heal := range heal {
		for _, byInstall := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, by install %t", how, byInstall), func(t *testing.T) {
				onBoth(t, func(t *testing.T, f *fixture) {
					cut := &cutter{left: 1 << 30}
					f.client.AddHook(cut)
					finished := false
					for steps := 0; !finished; steps++ {
						if steps > 20 {
							t.Fatal("a registration takes more than 20 pipelines")
						}
						old, reg := registration(token(2*steps)), registration(token(2*steps+1))
						user := fmt.Sprint("user ", steps)
						old.User, reg.User = user, user
						if byInstall {
							old.InstallID, reg.InstallID = user, user
						} else {
							reg.PreviousToken = old.Token
						}
						f.mustRegister(t, old)

						cut.set(steps)
						_, err := f.Register(t.Context(), app, reg)
						cut.set(1 << 30)
						if err != nil && !errors.Is(err, cutError{}) {
							t.Fatalf("cut after %d steps: got %v, want %v", steps, err, cutError{})
						}
						finished = err == nil && !f.entry(t, reg.Token).Record.Replaces

						wasWritten := f.entry(t, reg.Token).Known
						if found := f.ofUser(t, user); len(found) == 0 {
							t.Fatalf("cut after %d steps: a reader sees neither device token", steps)
						}
						heal(t, f, reg)
						if !wasWritten && (how == "sweep" || how == "next registration" && !byInstall) {
							continue // it never came, and the caller was told so
						}
						if e := f.entry(t, old.Token); e.Record.State != device.Removed {
							t.Errorf("cut after %d steps, then healed: got the old one %v, want removed", steps, e.Record.State)
						}
						if e := f.entry(t, reg.Token); !e.Record.Usable() || e.Record.Replaces {
							t.Errorf("cut after %d steps, then healed: got the new one %+v, want live", steps, e.Record)
						}
						wantTokens(t, "devices of the user", f.ofUser(t, user), reg.Token)
						if byInstall {
							wantTokens(t, "devices of the install", f.ofInstall(t, user), reg.Token)
						}
						if n := f.fields(t, "r"); n != 0 {
							t.Errorf("cut after %d steps, then healed: %d replacements left in redis, want 0", steps, n)
						}
					}
				})
			})
		}
	}
}

// What was to be replaced, and was registered anew before the sweep came, stays.
func TestSweepKeepsWhatCameBack(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		cut := &cutter{left: 1 << 30}
		f.client.AddHook(cut)
		f.mustRegister(t, registration(token(1)))
		reg := registration(token(2))
		reg.PreviousToken = token(1)
		cut.set(2) // looked up, record written
		if _, err := f.Register(t.Context(), app, reg); !errors.Is(err, cutError{}) {
			t.Fatalf("Register: got %v, want %v", err, cutError{})
		}
		cut.set(1 << 30)
		if e := f.entry(t, token(2)); !e.Record.Replaces {
			t.Fatalf("record: got %+v, want a replacement remembered", e.Record)
		}
		f.clock.move(time.Second)
		f.mustRegister(t, registration(token(1)))
		if got := f.sweep(t); got.Replaced != 0 {
			t.Errorf("sweep: got %+v, want nothing replaced", got)
		}
		for n := 1; n <= 2; n++ {
			if e := f.entry(t, token(n)); !e.Record.Usable() || e.Record.Replaces {
				t.Errorf("token %d: got %+v, want live", n, e.Record)
			}
		}
	})
}

// What another process puts into an install's slots in the middle of a
// registration is replaced only if it is of that install, and of that kind.
func TestRegisterLeavesOthersOfTheInstall(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		other := f.beside(t)
		cut := &cutter{left: 1 << 30}
		other.client.AddHook(cut)
		f.client.AddHook(&interloper{n: 1, before: func() {
			voip := registration(token(2))
			voip.InstallID, voip.Kind = "phone", device.VoIP
			other.mustRegister(t, voip)

			moved := registration(token(3))
			moved.InstallID = "phone"
			other.mustRegister(t, moved)
			moved.InstallID = "tablet"
			cut.set(2) // looked up, record written, slots not
			if _, err := other.Register(t.Context(), app, moved); !errors.Is(err, cutError{}) {
				t.Errorf("the other process: got %v, want %v", err, cutError{})
			}
		}})
		f.clock.move(time.Second)
		reg := registration(token(1))
		reg.InstallID = "phone"
		if got := f.mustRegister(t, reg); got.Replaced != 0 || got.Superseded {
			t.Errorf("got %+v, want nothing replaced", got)
		}
		for n := 1; n <= 3; n++ {
			if e := f.entry(t, token(n)); !e.Record.Usable() {
				t.Errorf("token %d: got %+v, want live", n, e.Record)
			}
		}
	})
}

// Of three registrations that move a device between users, the first writes its
// slot after the last, and the second takes the first user's slot away after
// that: it must not take what the last one wrote.
func TestUserMovesThereAndBack(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		first, second, third := f.beside(t), f.beside(t), f.beside(t)
		reg := func(user string) device.Registration {
			r := registration(token(1))
			r.User = user
			return r
		}
		// Every script is known, so that each is one pipeline.
		f.mustRegister(t, device.Registration{Token: token(9), User: "x", Environment: device.Production})
		f.mustRegister(t, device.Registration{Token: token(9), Environment: device.Production})

		written, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
		const slots, taking = 2, 3 // after the record
		first.client.AddHook(&interloper{n: slots, before: func() {
			close(written)
			<-goOn
		}})
		second.client.AddHook(&interloper{n: taking, before: func() {
			third.mustRegister(t, reg("anna"))
			close(goOn)
			<-done
		}})
		go func() {
			defer close(done)
			if _, err := first.Register(t.Context(), app, reg("anna")); err != nil {
				t.Errorf("first: %v", err)
			}
		}()
		<-written
		second.mustRegister(t, reg("bert"))
		if e := f.entry(t, token(1)); e.Record.Generation != 3 || e.Record.User != device.KeyOf("anna") {
			t.Fatalf("record: got %+v, want generation 3 of anna", e.Record)
		}
		wantTokens(t, "devices of anna", f.ofUser(t, "anna"), token(1))
		wantTokens(t, "devices of bert", f.ofUser(t, "bert"))
	})
}

// A replacement that another process remembers while one is finished is not
// forgotten with it.
func TestReplacementsOfTwoProcesses(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for n := range 3 {
			f.mustRegister(t, registration(token(n)))
		}
		other := f.beside(t)
		cut := &cutter{left: 1 << 30}
		other.client.AddHook(cut)
		if _, err := other.Lookup(t.Context(), app, []device.Token{token(0)}, nil); err != nil { // more, the first time
			t.Fatal(err)
		}
		cut.set(2) // looked up, record written
		// Every script is known, so that each is one pipeline.
		reg := registration(token(3))
		reg.PreviousToken = token(9)
		f.mustRegister(t, reg)

		const settling = 3 // after the record and the replacement
		f.client.AddHook(&interloper{n: settling, before: func() {
			reg := registration(token(0))
			reg.PreviousToken = token(2)
			if _, err := other.Register(t.Context(), app, reg); !errors.Is(err, cutError{}) {
				t.Errorf("the other process: got %v, want %v", err, cutError{})
			}
		}})
		reg = registration(token(0))
		reg.PreviousToken = token(1)
		if got := f.mustRegister(t, reg); got.Replaced != 1 {
			t.Errorf("got %+v, want 1 replaced", got)
		}
		if e := f.entry(t, token(0)); !e.Record.Replaces {
			t.Errorf("record: got %+v, want the other's replacement remembered", e.Record)
		}
		f.clock.move(time.Second)
		f.sweep(t)
		for n, want := range []device.State{device.Live, device.Removed, device.Removed} {
			if e := f.entry(t, token(n)); e.Record.State != want || e.Record.Replaces {
				t.Errorf("token %d: got %+v, want %v", n, e.Record, want)
			}
		}
	})
}

// What is registered again at the moment when it would be forgotten stays.
func TestSweepForgetsOnlyWhatItSaw(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1)))
		if _, err := f.Delete(t.Context(), app, token(1), device.Deleted); err != nil {
			t.Fatal(err)
		}
		f.clock.move(2 * store.DefaultRemember)
		other := f.beside(t)
		f.client.AddHook(&interloper{n: 1, before: func() { other.mustRegister(t, registration(token(1))) }})
		if got := f.sweep(t); got.Forgotten != 0 {
			t.Errorf("sweep: got %+v, want nothing forgotten", got)
		}
		if e := f.entry(t, token(1)); !e.Record.Usable() || e.Record.Generation != 2 {
			t.Errorf("record: got %+v, want live at generation 2", e.Record)
		}
	})
}

func TestSweepForgets(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		reg := registration(longToken(1))
		reg.User, reg.InstallID = "anna", "phone"
		f.mustRegister(t, reg)
		f.mustRegister(t, registration(token(2)))
		f.clock.move(time.Second)
		for _, tok := range []device.Token{longToken(1), token(2)} {
			if ok, err := f.Delete(t.Context(), app, tok, device.Deleted); err != nil || !ok {
				t.Fatalf("Delete: got %t, %v", ok, err)
			}
		}
		f.clock.move(store.DefaultRemember - time.Millisecond)
		if got := f.sweep(t); got.Forgotten != 0 {
			t.Errorf("sweep before the time: got %+v, want nothing forgotten", got)
		}
		f.mustRegister(t, registration(token(2)))
		f.clock.move(time.Millisecond)
		if got := f.sweep(t); got.Forgotten != 1 {
			t.Errorf("sweep: got %+v, want 1 forgotten", got)
		}
		if e := f.entry(t, longToken(1)); e.Known {
			t.Errorf("forgotten device token: got %+v, want unknown", e)
		}
		if e := f.entry(t, token(2)); e.Record.Generation != 2 || !e.Record.Usable() {
			t.Errorf("device token that came back: got %+v, want live at generation 2", e.Record)
		}
		if n := f.fields(t, "x") + f.fields(t, "u") + f.fields(t, "i") + f.fields(t, "l"); n != 0 {
			t.Errorf("left in redis of the forgotten one: got %d fields, want 0", n)
		}
	})
}

func TestTooManyDevicesOfOneUser(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		var regs []device.Registration
		for n := range 257 {
			reg := registration(token(n))
			reg.User = "anna"
			regs = append(regs, reg)
		}
		got, err := f.RegisterMany(t.Context(), app, regs)
		failed := 0
		for i := range got {
			if errors.Is(got[i].Err, store.ErrTooManyDevices) {
				failed++
			}
		}
		if !errors.Is(err, store.ErrTooManyDevices) || failed != 1 {
			t.Fatalf("257 devices of a user: got %v and %d failed, want 1 with %v", err, failed, store.ErrTooManyDevices)
		}
		if n := len(f.ofUser(t, "anna")); n != 256 {
			t.Fatalf("devices found: got %d, want 256", n)
		}
		// One that goes makes room, though its slot is only found stale by now.
		if _, err := f.Delete(t.Context(), app, token(7), device.Deleted); err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if got[i].Err != nil {
				f.mustRegister(t, regs[i])
			}
		}
		if n := len(f.ofUser(t, "anna")); n != 256 {
			t.Errorf("devices found after one was removed and the last registered again: got %d, want 256", n)
		}
	})
}

func TestErrorsHoldNoDeviceToken(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1)))
		keys, err := f.client.Keys(t.Context(), "pf:{"+app+":*}:d").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys { // as somebody's mistake might leave it
			if err := f.client.Set(t.Context(), key, "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		tok, reg := token(1), registration(token(1))
		reg.PreviousToken = token(2)
		errs := make(map[string]error)
		_, errs["Register"] = f.Register(t.Context(), app, reg)
		_, errs["Lookup"] = f.Lookup(t.Context(), app, []device.Token{tok}, nil)
		_, errs["Apply"] = f.Apply(t.Context(), app, []store.Verdict{{Token: tok, Said: store.Accepted}})
		_, _, errs["Device"] = f.Device(t.Context(), app, tok)
		_, errs["Delete"] = f.Delete(t.Context(), app, tok, device.Deleted)
		for call, err := range errs {
			if err == nil {
				t.Errorf("%s on a key of another type: got no error", call)
				continue
			}
			for _, form := range []string{tok.Hex(), tok.Raw(), fmt.Sprintf("%q", tok.Raw())} {
				if strings.Contains(err.Error(), form) {
					t.Errorf("%s: its error holds the device token", call)
				}
			}
			if !strings.Contains(err.Error(), app) {
				t.Errorf("%s: got %q, want the app named", call, err)
			}
		}
	})
}

func TestLayout(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1)))
		// Another process with another setting goes by what is there.
		other := store.New(f.client, store.Config{Buckets: 64})
		if n, err := other.Buckets(t.Context(), app); err != nil || n != 4 {
			t.Errorf("buckets of an app that has some: got %d, %v, want 4", n, err)
		}
		if n, err := other.Buckets(t.Context(), "new"); err != nil || n != 64 {
			t.Errorf("buckets of a new app: got %d, %v, want 64", n, err)
		}
		for name, put := range map[string][]any{
			"a newer layout":     {"buckets", 4, "layout", 3},
			"no power of two":    {"buckets", 3, "layout", 1},
			"no bucket at all":   {"buckets", 0, "layout", 1},
			"not a number":       {"buckets", "many", "layout", 1},
			"more split than is": {"buckets", 4, "layout", 2, "split", 4},
			"split, no number":   {"buckets", 4, "layout", 2, "split", "x"},
		} {
			if err := f.client.Del(t.Context(), "pf:{damaged}:layout").Err(); err != nil {
				t.Fatal(err)
			}
			if err := f.client.HSet(t.Context(), "pf:{damaged}:layout", put...).Err(); err != nil {
				t.Fatal(err)
			}
			if _, err := other.Buckets(t.Context(), "damaged"); err == nil {
				t.Errorf("layout with %s: got no error", name)
			}
		}
		for _, name := range []string{"", "a.b", "a}b", "a:b", "ä"} {
			if _, err := other.Buckets(t.Context(), name); err == nil {
				t.Errorf("app %q: got no error", name)
			}
		}
	})
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		cfg  store.Config
		want string // "": valid
	}{
		{store.Config{}, ""},
		{store.Config{Buckets: 1}, ""},
		{store.Config{Buckets: 1 << 24}, ""},
		{store.Config{Buckets: 3}, "power of two"},
		{store.Config{Buckets: -4}, "power of two"},
		{store.Config{Buckets: 1 << 25}, "power of two"},
		{store.Config{Remember: -1}, "remember"},
		{store.Config{KeepJobs: store.MaxKeepJobs}, ""},
		{store.Config{KeepJobs: store.DefaultKeepJobs - 1}, "keep jobs"},
		{store.Config{KeepJobs: store.MaxKeepJobs + 1}, "keep jobs"},
	} {
		err := tt.cfg.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q", tt.cfg, err, tt.want)
		}
		if err == nil {
			continue
		}
		if _, useErr := store.New(nil, tt.cfg).Buckets(t.Context(), app); useErr == nil || useErr.Error() != err.Error() {
			t.Errorf("%+v: used all the same: got %v, want %v", tt.cfg, useErr, err)
		}
	}
}

// fields counts the fields in all keys of a kind.
func (f *fixture) fields(t *testing.T, kind string) int64 {
	t.Helper()
	keys, err := f.client.Keys(t.Context(), "pf:{"+app+":*}:"+kind).Result()
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, key := range keys {
		n += f.client.HLen(t.Context(), key).Val()
	}
	return n
}

// patch changes a device token's record in Redis, and returns what undoes it.
func (f *fixture) patch(t *testing.T, tok device.Token, change func(string) string) (undo func()) {
	t.Helper()
	keys, err := f.client.Keys(t.Context(), "pf:{"+app+":*}:d").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		packed, err := f.client.HGet(t.Context(), key, tok.Raw()).Result()
		if err != nil {
			continue
		}
		put := func(packed string) {
			if err := f.client.HSet(t.Context(), key, tok.Raw(), packed).Err(); err != nil {
				t.Fatal(err)
			}
		}
		put(change(packed))
		return func() { put(packed) }
	}
	t.Fatalf("no record of %v", tok)
	return nil
}

// sweep sweeps all buckets.
func (f *fixture) sweep(t *testing.T) store.Swept {
	t.Helper()
	n, err := f.Buckets(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	var sum store.Swept
	for b := range n {
		got, err := f.Sweep(t.Context(), app, b)
		if err != nil {
			t.Fatalf("Sweep: %v", err)
		}
		sum.Replaced += got.Replaced
		sum.Forgotten += got.Forgotten
	}
	return sum
}
