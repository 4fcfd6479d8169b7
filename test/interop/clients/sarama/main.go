// Command sarama is the sarama client of the interop tests: produce and consume as the doc of test/interop says.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

var pad = strings.Repeat("x", 64)

func main() {
	a := os.Args[1:]
	var err error
	switch a[0] {
	case "produce":
		err = produce(a[1], a[2], number(a[3]), number(a[4]), a[5], len(a) > 6)
	case "transact":
		err = transact(a[1], a[2], a[3], number(a[4]), number(a[5]), a[6], a[7])
	default:
		err = consume(a[1], a[2], a[3], number(a[4]))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(s string) int { n, _ := strconv.Atoi(s); return n }

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V3_6_0_0
	c.Metadata.Retry.Max = 50
	c.Metadata.Retry.Backoff = 200 * time.Millisecond
	return c
}

func produce(bootstrap, topic string, from, count int, codec string, idempotent bool) error {
	c := config()
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Retry.Max = 100
	c.Producer.Retry.Backoff = 100 * time.Millisecond
	c.Producer.Compression = map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP,
		"snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}[codec]
	if idempotent {
		c.Producer.Idempotent = true
		c.Net.MaxOpenRequests = 1
	}
	p, err := sarama.NewAsyncProducer([]string{bootstrap}, c)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Add(1)
	var failed error
	go func() {
		defer wg.Done()
		for range count {
			select {
			case <-p.Successes():
			case e := <-p.Errors():
				failed = e.Err
			}
		}
	}()
	for i := from; i < from+count; i++ {
		n := strconv.Itoa(i)
		p.Input() <- &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder("k" + strconv.Itoa(i%97)), Value: sarama.StringEncoder(n + ":" + pad),
			Headers: []sarama.RecordHeader{{Key: []byte("n"), Value: []byte(n)}}}
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	if err := p.Close(); err != nil {
		return err
	}
	fmt.Println("acked", count)
	return nil
}

// reader prints the first count records of the group and marks exactly these.
type reader struct {
	mu    sync.Mutex
	out   strings.Builder
	left  int
	done  chan struct{}
	wrong error
}

func (r *reader) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (r *reader) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (r *reader) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			r.take(s, m)
		case <-s.Context().Done():
			return nil
		}
	}
}

func (r *reader) take(s sarama.ConsumerGroupSession, m *sarama.ConsumerMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left == 0 {
		return
	}
	text, _, _ := strings.Cut(string(m.Value), ":")
	if string(m.Key) != fmt.Sprintf("k%d", number(text)%97) {
		r.wrong = fmt.Errorf("record %s came as key %s", text, m.Key)
	}
	fmt.Fprintln(&r.out, text)
	s.MarkMessage(m, "")
	if r.left--; r.left == 0 {
		s.Commit()
		close(r.done)
	}
}

func consume(bootstrap, topic, group string, count int) error {
	c := config()
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Session.Timeout = 10 * time.Second
	if os.Getenv("ISOLATION") == "read_committed" {
		c.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	g, err := sarama.NewConsumerGroup([]string{bootstrap}, group, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	r := &reader{left: count, done: make(chan struct{})}
	go func() {
		<-r.done
		cancel()
	}()
	for ctx.Err() == nil {
		if err := g.Consume(ctx, []string{topic}, r); err != nil && ctx.Err() == nil {
			return err
		}
	}
	if err := g.Close(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left > 0 {
		return fmt.Errorf("only %d of %d records", count-r.left, count)
	}
	fmt.Print(r.out.String())
	return r.wrong
}
