package device

import (
	"fmt"
	"time"
)

// Environment is the APNs environment that a device token belongs to. A token
// of one is unknown in the other (`BadDeviceToken`).
type Environment uint8

// The environments. The zero value means "not said": the app's configured one.
const (
	EnvironmentUnset Environment = iota
	Production
	Sandbox
)

// String returns "production", "sandbox" or "".
func (e Environment) String() string {
	switch e {
	case Production:
		return "production"
	case Sandbox:
		return "sandbox"
	default:
		return ""
	}
}

// ParseEnvironment reads what [Environment.String] writes; "" is [EnvironmentUnset].
func ParseEnvironment(s string) (Environment, error) {
	switch s {
	case "":
		return EnvironmentUnset, nil
	case "production":
		return Production, nil
	case "sandbox":
		return Sandbox, nil
	default:
		return EnvironmentUnset, fmt.Errorf("must be production or sandbox, got %q", s)
	}
}

// Kind says what a device token is for. Each kind is a token of its own with a
// topic of its own; sending to the wrong one is `DeviceTokenNotForTopic`.
type Kind uint8

// The kinds of device tokens. The numbers are stored in the token set: they
// never change, and new ones go to the end (at most 31).
const (
	Alert             Kind = iota // the app's own token: alert and background
	VoIP                          // PushKit voip
	LiveActivity                  // updates one running Live Activity
	LiveActivityStart             // starts Live Activities (push-to-start)
	Widget                        // push-type.widgets
	Control                       // push-type.controls
	Location                      // location-query
	Complication                  // complication
	FileProvider                  // pushkit.fileprovider
	PushToTalk                    // voip-ptt
	MDM                           // mobile device management
	kinds
)

var kindNames = [kinds]string{
	"alert", "voip", "liveactivity", "liveactivity_start", "widget", "control",
	"location", "complication", "fileprovider", "pushtotalk", "mdm",
}

// String returns the kind's name on the wire.
func (k Kind) String() string {
	if k >= kinds {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// ParseKind reads what [Kind.String] writes; "" is [Alert].
func ParseKind(s string) (Kind, error) {
	if s == "" {
		return Alert, nil
	}
	for i, name := range kindNames {
		if name == s {
			return Kind(i), nil
		}
	}
	return 0, fmt.Errorf("unknown kind of device token %q", s)
}

// KindNames returns the names of all kinds, in order of their number.
func KindNames() []string { return append([]string(nil), kindNames[:]...) }

// Registration is what an app's backend hands in at every launch of the app.
type Registration struct {
	Token Token // required

	// PreviousToken is the token that Token replaces; zero if there is none.
	PreviousToken Token
	// User and InstallID are the customer's own ids, of at most 256 bytes; empty
	// means that the device has none (a logout detaches the user that way).
	User, InstallID string
	Environment     Environment // unset: the app's
	Kind            Kind        // zero: Alert

	Locale     string // BCP 47, e.g. "de-AT"
	Timezone   string // IANA, e.g. "Europe/Vienna"
	AppVersion string
	Tags       []string
	Attributes map[string]string
}

// Device is a registered device, as the token set knows it.
type Device struct {
	Registration
	Record    Record
	CreatedAt time.Time // first registration of this token
}
