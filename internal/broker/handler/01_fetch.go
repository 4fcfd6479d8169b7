package handler

import (
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/fetchsession"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// futureReplica is the replica id of a broker that moves a replica between its own directories.
const futureReplica = -3

// fetchTask is one fetch request on its way. Tasks are reused.
type fetchTask struct {
	in        api.FetchRequest
	out       api.FetchResponse
	asked     []fetchsession.Partition // of the request
	forgotten []fetchsession.Partition
	parts     []fetchsession.Partition // to be read, of the session
	fetch     replica.FetchRequest
	places    []int // of each read partition in parts
	results   []replica.FetchResult
	news      []fetchsession.News
	answers   []api.FetchResponseResponsePartition // in the order of news
}

// fetch serves Fetch 4 to 18. It waits in the connection's own goroutine: a fetch is a barrier there anyway.
func (d *ReplicaDesk) fetch(req *server.Request) {
	t, _ := d.fetches.Get().(*fetchTask)
	if t == nil {
		t = &fetchTask{}
	}
	defer t.free(d)
	if !req.Decode(&t.in) {
		return
	}
	version := req.Version()
	replicaID := t.in.ReplicaID
	if replicaID == -1 {
		replicaID = t.in.ReplicaState.ReplicaID
	}
	follower := replicaID >= 0
	req.FromFollower = follower
	t.read(d, version)
	session, code := d.sessions.Open(fetchsession.Request{SessionID: t.in.SessionID, Epoch: t.in.SessionEpoch, UsesTopicIDs: version >= 13,
		FromFollower: follower, Partitions: t.asked, Forgotten: t.forgotten})
	if code != wire.ErrNone {
		t.out.ErrorCode = code
		req.Answer(&t.out)
		return
	}
	t.parts = session.Partitions(t.parts[:0])
	erroneous := t.split(d, version)
	if len(t.fetch.Partitions) > 0 {
		if !knownIsolation(t.in.IsolationLevel) {
			t.fail(wire.ErrUnknownServerError, version)
			req.Answer(&t.out)
			return
		}
		t.bounds(d.fetchMaxBytes())
		t.fetch.ReplicaID, t.fetch.ReplicaEpoch = id.NoBroker, id.NoBrokerEpoch
		if follower {
			t.fetch.ReplicaID, t.fetch.ReplicaEpoch = id.BrokerID(replicaID), id.BrokerEpoch(t.in.ReplicaState.ReplicaEpoch)
		}
		t.fetch.Isolation = isolationOf(replicaID, t.in.IsolationLevel)
		t.fetch.AllowFollower = !follower && (version >= 11 || replicaID == futureReplica)
		t.results = d.replicas.Fetch(req.Context(), &t.fetch, t.results)
	}
	for k := range t.results {
		t.take(d, req, k)
	}
	for _, i := range erroneous {
		t.refuse(i, version)
	}
	t.out.SessionID, t.out.ErrorCode = session.Finish(t.news)
	if t.out.ErrorCode == wire.ErrNone {
		t.collect()
		t.count(d, follower)
	} else {
		t.out.NodeEndpoints = nil
		t.release()
	}
	req.Answer(&t.out)
}

// read turns the request's partitions into the session's terms.
func (t *fetchTask) read(d *ReplicaDesk, version int16) {
	for i := range t.in.Topics {
		topic := &t.in.Topics[i]
		name := topic.Topic
		if version >= 13 {
			name = d.topicName(topic.TopicID)
		}
		for _, p := range topic.Partitions {
			t.asked = append(t.asked, fetchsession.Partition{Topic: name, TopicID: topic.TopicID, Partition: p.Partition,
				MaxBytes: p.PartitionMaxBytes, FetchOffset: id.Offset(p.FetchOffset), LogStartOffset: id.Offset(p.LogStartOffset),
				CurrentLeaderEpoch: id.LeaderEpoch(max(p.CurrentLeaderEpoch, -1)), LastFetchedEpoch: id.LeaderEpoch(max(p.LastFetchedEpoch, -1))})
		}
	}
	for _, topic := range t.in.ForgottenTopicsData {
		for _, n := range topic.Partitions {
			t.forgotten = append(t.forgotten, fetchsession.Partition{Topic: topic.Topic, TopicID: topic.TopicID, Partition: n})
		}
	}
}

// split makes the read out of the partitions that exist and returns the places of the others.
func (t *fetchTask) split(d *ReplicaDesk, version int16) (erroneous []int) {
	for i := range t.parts {
		p := &t.parts[i]
		if (p.Topic == "" && version >= 13) || !d.replicas.Exists(p.Topic, p.Partition) {
			erroneous = append(erroneous, i)
			continue
		}
		t.places = append(t.places, i)
		t.fetch.Partitions = append(t.fetch.Partitions, replica.FetchPartition{Topic: p.Topic, TopicID: p.TopicID, Partition: p.Partition,
			MaxBytes: p.MaxBytes, Offset: p.FetchOffset, LogStartOffset: p.LogStartOffset, CurrentLeaderEpoch: p.CurrentLeaderEpoch,
			LastFetchedEpoch: p.LastFetchedEpoch})
	}
	return erroneous
}

func (t *fetchTask) bounds(limit int) {
	t.fetch.MaxBytes = min(int(t.in.MaxBytes), limit)
	t.fetch.MinBytes = min(int(t.in.MinBytes), t.fetch.MaxBytes)
	t.fetch.MaxWait = time.Duration(t.in.MaxWaitMs) * time.Millisecond
}

// knownIsolation reports whether there is such an isolation level; Kafka fails over others.
func knownIsolation(level int8) bool { return level == 0 || level == 1 }

// fail answers the whole request with one code; clients before version 13 look for it at each partition.
func (t *fetchTask) fail(code wire.ErrorCode, version int16) {
	t.out.ErrorCode, t.out.SessionID = code, t.in.SessionID
	if version >= 13 {
		return
	}
	for _, topic := range t.in.Topics {
		r := api.FetchResponseResponse{Topic: topic.Topic}
		for _, p := range topic.Partitions {
			a := api.NewFetchResponseResponsePartition()
			a.PartitionIndex, a.ErrorCode, a.HighWatermark, a.Records = p.Partition, code, -1, noRecords()
			r.Partitions = append(r.Partitions, a)
		}
		t.out.Responses = append(t.out.Responses, r)
	}
}

func isolationOf(replicaID int32, level int8) log.Isolation {
	switch {
	case replicaID >= 0 || replicaID == futureReplica:
		return log.ReadLogEnd
	case level == 1:
		return log.ReadCommitted
	}
	return log.ReadHighWatermark
}

// take turns result k into an answer.
func (t *fetchTask) take(d *ReplicaDesk, req *server.Request, k int) {
	r, p := &t.results[k], &t.parts[t.places[k]]
	a := api.NewFetchResponseResponsePartition()
	a.PartitionIndex = p.Partition
	a.HighWatermark, a.LastStableOffset, a.LogStartOffset = int64(r.HighWatermark), int64(r.LastStableOffset), int64(r.LogStartOffset)
	a.AbortedTransactions = nil
	a.Records = noRecords()
	n := fetchsession.News{Partition: *p, HighWatermark: r.HighWatermark, LogStartOffset: r.LogStartOffset}
	switch {
	case r.Err != nil:
		a.ErrorCode = d.replicaCode(r.Err, "fetch", p.Topic, p.Partition)
		if a.ErrorCode == wire.ErrKafkaStorageError && req.Version() <= 5 {
			a.ErrorCode = wire.ErrNotLeaderOrFollower // clients of that age do not know the other
		}
		if req.Version() >= 16 && (a.ErrorCode == wire.ErrNotLeaderOrFollower || a.ErrorCode == wire.ErrFencedLeaderEpoch) {
			t.hint(d, &a, p, req.Conn.Listener)
		}
	case r.Diverging != nil:
		a.DivergingEpoch.Epoch, a.DivergingEpoch.EndOffset = int32(r.Diverging.Epoch), int64(r.Diverging.EndOffset)
		n.Urgent = true
	case r.Section != nil:
		a.Records = wire.Records{Section: r.Section}
		n.Bytes = r.Section.Size()
	}
	if r.Err == nil && t.fetch.Isolation == log.ReadCommitted {
		a.AbortedTransactions = make([]api.FetchResponseResponsePartitionAbortedTransaction, 0, len(r.AbortedTxns))
		for _, x := range r.AbortedTxns {
			a.AbortedTransactions = append(a.AbortedTransactions,
				api.FetchResponseResponsePartitionAbortedTransaction{ProducerID: int64(x.ProducerID), FirstOffset: int64(x.FirstOffset)})
		}
	}
	n.Error = a.ErrorCode
	t.news = append(t.news, n)
	t.answers = append(t.answers, a)
}

// noRecords returns the empty, not null, record set; an empty slice needs no memory.
func noRecords() wire.Records { return wire.Records{Bytes: []byte{}} }

// refuse answers the partition at place i, which does not exist.
func (t *fetchTask) refuse(i int, version int16) {
	p := &t.parts[i]
	a := api.NewFetchResponseResponsePartition()
	a.PartitionIndex, a.ErrorCode, a.HighWatermark = p.Partition, wire.ErrUnknownTopicOrPartition, -1
	if p.Topic == "" && version >= 13 {
		a.ErrorCode = wire.ErrUnknownTopicID
	}
	a.Records = noRecords()
	t.news = append(t.news, fetchsession.News{Partition: *p, HighWatermark: -1, LogStartOffset: -1, Error: a.ErrorCode})
	t.answers = append(t.answers, a)
}

func (t *fetchTask) hint(d *ReplicaDesk, a *api.FetchResponseResponsePartition, p *fetchsession.Partition, listener string) {
	h := d.currentLeader(p.Topic, p.Partition, listener)
	a.CurrentLeader.LeaderID, a.CurrentLeader.LeaderEpoch = int32(h.leader), int32(h.epoch)
	if h.broker == nil {
		return
	}
	for i := range t.out.NodeEndpoints {
		if t.out.NodeEndpoints[i].NodeID == int32(h.leader) {
			return
		}
	}
	t.out.NodeEndpoints = append(t.out.NodeEndpoints, api.FetchResponseNodeEndpoint{NodeID: int32(h.leader), Host: h.at.Host,
		Port: int32(h.at.Port), Rack: h.broker.Rack})
}

// collect puts the answers that are sent into the response, neighbours of one topic together.
func (t *fetchTask) collect() {
	used := 0
	for i := range t.answers {
		n := &t.news[i]
		if n.Omit {
			continue
		}
		if used == 0 || t.out.Responses[used-1].TopicID != n.Partition.TopicID || t.out.Responses[used-1].Topic != n.Partition.Topic {
			t.out.Responses = grow(t.out.Responses, used+1)
			r := &t.out.Responses[used]
			*r = api.FetchResponseResponse{Topic: n.Partition.Topic, TopicID: n.Partition.TopicID, Partitions: r.Partitions[:0]}
			used++
		}
		r := &t.out.Responses[used-1]
		r.Partitions = append(r.Partitions, t.answers[i])
	}
	t.out.Responses = t.out.Responses[:used]
}

func (t *fetchTask) count(d *ReplicaDesk, follower bool) {
	for i := range t.news {
		if n := &t.news[i]; n.Bytes > 0 {
			d.replicas.FetchSent(n.Partition.Topic, follower, n.Bytes)
		}
	}
}

// release lets go of sections that will not be sent.
func (t *fetchTask) release() {
	for i := range t.results {
		if s := t.results[i].Section; s != nil {
			s.Release()
		}
	}
	t.out.Responses = t.out.Responses[:0]
}

// free returns the task for reuse.
func (t *fetchTask) free(d *ReplicaDesk) {
	if cap(t.asked) > maxKept || cap(t.parts) > maxKept || cap(t.answers) > maxKept {
		return
	}
	clear(t.results[:cap(t.results)])
	clear(t.answers)
	for i := range t.out.Responses[:cap(t.out.Responses)] {
		r := &t.out.Responses[:cap(t.out.Responses)][i]
		clear(r.Partitions[:cap(r.Partitions)])
		r.Partitions = r.Partitions[:0]
	}
	t.in = api.FetchRequest{}
	t.out = api.FetchResponse{Responses: t.out.Responses[:0]}
	t.asked, t.forgotten, t.parts = t.asked[:0], t.forgotten[:0], t.parts[:0]
	t.fetch = replica.FetchRequest{Partitions: t.fetch.Partitions[:0]}
	t.places, t.results, t.news, t.answers = t.places[:0], t.results[:0], t.news[:0], t.answers[:0]
	d.fetches.Put(t)
}
