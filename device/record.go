package device

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// State says whether a device token may be used.
type State uint8

// The states. Their numbers are stored.
const (
	Live        State = iota // may be sent to
	Quarantined              // APNs rejected it in a way that may be our mistake: not used, not forgotten
	Removed                  // a tombstone: not used, and remembered so that it stays so
	states
)

var stateNames = [states]string{"live", "quarantined", "removed"}

// String returns "live", "quarantined" or "removed".
func (s State) String() string {
	if s >= states {
		return fmt.Sprintf("state(%d)", uint8(s))
	}
	return stateNames[s]
}

// Key stands for a user's or an install's id wherever the id itself would be
// too long. The zero Key stands for none.
type Key [16]byte

// KeyOf returns the key of an id; "" has the zero Key.
//
// It is half of a SHA-256: ids may be chosen by strangers, and two that collide
// would send one user's notifications to the other's phone.
func KeyOf(id string) Key {
	var k Key
	if id != "" {
		sum := sha256.Sum256([]byte(id))
		copy(k[:], sum[:])
	}
	return k
}

// IsZero reports whether k stands for no id.
func (k Key) IsZero() bool { return k == Key{} }

// Record is what the token set keeps of one device token in its packed form,
// and is the truth about it: indexes are only hints. It is comparable.
type Record struct {
	// RegisteredAt is the last registration, in milliseconds since the epoch by
	// the token set's clock: seconds would let a 410 delete a token that was
	// registered anew within the second. 0: never registered, only removed.
	RegisteredAt int64
	// Generation counts registrations, through removals too; 0: never registered.
	// It also rises when APNs accepts a quarantined device token.
	Generation uint32

	Environment Environment
	Kind        Kind
	State       State
	Accepted    bool // APNs took a notification for it before

	// ChangedAt is when it was removed or first rejected, in milliseconds since
	// the epoch, and Reason is why. Both are zero if it is live.
	ChangedAt int64
	Reason    Reason
	// Rejections counts the rejections of a quarantined device token that were at
	// least a day apart, up to 255; zero in other states.
	Rejections uint8

	User, Install Key // zero: none

	// References to tables of locales, time zones and app versions; 0 is none.
	LocaleRef, ZoneRef, VersionRef uint16

	Details  bool // more is kept beside the record
	Replaces bool // an older device token is still to be removed in favour of this one
}

// Registered is RegisteredAt as a time; the zero time if it was never registered.
func (r Record) Registered() time.Time {
	if r.RegisteredAt == 0 {
		return time.Time{}
	}
	return time.UnixMilli(r.RegisteredAt)
}

// Usable reports whether notifications may be sent to the device token.
func (r Record) Usable() bool { return r.State == Live }

// MaxRecordBytes is the longest packed record. It must not exceed Redis's
// default hash-max-listpack-value: one longer value would turn its whole bucket
// into a hash table, at twice the memory.
const MaxRecordBytes = headBytes + 8 + 2*len(Key{}) + refsBytes

// The packed form, version 1; numbers are big endian. store/lua/record.lua
// reads and writes it too.
//
//	0      version
//	1      environment (upper 3 bits), kind (lower 5)
//	2      state (lowest 2 bits) and flags
//	3-8    RegisteredAt
//	9-12   Generation
//	+6 +1  ChangedAt, Reason       if not live
//	+1     Rejections              if quarantined
//	+16    User                    if flagUser
//	+16    Install                 if flagInstall
//	+2+2+2 locale, zone, version   if flagRefs
const (
	recordVersion = 1
	headBytes     = 13
	refsBytes     = 6

	stateMask    = 3
	flagAccepted = 1 << 2
	flagUser     = 1 << 3
	flagInstall  = 1 << 4
	flagRefs     = 1 << 5
	flagDetails  = 1 << 6
	flagReplaces = 1 << 7

	kindBits = 5
	maxMilli = 1<<48 - 1 // in the year 10889
)

// ErrRecord is what errors of [ParseRecord] wrap.
var ErrRecord = errors.New("device: packed record cannot be read")

// Append appends the packed form of r, of at most [MaxRecordBytes], to dst.
// Times outside 1970 to 10889 are brought to the nearer end.
func (r Record) Append(dst []byte) []byte {
	flags := byte(r.State) & stateMask
	for _, f := range [...]struct {
		on  bool
		bit byte
	}{
		{r.Accepted, flagAccepted},
		{!r.User.IsZero(), flagUser},
		{!r.Install.IsZero(), flagInstall},
		{r.LocaleRef|r.ZoneRef|r.VersionRef != 0, flagRefs},
		{r.Details, flagDetails},
		{r.Replaces, flagReplaces},
	} {
		if f.on {
			flags |= f.bit
		}
	}
	dst = append(dst, recordVersion, r.head(), flags)
	dst = appendMilli(dst, r.RegisteredAt)
	dst = binary.BigEndian.AppendUint32(dst, r.Generation)
	if r.State != Live {
		dst = appendMilli(dst, r.ChangedAt)
		dst = append(dst, byte(r.Reason))
	}
	if r.State == Quarantined {
		dst = append(dst, r.Rejections)
	}
	if flags&flagUser != 0 {
		dst = append(dst, r.User[:]...)
	}
	if flags&flagInstall != 0 {
		dst = append(dst, r.Install[:]...)
	}
	if flags&flagRefs != 0 {
		dst = binary.BigEndian.AppendUint16(dst, r.LocaleRef)
		dst = binary.BigEndian.AppendUint16(dst, r.ZoneRef)
		dst = binary.BigEndian.AppendUint16(dst, r.VersionRef)
	}
	return dst
}

func (r Record) head() byte {
	return byte(r.Environment)<<kindBits | byte(r.Kind)&(1<<kindBits-1)
}

// ParseRecord reads a packed record. It is strict: there is one packed form for
// each Record, and anything else is an error that wraps [ErrRecord]. A kind that
// this version does not know is taken as it is.
func ParseRecord(s string) (Record, error) {
	if len(s) < headBytes {
		return Record{}, fmt.Errorf("%w: %d bytes are too few", ErrRecord, len(s))
	}
	if s[0] != recordVersion {
		return Record{}, fmt.Errorf("%w: version %d is not known here", ErrRecord, s[0])
	}
	flags := s[2]
	r := Record{
		RegisteredAt: milli(s[3:9]),
		Generation:   uint32(s[9])<<24 | uint32(s[10])<<16 | uint32(s[11])<<8 | uint32(s[12]),
		Environment:  Environment(s[1] >> kindBits),
		Kind:         Kind(s[1] & (1<<kindBits - 1)),
		State:        State(flags & stateMask),
		Accepted:     flags&flagAccepted != 0,
		Details:      flags&flagDetails != 0,
		Replaces:     flags&flagReplaces != 0,
	}
	if r.Environment > Sandbox {
		return Record{}, fmt.Errorf("%w: environment %d is not known here", ErrRecord, r.Environment)
	}
	want := headBytes
	switch r.State {
	case Live:
	case Quarantined:
		want += 8
	case Removed:
		want += 7
	default:
		return Record{}, fmt.Errorf("%w: state %d is not known here", ErrRecord, r.State)
	}
	tail := want
	if flags&flagUser != 0 {
		want += len(r.User)
	}
	if flags&flagInstall != 0 {
		want += len(r.Install)
	}
	if flags&flagRefs != 0 {
		want += refsBytes
	}
	if len(s) != want {
		return Record{}, fmt.Errorf("%w: %d bytes where its flags ask for %d", ErrRecord, len(s), want)
	}
	if r.State != Live {
		r.ChangedAt, r.Reason = milli(s[13:19]), Reason(s[19])
	}
	if r.State == Quarantined {
		r.Rejections = s[20]
	}
	s = s[tail:]
	if flags&flagUser != 0 {
		s = s[copy(r.User[:], s):]
		if r.User.IsZero() {
			return Record{}, fmt.Errorf("%w: flagged user is empty", ErrRecord)
		}
	}
	if flags&flagInstall != 0 {
		s = s[copy(r.Install[:], s):]
		if r.Install.IsZero() {
			return Record{}, fmt.Errorf("%w: flagged install is empty", ErrRecord)
		}
	}
	if flags&flagRefs != 0 {
		r.LocaleRef = uint16(s[0])<<8 | uint16(s[1])
		r.ZoneRef = uint16(s[2])<<8 | uint16(s[3])
		r.VersionRef = uint16(s[4])<<8 | uint16(s[5])
		if r.LocaleRef|r.ZoneRef|r.VersionRef == 0 {
			return Record{}, fmt.Errorf("%w: flagged references are empty", ErrRecord)
		}
	}
	return r, nil
}

func appendMilli(dst []byte, ms int64) []byte {
	n := uint64(min(max(ms, 0), maxMilli))
	return append(dst, byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func milli(s string) int64 {
	return int64(s[0])<<40 | int64(s[1])<<32 | int64(s[2])<<24 | int64(s[3])<<16 | int64(s[4])<<8 | int64(s[5])
}
