package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// schema is a small set of config rules: enough to see that the controller asks and obeys.
type schema struct{}

func (schema) Validate(r image.ConfigResource, after, _ map[string]string) error {
	for k, v := range after {
		switch {
		case r.Type == image.ResourceTopic && !slices.Contains([]string{"retention.ms", "cleanup.policy", minISRKey, uncleanElectionKey}, k):
			return errors.New("Unknown topic config name: " + k)
		case k == "retention.ms":
			if _, err := strconv.Atoi(v); err != nil {
				return errors.New("Invalid value " + v + " for configuration retention.ms: Not a number of type LONG")
			}
		case k == "forbidden":
			return &Error{Code: wire.ErrInvalidRequest, Text: "forbidden"}
		}
	}
	return nil
}

func (schema) IsList(_ image.ResourceType, key string) bool { return key == "cleanup.policy" }
func (schema) Default(_ image.ResourceType, key string) (string, bool) {
	return "delete", key == "cleanup.policy"
}

func (schema) StaticTopic(key string) string {
	return map[string]string{minISRKey: "1", uncleanElectionKey: "false"}[key]
}

func (s schema) EffectiveTopic(topic, node, cluster map[string]string) []EffectiveConfig {
	out := []EffectiveConfig{}
	for _, k := range []string{minISRKey, "retention.ms"} {
		e := EffectiveConfig{Name: k, Source: 5}
		if v, ok := topic[k]; ok {
			e.Value, e.Source = &v, 1
		} else if v, ok := cluster[k]; ok {
			e.Value, e.Source = &v, 3
		} else {
			e.Value = new(s.StaticTopic(k))
		}
		out = append(out, e)
	}
	return out
}

// world drives a controller as a quorum does, with a log in memory.
type world struct {
	c      *Controller
	cfg    Config
	now    time.Time
	rand   *rand.Rand
	log    []image.Record // everything appended
	commit int            // records before this index are committed
	lag    int            // commits are held back by this many records
	owed   int            // what would be committed without
	atomic [][2]int       // first and last index of each atomic decision
	names  map[id.UUID]string
}

func newWorld(levels map[string]int16) *world {
	w := &world{now: time.UnixMilli(1_000_000), rand: rand.New(rand.NewPCG(1, 2)), names: map[id.UUID]string{}}
	w.cfg = Config{NodeID: 100, ClusterID: "cluster", SupportedFeatures: SupportedFeatures(), DefaultReplicationFactor: 1, DefaultPartitions: 1,
		SessionTimeout: 9 * time.Second, LeaderImbalanceCheck: 300 * time.Second, UncleanElectionCheck: 300 * time.Second,
		Bootstrap: BootstrapRecords(levels), Schema: schema{}}
	w.c = New(w.cfg)
	return w
}

func (w *world) env(version int16) Env {
	return Env{Now: w.now, NextOffset: id.Offset(len(w.log)), Rand: w.rand, APIVersion: version, Forwarded: true}
}

func (w *world) take(d Decision) Decision {
	if n := len(d.Records); d.Atomic && n > 0 {
		w.atomic = append(w.atomic, [2]int{len(w.log), len(w.log) + n - 1})
	}
	w.log = append(w.log, d.Records...)
	return d
}

// commitAll commits everything, but for what is held back.
func (w *world) commitAll() {
	w.owed = len(w.log)
	w.commitTo(max(w.commit, w.owed-w.lag))
}

// commitTo commits up to about n: an atomic decision is committed as a whole or not at all.
func (w *world) commitTo(n int) {
	for _, a := range w.atomic {
		if a[0] < n && n <= a[1] && a[1] < len(w.log) {
			n = a[1] + 1
		}
	}
	w.commit = n
	w.owed = max(w.owed, n)
	if n > 0 {
		w.c.Committed(id.Offset(n - 1))
	}
}

func (w *world) activate(t testing.TB, epoch id.LeaderEpoch) Decision {
	d, err := w.c.Activate(w.env(0), epoch)
	if err != nil {
		t.Fatal(err)
	}
	return w.take(d)
}

func (w *world) decide(req wire.Message, version int16) Decision {
	return w.take(w.c.Decide(w.env(version), req))
}

// dir is the only log directory of a broker.
func dir(broker int32) id.UUID { return id.UUID{0: 0xd0, 1: byte(broker), 15: 200} }

func (w *world) registration(broker int32, incarnation byte) *api.BrokerRegistrationRequest {
	r := api.NewBrokerRegistrationRequest()
	r.BrokerID, r.ClusterID, r.IncarnationID, r.Rack = broker, "cluster", id.UUID{0: incarnation, 1: byte(broker)}, nil
	r.Listeners = []api.BrokerRegistrationRequestListener{{Name: "PLAINTEXT", Host: "h", Port: 9092}}
	r.LogDirs = []id.UUID{dir(broker)}
	for _, f := range SupportedFeatures() {
		r.Features = append(r.Features, api.BrokerRegistrationRequestFeature{Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max})
	}
	return r
}

func (w *world) beat(broker int32, fence, shutdown bool) *api.BrokerHeartbeatRequest {
	r := api.NewBrokerHeartbeatRequest()
	r.BrokerID, r.WantFence, r.WantShutDown = broker, fence, shutdown
	r.CurrentMetadataOffset = int64(len(w.log) - 1)
	if b := w.c.Image().Cluster.Broker(id.BrokerID(broker)); b != nil {
		r.BrokerEpoch = int64(b.Epoch)
	}
	return r
}

// replayed returns a controller that has replayed the log up to n.
func (w *world) replayed(t testing.TB, n int) *Controller {
	t.Helper()
	c := New(w.cfg)
	if err := c.Replay(0, w.log[:n]); err != nil {
		t.Fatal(err)
	}
	return c
}

// fingerprint is everything in a state that must come back.
func fingerprint(s state) string {
	var out []string
	for r := range s.img.Records(s.img.Features.MetadataVersion) {
		out = append(out, fmt.Sprintf("%d %x", r.Version, logrec.EncodeMetadata(r.Message, r.Version)))
	}
	slices.Sort(out)
	collisions, registered := map[string][]string{}, map[id.BrokerID]id.Offset{}
	for k, v := range s.collisions.All() {
		collisions[k] = slices.Sorted(slices.Values(v))
	}
	for k, v := range s.registered.All() {
		registered[k] = v
	}
	return fmt.Sprint(strings.Join(out, "\n"), collisions, registered, s.txnStart)
}

// show prints a struct with the fields that are not zero, ids by the names they were given.
func (w *world) show(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return "null"
		}
		return w.show(v.Elem())
	case reflect.Struct:
		var f []string
		for i := range v.NumField() {
			x := v.Field(i)
			if x.IsZero() || v.Type().Field(i).Name == "UnknownTags" {
				continue
			}
			f = append(f, v.Type().Field(i).Name+"="+w.show(x))
		}
		return "{" + strings.Join(f, " ") + "}"
	case reflect.Slice:
		var f []string
		for i := range v.Len() {
			f = append(f, w.show(v.Index(i)))
		}
		return "[" + strings.Join(f, " ") + "]"
	case reflect.String:
		return strconv.Quote(v.String())
	}
	switch x := v.Interface().(type) {
	case id.UUID:
		for b := range int32(10) {
			if x == dir(b) {
				return fmt.Sprintf("dir%d", b)
			}
		}
		if image.ReservedDir(x) {
			return fmt.Sprintf("reserved%d", x[15])
		}
		if _, ok := w.names[x]; !ok {
			w.names[x] = fmt.Sprintf("id%d", len(w.names)+1)
		}
		return w.names[x]
	case wire.ErrorCode:
		return x.Name()
	default:
		return fmt.Sprint(x)
	}
}

func (w *world) print(d Decision) string {
	var b strings.Builder
	for _, r := range d.Records {
		name := strings.TrimPrefix(fmt.Sprintf("%T", r.Message), "*logrec.")
		fmt.Fprintf(&b, "%s/%d %s\n", name, r.Version, w.show(reflect.ValueOf(r.Message)))
	}
	if d.Err != nil {
		fmt.Fprintf(&b, "error %s: %s\n", d.Err.Code.Name(), d.Err.Text)
	}
	if d.Answer != nil {
		fmt.Fprintf(&b, "answer %s\n", w.show(reflect.ValueOf(d.Answer)))
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

// parse makes a request from "Name json"; "@topic" stands for the id of a topic and "@@n" for the epoch of broker n.
func (w *world) parse(input string) (wire.Message, error) {
	name, body, _ := strings.Cut(strings.TrimSpace(input), " ")
	var req wire.Request
	for _, i := range api.Table() {
		if r := i.NewRequest(); strings.HasSuffix(fmt.Sprintf("%T", r), "."+name+"Request") {
			req = r
		}
	}
	if req == nil {
		return nil, fmt.Errorf("no request %q", name)
	}
	for _, topic := range w.c.Image().Topics.Names() {
		u, _ := json.Marshal([16]byte(w.c.Image().Topics.ByName(topic).ID))
		body = strings.ReplaceAll(body, `"@`+topic+`"`, string(u))
	}
	for _, n := range slices.Sorted(maps.Keys(w.dirs())) {
		u, _ := json.Marshal([16]byte(dir(n)))
		body = strings.ReplaceAll(body, fmt.Sprintf(`"@dir%d"`, n), string(u))
	}
	for _, n := range w.c.Image().Cluster.BrokerIDs() {
		body = strings.ReplaceAll(body, fmt.Sprintf(`"@@%d"`, n), fmt.Sprint(w.c.Image().Cluster.Broker(n).Epoch))
	}
	if body == "" {
		body = "{}"
	}
	dec := json.NewDecoder(strings.NewReader(body))
	dec.DisallowUnknownFields()
	return req, dec.Decode(req)
}

func (w *world) dirs() map[int32]bool {
	out := map[int32]bool{}
	for n := range int32(10) {
		out[n] = true
	}
	return out
}

// updateFeature is a request to set one feature.
func updateFeature(name string, level int16, kind int8) *api.UpdateFeaturesRequest {
	u := api.NewUpdateFeaturesRequestFeatureUpdate()
	u.Feature, u.MaxVersionLevel, u.UpgradeType = name, level, kind
	return &api.UpdateFeaturesRequest{FeatureUpdates: []api.UpdateFeaturesRequestFeatureUpdate{u}}
}
