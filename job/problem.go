package job

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// maxErrorBytes bounds the text that Error returns, give or take a problem: it
// goes into logs and message headers.
const maxErrorBytes = 2048

// Problem is one thing that is wrong with a job or an outcomes message. It never
// holds a device token or payload content.
type Problem = strictjson.Problem

// Invalid is the error of [Parse], [Job.Validate] and [ParseOutcomes]: everything
// that is wrong, at once.
type Invalid struct {
	// What the problems are of, in one word; empty: a job, or outcomes.
	What     string
	Problems []Problem // at least one, in the order of the input
	More     int       // how many were found beyond those
}

// Error returns the problems joined by "; ", cut at about 2 KiB with the number
// of those left out.
func (e *Invalid) Error() string {
	var b strings.Builder
	b.WriteString(cmp.Or(e.What, "job") + ": invalid: ")
	more := e.More
	for i, p := range e.Problems {
		if i > 0 {
			if b.Len() > maxErrorBytes {
				more += len(e.Problems) - i
				break
			}
			b.WriteString("; ")
		}
		b.WriteString(p.String())
	}
	if more > 0 {
		fmt.Fprintf(&b, "; and %d more", more)
	}
	return b.String()
}

// invalid returns what was found, or nil.
func invalid(c *strictjson.Problems) error {
	list, more := c.List()
	if len(list) == 0 {
		return nil
	}
	return &Invalid{Problems: list, More: more}
}
