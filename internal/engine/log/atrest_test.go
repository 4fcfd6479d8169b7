package log

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/race"
	"github.com/moldau-io/moldau/internal/base/seed"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// atRest is a disk of a node that was stopped, and what was on it a while before.
type atRest struct {
	w     *matrix
	disk  *vfs.Mem
	stale map[string][]byte
	files []string
}

// newAtRest fills a disk with every kind of file. A clean one has its mark; the other is as a killed process leaves it.
func newAtRest(t *testing.T, seed uint64, clean bool) *atRest {
	w := newMatrix(t, seed)
	w.start()
	for range 60 {
		w.step()
	}
	stale := contents(t, w.disk)
	for range 30 {
		w.step()
	}
	w.everyKind()
	w.logs[plainTP].sawStart = w.log(plainTP).StartOffset()
	if clean {
		w.stop()
	}
	if w.failed != nil {
		t.Fatal(w.failed)
	}
	a := &atRest{w: w, disk: w.disk.CrashClone(vfs.KeepUnsynced), stale: stale}
	for path := range contents(t, a.disk) {
		a.files = append(a.files, path)
	}
	slices.Sort(a.files)
	return a
}

// everyKind does what makes the files of which chance may have made none.
func (w *matrix) everyKind() {
	const pid = 77 // nobody else's
	w.epochs[pid]++
	s := batchSpec{records: 2, size: 60, ts: w.clock.ms, txn: true, pid: pid, epoch: w.epochs[pid]}
	w.append(plainTP, s.build(w.t), AppendInfo{LeaderEpoch: w.epoch(w.log(plainTP))})
	m, err := record.EndTxnMarker(pid, s.epoch, false, w.clock.ms, []byte{0, 0, 0, 0, 0, 3})
	if err != nil {
		w.t.Fatal(err)
	}
	w.append(plainTP, m, AppendInfo{LeaderEpoch: w.epoch(w.log(plainTP)), Origin: OriginCoordinator})
	for range 3 { // the cleaner finds something
		w.appendKeyed()
		if err := w.log(keyedTP).Roll(); err != nil {
			w.fail("roll: %v", err)
		}
	}
	if err := w.log(plainTP).Roll(); err != nil {
		w.fail("roll: %v", err)
	}
	w.txn()
	w.appendPlain()
	w.appendKeyed()
	for _, l := range w.m.Logs() {
		l.AdvanceHighWatermark(l.EndOffset())
	}
	w.m.Clean() // leaves .deleted files
	w.recreate()
	w.append(shortTP, batchSpec{records: 1, size: 100, ts: w.clock.ms}.build(w.t), AppendInfo{LeaderEpoch: 1})
	for _, l := range w.m.Logs() {
		if err := l.Flush(l.EndOffset()); err != nil {
			w.fail("flush: %v", err)
		}
		e := w.logs[l.TopicPartition()]
		e.durable, e.emptied, e.anyOld = e.end, false, nil
	}
	for _, d := range w.m.dirs {
		d.hwChanged.Store(true)
		if err := w.m.checkpointHighWatermarks(d); err != nil {
			w.fail("checkpoint: %v", err)
		}
	}
}

func contents(t *testing.T, disk *vfs.Mem) map[string][]byte {
	out := map[string][]byte{}
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := disk.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if e.IsDir() {
				walk(path)
			} else if out[path], err = vfs.ReadFile(disk, path, 1<<20); err != nil {
				t.Fatal(err)
			}
		}
	}
	walk("/data")
	return out
}

// restKinds are the kinds of files of a log directory. A file of no kind in here fails TestAtRest, and so does a kind of which it found
// no file. (The files of a metadata directory are damaged in engine/quorum.)
var restKinds = []string{suffixLog, suffixIndex, suffixTime, suffixTxn, suffixSnapshot, suffixDeleted, fileEpochs, filePartitionMeta, fileRecoveryPoint,
	fileStartOffset, fileHighWatermark, fileCleanerOffset, fileMetaProperties, fileCleanShutdown, fileLock, "of a log that goes"}

// restKind names the kind of a file, or says that it has none.
func restKind(path string) string {
	name := filepath.Base(path)
	if _, kind, ok := parseDirName(filepath.Base(filepath.Dir(path))); ok && kind == dirDelete {
		return "of a log that goes"
	}
	if _, suffix, ok := parseSegmentName(name); ok {
		if strings.HasSuffix(suffix, suffixDeleted) {
			return suffixDeleted
		}
		return suffix
	}
	return name
}

// lastBatchAt is where the last batch of a log file begins.
func lastBatchAt(b []byte) int {
	at := 0
	for rest := b; len(rest) > 0; {
		_, next, err := record.Next(rest)
		if err != nil {
			break
		}
		at = len(b) - len(rest)
		rest = next
	}
	return at
}

func (a *atRest) damages(path string, b []byte, rng *rand.Rand) []vfs.Damage {
	how := vfs.Thoroughness{CutEvery: 1, Flips: 300}
	if strings.HasSuffix(path, suffixLog) {
		how.CutFrom = lastBatchAt(b)
	}
	return vfs.Damages(b, a.stale[path], how, rng)
}

// Every file of a stopped node is damaged in every way. The node starts, or says which file keeps it from starting; a batch that
// passes its checksum is one that was written; and what only repeats what the log says can be lost without losing anything.
func TestAtRest(t *testing.T) {
	race.Skip(t)
	t.Parallel()
	seed := seed.Of(t)
	kinds := map[string]int{}
	refused := 0
	for i, clean := range []bool{true, false} {
		a := newAtRest(t, seed+uint64(i), clean)
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		for _, path := range a.files {
			b, err := vfs.ReadFile(a.disk, path, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range a.damages(path, b, rng) {
				if kind := restKind(path); (kind == suffixDeleted || kind == "of a log that goes") && rng.IntN(20) > 0 {
					continue // nobody reads them
				}
				disk := a.disk.CrashClone(vfs.KeepUnsynced)
				if d.Bytes == nil {
					err = disk.Remove(path)
				} else {
					err = vfs.WriteFile(disk, path, d.Bytes)
				}
				if err != nil {
					t.Fatal(err)
				}
				kinds[restKind(path)]++
				started, err := a.check(disk, path, d, clean)
				if err != nil {
					t.Errorf("clean stop %v, %s, %s: %v", clean, path, d.Name, err)
				}
				if !started {
					refused++
				}
			}
			if t.Failed() {
				t.Fatal("the other files are not looked at")
			}
		}
	}
	n := 0
	for _, k := range kinds {
		n += k
	}
	t.Logf("%d vfs.Damages, %d starts refused: %v", n, refused, kinds)
	for _, kind := range restKinds {
		if kinds[kind] == 0 {
			t.Errorf("no file of kind %s was damaged", kind)
		}
	}
	for kind := range kinds {
		if !slices.Contains(restKinds, kind) {
			t.Errorf("a file of a kind that is not in the table: %s", kind)
		}
	}
}

// check starts a node on a damaged disk.
func (a *atRest) check(disk *vfs.Mem, path string, d vfs.Damage, clean bool) (started bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	named := func(err error) error {
		if base := filepath.Base(path); strings.Contains(err.Error(), base) || strings.Contains(err.Error(), filepath.Base(filepath.Dir(path))) ||
			base == fileMetaProperties && strings.Contains(err.Error(), "/data") {
			return nil
		}
		return fmt.Errorf("an error that does not name the file: %w", err)
	}
	m, err := a.w.open(disk)
	if err != nil {
		return false, named(err)
	}
	defer m.Close(1)
	if err := m.Dirs()[0].Err; err != nil {
		return false, named(err)
	}
	kind := fileKind(path)
	for tp, e := range map[id.TopicPartition]*expected{plainTP: a.w.logs[plainTP], keyedTP: a.w.logs[keyedTP]} {
		l, ok := m.Get(tp)
		mine := strings.Contains(path, "/"+tp.String()+"/")
		// A torn end of the log is cut off at the start, whatever the mark of a clean stop says.
		torn := mine && strings.HasPrefix(d.Name, "cut") && filepath.Base(path) == segmentName(l.active().base, suffixLog)
		if !ok {
			return true, fmt.Errorf("%v is not there", tp)
		}
		written := map[id.Offset]record.Batch{}
		for _, b := range e.history {
			written[b.BaseOffset()] = b
		}
		last := id.NoOffset
		for next := l.StartOffset(); next < l.EndOffset(); {
			r, err := l.Read(ReadRequest{Offset: next, MaxBytes: 1 << 20, MinOneMessage: true, Isolation: ReadLogEnd, Reader: Reader{ReplicaID: 2}, LastFetchedEpoch: id.NoLeaderEpoch})
			if err != nil {
				if !mine || kind != ".log" || torn {
					return true, fmt.Errorf("read of %v at %d: %w", tp, next, err)
				}
				if IsOffline(err) {
					return true, fmt.Errorf("bad bytes took the directory offline: %w", err)
				}
				break
			}
			if r.Section == nil {
				break
			}
			bytesRead, err := r.Section.Bytes()
			r.Section.Release()
			if err != nil {
				return true, err
			}
			for len(bytesRead) > 0 {
				b, rest, err := record.Next(bytesRead)
				if err == nil {
					err = b.CheckCRC()
				}
				if err != nil {
					if !mine || kind != ".log" || torn {
						return true, fmt.Errorf("a bad batch of %v at %d: %w", tp, next, err)
					}
					break // a client sees it, too
				}
				want, ok := written[b.BaseOffset()]
				if stale := d.Name == "stale copy" && mine && kind == ".log"; !stale && tp == plainTP && (!ok || !bytes.Equal(b, want)) && !(mine && kind == ".log" && outside(b, e.history)) {
					return true, fmt.Errorf("%v: batch %d to %d passes its checksum and was never written", tp, b.BaseOffset(), b.LastOffset())
				}
				last, bytesRead = b.LastOffset(), rest
			}
			if last < next {
				break
			}
			next = last + 1
		}
		if err := a.checkTxns(l, e, mine, kind, d, clean); err != nil {
			return true, err
		}
		if kind == ".log" && mine || strings.Contains(path, fileStartOffset) || d.Name == "stale copy" && strings.Contains(path, fileRecoveryPoint) {
			continue
		}
		// Nothing but a log file holds anything that is nowhere else; but in a compacted log that was not closed cleanly it takes
		// the checkpoints to tell what compaction took out from what was lost.
		if tp == keyedTP && !clean && kind == "checkpoint" {
			continue
		}
		if l.EndOffset() < e.end {
			return true, fmt.Errorf("%v ends at %d, it had %d", tp, l.EndOffset(), e.end)
		}
	}
	return true, nil
}

// checkTxns compares what is known of producers and transactions with the batches. As in Apache Kafka, a clean stop that left no
// snapshot is one that had nothing to write, and a segment whose transaction index ends has no more
// aborted transactions.
func (a *atRest) checkTxns(l *Log, e *expected, mine bool, kind string, d vfs.Damage, clean bool) error {
	if l.tp != plainTP || mine && (kind == suffixLog || kind == suffixSnapshot && clean || kind == suffixTxn && len(d.Bytes)%abortedTxnBytes == 0 && (len(d.Bytes) == 0 || strings.HasPrefix(d.Name, "cut"))) {
		return nil
	}
	got, err := readFrom(l, l.StartOffset())
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	l.AdvanceHighWatermark(l.EndOffset())
	if err := checkProducers(l, got, e.sawStart); err != nil {
		return err
	}
	return checkCommitted(l, got, e.sawStart)
}

// outside reports whether a batch differs from one that was written in fields that its checksum does not cover: base offset and
// leader epoch.
func outside(b record.Batch, history []record.Batch) bool {
	const crcFrom = 21
	for _, h := range history {
		if len(h) == len(b) && bytes.Equal(h[crcFrom:], b[crcFrom:]) {
			return true
		}
	}
	return false
}
