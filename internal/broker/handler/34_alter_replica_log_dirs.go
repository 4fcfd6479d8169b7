package handler

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// alterReplicaLogDirs serves AlterReplicaLogDirs 1 and 2 (KIP-113): replicas begin to move to other log directories of this broker.
// A partition that is named for two directories goes to the last.
func (d *ReplicaDesk) alterReplicaLogDirs(req *server.Request) {
	in := api.NewAlterReplicaLogDirsRequest()
	if !req.Decode(in) {
		return
	}
	out := api.AlterReplicaLogDirsResponse{}
	at := map[string]int{}
	said := map[id.TopicPartition]int{}
	for _, dir := range in.Dirs {
		for _, t := range dir.Topics {
			if _, ok := at[t.Name]; !ok {
				at[t.Name] = len(out.Results)
				out.Results = append(out.Results, api.AlterReplicaLogDirsResponseResult{TopicName: t.Name})
			}
			r := &out.Results[at[t.Name]]
			for _, n := range t.Partitions {
				tp := id.TopicPartition{Topic: t.Name, Partition: n}
				i, again := said[tp]
				if !again {
					i = len(r.Partitions)
					said[tp] = i
					r.Partitions = append(r.Partitions, api.AlterReplicaLogDirsResponseResultPartition{PartitionIndex: n})
				}
				r.Partitions[i].ErrorCode = d.replicaCode(d.replicas.AlterLogDir(tp, dir.Path), "move to another log directory", t.Name, n)
			}
		}
	}
	req.Answer(&out)
}
