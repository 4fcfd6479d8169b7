package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/metric"
	"github.com/moldau-io/moldau/internal/base/netx"
	"github.com/moldau-io/moldau/internal/broker/ctlhandler"
	"github.com/moldau-io/moldau/internal/broker/forward"
	"github.com/moldau-io/moldau/internal/broker/handler"
	"github.com/moldau-io/moldau/internal/broker/lifecycle"
	"github.com/moldau-io/moldau/internal/broker/server"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// anonymous is who a client is where nobody has to say who he is.
const anonymous = "User:ANONYMOUS"

// openQuorum opens the metadata log with this node's controller and the listener through which it is asked. Nothing runs yet.
func (n *Node) openQuorum(context.Context) error {
	b := n.o.Config
	schema, err := ctlhandler.NewSchema(b)
	if err != nil {
		return fmt.Errorf("controller: %w", err)
	}
	var voters []quorum.Voter
	var voterIDs []id.BrokerID
	for _, v := range b.QuorumVoters() {
		voters = append(voters, quorum.Voter{ID: v.ID, Endpoints: []quorum.Endpoint{{Name: b.List("controller.listener.names")[0], Host: v.Host, Port: uint16(v.Port)}}})
		voterIDs = append(voterIDs, v.ID)
	}
	var endpoints []quorum.Endpoint
	for _, e := range n.advertised(b.AdvertisedControllerListeners()) {
		endpoints = append(endpoints, quorum.Endpoint{Name: e.Name, Host: e.Host, Port: e.Port})
	}
	ctl := controller.New(controller.Config{
		NodeID: n.nodeID, ClusterID: n.format.clusterID, SupportedFeatures: controller.SupportedFeatures(), QuorumNodes: voterIDs,
		DefaultReplicationFactor: int16(b.Int("default.replication.factor")), DefaultPartitions: b.Int("num.partitions"),
		SessionTimeout:       b.Millis("broker.session.timeout.ms"),
		LeaderImbalanceCheck: imbalanceCheck(b),
		UncleanElectionCheck: b.Millis("unclean.leader.election.interval.ms"),
		DeleteTopicDisabled:  !b.Bool("delete.topic.enable"), Schema: schema, KnownConfig: ctlhandler.KnownConfig,
	})
	n.quorum, err = quorum.Open(quorum.Options{
		FS: n.fs, Dir: n.format.metadataDir, Logger: n.log.With("component", "quorum"), Seed: seed(),
		NodeID: n.nodeID, ClusterID: n.format.clusterID, DirectoryID: n.format.directoryID, StaticVoters: voters, Endpoints: endpoints,
		Controller:                ctl,
		ElectionTimeout:           b.Millis("controller.quorum.election.timeout.ms"),
		FetchTimeout:              b.Millis("controller.quorum.fetch.timeout.ms"),
		RequestTimeout:            b.Millis("controller.quorum.request.timeout.ms"),
		RetryBackoff:              b.Millis("controller.quorum.retry.backoff.ms"),
		ElectionBackoffMax:        b.Millis("controller.quorum.election.backoff.max.ms"),
		MaxIdleInterval:           b.Millis("metadata.max.idle.interval.ms"),
		SnapshotMaxNewRecordBytes: b.Long("metadata.log.max.record.bytes.between.snapshots"),
		SnapshotMaxInterval:       b.Millis("metadata.log.max.snapshot.interval.ms"),
		RetentionBytes:            b.Long("metadata.max.retention.bytes"),
		RetentionTime:             b.Millis("metadata.max.retention.ms"),
		SegmentBytes:              int(b.Int("metadata.log.segment.bytes")),
		SegmentTime:               b.Millis("metadata.log.segment.ms"),
	})
	if err != nil {
		return err
	}
	n.memory = server.NewMemory(max(256<<20, 2*int64(b.Int("socket.request.max.bytes"))))
	n.decoding = wire.NewPool(512 << 20)
	reg := server.NewRegistry()
	ctlhandler.New(ctlhandler.Options{Quorum: n.quorum, ClusterID: n.format.clusterID, NodeID: n.nodeID,
		Logger: n.log.With("component", "controller"), SupportedFeatures: controller.SupportedFeatures(),
		Config: n.config.Load, Level: n.o.Level, UnstableVersions: b.Bool("unstable.api.versions.enable")}).Register(reg)
	ctlhandler.NewRaft(ctlhandler.RaftOptions{Quorum: n.quorum, ClusterID: n.format.clusterID, NodeID: n.nodeID,
		Logger: n.log.With("component", "quorum")}).Register(reg)
	n.ctl = n.newServer(b, reg, "controller")
	n.line = forward.New(forward.Options{Dial: n.dialController, ClientID: fmt.Sprintf("broker-%d-to-controller", n.nodeID),
		Logger: n.log.With("component", "forward"), Fault: n.fail})
	return nil
}

// imbalanceCheck is how often leaderships are balanced; 0: never.
func imbalanceCheck(b *conf.Broker) time.Duration {
	if !b.Bool("auto.leader.rebalance.enable") {
		return 0
	}
	return b.Span("leader.imbalance.check.interval.seconds", time.Second)
}

// dialController opens a pipe, or a connection, to the controller of this node, which is the only one.
func (n *Node) dialController(ctx context.Context) (net.Conn, error) {
	if n.o.ControllerOverTCP {
		for _, b := range n.listeners.all() {
			if b.controller {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", b.l.Addr().String())
			}
		}
		return nil, net.ErrClosed
	}
	a, b := netx.Pipe(0)
	peer := server.ConnTemplate{Listener: n.o.Config.List("controller.listener.names")[0], SecurityProtocol: "PLAINTEXT", Principal: anonymous}
	if !n.ctl.ServeConn(b, peer) {
		return nil, net.ErrClosed
	}
	return a, nil
}

func (n *Node) newServer(b *conf.Broker, reg *server.Registry, component string) *server.Server {
	o := server.Options{Registry: reg, Logger: n.log.With("component", component), Memory: n.memory, Decoding: n.decoding,
		MaxRequestBytes: int(b.Int("socket.request.max.bytes")), Idle: b.Millis("connections.max.idle.ms"), Limits: n.limits(b),
		SendBufferBytes: int(b.Int("socket.send.buffer.bytes")), RecvBufferBytes: receiveBuffer(b), Fault: n.fail}
	if component == "server" {
		o.Observe = n.requests.observe
	}
	return server.New(o)
}

// receiveBuffer is the size of a connection's receive buffer, -1 for the system's own. A size that is set stops the system from
// fitting the buffer to the connection: at Kafka's default a request of 1 MB then arrives in eight reads instead of two. So the
// default, which Kafka's sample properties repeat, means the system's own. Send buffers keep the set size: left
// to the system, large answers went out at anything between twice and half the speed, from one hour to the next.
func receiveBuffer(b *conf.Broker) int {
	const kafkaDefault = 102400
	n := int(b.Int("socket.receive.buffer.bytes"))
	if n == kafkaDefault {
		return -1
	}
	return n
}

// limits resolves the bounds on connections; names among the overrides are looked up once.
func (n *Node) limits(b *conf.Broker) *server.Limits {
	l := &server.Limits{Connections: int(b.Int("max.connections")), PerIP: int(b.Int("max.connections.per.ip")), PerIPByAddr: map[string]int{}}
	overrides, err := b.MaxConnectionsPerIPOverrides()
	if err != nil {
		n.log.Warn("max.connections.per.ip.overrides is ignored", "err", err)
	}
	for host, limit := range overrides {
		if net.ParseIP(host) != nil {
			l.PerIPByAddr[host] = int(limit)
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		addrs, err := net.DefaultResolver.LookupHost(ctx, host)
		cancel()
		if err != nil {
			n.log.Warn("a host of max.connections.per.ip.overrides is unknown", "host", host, "err", err)
		}
		for _, a := range addrs {
			l.PerIPByAddr[a] = int(limit)
		}
	}
	return l
}

// openBroker makes the broker's rooms and desks, and connects them to the quorum.
func (n *Node) openBroker(context.Context) error {
	b := n.o.Config
	n.metrics, n.requests = metric.NewRegistry(), newRequestMetrics()
	n.replicas = replica.New(replica.Options{Self: n.nodeID, Logs: n.logs, Configs: topicConfigs{n, new(sync.Map)}, Logger: n.log.With("component", "replica"),
		LagMax: b.Millis("replica.lag.time.max.ms"), Fault: n.fail, Directories: movedReplicas{n},
		Recovered: func() { n.considerUnfencing(n.replicas.Image()) }})
	n.groups = coord.NewGroups(b, n.replicas, n.log.With("component", "groups"), &n.groupMeters)
	n.pids = handler.NewProducerIDBlocks(allocator{n}, nil, n.log.With("component", "producer-ids"))
	n.txns, n.markers = coord.NewTxns(coord.TxnDeps{Config: b, Replicas: n.replicas, Groups: n.groups, NextProducerID: n.pids.TryNext,
		Logger: n.log.With("component", "transactions")})
	n.logs.SetTransactionVerification(b.Bool("transaction.partition.verification.enable"))
	n.gate.Txns, n.gate.Image, n.gate.Config, n.gate.Places = n.txns, n.replicas.Image, n.config.Load, &n.places
	reg := server.NewRegistry()
	n.desk = handler.NewReplicaDesk(handler.ReplicaDeskDeps{Self: n.nodeID, Replicas: n.replicas, Logs: n.logs, Gate: &n.gate,
		SessionSlots: int(b.Int("max.incremental.fetch.session.cache.slots")), Random: rand.Int32,
		FetchMaxBytes: func() int { return int(n.config.Load().Int("fetch.max.bytes")) }, Logger: n.log.With("component", "replica-desk")})
	n.desk.Register(reg)
	creation := handler.NewTopicCreation(n.line, n.config.Load, n.log.With("component", "topic-creation"))
	handler.NewGroupDesk(handler.GroupDeps{Groups: n.groups, Config: coord.GroupConfig(b), Places: &n.places, Image: n.replicas.Image, Creator: creation,
		Partitions: b.Int("offsets.topic.num.partitions"), TxnPartitions: b.Int("transaction.state.log.num.partitions"),
		NoConsumers: !slices.Contains(b.List("group.coordinator.rebalance.protocols"), "consumer"), Gate: &n.gate, Replicas: n.replicas}).Register(reg)
	handler.NewTxnDesk(handler.TxnDeps{Txns: n.txns, Groups: n.groups, Replicas: n.replicas, ProducerIDs: n.pids,
		Partitions: b.Int("transaction.state.log.num.partitions"), GroupPartitions: b.Int("offsets.topic.num.partitions"), Places: &n.places,
		Limits: coord.TxnConfig(b), MarkerTimeout: b.Millis("request.timeout.ms"), UnstableVersions: b.Bool("unstable.api.versions.enable"),
		Logger: n.log.With("component", "transactions")}).Register(reg)
	handler.NewAdminDesk(handler.AdminDeps{NodeID: n.nodeID, ClusterID: n.format.clusterID, Image: n.replicas.Image, Config: n.config.Load,
		Line: n.line, Creation: creation, Features: brokerFeatures(), KRaftVersion: func() int16 { return n.quorum.Status().KRaftVersion }, Level: n.o.Level, Logger: n.log.With("component", "admin-desk")}).Register(reg)
	n.srv = n.newServer(b, reg, "server")
	if err := n.newLifecycle(b); err != nil {
		return err
	}
	n.publish = newPublisher(n.log.With("component", "publisher"), n.applyConfig, n.replicas.ApplyDelta, n.applyGroups, n.applyLifecycle)
	n.quorum.Subscribe(n.publish)
	n.addMetrics()
	return nil
}

// brokerFeatures are what the broker declares and tells: kraft.version is the quorum's own.
func brokerFeatures() []image.VersionRange { return controller.SupportedFeatures() }

func (n *Node) newLifecycle(b *conf.Broker) error {
	previous, ok := n.logs.PreviousBrokerEpoch()
	if !ok {
		previous = id.NoBrokerEpoch
	}
	var dirs []id.UUID
	for _, d := range n.logs.Dirs() {
		if d.Err == nil {
			dirs = append(dirs, d.DirectoryID)
		}
	}
	var rack *string
	if !b.IsNull("broker.rack") {
		text := b.Text("broker.rack")
		rack = &text
	}
	rng := rand.New(rand.NewPCG(seed(), seed()))
	n.incarnation = quorum.NewDirectoryID(rng)
	n.life = lifecycle.New(lifecycle.Options{NodeID: n.nodeID, ClusterID: n.format.clusterID, IncarnationID: n.incarnation,
		Endpoints: n.advertised(b.AdvertisedListeners()), Features: brokerFeatures(), Rack: rack, LogDirs: dirs, PreviousBrokerEpoch: previous,
		CordonedDirs:      n.logs.SetCordoned(b.CordonedLogDirs()),
		HeartbeatInterval: b.Millis("broker.heartbeat.interval.ms"), SessionTimeout: b.Millis("broker.session.timeout.ms"),
		RegistrationTimeout: b.Millis("initial.broker.registration.timeout.ms"), Line: n.line, Logger: n.log.With("component", "lifecycle")})
	n.ctlLife = lifecycle.NewControllerRegistration(lifecycle.ControllerOptions{NodeID: n.nodeID, IncarnationID: quorum.NewDirectoryID(rng),
		Endpoints: n.advertised(b.AdvertisedControllerListeners()), Features: controller.SupportedFeatures(), Line: n.line,
		Logger: n.log.With("component", "lifecycle")})
	n.assigns = lifecycle.NewAssignments(lifecycle.AssignmentOptions{NodeID: n.nodeID, Epoch: n.life.BrokerEpoch, Where: n.directoryOf,
		Line: n.line, Logger: n.log.With("component", "lifecycle")})
	return nil
}

// movedReplicas tells the controller of replicas that move between log directories. None does before the node has everything.
type movedReplicas struct{ n *Node }

func (m movedReplicas) Moved(topicID id.UUID, tp id.TopicPartition, img *image.Image) {
	m.n.assigns.Moved(topicID, tp, img)
}

func (n *Node) directoryOf(tp id.TopicPartition) (id.UUID, bool) {
	return n.logs.DirectoryOf(tp)
}

// serve starts everything that runs, registers the broker, and opens the doors when the broker is unfenced.
func (n *Node) serve(ctx context.Context) error {
	if err := n.quorum.Start(); err != nil {
		return err
	}
	n.serveListeners(true)
	if _, err := n.quorum.AwaitImage(ctx, func(img *image.Image) bool { return img.Features.MetadataVersion != 0 }); err != nil {
		return fmt.Errorf("wait for the metadata: %w", err)
	}
	n.life.Start()
	n.running.Go(func() {
		defer n.panicked("the watch over the node's parts")
		n.watch()
	})
	select {
	case <-n.life.Unfenced():
	case <-n.life.Failed():
		return n.life.Err()
	case <-n.quorum.Failed():
		return n.quorum.Err()
	case <-n.failed:
		return n.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
	n.awaitCoordinators(ctx)
	n.serveListeners(false)
	return n.serveMetrics(ctx)
}

// coordinatorsPatience bounds how long clients wait at the doors for coordinators to be loaded. A log that takes longer must not keep
// everything else from them.
const coordinatorsPatience = 5 * time.Second

// awaitCoordinators lets the coordinators of the partitions led here load before the doors open, so that nobody who comes back to
// a broker that was away is told NOT_COORDINATOR or COORDINATOR_LOAD_IN_PROGRESS. It is not only that he would have to come again:
// a classic consumer of Apache Kafka, which for want of any broker started again from its bootstrap addresses, may join its
// group anew. It commits before that, and after a refusal commits again without the partitions of which it has yet to hear where their
// new leader epoch begins, as it has of none: it joins, and reads once more what it has read since its last commit.
func (n *Node) awaitCoordinators(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, coordinatorsPatience)
	defer cancel()
	img := n.replicas.Image()
	groups, txns := n.ledOf(img, coord.OffsetsTopic), n.ledOf(img, coord.TransactionsTopic)
	n.log.Debug("clients wait for the coordinators", "groups", len(groups), "transactions", len(txns))
	if errors.Join(n.groups.AwaitLoaded(ctx, groups), n.txns.AwaitLoaded(ctx, txns)) != nil {
		n.log.Info("clients are let in before all coordinators are loaded")
	}
}

// ledOf returns the partitions of a topic that this broker leads.
func (n *Node) ledOf(img *image.Image, topic string) (led []int32) {
	t := img.Topics.ByName(topic)
	if t == nil {
		return nil
	}
	for _, p := range t.Partitions {
		if p.Leader == n.nodeID {
			led = append(led, p.ID)
		}
	}
	return led
}

// considerUnfencing says that the broker may be unfenced when it can do for its partitions what other brokers could: as soon as the
// image has its registration, and the logs are there of all partitions that have other replicas. Apache Kafka waits for all logs;
// but a partition that is only here is not served any earlier because its broker is fenced, and all the others could be.
func (n *Node) considerUnfencing(img *image.Image) {
	b := img.Cluster.Broker(n.nodeID)
	if n.ready.Load() || b == nil || b.IncarnationID != n.incarnation {
		return
	}
	if waiting := n.replicas.RecoveringShared(); waiting > 0 {
		n.log.Info("the broker stays fenced until the logs of partitions with other replicas are recovered", "partitions", waiting)
		return
	}
	if n.ready.CompareAndSwap(false, true) {
		n.places.Observe(img) // which has all that was before this start
		n.life.ReadyToUnfence()
	}
}

func (n *Node) serveMetrics(ctx context.Context) error {
	if n.o.Metrics == "" {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", n.o.Metrics)
	if err != nil {
		if n.o.MetricsOptional {
			n.log.Warn("metrics are not served", "addr", n.o.Metrics, "err", err)
			return nil
		}
		return fmt.Errorf("metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", n.metrics)
	n.httpAddr = l.Addr()
	n.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	n.running.Go(func() { _ = n.http.Serve(l) }) // ends with the node
	return nil
}

// watch ends the node when one of its parts cannot go on, and tells the controller of directories that failed.
func (n *Node) watch() {
	for {
		select {
		case <-n.stop:
			return
		case <-n.quorum.Failed():
			n.fail(fmt.Errorf("metadata quorum: %w", n.quorum.Err()))
			return
		case <-n.life.Failed():
			n.fail(n.life.Err())
			return
		case <-n.logs.Failures():
			n.replicas.CheckDirectories()
			n.considerUnfencing(n.replicas.Image())
			var offline []id.UUID
			working := 0
			for _, d := range n.logs.Dirs() {
				if d.Err == nil {
					working++
				} else {
					offline = append(offline, d.DirectoryID)
				}
			}
			if working == 0 {
				n.fail(fmt.Errorf("all log directories have failed: %w", n.logs.Dirs()[0].Err))
				return
			}
			n.life.OfflineDirs(offline)
		}
	}
}

// applyConfig makes dynamic broker configurations count, before anything else of the delta does.
func (n *Node) applyConfig(delta *image.Delta, img *image.Image) error {
	own := image.ConfigResource{Type: image.ResourceBroker, Name: fmt.Sprint(n.nodeID)}
	if !delta.ConfigChanged(image.DefaultBroker) && !delta.ConfigChanged(own) {
		return nil
	}
	b, warnings, err := n.o.Config.WithDynamic(img.Configs.Of(image.DefaultBroker), img.Configs.Of(own))
	for _, w := range warnings {
		n.log.Warn("dynamic configuration: "+w.Message, "key", w.Key)
	}
	if err != nil {
		return fmt.Errorf("dynamic configuration keeps its former values: %w", err)
	}
	for _, w := range b.Unheeded(n.config.Load()) {
		n.log.Warn(w.Message, "key", w.Key)
	}
	n.config.Store(b)
	n.srv.SetLimits(*n.limits(b))
	n.logs.SetProducerExpiration(b.Millis("producer.id.expiration.ms"))
	n.logs.SetTransactionVerification(b.Bool("transaction.partition.verification.enable"))
	n.logs.SetCleaner(cleanerConfig(b))
	coord.KeepGroupBuffers(n.groups, b)
	n.life.CordonedDirs(n.logs.SetCordoned(b.CordonedLogDirs()))
	n.replicas.SetMoveRate(b.MoveBytesPerSecond())
	n.logs.SetRecoveryThreads(int(b.Int("num.recovery.threads.per.data.dir"))) // counts at a start, whose first image comes before the logs
	return n.changeListeners(b)
}

func (n *Node) applyGroups(delta *image.Delta, img *image.Image) error {
	if n.ready.Load() {
		n.places.Observe(img)
	}
	coord.ForgetTopics(n.groups, delta.Topics().Deleted())
	return nil
}

func (n *Node) applyLifecycle(delta *image.Delta, img *image.Image) error {
	n.considerUnfencing(img)
	n.life.ImagePublished(img)
	n.assigns.ImagePublished(delta, img)
	n.ctlLife.ImagePublished(img)
	return nil
}

// topicConfigs resolves topic configurations over the broker's current one. Of each key without effect it says so once, whatever
// the number of topics that set it.
type topicConfigs struct {
	n    *Node
	said *sync.Map // by key
}

func (t topicConfigs) TopicConfig(img *image.Image, topic string) replica.TopicConfig {
	b := t.n.config.Load()
	c, err := conf.ResolveTopic(b, img.Configs.Topic(topic))
	if err != nil {
		t.n.log.Error("stored topic configuration cannot be read, defaults count", "topic", topic, "err", err)
		if c, err = conf.ResolveTopic(b, nil); err != nil {
			return replica.TopicConfig{Log: log.DefaultConfig(), MinInSyncReplicas: 1}
		}
	}
	for _, w := range c.Unheeded() {
		if strings.HasPrefix(topic, "__") {
			break // nobody but the broker configures internal topics
		}
		if _, said := t.said.LoadOrStore(w.Key, true); !said {
			t.n.log.Warn(w.Message, "key", w.Key, "topic", topic)
		}
	}
	return replica.FromConf(c)
}

// allocator asks the controller for producer ids.
type allocator struct{ n *Node }

func (a allocator) AllocateProducerIDs(done func(*api.AllocateProducerIDsResponse, error)) {
	req := api.NewAllocateProducerIDsRequest()
	req.BrokerID, req.BrokerEpoch = int32(a.n.nodeID), int64(a.n.life.BrokerEpoch())
	a.n.line.Start(req, 0, time.Time{}, func(m wire.Message, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(m.(*api.AllocateProducerIDsResponse), nil)
	})
}
