// Package feedback carries what became of notifications back to the token set.
//
//	worker -> Publisher -> OUTCOMES -> Recorder -> token set, progress of jobs
//
// [Publisher] stores outcomes in JetStream, coalesced over a few milliseconds,
// and tells the worker when they are stored: only then may a job be
// acknowledged. [Recorder] applies them to Redis. Several recorders share the
// work, one in each worker process; each outcome takes effect once, however
// often it is applied. [Sweeper] heals what a crash left half done in the token
// set, and lets it grow.
package feedback
