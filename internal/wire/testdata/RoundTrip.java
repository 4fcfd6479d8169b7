import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

/**
 * Reads lines "message version hex write-version", has Kafka decode the bytes and encode what it got at the other version (hex "new"
 * stands for a message with its defaults), and answers each with one line:
 * "ok REMAINING HEX", "unwritable REMAINING" when it cannot encode what it read, "refused" or "unknown".
 */
public class RoundTrip {
    static final String[] PACKAGES = {
        "org.apache.kafka.common.message.", "org.apache.kafka.common.metadata.", "org.apache.kafka.coordinator.group.generated.",
        "org.apache.kafka.coordinator.transaction.generated.", "org.apache.kafka.coordinator.share.generated.",
        "org.apache.kafka.raft.generated.", "org.apache.kafka.server.log.remote.metadata.storage.generated.",
        "org.apache.kafka.storage.internals.log.generated.", "org.apache.kafka.server.log.generated.", "org.apache.kafka.storage.generated.",
        "org.apache.kafka.server.storage.log.generated.", "org.apache.kafka.storage.internals.generated.",
    };

    static Class<?> find(String name) {
        for (String p : PACKAGES) {
            for (String suffix : new String[] {"Data", ""}) {
                try {
                    return Class.forName(p + name + suffix);
                } catch (ClassNotFoundException e) {
                    // the next one
                }
            }
        }
        return null;
    }

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        PrintStream out = new PrintStream(System.out, false);
        HexFormat hex = HexFormat.of();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ", -1);
            Class<?> c = find(words[0]);
            if (c == null) {
                out.println("unknown");
                continue;
            }
            short version = Short.parseShort(words[1]);
            Message m = (Message) c.getDeclaredConstructor().newInstance();
            boolean fresh = words[2].equals("new");
            ByteBuffer frame = ByteBuffer.wrap(fresh ? new byte[0] : hex.parseHex(words[2]));
            try {
                if (!fresh) {
                    m.read(new ByteBufferAccessor(frame), version);
                }
            } catch (Throwable e) {
                out.println("refused " + e);
                continue;
            }
            version = Short.parseShort(words[3]);
            try {
                ObjectSerializationCache cache = new ObjectSerializationCache();
                ByteBuffer buffer = ByteBuffer.allocate(m.size(cache, version));
                m.write(new ByteBufferAccessor(buffer), cache, version);
                out.println("ok " + frame.remaining() + " " + hex.formatHex(buffer.array()));
            } catch (Throwable e) {
                out.println("unwritable " + frame.remaining());
            }
        }
        out.flush();
    }
}
