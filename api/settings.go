package api

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/pushfleet/pushfleet/device"
)

// Settings are what of a [Config] can be changed while the API serves.
type Settings struct {
	Apps      map[string]App
	Gorush    *Gorush
	RateLimit int
}

// Check says what is wrong with settings, or nil. The door for gorush can be changed, but
// neither opened nor closed.
func (a *API) Check(s Settings) error {
	errs := s.check()
	if (s.Gorush == nil) != (a.cfg.Gorush == nil) {
		errs = append(errs, errors.New("api: the door for gorush cannot be opened or closed while the API serves"))
	}
	return errors.Join(errs...)
}

// Apply changes the settings: requests that come from now on are answered by them. An
// error is Check's, and then nothing has changed. It is safe for concurrent use; s must
// not be changed any more.
func (a *API) Apply(s Settings) error {
	if err := a.Check(s); err != nil {
		return err
	}
	a.live.Store(s.withDefaults())
	a.keyring.setLimit(s.RateLimit)
	return nil
}

func (s *Settings) check() (errs []error) {
	if s.RateLimit < 0 {
		errs = append(errs, errors.New("api: limits must not be negative"))
	}
	for name, app := range s.Apps {
		if app.Environment == device.EnvironmentUnset {
			errs = append(errs, fmt.Errorf("api: app %s has no environment", name))
		}
	}
	if s.Gorush != nil {
		errs = append(errs, s.Gorush.check(s.Apps)...)
	}
	return errs
}

func (s *Settings) withDefaults() *Settings {
	out := *s
	if s.Gorush != nil {
		door := *s.Gorush
		door.MaxNotifications = cmp.Or(door.MaxNotifications, DefaultMaxNotifications)
		out.Gorush = &door
	}
	return &out
}
