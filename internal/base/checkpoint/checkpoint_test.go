package checkpoint

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
)

func TestGoldenBytes(t *testing.T) {
	m := vfs.NewMem()
	offsets := map[id.TopicPartition]id.Offset{{Topic: "orders", Partition: 10}: 7, {Topic: "orders", Partition: 2}: 1 << 40, {Topic: "a.b_c-d", Partition: 0}: 0}
	if err := WriteOffsets(m, "/f", offsets); err != nil {
		t.Fatal(err)
	}
	b, _ := vfs.ReadFile(m, "/f", 1000)
	if want := "0\n3\na.b_c-d 0 0\norders 2 1099511627776\norders 10 7\n"; string(b) != want {
		t.Errorf("%q, want %q", b, want)
	}
	got, err := ReadOffsets(m, "/f")
	if diff := cmp.Diff(offsets, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	epochs := []EpochEntry{{0, 0}, {3, 17}}
	if err := WriteEpochs(m, "/e", epochs); err != nil {
		t.Fatal(err)
	}
	if b, _ = vfs.ReadFile(m, "/e", 1000); string(b) != "0\n2\n0 0\n3 17\n" {
		t.Errorf("%q", b)
	}
	if got, err := ReadEpochs(m, "/e"); err != nil || cmp.Diff(epochs, got) != "" {
		t.Errorf("%v %v", got, err)
	}
	if vfs.Exists(m, "/f.tmp") {
		t.Error("the temporary file stayed")
	}
}

func TestReading(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		line int // of the error, 0 for none
	}{
		{"", 0, 0},
		{"0\n0\n", 0, 0},
		{"0\n1\nt 0 5\n", 1, 0},
		{"0\n1\nt 0 5", 1, 0},
		{"0\r\n1\r\nt  0\t5\r\n", 1, 0},
		{"0\n1\nt 0 5\n\n", 1, 0},
		{"1\n0\n", 0, 1},
		{"x\n0\n", 0, 1},
		{"0\n", 0, 2},
		{"0\n-1\n", 0, 2},
		{"0\n99999999999\n", 0, 2},
		{"0\n2\nt 0 5\n", 1, 3},
		{"0\n1\nt 0 5\nt 1 6\n", 2, 4},
		{"0\n1\nt 0\n", 0, 3},
		{"0\n1\nt x 5\n", 0, 3},
		{"0\n1\nt 0 99999999999999999999\n", 0, 3},
		{"0\n2\nt 0 5\n\nt 1 5\n", 1, 4},
		{strings.Repeat("\x00", 100), 0, 1},
	} {
		m := vfs.NewMem()
		vfs.WriteFile(m, "/f", []byte(c.text))
		got, err := ReadOffsets(m, "/f")
		var bad *FormatError
		line := 0
		if errors.As(err, &bad) {
			line = bad.Line
		} else if err != nil {
			t.Errorf("%q: %v", c.text, err)
		}
		if line != c.line || len(got) != c.n {
			t.Errorf("%q: %v, error %v, want it in line %d", c.text, got, err, c.line)
		}
	}
	if got, err := ReadEpochs(vfs.NewMem(), "/absent"); err != nil || len(got) != 0 {
		t.Errorf("%v %v", got, err)
	}
}

// A crash at any moment of a write leaves the old or the new offsets.
func TestCrashes(t *testing.T) {
	seed := seed.Of(t)
	tp := id.TopicPartition{Topic: "t"}
	for step := 1; ; step++ {
		m := vfs.NewMem()
		if err := WriteOffsets(m, "/f", map[id.TopicPartition]id.Offset{tp: 1}); err != nil {
			t.Fatal(err)
		}
		x := vfs.NewFaults(m)
		x.Add(vfs.Rule{Op: vfs.OpChange, Nth: step, Crash: true, Short: 0.5})
		err := WriteOffsets(x, "/f", map[id.TopicPartition]id.Offset{tp: 2})
		for i := range uint64(10) {
			got, rerr := ReadOffsets(m.CrashClone(seed+i), "/f")
			if rerr != nil || got[tp] != 1 && got[tp] != 2 || err == nil && got[tp] != 2 {
				t.Fatalf("step %d clone %d: %v %v", step, i, got, rerr)
			}
		}
		if err == nil {
			return
		}
	}
}
