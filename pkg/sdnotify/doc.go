// Package sdnotify is the notify protocol between a worker and its manager.
//
// The protocol is that of sd_notify(3) with a few words of workersd's own, so
// that a worker runs unchanged under systemd, which ignores them:
//
//	READY=1                      the worker is up
//	STATUS=text                  what it is doing, for a person
//	STOPPING=1                   it leaves by itself
//	WATCHDOG=1, WATCHDOG=trigger it is alive; it wants to be replaced
//	EXTEND_TIMEOUT_USEC=n        it needs n microseconds more for its start or stop
//	MAINPID=n                    another process of its tree is the main one
//	BARRIER=1                    with one descriptor, closed when all before was handled
//	MONOTONIC_USEC=n             CLOCK_MONOTONIC when the message was made
//	X_WORKERSD_BEGIN=id          an execution begins
//	X_WORKERSD_END=id            it ended
//	X_WORKERSD_RESULT=ok         beside END: ok, fail, or skip (not counted)
//	X_WORKERSD_COUNT=n           executions this process has counted so far
//
// A message is one datagram of one or more assignments, one on a line. Where
// there are no datagrams, the lines are written to a pipe.
package sdnotify
