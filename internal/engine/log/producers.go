package log

import (
	"math"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// retainedBatches is how many batches of a producer are remembered, as many as a client may have in flight.
const retainedBatches = 5

// batchMeta remembers a batch for the detection of duplicates.
type batchMeta struct {
	lastOffset  id.Offset
	timestamp   int64
	lastSeq     int32
	offsetDelta int32
}

func (m batchMeta) firstSeq() int32 {
	if s := m.lastSeq - m.offsetDelta; s >= 0 {
		return s
	}
	// Sequences wrap from 2^31-1 to 0.
	return math.MaxInt32 - (m.offsetDelta - m.lastSeq) + 1
}

func (m batchMeta) firstOffset() id.Offset { return m.lastOffset - id.Offset(m.offsetDelta) }

// producerEntry is what is known of one producer id.
type producerEntry struct {
	epoch            id.ProducerEpoch
	n                int8 // batches remembered, oldest first
	coordinatorEpoch int32
	lastTimestamp    int64
	txnFirst         id.Offset // of the open transaction, id.NoOffset without one
	batches          [retainedBatches]batchMeta
}

func emptyProducer() producerEntry {
	return producerEntry{epoch: id.NoProducerEpoch, coordinatorEpoch: -1, lastTimestamp: record.NoTimestamp, txnFirst: id.NoOffset}
}

func (e *producerEntry) lastSeq() int32 {
	if e.n == 0 {
		return record.NoSequence
	}
	return e.batches[e.n-1].lastSeq
}

func (e *producerEntry) setEpoch(epoch id.ProducerEpoch) {
	if e.epoch != epoch {
		e.epoch, e.n = epoch, 0
	}
}

func (e *producerEntry) addMeta(m batchMeta) {
	if e.n == retainedBatches {
		copy(e.batches[:], e.batches[1:])
		e.n--
	}
	e.batches[e.n] = m
	e.n++
}

func (e *producerEntry) duplicateOf(b record.Batch) (batchMeta, bool) {
	if b.ProducerEpoch() != e.epoch {
		return batchMeta{}, false
	}
	first, last := b.BaseSequence(), b.LastSequence()
	for _, m := range e.batches[:e.n] {
		if m.lastSeq == last && m.firstSeq() == first {
			return m, true
		}
	}
	return batchMeta{}, false
}

// transaction is one that began in this log. lastOffset is that of its marker once it has one.
type transaction struct {
	producer   id.ProducerID
	first      id.Offset
	lastOffset id.Offset // id.NoOffset while open
}

// producerState holds the producers of one log: for sequence checks, duplicates and the last stable offset (KIP-98). It is
// guarded by the log's mutex.
type producerState struct {
	entries      map[id.ProducerID]*producerEntry
	ongoing      []transaction // open, by first offset
	unreplicated []transaction // finished, whose marker is not below the high watermark yet; by first offset
	end          id.Offset     // what of the log is in here (exclusive)
	snapshotEnd  id.Offset     // end of the newest snapshot
	snapshots    []id.Offset   // files there are, ascending
	scratch      []producerAppend
	closed       []closedTxn // by the append being looked at, in the order of its batches

	verifications map[id.ProducerID]*verification
	guards        VerificationGuard // given out so far
}

// oldestTxnTimestamp is the last timestamp of the producer whose open transaction is the oldest; record.NoTimestamp where none is open.
func (p *producerState) oldestTxnTimestamp() int64 {
	if len(p.ongoing) > 0 {
		if e := p.entries[p.ongoing[0].producer]; e != nil {
			return e.lastTimestamp
		}
	}
	return record.NoTimestamp
}

// producerAppend is the effect of an append on one producer, before it is made true.
type producerAppend struct {
	id      id.ProducerID
	current producerEntry // before the append
	known   bool          // there was an entry
	next    producerEntry // epoch and so on after; its batches are the new ones only
	opened  []id.Offset   // first offsets of transactions that begin

	verification *verification // as it stood before the append; nil without one
}

// closedTxn is a transaction whose marker is being appended.
type closedTxn struct {
	producer    id.ProducerID
	first, last id.Offset // first is id.NoOffset if there was none to end
	aborted     bool
}

// begin starts looking at an append.
func (p *producerState) begin() { p.scratch, p.closed = p.scratch[:0], p.closed[:0] }

// prepare returns the working entry of a producer in this append.
func (p *producerState) prepare(pid id.ProducerID) *producerAppend {
	for i := range p.scratch {
		if p.scratch[i].id == pid {
			return &p.scratch[i]
		}
	}
	a := producerAppend{id: pid, current: emptyProducer(), verification: p.verifications[pid]}
	if e := p.entries[pid]; e != nil {
		a.current, a.known = *e, true
	}
	a.next = a.current
	a.next.n = 0
	p.scratch = append(p.scratch, a)
	return &p.scratch[len(p.scratch)-1]
}

// duplicate finds the batch a client sends again.
func (p *producerState) duplicate(b record.Batch) (batchMeta, bool) {
	if e := p.entries[b.ProducerID()]; e != nil {
		return e.duplicateOf(b)
	}
	return batchMeta{}, false
}

// data checks a data batch against the state and adds it to the append.
func (a *producerAppend) data(tp id.TopicPartition, b record.Batch, origin Origin) error {
	epoch, first := b.ProducerEpoch(), b.BaseOffset()
	if epoch < a.next.epoch && origin != OriginReplication {
		return refuse(wire.ErrInvalidProducerEpoch, "Epoch of producer %d at offset %d in %v is %d, which is smaller than the last seen epoch %d",
			a.id, first, tp, epoch, a.next.epoch)
	}
	if origin == OriginClient {
		if err := a.checkLowestSequence(tp, b.BaseSequence(), first); err != nil {
			return err
		}
		if err := a.checkSequence(tp, epoch, b.BaseSequence(), first); err != nil {
			return err
		}
	}
	a.next.setEpoch(epoch)
	a.next.addMeta(batchMeta{lastSeq: b.LastSequence(), lastOffset: b.LastOffset(), offsetDelta: b.LastOffsetDelta(), timestamp: b.MaxTimestamp()})
	a.next.lastTimestamp = b.MaxTimestamp()
	switch {
	case a.next.txnFirst >= 0 && !b.IsTransactional():
		return refuse(wire.ErrInvalidTxnState, "Expected a transactional write from producer %d at offset %d in %v", a.id, first, tp)
	case a.next.txnFirst < 0 && b.IsTransactional():
		a.next.txnFirst = first
		a.opened = append(a.opened, first)
	}
	return nil
}

func (a *producerAppend) checkSequence(tp id.TopicPartition, epoch id.ProducerEpoch, seq int32, offset id.Offset) error {
	if epoch != a.next.epoch {
		if seq != 0 && a.next.epoch != id.NoProducerEpoch {
			return refuse(wire.ErrOutOfOrderSequenceNumber, "Invalid sequence number for new epoch of producer %d at offset %d in %v: %d (request epoch), %d (seq. number), %d (current producer epoch)",
				a.id, offset, tp, epoch, seq, a.next.epoch)
		}
		return nil
	}
	last := record.NoSequence
	switch {
	case a.next.n > 0:
		last = a.next.lastSeq()
	case epoch == a.current.epoch:
		last = a.current.lastSeq()
	}
	// Without any state, perhaps because the records were deleted, every sequence number is accepted.
	if a.current.epoch == id.NoProducerEpoch || int64(seq) == int64(last)+1 || seq == 0 && last == math.MaxInt32 {
		return nil
	}
	return refuse(wire.ErrOutOfOrderSequenceNumber, "Out of order sequence number for producer %d at offset %d in %v: %d (incoming seq. number), %d (current end sequence number)",
		a.id, offset, tp, seq, last)
}

// marker checks an end transaction marker and adds it to the append. It returns the transaction that it ends.
func (a *producerAppend) marker(tp id.TopicPartition, b record.Batch, m endTxnMarker, origin Origin, txnVersion int16) (closedTxn, error) {
	none := closedTxn{first: id.NoOffset}
	epoch, offset := b.ProducerEpoch(), b.BaseOffset()
	stale := epoch < a.next.epoch
	if origin != OriginReplication && txnVersion >= 2 {
		// KIP-890: a marker bumps the epoch. The same epoch again, with no transaction open, is a repeated marker.
		stale = epoch <= a.next.epoch
		if epoch == a.next.epoch && (a.next.txnFirst < 0 || epoch == math.MaxInt16) {
			stale = false
		}
	}
	if stale && origin != OriginReplication {
		return none, refuse(wire.ErrInvalidProducerEpoch, "Epoch of producer %d at offset %d in %v is %d, the last seen epoch is %d (TV%d)",
			a.id, offset, tp, epoch, a.next.epoch, txnVersion)
	}
	if a.next.coordinatorEpoch > m.coordinatorEpoch && origin != OriginReplication {
		return none, refuse(wire.ErrTransactionCoordinatorFenced, "Invalid coordinator epoch for producer %d at offset %d in %v: %d (zombie), %d (current)",
			a.id, offset, tp, m.coordinatorEpoch, a.next.coordinatorEpoch)
	}
	closed := closedTxn{producer: a.id, first: a.next.txnFirst, last: offset, aborted: !m.commit}
	a.next.setEpoch(epoch)
	a.next.coordinatorEpoch, a.next.txnFirst, a.next.lastTimestamp = m.coordinatorEpoch, id.NoOffset, m.timestamp
	return closed, nil
}

// commit makes the prepared append true. It returns the aborted transactions for the transaction index.
func (p *producerState) commit(dst []AbortedTxn) []AbortedTxn {
	for i := range p.scratch {
		a := &p.scratch[i]
		e := p.entries[a.id]
		if e == nil {
			if p.entries == nil {
				p.entries = map[id.ProducerID]*producerEntry{}
			}
			e = new(producerEntry)
			*e = emptyProducer()
			p.entries[a.id] = e
		}
		e.setEpoch(a.next.epoch)
		for _, m := range a.next.batches[:a.next.n] {
			e.addMeta(m)
		}
		e.coordinatorEpoch, e.txnFirst, e.lastTimestamp = a.next.coordinatorEpoch, a.next.txnFirst, a.next.lastTimestamp
		for _, first := range a.opened {
			p.ongoing = insertTxn(p.ongoing, transaction{producer: a.id, first: first, lastOffset: id.NoOffset})
		}
	}
	// In the order of the markers, whoever they are of: so must the index be, or a truncation takes more of it than of the log.
	for _, c := range p.closed {
		dst = p.complete(dst, c)
	}
	return dst
}

func (p *producerState) complete(dst []AbortedTxn, c closedTxn) []AbortedTxn {
	at := slices.IndexFunc(p.ongoing, func(t transaction) bool { return t.first == c.first })
	if at < 0 {
		return dst
	}
	if c.aborted {
		// What was stable before this marker: up to the next open transaction of another producer, or the marker itself. One that
		// begins behind the marker in the same append does not count, although it does for Kafka: cut off again, it would leave an
		// entry that ends a search too early. Such entries of Kafka's are made anew by a start (checkTxns).
		stable := c.last + 1
		for _, t := range p.ongoing {
			if t.first > c.last {
				break
			}
			if t.producer != c.producer {
				stable = t.first
				break
			}
		}
		dst = append(dst, AbortedTxn{ProducerID: c.producer, FirstOffset: c.first, LastOffset: c.last, LastStableOffset: stable})
	}
	t := p.ongoing[at]
	t.lastOffset = c.last
	p.ongoing = slices.Delete(p.ongoing, at, at+1)
	p.unreplicated = insertTxn(p.unreplicated, t)
	return dst
}

func insertTxn(list []transaction, t transaction) []transaction {
	at, _ := slices.BinarySearchFunc(list, t.first, func(x transaction, o id.Offset) int { return int(min(max(x.first-o, -1), 1)) })
	return slices.Insert(list, at, t)
}

// firstUnstable is the first offset of the oldest transaction that is open or whose marker is not committed, or id.NoOffset.
func (p *producerState) firstUnstable() id.Offset {
	first := id.NoOffset
	if len(p.ongoing) > 0 {
		first = p.ongoing[0].first
	}
	if len(p.unreplicated) > 0 && (first < 0 || p.unreplicated[0].first < first) {
		first = p.unreplicated[0].first
	}
	return first
}

// highWatermarkAt forgets the finished transactions whose marker is below the high watermark.
func (p *producerState) highWatermarkAt(hw id.Offset) {
	if len(p.unreplicated) > 0 {
		p.unreplicated = slices.DeleteFunc(p.unreplicated, func(t transaction) bool { return t.lastOffset < hw })
	}
}

// startAt is called when the log start offset moved up.
func (p *producerState) startAt(start id.Offset) {
	p.highWatermarkAt(start)
	p.end = max(p.end, start)
	p.snapshotEnd = start
	if n := len(p.snapshots); n > 0 {
		p.snapshotEnd = p.snapshots[n-1]
	}
}

// expire forgets producers that wrote nothing for a while and have no open transaction.
func (p *producerState) expire(nowMs int64, after time.Duration) {
	for pid, e := range p.entries {
		if e.txnFirst < 0 && nowMs-e.lastTimestamp >= after.Milliseconds() {
			delete(p.entries, pid)
		}
	}
	if len(p.entries) == 0 {
		p.entries = nil
	}
	p.expireVerifications(nowMs, after)
}

// reset forgets everything but the files.
func (p *producerState) reset(end id.Offset) {
	p.entries, p.ongoing, p.unreplicated, p.end = nil, nil, nil, end
}

func (p *producerState) infos() []ProducerInfo {
	out := make([]ProducerInfo, 0, len(p.entries))
	for pid, e := range p.entries {
		out = append(out, ProducerInfo{ProducerID: pid, ProducerEpoch: e.epoch, LastSequence: e.lastSeq(), LastTimestamp: e.lastTimestamp,
			CoordinatorEpoch: e.coordinatorEpoch, CurrentTxnStartOffset: e.txnFirst})
	}
	slices.SortFunc(out, func(a, b ProducerInfo) int { return int(min(max(a.ProducerID-b.ProducerID, -1), 1)) })
	return out
}

// endTxnMarker is what a control batch says about a transaction.
type endTxnMarker struct {
	commit           bool
	coordinatorEpoch int32
	timestamp        int64
}
