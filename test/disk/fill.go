package disk

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// writer changes a cluster and notes what was acknowledged in the model.
type writer struct {
	*node
	m   *model
	rnd *rand.Rand
	tag string // of this opening: names that begin with it are new
	ms  int64  // the record time, which moves on

	across travellers
}

// Topics that every opening writes to.
const (
	topicStamped = "stamped" // LogAppendTime
	topicCompact = "compact" // few keys, small segments, cleaned
	topicTrim    = "trim"    // its beginning is deleted
	topicTxn     = "txn"     // transactions of all kinds
	topicLoad    = "load"    // written while the node is killed
)

func codecs() map[string]kgo.CompressionCodec {
	return map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
}

// times are looked up in every partition: before, between, at and after what change writes.
func times() []int64 {
	return []int64{0, firstMs, firstMs + 37, firstMs + 1000, firstMs + 50_000, firstMs + 10_000_000_000_000}
}

// firstMs is the first record time: retention must not think it old.
var firstMs = time.Now().Add(-time.Hour).UnixMilli()

// create makes the topics, once.
func (w *writer) create(ctx context.Context) error {
	all := map[string]map[string]*string{
		topicStamped: {"message.timestamp.type": ptr("LogAppendTime")},
		topicCompact: compactConfigs(),
		topicTrim:    {"segment.bytes": ptr("1048576"), "index.interval.bytes": ptr("256")},
		topicTxn:     {"segment.ms": ptr("100")},
		topicLoad:    {},
		topicAcross:  {"segment.ms": ptr("50")},
	}
	for c := range codecs() {
		all["codec-"+c] = map[string]*string{"index.interval.bytes": ptr("512"), "segment.ms": ptr("200")}
	}
	for name, configs := range all {
		partitions := int32(2)
		if name == topicAcross {
			partitions = acrossPartitions
		}
		if err := w.topic(ctx, name, partitions, configs); err != nil {
			return err
		}
	}
	return nil
}

func compactConfigs() map[string]*string {
	return map[string]*string{"cleanup.policy": ptr("compact"), "segment.bytes": ptr("1048576"), "segment.ms": ptr("100"), "min.cleanable.dirty.ratio": ptr("0.01"),
		"min.compaction.lag.ms": ptr("0"), "delete.retention.ms": ptr("100")}
}

func ptr(s string) *string { return &s }

func (w *writer) topic(ctx context.Context, name string, partitions int32, configs map[string]*string) error {
	r, err := w.CreateTopic(ctx, partitions, 1, configs, name)
	if err = errors.Join(err, r.Err); err != nil {
		return fmt.Errorf("create %s: %w %s", name, err, r.ErrMessage)
	}
	w.m.set("topic/"+name, fmt.Sprintf("id %s, partitions %d", r.ID, partitions))
	for k, v := range configs {
		w.m.set("config/topic/"+name+"/"+k, *v)
	}
	return nil
}

// change ends what was begun elsewhere and writes a bit of everything.
func (w *writer) change(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"what was begun elsewhere", w.arrive}, {"topics", w.topics}, {"records", w.records}, {"records by keys", w.keyed}, {"deleted records", w.trim}, {"commits", w.commits},
		{"configs", w.configs}, {"quotas and users", w.security}, {"transactions", w.transactions}, {"what is to be ended elsewhere", w.depart},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// topics come, get partitions and go.
func (w *writer) topics(ctx context.Context) error {
	stays, goes := w.tag+"-stays", w.tag+"-goes"
	if err := w.topic(ctx, stays, 1, map[string]*string{"retention.ms": ptr("86400000")}); err != nil {
		return err
	}
	if err := w.topic(ctx, goes, 3, nil); err != nil {
		return err
	}
	if err := w.produce(ctx, goes, kgo.NoCompression(), 20, nil); err != nil {
		return err
	}
	if err := w.produce(ctx, stays, kgo.NoCompression(), 20, nil); err != nil {
		return err
	}
	r, err := w.UpdatePartitions(ctx, 2, stays)
	if err = errors.Join(err, r.Error()); err != nil {
		return err
	}
	w.m.set("topic/"+stays, strings.TrimSuffix(w.m.facts["topic/"+stays], "1")+"2")
	d, err := w.DeleteTopic(ctx, goes)
	if err = errors.Join(err, d.Err); err != nil {
		return err
	}
	w.m.forget("topic/"+goes, "log/"+goes+"/", "config/topic/"+goes+"/")
	return nil
}

// records of every codec, with headers, null keys and null values.
func (w *writer) records(ctx context.Context) error {
	for name, codec := range codecs() {
		if err := w.produce(ctx, "codec-"+name, codec, 120, nil); err != nil {
			return err
		}
	}
	return w.produce(ctx, topicStamped, kgo.Lz4Compression(), 30, nil)
}

// keyed writes the few keys of the compacted topic over and over, with tombstones.
func (w *writer) keyed(ctx context.Context) error {
	return w.produceKeyed(ctx, topicCompact)
}

func (w *writer) produceKeyed(ctx context.Context, topic string) error {
	return w.produce(ctx, topic, kgo.NoCompression(), 200, func(i int, r *kgo.Record) {
		r.Key, r.Headers = fmt.Appendf(nil, "key-%d", w.rnd.IntN(12)), nil
		if r.Value = []byte(w.tag + strings.Repeat("x", w.rnd.IntN(2000))); i%17 == 0 {
			r.Value = nil
		}
	})
}

// produce writes n records and notes them where the node keeps the client's time.
func (w *writer) produce(ctx context.Context, topic string, codec kgo.CompressionCodec, n int, shape func(int, *kgo.Record)) error {
	return w.produceIn(ctx, topic, codec, n, 40, shape)
}

// produceIn writes n records in batches of no more than most.
func (w *writer) produceIn(ctx context.Context, topic string, codec kgo.CompressionCodec, n, most int, shape func(int, *kgo.Record)) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.addr), kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	partitions, err := w.partitions(ctx, topic)
	if err != nil {
		return err
	}
	var all []*kgo.Record
	for i := range n {
		all = append(all, w.record(topic, int32(i%partitions), i, shape))
	}
	// Several batches, so that the indexes have something to index.
	for len(all) > 0 {
		k := min(len(all), 1+w.rnd.IntN(most))
		for _, r := range cl.ProduceSync(ctx, all[:k]...) {
			if r.Err != nil {
				return fmt.Errorf("produce to %s: %w", topic, r.Err)
			}
			if topic != topicStamped && !unreadable(topic) {
				w.m.set(fmt.Sprintf("log/%s/%d/@%d", topic, r.Record.Partition, r.Record.Offset), recordFact(r.Record))
			}
		}
		all = all[k:]
	}
	return nil
}

// partitions waits until the topic's metadata has reached the broker, which is a little after its creation was acknowledged.
func (w *writer) partitions(ctx context.Context, topic string) (int, error) {
	for deadline := time.Now().Add(startTimeout); ; <-time.After(10 * time.Millisecond) {
		topics, err := w.ListTopics(ctx, topic)
		if n := len(topics[topic].Partitions); err == nil && n > 0 {
			return n, nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("partitions of %s: %v", topic, errors.Join(err, topics[topic].Err))
		}
	}
}

func (w *writer) record(topic string, partition int32, i int, shape func(int, *kgo.Record)) *kgo.Record {
	w.ms = max(w.ms, firstMs)
	w.ms += w.rnd.Int64N(5) - 1 // now and then backwards
	r := &kgo.Record{Topic: topic, Partition: partition, Timestamp: time.UnixMilli(w.ms), Key: fmt.Appendf(nil, "%s-%d", w.tag, i),
		Value: fmt.Appendf(nil, "%s value %d %s", w.tag, i, strings.Repeat("abc", w.rnd.IntN(60)))}
	switch i % 7 {
	case 1:
		r.Key = nil
	case 2:
		r.Value = nil
	case 3:
		r.Key, r.Value = []byte{}, []byte{}
	case 4:
		r.Headers = []kgo.RecordHeader{{Key: "h", Value: []byte(w.tag)}, {Key: "empty", Value: []byte{}}, {Key: "null"}}
	}
	if shape != nil {
		shape(i, r)
	}
	return r
}

// trim deletes the beginning of a partition.
func (w *writer) trim(ctx context.Context) error {
	if err := w.produce(ctx, topicTrim, kgo.NoCompression(), 60, nil); err != nil {
		return err
	}
	ends, err := w.ListEndOffsets(ctx, topicTrim)
	if err != nil {
		return err
	}
	end, _ := ends.Lookup(topicTrim, 0)
	var o kadm.Offsets
	o.AddOffset(topicTrim, 0, end.Offset-5, -1)
	r, err := w.DeleteRecords(ctx, o)
	if err = errors.Join(err, r.Error()); err != nil {
		return err
	}
	w.m.forget("log/" + topicTrim + "/0/")
	return nil
}

// commits of a group without members, of a classic group and, where the node has them, of a consumer group.
func (w *writer) commits(ctx context.Context) error {
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: "codec-none", Partition: 0, At: int64(w.rnd.IntN(100)), LeaderEpoch: 0, Metadata: "left by " + w.tag})
	o.Add(kadm.Offset{Topic: "codec-gzip", Partition: 1, At: int64(w.rnd.IntN(100)), LeaderEpoch: -1})
	for _, group := range []string{"simple", w.tag + "-simple"} {
		r, err := w.CommitOffsets(ctx, group, o)
		if err = errors.Join(err, r.Error()); err != nil {
			return fmt.Errorf("group %s: %w", group, err)
		}
		for _, x := range o.Sorted() {
			w.m.set(commitPath(group, x.Topic, x.Partition), commitFact(x))
		}
	}
	if err := w.consume(ctx, "classic", false); err != nil {
		return fmt.Errorf("classic group: %w", err)
	}
	if level, err := w.level(ctx, "group.version"); err != nil {
		return err
	} else if level >= 1 && w.serves(kmsg.ConsumerGroupHeartbeat) {
		if err := w.consume(ctx, "modern", true); err != nil {
			return fmt.Errorf("consumer group: %w", err)
		}
	}
	return nil
}

// consumeNothing commits for a group, so that the topic of the commits is made.
func (w *writer) consumeNothing(ctx context.Context) error {
	topics, err := w.ListTopics(ctx)
	if err != nil || len(topics) == 0 {
		return fmt.Errorf("no topics: %w", err)
	}
	var o kadm.Offsets
	o.Add(kadm.Offset{Topic: topics.Names()[0], At: 1, LeaderEpoch: -1})
	r, err := w.CommitOffsets(ctx, "passing", o)
	return errors.Join(err, r.Error())
}

// consume joins a group, reads a topic's rest, commits and leaves.
func (w *writer) consume(ctx context.Context, group string, modern bool) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	opts := []kgo.Opt{kgo.SeedBrokers(w.addr), kgo.ConsumerGroup(group), kgo.ConsumeTopics("codec-lz4"), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100 * time.Millisecond)}
	if modern {
		opts = append(opts, kgo.WithContext(context.WithValue(ctx, "opt_in_kafka_next_gen_balancer_beta", true)))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	ends, err := w.ListEndOffsets(ctx, "codec-lz4")
	if err != nil {
		return err
	}
	reached := map[int32]bool{}
	for len(reached) < len(ends["codec-lz4"]) {
		fetches := cl.PollFetches(ctx)
		if err := errors.Join(fetches.Err0(), ctx.Err()); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset == ends["codec-lz4"][r.Partition].Offset-1 {
				reached[r.Partition] = true
			}
		})
	}
	if err := cl.CommitUncommittedOffsets(ctx); err != nil {
		return err
	}
	for p, o := range cl.CommittedOffsets()["codec-lz4"] {
		if o.Offset != ends["codec-lz4"][p].Offset {
			return fmt.Errorf("committed %d in partition %d, want %d", o.Offset, p, ends["codec-lz4"][p].Offset)
		}
	}
	w.m.forget("commit/"+group+"/", "group/"+group)
	cl.LeaveGroup()
	return nil
}

func (w *writer) level(ctx context.Context, feature string) (int16, error) {
	v, err := w.apiVersions(ctx)
	if err != nil {
		return 0, err
	}
	for _, f := range v.FinalizedFeatures {
		if f.Name == feature {
			return f.MaxVersionLevel, nil
		}
	}
	return 0, nil
}

// configs of topics, of the broker and of all brokers.
func (w *writer) configs(ctx context.Context) error {
	set := func(k, v string) kadm.AlterConfig { return kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: &v} }
	retention, message, lag := fmt.Sprint(90_000_000+w.rnd.IntN(1000)), fmt.Sprint(1_100_000+w.rnd.IntN(1000)), fmt.Sprint(300_000+w.rnd.IntN(1000))
	r, err := w.AlterTopicConfigs(ctx, []kadm.AlterConfig{set("retention.ms", retention)}, "codec-zstd", topicTxn)
	if err = altered(r, err); err != nil {
		return err
	}
	for _, t := range []string{"codec-zstd", topicTxn} {
		w.m.set("config/topic/"+t+"/retention.ms", retention)
	}
	if r, err = w.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "retention.ms"}}, w.tag+"-stays"); altered(r, err) != nil {
		return altered(r, err)
	}
	w.m.forget("config/topic/" + w.tag + "-stays/")
	if r, err = w.AlterBrokerConfigs(ctx, []kadm.AlterConfig{set("message.max.bytes", message)}, 1); altered(r, err) != nil {
		return altered(r, err)
	}
	key, value := "log.segment.delete.delay.ms", lag
	if r, err = w.AlterBrokerConfigs(ctx, []kadm.AlterConfig{set(key, value)}); altered(r, err) != nil {
		key, value = "log.retention.ms", retention
		if r, err = w.AlterBrokerConfigs(ctx, []kadm.AlterConfig{set(key, value)}); altered(r, err) != nil {
			return altered(r, err)
		}
	}
	w.m.forget("config/brokers/", "config/broker/")
	w.m.set("config/broker/1/message.max.bytes", message)
	w.m.set("config/brokers//"+key, value)
	for _, c := range []struct {
		kind             kmsg.ConfigResourceType
		name, key, value string
	}{
		{groupConfig, "modern", "consumer.session.timeout.ms", fmt.Sprint(45_000 + w.rnd.IntN(1000))},
		{groupConfig, w.tag, "consumer.heartbeat.interval.ms", fmt.Sprint(5_000 + w.rnd.IntN(1000))},
		{clientMetrics, w.tag, "interval.ms", fmt.Sprint(1000 * (1 + w.rnd.IntN(100)))},
	} {
		if err := w.setResource(ctx, c.kind, c.name, c.key, c.value); err != nil {
			return fmt.Errorf("%s of %v %s: %w", c.key, c.kind, c.name, err)
		}
	}
	return nil
}

// Kinds of resources that have configurations, beside topics and brokers.
const (
	clientMetrics kmsg.ConfigResourceType = 16
	groupConfig   kmsg.ConfigResourceType = 32
)

// setResource sets a configuration of a group or of client metrics.
func (w *writer) setResource(ctx context.Context, kind kmsg.ConfigResourceType, name, key, value string) error {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kind, name
	c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	c.Name, c.Value = key, &value
	r.Configs = append(r.Configs, c)
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, w.kgo)
	if err != nil {
		return err
	}
	for _, r := range resp.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return fmt.Errorf("%w %s", err, deref(r.ErrorMessage))
		}
	}
	w.m.set(fmt.Sprintf("config/%d/%s/%s", kind, name, key), value)
	if w.others == nil {
		w.others = map[kmsg.ConfigResourceType]map[string]bool{clientMetrics: {}, groupConfig: {}}
	}
	w.others[kind][name] = true
	return nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func altered(all kadm.AlterConfigsResponses, err error) error {
	for _, r := range all {
		if r.Err != nil {
			err = errors.Join(err, fmt.Errorf("configs of %s: %w %s", r.Name, r.Err, r.ErrMessage))
		}
	}
	return err
}

// security writes quotas and credentials, and ACLs where there is an authorizer.
func (w *writer) security(ctx context.Context) error {
	user := w.tag
	if w.serves(kmsg.AlterClientQuotas) {
		entity := func(kind, name string) kadm.ClientQuotaEntity {
			return kadm.ClientQuotaEntity{{Type: kind, Name: &name}}
		}
		r, err := w.AlterClientQuotas(ctx, []kadm.AlterClientQuotaEntry{
			{Entity: entity("user", user), Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 1e6 + float64(w.rnd.IntN(1000))}}},
			{Entity: kadm.ClientQuotaEntity{{Type: "client-id"}}, Ops: []kadm.AlterClientQuotaOp{{Key: "request_percentage", Value: 150.5}}},
			{Entity: append(entity("user", "both"), entity("client-id", user)...), Ops: []kadm.AlterClientQuotaOp{{Key: "consumer_byte_rate", Value: 4e7}}},
		})
		for _, x := range r {
			err = errors.Join(err, x.Err)
		}
		if err != nil {
			return fmt.Errorf("quotas: %w", err)
		}
	}
	level, err := w.level(ctx, "metadata.version")
	if err != nil {
		return err
	}
	if w.serves(kmsg.AlterUserSCRAMCredentials) && level >= 11 {
		for _, u := range []kadm.UpsertSCRAM{
			{User: user, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: "secret"},
			{User: user, Mechanism: kadm.ScramSha512, Iterations: 4097, Password: "secret"},
			{User: "everywhere", Mechanism: kadm.ScramSha256, Iterations: 4096 + int32(w.rnd.IntN(100)), Password: user},
		} {
			r, err := w.AlterUserSCRAMs(ctx, nil, []kadm.UpsertSCRAM{u})
			if err = errors.Join(err, r.Error()); err != nil {
				return fmt.Errorf("credentials: %w", err)
			}
			w.m.set(fmt.Sprintf("scram/%s/%v", u.User, u.Mechanism), fmt.Sprint(u.Iterations))
		}
	}
	if w.serves(kmsg.CreateACLs) {
		r, err := w.CreateACLs(ctx, kadm.NewACLs().Topics(w.tag).Groups(w.tag).ResourcePatternType(kadm.ACLPatternPrefixed).
			Operations(kadm.OpRead, kadm.OpWrite).Allow("User:"+user).AllowHosts("10.0.0.1"))
		if err != nil {
			return fmt.Errorf("acls: %w", err)
		}
		for _, x := range r {
			switch {
			case errors.Is(x.Err, kerr.SecurityDisabled):
			case x.Err != nil:
				return fmt.Errorf("acls: %w %s", x.Err, x.ErrMessage)
			default:
				w.m.set(aclPath(x.Type, x.Name, x.Pattern, x.Principal, x.Host, x.Operation, x.Permission), "")
			}
		}
	}
	return nil
}

// leftOpen is the transactional id whose transaction stays open when its client vanishes. The next client with this id, at
// whichever node has transactions then, has it aborted.
const leftOpen = "left-open"

// transactions: committed, aborted and left open.
func (w *writer) transactions(ctx context.Context) error {
	if !w.serves(kmsg.AddPartitionsToTxn) || !w.serves(kmsg.EndTxn) {
		return nil
	}
	for i, end := range []string{"commit", "abort", leftOpen} {
		txnID := w.tag + "-" + end
		if end == leftOpen {
			txnID = leftOpen
		}
		if err := w.transaction(ctx, txnID, end, i); err != nil {
			return fmt.Errorf("%s: %w", end, err)
		}
	}
	return nil
}

func (w *writer) transaction(ctx context.Context, txnID, end string, i int) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.addr), kgo.TransactionalID(txnID), kgo.TransactionTimeout(14*time.Minute),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	for k := range 6 {
		// An open transaction holds back what read_committed shows of its partition: only the second has one.
		partition := int32(k % 2)
		if end == leftOpen {
			partition = 1
		}
		r := w.record(topicTxn, partition, i*10+k, nil)
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			return err
		}
		w.m.set(fmt.Sprintf("log/%s/%d/@%d", topicTxn, r.Partition, r.Offset), recordFact(r))
	}
	if end == leftOpen {
		return nil
	}
	if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(end == "commit")); err != nil {
		return err
	}
	if end == "commit" {
		w.m.addCommitted(topicTxn, 0, 3)
	}
	return nil
}

// load writes until the node is gone and notes what was acknowledged. stop is called once enough was.
func (w *writer) load(ctx context.Context, enough int, stop func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(2000),
		kgo.RequestRetries(0), kgo.RecordRetries(1), kgo.ProducerBatchMaxBytes(32<<10))
	if err != nil {
		return err
	}
	defer cl.Close()
	w.m.forget("offset/"+topicLoad+"/", "time/"+topicLoad+"/", "producer/"+topicLoad+"/",
		fmt.Sprintf("log/%s/0/bytes", topicLoad), fmt.Sprintf("log/%s/1/bytes", topicLoad),
		fmt.Sprintf("log/%s/0/committed", topicLoad), fmt.Sprintf("log/%s/1/committed", topicLoad))
	for _, p := range []string{"offset", "time", "producer", "log"} {
		w.m.loose = append(w.m.loose, p+"/"+topicLoad+"/")
	}
	var mu sync.Mutex
	acked, full := 0, make(chan struct{})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := 0; ctx.Err() == nil && i < 2_000_000; i++ {
			r := w.record(topicLoad, int32(i%2), i, nil)
			cl.Produce(ctx, r, func(r *kgo.Record, err error) {
				if err != nil {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				w.m.set(fmt.Sprintf("log/%s/%d/@%d", topicLoad, r.Partition, r.Offset), recordFact(r))
				if acked++; acked == enough {
					close(full)
				}
			})
		}
	}()
	select {
	case <-full:
		err = stop()
	case <-sent:
		err = errors.New("the load ended before enough was acknowledged")
	case <-time.After(60 * time.Second):
		err = fmt.Errorf("%d of %d records acknowledged in a minute", acked, enough)
	}
	cancel()
	<-sent
	cl.Close() // fails what is buffered; no callback comes after it
	mu.Lock()
	defer mu.Unlock()
	return err
}
