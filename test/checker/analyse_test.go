package checker

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Histories are written by hand here: times are small numbers, everything is in partition a/0 unless said otherwise.

const a0, b0 = "a/0", "b/0"

func rec(offset, value int64) Record { return Record{Key: a0, Offset: offset, Value: value} }

func in(k string, offset, value int64) Record { return Record{Key: k, Offset: offset, Value: value} }

func send(proc int, start, end int64, rs ...Record) *Op {
	return &Op{Proc: proc, F: Send, Type: OK, Start: start, End: end, Records: rs}
}

func poll(proc int, start, end int64, rs ...Record) *Op {
	return &Op{Proc: proc, F: Poll, Type: OK, Start: start, End: end, Session: 1, Reads: rs}
}

func txn(proc int, start, commit, end int64, rs ...Record) *Op {
	return &Op{Proc: proc, F: Txn, Type: OK, TxnID: "t", Start: start, CommitAt: commit, End: end, Records: rs}
}

func aborted(op *Op) *Op { op.Abort, op.CommitAt = true, 0; return op }

func unknown(op *Op) *Op { op.Type = Info; return op }

func failed(op *Op) *Op { op.Type = Fail; return op }

// final is a partition read whole at time 1000: rs are visible, hidden can be read uncommitted only.
func final(k string, rs []Record, hidden ...Record) *Op {
	all := append(slices.Clone(rs), hidden...)
	slices.SortFunc(all, func(x, y Record) int { return int(x.Offset - y.Offset) })
	end := int64(0)
	if len(all) > 0 {
		end = all[len(all)-1].Offset + 1
	}
	return &Op{Proc: 99, F: Final, Type: OK, Start: 1000, End: 1001, Key: k,
		Final: &Whole{Bounds: Bounds{HighWatermark: end, LastStable: end}, Committed: rs, All: all}}
}

func with(op *Op, change func(w *Whole)) *Op { change(op.Final); return op }

func batch(base, count int64, pid int64, epoch int16, sequence int32) Batch {
	return Batch{Base: base, Last: base + count - 1, Count: int32(count), PID: pid, Epoch: epoch, Sequence: sequence}
}

func inTxn(b Batch) Batch { b.Txn = true; return b }

func marker(base, pid int64, epoch int16, commit bool) Batch {
	return Batch{Base: base, Last: base, Count: 1, PID: pid, Epoch: epoch, Sequence: -1, Txn: true, Control: true, Commit: commit}
}

func observed(start, end, hw, lso int64, epoch int32) *Op {
	return &Op{Proc: 1, F: Observe, Type: OK, Start: start, End: end, Key: a0, Bounds: &Bounds{HighWatermark: hw, LastStable: lso, LeaderEpoch: epoch}}
}

func listedAt(start, spec, offset, time int64) *Op {
	return &Op{F: List, Type: OK, Start: start, End: start + 1, Key: a0, Spec: spec, Answer: Record{Offset: offset, Time: time}}
}

func commits(f Func, start, offset int64) *Op {
	return &Op{F: f, Type: OK, Start: start, End: start + 1, Group: "g", Generation: -1, Offsets: map[string]int64{a0: offset}}
}

func owns(start int64, member string, generation int32) *Op {
	return &Op{F: Assigned, Type: OK, Start: start, End: start + 100, Group: "g", Member: member, Generation: generation, Owned: []string{a0}}
}

func register(f Func, start, end int64, value string) *Op {
	return &Op{F: f, Type: OK, Start: start, End: end, Key: "r", Value: value}
}

func initialised(start int64, epoch int16) *Op {
	return &Op{F: Init, Type: OK, Start: start, End: start + 1, TxnID: "t", PID: 7, Epoch: epoch}
}

func as(op *Op, epoch int16) *Op { op.PID, op.Epoch = 7, epoch; return op }

func keyed(offset, value int64, name string) Record {
	return Record{Key: a0, Offset: offset, Value: value, RecordKey: name}
}

func compacted(rs ...Record) *Op {
	return with(final(a0, rs), func(w *Whole) { w.Compacted = true })
}

func copied(offset, value, source int64) Record {
	return Record{Key: b0, Offset: offset, Value: value, Source: source}
}

func copies(start int64, upTo int64, out Record) *Op {
	op := txn(3, start, start+1, start+2, out)
	op.Group, op.Offsets = "g", map[string]int64{a0: upTo}
	return op
}

func last(offset int64) *Op {
	op := commits(Committed, 990, offset)
	op.Member = "final"
	return op
}

// TestVerdicts holds each verdict against a history that is good and one that is bad; of a bad one exactly the named rules may be
// violated.
func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		name string
		want []string
		ops  []*Op
	}{
		{"empty", nil, nil},
		{"everything read", nil, []*Op{send(1, 1, 2, rec(0, 1), rec(1, 2)), poll(2, 3, 4, rec(0, 1)), poll(2, 5, 6, rec(1, 2)), final(a0, []Record{rec(0, 1), rec(1, 2)})}},
		{"a write of unknown outcome may be there", nil, []*Op{unknown(send(1, 1, 2, rec(-1, 1))), final(a0, []Record{rec(0, 1)})}},
		{"or not", nil, []*Op{unknown(send(1, 1, 2, rec(-1, 1))), final(a0, nil)}},

		{"lost: read past", []string{"I1", "I2"}, []*Op{send(1, 1, 2, rec(0, 1), rec(1, 2)), final(a0, []Record{rec(1, 2)})}},
		{"lost at the end", []string{"I2"}, []*Op{send(1, 1, 2, rec(0, 1), rec(1, 2)), final(a0, []Record{rec(0, 1)})}},
		{"two values at one offset", []string{"I17", "I3"}, []*Op{send(1, 1, 2, rec(0, 1)), unknown(send(2, 1, 2, rec(-1, 2))), dirty(poll(3, 3, 4, rec(0, 2))), final(a0, []Record{rec(0, 1)})}},
		{"acknowledged at another's offset", []string{"I3", "I5"}, []*Op{send(1, 1, 2, rec(0, 1)), send(2, 1, 2, rec(0, 2)), final(a0, []Record{rec(0, 1), rec(1, 2)})}},
		{"written twice", []string{"I5"}, []*Op{send(1, 1, 2, rec(0, 1)), final(a0, []Record{rec(0, 1), rec(1, 1)})}},

		{"first offset", nil, []*Op{send(1, 1, 2, rec(0, 1)), listedAt(3, -2, 0, 0), final(a0, []Record{rec(0, 1)})}},
		{"another first offset", []string{"I4"}, []*Op{send(1, 1, 2, rec(0, 1)), listedAt(3, -2, 1, 0), final(a0, []Record{rec(0, 1)})}},
		{"end while a write is under way", nil, []*Op{send(1, 1, 9, rec(0, 1)), listedAt(3, -1, 0, 0), final(a0, []Record{rec(0, 1)})}},
		{"end before what was acknowledged", []string{"I4"}, []*Op{send(1, 1, 2, rec(0, 1)), listedAt(3, -1, 0, 0), final(a0, []Record{rec(0, 1)})}},
		{"end past everything", []string{"I4"}, []*Op{send(1, 1, 2, rec(0, 1)), listedAt(3, -1, 2, 0), final(a0, []Record{rec(0, 1)})}},
		{"by time", nil, timed(listedAt(3, 15, 1, 20))},
		{"by time, a later one", []string{"I4"}, timed(listedAt(3, 5, 1, 20))},
		{"by time, another time", []string{"I4"}, timed(listedAt(3, 15, 1, 21))},
		{"by time, none", nil, timed(listedAt(3, 25, -1, -1))},
		{"by time, none although there is", []string{"I4"}, timed(listedAt(3, 15, -1, -1))},

		{"sends go back", []string{"I6"}, []*Op{send(1, 1, 2, rec(1, 1)), send(1, 3, 4, rec(0, 2)), final(a0, []Record{rec(0, 2), rec(1, 1)})}},
		{"two processes' sends may", nil, []*Op{send(1, 1, 2, rec(1, 1)), send(2, 3, 4, rec(0, 2)), final(a0, []Record{rec(0, 2), rec(1, 1)})}},
		{"sends go back inside", []string{"I7"}, []*Op{send(1, 1, 2, rec(1, 1), rec(0, 2)), final(a0, []Record{rec(0, 2), rec(1, 1)})}},
		{"polls go back", []string{"I9"}, read(poll(2, 3, 4, rec(1, 2)), poll(2, 5, 6, rec(0, 1)))},
		{"another session may", nil, read(poll(2, 3, 4, rec(1, 2)), session(poll(2, 5, 6, rec(0, 1)), 2))},
		{"a poll skips", []string{"I10"}, read(poll(2, 3, 4, rec(0, 1)), poll(2, 5, 6, rec(2, 3)))},
		{"a poll skips inside", []string{"I10"}, read(poll(2, 3, 4, rec(0, 1), rec(2, 3)))},
		{"a gap that holds nothing visible", nil, []*Op{aborted(txn(4, 1, 0, 2, rec(1, 2))), send(1, 1, 2, rec(0, 1), rec(2, 3)), poll(2, 3, 4, rec(0, 1), rec(2, 3)),
			final(a0, []Record{rec(0, 1), rec(2, 3)}, rec(1, 2))}},

		{"aborted read", []string{"I11", "I17"}, []*Op{aborted(txn(1, 1, 0, 2, rec(0, 1))), poll(2, 3, 4, rec(0, 1)), final(a0, nil, rec(0, 1))}},
		{"aborted read, allowed uncommitted", nil, []*Op{aborted(txn(1, 1, 0, 2, rec(0, 1))), dirty(poll(2, 3, 4, rec(0, 1))), final(a0, nil, rec(0, 1))}},
		{"failed send read", []string{"I11"}, []*Op{failed(send(1, 1, 2, rec(-1, 1))), final(a0, []Record{rec(0, 1)})}},
		{"aborted at the end", []string{"I11"}, []*Op{aborted(txn(1, 1, 0, 2, rec(0, 1))), final(a0, []Record{rec(0, 1)})}},
		{"read after the commit was asked for", nil, []*Op{txn(1, 1, 5, 9, rec(0, 1)), poll(2, 3, 6, rec(0, 1)), final(a0, []Record{rec(0, 1)})}},
		{"read before", []string{"I12"}, []*Op{txn(1, 1, 5, 9, rec(0, 1)), poll(2, 3, 4, rec(0, 1)), final(a0, []Record{rec(0, 1)})}},
		{"never asked for", []string{"I12"}, []*Op{unknown(txn(1, 1, 0, 9, rec(0, 1))), final(a0, []Record{rec(0, 1)})}},
		{"two transactions read from one another", []string{"I13"}, []*Op{reads(txn(1, 1, 5, 9, rec(0, 1)), in(b0, 0, 2)), reads(txn(2, 1, 5, 9, in(b0, 0, 2)), rec(0, 1)),
			final(a0, []Record{rec(0, 1)}), final(b0, []Record{in(b0, 0, 2)})}},
		{"one reads from the other", nil, []*Op{reads(txn(1, 1, 5, 9, rec(0, 1)), in(b0, 0, 2)), txn(2, 1, 5, 9, in(b0, 0, 2)), final(a0, []Record{rec(0, 1)}), final(b0, []Record{in(b0, 0, 2)})}},
		{"read before it was sent", []string{"I13"}, []*Op{poll(2, 1, 2, rec(0, 1)), send(1, 3, 4, rec(0, 1)), final(a0, []Record{rec(0, 1)})}},

		{"sequences go on", nil, logged(batch(0, 2, 7, 0, 0), batch(2, 1, 7, 0, 2))},
		{"a sequence is missing", []string{"I15"}, logged(batch(0, 2, 7, 0, 0), batch(2, 1, 7, 0, 3))},
		{"a sequence again", []string{"I15"}, logged(batch(0, 2, 7, 0, 0), batch(2, 1, 7, 0, 0))},
		{"a new epoch begins at zero", nil, logged(batch(0, 2, 7, 0, 0), batch(2, 1, 7, 1, 0))},
		{"a producer epoch goes back", []string{"I15"}, logged(batch(0, 2, 7, 1, 0), batch(2, 1, 7, 0, 0))},
		{"a hole in the log", []string{"I15"}, logged(batch(0, 2, -1, 0, 0), batch(3, 1, -1, 0, 0))},
		{"a leader epoch goes back", []string{"I15"}, logged(Batch{Base: 0, Last: 0, Count: 1, PID: -1, LeaderEpoch: 2}, Batch{Base: 1, Last: 1, Count: 1, PID: -1, LeaderEpoch: 1})},
		{"more offsets than records", []string{"I15"}, logged(Batch{Base: 0, Last: 3, Count: 2, PID: -1})},
		{"a wrong checksum", []string{"I15"}, logged(Batch{Base: 0, Last: 0, Count: 1, PID: -1, Wrong: "CRC"})},
		{"damage on disk", []string{"I15"}, []*Op{{F: Disk, Type: OK, Key: "a-0", Damage: []string{"a hole"}}}},

		{"watermarks go up", nil, []*Op{observed(1, 2, 3, 2, 0), observed(3, 4, 4, 4, 0)}},
		{"the high watermark goes back", []string{"I16"}, []*Op{observed(1, 2, 3, 2, 0), observed(3, 4, 2, 2, 0)}},
		{"the last stable offset goes back", []string{"I16"}, []*Op{observed(1, 2, 3, 2, 0), observed(3, 4, 4, 1, 0)}},
		{"it may in a crash", nil, []*Op{observed(1, 2, 3, 2, 0), {F: Crash, Key: "node", Type: OK, Start: 3, End: 5}, observed(6, 7, 2, 2, 0)}},
		{"stable above high", []string{"I16"}, []*Op{observed(1, 2, 3, 4, 0)}},
		{"a last stable offset before an open transaction", nil, []*Op{txn(1, 1, 5, 9, rec(1, 1)), observed(3, 4, 2, 1, 0), final(a0, []Record{rec(1, 1)})}},
		{"past an open transaction", []string{"I16"}, []*Op{txn(1, 1, 5, 9, rec(1, 1)), observed(3, 4, 2, 2, 0), final(a0, []Record{rec(1, 1)})}},
		{"past one about to commit", nil, []*Op{txn(1, 1, 5, 9, rec(1, 1)), observed(4, 6, 2, 2, 0), final(a0, []Record{rec(1, 1)})}},
		{"the end is lower than was seen", []string{"I16"}, []*Op{observed(1, 2, 3, 3, 0), final(a0, nil)}},
		{"the leader epoch goes back", []string{"M3"}, []*Op{observed(1, 2, 3, 2, 5), observed(3, 4, 4, 4, 4)}},

		{"read and gone", []string{"I17"}, []*Op{unknown(send(1, 1, 2, rec(-1, 1))), poll(2, 3, 4, rec(0, 1)), final(a0, nil)}},
		{"never sent", []string{"I18"}, []*Op{final(a0, []Record{rec(0, 1)})}},
		{"in another partition", []string{"I18"}, []*Op{unknown(send(1, 1, 2, rec(-1, 1))), final(b0, []Record{in(b0, 0, 1)})}},
		{"changed", []string{"I18"}, []*Op{send(1, 1, 2, rec(0, 1)), poll(2, 3, 4, Record{Key: a0, Offset: 0, Wrong: "checksum"}), final(a0, []Record{rec(0, 1)})}},
		{"aborted ranges", nil, indexed([]Range{{7, 0}})},
		{"an aborted range not named", []string{"I19"}, indexed(nil)},
		{"a range too many", []string{"I19"}, indexed([]Range{{7, 0}, {8, 2}})},

		{"torn", []string{"T1", "T2"}, []*Op{txn(1, 1, 2, 3, rec(0, 1), in(b0, 0, 2)), final(a0, []Record{rec(0, 1)}), final(b0, nil)}},
		{"torn, outcome unknown", []string{"T1"}, []*Op{unknown(txn(1, 1, 2, 3, rec(0, 1), in(b0, 0, 2))), final(a0, []Record{rec(0, 1)}), final(b0, nil, in(b0, 0, 2))}},
		{"whole, outcome unknown", nil, []*Op{unknown(txn(1, 1, 2, 3, rec(0, 1), in(b0, 0, 2))), final(a0, []Record{rec(0, 1)}), final(b0, []Record{in(b0, 0, 2)})}},
		{"committed and gone", []string{"T2"}, []*Op{txn(1, 1, 2, 3, rec(0, 1)), final(a0, nil, rec(0, 1))}},
		{"fenced and not written", nil, []*Op{initialised(1, 1), failed(as(txn(1, 5, 6, 7, rec(-1, 1)), 0)), final(a0, nil)}},
		{"fenced and written", []string{"T3"}, []*Op{initialised(1, 1), unknown(as(txn(1, 5, 6, 7, rec(-1, 1)), 0)), final(a0, nil, rec(0, 1))}},
		{"written before the fence", nil, []*Op{initialised(6, 1), unknown(as(txn(1, 5, 6, 7, rec(-1, 1)), 0)), final(a0, nil, rec(0, 1))}},

		{"copied once", nil, []*Op{send(1, 1, 2, rec(0, 1)), copies(3, 1, copied(0, 2, 1)), last(1), final(a0, []Record{rec(0, 1)}), final(b0, []Record{copied(0, 2, 1)})}},
		{"copied twice", []string{"T4"}, []*Op{send(1, 1, 2, rec(0, 1)), copies(3, 1, copied(0, 2, 1)), copies(6, 1, copied(1, 3, 1)), last(1), final(a0, []Record{rec(0, 1)}),
			final(b0, []Record{copied(0, 2, 1), copied(1, 3, 1)})}},
		{"passed over", []string{"T4"}, []*Op{send(1, 1, 2, rec(0, 1), rec(1, 2)), copies(3, 2, copied(0, 3, 2)), last(2), final(a0, []Record{rec(0, 1), rec(1, 2)}), final(b0, []Record{copied(0, 3, 2)})}},
		{"copied and not committed", []string{"G1", "T4"}, []*Op{send(1, 1, 2, rec(0, 1)), copies(3, 1, copied(0, 2, 1)), last(0), final(a0, []Record{rec(0, 1)}), final(b0, []Record{copied(0, 2, 1)})}},
		{"a transfer", nil, transferred(5)},
		{"money made", []string{"T4"}, transferred(6)},
		{"a transaction stays open", []string{"T5"}, []*Op{{F: OpenTxns, Type: OK, Open: []OpenTxn{{TxnID: "t", State: "Ongoing"}}}}},
		{"the last stable offset stays behind", []string{"T5"}, []*Op{unknown(txn(1, 1, 2, 3, rec(0, 1))), with(final(a0, nil, rec(0, 1)), func(w *Whole) { w.LastStable = 0 })}},

		{"the last commit", nil, []*Op{commits(Commit, 1, 5), commits(Commit, 3, 6), commits(Committed, 5, 6)}},
		{"an older commit", []string{"G1"}, []*Op{commits(Commit, 1, 5), commits(Commit, 3, 6), commits(Committed, 5, 5)}},
		{"no commit", []string{"G1"}, []*Op{commits(Commit, 1, 5), commits(Committed, 5, -1)}},
		{"no commit yet", nil, []*Op{commits(Committed, 1, -1), commits(Commit, 3, 5)}},
		{"a commit of unknown outcome", nil, []*Op{commits(Commit, 1, 5), unknown(commits(Commit, 3, 6)), commits(Committed, 5, 6)}},
		{"or the one before it", nil, []*Op{commits(Commit, 1, 5), unknown(commits(Commit, 3, 6)), commits(Committed, 5, 5)}},
		{"a refused commit", []string{"G1"}, []*Op{commits(Commit, 1, 5), failed(commits(Commit, 3, 6)), commits(Committed, 5, 6)}},
		{"owners one after the other", nil, []*Op{owns(1, "x", 1), owns(50, "y", 2)}},
		{"two owners", []string{"G2"}, []*Op{owns(1, "x", 1), owns(50, "y", 1)}},
		{"a commit of an old generation", []string{"G2"}, []*Op{owns(1, "x", 1), owns(50, "y", 2), member(commits(Commit, 60, 5), "x", 1)}},
		{"a static member's successor", nil, []*Op{static(owns(1, "x", 1)), static(owns(50, "y", 1))}},
		{"a served member that lags", nil, []*Op{owns(1, "x", 1), owning(owns(50, "y", 2), b0), served(member(commits(Commit, 60, 5), "x", 1))}},
		{"a served member that was followed", []string{"G2"}, []*Op{owns(1, "x", 1), owns(50, "y", 2), served(member(commits(Commit, 60, 5), "x", 1))}},
		{"a commit before the new one", nil, []*Op{owns(1, "x", 1), owns(50, "y", 2), member(commits(Commit, 40, 5), "x", 1)}},

		{"compacted", nil, []*Op{send(1, 1, 2, keyed(0, 1, "x"), keyed(1, 2, "y"), keyed(2, 3, "x")), compacted(keyed(1, 2, "y"), keyed(2, 3, "x"))}},
		{"the last value compacted away", []string{"K1"}, []*Op{send(1, 1, 2, keyed(0, 1, "x"), keyed(1, 2, "y"), keyed(2, 3, "x")), compacted(keyed(0, 1, "x"), keyed(1, 2, "y"))}},
		{"a key compacted away", []string{"K1"}, []*Op{send(1, 1, 2, keyed(0, 1, "x"), keyed(1, 2, "y")), compacted(keyed(0, 1, "x"))}},
		{"an offset changed by compaction", []string{"I5", "K1"}, []*Op{send(1, 1, 2, keyed(0, 1, "x"), keyed(2, 3, "x")), compacted(keyed(1, 3, "x"))}},
		{"order changed by compaction", []string{"I9", "K2"}, []*Op{send(1, 1, 2, keyed(0, 1, "x"), keyed(1, 2, "y")),
			with(compacted(keyed(0, 1, "x"), keyed(1, 2, "y")), func(w *Whole) { slices.Reverse(w.All) })}},
		{"an aborted value survives compaction", []string{"I11", "K3"}, []*Op{aborted(txn(1, 1, 0, 2, keyed(0, 1, "x"))), compacted(keyed(0, 1, "x"))}},

		{"a register", nil, []*Op{register(Set, 1, 2, "x"), register(Get, 3, 4, "x"), register(Set, 5, 9, "y"), register(Get, 6, 7, "x"), register(Get, 7, 8, "y")}},
		{"a register of unknown outcome", nil, []*Op{register(Set, 1, 2, "x"), unknown(register(Set, 3, 4, "y")), register(Get, 5, 6, "x"), register(Get, 7, 8, "y")}},
		{"it goes back", []string{"A1"}, []*Op{register(Set, 1, 2, "x"), register(Set, 3, 9, "y"), register(Get, 4, 5, "y"), register(Get, 6, 7, "x")}},
		{"a value never set", []string{"A1"}, []*Op{register(Set, 1, 2, "x"), register(Get, 3, 4, "z")}},
		{"seen soon", nil, []*Op{register(Set, 1, 2, "x"), register(Get, 3, 4, ""), register(Get, 5, 6, "x")}},
		{"not seen in time", []string{"A1"}, []*Op{register(Set, 1, 2, "x"), register(Get, 300, 301, "")}},
		{"seen in another order", []string{"A1"}, []*Op{register(Set, 1, 2, "x"), register(Set, 3, 4, "y"), register(Get, 5, 6, "y"), register(Get, 7, 8, "x")}},
		{"a register that too many change at once", []string{"A1u"}, crowd(80)},
		{"a register that many change at once", nil, crowd(12)},
		{"gone at the end", []string{"M1"}, []*Op{register(Set, 1, 2, "x"), register(Get, 3, 4, "x"), {F: Get, Type: OK, Start: 900, End: 901, Key: "r", Member: "final"}}},
		{"a partition cannot be read", []string{"F"}, []*Op{failed(final(a0, nil))}},
		{"the node does not come back", []string{"F"}, []*Op{{F: Crash, Key: "node", Type: Fail, Start: 1, End: 2}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for i, op := range tt.ops {
				op.ID = i
			}
			r := Analyse(tt.ops, 100*time.Nanosecond)
			if got := r.Bad(); !cmp.Equal(slices.Sorted(slices.Values(got)), tt.want, cmpopts.EquateEmpty()) {
				t.Errorf("got %v, want %v\n%s", got, tt.want, r)
			}
		})
	}
}

// crowd is a register that n clients changed without knowing the outcome, then one reading of it.
func crowd(n int) (ops []*Op) {
	for i := range n {
		ops = append(ops, unknown(register(Set, int64(1+i), int64(200+i), string(rune('a'+i)))))
	}
	return append(ops, register(Get, 500, 501, "b"))
}

func timed(op *Op) []*Op {
	rs := []Record{rec(0, 1), rec(1, 2)}
	rs[0].Time, rs[1].Time = 10, 20
	return []*Op{send(1, 1, 2, rs...), op, final(a0, rs)}
}

func read(polls ...*Op) []*Op {
	rs := []Record{rec(0, 1), rec(1, 2), rec(2, 3)}
	return append([]*Op{send(1, 1, 2, rs...), final(a0, rs)}, polls...)
}

func session(op *Op, n int64) *Op { op.Session = n; return op }

func dirty(op *Op) *Op { op.Uncommitted = true; return op }

func reads(op *Op, rs ...Record) *Op { op.Reads = rs; return op }

func member(op *Op, name string, generation int32) *Op {
	op.Member, op.Generation = name, generation
	return op
}

func static(op *Op) *Op { op.Instance = "i"; return op }

func served(op *Op) *Op { op.Served = true; return op }

func owning(op *Op, owned ...string) *Op { op.Owned = owned; return op }

func logged(bs ...Batch) []*Op {
	return []*Op{with(final(a0, nil), func(w *Whole) { w.Batches = bs })}
}

func indexed(named []Range) []*Op {
	return []*Op{with(final(a0, nil), func(w *Whole) {
		w.Batches = []Batch{inTxn(batch(0, 2, 7, 0, 0)), inTxn(batch(2, 1, 8, 0, 0)), marker(3, 7, 0, false), marker(4, 8, 0, true)}
		w.Aborted = named
	})}
}

func transferred(arrived int64) []*Op {
	from, to := rec(0, 1), in(b0, 0, 2)
	from.Delta, to.Delta = -5, arrived
	return []*Op{txn(1, 1, 2, 3, from, to), final(a0, []Record{from}), final(b0, []Record{to})}
}

func TestWriteAndReadAHistory(t *testing.T) {
	h := NewHistory(10)
	op := h.Begin(send(1, 0, 0, rec(-1, 1)))
	op.Records[0].Offset = 5
	h.End(op, OK, nil)
	h.Begin(poll(2, 0, 0))
	var b bytes.Buffer
	if err := Write(&b, h.Ops()); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h.Ops(), got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}
