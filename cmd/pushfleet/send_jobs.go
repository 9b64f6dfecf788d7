package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pushfleet/pushfleet/job"
)

// maxJobLine bounds a job in a file, in bytes: more than the server takes as a message.
const maxJobLine = 4 << 20

// openJobs opens a file of jobs, or standard input. size is 0 where it is not known.
func openJobs(name string, stdin io.Reader) (in io.ReadCloser, size int64, err error) {
	if name == "-" {
		return io.NopCloser(stdin), 0, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	return f, size, nil
}

// jobLines reads jobs that stand one a line.
type jobLines struct {
	lines *bufio.Scanner
	size  int64      // of the input; 0: not known
	ahead []jobInput // read already
	line  int        // number of the one that was read last, from 1
}

// jobInput is a line with a job, or what should be one.
type jobInput struct {
	line int
	text []byte
}

// readJobs reads a job that takes all of the input, over as many lines as it likes. Where
// the first line is a whole JSON document and another one follows, it returns the lines.
func readJobs(in io.Reader, size int64) (*job.Job, *jobLines, error) {
	l := &jobLines{lines: bufio.NewScanner(in), size: size}
	l.lines.Buffer(make([]byte, 0, 64<<10), maxJobLine)
	first, ok := l.next()
	if !ok && l.err() == nil {
		return nil, nil, errors.New("read jobs: there is none")
	}
	all, whole := first.text, json.Valid(first.text)
	for {
		more, ok := l.next()
		if !ok {
			break
		}
		if whole {
			l.ahead = []jobInput{first, more}
			return nil, l, nil
		}
		if len(all)+len(more.text) > maxJobLine {
			return nil, nil, fmt.Errorf("read job: it has more than %d bytes; of many jobs, each must be on a line of its own", maxJobLine)
		}
		all = append(append(all, '\n'), more.text...)
	}
	if err := l.err(); err != nil {
		return nil, nil, err
	}
	j, err := job.Parse(all)
	return j, nil, err
}

// next returns the next line that is not empty.
func (l *jobLines) next() (jobInput, bool) {
	if len(l.ahead) > 0 {
		in := l.ahead[0]
		l.ahead = l.ahead[1:]
		return in, true
	}
	for l.lines.Scan() {
		l.line++
		if text := l.lines.Bytes(); len(bytes.TrimSpace(text)) > 0 {
			return jobInput{l.line, bytes.Clone(text)}, true
		}
	}
	return jobInput{}, false
}

// err returns what ended the reading before the end.
func (l *jobLines) err() error {
	err := l.lines.Err()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("read jobs: line %d has more than %d bytes", l.line+1, maxJobLine)
	default:
		return fmt.Errorf("read jobs: line %d: %w", l.line+1, err)
	}
}
