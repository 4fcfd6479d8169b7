package forward

import (
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/partition"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// isrRetry is how long changes wait after a request that failed as a whole, as in Kafka.
const isrRetry = 50 * time.Millisecond

// ISRDone hears what the controller made of a change: on success the in-sync set and the epochs that now hold.
type ISRDone func(isr []id.BrokerID, leader id.LeaderEpoch, partitionEpoch int32, code wire.ErrorCode)

// ISRChanges sends changes of in-sync sets to the controller (AlterPartition, KIP-497). One request is under way at a time;
// changes that come meanwhile go together in the next. A request that fails as a whole is sent again, as its changes are still
// wanted; what is wrong with one change is told to who asked for it.
type ISRChanges struct {
	self  id.BrokerID
	epoch func() id.BrokerEpoch
	line  interface {
		Start(req wire.Request, version int16, deadline time.Time, done func(wire.Message, error))
	}

	mu       sync.Mutex // guards the rest
	waiting  map[isrKey]isrChange
	order    []isrKey
	inFlight bool
	closed   bool
	timer    *time.Timer
}

type isrKey struct {
	topic id.UUID
	n     int32
}

type isrChange struct {
	p    *partition.Proposal
	done ISRDone
}

// NewISRChanges returns a sender for broker self, whose epoch at any time is what epoch returns.
func NewISRChanges(self id.BrokerID, epoch func() id.BrokerEpoch, line *Client) *ISRChanges {
	return &ISRChanges{self: self, epoch: epoch, line: line, waiting: map[isrKey]isrChange{}}
}

// Send asks for a change. A partition has one change under way at most; a second one replaces one that was not sent yet, which
// then hears OPERATION_NOT_ATTEMPTED. done must not block.
func (c *ISRChanges) Send(topic id.UUID, n int32, p *partition.Proposal, done func(isr []id.BrokerID, leader id.LeaderEpoch, partitionEpoch int32, code wire.ErrorCode)) {
	k := isrKey{topic, n}
	c.mu.Lock()
	old, replaced := c.waiting[k]
	closed := c.closed
	if !closed {
		if !replaced {
			c.order = append(c.order, k)
		}
		c.waiting[k] = isrChange{p: p, done: done}
	}
	c.mu.Unlock()
	switch {
	case closed:
		done(nil, 0, 0, wire.ErrOperationNotAttempted)
		return
	case replaced:
		old.done(nil, 0, 0, wire.ErrOperationNotAttempted)
	}
	c.flush()
}

// Close drops what was not sent.
func (c *ISRChanges) Close() {
	c.mu.Lock()
	c.closed = true
	left := c.waiting
	c.waiting, c.order = map[isrKey]isrChange{}, nil
	if c.timer != nil {
		c.timer.Stop()
	}
	c.mu.Unlock()
	for _, ch := range left {
		ch.done(nil, 0, 0, wire.ErrOperationNotAttempted)
	}
}

// flush sends all that waits, unless a request is under way or a pause is.
func (c *ISRChanges) flush() {
	c.mu.Lock()
	if c.inFlight || c.closed || c.timer != nil || len(c.order) == 0 {
		c.mu.Unlock()
		return
	}
	c.inFlight = true
	sent := c.waiting
	order := c.order
	c.waiting, c.order = map[isrKey]isrChange{}, nil
	c.mu.Unlock()
	c.line.Start(c.request(order, sent), alterPartitionVersion, time.Time{}, func(m wire.Message, err error) {
		c.answered(order, sent, m, err)
	})
}

const alterPartitionVersion = 3

func (c *ISRChanges) request(order []isrKey, sent map[isrKey]isrChange) *api.AlterPartitionRequest {
	req := api.NewAlterPartitionRequest()
	req.BrokerID, req.BrokerEpoch = int32(c.self), int64(c.epoch())
	at := map[id.UUID]int{}
	for _, k := range order {
		i, ok := at[k.topic]
		if !ok {
			i = len(req.Topics)
			at[k.topic] = i
			req.Topics = append(req.Topics, api.AlterPartitionRequestTopic{TopicID: k.topic})
		}
		p := sent[k].p
		rp := api.AlterPartitionRequestTopicPartition{PartitionIndex: k.n, LeaderEpoch: int32(p.LeaderEpoch), PartitionEpoch: p.PartitionEpoch}
		for j, b := range p.ISR {
			s := api.AlterPartitionRequestTopicPartitionNewIsrWithEpoch{BrokerID: int32(b), BrokerEpoch: int64(id.NoBrokerEpoch)}
			if j < len(p.Epochs) {
				s.BrokerEpoch = int64(p.Epochs[j])
			}
			rp.NewIsrWithEpochs = append(rp.NewIsrWithEpochs, s)
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, rp)
	}
	return req
}

func (c *ISRChanges) answered(order []isrKey, sent map[isrKey]isrChange, m wire.Message, err error) {
	a, ok := m.(*api.AlterPartitionResponse)
	if err != nil || !ok || a.ErrorCode != wire.ErrNone {
		c.again(order, sent)
		return
	}
	for _, t := range a.Topics {
		for _, p := range t.Partitions {
			k := isrKey{t.TopicID, p.PartitionIndex}
			ch, ok := sent[k]
			if !ok {
				continue
			}
			delete(sent, k)
			isr := make([]id.BrokerID, len(p.Isr))
			for i, b := range p.Isr {
				isr[i] = id.BrokerID(b)
			}
			ch.done(isr, id.LeaderEpoch(p.LeaderEpoch), p.PartitionEpoch, p.ErrorCode)
		}
	}
	for _, ch := range sent { // the controller said nothing of these
		ch.done(nil, 0, 0, wire.ErrUnknownServerError)
	}
	c.mu.Lock()
	c.inFlight = false
	c.mu.Unlock()
	c.flush()
}

// again puts changes back, behind nothing newer of the same partition, and pauses.
func (c *ISRChanges) again(order []isrKey, sent map[isrKey]isrChange) {
	var dropped []isrChange
	c.mu.Lock()
	c.inFlight = false
	keep := make([]isrKey, 0, len(order))
	for _, k := range order {
		if _, newer := c.waiting[k]; newer || c.closed {
			dropped = append(dropped, sent[k])
			continue
		}
		c.waiting[k] = sent[k]
		keep = append(keep, k)
	}
	c.order = append(keep, c.order...)
	if !c.closed && c.timer == nil {
		c.timer = time.AfterFunc(isrRetry, func() {
			c.mu.Lock()
			c.timer = nil
			c.mu.Unlock()
			c.flush()
		})
	}
	c.mu.Unlock()
	for _, ch := range dropped {
		ch.done(nil, 0, 0, wire.ErrOperationNotAttempted)
	}
}
