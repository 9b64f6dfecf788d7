package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/feedback"
	"github.com/pushfleet/pushfleet/job"
)

// section is a mapping in the file: its keys, each bound to where its value
// goes, and what can only be judged when all of them are read.
type section interface {
	fields() []field
	check(s *scope)
}

// field is one key of a section.
type field struct {
	key      string
	value    value
	def      string // the default, as it would be written
	required bool
	doc      string // what it is, one sentence or two, for the reference
}

// value is what may stand behind a key. Exactly one of its funcs is set; the
// closures hold the place that it is stored in.
type value struct {
	kind string // for the reference and for complaints: "must be a <kind>"

	// scalar reads one value from its text, whether from the file or from the
	// environment; secret and file say how to treat that text.
	scalar func(text string) error
	secret bool // also as <key>_file; never printed
	file   bool // a path, relative to the configuration file

	items    func() (add func(text string) error) // a list of scalars; the call empties it
	nested   func() section                       // a section that is always there
	optional func() (s section, keep func())      // a section that is there if given
	each     func() (s section, keep func())      // a list of sections: one more
	named    func(name string) (section, func())  // a mapping of sections by name: one more
}

// sectionPtr is a pointer to a struct that is a section.
type sectionPtr[T any] interface {
	*T
	section
}

func nested[T any, P sectionPtr[T]](dst *T) value {
	return value{kind: "section", nested: func() section { return P(dst) }}
}

func optional[T any, P sectionPtr[T]](dst **T) value {
	return value{kind: "section", optional: func() (section, func()) {
		one := new(T)
		return P(one), func() { *dst = one }
	}}
}

func listOf[T any, P sectionPtr[T]](dst *[]T) value {
	return value{kind: "list of sections", each: func() (section, func()) {
		one := new(T)
		return P(one), func() { *dst = append(*dst, *one) }
	}}
}

func mapOf[T any, P sectionPtr[T]](dst *map[string]T) value {
	return value{kind: "section by name", named: func(name string) (section, func()) {
		one := new(T)
		return P(one), func() {
			if *dst == nil {
				*dst = make(map[string]T)
			}
			(*dst)[name] = *one
		}
	}}
}

// text is any text that passes the check; a nil check takes all.
func text(dst *string, check func(string) error) value {
	return value{kind: "text", scalar: func(s string) error {
		if check != nil {
			if err := check(s); err != nil {
				return err
			}
		}
		*dst = s
		return nil
	}}
}

func texts(dst *[]string, check func(string) error) value {
	return value{kind: "list of texts", items: func() func(string) error {
		*dst = nil
		return func(s string) error {
			if err := check(s); err != nil {
				return err
			}
			*dst = append(*dst, s)
			return nil
		}
	}}
}

func oneOf(dst *string, choices ...string) value {
	return value{kind: strings.Join(choices, ", "), scalar: func(s string) error {
		for _, choice := range choices {
			if s == choice {
				*dst = s
				return nil
			}
		}
		return fmt.Errorf("must be one of %s, got %s", strings.Join(choices, ", "), quote(s))
	}}
}

func integer(dst *int, lowest, highest int) value {
	return value{kind: fmt.Sprintf("number, %d to %d", lowest, highest), scalar: func(s string) error {
		n, err := strconv.Atoi(strings.ReplaceAll(s, "_", ""))
		switch {
		case errors.Is(err, strconv.ErrRange) || err == nil && n > highest:
			if strings.HasPrefix(s, "-") {
				return fmt.Errorf("must be at least %d, got %s", lowest, quote(s))
			}
			return fmt.Errorf("must be at most %d, got %s", highest, s)
		case err != nil:
			return fmt.Errorf("must be a whole number, got %s", quote(s))
		case n < lowest:
			return fmt.Errorf("must be at least %d, got %d", lowest, n)
		}
		*dst = n
		return nil
	}}
}

// ratio is a number from 0 to 1.
func ratio(dst *float64) value {
	return value{kind: "number, 0 to 1", scalar: func(s string) error {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n >= 0 && n <= 1) {
			return fmt.Errorf("must be a number from 0 to 1, got %s", quote(s))
		}
		*dst = n
		return nil
	}}
}

func duration(dst *time.Duration, shortest, longest time.Duration) value {
	return value{kind: fmt.Sprintf("duration, %s to %s", short(shortest), short(longest)), scalar: func(s string) error {
		d, err := time.ParseDuration(s)
		switch {
		case err != nil:
			return fmt.Errorf("must be a duration such as 30s or 5m, got %s", quote(s))
		case d < shortest:
			return fmt.Errorf("must be at least %s, got %s", short(shortest), short(d))
		case d > longest:
			return fmt.Errorf("must be at most %s, got %s", short(longest), short(d))
		}
		*dst = d
		return nil
	}}
}

func boolean(dst *bool) value {
	return value{kind: "true or false", scalar: func(s string) error {
		switch s {
		case "true":
			*dst = true
		case "false":
			*dst = false
		default:
			return fmt.Errorf("must be true or false, got %s", quote(s))
		}
		return nil
	}}
}

// secret is a text that is never printed, not even where it is wrong.
func secret(dst *Secret, check func(string) error) value {
	return value{kind: "secret", secret: true, scalar: func(s string) error {
		if check != nil {
			if err := check(s); err != nil {
				return err
			}
		}
		*dst = NewSecret(s)
		return nil
	}}
}

func file(dst *string) value {
	return value{kind: "path", file: true, scalar: func(s string) error {
		*dst = s
		return nil
	}}
}

// certificateFile is a path whose ending tells the format.
func certificateFile(dst *string) value {
	return value{kind: "path", file: true, scalar: func(s string) error {
		switch strings.ToLower(filepath.Ext(s)) {
		case ".p12", ".pfx", ".pem":
			*dst = s
			return nil
		default:
			return errors.New("must end in .p12, .pfx or .pem, which tells its format")
		}
	}}
}

// days is a duration in days, such as 270d.
func days(dst *time.Duration, shortest, longest int) value {
	return value{kind: fmt.Sprintf("days, %dd to %dd", shortest, longest), scalar: func(s string) error {
		number, ok := strings.CutSuffix(s, "d")
		n, err := strconv.Atoi(number)
		switch {
		case !ok || err != nil:
			return fmt.Errorf("must be a number of days such as 270d, got %s", quote(s))
		case n < shortest:
			return fmt.Errorf("must be at least %dd, got %dd", shortest, n)
		case n > longest:
			return fmt.Errorf("must be at most %dd, got %dd", longest, n)
		}
		*dst = time.Duration(n) * 24 * time.Hour
		return nil
	}}
}

func environment(dst *device.Environment) value {
	return value{kind: "production, sandbox", scalar: func(s string) error {
		e, err := device.ParseEnvironment(s)
		if err != nil || e == device.EnvironmentUnset {
			return fmt.Errorf("must be production or sandbox, got %s", quote(s))
		}
		*dst = e
		return nil
	}}
}

func lanes(dst *[]job.Lane) value {
	return value{kind: "list of lanes", items: func() func(string) error {
		*dst = nil
		return func(s string) error {
			lane, err := job.ParseLane(s)
			if err != nil {
				return fmt.Errorf("must be transactional or bulk, got %s", quote(s))
			}
			*dst = append(*dst, lane)
			return nil
		}
	}}
}

func results(dst *[]job.Result) value {
	return value{kind: "list of results", items: func() func(string) error {
		*dst = nil
		return func(s string) error {
			all := job.Results()
			if !slices.Contains(all, job.Result(s)) {
				return fmt.Errorf("must be one of %s, got %s", listed(all), quote(s))
			}
			*dst = append(*dst, job.Result(s))
			return nil
		}
	}}
}

func listed(all []job.Result) string {
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}

// tokens is a list of device tokens; what is wrong with one is said without it.
func tokens(dst *[]device.Token) value {
	return value{kind: "list of device tokens", items: func() func(string) error {
		*dst = nil
		return func(s string) error {
			t, err := device.ParseToken(s)
			if err != nil {
				return err
			}
			*dst = append(*dst, t)
			return nil
		}
	}}
}

// quote shows a value in a complaint: one line, and not all of a novel.
func quote(s string) string {
	if len(s) > 40 {
		return strconv.QuoteToGraphic(s[:40]) + "…"
	}
	return strconv.QuoteToGraphic(s)
}

// short prints 5m for what Duration.String calls 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Patterns of names. An app's and a worker's name become part of subjects and of
// keys of the key-value bucket; 64 keeps both readable.
var (
	appName    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	workerName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)
	bundleID   = regexp.MustCompile(`^[A-Za-z0-9.-]{1,155}$`)
	appleID    = regexp.MustCompile(`^[A-Z0-9]{10}$`)
	headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$") // RFC 9110, section 5.6.2
)

func checkWorkerName(s string) error {
	if !workerName.MatchString(s) || strings.Contains(s, "..") || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") {
		return fmt.Errorf("must be up to 128 letters, digits, '-', '_' and inner '.', got %s", quote(s))
	}
	return nil
}

func checkBundleID(s string) error {
	if !bundleID.MatchString(s) {
		return fmt.Errorf("must be letters, digits, '-' and '.', such as com.example.shop, got %s", quote(s))
	}
	return nil
}

func checkAppleID(s string) error {
	if !appleID.MatchString(s) {
		return fmt.Errorf("must be 10 capital letters or digits, as Apple shows it, got %s", quote(s))
	}
	return nil
}

func checkNotEmpty(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	return nil
}

func checkSecrets(s string) error {
	_, err := feedback.ParseSecrets(s)
	return err
}

func checkBase64(s string) error {
	// Decoding ignores line ends, so the output of any base64 command will do.
	if raw, err := base64.StdEncoding.DecodeString(s); err != nil || len(raw) == 0 {
		return errors.New("must be the .p8 file's bytes in base64")
	}
	return nil
}

// The checks of addresses never repeat the value: a password may stand in it.

func checkNATSURL(s string) error {
	for one := range strings.SplitSeq(s, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || u.Host == "" {
			return errors.New("must be one or more URLs such as nats://127.0.0.1:4222, separated by commas")
		}
		if u.User != nil {
			return errors.New("must not hold a user or password: they have keys of their own, URLs are logged")
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return fmt.Errorf("must begin with nats://, tls://, ws:// or wss://, got %s://", u.Scheme)
		}
	}
	return nil
}

func checkEndpointURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" || u.Hostname() == "":
		return errors.New("must be an https URL such as https://127.0.0.1:2197")
	case u.User != nil:
		return errors.New("must not hold a user or password")
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return errors.New("must end after the port: the path is APNs's own")
	}
	return nil
}

func checkTelemetryURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return errors.New("must be a URL such as http://127.0.0.1:4318")
	case u.User != nil:
		return errors.New("must not hold a user or password: telemetry.headers is for those")
	case u.RawQuery != "", u.Fragment != "":
		return errors.New("must end after the path")
	}
	return nil
}

// checkHeaders never repeats the value: it is secret.
func checkHeaders(s string) error {
	_, err := ParseHeaders(s)
	return err
}

// ParseHeaders reads what [Telemetry.Headers] holds. The error does not repeat it.
func ParseHeaders(s string) (map[string]string, error) {
	headers := make(map[string]string)
	for one := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(one, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || !headerName.MatchString(name) || strings.ContainsAny(value, "\r\n\x00") {
			return nil, errors.New("must be name=value, several of them separated by commas, with percent-encoded values")
		}
		headers[name] = value
	}
	return headers, nil
}

func checkAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || !isPort(port) || port == "0" || strings.ContainsAny(host, "/@") {
		return errors.New("must be host:port, such as 127.0.0.1:6379")
	}
	return nil
}

func checkListen(s string) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil || !isPort(port) {
		return fmt.Errorf("must be host:port or :port, such as 127.0.0.1:9090, got %s", quote(s))
	}
	return nil
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}
