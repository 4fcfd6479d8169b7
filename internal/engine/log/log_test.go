package log

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/wire"
)

func TestAppendReadReopen(t *testing.T) {
	for _, where := range []string{"mem", "os"} {
		t.Run(where, func(t *testing.T) {
			var fsys vfs.FS = mem(t)
			dir := "/data/t-0"
			if where == "os" {
				fsys, dir = vfs.OS(), filepath.Join(t.TempDir(), "t-0")
			}
			open := func(clean bool) *Log {
				return openTest(t, fsys, testConfig(), func(o *LogOptions) { o.Dir, o.CleanShutdown = dir, clean })
			}
			l := open(true)
			for i := range 20 {
				r := mustAppend(t, l, batchSpec{records: 3, size: 500, leader: 1})
				if r.BaseOffset != id.Offset(i*3) || r.LastOffset != r.BaseOffset+2 || r.NextOffset != l.EndOffset() {
					t.Fatalf("append %d: %+v", i, r)
				}
			}
			check := func() {
				t.Helper()
				if got := readAll(t, l); len(got) != 20 || l.EndOffset() != 60 || got[7].LeaderEpoch() != 1 {
					t.Fatalf("%d batches, end %d", len(got), l.EndOffset())
				}
			}
			check()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = open(true)
			check()
			if l.DurableEnd() != 60 {
				t.Fatalf("durable end after a clean shutdown: %d", l.DurableEnd())
			}
			mustAppend(t, l, batchSpec{leader: 1})
			// Not closed: the process is killed.
			l = open(false)
			if l.EndOffset() != 61 || l.DurableEnd() != 0 || l.LatestEpoch() != 1 {
				t.Fatalf("end %d durable %d epoch %d", l.EndOffset(), l.DurableEnd(), l.LatestEpoch())
			}
			l.Close()
		})
	}
}

func TestReadBounds(t *testing.T) {
	l := openTest(t, mem(t), testConfig(), nil)
	for range 10 {
		mustAppend(t, l, batchSpec{records: 2, size: 1000})
	}
	one := len(batchSpec{records: 2, size: 1000}.build(t))
	l.AdvanceHighWatermark(6)
	for _, c := range []struct {
		name    string
		r       ReadRequest
		batches int
		code    wire.ErrorCode
	}{
		{"all", ReadRequest{Offset: 0, MaxBytes: 1 << 20, Isolation: ReadLogEnd}, 10, 0},
		{"up to the high watermark", ReadRequest{Offset: 0, MaxBytes: 1 << 20, Isolation: ReadHighWatermark}, 3, 0},
		{"committed", ReadRequest{Offset: 2, MaxBytes: 1 << 20, Isolation: ReadCommitted}, 2, 0},
		{"at the high watermark", ReadRequest{Offset: 6, MaxBytes: 1 << 20, Isolation: ReadHighWatermark}, 0, 0},
		{"above the high watermark", ReadRequest{Offset: 9, MaxBytes: 1 << 20, Isolation: ReadHighWatermark}, 0, 0},
		{"inside of a batch", ReadRequest{Offset: 3, MaxBytes: 1 << 20, Isolation: ReadLogEnd}, 9, 0},
		{"whole batches only", ReadRequest{Offset: 0, MaxBytes: 3*one + one/2, Isolation: ReadLogEnd}, 3, 0},
		{"exactly", ReadRequest{Offset: 0, MaxBytes: 3 * one, Isolation: ReadLogEnd}, 3, 0},
		{"too little for one", ReadRequest{Offset: 0, MaxBytes: one - 1, Isolation: ReadLogEnd}, 0, 0},
		{"at least one", ReadRequest{Offset: 0, MaxBytes: 1, MinOneMessage: true, Isolation: ReadLogEnd}, 1, 0},
		{"nothing", ReadRequest{Offset: 0, MaxBytes: 0, Isolation: ReadLogEnd}, 0, 0},
		{"at the end", ReadRequest{Offset: 20, MaxBytes: 1 << 20, Isolation: ReadLogEnd}, 0, 0},
		{"beyond the end", ReadRequest{Offset: 21, MaxBytes: 1 << 20, Isolation: ReadLogEnd}, 0, wire.ErrOffsetOutOfRange},
		{"negative", ReadRequest{Offset: -1, MaxBytes: 1 << 20, Isolation: ReadLogEnd}, 0, wire.ErrOffsetOutOfRange},
	} {
		c.r.LastFetchedEpoch = id.NoLeaderEpoch
		res, err := l.Read(c.r)
		if got := ErrorCode(err); got != c.code {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if c.code != 0 {
			continue
		}
		size := 0
		if res.Section != nil {
			size = res.Section.Size()
			res.Section.Release()
		}
		if size != c.batches*one {
			t.Errorf("%s: %d bytes, want %d batches of %d", c.name, size, c.batches, one)
		}
		if res.HighWatermark != 6 || res.LogEndOffset != 20 || res.LastStableOffset != 6 {
			t.Errorf("%s: %+v", c.name, res)
		}
	}
}

func TestDivergence(t *testing.T) {
	l := openTest(t, mem(t), testConfig(), nil)
	for _, e := range []id.LeaderEpoch{1, 1, 3, 5} {
		mustAppend(t, l, batchSpec{records: 10, leader: e})
	}
	for _, c := range []struct {
		fetched   id.LeaderEpoch
		offset    id.Offset
		diverging *EpochEndOffset
		code      wire.ErrorCode
	}{
		{5, 40, nil, 0},
		{1, 20, nil, 0},
		{1, 21, &EpochEndOffset{1, 20}, 0},
		{2, 20, &EpochEndOffset{1, 20}, 0},
		{4, 30, &EpochEndOffset{3, 30}, 0},
		{6, 40, nil, wire.ErrOffsetOutOfRange},
		{0, 1, &EpochEndOffset{0, 0}, 0},
	} {
		r, err := l.Read(ReadRequest{Offset: c.offset, MaxBytes: 1000, Isolation: ReadLogEnd, LastFetchedEpoch: c.fetched})
		if ErrorCode(err) != c.code {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if (r.Diverging == nil) != (c.diverging == nil) || r.Diverging != nil && *r.Diverging != *c.diverging {
			t.Errorf("epoch %d at %d: %+v", c.fetched, c.offset, r.Diverging)
		}
		if r.Diverging != nil && r.Section != nil {
			t.Error("a diverging reader got data")
		}
	}
}

func TestRollBySize(t *testing.T) {
	c := testConfig()
	c.SegmentBytes = 5000
	m := mem(t)
	l := openTest(t, m, c, nil)
	for range 20 {
		mustAppend(t, l, batchSpec{records: 1, size: 1000})
	}
	if n := l.Segments(); n != 5 {
		t.Fatalf("%d segments", n)
	}
	if got := readAll(t, l); len(got) != 20 {
		t.Fatalf("%d batches", len(got))
	}
	if _, err := l.AppendAsLeader(batchSpec{size: 6000}.build(t), AppendInfo{}); ErrorCode(err) != wire.ErrRecordListTooLarge {
		t.Fatalf("batch larger than a segment: %v", err)
	}
	l.Close()
	l = openTest(t, m, c, nil)
	if got := readAll(t, l); len(got) != 20 || l.Segments() != 5 {
		t.Fatalf("%d batches in %d segments", len(got), l.Segments())
	}
}

func TestTopicID(t *testing.T) {
	m := mem(t)
	l := openTest(t, m, testConfig(), func(o *LogOptions) { o.TopicID = id.MetadataTopicID })
	b, err := vfs.ReadFile(m, "/data/t-0/partition.metadata", 100)
	if err != nil || string(b) != "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ" {
		t.Fatalf("%q %v", b, err)
	}
	l.Close()
	l = openTest(t, m, testConfig(), nil)
	if l.TopicID() != id.MetadataTopicID {
		t.Fatal(l.TopicID())
	}
	var wrong *InconsistentTopicIDError
	if err := l.SetTopicID(id.UUID{1}); !errors.As(err, &wrong) {
		t.Fatal(err)
	}
}
