package producer_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/nats-io/nats.go"

	"github.com/pushfleet/pushfleet/internal/embedded"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
)

func Example() {
	url, stop := server()
	defer stop()

	nc, err := nats.Connect(url)
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close()
	ctx := context.Background()
	p, err := producer.New(ctx, nc)
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := p.Enqueue(ctx, "shop", job.Transactional, &job.Job{
		ID:           "order-4711-shipped",
		To:           job.Recipients{Users: []string{"ada"}},
		Notification: &job.Notification{Title: "Shipped", Body: "Order 4711 is on its way"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("stored", receipt.ID)
	// Output: stored order-4711-shipped
}

// server runs a NATS server for the example.
func server() (url string, stop func()) {
	dir, err := os.MkdirTemp("", "producer-example-")
	if err != nil {
		log.Fatal(err)
	}
	s, err := embedded.StartNATS(embedded.NATSConfig{StoreDir: dir})
	if err != nil {
		log.Fatal(err)
	}
	return s.URL(), func() {
		s.Stop()
		_ = os.RemoveAll(dir)
	}
}
