package producer_test

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/producer"
)

func TestPreviewFile(t *testing.T) {
	t.Parallel()
	c := parse(t, `{"id":"file","recipients":{"variables":["name","code"]},
		"notification":{"title":"Hi {{name|you}}","body":"{{code}}"},"localizations":{"de":{"title":"Servus"}}}`)
	token := strings.Repeat("0a", 32)
	file := "user,token,name,code\nada,,Ada,A1\n," + token + ",,A2\nbob,,Bob,\n,,x,x\nada,,again,A3\n" +
		"eve,,,A4\nlong,,," + strings.Repeat("\x01", 800) + "\n"
	var bad []int64
	got, err := producer.PreviewFile(t.Context(), c, producer.File{
		Source: strings.NewReader(file),
		Bad: func(line int64, _ error) error {
			bad = append(bad, line)
			return nil
		},
	}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if got.Users != 4 || got.Tokens != 1 || got.Bad != 2 || !reflect.DeepEqual(bad, []int64{5, 6}) {
		t.Errorf("got %+v, bad lines %v, want 4 users, a device token, lines 5 and 6 bad", got, bad)
	}
	if want := map[string]int64{"no value for code": 1, "payload too large": 1}; !maps.Equal(got.Skipped, want) {
		t.Errorf("skipped: got %v, want %v", got.Skipped, want)
	}
	const longest = `{"aps":{"alert":{"title":"Hi Ada","body":"A1"}}}`
	if got.Longest != len(longest) || got.Limit != 4096 {
		t.Errorf("longest: got %d of %d, want %d of 4096", got.Longest, got.Limit, len(longest))
	}
	var samples []string
	for _, s := range got.Samples {
		samples = append(samples, s.Locale+" "+string(s.Payload))
	}
	want := []string{
		` ` + longest,
		`de {"aps":{"alert":{"title":"Servus","body":"A2"}}}`,
		`de {"aps":{"alert":{"title":"Servus","body":"A4"}}}`,
	}
	if !reflect.DeepEqual(samples, want) {
		t.Errorf("samples: got %q, want %q", samples, want)
	}
}

// The user of a line is a variable.
func TestPreviewFileKnowsTheUser(t *testing.T) {
	t.Parallel()
	c := parse(t, `{"id":"file","recipients":{},"notification":{"body":"Hi {{user}}"}}`)
	got, err := producer.PreviewFile(t.Context(), c, producer.File{Source: strings.NewReader("user,token\nada,\n," + strings.Repeat("0a", 32) + "\n")}, 5)
	if err != nil || len(got.Samples) != 1 || string(got.Samples[0].Payload) != `{"aps":{"alert":{"body":"Hi ada"}}}` || got.Skipped["no value for user"] != 1 {
		t.Errorf("got %+v, %v, want ada's, and none for the device token", got, err)
	}
}

func TestPreviewFileEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := producer.PreviewFile(ctx, parse(t, toFile), producer.File{Source: strings.NewReader(csvOf(0, 10))}, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, want %v", err, context.Canceled)
	}
	full := errors.New("disk full")
	bad := func(int64, error) error { return full }
	if _, err := producer.PreviewFile(t.Context(), parse(t, toFile), producer.File{Source: strings.NewReader(csvOf(0, 10)), Bad: bad}, 1); !errors.Is(err, full) {
		t.Errorf("a report that cannot be written: got %v, want %v", err, full)
	}
	if _, err := producer.PreviewFile(t.Context(), parse(t, toAll), producer.File{Source: strings.NewReader(csvOf(0, 10))}, 1); err == nil {
		t.Error("of an audience: got no error")
	}
}
