package apnstest_test

import (
	"math/rand/v2"
	"testing"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// TestAnswerQueue compares with a map, over many random histories.
func TestAnswerQueue(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var q apnstest.AnswerQueue
		want := make(map[uint32]int64) // due by stream
		first := func() int64 {
			due := int64(apnstest.Never)
			for _, d := range want {
				due = min(due, d)
			}
			return due
		}
		now, stream := int64(0), uint32(1)
		for range 500 {
			switch op := rng.IntN(100); {
			case op < 50:
				due := now + int64(rng.IntN(50))
				switch rng.IntN(20) {
				case 0:
					due = apnstest.Never
				case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10:
					due = now + 25
				}
				q.Push(stream, due)
				want[stream] = due
				stream += 2
			case op < 90:
				now += int64(rng.IntN(3))
				got := q.Pop(now)
				due := first()
				if due > now {
					if got != 0 {
						t.Fatalf("seed %d: got stream %d at %d, want none before %d", seed, got, now, due)
					}
					continue
				}
				if want[got] != due {
					t.Fatalf("seed %d: got stream %d, due %d, want one due %d", seed, got, want[got], due)
				}
				delete(want, got)
			case op < 99:
				s := uint32(rng.IntN(int(stream)))
				_, known := want[s]
				if got := q.Take(s); got != known {
					t.Fatalf("seed %d: take %d: got %v, want %v", seed, s, got, known)
				}
				delete(want, s)
			default:
				last, n := stream-min(stream, uint32(rng.IntN(30))), 0
				for s := range want {
					if s > last {
						delete(want, s)
						n++
					}
				}
				if got := q.TakeAbove(last); got != n {
					t.Fatalf("seed %d: take above %d: got %d, want %d", seed, last, got, n)
				}
			}
			waiting := 0
			for _, d := range want {
				if d != apnstest.Never {
					waiting++
				}
			}
			if all, w := q.Len(); all != len(want) || w != waiting || q.Next() != first() {
				t.Fatalf("seed %d: got %d, %d due ever, the first at %d, want %d, %d, %d", seed, all, w, q.Next(), len(want), waiting, first())
			}
		}
	}
}
