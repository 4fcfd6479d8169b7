package image

import (
	"maps"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Endpoint is one listener of a broker or controller, as it is advertised.
type Endpoint struct {
	Name             string // listener name
	Host             string
	Port             uint16
	SecurityProtocol int16 // 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL
}

// VersionRange is the inclusive range of levels of a feature that a node supports.
type VersionRange struct {
	Name     string
	Min, Max int16
}

// Broker is one registered broker.
type Broker struct {
	ID            id.BrokerID
	Epoch         id.BrokerEpoch
	IncarnationID id.UUID
	Endpoints     []Endpoint     // in the order of the registration
	Features      []VersionRange // in order of name
	Rack          *string
	Fenced        bool
	InControlledShutdown,
	IsMigratingZkBroker bool
	// Directories are the broker's online log directories.
	Directories []id.UUID
	// CordonedDirectories take no new replicas; nil while the broker has not said.
	CordonedDirectories []id.UUID
}

// Endpoint returns the listener called name.
func (b *Broker) Endpoint(name string) (Endpoint, bool) { return endpoint(b.Endpoints, name) }

// Active reports whether the broker may lead and be in sync: neither fenced nor shutting down.
func (b *Broker) Active() bool { return !b.Fenced && !b.InControlledShutdown }

// Feature returns the range of a feature that the broker supports.
func (b *Broker) Feature(name string) (VersionRange, bool) { return versionRange(b.Features, name) }

// HasOnlineDir reports whether a replica in dir is on an online directory of the broker. The two reserved ids that mean
// "not known yet" count as online; so does every real directory when the broker registered none (KIP-858, KAFKA-16162).
func (b *Broker) HasOnlineDir(dir id.UUID) bool {
	switch dir {
	case DirUnassigned, DirMigrating:
		return true
	case DirLost:
		return false
	}
	return len(b.Directories) == 0 || slices.Contains(b.Directories, dir)
}

// HasUncordonedDirs reports whether the broker can take new replicas.
func (b *Broker) HasUncordonedDirs() bool {
	if len(b.Directories) == 0 || b.CordonedDirectories == nil {
		return true
	}
	return slices.ContainsFunc(b.Directories, func(d id.UUID) bool { return !slices.Contains(b.CordonedDirectories, d) })
}

// Controller is one registered controller (KIP-919).
type Controller struct {
	ID               id.BrokerID
	IncarnationID    id.UUID
	ZkMigrationReady bool
	Endpoints        []Endpoint
	Features         []VersionRange
}

// Endpoint returns the listener called name.
func (c *Controller) Endpoint(name string) (Endpoint, bool) { return endpoint(c.Endpoints, name) }

// Feature returns the range of a feature that the controller supports.
func (c *Controller) Feature(name string) (VersionRange, bool) { return versionRange(c.Features, name) }

func endpoint(all []Endpoint, name string) (Endpoint, bool) {
	for _, e := range all {
		if e.Name == name {
			return e, true
		}
	}
	return Endpoint{}, false
}

func versionRange(all []VersionRange, name string) (VersionRange, bool) {
	for _, r := range all {
		if r.Name == name {
			return r, true
		}
	}
	return VersionRange{}, false
}

// Cluster is who takes part: brokers and controllers.
type Cluster struct {
	brokers     map[id.BrokerID]*Broker
	controllers map[id.BrokerID]*Controller
	brokerIDs   []id.BrokerID // keys of brokers, ascending
}

// Broker returns a registered broker, or nil.
func (c *Cluster) Broker(b id.BrokerID) *Broker { return c.brokers[b] }

// BrokerIDs returns the ids of the registered brokers, ascending; shared, not to be changed.
func (c *Cluster) BrokerIDs() []id.BrokerID { return c.brokerIDs }

// Controller returns a registered controller, or nil.
func (c *Cluster) Controller(n id.BrokerID) *Controller { return c.controllers[n] }

// ControllerIDs returns the ids of the registered controllers, ascending.
func (c *Cluster) ControllerIDs() []id.BrokerID { return slices.Sorted(maps.Keys(c.controllers)) }

func (c *Cluster) withBroker(brokerID id.BrokerID, b *Broker) *Cluster {
	n := &Cluster{brokers: maps.Clone(c.brokers), controllers: c.controllers}
	if n.brokers == nil {
		n.brokers = map[id.BrokerID]*Broker{}
	}
	if b == nil {
		delete(n.brokers, brokerID)
	} else {
		n.brokers[brokerID] = b
	}
	n.brokerIDs = slices.Sorted(maps.Keys(n.brokers))
	return n
}

func (c *Cluster) withController(controllerID id.BrokerID, k *Controller) *Cluster {
	n := &Cluster{brokers: c.brokers, brokerIDs: c.brokerIDs, controllers: maps.Clone(c.controllers)}
	if n.controllers == nil {
		n.controllers = map[id.BrokerID]*Controller{}
	}
	if k == nil {
		delete(n.controllers, controllerID)
	} else {
		n.controllers[controllerID] = k
	}
	return n
}

func brokerFromRecord(r *logrec.RegisterBrokerRecord) *Broker {
	b := &Broker{
		ID: id.BrokerID(r.BrokerID), Epoch: id.BrokerEpoch(r.BrokerEpoch), IncarnationID: r.IncarnationID, Rack: r.Rack,
		Fenced: r.Fenced, InControlledShutdown: r.InControlledShutdown, IsMigratingZkBroker: r.IsMigratingZkBroker,
		Directories: slices.Clone(r.LogDirs), CordonedDirectories: slices.Clone(r.CordonedLogDirs),
	}
	for _, e := range r.EndPoints {
		b.Endpoints = append(b.Endpoints, Endpoint{Name: e.Name, Host: e.Host, Port: e.Port, SecurityProtocol: e.SecurityProtocol})
	}
	for _, f := range r.Features {
		b.Features = append(b.Features, VersionRange{Name: f.Name, Min: f.MinSupportedVersion, Max: f.MaxSupportedVersion})
	}
	b.Features = sortFeatures(b.Features)
	return b
}

func controllerFromRecord(r *logrec.RegisterControllerRecord) *Controller {
	c := &Controller{ID: id.BrokerID(r.ControllerID), IncarnationID: r.IncarnationID, ZkMigrationReady: r.ZkMigrationReady}
	for _, e := range r.EndPoints {
		c.Endpoints = append(c.Endpoints, Endpoint{Name: e.Name, Host: e.Host, Port: e.Port, SecurityProtocol: e.SecurityProtocol})
	}
	for _, f := range r.Features {
		c.Features = append(c.Features, VersionRange{Name: f.Name, Min: f.MinSupportedVersion, Max: f.MaxSupportedVersion})
	}
	c.Features = sortFeatures(c.Features)
	return c
}

func sortFeatures(f []VersionRange) []VersionRange {
	slices.SortStableFunc(f, func(a, b VersionRange) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return f
}

// changed returns the broker after a registration change; nil arguments mean no change.
func (b *Broker) changed(fenced, shutdown *bool, dirs, cordoned []id.UUID) *Broker {
	n := *b
	if fenced != nil {
		n.Fenced = *fenced
	}
	if shutdown != nil {
		n.InControlledShutdown = *shutdown
	}
	if len(dirs) > 0 {
		n.Directories = slices.Clone(dirs)
	}
	if cordoned != nil {
		n.CordonedDirectories = append([]id.UUID{}, cordoned...)
	}
	return &n
}

func (b *Broker) record(v MetadataVersion) Record {
	r := &logrec.RegisterBrokerRecord{
		BrokerID: int32(b.ID), BrokerEpoch: int64(b.Epoch), IncarnationID: b.IncarnationID, Rack: b.Rack,
		Fenced: b.Fenced, InControlledShutdown: b.InControlledShutdown,
		EndPoints: []logrec.RegisterBrokerRecordEndPoint{}, Features: []logrec.RegisterBrokerRecordFeature{},
		LogDirs: []id.UUID{},
	}
	if v >= Version34IV0 {
		r.IsMigratingZkBroker = b.IsMigratingZkBroker
	}
	if v.DirectoryAssignmentSupported() {
		r.LogDirs = append(r.LogDirs, b.Directories...)
	}
	if v.CordonedLogDirsSupported() {
		r.CordonedLogDirs = b.CordonedDirectories
	}
	for _, e := range b.Endpoints {
		r.EndPoints = append(r.EndPoints, logrec.RegisterBrokerRecordEndPoint{Name: e.Name, Host: e.Host, Port: e.Port, SecurityProtocol: e.SecurityProtocol})
	}
	for _, f := range b.Features {
		r.Features = append(r.Features, logrec.RegisterBrokerRecordFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	return Record{Message: r, Version: v.RegisterBrokerRecordVersion()}
}

func (c *Controller) record() Record {
	r := &logrec.RegisterControllerRecord{
		ControllerID: int32(c.ID), IncarnationID: c.IncarnationID, ZkMigrationReady: c.ZkMigrationReady,
		EndPoints: []logrec.RegisterControllerRecordEndPoint{}, Features: []logrec.RegisterControllerRecordFeature{},
	}
	for _, e := range c.Endpoints {
		r.EndPoints = append(r.EndPoints, logrec.RegisterControllerRecordEndPoint{Name: e.Name, Host: e.Host, Port: e.Port, SecurityProtocol: e.SecurityProtocol})
	}
	for _, f := range c.Features {
		r.Features = append(r.Features, logrec.RegisterControllerRecordFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	return Record{Message: r}
}

func (c *Cluster) records(v MetadataVersion, emit func(Record) bool) bool {
	for _, b := range c.brokerIDs {
		if !emit(c.brokers[b].record(v)) {
			return false
		}
	}
	if v.ControllerRegistrationSupported() {
		for _, k := range c.ControllerIDs() {
			if !emit(c.controllers[k].record()) {
				return false
			}
		}
	}
	return true
}
