"""kafka-python: produce and consume as ../doc.go says."""
import os
import sys
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError, ProducerFencedError
from kafka.structs import OffsetAndMetadata


def produce(bootstrap, topic, start, count, codec, idempotent):
    options = {"enable_idempotence": idempotent} if idempotent else {}
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", retries=20, linger_ms=5,
                             compression_type=None if codec == "none" else codec, **options)
    futures = []
    for i in range(start, start + count):
        futures.append(producer.send(topic, key=b"k%d" % (i % 97), value=b"%d:" % i + b"x" * 64, headers=[("n", b"%d" % i)]))
    producer.flush(60)
    for f in futures:
        f.get(timeout=60)
    producer.close()
    print("acked", len(futures))


def consume(bootstrap, topic, group, count):
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest",
                             enable_auto_commit=False, consumer_timeout_ms=60000,
                             isolation_level=os.environ.get("ISOLATION", "read_uncommitted"))
    seen = 0
    for r in consumer:
        i = int(r.value.split(b":")[0])
        headers = dict(r.headers)
        if r.key != b"k%d" % (i % 97) or headers.get("n", b"%d" % i) != b"%d" % i:
            sys.exit("record %d came as key %r headers %r" % (i, r.key, r.headers))
        print(i)
        seen += 1
        if seen == count:
            break
    # Positions are exactly the records printed: what was fetched beyond them is not committed.
    consumer.commit()
    consumer.close(autocommit=False)
    if seen < count:
        sys.exit("only %d of %d records" % (seen, count))


def transact(bootstrap, topic, txid, count, each, source, group):
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=txid, linger_ms=0, delivery_timeout_ms=120000)
    producer.init_transactions()
    t = tries = 0
    while t < count:
        tries += 1
        if tries > count + 100:
            sys.exit("transaction %d is not done after %d tries" % (t, tries))
        try:
            producer.begin_transaction()
            for i in range(t * each, (t + 1) * each):
                producer.send(topic, key=b"k%d" % (i % 97), value=b"%d:" % i + b"x" * 64, headers=[("n", b"%d" % i)])
            producer.send_offsets_to_transaction({TopicPartition(source, 0): OffsetAndMetadata(t + 1, "", -1)}, group)
            if t % 3 == 2:
                producer.abort_transaction()
            else:
                producer.commit_transaction()
        except (ProducerFencedError, AuthorizationError):
            raise
        except KafkaError:
            producer.abort_transaction()
            continue
        if t % 3 != 2:
            print("committed", t, flush=True)
        t += 1
    producer.close()


verb, bootstrap, topic = sys.argv[1:4]
if verb == "produce":
    produce(bootstrap, topic, int(sys.argv[4]), int(sys.argv[5]), sys.argv[6], sys.argv[7:] == ["idempotent"])
elif verb == "transact":
    transact(bootstrap, topic, sys.argv[4], int(sys.argv[5]), int(sys.argv[6]), sys.argv[7], sys.argv[8])
else:
    consume(bootstrap, topic, sys.argv[4], int(sys.argv[5]))
