package device

import "time"

// Description is a device in JSON, as the token set knows it: over HTTP, in files
// of devices, and on a screen. It holds the whole device token. The texts are for
// the OpenAPI document.
type Description struct {
	_ struct{} `additionalProperties:"true"`

	Token        string            `json:"token" doc:"The device token, in lower-case hexadecimal."`
	State        string            `json:"state" enum:"live,quarantined,removed" doc:"Only to a live one is sent. A quarantined one was rejected in a way that may be a mistake of ours; a removed one is remembered for 30 days."`
	Reason       string            `json:"reason,omitempty" doc:"Why it is not live: APNs's word, or ours in lower case."`
	ChangedAt    *time.Time        `json:"changed_at,omitempty" doc:"Since when it is not live."`
	RegisteredAt *time.Time        `json:"registered_at,omitempty" doc:"The last registration. Left out: it was never registered, only removed."`
	CreatedAt    *time.Time        `json:"created_at,omitempty" doc:"The first registration."`
	Generation   uint32            `json:"generation" doc:"Counts its registrations."`
	Environment  string            `json:"environment,omitempty" doc:"The APNs environment."`
	Kind         string            `json:"kind" doc:"What the device token is for."`
	Accepted     bool              `json:"accepted_before" doc:"APNs took a notification for it before."`
	User         string            `json:"user,omitempty" doc:"Your id of the user."`
	InstallID    string            `json:"install_id,omitempty" doc:"Your id of the installation of the app."`
	Locale       string            `json:"locale,omitempty" doc:"BCP 47."`
	Timezone     string            `json:"timezone,omitempty" doc:"IANA."`
	AppVersion   string            `json:"app_version,omitempty" doc:"Version of the app."`
	Tags         []string          `json:"tags,omitempty" nullable:"false" doc:"Tags."`
	Attributes   map[string]string `json:"attributes,omitempty" doc:"Attributes."`
}

// Describe describes a device. Times are in UTC.
func Describe(d Device) Description {
	out := Description{
		Token: d.Token.Hex(), State: d.Record.State.String(), Generation: d.Record.Generation,
		RegisteredAt: instant(d.Record.RegisteredAt), ChangedAt: instant(d.Record.ChangedAt),
		Environment: d.Record.Environment.String(), Kind: d.Record.Kind.String(), Accepted: d.Record.Accepted,
		User: d.User, InstallID: d.InstallID, Locale: d.Locale, Timezone: d.Timezone, AppVersion: d.AppVersion,
		Tags: d.Tags, Attributes: d.Attributes,
	}
	if !d.Record.Usable() {
		out.Reason = d.Record.Reason.String()
	}
	if !d.CreatedAt.IsZero() {
		out.CreatedAt = instant(d.CreatedAt.UnixMilli())
	}
	return out
}

func instant(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}
