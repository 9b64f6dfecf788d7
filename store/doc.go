// Package store keeps the token set in Redis: which device tokens an app has,
// whose they are, and what APNs said about them.
//
//	Register ──> record ──> user's and install's slots ──> older device token removed
//	Lookup, ByUsers, ByInstalls <── record
//	Apply (what APNs answered) ──> record
//
// What it promises:
//   - The record of a device token, one field of one hash, is the truth. Users'
//     and installs' slots only lead to records, and whoever follows them is told
//     only of records that still name that user or install.
//   - A device token is removed only if it was not registered again since: a 410
//     is compared with the time of the registration and with its generation, in
//     the same script that writes.
//   - BadDeviceToken and DeviceTokenNotForTopic only quarantine: they may be our
//     mistake.
//   - Replacing a device token is several steps, since Redis Cluster has no script
//     over two buckets. A reader finds the new one, or both, but never neither,
//     and the old one goes whatever crashes: see [Store.Register] and [Store.Sweep].
//   - The buckets of an app double under a running fleet ([Store.Grow]). Meanwhile
//     what is registered is found and scanned as ever, and who goes by an older
//     layout, however long it was frozen, writes nothing where nobody looks.
//   - Doing anything twice does no harm, so a caller that is not sure repeats.
//   - No error holds a device token.
//   - What Redis could not take for a moment is sent again for two seconds
//     (send.go). What takes longer is an error that names the cause: docs/redis.md
//     has the cases.
//
// keys.go has the table of keys. Each script is one file in lua.
//
// Redis must be 7.0 or newer (or Valkey) and must not evict keys: [Store.Check].
package store
