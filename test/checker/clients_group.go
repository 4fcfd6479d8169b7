package checker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const readGroup = "readers"

// member consumes in a group with an eager assignor and commits what it has read.
func (w *world) member(ctx context.Context) {
	w.loop(ctx, func(life context.Context) (func(context.Context) error, func(), error) {
		proc := w.proc()
		var session atomic.Int64
		var mu sync.Mutex
		var owns *Op
		drop := func(context.Context, *kgo.Client, map[string][]int32) {
			mu.Lock()
			defer mu.Unlock()
			session.Store(w.sessions.Add(1))
			if owns != nil {
				w.h.End(owns, OK, nil)
				owns = nil
			}
		}
		take := func(_ context.Context, cl *kgo.Client, parts map[string][]int32) {
			mu.Lock()
			defer mu.Unlock()
			session.Store(w.sessions.Add(1))
			member, generation := cl.GroupMetadata()
			op := &Op{Proc: proc, F: Assigned, Group: readGroup, Member: member, Generation: generation}
			for topic, ps := range parts {
				for _, p := range ps {
					op.Owned = append(op.Owned, key(topic, p))
				}
			}
			owns = w.h.Begin(op)
		}
		cl, err := w.client(life, kgo.ConsumerGroup(readGroup), kgo.ConsumeTopics("plain", "txn"), kgo.Balancers(kgo.RangeBalancer()), kgo.DisableAutoCommit(),
			kgo.BlockRebalanceOnPoll(), kgo.SessionTimeout(w.txnTime), kgo.HeartbeatInterval(w.txnTime/10), kgo.OnPartitionsAssigned(take), kgo.OnPartitionsRevoked(drop),
			kgo.OnPartitionsLost(drop), kgo.RequireStableFetchOffsets())
		if err != nil {
			return nil, nil, err
		}
		step := func(ctx context.Context) error {
			defer cl.AllowRebalance()
			if err := w.poll(ctx, cl, proc, session.Load, readGroup); err != nil {
				return err
			}
			if w.intN(100) == 0 {
				return errors.New("another member") // leaves: a rebalance
			}
			if w.intN(3) == 0 {
				w.commit(ctx, cl, proc)
			}
			return nil
		}
		return step, cl.CloseAllowingRebalance, nil
	})
}

// commit records a member's commit of what it has polled.
func (w *world) commit(ctx context.Context, cl *kgo.Client, proc int) {
	head := cl.UncommittedOffsets()
	if len(head) == 0 {
		return
	}
	member, generation := cl.GroupMetadata()
	op := &Op{Proc: proc, F: Commit, Group: readGroup, Member: member, Generation: generation, Offsets: map[string]int64{}}
	for topic, ps := range head {
		for p, o := range ps {
			op.Offsets[key(topic, p)] = o.Offset
		}
	}
	w.h.Begin(op)
	outcome, why := Info, error(nil)
	cl.CommitOffsetsSync(ctx, head, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if why = err; err == nil {
			outcome, why = commitOutcome(resp)
		}
	})
	w.h.End(op, outcome, why)
}

// commitOutcome is ok only if every partition is, fail only if none is and the client did not repeat itself.
func commitOutcome(resp *kmsg.OffsetCommitResponse) (Outcome, error) {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return Info, err
			}
		}
	}
	return OK, nil
}

// committer commits offsets of its own by raw requests, outside any generation, and reads them back.
func (w *world) committer(ctx context.Context) {
	k := key("plain", 0)
	next := int64(0)
	group := "simple"
	w.loop(ctx, func(context.Context) (func(context.Context) error, func(), error) {
		c, proc := &raw{dial: w.dial}, w.proc()
		return func(ctx context.Context) error {
			if w.intN(2) == 0 {
				next++
				return w.rawCommit(ctx, c, &Op{Proc: proc, F: Commit, Group: group, Generation: -1, Offsets: map[string]int64{k: next}})
			}
			return w.rawCommitted(ctx, c, &Op{Proc: proc, F: Committed, Group: group}, []string{k})
		}, c.close, nil
	})
}

// rawCommit commits op's offsets and records it.
func (w *world) rawCommit(ctx context.Context, c *raw, op *Op) error {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = op.Group, op.Member, op.Generation
	for k, o := range op.Offsets {
		t := kmsg.NewOffsetCommitRequestTopic()
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		t.Topic, p.Partition = split(k)
		p.Offset = o
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	w.h.Begin(op)
	resp, err := c.ask(ctx, req, 8)
	if err != nil {
		w.h.End(op, Info, err)
		return err
	}
	if _, err := commitOutcome(resp.(*kmsg.OffsetCommitResponse)); err != nil {
		// One request, not repeated, refused: it did not happen, unless the node gave up waiting for its own write.
		outcome := Info
		if errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.NotCoordinator) || errors.Is(err, kerr.CoordinatorLoadInProgress) {
			outcome = Fail
		}
		w.h.End(op, outcome, err)
		return nil
	}
	w.h.End(op, OK, nil)
	return nil
}

// rawCommitted reads the committed offsets of a group for some keys and records it.
func (w *world) rawCommitted(ctx context.Context, c *raw, op *Op, keys []string) error {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group, req.RequireStable = op.Group, true
	for _, k := range keys {
		t := kmsg.NewOffsetFetchRequestTopic()
		var p int32
		t.Topic, p = split(k)
		t.Partitions = []int32{p}
		req.Topics = append(req.Topics, t)
	}
	w.h.Begin(op)
	resp, err := c.ask(ctx, req, 7)
	if err == nil {
		r := resp.(*kmsg.OffsetFetchResponse)
		err = kerr.ErrorForCode(r.ErrorCode)
		op.Offsets = map[string]int64{}
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				op.Offsets[key(t.Topic, p.Partition)] = p.Offset
				if err == nil {
					err = kerr.ErrorForCode(p.ErrorCode)
				}
			}
		}
	}
	if err != nil {
		w.h.End(op, Fail, err)
		return err
	}
	w.h.End(op, OK, nil)
	return nil
}
