package conf

import (
	"maps"
	"slices"
	"strings"
)

// require fails in the form of Scala's require, with which Kafka makes most of its checks across keys.
func require(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return failf("requirement failed: "+format, args...)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// validate makes Kafka's checks across keys, in Kafka's order.
func (b *Broker) validate() ([]Warning, error) {
	var warnings []Warning
	if b.IsSet("broker.id") && b.Int("broker.id") != b.Int("node.id") {
		return nil, failf("`node.id` and `broker.id` must be set to the same value. `broker.id` is deprecated, please use `node.id` instead.")
	}
	if !slices.Contains(b.List("group.coordinator.rebalance.protocols"), "classic") {
		return nil, failf("Disabling the 'classic' protocol is not supported.")
	}
	if err := b.resolveNetwork(); err != nil {
		return nil, err
	}
	for _, name := range b.List("early.start.listeners") {
		if !slices.Contains(endpointNames(b.net.listeners), name) {
			return nil, failf("early.start.listeners contains listener %s, but this is not contained in listeners or controller.listener.names", name)
		}
	}
	if err := firstError(b.checkLogs(), b.checkRoles(), b.checkListeners(), b.checkSockets(), b.checkGroups(), b.checkTopicDefaults()); err != nil {
		return nil, err
	}
	if hb, s := b.Int("broker.heartbeat.interval.ms"), b.Int("broker.session.timeout.ms"); int64(hb)*2 > int64(s) {
		warnings = append(warnings, Warning{"broker.heartbeat.interval.ms", "broker.heartbeat.interval.ms should be at most half of " +
			"broker.session.timeout.ms, or one late heartbeat costs the broker its lease"})
	}
	for _, key := range []string{"create.topic.policy.class.name", "alter.config.policy.class.name", "num.partitions", "default.replication.factor"} {
		if b.IsBroker() && !b.IsController() && b.IsSet(key) {
			warnings = append(warnings, Warning{key, key + " has its effect on controllers; this node is none"})
		}
	}
	if names := b.List("controller.listener.names"); b.IsBroker() && !b.IsController() && len(names) > 1 {
		warnings = append(warnings, Warning{"controller.listener.names", "only the first of several controller listeners is used by a broker: " + names[0]})
	}
	return warnings, nil
}

func (b *Broker) checkLogs() error {
	retention := b.firstMillis(synonymsOfTopicKey("retention.ms"))
	return firstError(
		require(b.RollMs() >= 1, "log.roll.ms must be greater than or equal to 1"),
		require(b.RollJitterMs() >= 0, "log.roll.jitter.ms must be greater than or equal to 0"),
		require(retention >= 1 || retention < 0, "log.retention.ms must be unlimited (-1) or, greater than or equal to 1"),
		require(len(b.LogDirs()) > 0, "At least one log directory must be defined via log.dirs or log.dir."),
		require(b.Long("log.cleaner.dedupe.buffer.size")/max(b.Long("log.cleaner.threads"), 1) > 1<<20,
			"log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread."),
		require(b.Int("replica.fetch.wait.max.ms") <= b.Int("replica.socket.timeout.ms"),
			"replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary socket timeouts"),
		require(b.Long("replica.fetch.wait.max.ms") <= b.Long("replica.lag.time.max.ms"),
			"replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent frequent changes in ISR"),
	)
}

// checkRoles holds the rules between roles, quorum and controller listeners.
func (b *Broker) checkRoles() error {
	names := b.List("controller.listener.names")
	hasQuorum := func() error {
		if len(b.net.voters) == 0 && len(b.List("controller.quorum.bootstrap.servers")) == 0 {
			return failf("If using process.roles, either controller.quorum.bootstrap.servers must contain the set of bootstrap controllers" +
				" or controller.quorum.voters must contain a parseable set of controllers.")
		}
		return nil
	}
	isVoter := slices.ContainsFunc(b.net.voters, func(v Voter) bool { return v.ID == b.NodeID() })
	if !b.IsController() {
		if err := hasQuorum(); err != nil {
			return err
		}
		if err := firstError(
			require(!isVoter, "If process.roles contains just the 'broker' role, the node id %d must not be included in the set of voters controller.quorum.voters=%s",
				b.NodeID(), scalaSet(b.net.voters)),
			require(len(names) > 0, "controller.listener.names must contain at least one value when running KRaft with just the broker role"),
			require(len(b.ControllerListeners()) == 0, "controller.listener.names must not contain a value appearing in the 'listeners' configuration"+
				" when running KRaft with just the broker role")); err != nil {
			return err
		}
		for _, n := range names {
			if _, ok := b.net.protocols[strings.ToUpper(n)]; !ok {
				return failf("Controller listener with name %s defined in controller.listener.names not found in listener.security.protocol.map "+
					" (an explicit security mapping for each controller listener is required if listener.security.protocol.map is non-empty, "+
					"or if there are security protocols other than PLAINTEXT in use)", strings.ToUpper(n))
			}
		}
		return require(!b.Bool("controller.quorum.auto.join.enable"),
			"controller.quorum.auto.join.enable is only supported when process.roles contains the 'controller' role.")
	}
	if err := hasQuorum(); err != nil {
		return err
	}
	if !b.IsBroker() {
		if err := require(len(b.net.advertisedCtl) == len(b.net.listeners), "The listeners config must only contain KRaft controller listeners from"+
			" controller.listener.names when process.roles=controller"); err != nil {
			return err
		}
		if !b.IsNull("inter.broker.listener.name") {
			if err := require(!b.isControllerListener(b.net.interBroker), "controller.listener.names must not contain an explicitly set"+
				" inter.broker.listener.name configuration value when process.roles=controller'"); err != nil {
				return err
			}
		}
	}
	allListed := true
	for _, n := range names {
		allListed = allListed && slices.ContainsFunc(b.net.listeners, func(e Endpoint) bool { return e.Name == n })
	}
	return firstError(
		require(len(b.net.voters) == 0 || isVoter, "If process.roles contains the 'controller' role, the node id %d must be included in the set of voters"+
			" controller.quorum.voters=%s", b.NodeID(), scalaSet(b.net.voters)),
		require(len(b.net.advertisedCtl) > 0, "controller.listener.names must contain at least one value appearing in the 'listeners' configuration"+
			" when running the KRaft controller role"),
		require(allListed, "controller.listener.names must only contain values appearing in the 'listeners' configuration when running the KRaft controller role"),
	)
}

// scalaSet prints voter ids as Scala prints a small Set.
func scalaSet(voters []Voter) string {
	ids := make([]string, len(voters))
	for i, v := range voters {
		ids[i] = Value{Type: Int, num: int64(v.ID)}.Text()
	}
	return "Set(" + strings.Join(ids, ", ") + ")"
}

func endpointNames(eps []Endpoint) []string {
	out := make([]string, len(eps))
	for i, e := range eps {
		out[i] = e.Name
	}
	return out
}

func (b *Broker) checkListeners() error {
	advertised := endpointNames(b.net.advertisedBroker)
	listeners := endpointNames(b.net.listeners)
	if b.IsBroker() {
		unlisted := slices.ContainsFunc(advertised, func(n string) bool { return !slices.Contains(listeners, n) })
		if err := firstError(
			require(len(advertised) > 0, "There must be at least one broker advertised listener. Perhaps all listeners appear in controller.listener.names?"),
			require(slices.Contains(advertised, b.net.interBroker), "inter.broker.listener.name must be a listener name defined in advertised.listeners."+
				" The valid options based on currently configured listeners are %s", strings.Join(advertised, ",")),
			require(!unlisted, "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners."+
				" Found %s. The valid options based on the current configuration are %s", strings.Join(advertised, ","), strings.Join(listeners, ",")),
			b.checkCordoned()); err != nil {
			return err
		}
	}
	for _, e := range slices.Concat(b.net.advertisedBroker, b.net.advertisedCtl) {
		if err := require(e.Host != "0.0.0.0", "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address."); err != nil {
			return err
		}
	}
	if p := b.net.protocols[b.net.interBroker]; strings.HasPrefix(p, "SASL_") {
		mechanisms, ok := b.ForListener(b.net.interBroker, "sasl.enabled.mechanisms")
		if !ok {
			mechanisms = strings.Join(b.List("sasl.enabled.mechanisms"), ",")
		}
		return require(slices.Contains(splitList(javaTrim(mechanisms)), b.Text("sasl.mechanism.inter.broker.protocol")),
			"sasl.mechanism.inter.broker.protocol must be included in sasl.enabled.mechanisms when SASL is used for inter-broker communication")
	}
	return nil
}

func (b *Broker) checkCordoned() error {
	cordoned := b.List("cordoned.log.dirs")
	if slices.Contains(cordoned, "*") {
		return require(len(cordoned) == 1, "When cordoned.log.dirs is set to *, it must not contain other values")
	}
	var unknown []string
	for _, d := range cordoned {
		if !slices.Contains(b.LogDirs(), d) {
			unknown = append(unknown, d)
		}
	}
	return require(len(unknown) == 0, "All entries in cordoned.log.dirs must be present in log.dirs or log.dir. Missing entries : %s",
		strings.Join(unknown, ", "))
}

func (b *Broker) checkSockets() error {
	queued := b.Long("queued.max.request.bytes")
	if err := require(queued <= 0 || queued >= b.Long("socket.request.max.bytes"),
		"queued.max.request.bytes must be larger or equal to socket.request.max.bytes"); err != nil {
		return err
	}
	overrides, err := b.MaxConnectionsPerIPOverrides()
	if err != nil {
		return err
	}
	if b.Int("max.connections.per.ip") == 0 {
		if err := require(b.Text("max.connections.per.ip.overrides") != "",
			"max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set."); err != nil {
			return err
		}
	}
	var bad []string
	for host := range overrides {
		if !validHost.MatchString(host) {
			bad = append(bad, host)
		}
	}
	if len(bad) > 0 {
		slices.Sort(bad)
		return failf("max.connections.per.ip.overrides contains invalid addresses : %s", strings.Join(bad, ","))
	}
	delay, idle := b.Int("connection.failed.authentication.delay.ms"), b.Long("connections.max.idle.ms")
	return require(idle < 0 || int64(delay) < idle, "connection.failed.authentication.delay.ms=%d should always be less than"+
		" connections.max.idle.ms=%d to prevent failed authentication responses from timing out", delay, idle)
}

// MaxConnectionsPerIPOverrides returns max.connections.per.ip.overrides as host or address to limit.
func (b *Broker) MaxConnectionsPerIPOverrides() (map[string]int32, error) {
	const key = "max.connections.per.ip.overrides"
	pairs, err := parseCSVMap(key, b.Text(key))
	if err != nil {
		return nil, err
	}
	out := make(map[string]int32, len(pairs))
	for host, text := range pairs {
		v, err := parseAs(key, text, Int)
		if err != nil {
			return nil, failf("For input string: \"%s\"", text)
		}
		out[host] = int32(v.num)
	}
	return out, nil
}

// checkGroups holds the order between group keys: min <= value <= max, heartbeat below session.
func (b *Broker) checkGroups() error {
	atLeastKey := func(large, small string) error {
		if b.Long(large) >= b.Long(small) {
			return nil
		}
		return failf("%s must be greater than or equal to %s", large, small)
	}
	atMostKey := func(small, large string) error {
		if b.Long(small) <= b.Long(large) {
			return nil
		}
		return failf("%s must be less than or equal to %s", small, large)
	}
	bounded := func(prefix, key string) error {
		value, low, high := prefix+key, prefix+"min."+key, prefix+"max."+key
		return firstError(atLeastKey(high, low), atLeastKey(value, low), atMostKey(value, high))
	}
	for _, prefix := range []string{"group.consumer.", "group.share.", "group.streams."} {
		if err := firstError(bounded(prefix, "heartbeat.interval.ms"), bounded(prefix, "session.timeout.ms")); err != nil {
			return err
		}
		if b.Int(prefix+"heartbeat.interval.ms") >= b.Int(prefix+"session.timeout.ms") {
			return failf("%sheartbeat.interval.ms must be less than %ssession.timeout.ms", prefix, prefix)
		}
		if prefix == "group.consumer." {
			if err := checkConsumerAssignors(b.List("group.consumer.assignors")); err != nil {
				return err
			}
		}
		if n := len(b.List(prefix + "assignors")); prefix == "group.share." && n != 1 {
			return failf("group.share.assignors must contain exactly one assignor, but found %d", n)
		}
		if err := bounded(prefix, "assignment.interval.ms"); err != nil {
			return err
		}
	}
	if codec := b.Int("offsets.topic.compression.codec"); codec < 0 || codec > maxCodec {
		return failf("Unknown compression type id: %d", codec)
	}
	return firstError(
		b.checkTags(),
		atMostKey("group.streams.num.standby.replicas", "group.streams.max.standby.replicas"),
		atLeastKey("group.streams.task.offset.interval.ms", "group.streams.min.task.offset.interval.ms"),
		atMostKey("group.streams.num.warmup.replicas", "group.streams.max.warmup.replicas"),
		atLeastKey("group.share.max.delivery.count.limit", "group.share.delivery.count.limit"),
		atLeastKey("group.share.delivery.count.limit", "group.share.min.delivery.count.limit"),
		atLeastKey("group.share.max.partition.max.record.locks", "group.share.partition.max.record.locks"),
		atLeastKey("group.share.partition.max.record.locks", "group.share.min.partition.max.record.locks"),
		atLeastKey("group.share.record.lock.duration.ms", "group.share.min.record.lock.duration.ms"),
		atLeastKey("group.share.max.record.lock.duration.ms", "group.share.record.lock.duration.ms"),
		atLeastKey("group.share.max.share.sessions", "group.share.max.size"),
	)
}

// maxCodec is the largest number of a codec.
const maxCodec = 4

func checkConsumerAssignors(given []string) error {
	seen := make(map[string]bool, len(given))
	for _, name := range given {
		a := ConsumerAssignor(name)
		if a == "" {
			return failf("group.consumer.assignors: %s is not an assignor that Moldau has; it has uniform and range", name)
		}
		if seen[a] {
			return invalid("group.consumer.assignors", name, "Assignor name '"+a+"' is already registered by another configured assignor. "+
				"Assignor names, whether built-in or custom, must be unique")
		}
		seen[a] = true
	}
	return nil
}

func (b *Broker) checkTags() error {
	const key = "group.streams.rack.aware.assignment.tags"
	if text, _ := b.Original(key); repeatsItself(text) {
		return failf("%s must not contain duplicate tag keys.", key)
	}
	return nil
}

// repeatsItself says whether a list has an element twice as it was written; parsing it drops repetitions.
func repeatsItself(text string) bool {
	list := splitList(javaTrim(text))
	return len(list) != len(withoutRepeats(slices.Clone(list)))
}

// checkTopicDefaults holds the rules of topic configs for what the broker gives as defaults.
func (b *Broker) checkTopicDefaults() error {
	low, high := b.Long("log.cleaner.min.compaction.lag.ms"), b.Long("log.cleaner.max.compaction.lag.ms")
	if low > high {
		return failf("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", low, high)
	}
	return nil
}

// refuse stops a node whose properties ask for what is not built yet and must not be ignored in silence.
func refuse(b *Broker) error {
	for _, e := range b.net.listeners {
		if e.Protocol != "PLAINTEXT" {
			return failf("listener %s asks for security protocol %s, which is not supported yet: "+
				"only PLAINTEXT listeners can be served", e.Name, e.Protocol)
		}
	}
	return refuseValues(b.static)
}

// refuseValues looks for refused keys, plain or for one listener, with another value than their default.
func refuseValues(values map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		k, known := lookupBrokerName(name)
		if !known || k.State != Refused || isDefault(k, values[name]) {
			continue
		}
		shown := values[name]
		if k.Sensitive() {
			shown = "[hidden]"
		}
		return failf("Invalid value %s for configuration %s: not supported yet; %s %s; leave the key out", shown, name, k.Name, k.Reason())
	}
	return nil
}
