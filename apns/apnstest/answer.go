package apnstest

import (
	"encoding/binary"
	"encoding/json"
	"strconv"
	"sync"
)

// verdict is an answer's index in answers.
type verdict uint8

// What a request can be answered with. The first is the only good one.
const (
	accepted verdict = iota
	badCollapseID
	badDeviceToken
	badExpirationDate
	badMessageID
	badPriority
	badTopic
	deviceTokenNotForTopic
	duplicateHeaders
	invalidPushType
	missingDeviceToken
	missingTopic
	payloadEmpty
	topicDisallowed
	expiredProviderToken
	forbidden
	invalidProviderToken
	missingProviderToken
	unrelatedKeyIDInToken
	badEnvironmentKeyIDInToken
	badEnvironmentKeyInToken
	badPath
	methodNotAllowed
	expiredToken
	unregistered
	payloadTooLarge
	tooManyProviderTokenUpdates
	tooManyRequests
	// Broadcast and channel management only.
	featureNotEnabled
	missingChannelID
	badChannelID
	channelNotRegistered
	badRequestParams
	badRequestPayload
	missingPushType
	cannotCreateChannelConfig
	topicMismatch
	missingChannelQueueSize
	created
	deleted
	verdicts
)

// answers gives each verdict its status and reason (Apple, Handling notification
// responses from APNs; Sending channel management requests to APNs).
var answers = [verdicts]struct {
	status int
	reason string
}{
	accepted:                    {200, ""},
	badCollapseID:               {400, "BadCollapseId"},
	badDeviceToken:              {400, "BadDeviceToken"},
	badExpirationDate:           {400, "BadExpirationDate"},
	badMessageID:                {400, "BadMessageId"},
	badPriority:                 {400, "BadPriority"},
	badTopic:                    {400, "BadTopic"},
	deviceTokenNotForTopic:      {400, "DeviceTokenNotForTopic"},
	duplicateHeaders:            {400, "DuplicateHeaders"},
	invalidPushType:             {400, "InvalidPushType"},
	missingDeviceToken:          {400, "MissingDeviceToken"},
	missingTopic:                {400, "MissingTopic"},
	payloadEmpty:                {400, "PayloadEmpty"},
	topicDisallowed:             {400, "TopicDisallowed"},
	expiredProviderToken:        {403, "ExpiredProviderToken"},
	forbidden:                   {403, "Forbidden"},
	invalidProviderToken:        {403, "InvalidProviderToken"},
	missingProviderToken:        {403, "MissingProviderToken"},
	unrelatedKeyIDInToken:       {403, "UnrelatedKeyIdInToken"},
	badEnvironmentKeyIDInToken:  {403, "BadEnvironmentKeyIdInToken"},
	badEnvironmentKeyInToken:    {403, "BadEnvironmentKeyInToken"},
	badPath:                     {404, "BadPath"},
	methodNotAllowed:            {405, "MethodNotAllowed"},
	expiredToken:                {410, "ExpiredToken"},
	unregistered:                {410, "Unregistered"},
	payloadTooLarge:             {413, "PayloadTooLarge"},
	tooManyProviderTokenUpdates: {429, "TooManyProviderTokenUpdates"},
	tooManyRequests:             {429, "TooManyRequests"},
	featureNotEnabled:           {400, "FeatureNotEnabled"},
	missingChannelID:            {400, "MissingChannelId"},
	badChannelID:                {400, "BadChannelId"},
	channelNotRegistered:        {400, "ChannelNotRegistered"},
	badRequestParams:            {400, "BadRequestParams"},
	badRequestPayload:           {400, "BadRequestPayload"},
	missingPushType:             {400, "MissingPushType"},
	cannotCreateChannelConfig:   {400, "CannotCreateChannelConfig"},
	topicMismatch:               {403, "TopicMismatch"},
	missingChannelQueueSize:     {400, "MissingChannelQueueSize"},
	created:                     {201, ""},
	deleted:                     {204, ""},
}

// outcome is an answer with what of it can be encoded once. It is immutable.
type outcome struct {
	status int
	reason string
	head   []byte // :status and, with a reason, content-type: a header block's beginning
	body   []byte // {"reason":"…"} without the closing brace; nil without a reason
}

func newOutcome(status int, reason string) *outcome {
	o := &outcome{status: status, reason: reason}
	switch status { // RFC 7541, Appendix A
	case 200:
		o.head = []byte{0x88}
	case 204:
		o.head = []byte{0x89}
	case 400:
		o.head = []byte{0x8c}
	case 404:
		o.head = []byte{0x8d}
	case 500:
		o.head = []byte{0x8e}
	default:
		o.head = append([]byte{0x08, 0x03}, strconv.Itoa(status)...) // literal, name from the table
	}
	if reason != "" {
		o.head = appendLiteral(append(o.head, 0x0f, 0x10), "application/json") // content-type has index 31
		quoted, err := json.Marshal(reason)
		if err != nil {
			quoted = []byte(`""`) // cannot be: a string always encodes
		}
		o.body = append([]byte(`{"reason":`), quoted...)
	}
	return o
}

// isClientError reports whether APNs counts the answer against the connection:
// any 4xx but 410 (Apple, Handling notification responses from APNs).
func (o *outcome) isClientError() bool {
	return o.status >= 400 && o.status < 500 && o.status != 410
}

// outcomes are all answers of a server. The fixed ones come first; fault rules
// add their own.
type outcomes struct {
	fixed [verdicts]*outcome
	mu    sync.Mutex
	extra map[string]*outcome
}

func newOutcomes() *outcomes {
	o := &outcomes{extra: make(map[string]*outcome)}
	for i, a := range answers {
		o.fixed[i] = newOutcome(a.status, a.reason)
	}
	return o
}

// named returns the outcome with a status and reason, the same one each time.
func (o *outcomes) named(status int, reason string) *outcome {
	for _, f := range o.fixed {
		if f.status == status && f.reason == reason {
			return f
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	key := strconv.Itoa(status) + reason
	out := o.extra[key]
	if out == nil {
		out = newOutcome(status, reason)
		o.extra[key] = out
	}
	return out
}

// appendLiteral appends a string without Huffman coding; it must be shorter than
// 127 bytes or will be given a longer prefix.
func appendLiteral(dst []byte, s string) []byte {
	return append(appendInt(dst, 0, 7, len(s)), s...)
}

// appendInt appends an integer with a prefix of n bits (RFC 7541, 5.1).
func appendInt(dst []byte, first byte, n, v int) []byte {
	limit := 1<<n - 1
	if v < limit {
		return append(dst, first|byte(v))
	}
	dst = append(dst, first|byte(limit))
	v -= limit
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// A UUID's text has 36 characters: 8-4-4-4-12.
const uuidChars = 36

// parseUUID reads a canonical UUID. upper says that it had upper-case digits.
func parseUUID(text []byte) (id [16]byte, upper, ok bool) {
	if len(text) != uuidChars {
		return id, false, false
	}
	s := (*[uuidChars]byte)(text)
	if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, false, false
	}
	be := binary.BigEndian
	ok = true
	for i, v := range [4]uint64{
		be.Uint64(s[0:]),
		uint64(be.Uint32(s[9:]))<<32 | uint64(be.Uint32(s[14:])),
		uint64(be.Uint32(s[19:]))<<32 | uint64(be.Uint32(s[24:])),
		be.Uint64(s[28:]),
	} {
		n, good := unhex8(v)
		ok = ok && good
		upper = upper || v>>1&(v^allBytes*0xff)&(allBytes*0x20) != 0 // letters without bit 5
		be.PutUint32(id[4*i:], n)
	}
	return id, upper, ok
}

// appendUUID appends a UUID's text.
func appendUUID(dst []byte, id *[16]byte, upper bool) []byte {
	n := len(dst)
	dst = append(dst, "00000000-0000-0000-0000-000000000000"...)
	out := (*[uuidChars]byte)(dst[n:])
	be := binary.BigEndian
	be.PutUint64(out[0:], hex8(be.Uint32(id[0:]), upper))
	v := hex8(be.Uint32(id[4:]), upper)
	be.PutUint32(out[9:], uint32(v>>32))
	be.PutUint32(out[14:], uint32(v))
	v = hex8(be.Uint32(id[8:]), upper)
	be.PutUint32(out[19:], uint32(v>>32))
	be.PutUint32(out[24:], uint32(v))
	be.PutUint64(out[28:], hex8(be.Uint32(id[12:]), upper))
	return dst
}

// appendUnhex appends the bytes that hex digits stand for.
func appendUnhex(dst, src []byte) ([]byte, bool) {
	if len(src)%2 != 0 {
		return dst, false
	}
	ok := true
	for ; len(src) >= 8; src = src[8:] {
		n, good := unhex8(binary.BigEndian.Uint64(src))
		ok = ok && good
		dst = binary.BigEndian.AppendUint32(dst, n)
	}
	if len(src) > 0 { // fill it up on the left
		v := allBytes * '0'
		for _, ch := range src {
			v = v<<8 | uint64(ch)
		}
		n, good := unhex8(v)
		ok = ok && good
		for shift := 4*len(src) - 8; shift >= 0; shift -= 8 {
			dst = append(dst, byte(n>>shift))
		}
	}
	return dst, ok
}

// allBytes times a byte is that byte eight times.
const allBytes uint64 = 0x0101010101010101

// unhex8 reads eight hex digits at once, the first in the highest byte.
func unhex8(v uint64) (n uint32, ok bool) {
	letter := v >> 6 & allBytes // bit 6: not a digit
	x := v&(allBytes*0x0f) + letter*9
	// Every character but a letter must have bit 5 by itself; with it, what x stands
	// for must give the same text again.
	again := x + allBytes*'0' + letter*('a'-'0'-10)
	ok = (v|v>>1)&(allBytes*0x20) == allBytes*0x20 && v|allBytes*0x20 == again &&
		x&(allBytes*0xf0) == 0 && (x+allBytes*6)>>4&allBytes == letter
	x = (x | x>>4) & 0x00ff00ff00ff00ff
	x = (x | x>>8) & 0x0000ffff0000ffff
	return uint32(x | x>>16), ok
}

// hex8 writes eight hex digits at once.
func hex8(n uint32, upper bool) uint64 {
	x := uint64(n)
	x = (x | x<<16) & 0x0000ffff0000ffff
	x = (x | x<<8) & 0x00ff00ff00ff00ff
	x = (x | x<<4) & (allBytes * 0x0f)
	letter := (x + allBytes*6) >> 4 & allBytes
	gap := uint64('a' - '0' - 10)
	if upper {
		gap = 'A' - '0' - 10
	}
	return x + allBytes*'0' + letter*gap
}

// uniqueID makes the apns-unique-id of a sandbox answer: different from the
// apns-id, and the same one again for the same id.
func uniqueID(id [16]byte) [16]byte {
	h := mix(binary.BigEndian.Uint64(id[:8]) ^ mix(binary.BigEndian.Uint64(id[8:])))
	binary.BigEndian.PutUint64(id[:8], h)
	binary.BigEndian.PutUint64(id[8:], mix(h))
	return id
}

// mix is a step of SplitMix64: it turns numbers that are alike into numbers that
// have nothing in common.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
