// Package race says what a test leaves out under the race detector.
//
// The detector finds what goroutines do to each other, and makes everything five to twenty times as slow. A long test has nothing for
// it when one goroutine does its work, or when it repeats what short tests do as well, for the sake of something else: of what a crash
// at each moment leaves on a disk, or of what a thousand seeds make of a model. Such a test says so itself ([Skip]), and make race, which
// knows no names, passes over it; make test runs it. A test that lives of goroutines never does, however long it takes.
//
// The package is for tests: tool/arch lets nothing else import it.
package race

import "testing"

// Skip ends a test here under the race detector.
func Skip(t testing.TB) {
	t.Helper()
	if Enabled {
		t.Skip("has nothing for the race detector")
	}
}
