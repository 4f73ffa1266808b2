package cgroup

import (
	"testing"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// What the kernel was seen to count, and the cases between.
func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name       string
		events     map[string]int64
		base, ooms []int64 // of pool, root and slice
		want       lifecycle.OOM
	}{
		{"nothing was read", nil, nil, nil, lifecycle.NoOOM},
		{"no victim", map[string]int64{"high": 3, "max": 40, "oom": 0, "oom_kill": 0}, []int64{0, 0, 0}, []int64{0, 0, 0}, lifecycle.NoOOM},
		{"its own limit, without a victim: the charge failed", map[string]int64{"oom": 7, "oom_kill": 0}, []int64{0, 0}, []int64{0, 0}, lifecycle.NoOOM},
		{"its own limit", map[string]int64{"oom": 1, "oom_kill": 2, "oom_group_kill": 1}, []int64{0, 0, 0}, []int64{0, 0, 0}, lifecycle.OOMLeaf},
		{"its own limit, while the pool was at its own too", map[string]int64{"oom": 1, "oom_kill": 2}, []int64{0, 0}, []int64{1, 0}, lifecycle.OOMLeaf},
		{"the pool's", map[string]int64{"oom_kill": 2}, []int64{0, 0, 0}, []int64{1, 0, 0}, lifecycle.OOMPool},
		{"the pool's, again", map[string]int64{"oom_kill": 2}, []int64{4, 1, 0}, []int64{5, 1, 0}, lifecycle.OOMPool},
		{"the unit's", map[string]int64{"oom_kill": 2}, []int64{4, 0, 0}, []int64{4, 1, 0}, lifecycle.OOMUnit},
		{"a slice's", map[string]int64{"oom_kill": 1}, []int64{4, 1, 0}, []int64{4, 1, 1}, lifecycle.OOMUnit},
		{"pool and unit", map[string]int64{"oom_kill": 1}, []int64{0, 0}, []int64{1, 1}, lifecycle.OOMPool},
		{"the machine's, long after the pool's", map[string]int64{"oom_kill": 2}, []int64{5, 1, 1}, []int64{5, 1, 1}, lifecycle.OOMHost},
		{"no ancestor could be read", map[string]int64{"oom_kill": 2}, nil, []int64{}, lifecycle.OOMHost},
		{"an ancestor without a base", map[string]int64{"oom_kill": 2}, nil, []int64{1}, lifecycle.OOMHost},
	} {
		if got := verdict(c.events, c.base, c.ooms); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
