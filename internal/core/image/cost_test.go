package image

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// sized is an image with n topics of three partitions, each with a config, and n/10 entities with quotas.
func sized(tb testing.TB, n int) (*Image, []id.UUID) {
	tb.Helper()
	d := NewDelta(Empty())
	ids := make([]id.UUID, n)
	for i := range n {
		ids[i] = id.UUID{0: 1, 14: byte(i >> 8), 15: byte(i)}
		name := fmt.Sprintf("topic-%d", i)
		replay(tb, d, []logrec.MetadataRecord{&logrec.TopicRecord{Name: name, TopicID: ids[i]},
			&logrec.ConfigRecord{ResourceType: int8(ResourceTopic), ResourceName: name, Name: "retention.ms", Value: new("1")}})
		for p := range int32(3) {
			replay(tb, d, []logrec.MetadataRecord{&logrec.PartitionRecord{PartitionID: p, TopicID: ids[i], Replicas: []int32{1, 2, 3}, Isr: []int32{1, 2, 3}, Leader: 1}})
		}
		if i%10 == 0 {
			replay(tb, d, []logrec.MetadataRecord{&logrec.ClientQuotaRecord{Entity: []logrec.ClientQuotaRecordEntity{{EntityType: "user", EntityName: &name}},
				Key: "producer_byte_rate", Value: 1}})
		}
	}
	return d.Apply(Provenance{}), ids
}

// changes are what is done to one topic, or to one of whatever else there are many of.
var changes = map[string]func(n int, ids []id.UUID) []logrec.MetadataRecord{
	"partition": func(n int, ids []id.UUID) []logrec.MetadataRecord {
		ch := logrec.NewPartitionChangeRecord()
		ch.PartitionID, ch.TopicID, ch.Isr = 1, ids[n%len(ids)], []int32{1}
		return []logrec.MetadataRecord{ch}
	},
	"topic": func(n int, _ []id.UUID) []logrec.MetadataRecord {
		u := id.UUID{0: 2, 14: byte(n >> 8), 15: byte(n)}
		return []logrec.MetadataRecord{&logrec.TopicRecord{Name: fmt.Sprintf("new-%d", n), TopicID: u},
			&logrec.PartitionRecord{TopicID: u, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1}}
	},
	"removal": func(n int, ids []id.UUID) []logrec.MetadataRecord {
		return []logrec.MetadataRecord{&logrec.RemoveTopicRecord{TopicID: ids[n]}}
	},
	"config": func(n int, ids []id.UUID) []logrec.MetadataRecord {
		return []logrec.MetadataRecord{&logrec.ConfigRecord{ResourceType: int8(ResourceTopic), ResourceName: fmt.Sprintf("topic-%d", n%len(ids)),
			Name: "retention.ms", Value: new("2")}}
	},
	"quota": func(n int, ids []id.UUID) []logrec.MetadataRecord {
		name := fmt.Sprintf("topic-%d", n%(len(ids)/10)*10)
		return []logrec.MetadataRecord{&logrec.ClientQuotaRecord{Entity: []logrec.ClientQuotaRecordEntity{{EntityType: "user", EntityName: &name}},
			Key: "producer_byte_rate", Value: 2}}
	},
}

// TestChangesCostWhatTheyChange: one change among ten thousand topics allocates hardly more bytes than one among a hundred: the
// path to it through tries of 32 branches is one or two nodes longer.
func TestChangesCostWhatTheyChange(t *testing.T) {
	const rounds = 90
	bytesOf := func(topics int, change func(int, []id.UUID) []logrec.MetadataRecord) float64 {
		img, ids := sized(t, topics)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for n := range rounds {
			d := NewDelta(img)
			replay(t, d, change(n, ids))
			img = d.Apply(Provenance{})
		}
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc-before.TotalAlloc) / rounds
	}
	for name, change := range changes {
		small, large := bytesOf(100, change), bytesOf(10_000, change)
		t.Logf("%s: %.0f bytes among 100 topics, %.0f among 10,000", name, small, large)
		if large > 2*small+6_000 || large > 16_000 {
			t.Errorf("%s: a change costs %.0f bytes among 10,000 topics, %.0f among 100", name, large, small)
		}
	}
}

// BenchmarkOneChange shows time and bytes of each kind of change, among a hundred and among ten thousand topics.
func BenchmarkOneChange(b *testing.B) {
	for name, change := range changes {
		if name == "removal" || name == "topic" {
			continue // they change how many there are
		}
		for _, topics := range []int{100, 10_000} {
			b.Run(fmt.Sprintf("%s/%d", name, topics), func(b *testing.B) {
				img, ids := sized(b, topics)
				b.ReportAllocs()
				for n := 0; b.Loop(); n++ {
					d := NewDelta(img)
					replay(b, d, change(n, ids))
					img = d.Apply(Provenance{})
				}
			})
		}
	}
}
