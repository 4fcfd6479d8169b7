package controller

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/image"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

const (
	minISRKey          = "min.insync.replicas"
	uncleanElectionKey = "unclean.leader.election.enable"
	cordonedDirsKey    = "cordoned.log.dirs"
)

// Operations of IncrementalAlterConfigs (KIP-339).
const (
	opSet      = 0
	opDelete   = 1
	opAppend   = 2
	opSubtract = 3
)

type configOp struct {
	op    int8
	value *string
}

// topicConfig resolves one topic config whose broker synonym has the same name.
func (c *Controller) topicConfig(topic, key string) string {
	if v, ok := c.img.Configs.Topic(topic)[key]; ok {
		return v
	}
	if v, ok := c.nodeConfig()[key]; ok {
		return v
	}
	if v, ok := c.img.Configs.Of(image.DefaultBroker)[key]; ok {
		return v
	}
	return c.cfg.Schema.StaticTopic(key)
}

func (c *Controller) nodeConfig() map[string]string {
	return c.img.Configs.Of(image.ConfigResource{Type: image.ResourceBroker, Name: strconv.Itoa(int(c.cfg.NodeID))})
}

func (c *Controller) effectiveTopic(own map[string]string) []EffectiveConfig {
	return c.cfg.Schema.EffectiveTopic(own, c.nodeConfig(), c.img.Configs.Of(image.DefaultBroker))
}

func (c *Controller) uncleanElectionEnabled(topic string) bool {
	return strings.EqualFold(c.topicConfig(topic, uncleanElectionKey), "true")
}

// effectiveMinISR is min.insync.replicas of a topic, but never more than it has replicas.
func (c *Controller) effectiveMinISR(t *image.Topic) int {
	n, err := strconv.Atoi(c.topicConfig(t.Name, minISRKey))
	if err != nil {
		n = 1 // values were checked when they were set
	}
	if len(t.Partitions) > 0 {
		n = min(n, len(t.Partitions[0].Replicas))
	}
	return n
}

func (c *Controller) incrementalAlterConfigs(env Env, r *api.IncrementalAlterConfigsRequest) Decision {
	answer := api.NewIncrementalAlterConfigsResponse()
	add := func(rr *api.IncrementalAlterConfigsRequestResource, e *Error) {
		answer.Responses = append(answer.Responses, api.IncrementalAlterConfigsResponseResponse{
			ErrorCode: e.code(), ErrorMessage: e.Message(), ResourceType: rr.ResourceType, ResourceName: rr.ResourceName})
	}
	count := map[image.ConfigResource]int{}
	for _, rr := range r.Resources {
		count[resource(rr.ResourceType, rr.ResourceName)]++
	}
	var records []image.Record
	for i := range r.Resources {
		rr := &r.Resources[i]
		res := resource(rr.ResourceType, rr.ResourceName)
		if e, skip := c.checkResource(res, rr.ResourceType, count); skip {
			continue
		} else if e != nil {
			add(rr, e)
			continue
		}
		ops, e := operations(rr.Configs)
		if e != nil {
			return Decision{Err: e} // as in Kafka, the whole request
		}
		recs, e := c.alterResource(res, ops, false, env.Forwarded)
		if e == nil {
			records = append(records, recs...)
		}
		add(rr, e)
	}
	return c.configDecision(records, r.ValidateOnly, answer)
}

func (c *Controller) configDecision(records []image.Record, validateOnly bool, answer wire.Message) Decision {
	records = append(records, c.clearElrRecords(records)...)
	if len(records) > MaxRecordsPerOp {
		return Decision{Err: errTooManyRecords()}
	}
	if validateOnly {
		records = nil
	}
	return Decision{Records: records, Atomic: true, Answer: answer}
}

func resource(t int8, name string) image.ConfigResource {
	return image.ConfigResource{Type: image.ResourceType(t), Name: name}
}

// checkResource refuses resources whose configs are not metadata, and those named twice (answered once).
func (c *Controller) checkResource(res image.ConfigResource, number int8, count map[image.ConfigResource]int) (e *Error, skip bool) {
	switch res.Type {
	case image.ResourceTopic, image.ResourceBroker, image.ResourceClientMetrics, image.ResourceGroup:
	case image.ResourceBrokerLogger:
		return errorf(wire.ErrInvalidRequest, "Unexpected resource type BROKER_LOGGER."), false
	default:
		return errorf(wire.ErrUnsupportedVersion, fmt.Sprintf("Unknown resource type %d.", number)), false
	}
	switch n := count[res]; {
	case n > 1:
		count[res] = -1
		return errorf(wire.ErrInvalidRequest, "Duplicate resource."), false
	case n < 0:
		return nil, true
	}
	return nil, false
}

// operations reads the operations on one resource. An operation that does not exist, or has no operand where it needs one, is
// UNKNOWN_SERVER_ERROR in Kafka, too.
func operations(configs []api.IncrementalAlterConfigsRequestResourceConfig) (map[string]configOp, *Error) {
	ops := make(map[string]configOp, len(configs))
	for _, cf := range configs {
		if cf.ConfigOperation < opSet || cf.ConfigOperation > opSubtract || cf.Value == nil && cf.ConfigOperation >= opAppend {
			return nil, errorf(wire.ErrUnknownServerError, fmt.Sprintf("config %s: operation %d without meaning or operand", cf.Name, cf.ConfigOperation))
		}
		ops[cf.Name] = configOp{op: cf.ConfigOperation, value: cf.Value}
	}
	return ops, nil
}

// alterResource turns operations into ConfigRecords. Brokers get a record even for a value that stays, so that they reload
// (KAFKA-14136).
func (c *Controller) alterResource(res image.ConfigResource, ops map[string]configOp, created, forwarded bool) ([]image.Record, *Error) {
	current := c.img.Configs.Of(res)
	var altered []*logrec.ConfigRecord
	for _, key := range slices.Sorted(maps.Keys(ops)) {
		op := ops[key]
		old, had := current[key]
		var next *string
		switch op.op {
		case opSet:
			next = op.value
		case opAppend, opSubtract:
			name := "APPEND"
			if op.op == opSubtract {
				name = "SUBTRACT"
			}
			if !c.cfg.Schema.IsList(res.Type, key) {
				return nil, errorf(wire.ErrInvalidConfig, "Can't "+name+" to key "+key+" because its type is not LIST.")
			}
			if !had {
				old, _ = c.cfg.Schema.Default(res.Type, key)
			}
			v := editList(old, *op.value, op.op)
			next = &v
		}
		same := had == (next != nil) && (next == nil || *next == current[key])
		if !same || res.Type == image.ResourceBroker {
			altered = append(altered, &logrec.ConfigRecord{ResourceType: int8(res.Type), ResourceName: res.Name, Name: key, Value: next})
		}
	}
	if e := c.checkAltered(res, altered, nil, created, forwarded); e != nil {
		return nil, e
	}
	return configRecords(altered), nil
}

// editList edits a comma-separated list as Kafka does; empty elements vanish from the old value only.
func editList(old, operand string, op int8) string {
	parts := slices.DeleteFunc(strings.Split(old, ","), func(s string) bool { return s == "" })
	values := strings.Split(operand, ",")
	for len(values) > 1 && values[len(values)-1] == "" {
		values = values[:len(values)-1]
	}
	for _, v := range values {
		i := slices.Index(parts, v)
		switch {
		case op == opAppend && i < 0:
			parts = append(parts, v)
		case op == opSubtract && i >= 0:
			parts = slices.Delete(parts, i, i+1)
		}
	}
	return strings.Join(parts, ",")
}

func configRecords(all []*logrec.ConfigRecord) []image.Record {
	out := make([]image.Record, len(all))
	for i, r := range all {
		out[i] = image.Record{Message: r}
	}
	return out
}

// alterConfigs is the legacy API: the configs given are all that the resource has afterwards.
func (c *Controller) alterConfigs(env Env, r *api.AlterConfigsRequest) Decision {
	answer := api.NewAlterConfigsResponse()
	add := func(rr *api.AlterConfigsRequestResource, e *Error) {
		answer.Responses = append(answer.Responses, api.AlterConfigsResponseResponse{
			ErrorCode: e.code(), ErrorMessage: e.Message(), ResourceType: rr.ResourceType, ResourceName: rr.ResourceName})
	}
	count := map[image.ConfigResource]int{}
	for _, rr := range r.Resources {
		count[resource(rr.ResourceType, rr.ResourceName)]++
	}
	var records []image.Record
	for i := range r.Resources {
		rr := &r.Resources[i]
		res := resource(rr.ResourceType, rr.ResourceName)
		if e, skip := c.checkResource(res, rr.ResourceType, count); skip {
			continue
		} else if e != nil {
			add(rr, e)
			continue
		}
		recs, e := c.replaceConfigs(res, rr.Configs, env.Forwarded)
		if e == nil {
			records = append(records, recs...)
		}
		add(rr, e)
	}
	return c.configDecision(records, r.ValidateOnly, answer)
}

func (c *Controller) replaceConfigs(res image.ConfigResource, configs []api.AlterConfigsRequestResourceConfig, forwarded bool) ([]image.Record, *Error) {
	current := c.img.Configs.Of(res)
	next := make(map[string]*string, len(configs))
	for _, cf := range configs {
		next[cf.Name] = cf.Value
	}
	record := func(key string, v *string) *logrec.ConfigRecord {
		return &logrec.ConfigRecord{ResourceType: int8(res.Type), ResourceName: res.Name, Name: key, Value: v}
	}
	var altered, dropped []*logrec.ConfigRecord
	for _, key := range slices.Sorted(maps.Keys(next)) {
		v := next[key]
		old, had := current[key]
		same := had == (v != nil) && (v == nil || *v == old)
		if !same || res.Type == image.ResourceBroker {
			altered = append(altered, record(key, v))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(current)) {
		if _, ok := next[key]; !ok {
			dropped = append(dropped, record(key, nil))
		}
	}
	if e := c.checkAltered(res, altered, dropped, false, forwarded); e != nil {
		return nil, e
	}
	return configRecords(append(altered, dropped...)), nil
}

// checkAltered checks what a resource's configs would become. created is set for a resource that comes into being with them.
func (c *Controller) checkAltered(res image.ConfigResource, altered, dropped []*logrec.ConfigRecord, created, forwarded bool) *Error {
	before := c.img.Configs.Of(res)
	after := maps.Clone(before)
	if after == nil {
		after = map[string]string{}
	}
	for _, r := range altered {
		if e := c.checkRecord(r, before, forwarded); e != nil {
			return e
		}
		switch {
		case r.Value == nil:
			delete(after, r.Name)
		case len(*r.Value) > math.MaxInt16:
			return errorf(wire.ErrInvalidConfig, fmt.Sprintf("The configuration value cannot be added because it exceeds the maximum value size of %d bytes.", math.MaxInt16))
		default:
			after[r.Name] = *r.Value
		}
	}
	for _, r := range dropped {
		if e := c.checkRecord(r, before, forwarded); e != nil {
			return e
		}
		delete(after, r.Name)
	}
	if e := checkResourceName(res); e != nil {
		return e
	}
	if e := configError(c.cfg.Schema.Validate(res, after, before)); e != nil {
		return e
	}
	if created {
		return nil
	}
	return c.checkExists(res)
}

// checkRecord keeps the rules that tie configs to features.
func (c *Controller) checkRecord(r *logrec.ConfigRecord, before map[string]string, forwarded bool) *Error {
	if image.ResourceType(r.ResourceType) != image.ResourceBroker {
		return nil
	}
	switch r.Name {
	case minISRKey:
		if !c.img.Features.ElrEnabled() {
			return nil
		}
		if r.ResourceName != "" {
			return errorf(wire.ErrInvalidConfig, "Broker-level "+minISRKey+" cannot be altered while ELR is enabled.")
		}
		if r.Value == nil {
			return errorf(wire.ErrInvalidConfig, "Cluster-level "+minISRKey+" cannot be removed while ELR is enabled.")
		}
	case cordonedDirsKey:
		if !c.img.Features.MetadataVersion.CordonedLogDirsSupported() {
			return errorf(wire.ErrInvalidConfig, "The "+cordonedDirsKey+" configuration value cannot be set because it requires metadata.version >= "+
				image.Version43IV0.String())
		}
		if forwarded || r.Value == nil || strings.TrimSpace(*r.Value) == "" {
			return nil
		}
		current := trimmedList(before[cordonedDirsKey])
		for _, d := range trimmedList(*r.Value) {
			if !slices.Contains(current, d) {
				return errorf(wire.ErrInvalidConfig, "When updating "+cordonedDirsKey+" via controllers,  the new value must be a subset of the current configuration value.")
			}
		}
	}
	return nil
}

func trimmedList(s string) []string {
	parts := strings.Split(strings.TrimSpace(s), ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func checkResourceName(res image.ConfigResource) *Error {
	switch res.Type {
	case image.ResourceTopic:
		if res.Name == "" {
			return errorf(wire.ErrInvalidRequest, "Default topic resources are not allowed.")
		}
		if why := ValidateTopicName(res.Name); why != "" {
			return errorf(wire.ErrInvalidTopicException, why)
		}
	case image.ResourceBroker:
		if res.Name == "" {
			return nil
		}
		n, err := strconv.ParseInt(res.Name, 10, 32)
		if err != nil {
			return errorf(wire.ErrInvalidRequest, "Unable to parse broker name as a base 10 number.")
		}
		if n < 0 {
			return errorf(wire.ErrInvalidRequest, "Invalid negative broker ID.")
		}
	case image.ResourceGroup:
		if res.Name == "" {
			return errorf(wire.ErrInvalidRequest, "Default group resources are not allowed.")
		}
	}
	return nil
}

func (c *Controller) checkExists(res image.ConfigResource) *Error {
	switch res.Type {
	case image.ResourceBroker:
		if res.Name == "" {
			return nil
		}
		n, err := strconv.ParseInt(res.Name, 10, 32)
		if err != nil {
			return errorf(wire.ErrInvalidRequest, "Invalid broker name "+res.Name)
		}
		node := id.BrokerID(n)
		if c.img.Cluster.Broker(node) == nil && c.img.Cluster.Controller(node) == nil && !slices.Contains(c.cfg.QuorumNodes, node) {
			return errorf(wire.ErrBrokerIDNotRegistered, fmt.Sprintf("No node with id %d found.", n))
		}
	case image.ResourceTopic:
		if c.img.Topics.ByName(res.Name) == nil {
			return errorf(wire.ErrUnknownTopicOrPartition, "The topic '"+res.Name+"' does not exist.")
		}
	}
	return nil
}

// clearElrRecords: with another min.insync.replicas, who is eligible has to be found anew.
func (c *Controller) clearElrRecords(configs []image.Record) []image.Record {
	if !c.img.Features.ElrEnabled() {
		return nil
	}
	var out []image.Record
	for _, rec := range configs {
		r, ok := rec.Message.(*logrec.ConfigRecord)
		if !ok || r.Name != minISRKey {
			continue
		}
		clear := &logrec.ClearElrRecord{}
		if image.ResourceType(r.ResourceType) == image.ResourceTopic {
			clear.TopicName = r.ResourceName
		}
		out = append(out, image.Record{Message: clear})
	}
	return out
}
