package checker

import (
	"context"
	"encoding/binary"
	"flag"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/record"
)

// field is what a fault may use.
type field struct {
	t      *testing.T
	direct *raw // to the node, past the proxy
	n      int
}

// every is true each nth time.
func (f *field) every(n int) bool { f.n++; return f.n%n == 0 }

// open begins a transaction that nobody will end.
func (f *field) open(name string) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = &name, 60000, -1, -1
	resp, err := f.direct.ask(context.Background(), req, 4)
	if err == nil {
		r := resp.(*kmsg.InitProducerIDResponse)
		add := kmsg.NewPtrAddPartitionsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.ProducerEpoch = name, r.ProducerID, r.ProducerEpoch
		add.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "txn", Partitions: []int32{0}}}
		_, err = f.direct.ask(context.Background(), add, 3)
	}
	if err != nil {
		f.t.Errorf("open a transaction: %v", err)
	}
}

// fault breaks one rule. At least one of the wanted verdicts must be bad.
type fault struct {
	name       string
	want       []string
	generators []string
	lie        func(f *field) *liar
	plan       plan
}

// plan says when a fault has surely been met: nothing here depends on how much time the machine has.
type plan struct {
	meets   int64                          // lies told
	needs   needs                          // operations that are to end well after the last of these
	crash   func(t *testing.T, dir string) // done to the node's directory, after all work, while it is down
	options func(o *Options)
}

type needs map[Func]int

func (want needs) met(done, since map[Func]int) bool {
	for f, n := range want {
		if done[f]-since[f] < n {
			return false
		}
	}
	return true
}

const (
	apiProduce      = 0
	apiFetch        = 1
	apiListOffsets  = 2
	apiMetadata     = 3
	apiOffsetCommit = 8
	apiOffsetFetch  = 9
	apiJoinGroup    = 11
	apiSyncGroup    = 14
	apiCreateTopics = 19
	apiInitID       = 22
	apiAddPartition = 24
	apiEndTxn       = 26
	apiTxnOffsets   = 28
	apiAlterConfigs = 44
	apiServed       = 68
)

func apis(keys ...int16) map[int16]bool {
	m := map[int16]bool{}
	for _, k := range keys {
		m[k] = true
	}
	return m
}

// eachProduced runs f for each partition of a Produce request. Where topics are named by id the name is empty.
func eachProduced(req kmsg.Request, f func(topic string, p *kmsg.ProduceRequestTopicPartition) bool) (changed bool) {
	r, ok := req.(*kmsg.ProduceRequest)
	if !ok {
		return false
	}
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			changed = f(r.Topics[i].Topic, &r.Topics[i].Partitions[j]) || changed
		}
	}
	return changed
}

// eachFetched runs f for each partition of a Fetch answer. Where topics are named by id the name is empty.
func eachFetched(resp kmsg.Response, f func(topic string, p *kmsg.FetchResponseTopicPartition) bool) (changed bool) {
	r, ok := resp.(*kmsg.FetchResponse)
	if !ok {
		return false
	}
	for i := range r.Topics {
		for j := range r.Topics[i].Partitions {
			changed = f(r.Topics[i].Topic, &r.Topics[i].Partitions[j]) || changed
		}
	}
	return changed
}

// acknowledge makes the answer to a Produce request that says each batch was written at the offset given.
func acknowledge(req *kmsg.ProduceRequest, offset func(p *kmsg.ProduceRequestTopicPartition, key string) int64) *kmsg.ProduceResponse {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for i := range req.Topics {
		t := kmsg.NewProduceResponseTopic()
		t.Topic, t.TopicID = req.Topics[i].Topic, req.Topics[i].TopicID
		for j := range req.Topics[i].Partitions {
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition = req.Topics[i].Partitions[j].Partition
			p.BaseOffset = offset(&req.Topics[i].Partitions[j], string(t.TopicID[:])+key(t.Topic, p.Partition))
			p.LogAppendTime = -1
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp
}

// batchesOf splits record bytes into batches; what is cut stays out.
func batchesOf(b []byte) (all []record.Batch) {
	for len(b) > 0 {
		one, rest, err := record.Next(b)
		if err != nil {
			break
		}
		all, b = append(all, one), rest
	}
	return all
}

func join(bs []record.Batch) (out []byte) {
	for _, b := range bs {
		out = append(out, b...)
	}
	return out
}

var faults = []fault{
	{"acknowledge before appending", []string{"I1", "I2", "I3"}, []string{"send", "send"}, func(f *field) *liar {
		ends := map[string]int64{}
		return &liar{keys: apis(apiProduce), request: func(x *exchange) bool {
			if f.every(10) {
				x.answer = acknowledge(x.req.(*kmsg.ProduceRequest), func(_ *kmsg.ProduceRequestTopicPartition, k string) int64 { return ends[k] })
			}
			return false
		}, response: func(_ *exchange, resp kmsg.Response) bool {
			for _, t := range resp.(*kmsg.ProduceResponse).Topics {
				for _, p := range t.Partitions {
					k := string(t.TopicID[:]) + key(t.Topic, p.Partition)
					ends[k] = max(ends[k], p.BaseOffset+1)
				}
			}
			return false
		}}
	}, plan{meets: 2, needs: needs{Send: 5}}},
	{"take a new batch for a repeated one", []string{"I3", "I5", "I2"}, []string{"send", "send"}, func(f *field) *liar {
		last := map[string]int64{}
		return &liar{keys: apis(apiProduce), request: func(x *exchange) bool {
			if f.every(10) {
				x.answer = acknowledge(x.req.(*kmsg.ProduceRequest), func(_ *kmsg.ProduceRequestTopicPartition, k string) int64 { return last[k] })
			}
			return false
		}, response: func(_ *exchange, resp kmsg.Response) bool {
			for _, t := range resp.(*kmsg.ProduceResponse).Topics {
				for _, p := range t.Partitions {
					last[string(t.TopicID[:])+key(t.Topic, p.Partition)] = p.BaseOffset
				}
			}
			return false
		}}
	}, plan{meets: 2, needs: needs{Send: 5}}},
	{"acknowledge another offset", []string{"I3", "I5"}, []string{"send"}, func(f *field) *liar {
		return &liar{keys: apis(apiProduce), response: func(_ *exchange, resp kmsg.Response) bool {
			r := resp.(*kmsg.ProduceResponse)
			if !f.every(20) {
				return false
			}
			r.Topics[0].Partitions[0].BaseOffset++
			return true
		}}
	}, plan{meets: 2, needs: needs{Send: 5}}},
	{"forget sequences: append a repetition again", []string{"I5"}, []string{"send"}, func(f *field) *liar {
		return &liar{keys: apis(apiProduce), response: func(x *exchange, _ kmsg.Response) bool {
			r := x.req.(*kmsg.ProduceRequest)
			if !f.every(10) {
				return false
			}
			eachProduced(r, func(_ string, p *kmsg.ProduceRequestTopicPartition) bool {
				for _, b := range batchesOf(p.Records) {
					b.SetProducer(-1, -1, -1)
					b.SetCRC()
				}
				return true
			})
			if _, err := f.direct.ask(context.Background(), r, r.GetVersion()); err != nil {
				f.t.Errorf("append again: %v", err)
			}
			return true
		}}
	}, plan{meets: 2, needs: needs{Send: 5}}},
	{"reuse a sequence", []string{"I15"}, []string{"send"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), keep: true, response: func(_ *exchange, resp kmsg.Response) bool {
			return eachFetched(resp, func(_ string, p *kmsg.FetchResponseTopicPartition) bool {
				for _, b := range batchesOf(p.RecordBatches) {
					if b.BaseSequence() > 3 {
						b.SetProducer(b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()-1)
						b.SetCRC()
						return true
					}
				}
				return false
			})
		}}
	}, plan{needs: needs{Send: 40}}},
	{"skip the CRC", []string{"I15", "I18"}, []string{"send"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), keep: true, response: func(_ *exchange, resp kmsg.Response) bool {
			return eachFetched(resp, func(_ string, p *kmsg.FetchResponseTopicPartition) bool {
				if bs := batchesOf(p.RecordBatches); len(bs) > 2 {
					bs[1][len(bs[1])-3] ^= 0x40
					return true
				}
				return false
			})
		}}
	}, plan{needs: needs{Send: 20}}},
	{"change a record on its way in", []string{"I18"}, []string{"send"}, func(f *field) *liar {
		return &liar{keys: apis(apiProduce), request: func(x *exchange) bool {
			return f.every(10) && eachProduced(x.req, func(_ string, p *kmsg.ProduceRequestTopicPartition) bool {
				b := batchesOf(p.Records)[0]
				b[len(b)-20] ^= 1
				b.SetCRC()
				return true
			})
		}}
	}, plan{meets: 2, needs: needs{Send: 5}}},
	{"write to another partition", []string{"I18"}, []string{"send"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), keep: true, response: func(_ *exchange, resp kmsg.Response) bool {
			return eachFetched(resp, func(_ string, p *kmsg.FetchResponseTopicPartition) bool { p.Partition ^= 1; return false }) || true
		}}
	}, plan{needs: needs{Send: 20}}},
	{"ignore the epoch fence", []string{"T3"}, []string{"fence"}, func(f *field) *liar {
		newest := map[int64]int16{}
		return &liar{keys: apis(apiProduce, apiInitID, apiAddPartition, apiEndTxn), request: func(x *exchange) bool {
			renew := func(pid int64, epoch *int16) bool {
				had := *epoch
				*epoch = newest[pid]
				return had != *epoch
			}
			switch r := x.req.(type) {
			case *kmsg.AddPartitionsToTxnRequest:
				return renew(r.ProducerID, &r.ProducerEpoch)
			case *kmsg.EndTxnRequest:
				return renew(r.ProducerID, &r.ProducerEpoch)
			}
			return eachProduced(x.req, func(_ string, p *kmsg.ProduceRequestTopicPartition) bool {
				for _, b := range batchesOf(p.Records) {
					if int16(b.ProducerEpoch()) == newest[int64(b.ProducerID())] {
						return false
					}
					b.SetProducer(b.ProducerID(), id.ProducerEpoch(newest[int64(b.ProducerID())]), 0)
					b.SetCRC()
				}
				return true
			})
		}, response: func(_ *exchange, resp kmsg.Response) bool {
			if r, ok := resp.(*kmsg.InitProducerIDResponse); ok && r.ErrorCode == 0 {
				newest[r.ProducerID] = r.ProducerEpoch
			}
			return false
		}}
	}, plan{meets: 4, needs: needs{Init: 2}}},
	{"drop a marker", []string{"T2", "I11"}, []string{"swing", "swing"}, func(f *field) *liar {
		return &liar{keys: apis(apiEndTxn), request: func(x *exchange) bool {
			r := x.req.(*kmsg.EndTxnRequest)
			if f.every(5) {
				resp := r.ResponseKind().(*kmsg.EndTxnResponse)
				resp.ProducerID, resp.ProducerEpoch = r.ProducerID, r.ProducerEpoch
				x.answer = resp
			}
			return false
		}}
	}, plan{meets: 4, needs: needs{Txn: 12}}},
	{"leave a transaction open", []string{"T5"}, []string{"txn"}, func(f *field) *liar {
		return &liar{keys: apis(apiEndTxn), request: func(*exchange) bool {
			if f.n++; f.n == 3 {
				f.open("hangs")
			}
			return false
		}}
	}, plan{needs: needs{Txn: 6}, options: func(o *Options) { o.Grace = 300 * time.Millisecond }}},
	{"abort what was to be committed", []string{"T2"}, []string{"pair", "pair"}, endTxn(true), plan{meets: 2, needs: needs{Txn: 4}}},
	{"commit what was to be aborted", []string{"I11"}, []string{"swing", "swing"}, endTxn(false), plan{meets: 2, needs: needs{Txn: 4}}},
	{"tear a transaction", []string{"T1"}, []string{"pair", "pair"}, func(f *field) *liar {
		return &liar{keys: apis(apiProduce), request: func(x *exchange) bool {
			// The first partition's batch is left out and acknowledged, the rest is written.
			if !f.every(3) {
				return false
			}
			if r := x.req.(*kmsg.ProduceRequest); len(r.Topics[0].Partitions) > 1 {
				x.answer = partly(f, r)
			} else { // the transaction's other record goes in another request
				x.answer = acknowledge(r, func(*kmsg.ProduceRequestTopicPartition, string) int64 { return 1 << 30 })
			}
			return false
		}}
	}, plan{meets: 3, needs: needs{Txn: 6}}},
	{"lose one side of a transfer", []string{"T4"}, []string{"transfer", "transfer"}, func(f *field) *liar {
		return &liar{keys: apis(apiProduce), request: func(x *exchange) bool {
			if f.every(5) {
				x.answer = acknowledge(x.req.(*kmsg.ProduceRequest), func(*kmsg.ProduceRequestTopicPartition, string) int64 { return 1 << 30 })
			}
			return false
		}}
	}, plan{meets: 3, needs: needs{Txn: 6}}},
	{"serve above the last stable offset", []string{"I12", "I11"}, []string{"swing", "swing", "rescan"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), request: func(x *exchange) bool { x.req.(*kmsg.FetchRequest).IsolationLevel = 0; return true }}
	}, plan{meets: 20, needs: needs{Txn: 20, Poll: 10}}},
	{"forget the aborted transactions", []string{"I11", "I19"}, []string{"swing", "swing"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), keep: true, response: func(_ *exchange, resp kmsg.Response) bool {
			return eachFetched(resp, func(_ string, p *kmsg.FetchResponseTopicPartition) bool {
				had := len(p.AbortedTransactions) > 0
				p.AbortedTransactions = nil
				return had
			})
		}}
	}, plan{needs: needs{Txn: 20}}},
	{"name a committed transaction as aborted", []string{"I19", "T2"}, []string{"pair", "pair"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), keep: true, response: func(_ *exchange, resp kmsg.Response) bool {
			return eachFetched(resp, func(_ string, p *kmsg.FetchResponseTopicPartition) bool {
				for _, b := range batchesOf(p.RecordBatches) {
					if b.IsTransactional() && !b.IsControl() {
						p.AbortedTransactions = append(p.AbortedTransactions, kmsg.FetchResponseTopicPartitionAbortedTransaction{ProducerID: int64(b.ProducerID()), FirstOffset: int64(b.BaseOffset())})
						return true
					}
				}
				return false
			})
		}}
	}, plan{needs: needs{Txn: 10}}},
	{"forget a committed offset", []string{"G1"}, []string{"recommit"}, func(f *field) *liar {
		return &liar{keys: apis(apiOffsetCommit), request: func(x *exchange) bool {
			r := x.req.(*kmsg.OffsetCommitRequest)
			if !f.every(7) {
				return false
			}
			resp := r.ResponseKind().(*kmsg.OffsetCommitResponse)
			t := kmsg.NewOffsetCommitResponseTopic()
			t.Topic = r.Topics[0].Topic
			p := kmsg.NewOffsetCommitResponseTopicPartition()
			p.Partition = r.Topics[0].Partitions[0].Partition
			t.Partitions = append(t.Partitions, p)
			resp.Topics = append(resp.Topics, t)
			x.answer = resp
			return false
		}}
	}, plan{meets: 2, needs: needs{Commit: 4, Committed: 4}}},
	{"read an old committed offset", []string{"G1"}, []string{"recommit"}, func(f *field) *liar {
		return &liar{keys: apis(apiOffsetFetch), response: func(_ *exchange, resp kmsg.Response) bool {
			r := resp.(*kmsg.OffsetFetchResponse)
			if !f.every(7) || len(r.Topics) == 0 || r.Topics[0].Partitions[0].Offset < 2 {
				return false
			}
			r.Topics[0].Partitions[0].Offset--
			return true
		}}
	}, plan{meets: 2, needs: needs{Committed: 2}}},
	{"give a partition two owners", []string{"G2"}, []string{"group", "group", "send"}, func(f *field) *liar {
		return &liar{keys: apis(apiSyncGroup), response: func(_ *exchange, resp kmsg.Response) bool {
			r := resp.(*kmsg.SyncGroupResponse)
			if r.ErrorCode != 0 {
				return false
			}
			all := kmsg.NewConsumerMemberAssignment()
			for _, t := range topics {
				if t.name == "plain" || t.name == "txn" {
					x := kmsg.NewConsumerMemberAssignmentTopic()
					x.Topic = t.name
					for p := range t.partitions {
						x.Partitions = append(x.Partitions, p)
					}
					all.Topics = append(all.Topics, x)
				}
			}
			r.MemberAssignment = all.AppendTo(nil)
			return true
		}}
	}, plan{meets: 2, needs: needs{Assigned: 8}}},
	{"take commits of an old generation", []string{"G2"}, []string{"oldgen"}, func(f *field) *liar {
		newest := map[string]int32{}
		return &liar{keys: apis(apiOffsetCommit, apiJoinGroup), request: func(x *exchange) bool {
			r, ok := x.req.(*kmsg.OffsetCommitRequest)
			if !ok || r.Generation < 0 || r.Generation == newest[r.Group] {
				return false
			}
			r.Generation = newest[r.Group]
			return true
		}, response: func(x *exchange, resp kmsg.Response) bool {
			if r, ok := resp.(*kmsg.JoinGroupResponse); ok && r.ErrorCode == 0 {
				newest[x.req.(*kmsg.JoinGroupRequest).Group] = r.Generation
			}
			return false
		}}
	}, plan{meets: 2, needs: needs{Commit: 4}}},
	{"drop the offsets of a transaction", []string{"T4", "G1"}, []string{"feed", "copy", "copy"}, func(f *field) *liar {
		return &liar{keys: apis(apiTxnOffsets), request: func(x *exchange) bool {
			r := x.req.(*kmsg.TxnOffsetCommitRequest)
			if f.n++; f.n < 3 {
				return false
			}
			resp := r.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
			for _, from := range r.Topics {
				t := kmsg.NewTxnOffsetCommitResponseTopic()
				t.Topic = from.Topic
				for _, fp := range from.Partitions {
					p := kmsg.NewTxnOffsetCommitResponseTopicPartition()
					p.Partition = fp.Partition
					t.Partitions = append(t.Partitions, p)
				}
				resp.Topics = append(resp.Topics, t)
			}
			x.answer = resp
			return false
		}}
	}, plan{meets: 3, needs: needs{Txn: 4}}},
	{"let the high watermark go back", []string{"I16"}, []string{"send", "observe"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), response: func(_ *exchange, resp kmsg.Response) bool {
			return eachFetched(resp, func(_ string, p *kmsg.FetchResponseTopicPartition) bool {
				if p.HighWatermark < 2 || !f.every(3) {
					return false
				}
				p.HighWatermark /= 2
				p.LastStableOffset = min(p.LastStableOffset, p.HighWatermark)
				return true
			})
		}}
	}, plan{meets: 6, needs: needs{Observe: 4}}},
	{"put the last stable offset above the high watermark", []string{"I16"}, []string{"send", "observe"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), response: func(_ *exchange, resp kmsg.Response) bool {
			return eachFetched(resp, func(_ string, p *kmsg.FetchResponseTopicPartition) bool {
				p.LastStableOffset = p.HighWatermark + 1
				return true
			})
		}}
	}, plan{meets: 4, needs: needs{Observe: 4}}},
	{"name the high watermark as the last stable offset", []string{"I16"}, []string{"pair", "pair", "observe"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), response: func(_ *exchange, resp kmsg.Response) bool {
			return eachFetched(resp, func(_ string, p *kmsg.FetchResponseTopicPartition) bool {
				lied := p.LastStableOffset < p.HighWatermark
				p.LastStableOffset = p.HighWatermark
				return lied
			})
		}}
	}, plan{meets: 40, needs: needs{Txn: 4}}},
	{"let a served member keep what another gets", []string{"G2"}, []string{"server", "server", "send"}, func(*field) *liar {
		all := map[[16]byte]map[int32]bool{} // what anybody was ever given
		return &liar{keys: apis(apiServed), response: func(_ *exchange, resp kmsg.Response) bool {
			r := resp.(*kmsg.ConsumerGroupHeartbeatResponse)
			if r.ErrorCode != 0 || r.Assignment == nil {
				return false
			}
			for _, t := range r.Assignment.Topics {
				if all[t.TopicID] == nil {
					all[t.TopicID] = map[int32]bool{}
				}
				for _, p := range t.Partitions {
					all[t.TopicID][p] = true
				}
			}
			r.Assignment.Topics = nil
			for topic, parts := range all {
				t := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
				t.TopicID, t.Partitions = topic, slices.Sorted(maps.Keys(parts))
				r.Assignment.Topics = append(r.Assignment.Topics, t)
			}
			return true
		}}
	}, plan{meets: 4, needs: needs{Assigned: 4, Commit: 20}}},
	{"exchange two batches", []string{"I3", "I5"}, []string{"send", "rescan"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), response: func(_ *exchange, resp kmsg.Response) bool {
			return eachFetched(resp, func(_ string, p *kmsg.FetchResponseTopicPartition) bool {
				bs := batchesOf(p.RecordBatches)
				for i := 1; i < len(bs); i++ {
					if bs[i].Count() == bs[i-1].Count() {
						first, second := bs[i-1].BaseOffset(), bs[i].BaseOffset()
						bs[i-1], bs[i] = bs[i], bs[i-1]
						bs[i-1].SetBaseOffset(first)
						bs[i].SetBaseOffset(second)
						p.RecordBatches = join(bs)
						return true
					}
				}
				return false
			})
		}}
	}, plan{meets: 4, needs: needs{Poll: 6}}},
	{"skip a batch", []string{"I10"}, []string{"send", "rescan"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), response: func(_ *exchange, resp kmsg.Response) bool {
			return eachFetched(resp, func(_ string, p *kmsg.FetchResponseTopicPartition) bool {
				bs := batchesOf(p.RecordBatches)
				if len(bs) < 3 {
					return false
				}
				p.RecordBatches = join(slices.Delete(bs, 1, 2))
				return true
			})
		}}
	}, plan{meets: 4, needs: needs{Poll: 6}}},
	{"name an old end", []string{"I4"}, []string{"send", "list"}, func(*field) *liar { return listed(func(o, at int64) int64 { return o - at%2*(o/2) }) }, plan{meets: 4, needs: needs{List: 4}}},
	{"find a later record by time", []string{"I4"}, []string{"send", "list"}, func(f *field) *liar {
		return &liar{keys: apis(apiListOffsets), response: func(x *exchange, resp kmsg.Response) bool {
			p := &resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
			if x.req.(*kmsg.ListOffsetsRequest).Topics[0].Partitions[0].Timestamp < 0 || p.Offset < 0 {
				return false
			}
			p.Offset++
			return true
		}}
	}, plan{meets: 4, needs: needs{List: 4}}},
	{"forget a created topic", []string{"A1", "M1"}, []string{"toggle"}, func(f *field) *liar {
		return &liar{keys: apis(apiCreateTopics), request: func(x *exchange) bool {
			r := x.req.(*kmsg.CreateTopicsRequest)
			if f.n++; f.n > 5 {
				resp := r.ResponseKind().(*kmsg.CreateTopicsResponse)
				t := kmsg.NewCreateTopicsResponseTopic()
				t.Topic = r.Topics[0].Topic
				resp.Topics = append(resp.Topics, t)
				x.answer = resp
			}
			return false
		}}
	}, plan{meets: 2, needs: needs{Get: 4}}},
	{"forget a changed configuration", []string{"A1", "M1"}, []string{"toggle"}, func(f *field) *liar {
		return &liar{keys: apis(apiAlterConfigs), request: func(x *exchange) bool {
			r := x.req.(*kmsg.IncrementalAlterConfigsRequest)
			if f.n++; f.n > 5 {
				resp := r.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
				y := kmsg.NewIncrementalAlterConfigsResponseResource()
				y.ResourceType, y.ResourceName = r.Resources[0].ResourceType, r.Resources[0].ResourceName
				resp.Resources = append(resp.Resources, y)
				x.answer = resp
			}
			return false
		}}
	}, plan{meets: 2, needs: needs{Get: 4}}},
	{"let a leader epoch go back", []string{"M3"}, []string{"send", "observe"}, func(f *field) *liar {
		return &liar{keys: apis(apiMetadata), response: func(x *exchange, resp kmsg.Response) bool {
			r := resp.(*kmsg.MetadataResponse)
			if x.req.GetVersion() != 9 || len(r.Topics) != 1 || !f.every(2) {
				return false
			}
			for i := range r.Topics[0].Partitions {
				r.Topics[0].Partitions[i].LeaderEpoch += 3
			}
			return true
		}}
	}, plan{meets: 20, needs: needs{Observe: 20}}},
	{"compact the last value of a key away", []string{"K1"}, []string{"compact"}, func(f *field) *liar {
		return &liar{keys: apis(apiFetch), keep: true, response: func(_ *exchange, resp kmsg.Response) bool {
			return eachFetched(resp, func(topic string, p *kmsg.FetchResponseTopicPartition) bool {
				bs := batchesOf(p.RecordBatches)
				if len(bs) < 3 || topic != "compact" {
					return false
				}
				p.RecordBatches = join(append(bs[:1:1], bs[len(bs)-1]))
				return true
			})
		}}
	}, plan{needs: needs{Send: 30}}},
	{"lose the tail of a log in a crash", []string{"I1", "I2", "I17"}, []string{"send", "send"}, nil, plan{needs: needs{Send: 80}, crash: func(t *testing.T, dir string) {
		cut(t, filepath.Join(dir, "plain-*", "*.log"), 2000)
	}}},
	{"forget metadata in a crash", []string{"A1", "M1"}, []string{"toggle", "toggle"}, nil, plan{needs: needs{Set: 120}, crash: func(t *testing.T, dir string) {
		cut(t, filepath.Join(dir, "__cluster_metadata-0", "*.log"), -3)
	}}},
	{"lose commits of offsets in a crash", []string{"G1"}, []string{"recommit"}, nil, plan{needs: needs{Commit: 80}, crash: func(t *testing.T, dir string) {
		cut(t, filepath.Join(dir, "__consumer_offsets-*", "*.log"), 1000)
	}}},
}

func endTxn(commit bool) func(f *field) *liar {
	return func(f *field) *liar {
		return &liar{keys: apis(apiEndTxn), request: func(x *exchange) bool {
			r := x.req.(*kmsg.EndTxnRequest)
			if r.Commit != commit || !f.every(3) {
				return false
			}
			r.Commit = !commit
			return true
		}}
	}
}

func listed(change func(offset, at int64) int64) *liar {
	n := int64(0)
	return &liar{keys: apis(apiListOffsets), response: func(x *exchange, resp kmsg.Response) bool {
		p := &resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions[0]
		if x.req.(*kmsg.ListOffsetsRequest).Topics[0].Partitions[0].Timestamp != -1 {
			return false
		}
		n++
		had := p.Offset
		p.Offset = change(had, n)
		return p.Offset != had
	}}
}

// partly writes a Produce request without its first partition and acknowledges all of it.
func partly(f *field, r *kmsg.ProduceRequest) kmsg.Response {
	whole := r.Topics[0].Partitions
	r.Topics[0].Partitions = whole[1:]
	resp, err := f.direct.ask(context.Background(), r, r.GetVersion())
	r.Topics[0].Partitions = whole
	if err != nil {
		f.t.Errorf("write partly: %v", err)
		return nil
	}
	p := kmsg.NewProduceResponseTopicPartition()
	p.Partition, p.BaseOffset, p.LogAppendTime = whole[0].Partition, 1<<30, -1
	got := resp.(*kmsg.ProduceResponse)
	got.Topics[0].Partitions = append(got.Topics[0].Partitions, p)
	return got
}

// cut takes n bytes off the ends of files, or for a negative n one part in -n.
func cut(t *testing.T, pattern string, n int64) {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Errorf("%s: %d files, %v", pattern, len(files), err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
			return
		}
		// Files may be longer than what is written in them.
		size := int64(0)
		for len(b)-int(size) > 12 {
			l := int64(binary.BigEndian.Uint32(b[size+8:])) + 12
			if l <= 12 || size+l > int64(len(b)) {
				break
			}
			size += l
		}
		off := n
		if n < 0 {
			off = size / -n
		}
		if size > 2*off {
			if err := os.Truncate(name, size-off); err != nil {
				t.Error(err)
			}
		}
	}
}

var onlyFault = flag.String("fault", "", "run only the faults whose name contains this")

// TestFaults breaks one rule at a time; each must be found.
func TestFaults(t *testing.T) {
	live(t)
	for _, ft := range faults {
		if !strings.Contains(ft.name, *onlyFault) {
			continue
		}
		t.Run(ft.name, func(t *testing.T) {
			t.Parallel()
			ft.run(t)
		})
	}
}

// run ends as soon as the fault has been met as the plan says. What a lie meets can still be such that nobody sees it (an operation
// that ends in an error, say), hence three attempts.
func (ft *fault) run(t *testing.T) {
	o := quick(ft.generators...)
	o.Grace, o.For, o.Compress = 3*time.Second, time.Minute, false
	o.KillLast = ft.plan.crash != nil
	if ft.plan.options != nil {
		ft.plan.options(&o)
	}
	first := seed.Of(t)
	for attempt := range 3 {
		h := ft.once(t, o, first+uint64(attempt))
		r := Analyse(h.Ops(), o.AdminLag)
		t.Logf("attempt %d, %d operations: %v", attempt+1, len(h.Ops()), r.Bad())
		if slices.ContainsFunc(ft.want, func(rule string) bool { return r.Counts[rule] > 0 }) {
			return
		}
		if attempt == 2 {
			keepHistory(t, h)
			t.Errorf("not found: want one of %v, got %v", ft.want, r.Bad())
		}
	}
}

// once runs the generators on a node that breaks the rule.
func (ft *fault) once(t *testing.T, o Options, seed uint64) *History {
	var more []embedded.Option
	dir := t.TempDir()
	if ft.plan.crash != nil {
		more = append(more, embedded.InDir(dir))
	}
	place := small(t, more...)
	defer place.node.Stop()
	if ft.plan.crash != nil {
		place.hurt = func(*embedded.Node) { ft.plan.crash(t, dir) }
	}
	f := &field{t: t, direct: &raw{dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", place.Addr())
	}}}
	defer f.direct.close()
	var l *liar
	if ft.lie != nil {
		l = ft.lie(f)
	}
	var since map[Func]int // what had been done when the last lie was told
	o.Enough = func(h *History, lies int64) bool {
		if lies < ft.plan.meets {
			return false
		}
		done := h.Done()
		if since == nil {
			since = done
		}
		return ft.plan.needs.met(done, since)
	}
	h, err := start(t.Context(), place, o, seed, l)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	return h
}
