package cgroup

import (
	"time"

	"github.com/workersd/workersd/pkg/spec"
)

// memory.high left in place is no soft limit: above it the kernel slows the
// worker down to a crawl, for ever. So it is a tripwire: it tells us at once
// that the limit was crossed, brakes the worker until its stop signal is on the
// way, and is lifted then. What follows is the policy, without any I/O.

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

// compare takes in memory.stat, and memory.current as it was after that. A file
// may be read or deleted in between; what was in memory before and after is
// what counts.
func (u *usage) compare(stat map[string]int64, after int64) {
	u.current = min(u.current, after)
	u.reclaimable = reclaimable(stat)
}

// charged is all that the kernel holds against the limit.
func (u usage) charged() spec.Bytes { return spec.Bytes(u.current + u.swap) }

// held is what the worker itself holds on to.
func (u usage) held() spec.Bytes {
	return spec.Bytes(max(u.current-u.reclaimable, 0) + u.swap)
}

// fullStall is the share of time, in percent, in which everything in a leaf
// waits for memory, from which on a tripwire costs more than it is worth.
const fullStall = 10

// raised is half the way from a tripwire to the hard limit, or twice as high
// where there is none.
func raised(tripwire, hard spec.Bytes) spec.Bytes {
	if !hard.Set() {
		return 2 * tripwire
	}
	return tripwire + (hard-tripwire)/2
}

// follow is where a tripwire goes that page cache has reached: where the worker
// would be at its soft limit with the cache that it has, at most half-way to
// the hard limit. There the kernel trims the cache, and goes on telling us.
func follow(soft, hard, high spec.Bytes, u usage) spec.Bytes {
	return max(high, min(soft+spec.Bytes(u.reclaimable), raised(soft, hard)))
}

// low is below what a raised tripwire goes back to the soft limit: the cache is
// gone that it was raised for.
func low(soft spec.Bytes) spec.Bytes { return soft - soft/8 }

const (
	// rare is how often an armed leaf is read at least: the kernel watches.
	rare = time.Minute
	// soonest bounds how often a leaf is read at most. Where reading takes the place
	// of the tripwire it also bounds how far a worker is above its soft limit when
	// that is seen: 4 MiB at 200 MiB/s.
	soonest = 20 * time.Millisecond
)

// pace plans the next look from the fastest growth that was seen.
type pace struct {
	at      time.Time
	usage   spec.Bytes
	fastest float64 // bytes in a second; growth that is over counts less with each look
}

// saw takes in one look.
func (p *pace) saw(now time.Time, usage spec.Bytes) {
	if dt := now.Sub(p.at).Seconds(); !p.at.IsZero() && dt > 0 {
		p.fastest = max(p.fastest/2, float64(usage-p.usage)/dt)
	}
	p.at, p.usage = now, usage
}

// next is how long the leaf may go unread: half the time in which it could
// reach limit, because growth may quicken; at most longest.
func (p *pace) next(limit spec.Bytes, longest time.Duration) time.Duration {
	if !limit.Set() || p.fastest <= 0 {
		return longest
	}
	return min(max(p.reach(limit-p.usage), soonest), longest)
}

// reach is half the time in which room could be filled.
func (p *pace) reach(room spec.Bytes) time.Duration {
	if p.fastest <= 0 {
		return rare
	}
	return time.Duration(min(float64(max(room, 0))/p.fastest/2, rare.Seconds()) * float64(time.Second))
}
