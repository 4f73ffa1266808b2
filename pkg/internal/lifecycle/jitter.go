package lifecycle

import (
	"hash/fnv"
	"math"
	"time"

	"github.com/workersd/workersd/pkg/spec"
)

// Jitter is a number in [0, 1) that depends on nothing but its arguments: the
// same worker and generation draw the same number in a test, after a crash, and
// in the next manager.
func Jitter(worker string, generation uint64, use string) float64 {
	h := fnv.New64a()
	h.Write([]byte(use))
	h.Write([]byte{0})
	h.Write([]byte(worker))
	var g [8]byte
	for i := range g {
		g[i] = byte(generation >> (8 * i))
	}
	h.Write(g[:])
	// FNV's high bits hardly move for the last bytes; mix them (splitmix64).
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return float64(x>>11) / (1 << 53)
}

// maxRequests is the number of this generation: up to max_requests_jitter more.
func maxRequests(s *spec.Worker, generation uint64) int {
	if s.MaxRequests <= 0 {
		return 0
	}
	more := int(Jitter(s.Name, generation, "max_requests") * (float64(s.MaxRequestsJitter) + 1))
	return s.MaxRequests + min(more, math.MaxInt-s.MaxRequests)
}

func lifeDeadline(s *spec.Worker, generation uint64, started time.Time) time.Time {
	if s.MaxLifetime <= 0 {
		return time.Time{}
	}
	return started.Add(s.MaxLifetime + time.Duration(Jitter(s.Name, generation, "max_lifetime")*float64(s.MaxLifetimeJitter)))
}

// delay is the n-th back-off in a row, from 1: it doubles up to
// restart_delay_max, with up to a quarter more, so that what failed together
// does not come back together.
func delay(s *spec.Worker, n int, generation uint64) time.Duration {
	d := s.RestartDelay
	for range min(n-1, 62) {
		if d > s.RestartDelayMax/2 {
			d = s.RestartDelayMax
			break
		}
		d *= 2
	}
	return d + time.Duration(Jitter(s.Name, generation, "restart_delay")*float64(d)/4)
}
