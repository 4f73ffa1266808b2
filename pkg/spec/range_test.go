package spec

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// A program can set what no worker list could hold.
func TestValidateRanges(t *testing.T) {
	valid := func() Worker { w := Default("w"); w.Command = []string{"/bin/true"}; return w }
	for _, c := range []struct {
		set  func(*Worker)
		want string
	}{
		{func(w *Worker) {}, "[]"},
		{func(w *Worker) { w.MaxRequests = -1 }, "[max_requests: -1 is out of range (expected 0 or more)]"},
		{func(w *Worker) { w.Nice = 20 }, "[nice: 20 is out of range (expected -20 to 19)]"},
		{func(w *Worker) { w.Nice, w.Umask = -20, -1 }, "[]"},
		{func(w *Worker) { w.Timeout = -time.Second }, "[timeout: -1s is too short (expected 0s or more)]"},
		{func(w *Worker) { w.StartTimeout = 0 }, "[start_timeout: 0s is too short (expected 1ns or more)]"},
		{func(w *Worker) { w.SoftMemory = -2 }, "[soft_memory_limit: -2 bytes are no size]"},
		{func(w *Worker) { w.CPUMax = math.NaN() }, "[cpu_max: NaN is out of range (expected 0 or more)]"},
		{func(w *Worker) { w.Restart = "maybe" }, `[restart: "maybe" is unknown (expected one of ["always" "on-failure" "never"])]`},
	} {
		w := valid()
		c.set(&w)
		if got := fmt.Sprint(w.Validate()); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
