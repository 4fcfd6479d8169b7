package sim

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// Seed is where a test's random runs begin: a fresh one, or MOLDAU_SEED. With MOLDAU_SEED set, only that one run is to be made.
func Seed(t testing.TB) (base uint64, only bool) {
	if v := os.Getenv("MOLDAU_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n, true
	}
	return uint64(time.Now().UnixNano()), false
}
