package sdnotify

import (
	"errors"
	"math"
	"time"
	"unicode/utf8"
)

// Limits of a message. A longer one is refused as a whole, by the sender and
// by the receiver.
const (
	MaxMessage = 4096 // bytes; systemd's own limit (NOTIFY_BUFFER_MAX)
	MaxFields  = 64   // assignments that mean something
	MaxID      = 128  // bytes of an execution's id
)

// Key says what a field is about.
type Key uint8

// The keys that mean something here; others are ignored.
const (
	KeyReady Key = iota + 1
	KeyReloading
	KeyStopping
	KeyStatus          // Text
	KeyWatchdog        // WATCHDOG=1
	KeyWatchdogTrigger // WATCHDOG=trigger
	KeyExtendTimeout   // Time
	KeyMainPID         // Number
	KeyBarrier
	KeyMonotonic // Time since boot
	KeyBegin     // Text is the id
	KeyEnd       // Text is the id, Result how it ended
	KeyCount     // Number
)

// Result is how an execution ended.
type Result uint8

// How an execution can end.
const (
	OK   Result = iota // counted
	Fail               // counted, and a failure
	Skip               // nothing was there to do: not counted
)

// String is the word of the protocol.
func (r Result) String() string {
	switch r {
	case Fail:
		return "fail"
	case Skip:
		return "skip"
	}
	return "ok"
}

// Field is one assignment. X_WORKERSD_RESULT is no field of its own: it is the
// Result of the END it stands beside.
type Field struct {
	Key    Key
	Result Result
	Text   []byte // part of the parsed bytes, not a copy
	Number int64
	Time   time.Duration
}

// Message is what one datagram says, in its order.
type Message struct{ Fields []Field }

// Errors of Parse are values, so that a flood of garbage allocates nothing.
var (
	errTooLong   = errors.New("message is longer than 4096 bytes")
	errMany      = errors.New("message has more than 64 fields")
	errNUL       = errors.New("message contains a NUL byte")
	errNoKey     = errors.New("line is not KEY=VALUE")
	errEmpty     = errors.New("message is empty")
	errOne       = errors.New("value of READY, RELOADING, STOPPING and BARRIER must be 1")
	errWatchdog  = errors.New("WATCHDOG must be 1 or trigger")
	errStatus    = errors.New("STATUS is not valid UTF-8")
	errExtend    = errors.New("EXTEND_TIMEOUT_USEC is not a number of microseconds")
	errMainPID   = errors.New("MAINPID is not a process id")
	errMonotonic = errors.New("MONOTONIC_USEC is not a number of microseconds")
	errID        = errors.New("an execution's id must be 1 to 128 bytes of printable UTF-8")
	errResult    = errors.New("X_WORKERSD_RESULT must be ok, fail or skip, beside one X_WORKERSD_END")
	errCount     = errors.New("X_WORKERSD_COUNT is not a number of executions")
)

// Parse reads one message into m, whose old fields are dropped and whose memory
// is used again. The fields point into b. A message is taken as a whole or not
// at all: after an error m is empty.
func (m *Message) Parse(b []byte) error {
	m.Fields = m.Fields[:0]
	if err := m.parse(b); err != nil {
		m.Fields = m.Fields[:0]
		return err
	}
	return nil
}

func (m *Message) parse(b []byte) error {
	if len(b) > MaxMessage {
		return errTooLong
	}
	var p parser
	lines := 0
	for len(b) > 0 {
		line := b
		if i := indexByte(b, '\n'); i >= 0 {
			line, b = b[:i], b[i+1:]
		} else {
			b = nil
		}
		if len(line) == 0 {
			continue
		}
		lines++
		if err := p.line(m, line); err != nil {
			return err
		}
		if len(m.Fields) > MaxFields {
			return errMany
		}
	}
	if lines == 0 {
		return errEmpty
	}
	if p.pending {
		return errResult
	}
	return nil
}

// parser brings each RESULT to its END: the one before it, or, where that has
// one already, the one after it.
type parser struct {
	end     int // index+1 of the last END that has no result
	pending bool
	result  Result
}

func (p *parser) line(m *Message, line []byte) error {
	i := indexByte(line, '=')
	if i <= 0 || !validKey(line[:i]) {
		return errNoKey
	}
	if indexByte(line, 0) >= 0 {
		return errNUL
	}
	value := line[i+1:]
	if string(line[:i]) == "X_WORKERSD_RESULT" {
		return p.takeResult(m, value)
	}
	f, err := parseField(line[:i], value)
	if err != nil || f.Key == 0 {
		return err
	}
	if f.Key == KeyEnd {
		if p.pending {
			f.Result, p.pending = p.result, false
		} else {
			p.end = len(m.Fields) + 1
		}
	}
	m.Fields = append(m.Fields, f)
	return nil
}

func (p *parser) takeResult(m *Message, value []byte) error {
	var r Result
	switch string(value) {
	case "ok":
		r = OK
	case "fail":
		r = Fail
	case "skip":
		r = Skip
	default:
		return errResult
	}
	switch {
	case p.end > 0:
		m.Fields[p.end-1].Result, p.end = r, 0
	case p.pending:
		return errResult
	default:
		p.result, p.pending = r, true
	}
	return nil
}

// parseField reads one assignment; a key that means nothing here gives no Key.
func parseField(key, value []byte) (Field, error) {
	switch string(key) {
	case "READY":
		return one(KeyReady, value)
	case "RELOADING":
		return one(KeyReloading, value)
	case "STOPPING":
		return one(KeyStopping, value)
	case "BARRIER":
		return one(KeyBarrier, value)
	case "STATUS":
		if !utf8.Valid(value) {
			return Field{}, errStatus
		}
		return Field{Key: KeyStatus, Text: value}, nil
	case "WATCHDOG":
		switch string(value) {
		case "1":
			return Field{Key: KeyWatchdog}, nil
		case "trigger":
			return Field{Key: KeyWatchdogTrigger}, nil
		}
		return Field{}, errWatchdog
	case "EXTEND_TIMEOUT_USEC":
		return usec(KeyExtendTimeout, value, errExtend)
	case "MONOTONIC_USEC":
		return usec(KeyMonotonic, value, errMonotonic)
	case "MAINPID":
		return number(KeyMainPID, value, 1, math.MaxInt32, errMainPID)
	case "X_WORKERSD_COUNT":
		return number(KeyCount, value, 0, math.MaxInt32, errCount)
	case "X_WORKERSD_BEGIN":
		return id(KeyBegin, value)
	case "X_WORKERSD_END":
		return id(KeyEnd, value)
	}
	return Field{}, nil
}

func one(k Key, value []byte) (Field, error) {
	if string(value) != "1" {
		return Field{}, errOne
	}
	return Field{Key: k}, nil
}

func number(k Key, value []byte, least, most uint64, err error) (Field, error) {
	n, ok := parseUint(value)
	if !ok || n < least || n > most {
		return Field{}, err
	}
	return Field{Key: k, Number: int64(n)}, nil
}

// usec reads microseconds. What is longer than a Duration, as systemd's
// "infinity" of 2^64-1, is the longest there is.
func usec(k Key, value []byte, err error) (Field, error) {
	n, ok := parseUint(value)
	if !ok {
		return Field{}, err
	}
	n = min(n, math.MaxInt64/uint64(time.Microsecond))
	return Field{Key: k, Time: time.Duration(n) * time.Microsecond}, nil
}

func id(k Key, value []byte) (Field, error) {
	if !ValidID(value) {
		return Field{}, errID
	}
	return Field{Key: k, Text: value}, nil
}
