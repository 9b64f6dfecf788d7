package apnstest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pushfleet/pushfleet/apns/apnstest"
)

func TestSmoke(t *testing.T) {
	srv, err := apnstest.New(apnstest.Config{})
	if err != nil { t.Fatal(err) }
	defer srv.Close()
	cl := srv.Client()
	for i := range 20 {
		req, _ := http.NewRequest("POST", srv.URL()+"/3/device/"+fmt.Sprintf("%064x", i), strings.NewReader(`{"aps":{"alert":"x"}}`))
		req.Header.Set("authorization", "bearer "+srv.ProviderToken(time.Now()))
		if i > 10 { req.Header.Set("apns-topic", "com.example.app") }
		resp, err := cl.Do(req)
		if err != nil { t.Fatal(err) }
		b, _ := io.ReadAll(resp.Body)
		t.Log(resp.Status, resp.Header, string(b))
		resp.Body.Close()
	}
	t.Logf("%+v", srv.Stats())
	cl.CloseIdleConnections()
}
