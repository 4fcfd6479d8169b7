package controller

import (
	"fmt"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// MaxRecordsPerOp bounds the records of one user operation, as Kafka does, so that each fits one atomic batch.
const MaxRecordsPerOp = 10_000

// maxPartitionsPerRequest bounds the partitions that one CreateTopics may ask for.
const maxPartitionsPerRequest = 10_000

// Config is what a controller is told once.
type Config struct {
	NodeID    id.BrokerID
	ClusterID string
	// SupportedFeatures are the levels that this node can run, metadata.version included.
	SupportedFeatures []image.VersionRange
	// QuorumNodes are the ids of the controllers of a static quorum; nil with a dynamic one.
	QuorumNodes []id.BrokerID

	DefaultReplicationFactor int16         // default.replication.factor
	DefaultPartitions        int32         // num.partitions
	SessionTimeout           time.Duration // broker.session.timeout.ms
	// LeaderImbalanceCheck is leader.imbalance.check.interval.seconds; 0 when auto.leader.rebalance.enable is false.
	LeaderImbalanceCheck time.Duration
	// UncleanElectionCheck is unclean.leader.election.interval.ms; 0 means never.
	UncleanElectionCheck time.Duration
	DeleteTopicDisabled  bool // delete.topic.enable is false
	// Bootstrap holds the records of an empty log, feature levels first.
	Bootstrap []image.Record
	Schema    ConfigSchema
	// KnownConfig says which configs there are; records of others are passed over. Nil: all.
	KnownConfig image.KnownConfig
}

// ConfigSchema knows configs: their types, defaults and rules. Its error texts travel to clients.
type ConfigSchema interface {
	// Validate checks all dynamic configs that a resource will have after a change, given those it has before. An error that
	// wraps a wire.ErrorCode keeps it; any other becomes INVALID_CONFIG.
	Validate(r image.ConfigResource, after, before map[string]string) error
	// IsList reports whether values can be appended to and subtracted from the key.
	IsList(t image.ResourceType, key string) bool
	// Default returns the default of a key, and false when it has none.
	Default(t image.ResourceType, key string) (string, bool)
	// StaticTopic returns what a topic config is on this node when nothing dynamic sets it.
	StaticTopic(key string) string
	// EffectiveTopic resolves all topic configs from the topic's own, the dynamic configs of the broker asked for and of all
	// brokers, and the node's static configs, in order of name. The answer may be shared and is not changed.
	EffectiveTopic(topic, node, cluster map[string]string) []EffectiveConfig
}

// EffectiveConfig is one resolved topic config. Source is as in DescribeConfigs (1 topic, 2 broker, 3 default broker,
// 4 static, 5 default).
type EffectiveConfig struct {
	Name      string
	Value     *string
	Source    int8
	ReadOnly  bool
	Sensitive bool
}

// Rand is a source of random bits; *rand.Rand and its sources are.
type Rand interface{ Uint64() uint64 }

// Env is what a decision may know beside the state.
type Env struct {
	Now time.Time
	// NextOffset is the offset of the first record of the decision, if it makes any.
	NextOffset id.Offset
	Rand       Rand
	// APIVersion is the version of the request.
	APIVersion int16
	// KRaftVersion is the quorum's kraft.version.
	KRaftVersion int16
	// CheckKRaft says whether the quorum can be raised to a kraft.version; nil when it never can. Its errors wrap a wire.ErrorCode.
	CheckKRaft func(level int16) error
	// Forwarded is set when the request came through a broker, in an envelope.
	Forwarded bool
}

// Decision is the outcome of one operation. Its records are applied to the working state already.
type Decision struct {
	Records []image.Record
	// Atomic asks for the records to become one batch. Where it is false they may be split at any record.
	Atomic bool
	// KRaftVersion, when above 0, is the kraft.version to which the quorum is to be raised, by a control batch of its own right
	// after the records.
	KRaftVersion int16
	// Answer goes out when the records are committed, at once when there are none. Nil when Err is set or nobody asked.
	Answer wire.Message
	// Err refuses the whole request. The handler turns it into the request's answer.
	Err *Error
}

// state is everything that must go back when records are not committed. All of it is persistent.
type state struct {
	img *image.Image
	// collisions holds the topics whose names would collide as metric names, by the name with '.' made '_'.
	collisions image.Map[string, []string]
	// registered is the offset of each broker's newest RegisterBrokerRecord.
	registered image.Map[id.BrokerID, id.Offset]
	// txnStart is the offset of an open metadata transaction, -1 without one; txnBefore is the state before it.
	txnStart  id.Offset
	txnBefore *state
}

// undo is the state before a batch that is not committed yet, and the batch's first and last offset.
type undo struct {
	first, last id.Offset
	records     []image.Record
	before      state
}

// Controller is the controller of one node, active or not.
type Controller struct {
	cfg Config
	state
	pending []undo
	active  bool
	epoch   id.LeaderEpoch
	beats   heartbeats

	nextBalance, nextUnclean time.Time
}

// New returns an inactive controller that has seen no record.
func New(cfg Config) *Controller {
	c := &Controller{cfg: cfg}
	c.reset(image.EmptyKnowing(cfg.KnownConfig), -1)
	return c
}

func (c *Controller) reset(img *image.Image, at id.Offset) {
	s := state{
		img:        img,
		collisions: image.NewMap[string, []string](image.HashString),
		registered: image.NewMap[id.BrokerID, id.Offset](func(b id.BrokerID) uint64 { return uint64(b) * 0x9e3779b97f4a7c15 }),
		txnStart:   -1,
	}
	for t := range img.Topics.All() {
		s.addCollision(t.Name)
	}
	for _, b := range img.Cluster.BrokerIDs() {
		s.registered = s.registered.With(b, at)
	}
	c.state, c.pending = s, nil
}

// Image returns the working image: committed records and decided ones. Nobody but the controller may act on the latter.
func (c *Controller) Image() *image.Image { return c.img }

// KnownConfig is which configs the controller's image keeps; nil: all.
func (c *Controller) KnownConfig() image.KnownConfig { return c.cfg.KnownConfig }

// Active reports whether the controller may decide.
func (c *Controller) Active() bool { return c.active }

// Epoch is the epoch of the leadership under which the controller is active.
func (c *Controller) Epoch() id.LeaderEpoch { return c.epoch }

// LoadSnapshot replaces the state by a committed image, which ends at its provenance. Only while inactive.
func (c *Controller) LoadSnapshot(img *image.Image) { c.reset(img, img.Provenance.Offset) }

// Replay folds committed records that another leader wrote, or that the log held at start. first is the offset of the first.
func (c *Controller) Replay(first id.Offset, records []image.Record) error {
	s, err := c.state.apply(first, records, c.epoch)
	if err != nil {
		return fmt.Errorf("replay at offset %d: %w", first, err)
	}
	c.state = s
	return nil
}

// apply returns the state after records. A record that does not fit is an error, and the state is as it was. An aborted
// transaction leaves the state as it was before it began.
func (s state) apply(first id.Offset, records []image.Record, epoch id.LeaderEpoch) (state, error) {
	for len(records) > 0 {
		n := 1 // a transaction marker stands by itself, records between markers go together
		if !isMarker(records[0]) {
			for n < len(records) && !isMarker(records[n]) {
				n++
			}
		}
		next, err := s.applyRun(first, records[:n], epoch)
		if err != nil {
			return s, err
		}
		s, first, records = next, first+id.Offset(n), records[n:]
	}
	return s, nil
}

func isMarker(r image.Record) bool {
	switch r.Message.(type) {
	case *logrec.BeginTransactionRecord, *logrec.EndTransactionRecord, *logrec.AbortTransactionRecord:
		return true
	}
	return false
}

// applyRun applies one marker, or records none of which is one.
func (s state) applyRun(first id.Offset, records []image.Record, epoch id.LeaderEpoch) (state, error) {
	d := image.NewDelta(s.img)
	for i, r := range records {
		at := first + id.Offset(i)
		switch m := r.Message.(type) {
		case *logrec.RegisterBrokerRecord:
			s.registered = s.registered.With(id.BrokerID(m.BrokerID), at)
		case *logrec.UnregisterBrokerRecord:
			s.registered = s.registered.Without(id.BrokerID(m.BrokerID))
		case *logrec.BeginTransactionRecord:
			if s.txnStart >= 0 {
				return s, fmt.Errorf("record %d: a transaction begins inside the one of offset %d: %w", at, s.txnStart, image.ErrInconsistent)
			}
			before := s
			s.txnStart, s.txnBefore = at, &before
		case *logrec.EndTransactionRecord, *logrec.AbortTransactionRecord:
			if s.txnStart < 0 {
				return s, fmt.Errorf("record %d: a transaction ends that did not begin: %w", at, image.ErrInconsistent)
			}
			if _, aborted := m.(*logrec.AbortTransactionRecord); aborted {
				s = *s.txnBefore
				d = image.NewDelta(s.img)
			}
			s.txnStart, s.txnBefore = -1, nil
		}
		if err := d.Replay(r.Message); err != nil {
			return s, fmt.Errorf("record %d: %w", at, err)
		}
	}
	last := first + id.Offset(len(records)-1)
	s.img = d.Apply(image.Provenance{Offset: last, Epoch: epoch, TimestampMs: s.img.Provenance.TimestampMs})
	for _, t := range d.Topics().Deleted() {
		s.removeCollision(t.Name)
	}
	for _, t := range d.Topics().Changed() {
		if t.Before == nil {
			s.addCollision(t.Name)
		}
	}
	return s, nil
}

func (s *state) addCollision(name string) {
	if key, ok := collisionKey(name); ok {
		names, _ := s.collisions.Get(key)
		if !slices.Contains(names, name) {
			s.collisions = s.collisions.With(key, append(slices.Clip(names), name))
		}
	}
}

func (s *state) removeCollision(name string) {
	if key, ok := collisionKey(name); ok {
		names, _ := s.collisions.Get(key)
		left := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
		if len(left) == 0 {
			s.collisions = s.collisions.Without(key)
		} else {
			s.collisions = s.collisions.With(key, left)
		}
	}
}

// Activate makes the controller the active one of an epoch, after everything before env.NextOffset was replayed. The decision
// holds the first records of the leadership: those of an empty log, or the end of a transaction that a predecessor left open.
// They must be appended before anything else. Uncommitted records of a predecessor were replayed like committed ones, since
// the log of a leader is never cut.
func (c *Controller) Activate(env Env, epoch id.LeaderEpoch) (Decision, error) {
	c.active, c.epoch = true, epoch
	c.beats = newHeartbeats(c.cfg.SessionTimeout)
	records, atomic, err := c.activationRecords()
	if err != nil {
		c.active = false
		return Decision{}, err
	}
	d := c.commit(env, Decision{Records: records, Atomic: atomic})
	if d.Err != nil {
		c.active = false
		return Decision{}, fmt.Errorf("activate: %w", d.Err)
	}
	for _, b := range c.img.Cluster.BrokerIDs() {
		r := c.img.Cluster.Broker(b)
		beat := c.beats.of(r)
		if !r.Fenced {
			beat.contact, beat.inherited = env.Now, b == c.cfg.NodeID
		}
	}
	c.nextBalance = env.Now.Add(c.cfg.LeaderImbalanceCheck)
	c.nextUnclean = env.Now.Add(c.cfg.UncleanElectionCheck)
	return d, nil
}

// Resign ends the leadership and undoes whatever was not committed.
func (c *Controller) Resign() {
	if len(c.pending) > 0 {
		c.state = c.pending[0].before
	}
	c.pending, c.active, c.beats = nil, false, heartbeats{}
}

// Committed says that every record up to and including offset is committed. Of a decision that was split over batches, a part
// may be.
func (c *Controller) Committed(offset id.Offset) {
	n := 0
	for n < len(c.pending) && c.pending[n].last <= offset {
		n++
	}
	c.pending = slices.Delete(c.pending, 0, n)
	if len(c.pending) == 0 || c.pending[0].first > offset {
		return
	}
	u := &c.pending[0]
	done := int(offset-u.first) + 1
	// The whole decision was applied once already, so a part of it cannot fail.
	if s, err := u.before.apply(u.first, u.records[:done], c.epoch); err == nil {
		u.before, u.first, u.records = s, offset+1, u.records[done:]
	}
}

// Revert undoes every decision whose records start at or after offset: the log has failed to take them.
func (c *Controller) Revert(offset id.Offset) {
	for n, u := range c.pending {
		if u.first >= offset {
			c.state, c.pending = u.before, c.pending[:n]
			return
		}
	}
}

// Pending returns the number of decisions with records that are not committed.
func (c *Controller) Pending() int { return len(c.pending) }

// commit applies the records of a decision and remembers how to undo them. Records that do not fit the state are a defect of
// the decision; it is refused rather than written.
func (c *Controller) commit(env Env, d Decision) Decision {
	if d.Err != nil || len(d.Records) == 0 {
		d.Records = nil
		return d
	}
	before := c.state
	s, err := before.apply(env.NextOffset, d.Records, c.epoch)
	if err != nil {
		return Decision{Err: &Error{Code: wire.ErrUnknownServerError, Text: err.Error()}}
	}
	c.state = s
	last := env.NextOffset + id.Offset(len(d.Records)-1)
	c.pending = append(c.pending, undo{first: env.NextOffset, last: last, records: d.Records, before: before})
	return d
}

// Decide carries out one request. Requests the controller does not know are refused with UNSUPPORTED_VERSION.
func (c *Controller) Decide(env Env, req wire.Message) Decision {
	if !c.active {
		return Decision{Err: &Error{Code: wire.ErrNotController, Text: "No controller appears to be active."}}
	}
	d := c.decide(env, req)
	if d.Err == nil && d.Atomic && len(d.Records) > MaxRecordsPerOp {
		return Decision{Err: errTooManyRecords()}
	}
	d = c.commit(env, d)
	if hb, ok := req.(*api.BrokerHeartbeatRequest); ok && d.Err == nil {
		c.noteShutdownOffset(env, id.BrokerID(hb.BrokerID), len(d.Records))
	}
	return d
}

func (c *Controller) decide(env Env, req wire.Message) Decision {
	switch r := req.(type) {
	case *api.BrokerHeartbeatRequest:
		return c.heartbeat(env, r)
	case *api.BrokerRegistrationRequest:
		return c.registerBroker(env, r)
	case *api.UnregisterBrokerRequest:
		return c.unregisterBroker(r)
	case *api.ControllerRegistrationRequest:
		return c.registerController(r)
	case *api.UnregisterControllerRequest:
		return c.unregisterController(r)
	case *api.CreateTopicsRequest:
		return c.createTopics(env, r)
	case *api.DeleteTopicsRequest:
		return c.deleteTopics(env, r)
	case *api.CreatePartitionsRequest:
		return c.createPartitions(env, r)
	case *api.IncrementalAlterConfigsRequest:
		return c.incrementalAlterConfigs(env, r)
	case *api.AlterConfigsRequest:
		return c.alterConfigs(env, r)
	case *api.UpdateFeaturesRequest:
		return c.updateFeatures(env, r)
	case *api.AlterClientQuotasRequest:
		return c.alterClientQuotas(r)
	case *api.AlterUserScramCredentialsRequest:
		return c.alterScram(r)
	case *api.AllocateProducerIDsRequest:
		return c.allocateProducerIDs(r)
	case *api.AlterPartitionRequest:
		return c.alterPartition(env, r)
	case *api.ElectLeadersRequest:
		return c.electLeaders(r)
	case *api.AlterPartitionReassignmentsRequest:
		return c.alterReassignments(r)
	case *api.ListPartitionReassignmentsRequest:
		return c.listReassignments(r)
	case *api.AssignReplicasToDirsRequest:
		return c.assignReplicasToDirs(r)
	default:
		return refuse(wire.ErrUnsupportedVersion, fmt.Sprintf("The controller does not carry out %T.", req))
	}
}

// Tick does what time demands: it fences one broker whose session ended, moves leadership back to preferred replicas, elects
// unclean leaders. Call it until a decision has no records, and again at Deadline.
func (c *Controller) Tick(env Env) Decision {
	if !c.active {
		return Decision{}
	}
	if d := c.fenceStaleBroker(env); len(d.Records) > 0 {
		return c.commit(env, d)
	}
	if c.cfg.LeaderImbalanceCheck > 0 && !env.Now.Before(c.nextBalance) {
		d := Decision{Records: c.balanceLeaders()}
		if len(d.Records) < maxElectionsPerTick {
			c.nextBalance = env.Now.Add(c.cfg.LeaderImbalanceCheck)
		}
		if len(d.Records) > 0 {
			return c.commit(env, d)
		}
	}
	if c.cfg.UncleanElectionCheck > 0 && !env.Now.Before(c.nextUnclean) {
		d := Decision{Records: c.electUncleanLeaders()}
		if len(d.Records) < maxElectionsPerTick {
			c.nextUnclean = env.Now.Add(c.cfg.UncleanElectionCheck)
		}
		return c.commit(env, d)
	}
	return Decision{}
}

// Deadline returns when Tick has something to do at the earliest; false when nothing is due ever.
func (c *Controller) Deadline() (time.Time, bool) {
	if !c.active {
		return time.Time{}, false
	}
	at, ok := c.beats.deadline()
	consider := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if c.cfg.LeaderImbalanceCheck > 0 {
		consider(c.nextBalance)
	}
	if c.cfg.UncleanElectionCheck > 0 {
		consider(c.nextUnclean)
	}
	return at, ok
}
