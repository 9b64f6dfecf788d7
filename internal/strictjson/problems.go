package strictjson

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxProblems is how many problems are kept; the rest is counted. A document with
// a thousand bad device tokens must not make an answer that fills a log.
const MaxProblems = 50

// Problem is one thing that is wrong with a document. It never holds a device
// token or other content.
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

// Problems collects what is wrong, and knows where in the document the walk is,
// so that a path costs nothing until there is a problem.
type Problems struct {
	steps [8]step // deeper than any of our documents
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

// Enter goes to a member of where the walk is, and EnterIndex to an item; Leave
// goes back.
func (c *Problems) Enter(name string) { c.steps[c.depth] = step{name: name}; c.depth++ }

// EnterIndex goes to an item; see [Problems.Enter].
func (c *Problems) EnterIndex(i int) { c.steps[c.depth] = step{index: i}; c.depth++ }

// Leave goes back; see [Problems.Enter].
func (c *Problems) Leave() { c.depth-- }

// Add notes a problem at the place where the walk is.
func (c *Problems) Add(format string, args ...any) {
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
	if len(c.list) == MaxProblems {
		c.more++
		return
	}
	c.list = append(c.list, Problem{Path: path.String(), Message: fmt.Sprintf(format, args...)})
}

// AddAt notes a problem at a member of where the walk is.
func (c *Problems) AddAt(name, format string, args ...any) {
	c.Enter(name)
	c.Add(format, args...)
	c.Leave()
}

// Bad reports whether something is wrong at or below one of the fields.
func (c *Problems) Bad(fields ...string) bool {
	for _, f := range fields {
		if c.faulty[f] {
			return true
		}
	}
	return false
}

// Any reports whether something is wrong.
func (c *Problems) Any() bool { return len(c.list) > 0 }

// List returns what is wrong, at most [MaxProblems], and how many there are
// beyond those.
func (c *Problems) List() (list []Problem, more int) { return c.list, c.more }

// Apart calls walk and returns what is wrong in it, which is not added to the
// rest.
func (c *Problems) Apart(walk func()) (list []Problem, more int) {
	rest := *c
	c.list, c.more, c.faulty = nil, 0, nil
	walk()
	list, more = c.list, c.more
	c.list, c.more, c.faulty = rest.list, rest.more, rest.faulty
	return list, more
}
