package job

import (
	"slices"
	"strings"

	"github.com/pushfleet/pushfleet/device"
)

// PushType is apns-push-type. The zero value means "derive it from the payload".
type PushType string

// The push types (Apple, Sending notification requests to APNs).
const (
	PushAlert        PushType = "alert"
	PushBackground   PushType = "background"
	PushComplication PushType = "complication"
	PushControls     PushType = "controls"
	PushFileProvider PushType = "fileprovider"
	PushLiveActivity PushType = "liveactivity"
	PushLocation     PushType = "location"
	PushMDM          PushType = "mdm"
	PushPushToTalk   PushType = "pushtotalk"
	PushVoIP         PushType = "voip"
	PushWidgets      PushType = "widgets"
)

// traits is what a push type asks for. The names are fields of a notification.
type traits struct {
	push        PushType
	topicSuffix string
	kind        device.Kind

	priority int    // default
	refuses  int    // a priority that APNs does not take with it; 0: none
	needs    string // fields that must be there
	forbids  string // fields that must not be there
	owns     string // fields that only this push type, or one that owns them too, may have

	payloadOnly string // has no aps: needs payload with this member
}

// Fields that show something to the user, and those that only a Live Activity has.
const (
	shownFields = "title title_loc_key subtitle subtitle_loc_key body loc_key"
	alertFields = shownFields + " title_loc_args subtitle_loc_args loc_args launch_image"
	liveFields  = "event timestamp content_state stale_date dismissal_date attributes_type attributes input_push_channel input_push_token"
)

// pushTypes is the one table of what each push type asks for.
var pushTypes = []traits{
	{push: PushAlert, kind: device.Alert, priority: 10},
	{
		push: PushBackground, kind: device.Alert, priority: 5, refuses: 10,
		needs: "content_available", forbids: alertFields + " badge sound",
	},
	{push: PushComplication, topicSuffix: ".complication", kind: device.Complication, priority: 10},
	{
		push: PushControls, topicSuffix: ".push-type.controls", kind: device.Control, priority: 10,
		needs: "content_changed", owns: "content_changed",
	},
	{push: PushFileProvider, topicSuffix: ".pushkit.fileprovider", kind: device.FileProvider, priority: 10},
	{
		push: PushLiveActivity, topicSuffix: ".push-type.liveactivity", kind: device.LiveActivity, priority: 10, refuses: 1,
		needs: "event timestamp content_state", owns: liveFields,
	},
	{push: PushLocation, topicSuffix: ".location-query", kind: device.Location, priority: 10},
	{push: PushMDM, kind: device.MDM, priority: 10, payloadOnly: "mdm"},
	{push: PushPushToTalk, topicSuffix: ".voip-ptt", kind: device.PushToTalk, priority: 10},
	{push: PushVoIP, topicSuffix: ".voip", kind: device.VoIP, priority: 10},
	{
		push: PushWidgets, topicSuffix: ".push-type.widgets", kind: device.Widget, priority: 10,
		needs: "content_changed", owns: "content_changed",
	},
}

// index returns the row's place in pushTypes.
func (t *traits) index() int {
	for i := range pushTypes {
		if &pushTypes[i] == t {
			return i
		}
	}
	panic("job: traits of no push type")
}

// forbidden returns the fields that a notification of this push type must not have.
func (t *traits) forbidden() []string {
	own := strings.Fields(t.owns)
	out := strings.Fields(t.forbids)
	for i := range pushTypes {
		for _, f := range strings.Fields(pushTypes[i].owns) {
			if !slices.Contains(own, f) && !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

// PushTypes returns all push types, in alphabetical order.
func PushTypes() []PushType {
	out := make([]PushType, len(pushTypes))
	for i := range pushTypes {
		out[i] = pushTypes[i].push
	}
	return out
}

func pushTypeNames() []string {
	out := make([]string, len(pushTypes))
	for i := range pushTypes {
		out[i] = string(pushTypes[i].push)
	}
	return out
}

// traits returns p's row, or nil.
func (p PushType) traits() *traits {
	for i := range pushTypes {
		if pushTypes[i].push == p {
			return &pushTypes[i]
		}
	}
	return nil
}

// Known reports whether p is one of [PushTypes].
func (p PushType) Known() bool { return p.traits() != nil }

// Topic returns apns-topic for an app: its bundle id and the suffix that p asks
// for. With [PushMDM], bundleID stands for the topic of the MDM certificate.
func (p PushType) Topic(bundleID string) string {
	if t := p.traits(); t != nil && t.topicSuffix != "" {
		return bundleID + t.topicSuffix
	}
	return bundleID
}

// Kind returns the kind of device token that p is sent to; for [PushLiveActivity]
// that of a running one (see [Job.Kind] for starts).
func (p PushType) Kind() device.Kind {
	if t := p.traits(); t != nil {
		return t.kind
	}
	return device.Alert
}

// MaxPayload returns how many bytes a payload of this push type may have.
func (p PushType) MaxPayload() int {
	if p == PushVoIP {
		return MaxVoIPPayloadBytes
	}
	return MaxPayloadBytes
}

// DefaultPriority returns the priority of a job that names none: 10, or 5 for
// [PushBackground].
func (p PushType) DefaultPriority() int {
	if t := p.traits(); t != nil {
		return t.priority
	}
	return 10
}

// Allows reports whether APNs takes the priority with p.
func (p PushType) Allows(priority int) bool {
	t := p.traits()
	return slices.Contains([]int{10, 5, 1}, priority) && (t == nil || t.refuses != priority)
}
