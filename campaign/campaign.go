package campaign

import (
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

// Limits of a campaign.
//
// choice: a definition is one entry of a key-value bucket and is held by every
// worker; the lists are far longer than anybody writes by hand.
const (
	MaxBytes         = 256 << 10
	MaxIDBytes       = job.MaxIDBytes
	MaxListItems     = 1000 // of one list of an audience
	MaxLocalizations = 200
	MaxVariables     = 100
	MaxKindBytes     = 32                  // the kind of a frequency cap
	MaxSeedBytes     = 128                 // the seed of a control group
	MaxCap           = 1000                // notifications to one user in a window
	MaxCapWindow     = 30 * 24 * time.Hour // of a frequency cap
)

// Campaign is one message to one audience: whom, what, when, how fast, and whom to
// spare. [Parse] reads it, and [Campaign.Compile] makes it work.
type Campaign struct {
	// ID makes it unique within its app. At most [MaxIDBytes], and less for a
	// recurring one, see [Campaign.RunAt].
	ID string

	// Audience, or Recipients: a file of them is handed in beside the campaign.
	Audience   Audience
	Recipients *Recipients

	// Content is a job without ID, To and SendAfter. The strings that are values in
	// its notification, data or payload may hold placeholders: {{name}} or
	// {{name|default}}.
	Content job.Job
	// Localizations are, by BCP 47 tag, members that take the place of those of
	// Content's notification for devices of that locale. For de-AT, those of de-AT
	// take the place of those of de.
	Localizations map[string]*job.Notification

	StartAt time.Time // zero: at once
	// LocalTime is the time of day, such as 09:00, that the device's own clock is to
	// show; counted from the start. Empty: no matter.
	LocalTime     string
	PastLocalTime PastLocalTime
	// DefaultTimezone is the time zone of devices that have none, or one that is not
	// known. Empty: UTC.
	DefaultTimezone string

	// Rate in notifications per second over the whole fleet, up to [MaxRate]; 0: as
	// fast as it goes.
	Rate int

	QuietHours   *QuietHours
	FrequencyCap *FrequencyCap
	ControlGroup *ControlGroup
	Recurrence   *Recurrence // it is not sent itself, but runs of it are
}

// Audience says which registered devices are meant: All of them, or those for
// which everything holds that is given.
type Audience struct {
	All bool

	Tags      Tags
	Locales   []string // BCP 47; one of them, or a locale that is more exact
	Timezones []string // IANA; one of them
	// Attributes are, by name, the values of which the device must have one.
	Attributes map[string][]string
	AppVersion VersionRange
	// RegisteredAfter and RegisteredBefore are about the last registration, which an
	// app does at every launch. Not earlier than the one, earlier than the other.
	RegisteredAfter, RegisteredBefore time.Time
	Environment                       device.Environment
}

// Tags are those of a device: one of Any, each of All, and none of None.
type Tags struct{ Any, All, None []string }

// VersionRange is of app versions, as numbers between dots: 2.10 is newer than
// 2.9, and 2 is 2.0. Both ends are in it; an empty one is open.
type VersionRange struct{ Min, Max string }

// Recipients are those of a file: device tokens or users, and the values of these
// variables for each.
type Recipients struct{ Variables []string }

// PastLocalTime says what becomes of a device whose local time has passed at the
// start.
type PastLocalTime string

// The choices. The zero value is NextDay.
const (
	NextDay PastLocalTime = "next_day" // it waits until the next day
	SkipDay PastLocalTime = "skip"     // it is left out
)

// QuietHours are the hours of the device's own clock in which nothing is sent. To
// may be on the next day, and is not quiet itself.
type QuietHours struct {
	From, To string // such as 22:00
	Action   QuietAction
}

// QuietAction says what becomes of a device in quiet hours.
type QuietAction string

// The choices. The zero value is Defer.
const (
	Defer     QuietAction = "defer" // it waits until they are over
	SkipQuiet QuietAction = "skip"  // it is left out
)

// FrequencyCap bounds how many notifications of a kind one user gets within a
// time that ends now.
type FrequencyCap struct {
	Max  int           // 1 to [MaxCap]
	Per  time.Duration // a minute to [MaxCapWindow]
	Kind string        // what is counted together; empty: [DefaultKind]
	// Override counts, but is never refused.
	Override bool
}

// DefaultKind is the kind of frequency caps that name none.
const DefaultKind = "default"

// ControlGroup is the part of the audience that is left out, to compare with. It
// is drawn by hash: the same users again for the same seed.
type ControlGroup struct {
	Percent float64 // above 0 and below 100
	Seed    string  // empty: the campaign's id
}

// Recurrence says when runs of a campaign start.
type Recurrence struct {
	Cron     string // five fields: minute, hour, day of month, month, day of week
	Timezone string // IANA; empty: UTC
}
