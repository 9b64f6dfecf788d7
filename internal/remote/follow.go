package remote

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// silence is how long a stream of events may say nothing: the server says at least every
// 10 s that it is still there.
const silence = 30 * time.Second

// maxEvent bounds a line of events, in bytes. choice: a fleet of thousands of workers.
const maxEvent = 16 << 20

// Follow calls do with each event of a stream of server-sent events (WHATWG HTML, 9.2),
// until that returns an error, which it returns, or ctx ends. A stream that breaks off is
// begun again, as calls are made again.
func (c *Client) Follow(ctx context.Context, call *Call, do func(event string, data []byte) error) error {
	r := newRetries()
	for {
		var stop error
		err := c.listen(ctx, call, func(event string, data []byte) error {
			r = newRetries()
			stop = do(event, data)
			return stop
		})
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case stop != nil:
			return stop
		case !r.again(ctx, err, true):
			return err
		}
	}
}

// listen follows one stream. It never returns nil.
func (c *Client) listen(ctx context.Context, call *Call, do func(event string, data []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing was said for %s", silence)) })
	defer quiet.Stop()
	resp, err := c.send(ctx, call, nil, "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxEvent)) // what there is of it
		return c.refused(resp, text)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEvent)
	var event string
	var data []byte
	for lines.Scan() {
		quiet.Reset(silence)
		name, value, _ := bytes.Cut(lines.Bytes(), []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch {
		case len(lines.Bytes()) == 0:
			if len(data) > 0 {
				if err := do(event, data); err != nil {
					return err
				}
			}
			event, data = "", nil
		case string(name) == "event":
			event = string(value)
		case string(name) == "data":
			if len(data) > 0 {
				data = append(data, '\n')
			}
			data = append(data, value...)
		}
	}
	err = lines.Err()
	if err == nil {
		err = errors.New("the stream of events ended")
	}
	return &unanswered{host: c.base.Host, cause: cause(ctx, err)}
}
