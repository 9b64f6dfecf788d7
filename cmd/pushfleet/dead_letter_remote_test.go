package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/pushfleet/pushfleet/api"
	"github.com/pushfleet/pushfleet/internal/remote"
)

// Letters of several apps come in their order, from however many pages.
func TestLettersOfSeveralAppsComeInOrder(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	pages := map[string]string{
		"/v1/apps?":                                     `{"apps":[{"name":"bank"},{"name":"shop"},{"name":"none"}]}`,
		"/v1/apps/bank/dead-letters?limit=1000":         `{"dead_letters":[{"sequence":2,"app":"bank"},{"sequence":3,"app":"bank"}],"next":3}`,
		"/v1/apps/bank/dead-letters?after=3&limit=1000": `{"dead_letters":[],"next":6}`, // a filter let none pass
		"/v1/apps/bank/dead-letters?after=6&limit=1000": `{"dead_letters":[{"sequence":7,"app":"bank"}]}`,
		"/v1/apps/shop/dead-letters?limit=1000":         `{"dead_letters":[{"sequence":1,"app":"shop"},{"sequence":5,"app":"shop"}],"next":5}`,
		"/v1/apps/shop/dead-letters?after=5&limit=1000": `{"dead_letters":[{"sequence":8,"app":"shop"}]}`,
		"/v1/apps/none/dead-letters?limit=1000":         `{"dead_letters":[]}`,
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		page, ok := pages[r.URL.Path+"?"+r.URL.RawQuery]
		if !ok {
			t.Errorf("got a request for %s", r.URL)
		}
		fmt.Fprint(w, page)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	c, err := remote.New(remote.Config{URL: server.URL, Key: "pf_x"})
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	err = (&remoteLetters{door: &door{c}}).each(t.Context(), new(selection), 0, func(l *api.DeadLetter) error {
		got = append(got, l.Sequence)
		return nil
	})
	if want := []uint64{1, 2, 3, 5, 7, 8}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}
