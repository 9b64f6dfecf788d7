package api

import (
	"net/http"
	"strconv"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
)

func itoa(n int) string { return strconv.Itoa(n) }

// registration reads the body of a PUT. An empty one is a device of which nothing
// is known but its token.
func (a *API) registration(body []byte, r *device.Registration) (*faults, *Problem) {
	var f faults
	if len(body) == 0 {
		return &f, nil
	}
	d := strictjson.New(body)
	a.single.Read(d, r)
	d.End()
	f.take(d.List())
	return &f, malformed(d)
}

// malformed is the problem of a body that is not JSON, or nil.
func malformed(d *strictjson.Decoder) *Problem {
	if !d.Broken() {
		return nil
	}
	return problemf(http.StatusBadRequest, codeMalformed, "the body is %s", d.Syntax())
}

// batch is the body of a POST of devices.
type batch struct {
	regs   []device.Registration
	faults []faults // of each
	total  int      // also of those that are too many
}

// maxFaultsPerItem bounds what a batch says about one of its items.
const maxFaultsPerItem = 10

// batch reads a batch. What is wrong with one device is that device's alone;
// whole is what is wrong with the whole.
func (a *API) batch(body []byte) (b batch, whole *faults, p *Problem) {
	d := strictjson.New(body)
	table := strictjson.Object[batch]{{Name: "devices", Required: true, Read: a.readDevices}}
	table.Read(d, &b)
	d.End()
	if p := malformed(d); p != nil {
		return b, nil, p
	}
	whole = new(faults)
	whole.take(d.List())
	switch {
	case whole.any():
	case b.total == 0:
		whole.add("devices", "must not be empty")
	case b.total > MaxBatch:
		whole.add("devices", "must be at most %d, got %d", MaxBatch, b.total)
	}
	return b, whole, nil
}

func (a *API) readDevices(d *strictjson.Decoder, b *batch) {
	b.total, _ = strictjson.ReadList(d, MaxBatch, func() {
		var r device.Registration
		var f faults
		f.take(d.Apart(func() { a.item.Read(d, &r) }))
		if n := len(f.list); n > maxFaultsPerItem {
			f.list, f.more = f.list[:maxFaultsPerItem], f.more+n-maxFaultsPerItem
		}
		b.regs, b.faults = append(b.regs, r), append(b.faults, f)
	})
}
