// Package testenv gives tests the real things: a JetStream server in process, a
// Redis server as a process of its own, and what stands in where there is none.
package testenv
