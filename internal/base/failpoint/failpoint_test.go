package failpoint

import (
	"errors"
	"testing"
)

func TestNilSetPasses(t *testing.T) {
	var s *Set
	if err := s.Hit("x"); err != nil {
		t.Fatal(err)
	}
}

func TestArmFiresOnceAtNth(t *testing.T) {
	s := New()
	boom := errors.New("boom")
	s.Arm("log.append", 3, func() error { return boom })
	var got []error
	for range 5 {
		got = append(got, s.Hit("log.append"))
	}
	for i, err := range got {
		if (i == 2) != errors.Is(err, boom) {
			t.Errorf("hit %d: %v", i+1, err)
		}
	}
	if err := s.Hit("other"); err != nil {
		t.Error("a point that is not armed fired")
	}
}

func TestParse(t *testing.T) {
	s, err := Parse("a=error,b=crash@2")
	if err != nil {
		t.Fatal(err)
	}
	code := 0
	s.exit = func(c int) { code = c }
	var fe *Error
	for range 2 {
		if err := s.Hit("a"); !errors.As(err, &fe) || fe.Point != "a" {
			t.Fatalf("a: %v", err)
		}
	}
	if s.Hit("b"); code != 0 {
		t.Fatal("b crashed at its first hit")
	}
	if s.Hit("b"); code != ExitCode {
		t.Fatal("b did not crash at its second hit")
	}
	for _, bad := range []string{"a", "=error", "a=explode", "a=crash@0", "a=crash@x"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) succeeded", bad)
		}
	}
}
