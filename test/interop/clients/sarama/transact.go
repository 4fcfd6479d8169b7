package main

import (
	"fmt"
	"strconv"

	"github.com/IBM/sarama"
)

func transact(bootstrap, topic, txid string, count, each int, source, group string) error {
	c := config()
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Return.Successes = true
	c.Producer.Retry.Max = 100
	c.Producer.Retry.Backoff = 100_000_000
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Producer.Transaction.ID = txid
	c.Producer.Transaction.Retry.Max = 200
	p, err := sarama.NewSyncProducer([]string{bootstrap}, c)
	if err != nil {
		return err
	}
	defer p.Close()
	for t, tries := 0, 0; t < count; tries++ {
		if tries > count+100 {
			return fmt.Errorf("transaction %d is not done after %d tries", t, tries)
		}
		if err := p.BeginTxn(); err != nil {
			return fmt.Errorf("begin %d: %w", t, err)
		}
		err := fill(p, topic, t, each, source, group)
		switch {
		case err == nil && t%3 != 2:
			if err = p.CommitTxn(); err == nil {
				fmt.Println("committed", t)
				t++
				continue
			}
		case err == nil:
			if err = p.AbortTxn(); err == nil {
				t++
				continue
			}
		}
		status := p.TxnStatus()
		if status&sarama.ProducerTxnFlagFatalError != 0 || status&sarama.ProducerTxnFlagAbortableError == 0 && status&sarama.ProducerTxnFlagInTransaction == 0 {
			return fmt.Errorf("transaction %d: %w (%v)", t, err, status)
		}
		if err := p.AbortTxn(); err != nil {
			return fmt.Errorf("abort %d: %w", t, err)
		}
	}
	return nil
}

func fill(p sarama.SyncProducer, topic string, t, each int, source, group string) error {
	var all []*sarama.ProducerMessage
	for i := t * each; i < (t+1)*each; i++ {
		n := strconv.Itoa(i)
		all = append(all, &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder("k" + strconv.Itoa(i%97)), Value: sarama.StringEncoder(n + ":" + pad),
			Headers: []sarama.RecordHeader{{Key: []byte("n"), Value: []byte(n)}}})
	}
	if err := p.SendMessages(all); err != nil {
		return err
	}
	return p.AddOffsetsToTxn(map[string][]*sarama.PartitionOffsetMetadata{source: {{Partition: 0, Offset: int64(t + 1)}}}, group)
}
