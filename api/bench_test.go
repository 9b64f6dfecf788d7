package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/testenv"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/store"
	"github.com/pushfleet/pushfleet/stream"
)

// BenchmarkStatus asks for the status of one of many jobs that are done, fifty of which
// share a message of OUTCOMES: it must not depend on how many there are.
func BenchmarkStatus(b *testing.B) {
	for _, jobs := range []int{1000, 100_000} {
		b.Run(fmt.Sprint("jobs=", jobs), func(b *testing.B) {
			js, set := testenv.NewJetStream(b), store.New(testenv.Redis(b).Client, store.Config{})
			door, err := api.New(api.Config{
				Keys: set, Registrations: set, TokenSet: set, Queue: js.Streams, Jobs: set, Apps: map[string]api.App{"shop": {Environment: device.Production}},
			})
			if err != nil {
				b.Fatal(err)
			}
			defer door.Close()
			key, record, err := api.NewKey(api.KeyConfig{Scopes: []api.Scope{api.ScopeRead}, AllApps: true}, time.Now())
			if err != nil {
				b.Fatal(err)
			}
			if err := set.CreateAPIKey(b.Context(), record); err != nil {
				b.Fatal(err)
			}
			fillOutcomes(b, js, set, jobs)
			n := 0
			for b.Loop() {
				n++
				r := httptest.NewRequest(http.MethodGet, fmt.Sprint("/v1/apps/shop/notifications/job-", n*7919%jobs), http.NoBody)
				r.Header.Set("Authorization", "Bearer "+key)
				w := httptest.NewRecorder()
				door.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					text, _ := io.ReadAll(w.Body)
					b.Fatalf("got %d %s", w.Code, text)
				}
			}
		})
	}
}

// fillOutcomes tells of so many jobs, as workers and recorders do.
func fillOutcomes(b *testing.B, js *testenv.JetStream, set *store.Store, jobs int) {
	b.Helper()
	const together = 50
	for first := 0; first < jobs; first += together {
		o := job.Outcomes{App: "shop", Worker: "w1", At: time.UnixMilli(1_800_000_000_035)}
		var settlements []store.Settlement
		sequence := uint64(first/together + 1)
		for n := first; n < first+together; n++ {
			jo := outcome(fmt.Sprint("job-", n), uint64(n+1), device.TokenFromRaw(fmt.Sprintf("%032d", n)))
			o.Jobs = append(o.Jobs, jo)
			settlements = append(settlements, store.Settlement{
				Job: store.JobKey{App: "shop", ID: jo.ID}, Sequence: sequence, Whole: true, Complete: true, Total: 1, Accepted: jo.Accepted,
			})
		}
		storing, err := js.PublishOutcomes(stream.OutcomesOf{App: "shop"}, fmt.Sprint(first), o.AppendJSON(nil))
		if err != nil {
			b.Fatal(err)
		}
		if err := storing.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
		if _, err := set.Settle(b.Context(), settlements); err != nil {
			b.Fatal(err)
		}
	}
}
