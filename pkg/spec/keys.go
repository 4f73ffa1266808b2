package spec

// Class says what a reload does with a changed key.
type Class string

const (
	Live    Class = "live"    // takes effect in the running process
	Restart Class = "restart" // the worker is restarted
	Expand  Class = "expand"  // makes, removes or names workers
)

// Kind says how the value of a key is written in the worker list.
type Kind uint8

const (
	KindString   Kind = iota // "text"
	KindCommand              // ["program", "argument"]
	KindEnv                  // { NAME = "value" }
	KindBool                 // true
	KindInt                  // 10
	KindDuration             // "30s"
	KindBytes                // "200M", "10%", "none"
	KindSize                 // "50M", "none"
	KindSignal               // "SIGTERM"
	KindEnum                 // one of Words
	KindShare                // 2 or "10%"
	KindCPU                  // 1.5 or "150%"
	KindUmask                // "0027"
	KindTable                // of its own: matrix, params, exclude
)

// Key is one key of an entry, [defaults] or [manager]. Decoding, plan,
// reference and documentation all come from the two tables of them.
type Key struct {
	Name    string
	Kind    Kind
	Class   Class
	Default string   // as it would stand in the list; "" where there is none
	Words   []string // of a KindEnum
	Min     int      // of a KindInt
	Max     int      // of a KindInt; 0: no bound
	Param   bool     // ${…} is expanded in it
	NoDef   bool     // makes no sense in [defaults]
	Example string   // as it could stand in the list, where there is no Default
	Summary string
	// Worker and Manager give the field that holds the value.
	Worker  func(*Worker) any
	Manager func(*Manager) any
}

// Keys are the keys of an entry, in the order of the documentation.
var Keys = []Key{
	{Name: "command", Kind: KindCommand, Class: Restart, Param: true, NoDef: true, Example: `["/usr/bin/python3", "/srv/app/listen.py", "--ip=${ip}", "--queue=${queue}"]`, Summary: "program and arguments; no shell in between", Worker: func(w *Worker) any { return &w.Command }},
	{Name: "type", Kind: KindEnum, Words: []string{"service", "task"}, Class: Restart, Default: `"service"`, Summary: "service: one process does many executions; task: each process is one execution", Worker: func(w *Worker) any { return (*string)(&w.Type) }},
	{Name: "interval", Kind: KindDuration, Class: Live, Default: `"1s"`, Summary: "from the end of a task's process to the next start", Worker: func(w *Worker) any { return &w.Interval }},
	{Name: "name", Kind: KindTable, Class: Expand, NoDef: true, Example: `"mail-${queue}-${ip}-${zone}#${replica}"`, Summary: "template of the workers' names; frees them from the order of the parameters"},
	{Name: "directory", Kind: KindString, Class: Restart, Param: true, Example: `"/srv/app"`, Summary: "working directory; unset: the manager's", Worker: func(w *Worker) any { return &w.Directory }},
	{Name: "environment", Kind: KindEnv, Class: Restart, Param: true, Example: `{ LANG = "C.UTF-8", QUEUE = "${worker}" }`, Summary: "variables of its environment; their values are never shown", Worker: func(w *Worker) any { return &w.Environment }},
	{Name: "environment_file", Kind: KindString, Class: Restart, Param: true, Example: `"/etc/workersd/app.env"`, Summary: "file of KEY=VALUE lines, read at each start; environment wins over it", Worker: func(w *Worker) any { return &w.EnvironmentFile }},
	{Name: "user", Kind: KindString, Class: Restart, Example: `"www-data"`, Summary: "whom it runs as, by name or number; unset: the manager's user", Worker: func(w *Worker) any { return &w.User }},
	{Name: "group", Kind: KindString, Class: Restart, Example: `"www-data"`, Summary: "its group, by name or number; unset: the user's", Worker: func(w *Worker) any { return &w.Group }},
	{Name: "matrix", Kind: KindTable, Class: Expand, NoDef: true, Example: `{ ip = ["10.0.0.1", "10.0.0.2"], queue = ["mail", "report"] }`, Summary: "lists of values; one worker for each combination"},
	{Name: "params", Kind: KindTable, Class: Expand, NoDef: true, Example: `[{ zone = "a" }, { zone = "b" }]`, Summary: "rows of parameters; one worker for each row", Worker: func(w *Worker) any { return &w.Params }},
	{Name: "exclude", Kind: KindTable, Class: Expand, NoDef: true, Example: `[{ ip = "10.0.0.2", queue = "report" }]`, Summary: "rows to leave out; a row fits where all it names fits"},
	{Name: "replicas", Kind: KindTable, Class: Expand, NoDef: true, Example: `2`, Summary: "so many workers of each row, #1 to #N"},
	{Name: "enabled", Kind: KindBool, Class: Live, Default: "true", Summary: "false: the workers are known and not started", Worker: func(w *Worker) any { return &w.Enabled }},

	{Name: "max_requests", Kind: KindInt, Class: Live, Default: "0", Summary: "executions after which a process is replaced; 0: no limit", Worker: func(w *Worker) any { return &w.MaxRequests }},
	{Name: "max_requests_jitter", Kind: KindInt, Class: Live, Default: "0", Summary: "up to so many more, different for each process", Worker: func(w *Worker) any { return &w.MaxRequestsJitter }},
	{Name: "max_lifetime", Kind: KindDuration, Class: Live, Default: `"0s"`, Summary: "age at which a process is replaced; 0s: no limit", Worker: func(w *Worker) any { return &w.MaxLifetime }},
	{Name: "max_lifetime_jitter", Kind: KindDuration, Class: Live, Default: `"0s"`, Summary: "up to so much more, different for each process", Worker: func(w *Worker) any { return &w.MaxLifetimeJitter }},
	{Name: "timeout", Kind: KindDuration, Class: Live, Default: `"0s"`, Summary: "time of one execution, after which the process is replaced; 0s: no limit", Worker: func(w *Worker) any { return &w.Timeout }},
	{Name: "timeout_signal", Kind: KindSignal, Class: Live, Example: `"SIGABRT"`, Summary: "sent at a timeout, e.g. SIGABRT for a stack; unset: stop_signal", Worker: func(w *Worker) any { return &w.TimeoutSignal }},
	{Name: "max_recycling", Kind: KindShare, Class: Live, Default: "0", Summary: "how many of the entry's workers may be replaced at a time, as a number or a percentage; 0: no limit", Worker: func(w *Worker) any { return &w.MaxRecycling }},
	{Name: "overlap", Kind: KindEnum, Words: []string{"none", "ready"}, Class: Live, Default: `"none"`, Summary: "ready: a planned successor is up before the old process is asked to leave", Worker: func(w *Worker) any { return (*string)(&w.Overlap) }},

	{Name: "soft_memory_limit", Kind: KindBytes, Class: Live, Default: `"200M"`, Summary: "above it the process is asked to leave, its execution may finish; \"none\": no limit", Worker: func(w *Worker) any { return &w.SoftMemory }},
	{Name: "hard_memory_limit", Kind: KindBytes, Class: Live, Default: `"300M"`, Summary: "above it the whole tree is killed; \"none\": no limit", Worker: func(w *Worker) any { return &w.HardMemory }},
	{Name: "swap_limit", Kind: KindBytes, Class: Live, Default: "0", Summary: "swap it may use; with \"none\" the hard limit is none either on a machine with swap", Worker: func(w *Worker) any { return &w.SwapLimit }},

	{Name: "cpu_max", Kind: KindCPU, Class: Live, Default: "0", Summary: "CPUs it may use, such as 1.5 or \"150%\"; 0: no limit", Worker: func(w *Worker) any { return &w.CPUMax }},
	{Name: "cpu_weight", Kind: KindInt, Max: 10000, Class: Live, Default: "0", Summary: "share of the CPU against others, 1 to 10000; 0: unset (100)", Worker: func(w *Worker) any { return &w.CPUWeight }},
	{Name: "pids_max", Kind: KindInt, Class: Live, Default: "0", Summary: "processes and threads it may have; 0: no limit", Worker: func(w *Worker) any { return &w.PidsMax }},
	{Name: "io_weight", Kind: KindInt, Max: 10000, Class: Live, Default: "0", Summary: "share of the disks against others, 1 to 10000; 0: unset (100)", Worker: func(w *Worker) any { return &w.IOWeight }},
	{Name: "nice", Kind: KindInt, Min: -20, Max: 19, Class: Restart, Default: "0", Summary: "scheduling priority, -20 (first) to 19 (last)", Worker: func(w *Worker) any { return &w.Nice }},
	{Name: "oom_score_adj", Kind: KindInt, Min: -1000, Max: 1000, Class: Restart, Default: "0", Summary: "how readily it is killed when memory runs out, -1000 to 1000; at -1000 no limit can kill it", Worker: func(w *Worker) any { return &w.OOMScoreAdj }},
	{Name: "limit_nofile", Kind: KindInt, Class: Restart, Default: "0", Summary: "files it may have open; 0: as the manager was started", Worker: func(w *Worker) any { return &w.LimitNoFile }},
	{Name: "umask", Kind: KindUmask, Class: Restart, Example: `"0027"`, Summary: "file mode creation mask, as octal text; unset: the manager's", Worker: func(w *Worker) any { return &w.Umask }},

	{Name: "ready", Kind: KindEnum, Words: []string{"exec", "notify"}, Class: Restart, Default: `"exec"`, Summary: "when it is up: once executed, or when it says READY=1", Worker: func(w *Worker) any { return (*string)(&w.Ready) }},
	{Name: "start_timeout", Kind: KindDuration, Min: 1, Class: Live, Default: `"30s"`, Summary: "time to be up, from its start; then it is ended and backs off", Worker: func(w *Worker) any { return &w.StartTimeout }},
	{Name: "watchdog", Kind: KindDuration, Class: Restart, Default: `"0s"`, Summary: "it must say WATCHDOG=1 within this time, always; 0s: none", Worker: func(w *Worker) any { return &w.Watchdog }},
	{Name: "restart", Kind: KindEnum, Words: []string{"always", "on-failure", "never"}, Class: Live, Default: `"always"`, Summary: "whether a process that left by itself is started again", Worker: func(w *Worker) any { return (*string)(&w.Restart) }},
	{Name: "restart_delay", Kind: KindDuration, Min: 1, Class: Live, Default: `"100ms"`, Summary: "first back-off after a failure; it doubles with each failure in a row", Worker: func(w *Worker) any { return &w.RestartDelay }},
	{Name: "restart_delay_max", Kind: KindDuration, Min: 1, Class: Live, Default: `"1m"`, Summary: "longest back-off", Worker: func(w *Worker) any { return &w.RestartDelayMax }},
	{Name: "restart_reset", Kind: KindDuration, Class: Live, Default: `"10s"`, Summary: "a life so long lets the back-off begin anew", Worker: func(w *Worker) any { return &w.RestartReset }},
	{Name: "stop_signal", Kind: KindSignal, Class: Live, Default: `"SIGTERM"`, Summary: "signal that asks it to leave", Worker: func(w *Worker) any { return &w.StopSignal }},
	{Name: "stop_timeout", Kind: KindDuration, Class: Live, Default: `"10s"`, Summary: "grace after the stop signal, then SIGKILL for the whole tree", Worker: func(w *Worker) any { return &w.StopTimeout }},

	{Name: "log", Kind: KindString, Param: true, Class: Restart, Example: `"/var/log/workersd/${worker}.log"`, Summary: "where its output goes: \"journal\", \"inherit\" or a file, rotated; unset: the journal under systemd, the terminal elsewhere", Worker: func(w *Worker) any { return &w.Log }},
	{Name: "log_max_size", Kind: KindSize, Class: Restart, Default: `"50M"`, Summary: "size at which the file is rotated; \"none\": never", Worker: func(w *Worker) any { return &w.LogMaxSize }},
	{Name: "log_backups", Kind: KindInt, Class: Restart, Default: "5", Summary: "rotated files that are kept", Worker: func(w *Worker) any { return &w.LogBackups }},
}

// ManagerKeys are the keys of [manager].
var ManagerKeys = []Key{
	{Name: "title", Kind: KindString, Class: Live, Example: `"mail workers"`, Summary: "shown in the banner and in systemctl status", Manager: func(m *Manager) any { return &m.Title }},
	{Name: "check_interval", Kind: KindDuration, Min: 1, Class: Live, Default: `"1s"`, Summary: "how often memory is looked at where the kernel does not tell by itself", Manager: func(m *Manager) any { return &m.CheckInterval }},
	{Name: "memory_limit", Kind: KindBytes, Class: Live, Default: `"none"`, Summary: "memory of all workers together; \"none\": no limit", Manager: func(m *Manager) any { return &m.MemoryLimit }},
	{Name: "drain_max", Kind: KindDuration, Min: 1, Class: Live, Default: `"5m"`, Summary: "no stop takes longer, whatever a worker asks for", Manager: func(m *Manager) any { return &m.DrainMax }},
	{Name: "max_workers", Kind: KindInt, Min: 1, Max: 1_000_000, Class: Live, Default: "10000", Summary: "a list that expands to more is refused", Manager: func(m *Manager) any { return &m.MaxWorkers }},
	{Name: "max_starting", Kind: KindInt, Class: Live, Default: "0", Summary: "processes between their start and being up, at most; 0: no limit", Manager: func(m *Manager) any { return &m.MaxStarting }},
}
