package quorum

import (
	"errors"
	"fmt"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
)

// Transport carries messages to other voters. Send must not block; what it cannot carry it drops, as a network would.
type Transport interface {
	Send(m raft.Message)
}

// Bounds of the exchange with other voters.
const (
	inboxSize     = 1024
	maxFetchBytes = 1 << 20 // controller.quorum.fetch.max.bytes
	maxFetchWait  = 500 * time.Millisecond
	maxParked     = 1000
)

// Deliver hands the driver a message of another voter. What does not fit its queue is dropped; the sender will try again.
func (q *Quorum) Deliver(m raft.Message) {
	select {
	case q.inbox <- m:
	default:
	}
}

// peers is the driver's part in the exchange with other voters: it appends what it fetched and serves the fetches of others.
type peers struct {
	d      *driver
	parked map[raft.Replica]parkedFetch
}

// parkedFetch is a fetch that waits for records or a higher high watermark. Each replica has one at most.
type parkedFetch struct {
	m     raft.Message
	until time.Time
}

func (p *peers) send(ms []raft.Message) {
	if p.d.o.Transport == nil {
		return
	}
	for _, m := range ms {
		p.d.o.Transport.Send(m)
	}
}

// receive takes a message. Records are appended and made durable before the core hears of them, since its next fetch says
// that they are.
func (p *peers) receive(m raft.Message) error {
	d := p.d
	if d.raft.Accepts(m) && len(m.Records) > 0 {
		if err := p.append(m); err != nil {
			return err
		}
	}
	now := d.o.Now()
	d.raft.Step(now, m)
	if m.Type == raft.MsgFetch && d.raft.Serves(m) {
		if _, again := p.parked[m.From]; again || len(p.parked) < maxParked {
			p.parked[m.From] = parkedFetch{m, now.Add(maxFetchWait)}
		}
	}
	return nil
}

// append writes fetched batches. What cannot be written because it is not sound is left out, and fetched again.
func (p *peers) append(m raft.Message) error {
	d := p.d
	before := d.log.EndOffset()
	_, err := d.log.AppendAsFollower(m.Records, m.Epoch)
	var unsound *record.Error
	if errors.As(err, &unsound) {
		d.o.Logger.Warn("fetched batches are refused", "leader", int(m.From.ID), "err", err)
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
	d := p.d
	if d.raft.Role() != raft.Leader {
		clear(p.parked)
		return nil
	}
	now, hw := d.o.Now(), d.raft.HighWatermark()
	for k, f := range p.parked {
		at := f.m.Log.Offset
		if f.m.Epoch == d.raft.HardState().Epoch && at >= d.log.EndOffset() && hw <= f.m.HighWatermark && now.Before(f.until) {
			continue
		}
		delete(p.parked, k)
		if f.m.Epoch != d.raft.HardState().Epoch {
			continue
		}
		a := d.raft.Answer(f.m)
		a.HighWatermark = hw
		if at < d.log.StartOffset() {
			// Only a snapshot could help; its transfer is not built yet.
			d.o.Logger.Warn("a replica is behind the start of the log", "replica", int(f.m.From.ID), "offset", int64(at))
			continue
		}
		var err error
		if a.Records, err = p.read(at); err != nil {
			return err
		}
		p.send([]raft.Message{a})
	}
	return nil
}

// read returns batches from offset on, committed or not.
func (p *peers) read(at id.Offset) ([]byte, error) {
	r, err := p.d.log.Read(log.ReadRequest{Offset: at, MaxBytes: maxFetchBytes, MinOneMessage: true, Isolation: log.ReadLogEnd,
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
