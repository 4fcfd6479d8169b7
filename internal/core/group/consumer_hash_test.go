package group

import (
	"encoding/binary"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// TestXXH3 compares with the library that Kafka uses: some lengths by themselves, and all below 1,300 folded into one number.
func TestXXH3(t *testing.T) {
	want := map[int]uint64{
		0: 0x2d06800538d394c2, 1: 0xe12ef9d2eb86ceeb, 3: 0xa9088dda485b481c, 4: 0x57648c318a7a307e, 8: 0xb0fb3e3c3f94990a,
		9: 0x8aca5cb309437c2e, 16: 0x2bd926d88792965a, 17: 0x621f018aad19b14a, 128: 0xe9549af9a74093e6, 129: 0xb54ad1cd8a4c84b9,
		240: 0x3e136902ec966624, 241: 0xbd7d29b6ba966d6a, 1024: 0xdc5acf0b043c445b, 1025: 0xc856c953bbdbc807, 1299: 0x262c6d25fe4b45a1,
	}
	fold := uint64(0)
	for n := range 1300 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i*7 + n)
		}
		h := xxh3(b)
		if w, ok := want[n]; ok && h != w {
			t.Errorf("%d bytes: %#x, want %#x", n, h, w)
		}
		fold = fold*31 + h
	}
	if fold != 0x1c13231532733412 {
		t.Errorf("all lengths: %#x", fold)
	}
}

// TestTopicHash compares with what Kafka's coordinator computes for the same topics.
func TestTopicHash(t *testing.T) {
	topic := id.UUID{1, 2, 3, 4, 5, 6, 7, 8, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0}
	for _, c := range []struct {
		name       string
		partitions int32
		racks      []string
		want       uint64
	}{
		{"foo", 3, nil, 0x2c79a08348806617},
		{"foo", 3, []string{"rack2", "rack1"}, 0xa58deca517d1736d},
		{"té😀", 1, []string{"ré"}, 0xd896a93c703496cb},
	} {
		d := image.NewDelta(image.Empty())
		records := []logrec.MetadataRecord{&logrec.TopicRecord{Name: c.name, TopicID: topic}}
		replicas := []int32{9} // of a broker that is not known
		for i := range c.racks {
			records = append(records, &logrec.RegisterBrokerRecord{BrokerID: int32(i), Rack: &c.racks[i]})
			replicas = append(replicas, int32(i))
		}
		for p := range c.partitions {
			records = append(records, &logrec.PartitionRecord{TopicID: topic, PartitionID: p, Replicas: replicas, Isr: replicas, Leader: replicas[0]})
		}
		for _, r := range records {
			if err := d.Replay(r); err != nil {
				t.Fatal(err)
			}
		}
		img := d.Apply(image.Provenance{})
		if got := hashTopic(img.Topics.ByName(c.name), img.Cluster); got != c.want {
			t.Errorf("%s with %v: %#x, want %#x", c.name, c.racks, got, c.want)
		}
	}
}

// TestGroupHash: a group's hash is that of its topics' in order of their names in UTF-16, of those that exist.
func TestGroupHash(t *testing.T) {
	s := New(DefaultConfig(), nil)
	d := image.NewDelta(image.Empty())
	names := []string{"a", "b", "\U0001d4d0", "\uff41"} // a surrogate comes before U+FF41, though the letter does not
	var in []byte
	for i, name := range names {
		u := id.UUID{1, byte(i)}
		for _, r := range []logrec.MetadataRecord{&logrec.TopicRecord{Name: name, TopicID: u}, &logrec.PartitionRecord{TopicID: u, Replicas: []int32{1}}} {
			if err := d.Replay(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	img := d.Apply(image.Provenance{})
	s.Observe(img)
	for _, name := range names {
		in = binary.LittleEndian.AppendUint64(in, hashTopic(img.Topics.ByName(name), img.Cluster))
	}
	of := func(names ...string) int64 {
		topics := newConsumerView().topics
		for _, name := range names {
			topics = topics.With(name, subscribers{byName: 1})
		}
		return s.groupHash(topics)
	}
	want := int64(xxh3(in))
	for _, order := range [][]string{names, {"\uff41", "absent", "b", "a", "\U0001d4d0"}} {
		if got := of(order...); got != want {
			t.Errorf("%q: %#x, want %#x", order, got, want)
		}
	}
	if of() != 0 || of("absent") != 0 {
		t.Errorf("no topics: %#x, one that does not exist: %#x", of(), of("absent"))
	}
	if of("a") == of("b") || of("a") == of("a", "b") {
		t.Error("groups of other topics have the same hash")
	}
}
