package log

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// mover is a move of a log of many small batches, with who copies whenever the rate lets him.
type mover struct {
	m      *Manager
	mv     *Move
	ck     *clock
	copied int64
}

func startMove(t *testing.T, batches int, change func(o *Options)) *mover {
	t.Helper()
	ck := &clock{ms: epochMs}
	o := managerOptions(t, mem(t), ck, "/data", "/more")
	if change != nil {
		change(&o)
	}
	m := mustOpen(t, o)
	t.Cleanup(func() { m.Close(1) })
	l, err := m.Create(partition("t", 0), CreateOptions{Config: testConfig(), DirectoryID: m.dirs[0].id})
	if err != nil {
		t.Fatal(err)
	}
	for range batches {
		mustAppend(t, l, batchSpec{records: 1, size: 900})
	}
	mv, err := m.BeginMove(l.tp, "/more")
	if err != nil {
		t.Fatal(err)
	}
	return &mover{m: m, mv: mv, ck: ck}
}

// forMs lets time pass, looks every quarter of a second, and returns how much was copied.
func (c *mover) forMs(t *testing.T, ms int64) int64 {
	t.Helper()
	before := c.copied
	for end := c.ck.ms + ms; c.ck.ms < end; c.ck.ms += 250 {
		for allowed := c.m.MoveAllowance(); allowed > 0; allowed = c.m.MoveAllowance() {
			n, err := c.mv.Copy(int(min(allowed, 1<<20)))
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			c.copied += int64(n)
		}
	}
	return c.copied - before
}

// What moves copy is held to the rate, whatever it is, and to a new one from when it is set.
func TestMoveRate(t *testing.T) {
	within := func(t *testing.T, what string, got, want, slack int64) {
		t.Helper()
		if got < want-slack || got > want+slack {
			t.Errorf("%s: %d bytes were copied, want %d, give or take %d", what, got, want, slack)
		}
	}
	for _, rate := range []int64{2_000, 10_000, 33_333} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			c := startMove(t, 2500, nil)
			c.m.SetMoveRate(rate)
			ahead := 2*rate + 1000 // a second's worth, and what is not too much yet when it is looked at
			within(t, "in 10 s", c.forMs(t, 10_000), 10*rate, ahead)
			c.forMs(t, 20_000)
			within(t, "in 30 s", c.copied, 30*rate, ahead)
			c.m.SetMoveRate(2 * rate)
			within(t, "in 20 s of the double rate", c.forMs(t, 20_000), 40*rate, 12*rate) // the slow samples give it some
			c.m.SetMoveRate(rate / 4)
			within(t, "in 11 s of an eighth of it", c.forMs(t, 11_000), 11*rate/4, 3*rate)
			c.m.SetMoveRate(math.MaxInt64)
			c.forMs(t, 250)
			if !c.mv.CaughtUp() {
				t.Error("without a bound the rest is not copied at once")
			}
		})
	}
}

// A bound counts what was copied before there was one; when that is past, it is as if nothing had been copied. A bound of 0 lets a
// batch pass whenever all before are forgotten.
func TestMoveRateCountsWhatWas(t *testing.T) {
	for _, x := range []struct {
		samples int
		length  time.Duration
		wantMs  int64
	}{{0, 0, 11_000}, {3, 2 * time.Second, 6_000}, {1, time.Second, 1_000}} {
		c := startMove(t, 50, func(o *Options) { o.MoveRateSamples, o.MoveRateSample = x.samples, x.length })
		n, err := c.mv.Copy(1)
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		c.m.SetMoveRate(0)
		for range 3 {
			if got := c.forMs(t, x.wantMs); got != 0 {
				t.Errorf("%+v: %d bytes were copied too early", x, got)
			}
			if got := c.forMs(t, 250); got != int64(n) {
				t.Errorf("%+v: %d bytes were copied, want %d", x, got, n)
			}
			c.ck.ms -= 250
		}
	}
}

// The longest window there can be forgets nothing.
func TestMoveRateOfCenturies(t *testing.T) {
	c := startMove(t, 5, func(o *Options) { o.MoveRateSamples, o.MoveRateSample = math.MaxInt32, math.MaxInt32*time.Second })
	c.m.SetMoveRate(0)
	if c.forMs(t, 250); c.copied == 0 {
		t.Fatal("nothing was copied")
	}
	if got := c.forMs(t, 60_000); got != 0 {
		t.Errorf("%d bytes were copied", got)
	}
}

// Without a bound nothing waits, and nothing is allocated for it.
func TestMoveRateWithoutBound(t *testing.T) {
	c := startMove(t, 1, nil)
	now := c.ck.now()
	for range 20 { // all samples are there
		c.m.rate.note(now, 1)
		now = now.Add(time.Second)
	}
	if got := testing.AllocsPerRun(100, func() {
		now = now.Add(100 * time.Millisecond)
		c.m.rate.note(now, 1<<30)
		if c.m.MoveAllowance() != math.MaxInt64 {
			t.Error("there is a bound")
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// A cordoned directory gets nothing that may be elsewhere.
func TestCordoned(t *testing.T) {
	open := func() *Manager {
		m := mustOpen(t, managerOptions(t, mem(t), &clock{ms: epochMs}, "/a", "/b", "/c"))
		t.Cleanup(func() { m.Close(1) })
		return m
	}
	create := func(m *Manager, n int32, want id.UUID) string {
		t.Helper()
		l, err := m.Create(partition("t", n), CreateOptions{Config: testConfig(), DirectoryID: want})
		if err != nil {
			t.Fatal(err)
		}
		return l.dir.path
	}
	for _, x := range []struct {
		cordoned []string
		offline  int // number of a directory, -1 for none
		want     string
	}{
		{nil, -1, "/a /b /c /a "}, {[]string{"/b"}, -1, "/a /c /a /c "}, {[]string{"/a/", "/c"}, -1, "/b /b /b /b "},
		{[]string{"/a", "/b", "/c"}, -1, "/a /a /a /a "}, {[]string{"/b", "/c", "/nowhere"}, 0, "/b /b /b /b "}, {[]string{"/b"}, 0, "/c /c /c /c "},
	} {
		m := open()
		if ids := m.SetCordoned(x.cordoned); len(ids) != min(len(x.cordoned), 3) && len(ids) != 2 {
			t.Errorf("%v: ids %v", x.cordoned, ids)
		}
		if x.offline >= 0 {
			m.dirs[x.offline].fail("test", "test", ErrClosed)
		}
		got := ""
		for n := range int32(4) {
			got += create(m, n, id.UUID{}) + " "
		}
		if got != x.want {
			t.Errorf("%v, %d offline: logs are in %s, want %s", x.cordoned, x.offline, got, x.want)
		}
	}
	m := open()
	ids := m.SetCordoned([]string{"/b"})
	if len(ids) != 1 || ids[0] != m.dirs[1].id {
		t.Errorf("ids %v", ids)
	}
	for i, d := range m.Dirs() {
		if d.Cordoned != (i == 1) {
			t.Errorf("%s: %v", d.Path, d.Cordoned)
		}
	}
	if got := create(m, 0, m.dirs[1].id); got != "/b" { // the metadata says so
		t.Error(got)
	}
}
