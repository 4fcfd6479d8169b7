package checker

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// kept bounds the anomalies of one rule that a report holds whole; the rest are counted.
const kept = 10

// Anomaly is a violation of one rule, with the operations that show it.
type Anomaly struct {
	Rule, Text string
	Ops        []*Op
}

// Report is the verdict on a history.
type Report struct {
	Anomalies []Anomaly
	Counts    map[string]int // by rule, also of anomalies not kept
	Allowed   map[string]int // what Kafka's model allows
	Judged    map[string]int // by rule, what it was held against: values, readings, pairs, batches
	Undecided int            // readings of registers without a verdict
	Figures   Figures
}

// Figures are measured, not judged.
type Figures struct {
	Ops, Acked, Read, Txns, Aborted, Unknown, Crashes int
	Unavailable                                       []int64 // ns from the end of each kill of the node to the next acknowledgement
	LongestGap                                        int64   // ns between acknowledgements
}

// Good reports whether nothing bad was found.
func (r *Report) Good() bool { return len(r.Counts) == 0 }

// Vacuous lists the rules of judged that nothing was held against.
func Vacuous(judged map[string]int) []string {
	var ids []string
	for _, rule := range rules {
		if !rule.Allowed && judged[rule.ID] == 0 {
			ids = append(ids, rule.ID)
		}
	}
	return ids
}

// JudgedLine says how much each rule of judged was held against.
func JudgedLine(judged map[string]int) string {
	var b strings.Builder
	b.WriteString("judged:")
	for _, rule := range rules {
		if !rule.Allowed {
			fmt.Fprintf(&b, " %s %d", rule.ID, judged[rule.ID])
		}
	}
	return b.String()
}

// Bad lists the violated rules.
func (r *Report) Bad() []string {
	var ids []string
	for _, rule := range rules {
		if r.Counts[rule.ID] > 0 {
			ids = append(ids, rule.ID)
		}
	}
	return ids
}

func (r *Report) String() string {
	var b strings.Builder
	f := r.Figures
	fmt.Fprintf(&b, "%d operations, %d values acknowledged, %d reads, %d transactions committed, %d aborted, %d operations of unknown outcome, %d crashes\n",
		f.Ops, f.Acked, f.Read, f.Txns, f.Aborted, f.Unknown, f.Crashes)
	if len(f.Unavailable) > 0 {
		s := slices.Sorted(slices.Values(f.Unavailable))
		fmt.Fprintf(&b, "first acknowledgement after a kill of the node: median %d ms, worst %d ms\n", s[len(s)/2]/1e6, s[len(s)-1]/1e6)
	}
	fmt.Fprintf(&b, "%s; %d readings of registers undecided\n", JudgedLine(r.Judged), r.Undecided)
	for _, rule := range rules {
		if n := r.Allowed[rule.ID]; n > 0 {
			fmt.Fprintf(&b, "%s %s: %d (allowed)\n", rule.ID, rule.Name, n)
		}
		n := r.Counts[rule.ID]
		if n == 0 {
			continue
		}
		fmt.Fprintf(&b, "BAD %s %s: %d\n", rule.ID, rule.Name, n)
		for _, a := range r.Anomalies {
			if a.Rule == rule.ID {
				fmt.Fprintf(&b, "  %s\n", a.Text)
				for _, op := range a.Ops {
					fmt.Fprintf(&b, "    %s\n", op)
				}
			}
		}
	}
	if r.Good() {
		b.WriteString("no anomaly\n")
	}
	return b.String()
}

// spot is where a value was seen.
type spot struct {
	op     *Op
	offset int64
}

// analysis is a history with what is derived from it.
type analysis struct {
	ops      []*Op
	lag      time.Duration
	report   *Report
	writer   map[int64]*Op              // who sent a value
	sent     map[int64]Record           // the value as sent
	log      map[string]map[int64]int64 // key, offset -> value: the first seen there
	firstAt  map[int64]spot             // where a value was first seen
	readers  map[int64]*Op              // one who read it at read_committed during the run
	finals   map[string]*Whole
	visible  map[int64]bool // read at the end at read_committed
	present  map[int64]bool // read at the end at read_uncommitted
	maxRead  map[string]int64
	offsets  map[string][]int64 // sorted offsets of values visible at the end
	compacts map[string]bool
}

// Analyse judges a history. It does not change it. lag is how long an acknowledged change of metadata may stay unseen.
func Analyse(ops []*Op, lag time.Duration) *Report {
	a := &analysis{ops: ops, lag: lag, report: &Report{Counts: map[string]int{}, Allowed: map[string]int{}, Judged: map[string]int{}}, writer: map[int64]*Op{}, sent: map[int64]Record{},
		log: map[string]map[int64]int64{}, firstAt: map[int64]spot{}, readers: map[int64]*Op{}, finals: map[string]*Whole{},
		visible: map[int64]bool{}, present: map[int64]bool{}, maxRead: map[string]int64{}, offsets: map[string][]int64{}, compacts: map[string]bool{}}
	a.index()
	a.writes()
	a.sends()
	a.polls()
	a.transactions()
	a.cycles()
	a.fencing()
	a.copies()
	a.groups()
	a.ownership()
	a.lookups()
	a.bounds()
	a.logs()
	a.compaction()
	a.registers()
	a.endings()
	a.figures()
	return a.report
}

func (a *analysis) bad(rule string, ops []*Op, format string, args ...any) {
	a.report.Counts[rule]++
	if a.report.Counts[rule] <= kept {
		a.report.Anomalies = append(a.report.Anomalies, Anomaly{rule, fmt.Sprintf(format, args...), ops})
	}
}

// judge counts n things that a rule was held against.
func (a *analysis) judge(rule string, n int) { a.report.Judged[rule] += n }

// index derives who wrote, who read and what lies where; two values at one offset (I3) and one value at two (I5) show here.
func (a *analysis) index() {
	for _, op := range a.ops {
		for _, r := range op.Records {
			a.writer[r.Value], a.sent[r.Value] = op, r
		}
	}
	for _, op := range a.ops {
		for _, r := range op.Records {
			if r.Offset >= 0 {
				a.see(op, r)
			}
		}
		for _, r := range op.Reads {
			if r.Wrong == "" {
				a.see(op, r)
			}
			a.maxRead[r.Key] = max(a.maxRead[r.Key], r.Offset)
			if !op.Uncommitted && a.readers[r.Value] == nil {
				a.readers[r.Value] = op
			}
			a.checkData(op, r)
		}
		if op.F == Final && op.Type == OK {
			a.indexFinal(op)
		}
	}
}

func (a *analysis) indexFinal(op *Op) {
	w := op.Final
	a.finals[op.Key] = w
	a.compacts[op.Key] = w.Compacted
	for _, r := range w.All {
		a.checkData(op, r)
		a.see(op, r)
		a.present[r.Value] = true
	}
	for _, r := range w.Committed {
		a.checkData(op, r)
		a.see(op, r)
		a.visible[r.Value] = true
		a.offsets[op.Key] = append(a.offsets[op.Key], r.Offset)
		a.maxRead[op.Key] = max(a.maxRead[op.Key], r.Offset)
	}
	slices.Sort(a.offsets[op.Key])
}

func (a *analysis) see(op *Op, r Record) {
	log := a.log[r.Key]
	if log == nil {
		log = map[int64]int64{}
		a.log[r.Key] = log
	}
	if had, ok := log[r.Offset]; !ok {
		log[r.Offset] = r.Value
	} else if a.judge("I3", 1); had != r.Value {
		a.bad("I3", []*Op{a.firstAt[had].op, op}, "%s offset %d: value %d, then value %d", r.Key, r.Offset, had, r.Value)
	}
	if had, ok := a.firstAt[r.Value]; !ok {
		a.firstAt[r.Value] = spot{op, r.Offset}
	} else if a.judge("I5", 1); had.offset != r.Offset {
		a.bad("I5", []*Op{had.op, op}, "value %d of %s at offsets %d and %d", r.Value, r.Key, had.offset, r.Offset)
	}
}

// checkData holds what was read against what was sent.
func (a *analysis) checkData(op *Op, r Record) {
	w, known := a.sent[r.Value]
	a.judge("I18", 1)
	switch {
	case r.Wrong != "":
		a.bad("I18", []*Op{op}, "%s offset %d: %s", r.Key, r.Offset, r.Wrong)
	case !known:
		a.bad("I18", []*Op{op}, "%s offset %d: value %d was never sent", r.Key, r.Offset, r.Value)
	case w.Key != r.Key:
		a.bad("I18", []*Op{a.writer[r.Value], op}, "value %d was sent to %s and read from %s", r.Value, w.Key, r.Key)
	case w.RecordKey != r.RecordKey || w.Source != r.Source || w.Delta != r.Delta || w.Time != 0 && r.Time != 0 && w.Time != r.Time:
		a.bad("I18", []*Op{a.writer[r.Value], op}, "value %d was sent as %+v and read as %+v", r.Value, w, r)
	}
}

// byStart sorts operations by their begin.
func byStart(ops []*Op) {
	slices.SortStableFunc(ops, func(x, y *Op) int { return cmp.Compare(x.Start, y.Start) })
}

// of lists the operations of some kinds, by begin.
func (a *analysis) of(kinds ...Func) []*Op {
	var out []*Op
	for _, op := range a.ops {
		if slices.Contains(kinds, op.F) {
			out = append(out, op)
		}
	}
	byStart(out)
	return out
}

func (a *analysis) figures() {
	f := &a.report.Figures
	f.Ops = len(a.ops)
	var acks []int64
	for _, op := range a.ops {
		f.Read += len(op.Reads)
		if op.F == Crash {
			f.Crashes++
		}
		if op.end() == never {
			f.Unknown++
		}
		if op.Type != OK || op.F != Send && op.F != Txn {
			continue
		}
		if op.F == Txn && op.Abort {
			f.Aborted++
			continue
		}
		if op.F == Txn {
			f.Txns++
		}
		f.Acked += len(op.Records)
		acks = append(acks, op.End)
	}
	slices.Sort(acks)
	for i := 1; i < len(acks); i++ {
		f.LongestGap = max(f.LongestGap, acks[i]-acks[i-1])
	}
	for _, op := range a.of(Crash) {
		if op.Key != "node" {
			continue
		}
		if i, _ := slices.BinarySearch(acks, op.End); i < len(acks) {
			f.Unavailable = append(f.Unavailable, acks[i]-op.End)
		}
	}
}
