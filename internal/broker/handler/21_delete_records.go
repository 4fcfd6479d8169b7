package handler

import (
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// deleteRecords serves DeleteRecords 0 to 2. It waits in the connection's goroutine until every live replica has deleted.
func (d *ReplicaDesk) deleteRecords(req *server.Request) {
	in := api.NewDeleteRecordsRequest()
	if !req.Decode(in) {
		return
	}
	out := api.DeleteRecordsResponse{Topics: make([]api.DeleteRecordsResponseTopic, 0, len(in.Topics))}
	var targets []replica.DeleteTarget
	for _, topic := range in.Topics {
		for _, p := range topic.Partitions {
			targets = append(targets, replica.DeleteTarget{TopicPartition: id.TopicPartition{Topic: topic.Name, Partition: p.PartitionIndex},
				Offset: id.Offset(p.Offset)})
		}
	}
	results := d.replicas.DeleteRecords(req.Context(), targets, time.Duration(in.TimeoutMs)*time.Millisecond)
	k := 0
	for _, topic := range in.Topics {
		rt := api.DeleteRecordsResponseTopic{Name: topic.Name, Partitions: make([]api.DeleteRecordsResponseTopicPartition, 0, len(topic.Partitions))}
		for _, p := range topic.Partitions {
			rt.Partitions = append(rt.Partitions, api.DeleteRecordsResponseTopicPartition{PartitionIndex: p.PartitionIndex,
				LowWatermark: int64(results[k].LowWatermark), ErrorCode: d.replicaCode(results[k].Err, "delete records", topic.Name, p.PartitionIndex)})
			k++
		}
		out.Topics = append(out.Topics, rt)
	}
	req.Answer(&out)
}
