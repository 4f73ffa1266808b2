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

// pick are the workers that fit, in the order of the list. A pattern that fits
// none is an error: an operator who mistyped must learn it.
func pick(all []supervisor.Status, patterns []string, allWithout bool) ([]supervisor.Status, error) {
	if len(patterns) == 0 {
		if allWithout {
			return all, nil
		}
		return nil, &client.Error{Status: http.StatusBadRequest, Text: "no worker was named", Hint: `name one, or a pattern such as "queue@*"`}
	}
	hit := make([]bool, len(patterns))
	var out []supervisor.Status
	for _, w := range all {
		fits := false
		for i, p := range patterns {
			if match(p, w.Spec.Name) {
				hit[i], fits = true, true
			}
		}
		if fits {
			out = append(out, w)
		}
	}
	for i, p := range patterns {
		if !hit[i] {
			return nil, nothingFits(p, all)
		}
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
