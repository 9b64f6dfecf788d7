package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// The keys of the fuse; <n> is [FuseWindow.Revision].
//
//	pf:{<app>:fuse:<environment>}:w<n>    HASH    a<slot>, r<slot> -> sends, rejections; run, since; tripped, rejected, sent
//	pf:{<app>:fuse:<environment>}:q<n>    ZSET    rejection (packRejection) -> when it was counted, in milliseconds
//	pf:{<app>:fuse:<environment>}:canary  STRING  a canary was sent
func (w FuseWindow) key(kind string) string {
	return "pf:{" + w.App + ":fuse:" + w.Environment.String() + "}:" + kind
}

func (w FuseWindow) keys() []string {
	n := strconv.FormatUint(w.Revision, 10)
	return []string{w.key("w" + n), w.key("q" + n)}
}

// When a fuse trips.
const (
	// DefaultFuseWindow is how far back it looks.
	DefaultFuseWindow = time.Minute
	// fuseSlots is how many ends of the window are looked at: 10 s and more.
	fuseSlots = 6
	// fuseLeast is how many rejections trip it: so many that were accepted before
	// and are not now is no chance.
	fuseLeast = 200
	// fusePercent is the share of sends that must be rejected. choice: healthy fleets
	// see well below one in a hundred.
	fusePercent = 5
	// fuseRemembered bounds what can be undone, and so what is done: rejections
	// beyond it are not applied within one window.
	fuseRemembered = 1000
	// fuseTTL is how long a window is kept for a fleet that is down after it tripped.
	fuseTTL = 7 * 24 * time.Hour
)

// FuseWindow names the counters of the fuse of an app and environment. Revision
// tells those before it tripped from those after it was reset.
type FuseWindow struct {
	App         string
	Environment device.Environment
	Revision    uint64
}

// Rejection is a notification to a registered device token that was accepted
// before, which APNs rejected as if the device token were wrong.
type Rejection struct {
	Token      device.Token
	Generation uint32 // of its record when it was sent to
	Lane       job.Lane
	JobID      string // its own, as in [JobKey]
	Campaign   string // of a range of it: its id, and the range's number
	Range      int
	Sequence   uint64 // of the outcome in OUTCOMES
}

// Sends is what one outcomes message tells of sends to registered device tokens
// that were accepted before.
type Sends struct {
	Accepted   int // 200
	Others     int // answered in another way that is not a Rejection
	Rejections []Rejection
}

// Counted is what the fuse makes of sends.
type Counted struct {
	// Tripped: too many were rejected, now or earlier; Rejected of Sent is what it
	// was decided on.
	Tripped        bool
	Rejected, Sent int
	// Remembered tells for each rejection, in order over all messages, that it can be
	// undone: only those may be applied. Nil if Tripped.
	Remembered []bool
}

// CountSends counts sends, in the order of messages, and decides whether the
// fuse trips. What was counted before is not counted again. Once a window has
// tripped it stays so.
func (s *Store) CountSends(ctx context.Context, w FuseWindow, messages []Sends) (Counted, error) {
	args := []any{
		s.now(), s.FuseWindow().Milliseconds() / fuseSlots, fuseSlots, fuseLeast, fusePercent, fuseRemembered, int(fuseTTL.Seconds()),
	}
	var listed []int // of each message
	total, room := 0, fuseRemembered
	for i := range messages {
		m := &messages[i]
		// More than can be remembered need not be named.
		n := min(len(m.Rejections), room)
		room -= n
		args = append(args, m.Accepted, m.Others, len(m.Rejections)-n, n)
		for k := range m.Rejections[:n] {
			args = append(args, packRejection(&m.Rejections[k]))
		}
		listed = append(listed, n)
		total += len(m.Rejections)
	}
	n, err := s.fuseCall(ctx, w, "fuse_count", args)
	if err != nil {
		return Counted{}, fmt.Errorf("count sends of %s, %s: %w", w.App, w.Environment, err)
	}
	if n[0] == 1 {
		return Counted{Tripped: true, Rejected: int(n[1]), Sent: int(n[2])}, nil
	}
	c := Counted{Remembered: make([]bool, 0, total)}
	n = n[3:]
	for i := range messages {
		for k := range messages[i].Rejections {
			c.Remembered = append(c.Remembered, k < listed[i] && k < len(n) && n[k] == 1)
		}
		n = n[min(listed[i], len(n)):]
	}
	return c, nil
}

// fuseCall runs a script that decides about a window, and returns its numbers:
// three at least.
func (s *Store) fuseCall(ctx context.Context, w FuseWindow, name string, args []any) ([]int64, error) {
	calls := []call{{keys: w.keys(), args: args}}
	if err := s.run(ctx, name, calls); err != nil {
		return nil, err
	}
	reply, ok := calls[0].reply.([]any)
	if !ok {
		return nil, errReply
	}
	n, err := calls[0].ints(len(reply))
	if err != nil || len(n) < 3 {
		return nil, errReply
	}
	return n, nil
}

// RememberAgain is [Store.CountSends] for rejections that are told once more
// because Redis may have forgotten them: it counts nothing, and remembers what is
// not remembered.
func (s *Store) RememberAgain(ctx context.Context, w FuseWindow, list []Rejection) (Counted, error) {
	args := []any{s.now(), s.FuseWindow().Milliseconds(), fuseRemembered, int(fuseTTL.Seconds())}
	for i := range list[:min(len(list), fuseRemembered)] {
		args = append(args, packRejection(&list[i]))
	}
	n, err := s.fuseCall(ctx, w, "fuse_again", args)
	if err != nil {
		return Counted{}, fmt.Errorf("remember rejections of %s, %s again: %w", w.App, w.Environment, err)
	}
	if n[0] == 1 {
		return Counted{Tripped: true, Rejected: int(n[1]), Sent: int(n[2])}, nil
	}
	c := Counted{Remembered: make([]bool, len(list))}
	for i, one := range n[3:] {
		c.Remembered[i] = one == 1
	}
	return c, nil
}

// FuseWindow returns how far back the fuse looks, and so how long a rejection
// may still be taken back.
func (s *Store) FuseWindow() time.Duration { return s.cfg.FuseWindow }

// FuseTripped reports whether a window has tripped.
func (s *Store) FuseTripped(ctx context.Context, w FuseWindow) (bool, error) {
	tripped, err := s.client.HExists(ctx, w.keys()[0], "tripped").Result()
	if err != nil {
		return false, fmt.Errorf("read fuse of %s, %s: %w", w.App, w.Environment, err)
	}
	return tripped, nil
}

// Remembered returns the rejections of a window, which may have been applied.
func (s *Store) Remembered(ctx context.Context, w FuseWindow) ([]Rejection, error) {
	members, err := s.client.ZRange(ctx, w.keys()[1], 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read rejections of %s, %s: %w", w.App, w.Environment, err)
	}
	list := make([]Rejection, len(members))
	for i, m := range members {
		if list[i], err = unpackRejection(m); err != nil {
			return nil, fmt.Errorf("read rejections of %s, %s: %w", w.App, w.Environment, err)
		}
	}
	return list, nil
}

// TakenBack is what [Store.TakeBack] did.
type TakenBack struct {
	Released int // device tokens that were quarantined
	Opened   int // recipients that are to be sent to again
}

// TakeBack undoes rejections of an app: their device tokens are live again if
// the rejection has put them into quarantine, and their recipients are not
// settled. What was not applied is not applied later at the same generation. It
// may be repeated.
func (s *Store) TakeBack(ctx context.Context, app string, list []Rejection) (TakenBack, error) {
	var did TakenBack
	l, err := s.layout(ctx, app)
	if err != nil || len(list) == 0 {
		return did, err
	}
	// Recipients first: a device token that is used again is sent to again.
	byJob := make(map[JobKey]int)
	var holds []call
	for i := range list {
		k := JobKey{App: app, Lane: list[i].Lane, ID: list[i].JobID, Campaign: list[i].Campaign, Range: list[i].Range}
		n, ok := byJob[k]
		if !ok {
			n = len(holds)
			byJob[k] = n
			holds = append(holds, call{keys: progressKeys(k), args: []any{s.progressSeconds(k), int(totalsTTL.Seconds())}})
		}
		holds[n].args = append(holds[n].args, hashField(job.RecipientHash(list[i].Token)), list[i].Sequence)
	}
	err = s.run(ctx, "progress_hold", holds)
	if err == nil {
		did.Opened, err = sum(holds)
	}
	if err == nil {
		parts := s.onBuckets(ctx, l, bucketScript{
			name: "fuse_release", kinds: "d", items: len(list),
			token: func(i int) device.Token { return list[i].Token },
			args:  func(dst []any, i int) []any { return append(dst, list[i].Generation) },
		})
		releases := make([]call, len(parts))
		for i := range parts {
			releases[i] = parts[i].call
		}
		did.Released, err = sum(releases)
	}
	if err != nil {
		return did, fmt.Errorf("take back %d rejections of app %q: %w", len(list), app, err)
	}
	return did, nil
}

// ClaimCanary reports whether the caller may send canaries of an app and
// environment: one in the fleet may, once in an interval.
func (s *Store) ClaimCanary(ctx context.Context, app string, env device.Environment, interval time.Duration) (bool, error) {
	key := FuseWindow{App: app, Environment: env}.key("canary")
	err := s.client.SetArgs(ctx, key, 1, redis.SetArgs{Mode: "NX", TTL: interval}).Err()
	switch {
	case errors.Is(err, redis.Nil):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("claim canary of %s, %s: %w", app, env, err)
	}
	return true, nil
}

// The packed form of a rejection: version, generation, lane, sequence, length of
// the job's id, the id, the device token; numbers are big endian. Of a range of a
// campaign, which is the second version, its number in four bytes is before the
// length, and the id is the campaign's.
const (
	rejectionVersion = 1
	rejectionOfRange = 2

	rejectionHead = 1 + 4 + 1 + 8
)

func packRejection(r *Rejection) string {
	b := make([]byte, 0, rejectionHead+4+2+len(r.JobID)+len(r.Campaign)+r.Token.Len())
	version, id := byte(rejectionVersion), r.JobID
	if r.Campaign != "" {
		version, id = rejectionOfRange, r.Campaign
	}
	b = append(b, version)
	b = binary.BigEndian.AppendUint32(b, r.Generation)
	b = append(b, byte(r.Lane))
	b = binary.BigEndian.AppendUint64(b, r.Sequence)
	if version == rejectionOfRange {
		b = binary.BigEndian.AppendUint32(b, uint32(r.Range))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(len(id)))
	b = append(b, id...)
	return string(append(b, r.Token.Raw()...))
}

var errRejection = errors.New("a packed rejection is damaged, or a newer version wrote it")

func unpackRejection(s string) (Rejection, error) {
	b := []byte(s)
	if len(b) < rejectionHead || b[0] != rejectionVersion && b[0] != rejectionOfRange {
		return Rejection{}, errRejection
	}
	r := Rejection{
		Generation: binary.BigEndian.Uint32(b[1:]), Lane: job.Lane(b[5]), Sequence: binary.BigEndian.Uint64(b[6:]),
	}
	id := &r.JobID
	rest := b[rejectionHead:]
	if b[0] == rejectionOfRange {
		if len(rest) < 4 {
			return Rejection{}, errRejection
		}
		id, r.Range, rest = &r.Campaign, int(binary.BigEndian.Uint32(rest)), rest[4:]
	}
	if len(rest) < 2 {
		return Rejection{}, errRejection
	}
	n := int(binary.BigEndian.Uint16(rest))
	if rest = rest[2:]; len(rest) < n {
		return Rejection{}, errRejection
	}
	*id, r.Token = string(rest[:n]), device.TokenFromRaw(string(rest[n:]))
	return r, nil
}
