package roster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pushfleet/pushfleet/device"
)

// startJSON tells the format of a file by its first line.
func (r *Reader) startJSON(first string) error {
	if r.format == Unknown {
		var names map[string]any
		if err := unmarshal(first, &names); err != nil {
			if len(strings.TrimSpace(first)) < 3 || strings.Contains(first, `"Endpoints"`) {
				return fmt.Errorf("%w: a JSON object must be on one line, such as by jq -c", ErrFormat)
			}
			return fmt.Errorf("%w, which %w: give --format", ErrFormat, err)
		}
		has := func(name string) bool { _, ok := names[name]; return ok }
		switch {
		case has("EndpointArn"):
			r.format = SNS
		case has("ChannelType") || has("Address"):
			r.format = Pinpoint
		case has("token"):
			r.format = NDJSON
		default:
			return fmt.Errorf("%w: it has none of the members token, EndpointArn and ChannelType", ErrFormat)
		}
	}
	switch r.format {
	case NDJSON:
		r.parse = (*Reader).parseOwn
	case SNS:
		r.parse = (*Reader).parseSNS
	case Pinpoint:
		r.parse = (*Reader).parsePinpoint
	default:
		return fmt.Errorf("roster: the file holds JSON, which format %s is not", r.format)
	}
	return nil
}

// channels are Amazon's names for what are device tokens of APNs, in ARNs of SNS
// and as channel types of Pinpoint.
var channels = map[string]struct {
	environment device.Environment
	kind        device.Kind
}{
	"APNS":              {device.Production, device.Alert},
	"APNS_SANDBOX":      {device.Sandbox, device.Alert},
	"APNS_VOIP":         {device.Production, device.VoIP},
	"APNS_VOIP_SANDBOX": {device.Sandbox, device.VoIP},
	"MACOS":             {device.Production, device.Alert},
	"MACOS_SANDBOX":     {device.Sandbox, device.Alert},
}

// channel sets environment and kind, or says that it is none of APNs.
func channel(name string, out *Line) bool {
	c, ok := channels[name]
	if !ok {
		out.Skip = SkipOtherPlatform
		return false
	}
	out.Device.Environment, out.Device.Kind = c.environment, c.kind
	return true
}

// snsEndpoint is a platform endpoint of Amazon SNS.
type snsEndpoint struct {
	ARN, Token, Enabled, CustomUserData string
}

func (r *Reader) parseSNS(text string, out *Line) error {
	var e struct {
		EndpointArn string
		Attributes  struct{ Token, Enabled, CustomUserData string }
	}
	if err := unmarshal(text, &e); err != nil {
		return err
	}
	return r.sns(snsEndpoint{e.EndpointArn, e.Attributes.Token, e.Attributes.Enabled, e.Attributes.CustomUserData}, out)
}

func (r *Reader) sns(e snsEndpoint, out *Line) error {
	if e.ARN != "" {
		// arn:aws:sns:eu-west-1:123456789012:endpoint/APNS/shop/0f1e…
		_, path, ok := strings.Cut(e.ARN, ":endpoint/")
		name, _, _ := strings.Cut(path, "/")
		if !ok || name == "" {
			return errors.New("column EndpointArn: is not that of a platform endpoint")
		}
		if !channel(name, out) {
			return nil
		}
	}
	switch strings.ToLower(e.Enabled) {
	case "", "true":
	case "false":
		out.Skip = SkipDisabled
		return nil
	default:
		return errors.New("column Enabled: must be true or false")
	}
	var err error
	if out.Device.Token, err = parseToken(e.Token); err != nil {
		return fmt.Errorf("column Token: %w", err)
	}
	switch {
	case e.CustomUserData == "" || r.opt.UserData == UserDataIgnored:
	case r.opt.UserData == UserDataUser:
		out.Device.User = e.CustomUserData
	default:
		out.Device.Attributes = map[string]string{"custom_user_data": e.CustomUserData}
	}
	return nil
}

// pinpointEndpoint is an endpoint of Amazon Pinpoint, as far as it is read.
type pinpointEndpoint struct {
	ChannelType    string
	Address        string
	EndpointStatus string
	OptOut         string
	EffectiveDate  string
	CreationDate   string
	Attributes     map[string][]string
	Location       struct{ Country, City, Region, PostalCode string }
	Demographic    struct{ Locale, Timezone, AppVersion, Model, PlatformVersion string }
	User           struct {
		UserID         string `json:"UserId"`
		UserAttributes map[string][]string
	}
}

func (r *Reader) parsePinpoint(text string, out *Line) error {
	var e pinpointEndpoint
	if err := unmarshal(text, &e); err != nil {
		return err
	}
	return pinpoint(&e, out)
}

// pinpointRecord reads a CSV record, whose columns are paths with dots.
func (r *Reader) pinpointRecord() *pinpointEndpoint {
	var e pinpointEndpoint
	for dst, column := range map[*string]string{
		&e.ChannelType: "ChannelType", &e.Address: "Address", &e.EndpointStatus: "EndpointStatus", &e.OptOut: "OptOut",
		&e.EffectiveDate: "EffectiveDate", &e.CreationDate: "CreationDate",
		&e.Location.Country: "Location.Country", &e.Location.City: "Location.City",
		&e.Location.Region: "Location.Region", &e.Location.PostalCode: "Location.PostalCode",
		&e.Demographic.Locale: "Demographic.Locale", &e.Demographic.Timezone: "Demographic.Timezone",
		&e.Demographic.AppVersion: "Demographic.AppVersion", &e.Demographic.Model: "Demographic.Model",
		&e.Demographic.PlatformVersion: "Demographic.PlatformVersion", &e.User.UserID: "User.UserId",
	} {
		*dst = r.field(column)
	}
	for i, column := range r.columns {
		value := strings.TrimSpace(r.fields[i])
		if value == "" {
			continue
		}
		if name, ok := strings.CutPrefix(column, "Attributes."); ok {
			e.Attributes = add(e.Attributes, name, value)
		}
		if name, ok := strings.CutPrefix(column, "User.UserAttributes."); ok {
			e.User.UserAttributes = add(e.User.UserAttributes, name, value)
		}
	}
	return &e
}

func add(m map[string][]string, name, value string) map[string][]string {
	if m == nil {
		m = make(map[string][]string)
	}
	m[name] = append(m[name], value)
	return m
}

func pinpoint(e *pinpointEndpoint, out *Line) error {
	switch {
	case !channel(e.ChannelType, out):
		if e.ChannelType == "" {
			out.Skip = ""
			return errors.New("column ChannelType: is missing")
		}
		return nil
	case e.OptOut == "ALL":
		out.Skip = SkipOptedOut
		return nil
	case e.EndpointStatus == "INACTIVE":
		out.Skip = SkipDisabled
		return nil
	}
	d := &out.Device
	var errs []error
	var err error
	if d.Token, err = parseToken(e.Address); err != nil {
		errs = append(errs, fmt.Errorf("column Address: %w", err))
	}
	if d.RegisteredAt, err = parseTime("EffectiveDate", e.EffectiveDate); err != nil {
		errs = append(errs, err)
	}
	if d.CreatedAt, err = parseTime("CreationDate", e.CreationDate); err != nil {
		errs = append(errs, err)
	}
	d.User, d.Locale, d.Timezone, d.AppVersion = e.User.UserID, locale(e.Demographic.Locale), e.Demographic.Timezone, e.Demographic.AppVersion
	attributes := make(map[string]string)
	put := func(name string, values ...string) {
		if s := strings.Join(values, ","); s != "" {
			attributes[name] = s
		}
	}
	put("country", e.Location.Country)
	put("city", e.Location.City)
	put("region", e.Location.Region)
	put("postal_code", e.Location.PostalCode)
	put("model", e.Demographic.Model)
	put("os_version", e.Demographic.PlatformVersion)
	for name, values := range e.User.UserAttributes {
		put("user."+name, values...)
	}
	for name, values := range e.Attributes {
		put(name, values...)
	}
	if len(attributes) > 0 {
		d.Attributes = attributes
	}
	return errors.Join(errs...)
}

// oneSignal reads a record of OneSignal's CSV export.
func (r *Reader) oneSignal(out *Line) error {
	switch strings.ToLower(r.field("device_type")) {
	case "0", "ios", "iospush":
	case "":
		return errors.New("column device_type: is missing")
	default:
		out.Skip = SkipOtherPlatform
		return nil
	}
	switch strings.ToLower(r.field("invalid_identifier")) {
	case "", "f", "false", "0":
	case "t", "true", "1":
		out.Skip = SkipDisabled
		return nil
	default:
		return errors.New("column invalid_identifier: must be true or false")
	}
	switch n := r.field("notification_types"); {
	case strings.HasPrefix(n, "-"):
		out.Skip = SkipOptedOut
		return nil
	case r.field("identifier") == "":
		// Never allowed notifications, or has not answered yet.
		out.Skip = SkipOptedOut
		return nil
	}
	d := &out.Device
	var errs []error
	var err error
	if d.Token, err = parseToken(r.field("identifier")); err != nil {
		errs = append(errs, fmt.Errorf("column identifier: %w", err))
	}
	if r.field("test_type") == "1" {
		d.Environment = device.Sandbox
	}
	if d.RegisteredAt, err = parseTime("last_active", r.field("last_active")); err != nil {
		errs = append(errs, err)
	}
	if d.CreatedAt, err = parseTime("created_at", r.field("created_at")); err != nil {
		errs = append(errs, err)
	}
	d.User, d.Locale, d.Timezone, d.AppVersion = r.field("external_user_id"), locale(r.field("language")), r.field("timezone_id"), r.field("game_version")
	attributes := make(map[string]string)
	if s := r.field("tags"); s != "" {
		if err := unmarshal(s, &attributes); err != nil {
			errs = append(errs, errors.New("column tags: must be a JSON object of texts"))
		}
	}
	for name, column := range map[string]string{"country": "country", "model": "device_model", "os_version": "device_os"} {
		if s := r.field(column); s != "" && attributes[name] == "" {
			attributes[name] = s
		}
	}
	if len(attributes) > 0 {
		d.Attributes = attributes
	}
	return errors.Join(errs...)
}
