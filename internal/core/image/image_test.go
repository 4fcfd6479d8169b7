package image

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// seeded is the test's source of random numbers.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(seed.Of(t), 1))
}

func uuid(r *rand.Rand) (u id.UUID) {
	for i := range u {
		u[i] = byte(r.Uint32())
	}
	return u
}

// gen makes records that fit the image so far, as a controller would.
type gen struct {
	r   *rand.Rand
	img *Image
}

func (g *gen) brokers() []id.BrokerID { return g.img.Cluster.BrokerIDs() }

func (g *gen) topic() *Topic {
	n := g.img.Topics.Len()
	if n == 0 {
		return nil
	}
	k := g.r.IntN(n)
	for t := range g.img.Topics.All() {
		if k == 0 {
			return t
		}
		k--
	}
	return nil
}

func (g *gen) ints() []int32 {
	out := []int32{}
	for i := range int32(4) {
		if g.r.IntN(2) == 0 {
			out = append(out, i)
		}
	}
	return out
}

// batch returns records of one random operation. All of them fit g.img, and each other.
func (g *gen) batch() []logrec.MetadataRecord {
	str := func(s string) *string { return &s }
	switch g.r.IntN(20) {
	case 0:
		b := int32(g.r.IntN(6))
		return []logrec.MetadataRecord{&logrec.RegisterBrokerRecord{BrokerID: b, BrokerEpoch: g.r.Int64N(1000), IncarnationID: uuid(g.r), Fenced: true,
			EndPoints: []logrec.RegisterBrokerRecordEndPoint{{Name: "A", Host: "h", Port: 9092}}, Features: []logrec.RegisterBrokerRecordFeature{
				{Name: "z", MaxSupportedVersion: 3}, {Name: "metadata.version", MinSupportedVersion: 7, MaxSupportedVersion: 33}},
			Rack: str("r"), LogDirs: []id.UUID{uuid(g.r)}}}
	case 1, 2:
		if ids := g.brokers(); len(ids) > 0 {
			b := g.img.Cluster.Broker(ids[g.r.IntN(len(ids))])
			switch g.r.IntN(4) {
			case 0:
				return []logrec.MetadataRecord{&logrec.UnregisterBrokerRecord{BrokerID: int32(b.ID), BrokerEpoch: int64(b.Epoch)}}
			case 1:
				return []logrec.MetadataRecord{&logrec.FenceBrokerRecord{ID: int32(b.ID), Epoch: int64(b.Epoch)}}
			case 2:
				return []logrec.MetadataRecord{&logrec.UnfenceBrokerRecord{ID: int32(b.ID), Epoch: int64(b.Epoch)}}
			}
			return []logrec.MetadataRecord{&logrec.BrokerRegistrationChangeRecord{BrokerID: int32(b.ID), BrokerEpoch: int64(b.Epoch),
				Fenced: int8(g.r.IntN(3) - 1), InControlledShutdown: int8(g.r.IntN(2)), CordonedLogDirs: []id.UUID{}}}
		}
	case 3, 4, 5:
		name := fmt.Sprintf("t%d", g.r.IntN(30))
		if g.img.Topics.ByName(name) == nil {
			u := uuid(g.r)
			out := []logrec.MetadataRecord{&logrec.TopicRecord{Name: name, TopicID: u}}
			for p := range int32(1 + g.r.IntN(4)) {
				out = append(out, &logrec.PartitionRecord{PartitionID: p, TopicID: u, Replicas: []int32{0, 1, 2}, Isr: []int32{0, 1}, Leader: 0,
					EligibleLeaderReplicas: g.ints(), LastKnownElr: g.ints()})
			}
			return out
		}
	case 6, 7, 8:
		if t := g.topic(); t != nil {
			ch := logrec.NewPartitionChangeRecord()
			ch.TopicID, ch.PartitionID = t.ID, t.Partitions[g.r.IntN(len(t.Partitions))].ID
			ch.Isr, ch.Leader = g.ints(), int32(g.r.IntN(4)-2)
			if g.r.IntN(3) == 0 {
				ch.EligibleLeaderReplicas, ch.LastKnownElr = g.ints(), g.ints()
				ch.LeaderRecoveryState = int8(g.r.IntN(2))
			}
			return []logrec.MetadataRecord{ch}
		}
	case 9:
		if t := g.topic(); t != nil {
			return []logrec.MetadataRecord{&logrec.RemoveTopicRecord{TopicID: t.ID}}
		}
	case 10:
		if t := g.topic(); t != nil {
			return []logrec.MetadataRecord{&logrec.ClearElrRecord{TopicName: []string{"", t.Name}[g.r.IntN(2)]}}
		}
	case 11, 12:
		types := []int8{2, 4, 16, 32}
		c := &logrec.ConfigRecord{ResourceType: types[g.r.IntN(4)], ResourceName: fmt.Sprint("t", g.r.IntN(5)), Name: fmt.Sprint("k", g.r.IntN(4))}
		if g.r.IntN(3) > 0 {
			c.Value = str(fmt.Sprint(g.r.IntN(9)))
		}
		return []logrec.MetadataRecord{c}
	case 13:
		return []logrec.MetadataRecord{&logrec.FeatureLevelRecord{Name: fmt.Sprint("f", g.r.IntN(3)), FeatureLevel: int16(g.r.IntN(3))}}
	case 14:
		return []logrec.MetadataRecord{&logrec.ProducerIDsRecord{NextProducerID: g.r.Int64N(1 << 40)}}
	case 15:
		e := []logrec.ClientQuotaRecordEntity{{EntityType: "user", EntityName: str("u")}, {EntityType: "client-id"}}
		return []logrec.MetadataRecord{&logrec.ClientQuotaRecord{Entity: e[g.r.IntN(2):], Key: "rate", Value: float64(g.r.IntN(9)), Remove: g.r.IntN(3) == 0}}
	case 16:
		u := id.UUID{0: byte(g.r.IntN(8))}
		if _, ok := g.img.ACLs.byID.Get(u); ok && g.r.IntN(2) == 0 {
			return []logrec.MetadataRecord{&logrec.RemoveAccessControlEntryRecord{ID: u}}
		}
		return []logrec.MetadataRecord{&logrec.AccessControlEntryRecord{ID: u, Principal: "User:p", Host: "*"}}
	case 17:
		if g.r.IntN(2) == 0 {
			return []logrec.MetadataRecord{&logrec.RemoveUserScramCredentialRecord{Name: fmt.Sprint(g.r.IntN(3)), Mechanism: 1}}
		}
		return []logrec.MetadataRecord{&logrec.UserScramCredentialRecord{Name: fmt.Sprint(g.r.IntN(3)), Mechanism: 1, Salt: []byte{1}, StoredKey: []byte{2}, ServerKey: []byte{3}}}
	case 18:
		if g.r.IntN(2) == 0 {
			return []logrec.MetadataRecord{&logrec.RemoveDelegationTokenRecord{TokenID: fmt.Sprint(g.r.IntN(3))}}
		}
		return []logrec.MetadataRecord{&logrec.DelegationTokenRecord{TokenID: fmt.Sprint(g.r.IntN(3)), Owner: "User:o"}}
	default:
		if g.img.Cluster.Controller(9) != nil && g.r.IntN(2) == 0 {
			return []logrec.MetadataRecord{&logrec.UnregisterControllerRecord{ControllerID: 9}}
		}
		return []logrec.MetadataRecord{&logrec.RegisterControllerRecord{ControllerID: 9, IncarnationID: uuid(g.r)}, &logrec.NoOpRecord{}}
	}
	return []logrec.MetadataRecord{&logrec.NoOpRecord{}}
}

// contents is an image as a set of encoded records, whatever its internal shape.
func contents(im *Image) []string {
	var out []string
	for r := range im.Records(im.Features.MetadataVersion) {
		out = append(out, fmt.Sprintf("%d %x", r.Version, logrec.EncodeMetadata(r.Message, r.Version)))
	}
	slices.Sort(out)
	return out
}

func replay(t testing.TB, d *Delta, records []logrec.MetadataRecord) {
	t.Helper()
	for _, r := range records {
		if err := d.Replay(r); err != nil {
			t.Fatalf("replay of %T: %v", r, err)
		}
	}
}

func start(t testing.TB) *Image {
	d := NewDelta(Empty())
	replay(t, d, []logrec.MetadataRecord{
		&logrec.FeatureLevelRecord{Name: MetadataVersionFeature, FeatureLevel: int16(LatestMetadataVersion)},
		&logrec.FeatureLevelRecord{Name: ElrVersionFeature, FeatureLevel: 1}})
	return d.Apply(Provenance{Offset: 1})
}

// TestSnapshotEqualsLog: the records of an image, replayed over nothing or over an older image as a snapshot, make that image
// again; older images stay as they were; and what a snapshot delta calls changed is what differs.
func TestSnapshotEqualsLog(t *testing.T) {
	g := &gen{r: seeded(t), img: start(t)}
	old, oldContents := g.img, contents(g.img)
	topics, brokers := 0, 0 // at most, at any time
	for step := range 400 {
		d := NewDelta(g.img)
		for range 1 + g.r.IntN(3) {
			tail := *g
			tail.img = d.peek()
			replay(t, d, tail.batch())
		}
		g.img = d.Apply(Provenance{Offset: id.Offset(step + 2)})
		topics, brokers = max(topics, g.img.Topics.Len()), max(brokers, len(g.brokers()))
		if step%20 != 19 {
			continue
		}
		want := contents(g.img)
		s := NewSnapshotDelta(old)
		for r := range g.img.Records(g.img.Features.MetadataVersion) {
			enc := logrec.EncodeMetadata(r.Message, r.Version)
			rec, v, err := logrec.DecodeMetadata(enc)
			if err != nil || v != r.Version {
				t.Fatalf("%T version %d: read back as %d: %v", r.Message, r.Version, v, err)
			}
			if err := s.Replay(rec); err != nil {
				t.Fatal(err)
			}
		}
		again := s.Apply(g.img.Provenance)
		if diff := cmp.Diff(want, contents(again)); diff != "" {
			t.Fatalf("step %d: replay of the snapshot differs:\n%s", step, diff)
		}
		if diff := cmp.Diff(oldContents, contents(old)); diff != "" {
			t.Fatalf("step %d: the older image has changed:\n%s", step, diff)
		}
		checkTopicChanges(t, old, again, s.Topics())
		old, oldContents = g.img, want
	}
	if topics == 0 || brokers == 0 {
		t.Fatalf("the walk has made nothing: %d topics, %d brokers", topics, brokers)
	}
}

// peek applies what the delta holds without using it up.
func (d *Delta) peek() *Image {
	n := d.cur
	after := d.topics.base
	for _, t := range d.topics.deleted {
		after = after.without(t)
	}
	for _, c := range d.topics.changed {
		keep := c.after
		after = after.withIn(nil, c.apply())
		c.after = keep
	}
	n.Topics = after
	return &n
}

func checkTopicChanges(t *testing.T, before, after *Image, d *TopicsDelta) {
	t.Helper()
	deleted := map[id.UUID]bool{}
	for _, topic := range d.Deleted() {
		deleted[topic.ID] = true
	}
	for topic := range before.Topics.All() {
		if gone := after.Topics.ByID(topic.ID) == nil; gone != deleted[topic.ID] {
			t.Fatalf("topic %s: gone %v, deleted %v", topic.Name, gone, deleted[topic.ID])
		}
	}
	for topic := range after.Topics.All() {
		was := before.Topics.ByID(topic.ID)
		same := was != nil && slices.EqualFunc(was.Partitions, topic.Partitions, (*Partition).Equal)
		if changed := d.ChangedTopic(topic.ID) != nil; changed == same {
			t.Fatalf("topic %s: same %v, changed %v", topic.Name, same, changed)
		}
	}
}

// TestMap compares the trie with a Go map, with hashes so bad that keys collide at every level.
func TestMap(t *testing.T) {
	r := seeded(t)
	for _, hash := range []func(int) uint64{func(k int) uint64 { return mix(uint64(k)) }, func(k int) uint64 { return uint64(k % 3) }, func(int) uint64 { return 7 }} {
		m, want := NewMap[int, int](hash), map[int]int{}
		for range 3000 {
			k := r.IntN(120)
			before, size := m, m.Len()
			if r.IntN(3) == 0 {
				m = m.Without(k)
				delete(want, k)
			} else {
				m = m.With(k, r.Int())
				want[k], _ = m.Get(k)
			}
			if r.IntN(40) == 0 { // an edit of many keys must leave the map before it alone
				frozen := map[int]int{}
				for k, v := range m.All() {
					frozen[k] = v
				}
				old, by := m, new(edit)
				before = m
				size = m.Len()
				for range r.IntN(60) {
					k := r.IntN(120)
					m = m.withIn(by, k, r.Int())
					want[k], _ = m.Get(k)
				}
				kept := map[int]int{}
				for k, v := range old.All() {
					kept[k] = v
				}
				if diff := cmp.Diff(frozen, kept); diff != "" {
					t.Fatalf("an edit has changed the map before it:\n%s", diff)
				}
			}
			if before.Len() != size || m.Len() != len(want) {
				t.Fatalf("sizes: old %d, new %d, want %d and %d", before.Len(), m.Len(), size, len(want))
			}
		}
		got := map[int]int{}
		for k, v := range m.All() {
			got[k] = v
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		for k := range 130 {
			v, ok := m.Get(k)
			if w, has := want[k]; ok != has || v != w {
				t.Fatalf("Get(%d) = %d %v, want %d %v", k, v, ok, w, has)
			}
		}
	}
}

// TestReplayRefusesContradictions: records that do not fit are errors, not panics.
func TestReplayRefusesContradictions(t *testing.T) {
	u := id.UUID{1}
	for _, r := range []logrec.MetadataRecord{
		&logrec.PartitionRecord{TopicID: u},
		&logrec.PartitionChangeRecord{TopicID: u},
		&logrec.RemoveTopicRecord{TopicID: u},
		&logrec.ClearElrRecord{TopicName: "x"},
		&logrec.FenceBrokerRecord{ID: 1},
		&logrec.BrokerRegistrationChangeRecord{BrokerID: 1, Fenced: 1},
		&logrec.BrokerRegistrationChangeRecord{BrokerID: 1, Fenced: 2},
		&logrec.RemoveAccessControlEntryRecord{ID: u},
		&logrec.FeatureLevelRecord{Name: MetadataVersionFeature, FeatureLevel: 99},
	} {
		if err := NewDelta(start(t)).Replay(r); !errors.Is(err, ErrInconsistent) {
			t.Errorf("%T: %v", r, err)
		}
	}
	d := NewDelta(start(t))
	replay(t, d, []logrec.MetadataRecord{&logrec.TopicRecord{Name: "a", TopicID: u}})
	for _, r := range []logrec.MetadataRecord{
		&logrec.TopicRecord{Name: "a", TopicID: id.UUID{2}},
		&logrec.TopicRecord{Name: "b", TopicID: u},
		&logrec.PartitionRecord{TopicID: u, PartitionID: -1},
		&logrec.PartitionRecord{TopicID: u, Replicas: []int32{1}, Directories: make([]id.UUID, 2)},
		&logrec.PartitionRecord{TopicID: u, LeaderRecoveryState: 7},
	} {
		if err := d.Replay(r); !errors.Is(err, ErrInconsistent) {
			t.Errorf("%T: %v", r, err)
		}
	}
}

// TestDeleteAndRecreate: one delta may delete a topic and give its name to another.
// TestUnknownConfigs: a config that is gone from the house since is passed over, in the log and in a snapshot.
func TestUnknownConfigs(t *testing.T) {
	known := func(kind ResourceType, name string) bool { return kind != ResourceTopic || name == "retention.ms" }
	records := []logrec.MetadataRecord{
		&logrec.ConfigRecord{ResourceType: int8(ResourceTopic), ResourceName: "t", Name: "message.format.version", Value: new("2.8")},
		&logrec.ConfigRecord{ResourceType: int8(ResourceTopic), ResourceName: "u", Name: "retention.ms", Value: new("1")},
		&logrec.ConfigRecord{ResourceType: int8(ResourceBroker), Name: "listener.name.x.whatever", Value: new("1")}}
	log := NewDelta(EmptyKnowing(known))
	replay(t, log, records)
	img := log.Apply(Provenance{})
	snapshot := NewSnapshotDelta(img)
	replay(t, snapshot, records)
	for _, x := range []*Image{img, snapshot.Apply(Provenance{})} {
		if x.Configs.Topic("t") != nil || x.Configs.Topic("u")["retention.ms"] != "1" || x.Configs.Of(DefaultBroker)["listener.name.x.whatever"] != "1" {
			t.Errorf("configs %v, %v, %v", x.Configs.Topic("t"), x.Configs.Topic("u"), x.Configs.Of(DefaultBroker))
		}
	}
	if log.ConfigChanged(ConfigResource{Type: ResourceTopic, Name: "t"}) {
		t.Error("a config that is not kept counts as changed")
	}
}

func TestDeleteAndRecreate(t *testing.T) {
	d := NewDelta(start(t))
	one, two := id.UUID{1}, id.UUID{2}
	v := "5"
	replay(t, d, []logrec.MetadataRecord{&logrec.TopicRecord{Name: "a", TopicID: one}, &logrec.PartitionRecord{TopicID: one, Replicas: []int32{1}, Leader: 1},
		&logrec.ConfigRecord{ResourceType: 2, ResourceName: "a", Name: "k", Value: &v}})
	img := d.Apply(Provenance{})
	d = NewDelta(img)
	replay(t, d, []logrec.MetadataRecord{&logrec.RemoveTopicRecord{TopicID: one}, &logrec.TopicRecord{Name: "a", TopicID: two},
		&logrec.PartitionRecord{TopicID: two, Replicas: []int32{1, 2}, Leader: 2}})
	next := d.Apply(Provenance{})
	if got := next.Topics.ByName("a"); got == nil || got.ID != two || next.Topics.ByID(one) != nil || next.Topics.Len() != 1 {
		t.Fatalf("topic a is %+v", got)
	}
	if next.Configs.Topic("a") != nil || img.Configs.Topic("a")["k"] != "5" {
		t.Fatal("the configs of the deleted topic live on, or the old image lost them")
	}
	l := d.Topics().LocalChanges(1)
	if len(l.Deletes) != 1 || l.Deletes[0].TopicID != one || len(l.Followers) != 1 || l.Followers[0].TopicID != two || len(l.Leaders) != 0 {
		t.Fatalf("local changes %+v", l)
	}
}

func tenThousand(b testing.TB) (*Image, []id.UUID) {
	d := NewDelta(start(b))
	ids := make([]id.UUID, 10_000)
	for i := range ids {
		ids[i] = id.UUID{0: byte(i), 1: byte(i >> 8), 9: byte(i * 7)}
		replay(b, d, []logrec.MetadataRecord{&logrec.TopicRecord{Name: fmt.Sprintf("topic-%d", i), TopicID: ids[i]}})
		for p := range int32(3) {
			replay(b, d, []logrec.MetadataRecord{&logrec.PartitionRecord{PartitionID: p, TopicID: ids[i], Replicas: []int32{1, 2, 3}, Isr: []int32{1, 2, 3}, Leader: 1}})
		}
	}
	return d.Apply(Provenance{}), ids
}

// TestDeltaCost: one change among ten thousand topics allocates a bounded amount, far from a copy of anything large.
func TestDeltaCost(t *testing.T) {
	img, ids := tenThousand(t)
	n := 0
	allocs := testing.AllocsPerRun(100, func() {
		d := NewDelta(img)
		ch := logrec.NewPartitionChangeRecord()
		ch.PartitionID, ch.TopicID, ch.Isr = 1, ids[n%len(ids)], []int32{1}
		replay(t, d, []logrec.MetadataRecord{ch})
		img = d.Apply(Provenance{})
		n++
	})
	if allocs > 60 {
		t.Errorf("a delta of one partition made %v allocations", allocs)
	}
}

func BenchmarkDeltaOneOfTenThousand(b *testing.B) {
	img, ids := tenThousand(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		d := NewDelta(img)
		ch := logrec.NewPartitionChangeRecord()
		ch.PartitionID, ch.TopicID, ch.Isr = 1, ids[i%len(ids)], []int32{1}
		replay(b, d, []logrec.MetadataRecord{ch})
		img = d.Apply(Provenance{})
	}
}

func BenchmarkTopicByName(b *testing.B) {
	img, _ := tenThousand(b)
	for b.Loop() {
		if img.Topics.ByName("topic-4711") == nil {
			b.Fatal("lost")
		}
	}
}
