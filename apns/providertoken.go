package apns

import (
	"fmt"
	"sync"
	"time"

	"github.com/sideshow/apns2/token"
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
	MintedAt time.Time // with the monotonic clock
}

// ProviderTokens signs the provider tokens of one key and shares each among all
// connections: APNs answers `TooManyProviderTokenUpdates` where every
// connection, topic or worker signs its own. It is safe for concurrent use, and
// only one token is signed at a time.
type ProviderTokens struct {
	credential Credential
	now        func() time.Time

	mu      sync.Mutex
	current ProviderToken // guarded by mu; zero until the first is signed
}

// NewProviderTokens returns the tokens of a credential with a key; now is the
// clock, nil for [time.Now].
func NewProviderTokens(c Credential, now func() time.Time) *ProviderTokens {
	if now == nil {
		now = time.Now
	}
	return &ProviderTokens{credential: c, now: now}
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
	if p.age(held) < rotateAge || p.now().Sub(switchedAt) < switchInterval {
		return held, nil
	}
	return p.ForNewConnection()
}

// Replace returns another token than the one that APNs has called expired. All
// who come with the same token get the same new one.
func (p *ProviderTokens) Replace(expired ProviderToken) (ProviderToken, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.Bearer != "" && p.current.Bearer != expired.Bearer {
		return p.current, nil
	}
	return p.mint()
}

// age is a token's age by the clock that makes it older; a token from the
// future (the wall clock was set back) counts as expired.
func (p *ProviderTokens) age(t ProviderToken) time.Duration {
	now := p.now()
	monotonic, wall := now.Sub(t.MintedAt), now.Round(0).Sub(t.MintedAt.Round(0))
	if wall < max(0, monotonic)-clockJump {
		return time.Hour
	}
	return max(monotonic, wall)
}

// mint signs a new token; p.mu is held. apns2's own refresh hides what goes
// wrong here and would send an empty bearer.
func (p *ProviderTokens) mint() (ProviderToken, error) {
	t := token.Token{AuthKey: p.credential.key, KeyID: p.credential.keyID, TeamID: p.credential.teamID}
	if _, err := t.Generate(); err != nil {
		return ProviderToken{}, fmt.Errorf("sign provider token with key %s: %w", p.credential.keyID, err)
	}
	p.current = ProviderToken{Bearer: t.Bearer, MintedAt: p.now()}
	return p.current, nil
}
