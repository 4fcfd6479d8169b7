package checker

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"sync"
	"time"
)

// Func says what an operation does.
type Func string

// The operations of a history.
const (
	Send      Func = "send"      // a produce outside transactions; Records
	Txn       Func = "txn"       // a whole transaction; Records, Reads, Offsets, Abort, CommitAt
	Poll      Func = "poll"      // a consumer's poll; Reads, Session
	Observe   Func = "observe"   // a raw Fetch of one partition; Bounds
	List      Func = "list"      // ListOffsets; Spec, Answer
	Commit    Func = "commit"    // OffsetCommit; Group, Generation, Offsets
	Committed Func = "committed" // OffsetFetch; Group, Offsets
	Assigned  Func = "assigned"  // a member of a group owns partitions from Start to End; Group, Member, Generation, Owned
	Init      Func = "init"      // InitProducerId; TxnID, PID, Epoch
	Set       Func = "set"       // an administrative change of a register; Key, Value
	Get       Func = "get"       // its reading; Key, Value
	Crash     Func = "crash"     // something was killed or paused: Key says what, from Start to End
	OpenTxns  Func = "open-txns" // what ListTransactions lists after healing; Open
	Final     Func = "final"     // one partition whole, after healing; Final
	Disk      Func = "disk"      // what the walk over one partition's files found; Damage
)

// Outcome is what is known of an operation. The empty one means that it never ended: as Info.
type Outcome string

// Outcomes.
const (
	OK   Outcome = "ok"
	Fail Outcome = "fail" // it certainly did not happen
	Info Outcome = "info" // it may have happened, or may still
)

// never is the end of an operation that may take effect at any later time.
const never = math.MaxInt64

// Record is a record sent or read. Value is unique in a history, Key is topic/partition.
type Record struct {
	Key       string
	Offset    int64 // -1: not known (not acknowledged)
	Value     int64
	Time      int64  `json:",omitempty"` // its timestamp, ms
	RecordKey string `json:",omitempty"` // in compacted topics
	Source    int64  `json:",omitempty"` // the value it was made from, by consume-transform-produce
	Delta     int64  `json:",omitempty"` // what it adds to an account
	Wrong     string `json:",omitempty"` // why the bytes read are not what any generator wrote
}

// Bounds are the offsets a Fetch answer names.
type Bounds struct {
	HighWatermark, LastStable, LogStart int64
	LeaderEpoch                         int32
	Error                               int16 `json:",omitempty"`
}

// Batch is a batch's header in a partition read whole.
type Batch struct {
	Base, Last   int64
	PID          int64
	Epoch        int16
	Sequence     int32
	Count        int32
	LeaderEpoch  int32
	Txn, Control bool
	Commit       bool   // of a control batch
	Wrong        string `json:",omitempty"` // CRC or structure
}

// Range is an entry of the aborted transactions of a Fetch answer.
type Range struct{ PID, First int64 }

// Whole is a partition read from its first offset to its last, at both isolation levels.
type Whole struct {
	Bounds
	Committed, All []Record
	Batches        []Batch
	Aborted        []Range
	Compacted      bool
}

// OpenTxn is a transaction that is not ended.
type OpenTxn struct {
	TxnID, State string
	AgeMs        int64
}

// Op is an operation: what was asked, and when it had ended what came of it. Times are nanoseconds since the history began.
type Op struct {
	ID, Proc   int
	F          Func
	Type       Outcome
	Start, End int64
	Err        string `json:",omitempty"`

	Records []Record `json:",omitempty"`
	Reads   []Record `json:",omitempty"`
	// Session changes whenever the positions of a consumer were set by somebody else than its own polls. Dirty reads are allowed
	// only where Uncommitted is set.
	Session     int64 `json:",omitempty"`
	Uncommitted bool  `json:",omitempty"`

	TxnID    string `json:",omitempty"`
	PID      int64  `json:",omitempty"`
	Epoch    int16  `json:",omitempty"`
	Abort    bool   `json:",omitempty"` // the transaction was to be aborted
	CommitAt int64  `json:",omitempty"` // when its end was asked for, 0: never
	Kills    int64  `json:",omitempty"` // how often clients had been killed when this copier was opened

	Group      string           `json:",omitempty"`
	Member     string           `json:",omitempty"`
	Instance   string           `json:",omitempty"` // of a static member: its successor has another id and the same generation
	Served     bool             `json:",omitempty"` // the group's node assigns (KIP-848): Generation is the member's epoch
	Generation int32            `json:",omitempty"`
	Offsets    map[string]int64 `json:",omitempty"`
	Owned      []string         `json:",omitempty"`

	Key    string `json:",omitempty"`
	Value  string `json:",omitempty"`
	Spec   int64  `json:",omitempty"` // ListOffsets: -1 latest, -2 earliest, else a time
	Answer Record `json:",omitzero"`

	Bounds *Bounds   `json:",omitempty"`
	Final  *Whole    `json:",omitempty"`
	Open   []OpenTxn `json:",omitempty"`
	Damage []string  `json:",omitempty"`
}

// end is when the operation had surely taken effect or surely not.
func (o *Op) end() int64 {
	if o.Type == OK || o.Type == Fail {
		return o.End
	}
	return never
}

// String is the operation as one line.
func (o *Op) String() string {
	c := *o
	if c.Final != nil {
		c.Final = nil
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err.Error()
	}
	if len(b) > 1000 {
		b = append(b[:1000], "..."...)
	}
	return string(b)
}

// History collects operations.
type History struct {
	mu    sync.Mutex
	ops   []*Op
	now   func() int64
	limit int
	done  map[Func]int // see Done
	kills int64        // the most of them that a transaction of a copier has had
}

// NewHistory returns an empty history of at most limit operations whose clock starts now.
func NewHistory(limit int) *History {
	began := time.Now()
	return &History{done: map[Func]int{}, now: func() int64 { return int64(time.Since(began)) + 1 }, limit: limit}
}

// Now is the history's clock.
func (h *History) Now() int64 { return h.now() }

// Begin records that op is invoked. The caller may change op until End.
func (h *History) Begin(op *Op) *Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.ID, op.Start = len(h.ops), h.now()
	h.ops = append(h.ops, op)
	if op.F == Assigned {
		h.done[op.F]++
	}
	return op
}

// End records the outcome of op, whose fields do not change afterwards.
func (h *History) End(op *Op, t Outcome, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.End = h.now()
	if err != nil {
		op.Err = err.Error()
	}
	op.Type = t
	if t == OK && op.F != Assigned && (op.F != Poll || len(op.Reads) > 0) {
		h.done[op.F]++
		if op.F == Txn && op.Group != "" && !op.Abort {
			h.done[copiedInputs] += len(op.Reads)
			if op.Kills > h.kills {
				h.kills = op.Kills
				h.done[survivedKills]++
			}
		}
	}
}

// copiedInputs is what Done calls the inputs of committed transactions that consume, transform and produce.
const copiedInputs Func = "copied"

// survivedKills is what Done calls the kills of clients after which new ones have consumed, transformed and produced.
const survivedKills Func = "survived"

// Done counts what has ended well, of polls those that brought something, and the assignments that have begun.
func (h *History) Done() map[Func]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.done)
}

// Full reports that the history has reached its bound; generators stop then.
func (h *History) Full() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops) >= h.limit
}

// Ops are the operations in the order of their begin. To be called when all generators have stopped.
func (h *History) Ops() []*Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ops
}

// Write writes a history, one operation a line.
func Write(w io.Writer, ops []*Op) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	for _, op := range ops {
		if err := enc.Encode(op); err != nil {
			return fmt.Errorf("write operation %d: %w", op.ID, err)
		}
	}
	return b.Flush()
}

// Read reads what Write wrote.
func Read(r io.Reader) ([]*Op, error) {
	dec := json.NewDecoder(bufio.NewReader(r))
	var ops []*Op
	for {
		op := &Op{}
		if err := dec.Decode(op); err == io.EOF {
			return ops, nil
		} else if err != nil {
			return nil, fmt.Errorf("read operation %d: %w", len(ops), err)
		}
		ops = append(ops, op)
	}
}
