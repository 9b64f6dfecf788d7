package store_test

import (
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

func TestApply(t *testing.T) {
	// Times are in milliseconds after the registration; verdicts come an hour later.
	const hour = int64(time.Hour / time.Millisecond)
	const minute = int64(time.Minute / time.Millisecond)
	type verdict struct {
		said       store.Said
		generation uint32
		timestamp  int64 // after the registration; -hour: none
		sent       int64
		reason     device.Reason
		offTopic   bool
	}
	const none = -hour
	tests := []struct {
		name       string
		unknown    bool // never registered
		registered int  // how often; 0 is once
		before     []verdict
		verdict    verdict
		want       store.Applied
		wantState  device.State
		wantReason device.Reason
		wantCount  uint8
		wantGen    uint32 // 0: as registered
	}{
		{
			name:      "accepted",
			verdict:   verdict{said: store.Accepted, generation: 1},
			want:      store.MarkedIt,
			wantState: device.Live,
		},
		{
			name:      "accepted of a device token that is not in the set",
			unknown:   true,
			verdict:   verdict{said: store.Accepted},
			want:      store.NotInSet,
			wantState: device.Live,
		},
		{
			name:      "accepted after it was removed does not bring it back",
			before:    []verdict{{said: store.Dead, generation: 1, timestamp: 1, reason: device.Unregistered}},
			verdict:   verdict{said: store.Accepted, generation: 1, sent: hour},
			want:      store.MarkedIt,
			wantState: device.Removed, wantReason: device.Unregistered,
		},
		{
			name:      "dead",
			verdict:   verdict{said: store.Dead, generation: 1, timestamp: 1, reason: device.Unregistered},
			want:      store.RemovedIt,
			wantState: device.Removed, wantReason: device.Unregistered,
		},
		{
			name:      "dead, expired",
			verdict:   verdict{said: store.Dead, generation: 1, timestamp: hour, reason: device.ExpiredToken},
			want:      store.RemovedIt,
			wantState: device.Removed, wantReason: device.ExpiredToken,
		},
		{
			name:      "dead since the millisecond of the registration",
			verdict:   verdict{said: store.Dead, generation: 1, timestamp: 0, reason: device.Unregistered},
			want:      store.KeptNewer,
			wantState: device.Live,
		},
		{
			name:      "dead before the registration",
			verdict:   verdict{said: store.Dead, generation: 1, timestamp: -1, reason: device.Unregistered},
			want:      store.KeptNewer,
			wantState: device.Live,
		},
		{
			name:       "dead, registered again since the send",
			registered: 2,
			verdict:    verdict{said: store.Dead, generation: 1, timestamp: hour, reason: device.Unregistered},
			want:       store.KeptNewer,
			wantState:  device.Live,
		},
		{
			name:      "dead, set not read at the send: the timestamp decides, for removal",
			verdict:   verdict{said: store.Dead, timestamp: 1, reason: device.Unregistered},
			want:      store.RemovedIt,
			wantState: device.Removed, wantReason: device.Unregistered,
		},
		{
			name:      "dead, set not read at the send: the timestamp decides, against",
			verdict:   verdict{said: store.Dead, timestamp: 0, reason: device.Unregistered},
			want:      store.KeptNewer,
			wantState: device.Live,
		},
		{
			name:      "dead without a timestamp, sent long after the registration",
			verdict:   verdict{said: store.Dead, generation: 1, timestamp: none, sent: minute + 1, reason: device.Unregistered},
			want:      store.RemovedIt,
			wantState: device.Removed, wantReason: device.Unregistered,
		},
		{
			name:      "dead without a timestamp, sent soon after the registration",
			verdict:   verdict{said: store.Dead, generation: 1, timestamp: none, sent: minute, reason: device.Unregistered},
			want:      store.KeptNewer,
			wantState: device.Live,
		},
		{
			name:      "dead in the future is dead now",
			verdict:   verdict{said: store.Dead, timestamp: 1000 * hour, reason: device.Unregistered},
			want:      store.RemovedIt,
			wantState: device.Removed, wantReason: device.Unregistered,
		},
		{
			name:      "dead of a quarantined one",
			before:    []verdict{{said: store.Quarantine, generation: 1, reason: device.BadDeviceToken}},
			verdict:   verdict{said: store.Dead, generation: 1, timestamp: 1, reason: device.Unregistered},
			want:      store.RemovedIt,
			wantState: device.Removed, wantReason: device.Unregistered,
		},
		{
			name:      "dead of a device token that is not in the set",
			unknown:   true,
			verdict:   verdict{said: store.Dead, timestamp: 1, reason: device.Unregistered},
			want:      store.RememberedIt,
			wantState: device.Removed, wantReason: device.Unregistered,
		},
		{
			name:      "quarantine",
			verdict:   verdict{said: store.Quarantine, generation: 1, sent: 1, reason: device.BadDeviceToken},
			want:      store.QuarantinedIt,
			wantState: device.Quarantined, wantReason: device.BadDeviceToken, wantCount: 1,
		},
		{
			name:      "quarantine for the topic of its kind",
			verdict:   verdict{said: store.Quarantine, generation: 1, sent: 1, reason: device.DeviceTokenNotForTopic},
			want:      store.QuarantinedIt,
			wantState: device.Quarantined, wantReason: device.DeviceTokenNotForTopic, wantCount: 1,
		},
		{
			name:      "quarantine for a topic that the caller got wrong",
			verdict:   verdict{said: store.Quarantine, generation: 1, sent: 1, reason: device.DeviceTokenNotForTopic, offTopic: true},
			want:      store.KeptTopic,
			wantState: device.Live,
		},
		{
			name:       "quarantine, registered again since the send",
			registered: 2,
			verdict:    verdict{said: store.Quarantine, generation: 1, sent: 1, reason: device.BadDeviceToken},
			want:       store.KeptNewer,
			wantState:  device.Live,
		},
		{
			name:      "quarantine, not in the set at the send",
			verdict:   verdict{said: store.Quarantine, sent: 1, reason: device.BadDeviceToken},
			want:      store.KeptNewer,
			wantState: device.Live,
		},
		{
			name:      "quarantine of a device token that is not in the set",
			unknown:   true,
			verdict:   verdict{said: store.Quarantine, reason: device.BadDeviceToken},
			want:      store.NotInSet,
			wantState: device.Live,
		},
		{
			name:      "quarantine of a removed one",
			before:    []verdict{{said: store.Dead, generation: 1, timestamp: 1, reason: device.Unregistered}},
			verdict:   verdict{said: store.Quarantine, generation: 1, sent: 1, reason: device.BadDeviceToken},
			want:      store.Unchanged,
			wantState: device.Removed, wantReason: device.Unregistered,
		},
		{
			name:      "rejected again within a day",
			before:    []verdict{{said: store.Quarantine, generation: 1, sent: 1, reason: device.BadDeviceToken}},
			verdict:   verdict{said: store.Quarantine, generation: 1, sent: 24 * hour, reason: device.BadDeviceToken},
			want:      store.Unchanged,
			wantState: device.Quarantined, wantReason: device.BadDeviceToken, wantCount: 1,
		},
		{
			name:      "rejected again a day later",
			before:    []verdict{{said: store.Quarantine, generation: 1, sent: 1, reason: device.BadDeviceToken}},
			verdict:   verdict{said: store.Quarantine, generation: 1, sent: 24*hour + 1, reason: device.BadDeviceToken},
			want:      store.RejectedAgain,
			wantState: device.Quarantined, wantReason: device.BadDeviceToken, wantCount: 2,
		},
		{
			name:      "accepted, sent after the rejection, releases",
			before:    []verdict{{said: store.Quarantine, generation: 1, sent: 1, reason: device.BadDeviceToken}},
			verdict:   verdict{said: store.Accepted, generation: 1, sent: 2},
			want:      store.ReleasedIt,
			wantState: device.Live, wantGen: 2,
		},
		{
			name:      "accepted, sent before the rejection, does not release",
			before:    []verdict{{said: store.Quarantine, generation: 1, sent: 2, reason: device.BadDeviceToken}},
			verdict:   verdict{said: store.Accepted, generation: 1, sent: 1},
			want:      store.MarkedIt,
			wantState: device.Quarantined, wantReason: device.BadDeviceToken, wantCount: 1,
		},
		{
			name: "the rejection once more after it was released",
			before: []verdict{
				{said: store.Quarantine, generation: 1, sent: 1, reason: device.BadDeviceToken},
				{said: store.Accepted, generation: 1, sent: 2},
			},
			verdict:   verdict{said: store.Quarantine, generation: 1, sent: 1, reason: device.BadDeviceToken},
			want:      store.KeptNewer,
			wantState: device.Live, wantGen: 2,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, f *fixture) {
				registered := f.clock.now()
				if !tt.unknown {
					for range max(1, tt.registered) {
						reg := registration(token(1))
						reg.User, reg.InstallID = "anna", "phone"
						f.mustRegister(t, reg)
					}
				}
				before := f.entry(t, token(1)).Record
				// Late enough that every time of the table is in the past.
				f.clock.move(100 * time.Hour)
				apply := func(v verdict) store.Applied {
					t.Helper()
					full := store.Verdict{
						Token: token(1), Said: v.said, Generation: v.generation, Reason: v.reason,
						SentAt: registered.Add(time.Duration(v.sent) * time.Millisecond), TopicMatchesKind: !v.offTopic,
					}
					if v.timestamp != none {
						full.Timestamp = registered.UnixMilli() + v.timestamp
					}
					return f.apply(t, full)
				}
				for _, v := range tt.before {
					apply(v)
				}
				if got := apply(tt.verdict); got != tt.want {
					t.Errorf("Apply: got %v, want %v", got, tt.want)
				}
				got := f.entry(t, token(1))
				want := before
				if tt.wantGen != 0 {
					want.Generation = tt.wantGen
				}
				// What the test does not name is the same as before.
				want.State, want.Reason, want.Rejections = tt.wantState, tt.wantReason, tt.wantCount
				want.ChangedAt, want.Accepted = got.Record.ChangedAt, got.Record.Accepted
				if got.Record != want {
					t.Errorf("record: got %+v, want %+v", got.Record, want)
				}
				if got.Known != (!tt.unknown || tt.want == store.RememberedIt) {
					t.Errorf("known: got %t", got.Known)
				}

				f.clock.move(time.Hour)
				switch again := apply(tt.verdict); again {
				case store.Unchanged, store.KeptNewer, store.KeptTopic, store.NotInSet:
				default:
					t.Errorf("Apply of the same once more: got %v, want nothing done", again)
				}
				if second := f.entry(t, token(1)); second != got {
					t.Errorf("record after the same once more: got %+v, want %+v", second.Record, got.Record)
				}
			})
		})
	}
}

func TestApplySaysWhen(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1)))
		f.mustRegister(t, registration(token(2)))
		sent := f.clock.move(time.Minute)
		now := f.clock.move(time.Minute)
		f.apply(t, store.Verdict{
			Token: token(1), Said: store.Quarantine, Generation: 1, SentAt: sent, Reason: device.BadDeviceToken,
		})
		if got := f.entry(t, token(1)).Record.ChangedAt; got != sent.UnixMilli() {
			t.Errorf("quarantined at: got %d, want the time of the send %d", got, sent.UnixMilli())
		}
		f.apply(t, store.Verdict{Token: token(2), Said: store.Dead, Generation: 1, Timestamp: sent.UnixMilli()})
		if got := f.entry(t, token(2)).Record.ChangedAt; got != now.UnixMilli() {
			t.Errorf("removed at: got %d, want now %d", got, now.UnixMilli())
		}
		f.clock.move(time.Minute)
		f.apply(t, store.Verdict{
			Token: token(1), Said: store.Quarantine, Generation: 1, SentAt: f.clock.now(), Reason: device.DeviceTokenNotForTopic, TopicMatchesKind: true,
		})
		if got := f.entry(t, token(1)).Record; got.ChangedAt != sent.UnixMilli() || got.Reason != device.BadDeviceToken {
			t.Errorf("rejected for the second time: got %+v, want the first time and reason", got)
		}
	})
}

// A clock that is ahead at APNs or at the sender does not reach into the future
// of the token set's.
func TestApplyFromTheFuture(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1)))
		now := f.clock.now()
		v := store.Verdict{Token: token(1), Said: store.Dead, Timestamp: now.Add(time.Hour).UnixMilli()}
		if got := f.apply(t, v); got != store.KeptNewer {
			t.Errorf("dead in an hour, registered now: got %v, want %v", got, store.KeptNewer)
		}
		v = store.Verdict{
			Token: token(1), Said: store.Quarantine, Generation: 1, SentAt: now.Add(time.Hour), Reason: device.BadDeviceToken,
		}
		f.apply(t, v)
		if got := f.entry(t, token(1)).Record.ChangedAt; got != now.UnixMilli() {
			t.Errorf("quarantined by a notification sent in an hour: got %d, want now, %d", got, now.UnixMilli())
		}
		// Neither when nor since when: nothing can be said about it.
		if got := f.apply(t, store.Verdict{Token: token(2), Said: store.Dead}); got != store.NotInSet {
			t.Errorf("dead without any time, unknown: got %v, want %v", got, store.NotInSet)
		}
		f.mustRegister(t, registration(token(3)))
		if got := f.apply(t, store.Verdict{Token: token(3), Said: store.Dead, Generation: 1}); got != store.KeptNewer {
			t.Errorf("dead without any time: got %v, want %v", got, store.KeptNewer)
		}
	})
}

func TestApplyManyInTheirOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		const n = 2000
		var regs []device.Registration
		for i := range n {
			regs = append(regs, registration(token(i)))
		}
		if _, err := f.RegisterMany(t.Context(), app, regs); err != nil {
			t.Fatal(err)
		}
		f.clock.move(time.Hour)
		var verdicts []store.Verdict
		for i := range n {
			v := store.Verdict{Token: token(i), Said: store.Accepted, Generation: 1}
			if i%3 == 0 {
				v.Said, v.Timestamp, v.Reason = store.Dead, f.clock.now().UnixMilli(), device.Unregistered
			}
			verdicts = append(verdicts, v)
		}
		got, err := f.Apply(t.Context(), app, verdicts)
		if err != nil || len(got) != n {
			t.Fatalf("Apply: got %d, %v", len(got), err)
		}
		for i, a := range got {
			want := store.MarkedIt
			if i%3 == 0 {
				want = store.RemovedIt
			}
			if a != want {
				t.Fatalf("verdict %d: got %v, want %v", i, a, want)
			}
		}
		if got, err := f.Apply(t.Context(), app, nil); err != nil || len(got) != 0 {
			t.Errorf("Apply of nothing: got %v, %v", got, err)
		}
	})
}

func TestApplyToAnUnreadableRecord(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.mustRegister(t, registration(token(1)))
		f.patch(t, token(1), func(packed string) string { return packed[:5] })
		for _, said := range []store.Said{store.Accepted, store.Dead, store.Quarantine} {
			got := f.apply(t, store.Verdict{Token: token(1), Said: said, Generation: 1, Timestamp: 1 << 42})
			if got != store.Unreadable {
				t.Errorf("%d: got %v, want %v", said, got, store.Unreadable)
			}
		}
		if _, err := f.Delete(t.Context(), app, token(1), device.Deleted); err == nil {
			t.Error("Delete: got no error")
		}
	})
}

func TestDelete(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		reg := registration(token(1))
		reg.User = "anna"
		f.mustRegister(t, reg)
		for i, want := range []bool{true, false} {
			if ok, err := f.Delete(t.Context(), app, token(1), device.Deleted); err != nil || ok != want {
				t.Errorf("Delete, call %d: got %t, %v, want %t", i, ok, err, want)
			}
		}
		if ok, err := f.Delete(t.Context(), app, token(2), device.Deleted); err != nil || ok || f.entry(t, token(2)).Known {
			t.Errorf("Delete of an unknown device token: got %t, %v, want false and nothing remembered", ok, err)
		}
		wantTokens(t, "devices of anna", f.ofUser(t, "anna"))
		d, ok, err := f.Device(t.Context(), app, token(1))
		if err != nil || !ok || d.Record.State != device.Removed || d.Record.Reason != device.Deleted || d.User != "anna" {
			t.Errorf("Device: got %+v, %t, %v, want it removed, its user remembered", d, ok, err)
		}
	})
}
