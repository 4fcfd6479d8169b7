package replica

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

const self id.BrokerID = 1

// rig is a manager over a real log manager, with the metadata in the test's hands.
type rig struct {
	*Manager
	t       testing.TB
	logs    *log.Manager
	img     *image.Image
	offset  id.Offset
	configs map[string]TopicConfig
	ids     map[string]id.UUID
	made    int        // topics so far
	stop    func()     // closes the manager and the logs
	way     string     // what produces go through; see ways_test.go
	trial   sync.Mutex // held by the produce that goes through it: holding back is for all partitions
	// fault is what a way gets wrong in its own tests, where complaints are counted and not told.
	fault      string
	complaints int
}

// TopicConfig implements ConfigSource.
func (r *rig) TopicConfig(_ *image.Image, topic string) TopicConfig {
	if c, ok := r.configs[topic]; ok {
		return c
	}
	return TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 1}
}

func newRig(t testing.TB) *rig { return newRigWith(t, nil) }

func newRigWith(t testing.TB, change func(*Options)) *rig {
	return newRigOn(t, vfs.NewMem(), "/data", change)
}

func newRigOn(t testing.TB, fs vfs.FS, dir string, change func(*Options)) *rig {
	t.Helper()
	return bootRig(t, fs, dir, change, func(*rig) []logrec.MetadataRecord { return nil })
}

// bootRig starts with metadata that is there already, as a broker that restarts finds it, and waits until all is recovered.
func bootRig(t testing.TB, fs vfs.FS, dir string, change func(*Options), metadata func(r *rig) []logrec.MetadataRecord) *rig {
	t.Helper()
	r := bootEarly(t, fs, dir, change, metadata)
	r.awaitRecovered()
	return r
}

// awaitRecovered returns when no log waits for its recovery.
func (r *rig) awaitRecovered() {
	for waiting := true; waiting; runtime.Gosched() {
		r.apply.Lock()
		waiting = len(r.recovering) > 0
		r.apply.Unlock()
	}
}

// bootEarly is bootRig without the wait.
func bootEarly(t testing.TB, fs vfs.FS, dir string, change func(*Options), metadata func(r *rig) []logrec.MetadataRecord) *rig {
	t.Helper()
	r := &rig{t: t, img: image.Empty(), configs: map[string]TopicConfig{}, ids: map[string]id.UUID{}}
	logs, err := log.Open(log.Options{FS: fs, Dirs: strings.Split(dir, ","), Config: log.DefaultConfig(), ClusterID: "c", NodeID: self, AutoFormat: true, Deferred: true,
		RetentionCheckInterval: time.Hour, FlushCheckInterval: log.Forever, RecoveryPointInterval: time.Hour,
		StartOffsetInterval: time.Hour, HighWatermarkInterval: time.Hour, ProducerExpiration: 24 * time.Hour, ProducerExpirationInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	r.logs = logs
	o := Options{Self: self, Logs: logs, Configs: r, LagMax: 30 * time.Second}
	if change != nil {
		change(&o)
	}
	r.Manager = New(o)
	r.stop = sync.OnceFunc(func() {
		r.Close()
		if err := logs.Close(id.NoBrokerEpoch); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { r.stop() })
	first := metadata(r)
	for b := range 3 {
		first = append(first, &logrec.RegisterBrokerRecord{BrokerID: int32(b + 1), BrokerEpoch: 100, IncarnationID: id.UUID{9, byte(b)},
			EndPoints: []logrec.RegisterBrokerRecordEndPoint{{Name: "PLAINTEXT", Host: fmt.Sprintf("host%d", b+1), Port: 9092}}})
	}
	r.replay(first...)
	return r
}

// replay commits records as one delta.
func (r *rig) replay(records ...logrec.MetadataRecord) {
	r.t.Helper()
	if err := r.tryReplay(records...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryReplay(records ...logrec.MetadataRecord) error {
	r.t.Helper()
	d := image.NewDelta(r.img)
	for _, rec := range records {
		if err := d.Replay(rec); err != nil {
			r.t.Fatal(err)
		}
	}
	r.offset++
	r.img = d.Apply(image.Provenance{Offset: r.offset, Epoch: 1})
	return r.ApplyDelta(d, r.img)
}

// topic creates a topic led by this broker; replicas defaults to it alone, all in sync.
func (r *rig) topic(name string, partitions int, replicas ...int32) id.UUID {
	r.t.Helper()
	r.replay(r.topicRecords(name, partitions, replicas...)...)
	return r.ids[name]
}

// topicRecords are the records of topic. The n-th topic of a rig has the same id in every rig.
func (r *rig) topicRecords(name string, partitions int, replicas ...int32) []logrec.MetadataRecord {
	if len(replicas) == 0 {
		replicas = []int32{int32(self)}
	}
	r.made++
	u := id.UUID{1, byte(r.made), 15: 77}
	r.ids[name] = u
	recs := []logrec.MetadataRecord{&logrec.TopicRecord{Name: name, TopicID: u}}
	for n := range partitions {
		recs = append(recs, &logrec.PartitionRecord{PartitionID: int32(n), TopicID: u, Replicas: replicas, Isr: replicas, Leader: int32(self)})
	}
	return recs
}

// lead changes the leader of every partition of a topic; -1 for none.
func (r *rig) lead(topic string, leader int32) {
	r.t.Helper()
	var recs []logrec.MetadataRecord
	for _, p := range r.img.Topics.ByName(topic).Partitions {
		c := logrec.NewPartitionChangeRecord()
		c.PartitionID, c.TopicID, c.Leader = p.ID, r.ids[topic], leader
		recs = append(recs, c)
	}
	r.replay(recs...)
}

func (r *rig) isr(topic string, isr ...int32) {
	r.t.Helper()
	var recs []logrec.MetadataRecord
	for _, p := range r.img.Topics.ByName(topic).Partitions {
		c := logrec.NewPartitionChangeRecord()
		c.PartitionID, c.TopicID, c.Isr, c.Leader = p.ID, r.ids[topic], isr, int32(image.NoLeaderChange)
		recs = append(recs, c)
	}
	r.replay(recs...)
}

func (r *rig) deleteTopic(name string) {
	r.t.Helper()
	r.replay(&logrec.RemoveTopicRecord{TopicID: r.ids[name]})
}

func (r *rig) configure(topic string, change func(*TopicConfig)) {
	r.t.Helper()
	c := r.TopicConfig(nil, topic)
	change(&c)
	r.configs[topic] = c
	r.ReloadConfigs()
}

// batch builds n records of size bytes.
func batch(t testing.TB, n, size int, o record.Options) []byte {
	t.Helper()
	b := record.NewBuilder(o)
	for range n {
		if err := b.Append(time.Now().UnixMilli(), nil, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(out)
}

func plain(t testing.TB, n int) []byte { return batch(t, n, 10, record.NewOptions()) }

// answer is the outcome of a produce that may still wait.
type answer struct {
	mu      sync.Mutex
	results []AppendResult
	calls   int
	done    chan struct{}
}

func (a *answer) get() ([]AppendResult, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.results, a.calls > 0
}

// one waits for the answer and returns its only result.
func (a *answer) one(t testing.TB) AppendResult {
	t.Helper()
	select {
	case <-a.done:
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls != 1 || len(a.results) != 1 {
		t.Fatalf("%d answers, %d results", a.calls, len(a.results))
	}
	return a.results[0]
}

func (r *rig) produce(acks int16, timeout time.Duration, parts ...AppendPartition) *answer {
	r.t.Helper()
	if r.way != wayFree && acks == -1 && r.trial.TryLock() {
		defer r.trial.Unlock()
		if r.held.Load() == 0 {
			return r.ordeal(timeout, parts)
		}
	}
	return r.send(acks, timeout, parts)
}

func (r *rig) send(acks int16, timeout time.Duration, parts []AppendPartition) *answer {
	a := &answer{done: make(chan struct{})}
	r.Append(&AppendRequest{Acks: acks, Timeout: timeout, Partitions: parts}, nil, func(res []AppendResult) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.results = res
		if a.calls++; a.calls == 1 {
			close(a.done)
		}
	})
	return a
}

// mustProduce appends n records to partition 0 and returns their base offset.
func (r *rig) mustProduce(topic string, n int) id.Offset {
	r.t.Helper()
	res := r.produce(-1, 5*time.Second, AppendPartition{Topic: topic, Batches: plain(r.t, n)}).one(r.t)
	if res.Err != nil {
		r.t.Fatal(res.Err)
	}
	return res.BaseOffset
}

func consumer(parts ...FetchPartition) *FetchRequest {
	for i := range parts {
		parts[i].CurrentLeaderEpoch, parts[i].LastFetchedEpoch = id.NoLeaderEpoch, id.NoLeaderEpoch
		if parts[i].MaxBytes == 0 {
			parts[i].MaxBytes = 1 << 20
		}
	}
	return &FetchRequest{ReplicaID: id.NoBroker, ReplicaEpoch: id.NoBrokerEpoch, Isolation: log.ReadHighWatermark, MinBytes: 1,
		MaxBytes: 1 << 24, AllowFollower: true, Partitions: parts}
}

func (r *rig) fetch(req *FetchRequest) []FetchResult { return r.Fetch(context.Background(), req, nil) }

// offsets lists the base offsets of the batches in a result.
func offsets(t testing.TB, r *FetchResult) (out []id.Offset) {
	t.Helper()
	if r.Section == nil {
		return nil
	}
	b, err := r.Section.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		var one record.Batch
		if one, b, err = record.Next(b); err != nil {
			t.Fatal(err)
		}
		out = append(out, one.BaseOffset())
	}
	return out
}

func (r *rig) partition(topic string, n int32) *Partition {
	r.t.Helper()
	p, err := r.Partition(topic, n)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

func wantCode(t testing.TB, err error, want wire.ErrorCode) {
	t.Helper()
	if got := ErrorCode(err); got != want {
		t.Errorf("got %v (%v), want %v", got.Name(), err, want.Name())
	}
}

const longTime = time.Duration(math.MaxInt32) * time.Millisecond
