// Package apns sends notifications to the Apple Push Notification service.
//
//	batch -> Client -> connections -> APNs
//	           '<- one Response for each notification
//
// A [Client] is one route: one app's way to one APNs environment with one
// [Credential]. APNs answers each request with accepted or with a [Reason];
// where no answer came, the [Response] says whether the request can have been
// processed ([ErrNotSent]) or whether that is unknown. Accepted never means
// delivered: APNs does not tell.
package apns
