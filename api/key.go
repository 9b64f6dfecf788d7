package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/store"
)

// Scope is what an API key may do for the apps that it is good for.
type Scope string

// The scopes. Keys are stored with these words: they never change.
const (
	ScopeSend      Scope = "send"      // hand in notifications
	ScopeDevices   Scope = "devices"   // register, read and remove devices
	ScopeCampaigns Scope = "campaigns" // create and steer campaigns
	ScopeRead      Scope = "read"      // read everything, change nothing
	ScopeAdmin     Scope = "admin"     // all of the above
)

// Scopes returns all scopes.
func Scopes() []Scope {
	return []Scope{ScopeSend, ScopeDevices, ScopeCampaigns, ScopeRead, ScopeAdmin}
}

// A key is pf_<id>_<secret>, both in lower-case base32: it has no character that
// a shell, a URL or a double click minds.
const (
	keyPrefix   = "pf_"
	idBytes     = 10
	secretBytes = 32
	idChars     = idBytes * 8 / 5
	secretChars = (secretBytes*8 + 4) / 5
)

func keyEncoding() *base32.Encoding {
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
}

// KeyConfig says what a new API key is good for.
type KeyConfig struct {
	Name   string   // for people, at most 100 bytes; may be empty
	Scopes []Scope  // at least one
	Apps   []string // at least one, unless AllApps
	// AllApps makes it good for every app, also those that are added later.
	AllApps bool
}

// maxKeyName is the most bytes of a key's name.
const maxKeyName = 100

// faults are what is wrong with it.
func (cfg *KeyConfig) faults() []Fault {
	var f faults
	if len(cfg.Name) > maxKeyName {
		f.add("name", "must be at most %d bytes, got %d", maxKeyName, len(cfg.Name))
	}
	if len(cfg.Scopes) == 0 {
		f.add("scopes", "needs at least one")
	}
	if cfg.AllApps == (len(cfg.Apps) > 0) {
		f.add("apps", "must be named, or be all, and not both")
	}
	for i, sc := range cfg.Scopes {
		if !slices.Contains(Scopes(), sc) {
			f.add(fmt.Sprintf("scopes[%d]", i), "must be one of %v", Scopes())
		}
	}
	return f.list
}

// Validate says everything that is wrong with it, but for apps that nobody knows.
func (cfg *KeyConfig) Validate() error { return joined(cfg.faults()) }

// NewKey makes an API key of 256 random bits. The text is to be handed to its
// owner and shown to nobody else; the record is to be stored, and does not hold
// it.
func NewKey(cfg KeyConfig, now time.Time) (text string, record store.APIKey, err error) {
	if err := cfg.Validate(); err != nil {
		return "", store.APIKey{}, err
	}
	for _, sc := range cfg.Scopes {
		record.Scopes = append(record.Scopes, string(sc))
	}
	random := make([]byte, idBytes+secretBytes)
	_, _ = rand.Read(random) // it never fails, and would end the process
	record.ID = keyEncoding().EncodeToString(random[:idBytes])
	secret := keyEncoding().EncodeToString(random[idBytes:])
	record.Name, record.Apps, record.AllApps = cfg.Name, slices.Clone(cfg.Apps), cfg.AllApps
	record.Hash, record.CreatedAt = sha256.Sum256([]byte(secret)), now
	return keyPrefix + record.ID + "_" + secret, record, nil
}

// splitKey takes a key apart. It only says whether it has the form of one.
func splitKey(text string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(text, keyPrefix)
	if !ok || len(rest) != idChars+1+secretChars || rest[idChars] != '_' {
		return "", "", false
	}
	id, secret = rest[:idChars], rest[idChars+1:]
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return "", "", false
		}
	}
	return id, secret, true
}

// matches compares in constant time.
func matches(k *store.APIKey, secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(sum[:], k.Hash[:]) == 1
}

// may reports whether the key has one of the scopes.
func may(k *store.APIKey, scopes []Scope) bool {
	for _, has := range k.Scopes {
		if Scope(has) == ScopeAdmin || slices.Contains(scopes, Scope(has)) {
			return true
		}
	}
	return false
}
