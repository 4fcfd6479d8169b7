package coord

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestLoadAboveTheWatermark: what is not committed when a partition is loaded is worked with and not shown, and nothing that rests on
// it leaves before it is.
func TestLoadAboveTheWatermark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		former := start(t, l, nil)
		former.Elected(0, 0)
		synctest.Wait()
		expect(t, "committed", commit(former, 0, "g", 1), "NONE")
		l.set(0, func(p *memPartition) { p.hold = true })
		commit(former, 0, "g", 2)
		commit(former, 0, "g", 3)
		commit(former, 0, "h", 4)
		synctest.Wait()

		r := start(t, l, nil)
		gate := make(chan struct{})
		l.set(0, func(p *memPartition) { p.stall = gate })
		r.Elected(0, 0)
		synctest.Wait()
		l.commit(0, 2) // while it loads
		close(gate)
		expectFetch(t, r, 0, "g", "2")
		expectFetch(t, r, 0, "h", "-1")
		stable := &call{}
		r.Do(0, func(_ any, code wire.ErrorCode) { stable.reply(nil, code) }, func(s *group.Shard, now time.Time, tk shard.Ticket) shard.Result {
			return s.FetchStableOffsets(group.Turn{Now: now, Ticket: tk}, &api.OffsetFetchRequestGroup{GroupID: "g", MemberEpoch: -1})
		})
		expect(t, "a read of the working state", stable, "")
		l.commit(0, 3)
		expectFetch(t, r, 0, "g", "3")
		expect(t, "a read of the working state", stable, "")
		l.commit(0, 4)
		expect(t, "a read of the working state", stable, "NONE")
		expectFetch(t, r, 0, "h", "4")
	})
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		w.put(0, "a", "1")
		w.expect("a: put a")
		w.hold(true)
		w.put(0, "b", "1")
		w.put(0, "c", "1")
		w.r.Close()
		w.expect("c: NOT_COORDINATOR", "b: NOT_COORDINATOR")
		w.r = New(w.r.opts)
		t.Cleanup(w.r.Close)
		w.r.Elected(0, 0)
		w.state("a=1 b=1 c=1")
		w.do(0, "read", func(n *notes) shard.Result { return shard.Result{Reply: n.hw} })
		w.l.commit(0, 2)
		w.expect()
		w.l.commit(0, 3)
		w.expect("loaded", "read: 1")
	})
}

// TestLoadOfWhatIsLeft: a log may end in offsets without records, and may have nothing else.
func TestLoadOfWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		again := func() {
			t.Helper()
			w.r.Elected(0, w.l.depose(0))
			w.expect("loaded")
		}
		w.l.set(0, func(p *memPartition) { p.start, p.end, p.hw = 5, 10, 10 })
		again()
		w.state("")
		w.put(0, "a", "1")
		w.expect("a: put a")
		w.l.set(0, func(p *memPartition) { p.end += 3 })
		again()
		w.put(0, "b", "1")
		w.expect("b: put b")
		w.state("a=1 b=1")
		if at := w.l.parts[0].batches[1].BaseOffset(); at != 14 {
			t.Errorf("the batch after the hole is at %d", at)
		}
		// One whose committed end is below the hole has to be committed there, too.
		w.l.set(0, func(p *memPartition) { p.hold, p.end = true, p.end+1 })
		w.r.Close()
		w.r = New(w.r.opts)
		t.Cleanup(w.r.Close)
		w.r.Elected(0, w.l.parts[0].epoch)
		w.expect()
		w.hold(false)
		w.expect("loaded")
	})
}

// TestLoadSkipsTheUnknown: records of a type, and control records, that a later release has written are no hindrance.
func TestLoadSkipsTheUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(t, 1)
		r := start(t, l, nil)
		r.Elected(0, 0)
		synctest.Wait()
		expect(t, "before", commit(r, 0, "g", 1), "NONE")
		control := record.NewOptions()
		control.Control, control.Transactional, control.ProducerID, control.ProducerEpoch = true, true, 7, 0
		l.set(0, func(p *memPartition) {
			p.write(t, record.NewOptions(), []byte{0, 99, 1, 2, 3}, []byte{0, 0})
			p.write(t, control, []byte{0, 0, 0, 77}, []byte{0, 0, 0, 0, 0, 0})
		})
		r.Elected(0, l.depose(0))
		expectFetch(t, r, 0, "g", "1")
		expect(t, "after", commit(r, 0, "g", 2), "NONE")
		if at := l.parts[0].batches[3].BaseOffset(); at != 3 {
			t.Errorf("the next batch is at %d", at)
		}
	})
}

// TestLoadFails: a log that cannot be read, and a partition that is not there or goes while it is loaded. Its next leader epoch is
// another try.
func TestLoadFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		w.put(0, "a", "1")
		w.expect("a: put a")
		refused := func(p int32) {
			t.Helper()
			synctest.Wait()
			w.put(p, "b", "1")
			w.expect("b: NOT_COORDINATOR")
			if g := w.r.Gauges(); g.Failed != 1 {
				t.Errorf("%+v", g)
			}
		}
		w.l.set(0, func(p *memPartition) { p.garbage, p.end = make([]byte, 100), p.end+1 })
		w.r.Elected(0, w.l.depose(0))
		refused(0)
		w.l.set(0, func(p *memPartition) { p.garbage = nil })
		w.r.Elected(0, w.l.depose(0))
		w.expect("loaded")
		w.state("a=1")
		gate := make(chan struct{})
		w.l.set(0, func(p *memPartition) { p.stall = gate })
		w.r.Elected(0, w.l.depose(0))
		synctest.Wait()
		epoch := w.l.depose(0)
		w.l.set(0, func(p *memPartition) { p.stall = nil })
		close(gate)
		refused(0)
		w.r.Elected(0, epoch)
		w.expect("loaded")
		w.state("a=1")
		w.r.Elected(3, 0)
		refused(3)
		w.r.Resigned(3, id.NoLeaderEpoch)
		if g := w.r.Gauges(); g.Failed != 0 || g.Active != 1 {
			t.Errorf("%+v", g)
		}
	})
}

// TestAwaitLoaded: loads are waited for, also those of partitions that have yet to be led, and not when they have failed.
func TestAwaitLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 2, nil)
		await := func(ctx context.Context, partitions ...int32) chan error {
			outcome := make(chan error, 1)
			go func() { outcome <- w.r.AwaitLoaded(ctx, partitions) }()
			return outcome
		}
		waits := func(outcome chan error) {
			t.Helper()
			synctest.Wait()
			if len(outcome) > 0 {
				t.Errorf("is not waited for: %v", <-outcome)
			}
		}
		over := func(outcome chan error, want error) {
			t.Helper()
			synctest.Wait()
			if len(outcome) == 0 {
				t.Fatal("is waited for")
			}
			if err := <-outcome; err != want {
				t.Errorf("%v, want %v", err, want)
			}
		}
		over(await(t.Context()), nil)
		over(await(t.Context(), 0, 1), nil)
		gate := make(chan struct{})
		w.l.set(1, func(p *memPartition) { p.stall = gate })
		w.r.Elected(1, w.l.depose(1))
		both := await(t.Context(), 0, 1)
		waits(both)
		w.r.Elected(0, w.l.depose(0))
		waits(both)
		close(gate)
		over(both, nil)

		foreign := await(t.Context(), 0, 7)
		waits(foreign)
		w.r.Elected(7, 0) // which is not in the log
		over(foreign, nil)

		ctx, cancel := context.WithCancel(t.Context())
		patient, impatient := await(t.Context(), 8), await(ctx, 8)
		waits(impatient)
		cancel()
		over(impatient, context.Canceled)
		waits(patient)
		w.r.Close()
		over(patient, nil)
	})
}
