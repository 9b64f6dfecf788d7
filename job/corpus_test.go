package job_test

import (
	"strings"

	"github.com/pushfleet/pushfleet/job"
)

// good are jobs that Parse takes, and so the schema must.
func good() map[string]string {
	return map[string]string{
		"the readme's": `{"id":"order-4711-shipped","to":{"tokens":["` + hex64 + `"]},
			"notification":{"title":"Shipped","body":"Order 4711 is on its way","badge":1,"sound":"default","thread_id":"orders"},
			"data":{"order":4711},"push_type":"alert","priority":10,"collapse_id":"order-4711","ttl":"4h","send_after":"2026-11-24T09:00:00Z"}`,
		"smallest":            `{"to":{"users":["u"]},"notification":{"badge":0}}`,
		"installs":            `{"to":{"installs":["i-1","i-2"]},"notification":{"body":"x"}}`,
		"token of one byte":   `{"to":{"tokens":["0A"]},"notification":{"body":"x"}}`,
		"token of 160 digits": `{"to":{"tokens":["` + strings.Repeat("80", 80) + `"]},"notification":{"body":"x"}}`,
		"1000 tokens":         `{"to":{"tokens":[` + strings.Repeat(`"0a",`, 999) + `"0b"]},"notification":{"body":"x"}}`,
		"every alert field": `{"to":{"users":["u"]},"notification":{"title":"a","title_loc_key":"b","title_loc_args":["c",""],
			"subtitle":"d","subtitle_loc_key":"e","subtitle_loc_args":["f"],"body":"g","loc_key":"h","loc_args":["i"],"launch_image":"j"}}`,
		"every other field": `{"to":{"users":["u"]},"notification":{"body":"x","badge":2147483647,"sound":{"name":"s","critical":true,"volume":0.5},
			"thread_id":"a","category":"b","content_available":true,"mutable_content":1,"target_content_id":"c","interruption_level":"time-sensitive",
			"relevance_score":0,"filter_criteria":"d","content_changed":false}}`,
		"numbers written oddly":     `{"to":{"users":["u"]},"notification":{"badge":1.0e1,"relevance_score":1e-1},"priority":5.0}`,
		"background":                `{"to":{"users":["u"]},"notification":{"content_available":1},"priority":5}`,
		"background, said":          `{"to":{"users":["u"]},"push_type":"background","notification":{"content_available":true},"priority":1}`,
		"background, false flags":   `{"to":{"users":["u"]},"push_type":"background","notification":{"content_available":true,"content_changed":false}}`,
		"widgets":                   `{"to":{"users":["u"]},"push_type":"widgets","notification":{"content_changed":true}}`,
		"controls":                  `{"to":{"users":["u"]},"push_type":"controls","notification":{"content_changed":true}}`,
		"voip without aps":          `{"to":{"users":["u"]},"push_type":"voip","notification":{},"data":{"call":"c"},"ttl":"0s"}`,
		"voip of 5000 bytes":        `{"to":{"users":["u"]},"push_type":"voip","notification":{},"data":{"x":"` + strings.Repeat("x", 5000) + `"}}`,
		"location":                  `{"to":{"users":["u"]},"push_type":"location","payload":{}}`,
		"live activity start":       `{"to":{"users":["u"]},"notification":{"event":"start","timestamp":1700000000,"content_state":{"n":1},"attributes_type":"T","attributes":{},"title":"t","input_push_token":1}}`,
		"live activity update":      `{"to":{"users":["u"]},"notification":{"event":"update","timestamp":1700000000,"content_state":{},"relevance_score":100,"stale_date":1700000001}}`,
		"live activity end":         `{"to":{"users":["u"]},"push_type":"liveactivity","notification":{"event":"end","timestamp":1700000000,"content_state":{},"dismissal_date":0},"priority":5}`,
		"payload":                   `{"to":{"users":["u"]},"payload":{"aps":{"alert":"x"},"n":1e400,"s":"\u00e9"}}`,
		"payload, background":       `{"to":{"users":["u"]},"payload":{"aps":{"content-available":1}}}`,
		"payload, mdm":              `{"to":{"users":["u"]},"payload":{"mdm":"magic"}}`,
		"payload, live activity":    `{"to":{"users":["u"]},"payload":{"aps":{"event":"update","timestamp":1,"content-state":{}}}}`,
		"payload, fileprovider":     `{"to":{"users":["u"]},"push_type":"fileprovider","payload":{"container-identifier":"c","domain":"d"}}`,
		"expires_at":                `{"to":{"users":["u"]},"notification":{"body":"x"},"send_after":"2026-11-24T09:00:00+01:00","expires_at":"2026-11-24T08:00:00.5Z","on_unknown":"drop"}`,
		"ttl of a bare zero":        `{"to":{"users":["u"]},"notification":{"body":"x"},"ttl":"0"}`,
		"ttl of 30 days":            `{"to":{"users":["u"]},"notification":{"body":"x"},"ttl":"720h0m","on_unknown":"resend"}`,
		"data with aps deeper down": `{"to":{"users":["u"]},"notification":{"body":"x"},"data":{"x":{"aps":1}}}`,
		"id of 128 bytes":           `{"id":"` + strings.Repeat("é", 64) + `","to":{"users":["u"]},"notification":{"body":"x"}}`,
		"collapse id of 64 bytes":   `{"collapse_id":"` + strings.Repeat("c", 64) + `","to":{"users":["u"]},"notification":{"body":"x"}}`,
		"names with escapes":        `{"\u0074o":{"users":["u"]},"notification":{"b\u006fdy":"x"}}`,
	}
}

type badJob struct {
	name, json string
	problems   []string
	// onlyParse: the schema cannot say this, see Schema.
	onlyParse bool
}

const ok = `"to":{"users":["u"]},"notification":{"body":"x"}`

// bad are jobs that Parse refuses, with everything that it has to say.
func bad() []badJob {
	return []badJob{
		{"an array", `[]`, []string{"must be an object, got an array"}, false},
		{"null", `null`, []string{"must be an object, got null: leave it out instead"}, false},
		{"no recipients, no content", `{}`, []string{"to: is required", "must have exactly one of notification, payload"}, false},
		{"empty to", `{"to":{},"notification":{"body":"x"}}`, []string{"to: must have exactly one of tokens, users, installs"}, false},
		{"two lists", `{"to":{"tokens":["0a"],"users":["u"]},"notification":{"body":"x"}}`, []string{"to: must have exactly one of tokens, users, installs, got 2 of them"}, false},
		{"empty list", `{"to":{"tokens":[]},"notification":{"body":"x"}}`, []string{"to.tokens: must have 1 to 1000 items, got 0"}, false},
		{"1001 users", `{"to":{"users":[` + strings.Repeat(`"u",`, 1000) + `"u"]},"notification":{"body":"x"}}`, []string{"to.users: must have 1 to 1000 items, got 1001"}, false},
		{"tokens that are none", `{"to":{"tokens":["0a","","abc","xy",1,null,"` + strings.Repeat("00", 257) + `"]},"notification":{"body":"x"}}`, []string{
			"to.tokens[1]: device token is empty",
			"to.tokens[2]: device token has an odd number of hex digits",
			"to.tokens[3]: device token holds something other than hex digits",
			"to.tokens[4]: must be a string, got a number",
			"to.tokens[5]: must be a string, got null: leave it out instead",
			"to.tokens[6]: device token is longer than 256 bytes",
		}, false},
		{"users that are none", `{"to":{"users":["",` + `"` + strings.Repeat("u", 257) + `",{}]},"notification":{"body":"x"}}`, []string{
			"to.users[0]: must not be empty: leave it out instead",
			"to.users[1]: is 257 bytes long, at most 256 are allowed",
			"to.users[2]: must be a string, got an object",
		}, false},
		{"user too long in bytes", `{"to":{"users":["` + strings.Repeat("é", 129) + `"]},"notification":{"body":"x"}}`, []string{"to.users[0]: is 258 bytes long, at most 256 are allowed"}, true},

		{"unknown fields", `{` + ok + `,"Collapse-ID":"x","prioritty":1,"foo":1,"` + hex64 + `":1,"a b":2}`, []string{
			"Collapse-ID: unknown field, did you mean collapse_id?",
			"prioritty: unknown field, did you mean priority?",
			"foo: unknown field",
			"has a member that is not known (its name is not printed)",
			"has a member that is not known (its name is not printed)",
		}, false},
		{"a name that may be a secret", `{` + ok + `,"00fc13adff785122":1}`, []string{"has a member that is not known (its name is not printed)"}, false},
		{"aps spelling", `{"to":{"users":["u"]},"notification":{"thread-id":"x","contentAvailable":1,"body":"x"}}`, []string{
			"notification.thread-id: unknown field, did you mean thread_id?",
			"notification.contentAvailable: unknown field, did you mean content_available?",
		}, false},
		{"given twice", `{` + ok + `,"ttl":"1s","ttl":"2s"}`, []string{"ttl: is given twice"}, true},
		{"given twice in data", `{` + ok + `,"data":{"a":{"b":1,"\u0062":2}}}`, []string{"data: holds an object with the same member twice"}, true},

		{"wrong types", `{"id":1,"to":[],"notification":{"title":1,"title_loc_args":"x","badge":"1","sound":[],"content_available":"yes","content_state":[],"relevance_score":"1"},"data":1,"push_type":1,"priority":"10","ttl":3600,"expires_at":1700000000}`, []string{
			"id: must be a string, got a number",
			"to: must be an object, got an array",
			"notification.title: must be a string, got a number",
			"notification.title_loc_args: must be an array, got a string",
			"notification.badge: must be a whole number, got a string",
			"notification.sound: must be a string or an object, got an array",
			"notification.content_available: must be true or false, got a string",
			"notification.content_state: must be an object, got an array",
			"notification.relevance_score: must be a number, got a string",
			"notification.title_loc_args: needs title_loc_key",
			"data: must be an object, got a number",
			"push_type: must be a string, got a number",
			"priority: must be a whole number, got a string",
			"ttl: must be a string, got a number",
			"expires_at: must be a string, got a number",
			"must not have more than one of ttl, expires_at",
		}, false},
		{"more wrong types", `{"id":true,"to":{"users":null},"notification":{"title":{},"content_available":2,"mutable_content":null,"sound":null,"timestamp":false},"priority":null,"payload":null}`, []string{
			"id: must be a string, got a boolean",
			"to.users: must be an array, got null: leave it out instead",
			"notification.title: must be a string, got an object",
			"notification.content_available: must be true or false",
			"notification.mutable_content: must be true or false, got null: leave it out instead",
			"notification.sound: must be a string or an object, got null: leave it out instead",
			"notification.timestamp: must be a whole number, got a boolean",
			"priority: must be a whole number, got null: leave it out instead",
			"payload: must be an object, got null: leave it out instead",
			"must have exactly one of notification, payload, got 2 of them",
		}, false},
		{"empty strings", `{"id":"","to":{"users":["u"]},"notification":{"body":"","sound":""},"collapse_id":""}`, []string{
			"id: must not be empty: leave it out instead",
			"notification.body: must not be empty: leave it out instead",
			"notification.sound: must not be empty: leave it out instead",
			"collapse_id: must not be empty: leave it out instead",
		}, false},

		{"id too long", `{"id":"` + strings.Repeat("i", 129) + `",` + ok + `}`, []string{"id: is 129 bytes long, at most 128 are allowed"}, false},
		{"id with a control character", `{"id":"a\nb",` + ok + `}`, []string{"id: must be printable characters, without a space at either end"}, false},
		{"id with a space at its end", `{"id":"a ",` + ok + `}`, []string{"id: must be printable characters, without a space at either end"}, true},
		{"id that is ours", `{"id":"seq-17",` + ok + `}`, []string{"id: must not be seq- and a number: that names jobs without an id"}, false},
		{"id that no URL can have", `{"id":".",` + ok + `}`, []string{"id: must not be ., .. or /: no URL could name it"}, false},
		{"another one", `{"id":"..",` + ok + `}`, []string{"id: must not be ., .. or /: no URL could name it"}, false},
		{"a slash", `{"id":"/",` + ok + `}`, []string{"id: must not be ., .. or /: no URL could name it"}, false},
		{"collapse id too long", `{"collapse_id":"` + strings.Repeat("c", 65) + `",` + ok + `}`, []string{"collapse_id: is 65 bytes long, at most 64 are allowed"}, false},
		{"enumerations", `{` + ok + `,"push_type":"alerts","on_unknown":"retry","priority":7}`, []string{
			"push_type: must be one of alert, background, complication, controls, fileprovider, liveactivity, location, mdm, pushtotalk, voip, widgets, got alerts",
			"on_unknown: must be one of resend, drop, got retry",
			"priority: must be one of 10, 5, 1, got 7",
		}, false},
		{"an enumeration that is not shown", `{` + ok + `,"push_type":"` + hex64 + `"}`, []string{
			"push_type: must be one of alert, background, complication, controls, fileprovider, liveactivity, location, mdm, pushtotalk, voip, widgets",
		}, false},
		{"numbers out of range", `{"to":{"users":["u"]},"notification":{"body":"x","badge":-1,"sound":{"name":"s","volume":1.1}},"priority":0}`, []string{
			"notification.badge: must be a whole number from 0 to 2147483647",
			"notification.sound.volume: must be from 0 to 1",
			"priority: must be one of 10, 5, 1, got 0",
		}, false},
		{"numbers that are not whole", `{"to":{"users":["u"]},"notification":{"body":"x","badge":1.5},"priority":5.5}`, []string{
			"notification.badge: must be a whole number from 0 to 2147483647",
			"priority: must be one of 10, 5, 1",
		}, false},
		{"sound without a name", `{"to":{"users":["u"]},"notification":{"sound":{"critical":1,"loud":1}}}`, []string{
			"notification.sound.loud: unknown field", "notification.sound.name: is required",
		}, false},
		{"milliseconds", `{"to":{"users":["u"]},"notification":{"event":"update","content_state":{},"timestamp":1700000000000}}`, []string{
			"notification.timestamp: must be a whole number from 0 to 99999999999 of Unix seconds (not milliseconds)",
		}, false},
		{"arguments without their key", `{"to":{"users":["u"]},"notification":{"body":"x","loc_args":["a"],"subtitle_loc_args":["a"]}}`, []string{
			"notification.subtitle_loc_args: needs subtitle_loc_key", "notification.loc_args: needs loc_key",
		}, false},

		{"both contents", `{` + ok + `,"payload":{"aps":{"alert":"x"}}}`, []string{"must have exactly one of notification, payload, got 2 of them"}, false},
		{"data with payload", `{"to":{"users":["u"]},"payload":{"aps":{"alert":"x"}},"data":{}}`, []string{"data: needs notification"}, false},
		{"aps in data", `{` + ok + `,"data":{"\u0061ps":{}}}`, []string{"data: must not have the member aps: its content belongs into notification"}, false},
		{"payload is no object", `{"to":{"users":["u"]},"payload":"x"}`, []string{"payload: must be an object, got a string"}, false},
		{"payload's aps is no object", `{"to":{"users":["u"]},"push_type":"alert","payload":{"aps":1}}`, []string{"payload.aps: must be an object"}, true},
		{"too deep", `{` + ok + `,"data":{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}}`, []string{"data: is nested deeper than 64 levels"}, true},

		{"ttl and expires_at", `{` + ok + `,"ttl":"1h","expires_at":"2026-11-24T09:00:00Z"}`, []string{"must not have more than one of ttl, expires_at"}, false},
		{"ttl negative", `{` + ok + `,"ttl":"-1s"}`, []string{"ttl: must not be negative"}, false},
		{"ttl with a minus", `{` + ok + `,"ttl":"-0s"}`, []string{"ttl: must not be negative"}, false},
		{"ttl too long", `{` + ok + `,"ttl":"721h"}`, []string{"ttl: must be at most 720h (30 days): APNs stores no longer"}, true},
		{"ttl is no duration", `{` + ok + `,"ttl":"4 hours"}`, []string{"ttl: must be a duration such as 90s, 4h or 1h30m"}, false},
		{"ttl with a plus", `{` + ok + `,"ttl":"+4h"}`, []string{"ttl: must be a duration such as 90s, 4h or 1h30m"}, false},
		{"ttl overflows", `{` + ok + `,"ttl":"9999999999h"}`, []string{"ttl: must be a duration such as 90s, 4h or 1h30m"}, true},
		{"times that are none", `{` + ok + `,"expires_at":"tomorrow","send_after":"2026-11-24 09:00:00"}`, []string{
			"expires_at: must be a time as RFC 3339, such as 2026-11-24T09:00:00Z",
			"send_after: must be a time as RFC 3339, such as 2026-11-24T09:00:00Z",
		}, false},
		{"a time before 1970", `{` + ok + `,"send_after":"1969-12-31T23:59:59Z"}`, []string{"send_after: must be after 1970 and before the year 10000"}, true},
		{"send_after is not before expires_at", `{` + ok + `,"send_after":"2026-11-24T09:00:00Z","expires_at":"2026-11-24T10:00:00+01:00"}`, []string{"send_after: must be before expires_at"}, true},

		{"push type cannot be told", `{"to":{"users":["u"]},"notification":{}}`, []string{"push_type: is required: it cannot be told from the content"}, true},
		{"push type is ambiguous", `{"to":{"users":["u"]},"notification":{"content_changed":true}}`, []string{"push_type: is required: content_changed alone may be for widgets or controls"}, true},
		{"payload's push type is ambiguous", `{"to":{"users":["u"]},"payload":{"aps":{"content-changed":true}}}`, []string{"push_type: is required: content_changed alone may be for widgets or controls"}, true},
		{"background with everything", `{"to":{"users":["u"]},"push_type":"background","notification":{"body":"x","badge":0,"sound":"s"},"priority":10}`, []string{
			"priority: must not be 10 for background: APNs refuses it",
			"notification.content_available: is required for background",
			"notification.body: is not for background",
			"notification.badge: is not for background",
			"notification.sound: is not for background",
		}, false},
		{"derived background with priority 10", `{"to":{"users":["u"]},"notification":{"content_available":true},"priority":10}`, []string{"priority: must not be 10 for background: APNs refuses it"}, true},
		{"background payload", `{"to":{"users":["u"]},"push_type":"background","payload":{"aps":{"alert":"x","badge":1,"sound":"s","content-available":true}}}`, []string{
			"payload.aps.content-available: must be 1 for background",
			"payload.aps.alert: is not for background", "payload.aps.badge: is not for background", "payload.aps.sound: is not for background",
		}, true},
		{"background payload with 2", `{"to":{"users":["u"]},"push_type":"background","payload":{"aps":{"content-available":2}}}`, []string{"payload.aps.content-available: must be 1 for background"}, true},
		{"a widget's field in an alert", `{"to":{"users":["u"]},"push_type":"alert","notification":{"body":"x","content_changed":1,"event":"end","timestamp":1,"content_state":{}}}`, []string{
			"notification.content_changed: is not for alert", "notification.event: is not for alert",
			"notification.timestamp: is not for alert", "notification.content_state: is not for alert",
		}, false},
		{"widgets without content_changed", `{"to":{"users":["u"]},"push_type":"widgets","notification":{"content_changed":false}}`, []string{"notification.content_changed: is required for widgets"}, false},
		{"relevance score", `{"to":{"users":["u"]},"push_type":"alert","notification":{"body":"x","relevance_score":2}}`, []string{"notification.relevance_score: must be from 0 to 1"}, false},
		{"relevance score, derived", `{"to":{"users":["u"]},"notification":{"body":"x","relevance_score":-0.1}}`, []string{"notification.relevance_score: must be from 0 to 1"}, true},
		{"relevance score, endless", `{"to":{"users":["u"]},"notification":{"body":"x","relevance_score":1e999}}`, []string{"notification.relevance_score: must be a finite number"}, true},
		{"live activity with priority 1", `{"to":{"users":["u"]},"push_type":"liveactivity","notification":{"event":"update","timestamp":1,"content_state":{}},"priority":1}`, []string{"priority: must not be 1 for liveactivity: APNs refuses it"}, false},
		{"live activity, nothing but its event", `{"to":{"users":["u"]},"notification":{"event":"update"}}`, []string{
			"notification.timestamp: is required for liveactivity", "notification.content_state: is required for liveactivity",
		}, false},
		{"live activity start, nothing else", `{"to":{"users":["u"]},"notification":{"event":"start","timestamp":1,"content_state":{}}}`, []string{
			"notification.attributes_type: is required for event start", "notification.attributes: is required for event start",
			"notification: must have an alert, such as title and body, for event start",
		}, false},
		{"live activity start with a bad alert", `{"to":{"users":["u"]},"notification":{"event":"start","timestamp":1,"content_state":{},"attributes_type":"T","attributes":{},"title":1}}`, []string{
			"notification.title: must be a string, got a number",
		}, false},
		{"live activity update with a start's fields", `{"to":{"users":["u"]},"notification":{"event":"update","timestamp":1,"content_state":{},"attributes_type":"T","attributes":{},"input_push_channel":"c","input_push_token":true}}`, []string{
			"notification.attributes_type: is only for event start", "notification.attributes: is only for event start",
			"notification.input_push_channel: is only for event start", "notification.input_push_token: is only for event start",
		}, false},
		{"live activity with text and key", `{"to":{"users":["u"]},"notification":{"event":"end","timestamp":1,"content_state":{},"title":"t","title_loc_key":"k","body":"b","loc_key":"k"}}`, []string{
			"notification.title_loc_key: must not stand beside title for liveactivity", "notification.loc_key: must not stand beside body for liveactivity",
		}, false},
		{"live activity payload", `{"to":{"users":["u"]},"payload":{"aps":{"event":"start","timestamp":"now","content-state":[]}}}`, []string{
			"payload.aps.timestamp: must be a number, got a string", "payload.aps.content-state: must be an object, got an array",
			"payload.aps.attributes-type: is required for event start", "payload.aps.attributes: is required for event start", "payload.aps.alert: is required for event start",
		}, true},
		{"live activity payload with another event", `{"to":{"users":["u"]},"payload":{"aps":{"event":"pause","timestamp":1,"content-state":{}}}}`, []string{"payload.aps.event: must be one of start, update, end"}, true},
		{"mdm without a payload", `{"to":{"users":["u"]},"push_type":"mdm","notification":{"body":"x"}}`, []string{"notification: is not for mdm: use payload, with the member mdm"}, false},
		{"mdm without mdm", `{"to":{"users":["u"]},"push_type":"mdm","payload":{"aps":{}}}`, []string{"payload: must have the member mdm for mdm"}, false},

		{"an alert too large", `{"to":{"users":["u"]},"notification":{"body":"` + strings.Repeat("x", 4068) + `"}}`, []string{"notification: renders to 4097 bytes, the limit for alert is 4096"}, true},
		{"a payload too large", `{"to":{"users":["u"]},"payload":{"aps":{"alert":"` + strings.Repeat("x", 4077) + `"}}}`, []string{"payload: renders to 4097 bytes, the limit for alert is 4096"}, true},
		{"a voip push too large", `{"to":{"users":["u"]},"push_type":"voip","payload":{"x":"` + strings.Repeat("x", 5113) + `"}}`, []string{"payload: renders to 5121 bytes, the limit for voip is 5120"}, true},
	}
}

// broken are no JSON at all, or not one document of it.
func broken() []badJob {
	return []badJob{
		{"empty", ``, []string{"is empty"}, false},
		{"white space", " \n", []string{"is empty"}, false},
		{"broken in a sound", `{"notification":{"sound":}}`, []string{"notification.sound: not valid JSON: unexpected character or escape at line 1, column 26"}, false},
		{"broken in a list", `{"to":{"users":["a" "b"]}}`, []string{"to.users[1]: not valid JSON: unexpected character or escape at line 1, column 21"}, false},
		{"text", `hello`, []string{"not valid JSON: unexpected character or escape at line 1, column 1"}, false},
		{"cut off", `{"id":"a","to":{"tokens":["0a"`, []string{"to.tokens[1]: not valid JSON: ends too early, after 30 bytes"}, false},
		{"cut off after a problem", `{"id":1,`, []string{"id: must be a string, got a number", "not valid JSON: ends too early, after 8 bytes"}, false},
		{"comma too many", "{\n \"id\": \"a\",\n}", []string{"not valid JSON: unexpected character or escape at line 2, column 11"}, false},
		{"trailing garbage", `{` + ok + `} x`, []string{"not valid JSON: something follows the object at line 1, column 52"}, false},
		{"two documents", `{` + ok + `}{}`, []string{"not valid JSON: something follows the object at line 1, column 51"}, false},
		{"invalid UTF-8", "{\"id\":\"\xff\"}", []string{"id: not valid JSON: invalid UTF-8 at line 1, column 8"}, false},
		{"half a surrogate pair", `{"to":{"users":["u"]},"notification":{"body":"\ud83d"}}`, []string{"notification.body: not valid JSON: unexpected character or escape at line 1, column 47"}, false},
		{"name is no string", `{1:2}`, []string{"not valid JSON: unexpected character or escape at line 1, column 2"}, false},
		{"nested without end", `{"data":` + strings.Repeat(`[`, 100_000), []string{"data: is nested deeper than 64 levels"}, false},
		{"nested where nothing is known", `{"x":` + strings.Repeat(`[`, 20_000) + strings.Repeat(`]`, 20_000) + `}`, []string{"x: unknown field", "is nested deeper than 64 levels"}, false},
	}
}

const hex64 = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"

// everyField is a job with every field that can stand in one.
func everyField() *job.Job {
	return &job.Job{
		ID: "all", To: job.Recipients{Users: []string{"u1", "u2"}},
		Notification: &job.Notification{
			Title: "t", TitleLocKey: "tk", TitleLocArgs: []string{"1"}, Subtitle: "s", SubtitleLocKey: "sk", SubtitleLocArgs: []string{"2"},
			Body: "b", LocKey: "bk", LocArgs: []string{"3", "4"}, LaunchImage: "l", Badge: new(0),
			Sound: job.Sound{Name: "s", Critical: true, Volume: new(0.25)}, ThreadID: "th", Category: "c", ContentAvailable: true, MutableContent: true,
			TargetContentID: "tc", InterruptionLevel: job.TimeSensitive, RelevanceScore: new(0.0), FilterCriteria: "f",
		},
		Data: []byte(`{"a":[1,2.50,"é"]}`), PushType: job.PushAlert, Priority: 5, CollapseID: "co",
		ExpiresAt: when(2026, 11, 24, 10), SendAfter: when(2026, 11, 24, 9), OnUnknown: job.Drop,
	}
}
