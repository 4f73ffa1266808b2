package cgroup

import (
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/event"
)

func TestParseFlat(t *testing.T) {
	got := parseFlat("low 0\nhigh 17\nmax 2\nnew_thing 1 2\nword x\nlonely\n\noom 1")
	if want := map[string]int64{"low": 0, "high": 17, "max": 2, "oom": 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestParseInt(t *testing.T) {
	for text, want := range map[string]int64{"max\n": -1, "0\n": 0, "209715200\n": 209715200, "7": 7} {
		if n, err := parseInt(text); err != nil || n != want {
			t.Errorf("parseInt(%q) = %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "\n", "max max", "1 2", "99999999999999999999"} {
		if n, err := parseInt(text); err == nil {
			t.Errorf("parseInt(%q) = %d", text, n)
		}
	}
}

func TestParseFull10(t *testing.T) {
	const some = "some avg10=99.00 avg60=1.00 avg300=0.10 total=12345\n"
	for text, want := range map[string]float64{
		some + "full avg10=12.34 avg60=0.50 avg300=0.00 total=777\n": 12.34,
		some + "full avg10=0.00 avg60=0.00 avg300=0.00 total=0":      0,
	} {
		if n, ok := parseFull10(text); !ok || n != want {
			t.Errorf("parseFull10(%q) = %v, %v", text, n, ok)
		}
	}
	for _, text := range []string{"", some, "full\n", "full avg60=1.00\n", "full avg10=x\n"} {
		if n, ok := parseFull10(text); ok {
			t.Errorf("parseFull10(%q) = %v", text, n)
		}
	}
}

func TestParseStat(t *testing.T) {
	stat := func(name string) string {
		return "17 (" + name + ") S 4 17 17 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 12345 1000000 25 18446744073709551615 1 1 0\n"
	}
	for _, name := range []string{"python3", "a b", "x) R 1 (", "(", "", "tmux: server"} {
		p, ok := parseStat(stat(name))
		if want := (event.PostMortemProc{PPID: 4, RSS: 25 * pageSize, Command: name}); !ok || p != want {
			t.Errorf("%q: %+v, %v", name, p, ok)
		}
	}
	for _, bad := range []string{"", "17", "17 (x", ")(", "17 (x) S 4", strings.Replace(stat("x"), " 4 ", " y ", 1)} {
		if p, ok := parseStat(bad); ok {
			t.Errorf("%q: %+v", bad, p)
		}
	}
}

// Of our own processes the table knows what the kernel says.
func TestProcessTable(t *testing.T) {
	table := processTable("/proc", []int{os.Getpid(), 1 << 30})
	if len(table) != 1 || table[0].PID != os.Getpid() || table[0].PPID != os.Getppid() || table[0].RSS < 1<<20 {
		t.Errorf("%+v", table)
	}
	if many := processTable("/proc", slices.Repeat([]int{os.Getpid()}, 1000)); len(many) != tableKept {
		t.Errorf("%d are kept", len(many))
	}
}

func TestParsePIDs(t *testing.T) {
	if got := parsePIDs("1\n0\n4194304\nx\n-3\n17"); !slices.Equal(got, []int{1, 4194304, 17}) {
		t.Errorf("%v", got)
	}
}

func TestUnified(t *testing.T) {
	for text, want := range map[string]string{
		"0::/a b\n": "/a b", "1:name=systemd:/x\n0::/\n": "/", "0::/x (deleted)\n": "/x (deleted)",
	} {
		if got, ok := unified(text); !ok || got != want {
			t.Errorf("unified(%q) = %q, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "1:name=systemd:/x\n", "0::\n", "0::relative\n"} {
		if got, ok := unified(text); ok {
			t.Errorf("unified(%q) = %q", text, got)
		}
	}
}

func inotifyEvent(wd int32, mask, nameLen uint32) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(wd))
	b = binary.NativeEndian.AppendUint32(b, mask)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint32(b, nameLen)
	return append(b, make([]byte, nameLen)...)
}

func TestParseInotify(t *testing.T) {
	b := slices.Concat(inotifyEvent(1, unix.IN_MODIFY, 0), inotifyEvent(2, unix.IN_IGNORED, 0), inotifyEvent(3, unix.IN_MODIFY, 16), inotifyEvent(4, unix.IN_ATTRIB, 0), inotifyEvent(1, unix.IN_MODIFY, 0))
	if got, overflow := parseInotify(b); overflow || !slices.Equal(got, []int32{1, 2, 3, 1}) {
		t.Errorf("%v, %v", got, overflow)
	}
	if _, overflow := parseInotify(append(b, inotifyEvent(-1, unix.IN_Q_OVERFLOW, 0)...)); !overflow {
		t.Error("the overflow was not seen")
	}
	if got, _ := parseInotify(b[:20]); !slices.Equal(got, []int32{1}) {
		t.Errorf("half an event: %v", got)
	}
}

func FuzzParsers(f *testing.F) {
	f.Add([]byte("0::/a\nfull avg10=1.00\nhigh 3\n17 (x) S 4 5\nmax"))
	f.Add(inotifyEvent(1, unix.IN_MODIFY, 4))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := string(b)
		for k := range parseFlat(s) {
			if strings.ContainsAny(k, " \n") {
				t.Errorf("key %q", k)
			}
		}
		for _, pid := range parsePIDs(s) {
			if pid <= 0 {
				t.Errorf("pid %d", pid)
			}
		}
		if n, err := parseInt(s); err == nil && n < -1 && !strings.Contains(s, "-") {
			t.Errorf("%d", n)
		}
		parseFull10(s)
		parseStat(s)
		if p, ok := unified(s); ok && !filepath.IsAbs(p) {
			t.Errorf("path %q", p)
		}
		parseInotify(b)
	})
}

// Control files are read whole, whatever their length, and written in one piece.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	long := strings.Repeat("key 1\n", 2000)
	for _, text := range []string{"", "7\n", long} {
		if err := os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readAt(fd, "f"); err != nil || got != text {
			t.Errorf("%d bytes of %d (%v)", len(got), len(text), err)
		}
	}
	if err := writeAt(fd, "f", "max"); err != nil {
		t.Fatal(err)
	}
	if n, err := readInt(fd, "f"); err != nil || n != -1 {
		t.Errorf("%d, %v", n, err)
	}
	if err := writeAt(fd, "none", "1"); err == nil || err.Error() != "open none: no such file or directory" {
		t.Errorf("%v", err)
	}
	if err := os.Symlink("/dev/full", filepath.Join(dir, "full")); err != nil {
		t.Fatal(err)
	}
	if err := writeAt(fd, "full", "17"); err == nil || err.Error() != `write "17" to full: no space left on device` {
		t.Errorf("%v", err)
	}
}
