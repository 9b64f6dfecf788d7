package roster

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
)

// MaxLineBytes is the longest line, and the longest CSV record of several lines,
// that is taken.
//
// choice: a device of the largest size that is stored, with every character
// escaped, is well below.
const MaxLineBytes = 256 << 10

var (
	errLong   = errors.New("is longer than 256 KiB")
	errQuote  = errors.New("has a quote that is not closed")
	errInside = errors.New("has a quote inside of a field, or something after its end")
)

// lines splits a file into lines, in memory for one of them.
type lines struct {
	br     *bufio.Reader
	number int64 // of the last line returned, from 1
	buf    []byte
	back   [][]byte // put back; nil: one that was too long
}

// next returns a line without its end. It is good until the next call. A line
// that is too long is passed over, and errLong returned.
func (s *lines) next() ([]byte, error) {
	if len(s.back) > 0 {
		line := s.back[0]
		s.back = s.back[1:]
		s.number++
		if line == nil {
			return nil, errLong
		}
		return line, nil
	}
	s.buf = s.buf[:0]
	long, some := false, false
	for {
		part, err := s.br.ReadSlice('\n')
		some = some || len(part) > 0
		if long = long || len(s.buf)+len(part) > MaxLineBytes; !long {
			s.buf = append(s.buf, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && !some:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		}
		s.number++
		if long {
			return nil, errLong
		}
		return bytes.TrimSuffix(bytes.TrimSuffix(s.buf, []byte("\n")), []byte("\r")), nil
	}
}

// record returns a CSV record: a line, and those after it that its quotes hold.
// If a quote is not closed, the first line alone is passed over.
func (s *lines) record() ([]byte, error) {
	line, err := s.next()
	if err != nil || bytes.Count(line, []byte{'"'})%2 == 0 {
		return line, err
	}
	first := s.number
	var parts [][]byte
	size := len(line)
	parts = append(parts, bytes.Clone(line))
	for {
		line, err := s.next()
		if err == nil {
			parts = append(parts, bytes.Clone(line))
			if size += len(line) + 1; size <= MaxLineBytes {
				if bytes.Count(line, []byte{'"'})%2 == 1 {
					return bytes.Join(parts, []byte{'\n'}), nil
				}
				continue
			}
		} else if errors.Is(err, errLong) {
			parts = append(parts, nil)
		} else if !errors.Is(err, io.EOF) {
			return nil, err
		}
		// There is no other quote in what is put back, so it is looked through once.
		s.back = slices.Concat(parts[1:], s.back)
		s.number = first
		return nil, errQuote
	}
}

// split splits a CSV record into fields (RFC 4180).
func split(record string, dst []string) ([]string, error) {
	for {
		if !strings.HasPrefix(record, `"`) {
			field, rest, more := strings.Cut(record, ",")
			if strings.Contains(field, `"`) {
				return dst, errInside
			}
			dst = append(dst, field)
			if !more {
				return dst, nil
			}
			record = rest
			continue
		}
		end := 1
		for {
			n := strings.IndexByte(record[end:], '"')
			if n < 0 {
				return dst, errQuote
			}
			end += n + 1
			if end == len(record) || record[end] != '"' {
				break
			}
			end++
		}
		dst = append(dst, strings.ReplaceAll(record[1:end-1], `""`, `"`))
		if end == len(record) {
			return dst, nil
		}
		if record[end] != ',' {
			return dst, errInside
		}
		record = record[end+1:]
	}
}
