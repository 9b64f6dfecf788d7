package store

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
)

// The keys of the token set. Nothing else in pushfleet spells them.
//
//	pf:{<app>}:layout         HASH  buckets, layout; split while the buckets double (layout.go)
//	pf:{<app>}:growth         STRING  somebody is at the doubling
//	pf:{<app>:<bucket>}:d     HASH  device token -> record (device.Record)
//	pf:{<app>:<bucket>}:x     HASH  device token -> details (details.go)
//	pf:{<app>:<bucket>}:r     HASH  device token -> replacements not finished (replace.go)
//	pf:{<app>:u<bucket>}:u    HASH  user's key, slot -> generation, device token (index.go)
//	pf:{<app>:u<bucket>}:l    HASH  user's key, slot -> device token too long for :u
//	pf:{<app>:i<bucket>}:i    HASH  the same for installs
//	pf:{<app>:i<bucket>}:l    HASH
//	pf:{<app>:t<tag>:<n>}:t   HASH  device token -> generation (tags.go)
//	pf:{<app>:t<tag>:<n>}:l   HASH  device token too long for :t -> generation
//	pf:{<app>}:tags           HASH  key of a tag of more than one bucket -> growth (tags.go)
//	pf:apikeys                HASH  id of an API key -> what is kept of it (apikeys.go)
//
// and of jobs:
//
//	pf:{j:<app>/<lane>/<id>}:p    HASH    done, by, total, retry_at, attempts, n:<result>, duplicates, keep, told, held, o:<sequence of an outcome>
//	pf:{j:<app>/<lane>/<id>}:s    HASH    recipient's hash -> "m…", "r…" or a sequence (progress_part.lua)
//	pf:{j:<app>/<lane>/<id>}:h    SET     hashes of recipients whose rejection was taken back (progress_hold.lua)
//	pf:guard:<app>/<lane>/<id>    STRING  place in JOBS of the message that has the id
//
//	pf:{counts}:n                 HASH    accepted:<app>, failed:<app> -> notifications (counts.go)
//	pf:{counts}:<hour>:<block>    SET     messages of OUTCOMES that are in them
//
// and of campaigns:
//
//	pf:{c:<app>/<campaign>/<group>}:n            HASH    n:<label>, ranges, matched, devices, duplicates: of all its ranges
//	pf:{c:<app>/<campaign>/<group>}:<range>:p    HASH    as of a job, and devices
//	pf:{c:<app>/<campaign>/<group>}:<range>:s    HASH    as of a job; what was rejected has the label after the sequence
//	pf:{c:<app>/<campaign>/<group>}:<range>:h    SET     as of a job
//	pf:{c:<app>/<campaign>/<group>}:<range>:g    STRING  place in JOBS of the message of the range
//	pf:{c:<app>/<campaign>}:pace                 STRING  microseconds since the epoch, permits taken then (pace.lua)
//	pf:{<app>:f<bucket>}:c                       HASH    kind and who, hashed -> campaigns and times (caps.lua)
//	pf:work:<name>                               STRING  who is at it (claim.lua)
//
// Device tokens are raw bytes. <campaign> is its id, or a hash of it (campaignKey),
// and <group> the range's number by rangesTogether: ranges of a group share a slot of
// a cluster, so that one script may write their progress and their totals. <tag> is the tag's key in base64. <bucket> is a number below the app's bucket
// count, or below indexSplit times that for users and installs; device tokens of more than shortToken bytes are in buckets of their
// own, with an L before the number. What is in braces is Redis Cluster's hash
// tag: the keys of one bucket live together, so that one script may write them,
// and buckets spread over the cluster.
//
// In :d, :u and :i the field "" is the bucket's mark, once the app's buckets have
// doubled: see layout.go.
//
// A removed or quarantined device token stays where it is, with a record that
// says so: one read tells live from removed from unknown, a removal is one
// write, and an undo is another.

// shortToken is the longest device token, in bytes, that shares buckets with
// others: Redis keeps a hash as a listpack, at half the memory, only while no
// field and no value exceeds hash-max-listpack-value (64). In the indexes four
// bytes of generation precede it.
const shortToken = 60

// indexSplit is how many buckets an index has for each bucket of device tokens.
//
// choice: an entry is longer and is looked for more often, also in vain, and a
// listpack is searched from its start; with as many buckets, a registration with
// user and install took five times as long. The cost is two bytes a device.
const indexSplit = 4

// bucket is the place of a device token: a number, and whether it is one of
// those for long device tokens.
type bucket uint32

const longBucket bucket = 1 << 31

// maxBuckets is the largest bucket count.
const maxBuckets = 1 << 24

// key spells the key of b that ends in kind: d, x or r.
func (l *layout) key(b bucket, kind byte) string {
	return string(l.appendKey(make([]byte, 0, 32), b, kind))
}

func (l *layout) appendKey(dst []byte, b bucket, kind byte) []byte {
	if b&longBucket != 0 {
		return l.spell(dst, 'L', uint32(b&^longBucket), kind)
	}
	return l.spell(dst, 0, uint32(b), kind)
}

// slotKeys are the keys of bucket n of an index: slots, and the long device
// tokens of them.
func (l *layout) slotKeys(ix index, n uint32) (slots, long string) {
	return string(l.spell(nil, byte(ix), n, byte(ix))), string(l.spell(nil, byte(ix), n, 'l'))
}

func (l *layout) spell(dst []byte, mark byte, n uint32, kind byte) []byte {
	dst = append(dst, "pf:{"...)
	dst = append(dst, l.app...)
	dst = append(dst, ':')
	if mark != 0 {
		dst = append(dst, mark)
	}
	dst = strconv.AppendUint(dst, uint64(n), 10)
	return append(dst, '}', ':', kind)
}

// countsKey is where the notifications of all apps are counted.
const countsKey = "pf:{counts}:n"

// apiKeysKey is where the API keys of the whole fleet are kept.
const apiKeysKey = "pf:apikeys"

// layoutKey is where the layout of an app is kept.
func layoutKey(app string) string { return "pf:{" + app + "}:layout" }

// doublingKey says that somebody is at the doubling of an app's buckets.
func doublingKey(app string) string { return "pf:{" + app + "}:growth" }

// index is one of the indexes that lead to device tokens.
type index byte

const (
	userIndex    index = 'u'
	installIndex index = 'i'
)

// tagKeys are the keys of the nth bucket of a tag.
func tagKeys(id tagID, n uint32) (short, long string) {
	b := make([]byte, 0, 64)
	b = append(b, "pf:{"...)
	b = append(b, id.app...)
	b = append(b, ":t"...)
	b = base64.RawURLEncoding.AppendEncode(b, id.key[:])
	b = append(b, ':')
	b = strconv.AppendUint(b, uint64(n), 10)
	b = append(b, "}:"...)
	short = string(append(b, 't'))
	return short, short[:len(short)-1] + "l"
}

// growthKey is where the growth of an app's tags is kept.
func growthKey(app string) string { return "pf:{" + app + "}:tags" }

// rangesTogether is how many ranges of a campaign share a hash of totals.
//
// choice: a campaign of a million devices is then a handful of hashes to add up, and
// one of a hundred million still spreads over a whole cluster.
const rangesTogether = 256

// campaignKey stands for a campaign's id in keys: the id itself, or a hash of it
// behind a mark that no such id has, where it holds what keys must not.
func campaignKey(id string) string {
	if len(id) <= 64 && validApp(id) {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "#" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// groupKey begins the keys of a group of a campaign's ranges.
func groupKey(app, campaign string, group int) string {
	return "pf:{c:" + app + "/" + campaignKey(campaign) + "/" + strconv.Itoa(group) + "}:"
}

// rangeKey is the key of a range that ends in kind.
func rangeKey(app, campaign string, n int, kind string) string {
	return groupKey(app, campaign, n/rangesTogether) + strconv.Itoa(n) + ":" + kind
}

// totalsKey is where a group of a campaign's ranges is counted.
func totalsKey(app, campaign string, group int) string { return groupKey(app, campaign, group) + "n" }

// paceKey is where the pace of a campaign is kept.
func paceKey(app, campaign string) string {
	return "pf:{c:" + app + "/" + campaignKey(campaign) + "}:pace"
}

// capsKey is where a bucket of frequency caps is kept.
func capsKey(app string, bucket uint32) string {
	return "pf:{" + app + ":f" + strconv.FormatUint(uint64(bucket), 10) + "}:c"
}

// workKey says who is at some work.
func workKey(name string) string { return "pf:work:" + name }

func (k JobKey) key(kind string) string {
	if k.isRange() {
		return rangeKey(k.App, k.Campaign, k.Range, kind)
	}
	return "pf:{j:" + k.String() + "}:" + kind
}

// progressKeys are those that scripts take: of the progress, of the recipients that
// are settled, of those held, and of a range's totals.
func progressKeys(k JobKey) []string {
	if k.isRange() {
		return []string{k.key("p"), k.key("s"), k.key("h"), totalsKey(k.App, k.Campaign, k.Range/rangesTogether)}
	}
	b := make([]byte, 0, 256) // most often on the stack
	for _, kind := range [...]byte{'p', 's', 'h'} {
		b = append(b, "pf:{j:"...)
		b = append(append(b, k.App...), '/')
		b = append(append(b, k.Lane.String()...), '/')
		b = append(append(b, k.ID...), '}', ':', kind)
	}
	all, n := string(b), len(b)/3
	return []string{all[:n], all[n : 2*n], all[2*n:]}
}

func guardKey(c *Claim) string {
	if c.Campaign != "" {
		return rangeKey(c.App, c.Campaign, c.Range, "g")
	}
	return "pf:guard:" + c.App + "/" + c.Lane.String() + "/" + c.ID
}
