package strictjson

import (
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// IsLine reports whether s is printable, without a space at either end: it can
// stand in a header, and on a screen, unchanged.
func IsLine(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return strings.TrimSpace(s) == s
}

// IsPath reports whether s is ".", ".." or "/". In the path of a URL these cannot be names:
// dots are steps, however they are escaped (RFC 3986, 5.2.4 and 6.2.2.2), and an escaped
// slash that stands alone is read as the end of the path (observed: net/http.ServeMux).
func IsPath(s string) bool { return s == "." || s == ".." || s == "/" }

// NotPath says what is wrong with a name that [IsPath].
const NotPath = "must not be ., .. or /: no URL could name it"

// AppendText appends s as a JSON string with no more escapes than JSON needs.
// Bytes that are not UTF-8 become U+FFFD.
func AppendText(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}

// ReadTime reads a time as RFC 3339, and nothing that [time.Parse] takes beyond
// it: an hour of one digit, a comma, offsets of 24:00 and :60 (golang/go#54580).
// It is in UTC.
func ReadTime(d *Decoder) (time.Time, bool) {
	v, ok := d.ValueOf('"', "a string")
	if !ok {
		return time.Time{}, false
	}
	s := string(Unquoted(v))
	t, err := time.Parse(time.RFC3339, s)
	ok = err == nil && s[len("2006-01-02T15")] == ':' && !strings.Contains(s, ",")
	if ok && s[len(s)-1] != 'Z' {
		zone := s[len(s)-len("+07:00"):]
		ok = zone[1:3] <= "23" && zone[4:] <= "59"
	}
	if !ok {
		d.Add("must be a time as RFC 3339, such as 2026-11-24T09:00:00Z")
		return time.Time{}, false
	}
	return t.UTC(), true
}

// AppendTime appends t as [ReadTime] reads it.
func AppendTime(dst []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(dst, '"'), time.RFC3339Nano), '"')
}

// CheckTime checks that t can be written, and stand in apns-expiration: years
// beyond 9999 cannot be written, and before 1970 the header would be 0 or
// negative, which means something else.
func CheckTime(c *Problems, t time.Time) bool {
	if t.Unix() <= 0 || t.UTC().Year() > 9999 {
		c.Add("must be after 1970 and before the year 10000")
		return false
	}
	return true
}

// ReadDuration reads a duration in Go's notation, which is not negative.
func ReadDuration(d *Decoder) (time.Duration, bool) {
	s, ok := d.Text()
	if !ok {
		return 0, false
	}
	v, err := time.ParseDuration(s)
	switch {
	case err == nil && s[0] == '-':
		d.Add("must not be negative")
	case err != nil || s[0] == '+':
		d.Add("must be a duration such as 90s, 4h or 1h30m")
	default:
		return v, true
	}
	return 0, false
}

// DurationSchema has the keywords of what [ReadDuration] reads.
const DurationSchema = `"type":"string","pattern":"^(0|([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$"`

// ParseLong reads a duration of at least a second, also in days: 36h, 270d.
func ParseLong(s string) (_ time.Duration, ok bool) {
	const mostDays = 36500
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		return time.Duration(n) * 24 * time.Hour, err == nil && n >= 1 && n <= mostDays
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= time.Second
}

// DurationText is [time.Duration.String] without the zeros at its end: 4h, not
// 4h0m0s.
func DurationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
