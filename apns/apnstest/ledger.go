package apnstest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// LedgerMode says how much a server remembers of what it received.
type LedgerMode uint8

// The modes. All of them count; only [LedgerFull] can say what a request was.
const (
	LedgerFull LedgerMode = iota // every request as a [Record], and what devices got
	LedgerHash                   // [Stats.Sums] and duplicates: for millions
	LedgerOff                    // counts only, no duplicates
)

// String returns full, hash or off.
func (m LedgerMode) String() string {
	switch m {
	case LedgerFull:
		return "full"
	case LedgerHash:
		return "hash"
	case LedgerOff:
		return "off"
	default:
		return fmt.Sprintf("ledger(%d)", uint8(m))
	}
}

// ParseLedgerMode reads what [LedgerMode.String] writes; "" is [LedgerFull].
func ParseLedgerMode(s string) (LedgerMode, error) {
	switch s {
	case "", "full":
		return LedgerFull, nil
	case "hash":
		return LedgerHash, nil
	case "off":
		return LedgerOff, nil
	default:
		return 0, fmt.Errorf("ledger mode must be full, hash or off, got %q", s)
	}
}

// Record is one request as a server received it, and what became of it.
type Record struct {
	APNsID      string `json:"apns_id"` // as answered: canonical; made by the server if there was none
	DeviceToken string `json:"device_token,omitempty"`
	Topic       string `json:"topic,omitempty"`
	PushType    string `json:"push_type,omitempty"`
	Priority    int    `json:"priority,omitempty"`   // 0: the header was absent
	Expiration  *int64 `json:"expiration,omitempty"` // Unix seconds; nil: the header was absent
	CollapseID  string `json:"collapse_id,omitempty"`
	ChannelID   string `json:"channel_id,omitempty"` // broadcasts only
	Body        string `json:"body"`

	Connection uint64    `json:"connection"` // counts from 1 over the server's life
	Stream     uint32    `json:"stream"`
	ReceivedAt time.Time `json:"received_at"`

	Status    int    `json:"status"` // 0: reset or ignored instead of being judged
	Reason    string `json:"reason,omitempty"`
	Timestamp int64  `json:"timestamp,omitempty"` // milliseconds, with 410 only
	// Answered says that the answer was handed to TLS; the client may still not
	// have seen it.
	Answered bool `json:"answered"`
	// Duplicate says that this pair of device token and apns-id was accepted before.
	Duplicate bool `json:"duplicate,omitempty"`
	// Withdrawn says that a GOAWAY with a lower last-stream-id disowned a request
	// that was accepted: it counts as not processed.
	Withdrawn bool `json:"withdrawn,omitempty"`
}

// Filter selects records. Zero fields select all.
type Filter struct {
	DeviceToken string // hexadecimal, any case
	APNsID      string // any case
	Limit       int    // at most so many, the newest; 0 is all
}

// Sum is a sum of hashes modulo 2^64: independent of order, so that a client can
// compute the same one over what it sent. In JSON it is 16 hex digits.
type Sum uint64

// String returns 16 hex digits.
func (s Sum) String() string { return fmt.Sprintf("%016x", uint64(s)) }

// MarshalText implements [encoding.TextMarshaler].
func (s Sum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Sum) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil || len(text) != 16 {
		return fmt.Errorf("sum must have 16 hex digits, got %q", text)
	}
	*s = Sum(v)
	return nil
}

// Sums are over all accepted notifications, repeated ones counted again.
type Sums struct {
	Tokens  Sum `json:"tokens"`  // of [TokenHash]
	Pairs   Sum `json:"pairs"`   // of [PairHash]
	Content Sum `json:"content"` // of [Notification.Hash]
}

// Add adds a notification. It makes a client's Sums comparable to a server's.
func (s *Sums) Add(n *Notification) {
	s.Tokens += Sum(TokenHash(n.DeviceToken))
	s.Pairs += Sum(PairHash(n.DeviceToken, n.APNsID))
	s.Content += Sum(n.Hash())
}

// Notification is what a request says, in the form that is hashed.
type Notification struct {
	DeviceToken []byte // raw, not hexadecimal
	APNsID      [16]byte
	Topic       string
	PushType    string
	Priority    int   // 0: header absent
	Expiration  int64 // Unix seconds; negative: header absent
	CollapseID  string
	Body        []byte
}

// TokenHash is xxHash64 (seed 0) of the raw device token.
func TokenHash(deviceToken []byte) uint64 { return xxhash.Sum64(deviceToken) }

// PairHash is xxHash64 of the raw device token followed by the apns-id's 16
// bytes. Two accepted notifications with the same pair are a duplicate.
func PairHash(deviceToken []byte, apnsID [16]byte) uint64 {
	var buf [maxTokenChars/2 + 16]byte
	return xxhash.Sum64(append(append(buf[:0], deviceToken...), apnsID[:]...))
}

// PayloadHash is xxHash64 of a payload, as a journal has it.
func PayloadHash(payload []byte) uint64 { return xxhash.Sum64(payload) }

// Hash is xxHash64 of everything that n says: token, apns-id, topic, push type,
// priority, expiration, collapse id and body, in this order; each text is
// preceded by its length as 32 bits, priority is 8 bits and expiration 64, all
// little-endian (an absent expiration is -1).
func (n *Notification) Hash() uint64 {
	return xxhash.Sum64(appendContent(nil, n.DeviceToken, &n.APNsID, []byte(n.Topic), []byte(n.PushType),
		n.Priority, n.Expiration, []byte(n.CollapseID), n.Body))
}

func appendContent(dst, token []byte, id *[16]byte, topic, pushType []byte, priority int, expiration int64, collapse, body []byte) []byte {
	le := binary.LittleEndian
	dst = append(le.AppendUint32(dst, uint32(len(token))), token...)
	dst = append(dst, id[:]...)
	dst = append(le.AppendUint32(dst, uint32(len(topic))), topic...)
	dst = append(le.AppendUint32(dst, uint32(len(pushType))), pushType...)
	dst = append(dst, byte(priority))
	dst = le.AppendUint64(dst, uint64(max(expiration, -1)))
	dst = append(le.AppendUint32(dst, uint32(len(collapse))), collapse...)
	return append(le.AppendUint32(dst, uint32(len(body))), body...)
}

// Slot is what one app on one device has, as APNs would have it: what it shows,
// and the one notification that waits for an offline device.
type Slot struct {
	// Shown are the notifications that the device took, the oldest first. One with
	// the collapse id of an earlier one has replaced it.
	Shown []Record `json:"shown"`
	// Stored waits for the device; nil if nothing does. APNs keeps one per app.
	Stored *Record `json:"stored,omitempty"`
	// Overwritten counts what was stored and then replaced by something newer.
	Overwritten int `json:"overwritten,omitempty"`
	// Discarded counts what an offline device missed: expiration 0 or past.
	Discarded int `json:"discarded,omitempty"`
	// Accepted counts all accepted notifications, Duplicates those whose apns-id was
	// accepted before for this device token.
	Accepted   int `json:"accepted"`
	Duplicates int `json:"duplicates"`
}

type slotKey struct{ raw, bundle string }

// entry is a record with what the ledger itself needs to know.
type entry struct {
	Record
	raw    string // device token, in bytes
	bundle string
}

type slot struct {
	shown                  []*entry
	stored                 *entry
	overwritten, discarded int
	accepted, duplicates   int
}

// ledger is the full ledger. Safe for concurrent use.
type ledger struct {
	limit int

	mu      sync.Mutex
	records []*entry // in order of receipt
	slots   map[slotKey]*slot
}

// add remembers a record; accepted ones change what the device has.
func (l *ledger) add(rec *entry, offline bool, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) >= l.limit {
		// A tenth at once, so that it costs little per record.
		n := max(1, l.limit/10)
		for _, old := range l.records[:n] {
			l.forget(old)
		}
		l.records = append(l.records[:0:0], l.records[n:]...)
	}
	l.records = append(l.records, rec)
	if rec.Status != 200 || rec.raw == "" {
		return
	}
	key := slotKey{rec.raw, rec.bundle}
	sl := l.slots[key]
	if sl == nil {
		sl = &slot{}
		l.slots[key] = sl
	}
	sl.accepted++
	if rec.Duplicate {
		sl.duplicates++
	}
	switch {
	case !offline:
		sl.show(rec)
	case rec.Expiration != nil && *rec.Expiration <= now.Unix():
		sl.discarded++
	default:
		if sl.stored != nil {
			sl.overwritten++
		}
		sl.stored = rec
	}
}

func (sl *slot) show(rec *entry) {
	if rec.CollapseID != "" {
		for i, old := range sl.shown {
			if old.CollapseID == rec.CollapseID {
				sl.shown = append(sl.shown[:i], sl.shown[i+1:]...)
				break
			}
		}
	}
	sl.shown = append(sl.shown, rec)
}

// online delivers what is stored for a device.
func (l *ledger) online(raw string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, sl := range l.slots {
		if key.raw != raw || sl.stored == nil {
			continue
		}
		if rec := sl.stored; rec.Expiration != nil && *rec.Expiration <= now.Unix() {
			sl.discarded++
		} else {
			sl.show(rec)
		}
		sl.stored = nil
	}
}

// answered marks records whose answers are being written.
func (l *ledger) answered(recs []*entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range recs {
		r.Answered = true
	}
}

// withdraw takes an accepted record back.
func (l *ledger) withdraw(rec *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wasAccepted := rec.Status == 200
	rec.Withdrawn, rec.Status, rec.Reason, rec.Timestamp = true, 0, "", 0
	sl := l.slots[slotKey{rec.raw, rec.bundle}]
	if sl == nil || !wasAccepted {
		return
	}
	sl.accepted--
	if rec.Duplicate {
		sl.duplicates--
	}
	sl.forget(rec)
}

// forget takes a record that is dropped out of its slot, and the slot away once
// it is empty: slots must not outgrow the records.
func (l *ledger) forget(rec *entry) {
	key := slotKey{rec.raw, rec.bundle}
	sl := l.slots[key]
	if sl == nil {
		return
	}
	sl.forget(rec)
	if sl.stored == nil && len(sl.shown) == 0 {
		delete(l.slots, key)
	}
}

func (sl *slot) forget(rec *entry) {
	if sl.stored == rec {
		sl.stored = nil
	}
	if i := slices.Index(sl.shown, rec); i >= 0 {
		sl.shown = slices.Delete(sl.shown, i, i+1)
	}
}

func (l *ledger) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = nil
	clear(l.slots)
}

// Ledger returns copies of the records that f selects, in order of receipt. It
// is empty unless the mode is [LedgerFull].
func (s *Server) Ledger(f Filter) []Record {
	l := &s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Record
	for i := len(l.records) - 1; i >= 0; i-- {
		if f.Limit > 0 && len(out) >= f.Limit {
			break
		}
		r := l.records[i]
		if f.DeviceToken != "" && !strings.EqualFold(f.DeviceToken, r.DeviceToken) ||
			f.APNsID != "" && !strings.EqualFold(f.APNsID, r.APNsID) {
			continue
		}
		out = append(out, r.Record)
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// Slot returns what the app with bundle id bundle has on the device with token
// (hexadecimal). It is empty unless the mode is [LedgerFull].
func (s *Server) Slot(token, bundle string) Slot {
	raw, err := hex.DecodeString(token)
	if err != nil {
		return Slot{}
	}
	l := &s.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	sl := l.slots[slotKey{string(raw), bundle}]
	if sl == nil {
		return Slot{}
	}
	out := Slot{Overwritten: sl.overwritten, Discarded: sl.discarded, Accepted: sl.accepted, Duplicates: sl.duplicates}
	for _, r := range sl.shown {
		out.Shown = append(out.Shown, r.Record)
	}
	if sl.stored != nil {
		stored := sl.stored.Record
		out.Stored = &stored
	}
	return out
}
