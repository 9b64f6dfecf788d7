// Package worker takes jobs from JetStream, sends them to APNs and settles them.
//
//	intake -> identify -> resolve -> decide -> send -> settle
//	  |         |           |          |         |       |
//	JOBS    guard, progress token set  expiry   APNs   OUTCOMES, then ack
//
// The promise: a message is acknowledged only after what became of each of its
// recipients is stored in OUTCOMES. What must be tried later is the same
// message, handed back with a delay; its progress remembers which recipients are
// settled. A worker that dies at any point loses nothing, and repeats at most
// what APNs had not answered and what was answered in the last moments.
//
// Apps come and go while a worker runs: see [Worker.Apply].
//
// [Policy] is the one table that says what an answer means. Workers are
// identical and share nothing but JetStream and Redis.
package worker
