package history

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/internal/event"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func record(n int) event.Record {
	return event.Record{
		Seq: uint64(n), Time: noon.Add(time.Duration(n) * time.Second), Kind: event.Gone, Worker: fmt.Sprintf("w%d", n%3),
		Generation: uint64(n), Reason: event.Crashed, Message: "is gone\n\x00 ü", Memory: 1 << 40,
		PostMortem: &event.PostMortem{Peak: 7, Procs: []event.PostMortemProc{{PID: 1, Command: "a b"}}},
	}
}

// problems collects what an administrator is told.
type problems struct {
	mu   sync.Mutex
	said []string
}

func (p *problems) tell(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, s)
}

func (p *problems) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.said...)
}

func reopen(t *testing.T, dir string, told *problems) *History {
	t.Helper()
	h, err := Open(dir, told.tell)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func fill(h *History, from, to int) {
	for i := from; i < to; i++ {
		h.Add(record(i))
	}
}

func want(from, to int) (out []event.Record) {
	for i := from; i < to; i++ {
		out = append(out, record(i))
	}
	return out
}

// unread is what is told of records that could not be read back.
func unread(dir string, n int) []string {
	return []string{fmt.Sprintf("records of the history could not be read back, and are left out: %d, in %s/history or history.1", n, dir)}
}

func small(t *testing.T, size int64) {
	t.Helper()
	old := maxFile
	maxFile = size
	t.Cleanup(func() { maxFile = old })
}

func TestWhatWasAddedIsThereAfterARestart(t *testing.T) {
	var told problems
	dir := filepath.Join(t.TempDir(), "state")
	h := reopen(t, dir, &told)
	fill(h, 0, 50)
	h.Close()
	h = reopen(t, dir, &told)
	fill(h, 50, 60)
	if d := cmp.Diff(want(0, 60), h.Recent(0)); d != "" {
		t.Errorf("all (-want +got):\n%s", d)
	}
	if d := cmp.Diff(want(57, 60), h.Recent(3)); d != "" {
		t.Errorf("the last three (-want +got):\n%s", d)
	}
	if n := len(h.Deaths("w1")); n != deathsPerName {
		t.Errorf("%d deaths of one worker are kept, want %d", n, deathsPerName)
	}
	h.Close()
	if len(told.all()) != 0 {
		t.Errorf("told %q", told.all())
	}
	if st, err := os.Stat(filepath.Join(dir, "history")); err != nil || st.Mode().Perm()&0o027 != 0 {
		t.Errorf("the file has mode %v, %v: others must not read what workers are called with", st.Mode(), err)
	}
}

func TestInMemoryOnly(t *testing.T) {
	h := reopen(t, "", &problems{})
	fill(h, 0, recentRecords+10)
	if d := cmp.Diff(want(10, recentRecords+10), h.Recent(0)); d != "" {
		t.Errorf("(-want +got):\n%.500s", d)
	}
	h.Close()
}

// What a crash left of the last record costs that record and no other, wherever
// it was cut.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	h := reopen(t, dir, &problems{})
	fill(h, 0, 3)
	h.Close()
	path := filepath.Join(dir, "history")
	full, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(full), "\n")
	last := len(lines[2])
	for _, cut := range []int{1, 2, 9, last / 2, last - 1} {
		if err := os.WriteFile(path, full[:len(full)-cut], 0o640); err != nil {
			t.Fatal(err)
		}
		h := reopen(t, dir, &problems{})
		h.Add(record(3))
		h.Close()
		var told problems
		h = reopen(t, dir, &told)
		expect, skipped := append(want(0, 2), record(3)), unread(dir, 1)
		if cut == 1 { // only its end is missing
			expect, skipped = want(0, 4), nil
		}
		if d := cmp.Diff(expect, h.Recent(0)); d != "" || !slices.Equal(told.all(), skipped) {
			t.Errorf("cut by %d: told %q (-want +got):\n%s", cut, told.all(), d)
		}
		h.Close()
	}
}

// Damage in the middle costs what it hit: a flipped bit, and the zeros that a
// file system leaves after a power cut, longer than any record.
func TestDamageInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	h := reopen(t, dir, &problems{})
	fill(h, 0, 6)
	h.Close()
	path := filepath.Join(dir, "history")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(b), "\n")
	flipped := []byte(lines[1])
	flipped[20] ^= 4
	lines[1] = string(flipped)
	lines[3] = strings.Repeat("\x00", 3*maxLine+17) + "\n"
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o640); err != nil {
		t.Fatal(err)
	}
	var told problems
	h = reopen(t, dir, &told)
	defer h.Close()
	expect := []event.Record{record(0), record(2), record(4), record(5)}
	if d := cmp.Diff(expect, h.Recent(0)); d != "" || !slices.Equal(told.all(), unread(dir, 2)) {
		t.Errorf("told %q (-want +got):\n%s", told.all(), d)
	}
}

// Two files bound the disk, and the newest records are in them.
func TestRotation(t *testing.T) {
	small(t, 4096)
	dir := t.TempDir()
	var told problems
	h := reopen(t, dir, &told)
	fill(h, 0, 200)
	h.Close()
	for _, name := range []string{"history", "history.1"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Size() > maxFile {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	h = reopen(t, dir, &told)
	got := h.Recent(0)
	if len(got) < 10 || !cmp.Equal(got, want(200-len(got), 200)) {
		t.Errorf("%d records came back, want the last ones in order", len(got))
	}
	h.Close()
	if len(told.all()) != 0 {
		t.Errorf("told %q", told.all())
	}
}

// A new file that cannot be begun is begun later; nothing ends for good.
func TestRotationThatFails(t *testing.T) {
	small(t, 2048)
	dir := t.TempDir()
	path := filepath.Join(dir, "history")
	a, err := openAppender(path, func(event.Record) {})
	if err != nil {
		t.Fatal(err)
	}
	// Somebody's directory stands where the older file goes.
	if err := os.MkdirAll(filepath.Join(path+".1", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = a.append(record(n))
	}
	if err == nil || a.size > 3*maxFile {
		t.Fatalf("after %d records of %d bytes: %v", n, a.size, err)
	}
	if err := os.RemoveAll(path + ".1"); err != nil {
		t.Fatal(err)
	}
	if err := a.append(record(n)); err != nil {
		t.Errorf("the way is free, and yet %v", err)
	}
	a.close()
	// And where the new one goes: no inode was left for it.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := a.append(record(n)); err == nil {
		t.Error("a directory took a record")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := a.append(record(n)); err != nil {
		t.Errorf("it can be made again, and yet %v", err)
	}
	a.close()
}

// A full disk loses records, says so once, and leaves no torn line.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a small file system takes root to mount: run the tests as root, too")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no tmpfs may be mounted here: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	var told problems
	h := reopen(t, dir, &told)
	fill(h, 0, 1000)
	until(t, "the disk is full", func() bool { return len(told.all()) > 0 })
	h.Close()
	said := told.all()
	if len(said) != 2 || !strings.HasPrefix(said[0], "the history takes no more records: ") || !strings.Contains(said[0], "no space left on device") {
		t.Fatalf("told %q", said)
	}
	onDisk, err := os.ReadFile(filepath.Join(dir, "history"))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("the history lacks %d of the records: the disk did not take them", 1000-strings.Count(string(onDisk), "\n")); said[1] != want {
		t.Errorf("at the end: told %q, want %q", said[1], want)
	}
	if n := len(h.Recent(0)); n != 1000 {
		t.Errorf("%d records in memory, want all 1000", n)
	}
	if err := os.Truncate(filepath.Join(dir, "history"), 0); err != nil {
		t.Fatal(err)
	}
	h = reopen(t, dir, &told)
	fill(h, 0, 10)
	h.Close()
	var after problems
	h = reopen(t, dir, &after)
	defer h.Close()
	if d := cmp.Diff(want(0, 10), h.Recent(0)); d != "" || len(after.all()) != 0 {
		t.Errorf("after it was better: told %q (-want +got):\n%s", after.all(), d)
	}
}

// A record that is longer than what is read of a line comes back all the same,
// with its texts cut, and that is said once.
func TestLongRecords(t *testing.T) {
	long := record(0)
	long.Message = strings.Repeat("\x01", maxLine/4) // six bytes each in JSON
	long.PostMortem = &event.PostMortem{Peak: 7}
	for i := range 200 {
		long.PostMortem.Procs = append(long.PostMortem.Procs, event.PostMortemProc{PID: i, Command: strings.Repeat("ü", 2000)})
	}
	dir := t.TempDir()
	var told problems
	h := reopen(t, dir, &told)
	h.Add(long)
	h.Add(long)
	h.Add(record(1))
	h.Close()
	if said := told.all(); len(said) != 1 || said[0] != "a record is too long for the history, and so its texts are cut there: gone, of w0 (of further ones nothing is said)" {
		t.Errorf("told %q", said)
	}
	if len(long.PostMortem.Procs) != 200 {
		t.Error("what others read was cut, too")
	}
	var after problems
	h = reopen(t, dir, &after)
	defer h.Close()
	got := h.Recent(0)
	if len(got) != 3 || len(after.all()) != 0 {
		t.Fatalf("%d records came back, told %q", len(got), after.all())
	}
	r := got[0]
	if r.Worker != "w0" || r.Reason != event.Crashed || r.Memory != 1<<40 || r.PostMortem.Peak != 7 {
		t.Errorf("figures are lost: %.500v", r)
	}
	if p := r.PostMortem.Procs; !strings.HasSuffix(r.Message, "\x01…") || len(p) == 0 || p[0].PID != 0 || !strings.HasSuffix(p[0].Command, "ü…") {
		t.Errorf("texts: %.500v", r)
	}
	if d := cmp.Diff(record(1), got[2]); d != "" {
		t.Errorf("the one behind it (-want +got):\n%s", d)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("does not become true: %s", what)
		}
	}
}

// A disk that is too slow for all records loses some, and tells how many when
// it has caught up. The disk is a pipe that nobody reads at first.
func TestSlowDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "history")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	var told problems
	h := reopen(t, dir, &told)
	const n = waitingForDisk + 2000 // more than waits and the pipe holds
	fill(h, 0, n)
	if said := told.all(); len(said) != 0 {
		t.Errorf("told before it was over: %q", said)
	}
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	written := make(chan int)
	go func() {
		lines := 0
		eachLine(f, func([]byte, bool) { lines++ })
		written <- lines
	}()
	until(t, "it is told", func() bool { return len(told.all()) > 0 })
	h.Close()
	want := fmt.Sprintf("the history lacks %d of the records: the disk did not take them", n-<-written)
	if said := told.all(); len(said) != 1 || said[0] != want {
		t.Errorf("told %q, want %q", said, want)
	}
}

// A list that is edited for years does not fill the memory with the names of
// workers that are no more.
func TestForgottenNames(t *testing.T) {
	old := maxNames
	maxNames = 100
	t.Cleanup(func() { maxNames = old })
	h := reopen(t, "", &problems{})
	defer h.Close()
	for i := range 10_000 {
		r := record(i)
		r.Worker = fmt.Sprint("w", i)
		h.Add(r)
	}
	if n := len(h.deaths); n > maxNames {
		t.Errorf("deaths of %d workers are kept, want at most %d", n, maxNames)
	}
	if len(h.Deaths("w9999")) != 1 || len(h.Deaths("w9950")) != 1 || len(h.Deaths("w0")) != 0 {
		t.Error("not the oldest were forgotten")
	}
}

func TestSubscription(t *testing.T) {
	h := reopen(t, "", &problems{})
	fill(h, 0, 5)
	past, s := h.Subscribe(2)
	_, ended := h.Subscribe(0)
	fill(h, 5, 5+cap(s.C)+3) // nobody reads
	if d := cmp.Diff(want(3, 5), past); d != "" {
		t.Errorf("past (-want +got):\n%s", d)
	}
	if n := s.Lost(); n != 3 {
		t.Errorf("lost %d, want 3", n)
	}
	if n := s.Lost(); n != 0 {
		t.Errorf("told twice of %d", n)
	}
	if r := <-s.C; r.Seq != 5 {
		t.Errorf("the next is %d, want 5", r.Seq)
	}
	s.Cancel()
	s.Cancel()
	fill(h, 0, 3)
	n := 0
	for range s.C {
		n++
	}
	if n != cap(s.C)-1 {
		t.Errorf("%d were waiting, want %d and then the end", n, cap(s.C)-1)
	}
	h.Close()
	for range ended.C {
	}
	ended.Cancel()
}

// Whatever is in the file, reading it neither fails nor invents a record.
func FuzzRead(f *testing.F) {
	line := string(seal([]byte(`{"seq":1,"kind":"gone","worker":"a"}`)))
	for _, s := range []string{"", "\n", line, line + line[:9] + line, line[:20], "00000000 \n", "00000000 {}", strings.Repeat("x", 100) + line} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "history")
		if err := os.WriteFile(path, append(b, "\n"+line...), 0o640); err != nil {
			t.Fatal(err)
		}
		var got []event.Record
		a, err := openAppender(path, func(r event.Record) { got = append(got, r) })
		if err != nil {
			t.Fatal(err)
		}
		defer a.close()
		if len(got) == 0 || got[len(got)-1].Worker != "a" {
			t.Fatalf("the whole record at the end was lost: %+v", got)
		}
		if most := strings.Count(string(b), "\n") + 2; len(got)+a.skipped > most {
			t.Errorf("%d records and %d skipped of at most %d lines", len(got), a.skipped, most)
		}
	})
}

// However many there are, and whoever recycled them.
func TestRecycled(t *testing.T) {
	dir := t.TempDir()
	open := func() *History {
		h, err := Open(dir, func(text string) { t.Error(text) })
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := open()
	now := time.Date(2026, 1, 1, 12, 0, 30, 0, time.UTC)
	const n = 3900
	for i := range n { // one each second, and no more in all than the disk may lag behind
		h.Add(event.Record{Seq: uint64(2 * i), Time: now.Add(time.Duration(i+1-n) * time.Second), Kind: event.Recycling, Worker: "w"})
		h.Add(event.Record{Seq: uint64(2*i + 1), Time: now, Kind: event.Gone, Worker: "w"})
	}
	hour := 59*60 + 31 // the minute that is not over, and the 59 before it
	if n := h.Recycled(now); n != hour {
		t.Errorf("%d in the last hour, want %d", n, hour)
	}
	if n := h.Recycled(now.Add(30 * time.Minute)); n != hour-30*60 {
		t.Errorf("%d half an hour later, want %d", n, hour-30*60)
	}
	if n := h.Recycled(now.Add(100 * time.Hour)); n != 0 {
		t.Errorf("%d after days, want 0", n)
	}
	h.Close()
	h = open()
	defer h.Close()
	if n := h.Recycled(now); n != hour {
		t.Errorf("%d in the last hour after a restart, want %d", n, hour)
	}
}
