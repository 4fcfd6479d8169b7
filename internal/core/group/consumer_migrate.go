package group

import (
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

func (s *Shard) upgrade(g *classicGroup) (*consumerStep, *refusal) {
	return nil, refuse(wire.ErrGroupIDNotFound, "Cannot upgrade classic group %s to consumer group because online upgrade is disabled.", g.name)
}

func (s *Shard) downgradeAfter(g *consumerGroup, members []*consumerMember) bool { return false }

func (s *Shard) downgrade(d *consumerStep, members []*consumerMember) {}

func (s *Shard) joinConsumer(t Turn, g *consumerGroup, req *api.JoinGroupRequest) {
	s.refuseJoin(t, "", wire.ErrInconsistentGroupProtocol)
}
