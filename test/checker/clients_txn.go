package checker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// transactor opens a transactional producer and records its initialisation.
func (w *world) transactor(life context.Context, id string, proc int) (*kgo.Client, error) {
	cl, err := w.client(life, kgo.TransactionalID(id), kgo.TransactionTimeout(w.txnTime))
	if err != nil {
		return nil, err
	}
	op := w.h.Begin(&Op{Proc: proc, F: Init, TxnID: id})
	if op.PID, op.Epoch, err = cl.ProducerID(life); err != nil {
		w.h.End(op, Info, err)
		cl.Close()
		return nil, err
	}
	w.h.End(op, OK, nil)
	return cl, nil
}

// transact runs one transaction that sends rs and is committed or aborted.
func (w *world) transact(ctx context.Context, cl *kgo.Client, proc int, id string, abort bool, rs []Record) error {
	op := w.h.Begin(&Op{Proc: proc, F: Txn, TxnID: id, Records: rs, PID: -1, Abort: abort})
	err := cl.BeginTransaction()
	if err == nil {
		op.PID, op.Epoch, err = cl.ProducerID(ctx)
	}
	if err == nil {
		half := len(rs)
		if half > 1 {
			half = 1 + w.intN(half-1) // in two requests
		}
		if err = w.produce(ctx, cl, rs[:half]); err == nil && half < len(rs) {
			w.wait(ctx, w.pace)
			err = w.produce(ctx, cl, rs[half:])
		}
	}
	if err != nil {
		w.h.End(op, Info, err)
		return err
	}
	end := kgo.TryAbort
	if !op.Abort {
		end = kgo.TryCommit
		op.CommitAt = w.h.Now()
	}
	if err := cl.EndTransaction(ctx, end); err != nil {
		w.h.End(op, Info, err)
		return err
	}
	w.h.End(op, OK, nil)
	return nil
}

// transacts runs transactions under one transactional id, with a new client after each failure, which fences the one before.
func (w *world) transacts(ctx context.Context, id string, abort func() bool, make func() []Record) {
	w.loop(ctx, func(life context.Context) (func(context.Context) error, func(), error) {
		proc := w.proc()
		cl, err := w.transactor(life, id, proc)
		return func(ctx context.Context) error { return w.transact(ctx, cl, proc, id, abort(), make()) }, func() { cl.Close() }, err
	})
}

// oneInFour is how often generators abort.
func (w *world) oneInFour() bool { return w.intN(4) == 0 }

// txnSender appends to one to four partitions.
func (w *world) txnSender(ctx context.Context) {
	keys := keysOf("txn")
	w.transacts(ctx, fmt.Sprintf("txn-%d", w.proc()), w.oneInFour, func() (rs []Record) {
		for range 1 + w.intN(4) {
			rs = append(rs, w.record(keys[w.intN(len(keys))]))
		}
		return rs
	})
}

// banker moves money from one account to another.
func (w *world) banker(ctx context.Context) {
	keys := keysOf("money")
	w.transacts(ctx, fmt.Sprintf("money-%d", w.proc()), w.oneInFour, func() []Record {
		from, to := w.record(keys[w.intN(len(keys))]), w.record(keys[w.intN(len(keys))])
		to.Delta = int64(1 + w.intN(100))
		from.Delta = -to.Delta
		return []Record{from, to}
	})
}

// txnCompactor writes few keys of its own again and again, in transactions.
func (w *world) txnCompactor(ctx context.Context) {
	me := w.proc()
	w.transacts(ctx, fmt.Sprintf("recompact-%d", me), w.oneInFour, func() (rs []Record) {
		for range 1 + w.intN(4) {
			r := w.record(key("compact", 0))
			r.RecordKey = fmt.Sprintf("%d-%d", me, w.intN(12))
			rs = append(rs, r)
		}
		return rs
	})
}

const copyGroup = "copy"

// copier consumes in a group, writes one output for each input and commits both in one transaction.
func (w *world) copier(ctx context.Context) {
	id := fmt.Sprintf("copy-%d", w.proc())
	out := keysOf("out")
	w.loop(ctx, func(life context.Context) (func(context.Context) error, func(), error) {
		proc, kills := w.proc(), w.kills.Load()
		var session atomic.Int64
		renew := func(context.Context, *kgo.Client, map[string][]int32) { session.Store(w.sessions.Add(1)) }
		s, err := kgo.NewGroupTransactSession(append(w.opts(life), kgo.TransactionalID(id), kgo.TransactionTimeout(w.txnTime), kgo.ConsumerGroup(copyGroup),
			kgo.ConsumeTopics("in"), kgo.RequireStableFetchOffsets(), kgo.SessionTimeout(w.session), kgo.HeartbeatInterval(w.session/20), kgo.OnPartitionsAssigned(renew),
			kgo.OnPartitionsRevoked(renew), kgo.OnPartitionsLost(renew))...)
		if err != nil {
			return nil, nil, err
		}
		return func(ctx context.Context) error {
			op := &Op{Proc: proc, F: Txn, TxnID: id, PID: -1, Group: copyGroup, Offsets: map[string]int64{}, Kills: kills}
			return w.copy(ctx, s, op, out, &session)
		}, s.Close, nil
	})
}

// copy polls, and runs op with what there is.
func (w *world) copy(ctx context.Context, s *kgo.GroupTransactSession, op *Op, out []string, session *atomic.Int64) error {
	wait, end := context.WithTimeout(ctx, w.txnTime/4)
	fetches := s.PollRecords(wait, 20)
	end()
	if fetches.IsClientClosed() {
		return kgo.ErrClientClosed
	}
	if fetches.NumRecords() == 0 {
		return nil
	}
	op.Session, op.Abort = session.Load(), w.intN(6) == 0
	w.h.Begin(op)
	if err := s.Begin(); err != nil {
		w.h.End(op, Fail, err)
		return err
	}
	fetches.EachRecord(func(in *kgo.Record) {
		r := decode(in)
		op.Reads = append(op.Reads, r)
		op.Offsets[r.Key] = max(op.Offsets[r.Key], r.Offset+1)
		to := w.record(out[w.intN(len(out))])
		to.Source = r.Value
		op.Records = append(op.Records, to)
	})
	err := w.produce(ctx, s.Client(), op.Records)
	if err == nil {
		if op.PID, op.Epoch, err = s.Client().ProducerID(ctx); err != nil {
			op.PID = -1
		}
	}
	abort := op.Abort || err != nil
	op.Abort = abort
	if !abort {
		op.CommitAt = w.h.Now()
	}
	committed, endErr := s.End(ctx, kgo.TransactionEndTry(!abort))
	switch {
	case endErr != nil:
		w.h.End(op, Info, errors.Join(err, endErr))
		return endErr
	case !committed:
		op.Abort, op.CommitAt = true, 0
		session.Store(w.sessions.Add(1))
	}
	w.h.End(op, OK, err)
	return err
}
