package handler

import (
	"errors"
	"strconv"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// adminClientID is the client id that may write to internal topics, as in Kafka.
const adminClientID = "__admin_client"

// produceTask is one produce request on its way. Tasks are reused; everything in one that aliases the frame is gone before the
// request is answered.
type produceTask struct {
	desk    *ReplicaDesk
	req     *server.Request
	in      api.ProduceRequest
	out     api.ProduceResponse
	app     replica.AppendRequest
	results []replica.AppendResult
	places  []producePlace // of each appended partition in the answer
	named   map[producedPartition]struct{}
	spoilt  []spoiltEntry // usually none
	done    func([]replica.AppendResult)
}

type producePlace struct{ topic, partition int }

// producedPartition is how a request names a partition: by the name of its topic or, from version 13 on, by its id.
type producedPartition struct {
	topic     string
	topicID   id.UUID
	partition int32
}

// spoiltEntry is an entry that is not appended, of a partition that the request names again with one that is. Kafka tells of the
// first and does the second.
type spoiltEntry struct {
	producePlace
	code    wire.ErrorCode
	message string
}

// produce serves Produce 3 to 13: authorize, check what can be told without the log, append, answer when the log says so. Batches
// are handed down as they lie in the frame.
func (d *ReplicaDesk) produce(req *server.Request) {
	t, _ := d.produces.Get().(*produceTask)
	if t == nil {
		t = &produceTask{}
		t.done = t.appended
	}
	t.desk, t.req = d, req
	if !req.Decode(&t.in) {
		t.free()
		return
	}
	transactional := hasTransactionalBatch(&t.in)
	if transactional && t.in.TransactionalID == nil {
		t.refuse(wire.ErrTransactionalIDAuthorizationFailed, "")
		return
	}
	if t.repeats() {
		t.merge(req.Version())
	}
	t.shape()
	t.app.Acks = t.in.Acks
	t.app.Timeout = time.Duration(t.in.TimeoutMs) * time.Millisecond
	t.app.InternalAllowed = req.ClientID() == adminClientID
	version := req.Version()
	for i := range t.in.TopicData {
		t.sort(i, version)
	}
	if transactional {
		t.enter()
		return
	}
	t.append()
}

func (t *produceTask) append() {
	if len(t.app.Partitions) == 0 {
		t.answer()
		return
	}
	t.desk.replicas.Append(&t.app, t.results, t.done)
}

// repeats reports whether a partition is named more than once.
func (t *produceTask) repeats() bool {
	topics := t.in.TopicData
	if len(topics) == 0 || len(topics) == 1 && len(topics[0].PartitionData) < 2 {
		return false
	}
	if t.named == nil {
		t.named = map[producedPartition]struct{}{}
	}
	n := 0
	for i := range topics {
		for j := range topics[i].PartitionData {
			t.named[producedPartition{topics[i].Name, topics[i].TopicID, topics[i].PartitionData[j].Index}] = struct{}{}
			n++
		}
	}
	repeated := len(t.named) < n
	if clear(t.named); n > maxKept {
		t.named = nil
	}
	return repeated
}

// merge leaves one entry of each partition, as Kafka does by collecting them in a map: the last that can be appended or, if none
// can, the last. An entry that cannot still is what the partition's answer tells of.
func (t *produceTask) merge(version int16) {
	topicOf := map[producedPartition]int{}
	placeOf := map[producedPartition]producePlace{}
	good := map[producedPartition]bool{}
	var out []api.ProduceRequestTopicData
	for i := range t.in.TopicData {
		topic := &t.in.TopicData[i]
		key := producedPartition{topic: topic.Name, topicID: topic.TopicID}
		at, ok := topicOf[key]
		if !ok {
			at = len(out)
			topicOf[key] = at
			out = append(out, api.ProduceRequestTopicData{Name: topic.Name, TopicID: topic.TopicID})
		}
		parts := &out[at].PartitionData
		for _, p := range topic.PartitionData {
			key.partition = p.Index
			code, message := checkProduced(p.Records.Bytes, version)
			place, again := placeOf[key]
			switch {
			case !again:
				place = producePlace{at, len(*parts)}
				placeOf[key] = place
				*parts = append(*parts, p)
			case code == wire.ErrNone || !good[key]:
				(*parts)[place.partition] = p
			}
			if code == wire.ErrNone {
				good[key] = true
			} else {
				t.spoilt = append(t.spoilt, spoiltEntry{place, code, message})
			}
		}
	}
	t.in.TopicData = out
}

// shape makes the answer's skeleton: the request's topics and partitions in the request's order.
func (t *produceTask) shape() {
	topics := t.in.TopicData
	t.out.Responses = grow(t.out.Responses, len(topics))
	for i := range topics {
		r := &t.out.Responses[i]
		parts := grow(r.PartitionResponses, len(topics[i].PartitionData))
		*r = api.ProduceResponseResponse{Name: topics[i].Name, TopicID: topics[i].TopicID, PartitionResponses: parts}
		for j := range parts {
			parts[j] = api.NewProduceResponseResponsePartitionResponse()
			parts[j].Index = topics[i].PartitionData[j].Index
			parts[j].BaseOffset, parts[j].LogAppendTimeMs, parts[j].LogStartOffset = -1, -1, -1
		}
	}
}

// sort puts the partitions of topic i into the append, or their error into the answer.
func (t *produceTask) sort(i int, version int16) {
	topic, out := &t.in.TopicData[i], &t.out.Responses[i]
	name := topic.Name
	if version >= 13 {
		if name = t.desk.topicName(topic.TopicID); name == "" {
			for j := range out.PartitionResponses {
				out.PartitionResponses[j].ErrorCode = wire.ErrUnknownTopicID
			}
			return
		}
	}
	for j := range topic.PartitionData {
		part := &topic.PartitionData[j]
		if !t.desk.replicas.Exists(name, part.Index) {
			out.PartitionResponses[j].ErrorCode = wire.ErrUnknownTopicOrPartition
			continue
		}
		if code, message := checkProduced(part.Records.Bytes, version); code != wire.ErrNone {
			out.PartitionResponses[j].ErrorCode = code
			out.PartitionResponses[j].ErrorMessage = textOrNull(message)
			continue
		}
		t.places = append(t.places, producePlace{i, j})
		t.app.Partitions = append(t.app.Partitions, replica.AppendPartition{Topic: name, TopicID: topic.TopicID, Partition: part.Index,
			Batches: part.Records.Bytes})
	}
}

// checkProduced applies the rules of a request version to a partition's records: exactly one batch, of format 2, zstd from 7 on.
// Only bytes that cannot be a batch at all are explained in words, as in Kafka.
func checkProduced(b []byte, version int16) (wire.ErrorCode, string) {
	if b == nil {
		return wire.ErrUnknownServerError, "" // null records: Kafka fails over them in this way
	}
	batch, rest, err := record.Next(b)
	if err != nil {
		return badBatch(err)
	}
	if version < 7 && batch.Codec() == record.Zstd {
		return wire.ErrUnsupportedCompressionType, ""
	}
	if len(rest) == 0 {
		return wire.ErrNone, ""
	}
	size, err := record.Peek(rest)
	switch {
	case err == nil && size <= len(rest):
		return wire.ErrInvalidRecord, ""
	case err == nil || errors.Is(err, record.ErrIncomplete):
		return wire.ErrNone, "" // not a whole batch: the log cuts it off
	}
	return badBatch(err)
}

func badBatch(err error) (wire.ErrorCode, string) {
	var corrupt *record.CorruptError
	if errors.As(err, &corrupt) {
		return wire.ErrCorruptMessage, corrupt.Reason
	}
	return wire.ErrInvalidRecord, ""
}

// textOrNull returns a pointer to a copy of text, nil for none.
func textOrNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func hasTransactionalBatch(in *api.ProduceRequest) bool {
	for i := range in.TopicData {
		for j := range in.TopicData[i].PartitionData {
			if b, _, err := record.Next(in.TopicData[i].PartitionData[j].Records.Bytes); err == nil && b.IsTransactional() {
				return true
			}
		}
	}
	return false
}

// refuse answers every partition with one code, and why ("" for nothing but the code).
func (t *produceTask) refuse(code wire.ErrorCode, why string) {
	t.shape()
	for i := range t.out.Responses {
		for j := range t.out.Responses[i].PartitionResponses {
			one := &t.out.Responses[i].PartitionResponses[j]
			one.ErrorCode, one.ErrorMessage = code, textOrNull(why)
		}
	}
	t.answer()
}

// appended takes in the outcome of the append and answers.
func (t *produceTask) appended(results []replica.AppendResult) {
	defer t.req.Rescue() // it may run in a goroutine of the floor
	t.results = results
	for k := range results {
		place := t.places[k]
		topic := &t.app.Partitions[k]
		out := &t.out.Responses[place.topic].PartitionResponses[place.partition]
		r := &results[k]
		out.BaseOffset, out.LogAppendTimeMs, out.LogStartOffset = int64(r.BaseOffset), r.LogAppendTime, int64(r.LogStartOffset)
		if r.Err == nil {
			continue
		}
		out.ErrorCode = t.desk.replicaCode(r.Err, "produce", topic.Topic, topic.Partition)
		t.explain(out, r)
		if out.ErrorCode == wire.ErrNotLeaderOrFollower && t.req.Version() >= 10 {
			t.hint(out, topic)
		}
	}
	t.spoil()
	t.answer()
}

// spoil tells of the entries that were left out.
func (t *produceTask) spoil() {
	for _, e := range t.spoilt {
		out := &t.out.Responses[e.topic].PartitionResponses[e.partition]
		if out.ErrorCode == wire.ErrUnknownTopicOrPartition || out.ErrorCode == wire.ErrUnknownTopicID {
			continue // nothing else was looked at
		}
		refused := api.NewProduceResponseResponsePartitionResponse()
		refused.Index, refused.ErrorCode, refused.ErrorMessage = out.Index, e.code, textOrNull(e.message)
		refused.BaseOffset, refused.LogAppendTimeMs, refused.LogStartOffset = -1, -1, -1
		*out = refused
	}
}

// explain adds what is wrong with single records (KIP-467).
func (t *produceTask) explain(out *api.ProduceResponseResponsePartitionResponse, r *replica.AppendResult) {
	if len(r.RecordErrors) == 0 {
		return
	}
	for _, e := range r.RecordErrors {
		re := api.ProduceResponseResponsePartitionResponseRecordError{BatchIndex: e.Index}
		if e.Message != "" {
			re.BatchIndexErrorMessage = &e.Message
		}
		out.RecordErrors = append(out.RecordErrors, re)
	}
	var invalid *record.Error
	if errors.As(r.Err, &invalid) {
		out.ErrorMessage = &invalid.Message
	}
}

// hint names the leader to ask instead.
func (t *produceTask) hint(out *api.ProduceResponseResponsePartitionResponse, topic *replica.AppendPartition) {
	h := t.desk.currentLeader(topic.Topic, topic.Partition, t.req.Conn.Listener)
	out.CurrentLeader.LeaderID, out.CurrentLeader.LeaderEpoch = int32(h.leader), int32(h.epoch)
	if h.broker == nil {
		return
	}
	for i := range t.out.NodeEndpoints {
		if t.out.NodeEndpoints[i].NodeID == int32(h.leader) {
			return
		}
	}
	t.out.NodeEndpoints = append(t.out.NodeEndpoints, api.ProduceResponseNodeEndpoint{NodeID: int32(h.leader), Host: h.at.Host,
		Port: int32(h.at.Port), Rack: h.broker.Rack})
}

// answer sends the answer. With acks=0 there is none, and the only way to tell of an error is to close the connection.
func (t *produceTask) answer() {
	if t.in.Acks != 0 {
		t.req.Answer(&t.out)
		t.free()
		return
	}
	if why := t.firstError(); why != "" {
		t.req.Close("error in produce with acks=0: " + why)
	} else {
		t.req.AnswerNothing()
	}
	t.free()
}

func (t *produceTask) firstError() string {
	for i := range t.out.Responses {
		for j := range t.out.Responses[i].PartitionResponses {
			if p := &t.out.Responses[i].PartitionResponses[j]; p.ErrorCode != wire.ErrNone {
				return t.out.Responses[i].Name + "-" + strconv.Itoa(int(p.Index)) + ": " + p.ErrorCode.Name()
			}
		}
	}
	return ""
}

// maxKept bounds what a reused task keeps, so that one huge request does not stay for ever.
const maxKept = 256

// free returns the task for reuse.
func (t *produceTask) free() {
	if cap(t.results) > maxKept || cap(t.out.Responses) > maxKept || cap(t.app.Partitions) > maxKept {
		return
	}
	clear(t.app.Partitions)
	clear(t.results)
	t.in = api.ProduceRequest{}
	t.app = replica.AppendRequest{Partitions: t.app.Partitions[:0]}
	t.results, t.places, t.spoilt = t.results[:0], t.places[:0], nil
	t.out = api.ProduceResponse{Responses: t.out.Responses[:0]}
	desk := t.desk
	t.desk, t.req = nil, nil
	desk.produces.Put(t)
}

// grow returns s with length n; entries within its capacity keep what they hold, so that inner slices can be reused.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		old := s[:cap(s)]
		s = make([]T, n)
		copy(s, old)
	}
	return s[:n]
}
