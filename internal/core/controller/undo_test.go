package controller

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// randomRequest returns some request that may or may not be accepted.
func (w *world) randomRequest(r *rand.Rand) (wire.Message, int16) {
	broker := int32(r.IntN(4))
	name := []string{"a", "b", "c.d", "c_d", "e"}[r.IntN(5)]
	topic := w.c.Image().Topics.ByName(name)
	switch r.IntN(13) {
	case 9:
		user := string(rune('u' + r.IntN(3)))
		return &api.AlterClientQuotasRequest{Entries: []api.AlterClientQuotasRequestEntry{{Entity: []api.AlterClientQuotasRequestEntryEntity{{EntityType: QuotaUser, EntityName: &user}},
			Ops: []api.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Value: float64(1 + r.IntN(3)), Remove: r.IntN(3) == 0}}}}}, 1
	case 10:
		user := string(rune('u' + r.IntN(3)))
		if r.IntN(2) == 0 {
			return &api.AlterUserScramCredentialsRequest{Deletions: []api.AlterUserScramCredentialsRequestDeletion{{Name: user, Mechanism: 1}}}, 0
		}
		return &api.AlterUserScramCredentialsRequest{Upsertions: []api.AlterUserScramCredentialsRequestUpsertion{
			{Name: user, Mechanism: 1, Iterations: 4096, Salt: []byte{byte(r.IntN(3))}, SaltedPassword: []byte{1}}}}, 0
	case 11:
		return &api.ElectLeadersRequest{ElectionType: int8(r.IntN(2))}, 2
	case 12:
		name, level := image.GroupVersionFeature, int16(r.IntN(2))
		if r.IntN(2) == 0 && w.c.Image().Features.MetadataVersion.ElrSupported() {
			name = image.ElrVersionFeature
		}
		kind := int8(upgrade)
		if level == 0 {
			kind = safeDowngrade
		}
		return updateFeature(name, level, kind), 2
	case 0:
		return w.registration(broker, byte(1+r.IntN(3))), 4
	case 1, 2, 3:
		hb := w.beat(broker, r.IntN(4) == 0, r.IntN(6) == 0)
		if r.IntN(8) == 0 {
			hb.OfflineLogDirs = []id.UUID{dir(broker)}
		}
		return hb, 1
	case 4:
		return &api.CreateTopicsRequest{Topics: []api.CreateTopicsRequestTopic{{Name: name, NumPartitions: int32(1 + r.IntN(4)), ReplicationFactor: int16(1 + r.IntN(3))}}}, 7
	case 5:
		return &api.DeleteTopicsRequest{TopicNames: []string{name}}, 5
	case 6:
		value := fmt.Sprint(1 + r.IntN(3))
		return &api.IncrementalAlterConfigsRequest{Resources: []api.IncrementalAlterConfigsRequestResource{{ResourceType: 2, ResourceName: name,
			Configs: []api.IncrementalAlterConfigsRequestResourceConfig{{Name: minISRKey, Value: &value}}}}}, 1
	case 7:
		if topic != nil {
			p := topic.Partitions[r.IntN(len(topic.Partitions))]
			req := &api.AlterPartitionRequest{BrokerID: int32(p.Leader), BrokerEpoch: -1}
			if b := w.c.Image().Cluster.Broker(p.Leader); b != nil {
				req.BrokerEpoch = int64(b.Epoch)
			}
			rp := api.AlterPartitionRequestTopicPartition{PartitionIndex: p.ID, LeaderEpoch: int32(p.LeaderEpoch), PartitionEpoch: p.PartitionEpoch}
			for _, replica := range p.Replicas {
				if replica == int32(p.Leader) || r.IntN(2) == 0 {
					rp.NewIsrWithEpochs = append(rp.NewIsrWithEpochs, api.AlterPartitionRequestTopicPartitionNewIsrWithEpoch{BrokerID: replica, BrokerEpoch: -1})
				}
			}
			req.Topics = []api.AlterPartitionRequestTopic{{TopicID: topic.ID, Partitions: []api.AlterPartitionRequestTopicPartition{rp}}}
			return req, 3
		}
	}
	replicas := []int32{broker, (broker + 1) % 4}
	if r.IntN(3) == 0 {
		replicas = nil
	}
	return &api.AlterPartitionReassignmentsRequest{AllowReplicationFactorChange: true, Topics: []api.AlterPartitionReassignmentsRequestTopic{{Name: name,
		Partitions: []api.AlterPartitionReassignmentsRequestTopicPartition{{PartitionIndex: 0, Replicas: replicas}}}}}, 1
}

// TestStatesAreFolds: the working state is always the fold of what was appended; after a resignation, with any part of the log
// committed, it is the fold of the committed part; and a partition is always in a state that could be.
func TestStatesAreFolds(t *testing.T) {
	r := rand.New(rand.NewPCG(seed.Of(t), 3))
	w := newWorld(LatestFeatures())
	w.activate(t, 1)
	for epoch := id.LeaderEpoch(2); epoch < 40; epoch++ {
		for range r.IntN(60) {
			w.now = w.now.Add(time.Duration(r.IntN(3000)) * time.Millisecond)
			w.take(w.c.Tick(w.env(0)))
			req, version := w.randomRequest(r)
			w.decide(req, version)
			if r.IntN(5) == 0 {
				w.commitTo(w.commit + r.IntN(len(w.log)-w.commit+1))
			}
			if r.IntN(30) == 0 && w.c.Pending() > 0 {
				// The log has failed to take the last decisions.
				first := w.c.pending[r.IntN(len(w.c.pending))].first
				if int(first) >= w.commit {
					w.c.Revert(first)
					w.log = w.log[:first]
				}
			}
			checkInvariants(t, w.c.Image())
		}
		if diff := cmp.Diff(fingerprint(w.replayed(t, len(w.log)).state), fingerprint(w.c.state)); diff != "" {
			t.Fatalf("epoch %d: the working state is not the fold of the log:\n%s", epoch, diff)
		}
		w.c.Resign()
		w.log = w.log[:w.commit]
		if diff := cmp.Diff(fingerprint(w.replayed(t, w.commit).state), fingerprint(w.c.state)); diff != "" {
			t.Fatalf("epoch %d: after resigning the state is not the fold of the committed log:\n%s", epoch, diff)
		}
		w.activate(t, epoch)
	}
	if len(w.log) < 100 {
		t.Fatalf("only %d records in all: nothing was tried", len(w.log))
	}
}

func checkInvariants(t *testing.T, img *image.Image) {
	t.Helper()
	for topic := range img.Topics.All() {
		for _, p := range topic.Partitions {
			switch {
			case !containsAll(p.Replicas, p.ISR), !containsAll(p.Replicas, p.ELR), len(p.Directories) != len(p.Replicas):
				t.Fatalf("%s-%d has members outside of its replicas: %+v", topic.Name, p.ID, p)
			case p.Leader != image.NoLeader && !containsAll(p.ISR, []int32{int32(p.Leader)}):
				t.Fatalf("%s-%d is led by a replica that is not in sync: %+v", topic.Name, p.ID, p)
			case p.Leader != image.NoLeader && img.Cluster.Broker(p.Leader).Fenced:
				t.Fatalf("%s-%d is led by a broker that is fenced: %+v", topic.Name, p.ID, p)
			case len(without(p.ISR, p.ELR)) != len(p.ISR):
				t.Fatalf("%s-%d has ISR and ELR in common: %+v", topic.Name, p.ID, p)
			}
		}
	}
}

// TestPlacementSpreads: leaders and replicas spread evenly, and over racks.
func TestPlacementSpreads(t *testing.T) {
	w := newWorld(LatestFeatures())
	w.activate(t, 1)
	for n := range int32(6) {
		r := w.registration(n, 1)
		r.Rack = new(fmt.Sprint("rack", n%3))
		if d := w.decide(r, 4); d.Err != nil {
			t.Fatal(d.Err)
		}
		if d := w.decide(w.beat(n, false, false), 1); d.Err != nil {
			t.Fatal(d.Err)
		}
	}
	placed, e := w.c.newPlacer(w.rand).place(600, 3)
	if e != nil {
		t.Fatal(e)
	}
	leaders, replicas := map[int32]int{}, map[int32]int{}
	for _, p := range placed {
		racks := map[int32]bool{}
		leaders[p[0]]++
		for _, b := range p {
			replicas[b]++
			racks[b%3] = true
		}
		if len(racks) != 3 {
			t.Fatalf("%v is not spread over the racks", p)
		}
	}
	for b := range int32(6) {
		if leaders[b] < 80 || leaders[b] > 120 || replicas[b] < 270 || replicas[b] > 330 {
			t.Fatalf("leaders %v, replicas %v", leaders, replicas)
		}
	}
}

// TestRestartOfOwnBroker: the broker of the controller's own process need not wait for the session of its last incarnation.
func TestRestartOfOwnBroker(t *testing.T) {
	w := newWorld(LatestFeatures())
	w.activate(t, 1)
	for _, n := range []int32{100, 1} {
		w.decide(w.registration(n, 1), 4)
		w.decide(w.beat(n, false, false), 1)
	}
	w.commitAll()
	w.c = w.replayed(t, len(w.log))
	w.activate(t, 2)
	if d := w.decide(w.registration(1, 2), 4); d.Err == nil || d.Err.Code != wire.ErrDuplicateBrokerRegistration {
		t.Errorf("another broker's second incarnation: %v", d.Err)
	}
	if d := w.decide(w.registration(100, 2), 4); d.Err != nil {
		t.Errorf("own broker's second incarnation: %v", d.Err)
	}
}

// TestActivation covers what a new leader finds in the log.
func TestActivation(t *testing.T) {
	w := newWorld(LatestFeatures())
	d := w.activate(t, 1)
	// The predecessor lost its leadership somewhere in the bootstrap transaction.
	for done := 1; done < len(d.Records); done++ {
		c := New(w.cfg)
		if err := c.Replay(0, d.Records[:done]); err != nil {
			t.Fatal(err)
		}
		again, err := c.Activate(Env{NextOffset: id.Offset(done), Rand: w.rand}, 2)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%T %T", again.Records[0].Message, again.Records[1].Message); got != "*logrec.AbortTransactionRecord *logrec.BeginTransactionRecord" {
			t.Errorf("after %d records activation begins with %s", done, got)
		}
		if c.txnStart != -1 || c.Image().Features.MetadataVersion != image.LatestMetadataVersion {
			t.Errorf("after %d records: transaction at %d, version %v", done, c.txnStart, c.Image().Features.MetadataVersion)
		}
	}
	// A later transaction that was left open is aborted, and what it held is gone.
	open := New(w.cfg)
	topic := &logrec.TopicRecord{Name: "lost_topic", TopicID: id.UUID{1}}
	if err := open.Replay(0, append(slices.Clone(d.Records), image.Record{Message: &logrec.BeginTransactionRecord{}}, image.Record{Message: topic})); err != nil {
		t.Fatal(err)
	}
	if open.Image().Topics.Len() != 1 {
		t.Fatal("the open transaction was not replayed")
	}
	end, err := open.Activate(Env{NextOffset: id.Offset(len(d.Records) + 2), Rand: w.rand}, 2)
	if err != nil || len(end.Records) != 1 {
		t.Fatalf("%d records, %v", len(end.Records), err)
	}
	if open.Image().Topics.Len() != 0 || open.collisions.Len() != 0 || open.txnStart != -1 {
		t.Error("the aborted transaction has left something")
	}
	// And so it is for whoever follows, batch by batch.
	follower, want := New(w.cfg), New(w.cfg)
	if err := want.Replay(0, d.Records); err != nil {
		t.Fatal(err)
	}
	at := id.Offset(0)
	for _, batch := range [][]image.Record{d.Records, {{Message: &logrec.BeginTransactionRecord{}}}, {{Message: topic}}, {{Message: minISRRecord("", new("7")).Message}},
		{{Message: &logrec.AbortTransactionRecord{}}}} {
		if err := follower.Replay(at, batch); err != nil {
			t.Fatal(err)
		}
		at += id.Offset(len(batch))
	}
	if diff := cmp.Diff(fingerprint(want.state), fingerprint(follower.state)); diff != "" || follower.Image().Provenance.Offset != at-1 {
		t.Errorf("an aborted transaction has left something at offset %d:\n%s", follower.Image().Provenance.Offset, diff)
	}
	if err := New(w.cfg).Replay(0, []image.Record{{Message: &logrec.EndTransactionRecord{}}}); !errors.Is(err, image.ErrInconsistent) {
		t.Errorf("an end without a beginning: %v", err)
	}
	cfg := w.cfg
	cfg.Bootstrap = nil
	if _, err := New(cfg).Activate(Env{Rand: w.rand}, 1); err == nil {
		t.Error("an empty log was activated without bootstrap records")
	}
}

func BenchmarkCreateTopicAmongTenThousand(b *testing.B) {
	w := newWorld(LatestFeatures())
	if _, err := w.c.Activate(w.env(0), 1); err != nil {
		b.Fatal(err)
	}
	next := id.Offset(20)
	decide := func(req wire.Message, version int16) {
		env := w.env(version)
		env.NextOffset = next
		d := w.c.Decide(env, req)
		if d.Err != nil {
			b.Fatal(d.Err)
		}
		next += id.Offset(len(d.Records))
		w.c.Committed(next - 1)
	}
	decide(w.registration(0, 1), 4)
	hb := w.beat(0, false, false)
	hb.CurrentMetadataOffset = int64(next)
	decide(hb, 1)
	create := func(i int) {
		decide(&api.CreateTopicsRequest{Topics: []api.CreateTopicsRequestTopic{{Name: fmt.Sprintf("topic_%d", i), NumPartitions: 3, ReplicationFactor: 1}}}, 7)
	}
	for i := range 10_000 {
		create(i)
	}
	b.ReportAllocs()
	for i := 10_000; b.Loop(); i++ {
		create(i)
	}
}

// BenchmarkFenceTenThousand fences and unfences a broker that leads 10,000 partitions of 10,000 topics.
func BenchmarkFenceTenThousand(b *testing.B) {
	w := newWorld(LatestFeatures())
	if _, err := w.c.Activate(w.env(0), 1); err != nil {
		b.Fatal(err)
	}
	next := id.Offset(20)
	decide := func(req wire.Message, version int16) int {
		env := w.env(version)
		env.NextOffset = next
		d := w.c.Decide(env, req)
		if d.Err != nil {
			b.Fatal(d.Err)
		}
		next += id.Offset(len(d.Records))
		w.c.Committed(next - 1)
		return len(d.Records)
	}
	beat := func(fence bool) int {
		hb := w.beat(0, fence, false)
		hb.CurrentMetadataOffset = int64(next)
		return decide(hb, 1)
	}
	decide(w.registration(0, 1), 4)
	beat(false)
	for i := range 10_000 {
		decide(&api.CreateTopicsRequest{Topics: []api.CreateTopicsRequestTopic{{Name: fmt.Sprintf("topic-%d", i), NumPartitions: 1, ReplicationFactor: 1}}}, 7)
	}
	for b.Loop() {
		if n := beat(true); n < 10_000 {
			b.Fatal(n)
		}
		if n := beat(false); n < 10_000 {
			b.Fatal(n)
		}
	}
}
