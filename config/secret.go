package config

import (
	"fmt"
	"io"
)

// masked stands where a secret would have been printed.
const masked = "[secret]"

// Secret is a text that is never printed: every verb of package fmt, JSON, YAML
// and text encoding show a mask, or nothing where it is empty. [Secret.Reveal]
// is the only way to it. The zero value is the empty one.
type Secret struct {
	// A pointer, because package fmt goes past all methods where a verb does not
	// fit what surrounds the secret (%s of a struct with a pointer).
	text *string
}

// NewSecret hides s.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{text: &s}
}

// Reveal returns the secret itself, for whom it is meant for; never for logs or
// errors.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether s is empty.
func (s Secret) IsZero() bool { return s.text == nil }

// String returns the mask.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return masked
}

// GoString returns the mask.
func (s Secret) GoString() string { return s.String() }

// Format implements [fmt.Formatter], so that no verb prints the secret.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText returns the mask.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
