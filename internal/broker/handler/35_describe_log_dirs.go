package handler

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// describeLogDirs serves DescribeLogDirs 1 to 5 (KIP-113, KIP-827, KIP-1066). Null topics mean all.
func (d *ReplicaDesk) describeLogDirs(req *server.Request) {
	in := api.NewDescribeLogDirsRequest()
	if !req.Decode(in) {
		return
	}
	var wanted map[id.TopicPartition]struct{}
	if in.Topics != nil {
		wanted = map[id.TopicPartition]struct{}{}
		for _, t := range in.Topics {
			for _, n := range t.Partitions {
				wanted[id.TopicPartition{Topic: t.Topic, Partition: n}] = struct{}{}
			}
		}
	}
	out := api.DescribeLogDirsResponse{}
	for _, dir := range d.logs.Dirs() {
		out.Results = append(out.Results, d.describeLogDir(&dir, wanted))
	}
	req.Answer(&out)
}

func (d *ReplicaDesk) describeLogDir(dir *log.DirInfo, wanted map[id.TopicPartition]struct{}) api.DescribeLogDirsResponseResult {
	r := api.DescribeLogDirsResponseResult{LogDir: dir.Path, TotalBytes: -1, UsableBytes: -1}
	if dir.Err != nil {
		r.ErrorCode = wire.ErrKafkaStorageError
		return r
	}
	r.TotalBytes, r.UsableBytes = dir.TotalBytes, dir.UsableBytes
	r.IsCordoned = dir.Cordoned && d.replicas.Image().Features.MetadataVersion.CordonedLogDirsSupported()
	at := map[string]int{}
	add := func(tp id.TopicPartition, p api.DescribeLogDirsResponseResultTopicPartition) {
		if _, ok := wanted[tp]; wanted != nil && !ok {
			return
		}
		i, ok := at[tp.Topic]
		if !ok {
			i, at[tp.Topic] = len(r.Topics), len(r.Topics)
			r.Topics = append(r.Topics, api.DescribeLogDirsResponseResultTopic{Name: tp.Topic})
		}
		p.PartitionIndex = tp.Partition
		r.Topics[i].Partitions = append(r.Topics[i].Partitions, p)
	}
	for _, l := range dir.Logs {
		add(l.TopicPartition(), api.DescribeLogDirsResponseResultTopicPartition{PartitionSize: l.SizeBytes(), OffsetLag: int64(max(l.HighWatermark()-l.EndOffset(), 0))})
	}
	for _, mv := range dir.Moves {
		add(mv.Log.TopicPartition(), api.DescribeLogDirsResponseResultTopicPartition{PartitionSize: mv.Copy.SizeBytes(),
			OffsetLag: int64(mv.Log.EndOffset() - mv.Copy.EndOffset()), IsFutureKey: true})
	}
	return r
}
