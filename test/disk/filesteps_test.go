package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// filesTest is the life of one directory with two log directories in TestFiles.
type filesTest struct {
	*bench
	p    *place
	w    *writer
	m    *model
	tag  string // of the last writer
	left map[string]string
	at   time.Time // when the present node was started

	written map[string]int // records, by topic
}

// step proves one kind of file: prepare has the running writer write it, alter changes what it left on the stopped disk, so that it
// is seen whether the reader has read it, and verify asks the running reader.
type step struct {
	name                   string
	dirty                  bool // the writer is killed; else it ends cleanly
	prepare, alter, verify func(f *filesTest)
	atLast                 func(f *filesTest) // the writer's, just before it ends
}

// steps are those of TestFiles. Topics whose name has "-odd-" are not compared with the model: the step says what is to be read.
func steps() []step {
	return []step{
		{name: "meta.properties", verify: (*filesTest).sameCluster},
		{name: "quorum-state", alter: (*filesTest).laterEpoch, verify: (*filesTest).epochGoesOn},
		{name: "metadata snapshot", prepare: (*filesTest).manyRecords, alter: (*filesTest).onlySnapshot, verify: (*filesTest).metadataIsThere},
		{name: "records", prepare: (*filesTest).rolled, verify: (*filesTest).compareAll},
		{name: "indexes", alter: (*filesTest).checkIndexes, verify: (*filesTest).indexesUnchanged},
		{name: "aborted transactions", prepare: (*filesTest).abortedEarly, verify: (*filesTest).abortedAreKnown},
		{name: "producers", verify: (*filesTest).producersAreKnown},
		{name: "partition.metadata", prepare: odd("stray", 5), alter: (*filesTest).otherTopicID, verify: (*filesTest).movedAside},
		{name: "stray replica", verify: (*filesTest).straysStay},
		{name: "leader-epoch-checkpoint", prepare: odd("epochs", 20), alter: (*filesTest).otherEpochs, verify: (*filesTest).epochsAreRead},
		{name: "log-start-offset-checkpoint", prepare: (*filesTest).trimmed, alter: (*filesTest).laterStart, verify: (*filesTest).startIsRead},
		{name: "replication-offset-checkpoint", alter: (*filesTest).highWatermarks, verify: (*filesTest).compareAll},
		{name: "cleaner-offset-checkpoint", prepare: (*filesTest).cleanable, alter: (*filesTest).alreadyCleaned, verify: (*filesTest).onlyTheOtherIsCleaned},
		{name: "mark of a clean shutdown", prepare: odd("marked", 60), alter: (*filesTest).damageMarked, verify: (*filesTest).markedNotScanned},
		{name: "remote index cache", alter: (*filesTest).remoteCache, verify: (*filesTest).remoteCacheStays},

		{name: "interrupted cleaning", dirty: true, prepare: (*filesTest).cleanLater, alter: (*filesTest).cleanedIsThere, verify: (*filesTest).cleanedGoes},
		{name: "deleted topic", dirty: true, prepare: odd("gone", 5), atLast: (*filesTest).deleteTopic, alter: (*filesTest).deletedIsThere, verify: (*filesTest).deletedGoes},
		{name: "deleted segments", dirty: true, prepare: (*filesTest).retention, alter: (*filesTest).deletedSegments, verify: (*filesTest).deletedSegmentsGo},
		{name: "interrupted swap", dirty: true, prepare: odd("swap", 60), alter: (*filesTest).toSwap, verify: (*filesTest).swapDone},
		{name: "recovery-point-offset-checkpoint", dirty: true, prepare: (*filesTest).flushed, alter: (*filesTest).damageBoth, verify: (*filesTest).scannedFromRecoveryPoint},
		{name: "future replica", dirty: true, prepare: (*filesTest).movable, atLast: (*filesTest).inTheMiddle, alter: (*filesTest).futureIsThere, verify: (*filesTest).moveDone},
	}
}

// TestFiles proves for each kind of file that what one product writes the other reads. Kafka, Moldau, Kafka end cleanly and leave
// their files to the next; then Kafka and Moldau are killed.
func TestFiles(t *testing.T) {
	b := setup(t)
	p := b.place(false, snapshotOften, "metadata.log.segment.ms=100", "metadata.max.idle.interval.ms=5000", "log.retention.check.interval.ms=300", "log.initial.task.delay.ms=0",
		"log.cleaner.dedupe.buffer.size=4194304", "log.flush.offset.checkpoint.interval.ms=300", "log.flush.start.offset.checkpoint.interval.ms=300",
		"replica.high.watermark.checkpoint.interval.ms=300")
	b.must(p.format(""), "format") // by Apache Kafka
	p.logDirs = []string{"data", "data2"}
	file, err := p.configure()
	b.must(err, "configure")
	if out, err := exec.Command(p.moldau, "storage", "format", "--ignore-formatted", "-t", clusterID, "-c", file).CombinedOutput(); err != nil {
		b.Fatalf("format the other directory by Moldau: %v\n%s", err, out)
	}
	f := &filesTest{bench: b, p: p, m: &model{facts: facts{}}, left: map[string]string{}, written: map[string]int{}}
	f.w = &writer{m: f.m, rnd: b.rnd}
	seen := map[product]map[string]int{kafka: {}, moldau: {}}
	turns := []struct {
		who   product
		dirty bool // leaves by a kill
	}{{kafka, false}, {moldau, false}, {kafka, true}, {moldau, true}, {kafka, false}}
	open := func(who product, deleteDelay string) {
		extra := []string{"log.segment.delete.delay.ms=" + deleteDelay}
		if who == kafka {
			extra = append(append(extra, withACLs()...), p.withSASL()...)
		}
		b.reopen(p, f.w, who, extra...)
		f.w.node.leaveOut = isOdd
	}
	// Who is killed has deleted nothing by then, and who reads deletes it.
	const never, soon = "3600000", "1000"
	for i, turn := range turns {
		last := product("")
		if i > 0 {
			last = turns[i-1].who
		}
		f.at = time.Now()
		readsDirty := i > 0 && turns[i-1].dirty
		if readsDirty || !turn.dirty {
			open(turn.who, soon)
		} else {
			open(turn.who, never)
		}
		if i > 0 {
			f.each(fmt.Sprintf("%d %s reads what %s wrote", i, turn.who, last), readsDirty, func(s step) func(*filesTest) { return s.verify })
		}
		if b.Failed() || i == len(turns)-1 {
			break
		}
		if readsDirty && turn.dirty {
			f.w.kgo.Close()
			b.must(p.stop(), "stop")
			open(turn.who, never)
		}
		f.tag = fmt.Sprintf("%c%d", turn.who[0], i)
		f.w.tag = f.tag
		for _, s := range steps() {
			if s.prepare != nil && s.dirty == turn.dirty {
				s.prepare(f)
			}
		}
		b.learn(f.w.node, f.m, "read from "+string(turn.who))
		for _, s := range steps() {
			if s.atLast != nil && s.dirty == turn.dirty {
				s.atLast(f)
			}
		}
		f.w.kgo.Close()
		if turn.dirty {
			b.must(p.kill(), "kill")
		} else {
			b.must(p.stop(), "stop")
			if turn.who == moldau { // of Kafka's own files its own tool thinks well
				b.inspect(p)
			}
		}
		for kind, n := range b.kindsIn(p, f.at) {
			seen[turn.who][kind] += n
		}
		for _, s := range steps() {
			if s.alter != nil && s.dirty == turn.dirty {
				s.alter(f)
			}
		}
	}
	if b.Failed() {
		return
	}
	f.w.kgo.Close()
	b.must(p.stop(), "stop")
	b.inspect(p)
	for _, k := range kinds() {
		for who, proof := range k.proofs {
			if strings.HasPrefix(proof, "TestFiles/") && seen[who][k.name] == 0 && !made(k.name) {
				b.Errorf("%s has written no %s: nothing is proven", who, k.name)
			}
		}
	}
}

// made are the kinds that the test makes of a product's files, because they are on disk for moments only, and what each product has
// written into one of the directories before anybody runs.
func made(kind string) bool {
	return kind == ".swap" || kind == "remote-log-index-cache" || kind == "meta.properties"
}

// each runs the steps of one reader as subtests.
func (f *filesTest) each(name string, dirty bool, of func(step) func(*filesTest)) {
	f.Run(name, func(t *testing.T) {
		for _, s := range steps() {
			if act := of(s); act != nil && s.dirty == dirty {
				t.Run(s.name, func(t *testing.T) {
					sub, inner := *f, *f.bench
					inner.T = t
					sub.bench = &inner
					act(&sub)
				})
			}
		}
	})
}

func isOdd(topic string) bool { return strings.Contains(topic, "-odd-") }

// name is a topic of the last writer's.
func (f *filesTest) name(kind string) string { return f.tag + "-odd-" + kind }

// create makes a topic of one partition.
func (f *filesTest) create(topic string, configs map[string]string) {
	f.Helper()
	all := map[string]*string{}
	for k, v := range configs {
		all[k] = ptr(v)
	}
	f.must(f.w.topic(f.ctx, topic, 1, all), "create")
	if isOdd(topic) {
		f.m.forget("topic/"+topic, "config/topic/"+topic+"/")
	}
}

// rolling makes a new segment for each second of record time, which passes in five records.
func rolling() map[string]string { return map[string]string{"segment.ms": "1000"} }

func (f *filesTest) write(topic string, n int) {
	f.Helper()
	begin := f.written[topic]
	f.written[topic] += n
	// Steps wait for, and damage, segments by their offsets: no batch is so large that they would be elsewhere.
	f.must(f.w.produceIn(f.ctx, topic, kgo.NoCompression(), n, 10, func(i int, r *kgo.Record) {
		i += begin
		r.Timestamp = time.UnixMilli(firstMs + int64(i)*200)
		if strings.Contains(topic, "-odd-done") || strings.Contains(topic, "-odd-control") || strings.Contains(topic, "-odd-slow") {
			r.Key, r.Value = fmt.Appendf(nil, "key %d", i%3), bytes.Repeat([]byte{byte(i)}, 1000)
		}
		if strings.Contains(topic, "-odd-slow") {
			r.Value = bytes.Repeat([]byte{byte(i)}, slowBytes)
		}
	}), "produce")
	if isOdd(topic) {
		f.m.forget("log/" + topic + "/")
	}
}

// odd prepares a topic of its own with n records.
func odd(kind string, n int) func(*filesTest) {
	return func(f *filesTest) {
		f.create(f.name(kind), rolling())
		f.write(f.name(kind), n)
	}
}

// dir is where a partition of a topic of one partition lies.
func (f *filesTest) dir(topic string) string {
	f.Helper()
	for _, d := range f.p.dirs() {
		if path := filepath.Join(d, topic+"-0"); exists(path) {
			return path
		}
	}
	f.Fatalf("%s has no directory", topic)
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// segments are the files of a partition with a suffix, oldest first.
func (f *filesTest) segments(topic, suffix string) []string {
	f.Helper()
	found, err := filepath.Glob(filepath.Join(f.dir(topic), "*"+suffix))
	f.must(err, "list segments")
	slices.Sort(found)
	return found
}

// until waits for something that takes a while.
func (f *filesTest) until(what string, ok func() bool) {
	f.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.Fatalf("not in three minutes: %s\n%s", what, f.p.logTail())
		}
	}
}

// replace changes a file with a regular expression.
func (f *filesTest) replace(path, pattern string, with func(string) string) {
	f.Helper()
	text, err := os.ReadFile(path)
	f.must(err, "read")
	found := false
	out := regexp.MustCompile(pattern).ReplaceAllStringFunc(string(text), func(s string) string { found = true; return with(s) })
	if !found {
		f.Fatalf("%s has nothing like %s: %q", path, pattern, text)
	}
	f.must(os.WriteFile(path, []byte(out), 0o644), "write")
}

// offsets are the beginning and the end of a topic's log by ListOffsets.
func (f *filesTest) offsets(topic string) (start, end int64) {
	f.Helper()
	var starts, ends kadm.ListedOffsets
	var failed error
	f.until("the leader of "+topic+" answers", func() bool {
		var err1, err2 error
		starts, err1 = f.w.ListStartOffsets(f.ctx, topic)
		ends, err2 = f.w.ListEndOffsets(f.ctx, topic)
		failed = errors.Join(err1, starts.Error(), err2, ends.Error())
		return !kerr.IsRetriable(failed)
	})
	f.must(failed, "list offsets")
	s, _ := starts.Lookup(topic, 0)
	e, _ := ends.Lookup(topic, 0)
	return s.Offset, e.Offset
}

// damaged are the partitions that steps have hurt.
func damaged(dir string) bool {
	return strings.HasSuffix(dir, "-odd-marked-0") || strings.HasSuffix(dir, "-odd-below-0") || strings.HasSuffix(dir, "-odd-above-0")
}

// damage flips a bit of a batch in the middle of a segment.
func (f *filesTest) damage(path string) {
	f.Helper()
	text, err := os.ReadFile(path)
	f.must(err, "read")
	end := 0
	for end <= len(text)/2 { // the last byte of a batch, as a checksum speaks of all but its first 21
		end += 12 + int(binary.BigEndian.Uint32(text[end+8:]))
	}
	text[end-1] ^= 4
	f.must(os.WriteFile(path, text, 0o644), "write")
}

// sameCluster: the cluster's id is in no other file and in no configuration.
func (f *filesTest) sameCluster() {
	m, err := f.w.BrokerMetadata(f.ctx)
	f.must(err, "metadata")
	if m.Cluster != clusterID {
		f.Errorf("the cluster is %q", m.Cluster)
	}
}

const epochsAhead = 100

// laterEpoch lets the node have voted in a much later epoch.
func (f *filesTest) laterEpoch() {
	f.replace(filepath.Join(f.p.metadata(), "quorum-state"), `"leaderEpoch":\d+`, func(s string) string {
		n, err := strconv.Atoi(s[len(`"leaderEpoch":`):])
		f.must(err, "an epoch")
		f.left["epoch"] = strconv.Itoa(n + epochsAhead)
		return fmt.Sprintf(`"leaderEpoch":%d`, n+epochsAhead)
	})
	text, err := os.ReadFile(filepath.Join(f.p.metadata(), "quorum-state"))
	f.must(err, "read")
	if !json.Valid(text) {
		f.Fatalf("quorum-state is not JSON any more: %s", text)
	}
}

func (f *filesTest) epochGoesOn() {
	q, err := f.w.quorum(f.ctx)
	f.must(err, "ask the quorum")
	voted, err := strconv.Atoi(f.left["epoch"])
	f.must(err, "an epoch")
	if int(q.LeaderEpoch) <= voted || int(q.LeaderEpoch) > voted+10 {
		f.Errorf("the node leads in epoch %d, and had voted in %d", q.LeaderEpoch, voted)
	}
}

// manyRecords makes the metadata log long enough for a snapshot and several segments.
func (f *filesTest) manyRecords() {
	for i := range 30 {
		f.must(f.w.topic(f.ctx, fmt.Sprintf("%s-many-%d", f.tag, i), 1, map[string]*string{"retention.ms": ptr("86400000")}), "create")
		if i%10 == 9 {
			<-time.After(110 * time.Millisecond) // a segment's age
		}
	}
	f.must(f.w.security(f.ctx), "quotas and users")
	f.token()
	f.must(f.w.setResource(f.ctx, groupConfig, f.tag, "consumer.session.timeout.ms", "46000"), "configure a group")
	f.until("a snapshot of the metadata", func() bool { return newestSnapshot(f.p) > 0 })
}

// newestSnapshot is the end offset of the newest snapshot of the metadata.
func newestSnapshot(p *place) int {
	found, _ := filepath.Glob(filepath.Join(p.metadata(), "*.checkpoint"))
	newest := 0
	for _, f := range found {
		if n, err := strconv.Atoi(strings.SplitN(filepath.Base(f), "-", 2)[0]); err == nil {
			newest = max(newest, n)
		}
	}
	return newest
}

// onlySnapshot removes the segments of the metadata log that end before the newest snapshot does, as both products do in time.
func (f *filesTest) onlySnapshot() {
	logs, err := filepath.Glob(filepath.Join(f.p.metadata(), "*.log"))
	f.must(err, "list the metadata log")
	slices.Sort(logs)
	snapshot, gone := newestSnapshot(f.p), 0
	for i := 0; i+1 < len(logs); i++ {
		next, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(logs[i+1]), ".log"))
		f.must(err, "an offset")
		if next > snapshot {
			break
		}
		for _, suffix := range []string{".log", ".index", ".timeindex", ".snapshot"} {
			if err := os.Remove(strings.TrimSuffix(logs[i], ".log") + suffix); err != nil && !os.IsNotExist(err) {
				f.Fatal(err)
			}
		}
		gone++
	}
	if gone == 0 {
		f.Errorf("the metadata log has no segment before its newest snapshot, at %d: %v", snapshot, logs)
	}
	f.left["metadata start"] = filepath.Base(logs[gone])
}

// metadataIsThere: what was created first is in the snapshot only.
func (f *filesTest) metadataIsThere() {
	f.tokensAreThere("k0", "m1")
	got, err := f.w.node.read(f.ctx, nil)
	f.must(err, "read")
	counts := map[string]int{"topic": 0, "config": 0, "feature": 0, "quota": 0, "scram": 0, "acl": 0}
	for path, want := range f.m.facts {
		kind, _, _ := strings.Cut(path, "/")
		if n, ok := counts[kind]; ok && f.w.asked(path) {
			if counts[kind] = n + 1; got[path] != want {
				f.Errorf("%s is %q, was %q", path, got[path], want)
			}
		}
	}
	for kind, n := range counts {
		if n == 0 && f.w.asked(kind+"/") {
			f.Errorf("no %s in the metadata", kind)
		}
	}
}

func (f *filesTest) rolled() {
	f.create(f.tag+"-rolled", map[string]string{"segment.ms": "15000", "index.interval.bytes": "256"})
	f.write(f.tag+"-rolled", 300)
	if n := len(f.segments(f.tag+"-rolled", ".log")); n < 3 {
		f.Errorf("%d segments", n)
	}
}

func (f *filesTest) compareAll() { f.compare(f.w.node, f.m, "read", nil) }

// checkIndexes lets the reader's own tool check the writer's indexes, and keeps those of finished segments.
func (f *filesTest) checkIndexes() {
	var all []string
	entries := false
	for _, suffix := range []string{".index", ".timeindex"} {
		found := f.segments(f.tag+"-rolled", suffix)
		all = append(all, found...)
		for _, path := range found[:len(found)-1] {
			text, err := os.ReadFile(path)
			f.must(err, "read an index")
			entries = entries || len(text) > 0 && suffix == ".index"
			f.left[path] = string(text)
		}
	}
	if !entries {
		f.Error("no offset index has an entry")
	}
	if f.p.running == kafka { // what Moldau wrote inspect has given to Kafka's
		out, err := exec.Command(f.p.moldau, "dump-log", "--index-sanity-check", "--files", strings.Join(all, ",")).CombinedOutput()
		if err != nil || strings.Count(string(out), "Dumping ") != len(all) || strings.Count(string(out), "passed sanity check")+strings.Count(string(out), "is empty") != len(all) {
			f.Errorf("dump-log of Moldau: %v\n%s", err, tail(string(out)))
		}
	}
}

// indexesUnchanged: the reader found nothing to rebuild.
func (f *filesTest) indexesUnchanged() {
	n := 0
	for path, was := range f.left {
		if !strings.HasSuffix(path, "index") || !strings.Contains(path, f.tag+"-rolled") {
			continue
		}
		n++
		if is, err := os.ReadFile(path); err != nil || string(is) != was {
			f.Errorf("%s was rebuilt: %d bytes, were %d, %v", path, len(is), len(was), err)
		}
	}
	if n == 0 {
		f.Error("no indexes of finished segments")
	}
}

// abortedEarly aborts and commits transactions, each in a segment of its own.
func (f *filesTest) abortedEarly() {
	topic := f.tag + "-aborted"
	f.create(topic, rolling())
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.w.addr), kgo.TransactionalID(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	f.must(err, "a client")
	defer cl.Close()
	for i := range 6 {
		f.must(cl.BeginTransaction(), "begin")
		r := f.w.record(topic, 0, i, func(_ int, r *kgo.Record) { r.Timestamp = time.UnixMilli(firstMs + int64(i)*2000) })
		f.must(cl.ProduceSync(f.ctx, r).FirstErr(), "produce")
		f.m.set(fmt.Sprintf("log/%s/0/@%d", topic, r.Offset), recordFact(r))
		f.must(cl.EndTransaction(f.ctx, kgo.TransactionEndTry(i%3 == 2)), "end")
	}
}

func (f *filesTest) abortedAreKnown() {
	path := "log/" + f.tag + "-aborted/0/committed"
	want := f.m.facts[path]
	_, aborted, _ := strings.Cut(want, "aborted ")
	if !strings.HasPrefix(want, "2 records") || len(strings.Fields(aborted)) != 4 {
		f.Errorf("the writer shows %q of two committed and four aborted transactions", want)
	}
	got, err := f.w.node.read(f.ctx, nil)
	f.must(err, "read")
	if got[path] != want {
		f.Errorf("read committed: %q, was %q", got[path], want)
	}
}

// producersAreKnown: what producers did is in the snapshots after a clean end; the logs are not read for it.
func (f *filesTest) producersAreKnown() {
	got, err := f.w.node.read(f.ctx, nil)
	f.must(err, "read")
	n := 0
	for path, want := range f.m.facts {
		if strings.HasPrefix(path, "producer/"+f.tag+"-") {
			n++
			if got[path] != want {
				f.Errorf("%s is %q, was %q", path, got[path], want)
			}
		}
	}
	if n == 0 {
		f.Error("the writer had no producers")
	}
}

// otherTopicID makes the directory one of another incarnation of the topic.
func (f *filesTest) otherTopicID() {
	dir := f.dir(f.name("stray"))
	f.replace(filepath.Join(dir, "partition.metadata"), `topic_id: ?.*`, func(string) string { return "topic_id: " + clusterID })
	text, err := os.ReadFile(filepath.Join(dir, "00000000000000000000.log"))
	f.must(err, "read a segment")
	f.left["stray log of "+f.name("stray")] = string(text)
}

func (f *filesTest) strays(topic string) []string {
	var all []string
	for _, d := range f.p.dirs() {
		found, _ := filepath.Glob(filepath.Join(d, topic+"-0.*-stray"))
		all = append(all, found...)
	}
	return all
}

func (f *filesTest) movedAside() {
	f.until("a directory of a stray replica", func() bool { return len(f.strays(f.name("stray"))) == 1 })
	if _, end := f.offsets(f.name("stray")); end != 0 {
		f.Errorf("the topic of today has the records of another: it ends at %d", end)
	}
	f.straysStay()
}

// straysStay: what either product has moved aside stays as it is, whoever starts.
func (f *filesTest) straysStay() {
	for name, was := range f.left {
		topic, ok := strings.CutPrefix(name, "stray log of ")
		if !ok {
			continue
		}
		found := f.strays(topic)
		if len(found) != 1 {
			f.Errorf("%s has the strays %v", topic, found)
			continue
		}
		if is, err := os.ReadFile(filepath.Join(found[0], "00000000000000000000.log")); err != nil || string(is) != was {
			f.Errorf("the log in %s was changed: %d bytes, were %d, %v", found[0], len(is), len(was), err)
		}
	}
}

// otherEpochs says that epoch 0 ended at offset 7. A node that has missed its own heartbeats leads again in epoch 2.
func (f *filesTest) otherEpochs() {
	path := filepath.Join(f.dir(f.name("epochs")), "leader-epoch-checkpoint")
	f.replace(path, `(?s)^0\n\d+\n0 0\n.*$`, func(was string) string {
		lines := slices.Insert(strings.Split(strings.TrimSuffix(was, "\n"), "\n"), 3, "1 7")
		lines[1] = strconv.Itoa(len(lines) - 2)
		return strings.Join(lines, "\n") + "\n"
	})
}

func (f *filesTest) epochsAreRead() {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	t := kmsg.NewOffsetForLeaderEpochRequestTopic()
	t.Topic = f.name("epochs")
	p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	p.CurrentLeaderEpoch, p.LeaderEpoch = -1, 0
	t.Partitions = append(t.Partitions, p)
	req.Topics, req.ReplicaID = append(req.Topics, t), -1
	resp, err := f.w.kgo.Broker(1).RetriableRequest(f.ctx, req)
	f.must(err, "ask for an epoch's end")
	got := resp.(*kmsg.OffsetForLeaderEpochResponse).Topics[0].Partitions[0]
	if got.ErrorCode != 0 || got.LeaderEpoch != 0 || got.EndOffset != 7 {
		f.Errorf("epoch 0 ends at %d (epoch %d, %v), want 7", got.EndOffset, got.LeaderEpoch, kerr.ErrorForCode(got.ErrorCode))
	}
}

// trimmed is one segment: of a log that begins with its first segment the checkpoint says nothing, and retention may have seen to that.
func (f *filesTest) trimmed() {
	topic := f.name("trimmed")
	f.create(topic, nil)
	f.write(topic, 40)
	f.deleteRecords(topic, 10)
}

func (f *filesTest) deleteRecords(topic string, before int64) {
	f.Helper()
	var o kadm.Offsets
	o.AddOffset(topic, 0, before, -1)
	r, err := f.w.DeleteRecords(f.ctx, o)
	f.must(errors.Join(err, r.Error()), "delete records")
}

// laterStart moves the beginning from 10 to 13.
func (f *filesTest) laterStart() {
	dir := f.dir(f.name("trimmed"))
	f.replace(filepath.Join(filepath.Dir(dir), "log-start-offset-checkpoint"), regexp.QuoteMeta(f.name("trimmed"))+` 0 10\n`,
		func(string) string { return f.name("trimmed") + " 0 13\n" })
}

func (f *filesTest) startIsRead() {
	if start, end := f.offsets(f.name("trimmed")); start != 13 || end != 40 {
		f.Errorf("the log is %d to %d, want 13 to 40", start, end)
	}
}

// highWatermarks: the file has every partition's.
func (f *filesTest) highWatermarks() {
	have := map[string]string{}
	for _, d := range f.p.dirs() {
		text, err := os.ReadFile(filepath.Join(d, "replication-offset-checkpoint"))
		f.must(err, "read high watermarks")
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if len(lines) < 2 || lines[0] != "0" || lines[1] != strconv.Itoa(len(lines)-2) {
			f.Fatalf("high watermarks: %q", text)
		}
		for _, line := range lines[2:] {
			x := strings.Fields(line)
			have[x[0]+"/"+x[1]] = x[2]
		}
	}
	n := 0
	for path, fact := range f.m.facts {
		rest, ok := strings.CutPrefix(path, "offset/")
		rest, isEnd := strings.CutSuffix(rest, "/end")
		if !ok || !isEnd {
			continue
		}
		n++
		if want := strings.Fields(fact)[0]; have[rest] != want && !(have[rest] == "" && want == "0") {
			f.Errorf("the high watermark of %s is %q, want %s", rest, have[rest], want)
		}
	}
	if n < 10 {
		f.Errorf("%d high watermarks", n)
	}
}

// cleanable prepares two compacted topics that wait to be cleaned.
func (f *filesTest) cleanable() {
	for _, kind := range []string{"done", "control"} {
		f.create(f.name(kind), map[string]string{"cleanup.policy": "compact", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01",
			"min.compaction.lag.ms": "900000000"})
		f.write(f.name(kind), 120)
	}
}

// alreadyCleaned says of one of them that it was cleaned.
func (f *filesTest) alreadyCleaned() {
	topic := f.name("done")
	logs := f.segments(topic, ".log")
	first := strings.TrimLeft(strings.TrimSuffix(filepath.Base(logs[len(logs)-1]), ".log"), "0")
	path := filepath.Join(filepath.Dir(f.dir(topic)), "cleaner-offset-checkpoint")
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) || len(text) == 0 { // Apache Kafka makes it empty at first
		text, err = []byte("0\n0\n"), nil
	}
	f.must(err, "read cleaned offsets")
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	lines = append(lines, topic+" 0 "+first)
	lines[1] = strconv.Itoa(len(lines) - 2)
	f.must(os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644), "write cleaned offsets")
}

func (f *filesTest) onlyTheOtherIsCleaned() {
	count := func(topic string) int {
		topics, err := f.w.ListTopics(f.ctx, topic)
		f.must(err, "list topics")
		all, err := f.w.node.fetch(f.ctx, topic, topics[topic].ID, 0, 0, 0)
		f.must(err, "read")
		return len(all.records)
	}
	zero := "0"
	r, err := f.w.AlterTopicConfigs(f.ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "min.compaction.lag.ms", Value: &zero}}, f.name("done"), f.name("control"))
	f.must(altered(r, err), "let them be cleaned")
	f.until("the cleaner has been over "+f.name("control"), func() bool { return count(f.name("control")) < 120 })
	if n := count(f.name("done")); n != 120 {
		f.Errorf("%d of 120 records are left where nothing was to be cleaned", n)
	}
}

// damageMarked hurts the first segment of a log that was closed cleanly: who takes the mark for what it is does not look there.
func (f *filesTest) damageMarked() {
	f.damage(f.segments(f.name("marked"), ".log")[0])
	for _, d := range f.p.dirs() {
		text, err := os.ReadFile(filepath.Join(d, ".kafka_cleanshutdown"))
		var mark struct{ Version, BrokerEpoch *int64 }
		if err == nil {
			err = json.Unmarshal(text, &mark)
		}
		if err != nil || mark.Version == nil || mark.BrokerEpoch == nil || *mark.Version != 0 || *mark.BrokerEpoch <= 0 {
			f.Errorf("the mark in %s is %q: %v", d, text, err)
		}
	}
}

func (f *filesTest) markedNotScanned() {
	if _, end := f.offsets(f.name("marked")); end != 60 {
		f.Errorf("the log ends at %d, want 60: it was scanned in spite of the mark", end)
	}
	for _, d := range f.p.dirs() {
		if exists(filepath.Join(d, ".kafka_cleanshutdown")) {
			f.Errorf("the mark in %s stays while the node runs", d)
		}
	}
}

// remoteCache is what a broker with tiered storage leaves; it is switched off here.
func (f *filesTest) remoteCache() {
	dir := filepath.Join(f.p.data(), "remote-log-index-cache")
	f.must(os.MkdirAll(dir, 0o755), "make a directory")
	for _, suffix := range []string{".index", ".timeindex", ".txnindex"} {
		f.must(os.WriteFile(filepath.Join(dir, "0_"+clusterID+suffix), []byte("kept"), 0o644), "write")
	}
}

func (f *filesTest) remoteCacheStays() {
	if found, err := filepath.Glob(filepath.Join(f.p.data(), "remote-log-index-cache", "0_*index")); err != nil || len(found) != 3 {
		f.Errorf("the cache has %v, %v", found, err)
	}
}
