package spec

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Bytes is a size in bytes, or None.
type Bytes int64

// None is the size that limits nothing.
const None Bytes = -1

// Sizes, in powers of 1024.
const (
	KiB Bytes = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
)

// Set reports whether b limits anything.
func (b Bytes) Set() bool { return b >= 0 }

// String writes the size as the worker list would: "200M", "1.5G", "none".
func (b Bytes) String() string {
	if b < 0 {
		return "none"
	}
	for _, u := range []struct {
		n Bytes
		s string
	}{{TiB, "T"}, {GiB, "G"}, {MiB, "M"}, {KiB, "K"}} {
		if b >= u.n {
			if b%u.n == 0 {
				return strconv.FormatInt(int64(b/u.n), 10) + u.s
			}
			// Cut, not rounded: 1023.99K is not 1024K.
			return fmt.Sprintf("%d.%d%s", b/u.n, b%u.n*10/u.n, u.s)
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// Signal is a signal of the system, written as "SIGTERM".
type Signal syscall.Signal

// The signals that rules name; what is pure takes them from here (signal(7)).
const (
	SIGHUP  = Signal(syscall.SIGHUP)
	SIGINT  = Signal(syscall.SIGINT)
	SIGABRT = Signal(syscall.SIGABRT)
	SIGKILL = Signal(syscall.SIGKILL)
	SIGPIPE = Signal(syscall.SIGPIPE)
	SIGTERM = Signal(syscall.SIGTERM)
)

// ParseSignal reads "SIGTERM" or "TERM".
func ParseSignal(s string) (Signal, error) {
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if n := unix.SignalNum(name); n != 0 {
		return Signal(n), nil
	}
	return 0, fmt.Errorf("unknown signal %q (expected a name such as SIGTERM)", s)
}

// String is the name: "SIGTERM", or "signal 42" where there is none.
func (s Signal) String() string {
	if s == 0 {
		return ""
	}
	if n := unix.SignalName(syscall.Signal(s)); n != "" {
		return n
	}
	return fmt.Sprintf("signal %d", int(s))
}
