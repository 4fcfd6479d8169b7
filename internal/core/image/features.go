package image

import (
	"maps"
	"slices"

	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// Names of the features of 4.4 beside metadata.version.
const (
	KRaftVersionFeature       = "kraft.version"
	TransactionVersionFeature = "transaction.version"
	GroupVersionFeature       = "group.version"
	ElrVersionFeature         = "eligible.leader.replicas.version"
	ShareVersionFeature       = "share.version"
	StreamsVersionFeature     = "streams.version"
)

// Features are the finalized levels of the cluster (KIP-584). kraft.version is not among them: it lives in control records.
type Features struct {
	// MetadataVersion is the level of metadata.version; 0 before the first FeatureLevelRecord.
	MetadataVersion MetadataVersion
	levels          map[string]int16 // the other features with a level > 0
}

// Level returns the finalized level of a feature, metadata.version included; 0 when it is off.
func (f *Features) Level(name string) int16 {
	if name == MetadataVersionFeature {
		return int16(f.MetadataVersion)
	}
	return f.levels[name]
}

// Names returns the features with a level > 0 in order of name, metadata.version included.
func (f *Features) Names() []string {
	names := slices.Collect(maps.Keys(f.levels))
	if f.MetadataVersion != 0 {
		names = append(names, MetadataVersionFeature)
	}
	slices.Sort(names)
	return names
}

// ElrEnabled reports whether eligible leader replicas (KIP-966) are kept.
func (f *Features) ElrEnabled() bool { return f.levels[ElrVersionFeature] >= 1 }

func (f *Features) with(r *logrec.FeatureLevelRecord) (*Features, error) {
	n := &Features{MetadataVersion: f.MetadataVersion, levels: f.levels}
	switch {
	case r.Name == MetadataVersionFeature:
		v := MetadataVersion(r.FeatureLevel)
		if !v.Known() {
			return nil, inconsistent("metadata.version %d is not between %d and %d", r.FeatureLevel, MinMetadataVersion, LatestMetadataVersion)
		}
		n.MetadataVersion = v
	case r.Name == KRaftVersionFeature:
		return f, nil // KAFKA-18979: written by mistake to old logs, and to be forgotten
	default:
		n.levels = maps.Clone(f.levels)
		if n.levels == nil {
			n.levels = map[string]int16{}
		}
		if r.FeatureLevel == 0 {
			delete(n.levels, r.Name)
		} else {
			n.levels[r.Name] = r.FeatureLevel
		}
	}
	return n, nil
}

func (f *Features) records(version MetadataVersion) []Record {
	out := []Record{{Message: &logrec.FeatureLevelRecord{Name: MetadataVersionFeature, FeatureLevel: int16(version)}}}
	for _, name := range f.Names() {
		if name != MetadataVersionFeature {
			out = append(out, Record{Message: &logrec.FeatureLevelRecord{Name: name, FeatureLevel: f.levels[name]}})
		}
	}
	return out
}
