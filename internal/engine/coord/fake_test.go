package coord

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// memLog is a Log in memory, one per test, that can hold the high watermark, refuse appends and move the leadership.
type memLog struct {
	t  testing.TB
	mu sync.Mutex
	// by partition
	parts map[int32]*memPartition
}

type memPartition struct {
	epoch    id.LeaderEpoch
	batches  []record.Batch
	garbage  []byte // after the batches
	legacy   []byte // entries of old formats before the batches
	start    id.Offset
	end, hw  id.Offset
	hold     bool
	refuse   error
	max      int // bytes of a batch, if not 0
	appends  int
	watchers map[int]func(id.Offset)
	next     int
	stall    chan struct{} // reads wait for it
	slow     chan struct{} // appends wait for it
	versions []int16       // transaction versions of the batches
}

func newMemLog(t testing.TB, partitions int32) *memLog {
	l := &memLog{t: t, parts: map[int32]*memPartition{}}
	for p := range partitions {
		l.parts[p] = &memPartition{watchers: map[int]func(id.Offset){}}
	}
	return l
}

func (l *memLog) part(p int32, epoch id.LeaderEpoch) (*memPartition, error) {
	part := l.parts[p]
	if part == nil {
		return nil, fmt.Errorf("partition %d: %w", p, wire.ErrUnknownTopicOrPartition)
	}
	if epoch != part.epoch {
		return nil, fmt.Errorf("partition %d epoch %d: %w", p, epoch, wire.ErrFencedLeaderEpoch)
	}
	return part, nil
}

func (l *memLog) Append(p int32, epoch id.LeaderEpoch, batch Batch) (id.Offset, error) {
	l.mu.Lock()
	part, err := l.part(p, epoch)
	if err == nil && part.slow != nil {
		slow := part.slow
		l.mu.Unlock()
		<-slow
		l.mu.Lock()
		part, err = l.part(p, epoch)
	}
	if err == nil {
		err = part.refuse
	}
	if err == nil && part.max > 0 && len(batch.Bytes) > part.max {
		err = fmt.Errorf("%d bytes: %w", len(batch.Bytes), wire.ErrMessageTooLarge)
	}
	if err == errPanic {
		l.mu.Unlock()
		panic(err)
	}
	if err != nil {
		l.mu.Unlock()
		return 0, err
	}
	b, rest, err := record.Next(slices.Clone(batch.Bytes))
	if err != nil || len(rest) != 0 || b.CheckCRC() != nil {
		l.t.Errorf("appended %d bytes that are not one batch: %v", len(batch.Bytes), err)
	}
	b.SetBaseOffset(part.end)
	part.batches = append(part.batches, b)
	part.end = b.NextOffset()
	part.appends++
	part.versions = append(part.versions, batch.TransactionVersion)
	next := part.end
	tell := part.advance()
	l.mu.Unlock()
	tell()
	return next, nil
}

// write appends a batch of one record behind the runtime's back.
func (p *memPartition) write(t *testing.T, o record.Options, key, value []byte) {
	t.Helper()
	b := record.NewBuilder(o)
	if err := b.Append(1, key, value); err != nil {
		t.Fatal(err)
	}
	built, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	p.copy(built)
}

// copy appends a copy of a batch of one record behind the runtime's back.
func (p *memPartition) copy(b record.Batch) {
	b = slices.Clone(b)
	b.SetBaseOffset(p.end)
	p.batches, p.end = append(p.batches, b), p.end+1
}

// advance moves the high watermark unless held and returns who is to be told, without the lock.
func (p *memPartition) advance() func() {
	if p.hold || p.hw == p.end {
		return func() {}
	}
	return p.commit(p.end)
}

// commit sets the high watermark and returns who is to be told, without the lock.
func (p *memPartition) commit(hw id.Offset) func() {
	p.hw = hw
	var all []func(id.Offset)
	for _, w := range p.watchers {
		all = append(all, w)
	}
	return func() {
		for _, w := range all {
			w(hw)
		}
	}
}

func (l *memLog) Read(p int32, epoch id.LeaderEpoch, offset id.Offset, maxBytes int, buf []byte) ([]byte, error) {
	l.mu.Lock()
	part, err := l.part(p, epoch)
	stall := chan struct{}(nil)
	if err == nil {
		stall = part.stall
	}
	l.mu.Unlock()
	if stall != nil {
		<-stall
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if part, err = l.part(p, epoch); err != nil {
		return nil, err
	}
	buf = buf[:0]
	if part.legacy != nil && (len(part.batches) == 0 && offset < part.end || len(part.batches) > 0 && offset < part.batches[0].BaseOffset()) {
		return append(buf, part.legacy...), nil
	}
	for _, b := range part.batches {
		if b.LastOffset() < offset {
			continue
		}
		if len(buf) > 0 && len(buf)+len(b) > maxBytes {
			break
		}
		buf = append(buf, b...)
	}
	return append(buf, part.garbage...), nil
}

func (l *memLog) Ends(p int32, epoch id.LeaderEpoch) (Ends, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	part, err := l.part(p, epoch)
	if err != nil {
		return Ends{}, err
	}
	return Ends{Start: part.start, HighWatermark: part.hw, End: part.end}, nil
}

func (l *memLog) Watch(p int32, advanced func(id.Offset)) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	part := l.parts[p]
	if part == nil {
		return nil, wire.ErrUnknownTopicOrPartition
	}
	n := part.next
	part.next++
	part.watchers[n] = advanced
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(part.watchers, n)
	}, nil
}

// set changes a partition and tells of a high watermark that moves because of it.
func (l *memLog) set(p int32, change func(*memPartition)) {
	l.mu.Lock()
	part := l.parts[p]
	change(part)
	tell := part.advance()
	l.mu.Unlock()
	tell()
}

// commit lets the high watermark of a partition that holds it go on to hw.
func (l *memLog) commit(p int32, hw id.Offset) {
	l.mu.Lock()
	tell := l.parts[p].commit(hw)
	l.mu.Unlock()
	tell()
}

// depose makes another broker the leader, which cuts off what is not committed.
func (l *memLog) depose(p int32) id.LeaderEpoch {
	var epoch id.LeaderEpoch
	l.set(p, func(m *memPartition) {
		m.batches = slices.DeleteFunc(m.batches, func(b record.Batch) bool { return b.BaseOffset() >= m.hw })
		m.end = m.hw
		m.hold = false
		m.epoch++
		epoch = m.epoch
	})
	return epoch
}
