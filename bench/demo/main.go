// Command demo sends a real data set through a node and back: every line of the Go source tree (or of a file), keyed by file
// name, in each compression mode; a group of three consumers reads it, one of them is killed half way, and what came back is
// compared with what went in: count, order within each key, checksum. It starts its own node (./moldau) and removes it again.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-io/moldau/internal/base/netx"
)

var (
	file       = flag.String("file", "", "send the lines of this file instead of the Go tree")
	limit      = flag.Int("limit", 0, "send at most this many records (0: all)")
	codecs     = flag.String("codecs", "none,gzip,snappy,lz4,zstd", "compression modes")
	partitions = flag.Int("partitions", 6, "partitions of each topic")
	bootstrap  = flag.String("bootstrap", "", "use this running node instead of one of the demo's own")
	member     = flag.String("member", "", "internal: run as one consumer of the group, on topic,group")
)

func main() {
	flag.Parse()
	if *member != "" {
		topic, group, _ := strings.Cut(*member, ",")
		if err := consume(*bootstrap, topic, group); err != nil {
			fmt.Fprintln(os.Stderr, "consumer:", err)
			os.Exit(1)
		}
		return
	}
	if err := demo(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo() error {
	addr := *bootstrap
	if addr == "" {
		stop, started, err := startNode()
		if err != nil {
			return err
		}
		defer stop()
		addr = started
	}
	set, err := read()
	if err != nil {
		return err
	}
	fmt.Printf("%d records, %d keys, %.1f MB of keys and values\n", len(set.lines), len(set.digest), float64(set.bytes)/1e6)
	for _, codec := range strings.Split(*codecs, ",") {
		if err := roundTrip(addr, codec, set); err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
	}
	fmt.Println("everything came back: count, order within each key and checksum agree in every mode")
	return nil
}

func roundTrip(addr, codec string, set *dataset) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	topic := fmt.Sprintf("demo-%s-%d", codec, time.Now().UnixMilli())
	took, err := produce(ctx, addr, topic, codec, set)
	if err != nil {
		return err
	}
	fmt.Printf("%-6s produced  %8.0f records/s  %7.1f MB/s\n", codec, float64(len(set.lines))/took.Seconds(), float64(set.bytes)/1e6/took.Seconds())
	got := newReceived(len(set.lines))
	took, err = readBack(ctx, addr, topic, got)
	if err != nil {
		return err
	}
	fmt.Printf("%-6s consumed  %8.0f records/s  %7.1f MB/s  (three consumers, one killed half way; %d records came twice)\n", codec,
		float64(len(set.lines))/took.Seconds(), float64(set.bytes)/1e6/took.Seconds(), got.again)
	return got.compare(set)
}

func produce(ctx context.Context, addr, topic, codec string, set *dataset) (time.Duration, error) {
	byName := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	c, ok := byName[codec]
	if !ok {
		return 0, fmt.Errorf("no such compression mode")
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ProducerBatchCompression(c), kgo.DefaultProduceTopic(topic),
		kgo.MaxBufferedRecords(100_000), kgo.ProducerLinger(5*time.Millisecond))
	if err != nil {
		return 0, err
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, int32(*partitions), 1, nil, topic); err != nil {
		return 0, err
	}
	bar := newBar(codec+" produce", len(set.lines))
	defer bar.end()
	began := time.Now()
	failed := make(chan error, 1)
	for _, l := range set.lines {
		client.Produce(ctx, &kgo.Record{Key: l.key, Value: l.value}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
			bar.add(1)
		})
	}
	if err := client.Flush(ctx); err != nil {
		return 0, err
	}
	select {
	case err := <-failed:
		return 0, err
	default:
		return time.Since(began), nil
	}
}

// startNode brings up ./moldau in a directory of its own.
func startNode() (stop func(), addr string, err error) {
	dir, err := os.MkdirTemp("", "moldau-demo")
	if err != nil {
		return nil, "", err
	}
	script := filepath.Join("test", "interop", "node")
	port, err := netx.FreePair(rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(time.Now().UnixNano()))), 101)
	if err != nil {
		return nil, "", err
	}
	if out, err := exec.Command(script, "start", "--port", fmt.Sprint(port), "--dir", dir).CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("starting the node: %w: %s", err, out)
	}
	return func() {
		_ = exec.Command(script, "stop", "--dir", dir).Run()
		_ = os.RemoveAll(dir)
	}, fmt.Sprintf("localhost:%d", port), nil
}

func goTree() string { return filepath.Join(runtime.GOROOT(), "src") }
