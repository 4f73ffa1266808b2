package manager

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/workersd/workersd/pkg/internal/config"
	"github.com/workersd/workersd/pkg/spec"
	"github.com/workersd/workersd/pkg/worker"
)

// Worker is one process that the manager keeps alive, and what it may use. A
// field that is zero has the default.
type Worker struct {
	// Work is what it does. It may have Init, AfterRun and Options as well, see
	// package worker. Its exported fields are its arguments.
	Work worker.Worker

	// Name is the first part of its name; the type's name if empty. One with
	// ${field} in it is the whole name: see Names in the package documentation.
	Name string

	MaxRequests int           // executions, then a new process; 0: no limit
	Timeout     time.Duration // of one execution, then a new process; 0: no limit
	CheckPoint  time.Duration // pause between two executions; 0: none

	SoftMemoryLimit spec.Bytes // above it: SIGTERM, the execution may finish; 0: 200M
	HardMemoryLimit spec.Bytes // above it: SIGKILL; 0: 300M

	// Log is a file for its output, rotated at 50M, with 5 backups; it may hold
	// ${worker} and ${field}. "" is the journal under systemd, the terminal
	// elsewhere.
	Log string

	// Spec, if set, is called by the manager for what no field is for: user,
	// directory of the log, nice value, back-off. It gets the worker as it would
	// be, and changes it; name, command and environment of this package stay.
	Spec func(*spec.Worker)
}

// made is a worker of the manager, worked out.
type made struct {
	Worker
	name   string
	base   string // without arguments and number
	kind   string
	id     identity
	args   json.RawMessage
	params []spec.Param
}

// prepare works out what can be said of a worker alone; name lacks its number.
func (w Worker) prepare() (m made, err error) {
	m.Worker = w
	if w.Work == nil {
		return m, in("Work", errors.New("is missing (expected a value with Run)"))
	}
	if m.args, err = encode(w.Work); err != nil {
		return m, in("Work", fmt.Errorf("%T: %w", w.Work, err))
	}
	m.kind, m.id, m.params = kind(w.Work), identify(w.Work), params(w.Work)
	m.base = w.Name
	if m.base == "" {
		m.base = typeName(w.Work)
	}
	if strings.Contains(m.base, "${") {
		if m.name, err = fill(m.base, m.params); err != nil {
			return m, in("Name", err)
		}
		return m, nil
	}
	m.name = config.Name(m.base, m.params, 0)
	if len(m.params) == 0 {
		m.name += "-"
	}
	return m, nil
}

// number ends a name: the origin's running number where nothing else tells
// workers apart, and the worker list's where arguments do and are the same.
func (m *made) number(n int) {
	switch {
	case strings.HasSuffix(m.name, "-") && len(m.params) == 0:
		m.name += strconv.Itoa(n)
	case n > 1:
		m.name += "#" + strconv.Itoa(n)
	}
}

// order is what its process is told.
func (m *made) order() order {
	return order{Name: m.name, Kind: m.kind, Args: m.args, CheckPoint: m.CheckPoint}
}

// spec is the worker as the supervisor knows it.
func (m *made) spec(wait time.Duration) (s spec.Worker, errs []error) {
	s = spec.Default(m.base)
	s.MaxRequests, s.Timeout = m.MaxRequests, m.Timeout
	if m.SoftMemoryLimit != 0 {
		s.SoftMemory = m.SoftMemoryLimit
	}
	if m.HardMemoryLimit != 0 {
		s.HardMemory = m.HardMemoryLimit
	}
	if wait != 0 {
		s.StopTimeout = wait
	}
	s.Ready = spec.ReadyNotify // package worker says so, after Init
	var err error
	if s.Log, err = m.log(); err != nil {
		errs = append(errs, in("Log", err))
	}
	if m.Spec != nil {
		m.Spec(&s)
	}
	s.Name, s.Entry, s.Params, s.Replica = m.name, m.base, m.params, 0
	s.Type, s.Self, s.Command = spec.Service, true, born.args
	if now, err := os.Getwd(); born.dir != "" && (err != nil || now != born.dir) && s.Directory == "" {
		s.Directory = born.dir // main has left it
	}
	text, err := m.order().encode()
	if err != nil {
		errs = append(errs, in("Work", fmt.Errorf("its arguments %w", err)))
	}
	s.Environment = append(s.Environment, spec.EnvVar{Name: envSelf, Value: text})
	if m.CheckPoint < 0 {
		errs = append(errs, in("CheckPoint", belowZero(m.CheckPoint)))
	}
	if err := checkName(m.name); err != nil {
		errs = append(errs, in("Name", err))
	}
	for _, p := range s.Validate() {
		if p.Key == "name" {
			continue // said above
		}
		errs = append(errs, in(fieldName(p.Key), errors.New(fieldNames.Replace(p.Text))))
	}
	return s, errs
}

// log is the target of its output, as the supervisor knows it.
func (m *made) log() (string, error) {
	switch m.Log {
	case spec.LogAuto, spec.LogJournal, spec.LogInherit:
		return m.Log, nil
	}
	// A name is safe as it is: it holds no slash and begins with no dot.
	path, err := fill(strings.ReplaceAll(m.Log, "${worker}", m.name), m.params, "worker")
	if err != nil {
		return "", err
	}
	if path != m.Log {
		for _, part := range strings.Split(path, "/") {
			if part == ".." || part == "." {
				return "", fmt.Errorf("%q becomes %q, which is another directory", m.Log, path)
			}
		}
	}
	return filepath.Abs(path)
}

// in names the field of Worker or Manager that an error is about.
func in(field string, err error) error { return fmt.Errorf("%s: %w", field, err) }

func belowZero(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%v is below zero", d)
	}
	return nil
}

// fieldName is the field of Worker for a key of the worker list.
func fieldName(key string) string {
	var b strings.Builder
	for _, part := range strings.Split(key, "_") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

var fieldNames = strings.NewReplacer(
	"soft_memory_limit", "SoftMemoryLimit", "hard_memory_limit", "HardMemoryLimit", `"none"`, "spec.None",
	"restart_delay_max", "RestartDelayMax",
)
