package apnstest_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

// A test sends something and looks at what arrived.
func ExampleNew() {
	srv, err := apnstest.New(apnstest.Config{})
	if err != nil {
		panic(err)
	}
	defer srv.Close()
	client := srv.Client()
	defer client.CloseIdleConnections()

	const deviceToken = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9"
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, srv.URL()+"/3/device/"+deviceToken, strings.NewReader(`{"aps":{"alert":"Hello"}}`))
	if err != nil {
		panic(err)
	}
	req.Header.Set("authorization", "bearer "+srv.ProviderToken(time.Now()))
	req.Header.Set("apns-topic", "com.example.app")
	req.Header.Set("apns-push-type", "alert")
	resp, err := client.Do(req)
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	for _, rec := range srv.Ledger(apnstest.Filter{DeviceToken: deviceToken}) {
		fmt.Println(rec.Topic, rec.Body)
	}
	// Output:
	// 200 OK
	// com.example.app {"aps":{"alert":"Hello"}}
}

// A device that is gone is answered 410, with the time since when.
func ExampleServer_SetDevice() {
	srv, err := apnstest.New(apnstest.Config{})
	if err != nil {
		panic(err)
	}
	defer srv.Close()
	gone := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := srv.SetDevice("0a1b2c", apnstest.Device{DeadSince: &gone}); err != nil {
		panic(err)
	}
	fmt.Println(srv.Fate("0a1b2c"), srv.Fate("0a1b2d"))
	// Output: dead healthy
}

// A server can fall silent for some requests, and go away after others.
func ExampleServer_SetFaults() {
	srv, err := apnstest.New(apnstest.Config{})
	if err != nil {
		panic(err)
	}
	defer srv.Close()
	err = srv.SetFaults(apnstest.Faults{
		Latency: apnstest.Latency{Constant: apnstest.Duration(20 * time.Millisecond)},
		Requests: []apnstest.RequestFault{
			{Match: apnstest.Match{Probability: 0.001}, NeverAnswer: true},
			{Match: apnstest.Match{Skip: 5000, Times: 1}, Do: &apnstest.Action{GoAway: &apnstest.GoAway{Reason: "Shutdown"}}},
		},
	})
	fmt.Println(err)
	// Output: <nil>
}

// Without a list of millions, a client and the server agree on which device
// tokens are dead.
func ExampleShares_Fate() {
	shares := apnstest.Config{DeadShare: 0.01}.Shares()
	dead := 0
	for i := range 100_000 {
		if shares.Fate([]byte{byte(i >> 16), byte(i >> 8), byte(i)}) == apnstest.Dead {
			dead++
		}
	}
	fmt.Println(dead > 900 && dead < 1100)
	// Output: true
}
