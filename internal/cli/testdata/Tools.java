import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * Runs many command lines of Apache Kafka's tools in one process. Each line of standard input holds the words of one command,
 * separated by tabs; the answer is "CODE LENGTH LENGTH" and what the tool wrote to its two streams.
 */
public class Tools {
    static final Map<String, String> CLASSES = Map.of(
        "storage", "kafka.tools.StorageTool",
        "features", "org.apache.kafka.tools.FeatureCommand",
        "broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand",
        "configs", "kafka.admin.ConfigCommand",
        "cluster", "org.apache.kafka.tools.ClusterTool",
        "metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand",
        "metadata-shell", "org.apache.kafka.shell.MetadataShell",
        "dump-log", "org.apache.kafka.tools.DumpLogSegments");

    /** What the tool wrote, and how it ended first: some catch what ends them and say so. */
    static ByteArrayOutputStream toolOut;
    static ByteArrayOutputStream toolErr;
    static int code;
    static int errLength;

    static class Ended extends RuntimeException {
        Ended() {
            super(null, null, false, false);
        }
    }

    /** Lets a tool's own way to end the process end the command only. */
    static void catchExit() throws Exception {
        for (String name : List.of("org.apache.kafka.common.utils.Exit", "org.apache.kafka.common.utils.internals.Exit")) {
            try {
                Class<?> exit = Class.forName(name);
                Class<?> procedure = Class.forName(name + "$Procedure");
                Object end = Proxy.newProxyInstance(Tools.class.getClassLoader(), new Class<?>[]{procedure}, (proxy, method, args) -> {
                    if (errLength < 0) {
                        code = (Integer) args[0];
                        errLength = toolErr.size();
                    }
                    throw new Ended();
                });
                exit.getMethod("setExitProcedure", procedure).invoke(null, end);
            } catch (ClassNotFoundException e) {
                // another release has it in the other place
            }
        }
    }

    public static void main(String[] unused) throws Exception {
        PrintStream out = System.out;
        PrintStream err = System.err;
        catchExit();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            String[] words = line.split("\t", -1);
            toolOut = new ByteArrayOutputStream();
            toolErr = new ByteArrayOutputStream();
            System.setOut(new PrintStream(toolOut, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(toolErr, true, StandardCharsets.UTF_8));
            code = 0;
            errLength = -1;
            try {
                Object args = Arrays.copyOfRange(words, 1, words.length);
                Class.forName(CLASSES.get(words[0])).getMethod("main", String[].class).invoke(null, args);
            } catch (InvocationTargetException e) {
                Throwable cause = e.getCause();
                if (!(cause instanceof Ended)) {
                    code = 1;
                    System.err.println(cause.getMessage());
                }
            }
            System.setOut(out);
            System.setErr(err);
            int written = errLength < 0 ? toolErr.size() : errLength;
            out.println(code + " " + toolOut.size() + " " + written);
            out.write(toolOut.toByteArray());
            out.write(toolErr.toByteArray(), 0, written);
            out.flush();
        }
        System.exit(0);
    }
}
