package process

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// The path of the program, or the link to it once something else stands there.
func TestSelf(t *testing.T) {
	dir := t.TempDir()
	ours, link := filepath.Join(dir, "program"), filepath.Join(dir, "exe")
	if err := os.WriteFile(ours, []byte("old"), 0o755); err != nil {
		t.Fatal(err)
	}
	// A hard link stands for the kernel's: it is the file, whatever its path holds.
	if err := os.Link(ours, link); err != nil {
		t.Fatal(err)
	}
	path := func() (string, error) { return ours, nil }
	if got := self(link, path); got != ours {
		t.Errorf("self = %s, want %s", got, ours)
	}
	if got := self(link, func() (string, error) { return "", errors.New("no /proc") }); got != link {
		t.Errorf("without a path: self = %s, want %s", got, link)
	}
	if err := os.Rename(ours, ours+".old"); err != nil {
		t.Fatal(err)
	}
	if got := self(link, path); got != link {
		t.Errorf("removed: self = %s, want %s", got, link)
	}
	if err := os.WriteFile(ours, []byte("new"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := self(link, path); got != link {
		t.Errorf("replaced: self = %s, want %s", got, link)
	}
	if got, want := Self(), os.Args[0]; filepath.Base(got) != filepath.Base(want) {
		t.Errorf("Self = %s, want that of %s", got, want)
	}
}
