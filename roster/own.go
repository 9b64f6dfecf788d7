package roster

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/pushfleet/pushfleet/device"
)

// own is a device in pushfleet's own form; the names are those of docs/api.md.
type own device.Description

// ownColumns are the columns of pushfleet's CSV.
var ownColumns = []string{
	"token", "state", "reason", "changed_at", "registered_at", "created_at", "generation", "environment", "kind",
	"accepted_before", "user", "install_id", "locale", "timezone", "app_version", "tags", "attributes",
}

func (o *own) take(out *Line) error {
	d := &out.Device
	var errs []error
	note := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	var err error
	d.Token, err = parseToken(o.Token)
	note("token", err)
	d.Environment, err = device.ParseEnvironment(o.Environment)
	note("environment", err)
	d.Kind, err = device.ParseKind(o.Kind)
	note("kind", err)
	d.User, d.InstallID, d.Locale, d.Timezone, d.AppVersion = o.User, o.InstallID, o.Locale, o.Timezone, o.AppVersion
	d.Tags, d.Attributes = o.Tags, o.Attributes
	d.Reason, d.Generation, d.Accepted = o.Reason, o.Generation, o.Accepted
	d.ChangedAt, d.RegisteredAt, d.CreatedAt = timeOf(o.ChangedAt), timeOf(o.RegisteredAt), timeOf(o.CreatedAt)
	switch o.State {
	case "", "live":
	case "quarantined":
		out.Skip = SkipQuarantined
	case "removed":
		out.Skip = SkipRemoved
	default:
		note("state", fmt.Errorf("must be live, quarantined or removed, got %q", o.State))
	}
	return errors.Join(errs...)
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// parseOwn reads a line of NDJSON.
func (r *Reader) parseOwn(text string, out *Line) error {
	var o own
	if err := unmarshal(text, &o, json.RejectUnknownMembers(true)); err != nil {
		return err
	}
	return o.take(out)
}

// unmarshal reads JSON. What is wrong is said without any of it but names.
func unmarshal(text string, v any, opts ...json.Options) error {
	err := json.Unmarshal([]byte(text), v, opts...)
	if err == nil {
		return nil
	}
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.Is(err, json.ErrUnknownName) && errors.As(err, &semantic):
		return fmt.Errorf("%s: is no known member", pointer(semantic.JSONPointer))
	case errors.Is(err, jsontext.ErrDuplicateName):
		return errors.New("has a member twice")
	case errors.As(err, &syntactic):
		return fmt.Errorf("is not JSON, from byte %d on", syntactic.ByteOffset)
	case errors.As(err, &semantic):
		return fmt.Errorf("%s: is not what belongs there", pointer(semantic.JSONPointer))
	default:
		return errors.New("cannot be read")
	}
}

// pointer names a member, shortened.
func pointer(p jsontext.Pointer) string {
	s := shortName(strings.ReplaceAll(strings.TrimPrefix(string(p), "/"), "/", "."))
	if s == "" {
		return "the whole"
	}
	return s
}

// shortName shortens a name that a file has.
func shortName(s string) string {
	const most = 80
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// ownRecord reads a record of pushfleet's CSV.
func (r *Reader) ownRecord(out *Line) error {
	var errs []error
	at := func(name string) *time.Time {
		t, err := parseTime(name, r.field(name))
		if err != nil {
			errs = append(errs, err)
		}
		if t.IsZero() {
			return nil
		}
		return &t
	}
	o := own{
		Token: r.field("token"), State: r.field("state"), Reason: r.field("reason"),
		ChangedAt: at("changed_at"), RegisteredAt: at("registered_at"), CreatedAt: at("created_at"),
		Environment: r.field("environment"), Kind: r.field("kind"),
		User: r.exact("user"), InstallID: r.exact("install_id"), Locale: r.field("locale"),
		Timezone: r.field("timezone"), AppVersion: r.field("app_version"),
	}
	if s := r.field("generation"); s != "" {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			errs = append(errs, errors.New("generation: must be a number"))
		}
		o.Generation = uint32(n)
	}
	switch s := r.field("accepted_before"); s {
	case "", "false":
	case "true":
		o.Accepted = true
	default:
		errs = append(errs, errors.New("accepted_before: must be true or false"))
	}
	if s := r.field("tags"); s != "" {
		if strings.HasPrefix(s, "[") {
			if err := unmarshal(s, &o.Tags); err != nil {
				errs = append(errs, errors.New("tags: must be a JSON list of texts, or texts with commas between"))
			}
		} else {
			for tag := range strings.SplitSeq(s, ",") {
				o.Tags = append(o.Tags, strings.TrimSpace(tag))
			}
		}
	}
	if s := r.field("attributes"); s != "" {
		if err := unmarshal(s, &o.Attributes); err != nil {
			errs = append(errs, errors.New("attributes: must be a JSON object of texts"))
		}
	}
	return errors.Join(append(errs, o.take(out))...)
}

// Writer writes devices in pushfleet's own forms. It is not safe for concurrent
// use, and does not buffer beyond one call.
type Writer struct {
	dst    io.Writer
	format Format
	csv    *csv.Writer
}

// NewWriter returns a Writer of NDJSON or CSV. With header, which NDJSON has
// none of, it begins with the names of the columns.
func NewWriter(dst io.Writer, format Format, header bool) (*Writer, error) {
	w := &Writer{dst: dst, format: format}
	switch format {
	case NDJSON:
		return w, nil
	case CSV:
		w.csv = csv.NewWriter(dst)
		if header {
			if err := w.csv.Write(ownColumns); err != nil {
				return nil, err
			}
			w.csv.Flush()
		}
		return w, w.csv.Error()
	default:
		return nil, fmt.Errorf("roster: written are ndjson and csv, not %q", format)
	}
}

// Write writes devices, with their whole device tokens.
func (w *Writer) Write(list []device.Device) error {
	for i := range list {
		o := own(device.Describe(list[i]))
		if w.format == NDJSON {
			line, err := json.Marshal(&o, json.Deterministic(true))
			if err != nil {
				return fmt.Errorf("write device %s: %w", list[i].Token, err)
			}
			if _, err := w.dst.Write(append(line, '\n')); err != nil {
				return err
			}
			continue
		}
		if err := w.csv.Write(o.columns()); err != nil {
			return err
		}
	}
	if w.csv == nil {
		return nil
	}
	w.csv.Flush()
	return w.csv.Error()
}

// columns is o in the order of ownColumns.
func (o *own) columns() []string {
	at := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.Format(time.RFC3339Nano)
	}
	text := func(v any, n int) string {
		if n == 0 {
			return ""
		}
		packed, err := json.Marshal(v, json.Deterministic(true))
		if err != nil {
			return "" // the token set holds UTF-8 only
		}
		return string(packed)
	}
	return []string{
		o.Token, o.State, o.Reason, at(o.ChangedAt), at(o.RegisteredAt), at(o.CreatedAt),
		strconv.FormatUint(uint64(o.Generation), 10), o.Environment, o.Kind, strconv.FormatBool(o.Accepted),
		o.User, o.InstallID, o.Locale, o.Timezone, o.AppVersion, text(o.Tags, len(o.Tags)), text(o.Attributes, len(o.Attributes)),
	}
}
