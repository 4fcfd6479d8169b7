package embedded_test

import (
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
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// twoDirs is a node with two log directories, and an administrator of it.
type twoDirs struct {
	t    *testing.T
	n    *embedded.Node
	a    *kadm.Client
	dirs []string
}

func startTwoDirs(t *testing.T) *twoDirs {
	root := t.TempDir()
	w := &twoDirs{t: t, dirs: []string{filepath.Join(root, "a"), filepath.Join(root, "b")}}
	w.n = embedded.Start(t, embedded.InDir(strings.Join(w.dirs, ",")), embedded.With("metadata.max.idle.interval.ms", "0"))
	w.a = kadm.NewClient(client(t, w.n))
	return w
}

// where says in which directories the copies of a partition are; "a future" is one on its way into a.
func (w *twoDirs) where(topic string, partition int32) string {
	w.t.Helper()
	all, err := w.a.DescribeBrokerLogDirs(w.t.Context(), 1, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	at := ""
	for _, dir := range w.dirs {
		p, ok := all[dir].Topics.Lookup(topic, partition)
		if !ok {
			continue
		}
		if at += " " + filepath.Base(dir); p.IsFuture {
			at += " future"
		}
	}
	return strings.TrimSpace(at)
}

func (w *twoDirs) await(topic string, partition int32, want string) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		got := w.where(topic, partition)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("partition %d of %s is in %q, want %q", partition, topic, got, want)
		}
	}
}

// placed is where a partition is once its log is made, which may be after the metadata names its leader.
func (w *twoDirs) placed(topic string, partition int32) string {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		if at := w.where(topic, partition); at != "" {
			return at
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("partition %d of %s is nowhere", partition, topic)
		}
	}
}

// other is the directory in which a partition is not.
func (w *twoDirs) other(topic string, partition int32) string {
	w.t.Helper()
	if w.placed(topic, partition) == "a" {
		return w.dirs[1]
	}
	return w.dirs[0]
}

func (w *twoDirs) alter(topic string, partition int32, dir string) error {
	w.t.Helper()
	var req kadm.AlterReplicaLogDirsReq
	set := kadm.TopicsSet{}
	set.Add(topic, partition)
	req.Add(dir, set)
	res, err := w.a.AlterBrokerReplicaLogDirs(w.t.Context(), 1, req)
	if err != nil {
		w.t.Fatal(err)
	}
	r := res[topic][partition]
	return r.Err
}

// A partition moves to another directory while it is written to and read, with its producers and transactions; then the directory it
// came from fails, and it goes on.
func TestReplicaMoves(t *testing.T) {
	w := startTwoDirs(t)
	if _, err := w.a.CreateTopic(t.Context(), 2, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, w.a, 0, 1)
	awaitLeader(t, w.a, 1, 1)
	from, to := w.placed("t", 0), w.other("t", 0)
	w.await("t", 1, filepath.Base(to)) // the fewest
	p := client(t, w.n, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	txn := client(t, w.n, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("mover"))
	sent := 0
	send := func(c *kgo.Client, n int) {
		t.Helper()
		for range n {
			if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: fmt.Append(nil, sent)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			sent++
		}
	}
	send(p, 50)
	if err := txn.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	send(txn, 10)

	w.n.HoldMetadata() // the controller does not hear of it yet
	if err := w.alter("t", 0, to); err != nil {
		t.Fatal(err)
	}
	moving := from + " " + filepath.Base(to) + " future"
	if from == "b" {
		moving = "a future b"
	}
	w.await("t", 0, moving)
	send(p, 20)
	send(txn, 10)
	if got := w.where("t", 0); got != moving {
		t.Fatalf("the replica is in %q before the controller knows", got)
	}
	w.n.ReleaseMetadata()
	w.await("t", 0, filepath.Base(to))
	send(txn, 5)
	if err := txn.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	send(p, 20)
	read := func() {
		t.Helper()
		c := client(t, w.n, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().AtStart()}}), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		for i := 0; i < sent; {
			f := c.PollFetches(t.Context())
			if err := f.Err(); err != nil {
				t.Fatal(err)
			}
			f.EachRecord(func(r *kgo.Record) {
				if want := fmt.Sprint(i); string(r.Value) != want {
					t.Fatalf("record %s at %d, want %s", r.Value, r.Offset, want)
				}
				i++
			})
		}
	}
	read()
	w.n.Restart()
	w.await("t", 0, filepath.Base(to))
	read()

	// Both are in one directory now; the other one, without a partition, fails with what is moved into it.
	if err := w.alter("t", 1, filepath.Join(filepath.Dir(to), from)); err != nil {
		t.Fatal(err)
	}
	w.await("t", 1, from)
	w.n.Fail(vfs.Rule{Op: vfs.OpWrite, Path: "*.log", Nth: 1, Err: syscall.EIO})
	if err := once(t, w.n, "t", 1); !errors.Is(err, kerr.KafkaStorageError) {
		t.Fatalf("produce to a broken directory: %v", err)
	}
	if from != "a" { // the metadata log is in a, and ends the node
		awaitLeader(t, w.a, 1, -1)
		if err := once(t, w.n, "t", 0); err != nil {
			t.Fatal(err)
		}
		awaitLeader(t, w.a, 0, 1)
		if err := w.alter("t", 0, filepath.Join(filepath.Dir(to), from)); !errors.Is(err, kerr.KafkaStorageError) {
			t.Fatalf("a move to a directory that is offline: %v", err)
		}
	}
	w.n.Kill()
}

// A move that the end of the node interrupts goes on in its next life; one that is taken back leaves nothing.
func TestReplicaMoveInterrupted(t *testing.T) {
	w := startTwoDirs(t)
	if _, err := w.a.CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, w.a, 0, 1)
	c := client(t, w.n)
	produce(t, c, "t", 0, 100)
	from, to := w.placed("t", 0), w.other("t", 0)
	for _, end := range []func(){w.n.Kill, w.n.Stop} {
		from, to = w.where("t", 0), w.other("t", 0)
		w.n.HoldMetadata()
		if err := w.alter("t", 0, to); err != nil {
			t.Fatal(err)
		}
		end()
		w.n.Restart()
		w.await("t", 0, filepath.Base(to))
	}
	wantAll(t, consume(t, client(t, w.n, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 100), 0, 100)

	back := filepath.Join(filepath.Dir(to), from)
	w.n.HoldMetadata()
	if err := w.alter("t", 0, back); err != nil {
		t.Fatal(err)
	}
	if err := w.alter("t", 0, to); err != nil {
		t.Fatal(err)
	}
	w.await("t", 0, filepath.Base(to))
	w.n.ReleaseMetadata()
	w.n.Restart()
	w.await("t", 0, filepath.Base(to))
	wantAll(t, consume(t, client(t, w.n, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 100), 0, 100)
}

// Moves that cannot be, and the wish for a directory before there is a partition.
func TestReplicaMoveRefused(t *testing.T) {
	w := startTwoDirs(t)
	if _, err := w.a.CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	awaitLeader(t, w.a, 0, 1)
	if err := w.alter("t", 0, w.dirs[0]+"x"); !errors.Is(err, kerr.LogDirNotFound) {
		t.Errorf("to a directory that is not configured: %v", err)
	}
	if err := w.alter("none", 0, w.dirs[0]); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("of a topic that does not exist: %v", err)
	}
	if err := w.alter(strings.Repeat("l", 220), 0, w.dirs[0]); !errors.Is(err, kerr.InvalidTopicException) {
		t.Errorf("of a topic with a long name: %v", err)
	}
	here := w.placed("t", 0)
	if err := w.alter("t", 0, filepath.Join(filepath.Dir(w.dirs[0]), here)); err != nil {
		t.Errorf("to where it is: %v", err)
	}
	for i := range 4 { // the fewest would be every second one
		topic := fmt.Sprint("chosen", i)
		if err := w.alter(topic, 0, w.dirs[1]); !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Fatal(err)
		}
		if _, err := w.a.CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
			t.Fatal(err)
		}
		w.await(topic, 0, "b")
	}
}

// A node that starts while one of its directories cannot be used serves the others and makes nothing anew that may be in it.
func TestStartWithoutADirectory(t *testing.T) {
	mem := vfs.NewMem()
	dirs := map[string]string{"log.dirs": "/one,/two"}
	w := rawNode(t, mem, dirs)
	w.create("t", 2)
	for p := range int32(2) {
		w.must("t", batch{partition: p})
	}
	codes := map[string]wire.ErrorCode{}
	in := func() map[string][]int32 { // partitions by directory
		var a api.DescribeLogDirsResponse
		w.call(4, &api.DescribeLogDirsRequest{}, &a)
		out := map[string][]int32{}
		for _, d := range a.Results {
			codes[d.LogDir] = d.ErrorCode
			for _, x := range d.Topics {
				for _, p := range x.Partitions {
					out[d.LogDir] = append(out[d.LogDir], p.PartitionIndex)
				}
			}
		}
		return out
	}
	home := in()
	if len(home["/one"]) != 1 || len(home["/two"]) != 1 {
		t.Fatalf("placed in %v", home)
	}
	lost, kept := home["/two"][0], home["/one"][0]
	w.stop()
	faults := vfs.NewFaults(mem)
	faults.Add(vfs.Rule{Op: vfs.OpList, Path: "two", Err: syscall.EIO})
	w = rawNode(t, faults, dirs)
	w.eventually(func() string {
		if _, code := w.tryOffset("t", kept, -1); code != wire.ErrNone {
			return fmt.Sprintf("the partition of the good directory: %v", code)
		}
		return ""
	})
	w.must("t", batch{partition: kept})
	w.eventually(func() string {
		for _, p := range w.metadata("t").Topics[0].Partitions {
			if p.PartitionIndex == lost && p.LeaderID != -1 {
				return fmt.Sprintf("the partition of the bad directory is led by %d", p.LeaderID)
			}
		}
		return ""
	})
	if _, code := w.produce("t", batch{partition: lost}); code == wire.ErrNone {
		t.Error("a partition was made anew")
	}
	if got := in(); len(got["/one"]) != 1 || codes["/one"] != wire.ErrNone || codes["/two"] != wire.ErrKafkaStorageError {
		t.Errorf("partitions are in %v, %v", got, codes)
	}
	w.stop()
	w = rawNode(t, mem, dirs)
	for p, want := range map[int32]int64{lost: 1, kept: 2} {
		w.eventually(func() string {
			if end, code := w.tryOffset("t", p, -1); code != wire.ErrNone || end != want {
				return fmt.Sprintf("partition %d ends at %d (%v), want %d", p, end, code, want)
			}
			return ""
		})
	}
}
