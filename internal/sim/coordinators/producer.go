package coordinators

import (
	"fmt"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// transaction is one transaction as those outside see it.
type transaction struct {
	n                        int
	by                       *producer
	sent, committed, aborted int  // values, and commits of offsets
	acked                    bool // something of it was acknowledged
	confirmed                fate // what its producer was told of its end
	offsets                  []*commit
	reads                    []*transaction
	seen                     bool // by a reader of what is committed
}

func (x *transaction) String() string { return fmt.Sprintf("transaction %d of %s", x.n, x.by.name) }

func (x *transaction) count(f fate) {
	if f == committed {
		x.committed++
	} else {
		x.aborted++
	}
}

// producer is one run of a transactional producer. It follows the script of its transaction, one request at a time.
type producer struct {
	name    string
	version int16 // of transactions: 0 or 2
	serial  int   // counts those that were let in, in that order
	pid     id.ProducerID
	epoch   id.ProducerEpoch
	next    map[*partition]int32 // sequences
	added   map[id.TopicPartition]bool
	txn     *transaction
	script  []action
	tries   int
	restart bool // the epoch has to be bumped before the next transaction
	busy    bool
	dead    bool
	ended   func(f fate) // hears of the end of each transaction
}

// action is a step of a transaction.
type action struct {
	value   *value // to be produced to a partition
	to      *partition
	offsets *offsets // to be committed
	poll    bool     // reads results, inside of the transaction
	end     bool
	commit  bool
}

func (w *World) newProducer(name string) *producer {
	p := &producer{name: name, pid: id.NoProducer, epoch: id.NoProducerEpoch, ended: func(fate) {}}
	if w.level >= 2 && w.rnd.IntN(2) == 0 {
		p.version = 2
	}
	return p
}

// letIn says that a later run of the same transactional id was let in.
func (w *World) letIn(p *producer) bool { return p.serial < w.runs[p.name] }

// begin starts a transaction.
func (p *producer) begin(w *World, script []action) {
	p.txn = &transaction{n: len(w.all), by: p}
	w.all = append(w.all, p.txn)
	w.Transactions++
	for i := range script {
		if v := script[i].value; v != nil {
			v.txn = p.txn
		}
	}
	p.script, p.added = script, map[id.TopicPartition]bool{}
}

// give makes a value that nobody has written.
func (w *World) give(from place) *value {
	w.values++
	return &value{n: w.values, from: from}
}

// step does the next thing; a producer without a transaction begins one that writes what the workers read.
func (p *producer) step(w *World) {
	switch {
	case p.busy || p.dead || p.pid == id.NoProducer || p.restart || p.txn != nil:
		p.goOn(w)
	default:
		var script []action
		for range 1 + w.rnd.IntN(4) {
			script = append(script, action{value: w.give(place{}), to: w.in[w.rnd.IntN(inPartitions)]})
		}
		p.begin(w, append(script, action{end: true, commit: w.rnd.IntN(4) > 0}))
	}
}

// goOn does the next thing of what was begun.
func (p *producer) goOn(w *World) {
	if p.busy || p.dead {
		return
	}
	if p.txn == nil {
		p.init(w)
		return
	}
	a := p.script[0]
	switch {
	case a.value != nil:
		p.produce(w, a)
	case a.offsets != nil:
		p.sendOffsets(w, a)
	case a.poll:
		p.script = p.script[1:]
		o := w.out[w.rnd.IntN(outPartitions)]
		o.read(w, max(0, len(o.log)-10), 10, func(_ int, v *value) { w.see(v, p.txn) })
	default:
		p.end(w, a)
	}
}

// abort gives the transaction up, unless its end was asked for already.
func (p *producer) abort() {
	if p.txn == nil || p.dead || len(p.script) > 0 && p.script[0].end {
		return
	}
	p.restart = p.restart || p.version < 2 // sequences of requests without an answer are open
	p.script, p.tries = []action{{end: true}}, 0
}

// outcome takes a code that is no success.
func (p *producer) outcome(w *World, code wire.ErrorCode) {
	switch code {
	case wire.ErrInvalidTxnState, wire.ErrTransactionAbortable, wire.ErrOutOfOrderSequenceNumber, wire.ErrIllegalGeneration,
		wire.ErrUnknownMemberID, wire.ErrStaleMemberEpoch, wire.ErrGroupIDNotFound, wire.ErrFencedMemberEpoch:
		p.abort()
	case wire.ErrProducerFenced, wire.ErrInvalidProducerEpoch, wire.ErrInvalidProducerIDMapping:
		p.dead = true
		w.Fenced++
	default: // tried again, for a while
		if p.tries++; p.tries > 12 {
			p.abort()
		}
	}
}

// advance goes on in the script.
func (p *producer) advance() {
	p.script, p.tries = p.script[1:], 0
	p.txn.acked = true
}

func (w *World) timeouts() int32 { return []int32{5_000, 30_000}[w.rnd.IntN(2)] }

func (p *producer) init(w *World) {
	r := txn.Init{TransactionalID: p.name, TimeoutMs: w.timeouts(), ProducerID: p.pid, Epoch: p.epoch}
	p.busy = true
	w.ask(true, func(r1 reply) {
		w.txns.do(nil, func(s *txn.Shard, t shard.Ticket) shard.Result {
			return s.InitProducerID(txn.Turn{Now: w.now, Ticket: t}, r)
		}, r1)
	}, func(body any, _ wire.ErrorCode) {
		p.busy = false
		a, ok := body.(txn.Identity)
		switch {
		case !ok || a.Code == wire.ErrConcurrentTransactions || a.Code == wire.ErrCoordinatorLoadInProgress:
		case a.Code == wire.ErrProducerFenced && p.pid != id.NoProducer:
			p.dead = true
			w.Fenced++
		case a.Code != wire.ErrNone:
			w.fail("init", "%s: %s", p.name, a.Code.Name())
		case a.Epoch < 0 || a.Epoch == 1<<15-1:
			w.fail("init", "%s gets epoch %d", p.name, a.Epoch)
		default:
			w.serial++
			p.pid, p.epoch, p.serial, p.restart, p.next = a.ProducerID, a.Epoch, w.serial, false, map[*partition]int32{}
			w.runs[p.name] = w.serial
			w.trace("%s: run %d let in with producer %d epoch %d", p.name, p.serial, p.pid, p.epoch)
		}
	})
}

// enter asks the coordinator to let a partition be part of the transaction, as a partition's leader does before the first append.
func (w *World) enter(who txn.Producer, tp id.TopicPartition, add bool, done func(wire.ErrorCode)) {
	one := []id.TopicPartition{tp}
	w.txns.do(nil, func(s *txn.Shard, t shard.Ticket) shard.Result {
		turn := txn.Turn{Now: w.now, Ticket: t}
		if add {
			return s.AddPartitions(turn, who, one, 2)
		}
		return s.Verify(turn, who, one)
	}, func(body any, code wire.ErrorCode) {
		switch b := body.(type) {
		case wire.ErrorCode:
			code = b
		case []wire.ErrorCode:
			code = b[0]
		}
		done(code)
	})
}

// join is AddPartitionsToTxn or AddOffsetsToTxn of a client whose epoch stays. It returns true if that is done already.
func (p *producer) join(w *World, tp id.TopicPartition) bool {
	if p.version >= 2 || p.added[tp] {
		return true
	}
	who, x := txn.Producer{TransactionalID: p.name, ID: p.pid, Epoch: p.epoch}, p.txn
	p.busy = true
	w.ask(false, func(r reply) {
		w.txns.do(nil, func(s *txn.Shard, t shard.Ticket) shard.Result {
			return s.AddPartitions(txn.Turn{Now: w.now, Ticket: t}, who, []id.TopicPartition{tp}, 0)
		}, r)
	}, func(body any, code wire.ErrorCode) {
		p.busy = false
		if b, ok := body.(wire.ErrorCode); ok {
			code = b
		}
		if p.txn != x {
			return
		}
		if code == wire.ErrNone {
			p.added[tp], p.tries = true, 0
		} else {
			p.outcome(w, code)
		}
	})
	return false
}

func (p *producer) produce(w *World, a action) {
	if !p.join(w, a.to.tp) {
		return
	}
	who, sequence, x := txn.Producer{TransactionalID: p.name, ID: p.pid, Epoch: p.epoch}, p.next[a.to], p.txn
	p.busy = true
	w.ask(p.version >= 2, func(r reply) {
		answer := func(code wire.ErrorCode) { w.deliver(r, code, wire.ErrNone) }
		guard, code := a.to.producers.ask(w, who.ID, who.Epoch, p.version >= 2)
		switch {
		case code != wire.ErrNone:
			answer(code)
		case guard == 0 || w.bugs.NoGuards:
			answer(a.to.append(w, who.ID, who.Epoch, sequence, 0, *a.value))
		default:
			w.enter(who, a.to.tp, p.version >= 2, func(code wire.ErrorCode) {
				if code == wire.ErrNone {
					code = a.to.append(w, who.ID, who.Epoch, sequence, guard, *a.value)
				}
				answer(code)
			})
		}
	}, func(body any, code wire.ErrorCode) {
		p.busy = false
		if b, ok := body.(wire.ErrorCode); ok {
			code = b
		}
		switch {
		case p.txn != x || len(p.script) == 0 || p.script[0].value != a.value: // given up meanwhile
		case code == wire.ErrNone:
			p.next[a.to] = sequence + 1
			p.advance()
		default:
			p.outcome(w, code)
		}
	})
}

// sendOffsets is TxnOffsetCommit.
func (p *producer) sendOffsets(w *World, a action) {
	if !p.join(w, offsetsPartition) {
		return
	}
	who, x := txn.Producer{TransactionalID: p.name, ID: p.pid, Epoch: p.epoch}, p.txn
	var sent *commit
	p.busy = true
	w.ask(p.version >= 2, func(r reply) {
		c := w.newCommit(a.offsets, x)
		if sent == nil {
			sent = c
		}
		req := c.request(w)
		refuse := func(code wire.ErrorCode) { w.deliver(r, group.CommitError(req, code), wire.ErrNone) }
		by := shard.Producer{ID: who.ID, Epoch: who.Epoch}
		decide := func() {
			w.groups.do(c, func(s *group.Shard, t shard.Ticket) shard.Result {
				res := s.TxnOffsetCommit(group.Turn{Now: w.now, Ticket: t, Version: 6, Image: w.image}, by, req)
				if len(res.Records) > 0 {
					w.decided(c)
				}
				return res
			}, r)
		}
		guard, code := w.groups.producers.ask(w, who.ID, who.Epoch, p.version >= 2)
		by.Guard = guard
		switch {
		case !w.groups.up:
			w.deliver(r, nil, wire.ErrNotCoordinator)
		case code != wire.ErrNone:
			refuse(code)
		case guard == 0 || w.bugs.NoGuards:
			decide()
		default:
			w.enter(who, offsetsPartition, p.version >= 2, func(code wire.ErrorCode) {
				if code != wire.ErrNone {
					refuse(code)
					return
				}
				decide()
			})
		}
	}, func(body any, code wire.ErrorCode) {
		p.busy = false
		if b, ok := body.(*api.OffsetCommitResponse); ok {
			code = b.Topics[0].Partitions[0].ErrorCode
			sent.refused = code != wire.ErrNone
		}
		switch {
		case p.txn != x || len(p.script) == 0 || p.script[0].offsets != a.offsets:
		case code == wire.ErrNone:
			sent.acked = true
			x.offsets = append(x.offsets, sent)
			p.advance()
		default:
			p.outcome(w, code)
		}
	})
}

// end is EndTxn, repeated until its fate is known.
func (p *producer) end(w *World, a action) {
	if a.commit && !p.txn.acked {
		a = action{end: true}
		p.script = []action{a}
	}
	who, x := txn.Producer{TransactionalID: p.name, ID: p.pid, Epoch: p.epoch}, p.txn
	if p.version < 2 && len(p.added) == 0 { // the coordinator has not heard of it
		p.finish(w, aborted)
		return
	}
	p.busy = true
	w.ask(p.version >= 2, func(r reply) {
		w.txns.do(nil, func(s *txn.Shard, t shard.Ticket) shard.Result {
			return s.End(txn.Turn{Now: w.now, Ticket: t}, who, a.commit, p.version)
		}, r)
	}, func(body any, _ wire.ErrorCode) {
		p.busy = false
		b, ok := body.(txn.Identity)
		switch {
		case p.txn != x || !ok || b.Code == wire.ErrConcurrentTransactions || b.Code == wire.ErrCoordinatorLoadInProgress:
		case b.Code != wire.ErrNone:
			p.dead = true
			w.Fenced++
		default:
			if p.version >= 2 {
				p.pid, p.epoch, p.next = b.ProducerID, b.Epoch, map[*partition]int32{}
			}
			if a.commit {
				p.finish(w, committed)
			} else {
				p.finish(w, aborted)
			}
		}
	})
}

func (p *producer) finish(w *World, f fate) {
	x := p.txn
	x.confirmed = f
	p.txn, p.script = nil, nil
	if f == committed {
		w.Committed++
		for _, c := range x.offsets {
			w.acknowledged(c)
		}
	} else {
		w.Aborted++
	}
	w.trace("%v: %s ended as %d", x, p.name, f)
	p.ended(f)
}
