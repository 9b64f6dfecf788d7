package apnstest_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if code, isClient := mainForBench(); isClient {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}
