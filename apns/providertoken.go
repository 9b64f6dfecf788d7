package apns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Ages of provider tokens. Apple (Establishing a token-based connection): not
// older than an hour, and not refreshed more often than every 20 minutes; the
// second is enforced for each connection, whose first token counts (observed:
// jchambers/pushy#931, jchambers/pushy#946).
const (
	// adoptAge is the oldest token that a new connection starts with: until it
	// is rotated, at rotateAge, more than 20 minutes of patience will be left.
	adoptAge = 35 * time.Minute
	// rotateAge is when a connection in use changes to a newer token.
	rotateAge = 50 * time.Minute
	// switchInterval is the shortest time between two tokens of a connection.
	switchInterval = 20 * time.Minute
	// clockJump is the difference between wall and monotonic clock from which a
	// token's issue time can no longer be trusted.
	clockJump = time.Minute
)

// ProviderToken is a signed provider token (JWT).
type ProviderToken struct {
	Bearer   string
	MintedAt time.Time // by the time of day, with the monotonic clock
	IssuedAt time.Time // what APNs reads in it
}

// ProviderTokens signs the provider tokens of one key and shares each among all
// connections: APNs answers `TooManyProviderTokenUpdates` where every
// connection, topic or worker signs its own. It is safe for concurrent use, and
// only one token is signed at a time.
type ProviderTokens struct {
	credential Credential
	now        func() time.Time // the machine's clock
	wall       func() time.Time // the time of day, which does not follow a step of that at once

	mu      sync.Mutex
	machine bool          // guarded by mu: while the two differ, APNs refused the time of day
	current ProviderToken // guarded by mu; zero until the first is signed
}

// NewProviderTokens returns the tokens of a credential with a key. now is the
// machine's clock, nil for [time.Now]; wall the time of day for what APNs reads, nil
// for now.
//
// Where the two differ, the machine's clock was set a while ago, and nobody knows
// yet which is right. APNs does: a token that it refuses is followed by one with the
// other's time.
func NewProviderTokens(c Credential, now, wall func() time.Time) *ProviderTokens {
	if now == nil {
		now = time.Now
	}
	if wall == nil {
		wall = now
	}
	return &ProviderTokens{credential: c, now: now, wall: wall}
}

// ForNewConnection returns a token that a new connection can keep long enough.
func (p *ProviderTokens) ForNewConnection() (ProviderToken, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.Bearer != "" && p.age(p.current) <= adoptAge {
		return p.current, nil
	}
	return p.mint()
}

// Rotate returns the token that a connection should use that has used held since
// switchedAt: held itself, or a newer one when it is time and allowed.
func (p *ProviderTokens) Rotate(held ProviderToken, switchedAt time.Time) (ProviderToken, error) {
	if p.Age(held) < rotateAge || p.now().Sub(switchedAt) < switchInterval {
		return held, nil
	}
	return p.ForNewConnection()
}

// Age returns how old a token is, by the clock that makes it older.
func (p *ProviderTokens) Age(t ProviderToken) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.age(t)
}

// Replace returns another token than the one that APNs has called expired. All
// who come with the same token get the same new one.
func (p *ProviderTokens) Replace(expired ProviderToken) (ProviderToken, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.Bearer != "" && p.current.Bearer != expired.Bearer {
		return p.current, nil
	}
	p.machine = !p.machine && p.apart()
	return p.mint()
}

// apart reports whether the machine's clock was set, and is not followed yet.
func (p *ProviderTokens) apart() bool {
	return p.now().Round(0).Sub(p.wall().Round(0)).Abs() > clockJump
}

// time returns the time of day; p.mu is held.
func (p *ProviderTokens) time() time.Time {
	if p.machine && p.apart() {
		return p.now().Round(0)
	}
	p.machine = false
	return p.wall().Round(0)
}

// age is a token's age by the clock that makes it older; a token from the
// future (the wall clock was set back) counts as expired. p.mu is held.
func (p *ProviderTokens) age(t ProviderToken) time.Duration {
	monotonic, wall := p.wall().Sub(t.MintedAt), p.time().Sub(t.IssuedAt)
	if wall < max(0, monotonic)-clockJump {
		return time.Hour
	}
	return max(monotonic, wall)
}

// mint signs a new token; p.mu is held.
func (p *ProviderTokens) mint() (ProviderToken, error) {
	issued := p.time()
	bearer, err := p.credential.sign(issued)
	if err != nil {
		return ProviderToken{}, fmt.Errorf("sign provider token with key %s: %w", p.credential.keyID, err)
	}
	p.current = ProviderToken{Bearer: bearer, MintedAt: p.wall(), IssuedAt: issued}
	return p.current, nil
}

// sign returns a provider token: a JWT signed with ES256 (RFC 7519, RFC 7518).
// apns2's own takes the machine's time, whatever that is just then.
func (c Credential) sign(issued time.Time) (string, error) {
	if c.key.Curve != elliptic.P256() {
		return "", errors.New("its curve is not P-256")
	}
	header, err := json.Marshal(map[string]string{"alg": "ES256", "kid": c.keyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{"iss": c.teamID, "iat": issued.Unix()})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, c.key, sum[:])
	if err != nil {
		return "", err
	}
	var signature [64]byte // both numbers, at full length
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature[:]), nil
}
