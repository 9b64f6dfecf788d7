package store_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/pushfleet/pushfleet/device"
	"github.com/pushfleet/pushfleet/store"
)

func ExampleStore_Register() {
	server, err := miniredis.Run() // a Redis for this example
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer client.Close()

	ctx := context.Background()
	tokens := store.New(client, store.Config{})
	for _, hex := range []string{"aa01", "bb02"} { // the app is installed, and later installed anew
		t, err := device.ParseToken(hex)
		if err != nil {
			fmt.Println(err)
			return
		}
		got, err := tokens.Register(ctx, "shop", device.Registration{
			Token: t, User: "anna", InstallID: "annas-phone", Environment: device.Production,
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("replaced:", got.Replaced)
	}
	found, err := tokens.ByUsers(ctx, "shop", []string{"anna"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range found[0] {
		fmt.Println(e.Token.Hex(), e.Record.State)
	}
	// Output:
	// replaced: 0
	// replaced: 1
	// bb02 live
}
