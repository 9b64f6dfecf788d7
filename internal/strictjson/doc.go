// Package strictjson reads a JSON document in one pass and tells everything that
// is wrong with it at once, each with its path, and never with what it holds: an
// error goes into logs and answers, a device token does not.
//
//	d := strictjson.New(data)
//	table.Read(d, &v)          // an [Object]: the members there are, and how each is read
//	d.End()                    // nothing follows
//	problems, more := d.List() // by then all of them, up to the first syntax error
//
// It does no I/O. A [Decoder] is for one goroutine; tables may be shared.
package strictjson
