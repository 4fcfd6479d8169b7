// Package metric publishes a node's figures in Prometheus' text format under the names that the JMX exporter gives Kafka's
// MBeans, so that dashboards made for Kafka work unchanged.
//
// It refuses to be a place where figures are kept: a room counts in its own struct, and the node registers a Source that reads
// the figures when somebody scrapes. The exception is Histogram, which is cheap enough for the hot path. There is no default
// registry; ten nodes in one process have ten.
//
// Everything here is safe for concurrent use.
package metric
