package replica

import (
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/engine/log"
)

// BeginVerification is asked before a transactional append to a partition led here (KIP-890). With log.NoGuard the transaction is
// open there and the append may go on; any other guard goes with the append after the transaction's coordinator has agreed.
// bumpsEpochs says that the client gets a new epoch with each transaction.
func (m *Manager) BeginVerification(topic string, topicID id.UUID, partition int32, producer id.ProducerID, epoch id.ProducerEpoch, baseSequence int32, bumpsEpochs bool) (log.VerificationGuard, error) {
	p, err := m.lookup(topic, topicID, partition)
	if err != nil {
		return log.NoGuard, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if err := p.check(id.NoLeaderEpoch, true); err != nil {
		return log.NoGuard, err
	}
	return p.log().BeginVerification(producer, epoch, baseSequence, bumpsEpochs)
}
