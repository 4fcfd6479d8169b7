package coord

import (
	"slices"
	"testing"
)

// TestQueue: what goes in comes out in order, however the two are mixed, and the memory neither grows with what has come out nor is
// kept after many were in.
func TestQueue(t *testing.T) {
	var q queue[*int]
	var want []*int
	step := func(in, out int) {
		for range in {
			x := new(int)
			q.push(x)
			want = append(want, x)
		}
		for range out {
			if *q.first() != want[0] || q.pop() != want[0] {
				t.Fatal("out of order")
			}
			want = want[1:]
		}
		if q.len() != len(want) || !slices.Equal(q.all(), want) {
			t.Fatalf("%d in the queue, want %d", q.len(), len(want))
		}
		rest := q.list[:cap(q.list)]
		if slices.ContainsFunc(rest[:q.at], func(x *int) bool { return x != nil }) ||
			slices.ContainsFunc(rest[len(q.list):], func(x *int) bool { return x != nil }) {
			t.Fatal("what has come out is still held")
		}
	}
	step(3, 0)
	for range 10_000 {
		step(3, 3)
		step(1, 2)
		step(1, 0)
	}
	if n := cap(q.list); n > 32 {
		t.Errorf("room for %d, for 6 at the most", n)
	}
	step(10*keptSpare, 0)
	step(0, len(want))
	if n := cap(q.list); n > keptSpare {
		t.Errorf("room for %d is kept", n)
	}
	step(1, 1)
	kept := cap(q.list)
	step(1, 1)
	if cap(q.list) != kept || kept == 0 {
		t.Error("the memory is not used again")
	}
}
