package log

import (
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
)

// Suffixes of files and directories, as Kafka has them.
const (
	suffixLog      = ".log"
	suffixIndex    = ".index"
	suffixTime     = ".timeindex"
	suffixTxn      = ".txnindex"
	suffixSnapshot = ".snapshot"
	suffixDeleted  = ".deleted"
	suffixCleaned  = ".cleaned"
	suffixSwap     = ".swap"

	suffixDirDelete = "-delete"
	suffixDirFuture = "-future"
	suffixDirStray  = "-stray"
)

// Files of a log directory and of a partition directory.
const (
	fileLock             = ".lock"
	fileMetaProperties   = "meta.properties"
	fileCleanShutdown    = ".kafka_cleanshutdown"
	fileRecoveryPoint    = "recovery-point-offset-checkpoint"
	fileStartOffset      = "log-start-offset-checkpoint"
	fileHighWatermark    = "replication-offset-checkpoint"
	fileCleanerOffset    = "cleaner-offset-checkpoint"
	fileEpochs           = "leader-epoch-checkpoint"
	filePartitionMeta    = "partition.metadata"
	dirRemoteIndexCache  = "remote-log-index-cache"
	metadataTopic        = "__cluster_metadata"
	maxDirNameBytes      = 255
	offsetDigits         = 20
	snapshotDeleteSuffix = ".checkpoint.deleted" // of metadata snapshots, which have their own owner
)

// segmentName is the file name of a segment's file: the base offset in 20 digits and the suffix.
func segmentName(base id.Offset, suffix string) string {
	var b [offsetDigits + 24]byte
	s := strconv.AppendInt(b[:0], int64(base), 10)
	pad := max(0, offsetDigits-len(s))
	var out [offsetDigits + 24]byte
	for i := range pad {
		out[i] = '0'
	}
	n := pad + copy(out[pad:], s)
	n += copy(out[n:], suffix)
	return string(out[:n])
}

// parseSegmentName takes a name apart at its first dot. ok is false when what precedes it is not an offset.
func parseSegmentName(name string) (base id.Offset, suffix string, ok bool) {
	dot := strings.IndexByte(name, '.')
	if dot != offsetDigits {
		return 0, "", false
	}
	n, err := strconv.ParseUint(name[:dot], 10, 63)
	if err != nil {
		return 0, "", false
	}
	return id.Offset(n), name[dot:], true
}

// dirKind says what a partition directory is for, by its suffix.
type dirKind int8

const (
	dirCurrent dirKind = iota
	dirDelete
	dirFuture
	dirStray
)

// parseDirName reads "topic-partition" or "topic-partition.uniqueId-delete" (or -future, -stray).
func parseDirName(name string) (tp id.TopicPartition, kind dirKind, ok bool) {
	for k, suffix := range map[dirKind]string{dirDelete: suffixDirDelete, dirFuture: suffixDirFuture, dirStray: suffixDirStray} {
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		// A topic may itself end in "-delete" only with a partition number behind it, so the suffix is decisive.
		unique := strings.TrimSuffix(name, suffix)
		dot := strings.LastIndexByte(unique, '.')
		if dot < 0 || !isHex(unique[dot+1:]) {
			return tp, 0, false
		}
		name, kind = unique[:dot], k
		break
	}
	dash := strings.LastIndexByte(name, '-')
	if dash <= 0 || dash == len(name)-1 {
		return tp, 0, false
	}
	p, err := strconv.ParseUint(name[dash+1:], 10, 31)
	if err != nil {
		return tp, 0, false
	}
	return id.TopicPartition{Topic: name[:dash], Partition: int32(p)}, kind, true
}

func isHex(s string) bool {
	if len(s) != 32 {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

// movedDirName is the name a partition's directory gets when it goes out of service: suffix says whether it waits to be removed
// or is kept as a stray. The topic is cut if the name would be
// too long for a file system.
func movedDirName(tp id.TopicPartition, suffix string) string {
	var unique [16]byte
	rand.Read(unique[:])
	tail := "-" + strconv.Itoa(int(tp.Partition)) + "." + hex.EncodeToString(unique[:]) + suffix
	return tp.Topic[:min(len(tp.Topic), maxDirNameBytes-len(tail))] + tail
}
