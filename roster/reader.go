package roster

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pushfleet/pushfleet/device"
)

// Device is a device as a file has it.
type Device struct {
	// Registration has an unset Environment where the file does not say. It is not
	// validated.
	device.Registration

	State                   device.State
	Reason                  string    // why it is not live
	ChangedAt               time.Time // since when it is not live
	RegisteredAt, CreatedAt time.Time // the last and the first registration; zero: not said
	Generation              uint32
	Accepted                bool // APNs took a notification for it before
}

// Line is one line of a file, or one CSV record.
type Line struct {
	Number int64  // of its first line, from 1
	Device Device // if Skip and Err are empty
	Skip   string // why the device is not one to register
	Err    error  // what is wrong with the line
}

// Why lines are skipped.
const (
	SkipOtherPlatform = "not an Apple device token"
	SkipDisabled      = "disabled or invalid at the source"
	SkipOptedOut      = "opted out"
	SkipRemoved       = "removed"
	SkipQuarantined   = "quarantined"
)

// UserData says what Amazon SNS's CustomUserData is.
type UserData uint8

// What it may be.
const (
	UserDataAttribute UserData = iota // kept as the attribute custom_user_data
	UserDataUser                      // the user's id
	UserDataIgnored
)

// ParseUserData reads attribute, user or ignore.
func ParseUserData(s string) (UserData, error) {
	for i, name := range []string{"attribute", "user", "ignore"} {
		if s == name {
			return UserData(i), nil
		}
	}
	return 0, fmt.Errorf("must be attribute, user or ignore, got %q", s)
}

// Options are what a [Reader] is told. The zero value is good for most.
type Options struct {
	Format   Format // Unknown: told by the first line
	UserData UserData
}

// Reader reads a file of devices, line by line. It is not safe for concurrent
// use.
type Reader struct {
	lines   lines
	format  Format
	opt     Options
	columns []string // of a CSV file; nil: lines of JSON
	fields  []string // used again
	parse   func(r *Reader, text string, out *Line) error
}

// Errors of [NewReader].
var (
	ErrEmpty  = errors.New("roster: the file is empty")
	ErrFormat = errors.New("roster: the format cannot be told by the first line")
)

// NewReader returns a Reader over src, which stays the caller's to close. It
// reads the first line, and complains of a header or a format that it does not
// know.
func NewReader(src io.Reader, opt Options) (*Reader, error) {
	all, first, err := openLines(src)
	if err != nil {
		return nil, err
	}
	r := &Reader{lines: *all, format: opt.Format, opt: opt}
	if first[0] == '{' {
		return r, r.startJSON(string(first))
	}
	if first, err = r.lines.record(); err != nil {
		return nil, fmt.Errorf("the first line: %w", err)
	}
	return r, r.startCSV(string(bytes.TrimSpace(first)))
}

// openLines looks at the beginning of a file: first is its first line that is not
// empty, without spaces around, and will be read again.
func openLines(src io.Reader) (all *lines, first []byte, err error) {
	all = &lines{br: bufio.NewReaderSize(src, 64<<10)}
	start, err := all.br.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(start, []byte("\xef\xbb\xbf")):
		_, _ = all.br.Discard(3) // it was peeked at
	case bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return nil, nil, errors.New("roster: the file is UTF-16: convert it to UTF-8")
	}
	for len(bytes.TrimSpace(first)) == 0 {
		if first, err = all.next(); err != nil {
			if errors.Is(err, io.EOF) {
				err = ErrEmpty
			}
			return nil, nil, fmt.Errorf("the first line: %w", err)
		}
	}
	all.back = append(all.back, bytes.Clone(first))
	all.number--
	switch first = bytes.TrimSpace(all.back[len(all.back)-1]); {
	case !utf8.Valid(first):
		return nil, nil, errors.New("roster: the first line is not UTF-8")
	case first[0] == '[':
		return nil, nil, errors.New("roster: the file is one JSON array: make it lines, such as by jq -c '.[]'")
	}
	return all, first, nil
}

// Format is the file's format, as given or as told by the first line.
func (r *Reader) Format() Format { return r.format }

// Next reads a line into out. At the end it returns io.EOF; any other error is
// that of the file itself. Empty lines are passed over.
func (r *Reader) Next(out *Line) error {
	for {
		*out = Line{}
		text, err := r.read()
		out.Number = r.lines.number - int64(bytes.Count(text, []byte{'\n'}))
		switch {
		case errors.Is(err, errLong), errors.Is(err, errQuote):
			out.Err = err
			return nil
		case err != nil:
			return err
		case len(bytes.TrimSpace(text)) == 0:
			continue
		case !utf8.Valid(text):
			out.Err = errors.New("is not UTF-8")
			return nil
		}
		out.Err = r.parse(r, string(text), out)
		if out.Err != nil || out.Skip != "" {
			out.Device = Device{}
		}
		return nil
	}
}

func (r *Reader) read() ([]byte, error) {
	if r.columns == nil {
		return r.lines.next()
	}
	return r.lines.record()
}

// Done is how many lines of the file are read, for [Reader.Skip].
func (r *Reader) Done() int64 { return r.lines.number }

// Skip passes over what was read before: lines up to number, as [Reader.Done]
// told. It returns io.EOF if the file has fewer.
func (r *Reader) Skip(number int64) error {
	for r.lines.number < number {
		if _, err := r.read(); err != nil && !errors.Is(err, errLong) && !errors.Is(err, errQuote) {
			return err
		}
	}
	return nil
}

// header reads the names of columns.
func header(text string) ([]string, error) {
	columns, err := split(text, nil)
	if err != nil {
		return nil, fmt.Errorf("roster: the header %w", err)
	}
	for i := range columns {
		columns[i] = strings.TrimSpace(columns[i])
		if slices.Contains(columns[:i], columns[i]) {
			return nil, fmt.Errorf("roster: the header names column %q twice", columns[i])
		}
	}
	return columns, nil
}

// startCSV takes in the header.
func (r *Reader) startCSV(text string) error {
	columns, err := header(text)
	if err != nil {
		return err
	}
	has := func(name string) bool { return slices.Contains(columns, name) }
	if r.format == Unknown {
		switch {
		case has("ChannelType") && has("Address"):
			r.format = Pinpoint
		case has("EndpointArn"), has("Token") && has("CustomUserData"):
			r.format = SNS
		case has("identifier") && has("device_type"):
			r.format = OneSignal
		case has("token"):
			r.format = CSV
		default:
			return fmt.Errorf("%w: a CSV file needs a header with the column token", ErrFormat)
		}
	}
	need := map[Format][]string{CSV: {"token"}, SNS: {"Token"}, Pinpoint: {"ChannelType", "Address"}, OneSignal: {"identifier", "device_type"}}
	if r.format == NDJSON {
		return errors.New("roster: the file does not hold a JSON object a line")
	}
	for _, name := range need[r.format] {
		if !has(name) {
			return fmt.Errorf("roster: a file of format %s needs the column %s in its header", r.format, name)
		}
	}
	if r.format == CSV {
		for _, name := range columns {
			if !slices.Contains(ownColumns, name) {
				return fmt.Errorf("roster: unknown column %q: those of pushfleet are %s", name, strings.Join(ownColumns, ", "))
			}
		}
	}
	r.columns = columns
	r.parse = (*Reader).parseCSV
	return nil
}

// parseCSV reads a record of any CSV format.
func (r *Reader) parseCSV(text string, out *Line) error {
	var err error
	if r.fields, err = split(text, r.fields[:0]); err != nil {
		return err
	}
	if len(r.fields) != len(r.columns) {
		return fmt.Errorf("has %d fields where the header has %d", len(r.fields), len(r.columns))
	}
	switch r.format {
	case SNS:
		return r.sns(snsEndpoint{
			ARN: r.field("EndpointArn"), Token: r.field("Token"), Enabled: r.field("Enabled"), CustomUserData: r.field("CustomUserData"),
		}, out)
	case Pinpoint:
		return pinpoint(r.pinpointRecord(), out)
	case OneSignal:
		return r.oneSignal(out)
	default:
		return r.ownRecord(out)
	}
}

// field is the field of a column, without spaces around, or "" if there is no
// such column.
func (r *Reader) field(column string) string { return strings.TrimSpace(r.exact(column)) }

// exact is field with the spaces around it.
func (r *Reader) exact(column string) string {
	if i := slices.Index(r.columns, column); i >= 0 {
		return r.fields[i]
	}
	return ""
}
