package checker

// rules are the verdicts, in the order in which a report lists them.
var rules = []struct {
	ID, Name string
	Allowed  bool // Kafka's model allows it: counted, not bad
}{
	{"I1", "lost write: an acknowledged value was passed over by every reader", false},
	{"I2", "unseen: an acknowledged value is not there at the end", false},
	{"I3", "inconsistent offsets: one offset has had two values", false},
	{"I4", "lookup: ListOffsets does not agree with the log", false},
	{"I5", "duplicate: one value at two offsets", false},
	{"I6", "nonmonotonic send: a process's later send has a lower offset", false},
	{"I7", "nonmonotonic send inside one operation", false},
	{"I8", "foreign values between the sends of one transaction", true},
	{"I9", "nonmonotonic poll: a reader was taken back", false},
	{"I10", "poll skip: a reader jumped over a value", false},
	{"I11", "aborted read: a value of a failed or aborted operation was read", false},
	{"I12", "precommitted read: a value was read before its transaction asked for its commit", false},
	{"I13", "G1c: a cycle of reading from one another", false},
	{"I14", "G0: a cycle of write orders", true},
	{"I15", "log integrity: checksums, offsets, epochs, sequences", false},
	{"I16", "high watermark and last stable offset went back, or are out of order", false},
	{"I17", "a value that was read is not there at the end", false},
	{"I18", "wrong data: what was read is not what anybody wrote", false},
	{"I19", "aborted index: Fetch names other aborted transactions than the log holds", false},
	{"T1", "torn transaction: a part of it is visible", false},
	{"T2", "a committed transaction is not visible", false},
	{"T3", "fencing: a value of a fenced epoch was written", false},
	{"T4", "exactly once: an input has not exactly one output, or money was made or lost", false},
	{"T5", "termination: a transaction does not end", false},
	{"G1", "a committed offset is not the last one acknowledged", false},
	{"G2", "ownership: two owners in one generation, or a fenced member's commit taken", false},
	{"K1", "compaction: the last value of a key is gone", false},
	{"K2", "compaction: order or offsets changed", false},
	{"K3", "compaction: an aborted value survives", false},
	{"A1", "administration is not linearizable", false},
	{"A1u", "administration: too many readings have no verdict", false},
	{"A1s", "registers whose change was seen some time after its acknowledgement, as Kafka's brokers may", true},
	{"M1", "acknowledged metadata is gone at the end", false},
	{"M3", "a leader epoch went back", false},
	{"F", "the node or a partition did not come back in time", false},
}
