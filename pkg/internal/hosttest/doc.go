// Package hosttest is a machine in memory, which workers of tests live on.
//
// It satisfies supervisor.Host, and it checks what it is asked: an order that
// the contract does not allow fails the test that gave it. What a worker does
// is written down before it starts (Behaviour) or told to it while it lives
// (Process). One goroutine makes everything happen, in the order of its time,
// and each order takes a little while: inside a testing/synctest bubble the
// same test therefore runs the same way each time.
package hosttest
