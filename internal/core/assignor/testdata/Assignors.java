// Runs Apache Kafka's assignors. Every line of input is one group:
//   uniform|range same|mixed TOPIC:PARTITIONS,... MEMBER;INSTANCE;TOPIC,...;TOPIC-PARTITION,... MEMBER...
// and gives one line of output: MEMBER;TOPIC-PARTITION,... with everything in order. Topics are small numbers, so that Kafka's hash sets
// keep them in order.
import java.util.*;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.coordinator.group.api.assignor.*;
import org.apache.kafka.coordinator.group.assignor.*;
import org.apache.kafka.coordinator.group.modern.*;

public class Assignors {
    static Uuid topic(String n) { return new Uuid(0, Long.parseLong(n)); }

    public static void main(String[] args) throws Exception {
        Scanner in = new Scanner(System.in);
        StringBuilder out = new StringBuilder();
        while (in.hasNextLine()) {
            String[] f = in.nextLine().split(" ");
            Map<Uuid, Integer> sizes = new HashMap<>();
            for (String t : f[2].split(",")) sizes.put(topic(t.split(":")[0]), Integer.parseInt(t.split(":")[1]));
            Map<String, MemberSubscriptionAndAssignmentImpl> members = new LinkedHashMap<>();
            Map<Uuid, Map<Integer, String>> inverted = new HashMap<>();
            for (int i = 3; i < f.length; i++) {
                String[] m = f[i].split(";", -1);
                Set<Uuid> topics = new LinkedHashSet<>();
                if (!m[2].isEmpty()) for (String t : m[2].split(",")) topics.add(topic(t));
                Map<Uuid, Set<Integer>> has = new LinkedHashMap<>();
                if (!m[3].isEmpty()) for (String p : m[3].split(",")) {
                    Uuid t = topic(p.split("-")[0]);
                    int n = Integer.parseInt(p.split("-")[1]);
                    has.computeIfAbsent(t, x -> new LinkedHashSet<>()).add(n);
                    inverted.computeIfAbsent(t, x -> new HashMap<>()).put(n, m[0]);
                }
                members.put(m[0], new MemberSubscriptionAndAssignmentImpl(Optional.empty(),
                    m[1].isEmpty() ? Optional.empty() : Optional.of(m[1]), topics, new Assignment(has)));
            }
            GroupSpec spec = new GroupSpecImpl(members, f[1].equals("same") ? SubscriptionType.HOMOGENEOUS : SubscriptionType.HETEROGENEOUS, inverted);
            SubscribedTopicDescriber describer = new SubscribedTopicDescriber() {
                public int numPartitions(Uuid t) { return sizes.getOrDefault(t, -1); }
                public Set<String> racksForPartition(Uuid t, int p) { return Set.of(); }
            };
            PartitionAssignor assignor = f[0].equals("uniform") ? new UniformAssignor() : new RangeAssignor();
            GroupAssignment result = assignor.assign(spec, describer);
            for (String id : members.keySet()) {
                List<String> parts = new ArrayList<>();
                MemberAssignment a = result.members().get(id);
                if (a != null) {
                    TreeMap<Long, TreeSet<Integer>> all = new TreeMap<>();
                    a.partitions().forEach((t, list) -> { if (!list.isEmpty()) all.put(t.getLeastSignificantBits(), new TreeSet<>(list)); });
                    all.forEach((t, list) -> list.forEach(p -> parts.add(t + "-" + p)));
                }
                out.append(id).append(';').append(String.join(",", parts)).append(' ');
            }
            out.append('\n');
        }
        System.out.print(out);
    }
}
