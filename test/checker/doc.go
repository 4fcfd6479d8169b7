// Package checker judges a node by what its clients saw. It has three parts that meet in one type, the History:
//
//   - generators (clients.go, clients_txn.go, clients_group.go, clients_raw.go) drive a node through franz-go and, where a client
//     would hide an anomaly, through raw frames. Every operation is recorded with its begin, its end and what is known of its
//     outcome: ok, fail (the error proves that nothing happened) or info (anything may have happened, at any later time);
//   - the analyser (Analyse) is a function from a history to anomalies. It knows no network and no clock; the verdicts are listed in
//     rules.go and have hand-written histories, good and bad, in analyse_test.go;
//   - a run (Run) starts a place to test, lets the generators work while clients and node are killed, paused and lied to, then heals
//     everything, reads every log to its end and gives the history to the analyser.
//
// Between clients and node stands a proxy (proxy.go) that drops and repeats answers. In the tests it also lies: each fault of
// faults_test.go breaks one rule that Kafka keeps, and the checker must find it (TestFaults). The node is not changed for that and has no
// hooks for it. Faults that no proxy can play, a damaged or cut log, are done to the files while the node is down.
//
// What it refuses to be: a benchmark, and a test of several nodes. The verdicts about replicas and the quorum (equality of replicas,
// one leader in an epoch, reconfiguration) need them.
//
// A History may be used from many goroutines. Memory is bounded by the length of a run; long runs are many short ones, each on
// a new directory (run/main.go).
package checker
