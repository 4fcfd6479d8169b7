package conf

// groupKeys are the keys of a consumer, share or streams group.
func groupKeys() []Key {
	return []Key{
		{Name: "consumer.assignment.interval.ms", Type: Int, Default: "1000", Rule: atLeast(0), Synonyms: []Synonym{{"group.consumer.assignment.interval.ms", 1}}},
		{Name: "consumer.assignor.offload.enable", Type: Boolean, Default: "true", Synonyms: []Synonym{{"group.consumer.assignor.offload.enable", 1}}, Internal: true},
		{Name: "consumer.heartbeat.interval.ms", Type: Int, Default: "5000", Rule: atLeast(1), Synonyms: []Synonym{{"group.consumer.heartbeat.interval.ms", 1}}},
		{Name: "consumer.session.timeout.ms", Type: Int, Default: "45000", Rule: atLeast(1), Synonyms: []Synonym{{"group.consumer.session.timeout.ms", 1}}},
		{Name: "errors.deadletterqueue.copy.record.enable", Type: Boolean, Default: "false"},
		{Name: "errors.deadletterqueue.topic.name", Type: String, Default: ""},
		{Name: "share.assignment.interval.ms", Type: Int, Default: "1000", Rule: atLeast(0), Synonyms: []Synonym{{"group.share.assignment.interval.ms", 1}}},
		{Name: "share.assignor.offload.enable", Type: Boolean, Default: "true", Synonyms: []Synonym{{"group.share.assignor.offload.enable", 1}}, Internal: true},
		{Name: "share.auto.offset.reset", Type: String, Default: "latest", Rule: shareOffsetReset()},
		{Name: "share.delivery.count.limit", Type: Int, Default: "5", Rule: atLeast(2), Synonyms: []Synonym{{"group.share.delivery.count.limit", 1}}},
		{Name: "share.heartbeat.interval.ms", Type: Int, Default: "5000", Rule: atLeast(1), Synonyms: []Synonym{{"group.share.heartbeat.interval.ms", 1}}},
		{Name: "share.isolation.level", Type: String, Default: "read_uncommitted", Rule: oneOf{"read_committed", "read_uncommitted"}},
		{Name: "share.partition.max.record.locks", Type: Int, Default: "2000", Rule: atLeast(100), Synonyms: []Synonym{{"group.share.partition.max.record.locks", 1}}},
		{Name: "share.record.lock.duration.ms", Type: Int, Default: "30000", Rule: atLeast(1000), Synonyms: []Synonym{{"group.share.record.lock.duration.ms", 1}}},
		{Name: "share.renew.acknowledge.enable", Type: Boolean, Default: "true"},
		{Name: "share.session.timeout.ms", Type: Int, Default: "45000", Rule: atLeast(1), Synonyms: []Synonym{{"group.share.session.timeout.ms", 1}}},
		{Name: "streams.acceptable.recovery.lag", Type: Long, Default: "10000", Rule: atLeast(0), Synonyms: []Synonym{{"group.streams.acceptable.recovery.lag", 1}}, Internal: true},
		{Name: "streams.assignment.interval.ms", Type: Int, Default: "1000", Rule: atLeast(0), Synonyms: []Synonym{{"group.streams.assignment.interval.ms", 1}}},
		{Name: "streams.assignor.name", Type: String, Null: true, Synonyms: []Synonym{{"group.streams.assignors", 1}}},
		{Name: "streams.assignor.offload.enable", Type: Boolean, Default: "true", Synonyms: []Synonym{{"group.streams.assignor.offload.enable", 1}}, Internal: true},
		{Name: "streams.heartbeat.interval.ms", Type: Int, Default: "5000", Rule: atLeast(1), Synonyms: []Synonym{{"group.streams.heartbeat.interval.ms", 1}}},
		{Name: "streams.initial.rebalance.delay.ms", Type: Int, Default: "3000", Rule: atLeast(0), Synonyms: []Synonym{{"group.streams.initial.rebalance.delay.ms", 1}}},
		{Name: "streams.num.standby.replicas", Type: Int, Default: "0", Rule: atLeast(0), Synonyms: []Synonym{{"group.streams.num.standby.replicas", 1}}},
		{Name: "streams.num.warmup.replicas", Type: Int, Default: "2", Rule: atLeast(0), Synonyms: []Synonym{{"group.streams.num.warmup.replicas", 1}}, Internal: true},
		{Name: "streams.rack.aware.assignment.tags", Type: List, Default: "", Rule: distinct(), Synonyms: []Synonym{{"group.streams.rack.aware.assignment.tags", 1}}},
		{Name: "streams.session.timeout.ms", Type: Int, Default: "45000", Rule: atLeast(1), Synonyms: []Synonym{{"group.streams.session.timeout.ms", 1}}},
		{Name: "streams.task.offset.interval.ms", Type: Int, Default: "60000", Rule: atLeast(1), Synonyms: []Synonym{{"group.streams.task.offset.interval.ms", 1}}, Internal: true},
	}
}
