// Package layers is only a test: it reads every Go file of the module and holds
// the rules of who may import whom, written as tables in layers_test.go.
//
//	layer 4  cmd
//	layer 3  config
//	layer 2  producer   worker   feedback   api
//	layer 1  stream     apns     store
//	layer 0  job   device   campaign   web
package layers
