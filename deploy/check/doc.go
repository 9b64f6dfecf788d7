// Package check holds the files of deploy to what Docker itself would say of
// them, without a Docker engine. It is a module of its own so that the product
// does not depend on compose-go and BuildKit; `make check-deploy` runs it.
package check
