package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

func (f *fixture) all(t *testing.T) []store.Entry {
	t.Helper()
	n, err := f.Buckets(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	list, err := f.ScanBuckets(t.Context(), app, n, 0, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func (f *fixture) mustRestore(t *testing.T, list []store.Entry) store.Restored {
	t.Helper()
	done, err := f.Restore(t.Context(), app, list)
	if err != nil {
		t.Fatalf("Restore: %v", err)
	}
	return done
}

// What is restored is live and found again, and what was said before does not
// remove it once more.
func TestRestore(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for n := 1; n <= 3; n++ {
			reg := registration(token(n))
			reg.User, reg.InstallID = "anna", fmt.Sprint("i", n)
			f.mustRegister(t, reg)
		}
		f.clock.move(time.Hour)
		dead := func(n int) store.Verdict {
			return store.Verdict{Token: token(n), Said: store.Dead, Generation: 1, Timestamp: f.clock.now().UnixMilli(), Reason: device.Unregistered}
		}
		bad := store.Verdict{Token: token(2), Said: store.Quarantine, Generation: 1, Reason: device.BadDeviceToken, SentAt: f.clock.now()}
		f.apply(t, dead(1))
		f.apply(t, bad)
		f.apply(t, dead(9))
		wantTokens(t, "before", f.ofUser(t, "anna"), token(2), token(3)) // and the slot of 1 is gone
		list := f.all(t)
		if got, want := f.mustRestore(t, list), (store.Restored{Live: 2, Forgotten: 1}); got != want {
			t.Errorf("Restore: got %+v, want %+v", got, want)
		}
		for n := 1; n <= 3; n++ {
			r := f.entry(t, token(n)).Record
			want := uint32(2)
			if n == 3 {
				want = 1
			}
			if r.State != device.Live || r.Generation != want || r.ChangedAt != 0 || r.Reason != 0 || r.Rejections != 0 {
				t.Errorf("device %d: got %+v, want it live at generation %d", n, r, want)
			}
			wantTokens(t, "of the install", f.ofInstall(t, fmt.Sprint("i", n)), token(n))
		}
		wantTokens(t, "of the user", f.ofUser(t, "anna"), token(1), token(2), token(3))
		if f.entry(t, token(9)).Known {
			t.Error("never registered: got it, want it forgotten")
		}
		// What comes late.
		if got := f.apply(t, dead(1)); got != store.KeptNewer {
			t.Errorf("late 410: got %v, want %v", got, store.KeptNewer)
		}
		if got := f.apply(t, bad); got != store.KeptNewer {
			t.Errorf("late rejection: got %v, want %v", got, store.KeptNewer)
		}
		if got, want := f.mustRestore(t, f.all(t)), (store.Restored{}); got != want {
			t.Errorf("again: got %+v, want nothing to do", got)
		}
		if got, want := f.mustRestore(t, list), (store.Restored{Changed: 2}); got != want {
			t.Errorf("again with what was read before: got %+v, want %+v", got, want)
		}
	})
}

// A device that has another live device token by now does not get two.
func TestRestoreLeavesReplaced(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		reg := func(n int, kind device.Kind) device.Registration {
			r := registration(token(n))
			r.InstallID, r.Kind = "i", kind
			return r
		}
		f.mustRegister(t, reg(1, device.Alert))
		f.mustRegister(t, reg(2, device.VoIP))
		f.clock.move(time.Hour)
		for n := 1; n <= 2; n++ {
			f.apply(t, store.Verdict{Token: token(n), Said: store.Dead, Generation: 1, Timestamp: f.clock.now().UnixMilli(), Reason: device.Unregistered})
		}
		f.mustRegister(t, reg(3, device.Alert))
		if got, want := f.mustRestore(t, f.all(t)), (store.Restored{Live: 1, Superseded: 1}); got != want {
			t.Errorf("got %+v, want %+v: the VoIP token alone", got, want)
		}
		wantTokens(t, "of the install", f.ofInstall(t, "i"), token(2), token(3))

		// Of several that are gone the one registered last comes back.
		f.clock.move(time.Hour)
		f.mustRegister(t, reg(4, device.Alert))
		if _, err := f.Delete(t.Context(), app, token(4), device.Deleted); err != nil {
			t.Fatal(err)
		}
		if got, want := f.mustRestore(t, f.all(t)), (store.Restored{Live: 1, Superseded: 2}); got != want {
			t.Errorf("all gone: got %+v, want %+v", got, want)
		}
		wantTokens(t, "of the install, all gone", f.ofInstall(t, "i"), token(2), token(4))
	})
}

// Cut off after any step, restoring again makes it whole.
func TestRestoreAgainAfterACrash(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		hook := &cutter{}
		f.client.(*redis.Client).AddHook(hook)
		for pipelines := range 8 {
			hook.set(1 << 30)
			reg := registration(token(pipelines))
			reg.User = fmt.Sprint("u", pipelines)
			f.mustRegister(t, reg)
			if _, err := f.Delete(t.Context(), app, reg.Token, device.Pruned); err != nil {
				t.Fatal(err)
			}
			wantTokens(t, "removed", f.ofUser(t, reg.User))
			list := []store.Entry{f.entry(t, reg.Token)}
			hook.set(pipelines)
			_, err := f.Restore(t.Context(), app, list)
			hook.set(1 << 30)
			if pipelines == 0 && err == nil {
				t.Fatal("cut at once: got no error")
			}
			f.mustRestore(t, []store.Entry{f.entry(t, reg.Token)})
			wantTokens(t, fmt.Sprintf("after %d pipelines", pipelines), f.ofUser(t, reg.User), reg.Token)
		}
	})
}

func TestPrune(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		const day = 24 * time.Hour
		for n := range 10 {
			reg := registration(token(n))
			reg.User = fmt.Sprint("u", n)
			f.mustRegister(t, reg)
			f.clock.move(day)
		}
		f.apply(t, store.Verdict{Token: token(0), Said: store.Quarantine, Generation: 1, Reason: device.BadDeviceToken, SentAt: f.clock.now()})
		f.apply(t, store.Verdict{Token: token(50), Said: store.Dead, Timestamp: f.clock.now().UnixMilli(), Reason: device.Unregistered})
		list := f.all(t)
		f.mustRegister(t, registration(token(1))) // it is seen again meanwhile
		before := f.clock.now().Add(-5*day - time.Hour)
		n, err := f.Prune(t.Context(), app, list, before)
		if err != nil || n != 4 {
			t.Errorf("Prune: got %d, %v, want 4: 0 and 2 to 4", n, err)
		}
		for n := range 10 {
			r := f.entry(t, token(n)).Record
			if gone := n == 0 || n >= 2 && n <= 4; (r.State == device.Removed) != gone || gone && (r.Reason != device.Pruned || r.ChangedAt != f.clock.now().UnixMilli()) {
				t.Errorf("device %d: got %+v, want it removed: %t", n, r, gone)
			}
		}
		wantTokens(t, "of a pruned one's user", f.ofUser(t, "u2"))
		if n, err := f.Prune(t.Context(), app, f.all(t), before); n != 0 || err != nil {
			t.Errorf("again: got %d, %v, want none", n, err)
		}
		var pruned []store.Entry
		for _, e := range f.all(t) {
			if e.Record.Reason == device.Pruned {
				pruned = append(pruned, e)
			}
		}
		if got, want := f.mustRestore(t, pruned), (store.Restored{Live: 4}); got != want {
			t.Errorf("undo: got %+v, want %+v", got, want)
		}
		wantTokens(t, "of a pruned one's user, undone", f.ofUser(t, "u2"), token(2))
	})
}

// Pruning takes half of what may be removed in an hour, and leaves the rest to
// what APNs says.
func TestPruneBucketIsCapped(t *testing.T) {
	for name, open := range map[string]func(testing.TB) *testenv.RedisDB{"server": testenv.Redis, "miniredis": testenv.Miniredis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			f := &fixture{Store: store.New(open(t).Client, store.Config{Buckets: 1, Clock: c.now, RemovalsPerHour: 10}), clock: c}
			for n := range 20 {
				f.mustRegister(t, registration(token(n)))
			}
			for _, step := range []struct {
				after time.Duration
				want  store.Pruned
			}{
				{0, store.Pruned{}}, // none is old enough
				{31 * 24 * time.Hour, store.Pruned{Removed: 5, OverCap: 15}},
				{0, store.Pruned{OverCap: 15}},
				{time.Hour, store.Pruned{Removed: 5, OverCap: 10}},
			} {
				c.move(step.after)
				got, err := f.PruneBucket(t.Context(), app, 0, 30*24*time.Hour)
				if err != nil || got != step.want {
					t.Errorf("after %v: got %+v, %v, want %+v", step.after, got, err, step.want)
				}
			}
			// APNs's own removals have the other half.
			left := 0
			for n := range 20 {
				v := store.Verdict{Token: token(n), Said: store.Dead, Generation: 1, Timestamp: c.now().UnixMilli(), Reason: device.Unregistered}
				if f.apply(t, v) == store.OverCap {
					left++
				}
			}
			if left == 0 {
				t.Error("410s over the cap: got none")
			}
			if got, err := f.PruneBucket(t.Context(), app, 0, 30*24*time.Hour); err != nil || got.Removed != 0 {
				t.Errorf("after APNs's removals: got %+v, %v, want none removed", got, err)
			}
			if _, err := f.PruneBucket(t.Context(), app, 1, time.Hour); err == nil {
				t.Error("a bucket that is not there: got no error")
			}
		})
	}
}

// With Redis gone every call says so, names the app and shows no device token.
func TestImportRestoreAndPruneWithoutRedis(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		reg := registration(token(1))
		reg.User, reg.InstallID = "anna", "phone"
		f.mustRegister(t, reg)
		live := f.all(t)
		if _, err := f.Delete(t.Context(), app, token(1), device.Deleted); err != nil {
			t.Fatal(err)
		}
		gone := f.all(t)
		if err := f.client.Close(); err != nil {
			t.Fatal(err)
		}
		for call, try := range map[string]func() error{
			"ImportMany": func() error {
				out, err := f.ImportMany(t.Context(), app, []store.Import{{Registration: reg}}, true)
				if len(out) != 1 || out[0].Err == nil {
					t.Errorf("ImportMany: got %+v, want an error in it", out)
				}
				return err
			},
			"Describe": func() error {
				_, _, err := f.Describe(t.Context(), app, live, nil)
				return err
			},
			"Restore": func() error { _, err := f.Restore(t.Context(), app, gone); return err },
			"Prune": func() error {
				n, err := f.Prune(t.Context(), app, live, f.clock.now().Add(time.Hour))
				if n != 0 {
					t.Errorf("Prune: got %d, want none", n)
				}
				return err
			},
			"PruneBucket": func() error { _, err := f.PruneBucket(t.Context(), app, 0, time.Hour); return err },
		} {
			err := try()
			if !errors.Is(err, redis.ErrClosed) {
				t.Errorf("%s: got %v, want %v", call, err, redis.ErrClosed)
				continue
			}
			if !strings.Contains(err.Error(), app) || strings.Contains(err.Error(), token(1).Hex()) {
				t.Errorf("%s: got %q, want the app named and no device token", call, err)
			}
		}
	})
}

func TestImportRestoreAndPruneOnACluster(t *testing.T) {
	t.Parallel()
	f, _, ok := onCluster(t, 64, false)
	if !ok {
		return
	}
	const n = 300 // over all nodes
	var list []store.Import
	for i := range n {
		reg := registration(tokenOf(i, 32+i%2*48))
		reg.User, reg.InstallID = "anna", fmt.Sprint("install ", i)
		if i >= 200 {
			reg.User = fmt.Sprint("user ", i) // one has at most 256
		}
		list = append(list, store.Import{Registration: reg, RegisteredAt: f.clock.now().Add(-time.Duration(i) * time.Hour)})
	}
	for _, r := range f.mustImport(t, false, list...) {
		if r != store.ImportedNew {
			t.Fatalf("import: got %v, want %v", r, store.ImportedNew)
		}
	}
	described, unreadable, err := f.Describe(t.Context(), app, f.all(t), nil)
	if err != nil || unreadable != 0 || len(described) != n {
		t.Fatalf("Describe: got %d, %d unreadable, %v, want %d", len(described), unreadable, err, n)
	}
	before := f.clock.now().Add(-99*time.Hour - time.Minute)
	if got, err := f.Prune(t.Context(), app, f.all(t), before); err != nil || got != 200 {
		t.Errorf("Prune: got %d, %v, want 200", got, err)
	}
	if got := len(f.ofUser(t, "anna")); got != 100 {
		t.Errorf("devices of the user: got %d, want 100", got)
	}
	if got := f.mustRestore(t, f.all(t)); got.Live != 200 {
		t.Errorf("Restore: got %+v, want 200 live", got)
	}
	if got := len(f.ofUser(t, "anna")); got != 200 {
		t.Errorf("devices of the user, restored: got %d, want 200", got)
	}
}
