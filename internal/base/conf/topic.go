package conf

import "time"

// Topic is the typed, resolved configuration of one topic. Durations of Long.MAX_VALUE milliseconds are Forever; a negative
// Retention or RetentionBytes means without limit.
type Topic struct {
	Compact, Delete bool // cleanup.policy; both may be false

	CompressionType                string // producer, uncompressed, gzip, snappy, lz4 or zstd
	GzipLevel, LZ4Level, ZstdLevel int32
	DeleteRetention                time.Duration // how long the cleaner keeps tombstones
	FileDeleteDelay                time.Duration
	FlushMessages                  int64
	FlushInterval                  time.Duration
	IndexIntervalBytes             int32
	LeaderThrottledReplicas        []string // "partition:broker" or "*"
	FollowerThrottledReplicas      []string
	MaxCompactionLag               time.Duration
	MinCompactionLag               time.Duration
	MaxDecompressedMessageBytes    int32
	MaxMessageBytes                int32 // of a whole batch
	TimestampAfterMax              time.Duration
	TimestampBeforeMax             time.Duration
	LogAppendTime                  bool // message.timestamp.type
	MinCleanableDirtyRatio         float64
	MinInsyncReplicas              int32
	Preallocate                    bool
	RetentionBytes                 int64
	Retention                      time.Duration
	SegmentBytes                   int32
	SegmentIndexBytes              int32
	SegmentJitter                  time.Duration
	SegmentAge                     time.Duration // segment.ms
	UncleanLeaderElection          bool
	RemoteStorage                  bool
	RemoteLogCopyDisable           bool
	RemoteLogDeleteOnDisable       bool
	LocalRetentionBytes            int64         // -2: as RetentionBytes
	LocalRetention                 time.Duration // -2 ms: as Retention
	RemoteCopyLagBytes             int64
	RemoteCopyLag                  time.Duration
	ErrorsDeadLetterQueueForGroups bool
	values                         map[string]Value
	overrides                      map[string]string
	broker                         *Broker
}

// CleanupPolicy returns the policy as it is written in the key.
func (t *Topic) CleanupPolicy() string { return t.values["cleanup.policy"].Text() }

// ResolveTopic gives a topic's configuration: its own values, and for all other keys what the broker's synonyms say, or the
// default. Stored values were checked when they were set; an error names one that cannot be read nevertheless.
func ResolveTopic(b *Broker, overrides map[string]string) (*Topic, error) {
	t := &Topic{broker: b, overrides: overrides, values: make(map[string]Value, 40)}
	for _, k := range keyTable().scoped[TopicScope] {
		v, err := topicValue(b, k, overrides)
		if err != nil {
			return nil, err
		}
		t.values[k.Name] = v
	}
	t.fill()
	return t, nil
}

// topicValue resolves one topic key.
func topicValue(b *Broker, k *Key, overrides map[string]string) (Value, error) {
	if text, ok := overrides[k.Name]; ok {
		return k.Parse(text)
	}
	for i, s := range k.Synonyms {
		v := b.values[s.Name]
		if v.Null && i < len(k.Synonyms)-1 {
			continue
		}
		v.num *= s.Factor
		v.Type = k.Type
		if k.Name == "retention.ms" && v.num < 0 {
			v.num = -1
		}
		return v, nil
	}
	return k.DefaultValue(), nil
}

func (t *Topic) fill() {
	num := func(key string) int64 { return t.values[key].num }
	i32 := func(key string) int32 { return int32(num(key)) }
	flag := func(key string) bool { return num(key) != 0 }
	ms := func(key string) time.Duration { return millis(num(key)) }
	for _, p := range t.values["cleanup.policy"].list {
		t.Compact = t.Compact || p == "compact"
		t.Delete = t.Delete || p == "delete"
	}
	t.CompressionType = t.values["compression.type"].str
	t.GzipLevel, t.LZ4Level, t.ZstdLevel = i32("compression.gzip.level"), i32("compression.lz4.level"), i32("compression.zstd.level")
	t.DeleteRetention = ms("delete.retention.ms")
	t.FileDeleteDelay = ms("file.delete.delay.ms")
	t.FlushMessages = num("flush.messages")
	t.FlushInterval = ms("flush.ms")
	t.IndexIntervalBytes = i32("index.interval.bytes")
	t.LeaderThrottledReplicas = t.values["leader.replication.throttled.replicas"].list
	t.FollowerThrottledReplicas = t.values["follower.replication.throttled.replicas"].list
	t.MaxCompactionLag = ms("max.compaction.lag.ms")
	t.MinCompactionLag = ms("min.compaction.lag.ms")
	t.MaxDecompressedMessageBytes = i32("max.decompressed.message.bytes")
	t.MaxMessageBytes = i32("max.message.bytes")
	t.TimestampAfterMax = ms("message.timestamp.after.max.ms")
	t.TimestampBeforeMax = ms("message.timestamp.before.max.ms")
	t.LogAppendTime = t.values["message.timestamp.type"].str == "LogAppendTime"
	t.MinCleanableDirtyRatio = t.values["min.cleanable.dirty.ratio"].dbl
	t.MinInsyncReplicas = i32("min.insync.replicas")
	t.Preallocate = flag("preallocate")
	t.RetentionBytes = num("retention.bytes")
	t.Retention = ms("retention.ms")
	t.SegmentBytes = i32("segment.bytes")
	if v := t.values["internal.segment.bytes"]; !v.Null {
		t.SegmentBytes = int32(v.num)
	}
	t.SegmentIndexBytes = i32("segment.index.bytes")
	t.SegmentJitter = ms("segment.jitter.ms")
	t.SegmentAge = ms("segment.ms")
	t.UncleanLeaderElection = flag("unclean.leader.election.enable")
	t.RemoteStorage = flag("remote.storage.enable")
	t.RemoteLogCopyDisable = flag("remote.log.copy.disable")
	t.RemoteLogDeleteOnDisable = flag("remote.log.delete.on.disable")
	t.LocalRetentionBytes = num("local.retention.bytes")
	t.LocalRetention = ms("local.retention.ms")
	t.RemoteCopyLagBytes = num("remote.copy.lag.bytes")
	t.RemoteCopyLag = ms("remote.copy.lag.ms")
	t.ErrorsDeadLetterQueueForGroups = flag("errors.deadletterqueue.group.enable")
}
