// Package conf knows every configuration key of Apache Kafka 4.4 and turns property files, overrides and dynamic changes into
// immutable, typed values.
//
// Four tables (broker, topic, group and client-metrics keys) hold name, type, default, rule, synonyms, dynamic scope, and the
// state of the key in this program: done, inert, or refused. A Broker is one resolved snapshot: static properties, the dynamic
// defaults of the cluster and the dynamic values of this broker, in that order of growing strength. A change makes a new
// Broker (WithDynamic); nobody ever sees one change. A Topic is a snapshot of the topic keys over a Broker.
//
// The package refuses to act: it opens no listener, watches no file and logs nothing; what deserves a line in the log comes back
// as Warning. It reads files only where it is asked to (ReadFile, and the config providers named in the properties).
//
// Text of errors follows Kafka's, since people and tools search for it.
//
// Concurrency: Broker, Topic, Key and Value are immutable after construction and may be shared freely.
package conf
