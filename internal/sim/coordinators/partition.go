package coordinators

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

const noSequence int32 = -1

// producers is what the leader of a partition knows of producers.
type producers struct {
	of     map[id.ProducerID]*producerState
	guards uint64
}

type producerState struct {
	known       bool // it has written
	epoch       id.ProducerEpoch
	sequence    int32 // last one
	open        bool  // it has a transaction open since first
	first       int
	coordinator int32            // leader epoch of the coordinator that wrote the last marker
	guard       uint64           // of a question to the coordinator; 0: none
	asked       id.ProducerEpoch // with the question
	bumps       bool             // who asked has an epoch for each transaction
}

func (p *producers) state(pid id.ProducerID) *producerState {
	s := p.of[pid]
	if s == nil {
		s = &producerState{epoch: id.NoProducerEpoch, sequence: noSequence, coordinator: -1}
		p.of[pid] = s
	}
	return s
}

// ask is what precedes an append: 0 says that the transaction is open already, otherwise its coordinator has to be asked.
func (p *producers) ask(w *World, pid id.ProducerID, epoch id.ProducerEpoch, bumps bool) (guard uint64, code wire.ErrorCode) {
	s := p.state(pid)
	switch {
	case s.known && epoch < s.epoch:
		return 0, wire.ErrInvalidProducerEpoch
	case s.open && epoch == s.epoch:
		return 0, wire.ErrNone
	}
	if s.guard == 0 {
		p.guards++
		s.guard, s.asked, s.bumps = p.guards, epoch, bumps
	}
	s.asked = max(s.asked, epoch)
	return s.guard, wire.ErrNone
}

// check says whether data may be appended, and whether it has been before.
func (p *producers) check(w *World, pid id.ProducerID, epoch id.ProducerEpoch, sequence int32, guard uint64) (again bool, code wire.ErrorCode) {
	s := p.state(pid)
	if s.known && epoch < s.epoch {
		return false, wire.ErrInvalidProducerEpoch
	}
	if sequence != noSequence && s.known && epoch == s.epoch && sequence <= s.sequence && !w.bugs.NoSequences {
		return true, wire.ErrNone
	}
	if !(s.open && epoch == s.epoch) && (guard == 0 || guard != s.guard) && !w.bugs.NoGuards {
		return false, wire.ErrInvalidTxnState
	}
	switch {
	case sequence == noSequence || w.bugs.NoSequences:
	case !s.known:
	case epoch != s.epoch && sequence != 0, epoch == s.epoch && sequence != s.sequence+1:
		return false, wire.ErrOutOfOrderSequenceNumber
	}
	return false, wire.ErrNone
}

// accept takes data at an offset in.
func (p *producers) accept(pid id.ProducerID, epoch id.ProducerEpoch, sequence int32, at int) {
	s := p.state(pid)
	if epoch != s.epoch {
		s.sequence = noSequence
	}
	s.known, s.epoch, s.guard = true, epoch, 0
	if sequence != noSequence {
		s.sequence = sequence
	}
	if !s.open {
		s.open, s.first = true, at
	}
}

// checkEnd says whether a marker may be appended.
func (p *producers) checkEnd(w *World, pid id.ProducerID, epoch id.ProducerEpoch, coordinator int32, version int16) wire.ErrorCode {
	s := p.state(pid)
	stale := epoch < s.epoch
	if version >= 2 {
		stale = epoch < s.epoch || epoch == s.epoch && s.open && epoch != 1<<15-1
	}
	switch {
	case stale && s.known:
		return wire.ErrInvalidProducerEpoch
	case coordinator < s.coordinator && !w.bugs.OldCoordinators:
		return wire.ErrTransactionCoordinatorFenced
	}
	return wire.ErrNone
}

// end takes a marker in. A question that is open with the marker's epoch belongs to the next transaction, if each has its epoch.
func (p *producers) end(pid id.ProducerID, epoch id.ProducerEpoch, coordinator int32) {
	s := p.state(pid)
	if epoch != s.epoch {
		s.sequence = noSequence
	}
	if !s.bumps || epoch != s.asked {
		s.guard = 0
	}
	s.known, s.epoch, s.open, s.coordinator = true, epoch, false, max(s.coordinator, coordinator)
}

// fate is what became of a value.
type fate int8

const (
	undecided fate = iota
	committed
	aborted
)

// value is what a transaction wrote. Each is written once.
type value struct {
	n    int
	txn  *transaction
	from place // the record it is the result of; p nil: none
	fate fate
	pid  id.ProducerID
}

// place is a record of a partition.
type place struct {
	p  *partition
	at int
}

// partition is a partition of data. Its log does not lose anything; -1 is the n of a marker.
type partition struct {
	tp        id.TopicPartition
	log       []value
	producers producers
	seen      map[int]bool // values in the log
}

func newPartition(topic string, n int32) *partition {
	return &partition{tp: id.TopicPartition{Topic: topic, Partition: n}, producers: producers{of: map[id.ProducerID]*producerState{}}, seen: map[int]bool{}}
}

// stable is the last stable offset.
func (p *partition) stable() int {
	end := len(p.log)
	for _, s := range p.producers.of {
		if s.open {
			end = min(end, s.first)
		}
	}
	return end
}

// append writes one value of a transaction.
func (p *partition) append(w *World, pid id.ProducerID, epoch id.ProducerEpoch, sequence int32, guard uint64, v value) wire.ErrorCode {
	again, code := p.producers.check(w, pid, epoch, sequence, guard)
	if code != wire.ErrNone || again {
		return code
	}
	if w.letIn(v.txn.by) {
		w.fail("T3", "%v: value of run %d of %s after run %d was let in", p.tp, v.txn.by.serial, v.txn.by.name, w.runs[v.txn.by.name])
	}
	if p.seen[v.n] {
		w.fail("I5", "%v has value %d twice", p.tp, v.n)
	}
	p.seen[v.n] = true
	p.producers.accept(pid, epoch, sequence, len(p.log))
	v.pid = pid
	v.txn.sent++
	p.log = append(p.log, v)
	w.trace("%v[%d]: value %d of %v, producer %d epoch %d seq %d", p.tp, len(p.log)-1, v.n, v.txn, pid, epoch, sequence)
	return wire.ErrNone
}

// end writes a marker.
func (p *partition) end(w *World, pid id.ProducerID, epoch id.ProducerEpoch, commit bool, coordinator int32, version int16) wire.ErrorCode {
	if code := p.producers.checkEnd(w, pid, epoch, coordinator, version); code != wire.ErrNone {
		return code
	}
	if s := p.producers.state(pid); s.open {
		for i := s.first; i < len(p.log); i++ {
			v := &p.log[i]
			if v.n < 0 || v.pid != pid || v.fate != undecided {
				continue
			}
			if v.fate = aborted; commit {
				v.fate = committed
			}
			v.txn.count(v.fate)
		}
	}
	p.producers.end(pid, epoch, coordinator)
	w.trace("%v[%d]: marker of producer %d epoch %d commit %v from coordinator %d", p.tp, len(p.log), pid, epoch, commit, coordinator)
	p.log = append(p.log, value{n: -1})
	return wire.ErrNone
}

// read calls visit with what is committed and stable from an offset on, and returns where to go on.
func (p *partition) read(w *World, from, limit int, visit func(at int, v *value)) int {
	end := p.stable()
	if w.bugs.AboveStable {
		end = len(p.log)
	}
	for ; from < end && limit > 0; from++ {
		v := &p.log[from]
		if v.n >= 0 && (v.fate == committed || w.bugs.AboveStable && v.fate == undecided || w.bugs.Aborted) {
			visit(from, v)
			limit--
		}
	}
	return from
}
