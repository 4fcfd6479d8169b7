package group

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// txnPart is what a record of a world's log has to do with a producer's transaction: an offset that is pending, or the marker.
type txnPart struct {
	producer       id.ProducerID
	marker, commit bool
}

// txnStep runs the commands of transactions.
func (w *world) txnStep(a args, group string) {
	producer := id.ProducerID(a.num("producer", 7))
	switch a.td.Cmd {
	case "txn-commit":
		req := commitRequest(w, a, group)
		w.do("txn", int16(a.num("version", 6)), func(t Turn) shard.Result { return w.s.TxnOffsetCommit(t, shard.Producer{ID: producer}, req) })
	case "end-txn":
		m := shard.Marker{Producer: shard.Producer{ID: producer}, Commit: a.first() == "commit"}
		w.do("marker", 0, func(t Turn) shard.Result { return w.s.CompleteTransaction(t, m) })
	}
}

// noteTxn notes whose transaction the next record of the log belongs to, and says so.
func (w *world) noteTxn(p *shard.Producer) string {
	if p == nil {
		return ""
	}
	w.txns[len(w.log)] = txnPart{producer: p.ID}
	return fmt.Sprintf(" of producer %d", p.ID)
}

func (w *world) writeMarker(m *shard.Marker) {
	w.s.Apply(id.Offset(len(w.log)), shard.Record{Change: m.Change})
	w.txns[len(w.log)] = txnPart{producer: m.ID, marker: true, commit: m.Commit}
	w.log = append(w.log, shard.Record{Change: m.Change})
	w.say("record marker of producer %d commit=%v", m.ID, m.Commit)
}

// txnLog is a shard with its log: records of transactions, and markers.
type txnLog struct {
	t   *testing.T
	s   *Shard
	log []txnEntry
}

type txnEntry struct {
	r        shard.Record
	producer id.ProducerID
	marker   *shard.Marker
}

func newTxnLog(t *testing.T) *txnLog {
	l := &txnLog{t: t, s: New(DefaultConfig(), rand.New(rand.NewPCG(1, 2)))}
	l.carry(l.s.Loaded(time.UnixMilli(0), 0))
	return l
}

func (l *txnLog) carry(res shard.Result) any {
	for _, r := range res.Records {
		e := txnEntry{r: r, producer: id.NoProducer}
		if res.Producer != nil {
			e.producer = res.Producer.ID
		}
		l.s.Apply(id.Offset(len(l.log)), r)
		l.log = append(l.log, e)
	}
	if m := res.Marker; m != nil {
		l.s.Apply(id.Offset(len(l.log)), shard.Record{Change: m.Change})
		l.log = append(l.log, txnEntry{marker: m})
	}
	if len(res.Answers) > 0 {
		return res.Answers[0].Body
	}
	return res.Reply
}

func (l *txnLog) turn() Turn { return Turn{Now: time.UnixMilli(1000), Ticket: 1, Version: 5} }

func (l *txnLog) pending(producer id.ProducerID, partition int32, offset int64) wire.ErrorCode {
	resp := l.carry(l.s.TxnOffsetCommit(l.turn(), shard.Producer{ID: producer}, commitOf(partition, offset))).(*api.OffsetCommitResponse)
	return resp.Topics[0].Partitions[0].ErrorCode
}

func (l *txnLog) plain(partition int32, offset int64) {
	l.carry(l.s.OffsetCommit(l.turn(), commitOf(partition, offset)))
}

func commitOf(partition int32, offset int64) *api.OffsetCommitRequest {
	req := api.NewOffsetCommitRequest()
	req.GroupID, req.GenerationIDOrMemberEpoch = "g", -1
	req.Topics = []api.OffsetCommitRequestTopic{{Name: "t", Partitions: []api.OffsetCommitRequestTopicPartition{{PartitionIndex: partition, CommittedOffset: offset, CommittedLeaderEpoch: -1}}}}
	return req
}

func (l *txnLog) end(producer id.ProducerID, commit bool) {
	l.carry(l.s.CompleteTransaction(l.turn(), shard.Marker{Producer: shard.Producer{ID: producer}, Commit: commit}))
}

// view is what the working state says of partitions 0 to 3: offset, and "?" if it is unstable.
func (l *txnLog) view(s *Shard) string {
	req := &api.OffsetFetchRequestGroup{GroupID: "g", MemberEpoch: -1, Topics: []api.OffsetFetchRequestGroupTopic{{Name: "t", PartitionIndexes: []int32{0, 1, 2, 3}}}}
	resp := s.FetchStableOffsets(l.turn(), req).Reply.(api.OffsetFetchResponseGroup)
	text := ""
	for _, p := range resp.Topics[0].Partitions {
		if p.ErrorCode == wire.ErrUnstableOffsetCommit {
			text += " ?"
		} else {
			text += fmt.Sprintf(" %d", p.CommittedOffset)
		}
	}
	return text
}

func (l *txnLog) replay(n int) *Shard {
	s := New(DefaultConfig(), rand.New(rand.NewPCG(1, 2)))
	for i, e := range l.log[:n] {
		if e.marker != nil {
			s.EndTransaction(id.Offset(i), e.marker.ID, e.marker.Commit)
		} else if _, err := s.Replay(id.Offset(i), e.producer, e.r.Key, e.r.Value); err != nil {
			l.t.Fatal(err)
		}
	}
	return s
}

func TestPendingOffsets(t *testing.T) {
	l := newTxnLog(t)
	expect := func(want string) {
		t.Helper()
		if got := l.view(l.s); got != want {
			t.Fatalf("offsets%s, want%s", got, want)
		}
	}
	if code := l.pending(7, 0, 10); code != wire.ErrNone {
		t.Fatal(code.Name())
	}
	expect(" ? -1 -1 -1")
	l.pending(8, 0, 20)
	l.plain(1, 5)
	expect(" ? 5 -1 -1")
	l.end(7, true)
	expect(" ? 5 -1 -1")
	l.end(8, false)
	expect(" 10 5 -1 -1")
	// A plain commit after the pending one is newer.
	l.pending(7, 2, 30)
	l.plain(2, 31)
	l.end(7, true)
	expect(" 10 5 31 -1")
	// A transaction without offsets here.
	l.end(99, true)
	expect(" 10 5 31 -1")

	long := make([]byte, 5000)
	by, text := shard.Producer{ID: 7}, string(long)
	req := commitOf(0, 1)
	req.Topics[0].Partitions[0].CommittedMetadata = &text
	res := l.s.TxnOffsetCommit(l.turn(), by, req)
	if code := res.Reply.(*api.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; code != wire.ErrOffsetMetadataTooLarge || res.Producer != nil || len(res.Records) > 0 {
		t.Errorf("too much metadata: %s %+v", code.Name(), res)
	}
	for version, want := range map[int16]wire.ErrorCode{5: wire.ErrIllegalGeneration, 6: wire.ErrGroupIDNotFound} {
		req.GroupID, req.GenerationIDOrMemberEpoch, req.MemberID = "unknown", 3, "m"
		turn := l.turn()
		turn.Version = version
		if code := l.carry(l.s.TxnOffsetCommit(turn, by, req)).(*api.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; code != want {
			t.Errorf("version %d: %s, want %s", version, code.Name(), want.Name())
		}
	}
	req.GroupID = "g"
	if code := l.carry(l.s.TxnOffsetCommit(l.turn(), by, req)).(*api.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; code != wire.ErrUnknownMemberID {
		t.Errorf("a member of another group: %s", code.Name())
	}
}

// TestPendingOffsetsAgainstReplay mixes commits of both kinds and markers, takes some back, and compares with a replay.
func TestPendingOffsetsAgainstReplay(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed.Of(t), 1))
	for range 300 {
		l := newTxnLog(t)
		committed := 0
		for range 60 {
			switch n := rnd.IntN(10); {
			case n < 4:
				l.pending(id.ProducerID(rnd.IntN(3)), int32(rnd.IntN(4)), rnd.Int64N(100))
			case n < 6:
				l.plain(int32(rnd.IntN(4)), rnd.Int64N(100))
			case n < 8:
				l.end(id.ProducerID(rnd.IntN(3)), rnd.IntN(2) == 0)
			case n == 8:
				committed += rnd.IntN(len(l.log) - committed + 1)
				l.s.Committed(id.Offset(committed))
			default:
				keep := committed + rnd.IntN(len(l.log)-committed+1)
				l.s.Revert(id.Offset(keep))
				l.log = l.log[:keep]
			}
			again := l.replay(len(l.log))
			if got, want := l.view(l.s), l.view(again); got != want {
				t.Fatalf("offsets%s, the replay has%s", got, want)
			}
			if got, want := txnCounts(l.s), txnCounts(again); !reflect.DeepEqual(got, want) {
				t.Fatalf("open transactions %v, the replay has %v", got, want)
			}
		}
	}
}

func txnCounts(s *Shard) []string {
	var all []string
	for p, table := range s.txns.byProducer {
		for group := range table {
			for _, tp := range table.partitions(group) {
				all = append(all, fmt.Sprint(p, group, tp, table.get(group, tp).Offset, s.txns.counts[group][tp]))
			}
		}
	}
	slices.Sort(all)
	return all
}

// TestWholeBatches: what one request asks for is committed whole or not at all; what is cleaned up may go piece by piece.
func TestWholeBatches(t *testing.T) {
	l := newTxnLog(t)
	res := l.s.OffsetCommit(l.turn(), commitOf(0, 1))
	if !res.Atomic || res.Producer != nil {
		t.Errorf("a commit: %+v", res)
	}
	l.carry(res)
	if res = l.s.TxnOffsetCommit(l.turn(), shard.Producer{ID: 7}, commitOf(1, 1)); !res.Atomic || res.Producer == nil || res.Producer.ID != 7 {
		t.Errorf("a pending commit: %+v", res)
	}
	l.carry(res)
	topics := []api.OffsetDeleteRequestTopic{{Name: "t", Partitions: []api.OffsetDeleteRequestTopicPartition{{PartitionIndex: 0}, {PartitionIndex: 1}}}}
	if res = l.s.OffsetDelete(l.turn(), &api.OffsetDeleteRequest{GroupID: "g", Topics: topics}); !res.Atomic || len(res.Records) != 2 {
		t.Errorf("deleted offsets: %+v", res)
	}
	if res = l.s.DeleteGroups(l.turn(), []string{"g"}); !res.Atomic || len(res.Records) != 3 {
		t.Errorf("a deleted group: %+v", res)
	}
	if res = l.s.TopicsDeleted(time.UnixMilli(1000), []DeletedTopic{{Name: "t", ID: topicID("t")}}); res.Atomic || len(res.Records) != 2 {
		t.Errorf("a deleted topic: %+v", res)
	}
	l.end(7, false)
	res, _ = l.s.Expire(time.UnixMilli(0).Add(2 * l.s.cfg.OffsetsRetention))
	if res.Atomic || len(res.Records) != 2 {
		t.Errorf("expired: %+v", res)
	}
}
