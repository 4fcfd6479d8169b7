package conf

import "strings"

// reason says why keys of a kind have no effect yet, or are refused.
type reason struct {
	prefixes string // of names, separated by spaces; a whole name ends in "$"
	text     string
}

// What the keys without effect wait for.
const (
	waitsForNodes  = "waits for clusters of several nodes"
	waitsForTxn    = "waits for transactions: a transactional id is refused"
	waitsForTLS    = "waits for TLS: only PLAINTEXT listeners are served"
	waitsForSASL   = "waits for SASL: only PLAINTEXT listeners are served"
	waitsForGroups = "waits for the protocol of this kind of group, which is not offered"
	waitsForTiers  = "waits for tiered storage, which cannot be switched on"
	waitsForQuotas = "waits for quotas: nobody is throttled"
	javaOnly       = "is about parts of the Java program that Moldau does not have"
)

// reasons are looked through in order; the first that fits counts.
var reasons = []reason{
	{"alter.config.policy.class.name$ create.topic.policy.class.name$ client.quota.callback.class$ principal.builder.class$",
		"names a Java class, and going on without it would allow what it is there to forbid"},
	{"authorizer.class.name$", "asks for access control, and going on without it would let everybody in"},
	{"remote.log.storage.system.enable$", "asks for tiered storage, and data believed to be there would be deleted here"},
	{"ssl. security.providers$", waitsForTLS},
	{"sasl. connections.max.reauth.ms$ connection.failed.authentication.delay.ms$ delegation.token.", waitsForSASL},
	{"group.consumer.assignor.offload.enable$ consumer.assignor.offload.enable$", "is not needed: the decision that needs an assignment computes it, and other groups' partitions do not wait"},
	{"group.share. share. errors.deadletterqueue. group.streams. streams.", waitsForGroups},
	{"group.coordinator.", "waits for the other kinds of groups; the coordinator runs without threads of its own"},
	{"remote. log.remote. local.retention. log.local.retention. follower.fetch.last.tiered.offset.enable$", waitsForTiers},
	{"quota. controller.quota. replication.quota. leader.replication.throttled. follower.replication.throttled.", waitsForQuotas},
	{"max.connection.creation.rate$", waitsForQuotas + ", and connections come as fast as they are accepted"},
	{"queued.max.", "is not needed: a connection's next request is read when the one before is answered, and memory for requests has a bound of its own"},
	{"metric.reporters$ metrics.num.samples$ metrics.recording.level$ metrics.sample.window.ms$ kafka.metrics. telemetry.", "is about Java's metrics; Moldau exports Prometheus metrics"},
	{"interval.ms$ match$ metrics$", "waits for client telemetry, which is not offered"},
	{"num.io.threads$ num.network.threads$ background.threads$ num.replica.alter.log.dirs.threads$", javaOnly + ": goroutines need no number"},
	{"controller.quorum.append.linger.ms$", "is an upper bound that is always kept: appends are flushed at once, and those that come meanwhile share the next flush"},
	{"delete.records.purgatory. fetch.purgatory. producer.purgatory. controller.performance.", javaOnly},
	{"socket.listen.backlog.size$", "cannot be set: Go's runtime takes the system's limit"},
	{"preallocate$ log.preallocate$", "waits: files grow as they are written"},
	{"early.start.listeners$", "waits for authorizers: every client listener opens when the broker is unfenced"},
	{"server.max.startup.time.ms$ internal.metadata. unstable.feature.", "is for tests and experts, and waits"},
	{"auto.leader.rebalance. leader.imbalance. unclean.leader. replica. controller.socket. controller.quorum. num.replica.fetchers$ request.timeout.ms$ socket.connection.setup. log.dir.failure.timeout.ms$",
		waitsForNodes},
}

// Reason says why a key is inert or refused, as the end of a sentence that begins with the key; empty for keys that are done.
func (k *Key) Reason() string {
	if k.State == Done {
		return ""
	}
	for _, r := range reasons {
		for p := range strings.FieldsSeq(r.prefixes) {
			if whole, ok := strings.CutSuffix(p, "$"); ok && k.Name == whole || !ok && strings.HasPrefix(k.Name, p) {
				return r.text
			}
		}
	}
	return ""
}
