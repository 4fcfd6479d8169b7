package log

import (
	"math"
	"time"

	"github.com/moldau-io/moldau/internal/record"
)

// Config is a topic's configuration as far as its logs care. Values are resolved: every default is filled in.
type Config struct {
	SegmentBytes       int64         // segment.bytes
	SegmentAge         time.Duration // segment.ms
	SegmentJitter      time.Duration // segment.jitter.ms
	SegmentIndexBytes  int64         // segment.index.bytes
	IndexIntervalBytes int64         // index.interval.bytes
	MaxMessageBytes    int           // max.message.bytes
	RetentionTime      time.Duration // retention.ms; negative keeps forever
	RetentionBytes     int64         // retention.bytes; negative keeps everything
	FileDeleteDelay    time.Duration // file.delete.delay.ms
	FlushMessages      int64         // flush.messages; 1 is strict flush
	FlushInterval      time.Duration // flush.ms
	CleanupDelete      bool          // cleanup.policy contains delete
	CleanupCompact     bool          // cleanup.policy contains compact
	DeleteRetention    time.Duration // delete.retention.ms
	MinCompactionLag   time.Duration // min.compaction.lag.ms
	MaxCompactionLag   time.Duration // max.compaction.lag.ms
	MinCleanableRatio  float64       // min.cleanable.dirty.ratio

	LogAppendTime      bool          // message.timestamp.type is LogAppendTime
	TimestampBeforeMax time.Duration // message.timestamp.before.max.ms
	TimestampAfterMax  time.Duration // message.timestamp.after.max.ms
	MaxRecordBytes     int           // max.decompressed.message.bytes; 0: no bound
	KeepCodec          bool          // compression.type is producer
	Compression        record.Compression
}

// Forever is the duration that stands for Kafka's Long.MAX_VALUE milliseconds.
const Forever = time.Duration(math.MaxInt64)

// DefaultConfig returns the values a topic has when nobody set anything.
func DefaultConfig() Config {
	return Config{
		SegmentBytes:       1 << 30,
		SegmentAge:         7 * 24 * time.Hour,
		SegmentIndexBytes:  10 << 20,
		IndexIntervalBytes: 4096,
		MaxMessageBytes:    1<<20 + 12,
		RetentionTime:      7 * 24 * time.Hour,
		RetentionBytes:     -1,
		FileDeleteDelay:    time.Minute,
		FlushMessages:      math.MaxInt64,
		FlushInterval:      Forever,
		CleanupDelete:      true,
		DeleteRetention:    24 * time.Hour,
		MaxCompactionLag:   Forever,
		MinCleanableRatio:  0.5,
		TimestampBeforeMax: Forever,
		TimestampAfterMax:  time.Hour,
		KeepCodec:          true,
	}
}

// strictFlush reports whether an append must be durable before it counts.
func (c *Config) strictFlush() bool { return c.FlushMessages == 1 }

// maxSegmentAge is how old the active segment may get: a compacted log must roll in time for max.compaction.lag.ms.
func (c *Config) maxSegmentAge() time.Duration {
	if c.CleanupCompact && c.MaxCompactionLag > 0 {
		return min(c.SegmentAge, c.MaxCompactionLag)
	}
	return c.SegmentAge
}

// durationMs is a duration in Kafka's milliseconds; Forever is Long.MAX_VALUE.
func durationMs(d time.Duration) int64 {
	if d == Forever {
		return math.MaxInt64
	}
	return d.Milliseconds()
}
