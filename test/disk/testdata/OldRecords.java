import java.io.FileOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.Record;
import org.apache.kafka.common.record.TimestampType;

/**
 * Writes segments of the message formats 0 and 1 with the record builders of an old release of kafka-clients.
 * Arguments: a directory and the first timestamp. For each format, codec and kind of timestamp there is a directory
 * old-FORMAT-CODEC-KIND-0 with one segment afterwards, and for each record a line on standard output: topic, offset, timestamp, key, value.
 * The partition of __consumer_offsets (of 4) to which "old-group" belongs gets a commit in format 1, compressed and not.
 * A fourth of the wrappers has offsets missing, as compaction leaves them.
 */
public class OldRecords {
    public static void main(String[] args) throws Exception {
        Path home = Path.of(args[0]);
        long start = Long.parseLong(args[1]);
        commits(home, start);
        for (byte magic = 0; magic <= 1; magic++) {
            for (CompressionType codec : new CompressionType[] {CompressionType.NONE, CompressionType.GZIP, CompressionType.SNAPPY, CompressionType.LZ4}) {
                for (TimestampType type : new TimestampType[] {TimestampType.CREATE_TIME, TimestampType.LOG_APPEND_TIME}) {
                    if (magic == 0 && type == TimestampType.LOG_APPEND_TIME)
                        continue;
                    String topic = "old-" + magic + "-" + codec.name + "-" + (type == TimestampType.CREATE_TIME ? "create" : "append");
                    write(home, topic, magic, codec, type, start);
                }
            }
        }
    }

    static void commits(Path home, long start) throws Exception {
        int partition = ("old-group".hashCode() & 0x7fffffff) % 4;
        Path dir = home.resolve("__consumer_offsets-" + partition);
        Files.createDirectories(dir);
        try (FileOutputStream out = new FileOutputStream(dir.resolve("00000000000000000000.log").toFile())) {
            long offset = 0;
            for (CompressionType codec : new CompressionType[] {CompressionType.NONE, CompressionType.GZIP}) {
                MemoryRecordsBuilder b = MemoryRecords.builder(ByteBuffer.allocate(1 << 16), (byte) 1, codec, TimestampType.CREATE_TIME, offset);
                for (int i = 0; i < 3; i++)
                    b.appendWithOffset(offset + i, start, commitKey(i == 1 ? "old-0-gzip-create" : "old-1-none-create"), commitValue(10 + offset + 2 * i, start));
                // The last one wins: 10 + 3 + 4 = 17.
                offset += 3;
                byte[] raw = new byte[b.build().buffer().remaining()];
                b.build().buffer().duplicate().get(raw);
                out.write(raw);
            }
        }
    }

    static byte[] commitKey(String topic) {
        ByteBuffer b = ByteBuffer.allocate(200);
        b.putShort((short) 1);
        string(b, "old-group");
        string(b, topic);
        b.putInt(0);
        return cut(b);
    }

    static byte[] commitValue(long offset, long now) {
        ByteBuffer b = ByteBuffer.allocate(200);
        b.putShort((short) 1);
        b.putLong(offset);
        string(b, "from long ago");
        b.putLong(now); // commit
        b.putLong(now + 7L * 24 * 3600 * 1000); // expiration
        return cut(b);
    }

    static void string(ByteBuffer b, String s) {
        b.putShort((short) s.length());
        b.put(s.getBytes(StandardCharsets.UTF_8));
    }

    static byte[] cut(ByteBuffer b) {
        byte[] out = new byte[b.position()];
        b.flip();
        b.get(out);
        return out;
    }

    static void write(Path home, String topic, byte magic, CompressionType codec, TimestampType type, long start) throws Exception {
        Path dir = home.resolve(topic + "-0");
        Files.createDirectories(dir);
        long offset = 0;
        try (FileOutputStream out = new FileOutputStream(dir.resolve("00000000000000000000.log").toFile())) {
            for (int batch = 0; batch < 12; batch++) {
                MemoryRecordsBuilder b = MemoryRecords.builder(ByteBuffer.allocate(1 << 16), magic, codec, type, offset, start + 1000 * batch + 500);
                for (int i = 0; i < 7; i++) {
                    byte[] key = i == 3 ? null : ("key-" + (offset % 5)).getBytes(StandardCharsets.UTF_8);
                    byte[] value = i == 5 ? null : ("value " + topic + " " + offset + " " + "lorem ipsum ".repeat(batch)).getBytes(StandardCharsets.UTF_8);
                    long ts = magic == 0 ? -1 : start + 1000 * batch + (i * 37) % 100;
                    if (type == TimestampType.LOG_APPEND_TIME)
                        b.appendWithOffset(offset, start + 1000 * batch + 500, key, value);
                    else
                        b.appendWithOffset(offset, ts, key, value);
                    offset += batch % 4 == 3 && i % 2 == 0 ? 2 : 1;
                }
                MemoryRecords records = b.build();
                ByteBuffer bytes = records.buffer().duplicate();
                byte[] raw = new byte[bytes.remaining()];
                bytes.get(raw);
                out.write(raw);
                for (Record r : records.records())
                    System.out.println(topic + " " + r.offset() + " " + r.timestamp() + " " + text(r.key()) + " " + text(r.value()));
            }
        }
    }

    static String text(ByteBuffer b) {
        if (b == null)
            return "null";
        byte[] raw = new byte[b.remaining()];
        b.duplicate().get(raw);
        StringBuilder s = new StringBuilder("x");
        for (byte x : raw)
            s.append(String.format("%02x", x));
        return s.toString();
    }
}
