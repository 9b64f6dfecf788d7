package store_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/store"
)

func TestAppCounts(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		at := time.UnixMilli(1_800_000_000_000)
		told := func(app string, sequence uint64, at time.Time, accepted, failed int64) store.Told {
			return store.Told{App: app, Sequence: sequence, At: at, Counts: store.Counts{Accepted: accepted, Failed: failed}}
		}
		count := func(list ...store.Told) {
			t.Helper()
			if err := f.CountTold(t.Context(), list); err != nil {
				t.Fatal(err)
			}
		}
		want := func(what string, want map[string]store.Counts) {
			t.Helper()
			got, err := f.AppCounts(t.Context())
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %v, %v, want %v", what, got, err, want)
			}
		}
		count()
		want("nothing", map[string]store.Counts{})
		first := []store.Told{told("shop", 511, at, 7, 1), told("shop", 512, at, 100, 0), told("news", 513, at, 0, 5)}
		count(first...)
		count(first[1])
		count(append(first, told("shop", 514, at, 1000, 2))...) // some of it again
		want("each once", map[string]store.Counts{"shop": {Accepted: 1107, Failed: 3}, "news": {Failed: 5}})
		// An OUTCOMES that was made anew counts from one again.
		count(told("shop", 512, at.Add(time.Hour), 1, 0))
		want("another message of that number", map[string]store.Counts{"shop": {Accepted: 1108, Failed: 3}, "news": {Failed: 5}})
	})
}
