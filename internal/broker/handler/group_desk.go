package handler

import (
	"time"

	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire"
)

// offsetsTopic is the group coordinator's internal topic.
const offsetsTopic = "__consumer_offsets"

// TopicCreator creates an internal topic with the settings of its coordinator. It returns at once; whether the topic exists shows
// in the image. Asking again while a creation is under way, or after it, does no harm.
type TopicCreator interface {
	CreateInternalTopic(name string)
}

// GroupDeps are what the group desk works with.
type GroupDeps struct {
	// Groups is the floor below.
	Groups *coord.Groups
	// Image returns the newest published metadata image.
	Image func() *image.Image
	// Creator makes __consumer_offsets when somebody asks for a group's coordinator and there is none.
	Creator TopicCreator
	// Partitions is offsets.topic.num.partitions, and TxnPartitions transaction.state.log.num.partitions; each counts until its
	// topic exists.
	Partitions, TxnPartitions int32
	// Places knows the partitions of groups and transactional ids.
	Places *Places
	// Config is what the coordinators of Groups go by.
	Config group.Config
	// NoConsumers says that group.coordinator.rebalance.protocols leaves the consumer protocol out.
	NoConsumers bool
	// Gate lets offset commits into transactions. The partition that they are written to is one of Replicas.
	Gate     TxnGate
	Replicas *replica.Manager
}

// GroupDesk serves the APIs of groups and committed offsets.
type GroupDesk struct {
	groups     *coord.Groups
	image      func() *image.Image
	creator    TopicCreator
	partitions int32
	txns       int32 // partitions of __transaction_state
	places     *Places
	config     group.Config
	noConsume  bool
	gate       TxnGate
	replicas   *replica.Manager
}

// NewGroupDesk returns a desk over these floors.
func NewGroupDesk(d GroupDeps) *GroupDesk {
	return &GroupDesk{groups: d.Groups, image: d.Image, creator: d.Creator, partitions: d.Partitions, txns: d.TxnPartitions, places: d.Places, config: d.Config,
		noConsume: d.NoConsumers, gate: d.Gate, replicas: d.Replicas}
}

// Register adds the desk's APIs.
func (d *GroupDesk) Register(reg *server.Registry) {
	for _, a := range []server.API{
		{Key: wire.OffsetCommit, Min: 2, Max: 10, Pipelined: true, Handle: d.offsetCommit},
		{Key: wire.TxnOffsetCommit, Min: 0, Max: 6, Handle: d.txnOffsetCommit},
		{Key: wire.OffsetFetch, Min: 1, Max: 10, Handle: d.offsetFetch},
		{Key: wire.FindCoordinator, Min: 0, Max: 6, Handle: d.findCoordinator},
		{Key: wire.JoinGroup, Min: 0, Max: 9, Handle: d.joinGroup},
		{Key: wire.Heartbeat, Min: 0, Max: 4, Handle: d.heartbeat},
		{Key: wire.LeaveGroup, Min: 0, Max: 5, Handle: d.leaveGroup},
		{Key: wire.SyncGroup, Min: 0, Max: 5, Handle: d.syncGroup},
		{Key: wire.DescribeGroups, Min: 0, Max: 6, Handle: d.describeGroups},
		{Key: wire.ListGroups, Min: 0, Max: 5, Handle: d.listGroups},
		{Key: wire.DeleteGroups, Min: 0, Max: 3, Handle: d.deleteGroups},
		{Key: wire.OffsetDelete, Min: 0, Max: 0, Handle: d.offsetDelete},
		{Key: wire.ConsumerGroupHeartbeat, Min: 0, Max: 1, Handle: d.consumerGroupHeartbeat},
		{Key: wire.ConsumerGroupDescribe, Min: 0, Max: 1, Handle: d.consumerGroupDescribe},
	} {
		reg.Register(a)
	}
}

// partitionOf returns the partition of __consumer_offsets that holds a group.
func (d *GroupDesk) partitionOf(name string) int32 {
	return d.places.of(d.image(), offsetsTopic, name, d.partitions)
}

// decide makes a decision of the shard that holds the group, which must have a name. failed makes the answer for a code that has no
// answer of its own.
func (d *GroupDesk) decide(r *server.Request, name string, failed func(wire.ErrorCode) wire.Message, op func(*group.Shard, group.Turn) shard.Result) {
	d.do(r, d.partitionOf(name), func(body any, code wire.ErrorCode) {
		if code != wire.ErrNone {
			if name == "" && !down(code) {
				code = wire.ErrInvalidGroupID
			}
			r.Answer(failed(coord.ClientError(code)))
			return
		}
		r.Answer(body.(wire.Message))
	}, op)
}

// down says whether a code is that of a coordinator which looks at no request. Others tell a request that is wrong in itself that it
// is, whatever the partition of its group is up to.
func down(code wire.ErrorCode) bool { return code == wire.ErrCoordinatorNotAvailable }

func (d *GroupDesk) do(r *server.Request, partition int32, reply coord.Reply, op func(*group.Shard, group.Turn) shard.Result) {
	client := group.Client{ID: r.ClientID(), Host: r.Conn.Host()}
	version := r.Version()
	rescued := func(body any, code wire.ErrorCode) {
		defer r.Rescue()
		reply(body, code)
	}
	var agenda coord.Agenda
	if r.More() {
		agenda = r
	}
	d.groups.DoLater(partition, rescued, func(s *group.Shard, now time.Time, t shard.Ticket) shard.Result {
		return op(s, group.Turn{Now: now, Ticket: t, Version: version, Client: client, Image: d.image()})
	}, agenda)
}

// consumersOff says whether the consumer protocol is off: by the broker's configuration or by the cluster's group.version.
func (d *GroupDesk) consumersOff() bool {
	return d.noConsume || d.image().Features.Level("group.version") < 1
}

// byPartition sorts group names by the partition that holds them, in order of first mention.
func (d *GroupDesk) byPartition(names []string) (partitions []int32, byPartition map[int32][]string) {
	byPartition = make(map[int32][]string)
	for _, name := range names {
		p := d.partitionOf(name)
		if byPartition[p] == nil {
			partitions = append(partitions, p)
		}
		byPartition[p] = append(byPartition[p], name)
	}
	return partitions, byPartition
}
