package sdnotify

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Messages that are always the same.
const (
	Ready           = "READY=1"
	Stopping        = "STOPPING=1"
	Watchdog        = "WATCHDOG=1"
	WatchdogTrigger = "WATCHDOG=trigger"
)

// Status says what the worker is doing, in one line. Line ends in text become
// spaces, what is no UTF-8 is replaced, and what is too long is cut.
func Status(text string) string {
	const key = "STATUS="
	text = strings.ToValidUTF8(text, "\uFFFD")
	text = strings.Map(func(r rune) rune {
		switch r {
		case '\n', '\r':
			return ' '
		case 0:
			return utf8.RuneError
		}
		return r
	}, text)
	const most = MaxMessage / 2 // leaves room for other fields beside it
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return key + text
}

// ExtendTimeout asks for d more, from now on, for the start or the stop that is
// under way; at other times it changes nothing.
func ExtendTimeout(d time.Duration) string {
	return "EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(max(d, 0).Microseconds(), 10)
}

// MainPID says that another process of the worker's tree is the main one.
func MainPID(pid int) string { return "MAINPID=" + strconv.Itoa(pid) }

// Begin says that an execution begins. An id is 1 to MaxID bytes of printable
// UTF-8 (see ValidID).
func Begin(id string) string { return "X_WORKERSD_BEGIN=" + id }

// End says that an execution ended.
func End(id string, r Result) string {
	return "X_WORKERSD_END=" + id + "\nX_WORKERSD_RESULT=" + r.String()
}

// Count says how many executions this process has counted so far; said beside
// every End, a lost datagram loses no count.
func Count(n int) string { return "X_WORKERSD_COUNT=" + strconv.Itoa(n) }

// Monotonic is the time of the message, so that a queue on the way does not
// blur how long an execution took.
func Monotonic() string {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return "MONOTONIC_USEC=0"
	}
	return "MONOTONIC_USEC=" + strconv.FormatInt(t.Nano()/int64(time.Microsecond), 10)
}

// Append writes the message to b, one assignment on a line.
func (m *Message) Append(b []byte) []byte {
	for i := range m.Fields {
		if i > 0 {
			b = append(b, '\n')
		}
		b = m.Fields[i].append(b)
	}
	return b
}

// String is the message as it is sent.
func (m *Message) String() string { return string(m.Append(nil)) }

func (f *Field) append(b []byte) []byte {
	switch f.Key {
	case KeyReady:
		return append(b, Ready...)
	case KeyReloading:
		return append(b, "RELOADING=1"...)
	case KeyStopping:
		return append(b, Stopping...)
	case KeyStatus:
		return append(append(b, "STATUS="...), f.Text...)
	case KeyWatchdog:
		return append(b, Watchdog...)
	case KeyWatchdogTrigger:
		return append(b, WatchdogTrigger...)
	case KeyExtendTimeout:
		return strconv.AppendInt(append(b, "EXTEND_TIMEOUT_USEC="...), f.Time.Microseconds(), 10)
	case KeyMainPID:
		return strconv.AppendInt(append(b, "MAINPID="...), f.Number, 10)
	case KeyBarrier:
		return append(b, "BARRIER=1"...)
	case KeyMonotonic:
		return strconv.AppendInt(append(b, "MONOTONIC_USEC="...), f.Time.Microseconds(), 10)
	case KeyBegin:
		return append(append(b, "X_WORKERSD_BEGIN="...), f.Text...)
	case KeyEnd:
		b = append(append(b, "X_WORKERSD_END="...), f.Text...)
		return append(append(b, "\nX_WORKERSD_RESULT="...), f.Result.String()...)
	case KeyCount:
		return strconv.AppendInt(append(b, "X_WORKERSD_COUNT="...), f.Number, 10)
	}
	panic("sdnotify: field without a key")
}
