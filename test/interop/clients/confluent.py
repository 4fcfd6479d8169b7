"""confluent-kafka (librdkafka): produce and consume as ../doc.go says."""
import sys
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition


def produce(bootstrap, topic, start, count, codec, idempotent):
    failed, acked = [], []

    def done(err, msg):
        (failed if err else acked).append(err or 1)

    producer = Producer({"bootstrap.servers": bootstrap, "compression.codec": codec, "linger.ms": 5, "acks": "all",
                         "enable.idempotence": idempotent, "message.timeout.ms": 120000})
    for i in range(start, start + count):
        while True:
            try:
                producer.produce(topic, key=b"k%d" % (i % 97), value=b"%d:" % i + b"x" * 64, headers=[("n", b"%d" % i)], on_delivery=done)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(120)
    if failed or len(acked) != count:
        sys.exit("%d acked, %d failed: %s" % (len(acked), len(failed), failed[:1]))
    print("acked", len(acked))


def consume(bootstrap, topic, group, count):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "enable.auto.offset.store": False, "session.timeout.ms": 10000})
    consumer.subscribe([topic])
    seen, idle = 0, 0
    while seen < count:
        msg = consumer.poll(1.0)
        if msg is None:
            idle += 1
            if idle > 60:
                sys.exit("only %d of %d records" % (seen, count))
            continue
        if msg.error():
            if msg.error().code() == KafkaError._PARTITION_EOF or msg.error().retriable():
                continue
            sys.exit(str(msg.error()))
        idle = 0
        i = int(msg.value().split(b":")[0])
        headers = dict(msg.headers() or [])
        if msg.key() != b"k%d" % (i % 97) or headers.get("n", b"%d" % i) != b"%d" % i:
            sys.exit("record %d came as key %r headers %r" % (i, msg.key(), headers))
        print(i)
        consumer.store_offsets(msg)
        seen += 1
    consumer.commit(asynchronous=False)
    consumer.close()


def steadily(what, *args):
    """Calls again what may be called again."""
    while True:
        try:
            return what(*args)
        except KafkaException as e:
            if not e.args[0].retriable():
                raise


def transact(bootstrap, topic, txid, count, each, source, group):
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": txid, "linger.ms": 0, "message.timeout.ms": 60000})
    steadily(producer.init_transactions, 60)
    member = Consumer({"bootstrap.servers": bootstrap, "group.id": group}).consumer_group_metadata()
    t = tries = 0
    while t < count:
        tries += 1
        if tries > count + 100:
            sys.exit("transaction %d is not done after %d tries" % (t, tries))
        try:
            producer.begin_transaction()
            for i in range(t * each, (t + 1) * each):
                producer.produce(topic, key=b"k%d" % (i % 97), value=b"%d:" % i + b"x" * 64, headers=[("n", b"%d" % i)])
            steadily(producer.send_offsets_to_transaction, [TopicPartition(source, 0, t + 1)], member, 30)
            steadily(producer.abort_transaction if t % 3 == 2 else producer.commit_transaction, 30)
        except KafkaException as e:
            if not e.args[0].txn_requires_abort():
                raise
            steadily(producer.abort_transaction, 30)
            continue
        if t % 3 != 2:
            print("committed", t, flush=True)
        t += 1


verb, bootstrap, topic = sys.argv[1:4]
if verb == "produce":
    produce(bootstrap, topic, int(sys.argv[4]), int(sys.argv[5]), sys.argv[6], sys.argv[7:] == ["idempotent"])
elif verb == "transact":
    transact(bootstrap, topic, sys.argv[4], int(sys.argv[5]), int(sys.argv[6]), sys.argv[7], sys.argv[8])
else:
    consume(bootstrap, topic, sys.argv[4], int(sys.argv[5]))
