package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

func TestLookupKeepsTheOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		const n = 10000 // more than one pipeline's
		var regs []device.Registration
		var tokens []device.Token
		for i := range n {
			tok := token(i)
			if i%7 == 0 {
				tok = longToken(i)
			}
			if tokens = append(tokens, tok); i%2 == 0 {
				regs = append(regs, registration(tok))
			}
		}
		tokens = append(tokens, tokens[0], tokens[1]) // twice is allowed
		if _, err := f.RegisterMany(t.Context(), app, regs); err != nil {
			t.Fatal(err)
		}
		first := store.Entry{Token: token(-1)}
		got, err := f.Lookup(t.Context(), app, tokens, []store.Entry{first})
		if err != nil || len(got) != len(tokens)+1 || got[0] != first {
			t.Fatalf("Lookup: got %d entries, %v, want %d after the one that was there", len(got), err, len(tokens))
		}
		for i, e := range got[1:] {
			if e.Token != tokens[i] || e.Known != (i%2 == 0) || e.Known && e.Record.Generation != 1 {
				t.Fatalf("entry %d: got %+v, want token %v, known %t", i, e, tokens[i], i%2 == 0)
			}
		}
		if got, err := f.Lookup(t.Context(), app, nil, nil); err != nil || len(got) != 0 {
			t.Errorf("Lookup of nothing: got %v, %v", got, err)
		}
	})
}

func TestLookupTellsAnUnreadableRecord(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		reg := registration(token(1))
		reg.User = "anna"
		f.mustRegister(t, reg)
		mend := f.patch(t, token(1), func(packed string) string { return packed + "?" })
		if e := f.entry(t, token(1)); e.Known || !errors.Is(e.Err, device.ErrRecord) {
			t.Errorf("Lookup: got %+v, want unknown with %v", e, device.ErrRecord)
		}
		if _, _, err := f.Device(t.Context(), app, token(1)); !errors.Is(err, device.ErrRecord) {
			t.Errorf("Device: got %v, want %v", err, device.ErrRecord)
		}
		wantTokens(t, "devices of anna, her record unreadable", f.ofUser(t, "anna"))
		mend()
		wantTokens(t, "devices of anna, her record mended", f.ofUser(t, "anna"), token(1))
	})
}

func TestScanBuckets(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		const n = 10000 // enough for buckets to be hash tables
		var regs []device.Registration
		want := make(map[device.Token]bool)
		for i := range n {
			tok := token(i)
			if i%2 == 0 {
				tok = longToken(i)
			}
			want[tok] = true
			regs = append(regs, registration(tok))
		}
		if _, err := f.RegisterMany(t.Context(), app, regs); err != nil {
			t.Fatal(err)
		}
		buckets, err := f.Buckets(t.Context(), app)
		if err != nil {
			t.Fatal(err)
		}
		var all []store.Entry
		for _, to := range []int{1, 1, buckets} {
			if all, err = f.ScanBuckets(t.Context(), app, buckets, min(len(all), 1), to, all); err != nil {
				t.Fatal(err)
			}
		}
		for _, e := range all {
			if !want[e.Token] || !e.Known {
				t.Fatalf("got %+v, which is none or came twice", e)
			}
			delete(want, e.Token)
		}
		if len(want) != 0 {
			t.Errorf("%d of %d device tokens were not in any bucket", len(want), n)
		}
		for _, b := range [][2]int{{-1, 0}, {0, buckets + 1}, {2, 1}} {
			if _, err := f.ScanBuckets(t.Context(), app, buckets, b[0], b[1], nil); err == nil {
				t.Errorf("buckets %v: got no error", b)
			}
		}
		for _, b := range []int{-1, buckets} {
			if _, err := f.Sweep(t.Context(), app, b); err == nil {
				t.Errorf("sweep of bucket %d: got no error", b)
			}
		}
	})
}

// Slots of a user stay the first ones without a hole, whoever comes and goes, so
// that readers find all of them.
func TestUsersWithManyDevices(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for _, n := range []int{1, 7, 8, 9, 31, 32, 33, 100} {
			user := fmt.Sprint("user of ", n)
			var all []device.Token
			var regs []device.Registration
			for i := range n {
				tok := token(1000*n + i)
				if i%3 == 1 {
					tok = longToken(1000*n + i)
				}
				all = append(all, tok)
				reg := registration(tok)
				reg.User = user
				regs = append(regs, reg)
			}
			for range 2 { // the second time changes nothing
				if _, err := f.RegisterMany(t.Context(), app, regs); err != nil {
					t.Fatal(err)
				}
			}
			wantTokens(t, user, f.ofUser(t, user), all...)
			for len(all) > 0 {
				i := len(all) / 2
				reg := registration(all[i])
				reg.User = "somebody else"
				if len(all)%2 == 0 {
					f.mustRegister(t, reg) // takes its slot away at once
				} else if _, err := f.Delete(t.Context(), app, all[i], device.Deleted); err != nil { // when it is read
					t.Fatal(err)
				}
				all = append(all[:i], all[i+1:]...)
				if len(all)%5 == 0 || len(all) < 10 {
					wantTokens(t, fmt.Sprintf("%s, %d left", user, len(all)), f.ofUser(t, user), all...)
				}
			}
		}
	})
}

func TestByUsersKeepsTheOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		var users []string
		var regs []device.Registration
		for n := range 50 {
			users = append(users, fmt.Sprint("user ", n))
			for i := range n % 4 {
				reg := registration(token(10*n + i))
				reg.User = users[n]
				reg.InstallID = fmt.Sprint("install ", 10*n+i)
				regs = append(regs, reg)
			}
		}
		if _, err := f.RegisterMany(t.Context(), app, regs); err != nil {
			t.Fatal(err)
		}
		users = append(users, users[3], "", "nobody") // twice, none, unknown
		got, err := f.ByUsers(t.Context(), app, users)
		if err != nil || len(got) != len(users) {
			t.Fatalf("ByUsers: got %d, %v, want %d", len(got), err, len(users))
		}
		for n, entries := range got {
			of, want := n, n%4
			if n == 50 {
				of, want = 3, 3
			} else if n > 50 {
				want = 0
			}
			if len(entries) != want {
				t.Errorf("user %d: got %d devices, want %d", n, len(entries), want)
			}
			for _, e := range entries {
				if e.Record.User != device.KeyOf(users[of]) || !e.Known {
					t.Errorf("user %d: got %+v", n, e)
				}
			}
		}
		if found, err := f.ByInstalls(t.Context(), app, []string{"install 21", "install 999"}); err != nil ||
			len(found[0]) != 1 || found[0][0].Token != token(21) || len(found[1]) != 0 {
			t.Errorf("ByInstalls: got %v, %v", found, err)
		}
	})
}

func TestByUsersTellsQuarantined(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		reg := registration(token(1))
		reg.User = "anna"
		f.mustRegister(t, reg)
		f.apply(t, store.Verdict{Token: token(1), Said: store.Quarantine, Generation: 1, Reason: device.BadDeviceToken})
		found, err := f.ByUsers(t.Context(), app, []string{"anna"})
		if err != nil || len(found[0]) != 1 || found[0][0].Record.State != device.Quarantined {
			t.Errorf("got %v, %v, want the one device, quarantined", found, err)
		}
	})
}

// A slot that leads to another user's device is never followed, and goes.
func TestByUsersIgnoresAndDropsStaleSlots(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		cut := &cutter{left: 1 << 30}
		f.client.AddHook(cut)
		reg := registration(token(1))
		reg.User = "anna"
		f.mustRegister(t, reg)
		reg.User = "bert"
		f.mustRegister(t, registration(token(2))) // every script is known now
		cut.set(1)                                // the record only
		if _, err := f.Register(t.Context(), app, reg); !errors.Is(err, cutError{}) {
			t.Fatalf("Register: got %v, want %v", err, cutError{})
		}
		cut.set(1 << 30)
		if n := f.fields(t, "u"); n != 1 {
			t.Fatalf("slots in redis: got %d, want anna's alone", n)
		}
		wantTokens(t, "devices of anna, whose phone bert uses", f.ofUser(t, "anna"))
		if n := f.fields(t, "u"); n != 0 {
			t.Errorf("slots in redis after that: got %d, want 0", n)
		}
		f.mustRegister(t, reg) // as bert's caller would, after the error
		wantTokens(t, "devices of bert", f.ofUser(t, "bert"), token(1))
	})
}

// Scripts are known again after Redis has lost them.
func TestScriptsAfterARestart(t *testing.T) {
	t.Parallel()
	server, ok := testenv.StartRedis(t)
	if !ok {
		t.Log("no redis-server to restart: see TestScriptsAfterAFlush")
		return
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	f := setup(client)
	for range 2 {
		if got := f.mustRegister(t, registration(token(1))); got.Generation != 1 {
			t.Errorf("registration with an empty redis: got %+v, want generation 1", got)
		}
		server.Restart(t)
	}
}

func TestScriptsAfterAFlush(t *testing.T) {
	t.Parallel()
	// Of its own: the scripts of the shared server are other tests' too.
	f := setup(testenv.Miniredis(t).Client)
	for want := uint32(1); want <= 2; want++ {
		if got := f.mustRegister(t, registration(token(1))); got.Generation != want {
			t.Errorf("got %+v, want generation %d", got, want)
		}
		if err := f.client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		f := setup(testenv.Miniredis(t).Client)
		if err := f.Check(t.Context()); err != nil {
			t.Errorf("got %v, want nothing wrong", err)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		db := testenv.Miniredis(t)
		client := redis.NewClient(&redis.Options{Addr: db.Addr, MaxRetries: -1})
		_ = client.Close()
		if err := setup(client).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "ping redis") {
			t.Errorf("got %v, want that a ping went wrong", err)
		}
	})
	for _, tt := range []struct {
		name string
		args []string
		want []error
	}{
		{name: "as installed"},
		{name: "evicting", args: []string{"--maxmemory-policy", "allkeys-lru"}, want: []error{store.ErrEvicts}},
		{
			name: "evicting, small listpacks",
			args: []string{"--maxmemory-policy", "volatile-ttl", "--hash-max-listpack-value", "32", "--hash-max-listpack-entries", "64"},
			want: []error{store.ErrEvicts, store.ErrListpack},
		},
		{
			name: "evicting, and neither told",
			args: []string{"--maxmemory-policy", "allkeys-lru", "--rename-command", "CONFIG", "", "--rename-command", "INFO", ""},
		},
		{
			name: "evicting, and INFO alone tells",
			args: []string{"--maxmemory-policy", "allkeys-lru", "--rename-command", "CONFIG", ""},
			want: []error{store.ErrEvicts},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, ok := testenv.StartRedis(t, tt.args...)
			if !ok {
				t.Log("no redis-server: nothing to check")
				return
			}
			client := redis.NewClient(&redis.Options{Addr: server.Addr})
			defer client.Close()
			err := setup(client).Check(t.Context())
			if (err != nil) != (len(tt.want) > 0) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			for _, want := range tt.want {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
		})
	}
}
