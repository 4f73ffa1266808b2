package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// insert puts a table where a document keeps it, between two comments, in place
// of the one that is there. What it reads is printed, too.
func insert(path, section string, table io.Reader, out io.Writer) error {
	text, err := io.ReadAll(io.TeeReader(table, out))
	if err != nil {
		return err
	}
	if !bytes.Contains(text, []byte("|---|")) {
		return fmt.Errorf("there is no table to put into %s", path)
	}
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := fmt.Sprintf("<!-- bench: %s -->\n", section), "<!-- end of bench -->\n"
	before, rest, ok := bytes.Cut(doc, []byte(begin))
	_, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no %q with %q behind it", path, begin, end)
	}
	doc = bytes.Join([][]byte{before, []byte(begin), text, []byte(end), after}, nil)
	return os.WriteFile(path, doc, 0o644)
}
