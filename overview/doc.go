// Package overview says what the whole fleet does now: its workers, what waits, what
// was just sent, devices, fuses, campaigns.
//
//	workers -> a report a second each (core NATS, not stored) -.
//	JetStream -> presence, backlog, fuses, campaigns ----------+-> session -> Fleet, every second
//	Redis -> a census of devices, every minute ----------------'
//
// It costs nothing while nobody asks: a session begins with the first who asks or
// follows, serves all of them, and ends after the last. What cannot be known is said in
// words (Fleet.Unknown), and the rest is told all the same.
package overview
