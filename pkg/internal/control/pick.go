package control

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/workersd/workersd/pkg/client"
	"github.com/workersd/workersd/pkg/internal/near"
	"github.com/workersd/workersd/pkg/internal/supervisor"
)

// match is the pattern of a shell (path.Match), with which a plain name fits
// itself whatever bytes it has.
func match(pattern, name string) bool {
	if pattern == name {
		return true
	}
	ok, _ := filepath.Match(pattern, name)
	return ok
}

// patterns are those of one call, and which of them have fitted something. A
// shell can give thousands of plain names, which are looked up.
type patterns struct {
	all   []string
	names map[string]bool // plain names, and whether they have fitted
	globs []string
	hit   []bool // of globs
}

func newPatterns(all []string) *patterns {
	ps := &patterns{all: all, names: map[string]bool{}}
	for _, p := range all {
		if strings.ContainsAny(p, `*?[\`) {
			ps.globs = append(ps.globs, p)
		} else {
			ps.names[p] = false
		}
	}
	ps.hit = make([]bool, len(ps.globs))
	return ps
}

// fit reports whether a name fits one of them, and remembers all that it fits.
func (ps *patterns) fit(name string) bool {
	_, fits := ps.names[name]
	if fits {
		ps.names[name] = true
	}
	for i, p := range ps.globs {
		if match(p, name) {
			ps.hit[i], fits = true, true
		}
	}
	return fits
}

// missed is the first that has fitted nothing.
func (ps *patterns) missed() (string, bool) {
	for _, p := range ps.all {
		if hit, plain := ps.names[p]; plain && !hit {
			return p, true
		} else if !plain && !ps.hit[slices.Index(ps.globs, p)] {
			return p, true
		}
	}
	return "", false
}

// pick are the workers that fit, in the order of the list. A pattern that fits
// none is an error: an operator who mistyped must learn it.
func pick(all []supervisor.Status, words []string, allWithout bool) ([]supervisor.Status, error) {
	if len(words) == 0 {
		if allWithout {
			return all, nil
		}
		return nil, &client.Error{Status: http.StatusBadRequest, Text: "no worker was named", Hint: `name one, or a pattern such as "queue@*"`}
	}
	ps := newPatterns(words)
	var out []supervisor.Status
	for _, w := range all {
		if ps.fit(w.Spec.Name) {
			out = append(out, w)
		}
	}
	if p, missed := ps.missed(); missed {
		return nil, nothingFits(p, all)
	}
	return out, nil
}

// nothingFits names what could have been meant.
func nothingFits(pattern string, all []supervisor.Status) error {
	if _, err := filepath.Match(pattern, ""); err != nil {
		return &client.Error{Status: http.StatusBadRequest, Text: fmt.Sprintf("%q is no pattern: a [ has no ] behind it", pattern), Hint: `expected a name, or a pattern such as "queue@*"`}
	}
	e := &client.Error{Status: http.StatusNotFound, Text: fmt.Sprintf("no worker fits %q", pattern), Hint: "workersctl status lists them all"}
	names := make([]string, len(all))
	for i, w := range all {
		names[i] = w.Spec.Name
	}
	words := near.Words(pattern, names, 3)
	if entry := func(w supervisor.Status) bool { return w.Spec.Entry == pattern }; len(words) == 0 || slices.ContainsFunc(all, entry) {
		words = nearEntries(pattern, all)
	}
	if len(words) > 0 {
		e.Hint = "did you mean " + strings.Join(words, " or ") + "? " + e.Hint
	}
	return e
}

// nearEntries are patterns for entries that are called much as what stands
// before the first special byte: "qeue@*" is "queue@*", and "queue" too.
func nearEntries(pattern string, all []supervisor.Status) (words []string) {
	end := strings.IndexAny(pattern, "@#*?[")
	if end < 0 {
		end = len(pattern)
	}
	var entries []string
	for _, w := range all {
		if n := len(entries); n == 0 || entries[n-1] != w.Spec.Entry {
			entries = append(entries, w.Spec.Entry)
		}
	}
	found := near.Words(pattern[:end], entries, 3)
	if slices.Contains(entries, pattern) {
		found = []string{pattern}
	}
	for _, e := range found {
		for _, word := range []string{e + pattern[end:], e + "@*", e + "#*"} {
			if slices.ContainsFunc(all, func(w supervisor.Status) bool { return match(word, w.Spec.Name) }) {
				words = append(words, "'"+word+"'") // as a shell must be given it
				break
			}
		}
	}
	return words
}
