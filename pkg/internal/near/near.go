package near

import (
	"cmp"
	"slices"
	"strings"
)

// maxWord bounds what is compared: distances cost the product of the lengths.
const maxWord = 128

// Words are those of known that are nearest to word, the nearest first and at
// most n, or none where none is near: one byte in three may differ, or the end
// is missing.
func Words(word string, known []string, n int) []string {
	type found struct {
		word string
		at   int
	}
	var hits []found
	for _, k := range known {
		limit := max(2, min(len(word), len(k))/3)
		if d := distance(word, k, limit); d <= limit {
			hits = append(hits, found{k, d})
		} else if len(word) > 4 && strings.HasPrefix(k, word) {
			hits = append(hits, found{k, maxWord})
		}
	}
	slices.SortStableFunc(hits, func(a, b found) int { return cmp.Compare(a.at, b.at) })
	words := make([]string, 0, n)
	for _, h := range hits[:min(n, len(hits))] {
		words = append(words, h.word)
	}
	return words
}

// distance is Levenshtein's, or more than limit where it is more.
func distance(a, b string, limit int) int {
	if len(a) > maxWord || len(b) > maxWord || len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diag, least := row[0], i
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diag
			if a[i-1] != b[j-1] {
				cost++
			}
			diag = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
			least = min(least, row[j])
		}
		if least > limit {
			return limit + 1
		}
	}
	return row[len(b)]
}
