package controller

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// newUUID draws an id that Kafka would draw.
func newUUID(r Rand) id.UUID {
	for {
		var b [16]byte
		for i := 0; i < 16; i += 8 {
			w := r.Uint64()
			for j := range 8 {
				b[i+j] = byte(w >> (8 * j))
			}
		}
		if u, ok := id.NewUUID(b); ok && !image.ReservedDir(u) {
			return u
		}
	}
}

func topicError(name string, e *Error) api.CreateTopicsResponseTopic {
	t := api.NewCreateTopicsResponseTopic()
	t.Name, t.ErrorCode, t.ErrorMessage = name, e.Code, e.Message()
	return t
}

// createTopics answers each topic by itself; only a request that asks for too much is refused whole.
func (c *Controller) createTopics(env Env, r *api.CreateTopicsRequest) Decision {
	count := map[string]int{}
	for _, t := range r.Topics {
		count[t.Name]++
	}
	answer := api.NewCreateTopicsResponse()
	var tail []api.CreateTopicsResponseTopic
	wanted := make([]*api.CreateTopicsRequestTopic, 0, len(r.Topics))
	for i := range r.Topics {
		t := &r.Topics[i]
		switch {
		case count[t.Name] > 1:
			tail = append(tail, topicError(t.Name, errorf(wire.ErrInvalidRequest, "Duplicate topic name.")))
			count[t.Name] = -1 // one answer for all of them
		case count[t.Name] < 0:
		case t.Name == ClusterMetadataTopic:
			tail = append(tail, topicError(t.Name, errorf(wire.ErrInvalidRequest, "Creation of internal topic "+ClusterMetadataTopic+" is prohibited.")))
		default:
			wanted = append(wanted, t)
		}
	}
	if !c.partitionsWithinBound(wanted) {
		return refuse(wire.ErrPolicyViolation, "Excessively large number of partitions per request.")
	}
	var records []image.Record
	for _, t := range wanted {
		result, recs, e := c.createTopic(env, t)
		if e != nil {
			result, recs = topicError(t.Name, e), nil
		}
		answer.Topics = append(answer.Topics, result)
		if records = append(records, recs...); len(records) > MaxRecordsPerOp {
			return Decision{Err: errTooManyRecords()}
		}
	}
	answer.Topics = append(answer.Topics, tail...)
	if r.ValidateOnly {
		records = nil
	}
	return Decision{Records: records, Atomic: true, Answer: answer}
}

func (c *Controller) partitionsWithinBound(topics []*api.CreateTopicsRequestTopic) bool {
	total := int64(0)
	for _, t := range topics {
		switch {
		case len(t.Assignments) > 0:
			total += int64(len(t.Assignments))
		case t.NumPartitions == -1:
			total += int64(c.cfg.DefaultPartitions)
		case t.NumPartitions > 0:
			total += int64(t.NumPartitions)
		}
	}
	return total <= maxPartitionsPerRequest
}

func (c *Controller) createTopic(env Env, t *api.CreateTopicsRequestTopic) (result api.CreateTopicsResponseTopic, records []image.Record, e *Error) {
	if e := c.checkNewName(t.Name); e != nil {
		return result, nil, e
	}
	own, configRecords, e := c.creationConfigs(t)
	if e != nil {
		return result, nil, e
	}
	parts, e := c.newTopicPartitions(env, t)
	if e != nil {
		return result, nil, e
	}
	topic := newUUID(env.Rand)
	result = api.NewCreateTopicsResponseTopic()
	result.Name, result.TopicID, result.ErrorMessage = t.Name, topic, nil
	result.NumPartitions, result.ReplicationFactor = int32(len(parts)), int16(len(parts[0].Replicas))
	result.Configs = []api.CreateTopicsResponseTopicConfig{}
	for _, cf := range c.effectiveTopic(own) {
		if cf.Sensitive {
			cf.Value = nil
		}
		result.Configs = append(result.Configs, api.CreateTopicsResponseTopicConfig{
			Name: cf.Name, Value: cf.Value, ReadOnly: cf.ReadOnly, ConfigSource: cf.Source, IsSensitive: cf.Sensitive})
	}
	records = append(records, image.Record{Message: &logrec.TopicRecord{Name: t.Name, TopicID: topic}})
	records = append(records, configRecords...)
	for _, p := range parts {
		records = append(records, p.Record(topic, c.img.Features.MetadataVersion, c.img.Features.ElrEnabled()))
	}
	return result, records, nil
}

func (c *Controller) checkNewName(name string) *Error {
	var e *Error
	if why := ValidateTopicName(name); why != "" {
		e = errorf(wire.ErrInvalidTopicException, why)
	}
	if key, ok := collisionKey(name); ok {
		if names, _ := c.collisions.Get(key); len(names) > 0 {
			e = errorf(wire.ErrInvalidTopicException, "Topic '"+name+"' collides with existing topic: "+names[0])
		}
	}
	if c.img.Topics.ByName(name) != nil {
		e = errorf(wire.ErrTopicAlreadyExists, "Topic '"+name+"' already exists.")
	}
	return e
}

// creationConfigs checks the configs of a new topic and returns them with their records.
func (c *Controller) creationConfigs(t *api.CreateTopicsRequestTopic) (map[string]string, []image.Record, *Error) {
	own := make(map[string]string, len(t.Configs))
	var null []string
	for _, cf := range t.Configs {
		if cf.Value == nil {
			null = append(null, cf.Name)
		} else {
			own[cf.Name] = *cf.Value
		}
	}
	if len(null) > 0 {
		return nil, nil, errorf(wire.ErrInvalidConfig, "Null value not supported for topic configs: "+strings.Join(null, ","))
	}
	if len(own) == 0 {
		return own, nil, nil
	}
	ops := make(map[string]configOp, len(own))
	for name, v := range own {
		ops[name] = configOp{op: opSet, value: &v}
	}
	records, e := c.alterResource(image.ConfigResource{Type: image.ResourceTopic, Name: t.Name}, ops, true, false)
	if e != nil {
		return nil, nil, e
	}
	return own, append(records, c.clearElrRecords(records)...), nil
}

func (c *Controller) newTopicPartitions(env Env, t *api.CreateTopicsRequestTopic) ([]*image.Partition, *Error) {
	switch {
	case len(t.Assignments) > 0:
		return c.assignedPartitions(t)
	case t.ReplicationFactor < -1 || t.ReplicationFactor == 0:
		return nil, errorf(wire.ErrInvalidReplicationFactor, "Replication factor must be larger than 0, or -1 to use the default value.")
	case t.NumPartitions < -1 || t.NumPartitions == 0:
		return nil, errorf(wire.ErrInvalidPartitions, "Number of partitions was set to an invalid non-positive value.")
	}
	n, rf := t.NumPartitions, t.ReplicationFactor
	if n == -1 {
		n = c.cfg.DefaultPartitions
	}
	if rf == -1 {
		rf = c.cfg.DefaultReplicationFactor
	}
	unable := fmt.Sprintf("Unable to replicate the partition %d time(s): ", rf)
	placed, e := c.newPlacer(env.Rand).place(n, rf)
	if e != nil {
		return nil, errorf(e.Code, unable+e.Text)
	}
	parts := make([]*image.Partition, n)
	for i, replicas := range placed {
		p, ok := c.newPartition(int32(i), replicas)
		if !ok {
			return nil, errorf(wire.ErrInvalidReplicationFactor, unable+"All brokers are currently fenced or in controlled shutdown.")
		}
		parts[i] = p
	}
	return parts, nil
}

func (c *Controller) assignedPartitions(t *api.CreateTopicsRequestTopic) ([]*image.Partition, *Error) {
	const manual = "A manual partition assignment was specified, but "
	if t.ReplicationFactor != -1 {
		return nil, errorf(wire.ErrInvalidRequest, manual+"replication factor was not set to -1.")
	}
	if t.NumPartitions != -1 {
		return nil, errorf(wire.ErrInvalidRequest, manual+"numPartitions was not set to -1.")
	}
	seen := map[int32]bool{}
	parts := make([]*image.Partition, 0, len(t.Assignments))
	rf := 0
	for _, a := range t.Assignments {
		if seen[a.PartitionIndex] {
			return nil, errorf(wire.ErrInvalidReplicaAssignment, fmt.Sprintf("Found multiple manual partition assignments for partition %d", a.PartitionIndex))
		}
		seen[a.PartitionIndex] = true
		if e := c.checkAssignment(a.BrokerIDs, rf); e != nil {
			return nil, e
		}
		rf = len(a.BrokerIDs)
		p, ok := c.newPartition(a.PartitionIndex, slices.Clone(a.BrokerIDs))
		if !ok {
			return nil, errorf(wire.ErrInvalidReplicaAssignment, fmt.Sprintf("All brokers specified in the manual partition assignment for "+
				"partition %d are fenced or in controlled shutdown.", a.PartitionIndex))
		}
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b *image.Partition) int { return int(int64(a.ID) - int64(b.ID)) })
	if parts[0].ID != 0 || int(parts[len(parts)-1].ID) != len(parts)-1 {
		return nil, errorf(wire.ErrInvalidReplicaAssignment, "partitions should be a consecutive 0-based integer sequence")
	}
	return parts, nil
}

// deleteTopics resolves names and ids, each of which may be given once and in one way.
func (c *Controller) deleteTopics(env Env, r *api.DeleteTopicsRequest) Decision {
	if c.cfg.DeleteTopicDisabled {
		if env.APIVersion < 3 {
			return refuse(wire.ErrInvalidRequest, "This version does not support topic deletion.")
		}
		return Decision{Err: &Error{Code: wire.ErrTopicDeletionDisabled}}
	}
	answer := api.NewDeleteTopicsResponse()
	add := func(name *string, topic id.UUID, e *Error) {
		answer.Responses = append(answer.Responses, api.DeleteTopicsResponseResponse{
			Name: name, TopicID: topic, ErrorCode: e.code(), ErrorMessage: e.Message()})
	}
	names, ids := r.TopicNames, []id.UUID(nil)
	for _, t := range r.Topics {
		switch {
		case t.Name == nil && t.TopicID.IsZero():
			add(nil, id.ZeroUUID, errorf(wire.ErrInvalidRequest, "Neither topic name nor id were specified."))
		case t.Name == nil:
			ids = append(ids, t.TopicID)
		case t.TopicID.IsZero():
			names = append(slices.Clip(names), *t.Name)
		default:
			add(t.Name, t.TopicID, errorf(wire.ErrInvalidRequest, "You may not specify both topic name and topic id."))
		}
	}
	uniqueNames, duplicateNames := split(names)
	uniqueIDs, duplicateIDs := split(ids)
	for _, n := range duplicateNames {
		add(&n, id.ZeroUUID, errorf(wire.ErrInvalidRequest, "Duplicate topic name."))
	}
	for _, u := range duplicateIDs {
		add(nil, u, errorf(wire.ErrInvalidRequest, "Duplicate topic id."))
	}
	taken := make(map[id.UUID]bool, len(ids)) // given by id, once or more often
	for _, u := range duplicateIDs {
		taken[u] = true
	}
	var doomed []*image.Topic
	spared := map[*image.Topic]bool{}
	for _, u := range uniqueIDs {
		if t := c.img.Topics.ByID(u); t != nil {
			doomed, taken[u] = append(doomed, t), true
		} else {
			add(nil, u, plain(wire.ErrUnknownTopicID))
		}
	}
	for _, n := range uniqueNames {
		t := c.img.Topics.ByName(n)
		switch {
		case t == nil:
			add(&n, id.ZeroUUID, plain(wire.ErrUnknownTopicOrPartition))
		case taken[t.ID]:
			spared[t] = true
			add(&n, t.ID, errorf(wire.ErrInvalidRequest, "The provided topic name maps to an ID that was already supplied."))
		default:
			doomed = append(doomed, t)
		}
	}
	var records []image.Record
	for _, t := range doomed {
		if spared[t] {
			continue
		}
		records = append(records, image.Record{Message: &logrec.RemoveTopicRecord{TopicID: t.ID}})
		add(&t.Name, t.ID, nil)
	}
	return Decision{Records: records, Atomic: true, Answer: answer}
}

// split returns the members of s that occur once, and those that occur more often, each in order of appearance.
func split[T comparable](s []T) (unique, duplicate []T) {
	count := make(map[T]int, len(s))
	for _, v := range s {
		count[v]++
	}
	for _, v := range s {
		switch n := count[v]; {
		case n == 1:
			unique = append(unique, v)
		case n > 1:
			duplicate = append(duplicate, v)
			count[v] = 0
		}
	}
	return unique, duplicate
}

func (c *Controller) createPartitions(env Env, r *api.CreatePartitionsRequest) Decision {
	names := make([]string, len(r.Topics))
	for i, t := range r.Topics {
		names[i] = t.Name
	}
	unique, duplicate := split(names)
	answer := api.NewCreatePartitionsResponse()
	for _, n := range duplicate {
		e := errorf(wire.ErrInvalidRequest, "Duplicate topic name.")
		answer.Results = append(answer.Results, api.CreatePartitionsResponseResult{Name: n, ErrorCode: e.Code, ErrorMessage: e.Message()})
	}
	once := make(map[string]bool, len(unique))
	for _, n := range unique {
		once[n] = true
	}
	more := int64(0)
	for _, t := range r.Topics {
		if topic := c.img.Topics.ByName(t.Name); topic != nil && once[t.Name] {
			more += max(0, int64(t.Count)-int64(len(topic.Partitions)))
		}
	}
	if more > maxPartitionsPerRequest {
		return refuse(wire.ErrPolicyViolation, "Excessively large number of additional partitions per request.")
	}
	var records []image.Record
	for i := range r.Topics {
		t := &r.Topics[i]
		if !once[t.Name] {
			continue
		}
		recs, e := c.growTopic(env, t)
		if e == nil {
			records = append(records, recs...)
		}
		answer.Results = append(answer.Results, api.CreatePartitionsResponseResult{Name: t.Name, ErrorCode: e.code(), ErrorMessage: e.Message()})
	}
	if r.ValidateOnly {
		records = nil
	}
	return Decision{Records: records, Atomic: true, Answer: answer}
}

func (c *Controller) growTopic(env Env, t *api.CreatePartitionsRequestTopic) ([]image.Record, *Error) {
	topic := c.img.Topics.ByName(t.Name)
	if topic == nil {
		return nil, &Error{Code: wire.ErrUnknownTopicOrPartition}
	}
	have := int32(len(topic.Partitions))
	switch {
	case t.Count == have:
		return nil, errorf(wire.ErrInvalidPartitions, fmt.Sprintf("Topic already has %d partition(s).", have))
	case t.Count < have:
		return nil, errorf(wire.ErrInvalidPartitions, fmt.Sprintf("The topic %s currently has %d partition(s); %d would not be an increase.", t.Name, have, t.Count))
	}
	more := t.Count - have
	if t.Assignments != nil && len(t.Assignments) != int(more) {
		return nil, errorf(wire.ErrInvalidReplicaAssignment, fmt.Sprintf("Attempted to add %d additional partition(s), but only %d assignment(s) were specified.",
			more, len(t.Assignments)))
	}
	if have == 0 {
		return nil, &Error{Code: wire.ErrUnknownServerError} // a topic without partitions: the log is broken
	}
	rf := len(topic.Partitions[0].Replicas)
	var placed [][]int32
	if t.Assignments != nil {
		for _, a := range t.Assignments {
			if e := c.checkAssignment(a.BrokerIDs, rf); e != nil {
				return nil, e
			}
			placed = append(placed, slices.Clone(a.BrokerIDs))
		}
	} else {
		var e *Error
		if placed, e = c.newPlacer(env.Rand).place(more, int16(rf)); e != nil {
			return nil, e
		}
	}
	records := make([]image.Record, 0, more)
	for i, replicas := range placed {
		p, ok := c.newPartition(have+int32(i), replicas)
		if !ok && t.Assignments != nil {
			return nil, errorf(wire.ErrInvalidReplicaAssignment, fmt.Sprintf("All brokers specified in the manual partition assignment for "+
				"partition %d are fenced or in controlled shutdown.", have+int32(i)))
		}
		if !ok {
			return nil, errorf(wire.ErrInvalidReplicationFactor, fmt.Sprintf("Unable to replicate the partition %d time(s): "+
				"All brokers are currently fenced or in controlled shutdown.", rf))
		}
		records = append(records, p.Record(topic.ID, c.img.Features.MetadataVersion, c.img.Features.ElrEnabled()))
	}
	return records, nil
}
