package stream

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
)

// Times counts how often something took how long. Those of many workers can be added:
// a quantile of the sum is the fleet's, where a mean of quantiles is nobody's.
type Times []Bucket

// Bucket is how many took longer than From and no longer than To, in milliseconds.
type Bucket struct {
	From, To float64
	N        uint64
}

// MarshalJSON writes [from, to, n].
func (b Bucket) MarshalJSON() ([]byte, error) {
	return json.Marshal([3]float64{b.From, b.To, float64(b.N)}) //nolint:wrapcheck // three numbers
}

// UnmarshalJSON reads [from, to, n].
func (b *Bucket) UnmarshalJSON(text []byte) error {
	var v [3]float64
	if err := json.Unmarshal(text, &v); err != nil {
		return fmt.Errorf("read bucket: %w", err)
	}
	if v[0] < 0 || v[1] < v[0] || v[2] < 0 {
		return fmt.Errorf("read bucket: %v is not from, to and how many", v)
	}
	*b = Bucket{From: v[0], To: v[1], N: uint64(v[2])}
	return nil
}

// Add returns the sum of both, in the order of the buckets. Neither is changed.
func (t Times) Add(other Times) Times {
	all := slices.Concat(t, other)
	slices.SortFunc(all, func(a, b Bucket) int { return cmp.Or(cmp.Compare(a.To, b.To), cmp.Compare(a.From, b.From)) })
	var sum Times
	for _, b := range all {
		if last := len(sum) - 1; last >= 0 && sum[last].From == b.From && sum[last].To == b.To {
			sum[last].N += b.N
			continue
		}
		sum = append(sum, b)
	}
	return sum
}

// Quantile returns about how many milliseconds a share q of all took at the most, and
// false if there are none. It is as exact as the bucket that it falls into is narrow.
func (t Times) Quantile(q float64) (ms float64, ok bool) {
	var total uint64
	for _, b := range t {
		total += b.N
	}
	if total == 0 {
		return 0, false
	}
	rank, before := q*float64(total), 0.0
	for _, b := range t.Add(nil) {
		n := float64(b.N)
		if n > 0 && before+n >= rank {
			return b.From + (b.To-b.From)*max(0, rank-before)/n, true
		}
		before += n
		ms = b.To
	}
	return ms, true
}
