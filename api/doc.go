// Package api is the HTTP door to the fleet: to its token set, its queue and its campaigns.
//
//	request -> key (keyring) -> rate, app, scope -> body (decode) -> handler -> store
//	                                                  PUT device -> registrar -> store, many at a time
//	                                                  POST notifications -> room -> JetStream
//	                                                  GET notifications -> store -> OUTCOMES and JOBS, by place
//
// What it promises:
//   - A registration is answered with 200 only when Redis has it. Every call may be
//     repeated, and after a 503 must be: it may have been carried out or not.
//   - A job is answered with 202 only when JetStream has it. It waits in no queue here:
//     beyond a bound of jobs that wait for JetStream's answer, requests are refused.
//   - What became of a job is kept nowhere but in OUTCOMES. Redis counts it, and knows
//     the places: so an answer is a few reads, however much there is.
//   - What is wrong with a request is said at once, every problem with its JSON
//     path, in a problem document (RFC 9457). Unknown members are refused.
//   - No answer to a mistake, log line or metric holds a device token or a key.
//   - A revoked key is refused within [KeyAge], also while Redis is down.
//   - routes.go, with routes_operators.go, is the one list of routes: the handlers, the metrics and the OpenAPI
//     document at /openapi.json are made from it. Beside it there is only the dashboard's
//     page (package web), which needs no key: it holds nothing, and asks these routes.
//
// Keys are made by [NewKey], kept by package store as a hash, and limited to
// scopes and apps.
package api
