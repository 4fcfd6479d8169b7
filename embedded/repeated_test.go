package embedded_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestRepeatedOverKills: a copier asks for everything twice, as one does who got no answer because the node was killed, with a kill
// in between. Everything is done once, and nothing of a transaction gets into the next.
func TestRepeatedOverKills(t *testing.T) {
	w := newWorld(t, embedded.InDir(t.TempDir()))
	w.txnCoordinator()
	w.eventually(func() string {
		var a api.FindCoordinatorResponse
		w.call(4, &api.FindCoordinatorRequest{CoordinatorKeys: []string{"g"}}, &a) // makes its topic
		return differs(w.groupAt(true), "-1")
	})
	// twice wants an answer before and after a kill. The coordinator may still be at the end of the last transaction.
	twice := func(want string, ask func() string) {
		t.Helper()
		w.eventually(func() string { return differs(ask(), want) })
		w.n.Kill()
		w.n.Restart()
		w.connect()
		w.eventually(func() string { return differs(ask(), want) })
	}
	once := func(want string, ask func() string) {
		t.Helper()
		w.want(ask(), want)
	}

	// copied produces twice, and wants it to be in the log once. Where that is depends on how often the marker before was written: one
	// that the kill kept from being reported is written again.
	copied := func(p api.InitProducerIDResponse) {
		t.Helper()
		at := int64(-1)
		twice("NONE", func() string {
			code, offset := w.copyOne(p)
			if code == wire.ErrNone && at < 0 {
				at = offset
			}
			if code == wire.ErrNone && offset != at {
				t.Fatalf("at %d and at %d", at, offset)
			}
			return code.Name()
		})
	}

	p := w.initTxn("copier", 60_000)
	after := func(p api.InitProducerIDResponse) api.InitProducerIDResponse { p.ProducerEpoch++; return p }
	copied(p)
	twice("NONE", func() string { return w.copiedTo(p, 1) })
	once("UNSTABLE_OFFSET_COMMIT", func() string { return w.groupAt(true) })
	once("-1", func() string { return w.groupAt(false) })
	twice(fmt.Sprint("NONE ", after(p).ProducerEpoch), func() string { return w.endCopy(p, true) })
	twice("1", func() string { return w.groupAt(true) })

	w.eventually(func() string { return differs(w.txnState("copier"), "CompleteCommit") })

	// What is still on its way comes too late.
	once("INVALID_PRODUCER_EPOCH", func() string { code, _ := w.copyOne(p); return code.Name() })
	once("INVALID_PRODUCER_EPOCH", func() string { return w.copiedTo(p, 2) })
	once("INVALID_TXN_STATE -1", func() string { return w.endCopy(p, false) })

	p = after(p)
	copied(p)
	twice("NONE", func() string { return w.copiedTo(p, 2) })
	once("UNSTABLE_OFFSET_COMMIT", func() string { return w.groupAt(true) })
	once("1", func() string { return w.groupAt(false) })
	twice(fmt.Sprint("NONE ", after(p).ProducerEpoch), func() string { return w.endCopy(p, false) })
	twice("1", func() string { return w.groupAt(true) })
	w.eventually(func() string { return differs(w.txnState("copier"), "CompleteAbort") })
	once("INVALID_TXN_STATE -1", func() string { return w.endCopy(p, true) })

	p = after(p)
	copied(p)
	twice("NONE", func() string { return w.copiedTo(p, 2) })
	twice(fmt.Sprint("NONE ", after(p).ProducerEpoch), func() string { return w.endCopy(p, true) })
	twice("2", func() string { return w.groupAt(true) })
}

// copyOne produces one record, of sequence 0, in p's transaction.
func (w *world) copyOne(p api.InitProducerIDResponse) (code wire.ErrorCode, offset int64) {
	w.t.Helper()
	o := record.NewOptions()
	o.Transactional, o.ProducerID, o.ProducerEpoch, o.BaseSequence = true, id.ProducerID(p.ProducerID), id.ProducerEpoch(p.ProducerEpoch), 0
	b := record.NewBuilder(o)
	if err := b.Append(time.Now().UnixMilli(), nil, []byte("value")); err != nil {
		w.t.Fatal(err)
	}
	raw, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	name := "copier"
	var a api.ProduceResponse
	w.call(12, &api.ProduceRequest{TransactionalID: &name, Acks: -1, TimeoutMs: 5000, TopicData: []api.ProduceRequestTopicData{{Name: "t",
		PartitionData: []api.ProduceRequestTopicDataPartitionData{{Records: wire.Records{Bytes: raw}}}}}}, &a)
	r := a.Responses[0].PartitionResponses[0]
	return r.ErrorCode, r.BaseOffset
}

// copiedTo sends group g's offset in p's transaction.
func (w *world) copiedTo(p api.InitProducerIDResponse, offset int64) string {
	w.t.Helper()
	req := api.NewTxnOffsetCommitRequest()
	req.TransactionalID, req.GroupID, req.ProducerID, req.ProducerEpoch = "copier", "g", p.ProducerID, p.ProducerEpoch
	req.Topics = []api.TxnOffsetCommitRequestTopic{{Name: "t", Partitions: []api.TxnOffsetCommitRequestTopicPartition{{CommittedOffset: offset, CommittedLeaderEpoch: -1}}}}
	var a api.TxnOffsetCommitResponse
	w.call(5, req, &a)
	return a.Topics[0].Partitions[0].ErrorCode.Name()
}

// endCopy ends p's transaction and tells the epoch to go on with.
func (w *world) endCopy(p api.InitProducerIDResponse, commit bool) string {
	w.t.Helper()
	var a api.EndTxnResponse
	w.call(5, &api.EndTxnRequest{TransactionalID: "copier", ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch, Committed: commit}, &a)
	return fmt.Sprint(a.ErrorCode.Name(), " ", a.ProducerEpoch)
}

// groupAt is group g's offset, or why it is not told.
func (w *world) groupAt(stable bool) string {
	w.t.Helper()
	group := api.NewOffsetFetchRequestGroup()
	group.GroupID, group.Topics = "g", []api.OffsetFetchRequestGroupTopic{{Name: "t", PartitionIndexes: []int32{0}}}
	var a api.OffsetFetchResponse
	w.call(8, &api.OffsetFetchRequest{Groups: []api.OffsetFetchRequestGroup{group}, RequireStable: stable}, &a)
	g := a.Groups[0]
	if g.ErrorCode != wire.ErrNone {
		return g.ErrorCode.Name()
	}
	if p := g.Topics[0].Partitions[0]; p.ErrorCode != wire.ErrNone {
		return p.ErrorCode.Name()
	}
	return fmt.Sprint(g.Topics[0].Partitions[0].CommittedOffset)
}
