package quorum

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

func (n *testNode) path(name string) string { return filepath.Join(n.dir, logDirName, name) }

// change rewrites a file of the metadata directory.
func (n *testNode) change(name string, edit func([]byte) []byte) {
	n.t.Helper()
	b, err := vfs.ReadFile(n.fs, n.path(name), 1<<30)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := vfs.WriteFile(n.fs, n.path(name), edit(b)); err != nil {
		n.t.Fatal(err)
	}
}

// newestSnapshot names it.
func (n *testNode) newestSnapshot() string {
	n.t.Helper()
	list, err := listSnapshots(n.fs, filepath.Join(n.dir, logDirName))
	if err != nil || len(list) == 0 {
		n.t.Fatal(list, err)
	}
	return snapshotName(list[len(list)-1])
}

const segment = "00000000000000000000.log"

// lived returns the directory of a node that has written something, in two lives, and a snapshot if wanted.
func lived(t *testing.T, snapshot bool) *testNode {
	n := format(t, vfs.NewMem(), "/data", true)
	n.edit = func(o *Options) {
		o.MaxIdleInterval = 0
		if snapshot {
			o.SnapshotMaxNewRecordBytes = 1
		}
	}
	for life := range 2 {
		q := n.start()
		for i := range 20 {
			if err := setConfig(q, fmt.Sprint("k", i), fmt.Sprint(life)); err != nil {
				t.Fatal(err)
			}
		}
		if snapshot {
			awaitSnapshot(t, n, 0)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
	n.edit = nil
	return n
}

// TestDamagedDirectories: what cannot be trusted is refused at the start, with the file and the reason, before anybody votes.
func TestDamagedDirectories(t *testing.T) {
	flip := func(at func([]byte) int) func([]byte) []byte {
		return func(b []byte) []byte { b[at(b)] ^= 0x40; return b }
	}
	half := func(b []byte) []byte { return b[:len(b)/2] }
	for _, c := range []struct {
		name     string
		snapshot bool
		file     func(*testNode) string
		edit     func([]byte) []byte
		want     string
	}{
		{"torn quorum-state", false, nil, half, "read quorum state /data/__cluster_metadata-0/quorum-state: "},
		{"empty quorum-state", false, nil, func([]byte) []byte { return nil }, "read quorum state /data/__cluster_metadata-0/quorum-state: "},
		{"quorum-state is something else", false, nil, func([]byte) []byte { return []byte("0\n1\n0 0\n") }, "read quorum state /data/__cluster_metadata-0/quorum-state: "},
		{"quorum-state of a version to come", false, nil, func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"data_version":1`, `"data_version":2`, 1))
		}, "data_version (2) is not within"},
		{"torn snapshot", true, (*testNode).newestSnapshot, half, ".checkpoint: "},
		{"empty snapshot", true, (*testNode).newestSnapshot, func([]byte) []byte { return nil }, ".checkpoint: "},
		{"flipped snapshot", true, (*testNode).newestSnapshot, flip(func(b []byte) int { return len(b) / 2 }), ".checkpoint: "},
		{"the log instead of a snapshot", true, (*testNode).newestSnapshot, nil, ".checkpoint: "},
		{"flipped bootstrap snapshot", false, func(*testNode) string { return snapshotName(bootstrapID) }, flip(func(b []byte) int { return len(b) / 2 }),
			"00000000000000000000-0000000000.checkpoint: "},
		{"flipped segment", false, func(*testNode) string { return segment }, flip(func(b []byte) int { return len(b) / 4 }), segment + " is damaged at byte "},
		{"segment without its beginning", false, func(*testNode) string { return segment }, func(b []byte) []byte { return b[100:] }, segment + " is damaged at byte 0 (offset 0)"},
		{"segment with a hole", false, func(*testNode) string { return segment }, func(b []byte) []byte { return append(b[:200:200], b[500:]...) }, segment + " is damaged at byte "},
		{"segment cut before the last epoch", false, func(*testNode) string { return segment }, func(b []byte) []byte { return b[:len(b)/4] }, segment + " is damaged at byte "},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := lived(t, c.snapshot)
			name := fileState
			if c.file != nil {
				name = c.file(n)
			}
			edit := c.edit
			if edit == nil {
				b, err := vfs.ReadFile(n.fs, n.path(segment), 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				edit = func([]byte) []byte { return b }
			}
			n.change(name, edit)
			var before []byte
			if name == segment {
				before, _ = vfs.ReadFile(n.fs, n.path(segment), 1<<20)
			}
			for range 2 { // a second start finds the same
				q, err := Open(n.options())
				if err == nil {
					q.Close()
					t.Fatal("accepted")
				}
				if !strings.Contains(err.Error(), c.want) {
					t.Fatalf("refused with %q, want %q", err, c.want)
				}
			}
			if name == segment {
				if after, _ := vfs.ReadFile(n.fs, n.path(segment), 1<<20); string(after) != string(before) {
					t.Fatal("the damaged segment was changed")
				}
			}
		})
	}
}

// TestTornTail: what a crash leaves at the end of the log is cut off, wherever it tore.
func TestTornTail(t *testing.T) {
	rnd := rand.New(rand.NewPCG(seed.Of(t), 0))
	for range 20 {
		n := lived(t, false)
		last := 0
		n.change(segment, func(b []byte) []byte {
			for rest := b; len(rest) > 0; {
				batch, next, err := record.Next(rest)
				if err != nil {
					t.Fatal(err)
				}
				last = batch.SizeBytes()
				rest = next
			}
			b = b[:len(b)-1-rnd.IntN(last-1)]
			if rnd.IntN(2) == 0 { // the file had grown already
				b = append(b, make([]byte, rnd.IntN(5000))...)
			}
			return b
		})
		q := n.start()
		if configOf(q.Image(), "k18") != "1" {
			t.Fatal("more than the tail is lost")
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOldQuorumState: a state that is older than the log, from a backup say, does not let the node lead or vote in an epoch
// that is over.
func TestOldQuorumState(t *testing.T) {
	n := lived(t, false)
	n.change(fileState, func([]byte) []byte {
		return []byte(`{"leaderId":-1,"leaderEpoch":1,"votedId":9,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}`)
	})
	q := n.start()
	if s := q.Status(); s.Leader.Epoch != 3 {
		t.Fatalf("%+v", s)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.fs.Remove(n.path(fileState)); err != nil { // lost altogether
		t.Fatal(err)
	}
	q = n.start()
	if s := q.Status(); s.Leader.Epoch != 4 {
		t.Fatalf("%+v", s)
	}
}

// appendToLog writes a batch of values behind the log of a node that does not run.
func (n *testNode) appendToLog(values ...[]byte) {
	n.t.Helper()
	n.change(segment, func(b []byte) []byte {
		var last record.Batch
		for rest := b; len(rest) > 0; {
			batch, next, err := record.Next(rest)
			if err != nil {
				n.t.Fatal(err)
			}
			last, rest = batch, next
		}
		o := record.NewOptions()
		o.BaseOffset, o.LeaderEpoch = last.NextOffset(), last.LeaderEpoch()
		w := record.NewBuilder(o)
		for _, v := range values {
			if err := w.Append(1, nil, v); err != nil {
				n.t.Fatal(err)
			}
		}
		b, err := w.AppendTo(b)
		if err != nil {
			n.t.Fatal(err)
		}
		return b
	})
}

func encoded(t *testing.T, m logrec.MetadataRecord) []byte {
	t.Helper()
	b, err := logrec.AppendMetadata(nil, m, 0)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRecordsThatAreNotUnderstood end the quorum with the offset and the reason: nothing is decided on half a state.
func TestRecordsThatAreNotUnderstood(t *testing.T) {
	level := func(name string, l int16) []byte {
		return encoded(t, &logrec.FeatureLevelRecord{Name: name, FeatureLevel: l})
	}
	for name, c := range map[string]struct {
		value []byte
		want  string
	}{
		"unknown type":              {[]byte{1, 99, 0, 0}, "99"},
		"version to come":           {[]byte{1, 12, 77, 0}, "77"},
		"other frame":               {[]byte{9, 12, 0}, "9"},
		"nothing":                   {[]byte{}, "offset"},
		"cut short":                 {level(image.MetadataVersionFeature, 33)[:6], "offset"},
		"metadata.version to come":  {level(image.MetadataVersionFeature, 34), "metadata.version 34 is not between 7 and 33"},
		"metadata.version long ago": {level(image.MetadataVersionFeature, 3), "metadata.version 3 is not between 7 and 33"},
		"end without a beginning":   {encoded(t, &logrec.EndTransactionRecord{}), "a transaction ends that did not begin"},
	} {
		t.Run(name, func(t *testing.T) {
			n := lived(t, false)
			n.appendToLog(c.value)
			q, err := Open(n.options())
			if err != nil {
				t.Fatal(err)
			}
			published := 0
			q.Subscribe(PublisherFunc(func(*image.Delta, *image.Image, Provenance) { published++ }))
			if err := q.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-q.Failed():
			case <-time.After(20 * time.Second):
				t.Fatal("it goes on")
			}
			if text := q.Err().Error(); !strings.Contains(text, c.want) || !strings.Contains(text, "offset 53") || !strings.Contains(text, "/data/__cluster_metadata-0") {
				t.Fatalf("%s", text)
			}
			if _, err := q.Do(t.Context(), Request{}); !errors.Is(err, wire.ErrNotController) && !errors.Is(err, ErrClosed) {
				t.Fatalf("%v", err)
			}
			if err := q.Close(); err != nil {
				t.Fatal(err)
			}
			if published != 0 {
				t.Fatalf("%d deltas were published", published)
			}
		})
	}
}

// TestOpenTransactionIsAborted: a metadata transaction that the last life left open is aborted by the next leader, and nobody
// is ever told of it (KIP-868).
func TestOpenTransactionIsAborted(t *testing.T) {
	n := lived(t, false)
	name := "begun"
	set := &logrec.ConfigRecord{ResourceType: int8(image.ResourceBroker), Name: "half", Value: &name}
	n.appendToLog(encoded(t, &logrec.BeginTransactionRecord{Name: &name}), encoded(t, set))
	seen := false
	look := PublisherFunc(func(_ *image.Delta, img *image.Image, _ Provenance) { seen = seen || configOf(img, "half") != "" })
	q := n.start(look)
	if err := setConfig(q, "whole", "1"); err != nil {
		t.Fatal(err)
	}
	if seen || configOf(q.Image(), "half") != "" || configOf(q.Image(), "whole") != "1" {
		t.Fatal("the open transaction was published")
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	aborted := false
	b, err := vfs.ReadFile(n.fs, n.path(segment), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		if b = rest; batch.IsControl() {
			continue
		}
		records, err := decodeRecords(batch, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			_, is := r.Message.(*logrec.AbortTransactionRecord)
			aborted = aborted || is
		}
	}
	if !aborted {
		t.Fatal("no record aborts it")
	}
	if q = n.start(look); seen || configOf(q.Image(), "whole") != "1" {
		t.Fatal("the aborted transaction was published")
	}
}

// trapSchema panics over one name.
type trapSchema struct{ openSchema }

func (trapSchema) Validate(_ image.ConfigResource, a, b map[string]string) error {
	if a["trap"]+b["trap"] != "" {
		panic("trapped")
	}
	return nil
}

// TestDecisionThatPanics: it is answered with UNKNOWN_SERVER_ERROR, the controller leaves office and comes back with what was
// committed.
func TestDecisionThatPanics(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	n.edit = func(o *Options) {
		o.ElectionTimeout = 20 * time.Millisecond
		o.Controller = controller.New(controller.Config{NodeID: 1, ClusterID: testCluster, SupportedFeatures: controller.SupportedFeatures(),
			DefaultReplicationFactor: 1, DefaultPartitions: 1, SessionTimeout: 9 * time.Second, Schema: trapSchema{}})
	}
	q := n.start()
	if err := setConfig(q, "a", "1"); err != nil {
		t.Fatal(err)
	}
	epoch := q.Status().Leader.Epoch
	if err := setConfig(q, "trap", "1"); !errors.Is(err, wire.ErrUnknownServerError) {
		t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for err := error(wire.ErrNotController); err != nil; {
		if err = setConfig(q, "b", "2"); err != nil && (!errors.Is(err, wire.ErrNotController) || ctx.Err() != nil) {
			t.Fatal(err)
		}
	}
	if s := q.Status(); q.Err() != nil || s.Leader.Epoch <= epoch || configOf(q.Image(), "a") != "1" || configOf(q.Image(), "b") != "2" || configOf(q.Image(), "trap") != "" {
		t.Fatalf("%v, %+v", q.Err(), s)
	}
}

// TestPanicOfThePublisher: the quorum says why it stops, and everybody who waits is answered.
func TestPanicOfThePublisher(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	q := n.start(PublisherFunc(func(_ *image.Delta, img *image.Image, _ Provenance) {
		if configOf(img, "a") != "" {
			panic("the publisher's")
		}
	}))
	if err := setConfig(q, "a", "1"); !errors.Is(err, wire.ErrNotController) && !errors.Is(err, ErrClosed) {
		t.Fatalf("%v", err)
	}
	<-q.Failed()
	if text := q.Err().Error(); !strings.Contains(text, "the publisher's") || !strings.Contains(text, "badinput_test.go") {
		t.Fatal(text)
	}
	answered := make(chan Reply, 1)
	q.Ask(Ask{Message: raft.Message{Type: raft.MsgFetch, From: raft.Replica{ID: 5}, To: 1}}, func(r Reply) { answered <- r })
	if r := <-answered; r.Message.Error != wire.ErrBrokerNotAvailable || r.Message.Type != raft.MsgFetchAnswer {
		t.Fatalf("%+v", r)
	}
}

// TestAnswerThatPanics: who waits for an answer may be broken; the quorum is not.
func TestAnswerThatPanics(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	q := n.start()
	q.Submit(Request{Message: nil}, func(Outcome) { panic("broken") })
	q.Ask(Ask{Message: raft.Message{Type: raft.MsgVote, From: raft.Replica{ID: 5}, To: 1}}, func(Reply) { panic("broken") })
	deadline := time.Now().Add(20 * time.Second)
	for err := error(wire.ErrNotController); err != nil; { // a nil request is a panic of the decision, too
		if err = setConfig(q, "a", "1"); err != nil && (!errors.Is(err, wire.ErrNotController) || time.Now().After(deadline)) {
			t.Fatal(err)
		}
	}
	if q.Err() != nil {
		t.Fatal(q.Err())
	}
}

// TestStrangeMessages steps messages that nobody sane sends: the node stays what it is.
func TestStrangeMessages(t *testing.T) {
	n := format(t, vfs.NewMem(), "/data", true)
	q := n.start()
	before := q.Status().Leader
	rnd := rand.New(rand.NewPCG(seed.Of(t), 0))
	odd := func() int64 { return []int64{-1 << 40, -1, 0, 1, 2, 5, 1 << 31, 1 << 40}[rnd.IntN(8)] }
	for range 2000 {
		m := raft.Message{Type: raft.MessageType(rnd.IntN(10)), From: raft.Replica{ID: id.BrokerID(rnd.IntN(4) - 1)}, To: id.BrokerID(rnd.IntN(3)),
			Epoch: id.LeaderEpoch(rnd.IntN(int(before.Epoch) + 1)), Leader: id.BrokerID(rnd.IntN(4) - 1), PreVote: rnd.IntN(2) == 0, Granted: rnd.IntN(2) == 0,
			Log: raft.Position{Offset: id.Offset(odd()), Epoch: id.LeaderEpoch(int32(odd()))}, HighWatermark: id.Offset(odd()), At: odd(), Size: odd(),
			Records: []byte{1, 2, 3}}
		if rnd.IntN(2) == 0 {
			m.Snapshot = &raft.Position{Offset: id.Offset(odd()), Epoch: id.LeaderEpoch(int32(odd()))}
		}
		if rnd.IntN(4) == 0 {
			m.Diverging = &raft.Position{Offset: id.Offset(odd()), Epoch: id.LeaderEpoch(int32(odd()))}
		}
		if m.Type.IsAnswer() {
			q.Deliver(m)
			continue
		}
		done := make(chan Reply, 1)
		q.Ask(Ask{Message: m, MaxBytes: int(odd()), MaxWait: time.Duration(rnd.IntN(2)) * time.Millisecond}, func(r Reply) { done <- r })
		if r := <-done; r.Message.Type != m.Type+1 {
			t.Fatalf("%+v is answered with %+v", m, r)
		}
	}
	if err := setConfig(q, "a", "1"); err != nil || q.Status().Leader != before || q.Err() != nil {
		t.Fatalf("%v, %v, %+v", err, q.Err(), q.Status())
	}
}
