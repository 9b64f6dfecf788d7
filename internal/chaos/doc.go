// Package chaos holds no code of the product: its tests break a whole fleet of
// separate processes on purpose, and check that nothing was lost and that no more
// was sent twice than docs/guarantees.md allows. They are behind the build tag
// chaos, since they take minutes:
//
//	make chaos-short
//	make chaos
//	go test -tags chaos ./internal/chaos -run TestChaos -v -timeout 0 -chaos.for 30m -chaos.seed 7
//
// nats-server, redis-server with its append-only file, the APNs simulator with
// its journal, four workers and two API processes that tell a webhook run as processes
// on loopback; every link of a worker goes through a proxy of its own. What happens is drawn from the seed;
// what it meets is not, so a seed repeats the faults and not their outcome.
//
// TestScale (make scale) does nothing to a fleet but start and stop its workers, on
// three nats-servers and a Redis Cluster, and holds it to more: nothing twice, and
// nothing that stands still for a second.
package chaos
