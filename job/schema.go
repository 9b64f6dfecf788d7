package job

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Schema returns the JSON Schema (draft 2020-12) of a job, indented. It is made
// from the tables that [Parse] works with: what it refuses, Parse refuses. Parse
// is stricter in what a schema cannot say: JSON with a member given twice or
// nested deeper than 64 levels; lengths in bytes, not characters; what is
// printable; the values of times and durations; send_after before expires_at; a
// push type that cannot be derived, and what follows from a derived one; the
// content of payload; and the size of what is sent.
func Schema() []byte {
	return indentedSchema("urn:pushfleet:schema:job", "A pushfleet job",
		"The request to send one notification to one or many devices.", jobObject.describe())
}

func indentedSchema(id, title, description, members string) []byte {
	v := jsontext.Value(`{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":` + quote(id) +
		`,"title":` + quote(title) + `,"description":` + quote(description) + `,` + members + `}`)
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		panic("job: schema is not JSON: " + err.Error())
	}
	return v
}

// pushTypeSchemas says for each push type that is named what pushTypes says.
func pushTypeSchemas() []string {
	var out []string
	for i := range pushTypes {
		t := &pushTypes[i]
		var then []string
		if t.refuses != 0 {
			var allowed []string
			for _, p := range []int{10, 5, 1} {
				if p != t.refuses {
					allowed = append(allowed, itoa(p))
				}
			}
			then = append(then, `"priority":{"enum":[`+strings.Join(allowed, ",")+`]}`)
		}
		if t.payloadOnly != "" {
			then = append(then, `"notification":false`, `"payload":{"required":["`+t.payloadOnly+`"]}`)
		} else {
			then = append(then, `"notification":{`+t.notificationSchema()+`}`)
		}
		out = append(out, `{"if":{"properties":{"push_type":{"const":"`+string(t.push)+
			`"}},"required":["push_type"]},"then":{"properties":{`+strings.Join(then, ",")+`}}}`)
	}
	return out
}

func (t *traits) notificationSchema() string {
	var properties []string
	needs := strings.Fields(t.needs)
	for _, name := range needs {
		if isFlag(name) {
			properties = append(properties, `"`+name+`":{"enum":[true,1]}`)
		}
	}
	properties = append(properties, absentSchemas(t.forbidden())...)
	if t.push != PushLiveActivity {
		properties = append(properties, `"relevance_score":{"minimum":0,"maximum":1}`)
	}
	s := `"properties":{` + strings.Join(properties, ",") + `}`
	if len(needs) > 0 {
		s += `,"required":` + quoteAll(needs)
	}
	return s
}

// eventSchema says what the event of a Live Activity asks for.
func eventSchema() string {
	base := strings.Fields(pushTypes[slices.Index(PushTypes(), PushLiveActivity)].needs)
	start := append(slices.Clone(base), strings.Fields(startNeeds)...)
	var anyOf []string
	for _, name := range strings.Fields(shownFields) {
		anyOf = append(anyOf, `{"required":["`+name+`"]}`)
	}
	return `{"if":{"required":["event"]},"then":{"required":` + quoteAll(base) +
		`,"not":{"anyOf":[{"required":["title","title_loc_key"]},{"required":["body","loc_key"]}]}` +
		`,"if":{"properties":{"event":{"const":"start"}}},"then":{"required":` + quoteAll(start) +
		`,"anyOf":[` + strings.Join(anyOf, ",") + `]},"else":{"properties":{` +
		strings.Join(absentSchemas(strings.Fields(startFields)), ",") + `}}}}`
}

// absentSchemas says that fields are absent, or false where they are flags.
func absentSchemas(names []string) []string {
	var out []string
	for _, name := range names {
		if isFlag(name) {
			out = append(out, `"`+name+`":{"enum":[false,0]}`)
		} else {
			out = append(out, `"`+name+`":false`)
		}
	}
	return out
}

// isFlag reports whether a field of a notification is a boolean. It does not ask
// the table, which is made with its help.
func isFlag(name string) bool {
	return slices.Contains([]string{"content_available", "mutable_content", "content_changed", "input_push_token"}, name)
}
