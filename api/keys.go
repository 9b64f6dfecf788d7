package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pushfleet/pushfleet/internal/strictjson"
	"github.com/pushfleet/pushfleet/store"
)

// KeyStore is where API keys are made, listed and revoked; see [store.Store].
type KeyStore interface {
	CreateAPIKey(ctx context.Context, k store.APIKey) error
	APIKeys(ctx context.Context) ([]store.APIKey, error)
	RevokeAPIKey(ctx context.Context, id string, at time.Time) (bool, error)
}

// APIKey is what is kept of an API key. The key itself is not.
type APIKey struct {
	_ struct{} `additionalProperties:"true"`

	ID        string     `json:"id" doc:"Names it, also in the audit log." example:"6vqz3hkx2mmb7c4y"`
	Name      string     `json:"name,omitempty" doc:"What it is for, for people."`
	Scopes    []string   `json:"scopes" nullable:"false" doc:"What it may do."`
	Apps      []string   `json:"apps" nullable:"false" doc:"The apps that it is for; none where it is for all."`
	AllApps   bool       `json:"all_apps" doc:"It is for all apps, also those that are configured later."`
	CreatedAt time.Time  `json:"created_at" doc:"When it was made."`
	RevokedAt *time.Time `json:"revoked_at,omitempty" doc:"When it was revoked. Absent: it is good."`
}

// APIKeyOf says what is kept of an API key.
func APIKeyOf(k *store.APIKey) APIKey {
	out := APIKey{
		ID: k.ID, Name: k.Name, Scopes: scopesOf(k), Apps: append([]string{}, k.Apps...), AllApps: k.AllApps, CreatedAt: k.CreatedAt.UTC(),
	}
	if k.Revoked() {
		at := k.RevokedAt.UTC()
		out.RevokedAt = &at
	}
	return out
}

// CreatedKey is a new API key.
type CreatedKey struct {
	APIKey
	Key string `json:"key" doc:"The key itself, for its owner: it is shown this once, and kept nowhere."`
}

// APIKeyList is all API keys.
type APIKeyList struct {
	_ struct{} `additionalProperties:"true"`

	Keys     []APIKey `json:"keys" nullable:"false" doc:"The oldest first, also revoked ones."`
	Problems []string `json:"problems,omitempty" nullable:"false" doc:"What is wrong with those that cannot be read, and are refused."`
}

// KeyRequest is the body of POST /v1/keys.
type KeyRequest struct {
	Name    string   `json:"name,omitempty" maxLength:"100" doc:"What it is for, for people."`
	Scopes  []string `json:"scopes" nullable:"false" minItems:"1" maxItems:"5" enum:"send,devices,campaigns,read,admin" doc:"What it may do."`
	Apps    []string `json:"apps,omitempty" nullable:"false" minItems:"1" maxItems:"1000" doc:"The apps that it is for, as configured. These, or all_apps."`
	AllApps bool     `json:"all_apps,omitempty" doc:"It is for all apps, also those that are configured later."`
}

func (a *API) getKeys(c *call) (int, any, *Problem) {
	keys, err := a.cfg.KeyStore.APIKeys(c.ctx)
	if err != nil && keys == nil {
		return 0, nil, unavailable(err)
	}
	out := APIKeyList{Keys: make([]APIKey, len(keys))}
	for i := range keys {
		out.Keys[i] = APIKeyOf(&keys[i])
	}
	if err != nil { // some cannot be read
		out.Problems = strings.Split(err.Error(), "\n")
	}
	return http.StatusOK, out, nil
}

func (a *API) postKey(c *call) (int, any, *Problem) {
	cfg, p := a.readKeyConfig(c.body)
	if p != nil {
		return 0, nil, p
	}
	text, record, err := NewKey(cfg, a.cfg.Now())
	if err != nil {
		return 0, nil, internal(err) // it was checked
	}
	c.object = record.ID
	c.details = []zap.Field{zap.String("name", record.Name), zap.Strings("scopes", record.Scopes), zap.Strings("apps", record.Apps), zap.Bool("all_apps", record.AllApps)}
	if err := a.cfg.KeyStore.CreateAPIKey(c.ctx, record); err != nil {
		p := unavailable(err)
		p.Detail = "the token set cannot be reached, or takes no changes now: repeat the request later; an API key that was made after all is nobody's: look for it, and revoke it"
		return 0, nil, p
	}
	return http.StatusCreated, CreatedKey{APIKeyOf(&record), text}, nil
}

// readKeyConfig reads what a new key is to be good for.
func (a *API) readKeyConfig(body []byte) (cfg KeyConfig, p *Problem) {
	d := strictjson.New(body)
	keyMembers().Read(d, &cfg)
	d.End()
	if p := malformed(d); p != nil {
		return cfg, p
	}
	var f faults
	f.take(d.List())
	if !f.any() {
		f.list = cfg.faults()
	}
	for i, app := range cfg.Apps {
		if _, ok := a.live.Load().Apps[app]; !ok {
			f.add("apps["+itoa(i)+"]", "no app with this name is configured")
		}
	}
	if f.any() {
		return cfg, invalid(&f)
	}
	return cfg, nil
}

func keyMembers() strictjson.Object[KeyConfig] {
	const maxWord, maxNames = 100, 1000
	words := func(d *strictjson.Decoder, most int, add func(string)) {
		if n, _ := strictjson.ReadList(d, most, func() {
			word, _ := strictjson.ReadText(d, maxWord)
			add(word)
		}); n > most {
			d.Add("must be at most %d, got %d", most, n)
		}
	}
	return strictjson.Object[KeyConfig]{
		{Name: "name", Read: func(d *strictjson.Decoder, cfg *KeyConfig) { cfg.Name, _ = strictjson.ReadText(d, maxKeyName) }},
		{Name: "scopes", Required: true, Read: func(d *strictjson.Decoder, cfg *KeyConfig) {
			words(d, len(Scopes()), func(w string) { cfg.Scopes = append(cfg.Scopes, Scope(w)) })
		}},
		{Name: "apps", Read: func(d *strictjson.Decoder, cfg *KeyConfig) {
			words(d, maxNames, func(w string) { cfg.Apps = append(cfg.Apps, w) })
		}},
		{Name: "all_apps", Read: func(d *strictjson.Decoder, cfg *KeyConfig) { cfg.AllApps = readBool(d) }},
	}
}

func (a *API) deleteKey(c *call) (int, any, *Problem) {
	id := c.r.PathValue("id")
	if strings.HasPrefix(id, keyPrefix) {
		var f faults
		f.add("{id}", "must be the API key's id alone: what stands between the first two underscores of a key")
		return 0, nil, invalid(&f)
	}
	ok, err := a.cfg.KeyStore.RevokeAPIKey(c.ctx, id, a.cfg.Now())
	switch {
	case err != nil:
		return 0, nil, unavailable(err)
	case !ok:
		return 0, nil, problemf(http.StatusNotFound, codeUnknownKey, "there is no API key with this id")
	}
	return http.StatusNoContent, nil, nil
}

// internal is the problem of what cannot be.
func internal(cause error) *Problem {
	p := problemf(http.StatusInternalServerError, codeInternal, "something went wrong here; it is logged under this request's id")
	p.cause = cause
	return p
}

// joined makes an error of faults.
func joined(list []Fault) error {
	errs := make([]error, len(list))
	for i, fault := range list {
		errs[i] = errors.New(fault.Path + ": " + fault.Message)
	}
	return errors.Join(errs...)
}
