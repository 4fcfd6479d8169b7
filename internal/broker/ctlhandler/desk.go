package ctlhandler

import (
	"log/slog"
	"net"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Quorum is the floor below: *quorum.Quorum.
type Quorum interface {
	// Submit hands an operation to the controller; done is called once and must not block.
	Submit(r quorum.Request, done func(quorum.Outcome))
	// Image returns the newest committed image.
	Image() *image.Image
	// Status describes the quorum now.
	Status() quorum.Status
}

// Options makes a Desk.
type Options struct {
	Quorum    Quorum
	ClusterID string
	NodeID    id.BrokerID
	Logger    *slog.Logger
	// SupportedFeatures are what ApiVersions tells; see controller.SupportedFeatures.
	SupportedFeatures []image.VersionRange
	// Config returns the node's configuration as it stands; Level is its log level, nil when there is none to change.
	Config func() *conf.Broker
	Level  *slog.LevelVar
	// UnstableVersions serves the latest versions that are not stable yet (unstable.api.versions.enable).
	UnstableVersions bool
}

// Desk serves a controller listener.
type Desk struct {
	o         Options
	reg       *server.Registry
	apis      map[wire.APIKey]entry
	describer *Describer
}

type entry struct {
	info *api.Info
	// forwardable requests may come in an envelope.
	forwardable bool
	serve       func(*call)
}

// call is one request to be served, direct or enveloped.
type call struct {
	r         *server.Request // as it came, perhaps in an envelope
	info      *api.Info
	version   int16
	forwarded bool
	listener  string
	protocol  string // security protocol of the connection
	principal string // who asks, as in "User:ANONYMOUS"
	// decode reads the body; on false the call is over.
	decode func(wire.Message) bool
	// answer ends the call; refuse ends it with what the API answers to an error.
	answer func(wire.Message)
	refuse func(req wire.Request, e *controller.Error)
}

// New returns a Desk.
func New(o Options) *Desk {
	d := &Desk{o: o, apis: map[wire.APIKey]entry{}, describer: &Describer{NodeID: o.NodeID, Config: o.Config,
		Loggers: &Loggers{NodeID: o.NodeID, Level: o.Level, Logger: o.Logger}}}
	add := func(key wire.APIKey, forwardable bool, serve func(*call)) {
		if info, ok := api.Lookup(key); ok && info.MaxStable(o.UnstableVersions) >= info.Min {
			d.apis[key] = entry{info: info, forwardable: forwardable, serve: serve}
		}
	}
	for _, key := range []wire.APIKey{wire.CreateTopics, wire.DeleteTopics, wire.CreatePartitions, wire.AlterConfigs,
		wire.AlterUserScramCredentials, wire.UnregisterController, wire.ElectLeaders, wire.AlterPartitionReassignments, wire.ListPartitionReassignments,
		wire.UpdateFeatures, wire.UnregisterBroker, wire.AllocateProducerIDs} {
		add(key, true, d.submit)
	}
	for _, key := range []wire.APIKey{wire.AlterPartition, wire.BrokerRegistration, wire.BrokerHeartbeat, wire.ControllerRegistration,
		wire.AssignReplicasToDirs} {
		add(key, false, d.submit)
	}
	add(wire.IncrementalAlterConfigs, true, d.incrementalAlterConfigs)
	add(wire.AlterClientQuotas, true, d.alterClientQuotas)
	add(wire.CreateAcls, true, d.noAuthorizer)
	add(wire.DeleteAcls, true, d.noAuthorizer)
	add(wire.DescribeAcls, false, d.noAuthorizer)
	for _, key := range []wire.APIKey{wire.CreateDelegationToken, wire.RenewDelegationToken, wire.ExpireDelegationToken} {
		add(key, true, d.refuseToken)
	}
	add(wire.DescribeDelegationToken, false, d.refuseToken)
	add(wire.DescribeUserScramCredentials, false, d.describeScram)
	add(wire.DescribeConfigs, false, d.describeConfigs)
	add(wire.SaslHandshake, false, d.saslDone)
	add(wire.SaslAuthenticate, false, d.saslDone)
	add(wire.DescribeQuorum, true, d.describeQuorum)
	add(wire.DescribeCluster, false, d.describeCluster)
	add(wire.ApiVersions, false, d.apiVersions)
	return d
}

// Register adds the desk's APIs to the registry of the controller listener, which ApiVersions then describes.
func (d *Desk) Register(reg *server.Registry) {
	d.reg = reg
	for key, e := range d.apis {
		reg.Register(server.API{Key: key, Min: e.info.Min, Max: e.info.MaxStable(d.o.UnstableVersions), Handle: func(r *server.Request) { d.direct(r, e) }})
	}
	if info, ok := api.Lookup(wire.Envelope); ok {
		reg.Register(server.API{Key: wire.Envelope, Min: info.Min, Max: info.Max, Handle: d.envelope})
	}
}

// direct serves a request that came by itself.
func (d *Desk) direct(r *server.Request, e entry) {
	c := &call{r: r, info: e.info, version: r.Version(), listener: r.Conn.Listener, decode: r.Decode, answer: r.Answer,
		protocol: r.Conn.SecurityProtocol, principal: r.Conn.Principal}
	if r.Unsupported {
		a := api.NewApiVersionsResponse()
		a.ErrorCode = wire.ErrUnsupportedVersion
		d.fillVersions(a)
		r.Answer(a)
		return
	}
	c.refuse = func(req wire.Request, err *controller.Error) { r.Answer(ErrorAnswer(req, c.version, err)) }
	e.serve(c)
}

// submit hands the request to the controller.
func (d *Desk) submit(c *call) {
	req := c.info.NewRequest()
	if !c.decode(req) {
		return
	}
	d.o.Quorum.Submit(quorum.Request{Message: req, APIVersion: c.version, Forwarded: c.forwarded, ReadCommitted: true}, func(o quorum.Outcome) {
		defer c.r.Rescue()
		if o.Err != nil {
			c.refuse(req, o.Err)
			return
		}
		c.answer(o.Answer)
	})
}

// envelope unwraps a forwarded request. Whatever is wrong with the envelope is said in its own error code.
func (d *Desk) envelope(r *server.Request) {
	var env api.EnvelopeRequest
	if !r.Decode(&env) {
		return
	}
	fail := func(code wire.ErrorCode, why string, args ...any) {
		d.o.Logger.Warn("envelope refused: "+why, append(args, "from", r.Conn.ClientAddr)...)
		a := api.NewEnvelopeResponse()
		a.ErrorCode = code
		r.Answer(a)
	}
	if env.RequestPrincipal == nil {
		fail(wire.ErrPrincipalDeserializationFailure, "no principal")
		return
	}
	principal := logrec.NewDefaultPrincipalData()
	if _, err := logrec.DecodeVersioned(env.RequestPrincipal, principal); err != nil {
		fail(wire.ErrPrincipalDeserializationFailure, "principal cannot be read", "err", err)
		return
	}
	if n := len(env.ClientHostAddress); n != net.IPv4len && n != net.IPv6len {
		fail(wire.ErrInvalidRequest, "client address is not an IP address", "bytes", n)
		return
	}
	rd := wire.NewReader(env.RequestData, wire.NewBudget(len(env.RequestData), nil))
	h, info, err := api.ReadRequestHeader(rd)
	if err != nil {
		fail(wire.ErrInvalidRequest, "header of the forwarded request cannot be read", "err", err)
		return
	}
	e, ok := d.apis[info.Key]
	if !ok || !e.forwardable {
		fail(wire.ErrInvalidRequest, "API "+info.Name+" is not enabled or is not eligible for forwarding")
		return
	}
	if v := h.RequestApiVersion; !info.Served(v, d.o.UnstableVersions) {
		fail(wire.ErrInvalidRequest, "forwarded request has a version that is not served", "api", info.Name, "version", v)
		return
	}
	c := &call{r: r, info: info, version: h.RequestApiVersion, forwarded: true, listener: r.Conn.Listener, protocol: r.Conn.SecurityProtocol,
		principal: principal.Type + ":" + principal.Name}
	c.decode = func(m wire.Message) bool {
		m.Decode(rd, c.version)
		if err := rd.Finish(); err != nil {
			fail(wire.ErrInvalidRequest, "forwarded request cannot be read", "api", info.Name, "err", err)
			return false
		}
		return true
	}
	c.answer = func(m wire.Message) {
		a := api.NewEnvelopeResponse()
		data, err := encodeAnswer(info, c.version, h.CorrelationID, m)
		if err != nil {
			fail(wire.ErrUnknownServerError, "answer cannot be encoded", "api", info.Name, "err", err)
			return
		}
		a.ResponseData = data
		r.Answer(a)
	}
	c.refuse = func(req wire.Request, err *controller.Error) {
		if err.Code == wire.ErrNotController {
			a := api.NewEnvelopeResponse()
			a.ErrorCode = err.Code
			r.Answer(a)
			return
		}
		c.answer(ErrorAnswer(req, c.version, err))
	}
	e.serve(c)
}

// encodeAnswer returns an answer with its header.
func encodeAnswer(info *api.Info, version int16, correlation int32, m wire.Message) ([]byte, error) {
	var w wire.Writer
	h := wire.ResponseHeader{CorrelationID: correlation}
	h.Encode(&w, info.ResponseHeaderVersion(version))
	m.Encode(&w, version)
	return w.AppendTo(nil)
}

// apiVersions tells what the listener serves (KIP-35, KIP-511, KIP-584).
func (d *Desk) apiVersions(c *call) {
	var req api.ApiVersionsRequest
	if !c.decode(&req) {
		return
	}
	a := api.NewApiVersionsResponse()
	if c.version >= 3 && !(validSoftware(req.ClientSoftwareName) && validSoftware(req.ClientSoftwareVersion)) {
		a.ErrorCode = wire.ErrInvalidRequest
		c.answer(a)
		return
	}
	d.fillVersions(a)
	img := d.o.Quorum.Image()
	for _, f := range d.o.SupportedFeatures {
		if c.version < 4 && f.Min == 0 {
			continue // older clients cannot read a range that begins with 0 (KAFKA-17011)
		}
		a.SupportedFeatures = append(a.SupportedFeatures, api.ApiVersionsResponseSupportedFeature{Name: f.Name, MinVersion: f.Min, MaxVersion: f.Max})
	}
	if img != nil && img.Features.MetadataVersion != 0 {
		for _, name := range img.Features.Names() {
			level := img.Features.Level(name)
			a.FinalizedFeatures = append(a.FinalizedFeatures, api.ApiVersionsResponseFinalizedFeature{Name: name, MaxVersionLevel: level, MinVersionLevel: level})
		}
		if level := d.o.Quorum.Status().KRaftVersion; level > 0 { // it lives in the quorum, not in the image
			a.FinalizedFeatures = append(a.FinalizedFeatures, api.ApiVersionsResponseFinalizedFeature{Name: image.KRaftVersionFeature, MaxVersionLevel: level, MinVersionLevel: level})
		}
		a.FinalizedFeaturesEpoch = int64(img.FeaturesAt)
	}
	c.answer(a)
}

func (d *Desk) fillVersions(a *api.ApiVersionsResponse) {
	for _, x := range d.reg.APIs() {
		low, high := x.Advertised()
		a.ApiKeys = append(a.ApiKeys, api.ApiVersionsResponseApiKey{ApiKey: int16(x.Key), MinVersion: low, MaxVersion: high})
	}
}

// validSoftware is KIP-511's rule for names and versions of client software.
func validSoftware(s string) bool {
	alnum := func(b byte) bool { return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' }
	if s == "" || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !alnum(s[i]) && s[i] != '-' && s[i] != '.' {
			return false
		}
	}
	return true
}

// describeCluster lists the controllers (KIP-919).
func (d *Desk) describeCluster(c *call) {
	var req api.DescribeClusterRequest
	if !c.decode(&req) {
		return
	}
	a := api.NewDescribeClusterResponse()
	img := d.o.Quorum.Image()
	refuse := func(code wire.ErrorCode, text string) {
		a.ErrorCode, a.ErrorMessage = code, &text
		c.answer(a)
	}
	switch {
	case img == nil || img.Features.MetadataVersion == 0:
		refuse(wire.ErrUnsupportedVersion, "There is no finalized MetadataVersion, so direct-to-controller communication is not supported.")
		return
	case !img.Features.MetadataVersion.ControllerRegistrationSupported():
		refuse(wire.ErrUnsupportedVersion, "Direct-to-controller communication is not supported with the current MetadataVersion.")
		return
	case req.EndpointType != 2:
		code, text := wire.ErrMismatchedEndpointType, "The request was sent to an endpoint of type CONTROLLER, but we wanted an endpoint of type BROKER"
		if req.EndpointType != 1 {
			code, text = wire.ErrUnsupportedEndpointType, "Unsupported endpoint type "+decimal(req.EndpointType)
		}
		if c.version == 0 {
			code = wire.ErrInvalidRequest
		}
		refuse(code, text)
		return
	}
	a.ClusterID, a.EndpointType, a.ControllerID = d.o.ClusterID, 2, -1
	leader := d.o.Quorum.Status().Leader.ID
	for _, n := range img.Cluster.ControllerIDs() {
		if e, ok := img.Cluster.Controller(n).Endpoint(c.listener); ok {
			a.Brokers = append(a.Brokers, api.DescribeClusterResponseBroker{BrokerID: int32(n), Host: e.Host, Port: int32(e.Port)})
			if n == leader {
				a.ControllerID = int32(n)
			}
		}
	}
	if req.IncludeClusterAuthorizedOperations {
		a.ClusterAuthorizedOperations = clusterOperations
	}
	c.answer(a)
}

// clusterOperations is the bit set of all operations on the cluster, which everyone may do while nothing authorizes: create,
// alter, describe, cluster action, describe configs, alter configs, idempotent write.
const clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12

// describeQuorum answers from the quorum's status (KIP-595, KIP-836, KIP-853).
func (d *Desk) describeQuorum(c *call) {
	var req api.DescribeQuorumRequest
	if !c.decode(&req) {
		return
	}
	st := d.o.Quorum.Status()
	a := api.NewDescribeQuorumResponse()
	part := api.NewDescribeQuorumResponseTopicPartition()
	bad := func(code wire.ErrorCode) {
		for _, t := range req.Topics {
			rt := api.DescribeQuorumResponseTopic{TopicName: t.TopicName}
			for _, p := range t.Partitions {
				rp := api.NewDescribeQuorumResponseTopicPartition()
				rp.PartitionIndex, rp.ErrorCode, rp.ErrorMessage = p.PartitionIndex, code, new(code.Message())
				rt.Partitions = append(rt.Partitions, rp)
			}
			a.Topics = append(a.Topics, rt)
		}
		c.answer(a)
	}
	switch {
	case len(req.Topics) != 1 || req.Topics[0].TopicName != controller.ClusterMetadataTopic || len(req.Topics[0].Partitions) != 1 ||
		req.Topics[0].Partitions[0].PartitionIndex != 0:
		bad(wire.ErrUnknownTopicOrPartition)
		return
	case st.Leader.ID != d.o.NodeID:
		if c.forwarded {
			c.refuse(&req, &controller.Error{Code: wire.ErrNotController})
			return
		}
		bad(wire.ErrNotLeaderOrFollower)
		return
	}
	part.LeaderID, part.LeaderEpoch, part.HighWatermark = int32(st.Leader.ID), int32(st.Leader.Epoch), int64(st.HighWatermark)
	part.CurrentVoters = replicas(st.Voters)
	part.Observers = replicas(st.Observers)
	a.Topics = []api.DescribeQuorumResponseTopic{{TopicName: controller.ClusterMetadataTopic, Partitions: []api.DescribeQuorumResponseTopicPartition{part}}}
	for _, v := range st.Voters {
		n := api.DescribeQuorumResponseNode{NodeID: int32(v.ID)}
		for _, e := range v.Endpoints {
			n.Listeners = append(n.Listeners, api.DescribeQuorumResponseNodeListener{Name: e.Name, Host: e.Host, Port: e.Port})
		}
		a.Nodes = append(a.Nodes, n)
	}
	c.answer(a)
}

func replicas(all []quorum.ReplicaStatus) []api.DescribeQuorumResponseReplicaState {
	out := make([]api.DescribeQuorumResponseReplicaState, 0, len(all))
	for _, r := range all {
		s := api.NewDescribeQuorumResponseReplicaState()
		s.ReplicaID, s.ReplicaDirectoryID, s.LogEndOffset = int32(r.ID), r.DirectoryID, int64(r.LogEndOffset)
		s.LastFetchTimestamp, s.LastCaughtUpTimestamp = millis(r.LastFetch), millis(r.LastCaughtUpTime)
		out = append(out, s)
	}
	return out
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}
