package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// transact runs transactions without offsets: franz-go sends these only for a group that it is a member of.
func transact(ctx context.Context, bootstrap, topic, txid string, count, each int) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.TransactionalID(txid), kgo.AllowAutoTopicCreation(), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	defer c.Close()
	for t, tries := 0, 0; t < count; tries++ {
		if tries > count+100 {
			return fmt.Errorf("transaction %d is not done after %d tries", t, tries)
		}
		if err := c.BeginTransaction(); err != nil {
			return err
		}
		outcome := make(chan error, each)
		for i := t * each; i < (t+1)*each; i++ {
			c.Produce(ctx, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", i%97), Value: fmt.Appendf(nil, "%d:%s", i, pad),
				Headers: []kgo.RecordHeader{{Key: "n", Value: fmt.Appendf(nil, "%d", i)}}}, func(_ *kgo.Record, err error) { outcome <- err })
		}
		var failed error
		for range each {
			if err := <-outcome; err != nil {
				failed = err
			}
		}
		commit := kgo.TransactionEndTry(failed == nil && t%3 != 2)
		if err := c.EndTransaction(ctx, commit); err != nil {
			return fmt.Errorf("transaction %d, commit %v: %w", t, commit, err)
		}
		if failed != nil {
			continue
		}
		if bool(commit) {
			fmt.Println("committed", t)
		}
		t++
	}
	return nil
}
