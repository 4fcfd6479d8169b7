package group

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestFiguresOfOffsets: what is counted is what was committed, expired and deleted, offset by offset; what was refused is not.
func TestFiguresOfOffsets(t *testing.T) {
	counted := map[Figure]int{}
	cfg := DefaultConfig()
	cfg.OffsetMetadataMaxSize, cfg.OffsetsRetention = 3, time.Minute
	cfg.Count = func(what Figure, n int) { counted[what] += n }
	w := newWorld(t, cfg, 1)
	expect := func(step string, offsets int, want map[Figure]int) {
		t.Helper()
		if d := cmp.Diff(want, counted); d != "" {
			t.Errorf("%s (-want +got)\n%s", step, d)
		}
		c := Counts{Groups: map[[2]string]int{}}
		if w.s.Add(&c); c.Offsets != offsets {
			t.Errorf("%s: there are %d offsets, want %d", step, c.Offsets, offsets)
		}
		clear(counted)
	}
	request := func(metadata string, partitions ...int32) *api.OffsetCommitRequest {
		req := api.NewOffsetCommitRequest()
		req.GroupID, req.GenerationIDOrMemberEpoch, req.RetentionTimeMs = "g", -1, -1
		req.Topics = []api.OffsetCommitRequestTopic{{Name: "t"}}
		for _, p := range partitions {
			req.Topics[0].Partitions = append(req.Topics[0].Partitions, api.OffsetCommitRequestTopicPartition{PartitionIndex: p, CommittedMetadata: &metadata})
		}
		return req
	}
	commit := func(req *api.OffsetCommitRequest) {
		w.do("commit", 9, func(t Turn) shard.Result { return w.s.OffsetCommit(t, req) })
	}
	pending := func(p id.ProducerID, partitions ...int32) {
		w.do("txn", 6, func(t Turn) shard.Result {
			return w.s.TxnOffsetCommit(t, shard.Producer{ID: p}, request("", partitions...))
		})
	}
	end := func(p id.ProducerID) {
		w.do("marker", 0, func(t Turn) shard.Result {
			return w.s.CompleteTransaction(t, shard.Marker{Producer: shard.Producer{ID: p}, Commit: true})
		})
	}

	commit(request("", 0, 1))
	expect("two", 2, map[Figure]int{CommittedOffsets: 2})
	commit(request("", 1))
	expect("one again", 2, map[Figure]int{CommittedOffsets: 1})
	commit(request("long", 2))
	stale := request("", 2)
	stale.MemberID, stale.GenerationIDOrMemberEpoch = "m", 1
	commit(stale)
	expect("refused", 2, map[Figure]int{})

	// Three producers and two partitions: what is pending is no offset yet, and a partition has one only.
	pending(4, 2)
	pending(5, 2)
	pending(6, 3)
	expect("pending", 2, map[Figure]int{CommittedOffsets: 3})
	end(4)
	end(5)
	end(6)
	expect("no longer", 4, map[Figure]int{})

	req := api.NewOffsetDeleteRequest()
	req.GroupID = "g"
	req.Topics = []api.OffsetDeleteRequestTopic{{Name: "t", Partitions: []api.OffsetDeleteRequestTopicPartition{{PartitionIndex: 0}, {PartitionIndex: 0}, {PartitionIndex: 1}, {PartitionIndex: 9}}}}
	w.do("admin", 0, func(t Turn) shard.Result { return w.s.OffsetDelete(t, req) })
	expect("deleted", 2, map[Figure]int{DeletedOffsets: 2})

	w.advance(30 * time.Second)
	commit(request("", 3))
	w.advance(cfg.RetentionCheckInterval)
	expect("expired", 0, map[Figure]int{CommittedOffsets: 1, ExpiredOffsets: 2})
	if names := w.s.names(); len(names) != 0 || len(w.s.offsets) != 0 {
		t.Errorf("%v and %v are left", names, w.s.offsets)
	}

	// A group that is deleted takes its offsets along, which are not counted as deleted ones.
	commit(request("", 0))
	w.do("admin", 2, func(t Turn) shard.Result { return w.s.DeleteGroups(t, []string{"g"}) })
	expect("group deleted", 0, map[Figure]int{CommittedOffsets: 1})
}
