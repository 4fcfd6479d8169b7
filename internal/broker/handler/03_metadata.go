package handler

import (
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// metadata answers which brokers there are and who leads what. One image serves the whole answer.
//
// Null topics mean all, and so do no topics in version 0; no topics in later versions mean none. Versions 10 and 11 know topic
// ids in answers only (KIP-516).
func (d *AdminDesk) metadata(r *server.Request) {
	var req api.MetadataRequest
	if !r.Decode(&req) {
		return
	}
	version := r.Version()
	all := req.Topics == nil || version == 0 && len(req.Topics) == 0
	if !all && version < 12 {
		for _, t := range req.Topics {
			if t.Name == nil || !t.TopicID.IsZero() {
				r.Answer(metadataRefusal(&req, wire.ErrInvalidRequest))
				return
			}
		}
	}
	img := d.Image()
	a := api.NewMetadataResponse()
	a.ClusterID = &d.ClusterID
	a.ControllerID = aliveBroker(img, r.Header.CorrelationID)
	v := topicView{img: img, listener: r.Conn.Listener, allReplicas: version > 0, listenerErrors: version >= 6}
	for _, n := range img.Cluster.BrokerIDs() {
		b := img.Cluster.Broker(n)
		if e, ok := b.Endpoint(r.Conn.Listener); ok && !b.Fenced {
			a.Brokers = append(a.Brokers, api.MetadataResponseBroker{NodeID: int32(n), Host: e.Host, Port: int32(e.Port), Rack: b.Rack})
		}
	}
	operations := int32(noOperations)
	if version >= 8 && req.IncludeTopicAuthorizedOperations {
		operations = topicOperations
	}
	switch {
	case all:
		a.Topics = make([]api.MetadataResponseTopic, 0, img.Topics.Len())
		for _, name := range img.Topics.Names() {
			if t := v.topic(img.Topics.ByName(name)); t != nil {
				a.Topics = append(a.Topics, *t)
			}
		}
	case slices.ContainsFunc(req.Topics, func(t api.MetadataRequestTopic) bool { return !t.TopicID.IsZero() }):
		a.Topics = v.byID(req.Topics)
	case slices.ContainsFunc(req.Topics, func(t api.MetadataRequestTopic) bool { return t.Name == nil }):
		r.Answer(metadataRefusal(&req, wire.ErrUnknownServerError)) // neither name nor id: Kafka fails over it in this way
		return
	default:
		a.Topics = d.metadataByName(r, &req, v)
	}
	for i := range a.Topics {
		a.Topics[i].TopicAuthorizedOperations = noOperations
		if a.Topics[i].ErrorCode != wire.ErrUnknownTopicID {
			a.Topics[i].TopicAuthorizedOperations = operations
		}
	}
	if version >= 8 && version <= 10 && req.IncludeClusterAuthorizedOperations {
		a.ClusterAuthorizedOperations = clusterOperations
	}
	r.Answer(a)
}

// metadataByName answers for named topics; those that do not exist are created if client and broker allow it.
func (d *AdminDesk) metadataByName(r *server.Request, req *api.MetadataRequest, v topicView) []api.MetadataResponseTopic {
	out := make([]api.MetadataResponseTopic, 0, len(req.Topics))
	seen := make(map[string]struct{}, len(req.Topics))
	var missing []string
	for _, t := range req.Topics {
		name := *t.Name
		if _, twice := seen[name]; twice {
			continue
		}
		seen[name] = struct{}{}
		if found := v.topic(v.img.Topics.ByName(name)); found != nil {
			out = append(out, *found)
		} else {
			missing = append(missing, name)
		}
	}
	var codes map[string]wire.ErrorCode
	if len(missing) > 0 && d.Creation != nil && req.AllowAutoTopicCreation && d.Config().Bool("auto.create.topics.enable") {
		codes = d.Creation.createFor(r, missing)
	}
	for _, name := range missing {
		code, ok := codes[name]
		if !ok {
			code = unknownTopic(name)
		}
		out = append(out, api.MetadataResponseTopic{ErrorCode: code, Name: &name, IsInternal: isInternalTopic(name)})
	}
	return out
}

// unknownTopic is the code for a name that no topic has.
func unknownTopic(name string) wire.ErrorCode {
	if controller.ValidateTopicName(name) != "" {
		return wire.ErrInvalidTopicException
	}
	return wire.ErrUnknownTopicOrPartition
}

func metadataRefusal(req *api.MetadataRequest, code wire.ErrorCode) wire.Message {
	a := api.NewMetadataResponse()
	a.ErrorCode = code
	for _, t := range req.Topics {
		name := ""
		if t.Name != nil {
			name = *t.Name
		}
		rt := api.NewMetadataResponseTopic()
		rt.Name, rt.TopicID, rt.ErrorCode = &name, t.TopicID, code
		a.Topics = append(a.Topics, rt)
	}
	return a
}

// topicView is an image as the clients of one listener see it.
type topicView struct {
	img      *image.Image
	listener string
	// allReplicas shows replicas on brokers that are gone, too; version 0 leaves them out and says REPLICA_NOT_AVAILABLE.
	allReplicas bool
	// listenerErrors says LISTENER_NOT_FOUND where older versions say LEADER_NOT_AVAILABLE (KIP-302).
	listenerErrors bool
}

// byID answers for topics named by id (KIP-516). Topics that were also, or only, named by name are passed over, as in Kafka.
func (v topicView) byID(topics []api.MetadataRequestTopic) []api.MetadataResponseTopic {
	var out, unknown []api.MetadataResponseTopic
	seen := map[id.UUID]struct{}{}
	for _, t := range topics {
		if _, twice := seen[t.TopicID]; twice || t.TopicID.IsZero() {
			continue
		}
		seen[t.TopicID] = struct{}{}
		if found := v.topic(v.img.Topics.ByID(t.TopicID)); found != nil {
			out = append(out, *found)
		} else {
			unknown = append(unknown, api.MetadataResponseTopic{ErrorCode: wire.ErrUnknownTopicID, TopicID: t.TopicID})
		}
	}
	return append(unknown, out...)
}

// topic describes a topic; nil if there is none.
func (v topicView) topic(t *image.Topic) *api.MetadataResponseTopic {
	if t == nil || len(t.Partitions) == 0 {
		return nil
	}
	out := &api.MetadataResponseTopic{Name: &t.Name, TopicID: t.ID, IsInternal: isInternalTopic(t.Name),
		Partitions: make([]api.MetadataResponseTopicPartition, len(t.Partitions))}
	for i, p := range t.Partitions {
		v.partition(p, &out.Partitions[i])
	}
	return out
}

func (v topicView) partition(p *image.Partition, out *api.MetadataResponseTopicPartition) {
	out.PartitionIndex, out.LeaderEpoch, out.LeaderID = p.ID, int32(p.LeaderEpoch), -1
	out.ReplicaNodes, out.IsrNodes, out.OfflineReplicas = v.shown(p.Replicas), v.shown(p.ISR), v.offline(p)
	leader := v.img.Cluster.Broker(p.Leader)
	switch {
	case leader == nil:
		out.ErrorCode = wire.ErrLeaderNotAvailable
		return
	case !v.reaches(leader):
		out.ErrorCode = wire.ErrLeaderNotAvailable
		if v.listenerErrors {
			out.ErrorCode = wire.ErrListenerNotFound
		}
		return
	case len(out.ReplicaNodes) < len(p.Replicas), len(out.IsrNodes) < len(p.ISR):
		out.ErrorCode = wire.ErrReplicaNotAvailable
	}
	out.LeaderID = int32(p.Leader)
}

func (v topicView) reaches(b *image.Broker) bool {
	_, ok := b.Endpoint(v.listener)
	return ok
}

// shown returns the replicas to be listed. The image's own slice is shared where nothing is left out.
func (v topicView) shown(replicas []int32) []int32 {
	if v.allReplicas {
		return replicas
	}
	var out []int32
	for _, n := range replicas {
		if b := v.img.Cluster.Broker(id.BrokerID(n)); b != nil && !b.Fenced && v.reaches(b) {
			out = append(out, n)
		}
	}
	return out
}

func (v topicView) offline(p *image.Partition) []int32 {
	var out []int32
	for _, n := range p.Replicas {
		b := v.img.Cluster.Broker(id.BrokerID(n))
		if b == nil || b.Fenced || !v.reaches(b) {
			out = append(out, n)
			continue
		}
		if dir, ok := p.Directory(b.ID); ok && !b.HasOnlineDir(dir) {
			out = append(out, n)
		}
	}
	return out
}
