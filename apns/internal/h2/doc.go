// Package h2 is an HTTP/2 client made for APNs: one connection that sends
// batches of small requests and tells what became of each.
//
//	Owner's queue --Take--> writer: encode -> buffer -> TLS -> Wire -> network
//	                          |  streams, windows, limits, control frames (mu)
//	Batch.Done <----tell---- reader: decode <- buffer <- TLS <- Wire <- network
//
// A connection has one goroutine that writes and one that reads, none per
// request, and no timer: its owner calls [Conn.Tick]. The writer pulls work from
// its owner as far as the peer's limits allow, so nothing queues in here, and
// encodes HEADERS and DATA of many requests into one buffer, which goes out with
// one write. The reader tells results in runs, without a lock. It never writes:
// what the peer is owed is queued for the writer.
//
// Every request ends in exactly one [Batch] Done: with an answer, or with an
// error that says whether the peer can have acted on it.
//
// Files: conn (life of a connection), writer, reader and answer (the two loops),
// streams (who waits for what), limits and flow (what the peer allows), control
// and ping (frames besides requests), hpack_* (header blocks), wire (below TLS).
package h2
