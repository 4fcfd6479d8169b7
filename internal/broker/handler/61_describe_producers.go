package handler

import (
	"fmt"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// describeProducers serves DescribeProducers 0 (KIP-664).
func (d *ReplicaDesk) describeProducers(req *server.Request) {
	in := api.NewDescribeProducersRequest()
	if !req.Decode(in) {
		return
	}
	out := api.DescribeProducersResponse{Topics: make([]api.DescribeProducersResponseTopic, 0, len(in.Topics))}
	for _, topic := range in.Topics {
		code, message := d.describableTopic(topic.Name)
		rt := api.DescribeProducersResponseTopic{Name: topic.Name}
		for _, n := range topic.PartitionIndexes {
			r := api.DescribeProducersResponseTopicPartition{PartitionIndex: n, ErrorCode: code}
			if code != wire.ErrNone {
				r.ErrorMessage = &message
			} else {
				d.describePartition(&r, id.TopicPartition{Topic: topic.Name, Partition: n})
			}
			rt.Partitions = append(rt.Partitions, r)
		}
		out.Topics = append(out.Topics, rt)
	}
	req.Answer(&out)
}

func (d *ReplicaDesk) describableTopic(name string) (wire.ErrorCode, string) {
	if why := badTopicName(name); why != "" {
		return wire.ErrInvalidTopicException, "Topic name is invalid: " + why
	}
	if d.replicas.Image().Topics.ByName(name) == nil {
		return wire.ErrUnknownTopicOrPartition, wire.ErrUnknownTopicOrPartition.Message()
	}
	return wire.ErrNone, ""
}

func (d *ReplicaDesk) describePartition(r *api.DescribeProducersResponseTopicPartition, tp id.TopicPartition) {
	producers, err := d.replicas.Producers(tp)
	if r.ErrorCode = d.replicaCode(err, "describe producers", tp.Topic, tp.Partition); r.ErrorCode != wire.ErrNone {
		return
	}
	for _, p := range producers {
		r.ActiveProducers = append(r.ActiveProducers, api.DescribeProducersResponseTopicPartitionActiveProducer{
			ProducerID: int64(p.ProducerID), ProducerEpoch: int32(p.ProducerEpoch), LastSequence: p.LastSequence, LastTimestamp: p.LastTimestamp,
			CoordinatorEpoch: p.CoordinatorEpoch, CurrentTxnStartOffset: int64(p.CurrentTxnStartOffset)})
	}
}

// maxTopicName is the length of the longest topic name.
const maxTopicName = 249

// badTopicName says what is wrong with a topic name, or nothing.
func badTopicName(name string) string {
	switch {
	case name == "":
		return "the empty string is not allowed"
	case name == "." || name == "..":
		return fmt.Sprintf("'%s' is not allowed", name)
	case len(name) > maxTopicName:
		return fmt.Sprintf("the length of '%s' is longer than the max allowed length %d", name, maxTopicName)
	case strings.IndexFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	}) >= 0:
		return fmt.Sprintf("'%s' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'", name)
	}
	return ""
}
