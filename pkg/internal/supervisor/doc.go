// Package supervisor is the loop in which one goroutine owns all workers.
//
// Everything that happens comes in by one of three ways: an answer of the host,
// a command, or the one timer. Each becomes events of package lifecycle; the
// actions that Step returns become orders to the host, records, or questions to
// admission. Nothing in the loop waits for anything else.
package supervisor
