package conf

// transactionKeys are the keys of transactions and producer ids.
func transactionKeys() []Key {
	return []Key{
		{Name: "add.partitions.to.txn.retry.backoff.max.ms", Type: Int, Default: "100", Rule: atLeast(0)},
		{Name: "add.partitions.to.txn.retry.backoff.ms", Type: Int, Default: "20", Rule: atLeast(1)},
		{Name: "producer.id.expiration.check.interval.ms", Type: Int, Default: "600000", Rule: atLeast(1), Internal: true},
		{Name: "producer.id.expiration.ms", Type: Int, Default: "86400000", Rule: atLeast(1), Mode: ClusterWide},
		{Name: "transaction.abort.timed.out.transaction.cleanup.interval.ms", Type: Int, Default: "10000", Rule: atLeast(1)},
		{Name: "transaction.max.timeout.ms", Type: Int, Default: "900000", Rule: atLeast(1)},
		{Name: "transaction.partition.verification.enable", Type: Boolean, Default: "true", Mode: ClusterWide},
		{Name: "transaction.remove.expired.transaction.cleanup.interval.ms", Type: Int, Default: "3600000", Rule: atLeast(1)},
		{Name: "transaction.state.log.load.buffer.size", Type: Int, Default: "5242880", Rule: atLeast(1)},
		{Name: "transaction.state.log.min.isr", Type: Int, Default: "2", Rule: atLeast(1)},
		{Name: "transaction.state.log.num.partitions", Type: Int, Default: "50", Rule: atLeast(1)},
		{Name: "transaction.state.log.replication.factor", Type: Short, Default: "3", Rule: atLeast(1)},
		{Name: "transaction.state.log.segment.bytes", Type: Int, Default: "104857600", Rule: atLeast(1)},
		{Name: "transaction.two.phase.commit.enable", Type: Boolean, Default: "false"},
		{Name: "transactional.id.expiration.ms", Type: Int, Default: "604800000", Rule: atLeast(1)},
	}
}
