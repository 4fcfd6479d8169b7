package log

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/record"
)

// TestCleanLegacy: a pass over entries of old formats leaves batches of today with the last record of each key, at its offset and
// time and in its codec; tombstones wait for their horizon.
func TestCleanLegacy(t *testing.T) {
	for name, segment := range legacySegments(t) {
		var all []record.Record
		for rest := segment; len(rest) > 0; {
			e, next, err := record.NextLegacy(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = next
			it := e.Records(1 << 20)
			var r record.Record
			for it.Next(&r) {
				r.Key, r.Value = slices.Clone(r.Key), slices.Clone(r.Value)
				all = append(all, r)
			}
			it.Close()
		}
		last := map[string]id.Offset{}
		for _, r := range all {
			if r.Key != nil {
				last[string(r.Key)] = r.Offset
			}
		}
		all = slices.DeleteFunc(all, func(r record.Record) bool { return r.Key == nil || last[string(r.Key)] != r.Offset })
		if len(all) != 5 {
			t.Fatalf("%s: %d keys", name, len(all))
		}
		l, m := legacyLog(t, segment, false)
		end := l.EndOffset()
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
		for pass := range 2 {
			c := *l.cfg.Load()
			c.CleanupCompact, c.DeleteRetention = true, time.Hour
			segs := *l.segments.Load()
			var stats cleanStats
			p := cleanPass{l: l, c: c, nowMs: epochMs, firstDirty: 0, upper: end, segs: segs[:1], all: segs, truncations: l.truncations, mapBytes: 1 << 16, load: 0.9, stats: &stats}
			p.in = batchReader{start: 1 << 16, pause: func(int) error { return nil }}
			if to, err := p.run(func() time.Time { return time.UnixMilli(epochMs) }); err != nil || to != end {
				t.Fatalf("%s: cleaned to %d of %d, %v", name, to, end, err)
			}
			checkCleaned(t, name, l, all)
			if pass == 0 && (stats.recordsRead != 84 || stats.recordsWritten != 5) {
				t.Errorf("%s: %d records read, %d written", name, stats.recordsRead, stats.recordsWritten)
			}
		}
		// Indexes and times are those of the new segment, also after a restart.
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = openTest(t, m, testConfig(), func(o *LogOptions) { o.CleanShutdown = false; o.Config.CleanupCompact = true })
		if l.EndOffset() != end {
			t.Errorf("%s: reopened, the log ends at %d, want %d", name, l.EndOffset(), end)
		}
		checkCleaned(t, name, l, all)
	}
}

func checkCleaned(t *testing.T, name string, l *Log, want []record.Record) {
	t.Helper()
	part := strings.Split(name, "-")
	n := 0
	next := id.Offset(0)
	for n < len(want) {
		r, err := l.Read(ReadRequest{Offset: next, MaxBytes: 1 << 20, MinOneMessage: true, Isolation: ReadLogEnd, LastFetchedEpoch: id.NoLeaderEpoch})
		if err != nil || r.Section == nil {
			t.Fatalf("%s: read at %d: %v", name, next, err)
		}
		b, err := r.Section.Bytes()
		r.Section.Release()
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			var batch record.Batch
			if batch, b, err = record.Next(b); err != nil || batch.CheckCRC() != nil {
				t.Fatalf("%s: not a batch of today: %v", name, err)
			}
			next = batch.NextOffset()
			if batch.Codec().String() != part[1] || batch.LeaderEpoch() != id.NoLeaderEpoch || batch.HasProducerID() ||
				(batch.TimestampType() == record.LogAppendTime) != (part[2] == "append") {
				t.Errorf("%s: %v", name, batch)
			}
			tombstones := false
			it := batch.Records(1 << 20)
			var got record.Record
			for ; it.Next(&got); n++ {
				w := want[n]
				if got.Offset != w.Offset || got.TimestampMs != w.TimestampMs || string(got.Key) != string(w.Key) || string(got.Value) != string(w.Value) || (got.Value == nil) != (w.Value == nil) {
					t.Errorf("%s: %d ts %d %q=%q, want %d ts %d %q=%q", name, got.Offset, got.TimestampMs, got.Key, got.Value, w.Offset, w.TimestampMs, w.Key, w.Value)
				}
				tombstones = tombstones || got.Value == nil
			}
			if it.Err() != nil {
				t.Error(it.Err())
			}
			it.Close()
			if at, ok := batch.DeleteHorizonMs(); ok != tombstones || ok && at != epochMs+time.Hour.Milliseconds() {
				t.Errorf("%s: delete horizon %d %v, tombstones %v", name, at, ok, tombstones)
			}
		}
	}
	for _, w := range want {
		if w.TimestampMs < 0 {
			continue
		}
		if got, err := l.LookupTimestamp(w.TimestampMs); err != nil || !got.Found || got.Timestamp < w.TimestampMs {
			t.Errorf("%s: time %d: %+v, %v", name, w.TimestampMs, got, err)
		}
	}
}
