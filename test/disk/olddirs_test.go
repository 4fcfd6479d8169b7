package disk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// snapshotOften makes both products write a metadata snapshot every few records.
const snapshotOften = "metadata.log.max.record.bytes.between.snapshots=4000"

// withACLs lets Apache Kafka keep ACLs and obey everybody.
func withACLs() []string {
	return []string{"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users=User:ANONYMOUS"}
}

// TestOldDirectories: directories at the feature levels of older releases, filled by Apache Kafka, changed and upgraded by Moldau,
// opened by Apache Kafka again.
func TestOldDirectories(t *testing.T) {
	cases := []struct {
		release string
		level   int16
		dynamic bool
	}{{"3.9", 21, false}, {"4.0", 25, true}, {"4.3", 30, false}, {"4.4", 33, true}}
	for _, c := range cases {
		both := []bool{c.dynamic}
		if *rounds > 3 {
			both = []bool{false, true}
		}
		for _, dynamic := range both {
			kind := "static"
			if dynamic {
				kind = "dynamic"
			}
			t.Run(c.release+" "+kind, func(t *testing.T) { setup(t).oldDirectory(c.release, c.level, dynamic) })
		}
	}
}

func (b *bench) oldDirectory(release string, level int16, dynamic bool) {
	p := b.place(dynamic, snapshotOften)
	b.must(p.format(release), "format")
	m := &model{facts: facts{}}
	w := &writer{m: m, rnd: b.rnd, tag: "k0"}
	defer w.across.close()

	b.reopen(p, w, kafka, withACLs()...)
	b.must(w.create(b.ctx), "create")
	b.must(w.change(b.ctx), "change by Kafka")
	b.learn(w.node, m, "read from Kafka")
	if got := m.facts["feature/metadata.version"]; got != fmt.Sprint(level) {
		b.Fatalf("Kafka runs at metadata.version %s, want %d", got, level)
	}
	b.leave(p, w.node, m)

	w.tag = "m1"
	b.reopen(p, w, moldau)
	b.compare(w.node, m, "opened by Moldau", nil)
	b.must(w.change(b.ctx), "change by Moldau")
	b.learn(w.node, m, "read from Moldau")
	if got := m.facts["feature/metadata.version"]; got != fmt.Sprint(level) {
		b.Fatalf("Moldau runs at metadata.version %s, want %d", got, level)
	}
	b.leave(p, w.node, m)
	b.recordVersions(level, b.inspect(p))
	b.shell(p, level, m)

	w.tag = "m2"
	b.reopen(p, w, moldau)
	b.compare(w.node, m, "opened by Moldau again", nil)
	b.upgrade(p)
	m.forget("feature/", "config/brokers/", "config/broker/") // ELR makes min.insync.replicas one value for all
	b.must(w.change(b.ctx), "change by Moldau after the upgrade")
	b.learn(w.node, m, "read from Moldau after the upgrade")
	if got := m.facts["feature/metadata.version"]; got != "33" {
		b.Errorf("after the upgrade metadata.version is %s", got)
	}
	b.leave(p, w.node, m)
	b.snapshotsWritten(p)

	w.tag = "k3"
	b.reopen(p, w, kafka, withACLs()...)
	b.compare(w.node, m, "opened by Kafka again", nil)
	b.must(w.change(b.ctx), "change by Kafka at the end")
	b.learn(w.node, m, "read from Kafka at the end")
	b.leave(p, w.node, m)
	b.inspect(p)
}

// TestNewerLevel: a directory of a release to come is refused with its level and the levels that there are, before anything was
// written to the metadata log, and stays good for who understands it.
func TestNewerLevel(t *testing.T) {
	const unstable = "unstable.feature.versions.enable=true"
	b := setup(t)
	p := b.place(b.rnd.IntN(2) == 0)
	b.must(p.format("4.5-IV0", unstable), "format")
	m := &model{facts: facts{}}
	w := &writer{m: m, rnd: b.rnd, tag: "newer"}
	for _, what := range []string{"formatted", "with a log", "with a log again"} {
		before := b.metadataBytes(p)
		err := p.start(moldau)
		if err == nil {
			b.Fatalf("Moldau opens a directory at metadata.version 34, %s", what)
		}
		for _, want := range []string{"metadata.version 34", "7 and 33"} {
			if !strings.Contains(err.Error(), want) {
				b.Errorf("%s: the refusal does not say %q: %v", what, want, err)
			}
		}
		if after := b.metadataBytes(p); !strings.HasPrefix(after, before) {
			b.Errorf("%s: the metadata log was changed", what)
		}
		b.reopen(p, w, kafka, unstable)
		if what == "formatted" {
			b.must(w.topic(b.ctx, "t", 1, nil), "create")
			b.must(w.produce(b.ctx, "t", codecs()["zstd"], 30, nil), "produce")
			b.learn(w.node, m, "read from Kafka")
		} else {
			b.compare(w.node, m, "opened by Kafka again", nil)
		}
		if got := m.facts["feature/metadata.version"]; got != "34" {
			b.Errorf("%s: Kafka runs at metadata.version %s", what, got)
		}
		w.kgo.Close()
		b.must(p.stop(), "stop")
	}
}

// metadataBytes is the content of the metadata log's segments.
func (b *bench) metadataBytes(p *place) string {
	b.Helper()
	files, err := filepath.Glob(filepath.Join(p.metadata(), "*.log"))
	b.must(err, "list the metadata log")
	var all strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		b.must(err, "read the metadata log")
		all.Write(text)
	}
	return all.String()
}

// upgrade brings all features to what 4.4 starts with.
func (b *bench) upgrade(p *place) {
	b.Helper()
	out, err := exec.Command(p.moldau, "features", "--bootstrap-server", p.addr, "upgrade", "--release-version", "4.4").CombinedOutput()
	if err != nil {
		b.Fatalf("features upgrade: %v\n%s", err, out)
	}
}

// leave ends the running node, by SIGTERM or SIGKILL.
func (b *bench) leave(p *place, n *node, m *model) {
	b.Helper()
	n.kgo.Close()
	if b.rnd.IntN(2) == 0 {
		b.must(p.stop(), "stop")
		b.Logf("%s was stopped", p.running)
		return
	}
	b.must(p.kill(), "kill")
	b.Logf("%s was killed", p.running)
	m.killed()
}

// snapshotsWritten wants a snapshot of the metadata beside the one of the format.
func (b *bench) snapshotsWritten(p *place) {
	found, err := filepath.Glob(filepath.Join(p.metadata(), "*.checkpoint"))
	b.must(err, "list snapshots")
	for _, f := range found {
		if !strings.HasPrefix(filepath.Base(f), "00000000000000000000-") && filepath.Base(f) != "bootstrap.checkpoint" {
			return
		}
	}
	b.Errorf("no snapshot of the metadata was written: %v", found)
}

// recordVersions holds the versions of the metadata records in the logs and snapshots against what the level demands: the highest
// version that every broker of that level reads.
func (b *bench) recordVersions(level int16, dump string) {
	b.Helper()
	partition, broker := 0, 1
	switch {
	case level >= 23:
		partition = 2
	case level >= 17:
		partition = 1
	}
	switch {
	case level >= 30:
		broker = 4
	case level >= 17:
		broker = 3
	}
	want := map[string]int{"PARTITION_RECORD": partition, "PARTITION_CHANGE_RECORD": partition, "REGISTER_BROKER_RECORD": broker, "FEATURE_LEVEL_RECORD": 0,
		"TOPIC_RECORD": 0, "CONFIG_RECORD": 0}
	seen := map[string]int{}
	for _, x := range regexp.MustCompile(`"type":"([A-Z_]+)","version":(\d+)`).FindAllStringSubmatch(dump, -1) {
		if v, ok := want[x[1]]; ok {
			if seen[x[1]]++; x[2] != fmt.Sprint(v) {
				b.Errorf("at metadata.version %d there is a %s of version %s, want %d", level, x[1], x[2], v)
				delete(want, x[1])
			}
		}
	}
	for kind := range want {
		if seen[kind] == 0 && kind != "PARTITION_CHANGE_RECORD" {
			b.Errorf("no %s in the metadata", kind)
		}
	}
}

// shell lets Kafka's metadata-shell, which knows the levels up to 4.3's, load Moldau's newest snapshot.
func (b *bench) shell(p *place, level int16, m *model) {
	b.Helper()
	found, err := filepath.Glob(filepath.Join(p.metadata(), "*.checkpoint"))
	if b.must(err, "list snapshots"); level > 31 || len(found) == 0 {
		return
	}
	slices.Sort(found)
	var out string
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		// The shell runs its command as soon as the snapshot is loaded, which may be before it is published to the shell.
		out, err = b.o.tool("metadata-shell", "--snapshot", found[len(found)-1], "ls", "/image/topics/byName")
		if b.must(err, "metadata-shell"); strings.Contains(out, topicCompact) {
			break
		}
	}
	for _, topic := range []string{topicCompact, topicTxn, "codec-none", "k0-stays"} {
		if _, ok := m.facts["topic/"+topic]; !ok || !strings.Contains(out, topic) {
			b.Errorf("metadata-shell does not show topic %s: %s", topic, tail(out))
		}
	}
	if strings.Contains(out, "k0-goes") {
		b.Errorf("metadata-shell shows a deleted topic: %s", tail(out))
	}
}

// inspect lets Kafka's dump-log read every file of the stopped node, and returns what it printed of the metadata.
func (b *bench) inspect(p *place) (metadataDump string) {
	b.Helper()
	var metadata, logs, offsets, txns, indexes []string
	b.kindsIn(p, time.Time{})
	var all []string
	for _, d := range p.dirs() {
		found, err := filepath.Glob(filepath.Join(d, "*", "*"))
		b.must(err, "list files")
		all = append(all, found...)
	}
	for _, f := range all {
		dir, name := filepath.Base(filepath.Dir(f)), filepath.Base(f)
		if info, err := os.Stat(f); err != nil || info.Size() == 0 || strings.HasSuffix(dir, "-delete") || strings.HasSuffix(dir, "-stray") || strings.HasSuffix(dir, "-future") ||
			dir == "remote-log-index-cache" || damaged(dir) {
			continue
		}
		switch ext := filepath.Ext(name); {
		case dir == "__cluster_metadata-0" && (ext == ".log" || ext == ".checkpoint"):
			metadata = append(metadata, f)
		case ext == ".index" || ext == ".timeindex":
			indexes = append(indexes, f)
		case ext == ".txnindex" || ext == ".snapshot":
			logs = append(logs, f)
		case ext != ".log":
		case strings.HasPrefix(dir, "__consumer_offsets-"):
			offsets = append(offsets, f)
		case strings.HasPrefix(dir, "__transaction_state-"):
			txns = append(txns, f)
		default:
			logs = append(logs, f)
		}
	}
	metadataDump = b.dump(p, "--cluster-metadata-decoder", metadata)
	b.dump(p, "--offsets-decoder", offsets)
	b.dump(p, "--transaction-log-decoder", txns)
	if p.running == kafka {
		// Apache Kafka's indexes have room for more at their ends, which only a clean stop cuts off, and none does at the metadata log's.
		indexes = slices.DeleteFunc(indexes, func(f string) bool { return p.killed || filepath.Dir(f) == p.metadata() })
	}
	b.dump(p, "--index-sanity-check", indexes)
	b.dump(p, "--deep-iteration", logs)
	return metadataDump
}

// complaints are what dump-log says of files that are not right.
func complaints() []string {
	return []string{"isvalid: false", "Index offset", "out of order timestamp", "Found timestamp mismatch", "non-consecutive", "Exception", "invalid bytes", "corrupt",
		"Failed to decode", "mismatch", "is not a valid"}
}

// cutShort is whether dump-log says of a log that it ends in less than what is written at once: the kernel ends a write between two
// pages when its process is killed, and the next to open the directory cuts the rest off.
func cutShort(line string) bool {
	var rest int
	n, err := fmt.Sscanf(line, "Found %d invalid bytes at the end of ", &rest)
	return n == 1 && err == nil && rest < largestRequest
}

// largestRequest is more than any client here sends at once.
const largestRequest = 1 << 20

// dumpAtOnce bounds the files that one dump-log is given: the kernel bounds an argument to 128 KiB.
const dumpAtOnce = 700

func (b *bench) dump(p *place, mode string, files []string) string {
	b.Helper()
	var all strings.Builder
	for some := range slices.Chunk(files, dumpAtOnce) {
		all.WriteString(b.dumpSome(p, mode, some))
	}
	return all.String()
}

func (b *bench) dumpSome(p *place, mode string, files []string) string {
	b.Helper()
	out, err := b.o.tool("dump-log", mode, "--files", strings.Join(files, ","))
	if err != nil {
		b.Errorf("dump-log %s: %v", mode, err)
		return out
	}
	if n := strings.Count(out, "Dumping "); n != len(files) {
		b.Errorf("dump-log %s read %d of %d files", mode, n, len(files))
	}
	bad := 0
	for line := range strings.Lines(out) {
		if p.killed && cutShort(line) {
			continue
		}
		for _, c := range complaints() {
			if strings.Contains(line, c) && bad < 10 {
				bad++
				b.Errorf("dump-log %s: %s", mode, strings.TrimSpace(line))
			}
		}
	}
	return out
}
