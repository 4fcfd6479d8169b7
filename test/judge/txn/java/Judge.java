package kafka.coordinator.transaction;

import kafka.server.KafkaConfig;
import kafka.server.ReplicaManager;
import org.apache.kafka.clients.ClientResponse;
import org.apache.kafka.clients.NetworkClient;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicIdPartition;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.metrics.Metrics;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.requests.*;
import org.apache.kafka.common.requests.ProduceResponse.PartitionResponse;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.common.utils.internals.LogContext;
import org.apache.kafka.common.utils.internals.ProducerIdAndEpoch;
import org.apache.kafka.coordinator.transaction.*;
import org.apache.kafka.metadata.MetadataCache;
import org.apache.kafka.server.common.*;
import org.apache.kafka.server.storage.log.FetchIsolation;
import org.apache.kafka.server.util.RequestAndCompletionHandler;
import org.apache.kafka.server.util.Scheduler;
import org.apache.kafka.storage.internals.log.*;
import scala.Function1;
import scala.Option;
import scala.runtime.BoxedUnit;

import java.io.*;
import java.lang.reflect.Field;
import java.lang.reflect.Proxy;
import java.nio.ByteBuffer;
import java.util.*;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ScheduledFuture;

/**
 * Drives Apache Kafka's TransactionCoordinator, TransactionStateManager and TransactionMarkerChannelManager: reads a step a line,
 * prints what came of it, then a dot. It has the rest of the broker's part: the clock, the scheduler, the log, who leads the
 * partitions, and the answers to WriteTxnMarkers. It is in Kafka's package because part of that is private to it.
 *
 * Lines are "a" an answer, "R" a record that an append was asked for, "s" a transaction as DescribeTransactions shows it, "l" what
 * ListTransactions shows, "m" markers that are on their way, "n" how many producer ids a name has had, "h" the names whose appends
 * are held, "k" a kept difference that was smoothed out (see rules.go), "x" an exception, which ends the run.
 */
public class Judge {
    static final long START = 1_700_000_000_000L, ABORT = 10_000, SWEEP = 3_600_000, EXPIRATION = 7_200_000, RETRY = 1_000;
    static final int MAX_TIMEOUT = 900_000;
    static final PrintStream out = new PrintStream(new BufferedOutputStream(System.out, 1 << 16));
    static final TopicPartition STATE = new TopicPartition("__transaction_state", 0);
    static final List<String> names = List.of("a", "b", "c");

    static long now, loaded, decided; // the clock, when the partition was loaded, when something was asked or decided last
    static int epoch, committed, large;
    static boolean hold, ids;
    static short level;
    static Errors fail; // of every append; with large set only of records with more partitions than that
    static String current; // the name that was looked up last
    static TransactionCoordinator coordinator;
    static States states;
    static Channel channel;
    static Runnable abort, sweep;
    static final List<SimpleRecord> log = new ArrayList<>();
    static final List<Held> held = new ArrayList<>();
    static final List<Out> sent = new ArrayList<>(), late = new ArrayList<>();
    static final Map<PendingCompleteTxn, Long> retries = new LinkedHashMap<>();
    static final Set<TopicPartition> gone = new HashSet<>();
    static final Map<String, Integer> drawn = new TreeMap<>();
    static final Map<String, short[]> epochs = new HashMap<>(); // before the decision: the present and the last
    static final Map<String, Long> prepared = new HashMap<>(); // when a transaction without partitions was prepared, and ended in one with that by ours

    record Held(List<String> names, Function1<Map<TopicIdPartition, PartitionResponse>, BoxedUnit> done, TopicIdPartition tp) { }
    record Out(PendingCompleteTxnAndMarkerEntry entry, Node to) { }

    static final class Clock implements Time {
        public long milliseconds() { return now; }
        public long nanoseconds() { return now * 1_000_000L; }
        public void sleep(long ms) { }
    }

    static final class Tasks implements Scheduler {
        public void startup() { }
        public void shutdown() { }
        public ScheduledFuture<?> schedule(String name, Runnable r, long delay, long period) {
            switch (name) {
                case "transaction-abort" -> abort = r;
                case "transactionalId-expiration" -> sweep = r;
                default -> r.run(); // the load
            }
            return null;
        }
        public void resizeThreadPool(int n) { }
    }

    /** The log. Its constructors are never run. */
    static final class Replicas extends ReplicaManager {
        Replicas() { super(null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null); }
        @Override public TopicIdPartition topicIdPartition(TopicPartition tp) { return new TopicIdPartition(new Uuid(1, 1), tp); }
        @Override public Option<LogConfig> getLogConfig(TopicPartition tp) { return Option.apply(new LogConfig(Map.of())); }
        @Override public Option<Object> getLogEndOffset(TopicPartition tp) { return Option.apply((Object) (long) log.size()); }
        @Override public Option<UnifiedLog> getLog(TopicPartition tp) { return Option.apply(allocate(Log.class)); }
        @Override public void appendRecords(long timeout, short acks, boolean internal, AppendOrigin origin, scala.collection.Map<TopicIdPartition, MemoryRecords> entries,
                Function1<Map<TopicIdPartition, PartitionResponse>, BoxedUnit> done, Function1<scala.collection.Map<TopicIdPartition, org.apache.kafka.storage.internals.log.RecordValidationStats>, BoxedUnit> stats,
                RequestLocal local, scala.collection.Map<TopicPartition, VerificationGuard> guards, short version) {
            var head = entries.head();
            List<String> whose = new ArrayList<>();
            List<SimpleRecord> rs = new ArrayList<>();
            boolean tooLarge = false;
            for (org.apache.kafka.common.record.internal.Record r : head._2().records()) {
                SimpleRecord s = new SimpleRecord(r.timestamp(), copy(r.key()), copy(r.value()));
                rs.add(s);
                var read = TransactionLog.read(s.key().duplicate(), s.value() == null ? null : s.value().duplicate());
                if (read instanceof TransactionLog.TxnRecord t) {
                    whose.add(t.transactionId());
                    tooLarge |= partitions(t.metadata()).size() > large;
                } else whose.add(((TransactionLog.TxnTombstone) read).transactionId());
                out.println("R " + whose.get(whose.size() - 1) + " " + hex(s.key()) + " " + hex(s.value()));
            }
            decided = now;
            if (fail != null && (large < 0 || tooLarge)) { done.apply(Map.of(head._1(), new PartitionResponse(fail))); return; }
            log.addAll(rs);
            Held h = new Held(whose, done, head._1());
            if (hold) held.add(h); else { committed = log.size(); h.done.apply(Map.of(h.tp, new PartitionResponse(Errors.NONE))); }
        }
    }

    static final class Log extends UnifiedLog {
        Log() throws IOException { super(0, null, null, 0, null, null, Optional.empty(), false, null); }
        @Override public long logStartOffset() { return 0; }
        @Override public FetchDataInfo read(long from, int max, FetchIsolation isolation, boolean one) {
            return new FetchDataInfo(new LogOffsetMetadata(from), MemoryRecords.withRecords(from, Compression.NONE, log.subList((int) from, log.size()).toArray(new SimpleRecord[0])));
        }
    }

    static final class Net extends NetworkClient {
        Net() { super(null, (org.apache.kafka.clients.Metadata) null, "", 0, 0, 0, 0, 0, 0, 0, 0, null, false, null, (LogContext) null, null, (org.apache.kafka.clients.BootstrapConfiguration) null, false); }
        @Override public void wakeup() { }
    }

    static final class Channel extends TransactionMarkerChannelManager {
        Channel(KafkaConfig c, MetadataCache m, NetworkClient n, TransactionStateManager s) { super(c, m, n, s, new Clock()); }
        @Override public synchronized void start() { } // its loop is drain, below
    }

    static final class States extends TransactionStateManager {
        States(MetadataCache cache, TransactionConfig c) { super(0, new Tasks(), allocate(Replicas.class), cache, c, new Clock(), new Metrics()); }
        @Override public scala.util.Either<Errors, Option<CoordinatorEpochAndTxnMetadata>> getTransactionState(String name) { current = name; return super.getTransactionState(name); }
        // Kept difference "time of an end": that of the record, not that of the decision to send markers.
        @Override public void appendTransactionToLog(String name, int epoch, TxnTransitMetadata m, Function1<Errors, BoxedUnit> done, Function1<Errors, Object> retry, RequestLocal local) {
            long at = now;
            switch (m.txnState()) {
                case PREPARE_ABORT, PREPARE_COMMIT -> { if (m.topicPartitions().isEmpty()) prepared.put(name, m.txnLastUpdateTimestamp()); else prepared.remove(name); }
                case COMPLETE_ABORT, COMPLETE_COMMIT -> {
                    at = prepared.getOrDefault(name, now);
                    if (at != m.txnLastUpdateTimestamp()) {
                        kept("time of an end");
                        m = new TxnTransitMetadata(m.producerId(), m.prevProducerId(), m.nextProducerId(), m.producerEpoch(), m.lastProducerEpoch(), m.txnTimeoutMs(),
                            m.txnState(), m.topicPartitions(), m.txnStartTimestamp(), at, m.clientTransactionVersion());
                    }
                }
                case EMPTY -> { // kept difference "repeated start"
                    TransactionMetadata t = getTransactionMetadata(name).orElse(null);
                    if (t != null && t.producerId() == m.producerId() && t.producerEpoch() == m.producerEpoch() && t.prevProducerId() != m.prevProducerId()) {
                        kept("repeated start");
                        m = new TxnTransitMetadata(m.producerId(), t.prevProducerId(), m.nextProducerId(), m.producerEpoch(), m.lastProducerEpoch(), m.txnTimeoutMs(),
                            m.txnState(), m.topicPartitions(), m.txnStartTimestamp(), m.txnLastUpdateTimestamp(), m.clientTransactionVersion());
                    }
                }
                default -> { }
            }
            super.appendTransactionToLog(name, epoch, m, done, retry, local);
        }
    }

    static void kept(String rule) { out.println("k " + rule); }

    @SuppressWarnings("unchecked")
    static <T> T allocate(Class<T> c) {
        try {
            Field f = sun.misc.Unsafe.class.getDeclaredField("theUnsafe");
            f.setAccessible(true);
            return (T) ((sun.misc.Unsafe) f.get(null)).allocateInstance(c);
        } catch (ReflectiveOperationException e) { throw new IllegalStateException(e); }
    }

    @SuppressWarnings("unchecked")
    static <T> T get(Class<?> c, Object o, String name) {
        try { Field f = c.getDeclaredField(name); f.setAccessible(true); return (T) f.get(o); } catch (ReflectiveOperationException e) { throw new IllegalStateException(e); }
    }

    static byte[] copy(ByteBuffer b) {
        if (b == null) return null;
        byte[] x = new byte[b.remaining()];
        b.duplicate().get(x);
        return x;
    }
    static String hex(ByteBuffer b) { return b == null ? "nil" : HexFormat.of().formatHex(copy(b)); }

    static Set<TopicPartition> partitions(TransactionMetadata m) { return m.topicPartitions(); }

    static final MetadataCache cache = (MetadataCache) Proxy.newProxyInstance(Judge.class.getClassLoader(), new Class<?>[]{MetadataCache.class}, (p, m, a) -> switch (m.getName()) {
        case "features" -> FinalizedFeatures.of(MetadataVersion.latestProduction(), Map.of("transaction.version", level), 0);
        case "getPartitionLeaderEndpoint" -> gone.contains(new TopicPartition((String) a[0], (Integer) a[1])) ? Optional.empty() : Optional.of(new Node((Integer) a[1] % 2 + 1, "host", 9092));
        default -> throw new IllegalStateException(m.getName());
    });

    static void build() {
        Properties p = new Properties();
        for (String kv : List.of("process.roles=broker", "node.id=0", "controller.quorum.voters=9@localhost:9093", "controller.listener.names=C", "listeners=PLAINTEXT://localhost:9092"))
            p.put(kv.substring(0, kv.indexOf('=')), kv.substring(kv.indexOf('=') + 1));
        TransactionConfig c = new TransactionConfig((int) EXPIRATION, MAX_TIMEOUT, 1, (short) 1, 1 << 20, 1 << 20, 1, (int) ABORT, (int) SWEEP, false, 30_000);
        states = new States(cache, c);
        channel = new Channel(KafkaConfig.fromProps(p), cache, allocate(Net.class), states);
        ProducerIdManager m = () -> {
            if (!ids) throw Errors.COORDINATOR_LOAD_IN_PROGRESS.exception();
            return (names.indexOf(current) + 1) * 1000 + drawn.merge(current, 1, Integer::sum);
        };
        coordinator = new TransactionCoordinator(c, new Tasks(), () -> m, states, channel, new Clock(), new LogContext());
        coordinator.startup(() -> 1, true);
    }

    static Collection<TransactionMetadata> all() {
        var e = states.transactionMetadataCache().get(0);
        return e.isEmpty() ? List.of() : ((TxnMetadataCacheEntry) e.get()).metadataPerTransactionalId().values();
    }

    /** What the channel's own thread does all the time. */
    static void drain() {
        LinkedBlockingQueue<PendingCompleteTxn> q = get(TransactionMarkerChannelManager.class, channel, "txnLogAppendRetryQueue");
        while (true) {
            for (PendingCompleteTxn t; (t = q.poll()) != null; ) retries.put(t, Math.max(now, decided + RETRY));
            var rs = channel.generateRequests();
            if (rs.isEmpty() && q.isEmpty()) return;
            for (RequestAndCompletionHandler r : rs) {
                List<PendingCompleteTxnAndMarkerEntry> l = get(TransactionMarkerRequestCompletionHandler.class, r.handler, "pendingCompleteTxnAndMarkerEntries");
                for (var e : l) sent.add(new Out(e, r.destination));
            }
        }
    }

    static void complete(Out o, List<Errors> codes, boolean gone) {
        var e = o.entry.txnMarkerEntry();
        Map<TopicPartition, Errors> by = new HashMap<>();
        List<TopicPartition> l = new ArrayList<>(e.partitions());
        l.sort(Comparator.comparing(TopicPartition::toString));
        for (int i = 0; i < l.size(); i++) by.put(l.get(i), codes.get(Math.min(i, codes.size() - 1)));
        new TransactionMarkerRequestCompletionHandler(o.to.id(), states, channel, List.of(o.entry)).onComplete(new ClientResponse(
            new RequestHeader(ApiKeys.WRITE_TXN_MARKERS, (short) 2, "judge", 1), null, o.to.idString(), now, now, gone, null, null,
            new WriteTxnMarkersResponse(Map.of(e.producerId(), by))));
    }

    /** Before a decision. */
    static void remember() { for (var m : all()) if (!m.pendingTransitionInProgress()) epochs.put(m.transactionalId(), new short[]{m.producerEpoch(), m.lastProducerEpoch()}); }

    /** After a loss. */
    static void smooth() {
        all().removeIf(m -> {
            boolean unborn = m.producerEpoch() == -1 && !m.pendingTransitionInProgress();
            if (unborn) kept("unborn");
            return unborn;
        });
        for (var m : all()) if (m.hasFailedEpochFence()) {
            short[] before = epochs.get(m.transactionalId());
            m.setProducerEpoch(before[0]);
            m.setLastProducerEpoch(before[1]);
            m.hasFailedEpochFence(false);
            kept("failed fence");
        }
    }

    static void advance(long end) {
        while (true) {
            long a = next(ABORT), s = next(SWEEP), r = Long.MAX_VALUE;
            for (long at : retries.values()) r = Math.min(r, Math.max(at, now));
            long at = Math.min(r, Math.min(a, s));
            if (at > end) break;
            now = at;
            remember();
            if (at == r) {
                LinkedBlockingQueue<PendingCompleteTxn> q = get(TransactionMarkerChannelManager.class, channel, "txnLogAppendRetryQueue");
                for (var i = retries.entrySet().iterator(); i.hasNext(); ) { var e = i.next(); if (e.getValue() <= now) { q.add(e.getKey()); i.remove(); } }
                for (var x : channel.generateRequests()) throw new IllegalStateException();
            }
            if (at == a) { abort.run(); loadedAbort = at; }
            if (at == s) { sweep.run(); loadedSweep = at; }
            drain();
            smooth();
        }
        now = end;
    }
    static long loadedAbort, loadedSweep;
    static long next(long every) { return (every == ABORT ? loadedAbort : loadedSweep) + every; }

    static void elect() {
        loaded = loadedAbort = loadedSweep = now;
        coordinator.onElection(0, ++epoch);
    }

    static void release(Errors code) {
        List<Held> l = new ArrayList<>(held);
        held.clear();
        hold = false;
        for (Held h : l) h.done.apply(Map.of(h.tp, new PartitionResponse(code)));
    }

    static void answer(Map<String, String> a, String what) { out.println("a " + a.get("t") + " " + what); }
    static int num(Map<String, String> a, String k) { return Integer.parseInt(a.get(k)); }
    static String text(Map<String, String> a, String k) { String s = a.get(k); return s.equals("''") ? "" : s; }
    static Set<TopicPartition> tps(String s) {
        Set<TopicPartition> l = new HashSet<>();
        if (!s.equals("-")) for (String p : s.split(",")) { int i = p.lastIndexOf('-'); l.add(new TopicPartition(p.substring(0, i), Integer.parseInt(p.substring(i + 1)))); }
        return l;
    }
    static String show(Collection<?> l) { List<String> s = new ArrayList<>(); l.forEach(x -> s.add(x.toString())); Collections.sort(s); return "[" + String.join(" ", s) + "]"; }
    static TransactionVersion tv(Map<String, String> a) { return TransactionVersion.fromFeatureLevel((short) num(a, "tv")); }

    static void step(String cmd, Map<String, String> a) {
        String name = a.containsKey("name") ? text(a, "name") : null;
        if (!cmd.equals("init")) remember();
        if (a.containsKey("decided")) decided = Math.max(decided, START + num(a, "decided"));
        switch (cmd) {
            case "init" -> {
                log.clear(); held.clear(); sent.clear(); late.clear(); retries.clear(); gone.clear(); drawn.clear(); epochs.clear(); prepared.clear();
                now = decided = START; committed = 0; large = -1; hold = false; ids = true; fail = null;
                level = (short) num(a, "level");
                if (coordinator == null) build();
                coordinator.onResignation(0, Option.apply((Object) Integer.MAX_VALUE));
                elect();
            }
            case "put" -> { log.add(new SimpleRecord(now, HexFormat.of().parseHex(a.get("key")), HexFormat.of().parseHex(a.get("value")))); committed = log.size(); }
            case "level" -> level = (short) num(a, "n");
            case "ids" -> ids = a.get("on").equals("1");
            case "gone" -> gone.addAll(tps(a.get("p")));
            case "back" -> gone.removeAll(tps(a.get("p")));
            case "start" -> {
                decided = now;
                Option<ProducerIdAndEpoch> who = a.get("p").equals("-1") ? Option.empty() : Option.apply(new ProducerIdAndEpoch(Long.parseLong(a.get("p")), (short) num(a, "e")));
                coordinator.handleInitProducerId(name, num(a, "timeout"), a.get("twopc").equals("1"), a.get("keep").equals("1"), who,
                    r -> { answer(a, "start " + r.error().code() + " " + r.producerId() + " " + r.producerEpoch()); return BoxedUnit.UNIT; }, RequestLocal.noCaching());
            }
            case "add" -> {
                decided = now;
                coordinator.handleAddPartitionsToTransaction(name, Long.parseLong(a.get("p")), (short) num(a, "e"), tps(a.get("parts")),
                    e -> { answer(a, "add " + e.code()); return BoxedUnit.UNIT; }, tv(a), RequestLocal.noCaching());
            }
            case "verify" -> {
                decided = now;
                coordinator.handleVerifyPartitionsInTransaction(name, Long.parseLong(a.get("p")), (short) num(a, "e"), tps(a.get("parts")), r -> {
                    List<String> l = new ArrayList<>();
                    r.topicResults().forEach(t -> t.resultsByPartition().forEach(p -> l.add(t.name() + "-" + p.partitionIndex() + "=" + p.partitionErrorCode())));
                    answer(a, "verify " + show(l));
                    return BoxedUnit.UNIT;
                });
            }
            case "end" -> {
                decided = now;
                for (var m : all()) if (m.transactionalId().equals(name) && !m.pendingTransitionInProgress() && num(a, "tv") == 2 && m.clientTransactionVersion().featureLevel() < 2
                    && m.producerId() == Long.parseLong(a.get("p")) && m.producerEpoch() == num(a, "e") + 1 && (m.state() == TransactionState.COMPLETE_ABORT || m.state() == TransactionState.COMPLETE_COMMIT))
                    out.println("z " + a.get("t"));
                coordinator.handleEndTransaction(name, Long.parseLong(a.get("p")), (short) num(a, "e"), a.get("commit").equals("1") ? TransactionResult.COMMIT : TransactionResult.ABORT, tv(a),
                    (e, p, n) -> { answer(a, "end " + e.code() + " " + p + " " + n); return BoxedUnit.UNIT; }, RequestLocal.noCaching());
            }
            case "mark" -> {
                List<Errors> codes = new ArrayList<>();
                if (!a.get("code").equals("gone")) for (String c : a.get("code").split(",")) codes.add(Errors.forCode(Short.parseShort(c)));
                Out o = null;
                for (Out x : sent) if (x.entry.pendingCompleteTxn().transactionalId().equals(name) && x.to.id() == num(a, "on")) { o = x; break; }
                if (o != null) { sent.remove(o); decided = now; complete(o, codes.isEmpty() ? List.of(Errors.NONE) : codes, codes.isEmpty()); }
            }
            case "late" -> { for (Out o : late) complete(o, List.of(Errors.NONE), a.get("gone").equals("1")); late.clear(); }
            case "advance" -> advance(now + num(a, "ms"));
            case "fail" -> { fail = Errors.forCode((short) num(a, "code")); large = num(a, "large"); }
            case "ok" -> fail = null;
            case "hold" -> { hold = true; committed = log.size(); }
            case "release" -> { committed = log.size(); release(Errors.NONE); }
            case "lose" -> { log.subList(committed, log.size()).clear(); release(Errors.forCode((short) num(a, "code"))); }
            case "reload" -> {
                if (a.get("keep").equals("0")) log.subList(committed, log.size()).clear();
                committed = log.size();
                fail = null;
                Set<String> open = new HashSet<>();
                if (a.get("keep").equals("1")) held.forEach(h -> open.addAll(h.names));
                prepared.keySet().retainAll(open);
                coordinator.onResignation(0, Option.apply((Object) epoch));
                release(Errors.forCode((short) num(a, "code")));
                drain();
                late.addAll(sent); sent.clear(); retries.clear();
                elect();
            }
            case "list" -> {
                List<String> l = new ArrayList<>();
                scala.collection.mutable.HashSet<Object> pids = new scala.collection.mutable.HashSet<>();
                scala.collection.mutable.HashSet<String> ss = new scala.collection.mutable.HashSet<>();
                if (!a.get("pids").equals("-")) for (String s : a.get("pids").split(",")) pids.add(Long.parseLong(s));
                if (!a.get("states").equals("-")) for (String s : a.get("states").split(",")) ss.add(s);
                try {
                    var r = coordinator.handleListTransactions(pids.toSet(), ss.toSet(), Long.parseLong(a.get("age")), a.get("pattern").equals("-") ? null : a.get("pattern"));
                    r.transactionStates().forEach(s -> { if (born(s.transactionalId())) l.add(s.transactionalId() + "/" + s.transactionState() + "/" + s.producerId()); });
                    answer(a, "list " + r.errorCode() + " " + show(l) + " " + show(r.unknownStateFilters()));
                } catch (org.apache.kafka.common.errors.InvalidRegularExpression e) { answer(a, "list " + Errors.forException(e).code() + " [] []"); }
            }
            default -> throw new IllegalArgumentException(cmd);
        }
        drain();
        smooth();
    }

    static boolean born(String name) { for (var m : all()) if (m.transactionalId().equals(name)) return m.producerEpoch() != -1; return false; }

    /** Kept difference "failed fence": the epoch of a fence shows when its record is committed. */
    static short shown(String name, short epoch) {
        for (var m : all()) if (m.transactionalId().equals(name) && m.state() == TransactionState.ONGOING && m.pendingState().equals(Optional.of(TransactionState.PREPARE_ABORT))) return epochs.get(name)[0];
        return epoch;
    }

    static void look() {
        for (String name : names) {
            var d = coordinator.handleDescribeTransactions(name);
            List<String> l = new ArrayList<>();
            d.topics().forEach(t -> t.partitions().forEach(p -> l.add(t.topic() + "-" + p)));
            if (d.errorCode() != 0 || !born(name)) out.println("s " + name + " " + (d.errorCode() != 0 ? d.errorCode() : Errors.TRANSACTIONAL_ID_NOT_FOUND.code()));
            else out.println("s " + name + " 0 " + d.transactionState() + " " + d.producerId() + " " + shown(name, d.producerEpoch()) + " " + d.transactionTimeoutMs() + " " + d.transactionStartTimeMs() + " " + show(l));
        }
        Map<String, List<TopicPartition>> m = new TreeMap<>();
        for (Out o : sent) {
            var e = o.entry.txnMarkerEntry();
            m.computeIfAbsent("m " + o.entry.pendingCompleteTxn().transactionalId() + " " + e.producerId() + " " + e.producerEpoch() + " " + e.transactionResult() + " " + e.transactionVersion(), k -> new ArrayList<>()).addAll(e.partitions());
        }
        m.forEach((k, v) -> out.println(k + " " + show(v)));
        drawn.forEach((k, v) -> out.println("n " + k + " " + v));
        if (!held.isEmpty()) { Set<String> h = new TreeSet<>(); held.forEach(x -> h.addAll(x.names)); out.println("h " + String.join(" ", h)); }
    }

    public static void main(String[] x) throws IOException {
        System.setOut(System.err);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            String[] w = line.split(" ");
            Map<String, String> a = new HashMap<>();
            for (int i = 1; i < w.length; i++) { int k = w[i].indexOf('='); a.put(w[i].substring(0, k), w[i].substring(k + 1)); }
            try { step(w[0], a); }
            catch (Exception e) { out.println("x " + e.toString().replace('\n', ' ')); if (!(e instanceof IllegalStateException || e instanceof IllegalArgumentException || e instanceof org.apache.kafka.common.errors.ApiException)) e.printStackTrace(); coordinator = null; }
            if (coordinator != null) look();
            out.println(".");
            out.flush();
        }
    }
}
