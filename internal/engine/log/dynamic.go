package log

import (
	"sync/atomic"
	"time"
)

// dynamic are the options that may change while logs are open.
type dynamic struct {
	producerExpiration atomic.Int64 // nanoseconds
}

func newDynamic(o *Options) *dynamic {
	d := new(dynamic)
	d.producerExpiration.Store(int64(o.ProducerExpiration))
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
