package controller

import (
	"fmt"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// registerBroker admits a broker (KIP-631). A new incarnation gets the offset of its first record as broker epoch and starts
// fenced; what the old one left behind is cleaned up in the same decision, the registration coming last, so that a cut between
// them is repaired by the next attempt. The same incarnation again amends its registration and keeps epoch and fencing.
func (c *Controller) registerBroker(env Env, r *api.BrokerRegistrationRequest) Decision {
	if r.ClusterID != c.cfg.ClusterID {
		return refuse(wire.ErrInconsistentClusterID, "Expected cluster ID "+c.cfg.ClusterID+", but got cluster ID "+r.ClusterID)
	}
	broker := id.BrokerID(r.BrokerID)
	existing := c.img.Cluster.Broker(broker)
	same := existing != nil && existing.IncarnationID == r.IncarnationID
	if existing != nil && !same && c.beats.valid(existing, env.Now) {
		return refuse(wire.ErrDuplicateBrokerRegistration, "Another broker is registered with that broker id. If the broker "+
			"was recently restarted this should self-resolve once the heartbeat manager expires the broker's session.")
	}
	if r.IsMigratingZkBroker {
		return refuse(wire.ErrBrokerIDNotRegistered, "Controller does not support registering ZK brokers.")
	}
	v := c.img.Features.MetadataVersion
	if e := c.checkDirectories(broker, r.LogDirs); e != nil {
		return Decision{Err: e}
	}
	if e := c.checkFeatures(env, r); e != nil {
		return Decision{Err: e}
	}
	rec := &logrec.RegisterBrokerRecord{
		BrokerID: r.BrokerID, IncarnationID: r.IncarnationID, Rack: r.Rack, BrokerEpoch: int64(env.NextOffset), Fenced: true,
		EndPoints: []logrec.RegisterBrokerRecordEndPoint{}, Features: []logrec.RegisterBrokerRecordFeature{}, LogDirs: []id.UUID{},
	}
	for _, l := range r.Listeners {
		if l.SecurityProtocol < 0 || l.SecurityProtocol > 3 {
			return refuse(wire.ErrUnknownServerError, fmt.Sprintf("Unknown security protocol %d in listener %s", l.SecurityProtocol, l.Name))
		}
		rec.EndPoints = append(rec.EndPoints, logrec.RegisterBrokerRecordEndPoint{
			Name: l.Name, Host: l.Host, Port: l.Port, SecurityProtocol: l.SecurityProtocol})
	}
	for _, f := range r.Features {
		rec.Features = append(rec.Features, logrec.RegisterBrokerRecordFeature{
			Name: f.Name, MinSupportedVersion: f.MinSupportedVersion, MaxSupportedVersion: f.MaxSupportedVersion})
	}
	if v.DirectoryAssignmentSupported() {
		rec.LogDirs = r.LogDirs
	}
	var records []image.Record
	if same {
		rec.Fenced, rec.InControlledShutdown, rec.BrokerEpoch = existing.Fenced, existing.InControlledShutdown, int64(existing.Epoch)
	} else {
		stored := int64(-2) // no previous registration never equals the request's default of -1
		if existing != nil {
			stored = int64(existing.Epoch)
		}
		clean := env.APIVersion >= 3 && stored == r.PreviousBrokerEpoch
		records = c.brokerShutdownRecords(broker, clean)
	}
	records = append(records, image.Record{Message: rec, Version: v.RegisterBrokerRecordVersion()})
	answer := api.NewBrokerRegistrationResponse()
	answer.BrokerEpoch = rec.BrokerEpoch
	return Decision{Records: records, Answer: answer}
}

func (c *Controller) checkDirectories(broker id.BrokerID, dirs []id.UUID) *Error {
	if !c.img.Features.MetadataVersion.DirectoryAssignmentSupported() {
		return nil
	}
	if len(dirs) == 0 {
		return errorf(wire.ErrInvalidRegistration, "No directories specified in request")
	}
	if slices.ContainsFunc(dirs, image.ReservedDir) {
		return errorf(wire.ErrInvalidRegistration, "Reserved directory ID in request")
	}
	sorted := slices.SortedFunc(slices.Values(dirs), id.UUID.Compare)
	if len(slices.Compact(sorted)) != len(dirs) {
		return errorf(wire.ErrInvalidRegistration, "Duplicate directory ID in request")
	}
	for _, other := range c.img.Cluster.BrokerIDs() {
		if other == broker {
			continue
		}
		for _, d := range c.img.Cluster.Broker(other).Directories {
			if slices.Contains(dirs, d) {
				return errorf(wire.ErrInvalidRegistration, fmt.Sprintf("Broker %d is already registered with directory %s", other, d))
			}
		}
	}
	return nil
}

// checkFeatures asks that the broker can run every finalized level, including that of features it does not mention.
func (c *Controller) checkFeatures(env Env, r *api.BrokerRegistrationRequest) *Error {
	unmentioned := c.img.Features.Names()
	mentioned := false
	for _, f := range r.Features {
		finalized := c.img.Features.Level(f.Name)
		if f.Name == image.KRaftVersionFeature {
			finalized = env.KRaftVersion
		}
		if e := checkFeature(f.Name, finalized, f.MinSupportedVersion, f.MaxSupportedVersion); e != nil {
			return e
		}
		mentioned = mentioned || f.Name == image.MetadataVersionFeature
		unmentioned = slices.DeleteFunc(unmentioned, func(n string) bool { return n == f.Name })
	}
	if !mentioned {
		return errorf(wire.ErrInvalidRegistration, "Request features do not contain '"+image.MetadataVersionFeature+"'")
	}
	for _, name := range unmentioned {
		if e := checkFeature(name, c.img.Features.Level(name), 0, 0); e != nil {
			return e
		}
	}
	return nil
}

func checkFeature(name string, finalized, low, high int16) *Error {
	if finalized >= low && finalized <= high {
		return nil
	}
	return errorf(wire.ErrUnsupportedVersion, fmt.Sprintf("Unable to register because the broker does not support finalized version %d "+
		"of %s. The broker wants a version between %d and %d, inclusive.", finalized, name, low, high))
}

func (c *Controller) checkBrokerEpoch(broker, epoch int64) *Error {
	b := c.img.Cluster.Broker(id.BrokerID(broker))
	if b == nil {
		return errorf(wire.ErrStaleBrokerEpoch, fmt.Sprintf("No broker registration found for broker id %d", broker))
	}
	if int64(b.Epoch) != epoch {
		return errorf(wire.ErrStaleBrokerEpoch, fmt.Sprintf("Expected broker epoch %d, but got broker epoch %d", b.Epoch, epoch))
	}
	return nil
}

// What a heartbeat asks for and gets.
type controlState int8

const (
	fenced controlState = iota
	unfenced
	controlledShutdown
	shutdownNow
)

// nextState decides between fencing, unfencing and shutting down, from what the broker wants and where it stands.
func (c *Controller) nextState(b *image.Broker, s *beat, r *api.BrokerHeartbeatRequest, registered id.Offset) (cur, next controlState) {
	switch {
	case s.shuttingDown(b):
		cur = controlledShutdown
	case !b.Fenced:
		cur = unfenced
	}
	switch cur {
	case fenced:
		switch {
		case r.WantShutDown:
			return cur, shutdownNow
		case !r.WantFence && id.Offset(r.CurrentMetadataOffset) >= registered:
			return cur, unfenced
		}
		return cur, fenced
	case unfenced:
		switch {
		case r.WantFence && r.WantShutDown:
			return cur, shutdownNow
		case r.WantFence:
			return cur, fenced
		case r.WantShutDown && c.hasLeaderships(b.ID):
			return cur, controlledShutdown
		case r.WantShutDown:
			return cur, shutdownNow
		}
		return cur, unfenced
	default:
		if !c.hasLeaderships(b.ID) && s.shutdownOffset <= c.beats.lowestActiveOffset(c.img.Cluster) {
			return cur, shutdownNow
		}
		return cur, controlledShutdown
	}
}

func (c *Controller) heartbeat(env Env, r *api.BrokerHeartbeatRequest) Decision {
	if e := c.checkBrokerEpoch(int64(r.BrokerID), r.BrokerEpoch); e != nil {
		return Decision{Err: e}
	}
	b := c.img.Cluster.Broker(id.BrokerID(r.BrokerID))
	registered, ok := c.registered.Get(b.ID)
	if !ok {
		return refuse(wire.ErrStaleBrokerEpoch, fmt.Sprintf("Receive a heartbeat from broker %d before registration", b.ID))
	}
	s := c.beats.of(b)
	s.contact, s.inherited = env.Now, false
	cur, next := c.nextState(b, s, r, registered)
	var records []image.Record
	if cur != next {
		switch next {
		case fenced, shutdownNow:
			records = c.fenceRecords(b)
		case unfenced:
			records = c.unfenceRecords(b)
		case controlledShutdown:
			records = c.controlledShutdownRecords(b)
		}
	}
	s.offset = id.Offset(r.CurrentMetadataOffset)
	isFenced := next == fenced || next == shutdownNow
	if isFenced {
		s.shutdownOffset = -1
	}
	v := c.img.Features.MetadataVersion
	if v.DirectoryAssignmentSupported() {
		records = append(records, c.offlineDirsAfter(env, b, r.OfflineLogDirs, records)...)
	}
	if v.CordonedLogDirsSupported() && r.CordonedLogDirs != nil && cordonChanged(b, r.CordonedLogDirs) {
		records = append(records, image.Record{Version: 3, Message: registrationChange(b, func(m *logrec.BrokerRegistrationChangeRecord) {
			m.CordonedLogDirs = append([]id.UUID{}, r.CordonedLogDirs...)
		})})
	}
	answer := api.NewBrokerHeartbeatResponse()
	answer.IsCaughtUp = id.Offset(r.CurrentMetadataOffset) >= registered
	answer.IsFenced = isFenced
	answer.ShouldShutDown = next == shutdownNow
	return Decision{Records: records, Answer: answer}
}

// noteShutdownOffset remembers, after a heartbeat that leaves its broker in controlled shutdown, the end of the batch that the
// other brokers must have read before it may go.
func (c *Controller) noteShutdownOffset(env Env, broker id.BrokerID, records int) {
	b := c.img.Cluster.Broker(broker)
	if b == nil || b.Fenced || !b.InControlledShutdown {
		return
	}
	if s := c.beats.of(b); s.shutdownOffset < 0 {
		s.shutdownOffset = env.NextOffset + id.Offset(records) - 1
	}
}

func cordonChanged(b *image.Broker, dirs []id.UUID) bool {
	if b.CordonedDirectories == nil {
		return true
	}
	sorted := func(s []id.UUID) []id.UUID {
		return slices.Compact(slices.SortedFunc(slices.Values(s), id.UUID.Compare))
	}
	return !slices.Equal(sorted(dirs), sorted(b.CordonedDirectories))
}

func registrationChange(b *image.Broker, set func(*logrec.BrokerRegistrationChangeRecord)) *logrec.BrokerRegistrationChangeRecord {
	m := &logrec.BrokerRegistrationChangeRecord{BrokerID: int32(b.ID), BrokerEpoch: int64(b.Epoch), LogDirs: []id.UUID{}}
	set(m)
	return m
}

func (c *Controller) fenceRecords(b *image.Broker) []image.Record {
	records := c.leaderAndISR(leaderChange{remove: b.ID, add: image.NoLeader, unclean: image.NoLeader}, inISR(b.ID))
	return append(records, image.Record{Message: registrationChange(b, func(m *logrec.BrokerRegistrationChangeRecord) { m.Fenced = 1 })})
}

func (c *Controller) unfenceRecords(b *image.Broker) []image.Record {
	records := []image.Record{{Message: registrationChange(b, func(m *logrec.BrokerRegistrationChangeRecord) { m.Fenced = -1 })}}
	return append(records, c.leaderAndISR(leaderChange{remove: image.NoLeader, add: b.ID, unclean: image.NoLeader}, leaderless)...)
}

func (c *Controller) controlledShutdownRecords(b *image.Broker) []image.Record {
	var records []image.Record
	if !b.InControlledShutdown {
		records = append(records, image.Record{Version: 1, Message: registrationChange(b, func(m *logrec.BrokerRegistrationChangeRecord) {
			m.InControlledShutdown = 1
		})})
	}
	return append(records, c.leaderAndISR(leaderChange{remove: b.ID, add: image.NoLeader, unclean: image.NoLeader}, inISR(b.ID))...)
}

// brokerShutdownRecords cleans up after an incarnation that is gone. Without a clean shutdown its data may have lost its tail,
// so that with ELR it leaves the ISR and the ELR of its partitions.
func (c *Controller) brokerShutdownRecords(broker id.BrokerID, clean bool) []image.Record {
	if c.img.Features.ElrEnabled() && !clean {
		ch := leaderChange{remove: image.NoLeader, add: image.NoLeader, unclean: broker}
		return append(c.leaderAndISR(ch, inISR(broker)), c.leaderAndISR(ch, inELR(broker))...)
	}
	return c.leaderAndISR(leaderChange{remove: broker, add: image.NoLeader, unclean: image.NoLeader}, inISR(broker))
}

func (c *Controller) unregisterBroker(r *api.UnregisterBrokerRequest) Decision {
	b := c.img.Cluster.Broker(id.BrokerID(r.BrokerID))
	if b == nil {
		return refuse(wire.ErrBrokerIDNotRegistered, fmt.Sprintf("Broker ID %d is not currently registered", r.BrokerID))
	}
	ch := leaderChange{remove: b.ID, add: image.NoLeader, unclean: image.NoLeader}
	records := append(c.leaderAndISR(ch, inISR(b.ID)), c.leaderAndISR(ch, inELR(b.ID))...)
	records = append(records, image.Record{Message: &logrec.UnregisterBrokerRecord{BrokerID: r.BrokerID, BrokerEpoch: int64(b.Epoch)}})
	if len(records) > MaxRecordsPerOp {
		return Decision{Err: errTooManyRecords()}
	}
	return Decision{Records: records, Answer: api.NewUnregisterBrokerResponse()}
}

// fenceStaleBroker fences the one broker whose session ended first; the next call sees the effects.
func (c *Controller) fenceStaleBroker(env Env) Decision {
	for {
		n, epoch, ok := c.beats.expired(env.Now)
		if !ok {
			return Decision{}
		}
		b := c.img.Cluster.Broker(n)
		if b == nil {
			delete(c.beats.brokers, n)
			continue
		}
		if b.Epoch != epoch || b.Fenced {
			continue
		}
		c.beats.of(b).shutdownOffset = -1
		return Decision{Records: c.fenceRecords(b)}
	}
}

func (c *Controller) registerController(r *api.ControllerRegistrationRequest) Decision {
	if !c.img.Features.MetadataVersion.ControllerRegistrationSupported() {
		return refuse(wire.ErrUnsupportedVersion, "The current MetadataVersion is too old to support controller registrations.")
	}
	rec := &logrec.RegisterControllerRecord{
		ControllerID: r.ControllerID, IncarnationID: r.IncarnationID,
		EndPoints: []logrec.RegisterControllerRecordEndPoint{}, Features: []logrec.RegisterControllerRecordFeature{},
	}
	for _, l := range r.Listeners {
		if l.SecurityProtocol < 0 || l.SecurityProtocol > 3 {
			return refuse(wire.ErrUnknownServerError, fmt.Sprintf("Unknown security protocol %d in listener %s", l.SecurityProtocol, l.Name))
		}
		rec.EndPoints = append(rec.EndPoints, logrec.RegisterControllerRecordEndPoint{
			Name: l.Name, Host: l.Host, Port: l.Port, SecurityProtocol: l.SecurityProtocol})
	}
	for _, f := range r.Features {
		rec.Features = append(rec.Features, logrec.RegisterControllerRecordFeature{
			Name: f.Name, MinSupportedVersion: f.MinSupportedVersion, MaxSupportedVersion: f.MaxSupportedVersion})
	}
	return Decision{Records: []image.Record{{Message: rec}}, Atomic: true, Answer: api.NewControllerRegistrationResponse()}
}

func (c *Controller) unregisterController(r *api.UnregisterControllerRequest) Decision {
	switch {
	case id.BrokerID(r.ControllerID) == c.cfg.NodeID:
		return refuse(wire.ErrInvalidRequest, "Controller cannot unregister itself while it is active.")
	case !c.img.Features.MetadataVersion.ControllerUnregistrationSupported():
		return refuse(wire.ErrUnsupportedVersion, "The current MetadataVersion is too old to support controller unregistration.")
	case c.img.Cluster.Controller(id.BrokerID(r.ControllerID)) == nil:
		return refuse(wire.ErrControllerIDNotRegistered, fmt.Sprintf("Controller ID %d is not currently registered.", r.ControllerID))
	}
	rec := &logrec.UnregisterControllerRecord{ControllerID: r.ControllerID}
	return Decision{Records: []image.Record{{Message: rec}}, Atomic: true, Answer: api.NewUnregisterControllerResponse()}
}
