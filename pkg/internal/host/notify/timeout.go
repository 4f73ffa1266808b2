package notify

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/workersd/workersd/pkg/internal/lifecycle"
)

// timeoutSuffix is behind the name of a socket the name of the file that Timeout
// writes; the protocol's document names it.
const timeoutSuffix = ".timeout"

// Timeout says what the time of one execution is now, where a reload has changed
// it: the process has the old one in its environment, and with that alone would
// take a stop for its timeout, or its timeout for a stop. 0 is no limit. The file
// is there as a whole or not at all, and goes with the socket.
func (h *Hub) Timeout(id lifecycle.ProcessID, d time.Duration) error {
	h.mu.Lock()
	ep := h.byID[id]
	h.mu.Unlock()
	if ep == nil {
		return nil
	}
	path := ep.path + timeoutSuffix
	ep.timeout.Store(true)
	err := os.WriteFile(path+".new", strconv.AppendInt(nil, d.Microseconds(), 10), 0o644)
	if err == nil {
		err = os.Chmod(path+".new", 0o644) // whatever our umask
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("worker %s: its process is not told of its new timeout: %w", id.Worker, err)
	}
	return nil
}
