package campaign

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/job"
)

// campaignTable and the other tables in this file are the wire format: Parse,
// AppendJSON and Schema work from them.
var campaignTable = slices.Concat(
	strictjson.Object[Campaign]{
		required(text("id", "Makes the campaign unique within its app. Not ., .. or /: no URL could name it.", nameable(MaxIDBytes),
			func(c *Campaign) *string { return &c.ID })),
		{
			Name: "audience", Doc: "The registered devices that are meant: all, or those for which everything holds that is given. Only those with the kind of device token that the push type needs, and that may be used.",
			Schema: audienceTable.Schema() + `,"minProperties":1,` + allAlone,
			Set:    func(c *Campaign) bool { return c.Recipients == nil },
			Append: func(dst []byte, c *Campaign) []byte { return audienceTable.Append(dst, c) },
			Read:   readAudience,
		},
		{
			Name: "recipients", Doc: "Instead of audience: the recipients come in a file, beside the campaign.",
			Schema: recipientsTable.Schema(),
			Set:    func(c *Campaign) bool { return c.Recipients != nil },
			Append: func(dst []byte, c *Campaign) []byte { return recipientsTable.Append(dst, c.Recipients) },
			Read: func(d *strictjson.Decoder, c *Campaign) {
				c.Recipients = new(Recipients)
				recipientsTable.Read(d, c.Recipients)
			},
		},
	},
	strictjson.Lift(contentMembers(), func(c *Campaign) *job.Job { return &c.Content }),
	strictjson.Object[Campaign]{
		localizationsMember,
		instant("start_at", "RFC 3339. When it starts; absent: at once.", func(c *Campaign) *time.Time { return &c.StartAt }),
		text("local_time", "The time of day that the device's own clock is to show, counted from the start.", clockText,
			func(c *Campaign) *string { return &c.LocalTime }),
		oneOf("past_local_time", "What becomes of a device whose local time has passed at the start: next_day (default) or skip.",
			func(c *Campaign) *PastLocalTime { return &c.PastLocalTime }, NextDay, SkipDay),
		text("default_timezone", "The time zone of devices that have none. Default UTC.", textRule{max: device.MaxWordBytes},
			func(c *Campaign) *string { return &c.DefaultTimezone }),
		integer("rate", "Notifications per second over the whole fleet. Absent: as fast as it goes.", MaxRate,
			func(c *Campaign) *int { return &c.Rate }),
		object("quiet_hours", "Hours of the device's own clock in which nothing is sent.", quietTable,
			func(c *Campaign) **QuietHours { return &c.QuietHours }),
		object("frequency_cap", "How many notifications of a kind one user gets within a time that ends now.", capTable,
			func(c *Campaign) **FrequencyCap { return &c.FrequencyCap }),
		object("control_group", "A part of the audience that is left out, drawn by hash.", controlTable,
			func(c *Campaign) **ControlGroup { return &c.ControlGroup }),
		object("recurrence", "When runs of the campaign start.", recurrenceTable,
			func(c *Campaign) **Recurrence { return &c.Recurrence }),
	},
)

// contentMembers are those of a job, in the words of a campaign.
func contentMembers() strictjson.Object[job.Job] {
	members := job.ContentMembers()
	for name, doc := range map[string]string{
		"ttl": "How long it is worth sending, such as 90s, 4h or 1h30m, counted from the start, or from the device's local_time; at most 720h. " +
			"0s: one attempt, which APNs does not store.",
		"expires_at": "RFC 3339. Past it nothing is sent, and APNs does not keep it.",
	} {
		members[slices.Index(members.Names(), name)].Doc = doc
	}
	return members
}

const allAlone = `"if":{"required":["all"]},"then":{"maxProperties":1}`

var audienceTable = strictjson.Lift(strictjson.Object[Audience]{
	{
		Name: "all", Doc: "All devices; stands alone.", Schema: `"const":true`,
		Set:    func(a *Audience) bool { return a.All },
		Append: func(dst []byte, _ *Audience) []byte { return append(dst, "true"...) },
		Read: func(d *strictjson.Decoder, a *Audience) {
			if v, ok := d.Value(); !ok {
				return
			} else if a.All = v.Kind() == 't'; !a.All {
				d.Add("must be true: leave it out instead")
			}
		},
	},
	{
		Name: "tags", Doc: "The device's tags.", Schema: tagsTable.Schema() + `,"minProperties":1`,
		Set:    func(a *Audience) bool { return len(a.Tags.Any)+len(a.Tags.All)+len(a.Tags.None) > 0 },
		Append: func(dst []byte, a *Audience) []byte { return tagsTable.Append(dst, &a.Tags) },
		Read: func(d *strictjson.Decoder, a *Audience) {
			readSome(d, tagsTable, &a.Tags)
		},
	},
	words("locales", "BCP 47. The device's locale is one of them, or more exact: de is for de-AT too.",
		textRule{max: device.MaxWordBytes, check: localeRule, schema: localeSchema}, func(a *Audience) *[]string { return &a.Locales }),
	words("timezones", "The device's IANA time zone is one of them.", textRule{max: device.MaxWordBytes},
		func(a *Audience) *[]string { return &a.Timezones }),
	{
		Name: "attributes", Doc: "By name, the value that the device must have, or a list of which it must have one.",
		Schema: `"type":"object","minProperties":1,"maxProperties":` + strconv.Itoa(device.MaxAttributes) +
			`,"additionalProperties":{"anyOf":[{` + valueRule.schemaText() + `},{` + listSchema(valueRule) + `}]}`,
		Set: func(a *Audience) bool { return len(a.Attributes) > 0 }, Append: appendAttributes, Read: readAttributes,
	},
	{
		Name: "app_version", Doc: "Versions of the app, compared by the numbers between dots.", Schema: versionTable.Schema() + `,"minProperties":1`,
		Set:    func(a *Audience) bool { return a.AppVersion != VersionRange{} },
		Append: func(dst []byte, a *Audience) []byte { return versionTable.Append(dst, &a.AppVersion) },
		Read: func(d *strictjson.Decoder, a *Audience) {
			readSome(d, versionTable, &a.AppVersion)
		},
	},
	instant("registered_after", "RFC 3339. Last registered then or later: apps register at every launch.",
		func(a *Audience) *time.Time { return &a.RegisteredAfter }),
	instant("registered_before", "RFC 3339. Last registered before: those who have not been seen since.",
		func(a *Audience) *time.Time { return &a.RegisteredBefore }),
	{
		Name: "environment", Doc: "The APNs environment of the device token.", Schema: `"enum":["production","sandbox"]`,
		Set:    func(a *Audience) bool { return a.Environment != device.EnvironmentUnset },
		Append: func(dst []byte, a *Audience) []byte { return strictjson.AppendText(dst, a.Environment.String()) },
		Read: func(d *strictjson.Decoder, a *Audience) {
			s, ok := d.Text()
			if !ok {
				return
			}
			var err error
			if a.Environment, err = device.ParseEnvironment(s); err != nil || s == "" {
				d.Add("must be production or sandbox")
			}
		},
	},
}, func(c *Campaign) *Audience { return &c.Audience })

// readAudience reads an audience, which must say something.
func readAudience(d *strictjson.Decoder, c *Campaign) {
	if d.Peek() != '{' {
		audienceTable.Read(d, c)
		return
	}
	before := count(&d.Problems)
	seen := audienceTable.Read(d, c)
	switch {
	case d.Broken():
	case seen == 0 && count(&d.Problems) == before:
		d.Add("must have all, or at least one condition")
	case seen&1 != 0 && seen != 1:
		d.AddAt("all", "must stand alone")
	}
}

// readSome reads an object that must have a member.
func readSome[T any](d *strictjson.Decoder, o strictjson.Object[T], dst *T) {
	before := count(&d.Problems)
	if seen := o.Read(d, dst); seen == 0 && count(&d.Problems) == before {
		d.Add("must have at least one of %s", strings.Join(o.Names(), ", "))
	}
}

var tagsTable = strictjson.Object[Tags]{
	words("any", "At least one of them.", tagRule, func(t *Tags) *[]string { return &t.Any }),
	words("all", "Each of them.", tagRule, func(t *Tags) *[]string { return &t.All }),
	words("none", "None of them.", tagRule, func(t *Tags) *[]string { return &t.None }),
}

var versionTable = strictjson.Object[VersionRange]{
	text("min", "This version or a newer one.", versionText, func(v *VersionRange) *string { return &v.Min }),
	text("max", "This version or an older one.", versionText, func(v *VersionRange) *string { return &v.Max }),
}

var recipientsTable = strictjson.Object[Recipients]{
	wordsUpTo("variables", "The variables that the file has for each recipient.", MaxVariables, variableText,
		func(r *Recipients) *[]string { return &r.Variables }),
}

var quietTable = strictjson.Object[QuietHours]{
	required(text("from", "Begin, by the device's own clock.", clockText, func(q *QuietHours) *string { return &q.From })),
	required(text("to", "End, which is not quiet any more; may be on the next day.", clockText, func(q *QuietHours) *string { return &q.To })),
	oneOf("action", "What becomes of a device in quiet hours: defer (default) or skip.",
		func(q *QuietHours) *QuietAction { return &q.Action }, Defer, SkipQuiet),
}

var capTable = strictjson.Object[FrequencyCap]{
	required(integer("max", "Notifications to one user.", MaxCap, func(f *FrequencyCap) *int { return &f.Max })),
	{
		Name: "per", Required: true, Doc: "Within this time, which ends now: a minute to 720h (30 days).", Schema: strictjson.DurationSchema,
		Set: func(f *FrequencyCap) bool { return f.Per != 0 },
		Append: func(dst []byte, f *FrequencyCap) []byte {
			return strictjson.AppendText(dst, strictjson.DurationText(f.Per))
		},
		Read: func(d *strictjson.Decoder, f *FrequencyCap) {
			v, ok := strictjson.ReadDuration(d)
			if ok && (v < time.Minute || v > MaxCapWindow) {
				d.Add("must be from %s to %s (30 days)", strictjson.DurationText(time.Minute), strictjson.DurationText(MaxCapWindow))
			}
			f.Per = v
		},
	},
	text("kind", "What is counted together. Default "+DefaultKind+".", kindText, func(f *FrequencyCap) *string { return &f.Kind }),
	{
		Name: "override", Doc: "It counts, but is never refused.", Schema: `"type":"boolean"`,
		Set:    func(f *FrequencyCap) bool { return f.Override },
		Append: func(dst []byte, _ *FrequencyCap) []byte { return append(dst, "true"...) },
		Read: func(d *strictjson.Decoder, f *FrequencyCap) {
			v, ok := d.Value()
			if ok && v.Kind() != 't' && v.Kind() != 'f' {
				d.WrongKind("true or false", v.Kind())
			}
			f.Override = ok && v.Kind() == 't'
		},
	},
}

const percentProblem = "must be above 0 and below 100"

var controlTable = strictjson.Object[ControlGroup]{
	{
		Name: "percent", Required: true, Doc: "How much of the audience is left out.", Schema: `"type":"number","exclusiveMinimum":0,"exclusiveMaximum":100`,
		Set:    func(*ControlGroup) bool { return true },
		Append: func(dst []byte, g *ControlGroup) []byte { return jsontext.AppendFloat(dst, g.Percent, 64) },
		Read: func(d *strictjson.Decoder, g *ControlGroup) {
			v, ok := d.ValueOf('0', "a number")
			if !ok {
				return
			}
			f, err := strconv.ParseFloat(string(v), 64)
			if err != nil || f <= 0 || f >= 100 {
				d.Add("%s", percentProblem)
			}
			g.Percent = f
		},
	},
	text("seed", "The same seed draws the same users again, in other campaigns too. Default the campaign's id.", line(MaxSeedBytes),
		func(g *ControlGroup) *string { return &g.Seed }),
}

var recurrenceTable = strictjson.Object[Recurrence]{
	required(text("cron", "Five fields: minute, hour, day of month, month, day of week.", textRule{max: 256, check: cronRule},
		func(r *Recurrence) *string { return &r.Cron })),
	text("timezone", "The IANA time zone of those. Default UTC.", textRule{max: device.MaxWordBytes},
		func(r *Recurrence) *string { return &r.Timezone }),
}

var localizationsMember = strictjson.Member[Campaign]{
	Name: "localizations",
	Doc:  "By BCP 47 tag, what takes the place of notification's members for devices of that locale: what de-AT does not say, de says, and else notification itself.",
	Schema: `"type":"object","minProperties":1,"maxProperties":` + strconv.Itoa(MaxLocalizations) +
		`,"propertyNames":{"maxLength":64,` + localeSchema + `},"additionalProperties":{` + notificationMember.Schema + `,"minProperties":1}`,
	Set: func(c *Campaign) bool { return len(c.Localizations) > 0 },
	Append: func(dst []byte, c *Campaign) []byte {
		dst = append(dst, '{')
		for i, tag := range slices.Sorted(maps.Keys(c.Localizations)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(strictjson.AppendText(dst, tag), ':')
			dst = notificationMember.Append(dst, &job.Job{Notification: c.Localizations[tag]})
		}
		return append(dst, '}')
	},
	Read: readLocalizations,
}

// notificationMember is how a job has its notification.
var notificationMember = func() strictjson.Member[job.Job] {
	members := job.ContentMembers()
	return members[slices.Index(members.Names(), "notification")]
}()

func readLocalizations(d *strictjson.Decoder, c *Campaign) {
	known := make(map[string]bool)
	n, ok := readMap(d, MaxLocalizations, func(tag string) {
		problem := localeRule(tag)
		folded := foldLocale(tag)
		if problem == "" && known[folded] {
			problem = "is given twice"
		}
		known[folded] = true
		d.Enter(shown(tag))
		defer d.Leave()
		if problem != "" {
			d.Add("%s", problem)
			d.Value()
			return
		}
		var j job.Job
		before := count(&d.Problems)
		notificationMember.Read(d, &j)
		if count(&d.Problems) == before && isEmpty(j.Notification) {
			d.Add("must have at least one member")
		}
		if c.Localizations == nil {
			c.Localizations = make(map[string]*job.Notification)
		}
		c.Localizations[tag] = j.Notification
	})
	if ok && (n == 0 || n > MaxLocalizations) {
		d.Add("must have 1 to %d members, got %d", MaxLocalizations, n)
	}
}

// isEmpty reports whether a notification has no members.
func isEmpty(n *job.Notification) bool {
	b, err := n.MarshalJSON()
	return err == nil && string(b) == "{}"
}

// readMap reads an object whose members have names of the caller's. It returns how
// many there are, and false if it is none or is broken. Those beyond most are only
// counted.
func readMap(d *strictjson.Decoder, most int, member func(name string)) (n int, ok bool) {
	if !d.Open('{', "an object") {
		return 0, false
	}
	for ; !d.Closed('}'); n++ {
		v, ok := d.Value()
		if !ok {
			return n, false
		}
		if n >= most {
			d.Value() // counted, not looked at
			continue
		}
		member(strictjson.Unquote(v))
	}
	return n, !d.Broken()
}

// shown returns a name of the caller's as a step of a path.
func shown(name string) string {
	if s, ok := strictjson.Shown([]byte(name)); ok {
		return s
	}
	return "*" // it may be anything
}

func readAttributes(d *strictjson.Decoder, a *Audience) {
	n, ok := readMap(d, device.MaxAttributes, func(name string) {
		d.Enter(shown(name))
		defer d.Leave()
		_, twice := a.Attributes[name]
		var values []string
		if d.Peek() == '[' {
			values = readWords(d, MaxListItems, valueRule)
		} else if s, ok := d.Text(); ok && valueRule.ok(&d.Problems, s) {
			values = []string{s}
		}
		switch {
		case d.Broken():
		case name == "":
			d.Add("must not have an empty name")
		case len(name) > device.MaxTagBytes:
			d.Add("its name must be at most %d bytes, got %d", device.MaxTagBytes, len(name))
		case twice:
			d.Add("is given twice")
		}
		if a.Attributes == nil {
			a.Attributes = make(map[string][]string)
		}
		a.Attributes[name] = values
	})
	if ok && (n == 0 || n > device.MaxAttributes) {
		d.Add("must have 1 to %d members, got %d", device.MaxAttributes, n)
	}
}

func appendAttributes(dst []byte, a *Audience) []byte {
	dst = append(dst, '{')
	for i, name := range slices.Sorted(maps.Keys(a.Attributes)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(strictjson.AppendText(dst, name), ':')
		if values := a.Attributes[name]; len(values) == 1 {
			dst = strictjson.AppendText(dst, values[0])
		} else {
			dst = appendWords(dst, values)
		}
	}
	return append(dst, '}')
}

// textRule says what a string must be, beside not empty.
type textRule struct {
	max    int // bytes; 0: check says
	check  func(string) string
	schema string // more keywords
}

var (
	clockText    = textRule{check: clockRule, schema: `"pattern":"^([01][0-9]|2[0-3]):[0-5][0-9]$"`}
	versionText  = textRule{max: device.MaxWordBytes, check: versionRule, schema: `"pattern":"^[0-9]+(\\.[0-9]+)*$"`}
	kindText     = textRule{max: MaxKindBytes, check: kindRule, schema: `"pattern":"^[a-z0-9_-]+$"`}
	variableText = textRule{max: device.MaxTagBytes, check: variableRule, schema: `"pattern":"^[A-Za-z0-9_.-]+$","not":{"enum":["user","token"]}`}
	valueRule    = textRule{max: device.MaxAttributeBytes}
	tagRule      = textRule{max: device.MaxTagBytes}
)

func line(most int) textRule {
	return textRule{max: most, schema: `"pattern":"^[^\\x00-\\x1f\\x7f]*$"`, check: func(s string) string {
		if !strictjson.IsLine(s) {
			return "must be printable characters, without a space at either end"
		}
		return ""
	}}
}

// nameable is a line that a URL can have as a step of its path.
func nameable(most int) textRule {
	r := line(most)
	isLine := r.check
	r.schema += `,"not":{"enum":[".","..","/"]}`
	r.check = func(s string) string {
		if strictjson.IsPath(s) {
			return strictjson.NotPath
		}
		return isLine(s)
	}
	return r
}

// ok checks a string, and notes what is wrong with it.
func (r textRule) ok(c *strictjson.Problems, s string) bool {
	problem := ""
	switch {
	case s == "":
		problem = "must not be empty"
	case !utf8.ValidString(s):
		problem = "is not valid UTF-8"
	case r.max > 0 && len(s) > r.max:
		c.Add("is %d bytes long, at most %d are allowed", len(s), r.max)
		return false
	case r.check != nil:
		problem = r.check(s)
	}
	if problem != "" {
		c.Add("%s", problem)
	}
	return problem == ""
}

func (r textRule) schemaText() string {
	s := `"type":"string","minLength":1`
	if r.max > 0 {
		s += `,"maxLength":` + strconv.Itoa(r.max)
	}
	if r.schema != "" {
		s += "," + r.schema
	}
	return s
}

func clockRule(s string) string {
	if _, ok := parseClock(s); !ok {
		return "must be a time of day from 00:00 to 23:59, with two digits each"
	}
	return ""
}

func versionRule(s string) string {
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || strings.Trim(part, "0123456789") != "" {
			return "must be numbers between dots, such as 2.10"
		}
	}
	return ""
}

func kindRule(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		return "must be lower-case letters, digits, - and _"
	}
	return ""
}

func variableRule(s string) string {
	switch {
	case s == varUser, s == "token":
		return "must not be user or token: those name the recipient"
	case strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.')
	}):
		return "must be letters, digits, _, - and ."
	}
	return ""
}

const localeSchema = `"pattern":"^[A-Za-z]{2,8}([_-][A-Za-z0-9]{1,8})*$"`

// localeRule checks the form of a BCP 47 tag; an underscore counts as a hyphen.
func localeRule(s string) string {
	const problem = "must be a BCP 47 tag, such as de or de-AT"
	if len(s) > device.MaxWordBytes {
		return problem
	}
	for i, part := range strings.Split(strings.ReplaceAll(s, "_", "-"), "-") {
		letters, digits := 0, 0
		for _, r := range part {
			switch {
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
				letters++
			case r >= '0' && r <= '9':
				digits++
			}
		}
		if letters+digits != len(part) || len(part) < 1 || len(part) > 8 || i == 0 && (digits > 0 || letters < 2) {
			return problem
		}
	}
	return ""
}

func required[T any](m strictjson.Member[T]) strictjson.Member[T] {
	m.Required = true
	return m
}

func text[T any](name, doc string, rule textRule, at func(*T) *string) strictjson.Member[T] {
	return strictjson.Member[T]{
		Name: name, Doc: doc, Schema: rule.schemaText(),
		Set:    func(t *T) bool { return *at(t) != "" },
		Append: func(dst []byte, t *T) []byte { return strictjson.AppendText(dst, *at(t)) },
		Read: func(d *strictjson.Decoder, t *T) {
			if s, ok := d.Text(); ok && rule.ok(&d.Problems, s) {
				*at(t) = s
			}
		},
	}
}

// oneOf is a string of which the first choice is the default, and the zero value.
func oneOf[T any, S ~string](name, doc string, at func(*T) *S, usual, other S) strictjson.Member[T] {
	return strictjson.Member[T]{
		Name: name, Doc: doc, Schema: `"enum":["` + string(usual) + `","` + string(other) + `"]`,
		Set:    func(t *T) bool { return *at(t) != "" && *at(t) != usual },
		Append: func(dst []byte, t *T) []byte { return strictjson.AppendText(dst, string(*at(t))) },
		Read: func(d *strictjson.Decoder, t *T) {
			s, ok := d.Text()
			switch {
			case !ok, s == string(usual):
			case s == string(other):
				*at(t) = other
			default:
				d.Add("must be one of %s, %s", usual, other)
			}
		},
	}
}

func words[T any](name, doc string, rule textRule, at func(*T) *[]string) strictjson.Member[T] {
	return wordsUpTo(name, doc, MaxListItems, rule, at)
}

func wordsUpTo[T any](name, doc string, most int, rule textRule, at func(*T) *[]string) strictjson.Member[T] {
	return strictjson.Member[T]{
		Name: name, Doc: doc,
		Schema: `"type":"array","minItems":1,"maxItems":` + strconv.Itoa(most) + `,"items":{` + rule.schemaText() + `}`,
		Set:    func(t *T) bool { return len(*at(t)) > 0 },
		Append: func(dst []byte, t *T) []byte { return appendWords(dst, *at(t)) },
		Read:   func(d *strictjson.Decoder, t *T) { *at(t) = readWords(d, most, rule) },
	}
}

func listSchema(rule textRule) string {
	return `"type":"array","minItems":1,"maxItems":` + strconv.Itoa(MaxListItems) + `,"items":{` + rule.schemaText() + `}`
}

func readWords(d *strictjson.Decoder, most int, rule textRule) (items []string) {
	n, ok := strictjson.ReadList(d, most, func() {
		if s, ok := d.Text(); ok && rule.ok(&d.Problems, s) {
			items = append(items, s)
		}
	})
	if ok && (n == 0 || n > most) {
		d.Add("must have 1 to %d items, got %d", most, n)
	}
	return items
}

func appendWords(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strictjson.AppendText(dst, s)
	}
	return append(dst, ']')
}

func instant[T any](name, doc string, at func(*T) *time.Time) strictjson.Member[T] {
	return strictjson.Member[T]{
		Name: name, Doc: doc, Schema: `"type":"string","format":"date-time"`,
		Set:    func(t *T) bool { return !at(t).IsZero() },
		Append: func(dst []byte, t *T) []byte { return strictjson.AppendTime(dst, *at(t)) },
		Read: func(d *strictjson.Decoder, t *T) {
			if v, ok := strictjson.ReadTime(d); ok && strictjson.CheckTime(&d.Problems, v) {
				*at(t) = v
			}
		},
	}
}

// integer is a whole number from 1 on.
func integer[T any](name, doc string, most int, at func(*T) *int) strictjson.Member[T] {
	return strictjson.Member[T]{
		Name: name, Doc: doc, Schema: `"type":"integer","minimum":1,"maximum":` + strconv.Itoa(most),
		Set:    func(t *T) bool { return *at(t) != 0 },
		Append: func(dst []byte, t *T) []byte { return strconv.AppendInt(dst, int64(*at(t)), 10) },
		Read: func(d *strictjson.Decoder, t *T) {
			v, ok := d.ValueOf('0', "a whole number")
			if !ok {
				return
			}
			f, err := strconv.ParseFloat(string(v), 64)
			if err != nil || f != math.Trunc(f) || f < 1 || f > float64(most) {
				d.Add("must be a whole number from 1 to %d", most)
				return
			}
			*at(t) = int(f)
		},
	}
}

// object is an object in an object that may be absent.
func object[T, U any](name, doc string, o strictjson.Object[U], at func(*T) **U) strictjson.Member[T] {
	return strictjson.Member[T]{
		Name: name, Doc: doc, Schema: o.Schema(),
		Set:    func(t *T) bool { return *at(t) != nil },
		Append: func(dst []byte, t *T) []byte { return o.Append(dst, *at(t)) },
		Read: func(d *strictjson.Decoder, t *T) {
			*at(t) = new(U)
			o.Read(d, *at(t))
		},
	}
}
