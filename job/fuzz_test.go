package job_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pushfleet/pushfleet/job"
)

// hugeExponent matches numbers that the schema validator would write out: it
// reckons with fractions of any size.
var hugeExponent = regexp.MustCompile(`[0-9][eE][+-]?[0-9]{4,}`)

func seeds(f *testing.F, dirs ...string) {
	f.Helper()
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*"))
		if err != nil || len(files) == 0 {
			f.Fatalf("golden files in %s: got %v, %v", dir, files, err)
		}
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
}

// FuzzParse checks that what Parse takes, Validate and the schema take too, that
// it fits APNs, and that it survives both encodings.
func FuzzParse(f *testing.F) {
	seeds(f, "jobs")
	for _, data := range good() {
		f.Add([]byte(data))
	}
	for _, tt := range append(bad(), broken()...) {
		f.Add([]byte(tt.json))
	}
	schema := compileSchema(f, job.Schema())
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := job.Parse(data)
		if err != nil {
			checkError(t, err)
			return
		}
		if err := j.Validate(); err != nil {
			t.Fatalf("Validate after Parse: got %v, want nil", err)
		}
		roundTrip(t, j)
		if data[0] == 0xF5 || hugeExponent.Match(data) {
			return
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatalf("another reader of JSON: got %v, want nil", err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Fatalf("Parse takes what the schema refuses: %v", err)
		}
	})
}

// FuzzParseCompact fuzzes behind the mark, where FuzzParse seldom comes.
func FuzzParseCompact(f *testing.F) {
	seeds(f, "jobs")
	f.Add(compactOf(header, 2, "ab", "c"))
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := job.Parse(append([]byte{0xF5, 1}, data...))
		if err != nil {
			checkError(t, err)
			return
		}
		roundTrip(t, j)
	})
}

func FuzzParseOutcomes(f *testing.F) {
	seeds(f, "outcomes")
	f.Add(manyOutcomes([2]int{3, 2}, [2]int{0, 1}).AppendJSON(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := job.ParseOutcomes(data)
		if err != nil {
			checkError(t, err)
			return
		}
		encoded := o.AppendJSON(nil)
		again, err := job.ParseOutcomes(encoded)
		if err != nil {
			t.Fatalf("%s: got %v, want nil", encoded, err)
		}
		if twice := again.AppendJSON(nil); !bytes.Equal(twice, encoded) {
			t.Fatalf("encoded again: got %s, want %s", twice, encoded)
		}
		for i, p := range o.Split(300, 3) {
			recipients := 0
			for _, j := range p.Jobs {
				recipients += len(j.Accepted) + len(j.Others)
			}
			most := 3
			if len(p.Jobs) == 1 {
				most = 6
			}
			if n := len(p.AppendJSON(nil)); recipients > most || n > 300 && recipients > 1 {
				t.Fatalf("part %d: got %d bytes and %d recipients, want at most 300 and %d", i, n, recipients, most)
			}
		}
	})
}

func checkError(t *testing.T, err error) {
	t.Helper()
	problems := problemsOf(t, err)
	if len(problems) == 0 || len(problems) > 50 {
		t.Fatalf("got %d problems, want 1 to 50", len(problems))
	}
	if n := len(err.Error()); n > 4096 {
		t.Fatalf("got an error of %d bytes, want at most 4096", n)
	}
}

// FuzzValidate checks jobs that Go code made: what Validate takes, Parse takes
// from either encoding, with the same payload.
func FuzzValidate(f *testing.F) {
	f.Add("id", "title", "body", "sound", "collapse", 1, int64(3600e9), 0.5, []byte(`{"a":1}`), []byte(nil), "user", true)
	f.Add("", "", "", "", "", 0, int64(0), 0.0, []byte(nil), []byte(` { "aps" : {"alert":""} } `), "user", false)
	f.Fuzz(func(t *testing.T, id, title, body, sound, collapse string, badge int, ttl int64, score float64, data, payload []byte, user string, wake bool) {
		j := &job.Job{
			ID: id, To: job.Recipients{Users: []string{user}}, CollapseID: collapse,
			Payload: payload, Data: data, TTL: time.Duration(ttl),
		}
		if len(payload) == 0 {
			j.Notification = &job.Notification{
				Title: title, Body: body, Sound: job.Sound{Name: sound}, Badge: &badge, RelevanceScore: &score, ContentAvailable: wake,
			}
		}
		if err := j.Validate(); err != nil {
			checkError(t, err)
			return
		}
		want := must2(j.RenderPayload())
		for _, encoded := range [][]byte{must2(j.AppendJSON(nil)), must2(job.AppendCompact(nil, j))} {
			again, err := job.Parse(encoded)
			if err != nil {
				t.Fatalf("Validate takes what Parse refuses: %v", err)
			}
			if got := must2(again.RenderPayload()); !bytes.Equal(got, want) {
				t.Fatalf("payload: got %s, want %s", got, want)
			}
			roundTrip(t, again)
		}
	})
}
