package quorum

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
)

func (n *testNode) snapshots() []raft.Position {
	n.t.Helper()
	list, err := listSnapshots(n.fs, filepath.Join(n.dir, logDirName))
	if err != nil {
		n.t.Fatal(err)
	}
	return list
}

// TestSnapshotsGoByAge: snapshots that have become too old go without another one being written, and the log before them; the
// newest stays whatever its age.
func TestSnapshotsGoByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := format(t, vfs.NewMem(), "/data", true)
		n.edit = func(o *Options) {
			o.SnapshotMaxNewRecordBytes, o.RetentionBytes, o.RetentionTime, o.SnapshotMaxInterval, o.MaxIdleInterval = 1<<40, -1, 24*time.Hour, time.Hour, 0
		}
		q := n.start()
		var made []raft.Position
		for i := range 3 {
			if err := setConfig(q, "a", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour + time.Minute) // of the bubble's time
			synctest.Wait()
			made = n.snapshots()
		}
		if len(made) != 4 { // with the bootstrap snapshot
			t.Fatalf("by time: %v", made)
		}
		time.Sleep(20 * time.Hour)
		synctest.Wait()
		if got := n.snapshots(); len(got) != 4 || q.Status().LogStartOffset != 0 {
			t.Fatalf("too early: %v, log from %d", got, q.Status().LogStartOffset)
		}
		time.Sleep(40 * time.Hour)
		synctest.Wait()
		if got := n.snapshots(); len(got) != 2 || got[1] != made[3] {
			t.Fatalf("of %v there are %v", made, got)
		}
		q.wake() // for the status
		synctest.Wait()
		if s := q.Status(); s.LogStartOffset != made[3].Offset {
			t.Fatalf("the log begins at %d, the snapshot ends at %d", s.LogStartOffset, made[3].Offset)
		}
		if err := setConfig(q, "b", "1"); err != nil {
			t.Fatal(err)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		q = n.start()
		if configOf(q.Image(), "a") != "2" || configOf(q.Image(), "b") != "1" {
			t.Fatal("something is lost")
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCleaningThatWasCutShort: snapshots before the start of the log, which a crash between the two leaves, go at the next
// start, as do half snapshots of ours and of Apache Kafka's, and the log begins where a snapshot ends.
func TestCleaningThatWasCutShort(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	n.edit = func(o *Options) {
		o.SnapshotMaxNewRecordBytes, o.RetentionBytes, o.SegmentBytes = 20_000, 100_000, 30_000
	}
	q := n.start()
	for i := 0; q.Status().LogStartOffset == 0; i++ { // snapshots are written beside it, at their own pace
		if i == 100_000 {
			t.Fatalf("nothing is cleaned: %v", n.snapshots())
		}
		if err := setConfig(q, fmt.Sprint("key", i%50), strings.Repeat("v", 500)); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	n.edit = nil
	if err := vfs.WriteFile(n.fs, n.path("00000000000000000001-0000000001.checkpoint"), []byte("left behind")); err != nil {
		t.Fatal(err)
	}
	halves := []string{n.path("00000000000000000399-0000000001.checkpoint.part"), n.path("00000000000000000399-0000000001-8471520341.checkpoint.part")}
	for _, half := range halves {
		if err := vfs.WriteFile(n.fs, half, []byte("half")); err != nil {
			t.Fatal(err)
		}
	}
	q = n.start()
	list := n.snapshots()
	if len(list) < 2 || list[1].Offset == 1 || q.Status().LogStartOffset != list[1].Offset {
		t.Fatalf("%v, log from %d", list, q.Status().LogStartOffset)
	}
	for _, half := range halves {
		if vfs.Exists(n.fs, half) {
			t.Errorf("half a snapshot is still there: %s", half)
		}
	}
}

// TestFollowerLoadsSnapshot: a voter that was away while the log was cut behind a snapshot gets the snapshot in pieces, and
// then the log.
func TestFollowerLoadsSnapshot(t *testing.T) {
	for _, rpc := range []bool{false, true} {
		t.Run(fmt.Sprintf("rpc %v", rpc), func(t *testing.T) { followerLoadsSnapshot(t, rpc) })
	}
}

func followerLoadsSnapshot(t *testing.T, rpc bool) {
	synctest.Test(t, func(t *testing.T) {
		w := &wires{t: t, rpc: rpc, nodes: map[id.BrokerID]*Quorum{}}
		var voters []Voter
		nodes := map[id.BrokerID]*testNode{}
		for n := range id.BrokerID(3) {
			n++
			voters = append(voters, Voter{ID: n, Endpoints: []Endpoint{{"CONTROLLER", "localhost", uint16(9000 + n)}}})
			nodes[n] = format(t, vfs.NewMem(), "/data", false)
		}
		start := func(n id.BrokerID, publishers ...Publisher) *Quorum {
			o := nodes[n].options()
			o.NodeID, o.StaticVoters, o.Endpoints, o.Transport = n, voters, voters[n-1].Endpoints, w
			o.SnapshotMaxNewRecordBytes, o.RetentionBytes, o.SegmentBytes = 50_000, 10_000, 30_000
			o.Controller = controller.New(controller.Config{NodeID: n, ClusterID: testCluster, SupportedFeatures: controller.SupportedFeatures(),
				DefaultReplicationFactor: 1, DefaultPartitions: 1, SessionTimeout: 9 * time.Second, Schema: openSchema{}})
			q, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range publishers {
				q.Subscribe(p)
			}
			if err := q.Start(); err != nil {
				t.Fatal(err)
			}
			w.set(n, q)
			return q
		}
		stop := func(n id.BrokerID) {
			w.mu.Lock()
			q := w.nodes[n]
			delete(w.nodes, n)
			w.mu.Unlock()
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for n := range nodes {
			start(n)
		}
		lead := w.leader(t)
		away := lead.Status().Leader.ID%3 + 1
		if err := setConfig(lead, "early", "1"); err != nil {
			t.Fatal(err)
		}
		stop(away)
		lead = w.leader(t)
		for i := 0; lead.Status().LogStartOffset < 300; i++ {
			if err := setConfig(lead, fmt.Sprint("key", i%1500), strings.Repeat("v", 900)); err != nil { // a snapshot of more than one piece
				t.Fatal(err)
			}
		}
		// Twice: a node that was away, and one that has nothing, but for what formatting leaves.
		for round := range 2 {
			if round == 1 {
				stop(away)
				nodes[away] = format(t, vfs.NewMem(), "/data", false)
				lead = w.leader(t)
			}
			fromSnapshot := 0
			q := start(away, PublisherFunc(func(_ *image.Delta, _ *image.Image, at Provenance) {
				if at.FromSnapshot {
					fromSnapshot++
				}
			}))
			if err := setConfig(lead, "late", fmt.Sprint(round)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			img, err := q.AwaitImage(ctx, func(i *image.Image) bool { return configOf(i, "late") == fmt.Sprint(round) })
			cancel()
			if err != nil {
				t.Fatalf("round %d: %v, %+v", round, err, q.Status())
			}
			if configOf(img, "early") != "1" || configOf(img, "key0") != strings.Repeat("v", 900) || q.Status().LogStartOffset < 300 || fromSnapshot == 0 {
				t.Fatalf("round %d: %+v, %d snapshots published", round, q.Status(), fromSnapshot)
			}
			if list := nodes[away].snapshots(); list[len(list)-1].Offset < 300 {
				t.Fatalf("round %d: %v", round, list)
			}
		}
		for n := range nodes {
			stop(n)
		}
	})
}
