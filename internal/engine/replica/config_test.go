package replica

import (
	"testing"

	"github.com/moldau-io/moldau/internal/base/conf"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// TestMinISRFromProperties: min.insync.replicas, wherever it is set, decides whether a partition that has lost a replica takes
// acks=all. It needs a second replica, since a partition never wants more replicas than it has.
func TestMinISRFromProperties(t *testing.T) {
	const key = "min.insync.replicas"
	two := map[string]string{key: "2"}
	for name, c := range map[string]struct {
		static, defaults, own, topic map[string]string
		want                         wire.ErrorCode
	}{
		"unset":       {want: wire.ErrRequestTimedOut}, // taken, and waiting for the second replica until the time is up
		"static":      {static: two, want: wire.ErrNotEnoughReplicas},
		"cluster":     {defaults: two, want: wire.ErrNotEnoughReplicas},
		"broker":      {own: two, want: wire.ErrNotEnoughReplicas},
		"topic":       {topic: two, want: wire.ErrNotEnoughReplicas},
		"topic first": {static: two, topic: map[string]string{key: "1"}, want: wire.ErrRequestTimedOut},
	} {
		t.Run(name, func(t *testing.T) {
			p := conf.DevDefaults()
			for k, v := range c.static {
				p[k] = v
			}
			b, _, err := conf.Load(p, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, _, err = b.WithDynamic(c.defaults, c.own); err != nil {
				t.Fatal(err)
			}
			resolved, err := conf.ResolveTopic(b, c.topic)
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t)
			r.topic("t", 1, 1, 2)
			r.isr("t", 1)
			r.configs["t"] = FromConf(resolved)
			value := "2"
			r.replay(&logrec.ConfigRecord{ResourceType: 2, ResourceName: "t", Name: key, Value: &value})
			wantCode(t, r.produce(-1, 0, AppendPartition{Topic: "t", Batches: plain(t, 1)}).one(t).Err, c.want)
		})
	}
}
