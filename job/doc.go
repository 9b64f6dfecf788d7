// Package job is the contract between those who ask for notifications and the
// fleet that sends them: what a job is, what is wrong with one, how it travels,
// and how what became of it is told. It reads no clock, opens nothing and logs
// nothing.
//
// A job is the request to send one notification to one or many devices:
//
//	{
//	  "id": "order-4711-shipped",
//	  "to": {"tokens": ["00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"]},
//	  "notification": {"title": "Shipped", "body": "Order 4711 is on its way", "badge": 1, "sound": "default"},
//	  "data": {"order": 4711},
//	  "collapse_id": "order-4711",
//	  "ttl": "4h"
//	}
//
// The way of a job through this package:
//
//	producer   Job{…} -> Validate -> AppendJSON or AppendCompact -> [JOBS]
//	worker     [JOBS] -> Parse -> Topic, Kind, EffectivePriority, Expiration,
//	           RenderPayload, APNsIDs -> APNs
//	           Outcomes -> Split -> AppendJSON -> [OUTCOMES]
//	recorder   [OUTCOMES] -> ParseOutcomes
//
// # What is wrong is said at once
//
// [Parse] and [Job.Validate] return an [*Invalid] that lists every problem with
// its JSON path, and never holds a device token or payload content. Both work
// from one table for each type of JSON object, from which [Schema] is made too.
//
// # What is left out is derived
//
// A job mostly need not say its push type, see [Job.EffectivePushType]; topic,
// kind of device token, priority and payload limit follow from it, by the one
// table in pushtype.go.
//
// # Identity
//
// [APNsID] names a notification: the same at every try, so that the app or a
// collapse id can tell a repetition. [RecipientHash] is how the progress of a
// half-sent job remembers a device token.
//
// # The wire format
//
// It only grows. The files in testdata were once written and must decode for
// ever; [ParseOutcomes] ignores what it does not know, while [Parse] refuses it,
// because an unknown field of a job is a caller's mistake.
package job
