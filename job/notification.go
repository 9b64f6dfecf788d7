package job

import (
	"encoding/json"

	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// Notification is what the user or the app gets, in the words of Apple's `aps`
// dictionary. On the wire its members are Apple's keys in snake_case, those of
// `alert` among them. Zero values are left out; pointers tell zero from absent
// where zero says something (new(0) makes one).
type Notification struct {
	// The alert: text, or keys into the app's Localizable.strings with arguments
	// for their %@ in order.
	Title           string
	TitleLocKey     string
	TitleLocArgs    []string
	Subtitle        string
	SubtitleLocKey  string
	SubtitleLocArgs []string
	Body            string
	LocKey          string // of the body
	LocArgs         []string
	LaunchImage     string

	Badge             *int // nil leaves the app's badge as it is, 0 removes it
	Sound             Sound
	ThreadID          string
	Category          string
	ContentAvailable  bool // wake the app in the background
	MutableContent    bool // pass through the notification service extension
	TargetContentID   string
	InterruptionLevel InterruptionLevel
	RelevanceScore    *float64 // 0 to 1; any number for a Live Activity
	FilterCriteria    string
	ContentChanged    bool // widgets and controls: reload

	// Live Activities.
	Event            Event
	Timestamp        *int64          // Unix seconds; the device shows the newest
	ContentState     json.RawMessage // an object
	StaleDate        *int64          // Unix seconds
	DismissalDate    *int64          // Unix seconds; in the past: at once
	AttributesType   string          // start only
	Attributes       json.RawMessage // an object; start only
	InputPushChannel string          // start only: the broadcast channel to follow
	InputPushToken   bool            // start only: ask for an update token
}

// Sound is the sound of a notification. The zero value is no sound; a sound
// with only a name goes to APNs as a string, any other as a dictionary.
type Sound struct {
	Name     string // a file in the app, or "default"
	Critical bool
	Volume   *float64 // 0 to 1, for critical alerts
}

// InterruptionLevel says how a notification may interrupt. Empty: left to the system.
type InterruptionLevel string

// The interruption levels.
const (
	Passive       InterruptionLevel = "passive"
	Active        InterruptionLevel = "active"
	TimeSensitive InterruptionLevel = "time-sensitive"
	Critical      InterruptionLevel = "critical"
)

// Event is what happens to a Live Activity. Empty: no Live Activity.
type Event string

// The events of a Live Activity.
const (
	EventStart  Event = "start"
	EventUpdate Event = "update"
	EventEnd    Event = "end"
)

// MarshalJSON implements [json.Marshaler]: the notification as in a job.
func (n *Notification) MarshalJSON() ([]byte, error) {
	j := Job{Notification: n}
	if err := j.raws(); err != nil {
		return nil, err
	}
	return notificationObject.encode(nil, n), nil
}

// UnmarshalJSON implements [json.Unmarshaler]. It checks each field, but not what
// depends on the job around it, such as the push type; the error is an [*Invalid].
func (n *Notification) UnmarshalJSON(data []byte) error {
	d := strictjson.New(data)
	var decoded Notification
	notificationObject.decode(d, &decoded)
	d.End()
	if err := invalid(&d.Problems); err != nil {
		return err
	}
	*n = decoded
	return nil
}
