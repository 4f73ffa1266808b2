package lifecycle

import (
	"fmt"
	"time"

	"github.com/workersd/workersd/pkg/internal/event"
	"github.com/workersd/workersd/pkg/spec"
)

// requestsMessage names the number that the entry has now, or, where that was
// raised meanwhile, the one that the process was told.
func requestsMessage(p *Process) string {
	n := p.MaxRequests
	if n == 0 || p.Executions < n {
		n = p.ToldRequests
	}
	return fmt.Sprintf("cancelled by reaching max requests count [%d]", n)
}

// endMessage says why a process is asked to leave, in the origin's words.
func endMessage(sp *spec.Worker, p *Process, reason event.Reason, now time.Time) string {
	switch reason {
	case event.MaxRequests:
		return requestsMessage(p)
	case event.MaxLifetime:
		return fmt.Sprintf("cancelled by reaching max lifetime [%v]", sp.MaxLifetime)
	case event.Timeout:
		if e, ok := p.oldest(); ok {
			return fmt.Sprintf("cancelled by timeout: execution %s runs for %v [%v]", e.ID, now.Sub(e.Began).Round(time.Millisecond), sp.Timeout)
		}
		return fmt.Sprintf("cancelled by timeout [%v]", sp.Timeout)
	case event.SoftMemory:
		return fmt.Sprintf("cancelled by reaching soft memory limit [%v], uses %v", p.SoftLimit, p.SoftUsage)
	case event.Watchdog:
		return "cancelled by its watchdog: " // it, or it and how long, follows
	case event.StartTimeout:
		return fmt.Sprintf("cancelled: not ready after %v", sp.StartTimeout)
	case event.Stopped:
		return "is stopped by an operator"
	case event.Restarted:
		return "is restarted by an operator"
	case event.Reloaded:
		return "is restarted: its entry changed"
	case event.Removed:
		return "is stopped: its entry was removed"
	case event.Shutdown:
		return "is stopped: the manager ends"
	}
	return "is stopped: " + string(reason)
}

func hardMessage(ev HardMemoryPassed) string {
	return fmt.Sprintf("killed by reaching hard memory limit [%v], uses %v", ev.Limit, ev.Usage)
}

// goneMessage is the verdict in one phrase.
func goneMessage(reason event.Reason, p *Process) string {
	st := p.ExitStatus
	switch reason {
	case event.Timeout:
		if e := p.Overdue; e.ID != "" {
			return fmt.Sprintf("execution %s outlived its timeout, after %v; %v", e.ID, p.OverdueAge.Round(time.Millisecond), st)
		}
	case event.HardMemory:
		return "killed at its hard memory limit"
	case event.PoolMemory:
		return "killed because all workers together reached memory_limit"
	case event.UnitMemory:
		return "killed because the service's unit reached its memory limit"
	case event.HostMemory:
		return "killed because the machine ran out of memory"
	case event.Killed:
		if !p.KillOrdered {
			return "killed by somebody (SIGKILL, not out of memory)"
		}
	case event.Crashed:
		return "crashed with " + st.String()
	case event.Finished:
		return "left by itself with " + st.String()
	case event.Lost:
		return "its status is unknown"
	}
	switch {
	case p.KilledFor == event.Killed:
		return "killed by an operator"
	case p.KilledFor == event.Shutdown:
		return "killed by a second signal to the manager"
	case p.KillOrdered:
		return "killed, it had not left in time"
	}
	return "left with " + st.String()
}

func silentMessage(sp *spec.Worker) string {
	key := "timeout"
	if sp.MaxRequests > 0 {
		key = "max_requests"
	}
	return key + " is set but it has never reported an execution: it cannot be enforced (see deploy/examples/PROTOCOL.md)"
}
