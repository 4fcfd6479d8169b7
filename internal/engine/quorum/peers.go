package quorum

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// Transport carries messages to other voters. Send must not block; what it cannot carry it drops, as a network would.
type Transport interface {
	Send(m raft.Message)
}

// Bounds of the exchange with other nodes.
const (
	inboxSize     = 1024
	maxFetchBytes = 1 << 20 // controller.quorum.fetch.max.bytes, of who does not say how much it wants
	maxFetchWait  = 500 * time.Millisecond
	maxParked     = 1000
	maxReadBytes  = maxBatchBytes // whatever a request asks for
)

// Deliver hands the driver a message of another voter. What does not fit its queue is dropped; the sender will try again.
func (q *Quorum) Deliver(m raft.Message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refuse {
		return
	}
	select {
	case q.inbox <- inbound{m: m}:
	default:
	}
}

// Ask is a request of another node, a voter or an observer, that wants its answer back.
type Ask struct {
	Message raft.Message
	// MaxBytes bounds the records of a fetch, apart from the first batch, and the piece of a snapshot.
	MaxBytes int
	// MaxWait is how long a fetch waits for records or a higher high watermark.
	MaxWait time.Duration
}

// Reply is the answer to an Ask.
type Reply struct {
	Message raft.Message
	// LogStartOffset is where the log begins, in the answer to a fetch.
	LogStartOffset id.Offset
}

// Ask hands a request to the driver. What it changes of the quorum's state is durable before done is called, once, on the
// driver's goroutine or, if the quorum is closed or its queue is full, on the caller's; done must not block.
func (q *Quorum) Ask(a Ask, done func(Reply)) {
	q.mu.Lock()
	queued := false
	if !q.refuse {
		select {
		case q.inbox <- inbound{m: a.Message, from: &asker{maxBytes: a.MaxBytes, maxWait: a.MaxWait, done: done}}:
			queued = true
		default:
		}
	}
	q.mu.Unlock()
	if !queued {
		done(q.notAvailable(a.Message))
	}
}

// notAvailable is the answer of a node that cannot serve a request now.
func (q *Quorum) notAvailable(m raft.Message) Reply {
	s := q.Status()
	return Reply{LogStartOffset: s.LogStartOffset, Message: raft.Message{Type: m.Type + 1, From: raft.Replica{ID: q.o.NodeID, DirectoryID: q.o.DirectoryID},
		To: m.From.ID, Epoch: s.Leader.Epoch, Leader: s.Leader.ID, PreVote: m.PreVote, Log: m.Log, At: m.At, HighWatermark: -1,
		Error: wire.ErrBrokerNotAvailable}}
}

// inbound is a message on its way to the driver. from is nil where the answer, if it is a request, goes to the Transport.
type inbound struct {
	m    raft.Message
	from *asker
}

type asker struct {
	maxBytes int
	maxWait  time.Duration
	done     func(Reply)
}

// peers is the driver's part in the exchange with other nodes: it appends what it fetched and serves the fetches of others.
type peers struct {
	d      *driver
	parked []parkedFetch
	// asking is the request that was stepped last, whose answer is among the core's messages next.
	asking *inbound
	load   loading
}

// parkedFetch is a fetch that waits for records or a higher high watermark.
type parkedFetch struct {
	inbound
	until time.Time
}

// send hands on what the core says. Answers to an Ask go back to who asked: the core answers a request in the very step that
// takes it, or leaves the answer to serve.
func (p *peers) send(ms []raft.Message) {
	for _, m := range ms {
		if in := p.asking; in != nil && m.Type == in.m.Type+1 {
			p.asking = nil
			p.reply(*in, m)
			continue
		}
		if p.d.o.Transport != nil {
			p.d.o.Transport.Send(m)
		}
	}
}

// reply gives an answer to who waits for it.
func (p *peers) reply(to inbound, m raft.Message) {
	if to.from == nil {
		p.send([]raft.Message{m})
		return
	}
	p.d.q.give(to.from.done, Reply{Message: m, LogStartOffset: p.d.log.StartOffset()})
}

// receive takes a message. Records are appended and made durable before the core hears of them, since its next fetch says
// that they are.
func (p *peers) receive(in inbound) error {
	d, m := p.d, in.m
	if d.raft.Accepts(m) && len(m.Records) > 0 {
		if err := p.append(m); err != nil {
			return err
		}
	}
	now := d.o.Now()
	p.unanswered()
	if in.from != nil {
		p.asking = &in
	}
	d.raft.Step(now, m)
	if !d.raft.Serves(m) {
		return nil
	}
	p.asking = nil
	if m.Type == raft.MsgFetchSnapshot {
		p.reply(in, p.piece(in))
		return nil
	}
	wait := maxFetchWait
	if in.from != nil {
		wait = in.from.maxWait
	} else { // each voter has one at most
		for i := range p.parked {
			if p.parked[i].from == nil && p.parked[i].m.From == m.From {
				p.parked[i] = parkedFetch{in, now.Add(wait)}
				return nil
			}
		}
	}
	if len(p.parked) >= maxParked {
		wait = 0 // answered with what there is
	}
	p.parked = append(p.parked, parkedFetch{in, now.Add(wait)})
	return nil
}

// unanswered lets nobody wait for an answer that the core did not give, which would be a defect of the core.
func (p *peers) unanswered() {
	if in := p.asking; in != nil {
		p.asking = nil
		a := p.d.raft.Answer(in.m)
		a.Error = wire.ErrUnknownServerError
		p.reply(*in, a)
	}
}

// append writes fetched batches. What cannot be written because it is not sound is left out, and fetched again.
func (p *peers) append(m raft.Message) error {
	d := p.d
	if err := d.log.owned(math.MaxInt32); err != nil {
		return err
	}
	before := d.log.EndOffset()
	_, err := d.log.AppendAsFollower(m.Records, m.Epoch)
	var unsound *record.Error
	if errors.As(err, &unsound) {
		if more, ok := d.unsound.due(d.o.Now()); ok {
			d.o.Logger.Warn("fetched batches are refused", "leader", int(m.From.ID), "err", err, "not_told", more)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("append fetched batches: %w", err)
	}
	if err := d.log.scan(before); err != nil {
		return err
	}
	d.raft.SetMembership(d.log.membership())
	return d.flush()
}

// serve answers the parked fetches for which there is something, or whose time is over.
func (p *peers) serve() error {
	if len(p.parked) == 0 {
		return nil
	}
	now := p.d.o.Now()
	kept := p.parked[:0]
	for i, f := range p.parked {
		if !p.ripe(f, now) {
			kept = append(kept, f)
			continue
		}
		if err := p.answer(f); err != nil {
			p.parked = append(kept, p.parked[i:]...)
			return err
		}
	}
	clear(p.parked[len(kept):])
	p.parked = kept
	return nil
}

// ripe reports whether a fetch has waited long enough.
func (p *peers) ripe(f parkedFetch, now time.Time) bool {
	return f.m.Log.Offset < p.d.log.EndOffset() || p.d.raft.HighWatermark() > f.m.HighWatermark || !now.Before(f.until) || !p.d.raft.Serves(f.m)
}

// answer ends the wait of a fetch.
func (p *peers) answer(f parkedFetch) error {
	d := p.d
	a := d.raft.Answer(f.m)
	switch {
	case d.raft.Role() != raft.Leader:
		a.Error = wire.ErrNotLeaderOrFollower
	case f.m.Epoch != d.raft.HardState().Epoch: // led, lost and led again
		a.Error = wire.ErrFencedLeaderEpoch
	default:
		a.HighWatermark = d.raft.HighWatermark()
		if a.Diverging, a.Snapshot = d.raft.Check(f.m.Log); a.Diverging == nil && a.Snapshot == nil {
			limit := maxFetchBytes
			if f.from != nil {
				limit = min(max(f.from.maxBytes, 0), maxReadBytes)
			}
			var err error
			if a.Records, err = p.read(f.m.Log.Offset, limit); err != nil {
				return err
			}
		}
	}
	p.reply(f.inbound, a)
	return nil
}

// read returns batches from offset on, committed or not.
func (p *peers) read(at id.Offset, limit int) ([]byte, error) {
	r, err := p.d.log.Read(log.ReadRequest{Offset: at, MaxBytes: limit, MinOneMessage: true, Isolation: log.ReadLogEnd,
		Reader: log.Reader{ReplicaID: id.NoBroker, ReplicaEpoch: id.NoBrokerEpoch}, LastFetchedEpoch: id.NoLeaderEpoch})
	if err != nil {
		return nil, fmt.Errorf("serve a fetch at offset %d: %w", at, err)
	}
	if r.Section == nil {
		return nil, nil
	}
	defer r.Section.Release()
	return r.Section.Bytes()
}

// deadline is when a parked fetch must be answered.
func (p *peers) deadline() (at time.Time, ok bool) {
	for _, f := range p.parked {
		if !ok || f.until.Before(at) {
			at, ok = f.until, true
		}
	}
	return at, ok
}

// end answers everything that waits, when the driver ends.
func (p *peers) end() {
	var all []inbound
	if p.asking != nil {
		all = append(all, *p.asking)
	}
	for _, f := range p.parked {
		all = append(all, f.inbound)
	}
	p.asking, p.parked = nil, nil
	for _, in := range all {
		if in.from != nil {
			p.d.q.give(in.from.done, p.d.q.notAvailable(in.m))
		}
	}
	p.load.drop()
}
