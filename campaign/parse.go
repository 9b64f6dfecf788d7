package campaign

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/job"
)

// Parse reads a campaign as JSON, at most [MaxBytes] of it. The error is a
// [*job.Invalid] with every problem at once, up to the first syntax error; it
// holds no content. The campaign holds nothing of data, and its times are in UTC.
func Parse(data []byte) (*Campaign, error) {
	var c Campaign
	d := strictjson.New(data)
	if len(data) > MaxBytes {
		d.Add("is %d bytes long, at most %d are allowed", len(data), MaxBytes)
		return nil, invalid(&d.Problems)
	}
	isObject := d.Peek() == '{'
	seen := campaignTable.Seen(campaignTable.Read(d, &c))
	d.End()
	if isObject && !d.Broken() {
		c.rules(&d.Problems, seen)
	}
	if err := invalid(&d.Problems); err != nil {
		return nil, err
	}
	return &c, nil
}

// Validate checks a campaign that Go code made, by the rules and with the paths of
// [Parse]; the error is a [*job.Invalid].
func (c *Campaign) Validate() error {
	data, err := c.AppendJSON(nil)
	if err != nil {
		return err
	}
	var p strictjson.Problems
	if c.Content.ID != "" || c.Content.To.Len() > 0 || !c.Content.SendAfter.IsZero() {
		p.Add("its content must not have an id, recipients or send_after: the campaign has them")
	}
	if c.Recipients != nil && !c.Audience.empty() {
		p.Add("must have exactly one of audience, recipients, got 2 of them")
	}
	if err := invalid(&p); err != nil {
		return err
	}
	_, err = Parse(data)
	return err
}

// AppendJSON appends the campaign's JSON, which [Parse] reads back to an equal
// campaign, and returns the extended slice. It fails, with dst as it was, only
// where what is to be passed on as it is cannot be ([*job.Invalid]); it does not
// otherwise validate.
func (c *Campaign) AppendJSON(dst []byte) ([]byte, error) {
	if _, err := c.Content.AppendJSON(nil); err != nil {
		return dst, err
	}
	if g := c.ControlGroup; g != nil && (math.IsNaN(g.Percent) || math.IsInf(g.Percent, 0)) {
		var p strictjson.Problems
		p.AddAt("control_group.percent", "%s", percentProblem)
		return dst, invalid(&p)
	}
	for tag, n := range c.Localizations {
		if n == nil {
			return dst, fmt.Errorf("encode campaign: localization %q is nil", tag)
		}
		if _, err := n.MarshalJSON(); err != nil {
			return dst, fmt.Errorf("encode localization %q: %w", tag, err)
		}
	}
	return campaignTable.Append(dst, c), nil
}

// MarshalJSON implements [encoding/json.Marshaler] with [Campaign.AppendJSON].
func (c *Campaign) MarshalJSON() ([]byte, error) { return c.AppendJSON(nil) }

// UnmarshalJSON implements [encoding/json.Unmarshaler] with [Parse].
func (c *Campaign) UnmarshalJSON(data []byte) error {
	parsed, err := Parse(data)
	if err != nil {
		return err
	}
	*c = *parsed
	return nil
}

// startGrace is how long ago a start may be that is not refused: clocks differ, and
// a definition takes a moment on its way.
const startGrace = time.Minute

// Check checks what depends on the time: a start that is over, or an expiry. It is
// for a campaign that is new. The error is a [*job.Invalid].
func (c *Campaign) Check(now time.Time) error {
	var p strictjson.Problems
	if !c.StartAt.IsZero() && c.StartAt.Before(now.Add(-startGrace)) {
		p.AddAt("start_at", "must not be in the past")
	}
	if at := c.Content.ExpiresAt; !at.IsZero() && !at.After(now) {
		p.AddAt("expires_at", "must not be in the past")
	}
	if c.Recurrence != nil {
		if _, ok := c.NextRun(now, new(device.Zones)); !ok {
			p.AddAt("recurrence.cron", "does not come in the next years")
		}
	}
	return invalid(&p)
}

// invalid returns what was found, or nil.
func invalid(p *strictjson.Problems) error {
	list, more := p.List()
	if len(list) == 0 {
		return nil
	}
	return &job.Invalid{What: "campaign", Problems: list, More: more}
}

// empty reports whether the audience says nothing.
func (a *Audience) empty() bool {
	return len(audienceTable.Append(nil, &Campaign{Audience: *a})) == len("{}")
}

// rules checks what concerns more than one member. seen are the members that were
// given.
func (c *Campaign) rules(p *strictjson.Problems, seen []string) {
	given := func(name string) bool { return slices.Contains(seen, name) }
	switch audience, recipients := given("audience"), given("recipients"); {
	case audience && recipients:
		p.Add("must have exactly one of audience, recipients, got 2 of them")
	case !audience && !recipients:
		p.Add("must have exactly one of audience, recipients")
	}
	c.zoneRules(p)
	c.timeRules(p)
	c.contentRules(p)
}

// zoneRules checks that time zones are known.
func (c *Campaign) zoneRules(p *strictjson.Problems) {
	var z device.Zones
	check := func(path, name string) {
		if name != "" && !z.Known(name) {
			p.AddAt(path, "must be a time zone of the IANA database, such as Europe/Vienna")
		}
	}
	for i, name := range c.Audience.Timezones {
		check(fmt.Sprintf("audience.timezones[%d]", i), name)
	}
	check("default_timezone", c.DefaultTimezone)
	if c.Recurrence != nil {
		check("recurrence.timezone", c.Recurrence.Timezone)
	}
}

func (c *Campaign) timeRules(p *strictjson.Problems) {
	a := &c.Audience
	if after, before := a.RegisteredAfter, a.RegisteredBefore; !after.IsZero() && !before.IsZero() && !after.Before(before) {
		p.AddAt("audience.registered_after", "must be before registered_before")
	}
	if lowest, highest := a.AppVersion.Min, a.AppVersion.Max; lowest != "" && highest != "" && compareVersions(lowest, highest) > 0 {
		p.AddAt("audience.app_version.min", "must not be above max")
	}
	if at := c.Content.ExpiresAt; !at.IsZero() && !c.StartAt.IsZero() && !at.After(c.StartAt) {
		p.AddAt("expires_at", "must be after start_at")
	}
	if c.PastLocalTime != "" && c.LocalTime == "" && !p.Bad("local_time") {
		p.AddAt("past_local_time", "needs local_time")
	}
	if q := c.QuietHours; q != nil && !p.Bad("quiet_hours") {
		w, _ := newWindow(q)
		if w.from == w.to {
			p.AddAt("quiet_hours.to", "must not be the same as from")
		} else if at, ok := parseClock(c.LocalTime); ok && w.holds(at) {
			p.AddAt("local_time", "must not lie in quiet_hours")
		}
	}
	if c.Recurrence == nil {
		return
	}
	if c.Recipients != nil {
		p.AddAt("recurrence", "is for an audience: a file's recipients are sent to once")
	}
	if !c.Content.ExpiresAt.IsZero() {
		p.AddAt("expires_at", "must not stand beside recurrence: each run expires by its ttl")
	}
	if most := MaxIDBytes - len(runSuffix); len(c.ID) > most {
		p.AddAt("id", "is %d bytes long, at most %d are allowed with recurrence: a run's id is longer", len(c.ID), most)
	}
}

// contentRules checks what is sent, in each localization.
func (c *Campaign) contentRules(p *strictjson.Problems) {
	c.Content.CheckContent(p)
	if strings.Contains(c.Content.CollapseID, openMark) {
		p.AddAt("collapse_id", "must not have a placeholder: it is the same for all")
	}
	if len(c.Localizations) > 0 && c.Content.Notification == nil && !p.Bad("notification") {
		p.AddAt("localizations", "needs notification")
		return
	}
	if p.Bad("notification", "data", "payload", "push_type", "localizations", "recipients") {
		return
	}
	vars, before := c.variables(), count(p)
	for _, part := range c.parts() {
		checkPlaceholders(p, part.path, part.json, &vars)
	}
	if count(p) > before || c.Content.Notification == nil && len(c.Content.Payload) == 0 {
		return
	}
	c.checkRendering(p, &c.Content, "")
	for _, tag := range slices.Sorted(maps.Keys(c.Localizations)) {
		path := "localizations." + tag
		localized, err := c.localized(tag)
		if err != nil {
			p.AddAt(path, "cannot take the place of notification's members")
			continue
		}
		var own strictjson.Problems
		localized.CheckContent(&own)
		list, _ := own.List()
		for _, problem := range list {
			if rest, ok := strings.CutPrefix(problem.Path, "notification"); ok {
				p.AddAt(path+rest, "%s", problem.Message)
			}
		}
		if len(list) == 0 {
			c.checkRendering(p, localized, path)
		}
	}
}

// count returns how many problems there are.
func count(p *strictjson.Problems) int {
	list, more := p.List()
	return len(list) + more
}

// checkRendering checks that the shortest rendering fits, and says so at path;
// empty: at the member that it comes from.
func (c *Campaign) checkRendering(p *strictjson.Problems, j *job.Job, path string) {
	t, err := newTemplate(j, c.variables())
	if err != nil {
		p.Add("cannot be rendered")
		return
	}
	if path == "" {
		path = "payload"
		if j.Notification != nil {
			path = "notification"
		}
	}
	if size := t.shortest(); size > j.MaxPayload() {
		p.AddAt(path, "renders to at least %d bytes, the limit for %s is %d", size, j.EffectivePushType(), j.MaxPayload())
	}
}

// localized returns the content for devices of that locale: what de-AT does not
// say, de says, and else the notification itself. It is of the push type that the
// content has without it.
func (c *Campaign) localized(tag string) (*job.Job, error) {
	byTag := make(map[string]*job.Notification, len(c.Localizations))
	for tag, n := range c.Localizations {
		byTag[foldLocale(tag)] = n
	}
	j := c.Content
	j.PushType = j.EffectivePushType()
	folded := foldLocale(tag) + "-"
	for end := range folded {
		n, ok := byTag[folded[:end]]
		if !ok || folded[end] != '-' {
			continue
		}
		var err error
		if j.Notification, err = j.Notification.Override(n); err != nil {
			return nil, err
		}
	}
	return &j, nil
}
