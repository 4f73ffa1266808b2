package event

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// The README tells each reason once, in the order of Reasons, and no other.
func TestReadmeTellsEveryReason(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?s)\n## Reasons\n.*?\n## `).Find(readme)
	var told []Reason
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllSubmatch(table, -1) {
		told = append(told, Reason(m[1]))
	}
	if !slices.Equal(told, Reasons) {
		t.Errorf("README.md tells\n%v\nthere are\n%v", told, Reasons)
	}
}
