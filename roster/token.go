package roster

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// leastTokenBytes is the shortest device token that is taken from a file.
//
// choice: none shorter was ever seen, and a file that was cut off ends in one.
const leastTokenBytes = 32

var errTokenShort = errors.New("device token has fewer than 32 bytes: it may be cut off")

// parseToken reads a device token in any form that is seen in files: hexadecimal
// in either case, as NSData printed it (<0a1b2c3d …>), and base64 of 32 bytes.
func parseToken(s string) (device.Token, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") {
		s = strings.ReplaceAll(s[1:len(s)-1], " ", "")
	}
	t, err := device.ParseToken(s)
	if err != nil && !errors.Is(err, device.ErrTokenTooLong) {
		// Longer base64 is not guessed at: other push services' ids look like it.
		if raw, decErr := base64.StdEncoding.DecodeString(s); decErr == nil && len(raw) == leastTokenBytes {
			return device.TokenFromRaw(string(raw)), nil
		}
	}
	if err == nil && t.Len() < leastTokenBytes {
		err = errTokenShort
	}
	if err != nil {
		return device.Token{}, err
	}
	return t, nil
}

// parseTime reads a time as it is seen in exports; "" is the zero time.
func parseTime(field, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range [...]string{
		time.RFC3339Nano, "2006-01-02 15:04:05 MST", "2006-01-02 15:04:05", "2006-01-02T15:04:05", time.DateOnly,
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n > 0 {
		const milliseconds = 100_000_000_000 // as seconds, this is in the year 5138
		if n < milliseconds {
			return time.Unix(n, 0).UTC(), nil
		}
		return time.UnixMilli(n).UTC(), nil
	}
	return time.Time{}, fmt.Errorf("%s: must be a time such as 2026-11-24T09:00:00Z", field)
}

// locale is a locale in the spelling of BCP 47.
func locale(s string) string { return strings.ReplaceAll(s, "_", "-") }
