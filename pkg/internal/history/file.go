package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/workersd/workersd/pkg/internal/event"
)

// maxFile is the size at which the file becomes the older of the two.
const maxFile = 16 << 20

// maxLine bounds what is read of one record.
const maxLine = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum in front of a line: what a crash tore is told from what
// was written.
func seal(text []byte) []byte {
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, castagnoli), text)
}

// unseal is the text of a sealed line without its line end.
func unseal(line string) (text string, ok bool) {
	sum, text, ok := strings.Cut(line, " ")
	if !ok {
		return "", false
	}
	n, err := strconv.ParseUint(sum, 16, 32)
	return text, err == nil && uint32(n) == crc32.Checksum([]byte(text), castagnoli)
}

// appender is a file of sealed records that only grows, and an older one.
type appender struct {
	path    string
	f       *os.File
	size    int64
	skipped int
}

func openAppender(path string, each func(event.Record)) (*appender, error) {
	a := &appender{path: path}
	for _, p := range []string{path + ".1", path} {
		if err := a.read(p, each); err != nil {
			return nil, err
		}
	}
	return a, a.open()
}

func (a *appender) read(path string, each func(event.Record)) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		text, ok := unseal(s.Text())
		var r event.Record
		if !ok || json.Unmarshal([]byte(text), &r) != nil {
			a.skipped++
			continue
		}
		each(r)
	}
	if s.Err() != nil { // a line without end: what is behind it is lost
		a.skipped++
	}
	return nil
}

func (a *appender) open() error {
	f, err := os.OpenFile(a.path, os.O_CREATE|os.O_RDWR|os.O_APPEND|syscall.O_NOFOLLOW, 0o640)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	a.f, a.size = f, st.Size()
	// A line that a crash cut off must not swallow the next one.
	if a.size > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, a.size-1); err == nil && last[0] != '\n' {
			f.Write([]byte{'\n'})
			a.size++
		}
	}
	return nil
}

func (a *appender) append(r event.Record) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	line := seal(text)
	if a.size+int64(len(line)) > maxFile {
		if err := os.Rename(a.path, a.path+".1"); err != nil {
			return err
		}
		a.f.Close()
		if err := a.open(); err != nil {
			return err
		}
	}
	n, err := a.f.Write(line)
	a.size += int64(n)
	if err != nil && n > 0 { // the disk was full in the middle of a line
		if a.f.Truncate(a.size-int64(n)) == nil {
			a.size -= int64(n)
		}
	}
	return err
}

func (a *appender) close() { a.f.Close() }
