package controller

import (
	"math"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
)

// beat is what the active controller knows of one registered broker beside its registration.
type beat struct {
	epoch id.BrokerEpoch // the registration it belongs to
	// contact is when the broker was last heard of; zero means that it has no session.
	contact time.Time
	// inherited is set while contact is only a new controller's assumption about the broker of its own process. A broker that
	// shares a process with the controller has not outlived it, so that its next incarnation need not wait for the session.
	inherited bool
	// offset is how far the broker has read the metadata log; -1 unknown.
	offset id.Offset
	// shutdownOffset is the end of the batch that moved the broker's leaderships away; -1 when it is not shutting down. It may
	// go once every active broker has read that far.
	shutdownOffset id.Offset
}

// heartbeats are the beats of all brokers. Whether a broker is fenced is not here: the working image says so.
type heartbeats struct {
	session time.Duration
	brokers map[id.BrokerID]*beat
}

func newHeartbeats(session time.Duration) heartbeats {
	return heartbeats{session: session, brokers: map[id.BrokerID]*beat{}}
}

// of returns the beat of a registration; a new epoch of a broker starts afresh.
func (h *heartbeats) of(b *image.Broker) *beat {
	s := h.brokers[b.ID]
	if s == nil || s.epoch != b.Epoch {
		s = &beat{epoch: b.Epoch, offset: -1, shutdownOffset: -1}
		h.brokers[b.ID] = s
	}
	return s
}

// valid reports whether the broker was heard of recently.
func (h *heartbeats) valid(b *image.Broker, now time.Time) bool {
	s := h.brokers[b.ID]
	return s != nil && s.epoch == b.Epoch && !s.inherited && !s.contact.IsZero() && now.Sub(s.contact) < h.session
}

// shuttingDown reports whether the broker is in controlled shutdown under this controller. The image must agree: the decision
// that began it may have been taken back.
func (s *beat) shuttingDown(b *image.Broker) bool {
	return s.shutdownOffset >= 0 && b.InControlledShutdown
}

// lowestActiveOffset is how far every broker that is neither fenced nor shutting down has read the log; MaxInt64 without one.
func (h *heartbeats) lowestActiveOffset(cluster *image.Cluster) id.Offset {
	low := id.Offset(math.MaxInt64)
	for _, n := range cluster.BrokerIDs() {
		b := cluster.Broker(n)
		if s := h.of(b); !b.Fenced && !s.shuttingDown(b) && s.offset < low {
			low = s.offset
		}
	}
	return low
}

// expired returns the broker whose session ended first, or false. A session that has ended is forgotten.
func (h *heartbeats) expired(now time.Time) (id.BrokerID, id.BrokerEpoch, bool) {
	var found id.BrokerID = -1
	for n, s := range h.brokers {
		if s.contact.IsZero() || now.Sub(s.contact) < h.session {
			continue
		}
		if found < 0 || s.contact.Before(h.brokers[found].contact) || s.contact.Equal(h.brokers[found].contact) && n < found {
			found = n
		}
	}
	if found < 0 {
		return 0, 0, false
	}
	s := h.brokers[found]
	s.contact = time.Time{}
	return found, s.epoch, true
}

// deadline returns when the next session ends.
func (h *heartbeats) deadline() (at time.Time, ok bool) {
	for _, s := range h.brokers {
		if s.contact.IsZero() {
			continue
		}
		if end := s.contact.Add(h.session); !ok || end.Before(at) {
			at, ok = end, true
		}
	}
	return at, ok
}
