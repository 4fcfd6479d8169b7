package checker

import (
	"cmp"
	"slices"
)

// acked calls f for every value that the node promised to keep.
func (a *analysis) acked(f func(op *Op, r Record)) {
	for _, op := range a.ops {
		switch {
		case op.F == Send && op.Type != Fail:
			for _, r := range op.Records {
				if r.Offset >= 0 {
					f(op, r)
				}
			}
		case op.F == Txn && op.Type == OK && !op.Abort:
			for _, r := range op.Records {
				f(op, r)
			}
		}
	}
}

// writes: what was acknowledged stays and is read (I1, I2, T2), what was read stays (I17).
func (a *analysis) writes() {
	a.acked(func(op *Op, r Record) {
		if a.finals[r.Key] == nil || a.compacts[r.Key] {
			return
		}
		rule := "I2"
		if op.F == Txn {
			rule = "T2"
		}
		a.judge(rule, 1)
		if r.Offset >= 0 && a.maxRead[r.Key] > r.Offset {
			a.judge("I1", 1)
		}
		if a.visible[r.Value] {
			return
		}
		a.bad(rule, []*Op{op}, "value %d of %s, acknowledged with offset %d, cannot be read at the end", r.Value, r.Key, r.Offset)
		if a.readers[r.Value] == nil && r.Offset >= 0 && a.maxRead[r.Key] > r.Offset {
			a.bad("I1", []*Op{op}, "value %d of %s, acknowledged with offset %d, was read by nobody; offset %d was", r.Value, r.Key, r.Offset, a.maxRead[r.Key])
		}
	})
	gone := map[int64]bool{}
	for _, op := range a.ops {
		for _, r := range op.Reads {
			kept := a.present
			if !op.Uncommitted {
				kept = a.visible
			}
			if a.finals[r.Key] == nil || a.compacts[r.Key] || r.Wrong != "" {
				continue
			}
			a.judge("I17", 1)
			if kept[r.Value] || gone[r.Value] {
				continue
			}
			gone[r.Value] = true
			a.bad("I17", []*Op{op}, "value %d of %s was read at offset %d and is not there at the end", r.Value, r.Key, r.Offset)
		}
	}
}

// sends: offsets of one process and one key go up, between operations (I6) and inside (I7, I8).
func (a *analysis) sends() {
	type lane struct {
		proc int
		key  string
	}
	last := map[lane]spot{}
	for _, op := range a.of(Send, Txn) {
		inside := map[string]int64{}
		for _, r := range op.Records {
			if r.Offset < 0 {
				continue
			}
			before, again := inside[r.Key]
			if again {
				a.judge("I7", 1)
			}
			if again && r.Offset <= before {
				a.bad("I7", []*Op{op}, "%s: offset %d after %d in one operation", r.Key, r.Offset, before)
			}
			if again && op.F == Txn && r.Offset > before+1 {
				a.report.Allowed["I8"]++
			}
			inside[r.Key] = r.Offset
			l := lane{op.Proc, r.Key}
			if _, ok := last[l]; ok && !again {
				a.judge("I6", 1)
			}
			if had, ok := last[l]; ok && !again && r.Offset <= had.offset {
				a.bad("I6", []*Op{had.op, op}, "%s: offset %d, the send before had %d", r.Key, r.Offset, had.offset)
			}
			if had, ok := last[l]; !ok || r.Offset > had.offset {
				last[l] = spot{op, r.Offset}
			}
		}
	}
}

// polls: within a session positions only go up (I9) and nothing visible is jumped over (I10).
func (a *analysis) polls() {
	type lane struct {
		proc    int
		session int64
		key     string
	}
	last := map[lane]spot{}
	for _, op := range a.of(Poll, Txn) {
		if op.Type != OK && op.F == Poll {
			continue
		}
		for _, r := range op.Reads {
			l := lane{op.Proc, op.Session, r.Key}
			had, ok := last[l]
			if ok {
				a.judge("I9", 1)
			}
			switch {
			case !ok:
			case r.Offset <= had.offset:
				a.bad("I9", []*Op{had.op, op}, "%s: offset %d read after %d", r.Key, r.Offset, had.offset)
			case !a.compacts[r.Key]:
				a.skipped(had.op, op, r.Key, had.offset, r.Offset)
			}
			last[l] = spot{op, r.Offset}
		}
	}
	// The readings of the end begin at the first offset of each log and must hold everything that is visible.
	for key, w := range a.finals {
		for _, rs := range [][]Record{w.Committed, w.All} {
			if !slices.IsSortedFunc(rs, func(x, y Record) int { return cmp.Compare(x.Offset, y.Offset) }) {
				a.bad("I9", nil, "%s: the log read whole does not come in order", key)
			}
		}
	}
}

func (a *analysis) skipped(before, op *Op, key string, from, to int64) {
	all := a.offsets[key]
	a.judge("I10", 1)
	i, _ := slices.BinarySearch(all, from+1)
	if i < len(all) && all[i] < to {
		a.bad("I10", []*Op{before, op}, "%s: read offset %d and then %d, past value %d at %d", key, from, to, a.log[key][all[i]], all[i])
	}
}

// compaction: the last value of every key is there (K1), what is left has its offset and order (K2), nothing aborted (K3).
func (a *analysis) compaction() {
	for key, w := range a.finals {
		if !w.Compacted {
			continue
		}
		left := map[string]Record{} // record key -> last one left
		for _, r := range w.Committed {
			left[r.RecordKey] = r
		}
		a.judge("K2", len(w.All))
		for i := 1; i < len(w.All); i++ {
			if w.All[i].Offset <= w.All[i-1].Offset {
				a.bad("K2", nil, "%s: offset %d after %d", key, w.All[i].Offset, w.All[i-1].Offset)
			}
		}
		newest := map[string]Record{}
		a.acked(func(_ *Op, r Record) {
			if r.Key == key && r.Offset >= newest[r.RecordKey].Offset {
				newest[r.RecordKey] = r
			}
		})
		a.judge("K1", len(newest))
		for name, r := range newest {
			got, ok := left[name]
			if !ok || got.Offset < r.Offset {
				a.bad("K1", []*Op{a.writer[r.Value]}, "%s: the last value of %q is %d at offset %d; left is %d at %d", key, name, r.Value, r.Offset, got.Value, got.Offset)
			}
			if ok && got.Offset == r.Offset && got.Value != r.Value {
				a.bad("K2", []*Op{a.writer[r.Value]}, "%s offset %d: %d was written, %d is left", key, r.Offset, r.Value, got.Value)
			}
		}
		for _, op := range a.ops {
			for _, r := range op.Records {
				if r.Key == key && a.undone(op) {
					a.judge("K3", 1)
				}
			}
		}
		for _, r := range w.Committed {
			if w := a.writer[r.Value]; w != nil && a.undone(w) {
				a.bad("K3", []*Op{w}, "%s: value %d at offset %d was never committed", key, r.Value, r.Offset)
			}
		}
	}
}

// undone reports that what the operation wrote must never be visible.
func (a *analysis) undone(op *Op) bool {
	return op.Type == Fail || op.F == Txn && op.Type == OK && op.Abort
}
