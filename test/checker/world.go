package checker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The topics of a run and their partitions.
var topics = []struct {
	name       string
	partitions int32
}{{"plain", 2}, {"txn", 3}, {"in", 2}, {"out", 2}, {"money", 2}, {"fence", 1}, {"compact", 1}}

func keysOf(topic string) (keys []string) {
	for _, t := range topics {
		if t.name == topic {
			for p := range t.partitions {
				keys = append(keys, key(topic, p))
			}
		}
	}
	return keys
}

// world is what the generators of one run share.
type world struct {
	h    *History
	dial Dial
	pace time.Duration // between two operations of a generator
	// compress lets each producer choose a codec; else nothing is compressed.
	compress bool
	deposed  bool          // controllers lose their leadership while the node lives
	txnTime  time.Duration // transaction.timeout.ms
	session  time.Duration // session.timeout.ms

	values, procs, sessions, admins atomic.Int64
	mu                              sync.Mutex
	rnd                             *rand.Rand
	// kills is raised to kill all clients.
	kills    atomic.Int64
	stopping atomic.Bool
	closing  sync.WaitGroup
	// touched are the keys that had records sent, for the final reading.
	touched sync.Map
}

func (w *world) intN(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rnd.IntN(n)
}

func (w *world) proc() int { return int(w.procs.Add(1)) }

// record makes a new value for a key. The time is what the record will be dated with.
func (w *world) record(k string) Record {
	w.touched.Store(k, true)
	return Record{Key: k, Offset: -1, Value: w.values.Add(1), Time: time.Now().UnixMilli()}
}

// kgoRecord is what a client sends for it.
func kgoRecord(r Record) *kgo.Record {
	topic, partition := split(r.Key)
	out := &kgo.Record{Topic: topic, Partition: partition, Value: encode(r), Timestamp: time.UnixMilli(r.Time)}
	if r.RecordKey != "" {
		out.Key = []byte(r.RecordKey)
	}
	return out
}

// client opens a franz-go client. Wherever the node says it is, the connection goes through dial.
// When life ends its connections break and no new ones open: the client is dead, whatever it still has to say.
func (w *world) client(life context.Context, more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(w.opts(life), more...)...)
}

func (w *world) opts(life context.Context) []kgo.Opt {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		if err := life.Err(); err != nil {
			return nil, err
		}
		c, err := w.dial(ctx)
		if err == nil {
			context.AfterFunc(life, func() { c.Close() })
		}
		return c, err
	}
	codec := kgo.NoCompression()
	if w.compress {
		codec = []kgo.CompressionCodec{codec, kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}[w.intN(5)]
	}
	return []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.SeedBrokers("127.0.0.1:9092"), kgo.Dialer(dial),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.FetchMaxWait(100 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.RequestTimeoutOverhead(5 * time.Second), kgo.RetryTimeout(20 * time.Second), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
}

// again is how long a generator waits before it opens anew. While the node is down each attempt of an administrator is one more change
// of unknown outcome, of which the search over registers has room for 64 in ten seconds.
const again = 100 * time.Millisecond

// loop runs step at the world's pace until the world stops, opening what it works with anew after an error or when clients are
// killed. What open gives lives in the context it is given: when that ends all its connections break.
func (w *world) loop(ctx context.Context, open func(life context.Context) (step func(ctx context.Context) error, shut func(), err error)) {
	for w.going(ctx) {
		born := w.kills.Load()
		life, kill := context.WithCancel(ctx)
		step, shut, err := open(life)
		if err == nil {
			for err == nil && w.going(ctx) && w.kills.Load() == born {
				err = step(life)
				w.wait(life, w.pace)
			}
			if w.kills.Load() != born {
				kill()
			}
			closed := make(chan struct{})
			w.closing.Go(func() { shut(); close(closed) })
			select { // whoever cannot say goodbye in time dies without
			case <-closed:
			case <-time.After(w.txnTime):
			}
		}
		kill()
		w.wait(ctx, again)
	}
}

func (w *world) going(ctx context.Context) bool {
	return ctx.Err() == nil && !w.stopping.Load() && !w.h.Full()
}

func (w *world) wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d/2 + time.Duration(w.intN(int(d)+1)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// coordinators asks for one of each kind until there is one; the raw clients rely on it.
func (w *world) coordinators(ctx context.Context) error {
	c := &raw{dial: w.dial}
	defer c.close()
	for kind := range int8(2) {
		for {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorType, req.CoordinatorKeys = kind, []string{"any"}
			resp, err := c.ask(ctx, req, 4)
			if err == nil && resp.(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode == 0 {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("no coordinator of type %d: %w", kind, ctx.Err())
			}
			w.wait(ctx, 10*time.Millisecond)
		}
	}
	return nil
}

// prepare creates the topics and waits until all have leaders.
func (w *world) prepare(ctx context.Context) error {
	cl, err := w.client(ctx)
	if err != nil {
		return err
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if err := w.coordinators(ctx); err != nil {
		return err
	}
	text := func(s string) *string { return &s }
	for _, t := range topics {
		conf := map[string]*string{}
		if t.name == "compact" {
			conf = map[string]*string{"cleanup.policy": text("compact"), "segment.bytes": text("1048576"), "segment.ms": text("1000"), "min.cleanable.dirty.ratio": text("0.01"),
				"max.compaction.lag.ms": text("2000")}
		}
		if _, err := adm.CreateTopic(ctx, t.partitions, 1, conf, t.name); err != nil {
			return fmt.Errorf("create %s: %w", t.name, err)
		}
	}
	for ctx.Err() == nil {
		led := 0
		if all, err := adm.ListEndOffsets(ctx, func() (names []string) {
			for _, t := range topics {
				names = append(names, t.name)
			}
			return names
		}()...); err == nil {
			all.Each(func(o kadm.ListedOffset) {
				if o.Err == nil {
					led++
				}
			})
		}
		want := 0
		for _, t := range topics {
			want += int(t.partitions)
		}
		if led == want {
			return nil
		}
		w.wait(ctx, 10*time.Millisecond)
	}
	return ctx.Err()
}

// generators by the name under which a run may choose them.
var generators = map[string]func(w *world, ctx context.Context){
	"send":    (*world).sender,
	"compact": (*world).compactor,
	"txn":     (*world).txnSender,
	"money":   (*world).banker,
	"copy":    (*world).copier,
	"feed":    (*world).feeder,
	"assign":  (*world).reader,
	"group":   (*world).member,
	"coop":    (*world).cooperator,
	"server":  (*world).served,
	"dirty":   (*world).dirtyReader,
	"offsets": (*world).asker,
	"commit":  (*world).committer,
	"observe": (*world).observer,
	"list":    (*world).lister,
	"admin":   (*world).admin,
	"fence":   (*world).fencer,
	"oldgen":  (*world).oldGeneration,

	"recompact": (*world).txnCompactor,
	"swing":     (*world).swinger,
	"pair":      (*world).pairSender,
	"transfer":  (*world).transferrer,
	"rescan":    (*world).rescanner,
	"recommit":  (*world).recommitter,
	"toggle":    (*world).toggler,
}

// generate runs generators, each as often as its name is in the list, until ctx ends.
func (w *world) generate(ctx context.Context, names []string) {
	var wg sync.WaitGroup
	for _, name := range names {
		run := generators[name]
		wg.Go(func() { run(w, ctx) })
	}
	wg.Wait()
	w.closing.Wait()
}
