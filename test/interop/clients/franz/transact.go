package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
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
			done, err := settle(ctx, c, txid)
			if err != nil {
				return fmt.Errorf("transaction %d, commit %v: %w", t, commit, err)
			}
			if done != bool(commit) {
				continue
			}
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

// settle finds out what became of a transaction whose end was not answered, and makes the client ready for the next one. The client
// gives up when it cannot connect, be it that the node went before the request came there or after: only the node knows.
func settle(ctx context.Context, c *kgo.Client, txid string) (committed bool, err error) {
	ask := kmsg.NewPtrDescribeTransactionsRequest()
	ask.TransactionalIDs = []string{txid}
	committed, err = until(ctx, func() (bool, error) {
		resp, err := ask.RequestWith(ctx, c)
		if err != nil {
			return false, err
		}
		if len(resp.TransactionStates) != 1 || resp.TransactionStates[0].ErrorCode != 0 {
			return false, fmt.Errorf("described as %+v", resp.TransactionStates)
		}
		state := resp.TransactionStates[0].State
		return state == "PrepareCommit" || state == "CompleteCommit", nil
	})
	if err != nil {
		return false, err
	}
	// The client keeps the transaction until an abort is through; one that is committed stays so.
	_, err = until(ctx, func() (bool, error) { return true, c.EndTransaction(ctx, kgo.TryAbort) })
	return committed, err
}

// until tries for half a minute.
func until(ctx context.Context, try func() (bool, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		got, err := try()
		if err == nil {
			return got, nil
		}
		select {
		case <-ctx.Done():
			return false, err
		case <-time.After(100 * time.Millisecond):
		}
	}
}
