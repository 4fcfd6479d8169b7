package org.apache.kafka.coordinator.group;

import org.apache.kafka.clients.consumer.internals.ConsumerProtocol;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.AbstractConfig;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.NotEnoughReplicasException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.metadata.*;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.security.auth.KafkaPrincipal;
import org.apache.kafka.common.security.auth.SecurityProtocol;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.common.utils.internals.LogContext;
import org.apache.kafka.coordinator.common.runtime.*;
import org.apache.kafka.coordinator.group.api.assignor.*;
import org.apache.kafka.coordinator.group.classic.*;
import org.apache.kafka.coordinator.group.generated.*;
import org.apache.kafka.coordinator.group.metrics.GroupCoordinatorMetricsShard;
import org.apache.kafka.coordinator.group.modern.Assignment;
import org.apache.kafka.coordinator.group.modern.ModernGroup;
import org.apache.kafka.coordinator.group.modern.consumer.ConsumerGroup;
import org.apache.kafka.coordinator.group.modern.share.ShareGroupConfig;
import org.apache.kafka.image.MetadataDelta;
import org.apache.kafka.image.MetadataImage;
import org.apache.kafka.image.MetadataProvenance;
import org.apache.kafka.image.TopicImage;
import org.apache.kafka.server.authorizer.AuthorizableRequestContext;
import org.apache.kafka.timeline.SnapshotRegistry;

import java.io.*;
import java.lang.reflect.Field;
import java.net.InetAddress;
import java.security.Provider;
import java.security.SecureRandomSpi;
import java.security.Security;
import java.util.*;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * Drives Apache Kafka's group coordinator shard: reads a step a line, prints what came of it, then a dot. It has the runtime's part:
 * the clock, the deadlines, the log and its high watermark. It is in Kafka's package because that part of Kafka is not public.
 *
 * Lines are "@ms" and what happened then: "a" an answer, "R" a record, "x" a deadline that Kafka stumbled over. Without a time: "s"
 * what a group looks like, "i" a member id's random bytes, "k" a kept difference that was smoothed out (see rules.go), "skip" that the step was not done.
 */
public class Judge {
    static final long START = 1_700_000_000_000L;
    static final PrintStream out = new PrintStream(new BufferedOutputStream(System.out, 1 << 16));
    static final GroupCoordinatorRecordSerde serde = new GroupCoordinatorRecordSerde();
    static final List<String> names = List.of("g", "h");

    static long now = START, heldAt, order;
    static int delay, max, interval, refresh;
    static String policy, assignors;
    static boolean hold, newcomer;
    static SnapshotRegistry registry;
    static GroupMetadataManager manager;
    static GroupCoordinatorShard shard;
    static final List<CoordinatorRecord> log = new ArrayList<>();
    static int committed;
    static final List<Consumer<Throwable>> held = new ArrayList<>();
    static final Map<String, Due> timers = new HashMap<>();
    static final Map<String, Start> starts = new HashMap<>(); // of groups: the join phase of a new one
    static final Map<ClassicGroup, Map<String, String>> statics = new IdentityHashMap<>();
    static final Map<ClassicGroup, String> replaced = new IdentityHashMap<>(); // whose new id is not committed, or was just now

    static final class Due { long at, order; String key; CoordinatorTimer.TimeoutOperation<CoordinatorRecord> op; }
    static final class Start { int remaining, steps = 50; }

    static final class Clock implements Time {
        public long milliseconds() { return now; }
        public long nanoseconds() { return now * 1_000_000L; }
        public void sleep(long ms) { }
    }

    static final class Timer implements CoordinatorTimer<CoordinatorRecord> {
        public void schedule(String key, long d, TimeUnit u, boolean retry, TimeoutOperation<CoordinatorRecord> op) {
            Due x = new Due();
            x.at = now + u.toMillis(d); x.order = ++order; x.key = key; x.op = op;
            timers.put(key, x);
            if (key.startsWith("join-")) watchStart(key.substring(5), (int) u.toMillis(d));
        }
        public void schedule(String key, long d, TimeUnit u, boolean retry, long backoff, TimeoutOperation<CoordinatorRecord> op) { schedule(key, d, u, retry, op); }
        public void scheduleIfAbsent(String key, long d, TimeUnit u, boolean retry, TimeoutOperation<CoordinatorRecord> op) { if (!timers.containsKey(key)) schedule(key, d, u, retry, op); }
        public void cancel(String key) { timers.remove(key); }
        public boolean isScheduled(String key) { return timers.containsKey(key); }
    }

    /** Tasks run when the judge lets time go on, be it for no time at all. */
    static final class Tasks implements CoordinatorExecutor<CoordinatorRecord> {
        public <R> boolean schedule(String key, TaskRunnable<R> task, TaskOperation<CoordinatorRecord, R> op) {
            MetadataImage begun = image;
            return tasks.putIfAbsent(key, () -> {
                R result = null;
                Throwable failed = null;
                if (image != begun) kept("topics as they were");
                try {
                    field(manager, "metadataImage").set(manager, new KRaftCoordinatorMetadataImage(begun));
                    result = task.run();
                    field(manager, "metadataImage").set(manager, new KRaftCoordinatorMetadataImage(image));
                } catch (Throwable x) { failed = x; }
                take(op.onComplete(result, failed), r -> { }, x -> { });
            }) == null;
        }
        public boolean isScheduled(String key) { return tasks.containsKey(key); }
        public void cancel(String key) { tasks.remove(key); }
    }
    static final Map<String, Runnable> tasks = new LinkedHashMap<>();

    static final class NoMetrics extends CoordinatorMetrics {
        public com.yammer.metrics.core.MetricsRegistry registry() { return null; }
        public CoordinatorMetricsShard newMetricsShard(SnapshotRegistry r, TopicPartition tp) { return null; }
        public void activateMetricsShard(CoordinatorMetricsShard s) { }
        public void deactivateMetricsShard(CoordinatorMetricsShard s) { }
        public void onUpdateLastCommittedOffset(TopicPartition tp, long o) { }
    }

    record Ctx(int version) implements AuthorizableRequestContext {
        public String listenerName() { return "L"; }
        public SecurityProtocol securityProtocol() { return SecurityProtocol.PLAINTEXT; }
        public KafkaPrincipal principal() { return KafkaPrincipal.ANONYMOUS; }
        public InetAddress clientAddress() {
            try { return InetAddress.getByAddress(new byte[]{10, 0, 0, 1}); } catch (Exception e) { throw new IllegalStateException(e); }
        }
        public int requestType() { return 0; }
        public int requestVersion() { return version; }
        public String clientId() { return "client"; }
        public int correlationId() { return 0; }
    }

    /** Makes member ids the same in every run with one seed, and says which were made. */
    public static final class Ids extends SecureRandomSpi {
        static Random rnd = new Random(1);
        protected void engineSetSeed(byte[] seed) { }
        protected byte[] engineGenerateSeed(int n) { return new byte[n]; }
        protected void engineNextBytes(byte[] b) {
            rnd.nextBytes(b);
            if (b.length == 16) out.println("i " + hex(b));
        }
    }
    static final class IdProvider extends Provider {
        IdProvider() { super("judge", "1", "member ids"); put("SecureRandom.judge", Ids.class.getName()); }
    }

    // Kept difference "seats": members in the order in which they came, a static one that comes back where it was before.
    static final class Seats extends LinkedHashMap<String, ClassicGroupMember> {
        final transient ClassicGroup group;
        String removed; int place;
        Seats(ClassicGroup g) { group = g; }
        @Override public ClassicGroupMember remove(Object id) {
            removed = (String) id; place = new ArrayList<>(keySet()).indexOf(id);
            return super.remove(id);
        }
        @Override public ClassicGroupMember put(String id, ClassicGroupMember m) {
            String instance = m.groupInstanceId().orElse(null);
            boolean back = instance != null && removed != null && place >= 0 && group.hasStaticMember(instance) && removed.equals(group.staticMemberId(instance));
            ClassicGroupMember old = super.put(id, m);
            if (back && place < size() - 1) {
                List<Map.Entry<String, ClassicGroupMember>> l = new ArrayList<>();
                entrySet().forEach(e -> l.add(Map.entry(e.getKey(), e.getValue())));
                l.add(place, l.remove(l.size() - 1));
                clear();
                l.forEach(e -> super.put(e.getKey(), e.getValue()));
                kept("seats");
            }
            removed = null;
            return old;
        }
    }

    // Kept difference "order of the assignor": members by id, topics by theirs.
    record InOrder(ConsumerGroupPartitionAssignor of) implements ConsumerGroupPartitionAssignor {
        public String name() { return of.name(); }
        public GroupAssignment assign(GroupSpec spec, SubscribedTopicDescriber topics) {
            if (!List.copyOf(spec.memberIds()).stream().sorted().toList().equals(List.copyOf(spec.memberIds()))) kept("order of the assignor");
            SubscriptionType type = same(spec) ? SubscriptionType.HOMOGENEOUS : SubscriptionType.HETEROGENEOUS;
            if (type != spec.subscriptionType()) kept("read the same");
            return of.assign(new GroupSpec() {
                public Collection<String> memberIds() { return spec.memberIds().stream().sorted().toList(); }
                public SubscriptionType subscriptionType() { return type; }
                public boolean isPartitionAssigned(Uuid t, int p) { return spec.isPartitionAssigned(t, p); }
                public boolean isPartitionAssignable(Uuid t, int p) { return spec.isPartitionAssignable(t, p); }
                public MemberSubscription memberSubscription(String id) {
                    MemberSubscription s = spec.memberSubscription(id);
                    return new MemberSubscription() {
                        public Optional<String> rackId() { return s.rackId(); }
                        public Optional<String> instanceId() { return s.instanceId(); }
                        public Set<Uuid> subscribedTopicIds() { return new TreeSet<>(s.subscribedTopicIds()); }
                    };
                }
                public MemberAssignment memberAssignment(String id) {
                    Map<Uuid, Set<Integer>> m = new TreeMap<>();
                    spec.memberAssignment(id).partitions().forEach((t, ps) -> m.put(t, new TreeSet<>(ps)));
                    return new Assignment(Collections.unmodifiableMap(m));
                }
            }, topics);
        }
    }

    // Kept difference "read the same": asked of the group with what the sender says now.
    static Map<String, String> asked;
    static boolean same(GroupSpec spec) {
        ConsumerGroup g = consumer(asked.get("group"));
        if (g == null) return spec.subscriptionType() == SubscriptionType.HOMOGENEOUS;
        Map<String, Integer> byName = new HashMap<>(), patterns = new HashMap<>();
        for (String id : spec.memberIds()) {
            var m = g.members().get(id);
            boolean sender = m == null || id.equals(get(asked, "member"));
            if (m == null) m = g.staticMember(get(asked, "inst"));
            Set<String> names = m == null ? Set.of() : m.subscribedTopicNames();
            String regex = m == null ? "" : m.subscribedTopicRegex();
            if (sender && asked.containsKey("protos")) {
                names = new HashSet<>(ConsumerProtocol.deserializeSubscription(java.nio.ByteBuffer.wrap(bytes(list(asked, "protos").get(0).split(":")[1]))).topics());
                regex = "";
            } else if (sender) {
                if (get(asked, "topics") != null) names = new HashSet<>(list(asked, "topics"));
                if (get(asked, "regex") != null) regex = get(asked, "regex");
            }
            names.forEach(x -> byName.merge(x, 1, Integer::sum));
            if (regex != null && !regex.isEmpty()) patterns.merge(regex, 1, Integer::sum);
        }
        int n = spec.memberIds().size();
        if (patterns.isEmpty()) return byName.values().stream().allMatch(x -> x == n);
        return byName.isEmpty() && patterns.values().stream().allMatch(x -> x == n);
    }

    // Kept difference "tie of the assignors"
    static void tie(ConsumerGroup g) {
        if (g == null) return;
        Map<String, Integer> votes = new HashMap<>();
        g.members().values().forEach(m -> m.serverAssignorName().ifPresent(x -> votes.merge(x, 1, Integer::sum)));
        if (votes.size() > 1 && new HashSet<>(votes.values()).size() == 1) kept("tie of the assignors");
    }

    static void kept(String rule) { out.println("k " + rule); }

    static ClassicGroup classic(String name) {
        try { return manager.group(name) instanceof ClassicGroup g ? g : null; } catch (GroupIdNotFoundException e) { return null; }
    }

    static Field field(Object o, String name) {
        try { Field f = o.getClass().getDeclaredField(name); f.setAccessible(true); return f; } catch (ReflectiveOperationException e) { throw new IllegalStateException(e); }
    }

    @SuppressWarnings("unchecked")
    static void smooth() {
        for (String name : names) {
            ClassicGroup g = classic(name);
            if (g == null) continue;
            for (String kind : List.of("session-timeout-", "rebalance-timeout-", "join-", "sync-")) // "old deadlines" of a consumer group do not outlive it
                if (timers.keySet().removeIf(key -> key.startsWith(kind + name + "-"))) kept("old deadlines");
            try {
                Field f = field(g, "members");
                Map<String, ClassicGroupMember> members = (Map<String, ClassicGroupMember>) f.get(g);
                if (!(members instanceof Seats)) {
                    Seats s = new Seats(g);
                    for (String id : recorded(name)) if (members.containsKey(id)) s.put(id, members.get(id));
                    members.forEach(s::putIfAbsent);
                    f.set(g, s);
                }
            } catch (ReflectiveOperationException e) { throw new IllegalStateException(e); }
            boolean starting = g.isInState(ClassicGroupState.PREPARING_REBALANCE) && g.previousState() == ClassicGroupState.EMPTY;
            if (g.newMemberAdded() && !starting) { g.setNewMemberAdded(false); kept("stale newcomer"); }
            Map<String, String> before = statics.getOrDefault(g, Map.of()), after = new HashMap<>();
            g.allMembers().forEach(m -> m.groupInstanceId().ifPresent(i -> after.put(i, m.memberId())));
            before.forEach((i, old) -> {
                String id = after.get(i);
                if (id == null || id.equals(old)) return;
                if (g.allPendingSyncMembers().remove(old)) { g.addPendingSyncMember(id); kept("sync of the replaced"); }
                if (g.isInState(ClassicGroupState.STABLE)) replaced.put(g, id);
            });
            statics.put(g, after);
            String id = replaced.get(g);
            if (id == null || g.hasMember(id) && g.member(id).isAwaitingJoin()) continue;
            replaced.remove(g);
            Due d = timers.get("heartbeat-" + name + "-" + id);
            if (d != null && g.isInState(ClassicGroupState.STABLE) && d.at != now + g.member(id).sessionTimeoutMs()) {
                d.at = now + g.member(id).sessionTimeoutMs(); kept("session of the replaced");
            }
        }
    }

    static List<String> recorded(String name) {
        List<String> ids = new ArrayList<>();
        for (CoordinatorRecord r : log)
            if (r.key() instanceof GroupMetadataKey k && k.group().equals(name)) {
                ids.clear();
                if (r.value() != null) ((GroupMetadataValue) r.value().message()).members().forEach(m -> ids.add(m.memberId()));
            }
        return ids;
    }

    // Kept difference "coming": a new group waits 1 ms, up to 50 times, for those that were given an id and have yet to join with it.
    static void watchStart(String name, int d) {
        ClassicGroup g = classic(name);
        if (g == null) return;
        Start s = starts.get(name);
        if (g.isInState(ClassicGroupState.EMPTY)) {
            s = new Start();
            s.remaining = Math.max(g.rebalanceTimeoutMs() - delay, 0);
            starts.put(name, s);
        } else if (s != null && newcomer && !g.newMemberAdded()) { // longer, for a newcomer
            s.remaining = Math.max(s.remaining - d, 0);
        } else starts.remove(name);
    }
    static boolean coming(Due d) {
        if (!d.key.startsWith("join-")) return false;
        String name = d.key.substring(5);
        ClassicGroup g = classic(name);
        Start s = starts.get(name);
        if (g == null || s == null || !g.isInState(ClassicGroupState.PREPARING_REBALANCE) || g.previousState() != ClassicGroupState.EMPTY) return false;
        if (g.newMemberAdded() && s.remaining > 0 || g.numPendingJoinMembers() == 0 || s.steps == 0) return false;
        s.steps--;
        d.at = now + 1; d.order = ++order;
        timers.put(d.key, d);
        kept("coming");
        return true;
    }

    // Kept difference "revocation by the away": a static member that is away has nothing to give back.
    static boolean away(Due d) {
        for (String name : names) {
            String prefix = "rebalance-timeout-" + name + "-";
            if (!d.key.startsWith(prefix)) continue;
            try {
                if (manager.group(name) instanceof ConsumerGroup g) {
                    var m = g.members().get(d.key.substring(prefix.length()));
                    if (m != null && m.memberEpoch() == -2) { kept("revocation by the away"); return true; }
                }
            } catch (GroupIdNotFoundException e) { return false; }
        }
        return false;
    }

    static ConsumerGroup consumer(String name) {
        try { return manager.group(name) instanceof ConsumerGroup g ? g : null; } catch (GroupIdNotFoundException e) { return null; }
    }
    static void call(String method, Object... args) {
        for (var m : GroupMetadataManager.class.getDeclaredMethods())
            if (m.getName().equals(method) && m.getParameterCount() == args.length)
                try { m.setAccessible(true); m.invoke(manager, args); return; } catch (ReflectiveOperationException e) { throw new IllegalStateException(e); }
        throw new IllegalStateException(method);
    }

    // Kept differences when a group changes its protocol. What the group was before the step:
    static final Map<String, Set<String>> unreconciled = new HashMap<>();
    static final Map<String, Integer> assigned = new HashMap<>();
    static final Map<String, List<String>> seats = new HashMap<>();
    static String joining; // the instance that joins
    static void before() {
        unreconciled.clear(); assigned.clear(); seats.clear();
        for (String name : names) {
            ConsumerGroup g = consumer(name);
            if (g == null) continue;
            Set<String> l = new HashSet<>();
            g.members().forEach((id, m) -> { if (!m.isReconciledTo(g.assignmentEpoch())) l.add(id); });
            List<String> ids = new ArrayList<>(g.members().keySet());
            ids.sort(Comparator.comparingLong((String id) -> slot(id, ids.size())).thenComparing(Comparator.reverseOrder()));
            seats.put(name, ids);
            unreconciled.put(name, l); assigned.put(name, g.assignmentEpoch());
        }
    }

    // "who is first": the order of members in a table of Kafka's that has had nobody else.
    static long slot(String id, int n) {
        int size = 2, bits = 1;
        for (; n * 3 > size * 4; bits++) size *= 2;
        return (id.hashCode() * -7046029254386353131L) >>> (64 - bits);
    }

    // "rebalance goes on": one that is not settled rebalances, and its record says so, for the next coordinator.
    static void downgraded(List<CoordinatorRecord> records) {
        for (String name : names) {
            ClassicGroup g = classic(name);
            if (g == null || !unreconciled.containsKey(name)) continue;
            Set<String> late = unreconciled.get(name);
            GroupMetadataValue value = null;
            for (CoordinatorRecord r : records) {
                if (r.value() == null) continue;
                if (r.key() instanceof ConsumerGroupCurrentMemberAssignmentKey k && k.groupId().equals(name)) {
                    var v = (ConsumerGroupCurrentMemberAssignmentValue) r.value().message();
                    if (v.state() == 0 && v.memberEpoch() == assigned.get(name)) late.remove(k.memberId()); else late.add(k.memberId());
                }
                if (r.key() instanceof GroupMetadataKey k && k.group().equals(name)) value = (GroupMetadataValue) r.value().message();
            }
            if (value == null || value.members().isEmpty()) continue;
            List<String> order = seats.get(name);
            value.members().sort(Comparator.comparingInt(m -> joining != null && joining.equals(m.groupInstanceId()) ? order.size() : order.contains(m.memberId()) ? order.indexOf(m.memberId()) : order.size()));
            String leader = value.members().get(0).memberId();
            if (!leader.equals(value.leader())) {
                value.setLeader(leader); kept("who is first");
                try { field(g, "leaderId").set(g, Optional.of(leader)); } catch (ReflectiveOperationException e) { throw new IllegalStateException(e); }
            }
            if (g.isInState(ClassicGroupState.STABLE) && g.allMembers().stream().anyMatch(m -> late.contains(m.memberId()))) {
                manager.prepareRebalance(g, "");
                kept("unsettled");
            }
            if (!g.isInState(ClassicGroupState.STABLE)) { value.setCurrentStateTimestamp(0); kept("rebalance goes on"); }
        }
    }
    static void loaded() {
        for (String name : names) {
            ClassicGroup c = classic(name);
            if (c != null && c.isInState(ClassicGroupState.STABLE) && c.numMembers() > 0 && c.currentStateTimestampOrDefault() == 0) { manager.prepareRebalance(c, ""); kept("rebalance goes on"); }
            ConsumerGroup g = consumer(name);
            if (g != null) g.members().forEach((id, m) -> {
                if (!m.useClassicProtocol()) return;
                call("scheduleConsumerGroupSessionTimeout", name, id, m.classicProtocolSessionTimeout().get());
                kept("classic after loading");
                if (timers.remove("rebalance-timeout-" + name + "-" + id) != null) call("scheduleConsumerGroupJoinTimeoutIfAbsent", name, id, m.rebalanceTimeoutMs());
            });
        }
    }

    // "nobody else": where all members are classic one that joins again has to move the group on.
    static void nobodyElse(String name, String member, HeartbeatResponseData r) {
        ConsumerGroup g = consumer(name);
        if (g == null || r.errorCode() != 0 || !g.allMembersUseClassicProtocolExcept(Set.of())) return;
        boolean due = g.assignmentEpoch() < g.groupEpoch()
            && GroupMetadataManager.canComputeNextTargetAssignment(g.assignmentTimestamp(), manager.consumerGroupAssignmentIntervalMs(name), now);
        if (!due && ModernGroup.computeMetadataHash(g.subscribedTopicNames(), new HashMap<>(manager.topicHashCache()), new KRaftCoordinatorMetadataImage(image)) == g.metadataHash()) return;
        r.setErrorCode(Errors.REBALANCE_IN_PROGRESS.code());
        call("scheduleConsumerGroupJoinTimeoutIfAbsent", name, member, g.members().get(member).rebalanceTimeoutMs());
        kept("nobody else");
    }

    // "owes neither": who speaks the consumer protocol by now need neither join nor sync.
    static boolean owesNeither(Due d) {
        for (String name : names) {
            ConsumerGroup g = consumer(name);
            if (g == null) continue;
            for (String prefix : List.of("join-" + name + "-", "sync-" + name + "-")) {
                if (!d.key.startsWith(prefix)) continue;
                var m = g.members().get(d.key.substring(prefix.length()));
                if (m != null && !m.useClassicProtocol()) { kept("owes neither"); return true; }
            }
        }
        return false;
    }

    static void build() {
        registry = new SnapshotRegistry(new LogContext());
        timers.clear(); tasks.clear(); starts.clear(); statics.clear(); replaced.clear();
        Map<String, Object> c = new HashMap<>();
        c.put(GroupCoordinatorConfig.GROUP_INITIAL_REBALANCE_DELAY_MS_CONFIG, delay);
        c.put(GroupCoordinatorConfig.GROUP_MAX_SIZE_CONFIG, max);
        c.put(GroupCoordinatorConfig.CONSUMER_GROUP_MAX_SIZE_CONFIG, max);
        c.put(GroupCoordinatorConfig.CONSUMER_GROUP_ASSIGNORS_CONFIG, assignors);
        c.put(GroupCoordinatorConfig.CONSUMER_GROUP_ASSIGNMENT_INTERVAL_MS_CONFIG, interval);
        c.put(GroupCoordinatorConfig.CONSUMER_GROUP_MIGRATION_POLICY_CONFIG, policy);
        c.put(GroupCoordinatorConfig.CONSUMER_GROUP_REGEX_REFRESH_INTERVAL_MS_CONFIG, refresh);
        c.put(GroupCoordinatorConfig.OFFSETS_RETENTION_MINUTES_CONFIG, 5);
        GroupCoordinatorConfig cfg = new GroupCoordinatorConfig(new AbstractConfig(GroupCoordinatorConfig.CONFIG_DEF, c, false));
        ConfigDef both = new ConfigDef(GroupCoordinatorConfig.CONFIG_DEF);
        ShareGroupConfig.CONFIG_DEF.configKeys().values().forEach(both::define);
        ShareGroupConfig share = new ShareGroupConfig(new AbstractConfig(both, Map.of(), false));
        GroupCoordinatorMetricsShard metrics = new GroupCoordinatorMetricsShard(registry, Map.of(), new TopicPartition("o", 0));
        manager = new GroupMetadataManager.Builder().withSnapshotRegistry(registry).withLogContext(new LogContext()).withTime(new Clock()).withTimer(new Timer())
            .withExecutor(new Tasks()).withConfig(cfg).withGroupCoordinatorMetricsShard(metrics).withGroupConfigManager(new GroupConfigManager(cfg, share)).build();
        OffsetMetadataManager offsets = new OffsetMetadataManager.Builder().withSnapshotRegistry(registry).withLogContext(new LogContext()).withTime(new Clock())
            .withGroupMetadataManager(manager).withGroupCoordinatorConfig(cfg).withGroupCoordinatorMetricsShard(metrics).build();
        Map<String, ConsumerGroupPartitionAssignor> ordered = new HashMap<>();
        cfg.consumerGroupAssignors().forEach(x -> ordered.put(x.name(), new InOrder(x)));
        try { field(manager, "consumerGroupAssignors").set(manager, ordered); } catch (ReflectiveOperationException e) { throw new IllegalStateException(e); }
        shard = new GroupCoordinatorShard(new LogContext(), manager, offsets, new Clock(), new Timer(), cfg, new NoMetrics(), metrics);
        long at = 0;
        for (CoordinatorRecord r : log) shard.replay(at++, -1, (short) -1, r);
        shard.onLoaded(new KRaftCoordinatorMetadataImage(image));
        loaded();
    }

    static MetadataImage image;
    static long version;

    static void change(ApiMessage... records) {
        MetadataDelta d = new MetadataDelta.Builder().setImage(image).build();
        for (ApiMessage r : records) d.replay(r);
        image = d.apply(new MetadataProvenance(++version, 1, 1, true));
        if (shard != null) shard.onMetadataUpdate(new KRaftCoordinatorMetadataDelta(d), new KRaftCoordinatorMetadataImage(image));
    }

    /** The id of a topic is its one letter, sixteen times, but that how often there was such a topic is in it, and that hash tables have it in its order. */
    static Uuid topic(String name) {
        char c = name.charAt(0);
        long x = c * 0x0101010101010101L;
        return new Uuid(x, x ^ made.getOrDefault(name, 0) << 8 ^ c - 't');
    }
    static String name(Uuid u) { return "" + (char) (u.getMostSignificantBits() & 0x7f); }
    static final Map<String, Integer> made = new HashMap<>();

    static String partitions(Map<Uuid, ? extends Collection<Integer>> x) {
        List<String> l = new ArrayList<>();
        x.forEach((u, ps) -> ps.forEach(p -> l.add(name(u) + "-" + p)));
        Collections.sort(l);
        return l.isEmpty() ? "''" : String.join(",", l);
    }
    static String show(ConsumerGroupHeartbeatResponseData r) {
        Map<Uuid, List<Integer>> has = new HashMap<>();
        if (r.assignment() != null) r.assignment().topicPartitions().forEach(y -> has.put(y.topicId(), y.partitions()));
        return r.errorCode() + " " + r.memberId() + " " + r.memberEpoch() + " " + r.heartbeatIntervalMs() + " " + (r.assignment() == null ? "-" : partitions(has));
    }
    static String show(ConsumerGroupDescribeResponseData.Assignment a) {
        Map<Uuid, List<Integer>> x = new HashMap<>();
        a.topicPartitions().forEach(y -> x.put(y.topicId(), y.partitions()));
        return partitions(x);
    }

    static String hex(byte[] b) {
        if (b == null) return "nil";
        StringBuilder s = new StringBuilder();
        for (byte x : b) s.append(String.format("%02x", x));
        return s.toString();
    }
    static String n(Object o) { return o == null ? "-" : o.toString(); }
    static String e(String s) { return s == null || s.isEmpty() ? "-" : s; }
    static String text(byte[] b) { // or hexadecimal, if there is more than letters
        if (b == null) return "";
        for (byte x : b) if (x <= ' ' || x > '~') return "0x" + hex(b);
        return new String(b);
    }
    static byte[] bytes(String s) { return s.startsWith("0x") ? HexFormat.of().parseHex(s.substring(2)) : s.getBytes(); }
    static void happened(String what) { out.println("@" + (now - START) + " " + what); }
    static void answer(int t, String what) { happened("a " + t + " " + what); }
    static String sorted(List<String> l) { Collections.sort(l); return "[" + String.join(" ", l) + "]"; }

    /** Does what the runtime does with a result: append, apply, answer when committed. */
    static <R> void take(CoordinatorResult<R, CoordinatorRecord> res, Consumer<R> ok, Consumer<Throwable> bad) {
        downgraded(res.records());
        for (CoordinatorRecord r : res.records()) {
            log.add(r);
            happened("R " + hex(serde.serializeKey(r)) + " " + hex(serde.serializeValue(r)));
            if (res.replayRecords()) shard.replay(log.size() - 1, -1, (short) -1, r);
        }
        Consumer<Throwable> done = x -> {
            CompletableFuture<Void> f = res.appendFuture();
            if (x == null) { if (f != null) f.complete(null); ok.accept(res.response()); }
            else { if (f != null) f.completeExceptionally(x); bad.accept(x); }
        };
        if (hold && log.size() > committed) held.add(done);
        else { committed = log.size(); done.accept(null); }
    }

    interface Decision<R> { CoordinatorResult<R, CoordinatorRecord> make(); }

    static <R> void ask(int t, String kind, Decision<R> d, Function<R, String> show) {
        try { take(d.make(), r -> answer(t, kind + " " + show.apply(r)), x -> answer(t, "lost")); }
        catch (Exception x) { answer(t, kind + " " + Errors.forException(x).code()); }
    }

    static <R, V> void wait(int t, String kind, CompletableFuture<R> f, Decision<V> d, Function<R, String> show, Function<Short, R> error, boolean stable) {
        boolean[] lost = new boolean[1];
        List<String> late = new ArrayList<>(); // kept difference "sync waits"
        f.thenAccept(r -> {
            if (lost[0]) return;
            String s = kind + " " + show.apply(r);
            if (stable && hold && s.startsWith("sync 0 ")) late.add(s); else answer(t, s);
        });
        try {
            boolean open = hold && log.size() > committed;
            take(d.make(), r -> late.forEach(s -> { answer(t, s); if (open) kept("sync waits"); }), x -> {
                if (!late.isEmpty()) { answer(t, "lost"); kept("sync waits"); }
                if (!f.isDone()) { lost[0] = true; answer(t, "lost"); f.complete(error.apply((short) 0)); }
            });
        } catch (Exception x) { if (!f.isDone()) f.complete(error.apply(Errors.forException(x).code())); }
    }

    static String show(JoinGroupResponseData r) {
        List<String> l = new ArrayList<>();
        r.members().forEach(x -> l.add(x.memberId() + "/" + n(x.groupInstanceId()) + "/" + text(x.metadata())));
        return r.errorCode() + " " + e(r.memberId()) + " " + r.generationId() + " " + e(r.protocolType()) + " " + e(r.protocolName()) + " leader=" + e(r.leader()) + " skip=" + r.skipAssignment() + " " + sorted(l);
    }
    static String show(SyncGroupResponseData r) { return r.errorCode() + " " + e(r.protocolType()) + " " + e(r.protocolName()) + " " + e(text(r.assignment())); }

    static String get(Map<String, String> a, String k) { String s = a.get(k); return s == null || s.equals("-") ? null : s.equals("''") ? "" : s; }
    static int num(Map<String, String> a, String k) { return Integer.parseInt(a.get(k)); }
    static List<String> list(Map<String, String> a, String k) { String s = get(a, k); return s == null || s.isEmpty() ? List.of() : List.of(s.split(",")); }

    static void step(String cmd, Map<String, String> a) {
        int t = a.containsKey("t") ? num(a, "t") : 0;
        String group = a.get("group"), member = get(a, "member"), inst = get(a, "inst");
        if (shard != null) before();
        asked = a;
        joining = cmd.equals("join") ? inst : null;
        ClassicGroup first = cmd.equals("beat") && a.get("epoch").equals("0") ? classic(group) : null;
        if (first != null && !first.isEmpty() && first.usesConsumerGroupProtocol() && first.protocolName().isEmpty() && !List.of("disabled", "downgrade").contains(policy)) {
            skip("first rebalance");
            return;
        }
        if (first != null && !first.isEmpty() && !first.isInState(ClassicGroupState.STABLE) && inst != null && first.hasStaticMember(inst) && get(a, "topics") != null) {
            try {
                var was = ConsumerProtocol.deserializeSubscription(java.nio.ByteBuffer.wrap(first.member(first.staticMemberId(inst)).metadata(first.protocolName().get())));
                if (Set.copyOf(was.topics()).equals(Set.copyOf(list(a, "topics")))) {
                    skip("unseen by the leader");
                    return;
                }
            } catch (RuntimeException x) { } // malformed
        }
        ConsumerGroup g = inst != null && (cmd.equals("beat") || cmd.equals("join")) ? consumer(group) : null;
        if (g != null && g.staticMember(inst) == null && g.members().containsKey(member)) {
            skip("known by its id only");
            return;
        }
        switch (cmd) {
            case "init" -> {
                Ids.rnd = new Random(Long.parseLong(a.get("seed")));
                delay = num(a, "delay"); max = num(a, "max");
                log.clear(); held.clear();
                committed = 0; hold = false; now = START; order = 0;
                interval = num(a, "interval"); refresh = Integer.parseInt(a.getOrDefault("refresh", "600000")); policy = a.getOrDefault("policy", "bidirectional"); assignors = a.getOrDefault("assignors", "range");
                shard = null; image = MetadataImage.EMPTY; version = 99; made.clear();
                change();
                build();
            }
            case "join" -> {
                var ps = new JoinGroupRequestData.JoinGroupRequestProtocolCollection();
                for (String p : list(a, "protos")) { String[] w = p.split(":"); ps.add(new JoinGroupRequestData.JoinGroupRequestProtocol().setName(w[0]).setMetadata(bytes(w[1]))); }
                var q = new JoinGroupRequestData().setGroupId(group).setMemberId(member).setGroupInstanceId(inst).setSessionTimeoutMs(num(a, "session"))
                    .setRebalanceTimeoutMs(num(a, "rebalance")).setProtocolType(get(a, "type")).setProtocols(ps);
                if (consumer(group) != null && consumer(group).isEmpty() && !member.isEmpty()) {
                    answer(t, "join 25 " + member + " -1 - - leader=- skip=false []"); kept("forgotten group");
                    break;
                }
                var f = new CompletableFuture<JoinGroupResponseData>();
                wait(t, "join", f, () -> shard.classicGroupJoin(new Ctx(num(a, "v")), q, f, true), Judge::show, c -> new JoinGroupResponseData().setErrorCode(c), false);
            }
            case "sync" -> {
                List<SyncGroupRequestData.SyncGroupRequestAssignment> l = new ArrayList<>();
                for (String p : list(a, "assign")) { int i = p.lastIndexOf(':'); l.add(new SyncGroupRequestData.SyncGroupRequestAssignment().setMemberId(p.substring(0, i)).setAssignment(bytes(p.substring(i + 1)))); }
                var q = new SyncGroupRequestData().setGroupId(group).setMemberId(member).setGroupInstanceId(inst).setGenerationId(num(a, "gen"))
                    .setProtocolType(get(a, "ptype")).setProtocolName(get(a, "pname")).setAssignments(l);
                var f = new CompletableFuture<SyncGroupResponseData>();
                wait(t, "sync", f, () -> shard.classicGroupSync(new Ctx(5), q, f), Judge::show, c -> new SyncGroupResponseData().setErrorCode(c),
                    classic(group) != null && classic(group).isInState(ClassicGroupState.STABLE));
            }
            case "topic" -> {
                String name = a.get("name");
                TopicImage t0 = image.topics().getTopic(name);
                List<ApiMessage> l = new ArrayList<>();
                int n = num(a, "n"), from = t0 == null ? 0 : t0.partitions().size();
                if (n == 0 && t0 != null) l.add(new RemoveTopicRecord().setTopicId(topic(name)));
                if (n > 0 && t0 == null) made.merge(name, 1, Integer::sum);
                if (n > 0 && t0 == null) l.add(new TopicRecord().setName(name).setTopicId(topic(name)));
                for (int p = from; p < n; p++) l.add(new PartitionRecord().setTopicId(topic(name)).setPartitionId(p).setReplicas(List.of(1)).setIsr(List.of(1)).setLeader(1));
                change(l.toArray(new ApiMessage[0]));
            }
            case "beat" -> {
                var q = new ConsumerGroupHeartbeatRequestData().setGroupId(group).setMemberId(member).setMemberEpoch(num(a, "epoch")).setInstanceId(inst).setRebalanceTimeoutMs(num(a, "rebalance"));
                q.setServerAssignor(get(a, "assignor")).setSubscribedTopicRegex(get(a, "regex"));
                if (get(a, "topics") != null) q.setSubscribedTopicNames(list(a, "topics"));
                if (get(a, "has") != null) {
                    Map<String, List<Integer>> h = new TreeMap<>();
                    for (String p : list(a, "has")) if (!p.isEmpty()) h.computeIfAbsent(p.substring(0, 1), x -> new ArrayList<>()).add(Integer.parseInt(p.substring(2)));
                    List<ConsumerGroupHeartbeatRequestData.TopicPartitions> l = new ArrayList<>();
                    h.forEach((k, v) -> l.add(new ConsumerGroupHeartbeatRequestData.TopicPartitions().setTopicId(topic(k)).setPartitions(v)));
                    q.setTopicPartitions(l);
                }
                ask(t, "beat", () -> shard.consumerGroupHeartbeat(new Ctx(1), q), Judge::show);
            }
            case "hb" -> ask(t, "hb", () -> {
                var res = shard.classicGroupHeartbeat(new Ctx(4), new HeartbeatRequestData().setGroupId(group).setMemberId(member).setGroupInstanceId(inst).setGenerationId(num(a, "gen")));
                nobodyElse(group, member, res.response());
                return res;
            }, r -> "" + r.errorCode());
            case "leave" -> {
                List<LeaveGroupRequestData.MemberIdentity> l = new ArrayList<>();
                for (String p : list(a, "members")) { String[] w = p.split("/", 2); l.add(new LeaveGroupRequestData.MemberIdentity().setMemberId(w[0]).setGroupInstanceId(w[1].equals("-") ? null : w[1])); }
                Function<LeaveGroupResponseData, String> show = r -> {
                    StringBuilder s = new StringBuilder("" + r.errorCode());
                    r.members().forEach(y -> s.append(" " + y.memberId() + "/" + n(y.groupInstanceId()) + "=" + y.errorCode()));
                    return s.toString();
                };
                try { take(shard.classicGroupLeave(new Ctx(5), new LeaveGroupRequestData().setGroupId(group).setMembers(l)), r -> answer(t, "leave " + show.apply(r)), x -> answer(t, "lost")); }
                catch (UnknownMemberIdException x) { // Kafka's service, a floor above, makes the answer of it
                    var r = new LeaveGroupResponseData();
                    l.forEach(y -> r.members().add(new LeaveGroupResponseData.MemberResponse().setMemberId(y.memberId()).setGroupInstanceId(y.groupInstanceId()).setErrorCode((short) 25)));
                    answer(t, "leave " + show.apply(r));
                }
            }
            case "delete" -> ask(t, "delete", () -> shard.deleteGroups(new Ctx(2), List.of(group)), r -> "" + r.iterator().next().errorCode());
            case "commit" -> {
                var p = new OffsetCommitRequestData.OffsetCommitRequestPartition().setPartitionIndex(num(a, "p")).setCommittedOffset(num(a, "offset")).setCommittedMetadata("");
                var q = new OffsetCommitRequestData().setGroupId(group).setMemberId(member).setGroupInstanceId(inst).setGenerationIdOrMemberEpoch(num(a, "gen"))
                    .setTopics(List.of(new OffsetCommitRequestData.OffsetCommitRequestTopic().setName("t").setTopicId(Uuid.ZERO_UUID).setPartitions(List.of(p))));
                ask(t, "commit", () -> shard.commitOffset(new Ctx(num(a, "v")), q), r -> "" + r.topics().get(0).partitions().get(0).errorCode());
            }
            case "offdel" -> {
                var tc = new OffsetDeleteRequestData.OffsetDeleteRequestTopicCollection();
                tc.add(new OffsetDeleteRequestData.OffsetDeleteRequestTopic().setName("t").setPartitions(List.of(new OffsetDeleteRequestData.OffsetDeleteRequestPartition().setPartitionIndex(num(a, "p")))));
                ask(t, "offdel", () -> shard.deleteOffsets(new Ctx(0), new OffsetDeleteRequestData().setGroupId(group).setTopics(tc)), r -> r.errorCode() + (r.topics().isEmpty() ? "" : " " + r.topics().iterator().next().partitions().iterator().next().errorCode()));
            }
            case "advance" -> advance(now + num(a, "ms"));
            case "hold" -> { hold = true; committed = log.size(); registry.idempotentCreateSnapshot(++heldAt); }
            case "release", "lose" -> {
                List<Consumer<Throwable>> l = new ArrayList<>(held);
                held.clear();
                if (cmd.equals("lose")) { registry.revertToSnapshot(heldAt); log.subList(committed, log.size()).clear(); }
                registry.deleteSnapshotsUpTo(heldAt + 1);
                hold = false; committed = log.size();
                smooth();
                for (var op : l) op.accept(cmd.equals("lose") ? new NotEnoughReplicasException() : null);
            }
            case "restart" -> {
                log.subList(committed, log.size()).clear();
                held.clear(); hold = false; max = num(a, "max");
                build();
            }
            default -> throw new IllegalArgumentException(cmd);
        }
        smooth();
        for (String name : names) tie(consumer(name));
        if (!hold) for (String name : names) look(name);
        if (!hold) {
            List<String> l = new ArrayList<>();
            shard.listGroups(List.of(), List.of(), Long.MAX_VALUE).forEach(x -> l.add(x.groupId() + "/" + x.protocolType() + "/" + x.groupState() + "/" + x.groupType()));
            out.println("s list " + sorted(l));
        }
        out.println(".");
        out.flush();
    }

    static void skip(String rule) {
        kept(rule);
        out.println("skip\n.");
        out.flush();
    }

    static void advance(long end) {
        while (!tasks.isEmpty()) {
            before();
            tasks.remove(tasks.keySet().iterator().next()).run();
            smooth();
        }
        while (true) {
            Due d = null;
            for (Due x : timers.values()) if (x.at <= end && (d == null || x.at < d.at || x.at == d.at && x.order < d.order)) d = x;
            if (d == null) break;
            now = Math.max(now, d.at);
            timers.remove(d.key);
            if (coming(d) || away(d) || owesNeither(d)) continue;
            before();
            ClassicGroup g = d.key.startsWith("join-") ? classic(d.key.substring(5)) : null;
            newcomer = g != null && g.newMemberAdded();
            try { take(d.op.generateRecords(), r -> { }, x -> { }); } catch (Exception x) { happened("x " + x); }
            smooth();
        }
        now = end;
    }

    static void look(String name) {
        var g = shard.describeGroups(new Ctx(6), List.of(name), Long.MAX_VALUE).get(0);
        List<String> l = new ArrayList<>();
        g.members().forEach(m -> l.add(m.memberId() + "/" + n(m.groupInstanceId()) + "/" + text(m.memberMetadata()) + "/" + text(m.memberAssignment())));
        out.println("s " + name + " " + g.errorCode() + " " + g.groupState() + " " + e(g.protocolType()) + " " + e(g.protocolData()) + " " + sorted(l));
        var c = shard.consumerGroupDescribe(List.of(name), Long.MAX_VALUE).get(0);
        if (c.errorCode() == 0) {
            List<String> ms = new ArrayList<>();
            c.members().forEach(m -> ms.add(m.memberId() + "/" + n(m.instanceId()) + "/" + m.memberType() + "/" + m.memberEpoch() + "/" + show(m.assignment()) + "/" + show(m.targetAssignment())));
            out.println("s " + name + " " + c.groupState() + " " + c.assignorName() + " " + c.groupEpoch() + " " + c.assignmentEpoch() + " " + sorted(ms));
        }
        String text;
        try {
            var r = shard.fetchOffsets(new OffsetFetchRequestData.OffsetFetchRequestGroup().setGroupId(name).setMemberId(null).setMemberEpoch(-1).setTopics(null), Long.MAX_VALUE);
            List<String> o = new ArrayList<>();
            r.topics().forEach(x -> x.partitions().forEach(p -> o.add(x.name() + "-" + p.partitionIndex() + "=" + p.committedOffset())));
            text = r.errorCode() + " " + sorted(o);
        } catch (Exception x) { text = Errors.forException(x).code() + " []"; }
        out.println("s " + name + " offsets " + text);
    }

    public static void main(String[] x) throws IOException {
        System.setOut(System.err);
        Security.insertProviderAt(new IdProvider(), 1);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null; ) {
            String[] w = line.split(" ");
            Map<String, String> a = new HashMap<>();
            for (int i = 1; i < w.length; i++) { int k = w[i].indexOf('='); a.put(w[i].substring(0, k), w[i].substring(k + 1)); }
            step(w[0], a);
        }
    }
}
