package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// environment is what the manager says to a process.
type environment struct {
	worker      string // empty: there is no manager
	maxRequests int
	timeout     time.Duration // at the start
	socket      string        // NOTIFY_SOCKET
	watchdog    time.Duration
}

func (e environment) managed() bool { return e.worker != "" }

func readEnvironment() (environment, error) {
	e := environment{worker: os.Getenv("WORKERSD_WORKER"), socket: os.Getenv("NOTIFY_SOCKET")}
	n, err := number("WORKERSD_MAX_REQUESTS")
	if err != nil {
		return e, err
	}
	e.maxRequests = int(n)
	if e.timeout, err = microseconds("WORKERSD_TIMEOUT_USEC"); err != nil {
		return e, err
	}
	// As sd_watchdog_enabled(3): another process of the tree may be meant.
	if pid := os.Getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		e.watchdog, err = microseconds("WATCHDOG_USEC")
	}
	return e, err
}

// timeoutNow is the time of one execution that a reload has set since the start;
// ok is false where none has.
func (e environment) timeoutNow() (d time.Duration, ok bool) {
	if !e.managed() || e.socket == "" {
		return 0, false
	}
	text, err := os.ReadFile(e.socket + ".timeout")
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	return time.Duration(n) * time.Microsecond, err == nil && n >= 0
}

func number(name string) (int64, error) {
	s := os.Getenv(name)
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s=%q in the environment is not a number: unset it, or start the worker by workersd", name, s)
	}
	return n, nil
}

func microseconds(name string) (time.Duration, error) {
	n, err := number(name)
	return time.Duration(n) * time.Microsecond, err
}

// Name is the name of this worker in the worker list ("queue@10.0.0.1,mail"),
// the same for all its processes. Without a manager it is the program's name.
func Name() string {
	if n := os.Getenv("WORKERSD_WORKER"); n != "" {
		return n
	}
	return filepath.Base(os.Args[0])
}

// Generation numbers the processes of this worker; 0 without a manager.
func Generation() uint64 {
	n, _ := strconv.ParseUint(os.Getenv("WORKERSD_GENERATION"), 10, 64)
	return n
}

// Param is the value of a parameter of the worker list (matrix, params), or "".
func Param(name string) string {
	return os.Getenv("WORKERSD_PARAM_" + strings.ToUpper(name))
}
