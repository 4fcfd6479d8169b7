package ctlhandler

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/core/controller"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

// TestErrorAnswers: every request that goes to the controller has an answer to an error, of its own API, in all its versions,
// and the error is in it.
func TestErrorAnswers(t *testing.T) {
	d := New(Options{Logger: slog.New(slog.DiscardHandler)})
	name := "topic"
	for key, e := range d.apis {
		switch key { // answer by themselves
		case wire.ApiVersions, wire.DescribeCluster, wire.DescribeConfigs, wire.DescribeAcls, wire.DescribeUserScramCredentials,
			wire.DescribeDelegationToken, wire.SaslHandshake, wire.SaslAuthenticate:
			continue
		}
		req := e.info.NewRequest()
		switch r := req.(type) {
		case *api.CreateTopicsRequest:
			r.Topics = []api.CreateTopicsRequestTopic{{Name: name}}
		case *api.DeleteTopicsRequest:
			r.TopicNames, r.Topics = []string{name}, []api.DeleteTopicsRequestTopic{{Name: &name}}
		case *api.CreatePartitionsRequest:
			r.Topics = []api.CreatePartitionsRequestTopic{{Name: name}}
		case *api.AlterConfigsRequest:
			r.Resources = []api.AlterConfigsRequestResource{{ResourceName: name}}
		case *api.IncrementalAlterConfigsRequest:
			r.Resources = []api.IncrementalAlterConfigsRequestResource{{ResourceName: name}}
		case *api.AlterClientQuotasRequest:
			r.Entries = []api.AlterClientQuotasRequestEntry{{}}
		case *api.AlterUserScramCredentialsRequest:
			r.Deletions = []api.AlterUserScramCredentialsRequestDeletion{{Name: name}}
		case *api.CreateAclsRequest:
			r.Creations = []api.CreateAclsRequestCreation{{}}
		case *api.DeleteAclsRequest:
			r.Filters = []api.DeleteAclsRequestFilter{{}}
		case *api.ElectLeadersRequest:
			r.TopicPartitions = []api.ElectLeadersRequestTopicPartition{{Topic: name, Partitions: []int32{0}}}
		case *api.AlterPartitionReassignmentsRequest:
			r.Topics = []api.AlterPartitionReassignmentsRequestTopic{{Name: name, Partitions: []api.AlterPartitionReassignmentsRequestTopicPartition{{}}}}
		}
		for v := e.info.Min; v <= e.info.Max; v++ {
			a := ErrorAnswer(req, v, &controller.Error{Code: wire.ErrPolicyViolation, Text: "why"})
			if got, ok := a.(wire.Response); !ok || got.APIKey() != key {
				t.Fatalf("%v is answered with %T", key, a)
			}
			b := wire.Marshal(a, v)
			if !strings.Contains(string(b), string([]byte{0, byte(wire.ErrPolicyViolation)})) {
				t.Errorf("%v version %d: the code is not in % x", key, v, b)
			}
		}
	}
	a := ErrorAnswer(&api.CreateTopicsRequest{Topics: []api.CreateTopicsRequestTopic{{Name: name}}}, 7,
		&controller.Error{Code: wire.ErrUnknownServerError, Text: "the secret of the house"}).(*api.CreateTopicsResponse)
	if a.Topics[0].ErrorMessage != nil {
		t.Errorf("a client was told %q", *a.Topics[0].ErrorMessage)
	}
}

func TestSchema(t *testing.T) {
	b, _, err := conf.Load(conf.DevDefaults(), []string{"log.retention.ms=777", "min.insync.replicas=2"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSchema(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.StaticTopic("min.insync.replicas"); got != "2" {
		t.Errorf("static min.insync.replicas %q", got)
	}
	topic := image.ConfigResource{Type: image.ResourceTopic, Name: "t"}
	for _, tt := range []struct {
		configs map[string]string
		code    wire.ErrorCode
		text    string
	}{
		{map[string]string{"retention.ms": "5", "cleanup.policy": "compact"}, wire.ErrNone, ""},
		{map[string]string{"no.such": "5"}, wire.ErrInvalidConfig, "Unknown topic config name: no.such"},
		{map[string]string{"retention.ms": "x"}, wire.ErrInvalidConfig, "Invalid value x for configuration retention.ms: Not a number of type LONG"},
	} {
		err := s.Validate(topic, tt.configs, nil)
		e, _ := err.(*controller.Error)
		if err == nil && tt.code == wire.ErrNone {
			continue
		}
		if e == nil || e.Code != tt.code || e.Text != tt.text {
			t.Errorf("%v: %v", tt.configs, err)
		}
	}
	if err := s.Validate(image.ConfigResource{Type: image.ResourceClientMetrics}, nil, nil); err == nil || err.(*controller.Error).Code != wire.ErrInvalidRequest {
		t.Errorf("a subscription without a name: %v", err)
	}
	if !s.IsList(image.ResourceTopic, "cleanup.policy") || s.IsList(image.ResourceTopic, "retention.ms") {
		t.Error("lists are not told from others")
	}
	if d, ok := s.Default(image.ResourceTopic, "cleanup.policy"); !ok || d != "delete" {
		t.Errorf("default %q %v", d, ok)
	}
	want := func(name, value string, source int8, all []controller.EffectiveConfig) {
		t.Helper()
		for _, e := range all {
			if e.Name == name {
				if e.Value == nil || *e.Value != value || e.Source != source {
					t.Errorf("%s: %+v", name, e)
				}
				return
			}
		}
		t.Errorf("%s is missing", name)
	}
	cluster := map[string]string{"min.insync.replicas": "3"}
	all := s.EffectiveTopic(map[string]string{"segment.bytes": "1048576"}, nil, cluster)
	want("segment.bytes", "1048576", 1, all)
	want("min.insync.replicas", "3", 3, all)
	want("retention.ms", "777", 4, all)
	want("delete.retention.ms", "86400000", 5, all)
	want("min.insync.replicas", "2", 4, s.EffectiveTopic(nil, nil, nil))
}

func BenchmarkEffectiveTopic(b *testing.B) {
	c, _, err := conf.Load(conf.DevDefaults(), nil)
	if err != nil {
		b.Fatal(err)
	}
	s, err := NewSchema(c)
	if err != nil {
		b.Fatal(err)
	}
	cluster := map[string]string{"min.insync.replicas": "1"}
	b.ReportAllocs()
	for b.Loop() {
		if len(s.EffectiveTopic(nil, nil, cluster)) == 0 {
			b.Fatal("nothing")
		}
	}
}
