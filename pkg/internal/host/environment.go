package host

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/workersd/workersd/pkg/internal/host/process"
	"github.com/workersd/workersd/pkg/internal/lifecycle"
	"github.com/workersd/workersd/pkg/spec"
)

// markKey is ours alone, and no process of another run has its marks.
var markKey = func() (key [32]byte) {
	rand.Read(key[:])
	return key
}()

// mark is what a process and all that it starts have in their environment, so
// that they are known where they left their session and their parents. The
// environment of a process can be read by its own user alone (proc_pid_environ(5)),
// and nobody can guess the mark of another's: else it would put processes of its
// own into that worker's tree.
func mark(id lifecycle.ProcessID) string {
	h := hmac.New(sha256.New, markKey[:])
	fmt.Fprintf(h, "%d %s", id.Generation, id.Worker)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// markVariable is where the mark is.
const markVariable = "WORKERSD_INSTANCE"

// forManager are variables that were meant for the manager; those
// that end in _ are prefixes.
var forManager = []string{
	"NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_", "MEMORY_PRESSURE_", "JOURNAL_STREAM", "FDSTORE",
	"WORKERSD_", "RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY",
	"CONFIGURATION_DIRECTORY", "CREDENTIALS_DIRECTORY", "SYSTEMD_EXEC_PID", "MAINPID", "MANAGERPID",
}

func meantForManager(name string) bool {
	for _, m := range forManager {
		if name == m || strings.HasSuffix(m, "_") && strings.HasPrefix(name, m) {
			return true
		}
	}
	return false
}

// inherited are the variables that we hand on to every worker.
func inherited() (vars []string) {
	for _, v := range os.Environ() {
		if name, _, ok := strings.Cut(v, "="); ok && !meantForManager(name) {
			vars = append(vars, v)
		}
	}
	return vars
}

// environment is what the variables of a process come from, the later ones
// winning.
type environment struct {
	inherited   []string
	worker      *spec.Worker
	id          lifecycle.ProcessID
	user        *process.User
	maxRequests int
	notify      string
	file        []spec.EnvVar
	output      []string
	mark        string
}

func (e environment) build() []string {
	const ours = 16 // about so many are added
	n := len(e.inherited) + len(e.file) + len(e.worker.Environment) + len(e.worker.Params) + ours
	b := envBuilder{vars: make([]string, 0, n), index: make(map[string]int, n)}
	for _, v := range e.inherited {
		name, _, _ := strings.Cut(v, "=")
		b.set(name, v)
	}
	if u := e.user; u != nil {
		b.add("USER", u.Name)
		b.add("LOGNAME", u.Name)
		// A number that nobody has must not get ours.
		b.add("HOME", cmp.Or(u.Home, "/"))
		b.add("SHELL", cmp.Or(u.Shell, "/bin/sh"))
	}
	for _, v := range e.file {
		b.add(v.Name, v.Value)
	}
	for _, v := range e.worker.Environment {
		b.add(v.Name, v.Value)
	}
	b.add("WORKERSD_WORKER", e.id.Worker)
	b.add("WORKERSD_GENERATION", strconv.FormatUint(e.id.Generation, 10))
	b.add(markVariable, e.mark)
	for _, p := range e.worker.Params {
		b.add("WORKERSD_PARAM_"+strings.ToUpper(p.Name), p.Value)
	}
	if e.maxRequests > 0 {
		b.add("WORKERSD_MAX_REQUESTS", strconv.Itoa(e.maxRequests))
	}
	if e.worker.Timeout > 0 {
		b.add("WORKERSD_TIMEOUT_USEC", strconv.FormatInt(e.worker.Timeout.Microseconds(), 10))
	}
	b.add("NOTIFY_SOCKET", e.notify)
	b.add("WORKERSD_NOTIFY_FD", strconv.Itoa(notifyFD))
	if e.worker.Watchdog > 0 {
		b.add("WATCHDOG_USEC", strconv.FormatInt(e.worker.Watchdog.Microseconds(), 10))
	}
	for _, v := range e.output {
		name, _, _ := strings.Cut(v, "=")
		b.set(name, v)
	}
	return b.vars
}

// envBuilder keeps each variable once.
type envBuilder struct {
	vars  []string
	index map[string]int
}

func (b *envBuilder) add(name, value string) { b.set(name, name+"="+value) }

func (b *envBuilder) set(name, assignment string) {
	if i, ok := b.index[name]; ok {
		b.vars[i] = assignment
		return
	}
	b.index[name] = len(b.vars)
	b.vars = append(b.vars, assignment)
}

// maxEnvFile bounds what is read of an environment_file.
const maxEnvFile = 1 << 20

// readEnvironmentFile reads lines of KEY=VALUE as systemd does for the plain
// cases (systemd.exec(5), EnvironmentFile=): comments, quotes around a value,
// a "-" before the path for one that may be missing. It is opened without
// blocking: a FIFO must not hang a start.
func readEnvironmentFile(path string) ([]spec.EnvVar, error) {
	if path == "" {
		return nil, nil
	}
	path, optional := strings.CutPrefix(path, "-")
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) && optional {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("environment_file %s: %w", path, unwrapPath(err))
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("environment_file %s is no regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxEnvFile+1))
	if err != nil {
		return nil, fmt.Errorf("environment_file %s: %w", path, unwrapPath(err))
	}
	if len(data) > maxEnvFile {
		return nil, fmt.Errorf("environment_file %s is larger than %v", path, spec.Bytes(maxEnvFile))
	}
	return parseEnvironment(path, data)
}

func parseEnvironment(path string, data []byte) (vars []spec.EnvVar, err error) {
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, maxEnvFile+1)
	for line := 1; s.Scan(); line++ {
		text := strings.TrimSpace(s.Text())
		if text == "" || text[0] == '#' || text[0] == ';' {
			continue
		}
		name, val, ok := strings.Cut(text, "=")
		name = strings.TrimSpace(strings.TrimPrefix(name, "export "))
		if !ok || name == "" || strings.ContainsAny(name, " \t\"'") || strings.ContainsRune(val, 0) {
			return nil, fmt.Errorf("environment_file %s:%d: expected NAME=value", path, line)
		}
		val = strings.TrimSpace(val)
		if n := len(val); n >= 2 && (val[0] == '"' || val[0] == '\'') && val[n-1] == val[0] {
			val = val[1 : n-1]
		}
		vars = append(vars, spec.EnvVar{Name: name, Value: val})
	}
	return vars, s.Err()
}

func unwrapPath(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
