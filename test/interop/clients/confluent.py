"""confluent-kafka (librdkafka): produce and consume as ../doc.go says."""
import sys
from confluent_kafka import Consumer, KafkaError, Producer


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


verb, bootstrap, topic = sys.argv[1:4]
if verb == "produce":
    produce(bootstrap, topic, int(sys.argv[4]), int(sys.argv[5]), sys.argv[6], sys.argv[7:] == ["idempotent"])
else:
    consume(bootstrap, topic, sys.argv[4], int(sys.argv[5]))
