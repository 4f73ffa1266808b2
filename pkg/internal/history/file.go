package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/workersd/workersd/pkg/internal/event"
)

// maxFile is the size at which the file becomes the older of the two; another
// number in tests.
var maxFile int64 = 16 << 20

// maxLine bounds what is read of one record.
const maxLine = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum in front of a line: what a crash tore is told from what
// was written.
func seal(text []byte) []byte {
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, castagnoli), text)
}

// unseal is the text of a sealed line without its line end.
func unseal(line []byte) (text []byte, ok bool) {
	sum, text, ok := bytes.Cut(line, []byte{' '})
	if !ok || len(sum) != 8 {
		return nil, false
	}
	n, err := strconv.ParseUint(string(sum), 16, 32)
	return text, err == nil && uint32(n) == crc32.Checksum(text, castagnoli)
}

// appender is a file of sealed records that only grows, and an older one.
type appender struct {
	path    string
	f       *os.File // nil after a rotation that could not begin a new one
	size    int64
	torn    bool // the last line has no end
	skipped int
	// cut is told of the first record that is too long, and is written with its
	// texts cut; nil once it was.
	cut func(event.Record)
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
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return eachLine(f, func(line []byte, whole bool) {
		var r event.Record
		text, ok := unseal(line)
		if !whole || !ok || json.Unmarshal(text, &r) != nil {
			a.skipped++
			return
		}
		each(r)
	})
}

// eachLine calls fn for each line, without its end. A line that is longer than
// any record, as a crash of the machine can leave it full of zeros, is given in
// part and is not whole; what is behind it is read all the same.
func eachLine(f io.Reader, fn func(line []byte, whole bool)) error {
	r := bufio.NewReaderSize(f, maxLine)
	for long := false; ; {
		line, err := r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			if !long {
				fn(line, false)
			}
			long = true
			continue
		}
		if n := len(line); n > 0 && !long {
			if line[n-1] == '\n' {
				n--
			}
			fn(line[:n], true)
		}
		long = false
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
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
	a.f, a.size, a.torn = f, st.Size(), endsTorn(f, st.Size())
	return nil
}

// endsTorn reports whether the last line of a file has no end.
func endsTorn(f *os.File, size int64) bool {
	last := make([]byte, 1)
	_, err := f.ReadAt(last, size-1)
	return size > 0 && (err != nil || last[0] != '\n')
}

// line is the sealed line of a record. A longer one than is ever read is cut in
// its texts, which are for a person: what is counted and compared stays.
func (a *appender) line(r event.Record) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	line := seal(text)
	if len(line) <= maxLine {
		return line, nil
	}
	if a.cut != nil {
		a.cut(r)
		a.cut = nil
	}
	if text, err = json.Marshal(shortened(r)); err != nil {
		return nil, err
	}
	return seal(text), nil
}

// What stays of the texts of a record that is too long. A byte becomes six at
// most in JSON, so that all of them together fit in maxLine.
const (
	longestMessage = 64 << 10
	longestCommand = 1 << 10
	mostProcs      = 64
)

// shortened is a copy, as far as it differs: others have the record, too.
func shortened(r event.Record) event.Record {
	r.Message = cutText(r.Message, longestMessage)
	if r.PostMortem != nil {
		short := *r.PostMortem
		procs := short.Procs[:min(len(short.Procs), mostProcs)]
		short.Procs = make([]event.PostMortemProc, len(procs))
		for i, p := range procs {
			p.Command = cutText(p.Command, longestCommand)
			short.Procs[i] = p
		}
		r.PostMortem = &short
	}
	return r
}

// cutText is a text of at most n bytes, and a mark where something is missing.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

func (a *appender) append(r event.Record) error {
	line, err := a.line(r)
	if err != nil {
		return err
	}
	if a.f != nil && a.size+int64(len(line)) > maxFile {
		// What cannot be moved away grows on, to a bound.
		if err := os.Rename(a.path, a.path+".1"); err == nil {
			a.close()
		} else if a.size > 2*maxFile {
			return err
		}
	}
	if a.f == nil {
		if err := a.open(); err != nil {
			return err
		}
	}
	if a.torn { // what a crash cut off must not swallow this one
		line = append([]byte{'\n'}, line...)
	}
	n, err := a.f.Write(line)
	a.size += int64(n)
	switch {
	case err == nil:
		a.torn = false
	case n > 0: // the disk was full in the middle of a line
		if a.f.Truncate(a.size-int64(n)) == nil {
			a.size -= int64(n)
		} else {
			a.torn = true
		}
	}
	return err
}

func (a *appender) close() {
	if a.f != nil {
		a.f.Close()
		a.f = nil
	}
}
