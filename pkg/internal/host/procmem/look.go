package procmem

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/workersd/workersd/pkg/spec"
)

// PSS is the proportional set size: shared pages counted by shares. It takes
// more of the kernel than RSS, and rights over the process; ok says that it was
// told. A process that is gone holds nothing.
func (t *Table) PSS(pid int) (size spec.Bytes, ok bool) {
	b, err := os.ReadFile(t.root() + "/" + strconv.Itoa(pid) + "/smaps_rollup")
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		_, lives := t.Read(pid) // or the kernel has no such file
		return 0, !lives
	}
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(b) {
		if rest, found := bytes.CutPrefix(line, []byte("Pss:")); found {
			if f := bytes.Fields(rest); len(f) > 0 {
				n, ok := number(f[0])
				return spec.Bytes(n) * spec.KiB, ok
			}
		}
	}
	return 0, false
}

// Env is the value of one variable that a process was started with.
func (t *Table) Env(pid int, name string) (string, bool) {
	b, err := os.ReadFile(t.root() + "/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return "", false
	}
	for v := range bytes.SplitSeq(b, []byte{0}) {
		if rest, ok := bytes.CutPrefix(v, []byte(name+"=")); ok {
			return string(rest), true
		}
	}
	return "", false
}

// Command is what a process calls itself, for a person.
func (t *Table) Command(pid int) string {
	b, err := os.ReadFile(t.root() + "/" + strconv.Itoa(pid) + "/cmdline")
	if err == nil && len(b) > 0 {
		b = bytes.TrimRight(bytes.ReplaceAll(b, []byte{0}, []byte{' '}), " ")
		if len(b) > 120 {
			b = append(b[:119:119], "…"...)
		}
		return string(b)
	}
	b, err = os.ReadFile(t.root() + "/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// Signal sends sig to p if it is still the same process: between a look at
// /proc and a signal its pid may have become another's. It reports whether it
// was sent.
func (t *Table) Signal(p Proc, sig syscall.Signal) bool {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err == nil {
		defer unix.Close(fd)
	} else if err == unix.ESRCH {
		return false
	}
	now, ok := t.Read(p.PID)
	if !ok || now.Start != p.Start || now.Zombie {
		return false
	}
	if err != nil { // Linux before 5.3, or a container that hides it
		return unix.Kill(p.PID, sig) == nil
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0) == nil
}
