package remote_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pushfleet/pushfleet/internal/remote"
)

// streams is a server of streams of events, one after the other.
type streams struct{ list []io.Reader }

func (s *streams) RoundTrip(r *http.Request) (*http.Response, error) {
	if len(s.list) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	body := s.list[0]
	s.list = s.list[1:]
	closer, ok := body.(io.ReadCloser)
	if !ok {
		closer = io.NopCloser(body)
	} else if r.Context().Done() != nil {
		go func() { // as a connection ends with its request
			<-r.Context().Done()
			_ = closer.Close()
		}()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: closer, Request: r}, nil
}

// Events come one by one, and a stream that breaks off or falls silent is begun again.
func TestFollow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		silent, hold := io.Pipe()
		defer hold.Close()
		go func() { _, _ = io.WriteString(hold, ": still here\n\n") }()
		server := &streams{[]io.Reader{
			strings.NewReader(": hello\n\nevent: fleet\ndata: {\"n\":1}\n\nevent: other\ndata: a\ndata: b\n\ndata: cut o"),
			silent,
			strings.NewReader("event:fleet\r\ndata:last\r\n\r\n"),
		}}
		enough := errors.New("enough")
		var got []string
		began := time.Now()
		err := client(t, server).Follow(t.Context(), &remote.Call{Method: http.MethodGet, Path: []string{"v1", "events"}}, func(event string, data []byte) error {
			got = append(got, event+"="+string(data))
			if string(data) == "last" {
				return enough
			}
			return nil
		})
		if want := []string{`fleet={"n":1}`, "other=a\nb", "fleet=last"}; !errors.Is(err, enough) || !slices.Equal(got, want) {
			t.Errorf("got %v, %q, want %q", err, got, want)
		}
		if took := time.Since(began); took < 30*time.Second || took > 35*time.Second {
			t.Errorf("took %s, want the 30s of silence", took)
		}
	})
}

func TestFollowGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nothing := func(string, []byte) error { return nil }
		call := &remote.Call{Method: http.MethodGet, Path: []string{"v1", "events"}}
		if err := client(t, &streams{}).Follow(t.Context(), call, nothing); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("nobody there: got %v, want it said", err)
		}
		if err := client(t, &answers{list: []answer{problem(403, "missing_scope", "")}}).Follow(t.Context(), call, nothing); !remote.Is(err, "missing_scope") {
			t.Errorf("refused: got %v, want missing_scope", err)
		}
	})
}
