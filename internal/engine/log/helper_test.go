package log

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// epochMs is when test time begins.
const epochMs = 1_700_000_000_000

// clock is a wall clock that tests move.
type clock struct{ ms int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms) }
func (c *clock) advance(d time.Duration) { c.ms += d.Milliseconds() }

// logOutput sends log lines to the test's output, shown when it fails.
func logOutput(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

func testConfig() Config {
	c := DefaultConfig()
	c.TimestampBeforeMax, c.TimestampAfterMax = Forever, Forever
	return c
}

// batchSpec describes a batch as a client sends it.
type batchSpec struct {
	records  int
	size     int // of each value
	ts       int64
	pid      id.ProducerID
	epoch    id.ProducerEpoch
	seq      int32
	idem     bool
	txn      bool
	fill     byte
	leader   id.LeaderEpoch
	base     id.Offset
	compress record.Codec
	key      string // none when empty
}

func (s batchSpec) build(t testing.TB) []byte {
	t.Helper()
	o := record.Options{BaseOffset: s.base, LeaderEpoch: s.leader, ProducerID: id.NoProducer, ProducerEpoch: id.NoProducerEpoch, BaseSequence: record.NoSequence,
		Compression: record.Compression{Codec: s.compress}}
	if s.idem || s.txn {
		o.ProducerID, o.ProducerEpoch, o.BaseSequence = s.pid, s.epoch, s.seq
	}
	if s.txn {
		o.Transactional = true
	}
	b := record.NewBuilder(o)
	ts := s.ts
	if ts == 0 {
		ts = epochMs
	}
	var key []byte
	if s.key != "" {
		key = []byte(s.key)
	}
	for range max(s.records, 1) {
		if err := b.Append(ts, key, bytes.Repeat([]byte{s.fill | 'a'}, max(s.size, 1))); err != nil {
			t.Fatal(err)
		}
	}
	out, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(out)
}

func openTest(t testing.TB, fsys vfs.FS, c Config, change func(o *LogOptions)) *Log {
	t.Helper()
	l, err := tryOpen(t, fsys, c, change)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func tryOpen(t testing.TB, fsys vfs.FS, c Config, change func(o *LogOptions)) (*Log, error) {
	t.Helper()
	ck := &clock{ms: epochMs}
	o := LogOptions{FS: fsys, Dir: "/data/t-0", TopicPartition: id.TopicPartition{Topic: "t"}, Config: c, CleanShutdown: true, Logger: logOutput(t), Now: ck.now}
	if change != nil {
		change(&o)
	}
	return OpenLog(o)
}

func mustAppend(t testing.TB, l *Log, s batchSpec) AppendResult {
	t.Helper()
	r, err := l.AppendAsLeader(s.build(t), AppendInfo{LeaderEpoch: s.leader})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readAll reads everything a follower would, checking that batches are whole, good and in order.
func readAll(t testing.TB, l *Log) []record.Batch {
	t.Helper()
	out, err := readFrom(l, l.StartOffset())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readFrom(l *Log, from id.Offset) ([]record.Batch, error) {
	var out []record.Batch
	for next := from; next < l.EndOffset(); {
		r, err := l.Read(ReadRequest{Offset: next, MaxBytes: 1 << 20, MinOneMessage: true, Isolation: ReadLogEnd, Reader: Reader{ReplicaID: 2}, LastFetchedEpoch: id.NoLeaderEpoch})
		if err != nil {
			return out, err
		}
		if r.Section == nil {
			return out, errors.New("nothing to read below the log end")
		}
		b, err := r.Section.Bytes()
		r.Section.Release()
		if err != nil {
			return out, err
		}
		for len(b) > 0 {
			batch, rest, err := record.Next(b)
			if err != nil {
				return out, err
			}
			if err := batch.CheckCRC(); err != nil {
				return out, err
			}
			if batch.LastOffset() < next {
				return out, errors.New("batch below the offset that was asked for")
			}
			out = append(out, batch)
			next, b = batch.NextOffset(), rest
		}
	}
	return out, nil
}

func mem(t testing.TB) *vfs.Mem {
	m := vfs.NewMem()
	if err := m.MkdirAll("/data", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	return m
}

// appendTxn writes a transaction of n records and its marker.
func appendTxn(t testing.TB, l *Log, pid id.ProducerID, epoch id.ProducerEpoch, n int, end record.ControlType) {
	t.Helper()
	openTxn(t, l, pid, epoch, n)
	endTxn(t, l, pid, epoch, end)
}

func openTxn(t testing.TB, l *Log, pid id.ProducerID, epoch id.ProducerEpoch, n int) {
	t.Helper()
	b := batchSpec{records: n, size: 50, txn: true, pid: pid, epoch: epoch}.build(t)
	if _, err := l.AppendAsLeader(b, AppendInfo{LeaderEpoch: max(0, l.LatestEpoch())}); err != nil {
		t.Fatal(err)
	}
}

func endTxn(t testing.TB, l *Log, pid id.ProducerID, epoch id.ProducerEpoch, end record.ControlType) {
	t.Helper()
	m, err := record.EndTxnMarker(pid, epoch, end == record.ControlCommit, epochMs, []byte{0, 0, 0, 0, 0, 3})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.AppendAsLeader(m, AppendInfo{LeaderEpoch: max(0, l.LatestEpoch()), Origin: OriginCoordinator}); err != nil {
		t.Fatal(err)
	}
}

// checkWhole reports an error unless b is a sequence of whole and good batches.
func checkWhole(b []byte) error {
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			return err
		}
		if err := batch.CheckCRC(); err != nil {
			return err
		}
		b = rest
	}
	return nil
}
