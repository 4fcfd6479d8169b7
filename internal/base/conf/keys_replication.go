package conf

// replicationKeys are the keys of replication and of fetch requests.
func replicationKeys() []Key {
	return []Key{
		{Name: "auto.leader.rebalance.enable", Type: Boolean, Default: "true"},
		{Name: "controlled.shutdown.enable", Type: Boolean, Default: "true"},
		{Name: "controller.socket.timeout.ms", Type: Int, Default: "30000"},
		{Name: "default.replication.factor", Type: Int, Default: "1"},
		{Name: "delete.records.purgatory.purge.interval.requests", Type: Int, Default: "1"},
		{Name: "fetch.max.bytes", Type: Int, Default: "57671680", Rule: atLeast(1024)},
		{Name: "fetch.purgatory.purge.interval.requests", Type: Int, Default: "1000"},
		{Name: "follower.fetch.last.tiered.offset.enable", Type: Boolean, Default: "false", Mode: ClusterWide},
		{Name: "leader.imbalance.check.interval.seconds", Type: Long, Default: "300", Rule: atLeast(1)},
		{Name: "max.incremental.fetch.session.cache.slots", Type: Int, Default: "1000", Rule: atLeast(0)},
		{Name: "max.request.partition.size.limit", Type: Int, Default: "2000", Rule: atLeast(1)},
		{Name: "num.replica.fetchers", Type: Int, Default: "1", Rule: atLeast(1), Mode: ClusterWide},
		{Name: "producer.purgatory.purge.interval.requests", Type: Int, Default: "1000"},
		{Name: "replica.fetch.backoff.ms", Type: Int, Default: "1000", Rule: atLeast(0)},
		{Name: "replica.fetch.max.bytes", Type: Int, Default: "1048576", Rule: atLeast(0)},
		{Name: "replica.fetch.min.bytes", Type: Int, Default: "1"},
		{Name: "replica.fetch.response.max.bytes", Type: Int, Default: "10485760", Rule: atLeast(0)},
		{Name: "replica.fetch.wait.max.ms", Type: Int, Default: "500"},
		{Name: "replica.high.watermark.checkpoint.interval.ms", Type: Long, Default: "5000"},
		{Name: "replica.lag.time.max.ms", Type: Long, Default: "30000"},
		{Name: "replica.selector.class", Type: String, Null: true},
		{Name: "replica.socket.receive.buffer.bytes", Type: Int, Default: "65536"},
		{Name: "replica.socket.timeout.ms", Type: Int, Default: "30000"},
		{Name: "request.timeout.ms", Type: Int, Default: "30000"},
		{Name: "unclean.leader.election.enable", Type: Boolean, Default: "false", Mode: ClusterWide},
		{Name: "unclean.leader.election.interval.ms", Type: Long, Default: "300000", Rule: atLeast(1), Internal: true},
	}
}
