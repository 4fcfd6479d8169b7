package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/moldau-io/moldau/internal/base/id"
)

func TestLevels(t *testing.T) {
	src := bytes.Repeat([]byte("to be or not to be, that is the question. "), 4000)
	levels := map[Codec][]int{Gzip: {-1, 0, 1, 6, 9}, Snappy: {0}, LZ4: {0, 1, 9, 12, 17}, Zstd: {-131072, -5, 0, 1, 3, 11, 22}}
	for c, ls := range levels {
		for _, l := range ls {
			packed, err := compress(nil, src, Compression{c, l})
			if err != nil {
				t.Fatalf("%s level %d: %v", c, l, err)
			}
			out, err := decompressAll(c, packed, len(src))
			if err != nil || !bytes.Equal(out, src) {
				t.Fatalf("%s level %d: %d bytes of %d, %v", c, l, len(out), len(src), err)
			}
			if len(packed) > len(src)/8 {
				t.Errorf("%s level %d: %d bytes of %d", c, l, len(packed), len(src))
			}
		}
	}
	for _, bad := range []Compression{{Gzip, 10}, {Gzip, -2}, {LZ4, 18}, {LZ4, -1}, {Zstd, 23}, {Zstd, -131073}, {7, 0}} {
		if bad.Check() == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

// TestBound holds that a limit is exact: the whole output passes under a limit of its own size and not under one less.
func TestBound(t *testing.T) {
	src := make([]byte, 300_000)
	for _, c := range allCodecs[1:] {
		packed, err := compress(nil, src, Compression{Codec: c})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := decompressAll(c, packed, len(src)); err != nil || len(out) != len(src) {
			t.Errorf("%s: %d bytes, %v", c, len(out), err)
		}
		var tooLarge *TooLargeError
		if out, err := decompressAll(c, packed, len(src)-1); !errors.As(err, &tooLarge) || len(out) > len(src)-1 {
			t.Errorf("%s under one byte less: %d bytes, %v", c, len(out), err)
		}
	}
}

func TestSnappyVariants(t *testing.T) {
	src := bytes.Repeat([]byte("abcdefgh"), 20_000)
	framed := compressSnappy(nil, src)
	tests := map[string][]byte{
		"raw":          s2.EncodeSnappy(nil, src),
		"framed":       framed,
		"framed twice": append(append([]byte(nil), compressSnappy(nil, src[:100_000])...), compressSnappy(nil, src[100_000:])...),
	}
	for name, in := range tests {
		if out, err := decompressAll(Snappy, in, len(src)); err != nil || !bytes.Equal(out, src) {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
	}
	lying := append([]byte(xerialMagic), xerialVersions...)
	lying = binary.BigEndian.AppendUint32(lying, 6)
	lying = append(lying, 0xff, 0xff, 0xff, 0xff, 0x0f, 0) // claims 4 GB
	for name, in := range map[string][]byte{
		"cut": framed[:len(framed)-1], "only the header": framed[:10], "length beyond the end": append(framed[:16:16], 0x7f, 0, 0, 0), "lying block": lying, "nothing": {0xff},
	} {
		if _, err := decompressAll(Snappy, in, len(src)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestLZ4Variants reads the frames of another writer: block sizes, checksums and content sizes of the format.
func TestLZ4Variants(t *testing.T) {
	src := []byte(strings.Repeat("the river runs through the city ", 30_000))
	for name, opts := range map[string][]lz4.Option{
		"64 KB":           {lz4.BlockSizeOption(lz4.Block64Kb)},
		"4 MB":            {lz4.BlockSizeOption(lz4.Block4Mb)},
		"block checksums": {lz4.BlockChecksumOption(true), lz4.BlockSizeOption(lz4.Block256Kb)},
		"no checksum":     {lz4.ChecksumOption(false)},
		"content size":    {lz4.SizeOption(uint64(len(src)))},
	} {
		var b bytes.Buffer
		w := lz4.NewWriter(&b)
		if err := w.Apply(append(opts, lz4.ConcurrencyOption(1))...); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(src); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if out, err := decompressAll(LZ4, b.Bytes(), len(src)); err != nil || !bytes.Equal(out, src) {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
		for _, at := range []int{0, 4, 5, 6, 20, b.Len() / 2} { // magic, flags, sizes, header checksum, data
			bad := append([]byte(nil), b.Bytes()...)
			bad[at] ^= 0x41
			if out, err := decompressAll(LZ4, bad, len(src)); err == nil && bytes.Equal(out, src) {
				t.Errorf("%s: a flipped byte %d goes unnoticed", name, at)
			}
		}
	}
	ours, err := compress(nil, src, Compression{Codec: LZ4})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(lz4.NewReader(bytes.NewReader(ours))); err != nil || !bytes.Equal(out.Bytes(), src) {
		t.Errorf("another reader reads our frame as %d bytes, %v", out.Len(), err)
	}
}

func TestZstdHugeWindow(t *testing.T) {
	src := bytes.Repeat([]byte("0123456789abcdef"), 2<<20/16)
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(64<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	for rest := src; len(rest) > 0; rest = rest[1<<16:] {
		if _, err := w.Write(rest[:1<<16]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := decompressAll(Zstd, b.Bytes(), len(src)); err != nil || !bytes.Equal(out, src) {
		t.Fatalf("%d bytes, %v", len(out), err)
	}
	var tooLarge *TooLargeError
	if _, err := decompressAll(Zstd, b.Bytes(), len(src)-1); !errors.As(err, &tooLarge) {
		t.Fatalf("under one byte less: %v", err)
	}
}

// panicky stands for a decompressor with a defect.
type panicky struct{}

func (panicky) reset([]byte, int) error  { return nil }
func (panicky) Read([]byte) (int, error) { var a []int; return a[3], nil }
func (panicky) release()                 {}

func TestPanicInDecompressorIsAnError(t *testing.T) {
	s := &stream{codec: Zstd, src: panicky{}, limit: 10, left: 10}
	var d *DecompressError
	if _, err := s.more(nil); !errors.As(err, &d) {
		t.Fatalf("%v", err)
	}
	if _, ok := s.src.(*zstdDecoder); !ok {
		t.Fatalf("the decoder that panicked is kept: %T", s.src)
	}
}

// TestSkimLargeRecords walks compressed records larger than the window without holding them.
func TestSkimLargeRecords(t *testing.T) {
	for _, c := range allCodecs[1:] {
		recs := []plain{{TimestampMs: testNow, Key: []byte("k"), Value: make([]byte, 3<<20)},
			{TimestampMs: testNow, Key: make([]byte, 200_000), Headers: []Header{{[]byte("h"), make([]byte, 100_000)}, {[]byte(strings.Repeat("i", 70_000)), nil}}}, {TimestampMs: testNow}}
		b := withCodec(t, c, recs)
		it := b.Records(testLimit)
		it.skim = true
		var r Record
		for i := range recs {
			if !it.Next(&r) || int(r.OffsetDelta) != i || (r.Key == nil) != (recs[i].Key == nil) || (r.Value == nil) != (recs[i].Value == nil) {
				t.Fatalf("%s, record %d: %+v, %v", c, i, r, it.Err())
			}
		}
		if it.Next(&r) || it.Err() != nil || len(it.stream.window) > windowBytes {
			t.Fatalf("%s: window of %d bytes, %v", c, len(it.stream.window), it.Err())
		}
		it.Close()
		if _, err := Validate(b, opt(func(o *ValidateOptions) { o.MaxBatchBytes = 0 })); err != nil {
			t.Fatalf("%s: %v", c, err)
		}
	}
}

// TestKafkaReadsOurBatches lets Apache Kafka's DumpLogSegments read a segment with a batch of every codec.
func TestKafkaReadsOurBatches(t *testing.T) {
	tool := "../../../shared/oracle/kafka"
	if _, err := os.Stat(tool); err != nil {
		t.Skip("Apache Kafka's tools are not here")
	}
	if _, err := exec.LookPath("java"); err != nil || testing.Short() {
		t.Skip("no Java here, or -short")
	}
	var log []byte
	want := 0
	for i, c := range allCodecs {
		o := NewOptions()
		o.Compression.Codec, o.LeaderEpoch = c, 0
		recs := simple(40)
		b := build(t, o, recs)
		b.SetBaseOffset(id.Offset(i * 40))
		log = append(log, b...)
		want += len(recs)
	}
	file := filepath.Join(t.TempDir(), "00000000000000000000.log")
	if err := os.WriteFile(file, log, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, "dump-log", "--files", file, "--print-data-log", "--deep-iteration").CombinedOutput()
	if err != nil {
		t.Skipf("dump-log does not run here: %v\n%s", err, out)
	}
	if got := strings.Count(string(out), "| offset: "); got != want || strings.Contains(string(out), "isvalid: false") {
		t.Fatalf("Kafka sees %d records of %d:\n%.2000s", got, want, out)
	}
}
