package cgroup

import (
	"time"

	"github.com/workersd/workersd/pkg/spec"
)

// memory.high left in place is no soft limit: above it the kernel slows the
// worker down to a crawl, for ever. So it is a tripwire: it tells us at once
// that the limit was crossed, and is lifted before the worker notices. What
// follows is the policy, without any I/O.

// usage is one look at the memory of a leaf.
type usage struct {
	current     int64 // memory.current
	reclaimable int64 // what the kernel can take away without help
	swap        int64
}

// reclaimable is page cache and slab that can go. Not "file": that holds the
// pages of /dev/shm too, which nobody can take away without swap.
func reclaimable(stat map[string]int64) int64 {
	return stat["active_file"] + stat["inactive_file"] + stat["slab_reclaimable"]
}

// held is what the worker itself holds on to.
func (u usage) held() spec.Bytes {
	return spec.Bytes(max(u.current-u.reclaimable, 0) + u.swap)
}

// fullStall is the share of time, in percent, in which everything in a leaf
// waits for memory, from which on a tripwire costs more than it is worth.
const fullStall = 10

// raised is the next place of a tripwire that a worker stalls on though it is
// its page cache that reaches it: half-way to the hard limit, or twice as high
// where there is none. The soft limit itself stays what it is; reading more
// often takes the kernel's place.
func raised(tripwire, hard spec.Bytes) spec.Bytes {
	if !hard.Set() {
		return 2 * tripwire
	}
	return tripwire + (hard-tripwire)/2
}

// fence is where memory.high goes when the soft limit was passed, until the
// worker handles its stop signal: close enough that nothing runs away, far
// enough that the way there costs nothing.
func fence(soft, hard spec.Bytes) spec.Bytes {
	room := max(soft/50, spec.MiB)
	if hard.Set() {
		room = min(room, (hard-soft)/4)
	}
	return soft + room
}

const (
	// rare is how often an armed leaf is read at least: the kernel watches.
	rare = time.Minute
	// soonest bounds how often a leaf is read at most.
	soonest = 50 * time.Millisecond
)

// pace plans the next look from the fastest growth that was seen.
type pace struct {
	at      time.Time
	usage   spec.Bytes
	fastest float64 // bytes in a second
}

// saw takes in one look.
func (p *pace) saw(now time.Time, usage spec.Bytes) {
	if dt := now.Sub(p.at).Seconds(); !p.at.IsZero() && dt > 0 {
		p.fastest = max(p.fastest, float64(usage-p.usage)/dt)
	}
	p.at, p.usage = now, usage
}

// next is how long the leaf may go unread: half the time in which it could
// reach limit, because growth may quicken; at most longest.
func (p *pace) next(limit spec.Bytes, longest time.Duration) time.Duration {
	if !limit.Set() || p.fastest <= 0 {
		return longest
	}
	return min(max(p.reach(float64(limit-p.usage)), soonest), longest)
}

// reach is half the time in which room could be filled.
func (p *pace) reach(room float64) time.Duration {
	if p.fastest <= 0 {
		return rare
	}
	return time.Duration(min(max(room, 0)/p.fastest/2, rare.Seconds()) * float64(time.Second))
}
