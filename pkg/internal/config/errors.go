package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong, and where.
type Error struct {
	File      string
	Line, Col int // from 1; 0: the file as a whole
	Text      string
}

func (e Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Text)
}

// Errors is everything that is wrong with a worker list, in its order.
type Errors []Error

// Error is one line for each.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted puts the errors in the order of the files and their lines, each once,
// and no more than anybody reads.
func (es Errors) sorted(files []File) Errors {
	order := map[string]int{}
	for i, f := range files {
		order[f.Name] = i
	}
	slices.SortStableFunc(es, func(a, b Error) int {
		return cmp.Or(cmp.Compare(order[a.File], order[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	es = slices.Compact(es)
	if n := len(es) - maxErrors; n > 0 {
		last := es[maxErrors-1]
		es = append(es[:maxErrors:maxErrors], Error{File: last.File, Line: last.Line, Col: last.Col, Text: fmt.Sprintf("and %d more errors", n)})
	}
	return es
}
