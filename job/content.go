package job

import (
	"strings"

	"github.com/pushfleet/pushfleet/internal/strictjson"
)

// contentObject is what of a job says what is sent, not to whom nor when.
var contentObject = jobObject.without("id").without("to").without("send_after")

// ContentMembers returns the members of a job that say what is sent, not to whom
// nor when: for documents that hold a message beside other things of their own.
// What lies between the members is for [Job.CheckContent].
func ContentMembers() strictjson.Object[Job] {
	members := make(strictjson.Object[Job], len(contentObject.fields))
	for i := range contentObject.fields {
		f := &contentObject.fields[i]
		members[i] = strictjson.Member[Job]{
			Name: f.name, Required: f.required, Read: f.decode,
			Doc: f.doc, Schema: f.schema, Set: f.set, Append: f.encode,
		}
	}
	return members
}

// ContentSchema returns the keywords of a JSON Schema that say what lies between
// the members of [ContentMembers].
func ContentSchema() string { return strings.Join(contentObject.describeRules(), ",") }

// CheckContent notes what is wrong between the members of [ContentMembers], which
// stand at the document's root and have been read. It does not look at the size of
// what is sent.
func (j *Job) CheckContent(c *strictjson.Problems) {
	present := contentObject.present(j)
	for i, name := range contentObject.names {
		if c.Bad(name) { // it is there, but could not be read
			present |= 1 << i
		}
	}
	contentObject.complete(c, present)
	j.contentRules(c)
}

// Override returns the notification with the members that over has in the place
// of its own.
func (n *Notification) Override(over *Notification) (*Notification, error) {
	theirs := notificationObject.present(over)
	both := []byte{'{'}
	for i := range notificationObject.fields {
		f, from := &notificationObject.fields[i], n
		if theirs&(1<<i) != 0 {
			from = over
		}
		if f.set(from) {
			both = f.encode(append(comma(both, len("{")), f.key...), from)
		}
	}
	out := new(Notification)
	return out, out.UnmarshalJSON(append(both, '}'))
}
