package store_test

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

// mustImport imports and returns what became of each.
func (f *fixture) mustImport(t *testing.T, overwrite bool, list ...store.Import) []store.ImportResult {
	t.Helper()
	out, err := f.ImportMany(t.Context(), app, list, overwrite)
	if err != nil {
		t.Fatalf("ImportMany: %v", err)
	}
	var results []store.ImportResult
	for _, o := range out {
		results = append(results, o.Result)
	}
	return results
}

func wantResults(t *testing.T, what string, got []store.ImportResult, want ...store.ImportResult) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// What the source says of a device is kept: the times above all, since a 410 is
// compared with them.
func TestImportKeepsTimes(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		now := f.clock.now()
		reg := registration(token(1))
		reg.User, reg.InstallID, reg.Tags = "anna", "i1", []string{"a"}
		seen, created := now.Add(-100*24*time.Hour), now.Add(-200*24*time.Hour)
		ahead := registration(token(2))
		wantResults(t, "import", f.mustImport(t, false,
			store.Import{Registration: reg, RegisteredAt: seen, CreatedAt: created, Accepted: true},
			store.Import{Registration: ahead, RegisteredAt: now.Add(time.Hour)},
			store.Import{Registration: registration(token(3))},
		), store.ImportedNew, store.ImportedNew, store.ImportedNew)
		d, ok, err := f.Device(t.Context(), app, token(1))
		if err != nil || !ok {
			t.Fatalf("Device: %v, %v", ok, err)
		}
		if !d.Record.Registered().Equal(seen) || !d.CreatedAt.Equal(created) || !d.Record.Accepted || d.Record.Generation != 1 || d.User != "anna" {
			t.Errorf("got %+v, want registered %v, created %v", d, seen, created)
		}
		for _, n := range []int{2, 3} {
			if got := f.entry(t, token(n)).Record.Registered(); !got.Equal(now) {
				t.Errorf("device %d, ahead or without a time: got %v, want %v", n, got, now)
			}
		}
		wantTokens(t, "of the user", f.ofUser(t, "anna"), token(1))
		wantTokens(t, "of the install", f.ofInstall(t, "i1"), token(1))
		// It was dead before the import, and after the registration.
		got := f.apply(t, store.Verdict{Token: token(1), Said: store.Dead, Generation: 1, Timestamp: seen.Add(time.Hour).UnixMilli(), Reason: device.Unregistered})
		if got != store.RemovedIt {
			t.Errorf("410 of a time before the import: got %v, want %v", got, store.RemovedIt)
		}
	})
}

// An import brings nothing back to life, and changes nothing that an app said.
func TestImportLeavesWhatIsKnown(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for n := 1; n <= 4; n++ {
			reg := registration(token(n))
			reg.User = "mine"
			f.mustRegister(t, reg)
		}
		f.apply(t, store.Verdict{Token: token(2), Said: store.Quarantine, Generation: 1, Reason: device.BadDeviceToken, SentAt: f.clock.now()})
		if _, err := f.Delete(t.Context(), app, token(3), device.Deleted); err != nil {
			t.Fatal(err)
		}
		// One that was never registered, and is remembered as dead.
		f.apply(t, store.Verdict{Token: token(5), Said: store.Dead, Timestamp: f.clock.now().UnixMilli(), Reason: device.Unregistered})
		before := make(map[int]store.Entry)
		var list []store.Import
		for _, n := range []int{1, 2, 3, 5} {
			before[n] = f.entry(t, token(n))
			reg := registration(token(n))
			reg.User = "theirs"
			list = append(list, store.Import{Registration: reg, RegisteredAt: f.clock.now().Add(-time.Hour)})
		}
		for range 2 {
			wantResults(t, "import", f.mustImport(t, false, list...), store.LeftLive, store.LeftQuarantined, store.LeftRemoved, store.LeftRemoved)
			for n, want := range before {
				if got := f.entry(t, token(n)); got != want {
					t.Errorf("device %d: got %+v, want it as it was, %+v", n, got, want)
				}
			}
		}
		wantTokens(t, "of theirs", f.ofUser(t, "theirs"))

		wantResults(t, "overwriting import", f.mustImport(t, true, list...), store.LeftNewer, store.ImportedAgain, store.ImportedAgain, store.ImportedAgain)
		wantTokens(t, "of theirs, overwritten", f.ofUser(t, "theirs"), token(2), token(3), token(5))
		wantTokens(t, "of mine", f.ofUser(t, "mine"), token(1), token(4))
		e := f.entry(t, token(3))
		if e.Record.State != device.Live || e.Record.Generation != 2 || e.Record.RegisteredAt != before[3].Record.RegisteredAt {
			t.Errorf("removed one: got %+v, want it live, at generation 2 and a time that does not go back", e.Record)
		}
	})
}

// Of several device tokens of an install the one registered last stays, whatever
// their order, whether in one call or several.
func TestImportOfOneInstall(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		at := func(n int, install string, ago time.Duration) store.Import {
			reg := registration(token(n))
			reg.InstallID, reg.User = install, "u-"+install
			i := store.Import{Registration: reg}
			if ago > 0 {
				i.RegisteredAt = f.clock.now().Add(-ago)
			}
			return i
		}
		orders := [][]int{{1, 2, 3}, {1, 3, 2}, {2, 1, 3}, {2, 3, 1}, {3, 1, 2}, {3, 2, 1}}
		for o, order := range orders {
			install := fmt.Sprint("i", o)
			var list []store.Import
			for _, n := range order {
				list = append(list, at(100*o+n, install, time.Duration(n)*time.Hour)) // 1 is the newest
			}
			if o%2 == 0 {
				f.mustImport(t, false, list...)
			} else {
				for _, one := range list {
					f.mustImport(t, false, one)
				}
			}
			wantTokens(t, fmt.Sprint("order ", order), f.ofInstall(t, install), token(100*o+1))
			wantTokens(t, fmt.Sprint("order ", order, ", of the user"), f.ofUser(t, "u-"+install), token(100*o+1))
		}
		// What the app has registered is not replaced by what has no time.
		reg := registration(token(900))
		reg.InstallID = "app"
		f.mustRegister(t, reg)
		wantResults(t, "without time", f.mustImport(t, false, at(901, "app", 0)), store.LeftInstall)
		wantResults(t, "older", f.mustImport(t, true, at(902, "app", time.Hour)), store.LeftInstall)
		wantTokens(t, "of the app's install", f.ofInstall(t, "app"), token(900))
		wantResults(t, "overwriting, without time", f.mustImport(t, true, at(903, "app", 0)), store.ImportedNew)
		wantTokens(t, "of the app's install, overwritten", f.ofInstall(t, "app"), token(903))
		if e := f.entry(t, token(901)); e.Known {
			t.Errorf("one that was left out: got %+v, want nothing", e)
		}
	})
}

// Whatever step an import is cut off after, importing again makes it whole.
func TestImportAgainAfterACrash(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		hook := &cutter{}
		f.client.(*redis.Client).AddHook(hook)
		// One that replaces nothing, so that no sweep comes to it.
		for pipelines := range 6 {
			hook.set(1 << 30)
			reg := registration(token(1000 + pipelines))
			reg.User = fmt.Sprint("lone", pipelines)
			alone := store.Import{Registration: reg}
			f.entry(t, reg.Token) // the layout is known
			hook.set(pipelines)
			_, err := f.ImportMany(t.Context(), app, []store.Import{alone}, false)
			hook.set(1 << 30)
			f.mustImport(t, false, alone)
			wantTokens(t, fmt.Sprintf("alone, after %d pipelines (%v)", pipelines, err), f.ofUser(t, reg.User), reg.Token)
		}
		for pipelines := range 12 {
			hook.set(1 << 30)
			user, install := fmt.Sprint("u", pipelines), fmt.Sprint("i", pipelines)
			old, fresh := registration(token(10*pipelines)), registration(token(10*pipelines+1))
			old.InstallID, fresh.InstallID, fresh.User = install, install, user
			f.mustImport(t, false, store.Import{Registration: old, RegisteredAt: f.clock.now().Add(-2 * time.Hour)})
			again := store.Import{Registration: fresh, RegisteredAt: f.clock.now().Add(-time.Hour)}
			hook.set(pipelines)
			_, err := f.ImportMany(t.Context(), app, []store.Import{again}, false)
			hook.set(1 << 30)
			if pipelines == 0 && !errors.As(err, new(cutError)) {
				t.Fatalf("cut at once: got %v, want it to fail", err)
			}
			f.mustImport(t, false, again)
			for n := range 4 {
				if _, err := f.Sweep(t.Context(), app, n); err != nil {
					t.Fatal(err)
				}
			}
			wantTokens(t, fmt.Sprintf("after %d pipelines, of the user", pipelines), f.ofUser(t, user), fresh.Token)
			wantTokens(t, fmt.Sprintf("after %d pipelines, of the install", pipelines), f.ofInstall(t, install), fresh.Token)
		}
	})
}

func TestImportErrors(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		bad := store.Import{Registration: device.Registration{Token: token(1)}}
		damaged := store.Import{Registration: registration(token(2))}
		f.mustImport(t, false, damaged)
		for _, key := range f.client.Keys(t.Context(), "pf:*:d").Val() {
			if f.client.HExists(t.Context(), key, token(2).Raw()).Val() {
				f.client.HSet(t.Context(), key, token(2).Raw(), "\x09nonsense of a later version")
			}
		}
		out, err := f.ImportMany(t.Context(), app, []store.Import{bad, damaged, {Registration: registration(token(3))}}, true)
		if err == nil || len(out) != 3 || out[0].Err == nil || !errors.Is(out[1].Err, device.ErrRecord) || out[2].Err != nil || out[2].Result != store.ImportedNew {
			t.Errorf("got %+v, %v, want the first two to fail", out, err)
		}
		for n := store.NotImported; n <= store.LeftInstall+1; n++ {
			if n.String() == "" {
				t.Errorf("result %d has no name", n)
			}
		}
	})
}

// An export of the whole set, imported elsewhere, is the same.
func TestDescribeAndImportElsewhere(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		const n = 300
		for i := range n {
			reg := registration(tokenOf(i, 32+i%2*48))
			if i%3 > 0 {
				reg.User, reg.InstallID = fmt.Sprint("u", i/2), fmt.Sprint("i", i)
				reg.Attributes = map[string]string{"n": fmt.Sprint(i)}
			}
			reg.Kind = device.Kind(i % 3)
			f.mustRegister(t, reg)
			f.clock.move(time.Second)
		}
		describe := func(app string) map[device.Token]device.Device {
			entries, err := f.ScanBuckets(t.Context(), app, 4, 0, 4, nil)
			if err != nil {
				t.Fatal(err)
			}
			list, unreadable, err := f.Describe(t.Context(), app, entries, nil)
			if err != nil || unreadable != 0 {
				t.Fatalf("Describe: %d unreadable, %v", unreadable, err)
			}
			all := make(map[device.Token]device.Device)
			for _, d := range list {
				all[d.Token] = d
			}
			return all
		}
		want := describe(app)
		if len(want) != n {
			t.Fatalf("Describe: got %d devices, want %d", len(want), n)
		}
		var list []store.Import
		for _, d := range want {
			one, ok, err := f.Device(t.Context(), app, d.Token)
			if err != nil || !ok || !reflect.DeepEqual(one, d) {
				t.Fatalf("Describe: got %+v, Device has %+v, %v", d, one, err)
			}
			list = append(list, store.Import{Registration: d.Registration, RegisteredAt: d.Record.Registered(), CreatedAt: d.CreatedAt, Accepted: d.Record.Accepted})
		}
		if _, err := f.ImportMany(t.Context(), "other", list, false); err != nil {
			t.Fatal(err)
		}
		if got := describe("other"); !reflect.DeepEqual(got, want) {
			t.Errorf("elsewhere: got %d devices that are not the same %d", len(got), len(want))
		}
	})
}

// What cannot be read does not keep the rest from being described.
func TestDescribeUnreadable(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for n := 1; n <= 3; n++ {
			reg := registration(token(n))
			reg.User = "anna"
			f.mustRegister(t, reg)
		}
		spoil := func(kind string, tok device.Token, value string) {
			for _, key := range f.client.Keys(t.Context(), "pf:*:"+kind).Val() {
				if f.client.HExists(t.Context(), key, tok.Raw()).Val() {
					f.client.HSet(t.Context(), key, tok.Raw(), value)
				}
			}
		}
		spoil("d", token(1), "\x09")
		spoil("x", token(2), "short")
		entries, err := f.ScanBuckets(t.Context(), app, 4, 0, 4, nil)
		if err != nil {
			t.Fatal(err)
		}
		list, unreadable, err := f.Describe(t.Context(), app, entries, nil)
		if err != nil || unreadable != 2 || len(list) != 1 || list[0].Token != token(3) {
			t.Errorf("got %d devices, %d unreadable, %v, want 1 and 2", len(list), unreadable, err)
		}
		// Its user changed since the record was read: it is read again as a whole.
		reg := registration(token(3))
		reg.User = "bob"
		f.mustRegister(t, reg)
		list, _, err = f.Describe(t.Context(), app, entries, nil)
		if err != nil || len(list) != 1 || list[0].User != "bob" || list[0].Record.User != device.KeyOf("bob") {
			t.Errorf("registered again meanwhile: got %+v, %v, want it as it is now", list, err)
		}
	})
}
