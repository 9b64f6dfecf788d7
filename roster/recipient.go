package roster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/device"
)

// maxVariablesBytes bounds what a recipient's variables may be together.
//
// choice: far more than any payload can take, and whatever is escaped fits a range.
const maxVariablesBytes = 32 << 10

// Recipient is one line of a file of recipients.
type Recipient struct {
	Number             int64 // of its first line, from 1
	campaign.Recipient       // if Err is nil; the device token is in lower case
	Err                error // what is wrong with the line; it holds no device token
}

// Recipients reads the recipients of a campaign, line by line: CSV with a header, or
// JSON objects as [campaign.Recipient] has them. It is not safe for concurrent use.
//
// A CSV file has the columns token or user, or both, and one for each variable. A line
// names a device token or a user; a variable that is empty there is none.
type Recipients struct {
	lines     *lines
	variables []string
	columns   []string // of a CSV file; nil: lines of JSON
	fields    []string // used again
}

// NewRecipients returns the recipients in src, which stays the caller's to close.
// variables are those of the campaign. It reads the first line, and complains of a
// header that does not have exactly what is needed.
func NewRecipients(src io.Reader, variables []string) (*Recipients, error) {
	all, first, err := openLines(src)
	if err != nil {
		return nil, err
	}
	r := &Recipients{lines: all, variables: variables}
	if first[0] == '{' {
		return r, nil
	}
	if first, err = all.record(); err != nil {
		return nil, fmt.Errorf("the first line: %w", err)
	}
	if r.columns, err = header(string(bytes.TrimSpace(first))); err != nil {
		return nil, err
	}
	if !slices.Contains(r.columns, "token") && !slices.Contains(r.columns, "user") {
		return nil, fmt.Errorf("%w: a CSV file of recipients needs a header with the column token, or user", ErrFormat)
	}
	for _, name := range r.columns {
		if name != "token" && name != "user" && !slices.Contains(variables, name) {
			return nil, fmt.Errorf("roster: column %q is no variable of the campaign: name it in recipients.variables, or leave it out", name)
		}
	}
	for _, name := range variables {
		if !slices.Contains(r.columns, name) {
			return nil, fmt.Errorf("roster: the variable %q of the campaign has no column", name)
		}
	}
	return r, nil
}

// Next reads a line into out. At the end it returns io.EOF; any other error is that of
// the file itself. Empty lines are passed over.
func (r *Recipients) Next(out *Recipient) error {
	read := r.lines.next
	if r.columns != nil {
		read = r.lines.record
	}
	for {
		*out = Recipient{}
		text, err := read()
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
		if r.columns == nil {
			out.Err = unmarshal(string(text), &out.Recipient, json.RejectUnknownMembers(true))
		} else {
			out.Err = r.record(string(text), &out.Recipient)
		}
		if out.Err == nil {
			out.Err = r.check(&out.Recipient)
		}
		if out.Err != nil {
			out.Recipient = campaign.Recipient{}
		}
		return nil
	}
}

// record reads a record of CSV.
func (r *Recipients) record(text string, out *campaign.Recipient) (err error) {
	if r.fields, err = split(text, r.fields[:0]); err != nil {
		return err
	}
	if len(r.fields) != len(r.columns) {
		return fmt.Errorf("has %d fields where the header has %d", len(r.fields), len(r.columns))
	}
	out.Variables = make(map[string]string, len(r.variables))
	for i, name := range r.columns {
		switch name {
		case "token":
			out.Token = strings.TrimSpace(r.fields[i])
		case "user":
			out.User = r.fields[i]
		default:
			out.Variables[name] = r.fields[i]
		}
	}
	return nil
}

func (r *Recipients) check(c *campaign.Recipient) error {
	switch {
	case c.Token != "" && c.User != "":
		return errors.New("has both token and user")
	case c.Token != "":
		t, err := parseToken(c.Token)
		if err != nil {
			return fmt.Errorf("token: %w", err)
		}
		c.Token = t.Hex()
	case c.User == "":
		return errors.New("has neither token nor user")
	case len(c.User) > device.MaxIDBytes:
		return fmt.Errorf("user: is %d bytes long, at most %d are allowed", len(c.User), device.MaxIDBytes)
	}
	size, unknown := 0, ""
	for name, value := range c.Variables {
		if !slices.Contains(r.variables, name) && (unknown == "" || name < unknown) {
			unknown = name
		}
		if value == "" { // none, and takes no room
			delete(c.Variables, name)
		}
		size += len(value)
	}
	if unknown != "" {
		return fmt.Errorf("variables: %s is no variable of the campaign", shortName(unknown))
	}
	if size > maxVariablesBytes {
		return fmt.Errorf("variables: are %d bytes long together, at most %d are allowed", size, maxVariablesBytes)
	}
	if len(c.Variables) == 0 {
		c.Variables = nil
	}
	return nil
}
