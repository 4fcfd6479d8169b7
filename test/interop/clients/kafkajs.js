// kafkajs: produce and consume as ../doc.go says. It knows gzip and no compression by itself.
const { Kafka, CompressionTypes, logLevel } = require("kafkajs");

const [verb, bootstrap, topic, ...rest] = process.argv.slice(2);
const kafka = new Kafka({ clientId: "interop", brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { retries: 30, initialRetryTime: 100, maxRetryTime: 1000 } });

async function produce(from, count, codec, idempotent) {
  const producer = kafka.producer({ idempotent, maxInFlightRequests: 1, allowAutoTopicCreation: true });
  await producer.connect();
  for (let i = from; i < from + count; i += 500) {
    const messages = [];
    for (let j = i; j < Math.min(i + 500, from + count); j++)
      messages.push({ key: "k" + (j % 97), value: j + ":" + "x".repeat(64), headers: { n: String(j) } });
    await producer.send({ topic, acks: -1, compression: codec === "gzip" ? CompressionTypes.GZIP : CompressionTypes.None, messages });
  }
  await producer.disconnect();
  console.log("acked " + count);
}

async function consume(group, count) {
  const consumer = kafka.consumer({ groupId: group, sessionTimeout: 10000, maxWaitTimeInMs: 200 });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  let seen = 0, finish;
  const done = new Promise((resolve) => (finish = resolve));
  const lines = [], next = {};
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, isRunning, isStale }) => {
      for (const m of batch.messages) {
        if (seen >= count || !isRunning() || isStale()) break;
        const i = parseInt(m.value.toString(), 10);
        if (m.key.toString() !== "k" + (i % 97) || m.headers.n.toString() !== String(i)) fail("record " + i + " came as key " + m.key);
        lines.push(i);
        next[batch.partition] = (BigInt(m.offset) + 1n).toString();
        seen++;
      }
      const offsets = Object.entries(next).map(([p, offset]) => ({ topic, partition: Number(p), offset }));
      if (offsets.length) await consumer.commitOffsets(offsets);
      if (seen >= count) return finish();
      for (const m of batch.messages.slice(-1)) consumer.seek({ topic, partition: batch.partition, offset: (BigInt(m.offset) + 1n).toString() });
    },
  });
  const timer = setTimeout(() => fail("only " + seen + " of " + count + " records"), 90000);
  await done;
  clearTimeout(timer);
  await consumer.disconnect();
  await new Promise((flushed) => process.stdout.write(lines.join("\n") + "\n", flushed));
}

function fail(text) {
  console.error(text);
  process.exit(1);
}

async function transact(txid, count, each, source, group) {
  const options = { transactionalId: txid, idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: true };
  let producer = kafka.producer(options);
  await producer.connect();
  // An end that is not answered leaves a kafkajs producer unusable. The next one of its id ends the transaction for good, one way or
  // the other, and then the group's offset tells which.
  const renew = async () => {
    await producer.disconnect().catch(() => {});
    for (let tries = 0; ; tries++) {
      producer = kafka.producer(options);
      try {
        return await producer.connect();
      } catch (e) {
        if (tries === 50) throw e;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  };
  const committedUpTo = async () => {
    const admin = kafka.admin();
    await admin.connect();
    const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [source] });
    await admin.disconnect();
    return Number(partitions[0].offset);
  };
  for (let t = 0, tries = 0; t < count; tries++) {
    if (tries > count + 100) fail("transaction " + t + " is not done after " + tries + " tries");
    const messages = [];
    for (let i = t * each; i < (t + 1) * each; i++)
      messages.push({ key: "k" + (i % 97), value: i + ":" + "x".repeat(64), headers: { n: String(i) } });
    const transaction = await producer.transaction();
    try {
      await transaction.send({ topic, acks: -1, messages });
      await transaction.sendOffsets({ consumerGroupId: group, topics: [{ topic: source, partitions: [{ partition: 0, offset: String(t + 1) }] }] });
    } catch (e) {
      await transaction.abort().catch(renew);
      continue;
    }
    if (t % 3 === 2) await transaction.abort().catch(renew);
    else {
      let done = true;
      try {
        await transaction.commit();
      } catch (e) {
        await renew();
        done = (await committedUpTo()) === t + 1;
      }
      if (!done) continue;
      console.log("committed " + t);
    }
    t++;
  }
  await producer.disconnect();
}

const verbs = {
  produce: () => produce(Number(rest[0]), Number(rest[1]), rest[2], rest[3] === "idempotent"),
  transact: () => transact(rest[0], Number(rest[1]), Number(rest[2]), rest[3], rest[4]),
  consume: () => consume(rest[0], Number(rest[1])),
};
verbs[verb]()
  .then(() => process.exit(0))
  .catch((e) => fail(String(e.stack || e)));
