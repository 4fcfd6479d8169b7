package conf

// metricKeys are the keys of metrics, telemetry and quota windows.
func metricKeys() []Key {
	return []Key{
		{Name: "alter.log.dirs.replication.quota.window.num", Type: Int, Default: "11", Rule: atLeast(1)},
		{Name: "alter.log.dirs.replication.quota.window.size.seconds", Type: Int, Default: "1", Rule: atLeast(1)},
		{Name: "client.quota.callback.class", Type: Class, Null: true},
		{Name: "controller.quota.window.num", Type: Int, Default: "11", Rule: atLeast(1)},
		{Name: "controller.quota.window.size.seconds", Type: Int, Default: "1", Rule: atLeast(1)},
		{Name: "kafka.metrics.polling.interval.secs", Type: Int, Default: "10", Rule: atLeast(1)},
		{Name: "kafka.metrics.reporters", Type: List, Default: "", Rule: distinct()},
		{Name: "metric.reporters", Type: List, Default: "org.apache.kafka.common.metrics.JmxReporter", Rule: distinct(), Mode: ClusterWide},
		{Name: "metrics.num.samples", Type: Int, Default: "2", Rule: atLeast(1)},
		{Name: "metrics.recording.level", Type: String, Default: "INFO"},
		{Name: "metrics.sample.window.ms", Type: Long, Default: "30000", Rule: atLeast(1)},
		{Name: "quota.window.num", Type: Int, Default: "11", Rule: atLeast(1)},
		{Name: "quota.window.size.seconds", Type: Int, Default: "1", Rule: atLeast(1)},
		{Name: "replication.quota.window.num", Type: Int, Default: "11", Rule: atLeast(1)},
		{Name: "replication.quota.window.size.seconds", Type: Int, Default: "1", Rule: atLeast(1)},
		{Name: "telemetry.max.bytes", Type: Int, Default: "1048576", Rule: atLeast(1)},
		{Name: "leader.replication.throttled.rate", Type: Long, Default: "9223372036854775807", Rule: atLeast(0), Mode: ClusterWide, DynamicOnly: true},
		{Name: "follower.replication.throttled.rate", Type: Long, Default: "9223372036854775807", Rule: atLeast(0), Mode: ClusterWide, DynamicOnly: true},
		{Name: "replica.alter.log.dirs.io.max.bytes.per.second", Type: Long, Default: "9223372036854775807", Rule: atLeast(0), Mode: ClusterWide, DynamicOnly: true},
	}
}
