package store_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

var jobKey = store.JobKey{App: app, Lane: job.Bulk, ID: "order/4711}"}

// settlement tells of recipients n to n+len(results)-1.
func settlement(sequence uint64, n int, results ...job.Result) store.Settlement {
	s := store.Settlement{Job: jobKey, Sequence: sequence, Results: results}
	for i := range results {
		s.Hashes = append(s.Hashes, uint64(n+i))
	}
	return s
}

func whole(s store.Settlement) store.Settlement {
	s.Whole, s.Complete, s.Total = true, true, len(s.Hashes)
	return s
}

func complete(s store.Settlement, total int) store.Settlement {
	s.Complete, s.Total = true, total
	return s
}

func (f *fixture) settle(t *testing.T, s ...store.Settlement) []store.Settled {
	t.Helper()
	got, err := f.Settle(t.Context(), s)
	if err != nil {
		t.Fatalf("settle: %v", err)
	}
	return got
}

func (f *fixture) progress(t *testing.T) store.Progress {
	t.Helper()
	got, err := f.Progress(t.Context(), []store.JobKey{jobKey})
	if err != nil {
		t.Fatalf("read progress: %v", err)
	}
	return got[0]
}

func TestSettleWholeJob(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		if p := f.progress(t); p.Complete || len(p.Settled) != 0 || !p.RetryAt.IsZero() {
			t.Errorf("unknown job: got %+v, want nothing", p)
		}
		all := whole(settlement(7, 0, job.Accepted, job.Accepted, job.Rejected))
		if got := f.settle(t, all); got[0].Counted != 3 || got[0].Duplicates != 0 {
			t.Errorf("first: got %+v, want 3 counted", got)
		}
		// The recorder died before its ack: the same outcome again.
		if got := f.settle(t, all); got[0].Counted != 0 || got[0].Duplicates != 0 {
			t.Errorf("the same again: got %+v, want nothing", got)
		}
		// Another worker told it too: a second outcome for each.
		other := all
		other.Sequence = 8
		if got := f.settle(t, other); got[0].Counted != 0 || got[0].Duplicates != 3 {
			t.Errorf("another one: got %+v, want 3 duplicates", got)
		}
		p := f.progress(t)
		want := map[job.Result]int{job.Accepted: 2, job.Rejected: 1}
		if !p.Complete || p.Total != 3 || p.Duplicates != 3 || !maps.Equal(p.Counts, want) {
			t.Errorf("progress: got %+v, want complete, 3 in all, %v", p, want)
		}
		if n := f.client.Exists(t.Context(), "pf:{j:shop/bulk/order/4711}}:s").Val(); n != 0 {
			t.Errorf("hashes of a job that was settled at once: got a key, want none")
		}
	})
}

// Those that were accepted come as device tokens: whether their hashes are needed
// shows only when Redis knows more of the job.
func TestSettleAcceptedByDeviceToken(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		all := store.Settlement{
			Job: jobKey, Sequence: 7, Whole: true, Complete: true, Total: 4,
			Accepted: []device.Token{token(0), token(1), token(2)}, Hashes: []uint64{9}, Results: []job.Result{job.Rejected},
		}
		if got := f.settle(t, all); got[0] != (store.Settled{Counted: 4}) {
			t.Errorf("whole: got %+v, want 4 counted", got)
		}
		want := map[job.Result]int{job.Accepted: 3, job.Rejected: 1}
		if p := f.progress(t); !p.Complete || p.Total != 4 || !maps.Equal(p.Counts, want) {
			t.Errorf("whole: got %+v, want complete, %v", p, want)
		}
		all.Sequence = 8
		if got := f.settle(t, all); got[0] != (store.Settled{Duplicates: 4}) {
			t.Errorf("another one: got %+v, want 4 duplicates", got)
		}
	})
}

func TestSettlePartsByDeviceToken(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		part := store.Settlement{
			Job: jobKey, Sequence: 7,
			Accepted: []device.Token{token(0), token(1)}, Hashes: []uint64{9}, Results: []job.Result{job.Rejected},
		}
		if got := f.settle(t, part); got[0] != (store.Settled{Counted: 3}) {
			t.Errorf("part: got %+v, want 3 counted", got)
		}
		settled := map[uint64]struct{}{job.RecipientHash(token(0)): {}, job.RecipientHash(token(1)): {}, 9: {}}
		counts := map[job.Result]int{job.Accepted: 2, job.Rejected: 1}
		if p := f.progress(t); p.Complete || !maps.Equal(p.Settled, settled) || !maps.Equal(p.Counts, counts) {
			t.Errorf("part: got %+v, want %v settled, %v", p, settled, counts)
		}
		// Workers of two versions share them.
		keys, want := f.client.Keys(t.Context(), "pf:{j:*").Val(), []string{"pf:{j:shop/bulk/order/4711}}:p", "pf:{j:shop/bulk/order/4711}}:s"}
		if slices.Sort(keys); !slices.Equal(keys, want) {
			t.Errorf("keys: got %q, want %q", keys, want)
		}
		rest := store.Settlement{Job: jobKey, Sequence: 8, Whole: true, Complete: true, Total: 4, Accepted: []device.Token{token(1), token(2)}}
		if got := f.settle(t, rest); got[0] != (store.Settled{Counted: 1, Duplicates: 1}) {
			t.Errorf("rest: got %+v, want 1 counted and 1 duplicate", got)
		}
	})
}

func TestSettleInParts(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		first := settlement(1, 0, job.Accepted, job.Accepted)
		second := complete(settlement(2, 2, job.Accepted, job.Failed), 4)
		f.settle(t, first)
		if p := f.progress(t); p.Complete || len(p.Settled) != 2 {
			t.Errorf("half done: got %+v, want 2 settled", p)
		}
		// Both at once, the first for the second time, as after going back.
		got := f.settle(t, first, second)
		if got[0] != (store.Settled{}) || got[1].Counted != 2 {
			t.Errorf("got %+v, want the first unchanged and 2 counted", got)
		}
		got = f.settle(t, first, second)
		if got[0] != (store.Settled{}) || got[1] != (store.Settled{}) {
			t.Errorf("applied again when complete: got %+v, want nothing", got)
		}
		p := f.progress(t)
		want := map[job.Result]int{job.Accepted: 3, job.Failed: 1}
		if !p.Complete || p.Total != 4 || p.Duplicates != 0 || !maps.Equal(p.Counts, want) {
			t.Errorf("progress: got %+v, want complete, %v", p, want)
		}
		// A recipient that was settled twice counts once.
		if got := f.settle(t, settlement(3, 0, job.Rejected)); got[0].Duplicates != 1 {
			t.Errorf("second outcome: got %+v, want a duplicate", got)
		}
		if p := f.progress(t); !maps.Equal(p.Counts, want) || p.Duplicates != 1 {
			t.Errorf("after a second outcome: got %+v, want the counts unchanged", p)
		}
	})
}

// A job that two workers sent: one told a part, the other says that it told all.
func TestWholeAfterAPart(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.settle(t, settlement(1, 0, job.Accepted))
		got := f.settle(t, whole(settlement(2, 0, job.Accepted, job.Accepted)))
		if got[0].Counted != 1 || got[0].Duplicates != 1 {
			t.Errorf("got %+v, want 1 counted and 1 duplicate", got)
		}
		if p := f.progress(t); !p.Complete || p.Counts[job.Accepted] != 2 {
			t.Errorf("progress: got %+v, want complete with 2", p)
		}
	})
}

func TestMarksCountNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		sent := time.UnixMilli(1_800_000_000_123)
		rejected := job.Recipient{Result: job.Rejected, Reason: "a|b", Status: 410, Timestamp: 5, Generation: 9, SentAt: sent}
		f.settle(t, settlement(1, 0, job.Accepted))
		err := f.MarkSettled(t.Context(), []store.Mark{{Job: jobKey, Recipients: []store.Marked{
			{Hash: 0, Recipient: job.Recipient{Result: job.Rejected}}, // settled: stays
			{Hash: 1, Recipient: job.Recipient{Result: job.Accepted}},
			{Hash: 2, Recipient: rejected},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		p := f.progress(t)
		if len(p.Settled) != 1 || len(p.Marked) != 2 || p.Marked[1].Result != job.Accepted || p.Counts[job.Accepted] != 1 {
			t.Errorf("progress: got %+v, want one settled and two marked", p)
		}
		if got := p.Marked[2]; got != rejected {
			t.Errorf("mark: got %+v, want %+v", got, rejected)
		}
		// Told at last: now they count, once.
		got := f.settle(t, complete(settlement(2, 1, job.Accepted, job.Rejected), 3))
		if got[0].Counted != 2 || got[0].Duplicates != 0 {
			t.Errorf("told: got %+v, want 2 counted", got)
		}
		if p := f.progress(t); !p.Complete || p.Counts[job.Accepted] != 2 || p.Counts[job.Rejected] != 1 {
			t.Errorf("progress: got %+v", p)
		}
	})
}

// What was only marked on the way is settled like what was not: at once, and without
// hashes that would live on.
func TestSettleWholeJobThatWasMarked(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		if err := f.MarkSettled(t.Context(), []store.Mark{{Job: jobKey, Recipients: []store.Marked{
			{Hash: 0, Recipient: job.Recipient{Result: job.Accepted}}, {Hash: 1, Recipient: job.Recipient{Result: job.Accepted}},
		}}}); err != nil {
			t.Fatal(err)
		}
		all := whole(settlement(7, 0, job.Accepted, job.Accepted, job.Rejected))
		for range 2 {
			f.settle(t, all)
			if p := f.progress(t); !p.Complete || p.Counts[job.Accepted] != 2 || p.Counts[job.Rejected] != 1 || p.Duplicates != 0 {
				t.Errorf("progress: got %+v, want complete, each counted once", p)
			}
		}
		if left := f.client.Keys(t.Context(), "pf:{j:*:s").Val(); len(left) != 0 {
			t.Errorf("got hashes of a job that one outcome settled in %q, want none", left)
		}
		if got := f.settle(t, settlement(9, 0, job.Accepted)); got[0].Duplicates != 1 {
			t.Errorf("another outcome of one of them: got %+v, want a duplicate", got)
		}
	})
}

// Scripts work through long lists in slices.
func TestSettleAndMarkMany(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		const n = 1001
		marks := store.Mark{Job: jobKey}
		results := make([]job.Result, n)
		for i := range n {
			marks.Recipients = append(marks.Recipients, store.Marked{Hash: uint64(i), Recipient: job.Recipient{Result: job.Accepted}})
			if results[i] = job.Accepted; i%2 == 1 {
				results[i] = job.Rejected
			}
		}
		if err := f.MarkSettled(t.Context(), []store.Mark{marks}); err != nil {
			t.Fatal(err)
		}
		if p := f.progress(t); len(p.Marked) != n {
			t.Errorf("got %d marks, want %d", len(p.Marked), n)
		}
		part := settlement(3, 0, results...)
		part.Hashes = append(part.Hashes, 0, n-1) // one recipient twice in an outcome is one
		part.Results = append(part.Results, job.Accepted, job.Accepted)
		for i, want := range []int{n, 0} {
			if got := f.settle(t, part); got[0].Counted != want || got[0].Duplicates != 0 {
				t.Errorf("%d. time: got %+v, want %d counted", i+1, got, want)
			}
		}
		if got := f.settle(t, complete(settlement(4, n-2, job.Accepted, job.Accepted, job.Accepted), n+1)); got[0].Counted != 1 || got[0].Duplicates != 2 {
			t.Errorf("overlapping: got %+v, want 1 counted and 2 duplicates", got)
		}
		if p := f.progress(t); !p.Complete || p.Counts[job.Accepted] != n/2+2 || p.Counts[job.Rejected] != n/2 {
			t.Errorf("progress: got %+v", p)
		}
	})
}

func TestHandBack(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.settle(t, settlement(1, 0, job.Accepted))
		at := time.UnixMilli(1_800_000_060_000)
		err := f.HandBack(t.Context(), jobKey, store.HandBack{RetryAt: at, Attempts: 2, Waiting: map[uint64]store.Wait{
			0: {Attempts: 9, RetryAt: at}, // settled: stays
			5: {Attempts: 3, RetryAt: at.Add(time.Minute)},
		}})
		if err != nil {
			t.Fatal(err)
		}
		p := f.progress(t)
		if !p.RetryAt.Equal(at) || p.Attempts != 2 || len(p.Settled) != 1 || len(p.Waiting) != 1 {
			t.Errorf("progress: got %+v", p)
		}
		if w := p.Waiting[5]; w.Attempts != 3 || !w.RetryAt.Equal(at.Add(time.Minute)) {
			t.Errorf("waiting: got %+v", w)
		}
		got := f.settle(t, complete(settlement(2, 5, job.Accepted), 2))
		if p := f.progress(t); got[0].Counted != 1 || !p.Complete || !p.RetryAt.IsZero() || p.Counts[job.Accepted] != 2 {
			t.Errorf("settled at last: got %+v, progress %+v", got, p)
		}
	})
}

func TestGuard(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		claim := func(id string, seq uint64) store.Claim {
			return store.Claim{App: app, Lane: job.Bulk, ID: id, Sequence: seq}
		}
		other := claim("a", 3)
		other.App = "news"
		got, err := f.Guard(t.Context(), []store.Claim{claim("a", 1), claim("b", 2), claim("a", 3), other})
		if err != nil {
			t.Fatal(err)
		}
		if want := []store.Claimed{store.First, store.First, store.Taken, store.First}; !slices.Equal(got, want) {
			t.Errorf("claims: got %v, want %v", got, want)
		}
		if ttl := f.client.TTL(t.Context(), "pf:guard:shop/bulk/b").Val(); ttl < 23*time.Hour || ttl > 24*time.Hour {
			t.Errorf("after the first claim: guard lives for %s, want a day", ttl)
		}
		// The message that has the id comes again: never a duplicate.
		got, err = f.Guard(t.Context(), []store.Claim{claim("a", 1), claim("a", 3)})
		if err != nil || !slices.Equal(got, []store.Claimed{store.Again, store.Taken}) {
			t.Errorf("claims again: got %v, %v", got, err)
		}
		const key = "pf:guard:shop/bulk/a"
		if ttl := f.client.TTL(t.Context(), key).Val(); ttl < 23*time.Hour || ttl > 24*time.Hour {
			t.Errorf("guard lives for %s, want a day", ttl)
		}
		// A message that is tried for days keeps its id: else another one could take
		// it, and the redelivery would be dropped as the duplicate.
		if err := f.client.Expire(t.Context(), key, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Guard(t.Context(), []store.Claim{claim("a", 3)}); err != nil {
			t.Fatal(err)
		}
		if ttl := f.client.TTL(t.Context(), key).Val(); ttl > time.Minute {
			t.Errorf("after another message's claim: guard lives for %s, want it unchanged", ttl)
		}
		if _, err := f.Guard(t.Context(), []store.Claim{claim("a", 1)}); err != nil {
			t.Fatal(err)
		}
		if ttl := f.client.TTL(t.Context(), key).Val(); ttl < 23*time.Hour {
			t.Errorf("after a redelivery: guard lives for %s, want a day again", ttl)
		}
	})
}

// After a fail-over outcomes are applied again: a second outcome of a recipient
// counts as one duplicate all the same, and so do two of one message.
func TestDuplicatesAreCountedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		first := whole(settlement(7, 0, job.Accepted, job.Accepted, job.Accepted))
		f.settle(t, first)
		second := settlement(9, 0, job.Accepted)
		other := settlement(9, 2, job.Accepted) // of the other environment
		for range 3 {
			f.settle(t, first, second, other)
		}
		if p := f.progress(t); p.Duplicates != 2 || p.Counts[job.Accepted] != 3 || !p.Complete {
			t.Errorf("got %+v, want 3 accepted and 2 duplicates", p)
		}
	})
}
