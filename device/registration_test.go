package device_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pushfleet/pushfleet/device"
)

func TestRegistrationValidate(t *testing.T) {
	t.Parallel()
	tok := device.TokenFromRaw("0123456789abcdef")
	tests := []struct {
		name   string
		change func(r *device.Registration)
		want   []string // one line of the error each
	}{
		{name: "least", change: func(*device.Registration) {}},
		{name: "most", change: func(r *device.Registration) {
			r.Token = device.TokenFromRaw(strings.Repeat("t", device.MaxTokenBytes))
			r.PreviousToken = device.TokenFromRaw(strings.Repeat("p", device.MaxTokenBytes))
			r.User, r.InstallID = strings.Repeat("u", device.MaxIDBytes), strings.Repeat("i", device.MaxIDBytes)
			r.Locale, r.Timezone, r.AppVersion = strings.Repeat("l", 64), strings.Repeat("z", 64), strings.Repeat("v", 64)
			r.Attributes = make(map[string]string)
			for n := range device.MaxTags {
				r.Tags = append(r.Tags, fmt.Sprint(n))
			}
			for n := range device.MaxAttributes {
				r.Attributes[fmt.Sprint(n)] = strings.Repeat("a", device.MaxAttributeBytes)
			}
		}},
		{
			name:   "no device token",
			change: func(r *device.Registration) { r.Token = device.Token{} },
			want:   []string{"device token is empty"},
		},
		{
			name: "everything too long",
			change: func(r *device.Registration) {
				r.Token = device.TokenFromRaw(strings.Repeat("t", device.MaxTokenBytes+1))
				r.PreviousToken = r.Token
				r.User, r.InstallID = strings.Repeat("u", 257), strings.Repeat("i", 257)
				r.Locale, r.Timezone, r.AppVersion = strings.Repeat("l", 65), strings.Repeat("z", 65), strings.Repeat("v", 65)
				r.Tags = []string{"fine", strings.Repeat("t", 129)}
				r.Attributes = map[string]string{strings.Repeat("n", 129): "", "x": strings.Repeat("a", 513)}
			},
			want: []string{
				"device token is longer than 256 bytes",
				"previous_token: device token is longer than 256 bytes",
				"user: must be at most 256 bytes, got 257",
				"install_id: must be at most 256 bytes, got 257",
				"locale: must be at most 64 bytes, got 65",
				"timezone: must be at most 64 bytes, got 65",
				"app_version: must be at most 64 bytes, got 65",
				"tags[1]: must be at most 128 bytes, got 129",
				"attributes (a name): must be at most 128 bytes, got 129",
				"attributes (a value): must be at most 512 bytes, got 513",
			},
		},
		{
			name: "too many",
			change: func(r *device.Registration) {
				r.Tags = make([]string, 101)
				r.Attributes = make(map[string]string)
				for n := range 65 {
					r.Attributes[fmt.Sprint(n)] = ""
				}
			},
			want: []string{"tags: must be at most 100, got 101", "attributes: must be at most 64, got 65"},
		},
		{
			name: "empty and not UTF-8",
			change: func(r *device.Registration) {
				r.User = "\xff"
				r.Tags = []string{""}
				r.Attributes = map[string]string{"": "x"}
			},
			want: []string{"user: must be UTF-8", "tags[0]: must not be empty", "attributes: must not have an empty name"},
		},
		{
			name: "no environment, no such kind",
			change: func(r *device.Registration) {
				r.Environment, r.Kind = device.EnvironmentUnset, device.Kind(31)
			},
			want: []string{"environment: must be production or sandbox, got none", "kind: must be one of"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := device.Registration{Token: tok, Environment: device.Production}
			tt.change(&r)
			err := r.Validate()
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("got %q, want %q", got[i], tt.want[i])
				}
			}
		})
	}
}
