package main

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/moldau-io/moldau/bench/load"
)

// flushRow counts acknowledged fsyncs: producers that each have so many requests of one record of 100 bytes under way, in turn to all
// partitions of a topic with flush.messages=1. Kafka's own producer has five.
func flushRow(producers, inFlight, partitions int) func(context.Context, string) (figure, error) {
	return func(ctx context.Context, who string) (figure, error) {
		s, err := newServer(who)
		if err != nil {
			return figure{}, err
		}
		defer s.stop()
		o := load.Options{Addr: s.addr, Topic: "warm", Partitions: partitions, RecordSize: 100, BatchSize: 1, Conns: producers, InFlight: inFlight, Acks: -1,
			Duration: s.warmUp()}
		if err := createTopics(ctx, s.addr, partitions, "warm", "bench"); err != nil {
			return figure{}, err
		}
		c, err := dialCaller(s.addr)
		if err != nil {
			return figure{}, err
		}
		defer c.close()
		if err := c.untilLed([]string{"warm", "bench"}, partitions, time.Now().Add(time.Minute)); err != nil {
			return figure{}, err
		}
		if err := flushEach(ctx, s.addr, "warm", "bench"); err != nil {
			return figure{}, err
		}
		if _, err := load.Produce(ctx, o); err != nil {
			return figure{}, err
		}
		o.Topic, o.Duration = "bench", *window
		m := s.meter()
		got, err := load.Produce(ctx, o)
		if err != nil {
			return figure{}, err
		}
		cpu, foreign := m.stop()
		return figure{got.RequestsPerSecond(), cpu * 1e6 / float64(got.Requests), foreign}, nil
	}
}

// flushEach sets flush.messages=1 on topics.
func flushEach(ctx context.Context, addr string, topics ...string) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer c.Close()
	one := "1"
	got, err := kadm.NewClient(c).AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "flush.messages", Value: &one}}, topics...)
	if err != nil {
		return err
	}
	for _, r := range got {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}
