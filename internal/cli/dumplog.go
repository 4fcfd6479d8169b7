package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/record"
)

func dumpLogParser() *parser {
	return newParser("This tool prints the content of log, index and snapshot files.",
		option{name: "print-data-log", doc: "Print the records of logs; implied by a decoder."},
		option{name: "verify-index-only", doc: "Check indexes without printing them."},
		option{name: "index-sanity-check", doc: "Make only the check a broker makes at start."},
		option{name: "files", kind: "String", argument: "file1, file2, ...", doc: "REQUIRED: The files, separated by commas."},
		option{name: "max-message-size", kind: "Integer", argument: "size", def: "5242880", doc: "Largest batch an index entry is compared with."},
		option{name: "max-bytes", kind: "Integer", argument: "size", def: "2147483647", doc: "Stop after so many bytes of a log."},
		option{name: "deep-iteration", doc: "Look at every record; implied by print-data-log."},
		option{name: "value-decoder-class", kind: "String", optional: true, def: decoderPackage + "StringDecoder", doc: "One of Kafka's decoder classes for values."},
		option{name: "key-decoder-class", kind: "String", optional: true, def: decoderPackage + "StringDecoder", doc: "One of Kafka's decoder classes for keys."},
		option{name: "offsets-decoder", doc: "Records are those of __consumer_offsets."},
		option{name: "transaction-log-decoder", doc: "Records are those of __transaction_state."},
		option{name: "cluster-metadata-decoder", doc: "Records are cluster metadata."},
		option{name: "remote-log-metadata-decoder", doc: "Records are metadata of tiered storage."},
		option{name: "share-group-state-decoder", doc: "Records are those of __share_group_state."},
		option{name: "skip-record-metadata", doc: "Print records without offset, timestamp and sizes, and no control records."})
}

const decoderPackage = "org.apache.kafka.tools.api."

// maxBatchBytes bounds a batch that is read into memory, and what it may decompress to.
const maxBatchBytes = 1 << 30

// dump is one run of the tool.
type dump struct {
	o               *parsed
	out             *bufio.Writer
	errs            io.Writer
	show            recordPrinter
	printRecords    bool
	deep            bool
	skipMetadata    bool
	verifyOnly      bool
	sanityOnly      bool
	maxBytes        int64
	maxMessageBytes int64
	files           []string // in full, as they were given
	notConsecutive  map[string][][2]int64
	indexMismatches map[string][][2]int64
	timeErrors      [3]map[string][][2]int64 // wrong timestamp, out of order, offset not found
}

func runDumpLog(_ context.Context, s Streams, args []string) error {
	p := dumpLogParser()
	o, err := p.parse(args)
	if err != nil {
		return err
	}
	if done, err := o.helpOrVersion(args, s); done {
		return err
	}
	if err := o.required("files"); err != nil {
		return err
	}
	d := &dump{o: o, out: bufio.NewWriterSize(s.Out, 64<<10), errs: s.Err, notConsecutive: map[string][][2]int64{}, indexMismatches: map[string][][2]int64{}}
	for i := range d.timeErrors {
		d.timeErrors[i] = map[string][][2]int64{}
	}
	files, err := d.configure()
	if err != nil {
		return err
	}
	for _, f := range files {
		fmt.Fprintf(d.out, "Dumping %s\n", f)
		full, err := filepath.Abs(f)
		if err != nil {
			return err
		}
		d.files = append(d.files, full)
		if err := d.file(f); err != nil {
			_ = d.out.Flush() // what was found before the error
			return err
		}
	}
	if err := d.out.Flush(); err != nil {
		return err
	}
	d.report()
	return nil
}

func (d *dump) configure() ([]string, error) {
	var err error
	if d.maxBytes, err = d.o.number("max-bytes"); err != nil {
		return nil, err
	}
	if d.maxMessageBytes, err = d.o.number("max-message-size"); err != nil {
		return nil, err
	}
	d.skipMetadata, d.verifyOnly, d.sanityOnly = d.o.has("skip-record-metadata"), d.o.has("verify-index-only"), d.o.has("index-sanity-check")
	for _, x := range []string{"print-data-log", "offsets-decoder", "transaction-log-decoder", "cluster-metadata-decoder", "remote-log-metadata-decoder",
		"value-decoder-class", "key-decoder-class", "share-group-state-decoder"} {
		d.printRecords = d.printRecords || d.o.has(x)
	}
	d.deep = d.printRecords || d.o.has("deep-iteration")
	if d.show, err = newRecordPrinter(d.o); err != nil {
		return nil, err
	}
	text, err := d.o.str("files")
	return strings.Split(text, ","), err
}

func (d *dump) file(path string) error {
	name := filepath.Base(path)
	switch filepath.Ext(name) {
	case ".log", ".checkpoint":
		return d.logFile(path)
	case ".index":
		return d.offsetIndex(path)
	case ".timeindex":
		return d.timeIndex(path)
	case ".snapshot":
		return d.producerSnapshot(path)
	case ".txnindex":
		return d.txnIndex(path)
	}
	fmt.Fprintf(d.errs, "Ignoring unknown file %s\n", path)
	return nil
}

// baseOffsetOf reads the offset a segment file is named after.
func baseOffsetOf(path string) (int64, error) {
	text, _, _ := strings.Cut(filepath.Base(path), ".")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("For input string: \"%s\"", text)
	}
	return n, nil
}

func (d *dump) logFile(path string) error {
	name := filepath.Base(path)
	switch {
	case strings.HasSuffix(name, ".log"):
		base, err := baseOffsetOf(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(d.out, "Log starting offset: %d\n", base)
	case name == "bootstrap.checkpoint":
		fmt.Fprintln(d.out, "KRaft bootstrap snapshot")
	default:
		offset, epoch, ok := snapshotName(name)
		if !ok {
			return fmt.Errorf("%s is not named as a snapshot", path)
		}
		fmt.Fprintf(d.out, "Snapshot end offset: %d, epoch: %d\n", offset, epoch)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := min(info.Size(), d.maxBytes)
	position, last := int64(0), int64(-1)
	for position < size {
		batch, err := readBatch(f, position, size)
		if err != nil {
			var old *record.LegacyError
			if !errors.As(err, &old) {
				if !errors.Is(err, record.ErrIncomplete) {
					fmt.Fprintf(d.errs, "%s: no batch at position %d: %v\n", path, position, err)
				}
				break // what follows is no batch; it is counted below
			}
			if last, err = d.legacy(f, path, position, old.SizeBytes, last); err != nil {
				return err
			}
			position += int64(old.SizeBytes)
			continue
		}
		d.batchLine(batch, position)
		if d.deep {
			if last, err = d.records(path, batch, last); err != nil {
				return err
			}
		}
		position += int64(batch.SizeBytes())
	}
	if rest := size - position; rest > 0 && d.maxBytes == math.MaxInt32 {
		fmt.Fprintf(d.out, "Found %d invalid bytes at the end of %s\n", rest, name)
	}
	return nil
}

// snapshotName reads <offset>-<epoch>.checkpoint.
func snapshotName(name string) (offset, epoch int64, ok bool) {
	text, found := strings.CutSuffix(name, ".checkpoint")
	a, b, cut := strings.Cut(text, "-")
	offset, err1 := strconv.ParseInt(a, 10, 64)
	epoch, err2 := strconv.ParseInt(b, 10, 64)
	return offset, epoch, found && cut && err1 == nil && err2 == nil
}

// readBatch reads the batch at a position; limit is where the readable part of the file ends.
func readBatch(f io.ReaderAt, position, limit int64) (record.Batch, error) {
	var head [record.HeaderSize]byte
	n := min(int64(len(head)), limit-position)
	if _, err := f.ReadAt(head[:n], position); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	size, err := record.Peek(head[:n])
	if err != nil {
		return nil, err
	}
	if int64(size) > limit-position || size > maxBatchBytes {
		return nil, record.ErrIncomplete
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, position); err != nil {
		return nil, err
	}
	batch, _, err := record.Next(b)
	return batch, err
}

func (d *dump) batchLine(b record.Batch, position int64) {
	horizon := "OptionalLong.empty"
	if ms, ok := b.DeleteHorizonMs(); ok {
		horizon = fmt.Sprintf("OptionalLong[%d]", ms)
	}
	fmt.Fprintf(d.out, "baseOffset: %d lastOffset: %d count: %d baseSequence: %d lastSequence: %d producerId: %d producerEpoch: %d partitionLeaderEpoch: %d "+
		"isTransactional: %t isControl: %t deleteHorizonMs: %s position: %d %s: %d size: %d magic: %d compresscodec: %s crc: %d isvalid: %t\n",
		b.BaseOffset(), b.LastOffset(), b.Count(), b.BaseSequence(), b.LastSequence(), b.ProducerID(), b.ProducerEpoch(), b.LeaderEpoch(),
		b.IsTransactional(), b.IsControl(), horizon, position, b.TimestampType(), b.MaxTimestamp(), b.SizeBytes(), b.Magic(), b.Codec(), b.CRC(), b.CheckCRC() == nil)
}

// records prints a batch's records and returns the last offset seen.
func (d *dump) records(path string, b record.Batch, last int64) (int64, error) {
	it := b.Records(maxBatchBytes)
	defer it.Close()
	var r record.Record
	var headers []record.Header
	for it.Next(&r) {
		offset := int64(r.Offset)
		if err := d.follow(path, last, offset); err != nil {
			return last, err
		}
		last = offset
		if !d.skipMetadata {
			headers = r.AppendHeaders(headers[:0])
			names := make([]string, len(headers))
			for i, h := range headers {
				names[i] = string(h.Key)
			}
			fmt.Fprintf(d.out, "| offset: %d %s: %d keySize: %d valueSize: %d sequence: %d headerKeys: [%s]", offset, b.TimestampType(), r.TimestampMs,
				sizeOf(r.Key), sizeOf(r.Value), r.Sequence, strings.Join(names, ","))
			if b.IsControl() {
				fmt.Fprint(d.out, controlText(&r))
			}
		}
		if !b.IsControl() {
			if err := d.contents(&r); err != nil {
				return last, err
			}
		}
		fmt.Fprintln(d.out)
	}
	if err := it.Err(); err != nil {
		return last, fmt.Errorf("%s: records of the batch at offset %d: %w", path, b.BaseOffset(), err)
	}
	return last, nil
}

func sizeOf(b []byte) int {
	if b == nil {
		return -1
	}
	return len(b)
}

// report prints on standard error what did not fit together.
func (d *dump) report() {
	section := func(m map[string][][2]int64, title, line string) {
		for _, path := range d.inOrder(m) {
			fmt.Fprintf(d.errs, "%s%s\n", title, path)
			for _, pair := range m[path] {
				fmt.Fprintf(d.errs, line, pair[0], pair[1])
			}
		}
	}
	section(d.indexMismatches, "Mismatches in :", "  Index offset: %d, log offset: %d\n")
	section(d.timeErrors[0], "Found timestamp mismatch in :", "  Index timestamp: %d, log timestamp: %d\n")
	section(d.timeErrors[1], "Found out of order timestamp in :", "  Index timestamp: %d, Previously indexed timestamp: %d\n")
	section(d.timeErrors[2], "The following indexed offsets are not found in :", "  Indexed offset: %d, found log offset: %d\n")
	section(d.notConsecutive, "Non-consecutive offsets in ", "  %d is followed by %d\n")
}
