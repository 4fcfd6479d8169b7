package checker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The groups that consume topics, of each protocol one.
const (
	readGroup   = "readers"     // classic, eager
	coopGroup   = "cooperators" // classic, cooperative, static members
	serverGroup = "servers"     // KIP-848
)

var readTopics = []string{"plain", "txn"}

// member consumes in a group with an eager assignor and commits what it has read.
func (w *world) member(ctx context.Context) {
	w.joins(ctx, readGroup, "", kgo.Balancers(kgo.RangeBalancer()))
}

// cooperator is a static member of a group that hands over single partitions.
func (w *world) cooperator(ctx context.Context) {
	name := fmt.Sprintf("static-%d", w.proc())
	w.joins(ctx, coopGroup, name, kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.InstanceID(name))
}

// served is a member of a group whose partitions the node assigns.
func (w *world) served(ctx context.Context) {
	w.joins(ctx, serverGroup, "", kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer())
}

// holding is what a member owns: one operation for each assignment of which something is left.
type holding struct {
	w    *world
	mu   sync.Mutex
	left map[*Op]int // partitions
	of   map[string]*Op
}

func (h *holding) take(op *Op, parts map[string][]int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for topic, ps := range parts {
		for _, p := range ps {
			op.Owned = append(op.Owned, key(topic, p))
		}
	}
	h.w.h.Begin(op)
	for _, k := range op.Owned {
		h.of[k] = op
	}
	if h.left[op] = len(op.Owned); len(op.Owned) == 0 {
		h.w.h.End(op, OK, nil)
	}
}

func (h *holding) drop(parts map[string][]int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for topic, ps := range parts {
		for _, p := range ps {
			op := h.of[key(topic, p)]
			if op == nil {
				continue
			}
			delete(h.of, key(topic, p))
			if h.left[op]--; h.left[op] == 0 {
				delete(h.left, op)
				h.w.h.End(op, OK, nil)
			}
		}
	}
}

// joins consumes in a group, commits, and leaves from time to time.
func (w *world) joins(ctx context.Context, group, instance string, how ...kgo.Opt) {
	w.loop(ctx, func(life context.Context) (func(context.Context) error, func(), error) {
		proc := w.proc()
		var session atomic.Int64
		owns := &holding{w: w, left: map[*Op]int{}, of: map[string]*Op{}}
		drop := func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			session.Store(w.sessions.Add(1))
			owns.drop(parts)
		}
		take := func(_ context.Context, cl *kgo.Client, parts map[string][]int32) {
			session.Store(w.sessions.Add(1))
			member, generation := cl.GroupMetadata()
			owns.take(&Op{Proc: proc, F: Assigned, Group: group, Member: member, Instance: instance, Generation: generation}, parts)
		}
		cl, err := w.client(life, append(how, kgo.ConsumerGroup(group), kgo.ConsumeTopics(readTopics...), kgo.DisableAutoCommit(),
			kgo.BlockRebalanceOnPoll(), kgo.SessionTimeout(w.session), kgo.HeartbeatInterval(w.session/10), kgo.OnPartitionsAssigned(take), kgo.OnPartitionsRevoked(drop),
			kgo.OnPartitionsLost(drop), kgo.RequireStableFetchOffsets())...)
		if err != nil {
			return nil, nil, err
		}
		step := func(ctx context.Context) error {
			defer cl.AllowRebalance()
			if err := w.poll(ctx, cl, proc, session.Load, group); err != nil {
				return err
			}
			if w.intN(100) == 0 {
				return errors.New("another member") // leaves: a rebalance
			}
			if w.intN(3) == 0 {
				w.commit(ctx, cl, &Op{Proc: proc, F: Commit, Group: group, Served: group == serverGroup})
			}
			return nil
		}
		return step, cl.CloseAllowingRebalance, nil
	})
}

// commit records a member's commit of what it has polled.
func (w *world) commit(ctx context.Context, cl *kgo.Client, op *Op) {
	head := cl.UncommittedOffsets()
	if len(head) == 0 {
		return
	}
	op.Offsets = map[string]int64{}
	op.Member, op.Generation = cl.GroupMetadata()
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

// asker reads the committed offsets of the groups that consume.
func (w *world) asker(ctx context.Context) {
	groups := []string{readGroup, coopGroup, serverGroup, copyGroup}
	w.raws(ctx, func(ctx context.Context, c *raw, proc int) error {
		group := groups[w.intN(len(groups))]
		keys := keysOf("in")
		if group != copyGroup {
			keys = append(keysOf("plain"), keysOf("txn")...)
		}
		err := w.rawCommitted(ctx, c, &Op{Proc: proc, F: Committed, Group: group}, keys)
		if errors.Is(err, kerr.UnstableOffsetCommit) {
			return nil // a transaction is about to commit
		}
		return err
	})
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
