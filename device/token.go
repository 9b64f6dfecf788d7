package device

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// MaxTokenBytes is the longest device token that is taken, in raw bytes.
//
// choice: Apple gives no size ("don't assume", Registering your app with APNs)
// and announced up to 100 bytes (WWDC 2015); 80 are seen for Live Activities.
// The bound only keeps garbage out of the token set.
const MaxTokenBytes = 256

// Token is an APNs device token: opaque bytes that name one app (or one Live
// Activity, widget, …) on one device. It is comparable, and safe for
// concurrent use. The zero value is no token.
//
// A device token is personal data: formatting one with any verb of package fmt
// prints six characters of it. [Token.Hex] is the only way to all of it.
type Token struct{ raw string }

// Errors of [ParseToken].
var (
	ErrTokenEmpty   = errors.New("device token is empty")
	ErrTokenOdd     = errors.New("device token has an odd number of hex digits")
	ErrTokenNotHex  = errors.New("device token holds something other than hex digits")
	ErrTokenTooLong = fmt.Errorf("device token is longer than %d bytes", MaxTokenBytes)
)

// ParseToken reads a device token from its hexadecimal form, in either case.
// Any length from 1 to [MaxTokenBytes] bytes is taken: real tokens are longer
// than the classic 32 bytes (observed: rpush/rpush#278, rpush/rpush#462).
func ParseToken(s string) (Token, error) {
	switch {
	case s == "":
		return Token{}, ErrTokenEmpty
	case len(s) > 2*MaxTokenBytes:
		return Token{}, ErrTokenTooLong
	case len(s)%2 != 0:
		return Token{}, ErrTokenOdd
	}
	var buf [MaxTokenBytes]byte
	n, err := hex.Decode(buf[:], []byte(s))
	if err != nil {
		return Token{}, ErrTokenNotHex
	}
	return Token{raw: string(buf[:n])}, nil
}

// TokenFromRaw makes a device token from its raw bytes, as the token set stores
// them. It does not check the length.
func TokenFromRaw(raw string) Token { return Token{raw: raw} }

// Raw returns the token's bytes, as a string so that they stay immutable.
func (t Token) Raw() string { return t.raw }

// Len returns the token's length in bytes; 0 is no token.
func (t Token) Len() int { return len(t.raw) }

// IsZero reports whether t is no token.
func (t Token) IsZero() bool { return t.raw == "" }

// Hex returns the whole token in lower-case hexadecimal. It is for APNs and for
// those who must act on the token (outcomes, exports); never for logs or errors.
func (t Token) Hex() string { return hex.EncodeToString([]byte(t.raw)) }

// AppendHex appends what [Token.Hex] returns to dst.
func (t Token) AppendHex(dst []byte) []byte {
	const digits = "0123456789abcdef"
	for i := range len(t.raw) {
		dst = append(dst, digits[t.raw[i]>>4], digits[t.raw[i]&0xf])
	}
	return dst
}

// String returns the first six hex digits and an ellipsis.
func (t Token) String() string {
	if t.raw == "" {
		return "(no device token)"
	}
	return hex.EncodeToString([]byte(t.raw[:min(3, len(t.raw))])) + "…"
}

// Format implements [fmt.Formatter], so that no verb prints the whole token.
func (t Token) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }
