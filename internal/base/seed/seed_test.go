package seed

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// fake is a test that stays what it is told to be.
type fake struct {
	testing.TB
	name string
	said []string
}

type fatal string

func (f *fake) Name() string                 { return f.name }
func (f *fake) Helper()                      {}
func (f *fake) Logf(format string, a ...any) { f.said = append(f.said, fmt.Sprintf(format, a...)) }
func (f *fake) Fatalf(format string, a ...any) {
	panic(fatal(fmt.Sprintf(format, a...)))
}

func TestByName(t *testing.T) {
	t.Setenv(variable, "")
	seen := map[uint64]string{}
	for i := range 1000 {
		f := &fake{name: fmt.Sprint("TestSomething/", i)}
		n, only := First(f)
		if only || n>>63 != 0 || n != Of(f) {
			t.Fatalf("%s: %d, only %t, then %d", f.name, n, only, Of(f))
		}
		if other, twice := seen[n]; twice {
			t.Fatalf("%s and %s have the same seed %d", f.name, other, n)
		}
		seen[n] = f.name
		if want := fmt.Sprintf("MOLDAU_SEED=%d ", n); len(f.said) == 0 || !strings.HasPrefix(f.said[0], want) {
			t.Fatalf("%s: said %q, want %s", f.name, f.said, want)
		}
	}
	// Over programs and machines, too: FNV-1a of the name, without its last bit.
	if n := Of(&fake{name: "foobar"}); n != 0x85944171f73967e8>>1 {
		t.Errorf("%x", n)
	}
}

func TestByNumber(t *testing.T) {
	for _, want := range []uint64{0, 7, 1<<64 - 1} {
		t.Setenv(variable, strconv.FormatUint(want, 10))
		f := &fake{name: "TestSomething"}
		if n, only := First(f); n != want || !only || Of(f) != want {
			t.Errorf("%d, only %t, want %d", n, only, want)
		}
	}
}

// What a soak repeats so many times has as many seeds, and each repeats itself when it is asked for.
func TestFresh(t *testing.T) {
	seen := map[uint64]bool{}
	for range 500 {
		t.Setenv(variable, fresh)
		f := &fake{name: "TestSomething"}
		n, only := First(f)
		if only || n>>63 != 0 || seen[n] {
			t.Fatalf("%d, only %t, seen before: %t", n, only, seen[n])
		}
		seen[n] = true
		t.Setenv(variable, strings.TrimPrefix(strings.Fields(f.said[0])[0], variable+"="))
		if Of(f) != n {
			t.Fatalf("%q gives %d", f.said[0], Of(f))
		}
	}
}

func TestNoSeed(t *testing.T) {
	for _, v := range []string{"new", "-1", "0x10", " 1", "1 ", "18446744073709551616", "Fresh"} {
		t.Setenv(variable, v)
		func() {
			defer func() {
				if said, ok := recover().(fatal); !ok || !strings.Contains(string(said), strconv.Quote(v)) {
					t.Errorf("%q: %v", v, said)
				}
			}()
			t.Errorf("%q gives %d", v, Of(&fake{name: "TestSomething"}))
		}()
	}
}
