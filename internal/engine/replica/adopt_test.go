package replica

import (
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// gated lets nobody open the segments of topics whose names begin with "slow" until the gate is.
func gated(f *vfs.Faults) (gate chan struct{}) {
	gate = make(chan struct{})
	for _, op := range []vfs.Op{vfs.OpOpen, vfs.OpCreate} {
		f.Add(vfs.Rule{Op: op, Path: "slow*/*.log", Call: func(string) error { <-gate; return nil }})
	}
	return gate
}

// heard is a watcher that remembers.
type heard struct{ elected chan id.TopicPartition }

func (h heard) Elected(tp id.TopicPartition, _ id.LeaderEpoch)  { h.elected <- tp }
func (h heard) Resigned(tp id.TopicPartition, _ id.LeaderEpoch) {}

// TestRecoveryBehindTheStart: after a kill what is recovered is served at once. What is not answers NOT_LEADER_OR_FOLLOWER, and
// nobody hears of an election, until its log is there. A topic deleted meanwhile is gone.
func TestRecoveryBehindTheStart(t *testing.T) {
	mem := vfs.NewMem()
	first := newRigOn(t, mem, "/data", nil)
	for _, name := range []string{"fast", "slow", "slowgone"} {
		first.topic(name, 2)
		first.mustProduce(name, 4)
	}
	first.logs.Tick(time.Now())
	first.stop = func() { first.Close() }
	disk := vfs.NewFaults(mem.CrashClone(1))
	gate := gated(disk)
	h := heard{make(chan id.TopicPartition, 10)}
	r := bootEarly(t, disk, "/data", nil, func(r *rig) []logrec.MetadataRecord {
		r.WatchLeadership("slow", h)
		recs := append(r.topicRecords("fast", 2), r.topicRecords("slow", 2)...)
		return append(recs, r.topicRecords("slowgone", 2)...)
	})
	if base := r.mustProduce("fast", 1); base != 4 {
		t.Errorf("fast goes on at %d", base)
	}
	for p := range int32(2) {
		if _, err := r.Partition("slow", p); ErrorCode(err) != wire.ErrNotLeaderOrFollower {
			t.Errorf("slow-%d before its recovery: %v", p, err)
		}
	}
	if len(h.elected) > 0 {
		t.Error("an election was told before the log was there")
	}
	// Another delta in between: what changes in a replica that waits counts when it comes.
	r.replay(&logrec.PartitionChangeRecord{TopicID: r.ids["slow"], PartitionID: 0, Leader: int32(self)})
	// And a deletion does not wait for recoveries that are under way, which are held up here.
	r.replay(&logrec.RemoveTopicRecord{TopicID: r.ids["slowgone"]})
	for p := range int32(2) {
		if _, err := r.Partition("slowgone", p); ErrorCode(err) != wire.ErrUnknownTopicOrPartition {
			t.Errorf("slowgone-%d after its deletion: %v", p, err)
		}
	}
	close(gate)
	r.awaitRecovered()
	if base := r.mustProduce("slow", 1); base != 4 {
		t.Errorf("slow goes on at %d", base)
	}
	if _, epoch := r.partition("slow", 0).Leadership(); epoch != 1 {
		t.Errorf("slow-0 leads in epoch %d, the delta that came while it waited said 1", epoch)
	}
	got := map[id.TopicPartition]bool{<-h.elected: true, <-h.elected: true}
	if len(got) != 2 || len(h.elected) > 0 {
		t.Errorf("elections %v and %d more", got, len(h.elected))
	}
	for p := range int32(2) {
		tp := id.TopicPartition{Topic: "slowgone", Partition: p}
		if _, ok := r.logs.Get(tp); ok || r.logs.Recovering(tp) {
			t.Errorf("%v was deleted and has a log", tp)
		}
	}
}

// TestRecoveringShared: replicas with others beside them are counted until they are there, or their directory has failed.
func TestRecoveringShared(t *testing.T) {
	mem := vfs.NewMem()
	first := newRigOn(t, mem, "/data", nil)
	first.topic("slow", 2)
	first.mustProduce("slow", 4)
	first.topic("slowtoo", 1)
	first.mustProduce("slowtoo", 4)
	first.logs.Tick(time.Now())
	first.stop = func() { first.Close() }
	for _, fails := range []bool{false, true} {
		faults := vfs.NewFaults(mem.CrashClone(1))
		gate := gated(faults)
		told := make(chan struct{}, 100)
		r := bootEarly(t, faults, "/data", func(o *Options) { o.Recovered = func() { told <- struct{}{} } }, func(r *rig) []logrec.MetadataRecord {
			return append(r.topicRecords("slow", 2, int32(self), 2), r.topicRecords("slowtoo", 1)...)
		})
		if n := r.RecoveringShared(); n != 2 {
			t.Errorf("%d shared replicas recover", n)
		}
		if fails {
			faults.Add(vfs.Rule{Op: vfs.OpAny, Path: "*.log", Err: syscall.EIO})
			r.stop = sync.OnceFunc(func() { r.Close(); r.logs.Close(id.NoBrokerEpoch) })
		}
		close(gate)
		for r.RecoveringShared() > 0 {
			if fails {
				<-r.logs.Failures()
			} else {
				<-told
			}
		}
	}
}
