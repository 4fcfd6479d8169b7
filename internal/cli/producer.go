package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxLineBytes bounds one line of console-producer's input.
const maxLineBytes = 256 << 20

func producerParser() *parser {
	return newParser("This tool reads lines from standard input and sends them to a topic.",
		option{name: "topic", kind: "String", argument: "topic", doc: "REQUIRED: The topic to send to."},
		option{name: "bootstrap-server", kind: "String", argument: "server to connect to", doc: "REQUIRED: Servers to ask first, as host:port,host:port."},
		option{name: "sync", doc: "Wait for each record's acknowledgement before reading the next line."},
		option{name: "compression-codec", kind: "String", optional: true, argument: "compression-codec", doc: "none, gzip, snappy, lz4 or zstd; gzip if no value is given."},
		option{name: "batch-size", kind: "Integer", argument: "size", def: "16384", doc: "Bytes of a batch, unless max-partition-memory-bytes is given."},
		option{name: "message-send-max-retries", kind: "Integer", def: "3", doc: "How often a record is sent again after a failure."},
		option{name: "retry-backoff-ms", kind: "Long", def: "100", doc: "Pause before a record is sent again."},
		option{name: "timeout", kind: "Long", argument: "timeout_ms", def: "1000", doc: "How long a record waits for others to share its batch."},
		option{name: "request-required-acks", kind: "String", argument: "request required acks", def: "-1", doc: "Acknowledgements to wait for: 0, 1, or all (-1)."},
		option{name: "request-timeout-ms", kind: "Integer", argument: "request timeout ms", def: "1500", doc: "How long the broker may take to acknowledge."},
		option{name: "metadata-expiry-ms", kind: "Long", argument: "metadata expiration interval", def: "300000", doc: "Age at which metadata is asked for again."},
		option{name: "max-block-ms", kind: "Long", argument: "max block on send", def: "60000", doc: "How long sending may block."},
		option{name: "max-memory-bytes", kind: "Long", argument: "total memory in bytes", def: "33554432", doc: "Memory for records that wait to be sent."},
		option{name: "max-partition-memory-bytes", kind: "Integer", argument: "memory in bytes per partition", def: "16384", doc: "(Deprecated) As batch-size."},
		option{name: "line-reader", kind: "String", argument: "reader_class", def: lineReaderClass, doc: "Java class that reads records; only the default is there."},
		option{name: "socket-buffer-size", kind: "Integer", argument: "size", def: "102400", doc: "Send buffer of the connection."},
		option{name: "property", kind: "String", argument: "prop", doc: "(Deprecated) As reader-property."},
		option{name: "reader-property", kind: "String", argument: "prop", doc: "A setting of the reader, as key=value: parse.key=false, parse.headers=false, ignore.error=false, " +
			"key.separator=\\t, headers.delimiter=\\t, headers.separator=\",\", headers.key.separator=:, null.marker (text that stands for null)."},
		option{name: "reader-config", kind: "String", argument: "config file", doc: "File with settings of the reader."},
		option{name: "producer-property", kind: "String", argument: "producer_prop", doc: "(Deprecated) As command-property."},
		option{name: "command-property", kind: "String", argument: "producer_prop", doc: "A property of the producer, as key=value."},
		option{name: "producer.config", kind: "String", argument: "config file", doc: "(Deprecated) As command-config."},
		option{name: "command-config", kind: "String", argument: "config file", doc: "File with properties of the producer."})
}

const lineReaderClass = "org.apache.kafka.tools.LineMessageReader"

// renamed is an option with its deprecated name.
type renamed struct{ now, old string }

// pick refuses both names together, warns of the old one, and returns the name that was used.
func (o *parsed) pick(s Streams, prefix string, r renamed) (string, error) {
	switch {
	case o.has(r.now) && o.has(r.old):
		return "", o.parser.usage("Options --%s and --%s cannot be specified together.", r.now, r.old)
	case o.has(r.old):
		fmt.Fprintf(s.Out, "%s --%s is deprecated and will be removed in a future version. Use --%s instead.\n", prefix, r.old, r.now)
		return r.old, nil
	}
	return r.now, nil
}

func runConsoleProducer(ctx context.Context, s Streams, args []string) error {
	p := producerParser()
	o, err := p.parse(args)
	if err != nil {
		return p.usage("%s", err)
	}
	if done, err := o.helpOrVersion(args, s); done {
		return err
	}
	if err := o.required("topic"); err != nil {
		return err
	}
	configName, err := o.pick(s, "Warning:", renamed{"command-config", "producer.config"})
	if err != nil {
		return err
	}
	propertyName, err := o.pick(s, "Warning:", renamed{"command-property", "producer-property"})
	if err != nil {
		return err
	}
	readerName, err := o.pick(s, "Warning:", renamed{"reader-property", "property"})
	if err != nil {
		return err
	}
	if o.has("max-partition-memory-bytes") {
		fmt.Fprintln(s.Out, "Warning: --max-partition-memory-bytes is deprecated and will be removed in Apache Kafka 5.0. Use --batch-size instead.")
	}
	bootstrap, err := o.str("bootstrap-server")
	if err == nil {
		err = checkBootstrap(bootstrap)
	}
	if err != nil {
		return p.usage("%s", err)
	}
	topic, err := o.str("topic")
	if err != nil {
		return err
	}
	reader, err := newRecordReader(o, readerName)
	if err != nil {
		return err
	}
	file, err := o.str(configName)
	if err != nil {
		return err
	}
	properties, err := clientProperties(file, o.all(propertyName))
	if err != nil {
		return err
	}
	opts, err := producerOptions(o, properties)
	if err != nil {
		return err
	}
	cl, err := connect(bootstrap, properties, "console-producer", append(opts, kgo.DefaultProduceTopic(topic))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	reader.prompt = s.Terminal
	return produceLines(ctx, s, cl, reader, o.has("sync"))
}

// merged returns an option if given, else the client property, else the option's default.
func (o *parsed) merged(properties map[string]string, name, key string) (string, error) {
	if v, ok := properties[key]; ok && !o.has(name) {
		return v, nil
	}
	return o.str(name)
}

// producerOptions translates options and Java producer properties to those of the client.
func producerOptions(o *parsed, properties map[string]string) ([]kgo.Opt, error) {
	number := func(name, key string) (int64, error) {
		text, err := o.merged(properties, name, key)
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("Invalid value %s for configuration %s: Not a number of type LONG", text, key)
		}
		return n, nil
	}
	values := map[string]int64{}
	for _, x := range [][2]string{{"timeout", "linger.ms"}, {"request-timeout-ms", "request.timeout.ms"}, {"message-send-max-retries", "retries"},
		{"retry-backoff-ms", "retry.backoff.ms"}, {"max-memory-bytes", "buffer.memory"}, {"metadata-expiry-ms", "metadata.max.age.ms"},
		{"max-block-ms", "max.block.ms"}} {
		n, err := number(x[0], x[1])
		if err != nil {
			return nil, err
		}
		if n < 0 {
			return nil, fmt.Errorf("Invalid value %d for configuration %s: Value must be at least 0", n, x[1])
		}
		values[x[1]] = n
	}
	batch := "batch-size"
	if o.has("max-partition-memory-bytes") {
		batch = "max-partition-memory-bytes"
	}
	size, err := number(batch, "batch.size")
	if err != nil {
		return nil, err
	}
	codec, err := producerCodec(o)
	if err != nil {
		return nil, err
	}
	acks, err := o.merged(properties, "request-required-acks", "acks")
	if err != nil {
		return nil, err
	}
	ms := func(key string) time.Duration { return time.Duration(values[key]) * time.Millisecond }
	opts := []kgo.Opt{
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(min(ms("linger.ms"), time.Minute)),
		kgo.ProducerBatchMaxBytes(int32(min(max(size, 4096), 1<<30))),
		kgo.MaxBufferedBytes(int(max(values["buffer.memory"], 1<<16))),
		kgo.ProduceRequestTimeout(max(ms("request.timeout.ms"), 100*time.Millisecond)),
		kgo.RetryBackoffFn(func(int) time.Duration { return ms("retry.backoff.ms") }),
		kgo.RecordRetries(int(min(values["retries"], 1<<30))),
		kgo.RecordDeliveryTimeout(2 * time.Minute),
		kgo.MetadataMaxAge(max(ms("metadata.max.age.ms"), time.Second)),
		kgo.UnknownTopicRetries(-1),
		kgo.RecordPartitioner(kgo.UniformBytesPartitioner(int(max(size, 1)), false, true, nil)),
	}
	switch acks {
	case "all", "-1":
		if properties["enable.idempotence"] == "false" {
			opts = append(opts, kgo.DisableIdempotentWrite())
		}
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, fmt.Errorf("Invalid value %s for configuration acks: String must be one of: all, -1, 0, 1", acks)
	}
	return opts, nil
}

func producerCodec(o *parsed) (kgo.CompressionCodec, error) {
	name := "none"
	if o.has("compression-codec") {
		var err error
		if name, err = o.str("compression-codec"); err != nil {
			return kgo.NoCompression(), err
		}
		if name == "" {
			name = "gzip"
		}
	}
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	c, ok := codecs[name]
	if !ok {
		return c, fmt.Errorf("Invalid value %s for configuration compression.type: String must be one of: none, gzip, snappy, lz4, zstd", name)
	}
	return c, nil
}

// produceLines sends every record the reader yields. Failed records are reported and do not stop it, except with sync.
func produceLines(ctx context.Context, s Streams, cl *kgo.Client, reader *recordReader, sync bool) error {
	in := bufio.NewReaderSize(s.In, 64<<10)
	out := &lockedWriter{w: s.Err}
	for ctx.Err() == nil {
		record, err := reader.next(in, s.Out)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			flush(cl)
			return err
		}
		if sync {
			if err := cl.ProduceSync(ctx, record).FirstErr(); err != nil {
				return produceError(err)
			}
			continue
		}
		cl.Produce(ctx, record, func(r *kgo.Record, err error) {
			if err != nil {
				fmt.Fprintf(out, "ERROR Error when sending message to topic %s with key: %s, value: %s with error: %s\n",
					r.Topic, sizeText(r.Key), sizeText(r.Value), produceError(err))
			}
		})
	}
	flush(cl)
	return nil
}

// flush waits for what was sent; a delivery has its own time limit.
func flush(cl *kgo.Client) { _ = cl.Flush(context.Background()) }

// lockedWriter lets the client's goroutines write whole lines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func sizeText(b []byte) string {
	if b == nil {
		return "null"
	}
	return strconv.Itoa(len(b)) + " bytes"
}

// produceError gives a broker's error its description.
func produceError(err error) error {
	var known *kerr.Error
	if errors.As(err, &known) {
		return errors.New(known.Description)
	}
	return err
}

// recordReader turns lines into records.
type recordReader struct {
	parseKey, parseHeaders, ignoreError bool
	keySeparator, headersDelimiter      string
	headersSeparator                    *regexp.Regexp
	headersKeySeparator                 string
	nullMarker                          *string
	prompt                              bool
	line                                int
}

func newRecordReader(o *parsed, propertyOption string) (*recordReader, error) {
	class, err := o.str("line-reader")
	if err != nil {
		return nil, err
	}
	if class != lineReaderClass {
		return nil, fmt.Errorf("the reader %s is a Java class and cannot be used here", class)
	}
	file, err := o.str("reader-config")
	if err != nil {
		return nil, err
	}
	p, err := clientProperties(file, o.all(propertyOption))
	if err != nil {
		return nil, err
	}
	text := func(key, def string) string {
		if v, ok := p[key]; ok {
			return v
		}
		return def
	}
	r := &recordReader{
		parseKey: isTrue(p["parse.key"]), parseHeaders: isTrue(p["parse.headers"]), ignoreError: isTrue(p["ignore.error"]),
		keySeparator: text("key.separator", "\t"), headersDelimiter: text("headers.delimiter", "\t"), headersKeySeparator: text("headers.key.separator", ":"),
	}
	separator := text("headers.separator", ",")
	if r.headersSeparator, err = regexp.Compile(separator); err != nil {
		return nil, fmt.Errorf("headers.separator: %w", err)
	}
	if v, ok := p["null.marker"]; ok {
		r.nullMarker = &v
	}
	for _, pair := range [][4]string{
		{"headers.delimiter", r.headersDelimiter, "headers.separator", separator},
		{"headers.delimiter", r.headersDelimiter, "headers.key.separator", r.headersKeySeparator},
		{"headers.separator", separator, "headers.key.separator", r.headersKeySeparator},
	} {
		if pair[1] == pair[3] {
			return nil, fmt.Errorf("%s and %s may not be equal", pair[0], pair[2])
		}
	}
	for _, x := range [][2]string{{"key.separator", r.keySeparator}, {"headers.separator", separator}, {"headers.delimiter", r.headersDelimiter},
		{"headers.key.separator", r.headersKeySeparator}} {
		if r.isNull(x[1]) {
			return nil, fmt.Errorf("null.marker and %s may not be equal", x[0])
		}
	}
	return r, nil
}

func isTrue(text string) bool { return strings.EqualFold(strings.TrimSpace(text), "true") }

func (r *recordReader) isNull(text string) bool { return r.nullMarker != nil && *r.nullMarker == text }

// next reads one line, ended as Java's readLine has it, and parses it; io.EOF at the end.
func (r *recordReader) next(in *bufio.Reader, out io.Writer) (*kgo.Record, error) {
	r.line++
	if r.prompt {
		fmt.Fprint(out, ">")
	}
	line, err := readLine(in)
	if err != nil {
		return nil, err
	}
	headers, rest, err := r.cut(r.parseHeaders, line, line, r.headersDelimiter, "headers delimiter")
	if err != nil {
		return nil, err
	}
	key, value, err := r.cut(r.parseKey, line, rest, r.keySeparator, "key separator")
	if err != nil {
		return nil, err
	}
	record := &kgo.Record{Value: []byte(value)}
	if key != nil && !r.isNull(*key) {
		record.Key = []byte(*key)
	}
	if r.isNull(value) {
		record.Value = nil
	}
	if headers != nil && !r.isNull(*headers) {
		if record.Headers, err = r.splitHeaders(*headers); err != nil {
			return nil, err
		}
	}
	return record, nil
}

// cut takes the part before a separator off.
func (r *recordReader) cut(enabled bool, line, text, separator, name string) (*string, string, error) {
	if !enabled {
		return nil, text, nil
	}
	head, tail, ok := strings.Cut(text, separator)
	switch {
	case ok:
		return &head, tail, nil
	case r.ignoreError:
		return nil, text, nil
	}
	return nil, "", fmt.Errorf("No %s found on line number %d: '%s'", name, r.line, line)
}

func (r *recordReader) splitHeaders(text string) ([]kgo.RecordHeader, error) {
	var out []kgo.RecordHeader
	pairs := r.headersSeparator.Split(text, -1)
	for len(pairs) > 1 && pairs[len(pairs)-1] == "" { // as Java's split
		pairs = pairs[:len(pairs)-1]
	}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, r.headersKeySeparator)
		switch {
		case !ok && r.ignoreError:
			out = append(out, kgo.RecordHeader{Key: pair})
			continue
		case !ok:
			return nil, fmt.Errorf("No header key separator found in pair '%s' on line number %d", pair, r.line)
		case r.isNull(key):
			return nil, fmt.Errorf("Header keys should not be equal to the null marker '%s' as they can't be null", *r.nullMarker)
		}
		h := kgo.RecordHeader{Key: key, Value: []byte(value)}
		if r.isNull(value) {
			h.Value = nil
		}
		out = append(out, h)
	}
	return out, nil
}

// readLine reads up to \n, \r or \r\n; what is not UTF-8 becomes U+FFFD, as when Java decodes it.
func readLine(in *bufio.Reader) (string, error) {
	var line []byte
	for {
		c, err := in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && len(line) > 0:
			return strings.ToValidUTF8(string(line), "�"), nil
		case err != nil:
			return "", err
		case c == '\n':
			return strings.ToValidUTF8(string(line), "�"), nil
		case c == '\r':
			if next, err := in.Peek(1); err == nil && next[0] == '\n' {
				_, _ = in.Discard(1)
			}
			return strings.ToValidUTF8(string(line), "�"), nil
		}
		if len(line) == maxLineBytes {
			return "", fmt.Errorf("a line of the input is longer than %d bytes", maxLineBytes)
		}
		line = append(line, c)
	}
}
