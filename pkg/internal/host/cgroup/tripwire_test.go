package cgroup

import (
	"testing"
	"time"

	"github.com/workersd/workersd/pkg/spec"
)

func TestHeld(t *testing.T) {
	stat := map[string]int64{"file": 60, "shmem": 20, "active_file": 10, "inactive_file": 30, "slab_reclaimable": 5, "slab_unreclaimable": 7, "anon": 40}
	u := usage{current: 120, reclaimable: reclaimable(stat), swap: 3}
	if u.reclaimable != 45 || u.held() != 78 || u.charged() != 123 {
		t.Errorf("reclaimable %d, held %d, charged %d", u.reclaimable, u.held(), u.charged())
	}
	// memory.stat lags behind memory.current.
	if u := (usage{current: 10, reclaimable: 45, swap: 3}); u.held() != 3 {
		t.Errorf("held %d", u.held())
	}
}

func TestFollow(t *testing.T) {
	const mib = spec.MiB
	for _, c := range []struct {
		name             string
		soft, hard, high spec.Bytes
		cache            spec.Bytes
		want             spec.Bytes
	}{
		{"some cache", 16 * mib, 32 * mib, 16 * mib, 3 * mib, 19 * mib},
		{"much cache", 16 * mib, 32 * mib, 16 * mib, 15 * mib, 24 * mib},
		{"more cache later", 16 * mib, 32 * mib, 19 * mib, 6 * mib, 22 * mib},
		{"never down", 16 * mib, 32 * mib, 22 * mib, 3 * mib, 22 * mib},
		{"at the end of the way", 16 * mib, 32 * mib, 24 * mib, 20 * mib, 24 * mib},
		{"beyond it, because it stalled there", 16 * mib, 32 * mib, 28 * mib, 20 * mib, 28 * mib},
		{"no hard limit", 16 * mib, spec.None, 16 * mib, 100 * mib, 32 * mib},
		{"hardly a difference", 16 * mib, 16*mib + 1, 16 * mib, 8 * mib, 16 * mib},
		{"no cache", 16 * mib, 32 * mib, 16 * mib, 0, 16 * mib},
	} {
		if got := follow(c.soft, c.hard, c.high, usage{reclaimable: int64(c.cache)}); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if low(200*mib) != 175*mib {
		t.Errorf("low %v", low(200*mib))
	}
}

// However often a worker stalls, its tripwire stays below its hard limit.
func TestRaisedStaysBelow(t *testing.T) {
	hard := 300 * spec.MiB
	high := 200 * spec.MiB
	for range 100 {
		next := raised(high, hard)
		if next < high || next >= hard {
			t.Fatalf("%v after %v", next, high)
		}
		high = next
	}
	if raised(100, spec.None) != 200 {
		t.Error("without a hard limit")
	}
}

func TestPace(t *testing.T) {
	t0 := time.Unix(1000, 0)
	var p pace
	if got := p.next(100, time.Second); got != time.Second {
		t.Errorf("nothing seen: %v", got)
	}
	p.saw(t0, 100)
	p.saw(t0.Add(time.Second), 200)
	if p.fastest != 100 {
		t.Errorf("fastest %v", p.fastest)
	}
	p.saw(t0.Add(2*time.Second), 150) // slower growth counts half, and half again
	p.saw(t0.Add(3*time.Second), 160)
	p.saw(t0.Add(3*time.Second), 900) // a clock that stands still changes nothing
	if p.fastest != 25 {
		t.Errorf("fastest %v", p.fastest)
	}
	p.fastest, p.usage = 100, 160
	for _, c := range []struct {
		limit   spec.Bytes
		longest time.Duration
		want    time.Duration
	}{
		{260, time.Minute, 500 * time.Millisecond}, // half of the second that it would take
		{260, 100 * time.Millisecond, 100 * time.Millisecond},
		{161, time.Minute, soonest},
		{100, time.Minute, soonest}, // past it
		{spec.None, time.Minute, time.Minute},
		{1 << 60, time.Minute, time.Minute},
	} {
		if got := p.next(c.limit, c.longest); got != c.want {
			t.Errorf("next(%v, %v) = %v, want %v", c.limit, c.longest, got, c.want)
		}
	}
}

// Where only reading tells, a worker whose fast growth was seen once is found
// within 8 MiB above its limit, wherever it was when it was looked at first.
func TestPaceSeesFastGrowth(t *testing.T) {
	const limit, rate = 100 * spec.MiB, 200 * spec.MiB // in a second
	for first := spec.Bytes(0); first < limit; first += spec.MiB {
		var p pace
		now, usage, looks := time.Unix(0, 0), first, 0
		p.saw(now, usage)
		for wait := 10 * time.Millisecond; usage <= limit && looks < 100; looks++ {
			now = now.Add(wait)
			usage += spec.Bytes(wait.Seconds() * float64(rate))
			p.saw(now, usage)
			wait = p.next(limit, time.Second)
		}
		if over := usage - limit; over <= 0 || over > 8*spec.MiB {
			t.Errorf("first seen at %v: %v above the limit after %d looks", first, over, looks)
		}
	}
}
