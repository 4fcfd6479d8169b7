// Package seed says from which number a random test begins.
//
// What make test and make check-full run is the same every time: a green run can be repeated, and a red one is of the change under
// test. So a test's seed is made of its name. Fresh seeds are the business of the soak and of whoever looks for something:
//
//	MOLDAU_SEED=fresh  a new seed for each test, and for each of its repetitions (go test -count N)
//	MOLDAU_SEED=N      that one; a test that makes many runs begins with it, or makes only that one ([First])
//
// The seed is logged, so that a failure names it. What goroutines and clocks make of a run no seed repeats.
//
// The package is for tests: tool/arch lets nothing else import it. It refuses to be a source of random numbers; a test makes its own
// of the seed.
package seed
