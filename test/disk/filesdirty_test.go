package disk

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The steps whose writer is killed: what is on disk then is what was under way.

// find lists what matches a pattern below all log directories.
func (f *filesTest) find(pattern string) []string {
	var all []string
	for _, d := range f.p.dirs() {
		found, _ := filepath.Glob(filepath.Join(d, pattern))
		all = append(all, found...)
	}
	return all
}

func (f *filesTest) deleteTopic() {
	topic := f.name("gone")
	d, err := f.w.DeleteTopic(f.ctx, topic)
	f.must(errors.Join(err, d.Err), "delete")
	f.until("the directory of a deleted topic", func() bool { return len(f.find(topic+"-0.*-delete")) == 1 })
}

// deletedIsThere: the node was killed before the delay was over.
func (f *filesTest) deletedIsThere() {
	if found := f.find(f.name("gone") + "-0.*-delete/*.log"); len(found) != 1 {
		f.Fatalf("no directory waits for its deletion: %v", found)
	}
}

func (f *filesTest) deletedGoes() {
	f.until("the directory is removed", func() bool { return len(f.find(f.name("gone")+"-0*")) == 0 })
}

// retention lets all segments but the active one be deleted.
func (f *filesTest) retention() {
	topic := f.name("retain")
	f.create(topic, map[string]string{"segment.ms": "1000", "file.delete.delay.ms": "3600000"})
	f.write(topic, 120)
	one := "1"
	r, err := f.w.AlterTopicConfigs(f.ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.bytes", Value: &one}}, topic)
	f.must(altered(r, err), "set retention")
	f.until("segments wait for their deletion", func() bool { return len(f.find(topic+"-0/*.log.deleted")) > 0 })
	start, _ := f.offsets(topic)
	f.left[topic] = strconv.FormatInt(start, 10)
}

func (f *filesTest) deletedSegments() {
	if found := f.find(f.name("retain") + "-0/*.deleted"); len(found) == 0 {
		f.Fatalf("segments that wait for their deletion: %v", found)
	}
}

// deletedSegmentsGo: they go when the log is opened, long before their time.
func (f *filesTest) deletedSegmentsGo() {
	topic := f.name("retain")
	f.until("nothing is left behind", func() bool { return len(f.find(topic+"-0/*.deleted")) == 0 })
	if start, end := f.offsets(topic); strconv.FormatInt(start, 10) != f.left[topic] || end != 120 {
		f.Errorf("the log is %d to %d, want %s to 120", start, end, f.left[topic])
	}
}

// slowBytes is the size of the values that are cleaned slowly.
const slowBytes = 20_000

// cleanLater prepares a topic for whose 8 MB the cleaner takes seconds.
func (f *filesTest) cleanLater() {
	f.setBroker("log.cleaner.io.max.bytes.per.second", "4000000")
	topic := f.name("slow")
	f.create(topic, map[string]string{"cleanup.policy": "compact", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01",
		"min.compaction.lag.ms": "900000000"})
	f.write(topic, 400)
}

// inTheMiddle returns when a replica is on its way to another directory and the cleaner is at work, both at once: the one is slowed
// down, the other is stopped in its tracks.
func (f *filesTest) inTheMiddle() {
	f.move()
	f.slowCleaning()
}

// catch stops the node while files of a pattern are there. If they had gone before, it goes on, and again brings them back.
func (f *filesTest) catch(pattern string, again func()) {
	f.Helper()
	for range 50 {
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && len(f.find(pattern)) == 0; {
		}
		f.must(f.p.proc.Process.Signal(syscall.SIGSTOP), "stop it")
		if len(f.find(pattern)) > 0 {
			return
		}
		f.must(f.p.proc.Process.Signal(syscall.SIGCONT), "let it go on")
		again()
	}
	f.Fatalf("%s was never caught", pattern)
}

// slowCleaning stops the node while the cleaner writes. Kafka's throttle looks every 300 ms only, and too late.
func (f *filesTest) slowCleaning() {
	topic, zero := f.name("slow"), "0"
	r, err := f.w.AlterTopicConfigs(f.ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "min.compaction.lag.ms", Value: &zero}}, topic)
	f.must(altered(r, err), "let it be cleaned")
	f.catch(topic+"-0/*.log.cleaned", func() { f.write(topic, 400) })
}

func (f *filesTest) cleanedIsThere() {
	found := f.find(f.name("slow") + "-0/*.cleaned")
	if len(found) == 0 {
		f.Fatal("the cleaner left nothing behind")
	}
}

// cleanedGoes: what was under way is discarded; the reader's own cleaner begins anew.
func (f *filesTest) cleanedGoes() {
	f.until("nothing is left behind", func() bool {
		return !slices.ContainsFunc(f.find(f.name("slow")+"-0/*.cleaned"), func(path string) bool {
			info, err := os.Stat(path)
			return err == nil && info.ModTime().Before(f.at)
		})
	})
	topic := f.name("slow")
	n := f.written[topic]
	if start, end := f.offsets(topic); start != 0 || int(end) != n {
		f.Errorf("the log is %d to %d, want 0 to %d", start, end, n)
	}
	topics, err := f.w.ListTopics(f.ctx, topic)
	f.must(err, "list topics")
	keys := map[string]string{}
	all, err := f.w.fetch(f.ctx, topic, topics[topic].ID, 0, 0, 0)
	f.must(err, "read")
	for _, r := range all.records {
		keys[string(r.Key)] = fmt.Sprint(len(r.Value), r.Value[0], r.Offset)
	}
	for i := n - 3; i < n; i++ { // the last of their keys
		if got, want := keys[fmt.Sprintf("key %d", i%3)], fmt.Sprint(slowBytes, byte(i), i); got != want {
			f.Errorf("the last value of key %d is %q, want %q", i%3, got, want)
		}
	}
}

// setBroker sets a configuration of all brokers; "" takes it back.
func (f *filesTest) setBroker(key, value string) {
	f.Helper()
	c := kadm.AlterConfig{Op: kadm.SetConfig, Name: key, Value: &value}
	if value == "" {
		c = kadm.AlterConfig{Op: kadm.DeleteConfig, Name: key}
	}
	r, err := f.w.AlterBrokerConfigs(f.ctx, []kadm.AlterConfig{c})
	f.must(altered(r, err), "set "+key)
	f.m.forget("config/brokers/", "config/broker/")
}

// toSwap takes the disk back to the moment at which the files of a new first segment have their last name but one.
func (f *filesTest) toSwap() {
	topic := f.name("swap")
	first := strings.TrimSuffix(f.segments(topic, ".log")[0], ".log")
	for _, suffix := range []string{".log", ".index", ".timeindex"} {
		f.must(os.Rename(first+suffix, first+suffix+".swap"), "rename")
	}
}

func (f *filesTest) swapDone() {
	topic := f.name("swap")
	f.until("nothing is left behind", func() bool { return len(f.find(topic+"-0/*.swap")) == 0 })
	topics, err := f.w.ListTopics(f.ctx, topic)
	f.must(err, "list topics")
	all, err := f.w.node.fetch(f.ctx, topic, topics[topic].ID, 0, 0, 0)
	f.must(err, "read")
	if len(all.records) != 60 {
		f.Errorf("%d of 60 records are there", len(all.records))
	}
}

// flushed writes two logs whose finished segments are on disk, and waits until the recovery points say so.
func (f *filesTest) flushed() {
	for _, kind := range []string{"below", "above"} {
		topic := f.name(kind)
		f.create(topic, rolling())
		f.write(topic, 120)
		f.until("the recovery point of "+topic, func() bool { return f.recoveryPoint(topic) >= 80 })
	}
}

func (f *filesTest) recoveryPoint(topic string) int {
	for _, path := range f.find("recovery-point-offset-checkpoint") {
		text, err := os.ReadFile(path)
		if x := regexp.MustCompile(regexp.QuoteMeta(topic) + ` 0 (\d+)\n`).FindStringSubmatch(string(text)); err == nil && x != nil {
			n, _ := strconv.Atoi(x[1])
			return n
		}
	}
	return -1
}

// damageBoth hurts the first segments; the recovery point of one of the logs is moved back to its beginning.
func (f *filesTest) damageBoth() {
	for _, kind := range []string{"below", "above"} {
		f.damage(f.segments(f.name(kind), ".log")[0])
	}
	topic := f.name("above")
	f.replace(filepath.Join(filepath.Dir(f.dir(topic)), "recovery-point-offset-checkpoint"), regexp.QuoteMeta(topic)+` 0 \d+\n`,
		func(string) string { return topic + " 0 0\n" })
}

func (f *filesTest) scannedFromRecoveryPoint() {
	if _, end := f.offsets(f.name("below")); end != 120 {
		f.Errorf("the log with the damage below its recovery point ends at %d, want 120", end)
	}
	if _, end := f.offsets(f.name("above")); end > 40 {
		f.Errorf("the log with the damage above its recovery point ends at %d: it was not scanned", end)
	}
}

// movable prepares a log that is too large to arrive where it is moved to.
func (f *filesTest) movable() {
	topic := f.tag + "-moved"
	f.create(topic, nil)
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.w.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	f.must(err, "a client")
	defer cl.Close()
	for i := range 60 {
		r := &kgo.Record{Topic: topic, Timestamp: time.UnixMilli(firstMs + int64(i)), Value: []byte(strings.Repeat(strconv.Itoa(i%10), 300_000))}
		f.must(cl.ProduceSync(f.ctx, r).FirstErr(), "produce")
		f.m.set(fmt.Sprintf("log/%s/0/@%d", topic, r.Offset), recordFact(r))
	}
	one := "1"
	r, err := f.w.AlterBrokerConfigs(f.ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: moveRate, Value: &one}}, 1)
	f.must(altered(r, err), "throttle")
	f.m.forget("config/broker/")
	f.m.set("config/broker/1/"+moveRate, one)
	f.left["moved"] = topic
}

const moveRate = "replica.alter.log.dirs.io.max.bytes.per.second"

// move returns while a replica is on its way to the directory in which it is not.
func (f *filesTest) move() {
	topic := f.left["moved"]
	from := filepath.Dir(f.dir(topic))
	req := kmsg.NewPtrAlterReplicaLogDirsRequest()
	for _, d := range f.p.dirs() {
		if d != from {
			dir := kmsg.NewAlterReplicaLogDirsRequestDir()
			dir.Dir = d
			t := kmsg.NewAlterReplicaLogDirsRequestDirTopic()
			t.Topic, t.Partitions = topic, []int32{0}
			dir.Topics = append(dir.Topics, t)
			req.Dirs = append(req.Dirs, dir)
		}
	}
	_, err := f.w.kgo.Broker(1).Request(f.ctx, req)
	f.must(err, "move a replica")
	f.until("a replica is on its way", func() bool { return len(f.find(topic+"-0.*-future/*.log")) > 0 })
}

func (f *filesTest) futureIsThere() {
	if topic := f.left["moved"]; len(f.find(topic+"-0.*-future")) != 1 || len(f.find(topic+"-0")) != 1 {
		f.Errorf("%s has the directories %v", topic, f.find(topic+"-0*"))
	}
}

// moveDone: the reader serves the replica that is whole, and ends the move.
func (f *filesTest) moveDone() {
	topic := f.left["moved"]
	f.compareAll()
	// The throttle goes. A broker of Kafka starts with what a snapshot of the metadata has of its configs, also where all of them were
	// deleted after it: so it is Kafka who deletes.
	c := kadm.AlterConfig{Op: kadm.DeleteConfig, Name: moveRate}
	if f.p.running == moldau {
		c.Op, c.Value = kadm.SetConfig, new(strconv.FormatInt(math.MaxInt64, 10))
	}
	r, err := f.w.AlterBrokerConfigs(f.ctx, []kadm.AlterConfig{c}, 1)
	f.must(altered(r, err), "take the throttle away")
	f.m.forget("config/broker/")
	if c.Value != nil {
		f.m.set("config/broker/1/"+c.Name, *c.Value)
	}
	f.until("the move has ended", func() bool { return len(f.find(topic+"-0.*-future")) == 0 && len(f.find(topic+"-0")) == 1 })
	f.compareAll()
	f.must(f.w.produce(f.ctx, topic, kgo.Lz4Compression(), 25, nil), "produce")
}
