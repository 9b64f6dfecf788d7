package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
)

// details is what is kept beside a record, where there is anything to keep: six
// bytes of the time of the first registration (milliseconds since the epoch, big
// endian; scripts keep it), then this as JSON.
type details struct {
	User       string            `json:"user,omitempty"`
	InstallID  string            `json:"install_id,omitempty"`
	Locale     string            `json:"locale,omitempty"`
	Timezone   string            `json:"timezone,omitempty"`
	AppVersion string            `json:"app_version,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

const createdBytes = 6

var errDetails = errors.New("details cannot be read")

// packDetails returns the JSON of r's details, or "" if it has none.
func packDetails(r *device.Registration) (string, error) {
	if r.User == "" && r.InstallID == "" && r.Locale == "" && r.Timezone == "" && r.AppVersion == "" &&
		len(r.Tags) == 0 && len(r.Attributes) == 0 {
		return "", nil
	}
	text, err := json.Marshal(details{
		User:       r.User,
		InstallID:  r.InstallID,
		Locale:     r.Locale,
		Timezone:   r.Timezone,
		AppVersion: r.AppVersion,
		Tags:       r.Tags,
		Attributes: r.Attributes,
	})
	return string(text), err
}

// unpackDetails reads a value of the details hash into d, which shares its bytes.
func unpackDetails(packed string, d *device.Device) error {
	var tags []string
	return unpackDetailsWith(packed, d, &tags)
}

// unpackDetailsWith is unpackDetails, with the memory that d's tags are cut from.
func unpackDetailsWith(packed string, d *device.Device, tags *[]string) error {
	if len(packed) < createdBytes {
		return fmt.Errorf("%w: %d bytes are too short", errDetails, len(packed))
	}
	var created int64
	for i := range createdBytes {
		created = created<<8 | int64(packed[i])
	}
	var det details
	if !scanDetails(packed[createdBytes:], &det, tags) {
		det = details{}
		if err := json.Unmarshal([]byte(packed[createdBytes:]), &det); err != nil {
			// The cause may quote what it could not read.
			return fmt.Errorf("%w: %d bytes are not what is written here", errDetails, len(packed))
		}
	}
	d.CreatedAt = time.UnixMilli(created)
	d.User, d.InstallID = det.User, det.InstallID
	d.Locale, d.Timezone, d.AppVersion = det.Locale, det.Timezone, det.AppVersion
	d.Tags, d.Attributes = det.Tags, det.Attributes
	return nil
}

// readDetails returns the packed details of each of tokens, "" where there are
// none.
func (s *Store) readDetails(ctx context.Context, l *layout, tokens []device.Token) ([]string, error) {
	out := make([]string, len(tokens))
	for from := 0; from < len(tokens); from += pipelineTokens {
		to := min(from+pipelineTokens, len(tokens))
		err := s.reading(ctx, l, func(l *layout) (missed bool, err error) {
			return s.readDetailsBy(ctx, l, tokens[from:to], out[from:to])
		})
		if err != nil {
			return nil, fmt.Errorf("read details of %d device tokens of app %q: %w", len(tokens), l.app, err)
		}
	}
	return out, nil
}

// readDetailsBy fills in out, and reports whether any are missing.
func (s *Store) readDetailsBy(ctx context.Context, l *layout, tokens []device.Token, out []string) (missed bool, err error) {
	all := make([]int, len(tokens))
	for i := range all {
		all[i] = i
	}
	if err := s.readDetailsIn(ctx, l, l.firstOf, tokens, all, out); err != nil {
		return false, err
	}
	var moved []int // maybe
	for i, t := range tokens {
		if out[i] == "" {
			missed = true
			if _, ok := l.left(l.bucketOf(t)); ok {
				moved = append(moved, i)
			}
		}
	}
	if err := s.readDetailsIn(ctx, l, l.bucketOf, tokens, moved, out); err != nil {
		return false, err
	}
	return missed && slices.Contains(out, ""), nil
}

// readDetailsIn reads those of some of tokens from the buckets that where says.
func (s *Store) readDetailsIn(
	ctx context.Context, l *layout, where func(device.Token) bucket, tokens []device.Token, some []int, out []string,
) error {
	if len(some) == 0 {
		return nil
	}
	groups := group(len(some), pipelineTokens, func(n int) bucket { return where(tokens[some[n]]) })
	cmds := make([]*redis.SliceCmd, len(groups))
	p := s.client.Pipeline()
	for g, members := range groups {
		raws := make([]string, len(members))
		for n, m := range members {
			raws[n] = tokens[some[m]].Raw()
		}
		cmds[g] = p.HMGet(ctx, l.key(where(tokens[some[members[0]]]), 'x'), raws...)
	}
	if err := s.exec(ctx, p); err != nil {
		return err
	}
	for g, members := range groups {
		for n, v := range cmds[g].Val() {
			out[some[members[n]]], _ = v.(string) // nil: none
		}
	}
	return nil
}
