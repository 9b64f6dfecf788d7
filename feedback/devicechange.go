package feedback

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// DeviceAction is what is to be done to a device.
type DeviceAction uint8

// The actions.
const (
	RegisterDevice DeviceAction = iota // or register it again
	RemoveDevice                       // nothing is sent to it until it is registered again
	DetachDevice                       // from its user, who has logged out
)

var deviceActions = [...]string{"register", "remove", "detach"}

// String returns the action's name on the wire.
func (a DeviceAction) String() string {
	if int(a) >= len(deviceActions) {
		return fmt.Sprintf("action(%d)", uint8(a))
	}
	return deviceActions[a]
}

// DeviceChange is one message on push.devices.<app>.
type DeviceChange struct {
	Action DeviceAction
	// Device has the Token and, to register, the rest. Environment unset is the
	// app's. To detach, a User says that it is done only if it is still that one's.
	Device device.Registration
}

// changeReader reads device changes. It is safe for concurrent use.
type changeReader struct {
	zones device.Zones
	table strictjson.Object[DeviceChange]
}

func newChangeReader() *changeReader {
	r := &changeReader{}
	action := strictjson.Member[DeviceChange]{Name: "action", Required: true, Read: func(d *strictjson.Decoder, c *DeviceChange) {
		s, ok := d.Text()
		if !ok {
			return
		}
		i := slices.Index(deviceActions[:], s)
		if i < 0 {
			d.Add("must be one of %s", strings.Join(deviceActions[:], ", "))
			return
		}
		c.Action = DeviceAction(i)
	}}
	members := device.RegistrationMembers(&r.zones, true)
	r.table = append(strictjson.Object[DeviceChange]{action},
		strictjson.Lift(members, func(c *DeviceChange) *device.Registration { return &c.Device })...)
	return r
}

// takes reports whether an action takes a member; to register takes all.
func (a DeviceAction) takes(member string) bool {
	switch member {
	case "action", "token":
		return true
	case "user":
		return a != RemoveDevice
	default:
		return a == RegisterDevice
	}
}

// ParseDeviceChange reads a device change:
//
//	{"action": "register", "token": "<hex>", "user": "u-1", "install_id": "i-1", …}
//
// action is register, remove or detach. It is strict, and the error tells
// everything that is wrong, with no device token in it.
func ParseDeviceChange(data []byte) (DeviceChange, error) { return newChangeReader().parse(data) }

func (r *changeReader) parse(data []byte) (DeviceChange, error) {
	var c DeviceChange
	d := strictjson.New(data)
	seen := r.table.Read(d, &c)
	d.End()
	if !d.Bad("action") {
		for _, name := range r.table.Seen(seen) {
			if !c.Action.takes(name) {
				d.AddAt(name, "is not for %s", c.Action)
			}
		}
	}
	list, more := d.List()
	if len(list) == 0 {
		return c, nil
	}
	texts := make([]string, len(list), len(list)+1)
	for i, p := range list {
		texts[i] = p.String()
	}
	if more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return c, errors.New(strings.Join(texts, "; "))
}
