package quorum

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/core/raft"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// FormatOptions say how new directories are written, as the options of kafka-storage format do.
type FormatOptions struct {
	FS        vfs.FS
	ClusterID string
	NodeID    id.BrokerID
	// MetadataDir is the directory of the metadata log, one of Dirs.
	MetadataDir string
	Dirs        []string // log.dirs
	// Features are the levels the cluster starts with, metadata.version first; nil takes DefaultFeatures.
	Features []FeatureLevel
	// Extra are UserScramCredentialRecords and other records to start with, after the features.
	Extra []image.Record
	// Dynamic asks for a quorum whose voters are in the log (kraft.version 1). Voters are its first ones; none when the node
	// is to join later (--no-initial-controllers). The voter with NodeID gives MetadataDir its directory id.
	Dynamic bool
	Voters  []Voter
	// IgnoreFormatted leaves directories that have a meta.properties as they are.
	IgnoreFormatted bool
	Now             time.Time
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
	Unreadable  bool // its meta.properties cannot be read; it was left alone
	Metadata    bool // it holds the metadata log
}

// ErrAlreadyFormatted reports that a directory has a meta.properties and IgnoreFormatted was not set.
var ErrAlreadyFormatted = errors.New("already formatted")

// NewDirectoryID draws a directory id that Kafka accepts: random, without a '-', and none of the reserved ones.
func NewDirectoryID(rnd *rand.Rand) id.UUID {
	for {
		var raw [16]byte
		for i := range raw {
			raw[i] = byte(rnd.Uint32())
		}
		if u, ok := id.NewUUID(raw); ok {
			return u
		}
	}
}

// Format writes meta.properties into every directory and the bootstrap snapshot into the metadata directory. The snapshot is
// written first: a directory with a meta.properties is whole. Directories are created when they are missing.
func Format(o FormatOptions) ([]Formatted, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	out := make([]Formatted, len(o.Dirs))
	owners := map[id.UUID]string{}
	var formatted string // the first directory that has a meta.properties
	for i, dir := range o.Dirs {
		out[i] = Formatted{Dir: dir, Metadata: dir == o.MetadataDir}
		m, err := ReadMetaProperties(o.FS, dir)
		switch {
		case isNotFormatted(err):
			continue
		case err != nil:
			out[i].Unreadable = true
			continue
		}
		if err := o.checkExisting(dir, m, owners); err != nil {
			return nil, err
		}
		out[i].Already, out[i].DirectoryID = true, m.DirectoryID
		if formatted == "" {
			formatted = dir
		}
	}
	if formatted != "" && !o.IgnoreFormatted {
		return nil, fmt.Errorf("Log directory %s is %w. Use --ignore-formatted to ignore this directory and format the others.", formatted, ErrAlreadyFormatted)
	}
	if !slices.ContainsFunc(out, func(f Formatted) bool { return !f.Unreadable }) {
		return nil, errors.New("format: No available log directories to format.")
	}
	for i := range out {
		if out[i].Already || out[i].Unreadable {
			continue
		}
		if err := o.formatDir(&out[i]); err != nil {
			return nil, fmt.Errorf("format %s: %w", out[i].Dir, err)
		}
	}
	return out, nil
}

// checkExisting refuses a directory of another cluster or node, and one whose id another directory has.
func (o *FormatOptions) checkExisting(dir string, m MetaProperties, owners map[id.UUID]string) error {
	path := filepath.Join(dir, fileMeta)
	switch owner, taken := owners[m.DirectoryID]; {
	case m.ClusterID != o.ClusterID:
		return fmt.Errorf("format: Invalid cluster.id in: %s. Expected %s, but read %s", path, o.ClusterID, m.ClusterID)
	case m.NodeID != o.NodeID:
		return fmt.Errorf("format: Stored node id %d doesn't match previous node id %d in %s. If you moved your data, make sure your configured node id matches. If you intend to create a new node, you should remove all data in your data directories.",
			m.NodeID, o.NodeID, path)
	case m.DirectoryID.IsZero():
		return nil // written before directories had ids
	case image.ReservedDir(m.DirectoryID):
		return fmt.Errorf("format: Invalid reserved directory ID %s found in %s", m.DirectoryID, dir)
	case taken:
		return fmt.Errorf("format: Duplicate directory ID %s found. It was the ID of %s, but also of %s", m.DirectoryID, owner, dir)
	}
	owners[m.DirectoryID] = dir
	return nil
}

func (o *FormatOptions) check() error {
	switch {
	case o.NodeID < 0:
		return errors.New("format: You must specify a valid non-negative node ID.")
	case o.ClusterID == "":
		return errors.New("format: You must specify the cluster id.")
	case len(o.Dirs) == 0:
		return errors.New("format: You must specify at least one directory to format")
	case o.MetadataDir != "" && !slices.Contains(o.Dirs, o.MetadataDir):
		return fmt.Errorf("format: The specified metadata log directory, %s was not one of the given directories: [%s]", o.MetadataDir, strings.Join(o.Dirs, ", "))
	case len(o.Voters) > 0 && !o.Dynamic:
		return errors.New("format: voters can be written only for a dynamic quorum")
	}
	if o.Features == nil {
		o.Features = DefaultFeatures()
	}
	return nil
}

func (o *FormatOptions) formatDir(f *Formatted) error {
	f.DirectoryID = NewDirectoryID(o.Rand)
	if err := o.FS.MkdirAll(f.Dir, 0o755); err != nil {
		return err
	}
	if f.Metadata {
		for _, v := range o.Voters {
			if v.ID == o.NodeID {
				f.DirectoryID = v.DirectoryID
			}
		}
		if err := o.writeBootstrap(f.Dir); err != nil {
			return err
		}
	}
	m := MetaProperties{ClusterID: o.ClusterID, NodeID: o.NodeID, DirectoryID: f.DirectoryID}
	if err := m.write(o.FS, f.Dir, o.Now); err != nil {
		return err
	}
	return o.FS.SyncDir(filepath.Dir(f.Dir))
}

func (o *FormatOptions) writeBootstrap(dir string) error {
	m := raft.Membership{Offset: -1}
	if o.Dynamic {
		m.KRaftVersion = 1
		for _, v := range o.Voters {
			m.Voters = m.Voters.With(v.raft())
		}
	}
	ms := o.Now.UnixMilli()
	w, err := newSnapshotWriter(bootstrapID, ms, ms, m)
	if err != nil {
		return err
	}
	for _, l := range o.Features {
		r := image.Record{Message: &logrec.FeatureLevelRecord{Name: l.Name, FeatureLevel: l.Level}}
		if l.Level == 0 && l.Name != image.MetadataVersionFeature {
			continue // level 0 is how a feature is off; it has no record
		}
		if err := w.add(r); err != nil {
			return err
		}
	}
	for _, r := range o.Extra {
		if err := w.add(r); err != nil {
			return err
		}
	}
	b, err := w.finish()
	if err != nil {
		return err
	}
	logDir := filepath.Join(dir, logDirName)
	if err := o.FS.MkdirAll(logDir, 0o755); err != nil {
		return err
	}
	if err := writeSnapshot(o.FS, logDir, bootstrapID, b); err != nil {
		return err
	}
	return o.FS.SyncDir(dir)
}

// raft is the voter as the core knows it. This program runs kraft.version 0 and 1.
func (v Voter) raft() raft.Voter {
	out := raft.Voter{Replica: raft.Replica{ID: v.ID, DirectoryID: v.DirectoryID}, MinVersion: 0, MaxVersion: maxKRaftVersion}
	for _, e := range v.Endpoints {
		out.Endpoints = append(out.Endpoints, raft.Endpoint(e))
	}
	return out
}

// maxKRaftVersion is the highest kraft.version that this program runs.
const maxKRaftVersion = 1
