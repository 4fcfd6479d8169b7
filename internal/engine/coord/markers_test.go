package coord

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// markerWorld is a transaction coordinator whose transactions are on other brokers: their leaders are in the test's hands.
type markerWorld struct {
	t       *testing.T
	l       *memLog
	txns    *Txns
	markers *Markers
	manager *replica.Manager
	img     *image.Image
	offset  id.Offset

	mu    sync.Mutex
	calls []*markerCall
}

// markerCall is one WriteTxnMarkers on its way.
type markerCall struct {
	text       string
	partitions []id.TopicPartition
	done       func([]wire.ErrorCode)
}

func (w *markerWorld) WriteMarkers(to id.BrokerID, m txn.Markers, coordinatorEpoch id.LeaderEpoch, partitions []id.TopicPartition, done func([]wire.ErrorCode)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, &markerCall{fmt.Sprintf("to %d: %s producer=%d epoch=%d commit=%v version=%d from=%d %v", to, m.TransactionalID,
		m.ProducerID, m.Epoch, m.Commit, m.Version, coordinatorEpoch, partitions), partitions, done})
}

func (w *markerWorld) TopicConfig(*image.Image, string) replica.TopicConfig {
	return replica.TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 1}
}

var markedTopic = id.UUID{1}

// newMarkerWorld has the topic t, whose partitions have these leaders.
func newMarkerWorld(t *testing.T, leaders ...id.BrokerID) *markerWorld {
	t.Helper()
	w := &markerWorld{t: t, l: newMemLog(t, 1), img: image.Empty()}
	logs, err := log.Open(log.Options{FS: vfs.NewMem(), Dirs: []string{"/data"}, Config: log.DefaultConfig(), ClusterID: "c", NodeID: 1, AutoFormat: true,
		RetentionCheckInterval: time.Hour, FlushCheckInterval: log.Forever, RecoveryPointInterval: time.Hour, StartOffsetInterval: time.Hour,
		HighWatermarkInterval: time.Hour, ProducerExpiration: 24 * time.Hour, ProducerExpirationInterval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	w.manager = replica.New(replica.Options{Self: 1, Logs: logs, Configs: w, LagMax: 30 * time.Second})
	records := []logrec.MetadataRecord{&logrec.TopicRecord{Name: "t", TopicID: markedTopic}}
	for n, leader := range leaders {
		records = append(records, &logrec.PartitionRecord{PartitionID: int32(n), TopicID: markedTopic, Replicas: []int32{9}, Isr: []int32{9}, Leader: int32(leader)})
	}
	w.replay(records...)
	w.markers = NewMarkers(MarkerOptions{Replicas: w.manager, Remote: w})
	cfg := txn.DefaultConfig()
	cfg.Level = func() int16 { return 2 }
	cfg.NextProducerID = func() (id.ProducerID, bool) { return 7, true }
	w.txns = New(Options[*txn.Shard]{Log: w.l, New: func(int32) *txn.Shard { return txn.New(cfg) }, Linger: Adaptive, Send: w.markers.Send})
	t.Cleanup(func() {
		w.txns.Close()
		w.markers.Close()
		w.manager.Close()
		if err := logs.Close(id.NoBrokerEpoch); err != nil {
			t.Error(err)
		}
	})
	w.txns.Elected(0, 0)
	synctest.Wait()
	return w
}

func (w *markerWorld) replay(records ...logrec.MetadataRecord) {
	w.t.Helper()
	d := image.NewDelta(w.img)
	for _, rec := range records {
		if err := d.Replay(rec); err != nil {
			w.t.Fatal(err)
		}
	}
	w.offset++
	w.img = d.Apply(image.Provenance{Offset: w.offset, Epoch: 1})
	if err := w.manager.ApplyDelta(d, w.img); err != nil {
		w.t.Fatal(err)
	}
}

// lead gives a partition another leader.
func (w *markerWorld) lead(partition int32, leader id.BrokerID) {
	c := logrec.NewPartitionChangeRecord()
	c.PartitionID, c.TopicID, c.Leader = partition, markedTopic, int32(leader)
	w.replay(c)
}

// commit runs the transaction of "a" over these partitions up to its end. The producer has id 7 and epoch 0.
func (w *markerWorld) commit(partitions ...int32) {
	w.t.Helper()
	p := txn.Producer{TransactionalID: "a", ID: 7}
	var all []id.TopicPartition
	for _, n := range partitions {
		all = append(all, id.TopicPartition{Topic: "t", Partition: n})
	}
	for _, op := range []func(*txn.Shard, txn.Turn) shard.Result{
		func(s *txn.Shard, turn txn.Turn) shard.Result {
			return s.InitProducerID(turn, txn.Init{TransactionalID: "a", TimeoutMs: 1000, ProducerID: -1, Epoch: -1})
		},
		func(s *txn.Shard, turn txn.Turn) shard.Result { return s.AddPartitions(turn, p, all, 2) },
		func(s *txn.Shard, turn txn.Turn) shard.Result { return s.End(turn, p, true, 2) },
	} {
		w.txns.Do(0, func(body any, code wire.ErrorCode) {
			if r, ok := body.(txn.Identity); ok {
				code = r.Code
			}
			if code != wire.ErrNone {
				w.t.Error(code.Name())
			}
		}, func(s *txn.Shard, now time.Time, t shard.Ticket) shard.Result {
			return op(s, txn.Turn{Now: now, Ticket: t})
		})
	}
}

// expect compares the requests that have been sent since the last look and not been answered.
func (w *markerWorld) expect(want ...string) []*markerCall {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortFunc(w.calls, func(a, b *markerCall) int { return strings.Compare(a.text, b.text) })
	var got []string
	for _, c := range w.calls {
		got = append(got, c.text)
	}
	if !slices.Equal(got, want) {
		w.t.Fatalf("sent:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	calls := w.calls
	w.calls = nil
	return calls
}

func (w *markerWorld) state(want string) {
	w.t.Helper()
	synctest.Wait()
	got := "-"
	if code := w.txns.Read(0, func(s *txn.Shard) {
		if t := s.Describe("a"); t != nil {
			got = fmt.Sprint(t.State, " ", t.Partitions)
		}
	}); code != wire.ErrNone {
		got = code.Name()
	}
	if got != want {
		w.t.Errorf("the transaction is %s, want %s", got, want)
	}
}

// answer gives each partition of a request its code; the last one goes for those that are left.
func (c *markerCall) answer(codes ...wire.ErrorCode) {
	for len(codes) < len(c.partitions) {
		codes = append(codes, codes[len(codes)-1])
	}
	c.done(codes)
}

// TestMarkersGoToLeaders: each leader is sent its partitions at once. Who has no leader waits for one, who is gone needs nothing.
func TestMarkersGoToLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMarkerWorld(t, 2, 3, 2, id.NoBroker)
		w.commit(0, 1, 2, 3, 4) // there is no 4
		calls := w.expect("to 2: a producer=7 epoch=1 commit=true version=2 from=0 [t-0 t-2]", "to 3: a producer=7 epoch=1 commit=true version=2 from=0 [t-1]")
		w.state("PrepareCommit [t-0 t-1 t-2 t-3]")
		if n := w.markers.Unled(); n != 1 {
			t.Errorf("%d without a leader", n)
		}
		calls[0].answer(wire.ErrNone)
		w.state("PrepareCommit [t-1 t-3]")
		pass(time.Second)
		w.expect()
		w.lead(3, 4)
		pass(markerRetry)
		last := w.expect("to 4: a producer=7 epoch=1 commit=true version=2 from=0 [t-3]")
		last[0].answer(wire.ErrNone)
		w.state("PrepareCommit [t-1]")
		calls[1].answer(wire.ErrNone)
		w.state("CompleteCommit []")
		pass(time.Second)
		w.expect()
	})
}

// TestMarkerOutcomes: what becomes of a partition by the code of its leader.
func TestMarkerOutcomes(t *testing.T) {
	const again, done, given = "again", "done", "given up"
	for code, want := range map[wire.ErrorCode]string{
		wire.ErrNone:                         done,
		wire.ErrUnknownTopicOrPartition:      again,
		wire.ErrNotLeaderOrFollower:          again,
		wire.ErrNotEnoughReplicas:            again,
		wire.ErrNotEnoughReplicasAfterAppend: again,
		wire.ErrRequestTimedOut:              again,
		wire.ErrKafkaStorageError:            again,
		wire.ErrNetworkException:             again,
		wire.ErrUnsupportedForMessageFormat:  done,
		wire.ErrUnsupportedVersion:           done,
		// Apache Kafka leaves the transaction as it is, for good.
		wire.ErrInvalidProducerEpoch: done,
		// Apache Kafka fails an assertion.
		wire.ErrUnknownServerError: again,
		wire.ErrCorruptMessage:     again,
		// Nobody but the newer coordinator may go on; what is written is written.
		wire.ErrTransactionCoordinatorFenced: given,
	} {
		t.Run(code.Name(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newMarkerWorld(t, 2, 2)
				w.commit(0, 1)
				w.expect("to 2: a producer=7 epoch=1 commit=true version=2 from=0 [t-0 t-1]")[0].answer(code, wire.ErrNone)
				w.lead(0, 3)
				pass(time.Second)
				switch want {
				case done:
					w.expect()
					w.state("CompleteCommit []")
				case given:
					w.expect()
					w.state("PrepareCommit [t-0]")
				case again:
					w.state("PrepareCommit [t-0]")
					w.expect("to 3: a producer=7 epoch=1 commit=true version=2 from=0 [t-0]")[0].answer(wire.ErrNone)
					w.state("CompleteCommit []")
				}
			})
		})
	}
}

// TestMarkersOfFormerLeadership: what a leadership has sent means nothing to the next one, which sends its own.
func TestMarkersOfFormerLeadership(t *testing.T) {
	for name, late := range map[string]wire.ErrorCode{"written": wire.ErrNone, "to be tried again": wire.ErrNetworkException} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newMarkerWorld(t, 2, 3)
				w.commit(0, 1)
				old := w.expect("to 2: a producer=7 epoch=1 commit=true version=2 from=0 [t-0]", "to 3: a producer=7 epoch=1 commit=true version=2 from=0 [t-1]")
				w.txns.Resigned(0, 1)
				old[0].answer(late)
				pass(time.Second)
				w.expect()
				w.l.set(0, func(p *memPartition) { p.epoch = 2 })
				w.txns.Elected(0, 2)
				own := w.expect("to 2: a producer=7 epoch=1 commit=true version=2 from=2 [t-0]", "to 3: a producer=7 epoch=1 commit=true version=2 from=2 [t-1]")
				old[1].answer(late)
				pass(time.Second)
				w.expect()
				w.state("PrepareCommit [t-0 t-1]")
				own[0].answer(wire.ErrNone)
				own[1].answer(wire.ErrNone)
				w.state("CompleteCommit []")
			})
		})
	}
}

// TestEndIsWrittenAgain: the markers are written, so nothing but the end of the transaction is tried again.
func TestEndIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMarkerWorld(t, 2)
		w.commit(0)
		call := w.expect("to 2: a producer=7 epoch=1 commit=true version=2 from=0 [t-0]")[0]
		w.l.set(0, func(p *memPartition) { p.refuse = wire.ErrNotEnoughReplicas })
		call.answer(wire.ErrNone)
		w.state("PrepareCommit []")
		pass(5 * time.Second)
		w.state("PrepareCommit []")
		w.l.set(0, func(p *memPartition) { p.refuse = nil })
		pass(2 * time.Second)
		w.state("CompleteCommit []")
		w.expect()
	})
}

// TestEndIsWrittenAgainAfterOthers: what is true of an end that was in a batch which the log refused is true of one that did not fit into
// it any more.
func TestEndIsWrittenAgainAfterOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMarkerWorld(t, 2)
		w.commit(0)
		sent := w.expect("to 2: a producer=7 epoch=1 commit=true version=2 from=0 [t-0]")[0]
		w.txns.opts.MaxBatchBytes = func(int32) int { return 200 } // one record, not two
		gate := make(chan struct{})
		other := &call{}
		go w.txns.Do(0, func(_ any, code wire.ErrorCode) { other.reply(nil, code) }, func(s *txn.Shard, now time.Time, t shard.Ticket) shard.Result {
			<-gate
			return s.InitProducerID(txn.Turn{Now: now, Ticket: t}, txn.Init{TransactionalID: "b", TimeoutMs: 1000, ProducerID: -1, Epoch: -1})
		})
		synctest.Wait()
		w.l.set(0, func(p *memPartition) { p.refuse = wire.ErrNotEnoughReplicas })
		sent.answer(wire.ErrNone)
		close(gate)
		expect(t, "the batch before", other, "NOT_ENOUGH_REPLICAS")
		w.state("PrepareCommit []")
		w.l.set(0, func(p *memPartition) { p.refuse = nil })
		pass(2 * time.Second)
		w.state("CompleteCommit []")
		w.expect()
	})
}

// TestMarkersAfterALoadThatCannotWrite: the markers that the log asks for do not depend on what else a coordinator writes when it has loaded:
// the end of a transaction that has no partitions, say, whose record the log refuses.
func TestMarkersAfterALoadThatCannotWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMarkerWorld(t, 2)
		w.commit(0)
		w.expect("to 2: a producer=7 epoch=1 commit=true version=2 from=0 [t-0]")
		w.l.set(0, func(p *memPartition) {
			p.write(t, record.NewOptions(), logrec.EncodeGroupKey(&logrec.TransactionLogKey{TransactionalID: "b"}),
				logrec.EncodeVersioned(&logrec.TransactionLogValue{ProducerID: 8, TransactionTimeoutMs: 1000, TransactionStatus: int8(txn.PrepareAbort)}, 1))
			p.refuse = wire.ErrNotEnoughReplicas
		})
		w.txns.Elected(0, w.l.depose(0))
		sent := w.expect("to 2: a producer=7 epoch=1 commit=true version=2 from=1 [t-0]")
		w.l.set(0, func(p *memPartition) { p.refuse = nil })
		sent[0].answer(wire.ErrNone)
		w.state("CompleteCommit []")
		pass(2 * time.Second)
		w.txns.Read(0, func(s *txn.Shard) {
			if b := s.Describe("b"); b.State != txn.CompleteAbort {
				t.Errorf("the transaction without partitions is in %s", b.State)
			}
		})
	})
}

// TestRetriesDoNotWaitForEachOther: a partition whose disk does not answer holds up its own marker only.
func TestRetriesDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMarkerWorld(t, 2)
		l := newMemLog(t, 1)
		groups := start(t, l, nil)
		w.markers.o.Groups = groups
		offsets := id.UUID{2}
		w.replay(&logrec.TopicRecord{Name: OffsetsTopic, TopicID: offsets},
			&logrec.PartitionRecord{TopicID: offsets, Replicas: []int32{9}, Isr: []int32{9}, Leader: 1})
		w.commit(0)
		first := w.expect("to 2: a producer=7 epoch=1 commit=true version=2 from=0 [t-0]")[0]
		// The other one asks first, when the coordinator is not here yet.
		w.markers.Send(Origin[*txn.Shard]{w.txns.cells[0]}, txn.Markers{TransactionalID: "b", ProducerID: 8, Epoch: 1, Commit: true, Version: 2,
			Partitions: []id.TopicPartition{{Topic: OffsetsTopic}}})
		synctest.Wait()
		first.answer(wire.ErrNetworkException)
		if n := w.markers.Waiting(); n != 2 {
			t.Errorf("%d wait, want 2", n)
		}
		gate := make(chan struct{})
		release := sync.OnceFunc(func() { close(gate) })
		t.Cleanup(release)
		l.set(0, func(p *memPartition) { p.slow = gate })
		groups.Elected(0, 0)
		pass(markerRetry)
		w.expect("to 2: a producer=7 epoch=1 commit=true version=2 from=0 [t-0]")[0].answer(wire.ErrNone)
		w.state("CompleteCommit []")
		release()
		synctest.Wait()
		if n := l.parts[0].appends; n != 1 {
			t.Errorf("%d appends, want the marker", n)
		}
	})
}

// TestOthersAreToldFirst: the leaders of a transaction's other partitions do not have to wait for a disk of this broker.
func TestOthersAreToldFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newMarkerWorld(t, 2)
		l := newMemLog(t, 1)
		w.markers.o.Groups = start(t, l, nil)
		offsets := id.UUID{2}
		w.replay(&logrec.TopicRecord{Name: OffsetsTopic, TopicID: offsets},
			&logrec.PartitionRecord{TopicID: offsets, Replicas: []int32{9}, Isr: []int32{9}, Leader: 1})
		w.markers.o.Groups.Elected(0, 0)
		synctest.Wait()
		gate := make(chan struct{})
		release := sync.OnceFunc(func() { close(gate) })
		t.Cleanup(release)
		l.set(0, func(p *memPartition) { p.slow = gate })
		w.markers.Send(Origin[*txn.Shard]{w.txns.cells[0]}, txn.Markers{TransactionalID: "b", ProducerID: 8, Epoch: 1, Commit: true, Version: 2,
			Partitions: []id.TopicPartition{{Topic: OffsetsTopic}, {Topic: "t"}}})
		w.expect("to 2: b producer=8 epoch=1 commit=true version=2 from=0 [t-0]")
		release()
	})
}

// TestMarkersOfOffsets: what the coordinator of a transaction is told about a partition of __consumer_offsets.
func TestMarkersOfOffsets(t *testing.T) {
	loading, away := make(chan struct{}), func(r *Groups, _ *memLog) { r.Resigned(0, id.NoLeaderEpoch) }
	refusing := func(code wire.ErrorCode) func(*Groups, *memLog) {
		return func(_ *Groups, l *memLog) { l.set(0, func(p *memPartition) { p.refuse = code }) }
	}
	for name, c := range map[string]struct {
		trouble func(*Groups, *memLog)
		want    wire.ErrorCode
	}{
		"none":           {func(*Groups, *memLog) {}, wire.ErrNone},
		"not here":       {away, wire.ErrNotLeaderOrFollower},
		"shut down":      {func(r *Groups, _ *memLog) { r.Close() }, wire.ErrNotLeaderOrFollower},
		"not leader":     {refusing(wire.ErrNotLeaderOrFollower), wire.ErrNotLeaderOrFollower},
		"fenced":         {refusing(wire.ErrFencedLeaderEpoch), wire.ErrNotLeaderOrFollower},
		"few replicas":   {refusing(wire.ErrNotEnoughReplicas), wire.ErrNotEnoughReplicas},
		"storage":        {refusing(wire.ErrKafkaStorageError), wire.ErrKafkaStorageError},
		"out of date":    {refusing(wire.ErrInvalidProducerEpoch), wire.ErrInvalidProducerEpoch},
		"former":         {refusing(wire.ErrTransactionCoordinatorFenced), wire.ErrTransactionCoordinatorFenced},
		"too large":      {refusing(wire.ErrMessageTooLarge), wire.ErrMessageTooLarge},
		"not replicated": {func(_ *Groups, l *memLog) { l.set(0, func(p *memPartition) { p.hold = true }) }, wire.ErrRequestTimedOut},
		"loading": {func(r *Groups, l *memLog) {
			away(r, l)
			l.set(0, func(p *memPartition) { p.stall = loading })
			r.Elected(0, 0)
		}, wire.ErrNotLeaderOrFollower},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				loading = make(chan struct{}) // of this bubble
				l := newMemLog(t, 1)
				r := start(t, l, nil)
				r.Elected(0, 0)
				synctest.Wait()
				c.trouble(r, l)
				told := make(chan wire.ErrorCode, 1)
				CompleteOffsets(r, 0, 7, 1, true, 0, 2, func(code wire.ErrorCode) { told <- code })
				if got := <-told; got != c.want {
					t.Errorf("told %s, want %s", got.Name(), c.want.Name())
				}
				close(loading)
			})
		})
	}
}
