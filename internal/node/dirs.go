package node

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/engine/log"
	"github.com/moldau-io/moldau/internal/engine/quorum"
	"github.com/moldau-io/moldau/internal/engine/replica"
)

var errUnformatted = errors.New("format the directory")

// formatted is what the directories say of themselves.
type formatted struct {
	clusterID   string
	metadataDir string
	directoryID id.UUID // of metadataDir
}

// openDirs checks or formats the directories, and opens every log in them.
func (n *Node) openDirs(context.Context) error {
	b := n.o.Config
	n.format.metadataDir = b.MetadataLogDir()
	all := b.LogDirs()
	if !slices.Contains(all, n.format.metadataDir) {
		all = append(slices.Clone(all), n.format.metadataDir)
	}
	if n.o.AutoFormat {
		if err := n.autoFormat(all); err != nil {
			return err
		}
	}
	for _, dir := range all {
		if err := n.checkDir(dir); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(b.LogDirs(), func(dir string) bool { return sameDir(dir, n.format.metadataDir) }) {
		lock, err := log.LockDir(n.fs, n.format.metadataDir) // the others are locked by the log manager
		if err != nil {
			return fmt.Errorf("open the metadata directory: %w", err)
		}
		n.metaLock = lock
	}
	defaults, err := conf.ResolveTopic(b, nil)
	if err != nil {
		return fmt.Errorf("topic defaults: %w", err)
	}
	n.logs, err = log.Open(log.Options{
		FS: n.fs, Dirs: b.LogDirs(), Logger: n.log.With("component", "log"), Fault: n.fail, Config: replica.FromConf(defaults).Log,
		ClusterID: n.format.clusterID, NodeID: n.nodeID, Deferred: true, // the first image tells which logs are whose
		RecoveryThreads:            int(b.Int("num.recovery.threads.per.data.dir")),
		RetentionCheckInterval:     b.Millis("log.retention.check.interval.ms"),
		FlushCheckInterval:         b.Millis("log.flush.scheduler.interval.ms"),
		RecoveryPointInterval:      b.Millis("log.flush.offset.checkpoint.interval.ms"),
		StartOffsetInterval:        b.Millis("log.flush.start.offset.checkpoint.interval.ms"),
		HighWatermarkInterval:      b.Millis("replica.high.watermark.checkpoint.interval.ms"),
		ProducerExpiration:         b.Millis("producer.id.expiration.ms"),
		ProducerExpirationInterval: b.Millis("producer.id.expiration.check.interval.ms"),
		InitialDelay:               max(b.Millis("log.initial.task.delay.ms"), 1), // 0 would take the default
		MaxTransactionTimeout:      b.Millis("transaction.max.timeout.ms"),
		Cleaner:                    cleanerConfig(b),
		ReserveBytes:               b.Long("moldau.log.dir.reserve.bytes"),
		MoveRateSamples:            int(b.Int("alter.log.dirs.replication.quota.window.num")),
		MoveRateSample:             time.Duration(b.Int("alter.log.dirs.replication.quota.window.size.seconds")) * time.Second,
	})
	if err != nil {
		return fmt.Errorf("open the log directories: %w", err)
	}
	return nil
}

// cleanerConfig is what the cleaner of the logs is told.
func cleanerConfig(b *conf.Broker) log.CleanerConfig {
	return log.CleanerConfig{
		Enable:              b.Bool("log.cleaner.enable"),
		Threads:             int(b.Int("log.cleaner.threads")),
		DedupeBufferBytes:   b.Long("log.cleaner.dedupe.buffer.size"),
		LoadFactor:          b.Double("log.cleaner.io.buffer.load.factor"),
		IOBufferBytes:       int(b.Int("log.cleaner.io.buffer.size")),
		MaxIOBytesPerSecond: b.Double("log.cleaner.io.max.bytes.per.second"),
		Backoff:             b.Millis("log.cleaner.backoff.ms"),
	}
}

// sameDir reports whether two paths name one directory, whatever the current one is.
func sameDir(a, b string) bool {
	x, errA := filepath.Abs(a)
	y, errB := filepath.Abs(b)
	return a == b || errA == nil && errB == nil && x == y
}

// checkDir reads a directory's meta.properties and refuses a directory that is not ours, in Kafka's words where it has some.
func (n *Node) checkDir(dir string) error {
	m, err := quorum.ReadMetaProperties(n.fs, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("No `meta.properties` found in %s (have you run `kafka-storage.sh` to %w?)", dir, errUnformatted)
	case err != nil:
		return fmt.Errorf("log directory %s: %w", dir, err)
	case m.NodeID == id.NoBroker:
		return fmt.Errorf("Error: node ID not found in %s", dir)
	case m.ClusterID == "":
		return fmt.Errorf("Error: cluster ID not found in %s", dir)
	case m.NodeID != n.nodeID:
		return fmt.Errorf("Stored node id %d doesn't match previous node id %d in %s/meta.properties. If you moved your data, make sure your "+
			"configured node id matches. If you intend to create a new node, you should remove all data in your data directories.", m.NodeID, n.nodeID, dir)
	case n.format.clusterID != "" && m.ClusterID != n.format.clusterID:
		return fmt.Errorf("Invalid cluster.id in: %s/meta.properties. Expected %s, but read %s", dir, n.format.clusterID, m.ClusterID)
	}
	n.format.clusterID = m.ClusterID
	if dir == n.format.metadataDir {
		n.format.directoryID = m.DirectoryID
	}
	return nil
}

// autoFormat formats the directories that are not, into the cluster of those that are, or into a new one.
func (n *Node) autoFormat(dirs []string) error {
	for _, dir := range dirs {
		if err := n.checkDir(dir); err != nil && !errors.Is(err, errUnformatted) {
			return err
		}
	}
	cluster := n.format.clusterID
	rng := rand.New(rand.NewPCG(seed(), seed()))
	if cluster == "" {
		cluster = quorum.NewDirectoryID(rng).String()
	}
	done, err := quorum.Format(quorum.FormatOptions{FS: n.fs, ClusterID: cluster, NodeID: n.nodeID, MetadataDir: n.format.metadataDir, Dirs: dirs,
		IgnoreFormatted: true, Now: time.Now(), Rand: rng})
	if err != nil {
		return err
	}
	for _, f := range done {
		if !f.Already {
			n.log.Info("formatted", "dir", f.Dir, "cluster_id", cluster, "metadata_version", image.LatestMetadataVersion.String())
		}
	}
	return nil
}

// seed returns a random number from the operating system.
func seed() uint64 {
	var b [8]byte
	_, _ = crand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

func hostname() string {
	if h, err := os.Hostname(); err == nil {
		return h
	}
	return "localhost"
}

func protocolNumber(name string) int16 {
	return int16(slices.Index([]string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}, name))
}
