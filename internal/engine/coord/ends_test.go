package coord

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire"
)

// watchers is how many look at the high watermark of a partition.
func (w *noteWorld) watchers(p int32) int {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	return len(w.l.parts[p].watchers)
}

// TestWatermarkOfTheNextLeader: once the leadership is over, the partition's high watermark speaks of another leader's records, which
// may have the offsets of those that were cut off here.
func TestWatermarkOfTheNextLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		w.hold(true)
		w.put(0, "a", "1", "never")
		w.expect()
		// Somebody has the cell while the leadership ends, so that it cannot be ended at once.
		gate := make(chan struct{})
		go w.do(0, "slow", func(*notes) shard.Result {
			<-gate
			return shard.Result{Reply: "read", Messages: []any{"never"}}
		})
		synctest.Wait()
		w.r.Resigned(0, w.l.depose(0))
		w.l.set(0, func(p *memPartition) { p.end += 5 }) // what this broker replicates as a follower
		close(gate)
		w.expect("slow: NOT_COORDINATOR", "a: NOT_COORDINATOR")
	})
}

// TestNothingIsWrittenAfterTheEnd: when the topic is deleted and made again, the log has the leader epoch that the former one had.
func TestNothingIsWrittenAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, func(_ *noteWorld, o *Options[*notes]) { o.Linger = time.Hour })
		w.put(0, "a", "1")
		gate := make(chan struct{})
		go w.do(0, "slow", func(*notes) shard.Result { // writes what is open first
			<-gate
			return shard.Result{Reply: "ended", Marker: &shard.Marker{Producer: shard.Producer{ID: 1}, Change: noteEnd{1, true}}}
		})
		synctest.Wait()
		w.r.Resigned(0, id.NoLeaderEpoch)
		close(gate)
		w.expect("slow: NOT_COORDINATOR", "a: NOT_COORDINATOR")
		if n := w.l.parts[0].appends; n != 0 {
			t.Errorf("%d appends", n)
		}
	})
}

// TestNobodyWatchesInVain: whatever ends a cell, or keeps it from being loaded, it stops to look at the high watermark.
func TestNobodyWatchesInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		w.put(0, "a", "1")
		w.expect("a: put a")
		look := func(what string, want int) {
			t.Helper()
			synctest.Wait()
			if n := w.watchers(0); n != want {
				t.Errorf("%s: %d look at the high watermark, want %d", what, n, want)
			}
		}
		look("active", 1)
		w.fail = "Replay"
		w.r.Elected(0, w.l.depose(0))
		look("after a panic in the replay", 0)
		w.fail = "Loaded"
		w.r.Elected(0, w.l.depose(0))
		look("after panics when loaded", 0)
		w.fail = ""
		gate := make(chan struct{})
		w.l.set(0, func(p *memPartition) { p.stall = gate })
		epoch := w.l.depose(0)
		w.r.Elected(0, epoch)
		look("loading", 1)
		w.r.Resigned(0, epoch+1)
		w.l.set(0, func(p *memPartition) { p.stall = nil })
		close(gate)
		look("resigned while it was loaded", 0)
		w.r.Elected(0, epoch+7) // an epoch that the log does not know
		look("not led by the log", 0)
		w.r.Elected(0, w.l.depose(0))
		look("an older epoch than that", 0)
		w.r.Resigned(0, epoch+7)
		w.r.Elected(0, epoch+1)
		w.expect("loaded")
		look("elected again", 1)
		w.do(0, "x", func(*notes) shard.Result { panic("boom") })
		look("loaded anew after a panic", 1)
		w.r.Close()
		look("closed", 0)
	})
}

// TestEventsOutliveTheirCell: what all partitions are told is not lost when one of them is loaded again before it has heard it. What is
// reported to one leadership is.
func TestEventsOutliveTheirCell(t *testing.T) {
	for _, how := range []string{"panic", "out of step", "new epoch"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newNoteWorld(t, 1, nil)
				w.put(0, "a", "1")
				w.expect("a: put a")
				gate := make(chan struct{})
				w.l.set(0, func(p *memPartition) { p.slow = gate })
				go w.put(0, "stuck", "1")
				synctest.Wait()
				from := w.from
				if how == "panic" {
					w.r.DoAll(func(*notes, time.Time) shard.Result { panic("boom") })
				}
				from.Report(func(n *notes, _ time.Time) shard.Result { return n.put("own", "1") })
				for i := range 3 {
					w.r.DoAll(func(n *notes, _ time.Time) shard.Result { return n.put("all", n.values["all"]+fmt.Sprint(i)) })
				}
				w.l.set(0, func(p *memPartition) { p.slow = nil })
				want := "a=1 all=0123 stuck=1"
				switch how {
				case "out of step":
					w.l.set(0, func(p *memPartition) { p.end++ })
				case "new epoch":
					w.r.Elected(0, w.l.depose(0))
					want = "a=1 all=0123"
				}
				w.r.DoAll(func(n *notes, _ time.Time) shard.Result { return n.put("all", n.values["all"]+"3") })
				close(gate)
				synctest.Wait()
				w.state(want)
				if how == "new epoch" {
					return
				}
				if from.Live() {
					t.Error("the former leadership lives on")
				}
			})
		})
	}
}

// TestEventsAwaitTheNextCell: what all partitions are told is not lost either when a cell ends by itself, before anybody tells of another
// leadership, nor what they are told until then. How much waits there is bounded, too.
func TestEventsAwaitTheNextCell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 5
		w := newNoteWorld(t, 1, func(_ *noteWorld, o *Options[*notes]) { o.MaxWaiting = most })
		gate := make(chan struct{})
		w.l.set(0, func(p *memPartition) { p.slow = gate })
		go w.put(0, "stuck", "1")
		synctest.Wait()
		all := func(n *notes, _ time.Time) shard.Result { return n.put("all", n.values["all"]+"x") }
		w.r.DoAll(all)
		w.from.Report(func(n *notes, _ time.Time) shard.Result { return n.put("own", "1") })
		w.l.set(0, func(p *memPartition) { p.slow = nil })
		epoch := w.l.depose(0)
		close(gate)
		w.expect("stuck: NOT_COORDINATOR")
		if w.from.Report(all) {
			t.Error("a leadership that is over takes events")
		}
		w.r.DoAll(all)
		if n := w.r.Gauges().Queued; n != 2 {
			t.Errorf("%d events wait, want 2", n)
		}
		w.r.Elected(0, epoch)
		w.expect("loaded")
		w.state("all=xx")
		w.fail = "Replay"
		w.r.Elected(0, w.l.depose(0))
		synctest.Wait()
		for range 2 * most {
			w.r.DoAll(all)
		}
		w.fail = ""
		w.r.Elected(0, w.l.depose(0))
		w.expect("loaded")
		w.state("all=xx" + strings.Repeat("x", most))
	})
}

// TestInboxIsBounded: whoever reports is told when too much waits, and may try again; what was taken is heard.
func TestInboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 100
		w := newNoteWorld(t, 1, func(_ *noteWorld, o *Options[*notes]) { o.MaxWaiting = most })
		gate := make(chan struct{})
		go w.do(0, "held", func(*notes) shard.Result { <-gate; return shard.Result{Reply: "free"} })
		synctest.Wait()
		heard, taken := 0, 0
		event := func(*notes, time.Time) shard.Result { heard++; return shard.Result{} }
		for w.from.Report(event) {
			taken++
		}
		w.r.DoAll(event) // is lost, and the log says so
		if taken != most || !w.from.Live() || w.r.Gauges().Queued != most {
			t.Errorf("%d events were taken, %d wait", taken, w.r.Gauges().Queued)
		}
		close(gate)
		w.expect("held: free")
		if heard != taken || w.r.Gauges().Queued != 0 {
			t.Errorf("%d of %d events were heard, %d wait", heard, taken, w.r.Gauges().Queued)
		}
		if !w.from.Report(event) {
			t.Error("nothing is taken any more")
		}
		synctest.Wait()
		if heard != taken+1 {
			t.Error("the event that was tried again was not heard")
		}
	})
}

// TestLostIsToldBeforeTheNextDecision: who has lost his records hears of it before anything else is decided, also among events and
// deadlines that come in one turn.
func TestLostIsToldBeforeTheNextDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		gate := make(chan struct{})
		go w.do(0, "held", func(*notes) shard.Result { <-gate; return shard.Result{Reply: "free"} })
		synctest.Wait()
		w.l.set(0, func(p *memPartition) { p.refuse = wire.ErrNotEnoughReplicas })
		w.r.DoAll(func(n *notes, _ time.Time) shard.Result {
			res := n.put("x", "1")
			res.Then = func(_ time.Time, code wire.ErrorCode) shard.Result {
				w.say("x: " + code.Name())
				return shard.Result{}
			}
			return res
		})
		w.r.DoAll(func(*notes, time.Time) shard.Result { // writes what is open
			return shard.Result{Marker: &shard.Marker{Producer: shard.Producer{ID: 1}, Change: noteEnd{1, true}},
				Then: func(_ time.Time, code wire.ErrorCode) shard.Result {
					w.say("marker: " + code.Name())
					return shard.Result{}
				}}
		})
		w.r.DoAll(func(n *notes, _ time.Time) shard.Result { w.say("next sees " + n.String()); return shard.Result{} })
		close(gate)
		w.expect("x: NOT_ENOUGH_REPLICAS", "marker: NOT_ENOUGH_REPLICAS", "next sees ", "held: free")
	})
}

// TestReplyThatWaits: the append to which a transaction's coordinator has let a producer is made where its answer comes, and may wait for
// its disk. That holds up nothing of the coordinator's.
func TestReplyThatWaits(t *testing.T) {
	for _, opened := range []bool{false, true} {
		t.Run(fmt.Sprintf("opened=%v", opened), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newNoteWorld(t, 1, nil)
				gate := make(chan struct{})
				release := sync.OnceFunc(func() { close(gate) })
				t.Cleanup(release)
				go w.r.Do(0, func(any, wire.ErrorCode) { <-gate }, func(n *notes, now time.Time, _ shard.Ticket) shard.Result {
					if opened { // a batch in the same turn
						w.r.DoAll(func(n *notes, _ time.Time) shard.Result { return n.put("event", "1") })
					}
					return shard.Result{Reply: "stuck"}
				})
				synctest.Wait()
				if opened {
					w.state("event=1")
				}
				w.hold(true)
				w.put(0, "a", "1")
				w.expect()
				w.hold(false) // nobody but the high watermark comes
				w.expect("a: put a")
				w.do(0, "look", func(n *notes) shard.Result { n.at = time.Now().Add(time.Second); return shard.Result{Reply: "ok"} })
				w.expect("look: ok")
				pass(2 * time.Second)
				synctest.Wait()
				w.r.Read(0, func(n *notes) {
					if n.values["expired"] == "" {
						t.Error("a deadline has passed unnoticed")
					}
				})
				release()
			})
		})
	}
}

// TestCloseTellsEverybody: who waits is told that this is not his coordinator any more, who comes later that there is none. A partition
// whose disk does not answer delays the end, not what the others are told.
func TestCloseTellsEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 9, func(_ *noteWorld, o *Options[*notes]) { o.Linger = time.Hour })
		w.do(1, "commit", func(*notes) shard.Result { // written at once, and never committed
			w.l.mu.Lock()
			w.l.parts[1].hold = true
			w.l.mu.Unlock()
			return shard.Result{Reply: "put", Producer: &shard.Producer{ID: 1, Epoch: 3}, Messages: []any{"never"},
				Records: []shard.Record{{Key: []byte("x"), Value: []byte("t"), Change: noteChange{1, "x", "t"}}}}
		})
		w.put(2, "linger", "1", "never")
		w.do(3, "open", func(n *notes) shard.Result { n.at = time.Now().Add(time.Minute); return shard.Result{} })
		reading := make(chan struct{})
		for p := range int32(5) { // more than are loaded side by side
			w.l.set(4+p, func(m *memPartition) { m.stall = reading })
			w.r.Elected(4+p, w.l.depose(4+p))
		}
		writing := make(chan struct{})
		w.l.set(0, func(p *memPartition) { p.slow = writing })
		go w.do(0, "stuck", func(*notes) shard.Result {
			return shard.Result{Reply: "put", Marker: &shard.Marker{Producer: shard.Producer{ID: 1}, Change: noteEnd{1, true}}}
		})
		w.expect()
		told := make(chan struct{}, 3)
		w.told = func() { told <- struct{}{} }
		closed := make(chan struct{})
		go func() { w.r.Close(); close(closed) }()
		for range 3 {
			<-told
		}
		w.mu.Lock()
		got := slices.Sorted(slices.Values(w.out))
		w.out = nil
		w.mu.Unlock()
		if want := []string{"commit: NOT_COORDINATOR", "linger: NOT_COORDINATOR", "open: NOT_COORDINATOR"}; !slices.Equal(got, want) {
			t.Errorf("came out %q, want %q", got, want)
		}
		w.told = nil
		select {
		case <-closed:
			t.Error("closed while partitions are written and read")
		default:
		}
		close(writing)
		close(reading)
		<-closed
		w.expect("stuck: NOT_COORDINATOR")
		w.put(2, "late", "1")
		w.r.Elected(2, w.l.depose(2))
		w.put(2, "later", "1")
		w.r.DoAll(func(*notes, time.Time) shard.Result { panic("an event after the end") })
		pass(2 * time.Hour)
		w.expect("late: COORDINATOR_NOT_AVAILABLE", "later: COORDINATOR_NOT_AVAILABLE")
		if code := w.r.ReadAll(func(*notes) { t.Error("a core is left") }); code != wire.ErrCoordinatorNotAvailable {
			t.Errorf("read of all: %v", code)
		}
		for p := range int32(9) {
			if n := w.watchers(p); n != 0 {
				t.Errorf("%d look at the high watermark of partition %d", n, p)
			}
		}
	})
}

// TestEpochsInOrder: a partition that could not be loaded waits for its next leader epoch, and old news changes nothing.
func TestEpochsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		w.r.Resigned(7, 3) // a partition that was never led here
		w.put(0, "a", "1")
		w.expect("a: put a")
		w.fail = "Replay"
		gate := make(chan struct{})
		w.l.set(0, func(p *memPartition) { p.stall = gate })
		epoch := w.l.depose(0)
		w.r.Elected(0, epoch)
		w.put(0, "b", "1")
		synctest.Wait()
		w.fail = ""
		w.l.set(0, func(p *memPartition) { p.stall = nil })
		close(gate)
		synctest.Wait()
		w.put(0, "c", "1")
		w.expect("b: COORDINATOR_LOAD_IN_PROGRESS", "c: NOT_COORDINATOR")
		w.r.Elected(0, epoch)
		w.r.Elected(0, epoch-1)
		w.r.Resigned(0, epoch-1)
		w.put(0, "d", "1")
		w.expect("d: NOT_COORDINATOR")
		w.r.Elected(0, w.l.depose(0))
		w.expect("loaded")
		w.state("a=1")
		w.r.Elected(0, epoch)
		w.r.Resigned(0, epoch)
		w.state("a=1")
	})
}
