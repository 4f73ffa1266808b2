package notify

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/sdnotify"
)

// maxStatus bounds the STATUS= text that is kept for each worker.
const maxStatus = 256

// take handles one datagram, or drops and counts it.
func (h *Hub) take(r *reader, ep *endpoint, d datagram) {
	if d.truncated {
		h.garbage(ep, errTooLong)
		return
	}
	if err := r.message.Parse(d.data); err != nil {
		h.garbage(ep, err)
		return
	}
	if !h.welcome(ep, d) {
		if !saysNothing(&r.message) && ep.refused.Add(1) == 1 {
			h.problem(ep, "a message of process %d of uid %d, which is none of its own, was refused", d.pid, d.uid)
		}
		return
	}
	h.deliver(ep, &r.message)
}

// saysNothing is true of a barrier alone, with which a sender waits for what it
// has said before.
func saysNothing(m *sdnotify.Message) bool {
	return len(m.Fields) == 1 && m.Fields[0].Key == sdnotify.KeyBarrier
}

var errTooLong = fmt.Errorf("it is longer than %d bytes", sdnotify.MaxMessage)

// garbage counts what is no message.
func (h *Hub) garbage(ep *endpoint, err error) {
	if ep.garbage.Add(1) == 1 {
		h.problem(ep, "said what is no message: %v", err)
	}
}

func (h *Hub) problem(ep *endpoint, format string, args ...any) {
	if h.options.Problem != nil {
		h.options.Problem(ep.id, fmt.Sprintf(format, args...))
	}
}

// welcome reports whether the sender may speak for the process: the worker's
// user, root (systemd-notify run by root, workersctl), or the manager's user;
// and no process of another worker, where that can be looked up.
func (h *Hub) welcome(ep *endpoint, d datagram) bool {
	if !d.hasSender || d.uid != ep.uid && d.uid != 0 && d.uid != h.uid {
		return false
	}
	if h.options.Member == nil || d.pid <= 0 || ep.told.hasPID && ep.told.pid == d.pid {
		return true
	}
	switch h.options.Member(ep.id, int(d.pid)) {
	case Foreign:
		return false
	case Member:
		// A pid that is used again could at worst be one of the same user.
		ep.told.hasPID, ep.told.pid = true, d.pid
	}
	return true
}

// deliver turns a message into events, in its order.
func (h *Hub) deliver(ep *endpoint, m *sdnotify.Message) {
	g := ep.id.Generation
	for i := range m.Fields {
		var ev lifecycle.Event
		switch f := &m.Fields[i]; f.Key {
		case sdnotify.KeyReady:
			ev = lifecycle.Ready{Generation: g}
		case sdnotify.KeyStopping:
			ev = lifecycle.SaidStopping{Generation: g}
		case sdnotify.KeyStatus:
			if ep.told.status == string(f.Text) {
				continue
			}
			ep.told.status = string(f.Text)
			ev = lifecycle.SaidStatus{Generation: g, Text: plainText(ep.told.status)}
		case sdnotify.KeyWatchdog:
			ev = lifecycle.WatchdogPinged{Generation: g}
		case sdnotify.KeyWatchdogTrigger:
			ev = lifecycle.WatchdogTriggered{Generation: g}
		case sdnotify.KeyExtendTimeout:
			ev = lifecycle.Extended{Generation: g, By: f.Time}
		case sdnotify.KeyMainPID:
			if h.options.Member == nil || h.options.Member(ep.id, int(f.Number)) != Member {
				if ep.refused.Add(1) == 1 {
					h.problem(ep, "said MAINPID=%d, which is no process of its own: refused", f.Number)
				}
				continue
			}
			ev = lifecycle.MainPIDChanged{Generation: g, PID: int(f.Number)}
		case sdnotify.KeyBegin:
			ep.told.id = execution(ep.told.id, f.Text)
			ev = lifecycle.ExecutionBegan{Generation: g, ID: ep.told.id}
		case sdnotify.KeyEnd:
			ep.told.id = execution(ep.told.id, f.Text)
			ev = lifecycle.ExecutionEnded{Generation: g, ID: ep.told.id, Result: result(f.Result)}
		case sdnotify.KeyCount:
			ev = lifecycle.ExecutionsCounted{Generation: g, N: int(f.Number)}
		default:
			continue // RELOADING, BARRIER and MONOTONIC_USEC change nothing here
		}
		h.options.Deliver(ep.id, ev)
	}
}

// execution is the id as a string; END mostly names what BEGIN just named.
func execution(last string, id []byte) string {
	if last == string(id) {
		return last
	}
	return string(id)
}

func result(r sdnotify.Result) lifecycle.Result {
	switch r {
	case sdnotify.Fail:
		return lifecycle.Fail
	case sdnotify.Skip:
		return lifecycle.Skip
	}
	return lifecycle.OK
}

// plainText makes a text of a worker's fit for a table on a terminal.
func plainText(s string) string {
	if len(s) > maxStatus {
		s = strings.ToValidUTF8(s[:maxStatus], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
