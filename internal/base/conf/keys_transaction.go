package conf

// transactionKeys are the keys of transactions and producer ids.
func transactionKeys() []Key {
	return []Key{
		{Name: "add.partitions.to.txn.retry.backoff.max.ms", Type: Int, Default: "100", Rule: atLeast(0), State: Done,
			Doc: "Longest wait of the server before it tries again to add a partition to a transaction that is being completed."},
		{Name: "add.partitions.to.txn.retry.backoff.ms", Type: Int, Default: "20", Rule: atLeast(1), State: Done,
			Doc: "First wait of the server before it tries again to add a partition to a transaction that is being completed."},
		{Name: "producer.id.expiration.check.interval.ms", Type: Int, Default: "600000", Rule: atLeast(1), Internal: true, State: Done,
			Doc: "How often expired producer ids are looked for."},
		{Name: "producer.id.expiration.ms", Type: Int, Default: "86400000", Rule: atLeast(1), Mode: ClusterWide, State: Done,
			Doc: "How long a partition remembers the last batches of an idle producer."},
		{Name: "transaction.abort.timed.out.transaction.cleanup.interval.ms", Type: Int, Default: "10000", Rule: atLeast(1), State: Done,
			Doc: "How often timed-out transactions are looked for."},
		{Name: "transaction.max.timeout.ms", Type: Int, Default: "900000", Rule: atLeast(1), State: Done,
			Doc: "Longest transaction timeout a producer may ask for."},
		{Name: "transaction.partition.verification.enable", Type: Boolean, Default: "true", Mode: ClusterWide, State: Done,
			Doc: "Whether a partition asks the coordinator if a transaction is open before it takes its records."},
		{Name: "transaction.remove.expired.transaction.cleanup.interval.ms", Type: Int, Default: "3600000", Rule: atLeast(1), State: Done,
			Doc: "How often expired transactional ids are looked for."},
		{Name: "transaction.state.log.load.buffer.size", Type: Int, Default: "5242880", Rule: atLeast(1), State: Done,
			Doc: "Size of the reads with which transaction state is loaded."},
		{Name: "transaction.state.log.min.isr", Type: Int, Default: "2", Rule: atLeast(1), State: Done,
			Doc: "min.insync.replicas of the transaction state topic."},
		{Name: "transaction.state.log.num.partitions", Type: Int, Default: "50", Rule: atLeast(1), State: Done,
			Doc: "Partitions of the transaction state topic."},
		{Name: "transaction.state.log.replication.factor", Type: Short, Default: "3", Rule: atLeast(1), State: Done,
			Doc: "Replication factor of the transaction state topic."},
		{Name: "transaction.state.log.segment.bytes", Type: Int, Default: "104857600", Rule: atLeast(1), State: Done,
			Doc: "Segment size of the transaction state topic."},
		{Name: "transaction.two.phase.commit.enable", Type: Boolean, Default: "false", State: Done,
			Doc: "Whether producers may keep transactions open without timeout for a two-phase commit (with unstable.api.versions.enable)."},
		{Name: "transactional.id.expiration.ms", Type: Int, Default: "604800000", Rule: atLeast(1), State: Done,
			Doc: "How long an unused transactional id is remembered."},
	}
}
