package notify

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A process is told of a timeout that a reload has changed, by a file that any
// user may read, as often as it changes, and until its socket goes.
func TestTimeoutIsTold(t *testing.T) {
	h := start(t, Options{Deliver: newCollector().deliver})
	id := process("a")
	if err := h.Timeout(id, time.Second); err != nil {
		t.Errorf("a process that is not there: %v", err)
	}
	file := open(t, h, id) + ".timeout"
	for _, c := range []struct {
		d    time.Duration
		want string
	}{{90 * time.Second, "90000000"}, {0, "0"}} {
		if err := h.Timeout(id, c.d); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		st, _ := os.Stat(file)
		if err != nil || string(b) != c.want || st.Mode().Perm() != 0o644 {
			t.Errorf("%v: %q, %v", c.d, b, err)
		}
	}
	h.Close(id)
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
