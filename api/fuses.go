package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/stream"
)

// Fuses is where fuses are kept; see [stream.Streams].
type Fuses interface {
	Fuses(ctx context.Context) ([]stream.Fuse, error)
	Fuse(ctx context.Context, app string, env device.Environment) (stream.Fuse, error)
	// ResetFuse closes a fuse, and reports whether it was tripped. by is who says so.
	ResetFuse(ctx context.Context, app string, env device.Environment, by string) (bool, error)
}

// Fuse is the fuse of an app and an APNs environment.
type Fuse struct {
	_ struct{} `additionalProperties:"true"`

	App         string     `json:"app" doc:"The app."`
	Environment string     `json:"environment" enum:"production,sandbox" doc:"The APNs environment."`
	Tripped     bool       `json:"tripped" doc:"Nothing is sent there until it is reset."`
	TrippedAt   *time.Time `json:"tripped_at,omitempty" doc:"When it tripped last."`
	TrippedBy   string     `json:"tripped_by,omitempty" doc:"The worker that saw it."`
	Rejected    int        `json:"rejected,omitempty" doc:"Of sent: working device tokens that were rejected, which is why it tripped."`
	Sent        int        `json:"sent,omitempty" doc:"Notifications that were counted."`
	Undone      bool       `json:"undone,omitempty" doc:"What was quarantined or removed before it tripped is undone."`
	ResetAt     *time.Time `json:"reset_at,omitempty" doc:"When it was reset last."`
	ResetBy     string     `json:"reset_by,omitempty" doc:"Who reset it."`
}

// FuseList is the fuses of an app.
type FuseList struct {
	_ struct{} `additionalProperties:"true"`

	Fuses []Fuse `json:"fuses" nullable:"false" doc:"That of the app's environment, and whatever else has tripped before."`
}

// ResetFuse is what became of a fuse that was to be reset.
type ResetFuse struct {
	Fuse
	Reset bool `json:"reset" doc:"False: it was not tripped."`
}

// FuseOf says how a fuse is.
func FuseOf(e *stream.Fuse) Fuse {
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	return Fuse{
		App: e.App, Environment: e.Environment.String(), Tripped: e.Tripped, TrippedAt: when(e.TrippedAt), TrippedBy: e.TrippedBy,
		Rejected: e.Rejected, Sent: e.Sent, Undone: e.Undone, ResetAt: when(e.ResetAt), ResetBy: e.ResetBy,
	}
}

// FusesOf returns a fuse for each app and environment that is configured, and whatever
// else has tripped before. apps has the environment of each app.
func FusesOf(entries []stream.Fuse, apps map[string]device.Environment) []Fuse {
	list := make([]Fuse, 0, len(entries))
	seen := make(map[[2]string]bool)
	for i := range entries {
		f := FuseOf(&entries[i])
		list = append(list, f)
		seen[[2]string{f.App, f.Environment}] = true
	}
	for name, env := range apps {
		if !seen[[2]string{name, env.String()}] {
			list = append(list, Fuse{App: name, Environment: env.String()})
		}
	}
	slices.SortFunc(list, func(a, b Fuse) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Environment, b.Environment))
	})
	return list
}

func (a *API) getFuses(c *call) (int, any, *Problem) {
	entries, err := a.cfg.Fuses.Fuses(c.ctx)
	if err != nil {
		return 0, nil, queueUnavailable(err)
	}
	entries = slices.DeleteFunc(entries, func(e stream.Fuse) bool { return e.App != c.appName })
	return http.StatusOK, FuseList{Fuses: FusesOf(entries, map[string]device.Environment{c.appName: c.app.Environment})}, nil
}

func (a *API) resetFuse(c *call) (int, any, *Problem) {
	c.object = c.r.PathValue("environment")
	env, err := device.ParseEnvironment(c.object)
	if err != nil || env == device.EnvironmentUnset {
		var f faults
		f.add("{environment}", "must be production or sandbox")
		return 0, nil, invalid(&f)
	}
	reset, err := a.cfg.Fuses.ResetFuse(c.ctx, c.appName, env, "API key "+c.key.ID)
	if err != nil {
		return 0, nil, queueUnavailable(err)
	}
	entry, err := a.cfg.Fuses.Fuse(c.ctx, c.appName, env)
	if err != nil {
		return 0, nil, queueUnavailable(err)
	}
	return http.StatusOK, ResetFuse{FuseOf(&entry), reset}, nil
}
