package handler

import (
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// addPartitionsToTxn serves AddPartitionsToTxn: up to version 3 from clients, for one transaction; from 4 on from brokers, for
// several, also only to verify (KIP-890).
func (d *TxnDesk) addPartitionsToTxn(req *server.Request) {
	in := api.NewAddPartitionsToTxnRequest()
	if !req.Decode(in) {
		return
	}
	transactions := in.Transactions
	if req.Version() < 4 {
		transactions = []api.AddPartitionsToTxnRequestTransaction{{TransactionalID: in.V3AndBelowTransactionalID, ProducerID: in.V3AndBelowProducerID,
			ProducerEpoch: in.V3AndBelowProducerEpoch, Topics: in.V3AndBelowTopics}}
	}
	results := make([]api.AddPartitionsToTxnResponseResultsByTransaction, len(transactions))
	var left atomic.Int32
	left.Store(int32(len(transactions)) + 1)
	done := func() {
		if left.Add(-1) > 0 {
			return
		}
		out := api.NewAddPartitionsToTxnResponse()
		if req.Version() < 4 {
			out.ResultsByTopicV3AndBelow = results[0].TopicResults
		} else {
			out.ResultsByTransaction = results
		}
		req.Answer(out)
	}
	for i := range transactions {
		t, result := &transactions[i], &results[i]
		result.TransactionalID = t.TransactionalID
		d.addToTxn(t, req.Version(), func(topics []api.AddPartitionsToTxnResponseTopicResult) {
			result.TopicResults = topics
			done()
		})
	}
	done()
}

// addToTxn adds or verifies the partitions of one transaction. A partition that does not exist, or that is none of the client's
// business, keeps all the others out.
func (d *TxnDesk) addToTxn(t *api.AddPartitionsToTxnRequestTransaction, version int16, done func([]api.AddPartitionsToTxnResponseTopicResult)) {
	img := d.d.Replicas.Image()
	var partitions []id.TopicPartition
	var codes []wire.ErrorCode
	refused := false
	for _, topic := range t.Topics {
		known := img.Topics.ByName(topic.Name)
		for _, p := range topic.Partitions {
			code := wire.ErrOperationNotAttempted
			switch {
			case version < 4 && isInternalTopic(topic.Name):
				code, refused = wire.ErrTopicAuthorizationFailed, true // clients have AddOffsetsToTxn for these
			case known == nil || known.Partition(p) == nil:
				code, refused = wire.ErrUnknownTopicOrPartition, true
			}
			partitions, codes = append(partitions, id.TopicPartition{Topic: topic.Name, Partition: p}), append(codes, code)
		}
	}
	all := func(code wire.ErrorCode) { done(sameResult(t.Topics, fenced(code, version, 2))) }
	if refused {
		done(ownResults(partitions, codes))
		return
	}
	p := producer(t.TransactionalID, t.ProducerID, t.ProducerEpoch)
	client := plainTxns
	if version > 3 {
		client = bumpingTxns
	}
	d.decide(t.TransactionalID, func(body any, code wire.ErrorCode) {
		switch r := body.(type) {
		case []wire.ErrorCode:
			done(ownResults(partitions, r))
		case wire.ErrorCode:
			all(r)
		default:
			all(code)
		}
	}, func(s *txn.Shard, turn txn.Turn) shard.Result {
		if t.VerifyOnly {
			return s.Verify(turn, p, partitions)
		}
		return s.AddPartitions(turn, p, partitions, client)
	})
}

// sameResult gives all partitions the same code, in the shape of the request.
func sameResult(topics []api.AddPartitionsToTxnRequestTopic, code wire.ErrorCode) []api.AddPartitionsToTxnResponseTopicResult {
	var all []api.AddPartitionsToTxnResponseTopicResult
	for _, topic := range topics {
		one := api.AddPartitionsToTxnResponseTopicResult{Name: topic.Name}
		for _, p := range topic.Partitions {
			one.ResultsByPartition = append(one.ResultsByPartition, api.AddPartitionsToTxnResponsePartitionResult{PartitionIndex: p, PartitionErrorCode: code})
		}
		all = append(all, one)
	}
	return all
}

// ownResults gives each partition its own code, and names it once.
func ownResults(partitions []id.TopicPartition, codes []wire.ErrorCode) []api.AddPartitionsToTxnResponseTopicResult {
	var all []api.AddPartitionsToTxnResponseTopicResult
	at, named := map[string]int{}, map[id.TopicPartition]bool{}
	for i, tp := range partitions {
		if named[tp] {
			continue
		}
		named[tp] = true
		n, ok := at[tp.Topic]
		if !ok {
			n = len(all)
			at[tp.Topic] = n
			all = append(all, api.AddPartitionsToTxnResponseTopicResult{Name: tp.Topic})
		}
		all[n].ResultsByPartition = append(all[n].ResultsByPartition, api.AddPartitionsToTxnResponsePartitionResult{PartitionIndex: tp.Partition, PartitionErrorCode: codes[i]})
	}
	return all
}
