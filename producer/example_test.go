package producer_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/pushfleet/pushfleet/campaign"
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

func ExampleCampaigns() {
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
	campaigns := p.Campaigns()
	spring := &campaign.Campaign{
		ID:       "spring-sale",
		Audience: campaign.Audience{Tags: campaign.Tags{Any: []string{"customer"}}},
		Content:  job.Job{Notification: &job.Notification{Title: "Spring sale", Body: "Everything must go"}},
		Rate:     20_000,
	}
	st, created, err := campaigns.Create(ctx, "shop", spring)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(st.ID, st.State, created)
	// To create it again changes nothing.
	_, created, err = campaigns.Create(ctx, "shop", spring)
	fmt.Println(created, err)
	st, err = campaigns.Pause(ctx, "shop", "spring-sale")
	fmt.Println(st.State, err)
	// Output:
	// spring-sale scheduled true
	// false <nil>
	// paused <nil>
}

func ExampleCampaigns_CreateFromFile() {
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
	loaded, err := p.Campaigns().CreateFromFile(ctx, "shop", &campaign.Campaign{
		ID:         "invoices",
		Recipients: &campaign.Recipients{Variables: []string{"sum"}},
		Content:    job.Job{Notification: &job.Notification{Body: "Your invoice of {{sum}} is there"}},
	}, producer.File{
		Source: strings.NewReader("user,sum\nada,12 EUR\n,7 EUR\ngrace,9 EUR\n"),
		Bad: func(line int64, why error) error {
			fmt.Println("line", line, why)
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(loaded.Devices, "recipients,", loaded.State)
	// Output:
	// line 3 has neither token nor user
	// 2 recipients, scheduled
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
