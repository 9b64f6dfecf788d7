package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

const campaignID = "spring sale" // has a blank, and so is hashed in keys

func rangeOf(n int) store.JobKey {
	return store.JobKey{App: app, Lane: job.Bulk, Campaign: campaignID, Range: n}
}

func (f *fixture) totals(t *testing.T, ranges int) store.Totals {
	t.Helper()
	got, err := f.CampaignTotals(t.Context(), app, campaignID, ranges)
	if err != nil {
		t.Fatalf("CampaignTotals: %v", err)
	}
	return got
}

func wantTotals(t *testing.T, what string, got, want store.Totals) {
	t.Helper()
	if !maps.Equal(got.Counts, want.Counts) || got.Ranges != want.Ranges || got.Matched != want.Matched ||
		got.Devices != want.Devices || got.Duplicates != want.Duplicates {
		t.Errorf("totals %s: got %+v, want %+v", what, got, want)
	}
}

func TestTotals(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		wantTotals(t, "of nothing", f.totals(t, 1000), store.Totals{})
		all := whole(settlement(7, 0, job.Accepted, job.Accepted, job.Rejected))
		all.Job, all.Devices = rangeOf(0), 5
		all.Labels = []string{"accepted", "accepted", "rejected:Unregistered"}
		none := store.Settlement{Job: rangeOf(1), Sequence: 8, Whole: true, Complete: true, Devices: 4}
		part := settlement(9, 0, job.Accepted, job.Skipped)
		part.Job, part.Labels = rangeOf(700), []string{"accepted", "skipped:quiet hours"}
		for range 2 { // again, as after going back
			f.settle(t, all, none, part)
		}
		wantTotals(t, "of two ranges and a part", f.totals(t, 701), store.Totals{
			Counts: map[string]int64{"accepted": 3, "rejected:Unregistered": 1, "skipped:quiet hours": 1},
			Ranges: 2, Matched: 3, Devices: 9,
		})
		rest := complete(settlement(10, 1, job.Skipped, job.Accepted), 3)
		rest.Job, rest.Devices = rangeOf(700), 100
		f.settle(t, rest)
		wantTotals(t, "of three", f.totals(t, 701), store.Totals{
			Counts: map[string]int64{"accepted": 4, "rejected:Unregistered": 1, "skipped:quiet hours": 1},
			Ranges: 3, Matched: 6, Devices: 109, Duplicates: 1,
		})
		wantTotals(t, "of those in the first group", f.totals(t, 256), store.Totals{
			Counts: map[string]int64{"accepted": 2, "rejected:Unregistered": 1}, Ranges: 2, Matched: 3, Devices: 9,
		})
		p, err := f.Progress(t.Context(), []store.JobKey{rangeOf(700), rangeOf(2)})
		if err != nil || !p[0].Complete || p[0].Counts[job.Skipped] != 1 || p[1].Complete {
			t.Errorf("progress: got %+v, %v, want the first complete, with 1 skipped", p, err)
		}
	})
}

// What is taken back is taken back from the totals, and comes again once.
func TestTotalsOfWhatIsTakenBack(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		rejected := store.Rejection{
			Token: token(1), Generation: 1, Lane: job.Bulk, Campaign: campaignID, Range: 3, Sequence: 20,
		}
		st := store.Settlement{
			Job: rangeOf(3), Sequence: 20, Complete: true, Total: 2, Devices: 2, Keep: time.Minute,
			Hashes:  []uint64{job.RecipientHash(token(0)), job.RecipientHash(token(1))},
			Results: []job.Result{job.Accepted, job.Rejected}, Labels: []string{"accepted", "rejected:BadDeviceToken"},
		}
		f.settle(t, st)
		wantTotals(t, "before", f.totals(t, 4), store.Totals{
			Counts: map[string]int64{"accepted": 1, "rejected:BadDeviceToken": 1}, Ranges: 1, Matched: 2, Devices: 2,
		})
		f.count(t, store.Sends{Rejections: []store.Rejection{rejected}})
		remembered, err := f.Remembered(t.Context(), window)
		if err != nil || len(remembered) != 1 || remembered[0] != rejected {
			t.Fatalf("remembered: got %+v, %v, want %+v", remembered, err, rejected)
		}
		for range 2 {
			if _, err := f.TakeBack(t.Context(), app, remembered); err != nil {
				t.Fatal(err)
			}
			wantTotals(t, "taken back", f.totals(t, 4), store.Totals{Counts: map[string]int64{"accepted": 1}})
		}
		again := store.Settlement{
			Job: rangeOf(3), Sequence: 21, Hashes: st.Hashes[1:], Results: []job.Result{job.Accepted}, Labels: []string{"accepted"},
		}
		f.settle(t, again, again)
		wantTotals(t, "sent again", f.totals(t, 4), store.Totals{
			Counts: map[string]int64{"accepted": 2}, Ranges: 1, Matched: 2, Devices: 2,
		})
	})
}

func TestRangesLiveLong(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		const day = 24 * time.Hour
		ttls := func(pattern string) (longest time.Duration, n int) {
			keys, err := f.client.Keys(t.Context(), pattern).Result()
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range keys {
				longest = max(longest, f.client.TTL(t.Context(), key).Val())
			}
			return longest, len(keys)
		}
		k := rangeOf(3)
		st := settlement(1, 0, job.Accepted)
		st.Job = k
		f.settle(t, st)
		if err := f.HandBack(t.Context(), k, store.HandBack{RetryAt: f.clock.now(), Attempts: 1}); err != nil {
			t.Fatal(err)
		}
		marks := []store.Mark{{Job: k, Recipients: []store.Marked{{Hash: 9, Recipient: job.Recipient{Result: job.Accepted}}}}}
		if err := f.MarkSettled(t.Context(), marks); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Guard(t.Context(), []store.Claim{{App: app, Campaign: campaignID, Range: 3, Sequence: 5}}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []struct {
			pattern string
			keys    int
			ttl     time.Duration
		}{{"pf:{c:shop/*}:3:*", 3, 35 * day}, {"pf:{c:shop/*}:n", 1, 90 * day}} {
			if got, n := ttls(want.pattern); n != want.keys || got < want.ttl-time.Hour || got > want.ttl {
				t.Errorf("%s: got %d keys for %s, want %d for %s", want.pattern, n, got, want.keys, want.ttl)
			}
		}
		for _, ttl := range []time.Duration{2 * time.Hour, 10 * time.Hour} { // the second one lengthens nothing
			if err := f.ExpireCampaign(t.Context(), app, campaignID, 4, ttl); err != nil {
				t.Fatal(err)
			}
		}
		if got, n := ttls("pf:{c:shop/*}:3:*"); n != 3 || got > 2*time.Hour {
			t.Errorf("after ExpireCampaign: got %d keys for %s, want 3 for two hours", n, got)
		}
		if got, _ := ttls("pf:{c:shop/*}:n"); got < 89*day {
			t.Errorf("totals after ExpireCampaign: got %s, want 90 days", got)
		}
	})
}

func TestGuardOfRanges(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		claim := func(n int, seq uint64) store.Claim {
			return store.Claim{App: app, Lane: job.Bulk, ID: "one of a job", Campaign: campaignID, Range: n, Sequence: seq}
		}
		other := claim(1, 4)
		other.Campaign = ""
		got, err := f.Guard(t.Context(), []store.Claim{claim(1, 1), claim(2, 2), claim(1, 3), other, claim(1, 1)})
		want := []store.Claimed{store.First, store.First, store.Taken, store.First, store.Again}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("claims: got %v, %v, want %v", got, err, want)
		}
	})
}

// ledger is what must be counted of one range, told from what happened to it.
type ledger struct {
	owners     map[uint64]owner
	held       map[uint64]bool
	repeats    map[uint64]bool // sequences whose duplicates are counted
	completed  bool
	whole      bool // by one outcome
	devices    int
	duplicates int
}

type owner struct {
	sequence uint64
	label    string
}

func newLedger() *ledger {
	return &ledger{owners: make(map[uint64]owner), held: make(map[uint64]bool), repeats: make(map[uint64]bool)}
}

func (l *ledger) settle(st *store.Settlement) {
	duplicates := 0
	l.whole = l.whole || st.Whole && !l.completed && len(l.owners)+len(l.held) == 0
	for i, h := range st.Hashes {
		switch o, ok := l.owners[h]; {
		case !ok:
			l.owners[h] = owner{st.Sequence, st.Labels[i]}
			delete(l.held, h)
		case o.sequence != st.Sequence:
			duplicates++
		}
	}
	if duplicates > 0 && !l.repeats[st.Sequence] {
		l.repeats[st.Sequence] = true
		l.duplicates += duplicates
	}
	if st.Complete && !l.completed {
		l.completed, l.devices = true, st.Devices
	}
}

func (l *ledger) hold(sequence, h uint64) {
	if l.whole {
		return
	}
	if o, ok := l.owners[h]; ok {
		if o.sequence != sequence {
			return
		}
		delete(l.owners, h)
	}
	l.held[h] = true
}

func (l *ledger) addTo(t *store.Totals) {
	for _, o := range l.owners {
		t.Counts[o.label]++
	}
	t.Duplicates += int64(l.duplicates)
	if l.completed && len(l.held) == 0 {
		t.Ranges++
		t.Matched += int64(len(l.owners))
		t.Devices += int64(l.devices)
	}
}

// Whatever is applied in whatever order, and again, and taken back: the totals are
// what the outcomes say.
func TestTotalsAreExact(t *testing.T) {
	const mayBeHeld = "rejected:BadDeviceToken"
	labels := []string{"accepted", "accepted", mayBeHeld, "rejected:Unregistered", "skipped:quiet hours", "failed:no answer"}
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			onBoth(t, func(t *testing.T, f *fixture) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				const ranges, recipients, steps = 3, 6, 150
				keys := [ranges]store.JobKey{rangeOf(0), rangeOf(1), rangeOf(256)}
				var ledgers [ranges]*ledger
				for r := range ledgers {
					ledgers[r] = newLedger()
				}
				var told []store.Settlement
				of := func(st *store.Settlement) int { return slices.Index(keys[:], st.Job) }
				for step := range steps {
					r := rnd.IntN(ranges)
					var what string
					switch n := rnd.IntN(10); {
					case n < 4 || len(told) == 0: // an outcome
						st := store.Settlement{Job: keys[r], Sequence: uint64(step + 1), Devices: 10 + rnd.IntN(5)}
						st.Complete = rnd.IntN(3) == 0
						st.Whole = st.Complete && rnd.IntN(2) == 0
						for n := range recipients {
							if st.Whole || rnd.IntN(3) == 0 {
								label := labels[rnd.IntN(len(labels))]
								if st.Whole && label == mayBeHeld {
									label = labels[0]
								}
								st.Hashes = append(st.Hashes, job.RecipientHash(token(n)))
								st.Results = append(st.Results, job.Result(strings.Split(label, ":")[0]))
								st.Labels = append(st.Labels, label)
							}
						}
						if len(st.Hashes) == 0 {
							continue
						}
						st.Total = len(st.Hashes)
						if slices.Contains(st.Labels, mayBeHeld) {
							st.Keep = time.Minute
						}
						told = append(told, st)
						f.settle(t, st)
						ledgers[r].settle(&st)
						what = fmt.Sprintf("outcome %+v", st)
					case n < 7: // all again, from some point
						from := rnd.IntN(len(told))
						f.settle(t, told[from:]...)
						for i := range told[from:] {
							ledgers[of(&told[from+i])].settle(&told[from+i])
						}
						what = fmt.Sprintf("all again from %d", told[from].Sequence)
					case n < 8: // marks count nothing, nor does handing back
						marks := []store.Mark{{Job: keys[r], Recipients: []store.Marked{
							{Hash: job.RecipientHash(token(rnd.IntN(recipients))), Recipient: job.Recipient{Result: job.Accepted}},
						}}}
						if err := f.MarkSettled(t.Context(), marks); err != nil {
							t.Fatal(err)
						}
						h := store.HandBack{RetryAt: f.clock.now(), Attempts: 1, Waiting: map[uint64]store.Wait{
							job.RecipientHash(token(rnd.IntN(recipients))): {Attempts: 1, RetryAt: f.clock.now()},
						}}
						if err := f.HandBack(t.Context(), keys[r], h); err != nil {
							t.Fatal(err)
						}
						what = "a mark and a hand-back"
					default: // what an outcome rejected is taken back
						i := rnd.IntN(len(told))
						st := &told[i]
						k := slices.Index(st.Labels, mayBeHeld)
						if k < 1 { // an outcome's duplicates go by its first recipient
							continue
						}
						n := slices.IndexFunc(tokens(recipients), func(d device.Token) bool { return job.RecipientHash(d) == st.Hashes[k] })
						list := []store.Rejection{{Token: token(n), Lane: job.Bulk, Campaign: campaignID, Range: st.Job.Range, Sequence: st.Sequence}}
						if _, err := f.TakeBack(t.Context(), app, list); err != nil {
							t.Fatal(err)
						}
						ledgers[of(st)].hold(st.Sequence, st.Hashes[k])
						// What is told again from now on is told without it.
						again := *st
						again.Hashes = slices.Delete(slices.Clone(st.Hashes), k, k+1)
						again.Results = slices.Delete(slices.Clone(st.Results), k, k+1)
						again.Labels = slices.Delete(slices.Clone(st.Labels), k, k+1)
						*st = again
						what = fmt.Sprintf("recipient %d of outcome %d taken back", n, st.Sequence)
					}
					want := store.Totals{Counts: make(map[string]int64)}
					for _, l := range ledgers {
						l.addTo(&want)
					}
					wantTotals(t, fmt.Sprintf("after step %d, %s", step, what), f.totals(t, 257), want)
					if t.Failed() {
						return
					}
				}
			})
		})
	}
}

func tokens(n int) (list []device.Token) {
	for i := range n {
		list = append(list, token(i))
	}
	return list
}
