package roster

import (
	"fmt"
	"strings"
)

// Format is whose form a file has.
type Format uint8

// The formats. SNS and Pinpoint are read as lines of JSON and as CSV.
const (
	Unknown   Format = iota // to be told by the first line
	NDJSON                  // pushfleet's own, a JSON object a line
	CSV                     // pushfleet's own, with a header
	SNS                     // Amazon SNS: platform endpoints
	Pinpoint                // Amazon Pinpoint: endpoints
	OneSignal               // OneSignal: "CSV export"
	formats
)

var formatNames = [formats]string{"", "ndjson", "csv", "sns", "pinpoint", "onesignal"}

// String returns the format's name; "" is Unknown's.
func (f Format) String() string {
	if f >= formats {
		return fmt.Sprintf("format(%d)", uint8(f))
	}
	return formatNames[f]
}

// FormatNames returns the names of all formats that can be named.
func FormatNames() []string { return append([]string(nil), formatNames[1:]...) }

// ParseFormat reads what [Format.String] writes; "" is Unknown.
func ParseFormat(s string) (Format, error) {
	for i, name := range formatNames {
		if s == name {
			return Format(i), nil
		}
	}
	return Unknown, fmt.Errorf("must be one of %s, got %q", strings.Join(FormatNames(), ", "), s)
}
