package job

import (
	"fmt"
	"strconv"
	"strings"
)

// Bounds of an [Invalid]: a job with a thousand bad device tokens must not make
// an error that fills a log or a message header.
const (
	maxProblems   = 50   // kept in Problems; the rest is counted
	maxErrorBytes = 2048 // of the text that Error returns, give or take a problem
)

// Problem is one thing that is wrong with a job or an outcomes message. It never
// holds a device token or payload content.
type Problem struct {
	Path    string // JSON path, such as "to.tokens[3]"; empty: the whole
	Message string // what would be right, in lower case
}

// String returns the problem as "path: message".
func (p Problem) String() string {
	if p.Path == "" {
		return p.Message
	}
	return p.Path + ": " + p.Message
}

// Invalid is the error of [Parse], [Job.Validate] and [ParseOutcomes]: everything
// that is wrong, at once.
type Invalid struct {
	Problems []Problem // at least one, in the order of the input
	More     int       // how many were found beyond those
}

// Error returns the problems joined by "; ", cut at about 2 KiB with the number
// of those left out.
func (e *Invalid) Error() string {
	var b strings.Builder
	b.WriteString("job: invalid: ")
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

// problems collects what is wrong, and knows where in the document the walk is,
// so that a path costs nothing until there is a problem.
type problems struct {
	steps [8]step // deeper than any of our tables
	depth int
	list  []Problem
	more  int
	// faulty has the paths, without indices, at or below which something is
	// wrong. Rules about several fields keep quiet about those.
	faulty map[string]bool
}

type step struct {
	name  string
	index int // where name is empty
}

func (c *problems) enter(name string) { c.steps[c.depth] = step{name: name}; c.depth++ }

func (c *problems) enterIndex(i int) { c.steps[c.depth] = step{index: i}; c.depth++ }

func (c *problems) leave() { c.depth-- }

// add notes a problem at the place where the walk is.
func (c *problems) add(format string, args ...any) {
	var path, field strings.Builder
	if c.faulty == nil {
		c.faulty = make(map[string]bool)
	}
	c.faulty[""] = true
	for _, s := range c.steps[:c.depth] {
		if s.name == "" {
			path.WriteString("[" + strconv.Itoa(s.index) + "]")
			continue
		}
		if path.Len() > 0 {
			path.WriteByte('.')
			field.WriteByte('.')
		}
		path.WriteString(s.name)
		field.WriteString(s.name)
		c.faulty[field.String()] = true
	}
	if len(c.list) == maxProblems {
		c.more++
		return
	}
	c.list = append(c.list, Problem{Path: path.String(), Message: fmt.Sprintf(format, args...)})
}

// addAt notes a problem at a member of where the walk is.
func (c *problems) addAt(name, format string, args ...any) {
	c.enter(name)
	c.add(format, args...)
	c.leave()
}

// bad reports whether something is wrong at or below one of the fields.
func (c *problems) bad(fields ...string) bool {
	for _, f := range fields {
		if c.faulty[f] {
			return true
		}
	}
	return false
}

// err returns what was found, or nil.
func (c *problems) err() error {
	if len(c.list) == 0 {
		return nil
	}
	return &Invalid{Problems: c.list, More: c.more}
}
