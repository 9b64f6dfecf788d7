package store

import (
	"context"
	"strings"

	"github.com/redis/go-redis/v9"
)

// hashesAtOnce is how many hashes are asked for in one pipeline: a few thousand
// device tokens.
const hashesAtOnce = 64

// readHashes reads whole hashes, and calls add for each field of the nth of keys.
// A hash comes as it was at one moment.
//
// choice: replies are taken as they come over the wire, and fields are parts of
// one string for each hash. Made into strings one by one, or into a map, they
// take longer than all the rest of a scan. HGETALL rather than HSCAN, since Redis
// copies every field twice for that; buckets are small enough to be read at once.
// While one pipeline is taken apart Redis answers the next one.
func (s *Store) readHashes(ctx context.Context, keys []string, add func(n int, field, value string)) error {
	type answer struct {
		replies []*redis.RawCmd
		err     error
	}
	ask := func(part []string) <-chan answer {
		answers := make(chan answer, 1)
		go func() {
			replies, err := s.askHashes(ctx, part)
			answers <- answer{replies, err}
		}()
		return answers
	}
	if len(keys) <= hashesAtOnce {
		replies, err := s.askHashes(ctx, keys)
		if err != nil {
			return err
		}
		return s.takeHashes(ctx, keys, replies, add)
	}
	next := ask(keys[:hashesAtOnce])
	for from := 0; from < len(keys); from += hashesAtOnce {
		to := min(from+hashesAtOnce, len(keys))
		got := <-next
		if next = nil; got.err == nil && to < len(keys) {
			next = ask(keys[to:min(to+hashesAtOnce, len(keys))])
		}
		err := got.err
		if err == nil {
			err = s.takeHashes(ctx, keys[from:to], got.replies, func(n int, field, value string) { add(from+n, field, value) })
		}
		if err != nil {
			if next != nil {
				<-next
			}
			return err
		}
	}
	return nil
}

// askHashes reads hashes in one pipeline.
func (s *Store) askHashes(ctx context.Context, keys []string) ([]*redis.RawCmd, error) {
	cmds := make([]*redis.RawCmd, len(keys))
	queue := make([]redis.Cmder, len(keys))
	for i, key := range keys {
		cmds[i] = redis.NewRawCmd(ctx, "hgetall", key)
		queue[i] = once{cmds[i]}
	}
	return cmds, s.send(ctx, queue)
}

// takeHashes takes replies apart.
func (s *Store) takeHashes(
	ctx context.Context, keys []string, replies []*redis.RawCmd, add func(n int, field, value string),
) error {
	again := s.client.Pipeline()
	refused := make(map[int]*redis.MapStringStringCmd)
	for i, cmd := range replies {
		reply := string(cmd.Val())
		if strings.HasPrefix(reply, "-") {
			// It may say that the slot is on another node now, which the client would
			// have understood if it had read the reply itself.
			refused[i] = again.HGetAll(ctx, keys[i])
			continue
		}
		if !eachField(reply, func(field, value string) { add(i, field, value) }) {
			return errReply
		}
	}
	if len(refused) == 0 {
		return nil
	}
	if err := s.exec(ctx, again); err != nil {
		return err
	}
	for i, cmd := range refused {
		for field, value := range cmd.Val() {
			add(i, field, value)
		}
	}
	return nil
}

// eachField calls add for each field in a reply to HGETALL: a map, or with the
// older protocol an array, of bulk strings. It reports whether it was one.
func eachField(reply string, add func(field, value string)) bool {
	if reply == "" {
		return false
	}
	kind := reply[0]
	n, reply, ok := lengthOf(reply)
	if !ok || kind != '%' && kind != '*' || kind == '*' && n%2 != 0 {
		return false
	}
	if kind == '*' {
		n /= 2
	}
	for range n {
		var field, value string
		if field, reply, ok = bulk(reply); !ok {
			return false
		}
		if value, reply, ok = bulk(reply); !ok {
			return false
		}
		add(field, value)
	}
	return reply == ""
}

// bulk takes a bulk string off a reply.
func bulk(reply string) (text, rest string, ok bool) {
	if !strings.HasPrefix(reply, "$") {
		return "", "", false
	}
	n, rest, ok := lengthOf(reply)
	if !ok || len(rest)-2 < n || rest[n:n+2] != "\r\n" {
		return "", "", false
	}
	return rest[:n], rest[n+2:], true
}

// lengthOf reads the number in the first line of a reply, after the mark of its
// kind.
func lengthOf(reply string) (n int, rest string, ok bool) {
	for i := 1; i < len(reply) && i < 11; i++ {
		c := reply[i]
		if c == '\r' {
			return n, strings.TrimPrefix(reply[i:], "\r\n"), i > 1 && strings.HasPrefix(reply[i:], "\r\n")
		}
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return 0, "", false
}
