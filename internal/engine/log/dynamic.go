package log

import (
	"sync/atomic"
	"time"
)

// dynamic are the options that may change while logs are open.
type dynamic struct {
	producerExpiration atomic.Int64 // nanoseconds
	recoveryThreads    atomic.Int64
	verifyTransactions atomic.Bool
}

func newDynamic(o *Options) *dynamic {
	d := new(dynamic)
	d.producerExpiration.Store(int64(o.ProducerExpiration))
	d.recoveryThreads.Store(int64(o.RecoveryThreads))
	return d
}

// producerExpiration is producer.id.expiration.ms as it stands.
func (o *Options) producerExpiration() time.Duration {
	return time.Duration(o.dynamic.producerExpiration.Load())
}

// SetProducerExpiration changes how long idle producers are remembered; the next look for them counts by it. A duration that is
// not positive changes nothing.
func (m *Manager) SetProducerExpiration(d time.Duration) {
	if d > 0 {
		m.o.dynamic.producerExpiration.Store(int64(d))
	}
}

// recoveryThreads is num.recovery.threads.per.data.dir as it stands.
func (o *Options) recoveryThreads() int { return int(o.dynamic.recoveryThreads.Load()) }

// SetRecoveryThreads changes how many logs of a directory Load opens, and Close closes, side by side. A number below 1 changes
// nothing.
func (m *Manager) SetRecoveryThreads(n int) {
	if n > 0 {
		m.o.dynamic.recoveryThreads.Store(int64(n))
	}
}
