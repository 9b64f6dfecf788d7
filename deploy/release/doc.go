// Package release holds what is made beside the binaries of a release: the tool that
// writes its bill of materials, the licences of what is linked, and tests of both, and
// that equal sources make equal bytes. It is a module of its own so that the product
// does not depend on it; `make check-release` runs it.
package release
