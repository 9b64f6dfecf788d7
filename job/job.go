package job

import (
	"encoding/json"
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// Limits of a job. The payload limits are Apple's (Generating a remote
// notification, Sending notification requests to APNs); the others are ours.
const (
	MaxRecipients       = 1000
	MaxIDBytes          = 128
	MaxCollapseIDBytes  = 64
	MaxPayloadBytes     = 4096
	MaxVoIPPayloadBytes = 5120
	MaxTTL              = 30 * 24 * time.Hour // APNs stores no longer
)

// Job is the request to send one notification to one or many devices.
type Job struct {
	// ID makes the job unique within its app and lane for 24 hours. Empty: the
	// worker names it after its place in the stream, and nothing de-duplicates it.
	ID string
	To Recipients

	// Notification and Data, or Payload: the exact JSON for APNs.
	Notification *Notification
	Data         json.RawMessage // an object; its members become siblings of aps
	Payload      json.RawMessage // an object

	PushType   PushType // zero: derived, see Job.EffectivePushType
	Priority   int      // 10, 5 or 1; 0: 10, or 5 for background
	CollapseID string   // at most 64 bytes

	// TTL or ExpiresAt. HasTTL tells "ttl":"0s" (one attempt, never stored) from
	// an absent ttl; it is not needed with a TTL above zero. See [Job.Expiration].
	TTL       time.Duration
	HasTTL    bool
	ExpiresAt time.Time
	SendAfter time.Time
	OnUnknown OnUnknown
}

// Recipients has exactly one non-empty list, of 1 to [MaxRecipients].
type Recipients struct {
	Tokens   []device.Token
	Users    []string
	Installs []string
}

// Len returns how many recipients are named.
func (r Recipients) Len() int { return len(r.Tokens) + len(r.Users) + len(r.Installs) }

// OnUnknown says what to do with a notification whose answer never came: APNs
// may or may not have taken it.
type OnUnknown uint8

// The choices.
const (
	Resend OnUnknown = iota // at least once: send again with the same apns-id
	Drop                    // at most once: give it up, outcome unknown
)
