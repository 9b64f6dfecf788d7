package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with the configuration, and where.
type Problem struct {
	File string // as given to [Load]; empty from [Parse]

	// Line and Column, from 1, are in the file; both are 0 where Variable is what
	// must be changed, or where nothing was read.
	Line, Column int
	Variable     string // the environment variable that gave the value

	Path    string // the key, such as apps.shop.key.path; empty for the file as such
	Message string
}

// Error returns all of it on one line.
func (p Problem) Error() string {
	var b strings.Builder
	switch {
	case p.Variable != "":
		b.WriteString(p.Variable + ": ")
	case p.Line > 0:
		if p.File != "" {
			b.WriteString(p.File + ":")
		}
		fmt.Fprintf(&b, "%d:%d: ", p.Line, p.Column)
	case p.File != "":
		b.WriteString(p.File + ": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Invalid is the error for a configuration that was read and must not be used.
type Invalid struct {
	// Problems is never empty. Those of the file come first, in its order.
	Problems []Problem
}

// Error returns one line for each problem.
func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns every [Problem].
func (e *Invalid) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p
	}
	return errs
}

// invalid returns the problems as an error, or nil if there are none.
func invalid(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Variable, b.Variable),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
		)
	})
	return &Invalid{Problems: problems}
}
