package campaign

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/job"
)

// Schema returns the JSON Schema (draft 2020-12) of a campaign, indented. It is
// made from the table that [Parse] works with: what it refuses, Parse refuses.
// Parse is stricter in what a schema cannot say: all that [job.Schema] lists;
// placeholders and their variables; time zones; cron expressions; which time is
// before which; and localizations together with what they take the place of.
func Schema() []byte {
	rules := []string{
		`{` + job.ContentSchema() + `}`,
		`{"oneOf":[{"required":["audience"]},{"required":["recipients"]}]}`,
		`{"not":{"required":["recurrence","recipients"]}}`,
		`{"not":{"required":["recurrence","expires_at"]}}`,
	}
	text := func(s string) string { return string(strictjson.AppendText(nil, s)) }
	v := jsontext.Value(`{"$schema":"https://json-schema.org/draft/2020-12/schema","$id":"urn:pushfleet:schema:campaign",` +
		`"title":"A pushfleet campaign","description":` + text("One message to one audience.") + `,` +
		campaignTable.Schema() + `,"dependentRequired":{"localizations":["notification"],"past_local_time":["local_time"]},"allOf":[` + strings.Join(rules, ",") + `]}`)
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		panic("campaign: schema is not JSON: " + err.Error())
	}
	return v
}
