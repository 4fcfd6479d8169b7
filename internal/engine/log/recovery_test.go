package log

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

func quiet(o *LogOptions) { o.Logger = slog.New(slog.DiscardHandler) }

// The last batch is cut at every byte, with and without a tail of zeros behind: the log ends before it, whether the directory says
// that it was closed cleanly or not.
func TestTornLastBatchAtEveryByte(t *testing.T) {
	race.Skip(t)
	m := mem(t)
	l := openTest(t, m, testConfig(), nil)
	for i := range 3 {
		mustAppend(t, l, batchSpec{records: 2, size: 100, leader: 1, idem: true, pid: 1, seq: int32(2 * i)})
	}
	if err := l.Close(); err != nil { // with its snapshot, which may be of more than there is
		t.Fatal(err)
	}
	path := "/data/t-0/" + segmentName(0, suffixLog)
	whole, err := vfs.ReadFile(m, path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	last := 2 * len(whole) / 3
	for cut := last; cut <= len(whole); cut++ {
		for _, zeros := range []int{0, 1, 16, 5000} {
			want, missing := id.Offset(4), len(whole)-cut
			if cut == len(whole) || bytes.Equal(whole[cut:], make([]byte, missing)) && zeros >= missing {
				want = 6
			}
			for _, clean := range []bool{false, true} {
				c := m.CrashClone(vfs.KeepUnsynced)
				if err := vfs.WriteFile(c, path, append(bytes.Clone(whole[:cut]), make([]byte, zeros)...)); err != nil {
					t.Fatal(err)
				}
				r := openTest(t, c, testConfig(), func(o *LogOptions) { o.CleanShutdown = clean; o.RecoveryPoint = 6; quiet(o) })
				got := readAll(t, r)
				if r.EndOffset() != want || len(got) != int(want)/2 {
					t.Fatalf("cut at %d of %d, %d zeros, clean %t: end %d, %d batches", cut, len(whole), zeros, clean, r.EndOffset(), len(got))
				}
				if f, _ := vfs.ReadFile(c, path, 1<<20); len(f) != int(want)/2*last/2 {
					t.Fatalf("cut at %d, clean %t: the file has %d bytes", cut, clean, len(f))
				}
				if p := r.Producers(); len(p) != 1 || p[0].LastSequence != int32(want)-1 {
					t.Fatalf("cut at %d, clean %t: producers %+v", cut, clean, p)
				}
			}
		}
	}
}

// Every byte of every index is flipped, after a clean shutdown: whatever the index says then, reads are right.
func TestFlippedIndexBytes(t *testing.T) {
	race.Skip(t)
	c := testConfig()
	c.SegmentBytes, c.IndexIntervalBytes = 3000, 200
	m := mem(t)
	l := openTest(t, m, c, nil)
	for range 20 {
		mustAppend(t, l, batchSpec{records: 3, size: 80})
	}
	l.AdvanceHighWatermark(31)
	l.Close()
	entries, _ := m.List("/data/t-0")
	flips := 0
	for _, e := range entries {
		_, suffix, ok := parseSegmentName(e.Name())
		if !ok || suffix != suffixIndex && suffix != suffixTime {
			continue
		}
		path := "/data/t-0/" + e.Name()
		whole, _ := vfs.ReadFile(m, path, 1<<20)
		for i := range whole {
			for _, mask := range []byte{0xff, 0x01, 0x80} {
				x := m.CrashClone(vfs.KeepUnsynced)
				b := bytes.Clone(whole)
				b[i] ^= mask
				vfs.WriteFile(x, path, b)
				r := openTest(t, x, c, func(o *LogOptions) { o.HighWatermark = 31; quiet(o) })
				for offset := range r.EndOffset() {
					got, err := readFrom(r, offset)
					if err != nil || len(got) != 20-int(offset)/3 {
						t.Fatalf("%s byte %d ^ %02x: read at %d: %d batches, %v", e.Name(), i, mask, offset, len(got), err)
					}
				}
				res, err := r.Read(ReadRequest{Offset: 24, MaxBytes: 1 << 20, Isolation: ReadHighWatermark, LastFetchedEpoch: id.NoLeaderEpoch})
				if err != nil {
					t.Fatal(err)
				}
				bytes, _ := res.Section.Bytes()
				for len(bytes) > 0 {
					batch, rest, err := record.Next(bytes)
					if err != nil || batch.LastOffset() >= 31 {
						t.Fatalf("%s byte %d ^ %02x: above the high watermark: %v %v", e.Name(), i, mask, batch, err)
					}
					bytes = rest
				}
				flips++
			}
		}
	}
	if flips < 100 {
		t.Fatalf("only %d flips", flips)
	}
}

// Random histories with random crashes. What a crash leaves is always a part of what was appended, with everything that was
// promised durable, and the log goes on from there.
func TestRandomHistories(t *testing.T) {
	race.Skip(t)
	seed := seed.Of(t)
	for run := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, run))
		if err := randomHistory(t, rng); err != nil {
			t.Fatalf("seed %d run %d: %v", seed, run, err)
		}
	}
}

func randomHistory(t *testing.T, rng *rand.Rand) error {
	w := newWorld(t)
	for range 4 {
		w.fault = vfs.NewFaults(w.disk)
		switch rng.IntN(3) {
		case 0:
			w.fault.Add(vfs.Rule{Op: vfs.OpChange, Nth: 1 + rng.IntN(200), Crash: true, Short: rng.Float64(), After: rng.IntN(4) == 0})
		}
		var err error
		if w.m, err = Open(w.options(w.fault)); err != nil && !w.fault.Crashed() {
			return fmt.Errorf("open: %w", err)
		}
		if err == nil {
			if w.l, err = w.m.Create(tp0, CreateOptions{TopicID: id.MetadataTopicID, Config: crashConfig()}); err == nil {
				w.maxStart = max(w.maxStart, w.l.StartOffset())
				w.resume()
				w.randomSteps(rng)
			} else if !w.fault.Crashed() {
				return fmt.Errorf("create: %w", err)
			}
		}
		crash := uint64(rng.IntN(4)) // 0: power loss, 1: kill, others at random
		if crash > 1 {
			crash = rng.Uint64() | 2
		}
		least := w.durable
		if crash == vfs.KeepUnsynced {
			least = max(least, w.killedEnd())
		}
		if err := w.check(w.disk.CrashClone(crash), least); err != nil {
			return fmt.Errorf("crash %d: %w", crash, err)
		}
		// The node goes on with what the crash left, without what check added.
		w.disk = w.disk.CrashClone(crash)
		w.disk.SetNow(w.clock.now)
		w.cutting, w.end = false, w.durable // until it is opened again
	}
	return nil
}

// resume takes what a restart found as the new truth.
func (w *world) resume() {
	w.end, w.durable = w.l.EndOffset(), min(w.durable, w.l.EndOffset())
	w.keepBelow(w.end)
	w.seq = 0
	if n := len(w.batches); n > 0 {
		w.seq = w.batches[n-1].BaseSequence() + 2
	}
}

func (w *world) randomSteps(rng *rand.Rand) {
	epoch := max(w.l.LatestEpoch(), 0)
	if n := len(w.batches); n > 0 { // also where the log has been deleted up to its end: a leader epoch never goes down
		epoch = max(epoch, w.batches[n-1].LeaderEpoch())
	}
	for range 5 + rng.IntN(40) {
		switch rng.IntN(12) {
		case 0:
			w.flush()
		case 1:
			w.tick()
		case 2:
			w.l.AdvanceHighWatermark(w.end - id.Offset(rng.IntN(6)))
		case 3:
			epoch++
		case 4:
			if rng.IntN(3) == 0 && w.end > w.l.HighWatermark() {
				w.truncate(w.l.HighWatermark() + id.Offset(rng.Int64N(int64(w.end-w.l.HighWatermark()))))
			}
		case 5:
			if hw := w.l.HighWatermark(); hw > w.l.StartOffset() && rng.IntN(3) == 0 {
				o := w.l.StartOffset() + id.Offset(rng.Int64N(int64(hw-w.l.StartOffset())))
				w.maxStart = max(w.maxStart, o)
				w.l.DeleteRecords(o)
			}
		case 6:
			w.l.Roll()
		default:
			w.append(epoch, 50+rng.IntN(600))
		}
	}
	if rng.IntN(3) == 0 && !w.fault.Crashed() {
		if w.m.Close(1) == nil {
			w.durable = w.end
		}
	}
}

// Any bytes in a segment: opening never panics, and what is served has a good CRC and lies in order.
func FuzzRecovery(f *testing.F) {
	good := append(batchSpec{records: 2, size: 20}.build(f), 0, 0, 0, 0)
	second := batchSpec{records: 3, size: 5, base: 2, idem: true, pid: 3, seq: 0}.build(f)
	f.Add(good, []byte{}, []byte{}, false)
	f.Add(append(bytes.Clone(good[:len(good)-4]), second...), []byte{0, 0, 0, 4, 0, 0, 0, 100}, []byte{0, 0, 1}, true)
	f.Add(bytes.Repeat([]byte{0}, 200), make([]byte, 80), make([]byte, 24), true)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), []byte("x"), []byte("y"), false)
	far := bytes.Clone(second)
	record.Batch(far).SetBaseOffset(1 << 33)
	f.Add(slices.Concat(good[:len(good)-4], far, second), []byte{}, []byte{}, false) // for a segment that is split
	f.Fuzz(func(t *testing.T, segment, index, snapshot []byte, clean bool) {
		m := mem(t)
		m.MkdirAll("/data/t-0", 0o755)
		vfs.WriteFile(m, "/data/t-0/"+segmentName(0, suffixLog), segment)
		vfs.WriteFile(m, "/data/t-0/"+segmentName(0, suffixIndex), index)
		vfs.WriteFile(m, "/data/t-0/"+segmentName(0, suffixTime), index)
		vfs.WriteFile(m, "/data/t-0/"+segmentName(0, suffixTxn), index)
		vfs.WriteFile(m, "/data/t-0/"+segmentName(1, suffixSnapshot), snapshot)
		split := m.CrashClone(vfs.KeepUnsynced)
		fuzzLog(t, m, clean, func(o *LogOptions) { o.CleanShutdown = clean; quiet(o) })
		// Where everything is known to belong to the log, what is far away is split off.
		if clean {
			split.Remove("/data/t-0/" + segmentName(0, suffixIndex))
		}
		fuzzLog(t, split, clean, func(o *LogOptions) {
			o.CleanShutdown = clean
			o.RecoveryPoint, o.CleanUpTo = math.MaxInt64, math.MaxInt64
			quiet(o)
		})
	})
}

func fuzzLog(t *testing.T, m *vfs.Mem, clean bool, change func(o *LogOptions)) {
	l, err := tryOpen(t, m, testConfig(), change)
	if err != nil {
		return
	}
	got, err := readFrom(l, l.StartOffset())
	// After a clean shutdown the bytes are trusted until somebody reads them, who checks the CRC.
	if err != nil && !clean {
		t.Fatal(err)
	}
	for i := 1; i < len(got); i++ {
		if got[i].BaseOffset() <= got[i-1].LastOffset() && !clean {
			t.Fatal("batches out of order")
		}
	}
	l.LookupTimestamp(MaxTimestamp)
	l.LookupTimestamp(1)
	if l.EndOffset() < 1<<40 {
		if _, err := l.AppendAsLeader(batchSpec{}.build(t), AppendInfo{}); err != nil && !clean {
			t.Fatal(err)
		}
	}
	l.AdvanceHighWatermark(l.EndOffset())
	l.DeleteOldSegments(time.UnixMilli(epochMs))
	l.Close()
}
