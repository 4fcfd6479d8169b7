package seed

import (
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

const (
	variable = "MOLDAU_SEED"
	fresh    = "fresh"
)

// Of is the seed of a test. Unless MOLDAU_SEED says a greater one its top bit is free: a test may count on from it.
func Of(t testing.TB) uint64 {
	t.Helper()
	n, _ := First(t)
	return n
}

// First is [Of] for a test that makes runs of the seeds n, n+1 and so on: with only, a number was asked for, and the run of that one is
// the only one to be made.
func First(t testing.TB) (n uint64, only bool) {
	t.Helper()
	switch v := os.Getenv(variable); v {
	case "":
		h := fnv.New64a()
		h.Write([]byte(t.Name()))
		n = h.Sum64() >> 1
	case fresh:
		n = rand.Uint64() >> 1
	default:
		var err error
		if n, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("%s is %q: neither a number nor %q", variable, v, fresh)
		}
		only = true
	}
	t.Logf("%s=%d repeats it", variable, n)
	return n, only
}
