// Package drill holds the NATS command line that the tests of docs/backup.md run: what
// an operator has installed. It is a module of its own so that the product does not
// depend on it.
package drill
