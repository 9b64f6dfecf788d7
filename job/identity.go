package job

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"github.com/pushfleet/pushfleet/device"
)

// APNsID returns the apns-id of the notification that a job sends to a device:
// the same at every try, whoever tries, and another one for every other app, job
// or device token. rootID is the job's id, or for a redriven job the first one's.
//
// It is a UUID of version 8 (RFC 9562, section 5.8) made with SHA-256.
func APNsID(app, rootID string, t device.Token) uuid.UUID {
	return NewAPNsIDs(app, rootID).ID(t)
}

// CampaignRoot is the rootID of what a campaign sends: no job's id has a line
// feed in it.
func CampaignRoot(id string) string { return "campaign\n" + id }

// APNsIDs makes the apns-ids of one job without allocating. It is not safe for
// concurrent use.
type APNsIDs struct {
	buf [apnsIDSeedBytes + device.MaxTokenBytes]byte
}

// apnsIDSeedBytes is what a job contributes to each of its apns-ids: 128 bits, so
// that with a device token of 32 bytes everything fits one block of SHA-256.
const apnsIDSeedBytes = 16

// NewAPNsIDs prepares the apns-ids of one job; see [APNsID].
func NewAPNsIDs(app, rootID string) *APNsIDs {
	const domain = "pushfleet apns-id 1"
	b := make([]byte, 0, 128)
	for _, s := range [...]string{domain, app, rootID} {
		// With the lengths, no two pairs of app and id give the same bytes.
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	sum := sha256.Sum256(b)
	ids := new(APNsIDs)
	copy(ids.buf[:], sum[:apnsIDSeedBytes])
	return ids
}

// ID returns the apns-id for one device token.
func (a *APNsIDs) ID(t device.Token) uuid.UUID {
	raw := t.Raw()
	var sum [sha256.Size]byte
	if len(raw) <= device.MaxTokenBytes {
		n := copy(a.buf[apnsIDSeedBytes:], raw)
		sum = sha256.Sum256(a.buf[:apnsIDSeedBytes+n])
	} else {
		sum = sha256.Sum256(append(a.buf[:apnsIDSeedBytes:apnsIDSeedBytes], raw...))
	}
	id := uuid.UUID(sum[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8
	id[8] = id[8]&0x3f | 0x80 // RFC 9562 variant
	return id
}

// RecipientHash returns the 8 bytes, as a number, under which a message's progress
// remembers a device token as settled.
//
// It is XXH64, which is not cryptographic, and need not be: it is compared within
// one message only, of about a thousand recipients, where two of them collide by
// chance in one of 10^13 messages; and whoever could aim for a collision would
// have to choose the device tokens, which APNs issues, of a message that is
// their own. A collision costs one recipient its notification.
func RecipientHash(t device.Token) uint64 { return xxhash.Sum64String(t.Raw()) }

// UserHash is [RecipientHash] for a user's id: for recipients that are settled
// without a device token. It never meets the hash of a device token or an install
// of the same bytes.
func UserHash(user string) uint64 { return mix(xxhash.Sum64String(user), 1) }

// InstallHash is [UserHash] for an install's id.
func InstallHash(install string) uint64 { return mix(xxhash.Sum64String(install), 2) }

// Hash returns what progress remembers a recipient under.
func (r *Recipient) Hash() uint64 {
	switch {
	case r.User != "":
		return UserHash(r.User)
	case r.Install != "":
		return InstallHash(r.Install)
	default:
		return RecipientHash(r.DeviceToken)
	}
}

// mix moves a hash into another domain. It is one-to-one (the finalizer of
// SplitMix64), so it adds no collisions.
func mix(h, domain uint64) uint64 {
	h ^= domain * 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
