package producer_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/pushfleet/pushfleet/campaign"
	"github.com/pushfleet/pushfleet/job"
	"github.com/pushfleet/pushfleet/producer"
)

func Example() {
	url, stop := startServer()
	defer stop()

	ctx := context.Background()
	p, err := producer.Connect(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
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

func ExampleProducer_Wait() {
	fleet, err := startFleet()
	if err != nil {
		log.Fatal(err)
	}
	defer fleet.stop()

	ctx := context.Background()
	p, err := producer.Connect(ctx, fleet.url)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	receipt, err := p.Enqueue(ctx, "shop", job.Transactional, &job.Job{
		ID:           "order-4711-shipped",
		To:           job.Recipients{Users: []string{"ada", "bob"}},
		Notification: &job.Notification{Title: "Shipped"},
	})
	if err != nil {
		log.Fatal(err)
	}
	final, err := p.Wait(ctx, receipt)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range final.Recipients {
		if r.DeviceToken.IsZero() {
			fmt.Println(r.User, r.Result, "-", r.Reason)
			continue
		}
		fmt.Println(r.DeviceToken, r.Result)
	}
	fmt.Println("all accepted:", final.Accepted())
	// Output:
	// 0a0a0a… accepted
	// bob skipped - no device
	// all accepted: false
}

func ExampleProducer_EnqueueBatch() {
	url, stop := startServer()
	defer stop()

	ctx := context.Background()
	p, err := producer.Connect(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	hello := func(id string, users ...string) *job.Job {
		return &job.Job{ID: id, To: job.Recipients{Users: users}, Notification: &job.Notification{Title: "Hello"}}
	}
	receipts, err := p.EnqueueBatch(ctx, "shop", job.Bulk, []*job.Job{hello("a", "ada"), hello("b"), hello("c", "grace")})
	var failed *producer.BatchError
	if errors.As(err, &failed) {
		for _, one := range failed.Jobs {
			fmt.Println(one.Index, one.Err)
		}
	}
	fmt.Println(receipts[0].ID, receipts[2].ID)
	// Output:
	// 1 job: invalid: to: must have exactly one of tokens, users, installs
	// a c
}

func ExampleProducer_Outcomes() {
	fleet, err := startFleet()
	if err != nil {
		log.Fatal(err)
	}
	defer fleet.stop()

	ctx := context.Background()
	p, err := producer.Connect(ctx, fleet.url)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	for _, text := range []string{"Hello", "Hello again", "Goodbye"} {
		hello := &job.Job{To: job.Recipients{Users: []string{"ada"}}, Notification: &job.Notification{Title: text}}
		if _, err := p.Enqueue(ctx, "shop", job.Bulk, hello); err != nil {
			log.Fatal(err)
		}
	}
	accepted := 0
	for o, err := range p.Outcomes(ctx, producer.Filter{App: "shop", From: 1}) {
		if err != nil {
			log.Fatal(err)
		}
		if accepted += len(o.Accepted); accepted == 3 {
			break
		}
	}
	fmt.Println(accepted, "accepted")
	// Output: 3 accepted
}

func ExampleCampaigns() {
	url, stop := startServer()
	defer stop()

	ctx := context.Background()
	p, err := producer.Connect(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
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
	url, stop := startServer()
	defer stop()

	ctx := context.Background()
	p, err := producer.Connect(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
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
