package handler

import (
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/coord"
)

// Places knows which partition of a coordinator's topic holds a name. A broker has one for all its desks. The zero value knows no topic.
//
// As in Apache Kafka those count that the topic had when the broker came to know it. If it gets more while the broker runs, nothing
// moves: almost every name would have another place, where nothing is stored of it. A broker that starts goes by the number it finds.
type Places struct {
	offsets, txns atomic.Pointer[counted]
}

// counted is a topic with the number of its partitions.
type counted struct {
	topic      id.UUID
	partitions int32
}

// Observe comes to know the topics in an image that were not known yet, or are others by their old name.
func (p *Places) Observe(img *image.Image) {
	for _, name := range []string{coord.OffsetsTopic, coord.TransactionsTopic} {
		if t := img.Topics.ByName(name); t != nil {
			p.partitions(t)
		}
	}
}

// of returns the partition of a topic that holds a name; otherwise is the number of partitions the topic will have if it does not exist.
func (p *Places) of(img *image.Image, topic, name string, otherwise int32) int32 {
	if t := img.Topics.ByName(topic); t != nil && len(t.Partitions) > 0 {
		otherwise = p.partitions(t)
	}
	return group.PartitionOf(name, otherwise)
}

func (p *Places) partitions(t *image.Topic) int32 {
	known := &p.offsets
	if t.Name == coord.TransactionsTopic {
		known = &p.txns
	}
	for {
		old := known.Load()
		if old != nil && old.topic == t.ID {
			return old.partitions
		}
		n := int32(len(t.Partitions))
		if n == 0 || known.CompareAndSwap(old, &counted{t.ID, n}) {
			return n
		}
	}
}
