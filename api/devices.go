package api

import (
	"context"
	"errors"
	"net/http"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

// TokenSet is the part of the token set that is read, and removed from.
type TokenSet interface {
	// Device returns what is known of a device token, and whether anything is.
	Device(ctx context.Context, app string, t device.Token) (d device.Device, ok bool, err error)
	// ByUsers returns, for each user, the device tokens that are not removed.
	ByUsers(ctx context.Context, app string, users []string) ([][]store.Entry, error)
	// ByInstalls is ByUsers for installations of the app.
	ByInstalls(ctx context.Context, app string, installs []string) ([][]store.Entry, error)
	// Delete removes a device token, and reports whether it was there.
	Delete(ctx context.Context, app string, t device.Token, reason device.Reason) (bool, error)
}

// pathToken reads the device token of the URL.
func (c *call) pathToken(f *faults) device.Token {
	t, err := device.ParseToken(c.r.PathValue("token"))
	if err != nil {
		f.add("{token}", "%v", err)
	}
	return t
}

func (a *API) putDevice(c *call) (int, any, *Problem) {
	var reg device.Registration
	f, p := a.registration(c.body, &reg)
	if p != nil {
		return 0, nil, p
	}
	reg.Token = c.pathToken(f)
	if f.any() {
		return 0, nil, invalid(f)
	}
	if reg.Environment == device.EnvironmentUnset {
		reg.Environment = c.app.Environment
	}
	if err := reg.Validate(); err != nil {
		f.add("", "%v", err)
		return 0, nil, invalid(f)
	}
	out, err := a.registrar.register(c.ctx, c.appName, reg)
	if err != nil {
		return 0, nil, registerProblem(err)
	}
	return http.StatusOK, registered(out), nil
}

// registerProblem says what kept a valid registration from being carried out.
func registerProblem(err error) *Problem {
	switch {
	case errors.Is(err, store.ErrTooManyDevices):
		return problemf(http.StatusConflict, codeTooManyDevices,
			"the user or install has 256 other device tokens: the device is registered, but is not found by the one that has too many")
	case errors.Is(err, device.ErrRecord):
		p := problemf(http.StatusInternalServerError, codeInternal, "what is kept of the device token cannot be read by this version")
		p.cause = err
		return p
	case errors.Is(err, errBusy):
		p := problemf(http.StatusServiceUnavailable, codeOverloaded, "too many registrations are waiting: repeat the request later")
		p.retryAfter = retryWhenOverloaded
		return p
	default:
		return unavailable(err)
	}
}

func (a *API) postDevices(c *call) (int, any, *Problem) {
	b, f, p := a.batch(c.body)
	if p != nil {
		return 0, nil, p
	}
	if f.any() {
		return 0, nil, invalid(f)
	}
	// The request itself has been counted.
	if p := c.chargeMore(len(b.regs) - 1); p != nil {
		return 0, nil, p
	}
	res := BatchResult{Results: make([]ItemResult, len(b.regs))}
	var regs []device.Registration
	var at []int // of regs, in the batch
	for i := range b.regs {
		reg := &b.regs[i]
		if reg.Environment == device.EnvironmentUnset {
			reg.Environment = c.app.Environment
		}
		f := &b.faults[i]
		if !f.any() {
			if err := reg.Validate(); err != nil {
				f.add("devices["+itoa(i)+"]", "%v", err)
			}
		}
		if f.any() {
			p := invalid(f)
			res.Results[i] = ItemResult{Status: p.Status, Code: p.Code, Detail: p.Detail, Errors: p.Errors}
			continue
		}
		regs, at = append(regs, *reg), append(at, i)
	}
	out, err := a.cfg.Registrations.RegisterMany(c.ctx, c.appName, regs)
	if err != nil && len(out) == 0 {
		return 0, nil, unavailable(err)
	}
	down := 0
	for n, i := range at {
		if err := out[n].Err; err != nil {
			p := registerProblem(err)
			if p.Status == http.StatusServiceUnavailable {
				down++
			}
			res.Results[i] = ItemResult{Status: p.Status, Code: p.Code, Detail: p.Detail}
			continue
		}
		done := registered(out[n])
		res.Results[i] = ItemResult{Status: http.StatusOK, Device: &done}
		res.Registered++
	}
	if len(at) > 0 && down == len(at) {
		return 0, nil, unavailable(err)
	}
	res.Failed = len(b.regs) - res.Registered
	return http.StatusOK, res, nil
}

func (a *API) getDevice(c *call) (int, any, *Problem) {
	var f faults
	t := c.pathToken(&f)
	if f.any() {
		return 0, nil, invalid(&f)
	}
	d, ok, err := a.cfg.TokenSet.Device(c.ctx, c.appName, t)
	if err != nil {
		return 0, nil, readProblem(err)
	}
	if !ok {
		return 0, nil, unknownDevice(c.appName)
	}
	return http.StatusOK, deviceOf(d), nil
}

func unknownDevice(app string) *Problem {
	return problemf(http.StatusNotFound, codeUnknownDevice, "app %s knows no such device token", app)
}

// readProblem says why what is kept was not read.
func readProblem(err error) *Problem {
	if errors.Is(err, device.ErrRecord) {
		return registerProblem(err)
	}
	return unavailable(err)
}

func (a *API) deleteDevice(c *call) (int, any, *Problem) {
	var f faults
	t := c.pathToken(&f)
	if f.any() {
		return 0, nil, invalid(&f)
	}
	was, err := a.cfg.TokenSet.Delete(c.ctx, c.appName, t, device.Deleted)
	if err != nil {
		return 0, nil, readProblem(err)
	}
	if !was {
		// Removed already, or never there.
		_, known, err := a.cfg.TokenSet.Device(c.ctx, c.appName, t)
		if err != nil {
			return 0, nil, readProblem(err)
		}
		if !known {
			return 0, nil, unknownDevice(c.appName)
		}
	}
	return http.StatusNoContent, nil, nil
}

// readsAtOnce is how many devices of a user are read at the same time.
const readsAtOnce = 8

// checkID checks what can be no id of a user or an install.
func checkID(name, id string, f *faults) {
	if len(id) > device.MaxIDBytes {
		f.add(name, "must be at most %d bytes, got %d", device.MaxIDBytes, len(id))
	} else if !utf8.ValidString(id) {
		f.add(name, "must be UTF-8")
	}
}

func (a *API) getUserDevices(c *call) (int, any, *Problem) {
	user := c.r.PathValue("user")
	var f faults
	checkID("{user}", user, &f)
	if f.any() {
		return 0, nil, invalid(&f)
	}
	found, err := a.cfg.TokenSet.ByUsers(c.ctx, c.appName, []string{user})
	if err != nil {
		return 0, nil, readProblem(err)
	}
	list := make([]Device, len(found[0]))
	keep := make([]bool, len(list))
	g, ctx := errgroup.WithContext(c.ctx)
	g.SetLimit(readsAtOnce)
	for i, e := range found[0] {
		g.Go(func() error {
			d, ok, err := a.cfg.TokenSet.Device(ctx, c.appName, e.Token)
			// It may have gone, or gone to somebody else, since it was found.
			if ok && err == nil && d.User == user && d.Record.State != device.Removed {
				list[i], keep[i] = deviceOf(d), true
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, nil, readProblem(err)
	}
	out := Devices{Devices: make([]Device, 0, len(list))}
	for i := range list {
		if keep[i] {
			out.Devices = append(out.Devices, list[i])
		}
	}
	return http.StatusOK, out, nil
}
