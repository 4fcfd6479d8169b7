package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
)

// Machine is a state that follows from what is committed.
type Machine interface {
	// Fold takes a committed batch, whose first entry has the offset first.
	Fold(first id.Offset, batch []Entry) error
	// State is the state, immutable.
	State() any
	// Load replaces the state by that of a snapshot.
	Load(state any, at raft.Position) error
	// Same reports whether two states are equal.
	Same(a, b any) bool
}

// Decider is a machine that decides what comes next, while its node leads.
type Decider interface {
	// Lead is called when the node leads and everything before is folded. It returns batches of data.
	Lead(env Env) ([][]any, error)
	// Propose decides what a client asks for.
	Propose(env Env) [][]any
	// Resign ends the office. What was decided and is not committed must be forgotten; an error says that it is not.
	Resign() error
}

// Pacer is a machine whose state is costly to compare.
type Pacer interface {
	// Every is after how many batches the state is compared.
	Every() int
	// Whole reports whether a snapshot may be taken now.
	Whole() bool
}

// Env is what a decision may know.
type Env struct {
	Now          time.Time
	Next         id.Offset
	Epoch        id.LeaderEpoch
	Rand         *rand.Rand
	KRaftVersion int16
}

// Ledger is the simplest machine: it remembers everything, as a hash and a count.
type Ledger struct{ sum LedgerState }

// LedgerState is the state of a Ledger.
type LedgerState struct {
	Hash  uint64
	Count int
}

// Fold implements Machine.
func (l *Ledger) Fold(first id.Offset, batch []Entry) error {
	if int(first) != l.sum.Count {
		return fmt.Errorf("offset %d follows %d records", first, l.sum.Count)
	}
	for _, e := range batch {
		l.sum.Hash = (l.sum.Hash ^ e.ID) * 0x9E3779B97F4A7C15
		l.sum.Hash ^= l.sum.Hash >> 29
		l.sum.Count++
	}
	return nil
}

// State implements Machine.
func (l *Ledger) State() any { return l.sum }

// Load implements Machine.
func (l *Ledger) Load(state any, _ raft.Position) error {
	l.sum = state.(LedgerState)
	return nil
}

// Same implements Machine.
func (l *Ledger) Same(a, b any) bool { return a == b }
