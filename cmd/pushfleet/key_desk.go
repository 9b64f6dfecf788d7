package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/config"
	"github.com/pushfleet/pushfleet/internal/remote"
	"github.com/pushfleet/pushfleet/store"
)

// keyDesk is where API keys are made, listed and revoked.
type keyDesk interface {
	create(ctx context.Context, cfg *api.KeyConfig) (*api.CreatedKey, error)
	// list may return keys and an error, which is about others.
	list(ctx context.Context) ([]api.APIKey, error)
	// revoke reports whether there is such a key.
	revoke(ctx context.Context, id string) (bool, error)
}

// withKeys opens API keys for a command.
func withKeys(ctx context.Context, g *globals, do func(context.Context, keyDesk) error) error {
	if g.throughAPI() {
		d, err := g.openDoor()
		if err != nil {
			return err
		}
		return do(ctx, &remoteKeys{d})
	}
	cfg, err := g.load()
	if err != nil {
		return err
	}
	set, client, err := connectRedis(cfg.Redis)
	if err != nil {
		return err
	}
	defer client.Close()
	return do(ctx, &storedKeys{g, cfg, set})
}

// storedKeys are those in Redis.
type storedKeys struct {
	g   *globals
	cfg *config.Config
	set *store.Store
}

func (s *storedKeys) create(ctx context.Context, cfg *api.KeyConfig) (*api.CreatedKey, error) {
	for _, app := range cfg.Apps {
		if err := knownApp(s.cfg, app); err != nil {
			return nil, err
		}
	}
	text, record, err := api.NewKey(*cfg, time.Now())
	if err != nil {
		return nil, usagef("%v", err)
	}
	s.g.about(record.ID, zap.String("name", record.Name), zap.Strings("scopes", record.Scopes), zap.Strings("apps", record.Apps), zap.Bool("all_apps", record.AllApps))
	return &api.CreatedKey{APIKey: api.APIKeyOf(&record), Key: text}, s.set.CreateAPIKey(ctx, record)
}

func (s *storedKeys) list(ctx context.Context) ([]api.APIKey, error) {
	keys, err := s.set.APIKeys(ctx)
	if keys == nil && err != nil {
		return nil, err
	}
	list := make([]api.APIKey, len(keys))
	for i := range keys {
		list[i] = api.APIKeyOf(&keys[i])
	}
	return list, err
}

func (s *storedKeys) revoke(ctx context.Context, id string) (bool, error) {
	return s.set.RevokeAPIKey(ctx, id, time.Now())
}

// remoteKeys are those behind the API.
type remoteKeys struct{ *door }

// create is not made again where the answer is lost: that key would be nobody's.
func (r *remoteKeys) create(ctx context.Context, cfg *api.KeyConfig) (*api.CreatedKey, error) {
	in := api.KeyRequest{Name: cfg.Name, Apps: cfg.Apps, AllApps: cfg.AllApps}
	for _, sc := range cfg.Scopes {
		in.Scopes = append(in.Scopes, string(sc))
	}
	var out api.CreatedKey
	err := r.callWhole(ctx, &remote.Call{Method: http.MethodPost, Path: []string{"v1", "keys"}, In: in, Out: &out})
	return &out, err
}

func (r *remoteKeys) list(ctx context.Context) ([]api.APIKey, error) {
	var out api.APIKeyList
	if err := r.get(ctx, &out, nil, "v1", "keys"); err != nil {
		return nil, err
	}
	if len(out.Problems) > 0 {
		return out.Keys, errors.New(strings.Join(out.Problems, "\n"))
	}
	return out.Keys, nil
}

func (r *remoteKeys) revoke(ctx context.Context, id string) (bool, error) {
	err := r.callWhole(ctx, &remote.Call{Method: http.MethodDelete, Path: []string{"v1", "keys", id}, Repeatable: true})
	if remote.Is(err, "unknown_key") {
		return false, nil
	}
	return err == nil, err
}
