package campaign_test

import (
	"strings"
)

// good are campaigns that Parse takes, and so the schema must.
func good() map[string]string {
	return map[string]string{
		"smallest": member(`"ttl":"4h"`),
		"the whole audience": `{"id":"c","audience":{"tags":{"any":["a","b"],"all":["c"],"none":["d"]},"locales":["de","en_US"],"timezones":["Europe/Vienna","UTC"],
			"attributes":{"plan":["gold","silver"],"team":"red","any name \" is good":"x"},"app_version":{"min":"2.9","max":"3"},
			"registered_after":"2026-01-01T00:00:00Z","registered_before":"2026-06-01T00:00:00+02:00","environment":"sandbox"},"notification":{"body":"b"}}`,
		"only one end of versions":   `{"id":"c","audience":{"app_version":{"max":"3.1.4"}},"notification":{"body":"b"}}`,
		"a file":                     `{"id":"c","recipients":{"variables":["name","code-2.x"]},"notification":{"title":"{{name}}","body":"{{ code-2.x | none }} {{user}}"}}`,
		"a file without variables":   `{"id":"c","recipients":{},"notification":{"body":"b"}}`,
		"every variable of a device": `{"id":"c","audience":{"all":true},"notification":{"title":"{{user}} {{install_id}}","body":"{{locale}} {{timezone}} {{app_version}} {{attributes.first name}}"}}`,
		"placeholders in all places": `{"id":"c","audience":{"all":true},"notification":{"title_loc_key":"k","title_loc_args":["{{user|x}}"],"thread_id":"{{user}}","sound":"{{user}}"},
			"data":{"deep":[{"er":["{{user}}"]}],"n":1}}`,
		"a payload":            `{"id":"c","audience":{"all":true},"payload":{"aps":{"alert":"{{user|you}}"},"x":"\u007b{user}}"}}`,
		"an empty default":     `{"id":"c","audience":{"all":true},"notification":{"body":"b{{user|}}"}}`,
		"closing braces alone": `{"id":"c","audience":{"all":true},"notification":{"body":"}} { {"}}`,
		"localizations": `{"id":"c","audience":{"all":true},"notification":{"title":"t","body":"b","badge":1},
			"localizations":{"de":{"title":"T"},"de-AT":{"body":"B","badge":0},"zh_Hant_TW":{"sound":"s"}}}`,
		"local time":                member(`"local_time":"09:00","past_local_time":"skip","default_timezone":"America/New_York","start_at":"2026-11-24T00:00:00Z"`),
		"the defaults, said":        member(`"local_time":"23:59","past_local_time":"next_day","default_timezone":"UTC","on_unknown":"resend","quiet_hours":{"from":"00:00","to":"06:00","action":"defer"}`),
		"quiet hours":               member(`"quiet_hours":{"from":"22:00","to":"08:00","action":"skip"}`),
		"a rate":                    member(`"rate":1e3`),
		"the highest rate":          member(`"rate":10000000`),
		"a cap":                     member(`"frequency_cap":{"max":3,"per":"168h","kind":"promo_2-x","override":true}`),
		"the smallest cap":          member(`"frequency_cap":{"max":1,"per":"1m","override":false}`),
		"a control group":           member(`"control_group":{"percent":0.5,"seed":"autumn"}`),
		"a recurrence":              member(`"recurrence":{"cron":"0 9 * * MON-FRI","timezone":"Europe/Vienna"},"ttl":"12h","start_at":"2026-12-01T00:00:00Z"`),
		"the 29th of February":      member(`"recurrence":{"cron":"*/15 0-5,23 29 2 ?"}`),
		"expiry after the start":    member(`"start_at":"2026-12-01T00:00:00Z","expires_at":"2026-12-01T00:00:01Z"`),
		"every member of a message": member(`"data":{"order":4711},"push_type":"alert","priority":5,"collapse_id":"x","ttl":"0s","on_unknown":"drop"`),
		"background":                `{"id":"c","audience":{"all":true},"notification":{"content_available":true},"data":{"for":"{{user}}"}}`,
		"widgets":                   `{"id":"c","audience":{"all":true},"push_type":"widgets","notification":{"content_changed":true}}`,
		"an id of 128":              `{"id":"` + strings.Repeat("x", 128) + `","audience":{"all":true},"notification":{"body":"b"}}`,
		"an id of 113 that recurs":  `{"id":"` + strings.Repeat("x", 113) + `","audience":{"all":true},"notification":{"body":"b"},"recurrence":{"cron":"* * * * *"}}`,
		// 4096 bytes are {"aps":{"alert":{"body":"…"}}} with 4067 in it: placeholders do not count.
		"as long as APNs takes": `{"id":"c","audience":{"all":true},"notification":{"body":"` + strings.Repeat("x", 4060) + `{{attributes.` + strings.Repeat("n", 500) + `}}{{user|default}}"}}`,
	}
}

// refused is a campaign that Parse refuses.
type refused struct {
	name, json string
	problems   []string
	// onlyParse: the schema cannot say this, see Schema.
	onlyParse bool
}

func bad() []refused {
	const (
		word    = "must be a BCP 47 tag, such as de or de-AT"
		clock   = "must be a time of day from 00:00 to 23:59, with two digits each"
		zone    = "must be a time zone of the IANA database, such as Europe/Vienna"
		cron    = "must be five fields: minute, hour, day of month, month, day of week, such as 0 9 * * 1"
		version = "must be numbers between dots, such as 2.10"
	)
	audience := func(a string) string { return `{"id":"c","audience":` + a + `,"notification":{"body":"b"}}` }
	says := func(body string) string {
		return `{"id":"c","audience":{"all":true},"notification":{"body":` + quote(body) + `}}`
	}
	return []refused{
		{name: "nothing", json: `{}`, problems: []string{
			"id: is required", "must have exactly one of audience, recipients", "must have exactly one of notification, payload",
		}},
		{name: "a member of a job", json: member(`"to":{"users":["u"]}`), problems: []string{"to: unknown field"}},
		{name: "a member that is meant", json: member(`"start_on":"2026-11-24T09:00:00Z"`), problems: []string{"start_on: unknown field, did you mean start_at?"}},
		{name: "an empty id", json: `{"id":"","audience":{"all":true},"notification":{"body":"b"}}`, problems: []string{"id: must not be empty"}},
		{name: "a long id", json: `{"id":"` + strings.Repeat("x", 129) + `","audience":{"all":true},"notification":{"body":"b"}}`, problems: []string{"id: is 129 bytes long, at most 128 are allowed"}},
		{name: "an id in two lines", json: `{"id":"a\nb","audience":{"all":true},"notification":{"body":"b"}}`, problems: []string{"id: must be printable characters, without a space at either end"}},
		{name: "an id that no URL can have", json: `{"id":".","audience":{"all":true},"notification":{"body":"b"}}`, problems: []string{"id: must not be ., .. or /: no URL could name it"}},
		{name: "another one", json: `{"id":"..","audience":{"all":true},"notification":{"body":"b"}}`, problems: []string{"id: must not be ., .. or /: no URL could name it"}},
		{name: "a slash", json: `{"id":"/","audience":{"all":true},"notification":{"body":"b"}}`, problems: []string{"id: must not be ., .. or /: no URL could name it"}},
		{name: "both", json: `{"id":"c","audience":{"all":true},"recipients":{},"notification":{"body":"b"}}`, problems: []string{"must have exactly one of audience, recipients, got 2 of them"}},

		{name: "an audience that says nothing", json: audience(`{}`), problems: []string{"audience: must have all, or at least one condition"}},
		{name: "no audience", json: audience(`null`), problems: []string{"audience: must be an object, got null: leave it out instead"}},
		{name: "not all", json: audience(`{"all":false}`), problems: []string{"audience.all: must be true: leave it out instead"}},
		{name: "all and more", json: audience(`{"all":true,"locales":["de"]}`), problems: []string{"audience.all: must stand alone"}},
		{name: "a condition that is meant", json: audience(`{"locale":["de"]}`), problems: []string{"audience.locale: unknown field, did you mean locales?"}},
		{name: "no tags", json: audience(`{"tags":{}}`), problems: []string{"audience.tags: must have at least one of any, all, none"}},
		{name: "no tag", json: audience(`{"tags":{"any":[],"none":[""]}}`), problems: []string{"audience.tags.any: must have 1 to 1000 items, got 0", "audience.tags.none[0]: must not be empty"}},
		{name: "a long tag", json: audience(`{"tags":{"all":["` + strings.Repeat("x", 129) + `"]}}`), problems: []string{"audience.tags.all[0]: is 129 bytes long, at most 128 are allowed"}},
		{name: "tags that are none", json: audience(`{"tags":{"any":"news"}}`), problems: []string{"audience.tags.any: must be an array, got a string"}},
		{name: "locales", json: audience(`{"locales":["de","german language","d","de-","de--AT","4e"]}`), problems: []string{
			"audience.locales[1]: " + word, "audience.locales[2]: " + word, "audience.locales[3]: " + word, "audience.locales[4]: " + word, "audience.locales[5]: " + word,
		}},
		{name: "an unknown zone", json: audience(`{"timezones":["Europe/Vienna","Europe/Wien"]}`), problems: []string{"audience.timezones[1]: " + zone}, onlyParse: true},
		{name: "no attributes", json: audience(`{"attributes":{}}`), problems: []string{"audience.attributes: must have 1 to 64 members, got 0"}},
		{name: "attributes", json: audience(`{"attributes":{"plan":1,"a":"","b":[]}}`), problems: []string{
			"audience.attributes.plan: must be a string, got a number", "audience.attributes.a: must not be empty", "audience.attributes.b: must have 1 to 1000 items, got 0",
		}},
		{name: "an attribute twice", json: audience(`{"attributes":{"plan":"a","plan":"b"}}`), problems: []string{"audience.attributes.plan: is given twice"}, onlyParse: true},
		{name: "an attribute without a name", json: audience(`{"attributes":{"":"a"}}`), problems: []string{"audience.attributes.*: must not have an empty name"}, onlyParse: true},
		{name: "no version", json: audience(`{"app_version":{}}`), problems: []string{"audience.app_version: must have at least one of min, max"}},
		{name: "versions", json: audience(`{"app_version":{"min":"2.x","max":"v3"}}`), problems: []string{"audience.app_version.min: " + version, "audience.app_version.max: " + version}},
		{name: "versions the wrong way", json: audience(`{"app_version":{"min":"2.10","max":"2.9"}}`), problems: []string{"audience.app_version.min: must not be above max"}, onlyParse: true},
		{name: "registered the wrong way", json: audience(`{"registered_after":"2026-02-01T00:00:00Z","registered_before":"2026-01-01T00:00:00Z"}`), problems: []string{"audience.registered_after: must be before registered_before"}, onlyParse: true},
		{name: "registered sometime", json: audience(`{"registered_after":"yesterday"}`), problems: []string{"audience.registered_after: must be a time as RFC 3339, such as 2026-11-24T09:00:00Z"}},
		{name: "an environment", json: audience(`{"environment":"staging"}`), problems: []string{"audience.environment: must be production or sandbox"}},

		{name: "variables", json: `{"id":"c","recipients":{"variables":["user","a b","token",""]},"notification":{"body":"b"}}`, problems: []string{
			"recipients.variables[0]: must not be user or token: those name the recipient", "recipients.variables[1]: must be letters, digits, _, - and .",
			"recipients.variables[2]: must not be user or token: those name the recipient", "recipients.variables[3]: must not be empty",
		}},

		{name: "no message", json: `{"id":"c","audience":{"all":true}}`, problems: []string{"must have exactly one of notification, payload"}},
		{name: "two messages", json: member(`"payload":{"aps":{"alert":"x"}}`), problems: []string{"must have exactly one of notification, payload, got 2 of them"}},
		{name: "data beside a payload", json: `{"id":"c","audience":{"all":true},"payload":{"aps":{"alert":"x"}},"data":{"a":1}}`, problems: []string{"data: needs notification"}},
		{name: "what a job must not either", json: member(`"priority":3,"push_type":"alerts"`), problems: []string{"priority: must be one of 10, 5, 1, got 3", "push_type: must be one of alert, background, complication, controls, fileprovider, liveactivity, location, mdm, pushtotalk, voip, widgets, got alerts"}},
		{name: "a priority that APNs refuses", json: `{"id":"c","audience":{"all":true},"notification":{"content_available":true},"priority":10}`, problems: []string{"priority: must not be 10 for background: APNs refuses it"}, onlyParse: true},
		{name: "ttl and expires_at", json: member(`"ttl":"4h","expires_at":"2026-11-24T09:00:00Z"`), problems: []string{"must not have more than one of ttl, expires_at"}},

		{name: "an unknown variable", json: says("{{plan}}"), problems: []string{"notification.body: unknown variable plan, did you mean attributes.plan?"}, onlyParse: true},
		{name: "nearly a variable", json: says("{{locael}} {{attribute.plan}} {{attributes.}}"), problems: []string{
			"notification.body: unknown variable locael, did you mean locale?", "notification.body: unknown variable attribute.plan, did you mean attributes.plan?",
			"notification.body: has an unknown variable (its name is not printed)",
		}, onlyParse: true},
		{name: "a variable that is not to be seen", json: says("{{8f3a55d1c0ffee8f3a55d1c0ffee}}"), problems: []string{"notification.body: has an unknown variable (its name is not printed)"}, onlyParse: true},
		{name: "no variable", json: says("{{ | x}}"), problems: []string{"notification.body: has a placeholder without a name"}, onlyParse: true},
		{name: "an open placeholder", json: says("{{user}} {{user"), problems: []string{"notification.body: has {{ without }}"}, onlyParse: true},
		{name: "a variable that the file lacks", json: `{"id":"c","recipients":{"variables":["name"]},"notification":{"title":"{{nane}}","body":"{{locale}} {{attributes.plan}}"}}`, problems: []string{
			"notification.title: unknown variable nane, did you mean name?", "notification.body: unknown variable locale: recipients.variables does not have it",
			"notification.body: unknown variable attributes.plan: recipients.variables does not have it",
		}, onlyParse: true},
		{name: "placeholders deep down", json: member(`"data":{"a":[{"b":"{{x}}"}],"{{user}}":1}`), problems: []string{
			"data.a[0].b: unknown variable x, did you mean attributes.x?", "data.*: must not have a placeholder in its name: only values may",
		}, onlyParse: true},
		{name: "a placeholder in a payload", json: `{"id":"c","audience":{"all":true},"payload":{"aps":{"alert":{"title":"{{titel}}"}}}}`, problems: []string{"payload.aps.alert.title: unknown variable titel, did you mean attributes.titel?"}, onlyParse: true},
		{name: "a placeholder for all", json: member(`"collapse_id":"{{user}}"`), problems: []string{"collapse_id: must not have a placeholder: it is the same for all"}, onlyParse: true},

		{name: "too long", json: says(strings.Repeat("x", 4061) + "{{user|default}}"), problems: []string{"notification: renders to at least 4097 bytes, the limit for alert is 4096"}, onlyParse: true},
		{name: "too long a payload", json: `{"id":"c","audience":{"all":true},"push_type":"voip","payload":{"x":"` + strings.Repeat("x", 5113) + `{{user}}"}}`, problems: []string{"payload: renders to at least 5121 bytes, the limit for voip is 5120"}, onlyParse: true},
		{name: "too long in one language", json: member(`"localizations":{"de":{"title":"` + strings.Repeat("x", 4100) + `"}}`), problems: []string{"localizations.de: renders to at least 4141 bytes, the limit for alert is 4096"}, onlyParse: true},

		{name: "no localizations", json: member(`"localizations":{}`), problems: []string{"localizations: must have 1 to 200 members, got 0"}},
		{name: "localizations", json: member(`"localizations":{"de":{},"german":{"titel":"x"},"d":{"title":"x"},"de-AT":{"title":""},"fr":1}`), problems: []string{
			"localizations.de: must have at least one member", "localizations.german.titel: unknown field, did you mean title?", "localizations.d: " + word,
			"localizations.de-AT.title: must not be empty: leave it out instead", "localizations.fr: must be an object, got a number",
		}},
		{name: "a localization twice", json: member(`"localizations":{"de-AT":{"title":"x"},"de_at":{"title":"y"}}`), problems: []string{"localizations.de_at: is given twice"}, onlyParse: true},
		{name: "a localization that changes the push type", json: `{"id":"c","audience":{"all":true},"notification":{"content_available":true},"localizations":{"de":{"title":"x"}}}`, problems: []string{"localizations.de.title: is not for background"}, onlyParse: true},
		{name: "a localization under another one", json: `{"id":"c","audience":{"all":true},"notification":{"event":"update","timestamp":1,"content_state":{}},"localizations":{"de":{"title":"x"},"de-AT":{"title_loc_key":"k"}}}`, problems: []string{
			"localizations.de-AT.title_loc_key: must not stand beside title for liveactivity",
		}, onlyParse: true},
		{name: "a localization's variable", json: member(`"localizations":{"de":{"title":"{{usre}}"}}`), problems: []string{"localizations.de.title: unknown variable usre, did you mean user?"}, onlyParse: true},
		{name: "localizations of a payload", json: `{"id":"c","audience":{"all":true},"payload":{"aps":{"alert":"x"}},"localizations":{"de":{"title":"x"}}}`, problems: []string{"localizations: needs notification"}},

		{name: "a local time", json: member(`"local_time":"9:00"`), problems: []string{"local_time: " + clock}},
		{name: "midnight's end", json: member(`"local_time":"24:00"`), problems: []string{"local_time: " + clock}},
		{name: "past what", json: member(`"past_local_time":"skip"`), problems: []string{"past_local_time: needs local_time"}},
		{name: "past how", json: member(`"local_time":"09:00","past_local_time":"never"`), problems: []string{"past_local_time: must be one of next_day, skip"}},
		{name: "a default zone", json: member(`"default_timezone":"CET+1"`), problems: []string{"default_timezone: " + zone}, onlyParse: true},
		{name: "expiry before the start", json: member(`"start_at":"2026-12-01T00:00:00Z","expires_at":"2026-12-01T00:00:00Z"`), problems: []string{"expires_at: must be after start_at"}, onlyParse: true},
		{name: "a start in another age", json: member(`"start_at":"1969-12-01T00:00:00Z"`), problems: []string{"start_at: must be after 1970 and before the year 10000"}, onlyParse: true},

		{name: "no rate", json: member(`"rate":0`), problems: []string{"rate: must be a whole number from 1 to 10000000"}},
		{name: "half a rate", json: member(`"rate":0.5`), problems: []string{"rate: must be a whole number from 1 to 10000000"}},
		{name: "a rate in words", json: member(`"rate":"fast"`), problems: []string{"rate: must be a whole number, got a string"}},

		{name: "quiet hours", json: member(`"quiet_hours":{"from":"22","action":"wait"}`), problems: []string{
			"quiet_hours.from: " + clock, "quiet_hours.action: must be one of defer, skip", "quiet_hours.to: is required",
		}},
		{name: "quiet always", json: member(`"quiet_hours":{"from":"22:00","to":"22:00"}`), problems: []string{"quiet_hours.to: must not be the same as from"}, onlyParse: true},
		{name: "a local time in quiet hours", json: member(`"local_time":"07:59","quiet_hours":{"from":"22:00","to":"08:00"}`), problems: []string{"local_time: must not lie in quiet_hours"}, onlyParse: true},

		{name: "a cap of nothing", json: member(`"frequency_cap":{"max":0,"per":"59s","kind":"A","override":1}`), problems: []string{
			"frequency_cap.max: must be a whole number from 1 to 1000", "frequency_cap.per: must be from 1m to 720h (30 days)",
			"frequency_cap.kind: must be lower-case letters, digits, - and _", "frequency_cap.override: must be true or false, got a number",
		}},
		{name: "a cap for ever", json: member(`"frequency_cap":{"max":1,"per":"721h"}`), problems: []string{"frequency_cap.per: must be from 1m to 720h (30 days)"}, onlyParse: true},
		{name: "a cap in days", json: member(`"frequency_cap":{"max":1,"per":"7d"}`), problems: []string{"frequency_cap.per: must be a duration such as 90s, 4h or 1h30m"}},
		{name: "half a cap", json: member(`"frequency_cap":{"kind":"promo"}`), problems: []string{"frequency_cap.max: is required", "frequency_cap.per: is required"}},

		{name: "all in the control group", json: member(`"control_group":{"percent":100}`), problems: []string{"control_group.percent: must be above 0 and below 100"}},
		{name: "none in the control group", json: member(`"control_group":{"percent":0,"seed":""}`), problems: []string{"control_group.percent: must be above 0 and below 100", "control_group.seed: must not be empty"}},

		{name: "a recurrence", json: member(`"recurrence":{"cron":"@daily","timezone":"Vienna"}`), problems: []string{"recurrence.cron: " + cron, "recurrence.timezone: " + zone}, onlyParse: true},
		{name: "seconds", json: member(`"recurrence":{"cron":"0 0 9 * * 1"}`), problems: []string{"recurrence.cron: " + cron}, onlyParse: true},
		{name: "a zone in the cron", json: member(`"recurrence":{"cron":"TZ=UTC 0 9 * * 1"}`), problems: []string{"recurrence.cron: " + cron}, onlyParse: true},
		{name: "a minute that is none", json: member(`"recurrence":{"cron":"60 9 * * *"}`), problems: []string{"recurrence.cron: " + cron}, onlyParse: true},
		{name: "a day that never comes", json: member(`"recurrence":{"cron":"0 9 30 2 *"}`), problems: []string{"recurrence.cron: never comes, such as the 30th of February"}, onlyParse: true},
		{name: "a recurrence of a file", json: `{"id":"c","recipients":{},"notification":{"body":"b"},"recurrence":{"cron":"0 9 * * *"}}`, problems: []string{"recurrence: is for an audience: a file's recipients are sent to once"}},
		{name: "a recurrence that expires", json: member(`"recurrence":{"cron":"0 9 * * *"},"expires_at":"2026-11-24T09:00:00Z"`), problems: []string{"expires_at: must not stand beside recurrence: each run expires by its ttl"}},
		{name: "a long id that recurs", json: `{"id":"` + strings.Repeat("x", 114) + `","audience":{"all":true},"notification":{"body":"b"},"recurrence":{"cron":"* * * * *"}}`, problems: []string{
			"id: is 114 bytes long, at most 113 are allowed with recurrence: a run's id is longer",
		}, onlyParse: true},
	}
}

// broken are no JSON, or no object.
func broken() []refused {
	return []refused{
		{name: "empty", json: ``, problems: []string{"is empty"}},
		{name: "cut", json: `{"id":"c","audience":{"tags":{"any":["a"`, problems: []string{"audience.tags.any[1]: not valid JSON: ends too early, after 40 bytes"}},
		{name: "two", json: member(`"rate":1`) + `{}`, problems: []string{"not valid JSON: something follows the object at line 1, column 72"}},
		{name: "a list", json: `[]`, problems: []string{"must be an object, got an array"}},
		{name: "too large", json: member(`"data":{"x":"` + strings.Repeat("x", 256<<10) + `"}`), problems: []string{"is 262222 bytes long, at most 262144 are allowed"}},
	}
}
