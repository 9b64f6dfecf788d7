package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
)

func (f *fixture) jobStatus(t *testing.T) store.JobStatus {
	t.Helper()
	st, err := f.JobStatus(t.Context(), jobKey)
	if err != nil {
		t.Fatalf("JobStatus: %v", err)
	}
	return st
}

// settledBy is what a status says of recipients, in short.
func settledBy(st *store.JobStatus, hashes ...uint64) string {
	s := ""
	for _, h := range hashes {
		sequence, known := st.SettledBy(h)
		if !known {
			s += "? "
			continue
		}
		s += fmt.Sprint(sequence, " ")
	}
	return s
}

func TestJobStatusOfNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		st := f.jobStatus(t)
		if st.Message != 0 || st.Outcomes != nil || st.Complete || !st.RetryAt.IsZero() || len(st.Counts) != 0 {
			t.Errorf("got %+v, want nothing", st)
		}
		if got, want := settledBy(&st, 1), "0 "; got != want {
			t.Errorf("settled by: got %s, want %s", got, want)
		}
	})
}

func TestJobStatusBeforeAnOutcome(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		if _, err := f.Guard(t.Context(), []store.Claim{{App: app, Lane: jobKey.Lane, ID: jobKey.ID, Sequence: 17}}); err != nil {
			t.Fatal(err)
		}
		retryAt := time.UnixMilli(1_800_000_060_000)
		if err := f.HandBack(t.Context(), jobKey, store.HandBack{RetryAt: retryAt, Attempts: 2, Waiting: map[uint64]store.Wait{5: {Attempts: 1, RetryAt: retryAt}}}); err != nil {
			t.Fatal(err)
		}
		st := f.jobStatus(t)
		if st.Message != 17 || !st.RetryAt.Equal(retryAt) || st.Attempts != 2 || st.Outcomes != nil || st.Waiting[5].Attempts != 1 {
			t.Errorf("got %+v, want message 17, to be tried again", st)
		}
		if got, want := settledBy(&st, 5), "0 "; got != want {
			t.Errorf("settled by: got %s, want %s: it waits", got, want)
		}
	})
}

// The usual job: one outcome told it all.
func TestJobStatusOfOneOutcome(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		f.settle(t, whole(settlement(7, 0, job.Accepted, job.Rejected)))
		st := f.jobStatus(t)
		if !st.Complete || !slices.Equal(st.Outcomes, []uint64{7}) {
			t.Errorf("got %+v, want it complete by 7", st)
		}
		// A second one counts for nobody.
		f.settle(t, whole(settlement(8, 0, job.Accepted, job.Accepted)))
		if st = f.jobStatus(t); !slices.Equal(st.Outcomes, []uint64{7}) || st.Duplicates != 2 {
			t.Errorf("a second one: got %+v, want 7 and 2 duplicates", st)
		}
		if got, want := settledBy(&st, 0, 1), "7 7 "; got != want {
			t.Errorf("settled by: got %s, want %s", got, want)
		}
	})
}

// What is settled in parts has a place for each, whatever is applied again, and
// forgets after a while which recipient was in which.
func TestJobStatusOfParts(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		first, last := settlement(110, 0, job.Accepted, job.Failed), complete(settlement(9, 2, job.Accepted), 3)
		f.settle(t, first, first)
		st := f.jobStatus(t)
		if st.Complete || !slices.Equal(st.Outcomes, []uint64{110}) {
			t.Errorf("a part: got %+v, want 110 and the rest open", st)
		}
		if got, want := settledBy(&st, 0, 1, 2), "110 110 0 "; got != want {
			t.Errorf("settled by: got %s, want %s", got, want)
		}
		f.settle(t, last, settlement(120, 0, job.Accepted)) // the latter is a duplicate
		st = f.jobStatus(t)
		if !st.Complete || !slices.Equal(st.Outcomes, []uint64{9, 110}) || st.Duplicates != 1 {
			t.Errorf("all: got %+v, want it complete by 9 and 110", st)
		}
		if got, want := settledBy(&st, 0, 1, 2), "110 110 9 "; got != want {
			t.Errorf("settled by: got %s, want %s", got, want)
		}
		if err := f.client.Del(t.Context(), "pf:{j:shop/bulk/order/4711}}:s").Err(); err != nil { // an hour later
			t.Fatal(err)
		}
		if st = f.jobStatus(t); !slices.Equal(st.Outcomes, []uint64{9, 110}) {
			t.Errorf("later: got %+v, want the places", st)
		}
		if got, want := settledBy(&st, 0), "? "; got != want {
			t.Errorf("settled by: got %s, want %s", got, want)
		}
	})
}

// A job that is told in very many messages does not outgrow its hash.
func TestJobStatusIsBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		var all []store.Settlement
		for n := range 200 {
			all = append(all, settlement(uint64(1000+n), n, job.Accepted))
		}
		f.settle(t, all...)
		st := f.jobStatus(t)
		if n := len(st.Outcomes); n < 90 || n > 96 || st.Outcomes[0] != 1000 || st.Counts[job.Accepted] != 200 {
			t.Errorf("got %d places from %d on, %v, want some ninety, the first ones, and 200 counted", n, st.Outcomes[0], st.Counts)
		}
	})
}

// A range has no places: its outcomes are found by their subject.
func TestRangesHaveNoPlaces(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		part := settlement(7, 0, job.Accepted)
		part.Job = store.JobKey{App: app, Lane: job.Bulk, Campaign: "spring", Range: 1}
		f.settle(t, part)
		for field := range f.client.HGetAll(t.Context(), "pf:{c:shop/spring/0}:1:p").Val() {
			if field[0] == 'o' {
				t.Errorf("got field %s, want none", field)
			}
		}
	})
}

func TestKeepJobs(t *testing.T) {
	t.Parallel()
	client := testenv.Redis(t).Client
	for keep, want := range map[time.Duration]time.Duration{0: 24 * time.Hour, 72 * time.Hour: 72 * time.Hour} {
		f := &fixture{Store: store.New(client, store.Config{KeepJobs: keep}), client: client}
		for name, st := range map[string]store.Settlement{"whole": whole(settlement(7, 0, job.Accepted)), "part": settlement(7, 0, job.Accepted)} {
			st.Job.ID = name + keep.String()
			f.settle(t, st)
			if got := client.TTL(t.Context(), "pf:{j:shop/bulk/"+st.Job.ID+"}:p").Val(); got > want || got < want-time.Minute {
				t.Errorf("%s, keep %s: got %s to live, want %s", name, keep, got, want)
			}
		}
	}
}
