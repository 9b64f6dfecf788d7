// Package remote calls pushfleet's HTTP API, for commands that have no access to NATS and
// Redis.
//
//	command -> Client.Do -> one try -> answer, or problem document -> *Error
//	               ▲           │
//	               └── later ──┘   429, 503, no answer: where that does no harm
//
// What it promises:
//   - The API key goes to the server that was named and nowhere else: no redirect is
//     followed, and plain HTTP is refused to other machines unless that is asked for.
//   - No error holds the key, or the path of a request: there are device tokens in it.
//   - A request is repeated only if it was not carried out, or may be carried out twice
//     ([Call.Repeatable]); after what the server says (Retry-After), and not for ever.
package remote
