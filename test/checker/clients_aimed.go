package checker

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The generators of this file do one thing in one order, so that what breaks a rule surely meets somebody who sees it.

// swinger commits and aborts in turn.
func (w *world) swinger(ctx context.Context) {
	keys := keysOf("txn")
	n := 0
	w.transacts(ctx, fmt.Sprintf("swing-%d", w.proc()), func() bool { n++; return n%2 == 0 },
		func() []Record { return []Record{w.record(keys[w.intN(len(keys))])} })
}

// pairSender writes to two partitions in each transaction and commits.
func (w *world) pairSender(ctx context.Context) {
	keys := keysOf("txn")
	w.transacts(ctx, fmt.Sprintf("pair-%d", w.proc()), func() bool { return false }, func() []Record {
		i := w.intN(len(keys))
		return []Record{w.record(keys[i]), w.record(keys[(i+1)%len(keys)])}
	})
}

// transferrer moves money from the first account to the second.
func (w *world) transferrer(ctx context.Context) {
	keys := keysOf("money")
	w.transacts(ctx, fmt.Sprintf("transfer-%d", w.proc()), func() bool { return false }, func() []Record {
		from, to := w.record(keys[0]), w.record(keys[1])
		to.Delta = int64(1 + w.intN(100))
		from.Delta = -to.Delta
		return []Record{from, to}
	})
}

// rescanner reads everything from the first offset, again and again.
func (w *world) rescanner(ctx context.Context) {
	w.loop(ctx, func(life context.Context) (func(context.Context) error, func(), error) {
		from := map[string]map[int32]kgo.Offset{}
		for _, topic := range []string{"plain", "txn"} {
			from[topic] = map[int32]kgo.Offset{}
			for _, k := range keysOf(topic) {
				_, p := split(k)
				from[topic][p] = kgo.NewOffset().AtStart()
			}
		}
		cl, err := w.client(life, kgo.ConsumePartitions(from))
		if err != nil {
			return nil, nil, err
		}
		proc, session, polls := w.proc(), w.sessions.Add(1), 0
		return func(ctx context.Context) error {
			if polls++; polls > 6 {
				return errors.New("from the start again")
			}
			return w.poll(ctx, cl, proc, func() int64 { return session }, "")
		}, func() { cl.Close() }, nil
	})
}

// recommitter commits an offset and reads it back.
func (w *world) recommitter(ctx context.Context) {
	k, group, next := key("plain", 0), "simple", int64(0)
	w.raws(ctx, func(ctx context.Context, c *raw, proc int) error {
		next++
		if err := w.rawCommit(ctx, c, &Op{Proc: proc, F: Commit, Group: group, Generation: -1, Offsets: map[string]int64{k: next}}); err != nil {
			return err
		}
		return w.rawCommitted(ctx, c, &Op{Proc: proc, F: Committed, Group: group}, []string{k})
	})
}

// toggler changes a configuration, creates and deletes a topic, and reads after each change.
func (w *world) toggler(ctx context.Context) {
	me := w.proc()
	topic, value := fmt.Sprintf("toggle-%d", me), int64(1000000)
	configured := topics[int(w.admins.Add(1))%len(topics)].name
	w.raws(ctx, func(ctx context.Context, c *raw, proc int) error {
		value++
		if err := w.setConfig(ctx, c, proc, configured, strconv.FormatInt(value, 10)); err != nil {
			return err
		}
		if err := w.getConfig(ctx, c, &Op{Proc: proc, F: Get, Key: "retention.ms of " + configured}, configured); err != nil {
			return err
		}
		for _, there := range []bool{true, false} {
			if err := w.setTopic(ctx, c, proc, topic, there); err != nil {
				return err
			}
			if err := w.getTopic(ctx, c, &Op{Proc: proc, F: Get, Key: "topic " + topic}, topic); err != nil {
				return err
			}
		}
		return nil
	})
}
