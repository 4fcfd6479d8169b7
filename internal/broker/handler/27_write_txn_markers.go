package handler

import (
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// writeTxnMarkers serves WriteTxnMarkers: from the coordinator of a transaction, or from an operator who ends a hanging one
// (KIP-664). Partitions of __consumer_offsets go through the group coordinator, all others to their logs.
func (d *TxnDesk) writeTxnMarkers(req *server.Request) {
	in := api.NewWriteTxnMarkersRequest()
	if !req.Decode(in) {
		return
	}
	codes := make([]map[id.TopicPartition]*wire.ErrorCode, len(in.Markers))
	var left atomic.Int32
	left.Store(1)
	done := func() {
		if left.Add(-1) == 0 {
			req.Answer(markersAnswer(in, codes))
		}
	}
	for i := range in.Markers {
		m := &in.Markers[i]
		codes[i] = map[id.TopicPartition]*wire.ErrorCode{}
		w := coord.MarkerWrite{ProducerID: id.ProducerID(m.ProducerID), Epoch: id.ProducerEpoch(m.ProducerEpoch), Commit: m.TransactionResult,
			Version: int16(m.TransactionVersion), CoordinatorEpoch: m.CoordinatorEpoch, Timeout: d.d.MarkerTimeout}
		for _, topic := range m.Topics {
			for _, p := range topic.PartitionIndexes {
				tp := id.TopicPartition{Topic: topic.Name, Partition: p}
				if codes[i][tp] != nil {
					continue
				}
				code := new(wire.ErrorCode)
				codes[i][tp] = code
				switch {
				case !d.hosts(tp):
					*code = wire.ErrUnknownTopicOrPartition
				case tp.Topic == coord.OffsetsTopic:
					left.Add(1)
					coord.CompleteOffsets(d.d.Groups, p, w.ProducerID, w.Epoch, w.Commit, w.CoordinatorEpoch, w.Version, func(c wire.ErrorCode) {
						*code = c
						done()
					})
				default:
					w.Partitions = append(w.Partitions, tp)
				}
			}
		}
		if len(w.Partitions) > 0 {
			left.Add(1)
			coord.WriteMarkers(d.d.Replicas, w, func(all []wire.ErrorCode) {
				for n, tp := range w.Partitions {
					*codes[i][tp] = all[n]
				}
				done()
			})
		}
	}
	done()
}

// hosts reports whether there is a replica of the partition here.
func (d *TxnDesk) hosts(tp id.TopicPartition) bool {
	_, err := d.d.Replicas.Partition(tp.Topic, tp.Partition)
	return err == nil
}

// markersAnswer gathers the codes by producer: several markers of one share an entry, in which the later one wins. A marker for no
// partition has no answer.
func markersAnswer(in *api.WriteTxnMarkersRequest, codes []map[id.TopicPartition]*wire.ErrorCode) *api.WriteTxnMarkersResponse {
	out := api.NewWriteTxnMarkersResponse()
	entry := map[int64]int{}
	for i := range in.Markers {
		m := &in.Markers[i]
		if len(codes[i]) == 0 {
			continue
		}
		at, ok := entry[m.ProducerID]
		if !ok {
			at = len(out.Markers)
			entry[m.ProducerID] = at
			out.Markers = append(out.Markers, api.WriteTxnMarkersResponseMarker{ProducerID: m.ProducerID})
		}
		for _, topic := range m.Topics {
			for _, p := range topic.PartitionIndexes {
				setMarkerCode(&out.Markers[at], topic.Name, p, *codes[i][id.TopicPartition{Topic: topic.Name, Partition: p}])
			}
		}
	}
	return out
}

func setMarkerCode(m *api.WriteTxnMarkersResponseMarker, topic string, partition int32, code wire.ErrorCode) {
	at := -1
	for i := range m.Topics {
		if m.Topics[i].Name == topic {
			at = i
		}
	}
	if at < 0 {
		at = len(m.Topics)
		m.Topics = append(m.Topics, api.WriteTxnMarkersResponseMarkerTopic{Name: topic})
	}
	t := &m.Topics[at]
	for i := range t.Partitions {
		if t.Partitions[i].PartitionIndex == partition {
			t.Partitions[i].ErrorCode = code
			return
		}
	}
	t.Partitions = append(t.Partitions, api.WriteTxnMarkersResponseMarkerTopicPartition{PartitionIndex: partition, ErrorCode: code})
}
