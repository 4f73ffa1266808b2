package manager

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/workersd/workersd/pkg/internal/host/process"
)

// envSelf tells a process which worker it is. It is taken out of the
// environment before main runs: what a worker starts is not that worker, even
// where it is the same program.
const envSelf = "WORKERSD_SELF"

// order is what a process is told by envSelf, as JSON.
type order struct {
	Name       string          `json:"name"`
	Kind       string          `json:"kind"` // see kind
	Args       json.RawMessage `json:"args,omitempty"`
	CheckPoint time.Duration   `json:"check_point_ns,omitempty"`
}

// maxOrder bounds an order: one variable may have 128 KiB (execve(2),
// MAX_ARG_STRLEN), its name and its end included.
const maxOrder = 120 << 10

// born is how this process was started. It is read before main can change any
// of it: a worker's process and the manager below its guard begin as the
// program began.
var born struct {
	args []string
	dir  string // "": unknown
	self string // envSelf; "" in a process that is no worker
}

func init() {
	process.TrampolineMain() // before main: a trampoline is none of its business
	born.args = append([]string{}, os.Args...)
	if len(born.args) == 0 { // execve(2) allows it
		born.args = []string{"manager"}
	}
	born.dir, _ = os.Getwd()
	born.self = os.Getenv(envSelf)
	os.Unsetenv(envSelf)
}

func (o order) encode() (string, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	if len(text) > maxOrder {
		return "", fmt.Errorf("are %d bytes of JSON, and the environment of a process has room for %d (hand over the name of a file)", len(text), maxOrder)
	}
	return string(text), nil
}

func decodeOrder(text string) (o order, err error) {
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return o, fmt.Errorf("%s in the environment: %w", envSelf, err)
	}
	if o.Name == "" {
		return o, errors.New(envSelf + " in the environment names no worker")
	}
	return o, nil
}
