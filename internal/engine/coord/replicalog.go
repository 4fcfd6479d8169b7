package coord

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/replica"
)

// ReplicaLog is the Log over one topic of a replica.Manager.
type ReplicaLog struct {
	// Manager holds the partitions.
	Manager *replica.Manager
	// Topic is the internal topic's name.
	Topic string
}

func (l ReplicaLog) tp(partition int32) id.TopicPartition {
	return id.TopicPartition{Topic: l.Topic, Partition: partition}
}

// Append implements Log. With fewer in-sync replicas than the topic needs it is refused at once. Kafka does so for transactions; its
// group coordinator appends all the same, and every decision, also one without records, fails at its timeout.
func (l ReplicaLog) Append(partition int32, epoch id.LeaderEpoch, batch Batch) (id.Offset, error) {
	res, err := l.Manager.AppendTransactional(l.tp(partition), epoch, batch.Bytes, batch.TransactionVersion, log.VerificationGuard(batch.Guard))
	return res.NextOffset, err
}

// MaxBatchBytes is Options.MaxBatchBytes for the topic as it is configured.
func (l ReplicaLog) MaxBatchBytes(partition int32) int {
	n, _ := l.Manager.MaxBatchBytes(l.tp(partition))
	return n
}

// Read implements Log.
func (l ReplicaLog) Read(partition int32, epoch id.LeaderEpoch, offset id.Offset, maxBytes int, buf []byte) ([]byte, error) {
	return l.Manager.ReadInternal(l.tp(partition), epoch, offset, maxBytes, buf)
}

// Ends implements Log.
func (l ReplicaLog) Ends(partition int32, epoch id.LeaderEpoch) (Ends, error) {
	ends, err := l.Manager.Ends(l.tp(partition), epoch)
	return Ends(ends), err
}

// Watch implements Log.
func (l ReplicaLog) Watch(partition int32, advanced func(id.Offset)) (cancel func(), err error) {
	p, err := l.Manager.Partition(l.Topic, partition)
	if err != nil {
		return nil, err
	}
	w := &watermark{advanced}
	p.WatchHighWatermark(w)
	return func() { p.UnwatchHighWatermark(w) }, nil
}

// watermark is a replica.HighWatermarkWatcher.
type watermark struct{ advanced func(id.Offset) }

// HighWatermarkAdvanced implements replica.HighWatermarkWatcher.
func (w *watermark) HighWatermarkAdvanced(_ id.TopicPartition, hw id.Offset) { w.advanced(hw) }

// Leadership adapts a Runtime to replica.LeadershipWatcher.
type Leadership[M Machine] struct{ Runtime *Runtime[M] }

// Elected implements replica.LeadershipWatcher.
func (l Leadership[M]) Elected(tp id.TopicPartition, epoch id.LeaderEpoch) {
	l.Runtime.Elected(tp.Partition, epoch)
}

// Resigned implements replica.LeadershipWatcher.
func (l Leadership[M]) Resigned(tp id.TopicPartition, epoch id.LeaderEpoch) {
	l.Runtime.Resigned(tp.Partition, epoch)
}
