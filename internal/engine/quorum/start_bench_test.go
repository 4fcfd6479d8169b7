package quorum

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// BenchmarkStart is the time from Open to the first image of a fresh quorum of one on disk.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		o := format(b, vfs.OS(), b.TempDir(), true).options()
		b.StartTimer()
		q, err := Open(o)
		if err != nil {
			b.Fatal(err)
		}
		if err := q.Start(); err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if _, err := q.AwaitImage(ctx, func(i *image.Image) bool { return i.Features.MetadataVersion == 33 }); err != nil {
			b.Fatal(err)
		}
		cancel()
		b.StopTimer()
		q.Close()
		b.StartTimer()
	}
}

// BenchmarkStart10k is the time from Open to the first image with 10,000 partitions in 1,000 topics, from the log alone and
// from a snapshot with an empty log behind it.
func BenchmarkStart10k(b *testing.B) {
	for _, from := range []string{"log", "snapshot"} {
		b.Run(from, func(b *testing.B) {
			n := format(b, vfs.OS(), b.TempDir(), true)
			n.edit = func(o *Options) { o.MaxIdleInterval = 0 }
			q := n.start()
			if err := fill(q, 1000, 10); err != nil {
				b.Fatal(err)
			}
			if err := q.Close(); err != nil {
				b.Fatal(err)
			}
			if from == "snapshot" {
				n.edit = func(o *Options) { o.SnapshotMaxNewRecordBytes, o.MaxIdleInterval = 1, 0 }
				end := q.Status().LogEndOffset
				q = n.start()
				awaitSnapshot(b, n, end)
				if err := q.Close(); err != nil {
					b.Fatal(err)
				}
				n.edit = func(o *Options) { o.MaxIdleInterval = 0 }
			}
			for b.Loop() {
				q, err := Open(n.options())
				if err != nil {
					b.Fatal(err)
				}
				if err := q.Start(); err != nil {
					b.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				if _, err := q.AwaitImage(ctx, func(i *image.Image) bool { return i.Topics.Len() == 1000 }); err != nil {
					b.Fatal(err)
				}
				cancel()
				b.StopTimer()
				q.Close()
				b.StartTimer()
			}
		})
	}
}

// fill registers a broker and creates topics.
func fill(q *Quorum, topics int, partitions int32) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	reg := api.NewBrokerRegistrationRequest()
	reg.BrokerID, reg.ClusterID, reg.IncarnationID, reg.LogDirs = 1, testCluster, id.UUID{1}, []id.UUID{{2}}
	reg.Listeners = []api.BrokerRegistrationRequestListener{{Name: "PLAINTEXT", Host: "localhost", Port: 9092}}
	for _, f := range controller.SupportedFeatures() {
		reg.Features = append(reg.Features, api.BrokerRegistrationRequestFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	m, err := q.Do(ctx, Request{Message: reg, APIVersion: 4})
	if err != nil {
		return err
	}
	beat := api.NewBrokerHeartbeatRequest()
	beat.BrokerID, beat.BrokerEpoch, beat.CurrentMetadataOffset = 1, m.(*api.BrokerRegistrationResponse).BrokerEpoch, 1<<40
	if _, err := q.Do(ctx, Request{Message: beat, APIVersion: 1}); err != nil {
		return err
	}
	for at := 0; at < topics; at += 100 {
		req := api.NewCreateTopicsRequest()
		for i := range min(100, topics-at) {
			t := api.NewCreateTopicsRequestTopic()
			t.Name, t.NumPartitions, t.ReplicationFactor = fmt.Sprintf("topic-%05d", at+i), partitions, 1
			req.Topics = append(req.Topics, t)
		}
		m, err := q.Do(ctx, Request{Message: req, APIVersion: 7})
		if err != nil {
			return err
		}
		for _, r := range m.(*api.CreateTopicsResponse).Topics {
			if r.ErrorCode != wire.ErrNone {
				return r.ErrorCode
			}
		}
	}
	return nil
}

// BenchmarkDo is one operation after the other, each durable before it is answered.
func BenchmarkDo(b *testing.B) {
	q, err := Open(format(b, vfs.OS(), b.TempDir(), true).options())
	if err != nil {
		b.Fatal(err)
	}
	if err := q.Start(); err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	if _, err := q.AwaitImage(context.Background(), func(i *image.Image) bool { return !i.IsEmpty() }); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := setConfig(q, "k", "v"); err != nil {
			b.Fatal(err)
		}
	}
}
