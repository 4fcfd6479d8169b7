package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// Depose takes the leadership of every partition away, as the controller does from a broker that it fences, and cuts the logs to
// what is committed, as another leader would have made this broker do. The broker's next heartbeat brings the leadership back.
// Tests use it, mostly after HoldBack.
//
// A heartbeat can bring the leadership back before it was seen gone, and the controller may have lost its own; then it is done again,
// until ctx ends.
func (n *Node) Depose(ctx context.Context) error {
	for {
		err := n.deposeOnce(ctx)
		if err == nil || ctx.Err() != nil || !errors.Is(err, errDeposeAgain) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(deposePause):
		}
	}
}

// deposePause lies between two attempts of Depose.
const deposePause = 10 * time.Millisecond

// deposeWait is how long one attempt of Depose waits to see the leadership gone.
const deposeWait = time.Second

var errDeposeAgain = errors.New("the leadership was not seen gone")

func (n *Node) deposeOnce(ctx context.Context) error {
	wait, end := context.WithTimeout(ctx, deposeWait)
	defer end()
	req := api.NewBrokerHeartbeatRequest()
	req.BrokerID, req.BrokerEpoch, req.WantFence = int32(n.nodeID), int64(n.life.BrokerEpoch()), true
	req.CurrentMetadataOffset = int64(n.replicas.Image().Provenance.Offset)
	m, err := n.line.Send(wait, req, 1)
	if err != nil {
		return fmt.Errorf("depose: %w: %w", errDeposeAgain, err)
	}
	switch code := m.(*api.BrokerHeartbeatResponse).ErrorCode; code {
	case wire.ErrNone:
	case wire.ErrNotController:
		return fmt.Errorf("depose: %w: %w", errDeposeAgain, code)
	default:
		return fmt.Errorf("depose: %w", code)
	}
	fenced, err := n.quorum.AwaitImage(wait, func(img *image.Image) bool { return img.Cluster.Broker(n.nodeID).Fenced })
	if err != nil {
		return fmt.Errorf("depose: %w: %w", errDeposeAgain, err)
	}
	if err := n.publish.caughtUp(ctx); err != nil {
		return fmt.Errorf("depose: %w", err)
	}
	var errs []error
	for t := range fenced.Topics.All() {
		for _, p := range t.Partitions {
			if !p.HasReplica(n.nodeID) {
				continue
			}
			err := n.replicas.CutUncommitted(id.TopicPartition{Topic: t.Name, Partition: p.ID})
			switch {
			case errors.Is(err, wire.ErrInvalidRequest): // led again already
				err = fmt.Errorf("%w: %w", errDeposeAgain, err)
			case errors.Is(err, wire.ErrUnknownTopicOrPartition), errors.Is(err, wire.ErrUnknownTopicID): // deleted meanwhile
				err = nil
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
