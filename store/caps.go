package store

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// CapClaim asks whether a campaign may come to somebody under a frequency cap.
type CapClaim struct {
	// Who is capped: the key of a user, of an install, or of the raw bytes of a device
	// token.
	Who  device.Key
	Kind string // of campaigns: each has caps of its own
	By   string // the campaign's id
	// Max campaigns may come within Per, which counts in whole seconds, one at least.
	Max int
	Per time.Duration
	// Override counts, and is always granted.
	Override bool
}

// The buckets of caps, and what is in them.
const (
	// capBuckets is their number, for good. choice: with ten million users a bucket
	// has 150, and is a listpack.
	capBuckets  = 1 << 16
	capWhoBytes = 12 // of a hash of kind and who: two that meet are one in 10^28
	capByBytes  = 6  // of a hash of the campaign's id
)

// UseCaps counts campaigns against frequency caps, and reports in order which are
// granted: those of a campaign that was counted within the window before, without
// counting it again, and those that are not the first too many. It may be repeated.
//
// Claims on the same person count in their order.
func (s *Store) UseCaps(ctx context.Context, app string, claims []CapClaim) ([]bool, error) {
	if !validApp(app) {
		return nil, fmt.Errorf("use %d frequency caps: an app's name is letters, digits, - and _", len(claims))
	}
	whos := make([][capWhoBytes]byte, len(claims))
	bys := make(map[string]string)
	for i := range claims {
		c := &claims[i]
		sum := sha256.Sum256(append([]byte(c.Kind), c.Who[:]...)) // a key has always the same length
		copy(whos[i][:], sum[:])
		if _, ok := bys[c.By]; !ok {
			sum := sha256.Sum256([]byte(c.By))
			bys[c.By] = string(sum[:capByBytes])
		}
	}
	groups := group(len(claims), scriptItems, func(i int) uint32 {
		return binary.BigEndian.Uint32(whos[i][:]) % capBuckets
	})
	calls := make([]call, len(groups))
	for g, members := range groups {
		bucket := binary.BigEndian.Uint32(whos[members[0]][:]) % capBuckets
		args := append(make([]any, 0, 1+5*len(members)), s.now())
		for _, i := range members {
			c := &claims[i]
			override := 0
			if c.Override {
				override = 1
			}
			args = append(args, string(whos[i][:]), bys[c.By], c.Max, max(int(c.Per.Seconds()), 1), override)
		}
		calls[g] = call{keys: []string{capsKey(app, bucket)}, args: args}
	}
	if err := s.run(ctx, "caps", calls); err != nil {
		return nil, fmt.Errorf("use %d frequency caps of app %q: %w", len(claims), app, err)
	}
	granted := make([]bool, len(claims))
	for g, members := range groups {
		reply, err := calls[g].ints(len(members))
		if err != nil {
			return nil, fmt.Errorf("use frequency caps of app %q: %w", app, err)
		}
		for n, i := range members {
			granted[i] = reply[n] == 1
		}
	}
	return granted, nil
}
