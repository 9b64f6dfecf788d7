package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

func TestRedisGone(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		reg := registration(token(1))
		reg.User, reg.InstallID, reg.PreviousToken = "anna", "phone", token(2)
		f.mustRegister(t, reg)
		if err := f.client.Close(); err != nil {
			t.Fatal(err)
		}
		tokens := []device.Token{token(1)}
		kept := []store.Entry{{Token: token(7)}}
		for call, try := range map[string]func(context.Context) error{
			"Register": func(ctx context.Context) error {
				_, err := f.Register(ctx, app, reg)
				return err
			},
			"Register, bare": func(ctx context.Context) error {
				got, err := f.RegisterMany(ctx, app, []device.Registration{registration(token(3))})
				if len(got) != 1 || got[0].Err == nil {
					t.Errorf("RegisterMany: got %+v, want an error in it", got)
				}
				return err
			},
			"Lookup": func(ctx context.Context) error {
				got, err := f.Lookup(ctx, app, tokens, kept)
				if len(got) != 1 || got[0] != kept[0] {
					t.Errorf("Lookup: got %+v, want what was there before", got)
				}
				return err
			},
			"ByUsers":    func(ctx context.Context) error { _, err := f.ByUsers(ctx, app, []string{"anna"}); return err },
			"ByInstalls": func(ctx context.Context) error { _, err := f.ByInstalls(ctx, app, []string{"phone"}); return err },
			"Device":     func(ctx context.Context) error { _, _, err := f.Device(ctx, app, token(1)); return err },
			"Delete":     func(ctx context.Context) error { _, err := f.Delete(ctx, app, token(1), device.Deleted); return err },
			"Apply": func(ctx context.Context) error {
				got, err := f.Apply(ctx, app, []store.Verdict{{Token: token(1), Said: store.Accepted}})
				if len(got) != 1 || got[0] != store.NotApplied {
					t.Errorf("Apply: got %v, want %v", got, store.NotApplied)
				}
				return err
			},
			"ScanBuckets": func(ctx context.Context) error {
				got, err := f.ScanBuckets(ctx, app, 4, 0, 4, kept)
				if len(got) != 1 {
					t.Errorf("ScanBuckets: got %+v, want what was there before", got)
				}
				return err
			},
			"Sweep": func(ctx context.Context) error { _, err := f.Sweep(ctx, app, 0); return err },
			"Count": func(ctx context.Context) error { _, err := f.Count(ctx, app); return err },
			"Register, another app": func(ctx context.Context) error {
				_, err := f.Register(ctx, "shop2", reg)
				return err
			},
		} {
			err := try(t.Context())
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

// A Redis that was emptied under a running fleet gets the layout that the fleet
// goes by, before anybody writes down another.
func TestLayoutOfAnEmptiedRedis(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1)))
		if err := f.client.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		f.AgeLayouts()
		f.mustRegister(t, registration(token(1)))
		other := store.New(f.client, store.Config{Buckets: 64})
		if n, err := other.Buckets(t.Context(), app); err != nil || n != 4 {
			t.Errorf("buckets: got %d, %v, want 4", n, err)
		}

		// And one that was restored from a backup goes by the backup's.
		if err := f.client.HSet(t.Context(), "pf:{"+app+"}:layout", "buckets", 16).Err(); err != nil {
			t.Fatal(err)
		}
		f.AgeLayouts()
		if n, err := f.Buckets(t.Context(), app); err != nil || n != 16 {
			t.Errorf("buckets after a restore: got %d, %v, want 16", n, err)
		}
		if err := f.client.Del(t.Context(), "pf:{"+app+"}:layout").Err(); err != nil {
			t.Fatal(err)
		}
		if err := f.client.Set(t.Context(), "pf:{"+app+"}:layout", "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
		f.AgeLayouts()
		if _, err := f.Buckets(t.Context(), app); err == nil {
			t.Error("layout of another type: got no error")
		}
	})
}

func TestDeviceWithDamagedDetails(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		reg := registration(token(1))
		reg.User = "anna"
		f.mustRegister(t, reg)
		keys, err := f.client.Keys(t.Context(), "pf:{"+app+":*}:x").Result()
		if err != nil || len(keys) != 1 {
			t.Fatalf("keys of details: got %v, %v, want one", keys, err)
		}
		for _, value := range []string{"", "12345", "123456{", "123456[]"} {
			if err := f.client.HSet(t.Context(), keys[0], token(1).Raw(), value).Err(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := f.Device(t.Context(), app, token(1)); err == nil {
				t.Errorf("details %q: got no error", value)
			}
		}
		// Registering again makes it whole.
		f.mustRegister(t, reg)
		if d, _, err := f.Device(t.Context(), app, token(1)); err != nil || d.User != "anna" {
			t.Errorf("Device after registering again: got %+v, %v", d, err)
		}
	})
}

func TestSweepOfAnUnreadableRecord(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1)))
		f.mustRegister(t, registration(token(2)))
		cut := &cutter{left: 2} // looked up, record written
		f.client.AddHook(cut)
		reg := registration(token(2))
		reg.PreviousToken = token(1)
		if _, err := f.Register(t.Context(), app, reg); !errors.Is(err, cutError{}) {
			t.Fatalf("Register: got %v, want %v", err, cutError{})
		}
		cut.set(1 << 30)
		for n := 1; n <= 2; n++ { // the old one, the new one
			mend := f.patch(t, token(n), func(packed string) string { return "\x02" + packed[1:] })
			failed := 0
			for b := range 4 {
				if _, err := f.Sweep(t.Context(), app, b); err != nil {
					if failed++; !errors.Is(err, device.ErrRecord) {
						t.Errorf("Sweep, token %d unreadable: got %v, want %v", n, err, device.ErrRecord)
					}
				}
			}
			if failed != 1 {
				t.Errorf("sweeps that went wrong, token %d unreadable: got %d, want 1", n, failed)
			}
			mend()
		}
		if got := f.sweep(t); got.Replaced != 1 {
			t.Errorf("sweep when it can be read: got %+v, want 1 replaced", got)
		}
	})
}

func TestSweepByTheServersClock(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		st := store.New(f.client, store.Config{Buckets: 1})
		if _, err := st.Register(t.Context(), "other", registration(token(1))); err != nil {
			t.Fatal(err)
		}
		if ok, err := st.Delete(t.Context(), "other", token(1), device.Deleted); err != nil || !ok {
			t.Fatalf("Delete: got %t, %v", ok, err)
		}
		if got, err := st.Sweep(t.Context(), "other", 0); err != nil || got.Forgotten != 0 {
			t.Errorf("Sweep: got %+v, %v, want nothing forgotten within 30 days", got, err)
		}
	})
}

// infoHook answers INFO as another server would.
type infoHook struct{ text string }

func (h infoHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h infoHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if s, ok := cmd.(*redis.StringCmd); ok && cmd.Name() == "info" {
			s.SetVal(h.text)
			return nil
		}
		return next(ctx, cmd)
	}
}

func (h infoHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestCheckVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"# Server\r\nredis_version:6.2.14\r\n":                                              store.ErrVersion,
		"# Server\r\nredis_version:7.0.0\r\n":                                               nil,
		"# Server\r\nredis_version:10.0.0\r\n":                                              nil,
		"# Server\r\nredis_version:unstable\r\n":                                            nil,
		"# Memory\r\nmaxmemory_policy:volatile-lru\r\nx:1\r\n":                              store.ErrEvicts,
		"# Persistence\r\naof_last_write_status:err\r\n":                                    store.ErrDisk,
		"# Persistence\r\nrdb_last_bgsave_status:err\r\n":                                   store.ErrDisk,
		"# Persistence\r\nrdb_last_bgsave_status:ok\r\n":                                    nil,
		"# Memory\r\nused_memory:300\r\nmem_not_counted_for_evict:100\r\nmaxmemory:200\r\n": nil,
		"# Memory\r\nused_memory:301\r\nmem_not_counted_for_evict:100\r\nmaxmemory:200\r\n": store.ErrFull,
	} {
		f := setup(testenv.Miniredis(t).Client)
		f.client.AddHook(infoHook{text})
		if err := f.Check(t.Context()); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", text, err, want)
		}
	}
}

func TestAppliedNames(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for a := store.NotApplied; a <= store.Unreadable; a++ {
		if name := a.String(); name == "" || seen[name] {
			t.Errorf("%d: got name %q, want one of its own", a, name)
		} else {
			seen[name] = true
		}
	}
	if got := store.Applied(99).String(); got != "applied(99)" {
		t.Errorf("unknown: got %q", got)
	}
}
