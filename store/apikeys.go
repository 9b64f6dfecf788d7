package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrAPIKeyExists is the error of creating an API key whose id is taken.
var ErrAPIKeyExists = errors.New("store: an API key with this id exists")

// APIKey is what is kept of an API key. The key itself is not: only the hash of
// its secret is.
type APIKey struct {
	ID   string
	Name string // for people; may be empty

	// Hash is the SHA-256 of the secret. One pass is enough: the secret is not a
	// password but 256 random bits, which nobody tries out.
	Hash [32]byte

	Scopes    []string
	Apps      []string // the apps that it is good for, if not AllApps
	AllApps   bool
	CreatedAt time.Time
	RevokedAt time.Time // zero: it is good
}

// Revoked reports whether the key must be refused.
func (k *APIKey) Revoked() bool { return !k.RevokedAt.IsZero() }

// packedAPIKey is the stored form. It only grows.
type packedAPIKey struct {
	Version   int      `json:"v"`
	Name      string   `json:"name,omitempty"`
	Hash      []byte   `json:"sha256"`
	Scopes    []string `json:"scopes"`
	Apps      []string `json:"apps,omitempty"`
	AllApps   bool     `json:"all_apps,omitempty"`
	CreatedAt int64    `json:"created_at"`           // milliseconds since the epoch
	RevokedAt int64    `json:"revoked_at,omitempty"` // the same
}

const apiKeyVersion = 1

func packAPIKey(k *APIKey) (string, error) {
	text, err := json.Marshal(packedAPIKey{
		Version: apiKeyVersion, Name: k.Name, Hash: k.Hash[:], Scopes: k.Scopes, Apps: k.Apps, AllApps: k.AllApps,
		CreatedAt: unixMilli(k.CreatedAt), RevokedAt: unixMilli(k.RevokedAt),
	})
	return string(text), err
}

// unpackAPIKey refuses what it does not understand: a restriction that a newer
// version wrote must not be taken for none.
func unpackAPIKey(id, text string) (APIKey, error) {
	var p packedAPIKey
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return APIKey{}, fmt.Errorf("API key %s: what is kept of it is damaged", id) // the cause may quote it
	}
	k := APIKey{ID: id, Name: p.Name, Scopes: p.Scopes, Apps: p.Apps, AllApps: p.AllApps, CreatedAt: time.UnixMilli(p.CreatedAt)}
	if p.Version != apiKeyVersion || copy(k.Hash[:], p.Hash) != len(k.Hash) || len(p.Hash) != len(k.Hash) {
		return APIKey{}, fmt.Errorf("API key %s: version %d with a hash of %d bytes is not known here", id, p.Version, len(p.Hash))
	}
	if p.RevokedAt != 0 {
		k.RevokedAt = time.UnixMilli(p.RevokedAt)
	}
	return k, nil
}

// CreateAPIKey stores a new API key. The error wraps [ErrAPIKeyExists] if its id
// is taken.
func (s *Store) CreateAPIKey(ctx context.Context, k APIKey) error {
	if k.ID == "" || k.Hash == [32]byte{} {
		return errors.New("create API key: it needs an id and a hash")
	}
	packed, err := packAPIKey(&k)
	if err != nil {
		return fmt.Errorf("create API key %s: %w", k.ID, err)
	}
	stored, err := s.client.HSetNX(ctx, apiKeysKey, k.ID, packed).Result()
	if err != nil {
		return fmt.Errorf("create API key %s: %w", k.ID, err)
	}
	if !stored {
		return fmt.Errorf("create API key %s: %w", k.ID, ErrAPIKeyExists)
	}
	return nil
}

// APIKey returns the API key with an id, also a revoked one, and whether there is
// one.
func (s *Store) APIKey(ctx context.Context, id string) (k APIKey, ok bool, err error) {
	packed, err := s.client.HGet(ctx, apiKeysKey, id).Result()
	if errors.Is(err, redis.Nil) {
		return APIKey{}, false, nil
	}
	if err != nil {
		return APIKey{}, false, fmt.Errorf("read an API key: %w", err)
	}
	k, err = unpackAPIKey(id, packed)
	return k, err == nil, err
}

// APIKeys returns all API keys, also revoked ones, the oldest first. Those that
// cannot be read are left out and told in the error.
func (s *Store) APIKeys(ctx context.Context) ([]APIKey, error) {
	all, err := s.client.HGetAll(ctx, apiKeysKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list API keys: %w", err)
	}
	var errs []error
	keys := make([]APIKey, 0, len(all))
	for id, packed := range all {
		k, err := unpackAPIKey(id, packed)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b APIKey) int {
		if n := a.CreatedAt.Compare(b.CreatedAt); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return keys, errors.Join(errs...)
}

// RevokeAPIKey marks an API key as revoked, for good, and reports whether there
// is one. One that is revoked already keeps its date.
func (s *Store) RevokeAPIKey(ctx context.Context, id string, at time.Time) (bool, error) {
	k, ok, err := s.APIKey(ctx, id)
	if err != nil || !ok || k.Revoked() {
		return ok, err
	}
	k.RevokedAt = at
	packed, err := packAPIKey(&k)
	if err == nil {
		// Nothing else about a key ever changes, so there is no write to lose.
		err = s.client.HSet(ctx, apiKeysKey, id, packed).Err()
	}
	if err != nil {
		return true, fmt.Errorf("revoke API key %s: %w", id, err)
	}
	return true, nil
}
