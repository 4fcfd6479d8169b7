package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Depose takes the leadership of every partition away, as the controller does from a broker that it fences, and cuts the logs to
// what is committed, as another leader would have made this broker do. The broker's next heartbeat brings the leadership back.
// Tests use it, mostly after HoldBack.
func (n *Node) Depose(ctx context.Context) error {
	req := api.NewBrokerHeartbeatRequest()
	req.BrokerID, req.BrokerEpoch, req.WantFence = int32(n.nodeID), int64(n.life.BrokerEpoch()), true
	req.CurrentMetadataOffset = int64(n.replicas.Image().Provenance.Offset)
	m, err := n.line.Send(ctx, req, 1)
	if err != nil {
		return fmt.Errorf("depose: %w", err)
	}
	if code := m.(*api.BrokerHeartbeatResponse).ErrorCode; code != wire.ErrNone {
		return fmt.Errorf("depose: %w", code)
	}
	fenced, err := n.quorum.AwaitImage(ctx, func(img *image.Image) bool { return img.Cluster.Broker(n.nodeID).Fenced })
	if err != nil {
		return fmt.Errorf("depose: %w", err)
	}
	if err := n.publish.caughtUp(ctx); err != nil {
		return fmt.Errorf("depose: %w", err)
	}
	var errs []error
	for t := range fenced.Topics.All() {
		for _, p := range t.Partitions {
			if p.HasReplica(n.nodeID) {
				errs = append(errs, n.replicas.CutUncommitted(id.TopicPartition{Topic: t.Name, Partition: p.ID}))
			}
		}
	}
	return errors.Join(errs...)
}
