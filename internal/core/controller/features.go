package controller

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Upgrade types of UpdateFeatures (KIP-778).
const (
	upgrade         = 1
	safeDowngrade   = 2
	unsafeDowngrade = 3
)

// LatestFeatures are the levels of a new cluster of this release, metadata.version included; kraft.version is a matter of the
// quorum.
func LatestFeatures() map[string]int16 {
	return map[string]int16{
		image.MetadataVersionFeature:    int16(image.LatestMetadataVersion),
		image.TransactionVersionFeature: 2,
		image.GroupVersionFeature:       1,
		image.ElrVersionFeature:         1,
		image.ShareVersionFeature:       2,
		image.StreamsVersionFeature:     1,
	}
}

// SupportedFeatures are the ranges that a node of this release can run, in order of name.
func SupportedFeatures() []image.VersionRange {
	out := []image.VersionRange{{Name: image.KRaftVersionFeature, Max: 1}}
	for name, level := range LatestFeatures() {
		low := int16(0)
		if name == image.MetadataVersionFeature {
			low = int16(image.MinMetadataVersion)
		}
		out = append(out, image.VersionRange{Name: name, Min: low, Max: level})
	}
	slices.SortFunc(out, func(a, b image.VersionRange) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// BootstrapRecords are the first records of a cluster with the given levels: metadata.version, then the others by name.
func BootstrapRecords(levels map[string]int16) []image.Record {
	out := []image.Record{{Message: &logrec.FeatureLevelRecord{
		Name: image.MetadataVersionFeature, FeatureLevel: levels[image.MetadataVersionFeature]}}}
	for _, name := range slices.Sorted(maps.Keys(levels)) {
		if name != image.MetadataVersionFeature && name != image.KRaftVersionFeature && levels[name] > 0 {
			out = append(out, image.Record{Message: &logrec.FeatureLevelRecord{Name: name, FeatureLevel: levels[name]}})
		}
	}
	return out
}

// SetBootstrap replaces the records of an empty log: formatting left others in the directory.
func (c *Controller) SetBootstrap(records []image.Record) { c.cfg.Bootstrap = records }

// activationRecords are what a new leader writes first.
func (c *Controller) activationRecords() (records []image.Record, atomic bool, err error) {
	found := c.img.Features.MetadataVersion
	if c.txnStart >= 0 { // what an open transaction holds does not count: perhaps it is the one of the bootstrap records
		found = c.txnBefore.img.Features.MetadataVersion
	}
	if v := found; v != 0 {
		if c.txnStart < 0 {
			return nil, true, nil
		}
		if !v.MetadataTransactionSupported() {
			return nil, false, fmt.Errorf("a transaction is open at offset %d, but metadata.version %v has none", c.txnStart, v)
		}
		reason := "Controller failover"
		return []image.Record{{Message: &logrec.AbortTransactionRecord{Reason: &reason}}}, true, nil
	}
	var version image.MetadataVersion
	elr := false
	for _, r := range c.cfg.Bootstrap {
		if f, ok := r.Message.(*logrec.FeatureLevelRecord); ok {
			switch f.Name {
			case image.MetadataVersionFeature:
				version = image.MetadataVersion(f.FeatureLevel)
			case image.ElrVersionFeature:
				elr = f.FeatureLevel > 0
			}
		}
	}
	if !version.Known() {
		return nil, false, fmt.Errorf("the log is empty and the bootstrap records set metadata.version %d, which is not between %d and %d",
			version, image.MinMetadataVersion, image.LatestMetadataVersion)
	}
	txn := version.MetadataTransactionSupported()
	if c.txnStart >= 0 {
		if !txn {
			return nil, false, fmt.Errorf("a transaction is open at offset %d, but metadata.version %v has none", c.txnStart, version)
		}
		reason := "Controller failover"
		records = append(records, image.Record{Message: &logrec.AbortTransactionRecord{Reason: &reason}})
	}
	if txn {
		name := "Bootstrap records"
		records = append(records, image.Record{Message: &logrec.BeginTransactionRecord{Name: &name}})
	}
	records = append(records, c.cfg.Bootstrap...)
	if elr {
		records = append(records, minISRRecord("", new(c.cfg.Schema.StaticTopic(minISRKey))))
	}
	if txn {
		records = append(records, image.Record{Message: &logrec.EndTransactionRecord{}})
	}
	return records, !txn, nil
}

func minISRRecord(broker string, value *string) image.Record {
	return image.Record{Message: &logrec.ConfigRecord{ResourceType: int8(image.ResourceBroker), ResourceName: broker, Name: minISRKey, Value: value}}
}

func (c *Controller) updateFeatures(env Env, r *api.UpdateFeaturesRequest) Decision {
	proposed := map[string]int16{}
	for _, name := range c.img.Features.Names() {
		proposed[name] = c.img.Features.Level(name)
	}
	updates := featureUpdates(r.FeatureUpdates)
	for _, u := range updates {
		proposed[u.Feature] = u.MaxVersionLevel
	}
	answer := api.NewUpdateFeaturesResponse()
	answer.ErrorMessage = nil
	var records []image.Record
	elr, kraft := false, int16(0)
	for i := range updates {
		u := &updates[i]
		rec, e := c.updateFeature(env, u, proposed)
		if e != nil {
			answer.ErrorCode = e.Code
			answer.ErrorMessage = new("The update failed for all features since the following feature had an error: " + e.Text)
			return Decision{Answer: answer}
		}
		records = append(records, rec...)
		elr = elr || u.Feature == image.ElrVersionFeature && u.MaxVersionLevel > 0
		if u.Feature == image.KRaftVersionFeature && u.MaxVersionLevel > env.KRaftVersion {
			kraft = u.MaxVersionLevel
		}
	}
	if env.APIVersion <= 1 {
		for _, u := range r.FeatureUpdates {
			answer.Results = append(answer.Results, api.UpdateFeaturesResponseResult{Feature: u.Feature, ErrorMessage: new(wire.ErrNone.Message())})
		}
	}
	if r.ValidateOnly {
		return Decision{Answer: answer}
	}
	if elr {
		records = append(c.elrSafetyRecords(), records...)
	}
	return Decision{Records: records, Atomic: true, KRaftVersion: kraft, Answer: answer}
}

// featureUpdates are the last update of each feature, in the order in which Kafka looks at them: which of several errors is told,
// and the order of the records, follow from it.
func featureUpdates(all []api.UpdateFeaturesRequestFeatureUpdate) []api.UpdateFeaturesRequestFeatureUpdate {
	var out []api.UpdateFeaturesRequestFeatureUpdate
	for _, u := range all {
		if i := slices.IndexFunc(out, func(o api.UpdateFeaturesRequestFeatureUpdate) bool { return o.Feature == u.Feature }); i >= 0 {
			out[i] = u
		} else {
			out = append(out, u)
		}
	}
	javaOrder(out, 16, func(u api.UpdateFeaturesRequestFeatureUpdate) string { return u.Feature })
	return out
}

// elrSafetyRecords: with ELR there is one min.insync.replicas for all brokers.
func (c *Controller) elrSafetyRecords() []image.Record {
	var out []image.Record
	if _, ok := c.img.Configs.Of(image.DefaultBroker)[minISRKey]; !ok {
		out = append(out, minISRRecord("", new(c.cfg.Schema.StaticTopic(minISRKey))))
	}
	var brokers []string
	for res, configs := range c.img.Configs.All() {
		if _, ok := configs[minISRKey]; ok && res.Type == image.ResourceBroker && res.Name != "" {
			brokers = append(brokers, res.Name)
		}
	}
	slices.Sort(brokers)
	for _, b := range brokers {
		out = append(out, minISRRecord(b, nil))
	}
	return out
}

func invalidUpdate(u *api.UpdateFeaturesRequestFeatureUpdate, why string) *Error {
	return errorf(wire.ErrInvalidUpdateVersion, fmt.Sprintf("Invalid update version %d for feature %s. %s", u.MaxVersionLevel, u.Feature, why))
}

func (c *Controller) updateFeature(env Env, u *api.UpdateFeaturesRequestFeatureUpdate, proposed map[string]int16) ([]image.Record, *Error) {
	if u.UpgradeType < upgrade || u.UpgradeType > unsafeDowngrade {
		return nil, invalidUpdate(u, "The controller does not support the given upgrade type.")
	}
	current := c.img.Features.Level(u.Feature)
	if u.Feature == image.KRaftVersionFeature {
		current = env.KRaftVersion
	}
	if u.MaxVersionLevel < 0 {
		return nil, invalidUpdate(u, "A feature version cannot be less than 0.")
	}
	if why := c.whyUnsupported(u.Feature, u.MaxVersionLevel); why != "" {
		return nil, invalidUpdate(u, why)
	}
	if u.MaxVersionLevel < current && u.UpgradeType == upgrade {
		return nil, invalidUpdate(u, "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade.")
	}
	if u.MaxVersionLevel > current && u.UpgradeType != upgrade {
		return nil, invalidUpdate(u, "Can't downgrade to a newer version.")
	}
	switch u.Feature {
	case image.MetadataVersionFeature:
		return c.updateMetadataVersion(u)
	case image.KRaftVersionFeature:
		switch {
		case u.UpgradeType != upgrade && u.MaxVersionLevel == current:
			return nil, nil
		case u.UpgradeType != upgrade:
			return nil, invalidUpdate(u, "Can't downgrade the version of this feature.")
		case u.MaxVersionLevel > current && env.CheckKRaft == nil:
			return nil, errorf(wire.ErrInvalidUpdateVersion, fmt.Sprintf("Invalid upgrade of %s from version %d to %d", u.Feature, current, u.MaxVersionLevel))
		case u.MaxVersionLevel > current:
			if e := configError(env.CheckKRaft(u.MaxVersionLevel)); e != nil {
				return nil, e
			}
		}
		return []image.Record{{Message: &logrec.NoOpRecord{}}}, nil // gives the caller an offset to wait for
	}
	if _, known := LatestFeatures()[u.Feature]; !known {
		return nil, invalidUpdate(u, "Feature "+u.Feature+" not found.")
	}
	if u.Feature == image.ElrVersionFeature && u.MaxVersionLevel >= 1 && image.MetadataVersion(proposed[image.MetadataVersionFeature]) < image.Version40IV1 {
		return nil, invalidUpdate(u, fmt.Sprintf("%s could not be set to %d because it depends on %s level %d", u.Feature, u.MaxVersionLevel,
			image.MetadataVersionFeature, image.Version40IV1))
	}
	return []image.Record{{Message: &logrec.FeatureLevelRecord{Name: u.Feature, FeatureLevel: u.MaxVersionLevel}}}, nil
}

func (c *Controller) updateMetadataVersion(u *api.UpdateFeaturesRequestFeatureUpdate) ([]image.Record, *Error) {
	now, next := c.img.Features.MetadataVersion, image.MetadataVersion(u.MaxVersionLevel)
	if !next.Known() {
		return nil, errorf(wire.ErrInvalidUpdateVersion, fmt.Sprintf("Invalid metadata.version %d. Valid versions are from %d to %d.",
			next, image.MinMetadataVersion, image.LatestMetadataVersion))
	}
	if next < now && image.ChangesMetadata(next, now) {
		why := "Refusing to perform the requested downgrade because it might delete metadata information."
		if u.UpgradeType == unsafeDowngrade {
			why = "Unsafe metadata downgrade is not supported in this version."
		}
		return nil, errorf(wire.ErrInvalidUpdateVersion, fmt.Sprintf("Unsupported metadata.version downgrade from %d to %d. %s", now, next, why))
	}
	return []image.Record{{Message: &logrec.FeatureLevelRecord{Name: image.MetadataVersionFeature, FeatureLevel: u.MaxVersionLevel}}}, nil
}

// whyUnsupported asks this node, every registered broker and every controller whether it can run a level.
func (c *Controller) whyUnsupported(feature string, level int16) string {
	refusal := func(who string, r image.VersionRange) string {
		switch {
		case level >= r.Min && level <= r.Max:
			return ""
		case r.Max == 0:
			return who + " does not support this feature."
		case r.Min == r.Max:
			return who + " only supports versions " + strconv.Itoa(int(r.Min))
		}
		return fmt.Sprintf("%s only supports versions %d-%d", who, r.Min, r.Max)
	}
	var local image.VersionRange
	for _, r := range c.cfg.SupportedFeatures {
		if r.Name == feature {
			local = r
		}
	}
	if why := refusal(fmt.Sprintf("Local controller %d", c.cfg.NodeID), local); why != "" {
		return why
	}
	for _, n := range c.img.Cluster.BrokerIDs() {
		r, _ := c.img.Cluster.Broker(n).Feature(feature)
		if why := refusal(fmt.Sprintf("Broker %d", n), r); why != "" {
			return why
		}
	}
	if !c.img.Features.MetadataVersion.ControllerRegistrationSupported() {
		return ""
	}
	found := []id.BrokerID{c.cfg.NodeID}
	for _, n := range c.img.Cluster.ControllerIDs() {
		if n == c.cfg.NodeID {
			continue
		}
		r, _ := c.img.Cluster.Controller(n).Feature(feature)
		if why := refusal(fmt.Sprintf("Controller %d", n), r); why != "" {
			return why
		}
		found = append(found, n)
	}
	for _, n := range c.cfg.QuorumNodes {
		if !slices.Contains(found, n) {
			return fmt.Sprintf("controller %d has not registered, and may not support this feature", n)
		}
	}
	return ""
}

// producerIDBlock is the number of producer ids in a block.
const producerIDBlock = 1000

func (c *Controller) allocateProducerIDs(r *api.AllocateProducerIDsRequest) Decision {
	if e := c.checkBrokerEpoch(int64(r.BrokerID), r.BrokerEpoch); e != nil {
		return Decision{Err: e}
	}
	first := max(int64(c.img.ProducerIDs.Next), 0)
	if first > math.MaxInt64-producerIDBlock {
		return refuse(wire.ErrUnknownServerError, "Exhausted all producerIds as the next block's end producerId has exceeded the int64 type limit")
	}
	answer := api.NewAllocateProducerIDsResponse()
	answer.ProducerIDStart, answer.ProducerIDLen = first, producerIDBlock
	rec := &logrec.ProducerIDsRecord{BrokerID: r.BrokerID, BrokerEpoch: r.BrokerEpoch, NextProducerID: first + producerIDBlock}
	return Decision{Records: []image.Record{{Message: rec}}, Answer: answer}
}
