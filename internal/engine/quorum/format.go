package quorum

import (
	"math/rand/v2"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
)

// FormatOptions say how new directories are written, as the options of kafka-storage format do.
type FormatOptions struct {
	FS        vfs.FS
	ClusterID string
	NodeID    id.BrokerID
	// MetadataDir is the directory of the metadata log; it is one of Dirs, or a directory beside them.
	MetadataDir string
	Dirs        []string // log.dirs
	// Features are the levels the cluster starts with, metadata.version first; nil takes DefaultFeatures.
	Features []FeatureLevel
	// Scram are UserScramCredentialRecords and other records to start with, after the features.
	Extra []image.Record
	// Voters are the first voters of a dynamic quorum (kraft.version 1); nil for a static one, or for a node that will join.
	Voters []Voter
	// DirectoryID gives MetadataDir this id; zero draws one.
	DirectoryID id.UUID
	// IgnoreFormatted leaves directories that have a meta.properties as they are.
	IgnoreFormatted bool
	NowMs           int64
	Rand            *rand.Rand
}

// FeatureLevel is a feature's finalized level.
type FeatureLevel struct {
	Name  string
	Level int16
}

// DefaultFeatures returns the levels that 4.4 gives a new cluster, in the order it writes them.
func DefaultFeatures() []FeatureLevel {
	return []FeatureLevel{
		{"metadata.version", 33}, {"eligible.leader.replicas.version", 1}, {"group.version", 1},
		{"share.version", 2}, {"streams.version", 1}, {"transaction.version", 2},
	}
}

// Formatted says what Format did with one directory.
type Formatted struct {
	Dir         string
	DirectoryID id.UUID
	Already     bool // it was formatted before and left alone
	Metadata    bool // it holds the metadata log
}

// Format writes meta.properties into every directory and the bootstrap snapshot into the metadata directory.
func Format(o FormatOptions) ([]Formatted, error) { return nil, errSkeleton }
