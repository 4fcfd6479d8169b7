package embedded_test

import (
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

const offsetsTopic = "__consumer_offsets"

// onePartition lets all groups live in __consumer_offsets-0.
var onePartition = map[string]string{"offsets.topic.num.partitions": "1"}

// groupProofs are the keys of groups and committed offsets.
func groupProofs() []proof {
	return []proof{
		keptBuffers(static, ""), keptBuffers(broker, "1"), keptBuffers(cluster, ""),
		staticProof("group.initial.rebalance.delay.ms", "200", onePartition, func(w *world) {
			w.coordinator()
			start := time.Now()
			w.want(w.join("g", 10_000), wire.ErrNone)
			atLeast(w, start, 200*time.Millisecond)
		}),
		staticProof("group.min.session.timeout.ms", "1000", onePartition, func(w *world) {
			w.coordinator()
			w.want(w.join("g", 2000), wire.ErrNone) // too short by default
			w.want(w.join("h", 900), wire.ErrInvalidSessionTimeout)
		}),
		staticProof("group.max.session.timeout.ms", "10000", onePartition, func(w *world) {
			w.coordinator()
			w.want(w.join("g", 10_000), wire.ErrNone)
			w.want(w.join("h", 10_001), wire.ErrInvalidSessionTimeout)
		}),
		staticProof("group.max.size", "1", onePartition, func(w *world) {
			w.coordinator()
			w.want(w.join("g", 10_000), wire.ErrNone)
			w.want(w.again().join("g", 10_000), wire.ErrGroupMaxSizeReached)
		}),
		staticProof("group.coordinator.append.linger.ms", "150", onePartition, func(w *world) {
			w.coordinator()
			start := time.Now()
			w.want(w.commit("g", 1, ""), wire.ErrNone)
			atLeast(w, start, 150*time.Millisecond)
		}),
		staticProof("offset.metadata.max.bytes", "4", onePartition, func(w *world) {
			w.coordinator()
			w.want(w.commit("g", 1, "four"), wire.ErrNone)
			w.want(w.commit("g", 1, "and more"), wire.ErrOffsetMetadataTooLarge)
		}),
		staticProof("offsets.commit.timeout.ms", "100", onePartition, func(w *world) {
			w.coordinator()
			// A machine that stands still for a moment lets any commit be given up, and any be given up late.
			w.eventually(func() string { return differs(w.commit("g", 1, "").Name(), "NONE") })
			w.n.Hold()
			defer w.n.Release()
			w.eventually(func() string {
				start := time.Now()
				w.want(w.commit("g", 2, ""), wire.ErrCoordinatorNotAvailable)
				atLeast(w, start, 100*time.Millisecond)
				if took := time.Since(start); took > 4*time.Second {
					return fmt.Sprintf("the commit was given up after %v, nearly the default", took)
				}
				return ""
			})
		}),
		staticProof("offsets.topic.num.partitions", "3", nil, func(w *world) {
			w.coordinator()
			w.want(len(w.metadata(offsetsTopic).Topics[0].Partitions), 3)
		}),
		staticProof("offsets.topic.replication.factor", "2", nil, func(w *world) {
			for range 3 {
				w.want(w.findCoordinator(), wire.ErrCoordinatorNotAvailable)
			}
			w.want(w.metadata(offsetsTopic).Topics[0].ErrorCode, wire.ErrUnknownTopicOrPartition)
		}),
		staticProof("offsets.topic.segment.bytes", "2000000", onePartition, func(w *world) {
			w.coordinator()
			var a api.DescribeConfigsResponse
			w.call(4, &api.DescribeConfigsRequest{Resources: []api.DescribeConfigsRequestResource{{ResourceType: 2, ResourceName: offsetsTopic,
				ConfigurationKeys: []string{"segment.bytes"}}}}, &a)
			w.want(deref(a.Results[0].Configs[0].Value), "2000000")
			w.want(a.Results[0].Configs[0].ConfigSource, 1)
		}),
		staticProof("offsets.topic.compression.codec", "1", onePartition, func(w *world) {
			w.coordinator()
			at := w.offset(offsetsTopic, -1)
			w.want(w.commit("g", 1, strings.Repeat("compressible ", 200)), wire.ErrNone)
			w.want(w.stored(offsetsTopic, at).Codec(), record.Gzip)
		}),
		{key: "offsets.retention.minutes", how: static, see: func(t *testing.T) {
			w := oldOffset(t, map[string]string{"offsets.retention.check.interval.ms": "10"})
			w.want(w.fetchOffset("g"), 42)
			w = oldOffset(t, map[string]string{"offsets.retention.check.interval.ms": "10", "offsets.retention.minutes": "1"})
			w.eventually(func() string { return differs(fmt.Sprint(w.fetchOffset("g")), "-1") })
		}},
		{key: "offsets.retention.check.interval.ms", how: static, see: func(t *testing.T) {
			w := oldOffset(t, map[string]string{"offsets.retention.minutes": "1"})
			w.want(w.fetchOffset("g"), 42)
			w = oldOffset(t, map[string]string{"offsets.retention.minutes": "1", "offsets.retention.check.interval.ms": "20"})
			w.eventually(func() string { return differs(fmt.Sprint(w.fetchOffset("g")), "-1") })
		}},
		{key: "offsets.load.buffer.size", how: static, see: func(t *testing.T) {
			mem := vfs.NewMem()
			w := rawNode(t, mem, onePartition)
			w.coordinator()
			for i := range 60 {
				w.want(w.commit("g", int64(i), strings.Repeat("m", 4000)), wire.ErrNone)
			}
			w.stop()
			for size, more := range map[string]bool{"10000": false, "5242880": true} {
				reads := &readSizes{FS: mem}
				w = rawNode(t, reads, map[string]string{"offsets.topic.num.partitions": "1", "offsets.load.buffer.size": size})
				w.coordinator()
				w.want(w.fetchOffset("g"), 59)
				if most := reads.most.Load(); (most > 100_000) != more || most < 4000 {
					t.Errorf("with a buffer of %s the largest read has %d bytes", size, most)
				}
				w.stop()
			}
		}},
	}
}

func atLeast(w *world, start time.Time, d time.Duration) {
	w.t.Helper()
	if took := time.Since(start); took < d {
		w.t.Errorf("answered after %v, want at least %v", took, d)
	}
}

func (w *world) findCoordinator() wire.ErrorCode {
	w.t.Helper()
	var a api.FindCoordinatorResponse
	w.call(4, &api.FindCoordinatorRequest{CoordinatorKeys: []string{"g"}}, &a)
	return a.Coordinators[0].ErrorCode
}

// coordinator waits until __consumer_offsets is there and served, and makes topic t.
func (w *world) coordinator() {
	w.t.Helper()
	if w.metadata("t").Topics[0].ErrorCode != wire.ErrNone {
		w.create("t", 1)
	}
	w.eventually(func() string { return differs(w.findCoordinator().Name(), "NONE") })
	w.eventually(func() string {
		var a api.OffsetFetchResponse
		w.call(5, &api.OffsetFetchRequest{GroupID: "g", Topics: []api.OffsetFetchRequestTopic{{Name: "t", PartitionIndexes: []int32{0}}}}, &a)
		return differs(a.ErrorCode.Name(), "NONE")
	})
}

// keptBuffers: the memory of a batch is kept for the next one up to a bound, which by default is about 1 MiB.
func keptBuffers(how, resource string) proof {
	const key, bound = "group.coordinator.cached.buffer.max.bytes", "524288"
	return proof{key: key, how: how, see: func(t *testing.T) {
		opts := []embedded.Option{embedded.WithMetrics(), embedded.With("offsets.topic.num.partitions", "1"), embedded.With("offset.metadata.max.bytes", "30000")}
		if how == static {
			opts = append(opts, embedded.With(key, bound))
		}
		w := newWorld(t, opts...)
		w.coordinator()
		note := strings.Repeat("n", 30000)
		var p []api.OffsetCommitRequestTopicPartition
		for range 25 {
			p = append(p, api.OffsetCommitRequestTopicPartition{CommittedLeaderEpoch: -1, CommittedMetadata: &note})
		}
		keeps := func(want bool) {
			w.eventually(func() string {
				var a api.OffsetCommitResponse
				w.call(7, &api.OffsetCommitRequest{GroupID: "g", GenerationIDOrMemberEpoch: -1, Topics: []api.OffsetCommitRequestTopic{{Name: "t", Partitions: p}}}, &a)
				w.want(a.Topics[0].Partitions[0].ErrorCode, wire.ErrNone)
				kept := !strings.Contains(scrape(t, w.n), groupFigures+"batch_buffer_cache_size_bytes 0\n")
				return differs(fmt.Sprint(kept), fmt.Sprint(want))
			})
		}
		if how == static {
			keeps(false)
			return
		}
		keeps(true)
		w.alter(4, resource, key, bound)
		keeps(false)
		w.alter(4, resource, key, "")
		keeps(true)
	}}
}

// join enters a group as a version that needs no member id first.
func (w *world) join(group string, session int32) wire.ErrorCode {
	w.t.Helper()
	var a api.JoinGroupResponse
	w.call(3, &api.JoinGroupRequest{GroupID: group, SessionTimeoutMs: session, RebalanceTimeoutMs: 1000, ProtocolType: "consumer",
		Protocols: []api.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{}}}}, &a)
	return a.ErrorCode
}

func (w *world) commit(group string, offset int64, metadata string) wire.ErrorCode {
	w.t.Helper()
	var a api.OffsetCommitResponse
	w.call(7, &api.OffsetCommitRequest{GroupID: group, GenerationIDOrMemberEpoch: -1, Topics: []api.OffsetCommitRequestTopic{{Name: "t",
		Partitions: []api.OffsetCommitRequestTopicPartition{{CommittedOffset: offset, CommittedLeaderEpoch: -1, CommittedMetadata: &metadata}}}}}, &a)
	return a.Topics[0].Partitions[0].ErrorCode
}

func (w *world) fetchOffset(group string) int64 {
	w.t.Helper()
	var a api.OffsetFetchResponse
	w.call(5, &api.OffsetFetchRequest{GroupID: group, Topics: []api.OffsetFetchRequestTopic{{Name: "t", PartitionIndexes: []int32{0}}}}, &a)
	if a.ErrorCode != wire.ErrNone {
		w.t.Fatalf("fetch offsets: %v", a.ErrorCode)
	}
	return a.Topics[0].Partitions[0].CommittedOffset
}

// oldOffset starts a node with a committed offset of three hours ago. Commits have the time of now, so it is written the way
// administrators' tools write there, and read at the next start.
func oldOffset(t *testing.T, change map[string]string) *world {
	t.Helper()
	mem := vfs.NewMem()
	w := rawNode(t, mem, onePartition)
	w.coordinator()
	w.id = "__admin_client"
	past := time.Now().Add(-3 * hour)
	key := logrec.EncodeGroupKey(&logrec.OffsetCommitKey{Group: "g", Topic: "t"})
	value := logrec.EncodeVersioned(&logrec.OffsetCommitValue{Offset: 42, LeaderEpoch: -1, CommitTimestamp: past.UnixMilli(), ExpireTimestamp: -1}, 3)
	w.must(offsetsTopic, batch{key: key, values: [][]byte{value}, ts: past})
	w.stop()
	w = rawNode(t, mem, change)
	w.coordinator()
	return w
}

// readSizes notes the largest read from a coordinator's log.
type readSizes struct {
	vfs.FS
	most atomic.Int64
}

func (r *readSizes) OpenFile(path string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := r.FS.OpenFile(path, flag, perm)
	if err == nil && strings.HasPrefix(path, "/data/__") && strings.Contains(path, "-0/") && !strings.Contains(path, "__cluster_metadata") && strings.HasSuffix(path, ".log") {
		f = &sizedFile{f, &r.most}
	}
	return f, err
}

type sizedFile struct {
	vfs.File
	most *atomic.Int64
}

func (f *sizedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	for old := f.most.Load(); int64(n) > old && !f.most.CompareAndSwap(old, int64(n)); old = f.most.Load() {
	}
	return n, err
}
