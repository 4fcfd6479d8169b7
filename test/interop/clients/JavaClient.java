import java.lang.reflect.InvocationTargetException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.header.Header;

/** kafka-clients of any release since 2.1: produce and consume as ../doc.go says. */
public class JavaClient {
  static final String PAD = String.join("", Collections.nCopies(64, "x"));

  public static void main(String[] a) throws Exception {
    if (a[0].equals("produce")) produce(a[1], a[2], Integer.parseInt(a[3]), Integer.parseInt(a[4]), a[5], a.length > 6);
    else if (a[0].equals("transact")) transact(a[1], a[2], a[3], Integer.parseInt(a[4]), Integer.parseInt(a[5]), a[6], a[7]);
    else consume(a[1], a[2], a[3], Integer.parseInt(a[4]));
  }

  static void produce(String bootstrap, String topic, int from, int count, String codec, boolean idempotent) throws Exception {
    Properties p = new Properties();
    p.put("bootstrap.servers", bootstrap);
    p.put("acks", "all");
    p.put("compression.type", codec);
    p.put("linger.ms", "5");
    p.put("enable.idempotence", String.valueOf(idempotent));
    p.put("delivery.timeout.ms", "120000");
    p.put("retries", "1000000");
    p.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
    p.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
    List<Future<RecordMetadata>> futures = new ArrayList<>();
    try (KafkaProducer<String, String> producer = new KafkaProducer<>(p)) {
      for (int i = from; i < from + count; i++) {
        ProducerRecord<String, String> r = new ProducerRecord<>(topic, "k" + i % 97, i + ":" + PAD);
        r.headers().add("n", String.valueOf(i).getBytes("UTF-8"));
        futures.add(producer.send(r));
      }
      producer.flush();
      for (Future<RecordMetadata> f : futures) f.get();
    }
    System.out.println("acked " + futures.size());
  }

  static void transact(String bootstrap, String topic, String txid, int count, int each, String source, String group) throws Exception {
    Properties p = new Properties();
    p.put("bootstrap.servers", bootstrap);
    p.put("transactional.id", txid);
    p.put("delivery.timeout.ms", "120000");
    p.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
    p.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
    try (KafkaProducer<String, String> producer = new KafkaProducer<>(p)) {
      producer.initTransactions();
      int tries = 0;
      for (int t = 0; t < count; ) {
        if (tries++ > count + 100) fail("transaction " + t + " is not done after " + tries + " tries");
        try {
          producer.beginTransaction();
          for (int i = t * each; i < (t + 1) * each; i++) {
            ProducerRecord<String, String> r = new ProducerRecord<>(topic, "k" + i % 97, i + ":" + PAD);
            r.headers().add("n", String.valueOf(i).getBytes("UTF-8"));
            producer.send(r);
          }
          sendOffset(producer, new TopicPartition(source, 0), t + 1, group);
          if (t % 3 == 2) producer.abortTransaction();
          else {
            producer.commitTransaction();
            System.out.println("committed " + t);
          }
          t++;
        } catch (ProducerFencedException | OutOfOrderSequenceException | AuthorizationException | UnsupportedVersionException e) {
          throw e;
        } catch (KafkaException e) {
          producer.abortTransaction();
        }
      }
    }
  }

  /** Since 2.5 the group is given by its metadata (KIP-447), since 4.0 only so. */
  static void sendOffset(KafkaProducer<String, String> producer, TopicPartition tp, long offset, String group) throws Exception {
    Map<TopicPartition, OffsetAndMetadata> offsets = Collections.singletonMap(tp, new OffsetAndMetadata(offset));
    try {
      try {
        Class<?> metadata = Class.forName("org.apache.kafka.clients.consumer.ConsumerGroupMetadata");
        KafkaProducer.class.getMethod("sendOffsetsToTransaction", Map.class, metadata).invoke(producer, offsets, metadata.getConstructor(String.class).newInstance(group));
      } catch (ClassNotFoundException e) {
        KafkaProducer.class.getMethod("sendOffsetsToTransaction", Map.class, String.class).invoke(producer, offsets, group);
      }
    } catch (InvocationTargetException e) {
      throw (Exception) e.getCause();
    }
  }

  static void consume(String bootstrap, String topic, String group, int count) throws Exception {
    Properties p = new Properties();
    p.put("bootstrap.servers", bootstrap);
    p.put("group.id", group);
    p.put("auto.offset.reset", "earliest");
    p.put("enable.auto.commit", "false");
    p.put("session.timeout.ms", "10000");
    p.put("isolation.level", System.getenv().getOrDefault("ISOLATION", "read_uncommitted"));
    p.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
    p.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
    StringBuilder out = new StringBuilder();
    int seen = 0;
    long deadline = System.currentTimeMillis() + 90_000;
    Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
    try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(p)) {
      consumer.subscribe(Collections.singletonList(topic));
      while (seen < count) {
        if (System.currentTimeMillis() > deadline) fail("only " + seen + " of " + count + " records");
        for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(200))) {
          if (seen == count) break;
          int i = Integer.parseInt(r.value().substring(0, r.value().indexOf(':')));
          Header n = r.headers().lastHeader("n");
          if (!r.key().equals("k" + i % 97) || n != null && !new String(n.value(), "UTF-8").equals(String.valueOf(i)))
            fail("record " + i + " came as key " + r.key());
          out.append(i).append('\n');
          next.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
          seen++;
        }
      }
      consumer.commitSync(next);
    }
    System.out.print(out);
  }

  static void fail(String text) {
    System.err.println(text);
    System.exit(1);
  }
}
