package job_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pushfleet/pushfleet/job"
)

// compileSchema compiles with formats asserted: more than most validators do, so
// that the agreement below is tested at its strictest.
func compileSchema(t testing.TB, schema []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	must(t, doc, err)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatalf("add schema: got %v, want nil", err)
	}
	compiled, err := c.Compile("schema.json")
	if err != nil {
		t.Fatalf("compile schema: got %v, want nil", err)
	}
	return compiled
}

func validate(t testing.TB, schema *jsonschema.Schema, data []byte) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("unmarshal: got %v, want nil", err)
	}
	return schema.Validate(doc)
}

func TestSchemaAgreesWithParse(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t, job.Schema())
	for name, data := range good() {
		if err := validate(t, schema, []byte(data)); err != nil {
			t.Errorf("%s: Parse takes it, the schema says %v", name, err)
		}
		canonical := must2(must2(job.Parse([]byte(data))).AppendJSON(nil))
		if err := validate(t, schema, canonical); err != nil {
			t.Errorf("%s: AppendJSON made %s, the schema says %v", name, canonical, err)
		}
	}
	if err := validate(t, schema, must2(everyField().AppendJSON(nil))); err != nil {
		t.Errorf("every field: got %v, want nil", err)
	}
	for _, tt := range bad() {
		if err := validate(t, schema, []byte(tt.json)); (err == nil) != tt.onlyParse {
			t.Errorf("%s: the schema says %v, want it to take it: %t", tt.name, err, tt.onlyParse)
		}
	}
}

// TestSchemaKnowsEveryField checks that each field of each object has a
// description, and that the objects take nothing else.
func TestSchemaKnowsEveryField(t *testing.T) {
	t.Parallel()
	for name, schema := range map[string][]byte{"job": job.Schema(), "outcomes": job.OutcomeSchema(), "webhook": job.WebhookSchema()} {
		var doc map[string]any
		if err := json.Unmarshal(schema, &doc); err != nil {
			t.Fatalf("%s: got %v, want JSON", name, err)
		}
		if got, want := doc["$schema"], "https://json-schema.org/draft/2020-12/schema"; got != want {
			t.Errorf("%s: $schema: got %v, want %s", name, got, want)
		}
		fields := 0
		var walk func(path string, node map[string]any)
		walk = func(path string, node map[string]any) {
			properties, _ := node["properties"].(map[string]any)
			for field, value := range properties {
				fields++
				p, ok := value.(map[string]any)
				if !ok {
					continue // forbidden
				}
				if text, _ := p["description"].(string); len(text) < 3 {
					t.Errorf("%s: %s.%s: got description %q, want one", name, path, field, text)
				}
				walk(path+"."+field, p)
				if items, ok := p["items"].(map[string]any); ok {
					walk(path+"."+field, items)
				}
			}
			open := strings.HasSuffix(path, "data") || name != "job"
			if closed := node["additionalProperties"] == false; properties != nil && closed == open {
				t.Errorf("%s: %s: got additionalProperties %v", name, path, node["additionalProperties"])
			}
		}
		walk("", doc)
		if fields < 18 {
			t.Errorf("%s: got %d fields, want at least 18", name, fields)
		}
	}
}

func TestOutcomeSchemaTakesOutcomes(t *testing.T) {
	t.Parallel()
	schema := compileSchema(t, job.OutcomeSchema())
	for name, o := range goldenOutcomes() {
		if err := validate(t, schema, o.AppendJSON(nil)); err != nil {
			t.Errorf("%s: got %v, want nil", name, err)
		}
	}
	for _, data := range []string{`{}`, `{"v":2,"app":"a","lane":"bulk"}`, `{"v":1,"app":"a","lane":"x"}`, `{"v":1,"app":"a","lane":"bulk","jobs":[{}]}`} {
		if err := validate(t, schema, []byte(data)); err == nil {
			t.Errorf("%s: got nil, want an error", data)
		}
	}
}
