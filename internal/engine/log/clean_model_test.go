package log

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// modelRecord is a record as it was written.
type modelRecord struct {
	key, value []byte // a nil value is a tombstone
	ts         int64
	headers    int
	txn        int // number of the transaction, 0 outside of any
}

type modelBatch struct {
	base    id.Offset
	records []modelRecord
	control bool
	commit  bool
	opts    record.Options
}

// cleanModel drives a compacted log with random work and knows what a reader must find.
type cleanModel struct {
	t     testing.TB
	r     *rand.Rand
	disk  *vfs.Mem
	fault *vfs.Faults
	clock *clock
	c     Config
	cl    CleanerConfig
	m     *Manager
	l     *Log

	batches []modelBatch
	txns    []int // state of every transaction: 0 open, 1 committed, -1 aborted; the first is unused
	open    map[id.ProducerID]int
	epochs  map[id.ProducerID]id.ProducerEpoch
	seqs    map[id.ProducerID]int32
	cleaned int // passes
	dropped int // records that passes took away
	crashes int
	cut     bool // segments were deleted or records cut: producers may be forgotten
}

func newCleanModel(t testing.TB, seed uint64) *cleanModel {
	w := &cleanModel{t: t, r: rand.New(rand.NewPCG(seed, 11)), disk: mem(t), clock: &clock{ms: epochMs}, txns: []int{0}}
	w.disk.SetNow(w.clock.now)
	w.open, w.epochs, w.seqs = map[id.ProducerID]int{}, map[id.ProducerID]id.ProducerEpoch{}, map[id.ProducerID]int32{}
	w.c = testConfig()
	w.c.CleanupCompact, w.c.CleanupDelete = true, false
	w.c.SegmentBytes = int64(1000 + w.r.IntN(3000))
	w.c.IndexIntervalBytes = int64(w.r.IntN(500))
	w.c.FileDeleteDelay = time.Duration(w.r.IntN(3)) * time.Second
	w.c.DeleteRetention = time.Duration(w.r.IntN(4000)) * time.Millisecond
	w.c.MinCleanableRatio = []float64{0, 0, 0.3, 0.6}[w.r.IntN(4)]
	if w.r.IntN(4) == 0 {
		w.c.MinCompactionLag = time.Duration(w.r.IntN(3000)) * time.Millisecond
	}
	if w.r.IntN(4) == 0 {
		w.c.MaxCompactionLag = time.Duration(1000+w.r.IntN(5000)) * time.Millisecond
	}
	if w.r.IntN(4) == 0 {
		w.c.LogAppendTime = true
	}
	w.cl = DefaultCleanerConfig()
	w.cl.IOBufferBytes = 1 + w.r.IntN(20000)
	if w.r.IntN(2) == 0 {
		w.cl.DedupeBufferBytes = int64(w.r.IntN(400)) // a few keys at a time
	}
	return w
}

func (w *cleanModel) options(fsys vfs.FS) Options {
	return Options{FS: fsys, Dirs: []string{"/data"}, Now: w.clock.now, Config: w.c, AutoFormat: true, ClusterID: "c", NodeID: 1, Manual: true, Cleaner: w.cl,
		Logger: slog.New(slog.DiscardHandler), RetentionCheckInterval: time.Second, InitialDelay: time.Second, FlushCheckInterval: time.Second,
		RecoveryPointInterval: time.Second, StartOffsetInterval: time.Second, HighWatermarkInterval: time.Second}
}

func (w *cleanModel) start() error {
	w.fault = vfs.NewFaults(w.disk)
	var err error
	if w.m, err = Open(w.options(w.fault)); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	w.l, err = w.m.Create(tp0, CreateOptions{TopicID: id.MetadataTopicID, Config: w.c})
	return err
}

var modelCodecs = []record.Codec{record.None, record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd}

func (w *cleanModel) append() error {
	o := record.NewOptions()
	o.Compression.Codec = modelCodecs[w.r.IntN(len(modelCodecs))]
	txn := 0
	if w.r.IntN(3) > 0 {
		pid := id.ProducerID(w.r.IntN(5))
		o.ProducerID, o.ProducerEpoch, o.BaseSequence = pid, w.epochs[pid], w.seqs[pid]
		if pid >= 2 {
			o.Transactional = true
			if txn = w.open[pid]; txn == 0 {
				txn = len(w.txns)
				w.txns = append(w.txns, 0)
				w.open[pid] = txn
			}
		}
	}
	b := record.NewBuilder(o)
	n := 1 + w.r.IntN(6)
	batch := modelBatch{opts: o}
	for range n {
		r := modelRecord{key: fmt.Appendf(nil, "k%d", w.r.IntN(15)), ts: w.clock.ms - int64(w.r.IntN(500)), headers: w.r.IntN(3), txn: txn}
		if w.r.IntN(3) > 0 {
			r.value = bytes.Repeat([]byte{byte('a' + w.r.IntN(26))}, w.r.IntN(80))
		}
		var headers []record.Header
		for i := range r.headers {
			headers = append(headers, record.Header{Key: fmt.Appendf(nil, "h%d", i), Value: r.key})
		}
		if err := b.Append(r.ts, r.key, r.value, headers...); err != nil {
			w.t.Fatal(err)
		}
		batch.records = append(batch.records, r)
	}
	raw, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := w.l.AppendAsLeader(bytes.Clone(raw), AppendInfo{LeaderEpoch: 1})
	if err != nil {
		return fmt.Errorf("append: %w", err)
	}
	if w.c.LogAppendTime {
		for i := range batch.records {
			batch.records[i].ts = res.LogAppendTime
		}
	}
	batch.base = res.BaseOffset
	if o.ProducerID >= 0 {
		w.seqs[o.ProducerID] += int32(n)
	}
	w.batches = append(w.batches, batch)
	return nil
}

func (w *cleanModel) end() error {
	for _, pid := range slices.Sorted(maps.Keys(w.open)) {
		txn := w.open[pid]
		if w.r.IntN(2) == 0 {
			continue
		}
		commit := w.r.IntN(2) == 0
		m, err := record.EndTxnMarker(pid, w.epochs[pid], commit, w.clock.ms, []byte{0, 0, 0, 0, 0, 3})
		if err != nil {
			w.t.Fatal(err)
		}
		res, err := w.l.AppendAsLeader(m, AppendInfo{LeaderEpoch: 1, Origin: OriginCoordinator})
		if err != nil {
			return fmt.Errorf("marker: %w", err)
		}
		w.txns[txn] = -1
		if commit {
			w.txns[txn] = 1
		}
		delete(w.open, pid)
		w.batches = append(w.batches, modelBatch{base: res.BaseOffset, control: true, commit: commit, opts: record.Options{ProducerID: pid}})
		if w.r.IntN(5) == 0 {
			w.epochs[pid]++
			w.seqs[pid] = 0
		}
		return nil
	}
	return nil
}

// afterCrash makes the model what the log is: what was not durable may be gone.
func (w *cleanModel) afterCrash(least id.Offset) error {
	end := w.l.EndOffset()
	if end < least {
		return fmt.Errorf("log end %d, promised was %d", end, least)
	}
	w.crashes++
	for n := len(w.batches); n > 0 && w.batches[n-1].base >= end; n-- {
		w.batches = w.batches[:n-1]
	}
	return w.recount()
}

// recount computes what follows from the batches that there are.
func (w *cleanModel) recount() error {
	clear(w.open)
	clear(w.seqs)
	for i := range w.txns {
		w.txns[i] = 0
	}
	last := map[id.ProducerID]int{}
	for _, b := range w.batches {
		pid := b.opts.ProducerID
		switch {
		case b.control:
			if txn := last[pid]; txn > 0 {
				w.txns[txn] = -1
				if b.commit {
					w.txns[txn] = 1
				}
			}
			delete(w.open, pid)
		case pid >= 0:
			w.seqs[pid] = b.opts.BaseSequence + int32(len(b.records))
			w.epochs[pid] = b.opts.ProducerEpoch
			if txn := b.records[0].txn; txn > 0 {
				w.open[pid], last[pid] = txn, txn
			}
		}
	}
	return nil
}

func (w *cleanModel) step() error {
	switch n := w.r.IntN(100); {
	case n < 50:
		return w.append()
	case n < 62:
		return w.end()
	case n < 70:
		w.l.AdvanceHighWatermark(w.l.EndOffset())
	case n < 76:
		return w.l.Roll()
	case n < 82:
		w.clock.advance(time.Duration(w.r.IntN(2500)) * time.Millisecond)
	case n < 85:
		w.m.Tick(w.clock.now())
	case n < 95:
		return w.clean()
	case n < 96:
		return w.truncate()
	case n < 97:
		return w.restart()
	default:
		return w.crash()
	}
	return nil
}

func (w *cleanModel) clean() error {
	w.l.AdvanceHighWatermark(w.l.EndOffset())
	before := w.count()
	if !w.m.Clean() {
		if len(w.m.Uncleanable()) > 0 {
			return fmt.Errorf("set aside: %v", w.m.Uncleanable())
		}
		return nil
	}
	w.cleaned++
	w.dropped += before - w.count()
	if err := w.check(); err != nil {
		return fmt.Errorf("after cleaning: %w", err)
	}
	return w.checkUnique()
}

func (w *cleanModel) count() int {
	n := 0
	for _, b := range readAll(w.t, w.l) {
		n += int(b.Count())
	}
	return n
}

func (w *cleanModel) truncate() error {
	hw := int64(w.l.HighWatermark())
	if hw >= int64(w.l.EndOffset()) {
		return nil
	}
	to := id.Offset(hw + w.r.Int64N(int64(w.l.EndOffset())-hw))
	if err := w.l.TruncateTo(to); err != nil {
		return err
	}
	return w.resize()
}

// resize forgets batches that are cut, without holding anything against anybody.
func (w *cleanModel) resize() error {
	end := w.l.EndOffset()
	for n := len(w.batches); n > 0 && w.batches[n-1].base >= end; n-- {
		w.batches = w.batches[:n-1]
	}
	return w.recount()
}

func (w *cleanModel) restart() error {
	end := w.l.EndOffset()
	if err := w.m.Close(1); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	if err := w.start(); err != nil {
		return err
	}
	if w.l.EndOffset() != end {
		return fmt.Errorf("log end %d after a restart, was %d", w.l.EndOffset(), end)
	}
	if err := w.check(); err != nil {
		return fmt.Errorf("after a restart: %w", err)
	}
	return nil
}

// crash ends the process, or the machine, between two operations or in the middle of a cleaner's pass.
func (w *cleanModel) crash() error {
	least := w.l.DurableEnd()
	if w.r.IntN(2) == 0 {
		w.l.AdvanceHighWatermark(w.l.EndOffset())
		w.fault.Add(vfs.Rule{Op: vfs.OpChange, Nth: 1 + w.r.IntN(30), Crash: true, After: w.r.IntN(2) == 0})
		w.m.Clean()
	}
	seed := []uint64{vfs.LoseUnsynced, vfs.KeepUnsynced, w.r.Uint64() | 2}[w.r.IntN(3)]
	w.disk = w.disk.CrashClone(seed)
	w.disk.SetNow(w.clock.now)
	if err := w.start(); err != nil {
		return err
	}
	if err := w.afterCrash(least); err != nil {
		return err
	}
	if err := w.check(); err != nil {
		return fmt.Errorf("after a crash: %w", err)
	}
	return nil
}

// decided is what became of a record's transaction.
func (w *cleanModel) visible(r *modelRecord) bool { return r.txn == 0 || w.txns[r.txn] == 1 }

// check reads the log and compares: every record there is as it was written, and a committed reader ends up with the same values.
func (w *cleanModel) check() error {
	want := map[string]string{}
	wrote := map[id.Offset]*modelRecord{}
	stable := w.l.LastStableOffset()
	w.l.AdvanceHighWatermark(w.l.EndOffset())
	stable = w.l.LastStableOffset()
	for _, b := range w.batches {
		for i := range b.records {
			r := &b.records[i]
			o := b.base + id.Offset(i)
			wrote[o] = r
			if o >= stable || !w.visible(r) {
				continue
			}
			if r.value == nil {
				delete(want, string(r.key))
			} else {
				want[string(r.key)] = string(r.value)
			}
		}
	}
	got, err := w.read(wrote, stable)
	if err != nil {
		return err
	}
	for k, v := range want {
		if g, ok := got[k]; !ok || g != v {
			return fmt.Errorf("key %s has %q (%v), want %q", k, g, ok, v)
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			return fmt.Errorf("key %s has %q, should have nothing", k, v)
		}
	}
	return nil
}

// read folds the log as a committed reader does, with the aborted transactions that the log names.
func (w *cleanModel) read(wrote map[id.Offset]*modelRecord, stable id.Offset) (map[string]string, error) {
	batches, err := readFrom(w.l, w.l.StartOffset())
	if err != nil {
		if w.l.EndOffset() == w.l.StartOffset() {
			return nil, nil
		}
		// The last offsets may have been compacted away, when nothing came behind them.
		return nil, fmt.Errorf("read: %w", err)
	}
	aborted, err := w.l.AbortedTransactions(w.l.StartOffset(), stable)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(aborted, func(a, b AbortedTxn) int { return int(a.FirstOffset - b.FirstOffset) })
	dead := map[id.ProducerID]bool{}
	got := map[string]string{}
	for _, b := range batches {
		for len(aborted) > 0 && aborted[0].FirstOffset <= b.LastOffset() {
			dead[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		it := b.Records(1 << 20)
		var r record.Record
		for it.Next(&r) {
			if b.IsControl() {
				if kind, err := record.ParseControlKey(r.Key); err == nil && kind == record.ControlAbort {
					delete(dead, b.ProducerID())
				}
				continue
			}
			x := wrote[r.Offset]
			if x == nil {
				return nil, fmt.Errorf("record at %d was never written", r.Offset)
			}
			if !bytes.Equal(x.key, r.Key) || !bytes.Equal(x.value, r.Value) || (x.value == nil) != (r.Value == nil) || x.ts != r.TimestampMs || x.headers != r.HeaderCount {
				return nil, fmt.Errorf("record at %d is %q=%q at %d, was %q=%q at %d", r.Offset, r.Key, r.Value, r.TimestampMs, x.key, x.value, x.ts)
			}
			if b.BaseOffset() >= stable || b.IsTransactional() && dead[b.ProducerID()] {
				continue
			}
			if !w.visible(x) {
				return nil, fmt.Errorf("record at %d of an aborted transaction is not filtered", r.Offset)
			}
			if r.Value == nil {
				delete(got, string(r.Key))
			} else {
				got[string(r.Key)] = string(r.Value)
			}
		}
		if err := it.Err(); err != nil {
			return nil, err
		}
		it.Close()
	}
	return got, nil
}

// checkUnique: below the point up to which the log is clean no key has two records.
func (w *cleanModel) checkUnique() error {
	clean := id.Offset(w.l.clean.Load())
	seen := map[string]id.Offset{}
	for _, b := range readAll(w.t, w.l) {
		if b.IsControl() {
			continue
		}
		it := b.Records(1 << 20)
		var r record.Record
		for it.Next(&r) {
			if r.Offset >= clean {
				continue
			}
			if at, ok := seen[string(r.Key)]; ok {
				return fmt.Errorf("key %s is at %d and at %d, both below %d", r.Key, at, r.Offset, clean)
			}
			seen[string(r.Key)] = r.Offset
		}
		it.Close()
	}
	return nil
}

// checkProducers: what the log itself says about producers is what the state knew, also without any snapshot.
func (w *cleanModel) checkProducers() error {
	want := w.l.Producers()
	if err := w.m.Close(1); err != nil {
		return err
	}
	entries, err := w.disk.List("/data/t-0")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, suffix, ok := parseSegmentName(e.Name()); ok && suffix == suffixSnapshot {
			if err := w.disk.Remove("/data/t-0/" + e.Name()); err != nil {
				return err
			}
		}
	}
	if err := w.disk.Remove("/data/" + fileCleanShutdown); err != nil {
		return err
	}
	if err := w.start(); err != nil {
		return err
	}
	got := w.l.Producers()
	for i := range want {
		if i >= len(got) || got[i].ProducerID != want[i].ProducerID || got[i].ProducerEpoch != want[i].ProducerEpoch ||
			got[i].LastSequence != want[i].LastSequence || got[i].CurrentTxnStartOffset != want[i].CurrentTxnStartOffset {
			return fmt.Errorf("producers\n%+v\nwithout snapshots, were\n%+v", got, want)
		}
	}
	return w.check()
}

func runCleanModel(t testing.TB, seed uint64, steps int) *cleanModel {
	w := newCleanModel(t, seed)
	if err := w.start(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	w.clock.advance(2 * time.Second)
	w.m.Tick(w.clock.now()) // the checkpoints are there
	for i := range steps {
		if err := w.step(); err != nil {
			t.Fatalf("seed %d, step %d: %v", seed, i, err)
		}
	}
	if err := w.check(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if err := w.checkProducers(); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	if err := w.m.Close(1); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	return w
}

// Random work on a compacted log against a map. MOLDAU_SEEDS sets how many runs there are, MOLDAU_SEED the first one.
func TestCleanerModel(t *testing.T) {
	race.Skip(t)
	seeds, first := 1000, seed.Of(t)
	if testing.Short() {
		seeds = 100
	}
	if v, err := strconv.Atoi(os.Getenv("MOLDAU_SEEDS")); err == nil {
		seeds = v
	}
	var cleaned, dropped, crashes int
	for i := range seeds {
		w := runCleanModel(t, first+uint64(i), 120)
		cleaned, dropped, crashes = cleaned+w.cleaned, dropped+w.dropped, crashes+w.crashes
	}
	t.Logf("%d passes took %d records away, %d crashes", cleaned, dropped, crashes)
	if cleaned < seeds*2 || dropped < seeds*10 || crashes < seeds {
		t.Error("the runs do not do what they should")
	}
}
