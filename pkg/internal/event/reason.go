package event

// Reason says why a process ended. The words are part of the interface: they
// stand in the log, the journal, the history, the API and the metrics.
type Reason string

// The reasons, each defined here and nowhere else.
const (
	MaxRequests  Reason = "max_requests"  // it did its number of executions
	MaxLifetime  Reason = "max_lifetime"  // it lived as long as it may
	Timeout      Reason = "timeout"       // one execution outlived its time
	SoftMemory   Reason = "soft_memory"   // above soft_memory_limit; asked to leave
	HardMemory   Reason = "hard_memory"   // above its own hard_memory_limit; killed
	PoolMemory   Reason = "pool_memory"   // victim of [manager] memory_limit
	UnitMemory   Reason = "unit_memory"   // victim of a limit on the service's unit
	HostMemory   Reason = "host_memory"   // victim of a machine out of memory
	Watchdog     Reason = "watchdog"      // its own watchdog was silent
	StartTimeout Reason = "start_timeout" // not ready in time
	Crashed      Reason = "crashed"       // left by itself with a failure
	Killed       Reason = "killed"        // SIGKILL that was not ours, and no OOM
	Finished     Reason = "finished"      // left by itself with success
	Stopped      Reason = "stopped"       // an operator stopped it
	Restarted    Reason = "restarted"     // an operator restarted it
	Reloaded     Reason = "reloaded"      // its entry changed
	Removed      Reason = "removed"       // its entry went away
	Shutdown     Reason = "shutdown"      // the manager ended
	SpawnFailed  Reason = "spawn_failed"  // there never was a process
	Lost         Reason = "lost"          // it is gone and its status is unknown
)

// Reasons is every reason, in the order of the documentation.
var Reasons = []Reason{
	MaxRequests, MaxLifetime, Timeout, SoftMemory, HardMemory, PoolMemory, UnitMemory, HostMemory,
	Watchdog, StartTimeout, Crashed, Killed, Finished, Stopped, Restarted, Reloaded, Removed,
	Shutdown, SpawnFailed, Lost,
}

// Planned reports whether the manager or an operator wanted the end. A planned
// end never backs off and never counts as a failure.
func (r Reason) Planned() bool {
	switch r {
	case MaxRequests, MaxLifetime, SoftMemory, Finished, Stopped, Restarted, Reloaded, Removed, Shutdown:
		return true
	case Timeout:
		// The execution failed, the replacement is planned: it starts at once.
		return true
	}
	return false
}

// Urgency orders the reasons of a replacement that may have to wait, 0 for those
// that never ask: the greater goes first, and takes the place of one that still
// waits.
func (r Reason) Urgency() int {
	switch r {
	case Restarted: // an operator's word
		return 5
	case SoftMemory: // the hard limit is near
		return 4
	case MaxRequests:
		return 3
	case MaxLifetime:
		return 2
	case Reloaded: // the old entry still works
		return 1
	}
	return 0
}
