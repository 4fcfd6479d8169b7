package log

import (
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Every segment draws its own share of segment.jitter.ms when it is made, and rolls that much before its time, not a millisecond
// earlier. Logs that were made together do not roll together.
func TestRollJitter(t *testing.T) {
	const age, jitter = time.Hour, 20 * time.Minute
	c := testConfig()
	c.SegmentAge, c.SegmentJitter = age, jitter
	var least, most time.Duration = jitter, 0
	drawn := map[time.Duration]bool{}
	l := openTest(t, mem(t), c, nil)
	ts := int64(epochMs)
	for range 200 {
		s := l.active()
		if s.jitter < 0 || s.jitter >= jitter {
			t.Fatalf("a jitter of %v", s.jitter)
		}
		least, most, drawn[s.jitter] = min(least, s.jitter), max(most, s.jitter), true
		mustAppend(t, l, batchSpec{ts: ts})
		due := (age - s.jitter).Milliseconds()
		mustAppend(t, l, batchSpec{ts: ts + due})
		if l.active() != s {
			t.Fatalf("rolled after %v, with a jitter of %v", age-s.jitter, s.jitter)
		}
		mustAppend(t, l, batchSpec{ts: ts + due + 1})
		if l.active() == s {
			t.Fatalf("not rolled after %v and a millisecond, with a jitter of %v", age-s.jitter, s.jitter)
		}
		ts += due + 1
	}
	if len(drawn) < 100 || least > jitter/4 || most < jitter*3/4 {
		t.Errorf("%d different jitters from %v to %v", len(drawn), least, most)
	}
}

// More jitter than segment.ms is as much as that; none is none, also for a segment that is found; and what changes holds for segments
// that are made from then on.
func TestRollJitterBounds(t *testing.T) {
	c := testConfig()
	c.SegmentAge, c.SegmentJitter = time.Minute, time.Hour
	disk := mem(t)
	l := openTest(t, disk, c, nil)
	fresh := func() time.Duration {
		t.Helper()
		mustAppend(t, l, batchSpec{})
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
		return l.active().jitter
	}
	some := false
	for range 50 {
		j := fresh()
		if j >= time.Minute {
			t.Fatalf("a jitter of %v with segment.ms of a minute", j)
		}
		some = some || j > 0
	}
	if !some {
		t.Error("no jitter at all")
	}
	c.SegmentJitter = 0
	l.SetConfig(c)
	for range 5 {
		if j := fresh(); j != 0 {
			t.Fatalf("a jitter of %v without segment.jitter.ms", j)
		}
	}
	c.SegmentJitter, c.SegmentAge = time.Hour, Forever
	l.SetConfig(c)
	if fresh(); l.active().jitter >= time.Hour {
		t.Errorf("a jitter of %v", l.active().jitter)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	drawn := false
	for range 20 { // a restart draws anew
		l = openTest(t, disk, c, nil)
		drawn = drawn || l.active().jitter > 0
		l.Close()
	}
	if !drawn {
		t.Error("a segment that is found has no jitter")
	}
}

// Nothing at or above the high watermark goes, whatever retention says: the log begins at the segment that holds it.
func TestRetentionBelowHighWatermark(t *testing.T) {
	c := testConfig()
	c.SegmentBytes, c.RetentionTime = 512, 999*time.Millisecond
	l := openTest(t, mem(t), c, nil)
	for range 100 {
		mustAppend(t, l, batchSpec{ts: epochMs - 1000})
	}
	if l.Segments() < 6 {
		t.Fatalf("%d segments", l.Segments())
	}
	if n, err := l.DeleteOldSegments(time.UnixMilli(epochMs)); n != 0 || err != nil {
		t.Fatalf("%d segments deleted below a high watermark of 0, %v", n, err)
	}
	for hw := id.Offset(0); hw <= 100; hw++ {
		l.AdvanceHighWatermark(hw)
		if _, err := l.DeleteOldSegments(time.UnixMilli(epochMs)); err != nil {
			t.Fatal(err)
		}
		for i, s := range *l.segments.Load() {
			if (s.base > hw) != (i > 0) || s.base < l.StartOffset() {
				t.Fatalf("high watermark %d: segment %d begins at %d, the log at %d", hw, i, s.base, l.StartOffset())
			}
		}
	}
	if l.StartOffset() != 100 || l.Segments() != 1 || l.SizeBytes() != 0 || l.EndOffset() != 100 {
		t.Errorf("from %d to %d in %d segments", l.StartOffset(), l.EndOffset(), l.Segments())
	}
	if r := mustAppend(t, l, batchSpec{}); r.BaseOffset != 100 {
		t.Errorf("appended at %d", r.BaseOffset)
	}
}
