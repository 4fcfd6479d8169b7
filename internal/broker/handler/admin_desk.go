package handler

import (
	"errors"
	"log/slog"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/ctlhandler"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// ControllerLine is the line to the active controller: *forward.Client.
type ControllerLine interface {
	// Forward sends a client's request in an envelope; done is called once with the answer and must not block.
	Forward(r *server.Request, done func(wire.Message, error))
	// Start sends a request of the broker itself.
	Start(req wire.Request, version int16, deadline time.Time, done func(wire.Message, error))
}

// AdminDeps is what an AdminDesk works with.
type AdminDeps struct {
	NodeID    id.BrokerID
	ClusterID string
	// Image returns the newest published metadata image.
	Image func() *image.Image
	// Config returns the node's configuration as it stands.
	Config func() *conf.Broker
	Line   ControllerLine
	// Creation makes topics that do not exist when a client asks for them.
	Creation *TopicCreation
	// Features are what ApiVersions tells of the node's own abilities.
	Features []image.VersionRange
	// KRaftVersion is the quorum's kraft.version, which the image does not hold; nil: 0.
	KRaftVersion func() int16
	// Level is the log level that the BROKER_LOGGER resource shows and changes; nil: there is none.
	Level  *slog.LevelVar
	Logger *slog.Logger
}

// AdminDesk serves metadata, configuration and the requests that a broker only passes on to the controller.
type AdminDesk struct {
	AdminDeps
	reg       *server.Registry
	loggers   *ctlhandler.Loggers
	describer *ctlhandler.Describer
}

// NewAdminDesk returns a desk over these floors.
func NewAdminDesk(d AdminDeps) *AdminDesk {
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.KRaftVersion == nil {
		d.KRaftVersion = func() int16 { return 0 }
	}
	loggers := &ctlhandler.Loggers{NodeID: d.NodeID, Level: d.Level, Logger: d.Logger}
	return &AdminDesk{AdminDeps: d, loggers: loggers, describer: &ctlhandler.Describer{NodeID: d.NodeID, Config: d.Config, Loggers: loggers}}
}

// Register adds the desk's APIs to a broker listener's registry, which ApiVersions then describes.
func (d *AdminDesk) Register(reg *server.Registry) {
	d.reg = reg
	for _, a := range []server.API{
		{Key: wire.Metadata, Min: 0, Max: 13, Handle: d.metadata},
		{Key: wire.ApiVersions, Min: 0, Max: 5, Handle: d.apiVersions},
		{Key: wire.CreateTopics, Min: 2, Max: 7, Handle: d.createTopics},
		{Key: wire.DeleteTopics, Min: 1, Max: 6, Handle: d.deleteTopics},
		{Key: wire.DescribeConfigs, Min: 1, Max: 4, Handle: d.describeConfigs},
		{Key: wire.AlterConfigs, Min: 0, Max: 2, Handle: d.alterConfigs},
		{Key: wire.CreatePartitions, Min: 0, Max: 3, Handle: d.createPartitions},
		{Key: wire.IncrementalAlterConfigs, Min: 0, Max: 1, Handle: d.incrementalAlterConfigs},
		{Key: wire.UpdateFeatures, Min: 0, Max: 2, Handle: d.updateFeatures},
		{Key: wire.DescribeCluster, Min: 0, Max: 2, Handle: d.describeCluster},
		{Key: wire.ListConfigResources, Min: 0, Max: 1, Handle: d.listConfigResources},
		{Key: wire.DescribeTopicPartitions, Min: 0, Max: 0, Handle: d.describeTopicPartitions},
		{Key: wire.ElectLeaders, Min: 0, Max: 2, Handle: d.pass},
		{Key: wire.AlterPartitionReassignments, Min: 0, Max: 1, Handle: d.pass},
		{Key: wire.ListPartitionReassignments, Min: 0, Max: 0, Handle: d.pass},
		{Key: wire.DescribeQuorum, Min: 0, Max: 2, Handle: d.pass},
		{Key: wire.UnregisterBroker, Min: 0, Max: 0, Handle: d.pass},
		{Key: wire.UnregisterController, Min: 0, Max: 0, Handle: d.pass},
		{Key: wire.DescribeClientQuotas, Min: 0, Max: 1, Handle: d.describeClientQuotas},
		{Key: wire.AlterClientQuotas, Min: 0, Max: 1, Handle: d.pass},
		{Key: wire.DescribeUserScramCredentials, Min: 0, Max: 0, Handle: d.describeUserScramCredentials},
		{Key: wire.AlterUserScramCredentials, Min: 0, Max: 0, Handle: d.pass},
		{Key: wire.DescribeAcls, Min: 1, Max: 3, Handle: d.describeAcls},
		{Key: wire.CreateAcls, Min: 1, Max: 3, Handle: d.pass},
		{Key: wire.DeleteAcls, Min: 1, Max: 3, Handle: d.pass},
		{Key: wire.CreateDelegationToken, Min: 1, Max: 3, Handle: d.delegationTokens},
		{Key: wire.RenewDelegationToken, Min: 1, Max: 2, Handle: d.delegationTokens},
		{Key: wire.ExpireDelegationToken, Min: 1, Max: 2, Handle: d.delegationTokens},
		{Key: wire.DescribeDelegationToken, Min: 1, Max: 3, Handle: d.delegationTokens},
	} {
		reg.Register(a)
	}
}

// pass sends a request to the controller as it came and its answer back (KIP-590). The request is decoded first, because a
// malformed one closes the client's connection and must not travel.
func (d *AdminDesk) pass(r *server.Request) {
	info, ok := api.Lookup(r.Key())
	if !ok {
		r.Close("API without a description")
		return
	}
	req := info.NewRequest()
	if !r.Decode(req) {
		return
	}
	d.Line.Forward(r, func(m wire.Message, err error) {
		defer r.Rescue()
		if err != nil {
			d.refuse(r, req, err)
			return
		}
		r.Answer(m)
	})
}

// refuse answers a request that could not be served as a whole.
func (d *AdminDesk) refuse(r *server.Request, req wire.Request, err error) {
	code := codeOf(err)
	if code == wire.ErrUnknownServerError {
		d.Logger.Error("request failed", "api", req.APIKey().String(), "version", r.Version(), "connection", r.Conn.ID, "err", err)
	}
	r.Answer(ctlhandler.ErrorAnswer(req, r.Version(), &controller.Error{Code: code}))
}

// codeOf maps a Go error to the code a client sees.
func codeOf(err error) wire.ErrorCode {
	var code wire.ErrorCode
	if errors.As(err, &code) {
		return code
	}
	return wire.ErrUnknownServerError
}

// Bit sets of all operations on a kind of resource, which everyone may do while nothing authorizes (KIP-430).
const (
	topicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
	noOperations      = -1 << 31
)

// isInternalTopic reports whether clients need to be told that a topic is the broker's own.
func isInternalTopic(name string) bool {
	return name == offsetsTopic || name == transactionTopic || name == shareStateTopic
}

const (
	transactionTopic = "__transaction_state"
	shareStateTopic  = "__share_group_state"
)

// aliveBroker is the id that is named as controller: clients send it what only a controller can do, and any broker passes that
// on (KIP-590). Kafka names a random one; the request's correlation id spreads as well.
func aliveBroker(img *image.Image, seed int32) int32 {
	var alive []id.BrokerID
	for _, n := range img.Cluster.BrokerIDs() {
		if !img.Cluster.Broker(n).Fenced {
			alive = append(alive, n)
		}
	}
	if len(alive) == 0 {
		return -1
	}
	return int32(alive[int(uint32(seed))%len(alive)])
}
