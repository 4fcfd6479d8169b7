package quorum

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/raft"
)

// Names of files and directories, as Kafka has them.
const (
	metadataTopic  = "__cluster_metadata"
	logDirName     = metadataTopic + "-0"
	fileState      = "quorum-state"
	fileMeta       = "meta.properties"
	fileBootstrap  = "bootstrap.checkpoint"
	suffixSnapshot = ".checkpoint"
	suffixPart     = ".part"
	suffixDeleted  = ".deleted"
	suffixTmp      = ".tmp"
)

// bootstrapID is the snapshot that formatting leaves: voters and first records, and no offset of the log (KIP-1170).
var bootstrapID = raft.Position{}

// snapshotName is <end offset, 20 digits>-<epoch, 10 digits>.checkpoint; the end offset is exclusive.
func snapshotName(p raft.Position) string {
	return fmt.Sprintf("%020d-%010d%s", p.Offset, p.Epoch, suffixSnapshot)
}

// parseSnapshotName is the inverse. The rest is what follows .checkpoint. A snapshot that Apache Kafka is writing has one more number
// in its name, which java.nio draws: 00000000000000000399-0000000001-8471520341.checkpoint.part.
func parseSnapshotName(name string) (p raft.Position, rest string, ok bool) {
	stem, rest, ok := strings.Cut(name, suffixSnapshot)
	if rest == suffixPart && len(stem) > 31 && stem[31] == '-' {
		stem = stem[:31]
	}
	if !ok || len(stem) != 31 || stem[20] != '-' {
		return p, "", false
	}
	offset, err1 := strconv.ParseUint(stem[:20], 10, 63)
	epoch, err2 := strconv.ParseUint(stem[21:], 10, 31)
	if err1 != nil || err2 != nil {
		return p, "", false
	}
	return raft.Position{Offset: id.Offset(offset), Epoch: id.LeaderEpoch(epoch)}, rest, true
}

func (o *Options) logDir() string { return filepath.Join(o.Dir, logDirName) }
