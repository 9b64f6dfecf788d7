package job_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/job"
)

func ExampleParse() {
	j, err := job.Parse([]byte(`{
		"id": "order-4711-shipped",
		"to": {"users": ["u-17"]},
		"notification": {"title": "Shipped", "body": "Order 4711 is on its way", "thread_id": "orders"},
		"data": {"order": 4711},
		"ttl": "4h"
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	payload, err := j.RenderPayload()
	if err != nil {
		fmt.Println(err)
		return
	}
	stored := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	fmt.Println(j.EffectivePushType(), j.EffectivePriority(), j.Topic("com.example.shop"), j.Kind())
	fmt.Println(time.Unix(j.Expiration(stored).Header(), 0).UTC())
	fmt.Println(string(payload))
	// Output:
	// alert 10 com.example.shop alert
	// 2026-11-24 13:00:00 +0000 UTC
	// {"aps":{"alert":{"title":"Shipped","body":"Order 4711 is on its way"},"thread-id":"orders"},"order":4711}
}

func ExampleParse_problems() {
	_, err := job.Parse([]byte(`{
		"to": {"tokens": ["00fc13ad", "00fc13a"]},
		"notification": {"titel": "Shipped", "badge": -1},
		"ttl": "4 hours"
	}`))
	var invalid *job.Invalid
	if errors.As(err, &invalid) {
		for _, p := range invalid.Problems {
			fmt.Println(p)
		}
	}
	// Output:
	// to.tokens[1]: device token has an odd number of hex digits
	// notification.titel: unknown field, did you mean title?
	// notification.badge: must be a whole number from 0 to 2147483647
	// ttl: must be a duration such as 90s, 4h or 1h30m
}

func ExampleJob_Validate() {
	token, err := device.ParseToken("00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0")
	if err != nil {
		fmt.Println(err)
		return
	}
	j := &job.Job{
		ID:           "refresh-1",
		To:           job.Recipients{Tokens: []device.Token{token}},
		Notification: &job.Notification{ContentAvailable: true, Badge: new(0)},
		PushType:     job.PushBackground,
		Priority:     10,
	}
	fmt.Println(j.Validate())
	j.Notification.Badge, j.Priority = nil, 0
	fmt.Println(j.Validate())
	// Output:
	// job: invalid: priority: must not be 10 for background: APNs refuses it; notification.badge: is not for background
	// <nil>
}
