// Package stream is the only place that knows how pushfleet uses JetStream: it
// spells every stream, subject, durable, bucket and header name, makes them
// exist, and publishes and fetches what goes through them.
//
//	producer, api -> JOBS -> worker -> OUTCOMES -> feedback
//	                           '-----> DEAD
//
// JOBS is a work queue without limits: a message stays until a worker has
// acknowledged it, however often it is redelivered. OUTCOMES keeps what became
// of notifications for a week, for any number of readers. DEAD keeps what was
// given up until somebody purges it. Both refuse new messages when they are
// full, so that nothing old is lost silently; who publishes is told. WEBHOOKS, a work
// queue as well, holds POSTs to webhooks until a receiver has taken them.
package stream
