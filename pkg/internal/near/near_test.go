package near

import (
	"slices"
	"strings"
	"testing"
)

func TestWords(t *testing.T) {
	keys := []string{"command", "soft_memory_limit", "hard_memory_limit", "timeout", "timeout_signal", "nice", "name"}
	for _, c := range []struct {
		word string
		want string
	}{
		{"comand", "command"},
		{"commnad", "command"},
		{"timeuot", "timeout"},
		{"soft_memory", "soft_memory_limit"},
		{"sof", ""},
		{"sof_memory_limit", "soft_memory_limit hard_memory_limit"},
		{"nome", "name nice"},
		{"nonsense", ""},
		{"", ""},
		{strings.Repeat("x", 1<<20), ""},
	} {
		if got := strings.Join(Words(c.word, keys, 2), " "); got != c.want {
			t.Errorf("%.20q: %q, want %q", c.word, got, c.want)
		}
	}
}

func TestWordsOfMany(t *testing.T) {
	var known []string
	for _, q := range []string{"mail", "mails", "main", "report"} {
		known = append(known, "queue@"+q)
	}
	if got := Words("queue@mial", known, 3); !slices.Equal(got, []string{"queue@mail", "queue@mails", "queue@main"}) {
		t.Errorf("got %q", got)
	}
}
