package sdnotify

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	text := func(k Key, s string) Field { return Field{Key: k, Text: []byte(s)} }
	end := func(id string, r Result) Field { return Field{Key: KeyEnd, Text: []byte(id), Result: r} }
	for _, c := range []struct {
		in   string
		want []Field
	}{
		{"READY=1", []Field{{Key: KeyReady}}},
		{"READY=1\n", []Field{{Key: KeyReady}}},
		{"\n\nREADY=1\n\n", []Field{{Key: KeyReady}}},
		{"RELOADING=1\nSTOPPING=1\nBARRIER=1", []Field{{Key: KeyReloading}, {Key: KeyStopping}, {Key: KeyBarrier}}},
		{"STATUS=grüße = 1", []Field{text(KeyStatus, "grüße = 1")}},
		{"STATUS=", []Field{text(KeyStatus, "")}},
		{"WATCHDOG=1\nWATCHDOG=trigger", []Field{{Key: KeyWatchdog}, {Key: KeyWatchdogTrigger}}},
		{"EXTEND_TIMEOUT_USEC=1500000", []Field{{Key: KeyExtendTimeout, Time: 1500 * time.Millisecond}}},
		{"EXTEND_TIMEOUT_USEC=18446744073709551615", []Field{{Key: KeyExtendTimeout, Time: math.MaxInt64 / 1000 * 1000}}},
		{"MONOTONIC_USEC=12", []Field{{Key: KeyMonotonic, Time: 12 * time.Microsecond}}},
		{"MAINPID=4711", []Field{{Key: KeyMainPID, Number: 4711}}},
		{"X_WORKERSD_COUNT=0", []Field{{Key: KeyCount}}},
		{"X_WORKERSD_BEGIN=job 7", []Field{text(KeyBegin, "job 7")}},
		{"X_WORKERSD_END=7", []Field{end("7", OK)}},
		{"X_WORKERSD_END=7\nX_WORKERSD_RESULT=ok", []Field{end("7", OK)}},
		{"X_WORKERSD_END=7\nX_WORKERSD_RESULT=fail", []Field{end("7", Fail)}},
		{"X_WORKERSD_RESULT=skip\nX_WORKERSD_END=7", []Field{end("7", Skip)}},
		{
			"X_WORKERSD_END=7\nX_WORKERSD_RESULT=fail\nX_WORKERSD_COUNT=3\nX_WORKERSD_BEGIN=7\nMONOTONIC_USEC=5",
			[]Field{end("7", Fail), {Key: KeyCount, Number: 3}, text(KeyBegin, "7"), {Key: KeyMonotonic, Time: 5 * time.Microsecond}},
		},
		{
			"X_WORKERSD_RESULT=fail\nX_WORKERSD_END=a\nX_WORKERSD_END=b\nX_WORKERSD_RESULT=skip",
			[]Field{end("a", Fail), end("b", Skip)},
		},
		{"X_WORKERSD_END=a\nX_WORKERSD_RESULT=fail\nX_WORKERSD_RESULT=skip\nX_WORKERSD_END=b", []Field{end("a", Fail), end("b", Skip)}},
		// What means nothing here is for somebody else.
		{"ERRNO=2\nFDNAME=x\nX_OTHER=\x01\xff", nil},
		{"X_WORKERSD_LATER=1\nREADY=1", []Field{{Key: KeyReady}}},
	} {
		var m Message
		if err := m.Parse([]byte(c.in)); err != nil {
			t.Errorf("Parse(%q): %v", c.in, err)
		} else if d := cmp.Diff(c.want, m.Fields); d != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", c.in, d)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "message is empty"},
		{"\n\n", "message is empty"},
		{"READY", "line is not KEY=VALUE"},
		{"=1", "line is not KEY=VALUE"},
		{"ready=1", "line is not KEY=VALUE"},
		{"READY =1", "line is not KEY=VALUE"},
		{"\x00\x01=\x7f", "line is not KEY=VALUE"},
		{"OTHER=a\x00b", "message contains a NUL byte"},
		{"READY=1\x00", "message contains a NUL byte"},
		{"READY=0", "value of READY, RELOADING, STOPPING and BARRIER must be 1"},
		{"READY=1\r\n", "value of READY, RELOADING, STOPPING and BARRIER must be 1"},
		{"WATCHDOG=0", "WATCHDOG must be 1 or trigger"},
		{"STATUS=\xff", "STATUS is not valid UTF-8"},
		{"EXTEND_TIMEOUT_USEC=-1", "EXTEND_TIMEOUT_USEC is not a number of microseconds"},
		{"EXTEND_TIMEOUT_USEC=18446744073709551616", "EXTEND_TIMEOUT_USEC is not a number of microseconds"},
		{"EXTEND_TIMEOUT_USEC=", "EXTEND_TIMEOUT_USEC is not a number of microseconds"},
		{"MONOTONIC_USEC=1s", "MONOTONIC_USEC is not a number of microseconds"},
		{"MAINPID=0", "MAINPID is not a process id"},
		{"MAINPID=2147483648", "MAINPID is not a process id"},
		{"MAINPID=+1", "MAINPID is not a process id"},
		{"X_WORKERSD_COUNT=-1", "X_WORKERSD_COUNT is not a number of executions"},
		{"X_WORKERSD_COUNT=1e3", "X_WORKERSD_COUNT is not a number of executions"},
		{"X_WORKERSD_BEGIN=", "an execution's id must be 1 to 128 bytes of printable UTF-8"},
		{"X_WORKERSD_BEGIN=a\x1b[31m", "an execution's id must be 1 to 128 bytes of printable UTF-8"},
		{"X_WORKERSD_BEGIN=" + strings.Repeat("x", 129), "an execution's id must be 1 to 128 bytes of printable UTF-8"},
		{"X_WORKERSD_END=\xff", "an execution's id must be 1 to 128 bytes of printable UTF-8"},
		{"X_WORKERSD_RESULT=ok", "X_WORKERSD_RESULT must be ok, fail or skip, beside one X_WORKERSD_END"},
		{"X_WORKERSD_END=1\nX_WORKERSD_RESULT=OK", "X_WORKERSD_RESULT must be ok, fail or skip, beside one X_WORKERSD_END"},
		{"X_WORKERSD_END=1\nX_WORKERSD_RESULT=ok\nX_WORKERSD_RESULT=ok", "X_WORKERSD_RESULT must be ok, fail or skip, beside one X_WORKERSD_END"},
		{strings.Repeat("A=1\n", 1025), "message is longer than 4096 bytes"},
		{strings.Repeat("READY=1\n", 65), "message has more than 64 fields"},
		// One bad line spoils all of it: half a message would be a lie.
		{"READY=1\nX_WORKERSD_COUNT=x", "X_WORKERSD_COUNT is not a number of executions"},
	} {
		m := Message{Fields: []Field{{Key: KeyReady}}}
		if err := m.Parse([]byte(c.in)); err == nil || err.Error() != c.want {
			t.Errorf("Parse(%.60q): error %v, expected %q", c.in, err, c.want)
		}
		if len(m.Fields) != 0 {
			t.Errorf("Parse(%.60q) left the fields %v of a refused message", c.in, m.Fields)
		}
	}
}

func TestSendersWordsAreUnderstood(t *testing.T) {
	long := strings.Repeat("ü", 3000)
	for _, c := range []struct {
		message string
		want    Field
	}{
		{Ready, Field{Key: KeyReady}},
		{Stopping, Field{Key: KeyStopping}},
		{Watchdog, Field{Key: KeyWatchdog}},
		{WatchdogTrigger, Field{Key: KeyWatchdogTrigger}},
		{Status("a\nb\r\xffc\x00"), Field{Key: KeyStatus, Text: []byte("a b \uFFFDc\uFFFD")}},
		{Status(long), Field{Key: KeyStatus, Text: []byte(long[:2048])}},
		{ExtendTimeout(1500 * time.Millisecond), Field{Key: KeyExtendTimeout, Time: 1500 * time.Millisecond}},
		{ExtendTimeout(-1), Field{Key: KeyExtendTimeout}},
		{MainPID(17), Field{Key: KeyMainPID, Number: 17}},
		{Begin("a"), Field{Key: KeyBegin, Text: []byte("a")}},
		{End("a", Skip), Field{Key: KeyEnd, Text: []byte("a"), Result: Skip}},
		{Count(3), Field{Key: KeyCount, Number: 3}},
	} {
		var m Message
		if err := m.Parse([]byte(c.message)); err != nil {
			t.Errorf("Parse(%.60q): %v", c.message, err)
		} else if d := cmp.Diff([]Field{c.want}, m.Fields); d != "" {
			t.Errorf("Parse(%.60q) (-want +got):\n%s", c.message, d)
		}
	}
	var m Message
	if err := m.Parse([]byte(Monotonic())); err != nil || len(m.Fields) != 1 || m.Fields[0].Time <= 0 {
		t.Errorf("Parse(Monotonic()) gives %v, %v, expected a time since boot", m.Fields, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"READY=1\nSTATUS=up\nMAINPID=7", "X_WORKERSD_END=7\nX_WORKERSD_RESULT=fail\nX_WORKERSD_COUNT=3\nX_WORKERSD_BEGIN=8\nMONOTONIC_USEC=5",
		"EXTEND_TIMEOUT_USEC=18446744073709551615", "WATCHDOG=trigger\n\nBARRIER=1\n", "a=\x00", "X_WORKERSD_RESULT=ok\nX_WORKERSD_END=ü",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Message
		if m.Parse(b) != nil {
			if len(m.Fields) != 0 {
				t.Fatalf("refused, with fields %v", m.Fields)
			}
			return
		}
		if len(m.Fields) == 0 {
			return
		}
		for _, f := range m.Fields {
			if f.Number < 0 || f.Time < 0 || (f.Key == KeyBegin || f.Key == KeyEnd) && !ValidID(f.Text) {
				t.Fatalf("accepted %+v", f)
			}
		}
		// What was understood is written so that it is understood the same.
		// (A written END always has its RESULT, so the text may be longer.)
		again := m.Append(nil)
		var m2 Message
		if err := m2.Parse(again); err != nil && len(again) <= MaxMessage {
			t.Fatalf("%q was written as %q: %v", b, again, err)
		} else if err == nil && !cmp.Equal(m.Fields, m2.Fields) {
			t.Fatalf("%q was written as %q: %s", b, again, cmp.Diff(m.Fields, m2.Fields))
		}
	})
}

var benchMessage = []byte("X_WORKERSD_END=0123456789abcdef\nX_WORKERSD_RESULT=ok\nX_WORKERSD_COUNT=1234\nMONOTONIC_USEC=123456789\nX_WORKERSD_BEGIN=0123456789abcdf0")

func BenchmarkParse(b *testing.B) {
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Parse(benchMessage); err != nil {
			b.Fatal(err)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	var m Message
	garbage := []byte("X_WORKERSD_COUNT=many")
	if n := testing.AllocsPerRun(100, func() {
		m.Parse(benchMessage)
		m.Parse(garbage)
	}); n != 0 {
		t.Errorf("%v allocations for two messages, expected none: a flood must cost the manager little", n)
	}
}
