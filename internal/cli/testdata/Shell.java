import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Optional;

import org.apache.kafka.common.metadata.AbortTransactionRecord;
import org.apache.kafka.common.metadata.BeginTransactionRecord;
import org.apache.kafka.common.metadata.EndTransactionRecord;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.record.internal.FileRecords;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.image.MetadataDelta;
import org.apache.kafka.image.MetadataImage;
import org.apache.kafka.image.MetadataProvenance;
import org.apache.kafka.metadata.MetadataRecordSerde;
import org.apache.kafka.shell.command.Commands;
import org.apache.kafka.shell.node.RootShellNode;
import org.apache.kafka.shell.state.MetadataShellState;

/**
 * The commands and nodes of Kafka's metadata shell over the file that is its argument, without the shell's main program: that one
 * begins before the file is read, or waits for ever. Lines and answers are those of Tools.java.
 */
public class Shell {
    public static void main(String[] args) throws Exception {
        MetadataShellState state = new MetadataShellState();
        state.setRoot(new RootShellNode(load(args[0])));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            StringWriter text = new StringWriter();
            PrintWriter out = new PrintWriter(text);
            new Commands(false).parseCommand(Arrays.asList(line.split("\t", -1))).run(Optional.empty(), out, state);
            out.flush();
            byte[] bytes = text.toString().getBytes(StandardCharsets.UTF_8);
            System.out.println("0 " + bytes.length + " 0");
            System.out.write(bytes);
            System.out.flush();
        }
    }

    static MetadataImage load(String path) throws Exception {
        MetadataDelta delta = new MetadataDelta.Builder().setImage(MetadataImage.EMPTY).build();
        MetadataProvenance provenance = MetadataProvenance.EMPTY;
        try (FileRecords file = FileRecords.open(new File(path), false)) {
            for (RecordBatch batch : file.batches()) {
                if (batch.isControlBatch()) {
                    continue;
                }
                for (Record record : batch) {
                    ApiMessage message = MetadataRecordSerde.INSTANCE.read(new ByteBufferAccessor(record.value()), record.valueSize()).message();
                    if (!(message instanceof BeginTransactionRecord || message instanceof EndTransactionRecord || message instanceof AbortTransactionRecord)) {
                        delta.replay(message);
                    }
                }
                provenance = new MetadataProvenance(batch.lastOffset(), batch.partitionLeaderEpoch(), batch.maxTimestamp(), true);
            }
        }
        return delta.apply(provenance);
    }
}
