// Package checkpoint reads and writes Kafka's small text checkpoint files, format version 0:
//
//	0                     version
//	2                     number of entries
//	orders 0 812          one entry per line
//	orders 1 17
//
// Two kinds exist: offsets by partition (recovery-point-offset-checkpoint, log-start-offset-checkpoint,
// replication-offset-checkpoint, cleaner-offset-checkpoint) and the start offsets of leader epochs (leader-epoch-checkpoint).
//
// A write is atomic and durable: temporary file, sync, rename, directory sync. A read of an absent file yields nothing and no
// error. A read of anything malformed yields a *FormatError with the line; the caller decides what is safe to assume. Sizes are
// bounded. The package keeps no state; two writers of one file must be kept apart by their owner.
package checkpoint
