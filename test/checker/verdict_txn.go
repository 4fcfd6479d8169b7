package checker

import (
	"cmp"
	"fmt"
	"slices"
)

// transactions: nothing undone is read (I11), nothing too early (I12), all or nothing (T1).
func (a *analysis) transactions() {
	for _, op := range a.ops {
		if op.Uncommitted {
			continue
		}
		for _, r := range op.Reads {
			a.readOf(op, r.Value, r.Key, op.End)
		}
		if op.F == Final && op.Type == OK {
			for _, r := range op.Final.Committed {
				a.readOf(op, r.Value, r.Key, op.End)
			}
		}
	}
	for _, op := range a.ops {
		if op.F != Txn || len(op.Records) == 0 {
			continue
		}
		seen, judged := 0, 0
		for _, r := range op.Records {
			if a.finals[r.Key] != nil && !a.compacts[r.Key] {
				judged++
				if a.visible[r.Value] {
					seen++
				}
			}
		}
		if judged > 1 {
			a.judge("T1", 1)
		}
		if a.undone(op) {
			a.judge("I11", judged)
		}
		if seen > 0 && seen < judged {
			a.bad("T1", []*Op{op}, "%d of its %d values are visible", seen, judged)
		}
	}
}

func (a *analysis) readOf(op *Op, value int64, key string, at int64) {
	w := a.writer[value]
	if w != nil && w.F == Txn {
		a.judge("I12", 1)
	}
	switch {
	case w == nil:
	case a.undone(w):
		a.bad("I11", []*Op{w, op}, "value %d of %s was read", value, key)
	case w.F == Txn && (w == op || w.CommitAt == 0 || at < w.CommitAt) && op.Type != "":
		a.bad("I12", []*Op{w, op}, "value %d of %s was read", value, key)
	}
}

// cycles looks for operations that read from one another in a circle (I13), with the order of processes and of real time, and
// counts circles of write orders (I14).
func (a *analysis) cycles() {
	done := func(op *Op) bool { return op.Type == OK && (op.F == Txn && !op.Abort || op.F == Poll || op.F == Send) }
	n := len(a.ops)
	at := map[*Op]int{}
	for i, op := range a.ops {
		at[op] = i
	}
	// Nodes 0..n-1 are operations, n.. the ends of operations in the order of time.
	var ends []*Op
	for _, op := range a.ops {
		if done(op) {
			ends = append(ends, op)
		}
	}
	slices.SortFunc(ends, func(x, y *Op) int { return cmp.Compare(x.End, y.End) })
	edges := make([][]int32, n+len(ends))
	link := func(from, to int) { edges[from] = append(edges[from], int32(to)) }
	for i, op := range ends {
		link(at[op], n+i)
		if i > 0 {
			link(n+i-1, n+i)
		}
		if j, _ := slices.BinarySearchFunc(ends, op.Start, func(x *Op, t int64) int { return cmp.Compare(x.End, t) }); j > 0 {
			link(n+j-1, at[op])
		}
		for _, r := range op.Reads {
			if w := a.writer[r.Value]; w != nil && w != op && w.Type != Fail && !op.Uncommitted {
				link(at[w], at[op])
				a.judge("I13", 1)
			}
		}
	}
	for _, c := range components(edges) {
		var ops []*Op
		for _, v := range c {
			if int(v) < n {
				ops = append(ops, a.ops[v])
			}
		}
		byStart(ops)
		a.bad("I13", ops[:min(len(ops), 6)], "a circle of %d operations", len(ops))
	}
	a.report.Allowed["I14"] += len(components(a.writeOrder(at)))
}

// writeOrder has an edge from each writer of a value to the writer of the next value of the key.
func (a *analysis) writeOrder(at map[*Op]int) [][]int32 {
	edges := make([][]int32, len(a.ops))
	for key, offsets := range a.offsets {
		var before *Op
		for _, o := range offsets {
			w := a.writer[a.log[key][o]]
			if w == nil {
				continue
			}
			if before != nil && before != w {
				edges[at[before]] = append(edges[at[before]], int32(at[w]))
			}
			before = w
		}
	}
	return edges
}

// components are the strongly connected components of more than one node (Tarjan's algorithm with its own stack).
func components(edges [][]int32) [][]int32 {
	n := len(edges)
	index, low := make([]int32, n), make([]int32, n)
	on := make([]bool, n)
	var stack []int32
	var out [][]int32
	next := int32(1)
	type frame struct {
		v    int32
		edge int
	}
	for root := range n {
		if index[root] != 0 {
			continue
		}
		work := []frame{{int32(root), 0}}
		for len(work) > 0 {
			f := &work[len(work)-1]
			v := f.v
			if f.edge == 0 {
				index[v], low[v] = next, next
				next++
				stack, on[v] = append(stack, v), true
			}
			if f.edge < len(edges[v]) {
				w := edges[v][f.edge]
				f.edge++
				if index[w] == 0 {
					work = append(work, frame{w, 0})
				} else if on[w] {
					low[v] = min(low[v], index[w])
				}
				continue
			}
			if low[v] == index[v] {
				i := len(stack) - 1
				for stack[i] != v {
					i--
				}
				for _, w := range stack[i:] {
					on[w] = false
				}
				if len(stack)-i > 1 {
					out = append(out, slices.Clone(stack[i:]))
				}
				stack = stack[:i]
			}
			work = work[:len(work)-1]
			if len(work) > 0 {
				p := work[len(work)-1].v
				low[p] = min(low[p], low[v])
			}
		}
	}
	return out
}

// fencing: after an InitProducerId of a transactional id, nothing of an older epoch is written (T3).
func (a *analysis) fencing() {
	inits := map[string][]*Op{}
	for _, op := range a.of(Init) {
		if op.Type == OK {
			inits[op.TxnID] = append(inits[op.TxnID], op)
		}
	}
	for _, op := range a.of(Send, Txn) {
		if op.TxnID == "" || op.PID < 0 {
			continue
		}
		for _, in := range inits[op.TxnID] {
			older := op.PID < in.PID || op.PID == in.PID && op.Epoch < in.Epoch
			if in.End >= op.Start || !older {
				continue
			}
			a.judge("T3", len(op.Records))
			for _, r := range op.Records {
				if a.present[r.Value] {
					a.bad("T3", []*Op{in, op}, "value %d of producer %d epoch %d is in the log, sent after epoch %d began", r.Value, op.PID, op.Epoch, in.Epoch)
				}
			}
			break
		}
	}
}

// copies: every input of a consume-transform-produce that its group is past has exactly one output, every other none; transfers add
// up to nothing (T4).
func (a *analysis) copies() {
	outputs := map[int64][]int64{}
	var sum int64
	var money []*Op
	complete := true
	for _, op := range a.ops {
		for _, r := range op.Records {
			if (r.Source != 0 || r.Delta != 0) && a.finals[r.Key] == nil {
				complete = false
			}
		}
	}
	for _, w := range a.finals {
		for _, r := range w.Committed {
			if r.Source != 0 {
				outputs[r.Source] = append(outputs[r.Source], r.Value)
			}
			sum += r.Delta
			if r.Delta != 0 && len(money) < 4 {
				money = append(money, a.writer[r.Value])
			}
		}
	}
	if !complete {
		return
	}
	a.judge("T4", len(outputs))
	if sum != 0 {
		a.bad("T4", money, "all transfers together make %d", sum)
	}
	for source, out := range outputs {
		if len(out) > 1 {
			a.bad("T4", []*Op{a.writer[source], a.writer[out[0]], a.writer[out[1]]}, "input %d has %d outputs", source, len(out))
		}
	}
	// The last reading of the group's offsets, after healing, is Committed with Member "final".
	copying := map[string]bool{}
	for _, op := range a.of(Txn) {
		copying[op.Group] = op.Group != "" || copying[op.Group]
	}
	for _, op := range a.of(Committed) {
		if op.Member != "final" || op.Type != OK || !copying[op.Group] {
			continue
		}
		for key, upTo := range op.Offsets {
			if a.finals[key] == nil {
				continue
			}
			for _, r := range a.finals[key].Committed {
				n := len(outputs[r.Value])
				a.judge("T4", 1)
				if want := r.Offset < upTo; want != (n > 0) {
					a.bad("T4", []*Op{a.writer[r.Value], op}, "input %d of %s offset %d has %d outputs; the group is at %d", r.Value, key, r.Offset, n, upTo)
				}
			}
		}
	}
}

// endings: after healing nothing is left open (T5) and every partition could be read (F).
func (a *analysis) endings() {
	for _, op := range a.of(OpenTxns) {
		a.judge("T5", 1)
		for _, t := range op.Open {
			a.bad("T5", []*Op{op}, "transaction %s is still %s after %d ms", t.TxnID, t.State, t.AgeMs)
		}
	}
	for _, op := range a.of(Final) {
		a.judge("F", 1)
		if op.Type == OK {
			a.judge("T5", 1)
		}
		switch {
		case op.Type != OK:
			a.bad("F", []*Op{op}, "%s cannot be read: %s", op.Key, op.Err)
		case op.Final.LastStable != op.Final.HighWatermark:
			a.bad("T5", []*Op{op}, "%s: its last stable offset stays at %d, its high watermark is %d", op.Key, op.Final.LastStable, op.Final.HighWatermark)
		}
	}
	for _, op := range a.of(Crash) {
		a.judge("F", 1)
		if op.Type != OK {
			a.bad("F", []*Op{op}, "%s did not come back: %s", op.Key, op.Err)
		}
	}
}

// abortedRanges are the aborted transactions that a log holds.
func abortedRanges(batches []Batch) []Range {
	first := map[int64]int64{}
	var out []Range
	for _, b := range batches {
		switch {
		case b.Control && b.Txn:
			if f, ok := first[b.PID]; ok && !b.Commit {
				out = append(out, Range{b.PID, f})
			}
			delete(first, b.PID)
		case b.Txn:
			if _, ok := first[b.PID]; !ok {
				first[b.PID] = b.Base
			}
		}
	}
	return sortRanges(out)
}

func sortRanges(rs []Range) []Range {
	slices.SortFunc(rs, func(x, y Range) int { return cmp.Or(cmp.Compare(x.First, y.First), cmp.Compare(x.PID, y.PID)) })
	return slices.Compact(rs)
}

func (r Range) String() string { return fmt.Sprintf("producer %d from %d", r.PID, r.First) }
