package job_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// sampleJob is a job like most: an alert with a little data.
func sampleJob(tokens int) *job.Job {
	j := &job.Job{
		ID: "order-4711-shipped",
		Notification: &job.Notification{
			Title: "Shipped", Body: "Order 4711 is on its way",
			Badge: new(1), Sound: job.Sound{Name: "default"}, ThreadID: "orders",
		},
		Data: []byte(`{"order":4711}`),
		TTL:  4 * time.Hour, HasTTL: true,
	}
	for i := range tokens {
		j.To.Tokens = append(j.To.Tokens, tokenNumber(i))
	}
	return j
}

// tokenNumber is the i-th of many device tokens of 32 bytes.
func tokenNumber(i int) device.Token {
	t, err := device.ParseToken(fmt.Sprintf("%016x%048x", uint64(i)*0x9e3779b97f4a7c15, i))
	if err != nil {
		panic(err)
	}
	return t
}

func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatalf("got error %v, want none", err)
	}
	return v
}

func BenchmarkParse(b *testing.B) {
	for _, tokens := range []int{1, 100, 1000} {
		j := sampleJob(tokens)
		asJSON, err := j.AppendJSON(nil)
		must(b, asJSON, err)
		asCompact, err := job.AppendCompact(nil, j)
		must(b, asCompact, err)
		for name, data := range map[string][]byte{"json": asJSON, "compact": asCompact} {
			b.Run(fmt.Sprintf("%s/tokens=%d", name, tokens), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					if _, err := job.Parse(data); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(tokens), "ns/token")
			})
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	j := sampleJob(100)
	var buf []byte
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = j.AppendJSON(buf[:0])
		}
	})
	b.Run("compact", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = job.AppendCompact(buf[:0], j)
		}
	})
	b.Run("payload", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := j.RenderPayload(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkIdentity(b *testing.B) {
	ids, t := job.NewAPNsIDs("shop", "order-4711"), tokenNumber(7)
	b.Run("apns-id", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ids.ID(t)
		}
	})
	b.Run("recipient-hash", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			job.RecipientHash(t)
		}
	})
}

func BenchmarkOutcomes(b *testing.B) {
	o := manyOutcomes([2]int{990, 10})
	data := o.AppendJSON(nil)
	b.Run("append/recipients=1000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			data = o.AppendJSON(data[:0])
		}
	})
	b.Run("parse/recipients=1000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := job.ParseOutcomes(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("split/recipients=1000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			o.Split(1<<20, 1000)
		}
	})
}
