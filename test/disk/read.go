package disk

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// facts are what a client can read of a cluster, one text per path, as in "log/orders/0/@17". Two openings of a directory that
// nobody changed in between have equal facts.
type facts map[string]string

// String counts the facts by kind.
func (f facts) String() string {
	kinds := map[string]int{}
	for path := range f {
		kind, _, _ := strings.Cut(path, "/")
		kinds[kind]++
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		out = append(out, fmt.Sprintf("%d %s", kinds[k], k))
	}
	return strings.Join(out, ", ")
}

// node is a client of the running node.
type node struct {
	*kadm.Client
	kgo  *kgo.Client
	addr string
	keys map[int16]bool // the APIs it serves
	// noACLs: it runs without an authorizer, and keeps what ACLs it has to itself.
	noACLs bool
	// leaveOut, if set, names topics that read leaves alone.
	leaveOut func(topic string) bool
	// others are the names of groups and client metrics that may have configurations.
	others map[kmsg.ConfigResourceType]map[string]bool
}

// dial connects to a node that is ready.
func dial(ctx context.Context, addr string) (*node, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		return nil, err
	}
	n := &node{Client: kadm.NewClient(cl), kgo: cl, addr: addr, keys: map[int16]bool{}}
	versions, err := n.apiVersions(ctx)
	if err != nil {
		cl.Close()
		return nil, err
	}
	for _, k := range versions.ApiKeys {
		n.keys[k.ApiKey] = true
	}
	return n, nil
}

func (n *node) serves(key kmsg.Key) bool { return n.keys[int16(key)] }

func (n *node) apiVersions(ctx context.Context) (*kmsg.ApiVersionsResponse, error) {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "disk", "1"
	resp, err := req.RequestWith(ctx, n.kgo)
	if err != nil {
		return nil, err
	}
	return resp, kerr.ErrorForCode(resp.ErrorCode)
}

// asked reports whether the node can be asked about a fact.
func (n *node) asked(path string) bool {
	switch kind, _, _ := strings.Cut(path, "/"); kind {
	case "acl":
		return n.serves(kmsg.DescribeACLs) && !n.noACLs
	case "quota":
		return n.serves(kmsg.DescribeClientQuotas)
	case "transaction":
		return n.serves(kmsg.ListTransactions) && n.serves(kmsg.DescribeTransactions)
	case "scram":
		return n.serves(kmsg.DescribeUserSCRAMCredentials)
	}
	return true
}

// read collects the facts. times are looked up in every partition. What asks the client to try again is tried again: on a machine with
// much else to do a node may miss its own heartbeats, and leads nothing for a moment.
func (n *node) read(ctx context.Context, times []int64) (facts, error) {
	for deadline := time.Now().Add(startTimeout); ; {
		f, err := n.readOnce(ctx, times)
		if err == nil || !kerr.IsRetriable(err) || time.Now().After(deadline) {
			return f, err
		}
	}
}

func (n *node) readOnce(ctx context.Context, times []int64) (facts, error) {
	f := facts{}
	topics, err := n.settled(ctx)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(topics, func(topic string, _ kadm.TopicDetail) bool { return n.leaveOut != nil && n.leaveOut(topic) })
	versions, err := n.apiVersions(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range versions.FinalizedFeatures {
		f["feature/"+x.Name] = fmt.Sprint(x.MaxVersionLevel)
	}
	for _, step := range []func() error{
		func() error { return n.readTopics(ctx, f, topics) },
		func() error { return n.readConfigs(ctx, f, topics.Names()) },
		func() error { return n.readOffsets(ctx, f, topics, times) },
		func() error { return n.readLogs(ctx, f, topics) },
		func() error { return n.readProducers(ctx, f, topics) },
		func() error { return n.readGroups(ctx, f) },
		func() error { return n.readTransactions(ctx, f) },
		func() error { return n.readSecurity(ctx, f) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// settled waits until nothing is under way that was acknowledged: the broker shows what its controller has committed, every partition
// has its leader, the coordinators have loaded, and ended transactions have their markers.
func (n *node) settled(ctx context.Context) (kadm.TopicDetails, error) {
	committed := int64(-1)
	for deadline := time.Now().Add(startTimeout); ; <-time.After(50 * time.Millisecond) {
		var topics kadm.TopicDetails
		var err error
		if committed < 0 {
			committed, err = n.committed(ctx)
		}
		if err == nil {
			err = n.shows(ctx, committed)
		}
		if err == nil {
			topics, err = n.allLed(ctx)
		}
		if err == nil {
			err = n.coordinated(ctx)
		}
		if err == nil || time.Now().After(deadline) {
			return topics, err
		}
	}
}

// committed is the high watermark of the metadata log.
func (n *node) committed(ctx context.Context) (int64, error) {
	q, err := n.quorum(ctx)
	return q.HighWatermark, err
}

func (n *node) quorum(ctx context.Context) (p kmsg.DescribeQuorumResponseTopicPartition, err error) {
	req := kmsg.NewPtrDescribeQuorumRequest()
	t := kmsg.NewDescribeQuorumRequestTopic()
	t.Topic = "__cluster_metadata"
	t.Partitions = append(t.Partitions, kmsg.NewDescribeQuorumRequestTopicPartition())
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, n.kgo)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err == nil && (len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1) {
		err = fmt.Errorf("%d topics are described", len(resp.Topics))
	}
	if err != nil {
		return p, fmt.Errorf("describe the quorum: %w", err)
	}
	return resp.Topics[0].Partitions[0], kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

// shows is nil when the broker shows the metadata below an offset: the epoch of its features is the offset of its last record.
func (n *node) shows(ctx context.Context, offset int64) error {
	v, err := n.apiVersions(ctx)
	if err == nil && v.FinalizedFeaturesEpoch < offset-1 {
		err = fmt.Errorf("the broker shows the metadata up to %d of %d", v.FinalizedFeaturesEpoch, offset-1)
	}
	return err
}

func (n *node) allLed(ctx context.Context) (kadm.TopicDetails, error) {
	topics, err := n.ListTopicsWithInternal(ctx)
	for _, t := range topics {
		err = errors.Join(err, t.Err)
		for _, p := range t.Partitions {
			if p.Err != nil || p.Leader != 1 {
				err = errors.Join(err, fmt.Errorf("partition %s-%d: leader %d, %w", t.Topic, p.Partition, p.Leader, p.Err))
			}
		}
	}
	return topics, err
}

// coordinated is nil when the coordinators have loaded and no transaction waits for its markers.
func (n *node) coordinated(ctx context.Context) error {
	if _, err := n.ListGroups(ctx); err != nil {
		return fmt.Errorf("list groups: %w", err)
	}
	if !n.asked("transaction/") {
		return nil
	}
	ending, err := n.ListTransactions(ctx, nil, []string{"PrepareCommit", "PrepareAbort"})
	if err != nil {
		return fmt.Errorf("list transactions: %w", err)
	}
	if len(ending) > 0 {
		return fmt.Errorf("the transactions %v wait for their markers", ending.TransactionalIDs())
	}
	return nil
}

func (n *node) readTopics(_ context.Context, f facts, topics kadm.TopicDetails) error {
	for _, t := range topics.Sorted() {
		f["topic/"+t.Topic] = fmt.Sprintf("id %s, partitions %d", t.ID, len(t.Partitions))
	}
	return nil
}

func (n *node) readConfigs(ctx context.Context, f facts, topics []string) error {
	keep := func(path string, all kadm.ResourceConfigs, sources ...kmsg.ConfigSource) error {
		for _, r := range all {
			if r.Err != nil {
				return fmt.Errorf("configs of %s: %w", r.Name, r.Err)
			}
			for _, c := range r.Configs {
				if slices.Contains(sources, c.Source) {
					f[fmt.Sprintf("config/%s/%s/%s", path, r.Name, c.Key)] = c.MaybeValue()
				}
			}
		}
		return nil
	}
	if len(topics) > 0 {
		all, err := n.DescribeTopicConfigs(ctx, topics...)
		if err != nil {
			return err
		}
		if err := keep("topic", all, kmsg.ConfigSourceDynamicTopicConfig); err != nil {
			return err
		}
	}
	one, err := n.DescribeBrokerConfigs(ctx, 1)
	if err != nil {
		return err
	}
	if err := keep("broker", one, kmsg.ConfigSourceDynamicBrokerConfig); err != nil {
		return err
	}
	// The default of all brokers.
	all, err := n.DescribeBrokerConfigs(ctx)
	if err != nil {
		return err
	}
	if err := keep("brokers", all, kmsg.ConfigSourceDynamicDefaultBrokerConfig); err != nil {
		return err
	}
	return n.readOtherConfigs(ctx, f)
}

// readOtherConfigs notes the configurations of groups and of client metrics.
func (n *node) readOtherConfigs(ctx context.Context, f facts) error {
	req := kmsg.NewPtrDescribeConfigsRequest()
	for kind, names := range n.others {
		for name := range names {
			r := kmsg.NewDescribeConfigsRequestResource()
			r.ResourceType, r.ResourceName = kind, name
			req.Resources = append(req.Resources, r)
		}
	}
	if len(req.Resources) == 0 {
		return nil
	}
	resp, err := req.RequestWith(ctx, n.kgo)
	if err != nil {
		return err
	}
	for _, r := range resp.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			return fmt.Errorf("configs of %v %s: %w %s", r.ResourceType, r.ResourceName, err, deref(r.ErrorMessage))
		}
		for _, c := range r.Configs {
			if c.Source == dynamicClientMetrics || c.Source == dynamicGroup {
				f[fmt.Sprintf("config/%d/%s/%s", r.ResourceType, r.ResourceName, c.Name)] = deref(c.Value)
			}
		}
	}
	return nil
}

// Where a configuration that was set for one group, or for one kind of client metrics, comes from (KIP-714, KIP-848).
const (
	dynamicClientMetrics kmsg.ConfigSource = 7
	dynamicGroup         kmsg.ConfigSource = 8
)

// internal topics are written by the node itself.
func internal(topic string) bool { return strings.HasPrefix(topic, "__") }

func (n *node) readOffsets(ctx context.Context, f facts, topics kadm.TopicDetails, times []int64) error {
	var names []string
	for _, t := range topics.Names() {
		if !internal(t) {
			names = append(names, t)
		}
	}
	if len(names) == 0 {
		return nil
	}
	keep := func(what string, all kadm.ListedOffsets, err error) error {
		if err != nil {
			return fmt.Errorf("offsets %s: %w", what, err)
		}
		all.Each(func(o kadm.ListedOffset) {
			if o.Err != nil {
				err = errors.Join(err, fmt.Errorf("offsets %s of %s-%d: %w", what, o.Topic, o.Partition, o.Err))
			}
			epoch := o.LeaderEpoch
			if what == "end" || what == "stable" {
				epoch = -1 // the leader's own, which each opening raises
			}
			f[fmt.Sprintf("offset/%s/%d/%s", o.Topic, o.Partition, what)] = fmt.Sprintf("%d ts %d epoch %d", o.Offset, o.Timestamp, epoch)
		})
		return err
	}
	start, err := n.ListStartOffsets(ctx, names...)
	if err := keep("start", start, err); err != nil {
		return err
	}
	end, err := n.ListEndOffsets(ctx, names...)
	if err := keep("end", end, err); err != nil {
		return err
	}
	start.Each(func(o kadm.ListedOffset) {
		if e, _ := end.Lookup(o.Topic, o.Partition); e.Offset == o.Offset { // empty: its epoch is the leader's own, too
			f[fmt.Sprintf("offset/%s/%d/start", o.Topic, o.Partition)] = fmt.Sprintf("%d ts -1 epoch -1", o.Offset)
		}
	})
	stable, err := n.ListCommittedOffsets(ctx, names...)
	if err := keep("stable", stable, err); err != nil {
		return err
	}
	most, err := n.ListMaxTimestampOffsets(ctx, names...)
	if err := keep("max timestamp", most, err); err != nil {
		return err
	}
	// kadm turns "no such time" into the end; the wire says which it was.
	for _, ts := range times {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = -1
		for _, name := range names {
			t := kmsg.NewListOffsetsRequestTopic()
			t.Topic = name
			for p := range topics[name].Partitions {
				x := kmsg.NewListOffsetsRequestTopicPartition()
				x.Partition, x.Timestamp, x.CurrentLeaderEpoch = p, ts, -1
				t.Partitions = append(t.Partitions, x)
			}
			req.Topics = append(req.Topics, t)
		}
		resp, err := req.RequestWith(ctx, n.kgo)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return fmt.Errorf("time look-up in %s-%d: %w", t.Topic, p.Partition, err)
				}
				f[fmt.Sprintf("time/%s/%d/%d", t.Topic, p.Partition, ts)] = fmt.Sprintf("%d ts %d epoch %d", p.Offset, p.Timestamp, p.LeaderEpoch)
			}
		}
	}
	return nil
}

// fetched is the content of a partition as it is served.
type fetched struct {
	bytes   []byte
	records []*kgo.Record
	aborted string
}

// readLogs reads every partition whole, uncommitted records and markers included, and once more as read_committed.
func (n *node) readLogs(ctx context.Context, f facts, topics kadm.TopicDetails) error {
	starts, err := n.ListStartOffsets(ctx, topics.Names()...)
	if err != nil {
		return err
	}
	for _, t := range topics.Sorted() {
		for p := range t.Partitions {
			path := fmt.Sprintf("log/%s/%d", t.Topic, p)
			start, _ := starts.Lookup(t.Topic, p)
			if start.Err != nil {
				return fmt.Errorf("start of %s: %w", path, start.Err)
			}
			all, err := n.fetch(ctx, t.Topic, t.ID, p, 0, start.Offset)
			if err != nil {
				return fmt.Errorf("read %s: %w", path, err)
			}
			sum := sha256.Sum256(all.bytes)
			f[path+"/bytes"] = fmt.Sprintf("%d, sha256 %x", len(all.bytes), sum[:8])
			for _, r := range all.records {
				f[fmt.Sprintf("%s/@%d", path, r.Offset)] = recordFact(r)
			}
			if compacted(t.Topic) {
				readKeys(f, t.Topic, p, all.records)
			}
			if internal(t.Topic) {
				continue
			}
			committed, err := n.fetch(ctx, t.Topic, t.ID, p, 1, start.Offset)
			if err != nil {
				return fmt.Errorf("read %s committed: %w", path, err)
			}
			h := sha256.New()
			for _, r := range committed.records {
				fmt.Fprintln(h, r.Offset, recordFact(r))
			}
			f[path+"/committed"] = fmt.Sprintf("%d records, %x, aborted %s", len(committed.records), h.Sum(nil)[:8], committed.aborted)
		}
	}
	return nil
}

// readKeys notes the last value of each key of a compacted topic: what compaction must not change, whoever did it and when.
func readKeys(f facts, topic string, partition int32, records []*kgo.Record) {
	for _, r := range records {
		path := fmt.Sprintf("key/%s/%d/%s", topic, partition, r.Key)
		if f[path] = recordFact(r); r.Value == nil {
			delete(f, path) // a tombstone goes after a while
		}
	}
}

// fetch reads a partition from offset to what the isolation level shows.
func (n *node) fetch(ctx context.Context, topic string, topicID kadm.TopicID, partition int32, isolation int8, offset int64) (*fetched, error) {
	out := &fetched{}
	aborted := map[string]bool{}
	for range 100_000 {
		req := kmsg.NewPtrFetchRequest()
		req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.IsolationLevel, req.SessionEpoch = -1, 0, 0, 64<<20, isolation, -1
		t := kmsg.NewFetchRequestTopic()
		t.Topic, t.TopicID = topic, topicID
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.CurrentLeaderEpoch, p.LastFetchedEpoch, p.PartitionMaxBytes = partition, offset, -1, -1, 4<<20
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
		r, err := n.kgo.Broker(1).RetriableRequest(ctx, req)
		if err != nil {
			return nil, err
		}
		resp := r.(*kmsg.FetchResponse)
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return nil, fmt.Errorf("a fetch answer of %d topics, error %v", len(resp.Topics), kerr.ErrorForCode(resp.ErrorCode))
		}
		part := &resp.Topics[0].Partitions[0]
		err = kerr.ErrorForCode(part.ErrorCode)
		if err != nil {
			return nil, fmt.Errorf("fetch at %d: %w", offset, err)
		}
		bound := part.HighWatermark
		if isolation == 1 {
			bound = part.LastStableOffset
		}
		next, whole := nextOffset(part.RecordBatches)
		if next < 0 {
			if offset < bound && isolation == 0 {
				return nil, fmt.Errorf("nothing at %d, below the high watermark %d", offset, bound)
			}
			out.aborted = strings.Join(slices.Sorted(maps.Keys(aborted)), " ")
			return out, nil
		}
		for _, a := range part.AbortedTransactions {
			aborted[fmt.Sprintf("%d@%d", a.ProducerID, a.FirstOffset)] = true
		}
		out.bytes = append(out.bytes, part.RecordBatches[:whole]...) // the last batch may be cut
		o := kgo.ProcessFetchPartitionOpts{Offset: offset, Topic: topic, Partition: partition, KeepControlRecords: isolation == 0,
			IsolationLevel: kgo.ReadUncommitted()}
		if isolation == 1 {
			o.IsolationLevel = kgo.ReadCommitted()
		}
		fp, _ := kgo.ProcessFetchPartition(o, part, kgo.DefaultDecompressor(), nil)
		if fp.Err != nil && !unreadable(topic) {
			return nil, fmt.Errorf("records at %d: %w", offset, fp.Err)
		}
		out.records = append(out.records, fp.Records...)
		if next <= offset {
			return nil, fmt.Errorf("asked for offset %d, got batches up to %d", offset, next-1)
		}
		offset = next
	}
	return nil, errors.New("the partition does not end")
}

// unreadable topics hold LZ4 of format 0, whose frames have a checksum that is wrong by tradition (KAFKA-3160); this client insists
// on the right one. Their bytes are compared all the same.
func unreadable(topic string) bool { return strings.HasPrefix(topic, "old-0-lz4-") }

// nextOffset is the offset after the last whole entry, and how far it reaches; -1 without any. Entries of the old formats carry their
// last offset.
func nextOffset(b []byte) (next int64, whole int) {
	next = -1
	for len(b) >= whole+17 {
		x := b[whole:]
		size := 12 + int(binary.BigEndian.Uint32(x[8:]))
		if size > len(x) {
			break
		}
		next = int64(binary.BigEndian.Uint64(x)) + 1
		if x[16] == 2 {
			next += int64(int32(binary.BigEndian.Uint32(x[23:])))
		}
		whole += size
	}
	return next, whole
}

// recordFact says what a consumer sees of a record, but its offset.
func recordFact(r *kgo.Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ts %d key %s value %s", r.Timestamp.UnixMilli(), short(r.Key), short(r.Value))
	for _, h := range r.Headers {
		fmt.Fprintf(&b, " %s=%s", h.Key, short(h.Value))
	}
	return b.String()
}

func short(b []byte) string {
	switch {
	case b == nil:
		return "null"
	case len(b) <= 40:
		return fmt.Sprintf("%q", b)
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%d bytes %s", len(b), hex.EncodeToString(sum[:6]))
}

func (n *node) readProducers(ctx context.Context, f facts, topics kadm.TopicDetails) error {
	set := kadm.TopicsSet{}
	for _, t := range topics.Names() {
		if internal(t) {
			continue
		}
		for p := range topics[t].Partitions {
			set.Add(t, p)
		}
	}
	if len(set) == 0 {
		return nil
	}
	all, err := n.DescribeProducers(ctx, set)
	if err != nil {
		return err
	}
	for _, t := range all {
		for _, p := range t.Partitions {
			if p.Err != nil {
				return fmt.Errorf("producers of %s-%d: %w", p.Topic, p.Partition, p.Err)
			}
			for _, x := range p.ActiveProducers {
				f[fmt.Sprintf("producer/%s/%d/%d", p.Topic, p.Partition, x.ProducerID)] = fmt.Sprintf("epoch %d sequence %d ts %d coordinator epoch %d transaction from %d",
					x.ProducerEpoch, x.LastSequence, x.LastTimestamp, x.CoordinatorEpoch, x.CurrentTxnStartOffset)
			}
		}
	}
	return nil
}

func (n *node) readGroups(ctx context.Context, f facts) error {
	groups, err := n.ListGroups(ctx)
	if err != nil {
		return err
	}
	for _, g := range groups.Sorted() {
		f["group/"+g.Group] = fmt.Sprintf("protocol type %s, %s", g.ProtocolType, g.State)
		offsets, err := n.FetchOffsets(ctx, g.Group)
		if err != nil {
			return fmt.Errorf("offsets of group %s: %w", g.Group, err)
		}
		for _, o := range offsets.Sorted() {
			if o.Err != nil {
				return fmt.Errorf("offset of group %s: %w", g.Group, o.Err)
			}
			f[commitPath(g.Group, o.Topic, o.Partition)] = commitFact(o.Offset)
		}
	}
	return nil
}

// readTransactions notes how far each transactional id is.
func (n *node) readTransactions(ctx context.Context, f facts) error {
	if !n.asked("transaction/") {
		return nil
	}
	all, err := n.ListTransactions(ctx, nil, nil)
	if err != nil || len(all) == 0 {
		return err
	}
	described, err := n.DescribeTransactions(ctx, slices.Sorted(maps.Keys(all))...)
	if err != nil {
		return err
	}
	for _, t := range described {
		if t.Err != nil {
			return fmt.Errorf("transaction %s: %w", t.TxnID, t.Err)
		}
		var where []string
		for _, topic := range t.Topics.Sorted() {
			where = append(where, fmt.Sprint(topic.Topic, topic.Partitions))
		}
		f["transaction/"+t.TxnID] = fmt.Sprintf("%s producer %d epoch %d timeout %d in %v", t.State, t.ProducerID, t.ProducerEpoch, t.TimeoutMillis, where)
	}
	return nil
}

func commitPath(group, topic string, partition int32) string {
	return fmt.Sprintf("commit/%s/%s/%d", group, topic, partition)
}

func commitFact(o kadm.Offset) string {
	return fmt.Sprintf("%d epoch %d metadata %q", o.At, o.LeaderEpoch, o.Metadata)
}

func aclPath(kind kmsg.ACLResourceType, name string, pattern kadm.ACLPattern, principal, host string, op kadm.ACLOperation, permission kmsg.ACLPermissionType) string {
	return fmt.Sprintf("acl/%v/%s/%v/%s/%s/%v/%v", kind, name, pattern, principal, host, op, permission)
}

func (n *node) readSecurity(ctx context.Context, f facts) error {
	if n.serves(kmsg.DescribeClientQuotas) {
		quotas, err := n.DescribeClientQuotas(ctx, false, nil)
		if err != nil {
			return err
		}
		for _, q := range quotas {
			entity := q.Entity.String()
			for _, v := range q.Values {
				f["quota/"+entity+"/"+v.Key] = fmt.Sprint(v.Value)
			}
		}
	}
	if n.serves(kmsg.DescribeUserSCRAMCredentials) {
		users, err := n.DescribeUserSCRAMs(ctx)
		if err != nil {
			return err
		}
		for _, u := range users.Sorted() {
			if u.Err != nil {
				return u.Err
			}
			for _, c := range u.CredInfos {
				f[fmt.Sprintf("scram/%s/%v", u.User, c.Mechanism)] = fmt.Sprint(c.Iterations)
			}
		}
	}
	if n.serves(kmsg.DescribeACLs) {
		acls, err := n.DescribeACLs(ctx, kadm.NewACLs().AnyResource().ResourcePatternType(kadm.ACLPatternAny).Operations().Allow().Deny().AllowHosts().DenyHosts())
		if err != nil {
			return err
		}
		for _, r := range acls {
			if errors.Is(r.Err, kerr.SecurityDisabled) {
				n.noACLs = true
				continue
			}
			if r.Err != nil {
				return r.Err
			}
			for _, a := range r.Described {
				f[aclPath(a.Type, a.Name, a.Pattern, a.Principal, a.Host, a.Operation, a.Permission)] = ""
			}
		}
	}
	return nil
}
