package coord

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
)

// batchWorld is a world whose batches have a limit that its log insists on.
func batchWorld(t *testing.T, limit int, change func(*Options[*notes])) *noteWorld {
	w := newNoteWorld(t, 1, func(_ *noteWorld, o *Options[*notes]) {
		o.Linger = 10 * time.Millisecond
		o.MaxBatchBytes = func(int32) int { return limit }
		if change != nil {
			change(o)
		}
	})
	w.l.set(0, func(p *memPartition) { p.max = limit })
	return w
}

// putAll writes keys, each with a value of so many bytes, in one decision.
func (w *noteWorld) putAll(name string, atomic bool, size int, keys ...string) {
	w.do(0, name, func(n *notes) shard.Result {
		res := shard.Result{Reply: "put", Atomic: atomic}
		for _, k := range keys {
			res.Records = append(res.Records, n.put(k, strings.Repeat("v", size)).Records...)
		}
		return res
	})
}

// batches says what is in the log: the keys of each batch.
func (w *noteWorld) batches(want ...string) {
	w.t.Helper()
	synctest.Wait()
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	var got []string
	for _, b := range w.l.parts[0].batches {
		it := b.Records(1 << 20)
		var keys []string
		for r := (record.Record{}); it.Next(&r); {
			keys = append(keys, string(r.Key))
		}
		it.Close()
		got = append(got, strings.Join(keys, " "))
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("batches %q, want %q", got, want)
	}
}

// keys holds the keys that the core has against want, and its state against a replay of the log.
func (w *noteWorld) keys(want string) {
	w.t.Helper()
	synctest.Wait()
	var got []string
	w.r.Read(0, func(n *notes) {
		for k := range n.values {
			got = append(got, k)
		}
	})
	slices.Sort(got)
	if s := strings.Join(got, " "); s != want {
		w.t.Errorf("keys %q, want %q", s, want)
	}
	var all string
	w.r.Read(0, func(n *notes) { all = n.String() })
	w.state(all)
}

// TestBatchLimit: four records of a quarter of the limit each do not fit into one batch.
func TestBatchLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := batchWorld(t, 1000, nil)
		// In one batch or not at all; what was open before is written, as it would be in the way.
		w.putAll("before", false, 100, "a")
		w.putAll("atomic", true, 250, "b", "c", "d", "e")
		w.expect("before: put", "atomic: MESSAGE_TOO_LARGE")
		w.batches("a")
		w.keys("a")
		// Else as many batches as it takes; the decision is committed with the last of them.
		w.hold(true)
		w.putAll("split", false, 250, "b", "c", "d", "e")
		w.expect()
		w.batches("a", "b c d")
		w.l.commit(0, 4)
		w.expect()
		pass(10 * time.Millisecond)
		w.batches("a", "b c d", "e")
		w.expect()
		w.l.commit(0, 5)
		w.expect("split: put")
		w.hold(false)
		w.keys("a b c d e")
	})
}

// TestBatchTooLarge: a record beyond the limit fails alone, when its batch is written; so does the rest of the decision it belongs to,
// of which full batches are in the log already.
func TestBatchTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := batchWorld(t, 1000, nil)
		w.hold(true)
		w.putAll("small", false, 250, "a", "b", "c")
		w.expect()
		w.putAll("large", false, 1000, "d")
		w.expect("large: MESSAGE_TOO_LARGE")
		w.batches("a b c")
		w.hold(false)
		w.expect("small: put")
		w.keys("a b c")
		w.do(0, "half", func(n *notes) shard.Result {
			res := n.put("e", strings.Repeat("v", 900))
			res.Records = append(res.Records, n.put("f", strings.Repeat("v", 1000)).Records...)
			res.Records = append(res.Records, n.put("g", "1").Records...)
			res.Messages = []any{"never"}
			return res
		})
		w.expect("half: MESSAGE_TOO_LARGE")
		w.batches("a b c", "e")
		w.keys("a b c e")
	})
}

// TestFullBatchFails: a full batch that cannot be written takes the decision with it that did not fit.
func TestFullBatchFails(t *testing.T) {
	for _, atomic := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := batchWorld(t, 1000, nil)
			w.l.set(0, func(p *memPartition) { p.refuse = wire.ErrNotEnoughReplicas })
			for _, k := range []string{"a", "b", "c"} {
				w.putAll(k, atomic, 250, k)
			}
			w.do(0, "look", func(n *notes) shard.Result { return shard.Result{Reply: len(n.values)} })
			w.expect()
			w.putAll("d", atomic, 250, "d")
			w.expect("d: NOT_ENOUGH_REPLICAS", "look: NOT_ENOUGH_REPLICAS", "c: NOT_ENOUGH_REPLICAS", "b: NOT_ENOUGH_REPLICAS", "a: NOT_ENOUGH_REPLICAS")
			w.batches()
			w.keys("")
			w.l.set(0, func(p *memPartition) { p.refuse = nil })
			pass(time.Second)
			w.putAll("e", atomic, 250, "e")
			pass(time.Second)
			w.expect("e: put")
			w.keys("e")
		})
	}
}

// TestAppendFailsSomehow: what the log says without a code of the protocol is a server's error.
func TestAppendFailsSomehow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		w.l.set(0, func(p *memPartition) { p.refuse = errors.New("no luck") })
		w.put(0, "a", "1")
		w.expect("a: UNKNOWN_SERVER_ERROR")
		w.l.set(0, func(p *memPartition) { p.refuse = fmt.Errorf("append: %w", wire.ErrKafkaStorageError) })
		w.put(0, "a", "1")
		w.expect("a: KAFKA_STORAGE_ERROR")
		w.l.set(0, func(p *memPartition) { p.refuse = nil })
		w.state("")
		w.put(0, "a", "1")
		w.expect("a: put a")
	})
}

// TestWhatOperatorsHearOfFailedAppends: not what is wrong with somebody's transaction, which clients bring about as often as they like.
func TestWhatOperatorsHearOfFailedAppends(t *testing.T) {
	for code, want := range map[wire.ErrorCode]int{
		wire.ErrInvalidProducerEpoch: 0, wire.ErrInvalidTxnState: 0, wire.ErrTransactionCoordinatorFenced: 0,
		wire.ErrNotEnoughReplicas: 1, wire.ErrKafkaStorageError: 1, wire.ErrMessageTooLarge: 1,
	} {
		synctest.Test(t, func(t *testing.T) {
			var told strings.Builder
			w := newNoteWorld(t, 1, func(_ *noteWorld, o *Options[*notes]) {
				o.Logger = slog.New(slog.NewTextHandler(&told, &slog.HandlerOptions{Level: slog.LevelWarn}))
			})
			w.l.set(0, func(p *memPartition) { p.refuse = code })
			w.do(0, "offset", func(*notes) shard.Result {
				return shard.Result{Reply: "put", Producer: &shard.Producer{ID: 1, Epoch: 3},
					Records: []shard.Record{{Key: []byte("x"), Value: []byte("t"), Change: noteChange{1, "x", "t"}}}}
			})
			w.expect("offset: " + code.Name())
			if n := strings.Count(told.String(), "\n"); n != want {
				t.Errorf("%s: %d lines, want %d: %s", code.Name(), n, want, told.String())
			}
		})
	}
}

// TestCompressedBatch: what joins a batch is measured before it is compressed, what the log takes afterwards. So a large decision is
// written alone, and may be larger than the limit.
func TestCompressedBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := batchWorld(t, 1000, func(o *Options[*notes]) { o.Compression.Codec = record.Gzip })
		w.hold(true)
		w.putAll("a", true, 250, "a1", "a2")
		w.putAll("b", true, 750, "b") // opens the next batch, and may share it
		w.batches("a1 a2")
		w.putAll("c", true, 10, "c")
		pass(10 * time.Millisecond)
		w.batches("a1 a2", "b c")
		w.putAll("d", true, 3000, "d") // the first of its batch, which has no room then
		w.batches("a1 a2", "b c", "d")
		w.putAll("e", true, 250, "e1", "e2")
		w.putAll("f", true, 3000, "f1", "f2")
		w.batches("a1 a2", "b c", "d", "e1 e2", "f1 f2")
		w.putAll("g", true, 10, "g")
		w.do(0, "noise", func(n *notes) shard.Result {
			rnd, noise := rand.New(rand.NewPCG(1, 1)), make([]byte, 3000)
			for i := range noise {
				noise[i] = byte(rnd.Uint32())
			}
			return n.put("noise", string(noise))
		})
		w.expect("noise: MESSAGE_TOO_LARGE")
		w.hold(false)
		w.expect("g: put", "f: put", "e: put", "d: put", "c: put", "b: put", "a: put")
		w.batches("a1 a2", "b c", "d", "e1 e2", "f1 f2", "g")
		w.keys("a1 a2 b c d e1 e2 f1 f2 g")
	})
}

// TestLargeBuffersGo: a partition does not keep the memory of a batch that was larger than batches are, whatever became of it.
func TestLargeBuffersGo(t *testing.T) {
	const large = 3 << 20
	for _, c := range []struct {
		name  string
		codec record.Codec
		max   int
		out   string
	}{
		{"written", record.None, 0, "large: put"},
		{"compressed", record.Gzip, 0, "large: put"},
		{"refused", record.None, 1 << 20, "large: MESSAGE_TOO_LARGE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newNoteWorld(t, 1, func(_ *noteWorld, o *Options[*notes]) { o.Compression.Codec = c.codec })
				w.l.set(0, func(p *memPartition) { p.max = c.max })
				look := func(what string, kept bool, dropped int64) {
					t.Helper()
					synctest.Wait()
					cell := w.r.cells[0]
					if got := w.r.Gauges().BufferBytes > 0; got != (cap(cell.wire) > 0) {
						t.Errorf("%s: %d bytes are accounted for, %d kept", what, w.r.Gauges().BufferBytes, cap(cell.wire))
					}
					if got := cell.builder != nil; got != kept || cap(cell.wire) > 1<<20 {
						t.Errorf("%s: builder kept %v, want %v; %d bytes", what, got, kept, cap(cell.wire))
					}
					if n := w.r.Metrics().DroppedBuffers.Load(); n != dropped {
						t.Errorf("%s: %d buffers dropped, want %d", what, n, dropped)
					}
				}
				w.put(0, "a", "1")
				w.expect("a: put a")
				look("small", true, 0)
				w.putAll("large", true, large, "l")
				w.expect(c.out)
				look("large", false, 1)
				w.put(0, "b", "1")
				w.expect("b: put b")
				look("small again", true, 1)
				w.do(0, "marker", func(*notes) shard.Result {
					return shard.Result{Reply: "written", Marker: &shard.Marker{Producer: shard.Producer{ID: 1}, Change: noteEnd{1, true}}}
				})
				w.expect("marker: written")
				look("a marker", true, 1)
			})
		})
	}
}

// TestBuffersAreKeptUpToABound: how much memory a partition keeps for its next batch is a matter of group.coordinator.cached.buffer.max.bytes,
// and not of how large a batch may be.
func TestBuffersAreKeptUpToABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, func(_ *noteWorld, o *Options[*notes]) { o.MaxBatchBytes = func(int32) int { return 16 << 20 } })
		put := func(size int, kept bool) {
			t.Helper()
			w.putAll("put", true, size, "k")
			w.expect("put: put")
			if cell := w.r.cells[0]; (cell.builder != nil) != kept || (w.r.Gauges().BufferBytes > 0) != kept {
				t.Errorf("after %d bytes: builder kept %v, %d bytes of the buffer; want %v", size, cell.builder != nil, w.r.Gauges().BufferBytes, kept)
			}
		}
		put(3<<20, false) // Kafka's default is a little more than 1 MiB
		put(600<<10, true)
		w.r.KeepBuffers(8 << 20)
		put(3<<20, true)
		w.r.KeepBuffers(512 << 10)
		put(600<<10, false)
		put(100<<10, true)
	})
}

// TestCommittedStepByStep: who is told of a commit is who wrote below the high watermark, each once, and one whose answer fails is in
// nobody's way. Those without records have waited for those before them.
func TestCommittedStepByStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		w.hold(true)
		read := func(name string) {
			w.do(0, name, func(n *notes) shard.Result { return shard.Result{Reply: n.String()} })
		}
		w.put(0, "a", "1")
		read("r1")
		w.r.Do(0, func(any, wire.ErrorCode) { panic("boom in a reply") }, func(n *notes, _ time.Time, _ shard.Ticket) shard.Result { return n.put("b", "1") })
		w.put(0, "c", "1", "m")
		read("r2")
		w.do(0, "end", func(*notes) shard.Result {
			return shard.Result{Reply: "ended", Marker: &shard.Marker{Producer: shard.Producer{ID: 1}, Change: noteEnd{1, true}}}
		})
		read("r3")
		w.expect()
		w.l.commit(0, 1)
		w.expect("r1: a=1", "a: put a")
		w.l.commit(0, 1)
		w.l.commit(0, 2)
		w.expect()
		// Two steps at once.
		gate := make(chan struct{})
		go w.do(0, "held", func(*notes) shard.Result { <-gate; return shard.Result{} })
		synctest.Wait()
		w.l.commit(0, 3)
		w.l.commit(0, 4)
		close(gate)
		w.expect("m", "r3: a=1 b=1 c=1", "end: ended", "r2: a=1 b=1 c=1", "c: put c")
		read("r4")
		w.expect("r4: a=1 b=1 c=1")
		w.hold(false)
		w.expect()
	})
}

// TestMarkerTimesOut: a marker that is not committed in time is in the log all the same, and counts.
func TestMarkerTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNoteWorld(t, 1, nil)
		w.do(0, "in", func(*notes) shard.Result {
			return shard.Result{Reply: "put", Producer: &shard.Producer{ID: 1, Epoch: 3},
				Records: []shard.Record{{Key: []byte("x"), Value: []byte("t"), Change: noteChange{1, "x", "t"}}}}
		})
		w.expect("in: put")
		w.hold(true)
		var fates []string
		w.do(0, "end", func(*notes) shard.Result {
			return shard.Result{Reply: "ended", Marker: &shard.Marker{Producer: shard.Producer{ID: 1, Epoch: 3}, Commit: true, Change: noteEnd{1, true}},
				Then: func(_ time.Time, code wire.ErrorCode) shard.Result {
					fates = append(fates, code.Name())
					return shard.Result{}
				}}
		})
		pass(4999 * time.Millisecond)
		w.expect()
		pass(time.Millisecond)
		w.expect("end: REQUEST_TIMED_OUT")
		w.state("x=t")
		before := w.r.Metrics().PurgatoryTime.Read(time.Now()).Count
		w.hold(false)
		w.expect()
		if after := w.r.Metrics().PurgatoryTime.Read(time.Now()).Count; after != before {
			t.Errorf("%d waits became %d when the marker was committed", before, after)
		}
		if want := []string{"REQUEST_TIMED_OUT"}; !slices.Equal(fates, want) {
			t.Errorf("fates %v, want %v", fates, want)
		}
		w.state("x=t")
	})
}
