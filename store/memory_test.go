package store_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

// goalBytes is what a device without user may take of Redis's memory, all told.
const goalBytes = 56

func TestBytesPerDevice(t *testing.T) {
	t.Parallel()
	db := testenv.Redis(t)
	if !db.Real {
		t.Log("miniredis does not tell what Redis takes")
		return
	}
	const buckets, devices = 64, 64 * 195 // as 200,000 in 1024 buckets
	st := store.New(db.Client, store.Config{Buckets: buckets})
	fill(t, st, devices, registration)
	if got := float64(bytesOf(t, db.Client)) / devices; got > goalBytes {
		t.Errorf("bytes per device of 32-byte tokens: got %.1f, want at most %d", got, goalBytes)
	}
	for _, enc := range encodings(t, db.Client) {
		if enc != "listpack" && enc != "ziplist" {
			t.Errorf("encoding of a bucket: got %s, want listpack", enc)
		}
	}
}

// Nothing in a bucket or an index exceeds what a listpack takes, whatever a
// record and a device token look like.
func TestBucketsStayListpacks(t *testing.T) {
	t.Parallel()
	db := testenv.Redis(t)
	if !db.Real {
		t.Log("miniredis does not tell how Redis keeps a hash")
		return
	}
	f := setup(db.Client)
	for i, n := range []int{1, 32, 60} {
		reg := registration(tokenOf(i, n))
		reg.User, reg.InstallID = "anna", fmt.Sprint("install ", i)
		f.mustRegister(t, reg)
		if i == 1 {
			continue
		}
		f.apply(t, store.Verdict{Token: reg.Token, Said: store.Quarantine, Generation: 1, Reason: device.BadDeviceToken})
	}
	for key, enc := range encodings(t, db.Client) {
		if enc != "listpack" && enc != "ziplist" {
			t.Errorf("encoding of %s: got %s, want listpack", key, enc)
		}
	}
}

// fill registers devices.
func fill(t testing.TB, st *store.Store, n int, reg func(device.Token) device.Registration) {
	t.Helper()
	const batch = 10_000
	regs := make([]device.Registration, 0, batch)
	for i := range n {
		if regs = append(regs, reg(token(i))); len(regs) == batch || i == n-1 {
			if _, err := st.RegisterMany(t.Context(), app, regs); err != nil {
				t.Fatal(err)
			}
			regs = regs[:0]
		}
	}
}

// bytesOf is what Redis takes for all keys of the app.
func bytesOf(t testing.TB, client redis.UniversalClient) (sum int64) {
	t.Helper()
	for _, key := range keysOf(t, client, "*") {
		n, err := client.MemoryUsage(t.Context(), key, 0).Result()
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// encodings are how Redis keeps each bucket and index but the details.
func encodings(t testing.TB, client redis.UniversalClient) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, key := range keysOf(t, client, "[dui]") {
		enc, err := client.ObjectEncoding(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		out[key] = enc
	}
	if len(out) == 0 {
		t.Error("no bucket in redis")
	}
	return out
}

func keysOf(t testing.TB, client redis.UniversalClient, kind string) []string {
	t.Helper()
	keys, err := client.Keys(t.Context(), "pf:{"+app+":*}:"+kind).Result()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
