package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

var window = store.FuseWindow{App: app, Environment: device.Production}

// rejections are those of device tokens from to to-1, told by one outcome.
func rejections(sequence uint64, from, to int) []store.Rejection {
	var list []store.Rejection
	for n := from; n < to; n++ {
		list = append(list, store.Rejection{Token: token(n), Generation: 1, Lane: job.Bulk, JobID: jobKey.ID, Sequence: sequence})
	}
	return list
}

func (f *fixture) count(t *testing.T, sends ...store.Sends) store.Counted {
	t.Helper()
	c, err := f.CountSends(t.Context(), window, sends)
	if err != nil {
		t.Fatalf("count sends: %v", err)
	}
	return c
}

// step is one call, and what it must answer.
type step struct {
	wait       time.Duration // before it
	sends      []store.Sends
	tripped    bool
	remembered int
}

func TestFuseTrips(t *testing.T) {
	rejected := func(from, to int) store.Sends { return store.Sends{Rejections: rejections(1, from, to)} }
	ok := func(n int) store.Sends { return store.Sends{Accepted: n} }
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"200 without one 200", []step{
			{sends: []store.Sends{ok(1_000_000)}},
			{sends: []store.Sends{rejected(0, 199)}, remembered: 199},
			{sends: []store.Sends{rejected(199, 200)}, tripped: true},
			{sends: []store.Sends{ok(1000)}, tripped: true},
			{wait: time.Hour, sends: []store.Sends{ok(1000)}, tripped: true},
		}},
		{"in one message", []step{{sends: []store.Sends{rejected(0, 1000)}, tripped: true}}},
		{"less than 5 per cent", []step{
			{sends: []store.Sends{ok(3000), rejected(0, 150), ok(2000), rejected(150, 250)}, remembered: 250},
		}},
		{"5 per cent", []step{{sends: []store.Sends{{Accepted: 3800, Rejections: rejections(1, 0, 200)}}, tripped: true}}},
		{"other answers count as sends", []step{
			{sends: []store.Sends{{Accepted: 1, Others: 3800, Rejections: rejections(1, 0, 200)}}, remembered: 200},
		}},
		{"other answers are no rejections", []step{{sends: []store.Sends{{Others: 100_000}}}}},
		{"199 are too few", []step{{sends: []store.Sends{ok(1), rejected(0, 199), ok(1)}, remembered: 199}}},
		{"what went well before does not outweigh", []step{
			{sends: []store.Sends{ok(1_000_000)}},
			{wait: 15 * time.Second, sends: []store.Sends{{Accepted: 2000, Rejections: rejections(1, 0, 150)}}, remembered: 150},
			{sends: []store.Sends{{Accepted: 1000, Rejections: rejections(1, 150, 200)}}, tripped: true},
		}},
		{"what is old does not count", []step{
			{sends: []store.Sends{ok(10), rejected(0, 150)}, remembered: 150},
			{wait: 61 * time.Second, sends: []store.Sends{rejected(150, 300)}, remembered: 150},
			{sends: []store.Sends{rejected(300, 350)}, tripped: true},
		}},
		{"told again", []step{
			{sends: []store.Sends{rejected(0, 150)}, remembered: 150},
			{sends: []store.Sends{rejected(0, 150)}, remembered: 150},
		}},
		{"more than can be undone", []step{
			{sends: []store.Sends{{Accepted: 50_000, Rejections: rejections(1, 0, 900)}}, remembered: 900},
			{sends: []store.Sends{{Accepted: 50_000, Rejections: rejections(1, 900, 1100)}}, remembered: 100},
			{sends: []store.Sends{{Accepted: 50_000, Rejections: rejections(1, 2000, 4100)}}},
			{wait: time.Minute, sends: []store.Sends{{Accepted: 50_000, Rejections: rejections(1, 5000, 5010)}}, remembered: 10},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, f *fixture) {
				for i, s := range tt.steps {
					f.clock.move(s.wait)
					got := f.count(t, s.sends...)
					remembered, total := 0, 0
					for _, yes := range got.Remembered {
						if yes {
							remembered++
						}
					}
					for _, m := range s.sends {
						total += len(m.Rejections)
					}
					if got.Tripped != s.tripped || remembered != s.remembered {
						t.Fatalf("step %d: got tripped %t (%d of %d), %d remembered, want %t, %d", i, got.Tripped, got.Rejected, got.Sent, remembered, s.tripped, s.remembered)
					}
					if !got.Tripped && len(got.Remembered) != total {
						t.Errorf("step %d: got %d answers for %d rejections", i, len(got.Remembered), total)
					}
					if now, err := f.FuseTripped(t.Context(), window); err != nil || now != s.tripped {
						t.Errorf("step %d: FuseTripped: got %t, %v, want %t", i, now, err, s.tripped)
					}
				}
				next := window
				next.Revision = 7
				if now, err := f.FuseTripped(t.Context(), next); now || err != nil {
					t.Errorf("after a reset: got tripped %t, %v", now, err)
				}
			})
		})
	}
}

func TestFuseTakesBack(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for n := range 5 {
			f.mustRegister(t, registration(token(n)))
		}
		list := rejections(9, 0, 4)
		list[3].Generation = 2 // of a registration that is not there
		f.count(t, store.Sends{Rejections: list})
		sent := f.clock.move(time.Second)
		for _, r := range list[:2] {
			f.apply(t, store.Verdict{Token: r.Token, Said: store.Quarantine, Generation: 1, Reason: device.BadDeviceToken, SentAt: sent})
		}
		// Recipients 0 to 3 were rejected, 4 was accepted; 2 is not settled yet.
		st := store.Settlement{Job: jobKey, Sequence: 9, Complete: true, Total: 5, Keep: time.Minute}
		for n, result := range []job.Result{job.Rejected, job.Rejected, "", job.Rejected, job.Accepted} {
			if result != "" {
				st.Hashes, st.Results = append(st.Hashes, job.RecipientHash(token(n))), append(st.Results, result)
			}
		}
		f.settle(t, st)
		if p := f.progress(t); !p.Complete || p.KeepUntil.IsZero() || p.Counts[job.Rejected] != 3 {
			t.Fatalf("before: got %+v, want complete, to be kept, 3 rejected", p)
		}

		remembered, err := f.Remembered(t.Context(), window)
		if err != nil || len(remembered) != len(list) {
			t.Fatalf("remembered: got %d, %v, want %d", len(remembered), err, len(list))
		}
		for _, r := range list {
			if !slices.Contains(remembered, r) {
				t.Errorf("remembered: got %+v, want %+v among them", remembered, r)
			}
		}
		// A mark of a rejection must not survive it.
		marks := []store.Mark{{Job: jobKey, Recipients: []store.Marked{{Hash: job.RecipientHash(token(2)), Recipient: job.Recipient{Result: job.Rejected}}}}}
		if err := f.MarkSettled(t.Context(), marks); err != nil {
			t.Fatal(err)
		}
		for round, want := range []store.TakenBack{{Released: 2, Opened: 4}, {}} {
			if got, err := f.TakeBack(t.Context(), app, remembered); err != nil || got != want {
				t.Errorf("round %d: got %+v, %v, want %+v", round, got, err, want)
			}
		}
		for n := range 2 {
			if e := f.entry(t, token(n)); e.Record.State != device.Live || e.Record.Generation != 2 {
				t.Errorf("device %d: got %s, generation %d, want live, 2", n, e.Record.State, e.Record.Generation)
			}
		}
		p := f.progress(t)
		if p.Complete || p.Counts[job.Rejected] != 0 || p.Counts[job.Accepted] != 1 || len(p.Settled) != 1 || len(p.Marked) != 0 {
			t.Errorf("after: got %+v, want 1 accepted and the rest open", p)
		}
		// The same rejection changes nothing any more.
		if did := f.apply(t, store.Verdict{Token: token(0), Said: store.Quarantine, Generation: 1, Reason: device.BadDeviceToken, SentAt: sent}); did != store.KeptNewer {
			t.Errorf("applied once more: got %s, want %s", did, store.KeptNewer)
		}
		// The part of the job that completes it does not complete it now.
		f.settle(t, store.Settlement{Job: jobKey, Sequence: 10, Complete: true, Total: 5})
		if p := f.progress(t); p.Complete {
			t.Errorf("with open recipients: got complete")
		}
		again := store.Settlement{Job: jobKey, Sequence: 11, Whole: true, Complete: true, Total: 5}
		for n := range 4 {
			again.Hashes, again.Results = append(again.Hashes, job.RecipientHash(token(n))), append(again.Results, job.Accepted)
		}
		if got := f.settle(t, again)[0]; got.Counted != 4 || got.Duplicates != 0 {
			t.Errorf("sent again: got %+v, want 4 counted", got)
		}
		if p := f.progress(t); !p.Complete || p.Counts[job.Accepted] != 5 || p.Duplicates != 0 {
			t.Errorf("in the end: got %+v, want complete with 5 accepted", p)
		}
		// What stands is not taken back by a rejection that is told again.
		if got, err := f.TakeBack(t.Context(), app, remembered); err != nil || got.Opened != 0 {
			t.Errorf("late: got %+v, %v, want nothing", got, err)
		}
	})
}

// A job whose parts are applied in any order is done when nothing of it is open.
func TestFuseHoldsPartsInAnyOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		hash := func(n int) uint64 { return job.RecipientHash(token(n)) }
		f.settle(t, store.Settlement{Job: jobKey, Sequence: 2, Complete: true, Total: 2, Hashes: []uint64{hash(1)}, Results: []job.Result{job.Accepted}})
		if _, err := f.TakeBack(t.Context(), app, rejections(1, 0, 1)); err != nil {
			t.Fatal(err)
		}
		if p := f.progress(t); p.Complete {
			t.Error("with one open: got complete")
		}
		f.settle(t, store.Settlement{Job: jobKey, Sequence: 3, Hashes: []uint64{hash(0)}, Results: []job.Result{job.Accepted}})
		if p := f.progress(t); !p.Complete || p.Counts[job.Accepted] != 2 {
			t.Errorf("got %+v, want complete with 2 accepted", p)
		}
	})
}

func TestClaimCanary(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for i, want := range []bool{true, false} {
			if got, err := f.ClaimCanary(t.Context(), app, device.Production, time.Minute); got != want || err != nil {
				t.Errorf("claim %d: got %t, %v, want %t", i, got, err, want)
			}
		}
		if got, err := f.ClaimCanary(t.Context(), app, device.Sandbox, time.Minute); !got || err != nil {
			t.Errorf("another environment: got %t, %v, want true", got, err)
		}
	})
}

func TestRemovalsAreCapped(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f = &fixture{Store: store.New(f.client, store.Config{Buckets: 4, Clock: f.clock.now, RemovalsPerHour: 3}), client: f.client, clock: f.clock}
		for n := range 10 {
			f.mustRegister(t, registration(token(n)))
		}
		f.clock.move(time.Minute)
		dead := func(from, to int) map[store.Applied]int {
			var list []store.Verdict
			for n := from; n < to; n++ {
				list = append(list, store.Verdict{Token: token(n), Said: store.Dead, Generation: 1, Reason: device.Unregistered, Timestamp: f.clock.now().UnixMilli()})
			}
			applied, err := f.Apply(t.Context(), app, list)
			if err != nil {
				t.Fatal(err)
			}
			did := make(map[store.Applied]int)
			for _, a := range applied {
				did[a]++
			}
			return did
		}
		if got := dead(0, 2); got[store.RemovedIt] != 2 {
			t.Errorf("first: got %v, want 2 removed", got)
		}
		// Told again they take nothing of what is left.
		if got := dead(0, 2); got[store.OverCap] != 1 || got[store.Unchanged] != 1 {
			t.Errorf("again: got %v", got)
		}
		if got := dead(2, 5); got[store.RemovedIt] != 1 || got[store.OverCap] != 2 {
			t.Errorf("the rest of the hour: got %v, want 1 removed, 2 over the cap", got)
		}
		if e := f.entry(t, token(4)); e.Record.State != device.Live {
			t.Errorf("over the cap: got %s, want live", e.Record.State)
		}
		// What we delete is not refused.
		if was, err := f.Delete(t.Context(), app, token(9), device.Deleted); !was || err != nil {
			t.Errorf("delete: got %t, %v, want true", was, err)
		}
		f.clock.move(time.Hour)
		if got := dead(3, 5); got[store.RemovedIt] != 2 {
			t.Errorf("the next hour: got %v, want 2 removed", got)
		}
	})
}
