package coord

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// TestNothingIsOverlooked has decisions, events, deadlines and high watermarks come to a cell at once, and nothing after them: whoever
// has the cell last must have seen to all of it. If he has not, this test does not end.
func TestNothingIsOverlooked(t *testing.T) {
	l := newMemLog(t, 1)
	loaded := make(chan Origin[*notes], 1)
	r := New(Options[*notes]{Log: l, Linger: Adaptive, New: func(int32) *notes { return newNotes() }, Send: func(from Origin[*notes], _ any) { loaded <- from }})
	defer r.Close()
	r.Elected(0, 0)
	from := <-loaded
	for round := range 1000 {
		l.set(0, func(p *memPartition) { p.hold = true })
		var all sync.WaitGroup
		at := make(chan struct{})
		meet := func(f func(done func())) {
			all.Add(1)
			go func() {
				<-at
				f(sync.OnceFunc(all.Done))
			}()
		}
		for i := range 3 {
			meet(func(done func()) {
				r.Do(0, func(any, wire.ErrorCode) { done() }, func(n *notes, now time.Time, _ shard.Ticket) shard.Result {
					if i == 0 {
						n.at = now
					}
					return n.put("k", fmt.Sprint(round))
				})
			})
			meet(func(done func()) {
				from.Report(func(n *notes, _ time.Time) shard.Result {
					res := n.put("e", fmt.Sprint(round))
					res.Then = func(time.Time, wire.ErrorCode) shard.Result { done(); return shard.Result{} }
					return res
				})
			})
		}
		meet(func(done func()) {
			l.set(0, func(p *memPartition) { p.hold = false })
			done()
		})
		close(at)
		all.Wait()
	}
}

// TestWhateverHappens lets decisions, messages, their answers and events for all meet failing appends, held commits, panics, foreign
// writes, changes of leadership and the next leader's records. However they meet: everybody is answered once; what was answered with
// success, and what a message left for, is in the log; and a partition that is led without a break hears every event for all, once.
func TestWhateverHappens(t *testing.T) {
	seed := seed.Of(t)
	const partitions, workers, each = 4, 8, 400
	const contested = 2 // the partitions below it
	var mu sync.Mutex
	promised := map[string]int32{} // keys that must be in the log, and their partition
	heard := map[string]int{}      // how often a partition has heard an event
	promise := func(key string, p int32) {
		mu.Lock()
		promised[key] = p
		mu.Unlock()
	}
	l := newMemLog(t, partitions)
	r := New(Options[*notes]{Log: l, Linger: Adaptive, MaxBatchBytes: func(int32) int { return 400 },
		New: func(p int32) *notes { n := newNotes(); n.partition = p; return n },
		Send: func(from Origin[*notes], message any) {
			if message == "loaded" {
				return
			}
			promise(message.(string), from.Partition())
			from.Report(func(n *notes, _ time.Time) shard.Result { return n.put("reported", message.(string)) })
		}})
	defer r.Close()
	for p := range int32(partitions) {
		r.Elected(p, 0)
	}
	answers := make([]atomic.Int32, workers*each)
	var waiting, busy sync.WaitGroup
	var panics atomic.Int32
	for w := range workers {
		busy.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(w)))
			for i := range each {
				p, key, kind := rnd.Int32N(partitions), fmt.Sprintf("%d-%d", w, i), rnd.IntN(20)
				if kind == 0 && p >= contested && panics.Add(1) >= maxCrashes {
					kind = 1 // they would be given up
				}
				done := make(chan struct{})
				waiting.Add(1)
				r.Do(p, func(_ any, code wire.ErrorCode) {
					if code == wire.ErrNone && kind > 4 {
						promise(key, p)
					}
					if answers[w*each+i].Add(1) == 1 {
						close(done)
						waiting.Done()
					}
				}, func(n *notes, now time.Time, _ shard.Ticket) shard.Result {
					res := n.put(key, "1")
					switch {
					case kind == 0:
						panic("boom")
					case kind <= 4:
						return shard.Result{Reply: "read"}
					case kind == 5: // more than a batch holds
						res.Records = append(n.put("before "+key, "").Records, res.Records...)
						res.Records = append(res.Records, n.put("after "+key, fmt.Sprintf("%300d", i)).Records...)
						return res
					case kind <= 7:
						n.at = now.Add(time.Duration(rnd.IntN(1000)) * time.Microsecond)
					}
					res.Messages = []any{key}
					return res
				})
				if rnd.IntN(3) > 0 { // else he brings more before he is answered
					<-done
				}
			}
		})
	}
	stop := make(chan struct{})
	var chaos sync.WaitGroup
	events := 0
	chaos.Go(func() {
		rnd := rand.New(rand.NewPCG(seed, workers))
		for {
			p := rnd.Int32N(partitions)
			switch rnd.IntN(6) {
			case 0:
				l.set(p, func(m *memPartition) { m.hold = true })
			case 1:
				l.set(p, func(m *memPartition) { m.refuse = wire.ErrNotEnoughReplicas })
			case 2:
				l.set(p, func(m *memPartition) { m.end++ }) // whose record it is nobody knows
			case 3:
				event := events
				events++
				r.DoAll(func(n *notes, _ time.Time) shard.Result {
					mu.Lock()
					heard[fmt.Sprintf("event %d in partition %d", event, n.partition)]++
					mu.Unlock()
					return n.put("event", fmt.Sprint(event))
				})
			default:
				if p >= contested {
					break
				}
				epoch := l.depose(p)
				if rnd.IntN(2) == 0 {
					r.Resigned(p, epoch)
					l.set(p, func(m *memPartition) { m.end += 3 }) // what the next leader writes
					epoch = l.depose(p)
				}
				r.Elected(p, epoch)
			}
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
			}
			l.set(p, func(m *memPartition) { m.hold, m.refuse = false, nil })
		}
	})
	busy.Wait()
	close(stop)
	chaos.Wait()
	for p := range int32(partitions) {
		l.set(p, func(m *memPartition) { m.hold, m.refuse = false, nil })
	}
	for p := int32(contested); p < partitions; p++ { // those that still load hear the last events then
		told := make(chan struct{})
		r.DoAll(func(n *notes, _ time.Time) shard.Result {
			if n.partition == p {
				close(told)
			}
			return shard.Result{}
		})
		<-told
	}
	r.Close()
	waiting.Wait()
	for i := range answers {
		if n := answers[i].Load(); n != 1 {
			t.Errorf("seed %d: decision %d was answered %d times", seed, i, n)
		}
	}
	found := map[string]int32{}
	for p, part := range l.parts {
		if len(part.watchers) > 0 {
			t.Errorf("seed %d: partition %d is watched by %d", seed, p, len(part.watchers))
		}
		for _, b := range part.batches {
			it := b.Records(1 << 20)
			for rec := (record.Record{}); it.Next(&rec); {
				found[string(rec.Key)] = p
			}
			it.Close()
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for key, p := range promised {
		if at, ok := found[key]; !ok || at != p {
			t.Errorf("seed %d: %s of partition %d is not in the log", seed, key, p)
		}
	}
	for e := range events {
		for p := contested; p < partitions; p++ {
			if what := fmt.Sprintf("event %d in partition %d", e, p); heard[what] != 1 {
				t.Errorf("seed %d: %s was heard %d times", seed, what, heard[what])
			}
		}
	}
	t.Logf("%d promises, %d events", len(promised), events)
}
