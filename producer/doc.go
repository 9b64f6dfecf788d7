// Package producer enqueues notification jobs, tells what became of them, and creates and
// steers campaigns: the client that a Go service imports. It brings NATS's client, and
// neither Redis nor an APNs client.
//
//	p, err := producer.Connect(ctx, "nats://127.0.0.1:4222")
//	if err != nil {
//		return err
//	}
//	defer p.Close()
//	receipt, err := p.Enqueue(ctx, "shop", job.Transactional, &job.Job{
//		ID:           "order-4711-shipped",
//		To:           job.Recipients{Users: []string{"ada"}},
//		Notification: &job.Notification{Title: "Shipped", Body: "Order 4711 is on its way"},
//	})
//	if err != nil {
//		return err // not stored, or not known to be: enqueue it again under the same ID
//	}
//	final, err := p.Wait(ctx, receipt) // if anybody wants to know
//	if err != nil {
//		return err
//	}
//	for _, r := range final.Recipients {
//		log.Println(r.DeviceToken, r.Result, r.Reason)
//	}
//
// A job's ID makes it safe to enqueue it again: it is sent once. A job without one may be
// sent twice where the answer to its enqueuing was lost.
//
// What is enqueued in a trace continues it: see [Producer.Enqueue]. Nothing here is read
// from the environment.
package producer
