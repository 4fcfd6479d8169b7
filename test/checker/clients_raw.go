package checker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

func (w *world) raws(ctx context.Context, step func(ctx context.Context, c *raw, proc int) error) {
	w.loop(ctx, func(context.Context) (func(context.Context) error, func(), error) {
		c, proc := &raw{dial: w.dial}, w.proc()
		return func(ctx context.Context) error { return step(ctx, c, proc) }, c.close, nil
	})
}

// observer looks at the bounds of partitions as Fetch answers name them.
func (w *world) observer(ctx context.Context) {
	keys := append(keysOf("txn"), keysOf("plain")...)
	w.raws(ctx, func(ctx context.Context, c *raw, proc int) error {
		op := w.h.Begin(&Op{Proc: proc, F: Observe, Key: keys[w.intN(len(keys))]})
		epoch, err := c.leaderEpoch(ctx, op.Key)
		if err == nil {
			var p *kmsg.FetchResponseTopicPartition
			if p, err = c.fetch(ctx, op.Key, 0, true); err == nil {
				b := boundsOf(p, epoch)
				op.Bounds = &b
				w.h.End(op, OK, nil)
				return nil
			}
		}
		w.h.End(op, Fail, err)
		return err
	})
}

// lister asks for offsets: the first, the last, by time.
func (w *world) lister(ctx context.Context) {
	keys := keysOf("plain")
	began := time.Now()
	w.raws(ctx, func(ctx context.Context, c *raw, proc int) error {
		op := &Op{Proc: proc, F: List, Key: keys[w.intN(len(keys))], Spec: -1 - int64(w.intN(2))}
		if w.intN(2) == 0 {
			op.Spec = time.Now().Add(-time.Duration(w.intN(int(time.Since(began)) + 1))).UnixMilli()
		}
		req := kmsg.NewPtrListOffsetsRequest()
		t := kmsg.NewListOffsetsRequestTopic()
		p := kmsg.NewListOffsetsRequestTopicPartition()
		t.Topic, p.Partition = split(op.Key)
		p.Timestamp = op.Spec
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		w.h.Begin(op)
		resp, err := c.ask(ctx, req, 7)
		if err == nil {
			got := resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
			op.Answer = Record{Offset: got.Offset, Time: got.Timestamp}
			err = kerr.ErrorForCode(got.ErrorCode)
		}
		if err != nil {
			w.h.End(op, Fail, err)
			return err
		}
		w.h.End(op, OK, nil)
		return nil
	})
}

// initID runs InitProducerId and records it.
func (w *world) initID(ctx context.Context, c *raw, proc int, name string) (*Op, error) {
	op := w.h.Begin(&Op{Proc: proc, F: Init, TxnID: name})
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &name, int32(w.txnTime.Milliseconds())
	req.ProducerID, req.ProducerEpoch = -1, -1
	for {
		resp, err := c.ask(ctx, req, 4)
		if err == nil {
			r := resp.(*kmsg.InitProducerIDResponse)
			op.PID, op.Epoch, err = r.ProducerID, r.ProducerEpoch, kerr.ErrorForCode(r.ErrorCode)
		}
		if errors.Is(err, kerr.ConcurrentTransactions) && w.h.Now()-op.Start < int64(rawTimeout) {
			w.wait(ctx, 5*time.Millisecond)
			continue
		}
		if err != nil {
			w.h.End(op, Info, err)
			return nil, err
		}
		w.h.End(op, OK, nil)
		return op, nil
	}
}

// fencer opens a transaction, fences itself, and tries to go on as the one that was fenced; then it commits as the one that is not.
func (w *world) fencer(ctx context.Context) {
	name := fmt.Sprintf("fence-%d", w.proc())
	w.raws(ctx, func(ctx context.Context, c *raw, proc int) error {
		old, err := w.initID(ctx, c, proc, name)
		if err != nil {
			return err
		}
		if err := w.rawTxn(ctx, c, proc, old, 0, false); err != nil {
			return err
		}
		now, err := w.initID(ctx, c, proc, name)
		if err != nil {
			return err
		}
		if err := w.rawTxn(ctx, c, proc, old, 1, true); err == nil {
			return errors.New("a fenced producer is served") // the analyser will find what it wrote
		}
		return w.rawTxn(ctx, c, proc, now, 0, true)
	})
}

// rawTxn adds a partition, produces one record under a producer id and epoch, and, if told, commits. Refusals are recorded as such.
func (w *world) rawTxn(ctx context.Context, c *raw, proc int, as *Op, sequence int32, commit bool) error {
	k := key("fence", 0)
	topic, _ := split(k)
	op := w.h.Begin(&Op{Proc: proc, F: Txn, TxnID: as.TxnID, PID: as.PID, Epoch: as.Epoch, Records: []Record{w.record(k)}, Abort: !commit})
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = as.TxnID, as.PID, as.Epoch
	add.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic, Partitions: []int32{0}}}
	refused := error(nil)
	for {
		resp, err := c.ask(ctx, add, 3)
		if err != nil {
			w.h.End(op, Info, err)
			return err
		}
		refused = kerr.ErrorForCode(resp.(*kmsg.AddPartitionsToTxnResponse).Topics[0].Partitions[0].ErrorCode)
		if !errors.Is(refused, kerr.ConcurrentTransactions) || w.h.Now()-op.Start > int64(rawTimeout) {
			break
		}
		w.wait(ctx, 5*time.Millisecond)
	}
	// A refusal must not only be said: the record is sent all the same.
	written, err := w.rawProduce(ctx, c, as, sequence, &op.Records[0])
	if err != nil {
		w.h.End(op, Info, err)
		return err
	}
	if refused = errors.Join(refused, written); refused != nil && !commit || !commit {
		w.h.End(op, Info, refused) // left open
		return refused
	}
	op.CommitAt = w.h.Now()
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = as.TxnID, as.PID, as.Epoch, true
	resp, err := c.ask(ctx, end, 3)
	if err != nil {
		w.h.End(op, Info, err)
		return err
	}
	ended := kerr.ErrorForCode(resp.(*kmsg.EndTxnResponse).ErrorCode)
	switch {
	case refused == nil && ended == nil:
		w.h.End(op, OK, nil)
		return nil
	case written != nil:
		w.h.End(op, Fail, errors.Join(refused, ended)) // one request, not repeated, refused
	default:
		w.h.End(op, Info, errors.Join(refused, ended))
	}
	return errors.Join(refused, ended)
}

// rawProduce sends one record in a transactional batch and returns the node's refusal, if any, and whether anything else went wrong.
func (w *world) rawProduce(ctx context.Context, c *raw, as *Op, sequence int32, r *Record) (refused, err error) {
	b := record.NewBuilder(record.Options{ProducerID: id.ProducerID(as.PID), ProducerEpoch: id.ProducerEpoch(as.Epoch), BaseSequence: sequence, Transactional: true, LeaderEpoch: -1})
	if err := b.Append(r.Time, nil, encode(*r)); err != nil {
		return nil, err
	}
	batch, err := b.Build()
	if err != nil {
		return nil, err
	}
	topic, partition := split(r.Key)
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID, req.Acks, req.TimeoutMillis = &as.TxnID, -1, 5000
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: batch}}}}
	resp, err := c.ask(ctx, req, 9)
	if err != nil {
		return nil, err
	}
	p := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	if refused = kerr.ErrorForCode(p.ErrorCode); refused == nil {
		r.Offset = p.BaseOffset
	}
	return refused, nil
}

// oldGeneration joins a group alone, joins again with other metadata, and tries to commit in the generation before.
func (w *world) oldGeneration(ctx context.Context) {
	group := fmt.Sprintf("oldgen-%d", w.proc())
	k := key("plain", 1)
	next := int64(0)
	w.raws(ctx, func(ctx context.Context, c *raw, proc int) error {
		member := ""
		join := func(n int) (int32, error) {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Group, req.MemberID, req.ProtocolType = group, member, "consumer"
			req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 6000, 6000
			req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{0, 0, byte(n)}}}
			resp, err := c.ask(ctx, req, 5)
			if err != nil {
				return 0, err
			}
			r := resp.(*kmsg.JoinGroupResponse)
			if member = r.MemberID; r.ErrorCode != 0 {
				return 0, kerr.ErrorForCode(r.ErrorCode)
			}
			sync := kmsg.NewPtrSyncGroupRequest()
			sync.Group, sync.MemberID, sync.Generation = group, member, r.Generation
			sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: member, MemberAssignment: []byte{1}}}
			resp, err = c.ask(ctx, sync, 3)
			if err != nil {
				return 0, err
			}
			return r.Generation, kerr.ErrorForCode(resp.(*kmsg.SyncGroupResponse).ErrorCode)
		}
		first, err := join(1)
		if errors.Is(err, kerr.MemberIDRequired) {
			first, err = join(1)
		}
		if err != nil {
			return err
		}
		second, err := join(2)
		if err != nil {
			return err
		}
		w.h.End(w.h.Begin(&Op{Proc: proc, F: Assigned, Group: group, Member: member, Generation: second, Owned: []string{k}}), OK, nil)
		for _, generation := range []int32{second, first, second} {
			next++
			if err := w.rawCommit(ctx, c, &Op{Proc: proc, F: Commit, Group: group, Member: member, Generation: generation, Offsets: map[string]int64{k: next}}); err != nil {
				return err
			}
			if err := w.rawCommitted(ctx, c, &Op{Proc: proc, F: Committed, Group: group}, []string{k}); err != nil {
				return err
			}
		}
		leave := kmsg.NewPtrLeaveGroupRequest()
		leave.Group, leave.MemberID = group, member
		_, err = c.ask(ctx, leave, 2)
		return err
	})
}

// admin creates and deletes a topic, and changes a configuration, and reads both back.
func (w *world) admin(ctx context.Context) {
	topic := fmt.Sprintf("admin-%d", w.proc())
	configured := topics[int(w.admins.Add(1))%len(topics)].name // a register of its own
	retention := int64(1000000)
	w.raws(ctx, func(ctx context.Context, c *raw, proc int) error {
		switch w.intN(4) {
		case 0:
			return w.setTopic(ctx, c, proc, topic, w.intN(2) == 0)
		case 1:
			return w.getTopic(ctx, c, &Op{Proc: proc, F: Get, Key: "topic " + topic}, topic)
		case 2:
			retention++
			return w.setConfig(ctx, c, proc, configured, strconv.FormatInt(retention, 10))
		}
		return w.getConfig(ctx, c, &Op{Proc: proc, F: Get, Key: "retention.ms of " + configured}, configured)
	})
}

func (w *world) setTopic(ctx context.Context, c *raw, proc int, topic string, there bool) error {
	op := w.h.Begin(&Op{Proc: proc, F: Set, Key: "topic " + topic})
	var code int16
	var err error
	var resp kmsg.Response
	if there {
		op.Value = "there"
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = 5000
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = topic, 1, 1
		req.Topics = append(req.Topics, t)
		if resp, err = c.ask(ctx, req, 5); err == nil {
			code = resp.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode
		}
	} else {
		req := kmsg.NewPtrDeleteTopicsRequest()
		req.TopicNames, req.TimeoutMillis = []string{topic}, 5000
		if resp, err = c.ask(ctx, req, 4); err == nil {
			code = resp.(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode
		}
	}
	refused := kerr.ErrorForCode(code)
	if w.deposed && (errors.Is(refused, kerr.TopicAlreadyExists) || errors.Is(refused, kerr.UnknownTopicOrPartition)) {
		// A node asks again when its controller is deposed, and what it is then told may be of its own doing (also Apache Kafka's
		// does). Either way the register holds this value now.
		w.h.End(op, OK, refused)
		return nil
	}
	return w.ended(op, err, refused, kerr.TopicAlreadyExists, kerr.UnknownTopicOrPartition, kerr.InvalidReplicationFactor)
}

// ended records the end of a change; some refusals prove that nothing happened.
func (w *world) ended(op *Op, err, refused error, sure ...error) error {
	if err != nil {
		w.h.End(op, Info, err)
		return err
	}
	outcome := OK
	if refused != nil {
		outcome = Info
		for _, s := range sure {
			if errors.Is(refused, s) {
				outcome = Fail
			}
		}
	}
	w.h.End(op, outcome, refused)
	return nil
}

func (w *world) getTopic(ctx context.Context, c *raw, op *Op, topic string) error {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = &topic
	req.Topics = append(req.Topics, t)
	w.h.Begin(op)
	resp, err := c.ask(ctx, req, 9)
	if err != nil {
		w.h.End(op, Fail, err)
		return err
	}
	if code := resp.(*kmsg.MetadataResponse).Topics[0].ErrorCode; code != kerr.UnknownTopicOrPartition.Code {
		op.Value = "there"
	}
	w.h.End(op, OK, nil)
	return nil
}

func (w *world) setConfig(ctx context.Context, c *raw, proc int, topic, value string) error {
	op := w.h.Begin(&Op{Proc: proc, F: Set, Key: "retention.ms of " + topic, Value: value})
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	x := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	x.Name, x.Value = "retention.ms", &value
	r.Configs = append(r.Configs, x)
	req.Resources = append(req.Resources, r)
	resp, err := c.ask(ctx, req, 1)
	var refused error
	if err == nil {
		refused = kerr.ErrorForCode(resp.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode)
	}
	return w.ended(op, err, refused)
}

func (w *world) getConfig(ctx context.Context, c *raw, op *Op, topic string) error {
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeTopic, topic, []string{"retention.ms"}
	req.Resources = append(req.Resources, r)
	w.h.Begin(op)
	resp, err := c.ask(ctx, req, 4)
	if err == nil {
		r := resp.(*kmsg.DescribeConfigsResponse).Resources[0]
		if err = kerr.ErrorForCode(r.ErrorCode); err == nil && len(r.Configs) == 1 && r.Configs[0].Value != nil && r.Configs[0].Source == kmsg.ConfigSourceDynamicTopicConfig {
			op.Value = *r.Configs[0].Value
		}
	}
	if err != nil {
		w.h.End(op, Fail, err)
		return err
	}
	w.h.End(op, OK, nil)
	return nil
}
