package job

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// The compact encoding:
//
//	mark, version, uvarint n, n bytes of JSON (the job without "to"),
//	uvarint count, count times (uvarint length, the device token's bytes)
//
// The mark can start neither JSON nor any other UTF-8 text.
const (
	compactMark    = 0xF5
	compactVersion = 1
)

// AppendCompact appends a job in the compact encoding, in which a device token
// takes about half the bytes that it takes in JSON and less time to read. A job
// for users or installs is appended as JSON; [Parse] reads both. It fails as
// [Job.AppendJSON] does.
func AppendCompact(dst []byte, j *Job) ([]byte, error) {
	if len(j.To.Tokens) == 0 {
		return j.AppendJSON(dst)
	}
	if err := j.raws(); err != nil {
		return dst, err
	}
	header := headerObject.encode(make([]byte, 0, 512+len(j.Data)+len(j.Payload)), j)
	dst = append(dst, compactMark, compactVersion)
	dst = binary.AppendUvarint(dst, uint64(len(header)))
	dst = append(dst, header...)
	dst = binary.AppendUvarint(dst, uint64(len(j.To.Tokens)))
	for _, t := range j.To.Tokens {
		dst = binary.AppendUvarint(dst, uint64(t.Len()))
		dst = append(dst, t.Raw()...)
	}
	return dst, nil
}

// parseCompact reads what AppendCompact writes, and nothing else.
func parseCompact(data []byte) (*Job, error) {
	r := compactReader{rest: data[1:]}
	header, err := r.header()
	if err != nil {
		return nil, &Invalid{Problems: []Problem{{Message: "compact job: " + err.Error()}}}
	}
	var j Job
	d := strictjson.New(header)
	tokens, framing := r.tokens(&d.Problems)
	decodeJob(d, headerObject, &j)
	if framing != nil {
		d.Add("compact job: %s", framing)
	}
	if err := invalid(&d.Problems); err != nil {
		return nil, err
	}
	j.To.Tokens = unique(tokens, device.Token.Raw)
	return &j, nil
}

// compactReader reads a compact job, front to back.
type compactReader struct{ rest []byte }

func (r *compactReader) header() ([]byte, error) {
	if len(r.rest) == 0 {
		return nil, fmt.Errorf("is truncated: no version")
	}
	if v := r.rest[0]; v != compactVersion {
		return nil, fmt.Errorf("version %d is not known, only %d is", v, compactVersion)
	}
	r.rest = r.rest[1:]
	n, err := r.uvarint("length of the header")
	if err != nil {
		return nil, err
	}
	return r.take(n, "header")
}

// tokens reads the list of device tokens. An empty or overlong token is noted in
// c; anything that makes the rest unreadable is the error.
func (r *compactReader) tokens(c *strictjson.Problems) ([]device.Token, error) {
	count, err := r.uvarint("number of device tokens")
	switch {
	case err != nil:
		return nil, err
	case count == 0 || count > MaxRecipients:
		return nil, fmt.Errorf("has %d device tokens, must have 1 to %d", count, MaxRecipients)
	case count > uint64(len(r.rest)): // each takes a byte at least
		return nil, fmt.Errorf("is truncated: %d device tokens in %d bytes", count, len(r.rest))
	}
	c.Enter("to")
	c.Enter("tokens")
	defer c.Leave()
	defer c.Leave()
	var raw strings.Builder // all tokens share one string
	raw.Grow(min(len(r.rest), MaxRecipients*device.MaxTokenBytes))
	ends := make([]int32, 0, count)
	for i := range int(count) {
		n, err := r.uvarint("length of a device token")
		if err != nil {
			return nil, err
		}
		b, err := r.take(n, "device token")
		if err != nil {
			return nil, err
		}
		if n == 0 || n > device.MaxTokenBytes {
			c.EnterIndex(i)
			if n == 0 {
				c.Add("%s", device.ErrTokenEmpty)
			} else {
				c.Add("%s", device.ErrTokenTooLong)
			}
			c.Leave()
			continue
		}
		raw.Write(b)
		ends = append(ends, int32(raw.Len()))
	}
	if len(r.rest) > 0 {
		return nil, fmt.Errorf("%d bytes follow the last device token", len(r.rest))
	}
	return cutTokens(raw.String(), ends), nil
}

// uvarint reads a number in the shortest form, the only one that is taken.
func (r *compactReader) uvarint(what string) (uint64, error) {
	n, size := binary.Uvarint(r.rest)
	switch {
	case size == 0:
		return 0, fmt.Errorf("is truncated: no %s", what)
	case size < 0:
		return 0, fmt.Errorf("the %s does not fit in 64 bits", what)
	case size > 1 && r.rest[size-1] == 0:
		return 0, fmt.Errorf("the %s has needless bytes", what)
	}
	r.rest = r.rest[size:]
	return n, nil
}

func (r *compactReader) take(n uint64, what string) ([]byte, error) {
	if n > uint64(len(r.rest)) {
		return nil, fmt.Errorf("is truncated: a %s of %d bytes, %d are left", what, n, len(r.rest))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b, nil
}
