package checker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// send produces records as one operation with a client that has only this one in flight. Everything but success has an unknown
// outcome: the client may have been answered an error to a repetition of what had been written.
func (w *world) send(ctx context.Context, cl *kgo.Client, proc int, rs []Record) error {
	op := w.h.Begin(&Op{Proc: proc, F: Send, Records: rs})
	err := w.produce(ctx, cl, rs)
	if err != nil {
		w.h.End(op, Info, err)
		return err
	}
	w.h.End(op, OK, nil)
	return nil
}

// produce sends records and writes the offsets they got into rs. It does not wait for the client when ctx ends: a record of an
// idempotent producer that may have been written stays in flight, and where no connection opens any more it would do so for ever.
func (w *world) produce(ctx context.Context, cl *kgo.Client, rs []Record) error {
	out, done := make([]*kgo.Record, len(rs)), make(chan error, len(rs))
	for i, r := range rs {
		out[i] = kgoRecord(r)
		cl.Produce(ctx, out[i], func(_ *kgo.Record, err error) { done <- err })
	}
	var first error
	for range rs {
		select {
		case err := <-done:
			if first == nil {
				first = err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if first != nil {
		return first
	}
	for i, r := range out {
		rs[i].Offset = r.Offset
	}
	return nil
}

// produces opens an idempotent producer whose every step sends what make makes.
func (w *world) produces(ctx context.Context, make func() []Record) {
	w.loop(ctx, func(life context.Context) (func(context.Context) error, func(), error) {
		cl, err := w.client(life)
		proc := w.proc()
		return func(ctx context.Context) error { return w.send(ctx, cl, proc, make()) }, func() { cl.Close() }, err
	})
}

// sender writes one to four records to random partitions.
func (w *world) sender(ctx context.Context) {
	keys := keysOf("plain")
	w.produces(ctx, func() (rs []Record) {
		for range 1 + w.intN(4) {
			rs = append(rs, w.record(keys[w.intN(len(keys))]))
		}
		return rs
	})
}

// feeder writes what copiers read.
func (w *world) feeder(ctx context.Context) {
	keys := keysOf("in")
	w.produces(ctx, func() []Record { return []Record{w.record(keys[w.intN(len(keys))])} })
}

// compactor writes few keys again and again. It is the only writer of its keys: its name is in them.
func (w *world) compactor(ctx context.Context) {
	me := w.proc()
	w.produces(ctx, func() (rs []Record) {
		for range 1 + w.intN(8) {
			r := w.record(key("compact", 0))
			r.RecordKey = fmt.Sprintf("%d-%d", me, w.intN(12))
			rs = append(rs, r)
		}
		return rs
	})
}

// reader consumes partitions it assigns to itself, from the first offset, anew from time to time.
func (w *world) reader(ctx context.Context) { w.reads(ctx, false) }

// dirtyReader does it at read_uncommitted.
func (w *world) dirtyReader(ctx context.Context) { w.reads(ctx, true) }

func (w *world) reads(ctx context.Context, dirty bool) {
	var all []string
	for _, topic := range []string{"plain", "txn", "out", "money"} {
		all = append(all, keysOf(topic)...)
	}
	w.loop(ctx, func(life context.Context) (func(context.Context) error, func(), error) {
		from := map[string]map[int32]kgo.Offset{}
		for _, k := range all {
			if topic, p := split(k); w.intN(3) > 0 {
				if from[topic] == nil {
					from[topic] = map[int32]kgo.Offset{}
				}
				from[topic][p] = kgo.NewOffset().AtStart()
			}
		}
		if len(from) == 0 {
			return nil, nil, errors.New("nothing chosen")
		}
		level := kgo.ReadCommitted()
		if dirty {
			level = kgo.ReadUncommitted()
		}
		cl, err := w.client(life, kgo.ConsumePartitions(from), kgo.FetchIsolationLevel(level))
		if err != nil {
			return nil, nil, err
		}
		proc, session := w.proc(), w.sessions.Add(1)
		return func(ctx context.Context) error {
			if w.intN(64) == 0 {
				return errors.New("another assignment")
			}
			return w.polls(ctx, cl, &Op{Proc: proc, Uncommitted: dirty}, func() int64 { return session })
		}, func() { cl.Close() }, nil
	})
}

// poll records one poll of a consumer.
func (w *world) poll(ctx context.Context, cl *kgo.Client, proc int, session func() int64, group string) error {
	return w.polls(ctx, cl, &Op{Proc: proc, Group: group}, session)
}

func (w *world) polls(ctx context.Context, cl *kgo.Client, op *Op, session func() int64) error {
	op.F = Poll
	w.h.Begin(op)
	wait, end := context.WithTimeout(ctx, 300*time.Millisecond)
	defer end()
	fetches := cl.PollRecords(wait, 500)
	op.Session = session()
	fetches.EachRecord(func(r *kgo.Record) { op.Reads = append(op.Reads, decode(r)) })
	err := fetches.Err()
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	if err != nil && len(op.Reads) == 0 {
		w.h.End(op, Fail, err)
		if errors.Is(err, kgo.ErrClientClosed) {
			return err
		}
		return nil // the client goes on by itself
	}
	w.h.End(op, OK, nil)
	return nil
}
