package checker

import (
	"cmp"
	"slices"
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
		a.judge("I4", 1)
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
	ends := a.commitEnds()
	for _, op := range a.of(Observe, Final) {
		b := op.Bounds
		if op.F == Final && op.Final != nil {
			b = &op.Final.Bounds
		}
		if op.Type != OK || b == nil || b.Error != 0 {
			continue
		}
		a.judge("I16", 1)
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
			if b.LeaderEpoch >= 0 {
				a.judge("M3", 1)
			}
			if b.LeaderEpoch >= 0 && b.LeaderEpoch < before.LeaderEpoch {
				a.bad("M3", []*Op{had, op}, "%s: leader epoch %d after %d", op.Key, b.LeaderEpoch, before.LeaderEpoch)
			}
		}
		if op.F == Observe {
			a.overrun(op, ends[op.Key])
			last[l] = op
			if w := a.finals[op.Key]; w != nil && b.HighWatermark > w.HighWatermark {
				a.bad("I16", []*Op{op}, "%s: the high watermark was %d and is %d at the end", op.Key, b.HighWatermark, w.HighWatermark)
			}
		}
	}
}

// commitEnd is a value of a transaction that was committed, and when the latest commit was asked for of all below it and its own.
type commitEnd struct {
	offset, asked int64
	op            *Op
}

// commitEnds are the values of committed transactions by key and offset.
func (a *analysis) commitEnds() map[string][]commitEnd {
	ends := map[string][]commitEnd{}
	for _, op := range a.ops {
		if op.F != Txn || op.Type != OK || op.Abort {
			continue
		}
		for _, r := range op.Records {
			if r.Offset >= 0 {
				ends[r.Key] = append(ends[r.Key], commitEnd{r.Offset, op.CommitAt, op})
			}
		}
	}
	for _, list := range ends {
		slices.SortFunc(list, func(x, y commitEnd) int { return cmp.Compare(x.offset, y.offset) })
		for i := 1; i < len(list); i++ {
			if list[i-1].asked > list[i].asked {
				list[i].asked, list[i].op = list[i-1].asked, list[i-1].op
			}
		}
	}
	return ends
}

// overrun: the last stable offset is not past a value of a transaction whose commit has not been asked for.
func (a *analysis) overrun(op *Op, ends []commitEnd) {
	i, _ := slices.BinarySearchFunc(ends, op.Bounds.LastStable, func(e commitEnd, lso int64) int { return cmp.Compare(e.offset, lso) })
	if i > 0 && ends[i-1].asked > op.End {
		a.bad("I16", []*Op{ends[i-1].op, op}, "%s: the last stable offset is %d, past a transaction that was open", op.Key, op.Bounds.LastStable)
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
		a.judge("I15", len(w.Batches))
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
		a.judge("I19", len(abortedRanges(w.Batches)))
		if got, want := sortRanges(slices.Clone(w.Aborted)), abortedRanges(w.Batches); !slices.Equal(got, want) {
			a.bad("I19", nil, "%s: Fetch names %d aborted transactions, the log has %d; first difference %s", key, len(got), len(want), difference(got, want))
		}
	}
	for _, op := range a.of(Disk) {
		a.judge("I15", 1)
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
