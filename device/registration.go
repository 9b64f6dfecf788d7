package device

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a [Registration].
//
// choice: they keep one device's details to a few kilobytes of the token set,
// and are far above what is seen in use.
const (
	MaxIDBytes        = 256 // User, InstallID
	MaxWordBytes      = 64  // Locale, Timezone, AppVersion
	MaxTags           = 100
	MaxTagBytes       = 128 // a tag, and the name of an attribute
	MaxAttributes     = 64
	MaxAttributeBytes = 512 // the value of an attribute
)

// Validate reports everything that keeps r from being stored, one error for
// each field, joined. Its errors hold no device token.
//
// The environment must be said: what is stored must not change its meaning when
// the app's configuration does.
func (r Registration) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", field, fmt.Errorf(format, args...)))
	}
	switch n := r.Token.Len(); {
	case n == 0:
		errs = append(errs, ErrTokenEmpty)
	case n > MaxTokenBytes:
		errs = append(errs, ErrTokenTooLong)
	}
	if r.PreviousToken.Len() > MaxTokenBytes {
		bad("previous_token", "%w", ErrTokenTooLong)
	}
	if r.Environment != Production && r.Environment != Sandbox {
		bad("environment", "must be production or sandbox, got %s", cmp.Or(r.Environment.String(), "none"))
	}
	if r.Kind >= kinds {
		bad("kind", "must be one of %s, got %s", strings.Join(KindNames(), ", "), r.Kind)
	}
	text := func(field, s string, limit int) {
		if len(s) > limit {
			bad(field, "must be at most %d bytes, got %d", limit, len(s))
		} else if !utf8.ValidString(s) {
			bad(field, "must be UTF-8")
		}
	}
	text("user", r.User, MaxIDBytes)
	text("install_id", r.InstallID, MaxIDBytes)
	text("locale", r.Locale, MaxWordBytes)
	text("timezone", r.Timezone, MaxWordBytes)
	text("app_version", r.AppVersion, MaxWordBytes)
	if len(r.Tags) > MaxTags {
		bad("tags", "must be at most %d, got %d", MaxTags, len(r.Tags))
	} else {
		for i, tag := range r.Tags {
			if tag == "" {
				bad(fmt.Sprintf("tags[%d]", i), "must not be empty")
			}
			text(fmt.Sprintf("tags[%d]", i), tag, MaxTagBytes)
		}
	}
	if len(r.Attributes) > MaxAttributes {
		bad("attributes", "must be at most %d, got %d", MaxAttributes, len(r.Attributes))
	} else {
		for _, name := range slices.Sorted(maps.Keys(r.Attributes)) {
			if name == "" {
				bad("attributes", "must not have an empty name")
			}
			text("attributes (a name)", name, MaxTagBytes)
			text("attributes (a value)", r.Attributes[name], MaxAttributeBytes)
		}
	}
	return errors.Join(errs...)
}
