package device_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/device"
)

func TestParseToken(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		want       error
	}{
		{"classic", strings.Repeat("0a", 32), nil},
		{"upper case", strings.Repeat("0A", 32), nil},
		{"one byte", "ff", nil},
		{"Live Activity", strings.Repeat("80", 80), nil},
		{"longest", strings.Repeat("01", device.MaxTokenBytes), nil},
		{"empty", "", device.ErrTokenEmpty},
		{"odd", "abc", device.ErrTokenOdd},
		{"not hex", "zz", device.ErrTokenNotHex},
		{"too long", strings.Repeat("01", device.MaxTokenBytes+1), device.ErrTokenTooLong},
		{"odd and too long", strings.Repeat("1", 2*device.MaxTokenBytes+1), device.ErrTokenTooLong},
	} {
		got, err := device.ParseToken(tt.text)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
			continue
		}
		if tt.want != nil {
			if !got.IsZero() {
				t.Errorf("%s: got a device token beside the error", tt.name)
			}
			continue
		}
		if want := strings.ToLower(tt.text); got.Hex() != want || string(got.AppendHex(nil)) != want || got.Len() != len(want)/2 {
			t.Errorf("%s: got %s of %d bytes, want %s", tt.name, got.Hex(), got.Len(), want)
		}
		if device.TokenFromRaw(got.Raw()) != got {
			t.Errorf("%s: its raw bytes make another one", tt.name)
		}
	}
}

func TestTokenIsNeverPrintedWhole(t *testing.T) {
	t.Parallel()
	tok := device.TokenFromRaw("secret token of 32 bytes, really")
	r := device.Registration{Token: tok, PreviousToken: tok}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, value := range []any{tok, &tok, []device.Token{tok}, map[device.Token]int{tok: 1}} {
			got := fmt.Sprintf(verb, value)
			if strings.Contains(got, tok.Hex()[:8]) || strings.Contains(got, "secret t") {
				t.Errorf("%s of a %T prints more than six characters: %s", verb, value, got)
			}
		}
		if got := fmt.Sprintf(verb, r); strings.Contains(got, tok.Hex()[:8]) || strings.Contains(got, "secret t") {
			t.Errorf("%s of a registration prints more than six characters", verb)
		}
	}
	if got, want := tok.String(), tok.Hex()[:6]+"…"; got != want {
		t.Errorf("String: got %q, want %q", got, want)
	}
	if got := (device.Token{}).String(); got != "(no device token)" {
		t.Errorf("String of none: got %q", got)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("0a0B")
	f.Add("0")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := device.ParseToken(text)
		if err == nil && tok.Hex() != strings.ToLower(text) {
			t.Errorf("got %s, want %s", tok.Hex(), strings.ToLower(text))
		}
	})
}

func TestKindsAndEnvironments(t *testing.T) {
	t.Parallel()
	// The numbers are stored.
	names := []string{
		"alert", "voip", "liveactivity", "liveactivity_start", "widget", "control", "location", "complication",
		"fileprovider", "pushtotalk", "mdm",
	}
	for n, name := range names {
		if got, err := device.ParseKind(name); err != nil || got != device.Kind(n) || got.String() != name {
			t.Errorf("kind %q: got %v, %v, want number %d", name, got, err, n)
		}
	}
	if got := device.KindNames(); strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("KindNames: got %v, want %v", got, names)
	}
	if got, err := device.ParseKind(""); err != nil || got != device.Alert {
		t.Errorf("no kind: got %v, %v, want %v", got, err, device.Alert)
	}
	if _, err := device.ParseKind("Alert"); err == nil {
		t.Error("unknown kind: got no error")
	}
	if got := device.Kind(31).String(); got != "kind(31)" {
		t.Errorf("kind of a newer version: got %q", got)
	}
	for n, name := range []string{"", "production", "sandbox"} {
		if got, err := device.ParseEnvironment(name); err != nil || got != device.Environment(n) || got.String() != name {
			t.Errorf("environment %q: got %v, %v, want number %d", name, got, err, n)
		}
	}
	if _, err := device.ParseEnvironment("staging"); err == nil {
		t.Error("unknown environment: got no error")
	}
}
