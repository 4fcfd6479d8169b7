package replica

import (
	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/record"
)

// TopicConfig is a topic's resolved configuration as far as its replicas care.
type TopicConfig struct {
	Log               log.Config
	MinInSyncReplicas int // min.insync.replicas
}

// FromConf takes what replicas need from a topic's resolved configuration.
func FromConf(t *conf.Topic) TopicConfig {
	return TopicConfig{
		MinInSyncReplicas: int(t.MinInsyncReplicas),
		Log: log.Config{
			SegmentBytes:       int64(t.SegmentBytes),
			SegmentAge:         t.SegmentAge,
			SegmentJitter:      t.SegmentJitter,
			SegmentIndexBytes:  int64(t.SegmentIndexBytes),
			IndexIntervalBytes: int64(t.IndexIntervalBytes),
			MaxMessageBytes:    int(t.MaxMessageBytes),
			MaxRecordBytes:     int(t.MaxDecompressedMessageBytes),
			RetentionTime:      t.Retention,
			RetentionBytes:     t.RetentionBytes,
			FileDeleteDelay:    t.FileDeleteDelay,
			FlushMessages:      t.FlushMessages,
			FlushInterval:      t.FlushInterval,
			CleanupDelete:      t.Delete,
			CleanupCompact:     t.Compact,
			DeleteRetention:    t.DeleteRetention,
			MinCompactionLag:   t.MinCompactionLag,
			MaxCompactionLag:   t.MaxCompactionLag,
			MinCleanableRatio:  t.MinCleanableDirtyRatio,
			LogAppendTime:      t.LogAppendTime,
			TimestampBeforeMax: t.TimestampBeforeMax,
			TimestampAfterMax:  t.TimestampAfterMax,
			KeepCodec:          t.CompressionType == "producer",
			Compression:        compression(t),
		},
	}
}

// compression is what the broker compresses with itself; "producer" and "uncompressed" have no codec.
func compression(t *conf.Topic) record.Compression {
	switch t.CompressionType {
	case "gzip":
		return record.Compression{Codec: record.Gzip, Level: int(t.GzipLevel)}
	case "snappy":
		return record.Compression{Codec: record.Snappy}
	case "lz4":
		return record.Compression{Codec: record.LZ4, Level: int(t.LZ4Level)}
	case "zstd":
		return record.Compression{Codec: record.Zstd, Level: int(t.ZstdLevel)}
	}
	return record.Compression{}
}
