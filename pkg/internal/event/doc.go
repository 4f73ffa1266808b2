// Package event is the one record of what happened to a worker.
//
// Only the supervisor makes records. The log, the journal, the history, the
// metrics and the control socket are readers of the same value, so that the
// word for one thing is the same word everywhere.
package event
