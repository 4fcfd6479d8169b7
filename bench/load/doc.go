// Package load is a thin Kafka client for benchmarks: requests encoded once, sent as they are with several in flight, answers
// read for their size and error only. What it costs itself is small beside any broker, so the figures are the broker's.
// On Linux one thread serves all connections of a run of small requests.
//
// It speaks Produce 9 and Fetch 12 over plaintext and knows no retries: the first error ends a run.
package load
