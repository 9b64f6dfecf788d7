package apnstest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"time"
)

// providerTokenLife is how old a provider token may be (Apple, Establishing a
// token-based connection to APNs).
const providerTokenLife = time.Hour

// providerToken is a provider token that was looked at once. What depends on
// the time, the connection or the knobs is judged at every use.
type providerToken struct {
	text  string
	valid bool // well formed, key known, issuer and signature right
	key   *Key
	iat   int64 // Unix seconds
}

// tokenBook remembers provider tokens: verifying a signature costs more than
// all else of a request. Safe for concurrent use.
type tokenBook struct {
	mu   sync.RWMutex
	keys map[string]*Key
	seen map[string]*providerToken
}

// maxSeenTokens bounds tokenBook.seen against clients that mint one per request.
const maxSeenTokens = 4096

func newTokenBook(keys []Key) (*tokenBook, error) {
	b := &tokenBook{keys: make(map[string]*Key), seen: make(map[string]*providerToken)}
	for _, k := range keys {
		if err := b.add(k); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// add makes a key known; one with the same id is replaced.
func (b *tokenBook) add(k Key) error {
	if k.ID == "" || k.TeamID == "" || k.public() == nil {
		return fmt.Errorf("key %q: id, team id and a key are required", k.ID)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys[k.ID] = &k
	clear(b.seen)
	return nil
}

// look returns what is known about a provider token. It never returns nil.
func (b *tokenBook) look(text []byte) *providerToken {
	b.mu.RLock()
	t := b.seen[string(text)]
	b.mu.RUnlock()
	if t != nil {
		return t
	}
	t = &providerToken{text: string(text)}
	kid, iss, iat, signed, sig, err := parseProviderToken(t.text)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		k := b.keys[kid]
		if k != nil && k.TeamID == iss && verifySignature(k.public(), signed, sig) {
			t.valid, t.key, t.iat = true, k, iat
		}
	}
	if len(b.seen) >= maxSeenTokens {
		clear(b.seen)
	}
	b.seen[t.text] = t
	return t
}

// parseProviderToken takes a provider token apart without judging its signature.
func parseProviderToken(text string) (kid, iss string, iat int64, signed, sig []byte, err error) {
	fail := func(format string, args ...any) (string, string, int64, []byte, []byte, error) {
		return "", "", 0, nil, nil, fmt.Errorf("provider token: "+format, args...)
	}
	head, rest, ok := strings.Cut(text, ".")
	body, mac, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || strings.Contains(mac, ".") {
		return fail("want three parts")
	}
	var h struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}
	if err := decodePart(head, &h); err != nil {
		return fail("header: %w", err)
	}
	if h.Alg != "ES256" {
		return fail("alg must be ES256, got %q", h.Alg)
	}
	var c struct {
		Iss string          `json:"iss"`
		Iat json.RawMessage `json:"iat"`
	}
	if err := decodePart(body, &c); err != nil {
		return fail("claims: %w", err)
	}
	// A string is refused, and so is a fraction (observed: kylebrowning/APNSwift#246).
	iat, err = strconv.ParseInt(string(bytes.TrimSpace(c.Iat)), 10, 64)
	if err != nil {
		return fail("iat must be a whole number")
	}
	sig, err = base64.RawURLEncoding.DecodeString(mac)
	if err != nil {
		return fail("signature: %w", err)
	}
	return h.Kid, c.Iss, iat, []byte(text[:len(head)+1+len(body)]), sig, nil
}

func decodePart(part string, into any) error {
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(part, "="))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// verifySignature takes both forms: JOSE's R||S and the ASN.1 that Apple's own
// shell recipe sends.
func verifySignature(pub *ecdsa.PublicKey, signed, sig []byte) bool {
	sum := sha256.Sum256(signed)
	if len(sig) == 64 {
		r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
		if ecdsa.Verify(pub, sum[:], r, s) {
			return true
		}
	}
	return ecdsa.VerifyASN1(pub, sum[:], sig)
}

// ProviderToken mints a provider token as of iat, signed with the server's own
// key. Its use is in an `authorization: bearer …` header.
func (s *Server) ProviderToken(iat time.Time) string { return s.id.Key.ProviderToken(iat) }

// ProviderToken mints a provider token as of iat, to the second. It panics if k
// has no private key.
func (k Key) ProviderToken(iat time.Time) string {
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString(fmt.Appendf(nil, `{"alg":"ES256","kid":%q}`, k.ID)) + "." +
		enc.EncodeToString(fmt.Appendf(nil, `{"iss":%q,"iat":%d}`, k.TeamID, iat.Unix()))
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, k.Private, sum[:])
	if err != nil {
		panic("apnstest: sign provider token: " + err.Error())
	}
	var sig [64]byte
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return signed + "." + enc.EncodeToString(sig[:])
}
