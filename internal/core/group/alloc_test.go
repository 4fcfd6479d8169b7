package group

import (
	"math/rand/v2"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// BenchmarkCommitAtOnce is one offset committed with the high watermark right behind.
func BenchmarkCommitAtOnce(b *testing.B) {
	s := New(DefaultConfig(), rand.New(rand.NewPCG(1, 1)))
	req := &api.OffsetCommitRequest{GroupID: "g", GenerationIDOrMemberEpoch: -1, RetentionTimeMs: -1,
		Topics: []api.OffsetCommitRequestTopic{{Name: "t", Partitions: []api.OffsetCommitRequestTopicPartition{{}}}}}
	b.ReportAllocs()
	for at := id.Offset(0); b.Loop(); at++ {
		res := s.OffsetCommit(Turn{Ticket: 1, Version: 9}, req)
		s.Apply(at, res.Records[0])
		s.Committed(at + 1)
	}
}
