package conf

// Type is the type of a key's value, numbered as DescribeConfigs answers it (KIP-569).
type Type int8

// The types of values.
const (
	Unknown  Type = 0
	Boolean  Type = 1
	String   Type = 2
	Int      Type = 3
	Short    Type = 4
	Long     Type = 5
	Double   Type = 6
	List     Type = 7
	Class    Type = 8
	Password Type = 9
)

var typeNames = [...]string{"UNKNOWN", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD"}

// String returns Kafka's name of the type, as it stands in error messages.
func (t Type) String() string {
	if t < 0 || int(t) >= len(typeNames) {
		return typeNames[0]
	}
	return typeNames[t]
}

// Scope says to what kind of resource a key belongs.
type Scope uint8

// The kinds of resources that have keys.
const (
	BrokerScope Scope = iota
	TopicScope
	GroupScope
	ClientMetricsScope
)

// String returns the word used in docs/config.md.
func (s Scope) String() string { return [...]string{"broker", "topic", "group", "client-metrics"}[s] }

// Mode says how a broker key may change while the broker runs.
type Mode uint8

// The modes of change.
const (
	ReadOnly Mode = iota
	PerBroker
	ClusterWide // for all brokers at once, or for one
)

// String returns the word Kafka's documentation uses.
func (m Mode) String() string { return [...]string{"read-only", "per-broker", "cluster-wide"}[m] }

// State says what this program does with a key.
type State uint8

// The states of a key. Done: setting it has the effect Kafka gives it. Inert: it is read, checked and shown, and has no effect
// yet; setting it draws a warning. Refused: ignoring it would be dangerous, so a value other than the default stops the start.
const (
	Inert State = iota
	Done
	Refused
)

// String returns the word used in docs/config.md.
func (s State) String() string { return [...]string{"inert", "done", "refused"}[s] }

// Key is one configuration key. Entries of the table are shared: do not modify.
type Key struct {
	Name    string
	Scope   Scope
	Type    Type
	Default string // text of the default; meaningless if NoDefault or Null
	// NoDefault marks a required key; Null a key whose default is null.
	NoDefault, Null bool
	Rule            Rule // nil: any value of the type
	Mode            Mode // broker keys only
	// Synonyms of a topic key are the broker keys that give its default, strongest first; of a group key, its broker key.
	Synonyms []Synonym
	Internal bool // unknown to DescribeConfigs, for tests and experts
	// DynamicOnly marks the replication throttles, which exist as dynamic broker configs but not in server.properties.
	DynamicOnly bool
	State       State
	Doc         string // one or two sentences
}

// Synonym is a broker key from which a topic key takes its default; the value is multiplied by Factor (hours to ms).
type Synonym struct {
	Name   string
	Factor int64
}

// Sensitive reports whether values of the key must never be shown.
func (k *Key) Sensitive() bool { return k.Type == Password || k.Type == Unknown }

// Warning is something the operator should read in the log at start.
type Warning struct {
	Key     string // the key concerned, or empty
	Message string
}
