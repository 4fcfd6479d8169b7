package partition

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Progress is what the local log has reached. All offsets are exclusive ends.
type Progress struct {
	End           id.Offset // of everything written
	Durable       id.Offset // of what is known to be on disk
	Strict        bool      // only durable records count as held by this replica
	HighWatermark id.Offset // current
	Hold          id.Offset // the high watermark must not pass this; NoOffset for no limit
}

// counted is the end offset with which the leader's own replica takes part in the high watermark.
func (p Progress) counted() id.Offset {
	if p.Strict {
		return min(p.End, p.Durable)
	}
	return p.End
}

// HighWatermark returns the high watermark after p, never less than p.HighWatermark. lagMaxMs is replica.lag.time.max.ms.
// A replica that is caught up and may join is waited for, since otherwise it would chase a moving watermark for ever.
func (s *State) HighWatermark(p Progress, minISR int, nowMs, lagMaxMs int64, brokers Brokers) id.Offset {
	if !s.IsLeader() || s.IsUnderMinISR(minISR) {
		return p.HighWatermark
	}
	hw := p.counted()
	for i := range s.followers {
		f := &s.followers[i]
		if f.end >= hw {
			continue
		}
		if s.inMaximalISR(f.ID) || (f.isCaughtUp(p.End, nowMs, lagMaxMs) && f.isEligible(brokers)) {
			hw = f.end
		}
	}
	if p.Hold != id.NoOffset {
		hw = min(hw, p.Hold)
	}
	return max(hw, p.HighWatermark)
}

// LowWatermark returns the smallest log start offset over live replicas: records below it are gone everywhere.
func (s *State) LowWatermark(localStart id.Offset, brokers Brokers) id.Offset {
	low := localStart
	for i := range s.followers {
		if f := &s.followers[i]; f.start < low {
			if _, alive := brokers.Eligible(f.ID); alive {
				low = f.start
			}
		}
	}
	return low
}

func (s *State) inMaximalISR(b id.BrokerID) bool {
	return slices.Contains(s.reg.ISR, b) || (s.pending != nil && s.pending.Added == b)
}

func (s *State) maximalISRSize() int {
	n := len(s.reg.ISR)
	if s.pending != nil && s.pending.Added != id.NoBroker {
		n++
	}
	return n
}
