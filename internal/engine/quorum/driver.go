package quorum

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// maxWaiting bounds the answers that wait for a commit: a quorum that does not get its majority must not collect requests.
const maxWaiting = 1 << 14

// maxOpsPerRound bounds the operations decided before their records are made durable together.
const maxOpsPerRound = 256

// waiting is an answer that leaves when the high watermark reaches end.
type waiting struct {
	end     id.Offset // exclusive
	outcome Outcome
	done    func(Outcome)
}

// driver is the one goroutine of a Quorum and everything it owns.
type driver struct {
	q      *Quorum
	o      *Options
	log    *metaLog
	raft   *raft.Raft
	loader *loader
	ctl    *controller.Controller // nil on a broker
	rand   *rand.Rand
	hard   raft.HardState // as found at start
	snap   *snapshot      // the newest one, until the start has loaded it

	waiting    []waiting
	activeFrom id.Offset // records from here on are the active controller's own; it has applied them
	lastAppend time.Time
	fullUntil  time.Time // until then nothing is decided that nobody asked for: the disk was full
	full       notice    // says so
	alarms     notice    // of other nodes that break the protocol
	unsound    notice    // of fetched batches
	snaps      snapshots
	peers      peers
}

// run is the driver's goroutine.
func (d *driver) run() {
	defer close(d.q.ended)
	if _, err := guard(func() (struct{}, error) { return struct{}{}, d.loop() }); err != nil {
		d.q.fail(err)
	}
	if _, err := guard(func() (struct{}, error) { d.loseLeadership(); return struct{}{}, nil }); err != nil {
		d.q.fail(err)
	}
	d.peers.end()
	d.q.refuseAll()
	d.snaps.wait()
}

func (d *driver) loop() error {
	if err := d.start(); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := d.settle(); err != nil {
			return err
		}
		if at, ok := d.deadline(); ok {
			timer.Reset(max(0, at.Sub(d.o.Now())))
		} else {
			timer.Stop()
		}
		select {
		case <-d.q.stop:
			d.raft.Resign(d.o.Now())
			if rd, ok := d.raft.Ready(); ok {
				d.peers.send(rd.Messages) // so that another voter stands at once
			}
			return nil
		case op := <-d.q.queue:
			if err := d.serve(op); err != nil {
				return err
			}
		case in := <-d.q.inbox:
			if err := d.peers.receive(in); err != nil {
				return err
			}
		case r := <-d.snaps.done:
			if err := d.snaps.finished(r); err != nil && !log.IsFull(err) { // what could not be cleaned up is next time
				return err
			}
		case <-d.q.poke:
			if d.q.out.Swap(false) {
				d.raft.Resign(d.o.Now())
			}
		case <-timer.C:
		}
		if err := d.tick(); err != nil {
			return err
		}
	}
}

// serve decides an operation and those that wait behind it.
func (d *driver) serve(op operation) error {
	for n := 0; ; n++ {
		if err := d.decide(op); err != nil {
			return err
		}
		if n >= maxOpsPerRound {
			return nil
		}
		select {
		case op = <-d.q.queue:
		default:
			return nil
		}
	}
}

// decides reports whether the controller may decide: it is active, and the leadership on which that rests was not lost since
// the core was last asked what is to be done.
func (d *driver) decides() bool {
	return d.ctl != nil && d.ctl.Active() && d.raft.Role() == raft.Leader
}

func (d *driver) decide(op operation) error {
	if !d.decides() {
		d.q.tell(op.done, notController())
		return nil
	}
	if len(d.waiting) >= maxWaiting {
		d.q.tell(op.done, tooManyWait())
		return nil
	}
	env := d.env()
	env.APIVersion, env.Forwarded = op.req.APIVersion, op.req.Forwarded
	dec, err := guard(func() (controller.Decision, error) { return d.ctl.Decide(env, op.req.Message), nil })
	if err != nil {
		d.mistrust(err)
		d.q.tell(op.done, Outcome{Err: &controller.Error{Code: wire.ErrUnknownServerError, Text: wire.ErrUnknownServerError.Message()}})
		return nil
	}
	if dec.Err != nil {
		d.q.tell(op.done, Outcome{Err: dec.Err})
		return nil
	}
	if err := d.append(dec); err != nil {
		refusal := d.takeBack(env.NextOffset, err)
		if refusal == nil {
			d.q.tell(op.done, notController())
			return err
		}
		d.q.tell(op.done, Outcome{Err: refusal})
		return nil
	}
	end := d.log.EndOffset()
	out := Outcome{Answer: dec.Answer}
	if len(dec.Records) == 0 && (!op.req.ReadCommitted || d.raft.HighWatermark() >= end) {
		d.q.tell(op.done, out)
		return nil
	}
	d.waiting = append(d.waiting, waiting{end: end, outcome: out, done: op.done})
	return nil
}

// fullPause is how long an idle controller waits after it found the disk full.
const fullPause = 500 * time.Millisecond

// takeBack undoes a decision of which nothing was written, because it is too large or the disk is full, and returns what whoever
// asked for it is told. It returns nil when the log is not as before: then the quorum has to stop.
func (d *driver) takeBack(from id.Offset, err error) *controller.Error {
	var large *errTooLarge
	var refusal *controller.Error
	switch {
	case errors.As(err, &large):
		refusal = &controller.Error{Code: wire.ErrRecordListTooLarge, Text: large.Error()}
	case log.IsFull(err) && d.log.EndOffset() == from:
		now := d.o.Now()
		d.fullUntil = now.Add(fullPause)
		if _, ok := d.full.due(now); ok {
			d.o.Logger.Error("the disk is full: changes of metadata are refused until there is room", "err", err)
		}
		refusal = &controller.Error{Code: wire.ErrKafkaStorageError, Text: "The disk of the metadata log is full."}
	default:
		return nil
	}
	d.ctl.Revert(from)
	return refusal
}

func (d *driver) env() controller.Env {
	return controller.Env{Now: d.o.Now(), NextOffset: d.log.EndOffset(), Rand: d.rand, KRaftVersion: d.raft.Membership().KRaftVersion,
		CheckKRaft: func(level int16) error {
			_, err := d.raft.UpgradeRecords(level)
			return err
		}}
}

// raiseKRaft writes the control batch that raises kraft.version. From here on the voters are those of the log.
func (d *driver) raiseKRaft(level int16) error {
	records, err := d.raft.UpgradeRecords(level)
	if err != nil || len(records) == 0 {
		return err
	}
	if err := d.log.appendControl(d.raft.HardState().Epoch, d.o.Now().UnixMilli(), records); err != nil {
		return fmt.Errorf("append kraft.version %d: %w", level, err)
	}
	d.raft.SetMembership(d.log.membership())
	return nil
}

// append writes a decision's records. An error that takeBack cannot bear ends the quorum.
func (d *driver) append(dec controller.Decision) error {
	if len(dec.Records) == 0 {
		return nil
	}
	now := d.o.Now()
	if err := d.log.appendRecords(d.raft.HardState().Epoch, now.UnixMilli(), dec.Records, dec.Atomic); err != nil {
		return fmt.Errorf("append metadata records: %w", err)
	}
	d.lastAppend = now
	if dec.KRaftVersion > 0 {
		if err := d.raiseKRaft(dec.KRaftVersion); err != nil {
			return err
		}
	}
	return nil
}

// tick does what time demands of the core, the controller and the log.
func (d *driver) tick() error {
	now := d.o.Now()
	d.raft.Tick(now)
	if d.decides() && !now.Before(d.fullUntil) {
		if err := d.tickController(now); err != nil {
			return err
		}
	}
	if err := d.snaps.tick(now); err != nil && !log.IsFull(err) { // cleaning can wait
		return err
	}
	if _, err := d.log.Tick(now); err != nil && !log.IsFull(err) { // a roll can wait
		return err
	}
	return nil
}

// tickController writes what the controller decides by itself, and a sign of life when it has nothing to decide.
func (d *driver) tickController(now time.Time) error {
	for range maxOpsPerRound {
		if at, ok := d.ctl.Deadline(); !ok || now.Before(at) {
			break
		}
		env := d.env()
		dec, err := guard(func() (controller.Decision, error) { return d.ctl.Tick(env), nil })
		if err != nil {
			d.mistrust(err)
			return nil
		}
		if len(dec.Records) == 0 {
			break
		}
		if err := d.append(dec); err != nil {
			if d.takeBack(env.NextOffset, err) == nil {
				return err
			}
			return nil
		}
	}
	if d.o.MaxIdleInterval > 0 && now.Sub(d.lastAppend) >= d.o.MaxIdleInterval {
		if err := d.append(controller.Decision{Records: noOp()}); err != nil && d.takeBack(d.log.EndOffset(), err) == nil {
			return err
		}
	}
	return nil
}

// deadline is when tick has something to do.
func (d *driver) deadline() (at time.Time, ok bool) {
	consider := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if t, some := d.raft.Deadline(); some {
		consider(t)
	}
	if d.decides() {
		later := func(t time.Time) time.Time { // a full disk puts off what nobody asked for
			if t.Before(d.fullUntil) {
				return d.fullUntil
			}
			return t
		}
		if t, some := d.ctl.Deadline(); some {
			consider(later(t))
		}
		if d.o.MaxIdleInterval > 0 {
			consider(later(d.lastAppend.Add(d.o.MaxIdleInterval)))
		}
	}
	if t, some := d.snaps.deadline(); some {
		consider(t)
	}
	if t, some := d.peers.deadline(); some {
		consider(t)
	}
	return at, ok
}

// settle does what the core asks for until it asks for nothing, makes the log durable, and hands on what is committed.
func (d *driver) settle() error {
	for {
		busy, err := d.ready()
		if err != nil {
			return err
		}
		if err := d.flush(); err != nil {
			return err
		}
		if err := d.committed(); err != nil {
			return err
		}
		activated, err := d.activate()
		if err != nil {
			return err
		}
		if !busy && !activated {
			d.snaps.maybe(d.o.Now()) // enough may be committed by now
			d.publishStatus()
			return d.peers.serve()
		}
	}
}

func (d *driver) ready() (bool, error) {
	if d.raft.Role() != raft.Leader {
		d.loseLeadership()
	}
	rd, ok := d.raft.Ready()
	if !ok {
		return false, nil
	}
	if rd.HardState != nil {
		if err := writeState(d.o.FS, d.o.logDir(), *rd.HardState, d.raft.Membership()); err != nil {
			return false, err
		}
		d.o.Logger.Info("quorum state", "role", d.raft.Role().String(), "epoch", int(rd.HardState.Epoch), "leader", int(rd.HardState.Leader))
	}
	if rd.TruncateTo != nil {
		if err := d.log.cutTo(*rd.TruncateTo); err != nil {
			return false, fmt.Errorf("truncate the metadata log: %w", err)
		}
		d.raft.SetMembership(d.log.membership())
		d.raft.Truncated(d.o.Now())
	}
	if rd.EpochStart != nil {
		now := d.o.Now()
		if err := d.log.appendControl(d.raft.HardState().Epoch, now.UnixMilli(), rd.EpochStart); err != nil {
			return false, fmt.Errorf("append the start of the epoch: %w", err)
		}
		d.lastAppend = now
		d.raft.SetMembership(d.log.membership())
	}
	if rd.Piece != nil {
		if err := d.peers.take(*rd.Piece); err != nil {
			return false, err
		}
	}
	if rd.Alarm != nil {
		if more, ok := d.alarms.due(d.o.Now()); ok {
			d.o.Logger.Error("another node breaks the protocol of the quorum", "err", rd.Alarm, "not_told", more)
		}
	}
	d.peers.send(rd.Messages)
	return true, nil
}

// flush makes the log durable. Only then does this node's copy count.
func (d *driver) flush() error {
	end := d.log.EndOffset()
	if d.log.DurableEnd() < end {
		if err := d.log.Flush(end); err != nil {
			return fmt.Errorf("flush the metadata log: %w", err)
		}
	}
	end, err := d.counted()
	if err != nil {
		return err
	}
	d.raft.Durable(end)
	return nil
}

// counted is how far this node's copy counts: all that is durable but for the batches that HoldBack keeps back.
func (d *driver) counted() (id.Offset, error) {
	end := d.log.DurableEnd()
	held := id.Offset(d.q.held.Load())
	if held == 0 {
		return end, nil
	}
	counted, opening := max(d.raft.HighWatermark(), d.log.StartOffset()), id.Offset(-1)
	if held < math.MaxInt32 {
		opening = d.raft.EpochStart() // nothing is written behind it until it is committed
	}
	err := d.log.batches(counted, max(end-held, opening+1), log.ReadLogEnd, func(b record.Batch) error {
		if b.NextOffset() <= end-held || b.BaseOffset() <= opening {
			counted = b.NextOffset()
		}
		return nil
	})
	return counted, err
}

// committed folds what the high watermark has passed and lets the answers go.
func (d *driver) committed() error {
	hw := d.raft.HighWatermark()
	if hw < d.loader.next || hw == d.loader.next && d.loader.caughtUp {
		return nil
	}
	d.log.AdvanceHighWatermark(hw)
	d.log.forgetBefore(hw)
	before := d.loader.img
	err := d.log.batches(d.loader.next, hw, log.ReadHighWatermark, d.fold)
	first := false
	if err == nil {
		first, err = d.loader.catchUp(hw)
	}
	d.publishStatus() // whoever sees the image, or is answered, finds the status that goes with it
	if first || d.loader.caughtUp && d.loader.img != before {
		d.q.setImage(d.loader.img)
	}
	if err != nil {
		return fmt.Errorf("replay the metadata log in %s: %w", d.o.logDir(), err)
	}
	n := 0
	for n < len(d.waiting) && d.waiting[n].end <= hw {
		d.q.tell(d.waiting[n].done, d.waiting[n].outcome)
		n++
	}
	d.waiting = append(d.waiting[:0], d.waiting[n:]...)
	return nil
}

// fold hands one committed batch to the image and to the controller, which has seen its own already.
func (d *driver) fold(b record.Batch) error {
	records, err := d.loader.fold(b)
	if err != nil || d.ctl == nil {
		return err
	}
	if d.ctl.Active() && b.BaseOffset() >= d.activeFrom {
		d.ctl.Committed(b.LastOffset())
		return nil
	}
	return d.ctl.Replay(b.BaseOffset(), records)
}

// activate lets the controller decide once everything before the leadership is replayed.
func (d *driver) activate() (bool, error) {
	if d.ctl == nil || d.ctl.Active() || d.raft.Role() != raft.Leader || d.loader.next <= d.raft.EpochStart() {
		return false, nil
	}
	epoch := d.raft.HardState().Epoch
	d.activeFrom = d.log.EndOffset()
	dec, err := d.ctl.Activate(d.env(), epoch)
	if err != nil {
		return false, fmt.Errorf("activate the controller: %w", err)
	}
	d.o.Logger.Info("the controller is active", "epoch", int(epoch), "offset", int64(d.activeFrom))
	return true, d.append(dec)
}

// loseLeadership takes the controller out of office and refuses what waits for a commit. Nothing of it was told to anybody;
// records that are committed after all come back through the log.
func (d *driver) loseLeadership() {
	if d.ctl != nil && d.ctl.Active() {
		d.ctl.Resign()
		d.o.Logger.Info("the controller is not active any more")
	}
	for _, w := range d.waiting {
		d.q.tell(w.done, notController())
	}
	d.waiting = nil
}

func (d *driver) publishStatus() {
	h, m := d.raft.HardState(), d.raft.Membership()
	s := &Status{
		Role: d.raft.Role(), Leader: Leader{ID: h.Leader, Epoch: h.Epoch}, HighWatermark: d.raft.HighWatermark(),
		LogStartOffset: d.log.StartOffset(), LogEndOffset: d.log.EndOffset(), KRaftVersion: m.KRaftVersion,
		ActiveBroker: d.ctl != nil && d.ctl.Active(),
	}
	voters, observers := d.raft.Status(d.o.Now())
	for _, r := range voters {
		s.Voters = append(s.Voters, replicaStatus(r, m.Voters))
	}
	for _, r := range observers {
		s.Observers = append(s.Observers, replicaStatus(r, nil))
	}
	d.q.status.Store(s)
}

func replicaStatus(r raft.ReplicaStatus, voters raft.Voters) ReplicaStatus {
	out := ReplicaStatus{Voter: Voter{ID: r.ID, DirectoryID: r.DirectoryID}, LogEndOffset: r.End, LastFetch: r.LastFetch, LastCaughtUpTime: r.LastCaughtUp}
	if v, ok := voters.Find(r.ID); ok {
		for _, e := range v.Endpoints {
			out.Endpoints = append(out.Endpoints, Endpoint(e))
		}
	}
	return out
}
