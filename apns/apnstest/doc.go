// Package apnstest is a simulator of Apple's push notification service (APNs)
// for tests, usable like httptest.Server:
//
//	srv, err := apnstest.New(apnstest.Config{})
//	if err != nil {
//		t.Fatal(err)
//	}
//	defer srv.Close()
//	// Send to srv.URL(), trusting srv.CAPool(), with the key srv.KeyPEM(),
//	// srv.KeyID() and srv.TeamID(). Then:
//	srv.Ledger(apnstest.Filter{DeviceToken: token}) // what arrived
//	srv.Stats()                                      // and how many
//
// It speaks HTTP/2 frame by frame, so it can behave as APNs does and as no HTTP
// server in Go will: one stream until a valid provider token has come and 1000
// afterwards, stream limits that change at any time, GOAWAY with any
// last-stream-id and debug data, windows that stay shut, connections that fall
// silent. It judges requests in the order of checks that its documentation and
// public clients suggest, and answers with APNs's statuses and reasons. Where
// Apple says nothing, the code says "choice".
//
// # What device tokens are
//
// Every well-formed device token is accepted at first. [Config] can make shares
// of them dead, bad or of another topic, picked by a hash ([Shares.Fate]), so
// that millions need no list; [Server.SetDevice] sets one by one.
//
// # Where its files are
//
// A client needs the authority's certificate and a key: [Server.WriteFiles]
// writes ca.pem and AuthKey_<key id>.p8. With [Config.Dir] they are kept there,
// and a server started again with the same directory has the same identity.
// The configuration of an app of a pushfleet worker is then
//
//	environment: production
//	key: {path: dir/AuthKey_<key id>.p8, key_id: <key id>, team_id: <team id>}
//	endpoint: {url: <Server.URL>, ca_file: dir/ca.pem}
//
// # What it remembers
//
// The ledger ([LedgerMode]) is one of three. Full keeps each request as a
// [Record] and what each app on each device has as a [Slot]: one notification
// waits while a device is offline, a collapse id replaces. Hash keeps sums that
// do not depend on order ([Sums]); a client that adds up the same over what it
// sent knows that nothing was lost, doubled or changed, at some 26 bytes per
// notification for finding duplicates. Off only counts. [Stats] counts in all of
// them: duplicates are pairs of device token and apns-id that were accepted
// twice, and the hold time is from having read a request to having written its
// answer. Accepted is what was decided; a client may not know of it: what it was
// not told of is in AnswersLost and AnsweredLate, per connection in
// [Server.Connections].
//
// # What can go wrong
//
// [Faults] are set with [Config] or at any time with [Server.SetFaults]; rules
// for requests and connections match by number, token, topic, time and seeded
// probability, and each time that one acts there is an [Event]. [Server.Do] does
// an [Action] at once.
//
//	srv.SetFaults(apnstest.Faults{
//		Latency: apnstest.Latency{Median: apnstest.Duration(20 * time.Millisecond), Sigma: 0.4},
//		Requests: []apnstest.RequestFault{{
//			Match: apnstest.Match{Every: 1000, Times: 1},
//			Do:    &apnstest.Action{GoAway: &apnstest.GoAway{Reason: "Shutdown", Back: 50}},
//		}},
//	})
//
// [Server.Admin] is all of this as HTTP and JSON, for a simulator that runs as a
// process of its own (pushfleet sim).
//
// # What it is not
//
// Nothing leaves the machine, and nothing is delivered to anything. Its checks
// come in one order; Apple does not publish theirs, so a client must not rely on
// which of two mistakes is named.
package apnstest
