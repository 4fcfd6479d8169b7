package handler

import (
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// TestPlacesStay: a name stays in its partition while a topic grows, and is looked for anew in another topic of that name.
func TestPlacesStay(t *testing.T) {
	img := image.Empty()
	change := func(records ...logrec.MetadataRecord) {
		t.Helper()
		d := image.NewDelta(img)
		for _, r := range records {
			if err := d.Replay(r); err != nil {
				t.Fatal(err)
			}
		}
		img = d.Apply(image.Provenance{Offset: img.Provenance.Offset + 1})
	}
	grow := func(topic string, u id.UUID, from, to int32) {
		t.Helper()
		for n := from; n < to; n++ {
			change(&logrec.PartitionRecord{TopicID: u, PartitionID: n, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1})
		}
	}
	for _, topic := range []string{coord.OffsetsTopic, coord.TransactionsTopic} {
		p := new(Places)
		check := func(when string, p *Places, want int32) {
			t.Helper()
			if got := p.of(img, topic, "a", 50); got != want {
				t.Errorf("%s, %s: partition %d, want %d", topic, when, got, want)
			}
		}
		check("that is not there", p, 47) // 97 in 50
		p.Observe(img)
		first, second := id.UUID{1, topic[3]}, id.UUID{2, topic[3]}
		change(&logrec.TopicRecord{Name: topic, TopicID: first})
		check("without partitions", p, 47)
		grow(topic, first, 0, 2)
		p.Observe(img)
		grow(topic, first, 2, 7)
		check("that has grown from 2 to 7", p, 1)
		p.Observe(img)
		check("and was seen again", p, 1)
		check("for a broker that starts", new(Places), 6)
		change(&logrec.RemoveTopicRecord{TopicID: first})
		check("that is gone", p, 47)
		change(&logrec.TopicRecord{Name: topic, TopicID: second})
		grow(topic, second, 0, 5)
		check("that is another", p, 2)
	}
}
