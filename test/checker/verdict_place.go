package checker

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// lookups: ListOffsets agrees with the log (I4).
func (a *analysis) lookups() {
	acks := map[string][]spot{}
	a.acked(func(op *Op, r Record) {
		if r.Offset >= 0 {
			acks[r.Key] = append(acks[r.Key], spot{op, r.Offset})
		}
	})
	for _, op := range a.of(List) {
		w := a.finals[op.Key]
		if op.Type != OK || w == nil || w.Compacted {
			continue
		}
		got := op.Answer.Offset
		switch op.Spec {
		case -2:
			if got != w.LogStart {
				a.bad("I4", []*Op{op}, "%s begins at %d, not at %d", op.Key, w.LogStart, got)
			}
		case -1:
			if got > w.HighWatermark {
				a.bad("I4", []*Op{op}, "the end of %s is said to be %d; it never was past %d", op.Key, got, w.HighWatermark)
			}
			for _, s := range acks[op.Key] {
				if s.op.F == Send && s.op.end() < op.Start && s.offset >= got {
					a.bad("I4", []*Op{s.op, op}, "the end of %s is said to be %d; offset %d was acknowledged before", op.Key, got, s.offset)
					break
				}
			}
		default:
			a.lookup(op, w)
		}
	}
}

// lookup judges a search by time: the first offset whose time is not before it, among what was there.
func (a *analysis) lookup(op *Op, w *Whole) {
	for _, r := range w.All {
		if r.Time < op.Spec {
			continue
		}
		writer := a.writer[r.Value]
		if r.Offset == op.Answer.Offset {
			if r.Time != op.Answer.Time {
				a.bad("I4", []*Op{op}, "%s: offset %d has time %d, not %d", op.Key, r.Offset, r.Time, op.Answer.Time)
			}
			return
		}
		there := writer != nil && writer.F == Send && writer.end() < op.Start
		if there || op.Answer.Offset > r.Offset {
			a.bad("I4", []*Op{op}, "%s: the first record from time %d on is at offset %d, not %d", op.Key, op.Spec, r.Offset, op.Answer.Offset)
			return
		}
	}
	if op.Answer.Offset >= 0 {
		a.bad("I4", []*Op{op}, "%s: offset %d has no time from %d on", op.Key, op.Answer.Offset, op.Spec)
	}
}

// bounds: high watermark and last stable offset go up for each observer as long as the node lives, are in order, and end where
// nobody has seen more (I16); leader epochs go up (M3).
func (a *analysis) bounds() {
	type lane struct {
		proc int
		key  string
	}
	last := map[lane]*Op{}
	crashes := a.of(Crash)
	for _, op := range a.of(Observe, Final) {
		b := op.Bounds
		if op.F == Final && op.Final != nil {
			b = &op.Final.Bounds
		}
		if op.Type != OK || b == nil || b.Error != 0 {
			continue
		}
		if b.LastStable > b.HighWatermark || b.LogStart > b.HighWatermark || b.LastStable < 0 {
			a.bad("I16", []*Op{op}, "%s: log start %d, last stable %d, high watermark %d", op.Key, b.LogStart, b.LastStable, b.HighWatermark)
		}
		l := lane{op.Proc, op.Key}
		if had := last[l]; had != nil {
			before := had.Bounds
			died := slices.ContainsFunc(crashes, func(c *Op) bool { return c.Key == "node" && c.Start < op.End && c.End > had.Start })
			if !died && (b.HighWatermark < before.HighWatermark || b.LastStable < before.LastStable) {
				a.bad("I16", []*Op{had, op}, "%s: high watermark %d after %d, last stable %d after %d", op.Key, b.HighWatermark, before.HighWatermark, b.LastStable, before.LastStable)
			}
			if b.LeaderEpoch >= 0 && b.LeaderEpoch < before.LeaderEpoch {
				a.bad("M3", []*Op{had, op}, "%s: leader epoch %d after %d", op.Key, b.LeaderEpoch, before.LeaderEpoch)
			}
		}
		if op.F == Observe {
			last[l] = op
			if w := a.finals[op.Key]; w != nil && b.HighWatermark > w.HighWatermark {
				a.bad("I16", []*Op{op}, "%s: the high watermark was %d and is %d at the end", op.Key, b.HighWatermark, w.HighWatermark)
			}
		}
	}
}

// logs: batches are whole and in order, epochs go up, sequences have no holes (I15); the aborted index is right (I19).
func (a *analysis) logs() {
	type producer struct {
		pid   int64
		epoch int16
	}
	for key, w := range a.finals {
		next := map[producer]int32{}
		epochs := map[int64]int16{}
		var end int64
		var leader int32
		for i, b := range w.Batches {
			switch {
			case b.Wrong != "":
				a.bad("I15", nil, "%s offset %d: %s", key, b.Base, b.Wrong)
			case i > 0 && (b.Base < end || b.Base > end && !w.Compacted):
				a.bad("I15", nil, "%s: a batch begins at %d, the one before ended at %d", key, b.Base, end)
			case b.LeaderEpoch < leader:
				a.bad("I15", nil, "%s offset %d: leader epoch %d after %d", key, b.Base, b.LeaderEpoch, leader)
			case !w.Compacted && b.Last-b.Base+1 != int64(b.Count):
				a.bad("I15", nil, "%s offset %d: %d records on %d offsets", key, b.Base, b.Count, b.Last-b.Base+1)
			}
			end, leader = b.Last+1, b.LeaderEpoch
			if b.PID < 0 || w.Compacted {
				continue
			}
			if e, ok := epochs[b.PID]; ok && b.Epoch < e {
				a.bad("I15", nil, "%s offset %d: producer %d has epoch %d after %d", key, b.Base, b.PID, b.Epoch, e)
			}
			epochs[b.PID] = b.Epoch
			if b.Control {
				continue
			}
			p := producer{b.PID, b.Epoch}
			if want := next[p]; b.Sequence != want {
				a.bad("I15", nil, "%s offset %d: producer %d epoch %d has sequence %d, not %d", key, b.Base, b.PID, b.Epoch, b.Sequence, want)
			}
			next[p] = b.Sequence + b.Count
		}
		if w.Compacted {
			continue
		}
		if got, want := sortRanges(slices.Clone(w.Aborted)), abortedRanges(w.Batches); !slices.Equal(got, want) {
			a.bad("I19", nil, "%s: Fetch names %d aborted transactions, the log has %d; first difference %s", key, len(got), len(want), difference(got, want))
		}
	}
	for _, op := range a.of(Disk) {
		for _, d := range op.Damage {
			a.bad("I15", nil, "%s: %s", op.Key, d)
		}
	}
}

func difference(got, want []Range) string {
	for _, r := range got {
		if !slices.Contains(want, r) {
			return "named: " + r.String()
		}
	}
	for _, r := range want {
		if !slices.Contains(got, r) {
			return "not named: " + r.String()
		}
	}
	return "none"
}

// registers: each administrative register behaves as if its operations happened one at a time between begin and end (A1); one
// that holds an acknowledged value that nothing replaced has it at the end (M1).
func (a *analysis) registers() {
	byKey := map[string][]*Op{}
	for _, op := range a.of(Set, Get) {
		if op.F == Set && op.Type == Fail || op.F == Get && op.Type != OK {
			continue
		}
		byKey[op.Key] = append(byKey[op.Key], op)
	}
	for key, ops := range byKey {
		bad := linearizable(ops, 0)
		if bad == nil {
			continue
		}
		if bad = linearizable(ops, int64(a.lag)); bad == nil {
			a.report.Allowed["A1s"]++
			continue
		}
		rule := "A1"
		if bad.Member == "final" {
			rule = "M1"
		}
		i := slices.Index(ops, bad)
		a.bad(rule, ops[max(0, i-5):min(len(ops), i+2)], "operation %d: %s cannot have been %q then, whatever the order of %d operations", bad.ID, key, bad.Value, len(ops))
	}
}

// late is how long after its client gave up a change of unknown outcome may still take effect: no request lives longer in a node.
const late = 10 * time.Second

// linearizable returns the first reading that no order explains, or nil. The operations are sorted by begin. A change may become
// visible up to lag after its acknowledgement; changes that follow one another become visible in their order.
//
// It keeps every state in which the register may be: its value and which operations under way have taken effect. Of states that
// differ only in changes of unknown outcome those are enough that have used up least.
func linearizable(ops []*Op, lag int64) *Op {
	r := &search{ops: ops, pending: map[int]bool{}, states: map[held][]string{{}: {""}}}
	for _, e := range r.events(lag) {
		if e.begin {
			r.pending[e.i] = true
			continue
		}
		if !r.spread() {
			return nil // too many states to tell: no verdict on this register
		}
		r.end(e.i)
		if len(r.states) == 0 {
			return ops[e.i]
		}
	}
	return nil
}

// search is the state of linearizable. Sets of operations are strings of their marks.
type search struct {
	ops     []*Op
	pending map[int]bool
	states  map[held][]string // with the sets of used changes of unknown outcome
}

// held is a value with the set of operations, of known outcome, that are under way and have taken effect.
type held struct{ value, used string }

func mark(i int) string { return string(rune(i + 1)) }

func add(set string, i int) string {
	runes := append([]rune(set), rune(i+1))
	slices.Sort(runes)
	return string(runes)
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
		case at == never && op.End == 0:
			continue // never ended
		case at == never:
			at = op.End + int64(late)
		case op.F == Set:
			at += lag
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

// spread adds every state reachable by letting operations under way take effect. It is false if there are too many.
func (r *search) spread() bool {
	type state struct {
		held
		info string
	}
	var work []state
	for s, infos := range r.states {
		for _, info := range infos {
			work = append(work, state{s, info})
		}
	}
	for tried := 0; len(work) > 0; tried++ {
		if tried > 2000 {
			return false
		}
		s := work[0]
		work = work[1:]
		for i := range r.pending {
			op := r.ops[i]
			if strings.Contains(s.used, mark(i)) || strings.Contains(s.info, mark(i)) || op.F == Get && op.Value != s.value ||
				op.F == Set && r.before(i, s.used) {
				continue
			}
			n := s
			if op.F == Set {
				n.value = op.Value
			}
			if op.end() == never {
				n.info = add(s.info, i)
			} else {
				n.used = add(s.used, i)
			}
			if !slices.ContainsFunc(r.states[n.held], func(had string) bool { return subset(had, n.info) }) {
				r.states[n.held] = append(r.states[n.held], n.info)
				work = append(work, n)
			}
		}
	}
	return true
}

// before tells that an acknowledged change that ended before change i began is still to take effect.
func (r *search) before(i int, used string) bool {
	for j := range r.pending {
		if r.ops[j].F == Set && r.ops[j].end() < r.ops[i].Start && !strings.Contains(used, mark(j)) {
			return true
		}
	}
	return false
}

// end keeps the states in which operation i has taken effect, or need not have.
func (r *search) end(i int) {
	delete(r.pending, i)
	left := map[held][]string{}
	for s, infos := range r.states {
		if r.ops[i].end() != never {
			if !strings.Contains(s.used, mark(i)) {
				continue
			}
			s.used = strings.ReplaceAll(s.used, mark(i), "")
		}
		for _, info := range infos {
			info = strings.ReplaceAll(info, mark(i), "")
			if !slices.ContainsFunc(left[s], func(had string) bool { return subset(had, info) }) {
				left[s] = append(left[s], info)
			}
		}
	}
	r.states = left
}

func subset(small, large string) bool {
	for _, x := range small {
		if !strings.ContainsRune(large, x) {
			return false
		}
	}
	return true
}
