package device

import "fmt"

// Reason says why a device token must not be used. Its number is stored in the
// token set: numbers never change, and new ones go to the end.
type Reason uint8

// The reasons. The first four are APNs's own words.
const (
	ReasonOther            Reason = iota // a reason that has no number here
	Unregistered                         // 410: not active for the topic any more
	ExpiredToken                         // 410: expired
	BadDeviceToken                       // 400: malformed, or of the other environment
	DeviceTokenNotForTopic               // 400: of another app or kind
	Replaced                             // another device token took its place
	Deleted                              // taken out on request
	Pruned                               // not registered for too long
	reasons
)

var reasonNames = [reasons]string{
	"other", "Unregistered", "ExpiredToken", "BadDeviceToken", "DeviceTokenNotForTopic",
	"replaced", "deleted", "pruned",
}

// String returns APNs's word for the reason, or ours in lower case.
func (r Reason) String() string {
	if r >= reasons {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return reasonNames[r]
}

// ReasonOf reads what [Reason.String] writes; whatever else is [ReasonOther].
func ReasonOf(s string) Reason {
	for i, name := range reasonNames {
		if name == s {
			return Reason(i)
		}
	}
	return ReasonOther
}

// ReasonNames returns the names of all reasons, in order of their number.
func ReasonNames() []string { return append([]string(nil), reasonNames[:]...) }
