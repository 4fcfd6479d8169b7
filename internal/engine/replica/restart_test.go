package replica

import (
	"errors"
	"slices"
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
		r := newRigOn(t, fs, "/data", nil)
		r.configs["t"] = small
		r.topic("t", 1)
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

// TestTopicMadeAnewWhileAway finds the log of a topic that was deleted and created again while the broker was down.
func TestTopicMadeAnewWhileAway(t *testing.T) {
	fs := vfs.NewMem()
	first := newRigOn(t, fs, "/data", nil)
	first.topic("t", 1)
	first.mustProduce("t", 4)
	first.stop()
	r := newRigOn(t, fs, "/data", nil)
	r.topic("other", 1) // takes the id that t had
	r.topic("t", 1)
	if base := r.mustProduce("t", 1); base != 0 {
		t.Errorf("the new topic begins at %d", base)
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

// TestUnopened creates a topic on a disk that takes no directory: its partitions say so until they are opened or gone.
func TestUnopened(t *testing.T) {
	faults := vfs.NewFaults(vfs.NewMem())
	r := newRigOn(t, faults, "/data", nil)
	r.topic("t", 1)
	faults.Add(vfs.Rule{Op: vfs.OpMkdir, Err: errors.New("no room")})
	u := id.UUID{50}
	if err := r.tryReplay(&logrec.TopicRecord{Name: "u", TopicID: u}, &logrec.PartitionRecord{TopicID: u, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1}); err == nil {
		t.Fatal("no error")
	}
	r.ids["u"] = u
	wantCode(t, r.produce(1, 0, AppendPartition{Topic: "u", Batches: plain(t, 1)}).one(t).Err, wire.ErrKafkaStorageError)
	faults.Clear()
	if r.partition("t", 0).log.Err() == nil { // the failure may have taken the whole directory
		r.lead("u", 1)
		r.mustProduce("u", 1)
	}
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
