package log

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/moldau-io/moldau/internal/base/vfs"
)

// idleCleaner are the options of a manager whose workers run in the time of a bubble, once there are any.
func idleCleaner(t *testing.T, disk *vfs.Mem) (Options, CleanerConfig) {
	o := managerOptions(t, disk, &clock{ms: epochMs}, "/data")
	o.Manual, o.Now, o.Cleaner = false, time.Now, DefaultCleanerConfig()
	config := o.Cleaner
	o.Cleaner.Enable = false
	return o, config
}

// As many logs are taken up at once as there are workers, each at its first look.
func TestCleanerThreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := mem(t)
		o, config := idleCleaner(t, disk)
		m := compacted(t, o, disk, 4, nil)
		config.MaxIOBytesPerSecond = 1 // nobody gets far
		for _, threads := range []int{1, 3, 2} {
			config.Threads = threads
			m.SetCleaner(config)
			time.Sleep(time.Second)
			m.cleaner.mu.Lock()
			busy := len(m.cleaner.busy)
			m.cleaner.mu.Unlock()
			if busy != threads {
				t.Errorf("%d logs are taken up by %d workers", busy, threads)
			}
		}
		m.Close(1)
	})
}

// What was read at a low rate is not paid for when the rate rises.
func TestCleanerRateRises(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := mem(t)
		o, config := idleCleaner(t, disk)
		m := compacted(t, o, disk, 1, nil)
		l, _ := m.Get(tp0)
		config.MaxIOBytesPerSecond = 1
		m.SetCleaner(config)
		time.Sleep(time.Minute)
		if l.clean.Load() >= 0 {
			t.Error("cleaned at 1 B/s")
		}
		config.MaxIOBytesPerSecond = 1 << 20
		m.SetCleaner(config)
		time.Sleep(time.Second)
		if l.clean.Load() <= 0 {
			t.Error("not cleaned within a second at 1 MB/s")
		}
		m.Close(1)
	})
}

// The utilization is that of the buffer which may be had, whatever was needed of it; the delay is that of the log that waits
// longest, be it taken up or not.
func TestCleanerFigures(t *testing.T) {
	disk, ck := mem(t), &clock{ms: epochMs}
	m := compacted(t, managerOptions(t, disk, ck, "/data"), disk, 2, func(c *Config) { c.MinCleanableRatio = 0 })
	config := DefaultCleanerConfig()
	config.DedupeBufferBytes, config.Threads = 200*keySlotBytes, 2
	m.SetCleaner(config)
	l, _ := m.Get(tp1)
	c := l.Config()
	c.MaxCompactionLag, c.MinCompactionLag = time.Minute, 2*time.Hour // overdue, and out of reach
	l.SetConfig(c)
	ck.advance(time.Hour)
	if !m.Clean() {
		t.Fatal("no pass")
	}
	if s := m.CleanerStats(); s.MaxBufferUtilizationPercent != 4 || s.MaxCompactionDelay != 59*time.Minute {
		t.Errorf("%+v, want 4 keys in 100 slots, and an hour less a minute", s)
	}
	m.Close(1)
}
