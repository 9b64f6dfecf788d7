package campaign

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/device"
)

// Mismatch says why a device does not belong to the audience, by the first rule that
// leaves it out, in words for whoever asks; empty: it belongs to it, see
// [Plan.Matches]. It holds what the device's record holds, but no device token.
func (p *Plan) Mismatch(d *device.Device) string {
	m, r := &p.audience, &d.Record
	switch {
	case m.matches(d):
		return ""
	case !r.Usable():
		return fmt.Sprintf("its device token is %s since %s: %s", r.State, moment(r.ChangedAt), r.Reason)
	case r.Kind != m.kind:
		return fmt.Sprintf("it needs a device token of kind %s, the device's is of kind %s", m.kind, r.Kind)
	case m.environment != device.EnvironmentUnset && r.Environment != m.environment:
		return wants("environment", m.environment.String(), r.Environment.String())
	case m.after != 0 && r.RegisteredAt < m.after:
		return fmt.Sprintf("the audience asks for devices registered since %s, the device was last registered %s", moment(m.after), moment(r.RegisteredAt))
	case m.before != 0 && r.RegisteredAt >= m.before:
		return fmt.Sprintf("the audience asks for devices last registered before %s, the device was %s", moment(m.before), moment(r.RegisteredAt))
	}
	return m.detailsMismatch(d)
}

// detailsMismatch has the rules of matchesDetails, in their order.
func (m *matcher) detailsMismatch(d *device.Device) string {
	has := func(tag string) bool { return slices.Contains(d.Tags, tag) }
	if len(m.anyTag) == 1 && !has(m.anyTag[0]) {
		return lacks(m.anyTag[0])
	}
	if len(m.anyTag) > 0 && !slices.ContainsFunc(m.anyTag, has) {
		return fmt.Sprintf("the audience asks for tag %s, of which the device has none", either(m.anyTag))
	}
	for _, tag := range m.allTags {
		if !has(tag) {
			return lacks(tag)
		}
	}
	for _, tag := range m.noTag {
		if has(tag) {
			return fmt.Sprintf("the audience leaves out tag %s, which the device has", tag)
		}
	}
	if len(m.locales) > 0 && !m.speaks(d.Locale) {
		return wants("locale", either(m.locales), d.Locale)
	}
	if len(m.zones) > 0 && !m.zones[d.Timezone] {
		zones := make([]string, 0, len(m.zones))
		for name := range m.zones {
			zones = append(zones, name)
		}
		slices.Sort(zones)
		return wants("time zone", either(zones), d.Timezone)
	}
	inOrder := slices.SortedFunc(slices.Values(m.attributes), func(a, b attribute) int { return strings.Compare(a.name, b.name) })
	for _, a := range inOrder {
		if value, ok := d.Attributes[a.name]; !ok || !slices.Contains(a.values, value) {
			return wants("attribute "+a.name, either(a.values), value)
		}
	}
	return wants("app version", m.version.words(), d.AppVersion)
}

func lacks(tag string) string {
	return fmt.Sprintf("the audience asks for tag %s, which the device does not have", tag)
}

func wants(what, wanted, got string) string {
	if got == "" {
		return fmt.Sprintf("the audience asks for %s %s, the device has none", what, wanted)
	}
	return fmt.Sprintf("the audience asks for %s %s, the device's is %s", what, wanted, got)
}

// mostNamed bounds what is read out of a list of up to [MaxListItems].
const mostNamed = 5

// either reads out a list.
func either(list []string) string {
	switch n := len(list); {
	case n == 1:
		return list[0]
	case n > mostNamed:
		return fmt.Sprintf("%s or one of %d more", strings.Join(list[:mostNamed], ", "), n-mostNamed)
	default:
		return strings.Join(list[:n-1], ", ") + " or " + list[n-1]
	}
}

func (v VersionRange) words() string {
	switch {
	case v.Max == "":
		return v.Min + " or newer"
	case v.Min == "":
		return v.Max + " or older"
	}
	return v.Min + " to " + v.Max
}

// moment is a time in milliseconds since the epoch.
func moment(ms int64) string { return time.UnixMilli(ms).UTC().Truncate(time.Second).String() }
