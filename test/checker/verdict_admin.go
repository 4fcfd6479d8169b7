package checker

import (
	"cmp"
	"math/bits"
	"slices"
	"time"
)

const (
	// late is how long after its client gave up a change of unknown outcome may still take effect: no request lives longer in a node.
	late = 10 * time.Second
	// mostStates bounds what the search of one register keeps.
	mostStates = 20000
	// undecidedShare is of how many readings one may stay without a verdict.
	undecidedShare = 100
)

// registers: each administrative register behaves as if its operations happened one at a time between begin and end (A1); one
// that holds an acknowledged value that nothing replaced has it at the end (M1). Readings of which the search cannot tell are counted,
// and too many of them are bad themselves (A1u).
func (a *analysis) registers() {
	byKey := map[string][]*Op{}
	readings, undecided := 0, 0
	for _, op := range a.of(Set, Get) {
		if op.F == Set && op.Type == Fail || op.F == Get && op.Type != OK {
			continue
		}
		byKey[op.Key] = append(byKey[op.Key], op)
		if op.F == Get {
			readings++
			if op.Member == "final" {
				a.judge("M1", 1)
			}
		}
	}
	for key, ops := range byKey {
		bad, lost := linearizable(ops, 0)
		if bad != nil || lost > 0 {
			strictly := bad
			if bad, lost = linearizable(ops, int64(a.lag)); bad == nil && strictly != nil {
				a.report.Allowed["A1s"]++
			}
		}
		undecided += lost
		if bad == nil {
			continue
		}
		rule := "A1"
		if bad.Member == "final" {
			rule = "M1"
		}
		i := slices.Index(ops, bad)
		a.bad(rule, ops[max(0, i-5):min(len(ops), i+2)], "operation %d: %s cannot have been %q then, whatever the order of %d operations", bad.ID, key, bad.Value, len(ops))
	}
	a.judge("A1", readings-undecided)
	a.judge("A1u", readings)
	a.report.Undecided = undecided
	if undecided*undecidedShare > readings {
		a.bad("A1u", nil, "%d of %d readings of registers have no verdict", undecided, readings)
	}
}

// search is the state of linearizable: everything that a register may be, given what was seen of it so far.
type search struct {
	ops    []*Op
	writes []int // the acknowledged changes, by begin
	began  int   // of those, how many have begun
	ended  int   // and how many have surely taken effect
	// unknown are the changes of unknown outcome and gets the readings that are under way, each in a slot of 64.
	unknown, gets slots
	states        map[held][]uint64 // with the sets of slots of used changes of unknown outcome, none a subset of another
	lost          bool              // given up: until a reading tells what the register holds
	missed        map[int]bool      // changes of unknown outcome under way that have found no slot
	quiet         int64             // when the last change ended
}

// held is a value and how it came about: of the acknowledged changes the first base have taken effect, not the next, and of those
// after it the ones in ahead (bit i: change base+i); read are the slots of the readings under way that have met their value.
type held struct {
	value       string
	base        int
	ahead, read uint64
}

type slots struct {
	used uint64
	at   [64]int // operation
	of   map[int]int
}

func (s *slots) take(op int) bool {
	free := bits.TrailingZeros64(^s.used)
	if free == 64 {
		return false
	}
	s.used |= 1 << free
	s.at[free] = op
	s.of[op] = free
	return true
}

func (s *slots) give(op int) uint64 {
	slot, ok := s.of[op]
	if !ok {
		return 0
	}
	delete(s.of, op)
	s.used &^= 1 << slot
	return 1 << slot
}

func (s *slots) each(f func(slot uint64, op int)) {
	for m := s.used; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		f(1<<i, s.at[i])
	}
}

// linearizable returns the first reading that no order explains, or nil, and how many readings have no verdict because the search
// was given up before them. The operations are sorted by begin. A change may become visible up to lag after its acknowledgement;
// changes that follow one another become visible in their order.
//
// It keeps every state in which the register may be. Of states that differ only in changes of unknown outcome those are enough that
// have used up least. A register that one client changes has a state for each of its changes that may still be on its way.
func linearizable(ops []*Op, lag int64) (bad *Op, undecided int) {
	r := &search{ops: ops, unknown: slots{of: map[int]int{}}, gets: slots{of: map[int]int{}}, missed: map[int]bool{},
		states: map[held][]uint64{{}: {0}}}
	for _, e := range r.events(lag) {
		op := ops[e.i]
		if e.begin {
			r.begin(e.i)
			continue
		}
		switch {
		case op.F == Get && r.lost:
			undecided++
			r.resume(e.i)
		case op.F == Get:
			r.keep(r.gets.give(e.i))
			if len(r.states) == 0 {
				return op, undecided
			}
		case op.end() == never:
			delete(r.missed, e.i)
			r.quiet = e.at
			r.forget(r.unknown.give(e.i))
		default:
			// A state that lacks this change cannot be. Changes end in any order, so each state is asked.
			r.applied(e.i)
			r.ended++
			r.quiet = e.at
		}
	}
	return nil, undecided
}

type event struct {
	at    int64
	begin bool
	i     int
}

// events are the begins and ends of operations in their order; of two at one time the begin comes first.
func (r *search) events(lag int64) []event {
	var events []event
	for i, op := range r.ops {
		events = append(events, event{op.Start, true, i})
		at := op.end()
		switch {
		case op.F == Set && at != never:
			r.writes = append(r.writes, i)
			at += lag
		case at == never && op.End == 0:
			continue // never ended
		case at == never:
			at = op.End + int64(late)
		}
		events = append(events, event{at, false, i})
	}
	slices.SortStableFunc(events, func(x, y event) int {
		if x.at == y.at && x.begin != y.begin {
			if x.begin {
				return -1
			}
			return 1
		}
		return cmp.Compare(x.at, y.at)
	})
	return events
}

func (r *search) begin(i int) {
	op, room := r.ops[i], true
	switch {
	case op.F == Get:
		room = r.gets.take(i)
	case op.end() == never:
		room = r.unknown.take(i)
		if !room {
			r.missed[i] = true
		}
	default:
		r.began++
	}
	if r.lost {
		return
	}
	if !room || !r.spread() {
		r.lost, r.states = true, nil
	}
}

// resume goes on after the end of reading i if nothing else can have changed the register since it began.
func (r *search) resume(i int) {
	r.gets.give(i)
	if r.unknown.used != 0 || len(r.missed) > 0 || r.ended != r.began || r.quiet >= r.ops[i].Start {
		return
	}
	r.lost, r.states = false, map[held][]uint64{{value: r.ops[i].Value, base: r.began}: {0}}
	if !r.spread() {
		r.lost = true
	}
}

// spread marks the readings that are met and adds every state reachable by letting changes under way take effect. It is false if
// there are too many.
func (r *search) spread() bool {
	type state struct {
		held
		used uint64
	}
	next := make(map[held][]uint64, len(r.states))
	var work []state
	n := 0
	add := func(h held, used uint64) {
		r.gets.each(func(slot uint64, op int) {
			if r.ops[op].Value == h.value {
				h.read |= slot
			}
		})
		if slices.ContainsFunc(next[h], func(had uint64) bool { return had&^used == 0 }) {
			return
		}
		next[h] = append(next[h], used)
		work = append(work, state{h, used})
		n++
	}
	for h, sets := range r.states {
		for _, used := range sets {
			add(h, used)
		}
	}
	for len(work) > 0 {
		if n > mostStates {
			return false
		}
		s := work[len(work)-1]
		work = work[:len(work)-1]
		// Acknowledged changes, up to the first that came after the end of one which has not taken effect.
		first := int64(never)
		for i := 0; s.base+i < r.began; i++ {
			if i == 64 {
				return false
			}
			if s.ahead&(1<<i) != 0 {
				continue
			}
			w := r.ops[r.writes[s.base+i]]
			if w.Start > first {
				break
			}
			first = min(first, w.end())
			h := s.held
			h.value, h.ahead = w.Value, h.ahead|1<<i
			for h.ahead&1 != 0 {
				h.base, h.ahead = h.base+1, h.ahead>>1
			}
			add(h, s.used)
		}
		r.unknown.each(func(slot uint64, op int) {
			if s.used&slot == 0 && first >= r.ops[op].Start {
				h := s.held
				h.value = r.ops[op].Value
				add(h, s.used|slot)
			}
		})
	}
	r.states = next
	return true
}

// filter keeps the states that change makes something of.
func (r *search) filter(change func(h *held, used *uint64) bool) {
	left := make(map[held][]uint64, len(r.states))
	for h, sets := range r.states {
		for _, used := range sets {
			h := h
			if change(&h, &used) && !slices.ContainsFunc(left[h], func(had uint64) bool { return had&^used == 0 }) {
				left[h] = append(left[h], used)
			}
		}
	}
	r.states = left
}

// keep keeps the states that have met the reading in slot.
func (r *search) keep(slot uint64) {
	r.filter(func(h *held, _ *uint64) bool {
		met := h.read&slot != 0
		h.read &^= slot
		return met
	})
}

// forget frees the slot of a change of unknown outcome, which has taken effect or never will.
func (r *search) forget(slot uint64) {
	r.filter(func(_ *held, used *uint64) bool { *used &^= slot; return true })
}

// applied keeps the states in which an acknowledged change has taken effect.
func (r *search) applied(op int) {
	at, _ := slices.BinarySearch(r.writes, op)
	r.filter(func(h *held, _ *uint64) bool { return at < h.base || at-h.base < 64 && h.ahead&(1<<(at-h.base)) != 0 })
}
