package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/pushfleet/pushfleet/device"
)

// Describe appends to dst a Device for each of entries whose record can be read,
// in their order, with its details; see [Store.Device]. One that was registered
// again meanwhile is as it is now, and one that is gone is left out. It returns
// also how many could not be read.
func (s *Store) Describe(ctx context.Context, app string, entries []Entry, dst []device.Device) ([]device.Device, int, error) {
	l, err := s.layout(ctx, app)
	if err != nil {
		return dst, 0, err
	}
	start, unreadable := len(dst), 0
	for from := 0; from < len(entries); from += pipelineTokens {
		var n int
		if dst, n, err = s.describe(ctx, l, entries[from:min(from+pipelineTokens, len(entries))], dst); err != nil {
			return dst[:start], 0, fmt.Errorf("read the details of devices of app %q: %w", app, err)
		}
		unreadable += n
	}
	return dst, unreadable, nil
}

func (s *Store) describe(ctx context.Context, l *layout, entries []Entry, dst []device.Device) ([]device.Device, int, error) {
	var tokens []device.Token
	for _, e := range entries {
		if e.Known && e.Record.Details {
			tokens = append(tokens, e.Token)
		}
	}
	packed, err := s.readDetails(ctx, l, tokens)
	if err != nil {
		return dst, 0, err
	}
	unreadable := 0
	for _, e := range entries {
		if !e.Known {
			unreadable++
			continue
		}
		details := ""
		if e.Record.Details {
			details, packed = packed[0], packed[1:]
		}
		d, ok := deviceOf(e, details)
		if !ok {
			// Registered again or erased since the record was read, or damaged.
			d, ok, err = s.Device(ctx, l.app, e.Token)
			switch {
			case errors.Is(err, device.ErrRecord), errors.Is(err, errDetails):
				unreadable++
				continue
			case err != nil:
				return dst, 0, err
			case !ok:
				continue
			}
		}
		dst = append(dst, d)
	}
	return dst, unreadable, nil
}

// deviceOf is the device that a record and its details make, unless the details
// are not those of the record.
func deviceOf(e Entry, packed string) (device.Device, bool) {
	var d device.Device
	d.Token, d.Record = e.Token, e.Record
	d.Environment, d.Kind = e.Record.Environment, e.Record.Kind
	if e.Record.RegisteredAt > 0 {
		d.CreatedAt = e.Record.Registered()
	}
	if !e.Record.Details {
		return d, true
	}
	if unpackDetails(packed, &d) != nil {
		return d, false
	}
	return d, device.KeyOf(d.User) == e.Record.User && device.KeyOf(d.InstallID) == e.Record.Install
}
