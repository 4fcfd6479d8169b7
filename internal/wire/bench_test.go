package wire_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// The messages below are of the size a busy client sends: ten topics of ten partitions.
const topics, partitions = 10, 10

func produceRequest() *api.ProduceRequest {
	m := &api.ProduceRequest{Acks: -1, TimeoutMs: 30000}
	for i := range topics {
		m.TopicData = append(m.TopicData, api.ProduceRequestTopicData{TopicID: id.UUID{byte(i)}})
		for p := range partitions {
			m.TopicData[i].PartitionData = append(m.TopicData[i].PartitionData,
				api.ProduceRequestTopicDataPartitionData{Index: int32(p), Records: wire.Records{Bytes: bytes.Repeat([]byte{1}, 1000)}})
		}
	}
	return m
}

func produceResponse() *api.ProduceResponse {
	m := api.NewProduceResponse()
	for i := range topics {
		m.Responses = append(m.Responses, api.ProduceResponseResponse{TopicID: id.UUID{byte(i)}})
		for p := range partitions {
			x := api.NewProduceResponseResponsePartitionResponse()
			x.Index, x.BaseOffset = int32(p), 1000
			m.Responses[i].PartitionResponses = append(m.Responses[i].PartitionResponses, x)
		}
	}
	return m
}

func fetchRequest() *api.FetchRequest {
	m := api.NewFetchRequest()
	for i := range topics {
		m.Topics = append(m.Topics, api.FetchRequestTopic{TopicID: id.UUID{byte(i)}})
		for p := range partitions {
			x := api.NewFetchRequestTopicPartition()
			x.Partition, x.FetchOffset, x.PartitionMaxBytes = int32(p), 1000, 1<<20
			m.Topics[i].Partitions = append(m.Topics[i].Partitions, x)
		}
	}
	return m
}

func fetchResponse() *api.FetchResponse {
	m := api.NewFetchResponse()
	for i := range topics {
		m.Responses = append(m.Responses, api.FetchResponseResponse{TopicID: id.UUID{byte(i)}})
		for p := range partitions {
			x := api.NewFetchResponseResponsePartition()
			x.PartitionIndex, x.HighWatermark, x.Records = int32(p), 1000, wire.Records{Section: span("0123456789")}
			m.Responses[i].Partitions = append(m.Responses[i].Partitions, x)
		}
	}
	return m
}

func metadataRequest() *api.MetadataRequest {
	m := api.NewMetadataRequest()
	for i := range topics {
		name := fmt.Sprintf("topic-%d", i)
		m.Topics = append(m.Topics, api.MetadataRequestTopic{Name: &name})
	}
	return m
}

func metadataResponse() *api.MetadataResponse {
	m := api.NewMetadataResponse()
	m.Brokers = []api.MetadataResponseBroker{{NodeID: 1, Host: "localhost", Port: 9092}}
	for i := range topics {
		name := fmt.Sprintf("topic-%d", i)
		m.Topics = append(m.Topics, api.MetadataResponseTopic{Name: &name, TopicID: id.UUID{byte(i)}})
		for p := range partitions {
			m.Topics[i].Partitions = append(m.Topics[i].Partitions, api.MetadataResponseTopicPartition{PartitionIndex: int32(p), LeaderID: 1,
				ReplicaNodes: []int32{1, 2, 3}, IsrNodes: []int32{1, 2, 3}})
		}
	}
	return m
}

// hot are the messages of the hot path. decode is how many allocations decoding may take: a few per topic, none per record.
var hot = []struct {
	name    string
	make    func() wire.Message
	version int16
	decode  float64
}{
	{"ProduceRequest", func() wire.Message { return produceRequest() }, 13, 1 + topics},
	{"ProduceResponse", func() wire.Message { return produceResponse() }, 13, 1 + topics},
	{"FetchRequest", func() wire.Message { return fetchRequest() }, 18, 1 + topics},
	{"FetchResponse", func() wire.Message { return fetchResponse() }, 18, 1 + topics},
	{"MetadataRequest", func() wire.Message { return metadataRequest() }, 13, 1 + 2*topics},
	{"MetadataResponse", func() wire.Message { return metadataResponse() }, 13, 3 + topics*(3+2*partitions)},
}

// encoded returns the bytes of m, with sections replaced by their text.
func encoded(tb testing.TB, m wire.Message, version int16) []byte {
	var w wire.Writer
	m.Encode(&w, version)
	if w.Err() != nil {
		tb.Fatal(w.Err())
	}
	var b []byte
	for _, c := range w.Chunks() {
		if c.Section != nil {
			c.Bytes = []byte(c.Section.(span))
		}
		b = append(b, c.Bytes...)
	}
	return b
}

func TestAllocations(t *testing.T) {
	for _, h := range hot {
		m := h.make()
		var w wire.Writer
		encode := func() {
			w.Reset()
			m.Encode(&w, h.version)
			w.Chunks()
		}
		encode()
		if n := testing.AllocsPerRun(100, encode); n != 0 {
			t.Errorf("%s: encoding with a used writer allocates %v times", h.name, n)
		}
		frame := encoded(t, m, h.version)
		var r wire.Reader
		var b wire.Budget
		decode := func() {
			b.Start(len(frame), nil)
			r.Reset(frame, &b)
			m.Decode(&r, h.version)
		}
		if n := testing.AllocsPerRun(100, decode); n > h.decode || r.Finish() != nil {
			t.Errorf("%s: decoding allocates %v times, want at most %v (%v)", h.name, n, h.decode, r.Err())
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, h := range hot {
		b.Run(h.name, func(b *testing.B) {
			m := h.make()
			frame := encoded(b, m, h.version)
			var r wire.Reader
			var budget wire.Budget
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			for b.Loop() {
				budget.Start(len(frame), nil)
				r.Reset(frame, &budget)
				m.Decode(&r, h.version)
			}
			if r.Finish() != nil {
				b.Fatal(r.Err())
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, h := range hot {
		b.Run(h.name, func(b *testing.B) {
			m := h.make()
			var w wire.Writer
			b.ReportAllocs()
			for b.Loop() {
				w.Reset()
				m.Encode(&w, h.version)
				w.Chunks()
			}
			b.SetBytes(int64(w.Size()))
		})
	}
}
