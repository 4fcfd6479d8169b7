package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/node"
	"github.com/moldau-io/moldau/internal/wire"
)

// once sends a record to a partition without trying again.
func once(t *testing.T, n *embedded.Node, topic string, partition int32) error {
	t.Helper()
	c := client(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite(), kgo.RecordRetries(0))
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return c.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: []byte("x")}).FirstErr()
}

// TestFullDisk: while the disk is full writes are refused and reads go on; when there is room the node goes on without a restart.
func TestFullDisk(t *testing.T) {
	n := embedded.Start(t, embedded.With("metadata.max.idle.interval.ms", "20"))
	c := client(t, n)
	a := kadm.NewClient(c)
	produce(t, c, "t", 0, 100)
	n.SetFree(0)
	for range 3 {
		if err := once(t, n, "t", 0); !errors.Is(err, kerr.KafkaStorageError) {
			t.Fatalf("produce on a full disk: %v", err)
		}
	}
	if r, err := a.CreateTopic(t.Context(), 1, 1, nil, "u"); !errors.Is(errors.Join(err, r.Err), kerr.KafkaStorageError) {
		t.Fatalf("create a topic on a full disk: %v, %v", r.Err, err)
	}
	fromStart := []kgo.Opt{kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	wantAll(t, consume(t, client(t, n, fromStart...), 100), 0, 100)
	n.SetFree(-1)
	produce(t, c, "t", 100, 200)
	if _, err := a.CreateTopic(t.Context(), 1, 1, nil, "u"); err != nil {
		t.Fatal(err)
	}
	n.Restart()
	wantAll(t, consume(t, client(t, n, fromStart...), 200), 0, 200)
}

// TestReserve: before the disk is full produce is refused, and what the node itself has to write is not: topics are made, offsets
// committed, records deleted, without a single write that fails.
func TestReserve(t *testing.T) {
	n := embedded.Start(t, embedded.With("moldau.log.dir.reserve.bytes", "1000000"), embedded.With("metadata.max.idle.interval.ms", "0"),
		embedded.With("offsets.topic.num.partitions", "1"))
	c := client(t, n)
	a := kadm.NewClient(c)
	produce(t, c, "t", 0, 100)
	commit := func(at int64) error {
		var o kadm.Offsets
		o.AddOffset("t", 0, at, -1)
		r, err := a.CommitOffsets(t.Context(), "g", o)
		return errors.Join(err, r.Error())
	}
	if err := commit(1); err != nil {
		t.Fatal(err)
	}
	n.SetFree(1_000_050)
	var err error
	for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); { // it looks once a second
		err = once(t, n, "t", 0)
	}
	if !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatalf("produce into the reserve: %v", err)
	}
	if err := commit(50); err != nil {
		t.Errorf("commit: %v", err)
	}
	if r, err := a.CreateTopic(t.Context(), 1, 1, nil, "u"); errors.Join(err, r.Err) != nil {
		t.Errorf("create a topic: %v, %v", r.Err, err)
	}
	var o kadm.Offsets
	o.AddOffset("t", 0, 10, -1)
	if r, err := a.DeleteRecords(t.Context(), o); err != nil || r.Error() != nil {
		t.Errorf("delete records: %v, %v", err, r.Error())
	}
	n.SetFree(2_000_000)
	if err := once(t, n, "t", 0); err != nil {
		t.Errorf("produce when there is room again: %v", err)
	}
}

// TestStartOnAFullDisk: without a reserve there may be no room for a vote. A start says so and does no harm; with a little room the node
// serves what it has, and deletes.
func TestStartOnAFullDisk(t *testing.T) {
	for name, stop := range map[string]func(n *node.Node){
		"stopped": func(n *node.Node) {
			if err := n.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"killed": (*node.Node).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewMem()
			p := properties(map[string]string{"moldau.log.dir.reserve.bytes": "0", "metadata.max.idle.interval.ms": "0"})
			start := func() (*node.Node, *world) {
				t.Helper()
				n, err := startRaw(t, mem, p)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(n.Kill) // after a stop it does nothing
				w := &world{t: t, fsys: mem, addr: n.Addr(), id: "disk-test"}
				w.connect()
				return n, w
			}
			n, w := start()
			w.create("t", 1)
			for range 10 {
				w.must("t", batch{})
			}
			stop(n)
			mem.SetFree(0)
			for range 2 {
				n, err := startRaw(t, mem, p)
				if err == nil {
					n.Kill()
					t.Fatal("the node starts")
				}
				for _, part := range []string{"write quorum state: write /data/__cluster_metadata-0/quorum-state.tmp", syscall.ENOSPC.Error()} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q lacks %q", err, part)
					}
				}
			}
			mem.SetFree(16 << 10)
			_, w = start()
			w.eventually(func() string {
				_, code := w.tryOffset("t", 0, -1)
				return differs(fmt.Sprint(code), fmt.Sprint(wire.ErrNone))
			})
			mem.SetFree(0)
			for at := range int64(10) {
				w.want(w.has("t", at), true)
			}
			w.deleteRecords("t", 5)
			w.want(w.offset("t", -2), 5)
			w.want(w.offset("t", -1), 10)
			_, code := w.produce("t", batch{})
			w.want(code, wire.ErrKafkaStorageError)
		})
	}
}

// awaitLeader waits until metadata names the leader of a partition of t.
func awaitLeader(t *testing.T, a *kadm.Client, partition, leader int32) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		m, err := a.Metadata(t.Context(), "t")
		if err != nil {
			t.Fatal(err)
		}
		p, ok := m.Topics["t"].Partitions[partition]
		if ok && p.Leader == leader {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("partition %d: %+v", partition, m.Topics["t"])
		}
	}
}

// TestOneDirectoryFails: the partitions of a directory that fails are offline, the others are served on; when the directory is
// well again at the next start, everything is there.
func TestOneDirectoryFails(t *testing.T) {
	root := t.TempDir()
	dirs := []string{filepath.Join(root, "a"), filepath.Join(root, "b")}
	n := embedded.Start(t, embedded.InDir(dirs[0]+","+dirs[1]), embedded.With("metadata.max.idle.interval.ms", "0"), embedded.With("num.partitions", "4"))
	a := kadm.NewClient(client(t, n))
	if _, err := a.CreateTopic(t.Context(), 4, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	for p := range int32(4) {
		awaitLeader(t, a, p, 1)
		if err := once(t, n, "t", p); err != nil {
			t.Fatal(err)
		}
	}
	in := func() map[int32]string {
		t.Helper()
		all, err := a.DescribeBrokerLogDirs(t.Context(), 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		at := map[int32]string{}
		all.EachPartition(func(p kadm.DescribedLogDirPartition) { at[p.Partition] = p.Dir })
		return at
	}
	home := in()
	bad := int32(-1)
	for p, dir := range home {
		if dir == dirs[1] { // the metadata log is in the first
			bad = p
		}
	}
	if bad < 0 {
		t.Fatalf("the partitions are in %v", home)
	}
	n.Fail(vfs.Rule{Op: vfs.OpWrite, Path: "*.log", Nth: 1, Err: syscall.EIO})
	if err := once(t, n, "t", bad); !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatalf("produce to a broken directory: %v", err)
	}
	acked := map[int32]int64{}
	for p, dir := range home {
		acked[p] = 1
		if err := once(t, n, "t", p); (err == nil) != (dir == dirs[0]) {
			t.Errorf("partition %d in %s: %v", p, dir, err)
		} else if err == nil {
			acked[p] = 2
		}
	}
	awaitLeader(t, a, bad, -1) // the controller hears of it
	n.Kill()                   // a stop in good order would complain of the logs it cannot close
	n.Restart()
	for deadline := time.Now().Add(10 * time.Second); ; {
		ends, err := a.ListEndOffsets(t.Context(), "t")
		wrong := fmt.Sprint(err)
		for p, want := range acked {
			if e, ok := ends.Lookup("t", p); !ok || e.Err != nil || e.Offset != want {
				wrong += fmt.Sprintf("; partition %d ends at %d (%v), want %d", p, e.Offset, e.Err, want)
			}
		}
		if wrong == "<nil>" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(wrong)
		}
	}
}
