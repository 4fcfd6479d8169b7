package node

import (
	"github.com/moldau-io/moldau/internal/base/metric"
	"github.com/moldau-io/moldau/internal/engine/log"
)

// logMetrics are those of every log of this node.
func (n *Node) logMetrics(emit metric.Emit, _ metric.EmitSummary) {
	for _, l := range n.logs.Logs() {
		tp := l.TopicPartition()
		labels := []string{"topic", tp.Topic, "partition", decimal(tp.Partition)}
		emit(metric.Name("log", "Log", "Size"), metric.Gauge, float64(l.SizeBytes()), labels...)
		emit(metric.Name("log", "Log", "LogEndOffset"), metric.Gauge, float64(l.EndOffset()), labels...)
		emit(metric.Name("log", "Log", "LogStartOffset"), metric.Gauge, float64(l.StartOffset()), labels...)
		emit(metric.Name("log", "Log", "NumLogSegments"), metric.Gauge, float64(l.Segments()), labels...)
		emit(metric.Name("log", "Log", "RetentionSizeInPercent"), metric.Gauge, float64(l.RetentionSizePercent()), labels...)
	}
}

func (n *Node) directoryMetrics(emit metric.Emit, _ metric.EmitSummary) {
	directoryFigures(emit, n.logs.Dirs())
}

func directoryFigures(emit metric.Emit, dirs []log.DirInfo) {
	for name, has := range map[string]func(*log.DirInfo) bool{
		"Offline":  func(d *log.DirInfo) bool { return d.Err != nil },
		"Cordoned": func(d *log.DirInfo) bool { return d.Cordoned },
	} {
		count := 0
		for i := range dirs {
			is := 0
			if has(&dirs[i]) {
				is = 1
			}
			count += is
			emit(metric.Name("log", "LogManager", "LogDirectory"+name), metric.Gauge, float64(is), "logDirectory", dirs[i].Path)
		}
		emit(metric.Name("log", "LogManager", name+"LogDirectoryCount"), metric.Gauge, float64(count))
	}
}

func (n *Node) cleanerMetrics(emit metric.Emit, _ metric.EmitSummary) {
	cleanerFigures(emit, n.logs.CleanerStats())
}

// cleanerFigures are Kafka's. A worker that ends in a panic outside of a log ends the node, too, so that DeadThreadCount is of those
// who look at once.
func cleanerFigures(emit metric.Emit, s log.CleanerStats) {
	gauge := func(group, name string, value float64, labels ...string) {
		emit(metric.Name("log", group, name), metric.Gauge, value, labels...)
	}
	for _, d := range s.Dirs {
		gauge("LogCleanerManager", "uncleanable-partitions-count", float64(d.UncleanablePartitions), "logDirectory", d.Path)
		gauge("LogCleanerManager", "uncleanable-bytes", float64(d.UncleanableBytes), "logDirectory", d.Path)
	}
	gauge("LogCleanerManager", "max-dirty-percent", float64(s.MaxDirtyPercent))
	gauge("LogCleanerManager", "time-since-last-run-ms", float64(s.SinceLastRun.Milliseconds()))
	gauge("LogCleaner", "max-buffer-utilization-percent", float64(s.MaxBufferUtilizationPercent))
	gauge("LogCleaner", "cleaner-recopy-percent", float64(s.RecopyPercent))
	gauge("LogCleaner", "max-clean-time-secs", float64(int(s.MaxCleanTime.Seconds())))
	gauge("LogCleaner", "max-compaction-delay-secs", float64(int(s.MaxCompactionDelay.Seconds())))
	gauge("LogCleaner", "DeadThreadCount", float64(s.DeadThreads))
}
