package log

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/record"
)

// dumpLog runs Apache Kafka's dump-log, or skips the test.
func dumpLog(t *testing.T, args ...string) string {
	t.Helper()
	tool, err := filepath.Abs("../../../../shared/oracle/kafka")
	if err != nil || !vfs.Exists(vfs.OS(), tool) {
		t.Skip("no Apache Kafka beside the project to read our files with")
	}
	if _, err := exec.LookPath("java"); err != nil {
		t.Skip("no Java")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, tool, append([]string{"dump-log"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("dump-log: %v\n%s", err, out)
	}
	return string(out)
}

// Apache Kafka reads every kind of file of ours without a complaint.
func TestKafkaReadsOurFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a JVM")
	}
	dir := filepath.Join(t.TempDir(), "t-0")
	c := testConfig()
	c.SegmentBytes, c.IndexIntervalBytes = 40000, 1000
	l := openTest(t, vfs.OS(), c, func(o *LogOptions) { o.Dir = dir })
	seq := int32(0)
	for i := range 100 {
		mustAppend(t, l, batchSpec{records: 4, size: 200, ts: epochMs + int64(i)*1000, idem: true, pid: 77, seq: seq, leader: id.LeaderEpoch(i / 40)})
		seq += 4
	}
	appendTxn(t, l, 5, 0, 3, record.ControlAbort)
	appendTxn(t, l, 6, 0, 3, record.ControlCommit)
	l.AdvanceHighWatermark(l.EndOffset())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// And what a segment was split into whose offsets were too far apart.
	split := filepath.Join(t.TempDir(), "u-0")
	layOutIn(t, vfs.OS(), split, overflowed(t))
	l2 := openTest(t, vfs.OS(), compactedConfig(), func(o *LogOptions) { quiet(o); o.Dir, o.CleanShutdown, o.RecoveryPoint = split, false, id.NoOffset })
	if l2.Segments() != 4 {
		t.Fatalf("%d segments", l2.Segments())
	}
	if err := l2.Close(); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"*.log", "*.index", "*.timeindex", "*.snapshot", "*.txnindex"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern))
		more, _ := filepath.Glob(filepath.Join(split, pattern))
		if len(found) == 0 || len(more) == 0 && pattern != "*.txnindex" {
			t.Fatalf("no %s", pattern)
		}
		files = append(append(files, found...), more...)
	}
	out := dumpLog(t, "--deep-iteration", "--print-data-log", "--files", strings.Join(files, ","))
	for _, bad := range []string{"Mismatch", "mismatch", "isvalid: false", "Found timestamp", "Exception", "corrupt", "out of order", "Could not", "fatal"} {
		if strings.Contains(out, bad) {
			t.Errorf("dump-log says %q:\n%s", bad, excerpt(out, bad))
		}
	}
	if n := len(regexp.MustCompile(`(?m)^\| offset: `).FindAllString(out, -1)); n != int(l.EndOffset())+16 {
		t.Errorf("dump-log printed %d records of %d", n, l.EndOffset()+16)
	}
	for _, want := range []string{"producerId: 77", "endTxnMarker: ABORT", "endTxnMarker: COMMIT", "version: 0 producerId: 5 firstOffset: 400 lastOffset: 403 lastStableOffset: 404"} {
		if !strings.Contains(out, want) {
			t.Errorf("dump-log does not show %q; the end of what it does:\n%s", want, out[max(0, len(out)-3000):])
		}
	}
	out = dumpLog(t, "--index-sanity-check", "--files", strings.Join(files, ","))
	if strings.Contains(out, "Exception") || strings.Count(out, "passed sanity check") < 2 {
		t.Errorf("sanity check:\n%s", out)
	}
}

func excerpt(out, at string) string {
	i := strings.Index(out, at)
	return out[max(0, i-500):min(len(out), i+500)]
}
