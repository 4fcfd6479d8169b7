import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;

/**
 * JavaGroups BOOTSTRAP PROTOCOL PREFIX: what groups of kafka-clients since 3.9 do together, with group.protocol=PROTOCOL. Each case
 * has topics and groups of its own, named after PREFIX, and prints "ok NAME MILLISECONDS" or "fail NAME REASON". Nothing waits for a
 * span of time: a case goes on when what it waits for has come to be.
 */
public class JavaGroups {
  static String bootstrap, protocol, prefix;
  static Admin admin;

  interface Case { void run(String name) throws Exception; }

  public static void main(String[] a) throws Exception {
    bootstrap = a[0];
    protocol = a[1];
    prefix = a[2];
    admin = Admin.create(with("bootstrap.servers", bootstrap));
    Map<String, Case> cases = new java.util.LinkedHashMap<>();
    if (classic()) {
      cases.put("range", n -> rebalance(n, with("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor"), false));
      cases.put("cooperative-sticky", n -> rebalance(n, with("partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"), true));
    } else {
      cases.put("uniform", n -> rebalance(n, with("group.remote.assignor", "uniform"), true));
      cases.put("range", n -> rebalance(n, with("group.remote.assignor", "range"), true));
      cases.put("migration", JavaGroups::migration);
    }
    cases.put("static", JavaGroups::staticMembers);
    cases.put("pattern", n -> pattern(n, c -> c.subscribe(Pattern.compile(prefix + n + "-.*"))));
    if (!classic() && serverPattern(".*") != null)
      cases.put("pattern of the server", n -> pattern(n, c -> subscribe(c, serverPattern(prefix + n.replace(" ", "") + "-.*"))));
    cases.put("exactly once", JavaGroups::exactlyOnce);
    for (Map.Entry<String, Case> c : cases.entrySet()) {
      long began = System.nanoTime();
      try {
        c.getValue().run(c.getKey());
        System.out.println("ok " + c.getKey().replace(' ', '-') + " " + (System.nanoTime() - began) / 1_000_000);
      } catch (Throwable e) {
        System.out.println("fail " + c.getKey().replace(' ', '-') + " " + String.valueOf(e).replaceAll("\\s+", " ") + " at " + e.getStackTrace()[0]);
      }
    }
    System.out.flush();
    Runtime.getRuntime().halt(0); // members that a failed case left behind
  }

  static boolean classic() { return protocol.equals("classic"); }

  /** Two members share six partitions, one leaves, and every record is read once. incremental: nothing is revoked that does not move. */
  static void rebalance(String name, Properties assignor, boolean incremental) throws Exception {
    String topic = topic(name, 6);
    try (Member a = new Member(topic, assignor).subscribe(topic)) {
      a.holds(6);
      try (Member b = new Member(topic, assignor).subscribe(topic)) {
        until("three partitions each", () -> a.assigned().size() == 3 && b.assigned().size() == 3, a, b);
        check(Collections.disjoint(a.assigned(), b.assigned()), "a partition is both members'");
        check(a.revoked.size() == (incremental ? 3 : 6), "revoked " + a.revoked);
        produce(topic, 0, 600);
        until("600 records", () -> a.seen() + b.seen() >= 600, a, b);
        check(a.seen() > 0 && b.seen() > 0, "one member read everything");
        Set<String> both = new HashSet<>(a.values());
        both.addAll(b.values());
        check(both.size() == 600 && a.seen() + b.seen() == 600, both.size() + " different records of " + a.seen() + " and " + b.seen());
        b.leave();
        until("all partitions back", () -> a.assigned().size() == 6, a);
      }
      int before = a.seen();
      produce(topic, 600, 600);
      until("600 more", () -> a.seen() >= before + 600, a);
      check(a.seen() == before + 600, a.seen() + " records, not " + (before + 600));
    }
  }

  /** A static member that comes back gets what it had, and nobody else notices; a second one under its name is turned away, or fences it. */
  static void staticMembers(String name) throws Exception {
    String topic = topic(name, 6);
    try (Member a = new Member(topic, with("group.instance.id", "a")).subscribe(topic)) {
      Set<TopicPartition> had;
      int events;
      try (Member b = new Member(topic, with("group.instance.id", "b")).subscribe(topic)) {
        until("three partitions each", () -> a.assigned().size() == 3 && b.assigned().size() == 3, a, b);
        had = b.assigned();
        events = a.events;
      }
      try (Member b = new Member(topic, with("group.instance.id", "b")).subscribe(topic)) {
        until("the same partitions", () -> b.assigned().equals(had), b);
        produce(topic, 0, 100);
        until("all records", () -> a.seen() + b.seen() >= 100, a, b);
        check(a.events == events, "the other member saw a rebalance");
        try (Member twin = new Member(topic, with("group.instance.id", "b")).subscribe(topic)) {
          if (classic()) {
            until("the twin's partitions", () -> twin.assigned().equals(had), twin);
            until("an end of the fenced member", () -> b.failure instanceof FencedInstanceIdException, twin);
          } else {
            until("an end of the twin", () -> twin.failure instanceof UnreleasedInstanceIdException, a, b);
            check(b.assigned().equals(had), "the twin took partitions");
          }
        }
      }
    }
  }

  /** A pattern follows topics that come to be. */
  static void pattern(String name, Consumer<KafkaConsumer<String, String>> subscription) throws Exception {
    String at = prefix + name.replace(" ", "") + "-";
    create(at + "one", 2);
    create(prefix + "other-" + name.replace(" ", ""), 2);
    try (Member a = new Member(at + "group", new Properties()).begin(subscription)) {
      a.holds(2);
      create(at + "two", 3);
      a.holds(5);
      produce(at + "two", 0, 50);
      until("the new topic's records", () -> a.seen() >= 50, a);
    }
  }

  /** A group moves from one protocol to the other and back while it is at work. */
  static void migration(String name) throws Exception {
    String topic = topic(name, 6);
    Properties old = with("group.protocol", "classic");
    try (Member b = new Member(topic, new Properties())) {
      try (Member a = new Member(topic, old).subscribe(topic)) {
        a.holds(6);
        b.subscribe(topic);
        until("three partitions each", () -> a.assigned().size() == 3 && b.assigned().size() == 3, a, b);
        produce(topic, 0, 300);
        until("300 records", () -> a.seen() + b.seen() >= 300, a, b);
        check(a.seen() + b.seen() == 300, a.seen() + " and " + b.seen() + " records of 300");
      }
      b.holds(6);
      try (Member c = new Member(topic, old).subscribe(topic)) {
        until("three partitions each again", () -> c.assigned().size() == 3 && b.assigned().size() == 3, b, c);
        b.leave();
        c.holds(6);
        produce(topic, 300, 300);
        until("300 more", () -> c.seen() >= 300, c);
        check(c.seen() == 300, c.seen() + " records of 300");
      }
    }
  }

  /** Consume, transform, produce: two workers abort now and then, one is left behind within a transaction, and each record comes out once. */
  static void exactlyOnce(String name) throws Exception {
    String in = topic(name, 4), out = in + "-out";
    create(out, 3);
    int count = 3000;
    produce(in, 0, count);
    Worker lost = new Worker(in, out, "lost", with("max.poll.interval.ms", "3000"));
    lost.leftBehind = true;
    lost.start();
    until("a transaction of the one that is left behind", () -> lost.open || lost.failure != null);
    Worker a = new Worker(in, out, "a", new Properties()), b = new Worker(in, out, "b", new Properties());
    a.start();
    b.start();
    Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
    until("everything worked off", () -> {
      try {
        ends.clear();
        ends.putAll(admin.listConsumerGroupOffsets(in).partitionsToOffsetAndMetadata().get());
      } catch (Exception e) {
        return false;
      }
      return a.failure != null || b.failure != null || lost.failure != null || ends.values().stream().mapToLong(o -> o == null ? 0 : o.offset()).sum() == count;
    });
    lost.carryOn = true;
    for (Worker w : List.of(lost, a, b)) {
      w.stop = true;
      w.join();
      if (w.failure != null) throw new IllegalStateException(w.name, w.failure);
    }
    check(lost.refused, "offsets of a member that is gone went through");
    check(a.aborted + b.aborted > 0, "nothing was aborted");
    try (Member reader = new Member(out + "-reader", with("isolation.level", "read_committed")).subscribe(out)) {
      until("everything", () -> new HashSet<>(reader.values()).size() == count, reader);
      check(reader.seen() == count, reader.seen() + " records of " + count);
    }
  }

  static class Worker extends Thread {
    final String in, out, name;
    final Properties p;
    volatile boolean leftBehind, carryOn, open, refused, stop;
    volatile int aborted;
    volatile Throwable failure;

    Worker(String in, String out, String name, Properties p) { this.in = in; this.out = out; this.name = name; this.p = p; }

    @Override public void run() {
      try (KafkaConsumer<String, String> consumer = consumer(in, with(p, "isolation.level", "read_committed", "max.poll.records", "50"));
           KafkaProducer<String, String> producer = producer(with("transactional.id", in + name, "transaction.timeout.ms", "60000"))) {
        producer.initTransactions();
        consumer.subscribe(Collections.singletonList(in));
        for (int turn = 1; !stop; turn++) {
          ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
          if (records.isEmpty()) continue;
          ConsumerGroupMetadata member = consumer.groupMetadata();
          Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
          producer.beginTransaction();
          for (ConsumerRecord<String, String> r : records) {
            producer.send(new ProducerRecord<>(out, r.key(), r.value()));
            next.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
          }
          if (leftBehind) {
            producer.flush();
            open = true;
            while (!carryOn) Thread.sleep(20);
          }
          try {
            producer.sendOffsetsToTransaction(next, member);
            if (turn % 3 == 0) throw new KafkaException("as if it failed");
            producer.commitTransaction();
          } catch (ProducerFencedException e) {
            throw e;
          } catch (KafkaException e) {
            refused = true;
            producer.abortTransaction();
            aborted++;
            if (leftBehind) return;
            Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment());
            for (TopicPartition tp : consumer.assignment()) {
              OffsetAndMetadata o = committed.get(tp);
              if (o == null) consumer.seekToBeginning(Collections.singleton(tp)); else consumer.seek(tp, o.offset());
            }
          }
        }
      } catch (Throwable e) {
        failure = e;
      }
    }
  }

  /** A consumer in a thread of its own that commits what it reads. */
  static class Member implements AutoCloseable {
    final KafkaConsumer<String, String> consumer;
    final List<String> values = new ArrayList<>();
    final Set<TopicPartition> held = new HashSet<>(), revoked = new HashSet<>();
    volatile int events;
    volatile Throwable failure;
    volatile boolean stop;
    Thread thread;

    Member(String group, Properties p) { consumer = consumer(group, p); }

    Member subscribe(String topic) { return begin(c -> c.subscribe(Collections.singletonList(topic), listener())); }

    Member begin(Consumer<KafkaConsumer<String, String>> subscription) {
      thread = new Thread(() -> {
        try (KafkaConsumer<String, String> c = consumer) {
          subscription.accept(c);
          while (!stop) {
            ConsumerRecords<String, String> records = c.poll(Duration.ofMillis(100));
            synchronized (this) {
              held.clear();
              held.addAll(c.assignment());
              for (ConsumerRecord<String, String> r : records) values.add(r.value());
            }
            if (!records.isEmpty()) c.commitSync();
          }
        } catch (Throwable e) {
          failure = e;
        }
      });
      thread.start();
      return this;
    }

    ConsumerRebalanceListener listener() {
      return new ConsumerRebalanceListener() {
        @Override public void onPartitionsAssigned(Collection<TopicPartition> ps) { events++; }

        @Override public void onPartitionsRevoked(Collection<TopicPartition> ps) {
          events++;
          synchronized (Member.this) { revoked.addAll(ps); }
        }
      };
    }

    synchronized Set<TopicPartition> assigned() { return new HashSet<>(held); }

    synchronized int seen() { return values.size(); }

    synchronized List<String> values() { return new ArrayList<>(values); }

    void holds(int partitions) throws Exception { until(partitions + " partitions", () -> assigned().size() == partitions, this); }

    void leave() throws InterruptedException {
      stop = true;
      thread.join();
    }

    @Override public void close() throws InterruptedException {
      if (thread == null) consumer.close(); else leave();
    }
  }

  /** The pattern that the server understands, of clients that know it. */
  static Object serverPattern(String text) {
    try {
      return Class.forName("org.apache.kafka.clients.consumer.SubscriptionPattern").getConstructor(String.class).newInstance(text);
    } catch (ReflectiveOperationException e) {
      return null;
    }
  }

  static void subscribe(KafkaConsumer<String, String> c, Object pattern) {
    try {
      KafkaConsumer.class.getMethod("subscribe", pattern.getClass()).invoke(c, pattern);
    } catch (ReflectiveOperationException e) {
      throw new IllegalStateException(e);
    }
  }

  static KafkaConsumer<String, String> consumer(String group, Properties more) {
    Properties p = with(with("bootstrap.servers", bootstrap, "group.id", group, "group.protocol", protocol, "auto.offset.reset", "earliest",
        "enable.auto.commit", "false", "metadata.max.age.ms", "500", "fetch.max.wait.ms", "100", "key.deserializer", STRINGS + "Deserializer",
        "value.deserializer", STRINGS + "Deserializer"), more);
    if (p.get("group.protocol").equals("classic")) p.put("heartbeat.interval.ms", "300"); // of the others the node sets it
    return new KafkaConsumer<>(p);
  }

  static KafkaProducer<String, String> producer(Properties more) {
    return new KafkaProducer<>(with(with("bootstrap.servers", bootstrap, "key.serializer", STRINGS + "Serializer", "value.serializer", STRINGS + "Serializer"), more));
  }

  static final String STRINGS = "org.apache.kafka.common.serialization.String";

  static void produce(String topic, int from, int count) throws Exception {
    try (KafkaProducer<String, String> p = producer(new Properties())) {
      int partitions = p.partitionsFor(topic).size();
      for (int i = from; i < from + count; i++) p.send(new ProducerRecord<>(topic, i % partitions, "k", String.valueOf(i)));
    }
  }

  static String topic(String name, int partitions) throws Exception { return create(prefix + name.replace(" ", ""), partitions); }

  static String create(String topic, int partitions) throws Exception {
    admin.createTopics(Collections.singleton(new NewTopic(topic, partitions, (short) 1))).all().get();
    return topic;
  }

  static Properties with(String... pairs) { return with(new Properties(), pairs); }

  static Properties with(Properties p, String... pairs) {
    Properties out = new Properties();
    out.putAll(p);
    for (int i = 0; i < pairs.length; i += 2) out.put(pairs[i], pairs[i + 1]);
    return out;
  }

  static Properties with(Properties p, Properties more) {
    Properties out = new Properties();
    out.putAll(p);
    out.putAll(more);
    return out;
  }

  static void check(boolean ok, String otherwise) { if (!ok) throw new AssertionError(otherwise); }

  /** until waits for what is to come, and does not outwait a member that failed. */
  static void until(String what, BooleanSupplier done, Member... members) throws Exception {
    long deadline = System.nanoTime() + 90_000_000_000L;
    while (!done.getAsBoolean()) {
      for (Member m : members) if (m.failure != null) throw new IllegalStateException("waiting for " + what + ": " + m.failure, m.failure);
      if (System.nanoTime() > deadline) {
        StringBuilder has = new StringBuilder();
        for (Member m : members) has.append(' ').append(new TreeSet<>(toStrings(m.assigned()))).append(' ').append(m.seen());
        throw new AssertionError("no " + what + ":" + has);
      }
      Thread.sleep(20);
    }
  }

  static List<String> toStrings(Collection<?> all) {
    List<String> out = new ArrayList<>();
    for (Object o : all) out.add(String.valueOf(o));
    return out;
  }
}
