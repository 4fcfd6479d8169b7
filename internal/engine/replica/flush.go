package replica

import (
	"errors"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/engine/log"
)

// flush makes everything below upTo durable and tells who waited for it. A failed fsync has taken the directory offline.
func (p *Partition) flush(upTo id.Offset) {
	l := p.log()
	err := l.Flush(upTo)
	for now := p.log(); err != nil && now != l; now = p.log() { // it has moved meanwhile
		l, err = now, now.Flush(upTo)
	}
	if err != nil {
		if !errors.Is(err, log.ErrDeleted) && !errors.Is(err, log.ErrClosed) {
			p.m.logger.Error("flush failed", "partition", p.tp.String(), "error", err)
		}
		p.checkDirectory()
		p.settleAll()
		return
	}
	p.mu.RLock()
	moved := p.gone == 0 && p.advance(p.m.now().UnixMilli())
	p.mu.RUnlock()
	if p.room.produces.Load() > 0 {
		p.settleProduces()
	}
	p.told(moved)
}
