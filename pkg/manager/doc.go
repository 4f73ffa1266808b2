// Package manager keeps the workers of a Go program alive, in processes of
// their own that are the same program.
//
//	type MyWork struct{}
//
//	func (MyWork) Run(context.Context) (bool, error) {
//		slog.Info("running")
//		time.Sleep(time.Second)
//		return true, nil
//	}
//
//	func main() {
//		manager.New(manager.Worker{Work: MyWork{}}).Start()
//	}
//
// That is a whole program. It starts itself once more for each worker, restarts
// a worker that ends, and replaces the process of one that has done MaxRequests
// executions, whose execution outlives Timeout, or whose memory passes
// SoftMemoryLimit (SIGTERM, the execution may finish) or HardMemoryLimit
// (SIGKILL). Ctrl-C ends all of them at once. What Run, Init and AfterRun mean
// is told in package worker.
//
// # One program, many processes
//
// [Manager.Start] starts the program again with the arguments, the directory and
// the name (argv[0]) that it was started with, without a shell, so main runs in
// each of these processes up to Start: once in a worker's, and in a terminal
// twice for the manager, because a small process of the same program stands
// above it that ends the workers should the manager be killed. So main before
// Start reads flags and makes workers. It opens no port, starts no process and
// takes no lock: that belongs into Init. After Start nothing runs.
//
// A worker's process has the variables that every worker has (WORKERSD_WORKER,
// NOTIFY_SOCKET and so on). Which worker it is stands in WORKERSD_SELF, which is
// taken out of the environment before main runs, so that a program it starts is
// no worker, even the same program.
//
// The program that is started is the very file that runs, also when another was
// installed in its place meanwhile. So `go run` and test programs (with Start in
// TestMain) work, and an upgrade comes with a restart of the program.
//
// # Arguments
//
// The exported fields of a worker are its arguments:
//
//	for _, ip := range []string{"10.0.0.1", "10.0.0.2"} {
//		ws = append(ws, manager.Worker{Work: &Listen{IP: ip, Queue: "mail"}, MaxRequests: 1000})
//	}
//
// They go to the process as JSON, so that one that starts a month later has what
// the manager was started with, not what main would read by then. What JSON
// would lose (a channel, a function, an interface, a struct with unexported
// fields such as a *sql.DB) is refused before anything is started, with the name
// of the field: it belongs into an unexported field, filled in Init, or by main
// in each process. So is a value that JSON would change, such as a text that is
// no UTF-8. A field tagged json:"-" is none of the arguments.
//
// Arguments are no place for secrets: they are part of the name.
//
// # Names
//
// A worker's name is used in logs, by workersctl, and by queues that keep a
// worker's unfinished messages for its next process (package redisqueue). So it
// has to be the same after the list was edited, and comes from what the worker
// is, never from its place:
//
//	Worker{Work: MyWork{}}                            MyWork-1
//	Worker{Work: MyWork{}, Name: "Redis Worker"}      Redis Worker-1
//	  the same again                                  Redis Worker-2
//	Worker{Work: &Listen{"10.0.0.1", "mail"}}         Listen@10.0.0.1,mail
//	  the same again                                  Listen@10.0.0.1,mail#2
//	  with Name: "queue-${queue}-on-${ip}"            queue-mail-on-10.0.0.1
//
// The first part is Name, or the name of the type. Arguments that are texts,
// numbers, truth values or times follow in the order of the fields, as parameters
// do in a worker list; of those tagged omitempty only the ones that are set. A
// worker without any gets a number as the origin gave one. Numbers count only
// workers that are the same in name, type and all arguments, so it does not
// matter which of them is which; where two would have one name and are not the
// same, Start refuses them. A function is the same only as the same value: each
// time that a function literal which captures variables is evaluated, or a method
// value, makes another, which needs a Name of its own or, better, is a struct
// whose fields are its arguments.
//
// Parameters are called as the field's JSON name, or QueueName is queue_name;
// package worker's Param reads them, too.
//
// # In a terminal and under systemd
//
// In a terminal the manager's log goes to stderr and what workers print to stdout,
// each line with the worker's name in front:
//
//	=============================
//	Workers Daemon Starting
//	=============================
//	Daemon process 83307
//	Check point 5s
//	Redis Worker-1 83308 created
//	Redis Worker-1 83308 cancelled by reaching max requests count [2]
//	Redis Worker-1 83308 is not existed any more: left with exit 0
//	Redis Worker-1 83309 created
//
// As a service it is Type=notify, with Delegate=yes for limits that the kernel
// enforces and KillMode=mixed; log and output go to the journal. In both
// workersctl shows and steers it.
package manager
