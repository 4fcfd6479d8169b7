package log

import (
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// What there is to clean, by where the cleaner was, what is committed and stable, and how old the records are. The log has segments of
// one record each, from 0 to 9, and an active one with record 10; two of the producers' transactions are open where it says so.
func TestDirtyPart(t *testing.T) {
	for name, c := range map[string]struct {
		clean  int64
		start  id.Offset
		hw     id.Offset // 0: the end
		open   bool      // record 6 belongs to an open transaction
		change func(c *Config)
		age    time.Duration // of the records

		first, upper id.Offset
		dirty, all   int // segments
	}{
		"never cleaned":                  {clean: -1, first: 0, upper: 10, dirty: 10, all: 10},
		"cleaned up to the middle":       {clean: 4, first: 4, upper: 10, dirty: 6, all: 10},
		"cleaned":                        {clean: 10, first: 10, upper: 10},
		"cleaned beyond the active base": {clean: 11, first: 11, upper: 11},
		"cleaned beyond the end":         {clean: 50, first: 0, upper: 10, dirty: 10, all: 10},
		"cleaned below the start":        {clean: 2, start: 5, first: 5, upper: 10, dirty: 5, all: 10},
		"start in the active segment":    {clean: 2, start: 11, first: 11, upper: 11},
		"not committed":                  {clean: -1, hw: 7, first: 0, upper: 7, dirty: 7, all: 7},
		"nothing committed behind it":    {clean: 7, hw: 5, first: 7, upper: 7, all: 7},
		"not stable":                     {clean: 2, open: true, first: 2, upper: 6, dirty: 4, all: 6},
		"too young":                      {clean: -1, change: func(c *Config) { c.MinCompactionLag = time.Hour }, age: time.Hour - time.Millisecond, first: 0, upper: 0},
		"old enough":                     {clean: -1, change: func(c *Config) { c.MinCompactionLag = time.Hour }, age: time.Hour + 10*time.Second, first: 0, upper: 10, dirty: 10, all: 10},
		"old in part":                    {clean: -1, change: func(c *Config) { c.MinCompactionLag = time.Hour }, age: time.Hour + 5*time.Second, first: 0, upper: 6, dirty: 6, all: 6},
		"no lag":                         {clean: -1, change: func(c *Config) { c.MinCompactionLag = 0 }, first: 0, upper: 10, dirty: 10, all: 10},
		"a lag of for ever":              {clean: -1, change: func(c *Config) { c.MinCompactionLag = Forever }, age: 100 * time.Hour, first: 0, upper: 0},
	} {
		conf := testConfig()
		conf.CleanupCompact, conf.CleanupDelete = true, false
		if c.change != nil {
			c.change(&conf)
		}
		disk, ck := mem(t), &clock{ms: epochMs}
		m := mustOpen(t, managerOptions(t, disk, ck, "/data"))
		l, err := m.Create(tp0, CreateOptions{Config: conf})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 11 {
			s := batchSpec{key: "k", ts: epochMs + int64(i)*1000}
			if c.open && i == 6 {
				s.txn, s.pid = true, 4
			}
			mustAppend(t, l, s)
			if i < 10 {
				if err := l.Roll(); err != nil {
					t.Fatal(err)
				}
			}
		}
		hw := c.hw
		if hw == 0 {
			hw = l.EndOffset()
		}
		l.AdvanceHighWatermark(hw)
		l.clean.Store(c.clean)
		if c.start > 0 {
			if _, err := l.DeleteRecords(c.start); err != nil {
				t.Fatal(err)
			}
		}
		size := (*l.segments.Load())[0].size.Load()
		if c.open {
			size = 0
			for _, s := range (*l.segments.Load())[:10] {
				size = s.size.Load()
			}
		}
		d, err := l.dirty(time.UnixMilli(epochMs).Add(c.age))
		if err != nil {
			t.Fatal(err)
		}
		if d.firstDirty != c.first || d.upper != c.upper || d.cleanableBytes != int64(c.dirty)*size || d.cleanBytes+d.cleanableBytes > int64(c.all)*size || len(d.segs) != c.all {
			t.Errorf("%s: from %d to %d, %d segments, %d bytes clean and %d dirty; want %d to %d, %d of %d segments of %d bytes", name, d.firstDirty, d.upper, len(d.segs), d.cleanBytes,
				d.cleanableBytes, c.first, c.upper, c.dirty, c.all, size)
		}
		if got, want := d.cleanableBytes > 0, c.dirty > 0; got != want {
			t.Errorf("%s: dirty %t", name, got)
		}
		// What is not valid any more is put right in the checkpoint too, whether there is anything to clean or not.
		if c.clean >= 0 && (c.clean < int64(c.start) || c.clean > int64(l.EndOffset())) && (l.clean.Load() != int64(l.StartOffset()) || !l.dir.cleanChanged.Load()) {
			t.Errorf("%s: clean up to %d after all", name, l.clean.Load())
		}
		m.Close(1)
	}
}
