package node

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/engine/replica"
	"github.com/moldau-io/moldau/internal/record"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// said is a slog.Handler that tells of one message.
type said struct {
	slog.Handler
	message string
	heard   chan struct{}
}

func (s *said) Enabled(context.Context, slog.Level) bool { return true }
func (s *said) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *said) WithGroup(string) slog.Handler            { return s }
func (s *said) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, s.message) {
		select {
		case s.heard <- struct{}{}:
		default:
		}
	}
	return nil
}

// TestFencedWhileSharedLogsRecover: after a kill a broker is unfenced while logs of its own are still being recovered, but not before
// those of partitions are there that another broker could lead.
func TestFencedWhileSharedLogsRecover(t *testing.T) {
	mem := vfs.NewMem()
	o := options(t, "/data", map[string]string{"log.flush.interval.messages": "1"})
	o.FS = mem
	n, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(req wire.Request, version int16) wire.Message {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		a, err := n.line.Send(ctx, req, version)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	other := api.NewBrokerRegistrationRequest()
	other.BrokerID, other.ClusterID, other.IncarnationID = 2, n.format.clusterID, id.UUID{2, 15: 2}
	other.Listeners = []api.BrokerRegistrationRequestListener{{Name: "PLAINTEXT", Host: "elsewhere", Port: 1}}
	other.LogDirs = []id.UUID{{7, 15: 7}}
	for _, f := range brokerFeatures() {
		other.Features = append(other.Features, api.BrokerRegistrationRequestFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	if a := ask(other, 4).(*api.BrokerRegistrationResponse); a.ErrorCode != wire.ErrNone {
		t.Fatal(a.ErrorCode)
	}
	create := &api.CreateTopicsRequest{TimeoutMs: 10_000}
	for name, brokers := range map[string][]int32{"own": {1}, "shared": {1, 2}} {
		create.Topics = append(create.Topics, api.CreateTopicsRequestTopic{Name: name, NumPartitions: -1, ReplicationFactor: -1,
			Assignments: []api.CreateTopicsRequestTopicAssignment{{BrokerIDs: brokers}}})
	}
	for _, r := range ask(create, 7).(*api.CreateTopicsResponse).Topics {
		if r.ErrorCode != wire.ErrNone {
			t.Fatal(r.Name, r.ErrorCode, *r.ErrorMessage)
		}
	}
	for _, topic := range []string{"own", "shared"} {
		produceOne(t, n, topic)
	}
	for _, topic := range []string{"own", "shared"} {
		t.Run(topic, func(t *testing.T) {
			disk, release := vfs.NewFaults(mem.CrashClone(1)), make(chan struct{})
			for _, op := range []vfs.Op{vfs.OpOpen, vfs.OpCreate} { // the topic's segments
				disk.Add(vfs.Rule{Op: op, Path: topic + "-*/*.log", Call: func(string) error { <-release; return nil }})
			}
			o := options(t, "/data", nil)
			stays := &said{message: "the broker stays fenced", heard: make(chan struct{}, 1)}
			o.FS, o.Logger = disk, slog.New(stays)
			started := make(chan *Node, 1)
			go func() {
				n, err := Start(t.Context(), o)
				if err != nil {
					t.Error(err)
				}
				started <- n
			}()
			if topic == "shared" {
				select {
				case <-stays.heard:
				case <-time.After(20 * time.Second):
					t.Error("nobody says that the broker stays fenced")
				}
				select {
				case <-started:
					t.Error("the broker is unfenced before the shared log is there")
				default:
				}
				close(release)
			}
			select {
			case n := <-started:
				if topic == "own" {
					close(release)
				}
				if n != nil {
					if _, err := n.replicas.Partition("shared", 0); err != nil {
						t.Errorf("the shared partition is not there: %v", err)
					}
					n.Shutdown(context.Background())
				}
			case <-time.After(20 * time.Second):
				t.Error("the node does not start")
			}
		})
	}
	if err := n.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// produceOne writes a record to partition 0 of a topic, once it is led here.
func produceOne(t *testing.T, n *Node, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := n.publish.caughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	b := record.NewBuilder(record.NewOptions())
	if err := b.Append(time.Now().UnixMilli(), nil, []byte("value")); err != nil {
		t.Fatal(err)
	}
	raw, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	n.replicas.Append(&replica.AppendRequest{Acks: 1, Timeout: 10 * time.Second, Partitions: []replica.AppendPartition{{Topic: topic, Batches: raw}}}, nil,
		func(r []replica.AppendResult) { done <- r[0].Err })
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(topic, err)
		}
	case <-ctx.Done():
		t.Fatal(topic, ctx.Err())
	}
}
