package image

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Delta folds records over an image. It is made for one owner and is used up by Apply; what it tells about changes stays
// readable afterwards. A failed Replay leaves the delta unusable.
type Delta struct {
	base *Image
	// cur holds every section but topics as it stands after the records so far.
	cur    Image
	topics *TopicsDelta

	fromSnapshot bool
	features     bool
	brokers      map[id.BrokerID]struct{}
	controllers  map[id.BrokerID]struct{}
	configs      map[ConfigResource]struct{}
	producerIDs  bool
	quotas       bool
	acls         bool
	scram        bool
	tokens       bool
}

// NewDelta returns an empty delta over base.
func NewDelta(base *Image) *Delta {
	d := &Delta{base: base, cur: *base}
	d.topics = newTopicsDelta(base.Topics)
	return d
}

// NewSnapshotDelta returns a delta for the records of a snapshot: the image that Apply makes holds only them, and what base
// had and the snapshot has not counts as deleted.
func NewSnapshotDelta(base *Image) *Delta {
	d := &Delta{base: base, cur: *EmptyKnowing(base.Configs.known), fromSnapshot: true}
	d.topics = newTopicsDelta(newTopics())
	return d
}

func inconsistent(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInconsistent}, args...)...)
}

// Base returns the image before the delta.
func (d *Delta) Base() *Image { return d.base }

// Topics returns what changed among the topics. After a snapshot it is complete only once Apply has run.
func (d *Delta) Topics() *TopicsDelta { return d.topics }

// FeaturesChanged reports whether a feature level was set.
func (d *Delta) FeaturesChanged() bool { return d.features }

// ChangedBrokers lists the brokers whose registration was added, changed or removed, ascending.
func (d *Delta) ChangedBrokers() []id.BrokerID { return sortedIDs(d.brokers) }

// ChangedControllers lists the controllers whose registration was added, changed or removed, ascending.
func (d *Delta) ChangedControllers() []id.BrokerID { return sortedIDs(d.controllers) }

// ChangedConfigs lists the resources whose configs were changed, in no order. A topic that is deleted is listed only when
// it had configs.
func (d *Delta) ChangedConfigs() []ConfigResource {
	out := make([]ConfigResource, 0, len(d.configs))
	for r := range d.configs {
		out = append(out, r)
	}
	return out
}

// ConfigChanged reports whether the configs of r were changed.
func (d *Delta) ConfigChanged(r ConfigResource) bool {
	_, ok := d.configs[r]
	return ok
}

// QuotasChanged and the other three say whether a carried section has changed.
func (d *Delta) QuotasChanged() bool { return d.quotas }

// ACLsChanged reports whether an access control entry was added or removed.
func (d *Delta) ACLsChanged() bool { return d.acls }

// ScramChanged reports whether a SCRAM credential was set or removed.
func (d *Delta) ScramChanged() bool { return d.scram }

// TokensChanged reports whether a delegation token was set or removed.
func (d *Delta) TokensChanged() bool { return d.tokens }

// ProducerIDsChanged reports whether a block of producer ids was allocated.
func (d *Delta) ProducerIDsChanged() bool { return d.producerIDs }

func sortedIDs(set map[id.BrokerID]struct{}) []id.BrokerID {
	out := make([]id.BrokerID, 0, len(set))
	for b := range set {
		out = append(out, b)
	}
	slices.Sort(out)
	return out
}

func mark[K comparable](set *map[K]struct{}, key K) {
	if *set == nil {
		*set = map[K]struct{}{}
	}
	(*set)[key] = struct{}{}
}

// Replay folds one record in. Transaction markers are for whoever reads the log; here they and the other records without
// content (NoOp, ZkMigrationState) change nothing.
func (d *Delta) Replay(record logrec.MetadataRecord) error {
	switch r := record.(type) {
	case *logrec.TopicRecord:
		return d.topics.create(r)
	case *logrec.PartitionRecord:
		return d.topics.partition(r)
	case *logrec.PartitionChangeRecord:
		return d.topics.partitionChange(r)
	case *logrec.ClearElrRecord:
		return d.topics.clearElr(r)
	case *logrec.RemoveTopicRecord:
		name, err := d.topics.remove(r)
		if err != nil {
			return err
		}
		if res := (ConfigResource{Type: ResourceTopic, Name: name}); d.cur.Configs.Of(res) != nil || d.ConfigChanged(res) {
			d.cur.Configs = d.cur.Configs.without(res)
			mark(&d.configs, res)
		}
	case *logrec.ConfigRecord:
		if !d.cur.Configs.knows(r) {
			return nil
		}
		d.cur.Configs = d.cur.Configs.with(r)
		mark(&d.configs, ConfigResource{Type: ResourceType(r.ResourceType), Name: r.ResourceName})
	case *logrec.FeatureLevelRecord:
		f, err := d.cur.Features.with(r)
		if err != nil {
			return err
		}
		d.cur.Features, d.features = f, true
	case *logrec.ProducerIDsRecord:
		d.cur.ProducerIDs.Next = id.ProducerID(r.NextProducerID)
		d.producerIDs = true
	case *logrec.NoOpRecord, *logrec.ZkMigrationStateRecord,
		*logrec.BeginTransactionRecord, *logrec.EndTransactionRecord, *logrec.AbortTransactionRecord:
	default:
		if handled, err := d.replayCluster(record); handled {
			return err
		}
		return d.replayCarried(record)
	}
	return nil
}

func (d *Delta) replayCluster(record logrec.MetadataRecord) (handled bool, err error) {
	yes, no := true, false
	switch r := record.(type) {
	case *logrec.RegisterBrokerRecord:
		b := brokerFromRecord(r)
		d.setBroker(b.ID, b)
	case *logrec.UnregisterBrokerRecord:
		d.setBroker(id.BrokerID(r.BrokerID), nil)
	case *logrec.FenceBrokerRecord:
		return true, d.changeBroker("fence", r.ID, r.Epoch, &yes, nil, nil, nil)
	case *logrec.UnfenceBrokerRecord:
		return true, d.changeBroker("unfence", r.ID, r.Epoch, &no, nil, nil, nil)
	case *logrec.BrokerRegistrationChangeRecord:
		var fenced, shutdown *bool
		switch r.Fenced {
		case 0:
		case 1:
			fenced = &yes
		case -1:
			fenced = &no
		default:
			return true, inconsistent("broker registration change with fenced = %d", r.Fenced)
		}
		switch r.InControlledShutdown {
		case 0:
		case 1:
			shutdown = &yes
		default:
			return true, inconsistent("broker registration change with inControlledShutdown = %d", r.InControlledShutdown)
		}
		return true, d.changeBroker("change", r.BrokerID, r.BrokerEpoch, fenced, shutdown, r.LogDirs, r.CordonedLogDirs)
	case *logrec.RegisterControllerRecord:
		c := controllerFromRecord(r)
		d.cur.Cluster = d.cur.Cluster.withController(c.ID, c)
		mark(&d.controllers, c.ID)
	case *logrec.UnregisterControllerRecord:
		d.cur.Cluster = d.cur.Cluster.withController(id.BrokerID(r.ControllerID), nil)
		mark(&d.controllers, id.BrokerID(r.ControllerID))
	default:
		return false, nil
	}
	return true, nil
}

func (d *Delta) setBroker(b id.BrokerID, reg *Broker) {
	d.cur.Cluster = d.cur.Cluster.withBroker(b, reg)
	mark(&d.brokers, b)
}

func (d *Delta) changeBroker(verb string, broker int32, epoch int64, fenced, shutdown *bool, dirs, cordoned []id.UUID) error {
	b := d.cur.Cluster.Broker(id.BrokerID(broker))
	if b == nil {
		return inconsistent("%s of broker %d, which is not registered", verb, broker)
	}
	if b.Epoch != id.BrokerEpoch(epoch) {
		return inconsistent("%s of broker %d at epoch %d, but its epoch is %d", verb, broker, epoch, b.Epoch)
	}
	d.setBroker(b.ID, b.changed(fenced, shutdown, dirs, cordoned))
	return nil
}

func (d *Delta) replayCarried(record logrec.MetadataRecord) error {
	switch r := record.(type) {
	case *logrec.AccessControlEntryRecord:
		d.cur.ACLs, d.acls = &ACLs{byID: d.cur.ACLs.byID.With(r.ID, r)}, true
	case *logrec.RemoveAccessControlEntryRecord:
		if _, ok := d.cur.ACLs.byID.Get(r.ID); !ok {
			return inconsistent("removal of ACL %v, which does not exist", r.ID)
		}
		d.cur.ACLs, d.acls = &ACLs{byID: d.cur.ACLs.byID.Without(r.ID)}, true
	case *logrec.UserScramCredentialRecord:
		own := *r // its bytes may belong to the batch that the record came in
		own.Salt, own.StoredKey, own.ServerKey = bytes.Clone(r.Salt), bytes.Clone(r.StoredKey), bytes.Clone(r.ServerKey)
		d.cur.Scram, d.scram = &Scram{byKey: d.cur.Scram.byKey.With(ScramKey{r.Name, r.Mechanism}, &own)}, true
	case *logrec.RemoveUserScramCredentialRecord:
		d.cur.Scram, d.scram = &Scram{byKey: d.cur.Scram.byKey.Without(ScramKey{r.Name, r.Mechanism})}, true
	case *logrec.DelegationTokenRecord:
		d.cur.Tokens, d.tokens = &Tokens{byID: d.cur.Tokens.byID.With(r.TokenID, r)}, true
	case *logrec.RemoveDelegationTokenRecord:
		d.cur.Tokens, d.tokens = &Tokens{byID: d.cur.Tokens.byID.Without(r.TokenID)}, true
	case *logrec.ClientQuotaRecord:
		d.cur.Quotas, d.quotas = d.cur.Quotas.with(r), true
	default:
		return inconsistent("unknown record type %d", record.RecordType())
	}
	return nil
}

// Apply returns the image after the delta, which ends at p.
func (d *Delta) Apply(p Provenance) *Image {
	if d.fromSnapshot {
		d.finishSnapshot()
	}
	n := d.cur
	n.Provenance = p
	if d.features {
		n.FeaturesAt = p.Offset
	}
	n.Topics = d.topics.apply()
	return &n
}

// finishSnapshot turns "what the snapshot holds" into "what differs from base".
func (d *Delta) finishSnapshot() {
	d.fromSnapshot = false
	d.topics.rebase(d.base.Topics)
	for _, b := range d.base.Cluster.BrokerIDs() {
		mark(&d.brokers, b)
	}
	for _, c := range d.base.Cluster.ControllerIDs() {
		mark(&d.controllers, c)
	}
	for r := range d.base.Configs.All() {
		mark(&d.configs, r)
	}
	d.features, d.producerIDs, d.quotas, d.acls, d.scram, d.tokens = true, true, true, true, true, true
}
