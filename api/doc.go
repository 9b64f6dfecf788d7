// Package api is the HTTP door to the fleet: so far to its token set.
//
//	request -> key (keyring) -> rate, app, scope -> body (decode) -> handler -> store
//	                                                  PUT device -> registrar -> store, many at a time
//
// What it promises:
//   - A registration is answered with 200 only when Redis has it. Every call may be
//     repeated, and after a 503 must be: it may have been carried out or not.
//   - What is wrong with a request is said at once, every problem with its JSON
//     path, in a problem document (RFC 9457). Unknown members are refused.
//   - No answer to a mistake, log line or metric holds a device token or a key.
//   - A revoked key is refused within [KeyAge], also while Redis is down.
//   - routes.go is the one list of routes: the handlers, the metrics and the OpenAPI
//     document at /openapi.json are made from it.
//
// Keys are made by [NewKey], kept by package store as a hash, and limited to
// scopes and apps.
package api
