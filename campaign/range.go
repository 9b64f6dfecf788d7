package campaign

// Range is one part of an audience, as it is queued: the devices whose device
// token's hash, modulo Of, is From up to, but without, To. Or, of a campaign to a
// file, its recipients themselves.
type Range struct {
	Campaign string `json:"campaign"` // id
	Number   int    `json:"n"`        // from 0
	// Devices are how many were counted in it; of a file, how many recipients.
	Devices int `json:"devices"`

	Of   int `json:"of,omitempty"`
	From int `json:"from,omitempty"`
	To   int `json:"to,omitempty"`

	Recipients []Recipient `json:"recipients,omitempty"`
}

// Recipient is one line of a file: a device token in hexadecimal, or a user, and
// the values of the campaign's variables for it.
type Recipient struct {
	Token     string            `json:"token,omitempty"`
	User      string            `json:"user,omitempty"`
	Variables map[string]string `json:"variables,omitempty"`
}

// Limits of a range of a file's recipients.
const (
	MaxRangeRecipients = 1000
	MaxRangeBytes      = 256 << 10
)
