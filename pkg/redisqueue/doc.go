// Package redisqueue is a worker that takes its messages from a Redis list.
//
//	func main() {
//		worker.Main(redisqueue.Reliable(redisqueue.Options{
//			Queue:  "mail",
//			Handle: func(ctx context.Context, message string) error { … },
//		}))
//	}
//
// Producers LPUSH, workers take from the right: first in, first out, but for what
// is tried again (see [Later]). A message is any bytes. The execution begins when
// a message is there, so that waiting counts neither as work nor towards the
// timeout.
//
// # Simple
//
// Simple takes a message with BRPOP. One whose worker dies, or whose Handle
// fails, is gone. What it costs: one round trip.
//
// # Reliable
//
// Reliable moves a message with BLMOVE into the worker's own in-flight list, and
// removes it with LREM when it is done. The list is named by the worker's name
// ("mail:inflight:queue@10.0.0.1,mail"), which stays the same over restarts and
// edits of the worker list; a new process does first what it finds there. So no
// message is lost, and one is done twice only when its process ends between the
// end of the work and the removal, because it is killed or because it leaves
// while Redis is gone: let Handle be able to bear that.
//
// Keys, for a queue called mail and a worker called W:
//
//	mail                    list: waiting
//	mail:inflight:W         list: being done by W
//	mail:inflight:W:tries   hash: tries begun and the last error, per message
//	mail:dead               list: given up, as JSON (see [Dead])
//
// The number of tries is raised before the work begins, so that a message which
// kills its process is counted too. After MaxTries of them it goes to the dead
// list with the reason.
//
// Two processes must not share a name, or each would do the other's messages
// again: leave the entry's overlap at "none". When a worker is taken out of the
// list for good while it had messages in flight, bring them back with
//
//	redis-cli LMOVE mail:inflight:W mail LEFT RIGHT
//
// The URL names one server, and the client follows no other: no MOVED of a Redis
// Cluster, no new master of Sentinel. In a cluster it works with the node that has
// the queue, whose name stands in braces ("{mail}") so that its other keys are
// there too, for as long as they stay there; then the worker tells what it is
// answered, and asks on.
//
// # When Redis is gone
//
// Workers wait, asking again after 100 ms to 5 s, and go on when it is back. They
// do not exit, so there is no crash loop; nothing is counted as failed; their
// status says what they wait for, and the log says it once (the lines that
// go-redis logs at each attempt are turned off, for the whole program). So they do
// where Redis answers with an error, such as NOAUTH, WRONGTYPE or MOVED: that is
// told as it was answered, and not as a server that is gone.
//
// Work that was done meanwhile is removed from the in-flight list first when Redis
// is back. A process that is to leave waits up to 8 s for that; if Redis stays
// away longer, the message is done twice.
package redisqueue
