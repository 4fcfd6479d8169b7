package replica

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// TestRestart opens the directory again: everything is there, committed, and a repeated batch of before gets its old offset.
func TestRestart(t *testing.T) {
	for _, clean := range []bool{true, false} {
		fs := vfs.NewMem()
		o := record.NewOptions()
		o.ProducerID, o.ProducerEpoch, o.BaseSequence = 5, 0, 0
		b := batch(t, 3, 10, o)
		small := TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 1}
		small.Log.MaxMessageBytes = 500
		first := newRigOn(t, fs, "/data", nil)
		first.configs["t"] = small
		first.topic("t", 1)
		first.mustProduce("t", 4)
		if res := first.produce(-1, time.Second, AppendPartition{Topic: "t", Batches: slices.Clone(b)}).one(t); res.BaseOffset != 4 {
			t.Fatalf("%+v", res)
		}
		if clean {
			first.stop()
		} else {
			first.stop = func() { first.Close() }
			fs = fs.CrashClone(1) // the process is gone, what it wrote is there
		}
		r := bootRig(t, fs, "/data", nil, func(r *rig) []logrec.MetadataRecord {
			r.configs["t"] = small
			return r.topicRecords("t", 1)
		})
		large := r.produce(1, 0, AppendPartition{Topic: "t", Batches: batch(t, 1, 600, record.NewOptions())}).one(t)
		wantCode(t, large.Err, wire.ErrMessageTooLarge)
		res := r.fetch(consumer(FetchPartition{Topic: "t"}))
		if got := offsets(t, &res[0]); !slices.Equal(got, []id.Offset{0, 4}) || res[0].HighWatermark != 7 {
			t.Errorf("clean=%t: offsets %v, high watermark %d", clean, got, res[0].HighWatermark)
		}
		again := r.produce(-1, time.Second, AppendPartition{Topic: "t", Batches: slices.Clone(b)}).one(t)
		if again.Err != nil || again.BaseOffset != 4 {
			t.Errorf("clean=%t: %+v", clean, again)
		}
		if next := r.mustProduce("t", 1); next != 7 {
			t.Errorf("clean=%t: next offset %d", clean, next)
		}
	}
}

// TestStrayLogs restarts a broker into metadata that changed while it was away: what is not its any more is moved aside and kept.
func TestStrayLogs(t *testing.T) {
	for _, clean := range []bool{true, false} {
		fs := vfs.NewMem()
		first := newRigOn(t, fs, "/data", nil)
		names := []string{"stays", "deleted", "anew", "moved", "shrunk"}
		for _, name := range names {
			first.topic(name, 2)
			first.mustProduce(name, 4)
		}
		if clean {
			first.stop()
		} else {
			first.stop = func() { first.Close() }
			first.logs.Tick(time.Now()) // the directories are made
			fs = fs.CrashClone(1)
		}
		boot := func(r *rig) []logrec.MetadataRecord {
			recs := r.topicRecords("stays", 2)
			r.topicRecords("deleted", 2) // takes its id
			r.topicRecords("anew", 2)
			recs = append(recs, r.topicRecords("moved", 2, 2, 3)...)
			recs = append(recs, r.topicRecords("shrunk", 1)...)
			return append(recs, r.topicRecords("anew", 2)...)
		}
		r := bootRig(t, fs, "/data", nil, boot)
		for name, want := range map[string]id.Offset{"stays": 4, "anew": 0, "shrunk": 4} {
			if end := r.partition(name, 0).log().EndOffset(); end != want {
				t.Errorf("clean=%t: %s ends at %d", clean, name, end)
			}
		}
		want := map[string]int{"deleted-0": 1, "deleted-1": 1, "anew-0": 1, "anew-1": 1, "moved-0": 1, "moved-1": 1, "shrunk-1": 1}
		if got := strays(t, fs); !maps.Equal(got, want) {
			t.Errorf("clean=%t: strays %v", clean, got)
		}
		if n := len(r.logs.Logs()); n != 5 {
			t.Errorf("clean=%t: %d logs", clean, n)
		}
		// The name of a stray is free, also before its file.delete.delay.ms, and another restart leaves all as it is.
		r.topic("deleted", 1)
		if base := r.mustProduce("deleted", 1); base != 0 {
			t.Errorf("clean=%t: the new topic begins at %d", clean, base)
		}
		r.mustProduce("anew", 3)
		r.logs.Tick(time.Now().Add(365 * 24 * time.Hour))
		r.stop()
		r = bootRig(t, fs, "/data", nil, func(r *rig) []logrec.MetadataRecord {
			recs := boot(r)
			return append(recs, r.topicRecords("deleted", 1)...)
		})
		if end := r.partition("anew", 0).log().EndOffset(); end != 3 {
			t.Errorf("clean=%t: anew ends at %d", clean, end)
		}
		if end := r.partition("deleted", 0).log().EndOffset(); end != 1 {
			t.Errorf("clean=%t: deleted, made anew, ends at %d", clean, end)
		}
		if got := strays(t, fs); !maps.Equal(got, want) {
			t.Errorf("clean=%t: strays %v after another restart", clean, got)
		}
		r.stop()
	}
}

// strays counts the directories of strays by partition, and checks that the first partitions' records are in them.
func strays(t *testing.T, fs vfs.FS) map[string]int {
	t.Helper()
	entries, err := fs.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), "-stray")
		if !ok {
			continue
		}
		name = name[:strings.LastIndexByte(name, '.')]
		found[name]++
		info, err := fs.Stat("/data/" + e.Name() + "/00000000000000000000.log")
		if err != nil || strings.HasSuffix(name, "-0") && info.Size() == 0 {
			t.Errorf("%s: %v", e.Name(), err)
		}
	}
	return found
}

// TestStrayInOtherDirectory finds two directories of one partition: one was offline when its topic was deleted and made anew.
func TestStrayInOtherDirectory(t *testing.T) {
	fs := vfs.NewMem()
	old := newRigOn(t, fs, "/old", nil)
	old.topic("t", 1)
	old.mustProduce("t", 4)
	old.stop()
	current := bootRig(t, fs, "/data", nil, func(r *rig) []logrec.MetadataRecord {
		r.topicRecords("t", 1)
		return r.topicRecords("t", 1)
	})
	current.mustProduce("t", 2)
	current.stop()
	if err := fs.Rename("/old/t-0", "/extra-t-0"); err != nil {
		t.Fatal(err)
	}
	logs, err := log.Open(log.Options{FS: fs, Dirs: []string{"/data", "/old"}, ClusterID: "c", NodeID: self, Deferred: true, Manual: true})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close(1)
	if err := fs.Rename("/extra-t-0", "/old/t-0"); err != nil {
		t.Fatal(err)
	}
	u := current.ids["t"]
	if err := logs.Load(log.LoadOptions{Stray: func(_ id.TopicPartition, topicID id.UUID, _ bool) bool { return topicID != u }}); err != nil {
		t.Fatal(err)
	}
	if l, ok := logs.Get(id.TopicPartition{Topic: "t"}); !ok || l.EndOffset() != 2 {
		t.Errorf("%v", l)
	}
}

// TestIsStray lists who belongs to the broker.
func TestIsStray(t *testing.T) {
	r := newRig(t)
	mine, theirs := r.topic("mine", 1), r.topic("theirs", 1, 2, 3)
	for _, c := range []struct {
		topic  string
		n      int32
		id     id.UUID
		empty  bool
		strays bool
	}{
		{"mine", 0, mine, false, false},
		{"mine", 0, mine, true, false},
		{"mine", 1, mine, false, true},          // no such partition
		{"mine", 0, theirs, false, true},        // another topic's id
		{"mine", 0, id.UUID{8}, false, true},    // nobody's id
		{"mine", 0, id.UUID{}, false, true},     // records of who knows whom
		{"mine", 0, id.UUID{}, true, false},     // nothing can be lost
		{"mine", 5, id.UUID{}, true, true},      //
		{"theirs", 0, theirs, false, true},      // not a replica
		{"theirs", 0, id.UUID{}, true, true},    //
		{"unknown", 0, id.UUID{}, true, true},   //
		{"unknown", 0, id.UUID{9}, false, true}, //
		{"other name", 0, mine, false, true},    // the id is right, the name is not
	} {
		if got := isStray(r.img, self, id.TopicPartition{Topic: c.topic, Partition: c.n}, c.id, c.empty); got != c.strays {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// TestFailedFlush lets an fsync fail under strict flush: nothing is acknowledged, and the partition is out of service.
func TestFailedFlush(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewMem())
	r := newRigOn(t, faults, "/data", nil)
	c := TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 1}
	c.Log.FlushMessages = 1
	r.configs["t"] = c
	r.topic("t", 1)
	r.topic("neighbour", 1)
	r.mustProduce("t", 1)
	o := record.NewOptions()
	o.ProducerID, o.ProducerEpoch, o.BaseSequence = 5, 0, 0
	again := batch(t, 1, 10, o)
	faults.Add(vfs.Rule{Op: vfs.OpSync, Err: errors.New("no disk")})
	wantCode(t, r.produce(-1, longTime, AppendPartition{Topic: "t", Batches: slices.Clone(again)}).one(t).Err, wire.ErrKafkaStorageError)
	wantCode(t, r.produce(1, longTime, AppendPartition{Topic: "t", Batches: plain(t, 1)}).one(t).Err, wire.ErrKafkaStorageError)
	wantCode(t, r.produce(1, longTime, AppendPartition{Topic: "t", Batches: slices.Clone(again)}).one(t).Err, wire.ErrKafkaStorageError)
	res := r.fetch(consumer(FetchPartition{Topic: "t"}))
	wantCode(t, res[0].Err, wire.ErrKafkaStorageError)
	r.CheckDirectories()
	_, err := r.Ends(id.TopicPartition{Topic: "neighbour"}, -1)
	wantCode(t, err, wire.ErrKafkaStorageError)
	if g := r.Gauges(); g.Offline != 2 {
		t.Errorf("%+v", g)
	}
	r.stop = r.Close // the log manager has nothing left to close properly
}

// TestNoRoomForDirectory creates a topic on a full disk: it exists, takes nothing, and works when there is room.
func TestNoRoomForDirectory(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewMem())
	r := newRigOn(t, faults, "/data", nil)
	faults.Add(vfs.Rule{Op: vfs.OpMkdir, Err: syscall.ENOSPC})
	r.topic("t", 1)
	wantCode(t, r.produce(1, 0, AppendPartition{Topic: "t", Batches: plain(t, 1)}).one(t).Err, wire.ErrKafkaStorageError)
	if res := r.fetch(consumer(FetchPartition{Topic: "t"})); res[0].Err != nil {
		t.Error(res[0].Err)
	}
	faults.Clear()
	if base := r.mustProduce("t", 1); base != 0 {
		t.Errorf("base offset %d", base)
	}
}

// TestUnopened creates a topic whose directory cannot be looked at: its partitions say so until they are opened or gone.
func TestUnopened(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewMem())
	r := newRigOn(t, faults, "/data", nil)
	r.topic("t", 1)
	faults.Add(vfs.Rule{Op: vfs.OpStat, Path: "u-0", Err: errors.New("no permission")})
	u := id.UUID{50}
	if err := r.tryReplay(&logrec.TopicRecord{Name: "u", TopicID: u}, &logrec.PartitionRecord{TopicID: u, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1}); err == nil {
		t.Fatal("no error")
	}
	r.ids["u"] = u
	wantCode(t, r.produce(1, 0, AppendPartition{Topic: "u", Batches: plain(t, 1)}).one(t).Err, wire.ErrKafkaStorageError)
	faults.Clear()
	r.lead("u", 1)
	r.mustProduce("u", 1)
	r.deleteTopic("u")
	wantCode(t, r.produce(1, 0, AppendPartition{Topic: "u", Batches: plain(t, 1)}).one(t).Err, wire.ErrUnknownTopicOrPartition)
}

// TestConfigsFollowTheImage changes topic and broker configurations through the metadata log.
func TestConfigsFollowTheImage(t *testing.T) {
	r := newRig(t)
	r.topic("t", 1, 1, 2)
	set := func(kind int8, name, key string, minISR int) {
		r.configs["t"] = TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: minISR}
		value := "x"
		r.replay(&logrec.ConfigRecord{ResourceType: kind, ResourceName: name, Name: key, Value: &value})
	}
	r.isr("t", 1)
	need := func(want wire.ErrorCode) {
		t.Helper()
		wantCode(t, r.produce(-1, 0, AppendPartition{Topic: "t", Batches: plain(t, 1)}).one(t).Err, want)
	}
	need(wire.ErrRequestTimedOut)
	set(2, "t", "min.insync.replicas", 2)
	need(wire.ErrNotEnoughReplicas)
	set(2, "u", "min.insync.replicas", 1)
	need(wire.ErrNotEnoughReplicas) // another topic's change
	set(4, "", "min.insync.replicas", 1)
	need(wire.ErrRequestTimedOut)
	set(4, "1", "log.retention.ms", 2)
	need(wire.ErrNotEnoughReplicas)
	set(4, "2", "log.retention.ms", 1)
	need(wire.ErrNotEnoughReplicas) // another broker's change
}
