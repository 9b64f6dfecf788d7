package store_test

import (
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/store"
)

func TestCensus(t *testing.T) {
	t.Parallel()
	set := store.New(testenv.Redis(t), store.Config{Buckets: 16})
	const live, deleted, bad = 50, 7, 3
	var tokens []device.Token
	var regs []device.Registration
	for i := range live + deleted + bad {
		tok := device.TokenFromRaw(string(append([]byte("a device token of thirty bytes"), byte(i), 0)))
		tokens = append(tokens, tok)
		regs = append(regs, device.Registration{Token: tok, Environment: device.Production})
	}
	if _, err := set.RegisterMany(t.Context(), "shop", regs); err != nil {
		t.Fatal(err)
	}
	if _, err := set.DeleteMany(t.Context(), "shop", tokens[:deleted], device.Deleted); err != nil {
		t.Fatal(err)
	}
	if _, err := set.DeleteMany(t.Context(), "shop", tokens[deleted:deleted+bad], device.Unregistered); err != nil {
		t.Fatal(err)
	}
	got, err := set.Census(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if got.Live != live || got.Removed != deleted+bad || got.Quarantined != 0 || got.Estimated ||
		got.RemovedByReason["deleted"] != deleted || got.RemovedByReason["Unregistered"] != bad {
		t.Errorf("got %+v, want %d live, %d deleted and %d unregistered", got, live, deleted, bad)
	}
	if other, err := set.Census(t.Context(), "news"); err != nil || other.Live+other.Removed != 0 {
		t.Errorf("another app: got %+v, %v, want nothing", other, err)
	}
}

// A large token set is estimated from a part of it.
func TestCensusOfMany(t *testing.T) {
	t.Parallel()
	db := testenv.Redis(t)
	if !db.Real {
		t.Skip("takes long with an imitation")
	}
	set := store.New(db, store.Config{Buckets: 512})
	const devices = 120_000
	regs := make([]device.Registration, 0, 4000)
	for i := range devices {
		raw := []byte("a device token of 28 bytes..0000")
		raw[28], raw[29], raw[30], raw[31] = byte(i), byte(i>>8), byte(i>>16), 1
		regs = append(regs, device.Registration{Token: device.TokenFromRaw(string(raw)), Environment: device.Production})
		if len(regs) == cap(regs) {
			if _, err := set.RegisterMany(t.Context(), "shop", regs); err != nil {
				t.Fatal(err)
			}
			regs = regs[:0]
		}
	}
	begun := time.Now()
	got, err := set.Census(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("counted %d as %d in %s", devices, got.Live, time.Since(begun))
	if !got.Estimated || got.Live < devices*96/100 || got.Live > devices*104/100 {
		t.Errorf("got %+v, want about %d, estimated", got, devices)
	}
}
